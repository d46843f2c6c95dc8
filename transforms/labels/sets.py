"""Label sets: which of the strings that a model listed are labels, and which two of them each example gets."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Final

from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import normal_form
from textmint.transforms.core.texts import clean_text, columns_of

MIN_LABELS: Final = 2
MAX_LABELS: Final = 20
"""How many labels a task may have; the template `label_set` asks for as many."""

MAX_OWN_LABELS: Final = 200
"""How many labels a user may give a task. Sets of intents have 150; each prompt of the task holds them all."""

MAX_LABEL_COLUMNS: Final = 100
"""The widest label, East Asian wide characters counting two: what CheckQuality takes by default."""

MAX_OWN_LABEL_COLUMNS: Final = 1_000
"""The widest label that a user may give a task, where CheckQuality is told to take it; a longer one is a text."""


def clean_labels(items: Iterable[str], max_columns: int = MAX_LABEL_COLUMNS) -> tuple[str, ...]:
    """Takes the labels in what a model listed.

    Of more than MAX_LABELS the first are kept: models name what is usual before what is rare, and a hash would prefer
    neither.

    Args:
      items: what it listed.
      max_columns: wider ones are left out; they would be refused in each row.

    Returns:
      The labels, in the same order, with their white space made single; none is blank, and of those with the same
      `labels.normal_form` there is the first.
    """
    found: dict[str, str] = {}
    for item in items:
        label = clean_text(" ".join(item.split()))
        if label and columns_of(label) <= max_columns:
            found.setdefault(normal_form(label), label)
    return tuple(found.values())[:MAX_LABELS]


def own_labels(items: Sequence[object]) -> tuple[str, ...]:
    """Takes the label set that a user gives a task. Nothing is dropped or cut: what is wrong is said.

    Args:
      items: what the user listed.

    Returns:
      The labels, in the same order, with their white space made single.

    Raises:
      ValueError: one is no string, blank, or wider than MAX_OWN_LABEL_COLUMNS; two have the same normal form; they are
        fewer than MIN_LABELS or more than MAX_OWN_LABELS.
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
    """Looks a label up in a label set.

    Args:
      label: in any spelling.
      labels: of different normal forms.

    Returns:
      The label of the set that has the same normal form; None where there is none.
    """
    return _by_form(labels).get(normal_form(label))


@functools.lru_cache(maxsize=64)  # the replies for a task come near each other
def _by_form(labels: tuple[str, ...]) -> dict[str, str]:
    return {normal_form(label): label for label in labels}


def pair_of(labels: tuple[str, ...], *, task_id: str, seed: int, replica: int) -> tuple[str, str]:
    """The label set of a task, and which of its examples -> its label and its misleading label.

    Over the first n replicas of a task, for any n, two labels differ by at most 1 in how often they are the label, and
    so they do in how often they are the misleading one; and of one label, two others differ by at most 1 in how often
    they mislead from it. It depends on nothing but the arguments, and on `labels` as a set.

    The labels are set in a ring. Each block of as many replicas as there are labels takes every place of the ring once,
    with the label some steps further on as the misleading one; the number of steps changes with the block, until all
    pairs were there once. Then comes another ring.

    Args:
      labels: at least 2, all of different normal forms.
    """
    count = len(labels)
    block, turn = divmod(replica, count)
    cycle, block_of_cycle = divmod(block, count - 1)
    ring = _ring(labels, task_id, seed, cycle)
    steps = 1 + _order(count - 1, "label_steps", task_id, seed, cycle)[block_of_cycle]
    place = _order(count, "label_place", task_id, seed, block)[turn]
    return ring[place], ring[(place + steps) % count]


@functools.lru_cache(maxsize=64)  # the drafts of a task are made one after the other
def _ring(labels: tuple[str, ...], task_id: str, seed: int, cycle: int) -> tuple[str, ...]:
    return tuple(sorted(labels, key=lambda label: stable_hash("label_ring", task_id, seed, cycle, normal_form(label))))


@functools.lru_cache(maxsize=64)
def _order(count: int, domain: str, task_id: str, seed: int, number: int) -> tuple[int, ...]:
    return tuple(sorted(range(count), key=lambda place: stable_hash(domain, task_id, seed, number, place)))
