"""Labels: their normal form, their identity within a task, and one spelling for what differs in spelling only."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.words import fold

_MARKUP: Final = frozenset("<>|~=^`")  # symbols by Unicode's categories, but mostly used to set a label off
_COMPARES: Final = frozenset("<>=~")  # of these, what says something before a number: "<10", ">= 5", "~50"
_DASHES: Final = re.compile("[‐-―−⸺⸻﹘﹣－]")  # all that a keyboard's hyphen may stand for, the minus sign too
_SHORT: Final = 2  # letters of a grade or a blood group, whose sign counts: "A-", "AB-", "A*"


@functools.lru_cache(maxsize=8192)  # a task has few labels and many rows
def normal_form(label: str) -> str:
    """A label -> its normal form, equal for labels that differ only in case, spacing, punctuation or Unicode form
    (NFKC; see `words.fold`).

    White space and punctuation vanish wherever they stand, so "Non-profit", "non profit" and '"nonprofit"' are equal,
    but not where they say something:
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
    """A task's id and a label in any spelling -> the label's id within the task, the hash of its normal form.

    Rows of a task whose labels mean the same have the same id, so that training need not take one's positive for
    another's negative.
    """
    return stable_hash("label", task_id, normal_form(label))


def agree(counts: Mapping[str, int]) -> dict[str, str]:
    """How often each spelling of a label occurs in one task -> for each spelling, the most frequent one of the same
    normal form. Of equally frequent spellings the first in the order of code points is taken, so that the order of
    the rows changes nothing."""
    best: dict[str, str] = {}
    for spelling in sorted(counts, key=lambda spelling: (-counts[spelling], spelling)):
        best.setdefault(normal_form(spelling), spelling)
    return {spelling: best[normal_form(spelling)] for spelling in counts}
