"""Labels: their normal form, their identity within a task, one spelling for each, and the label sets of tasks."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.texts import clean_text, columns_of
from textmint.transforms.core.words import fold

_MARKUP: Final = frozenset("<>|~=^`")  # symbols by Unicode's categories, but mostly used to set a label off
_COMPARES: Final = frozenset("<>=~")  # of these, what says something before a number: "<10", ">= 5", "~50"
_DASHES: Final = re.compile("[‐-―−⸺⸻﹘﹣－]")  # all that a keyboard's hyphen may stand for, the minus sign too
_SHORT: Final = 2  # letters of a grade or a blood group, whose sign counts: "A-", "AB-", "A*"


@functools.lru_cache(maxsize=8192)  # a task has few labels and many rows
def normal_form(label: str) -> str:
    """Returns the normal form of a label, without case, spacing, punctuation and Unicode forms (see `words.fold`).

    "Non-profit", "non profit" and '"nonprofit"' are equal, but punctuation stays where it says something:
      - symbols stay: "+", "$", "°", emoji; "<", ">", "=" and "~" before a number only;
      - "#" after a letter ("C#", "F#") and "%" after a digit stay;
      - between two digits a separator stays ("1.5", "10-20" and "3/4" are not "15", "1020" and "34");
      - "-" stays before a number ("-1") and, as "*" does, after the one or two letters of a grade or blood group
        ("A-", "AB-", "A*");
      - a label of punctuation only ("-", "?", ":(") loses nothing but its spaces.
    """
    folded = _DASHES.sub("-", fold(label))
    if folded.isalnum():
        return folded
    text = " ".join(folded.split())
    kept: list[str] = []
    for at, char in enumerate(text):
        if char.isalnum() or _stays(text, at, char, kept):
            kept.append(char)
    return "".join(kept) or text.replace(" ", "")


def _stays(text: str, at: int, char: str, kept: list[str]) -> bool:
    category = unicodedata.category(char)
    if category[0] == "M":
        return True
    if category[0] == "S" and char not in _MARKUP:
        return True
    before = text[max(0, at - 2) : at].rstrip()[-1:]  # white space is single here
    after = text[at + 1 : at + 3].lstrip()[:1]
    if char in _MARKUP:
        return char in _COMPARES and text[at + 1 : at + 5].lstrip("<>=~ ")[:1].isdigit()
    if before.isdigit() and after.isdigit():
        # of "10 - 20" the hyphen, of "10 20" the space: one character parts two numbers
        return char != " " or (text[at - 1].isdigit() and text[at + 1].isdigit())
    if char == "#":
        return text[max(0, at - 1) : at].isalpha()
    if char == "%":
        return before.isdigit()
    if char == "-" and not kept:
        return text[at + 1 : at + 2].isdigit()
    if char in "-*" and not after:
        return len(kept) <= _SHORT and text[:at].rstrip().isalpha()
    return False


def label_id(task_id: str, label: str) -> str:
    """Returns the id of a label within its task, the hash of its normal form."""
    return stable_hash("label", task_id, normal_form(label))


def agree(counts: Mapping[str, int]) -> dict[str, str]:
    """Returns for each spelling of a label the most frequent one of its normal form, or the first by code points.

    `counts` says how often each spelling occurs in a task.
    """
    best: dict[str, str] = {}
    for spelling in sorted(counts, key=lambda spelling: (-counts[spelling], spelling)):
        best.setdefault(normal_form(spelling), spelling)
    return {spelling: best[normal_form(spelling)] for spelling in counts}


MIN_LABELS: Final = 2
MAX_LABELS: Final = 20
"""How many labels a task may have; the template `label_set` asks for as many."""

MAX_OWN_LABELS: Final = 200
"""How many labels a user may give a task. Sets of intents have 150; each prompt of the task holds them all."""
MAX_LABEL_COLUMNS: Final = 100
"""The widest label that CheckQuality takes by default; East Asian wide characters count two."""
MAX_OWN_LABEL_COLUMNS: Final = 1_000
"""The widest label that a user may give a task; a longer one is a text."""


def clean_labels(items: Iterable[str], max_columns: int = MAX_LABEL_COLUMNS) -> tuple[str, ...]:
    """Takes the first MAX_LABELS labels in what a model listed, which names what is usual before what is rare.

    White space becomes single. Blank and too wide ones are left out, and all but the first of a `normal_form`.
    """
    found: dict[str, str] = {}
    for item in items:
        label = clean_text(" ".join(item.split()))
        if label and columns_of(label) <= max_columns:
            found.setdefault(normal_form(label), label)
    return tuple(found.values())[:MAX_LABELS]


def own_labels(items: Sequence[object]) -> tuple[str, ...]:
    """Takes the label set that a user gives a task; white space becomes single.

    Raises:
      ValueError: a label is not a string, blank or too wide, two have the same normal form, or they are too few or too
        many.
    """
    if not MIN_LABELS <= len(items) <= MAX_OWN_LABELS:
        raise ValueError(f"{len(items):,} given, but a task has {MIN_LABELS} to {MAX_OWN_LABELS}")
    found: dict[str, str] = {}
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str):
            raise ValueError(f"item {number} is {type(item).__name__}, not a string")
        label = clean_text(" ".join(item.split()))
        if not label:
            raise ValueError(f"item {number} is blank")
        if "\0" in label:
            raise ValueError(f"item {number} holds a NUL character")
        if columns_of(label) > MAX_OWN_LABEL_COLUMNS:
            raise ValueError(f"{label[:40]!r}... is wider than {MAX_OWN_LABEL_COLUMNS:,} columns")
        known = found.setdefault(normal_form(label), label)
        if known is not label:
            raise ValueError(
                f"{known!r} and {label!r} are one label: they differ in case, spacing or punctuation at most"
            )
    return tuple(found.values())


def spelled_as(label: str, labels: tuple[str, ...]) -> str | None:
    """Finds the label of a set that has the same normal form; None where there is none."""
    return _by_form(labels).get(normal_form(label))


@functools.lru_cache(maxsize=64)  # the replies for a task come near each other
def _by_form(labels: tuple[str, ...]) -> dict[str, str]:
    return {normal_form(label): label for label in labels}
