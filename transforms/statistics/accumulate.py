"""Accumulating: rows in, a summary out, and parts of what must be brought together by task or by label first.

A task's rows lie in many places, and there may be millions of tasks. So their labels are not in the summary, but in
parts; see `task_labels`.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import Final

from textmint.transforms.core.attributes import ANY, ATTRIBUTES, NUM_WORDS
from textmint.transforms.core.elements import Example, Reject
from textmint.transforms.core.identity import UNIT, fraction
from textmint.transforms.core.texts import clean_text
from textmint.transforms.core.words import count_words
from textmint.transforms.statistics.summary import (
    DIVERSITY_ROWS,
    READ_CHARS,
    REJECTED,
    SAMPLE_ROWS,
    Ranked,
    Summary,
    sampled,
    shown,
)
from textmint.transforms.statistics.task_labels import SHARE_ROWS, OfTask, parts_of

MODEL: Final = "model"
OTHER: Final = "other"
"""The num_words of rows that ask for none of `attributes.NUM_WORDS`."""
TOO_SHORT: Final = "too short"
TOO_LONG: Final = "too long"

_DISPUTED: Final = "label_disputed"
_NAME_CHARS: Final = 200  # of a label, or a model's name, both of which come from the endpoint
_LENGTHS: Final = frozenset((*NUM_WORDS, ANY))
_ASKED: Final = re.compile(r"(less than|at least) (\d+)")
_PRUNE_AT: Final = 3 * SAMPLE_ROWS  # rows that wait to be chosen from; to sort them takes longer than to hold them


class Accumulator:
    """Takes rows one by one.

    Args:
      shares: into how many shares tasks and labels are divided; see `task_labels.shares_for`.
    """

    def __init__(self, shares: int) -> None:
        self._shares = shares
        self._summary = Summary()
        self._tasks: dict[str, OfTask] = {}
        self._waiting = 0  # rows in _tasks
        self._kinds: collections.Counter[tuple[str, ...]] = collections.Counter()  # by ATTRIBUTES and model
        self._lengths: collections.Counter[tuple[str, int, int]] = collections.Counter()  # by num_words and bounds
        self._last = UNIT  # the place of the last row of the sample, where it is full: rows behind it do not enter
        self._last_of: dict[str, int] = {}  # the same of each num_words

    def add_task(self) -> None:
        """Takes a task."""
        self._summary.count("rows", "tasks")

    def add_example(self, row: Example) -> None:
        """Takes an example that was kept, or what has its fields."""
        summary = self._summary
        num_words = row.num_words if row.num_words in _LENGTHS else OTHER
        fewest, most = count_words(row.input_text)
        words = (fewest + most) // 2
        # Two additions a row; `_count_kinds` makes of them what is wanted.
        self._kinds[row.language, row.difficulty, row.clarity, row.num_words, row.model] += 1
        self._lengths[num_words, fewest, most] += 1
        place = fraction("statistics", row.id)
        longest = (-words, place, clean_text(row.id))
        is_long = summary.admits("longest", longest)
        is_chosen = place <= self._last or place <= self._last_of.get(num_words, UNIT)
        if is_long or is_chosen:
            fields = _fields_of(row, num_words, words)
            if is_long:
                summary.place("longest", Ranked(longest, fields))
            if is_chosen:
                summary.sample.append(Ranked((place, 0, longest[2]), fields))
                if len(summary.sample) >= _PRUNE_AT:
                    self._prune_sample()
        labels = self._task(row.task_id, row.task).labels
        label = clean_text(row.label[:_NAME_CHARS])
        labels[label] = labels.get(label, 0) + 1

    def add_reject(self, row: Reject) -> None:
        """Takes a reject, or what has its fields."""
        summary, count = self._summary, self._summary.count
        count("rows", "rejects")
        why = f"{row.stage}/{row.reason}"
        count("rejects", why)
        for attribute in ATTRIBUTES:
            if (value := getattr(row, attribute)) is not None:
                count(f"refused {attribute}", clean_text(value))
        place = fraction("statistics", row.id)
        if summary.admits(REJECTED + why, (place, 0, "")):
            id_ = clean_text(row.id)
            # Several may have one id: what was refused of one reply.
            rank = (place, fraction("reject", row.detail, row.raw_reply), id_)
            fields = {"task": row.task, "detail": row.detail, "reply": row.raw_reply}
            fields = {"id": id_, **{name: text if text is None else shown(text) for name, text in fields.items()}}
            summary.place(REJECTED + why, Ranked(rank, fields))
        if row.reason == _DISPUTED and row.task_id is not None:
            count("tasks", "disputed")
            self._task(row.task_id, row.task or "").disputed += 1

    def take_parts(self, *, at_end: bool) -> Iterator[tuple[str, bytes]]:
        """Yields the parts of tasks and labels, by share: at the end, and before once they take up memory."""
        if at_end or self._waiting >= SHARE_ROWS:
            yield from parts_of(self._tasks, self._shares).items()
            self._tasks, self._waiting = {}, 0
            self._count_kinds()  # an endpoint may name another model in each reply

    def take_summary(self) -> Summary:
        """Returns the summary of all rows."""
        self._count_kinds()
        return self._summary

    def _count_kinds(self) -> None:
        count = self._summary.count
        for (*values, model), rows in self._kinds.items():
            count("rows", "examples", rows)
            count(MODEL, clean_text(model[:_NAME_CHARS]), rows)
            for attribute, value in zip(ATTRIBUTES, values, strict=True):
                count(f"kept {attribute}", clean_text(value), rows)
        for (num_words, fewest, most), rows in self._lengths.items():
            words = (fewest + most) // 2
            count("rows of length", num_words, rows)
            count("words of length", num_words, words * rows)
            self._summary.count_number(num_words, words, rows)
            if fault := length_fault(num_words, fewest, most):
                count(fault, num_words, rows)
        self._kinds.clear()
        self._lengths.clear()
        self._summary.prune()

    def _task(self, task_id: str, task: str) -> OfTask:
        self._waiting += 1
        task_id, task = clean_text(task_id), shown(task)
        found = self._tasks.get(task_id)
        if found is None:
            found = self._tasks[task_id] = OfTask(task)
        elif task < found.task:  # another spelling
            found.task = task
        return found

    def _prune_sample(self) -> None:
        """Leaves in the sample what can stay there, and learns which rows need not be looked at any more."""
        rows = self._summary.sample = sampled(self._summary.sample)
        self._last = rows[SAMPLE_ROWS - 1].rank[0]  # the first so many are the first of all
        of_length: dict[str, list[int]] = {}
        for row in rows:
            of_length.setdefault(row.fields["num_words"], []).append(row.rank[0])
        self._last_of = {
            name: places[DIVERSITY_ROWS - 1] for name, places in of_length.items() if len(places) >= DIVERSITY_ROWS
        }


def length_fault(num_words: str, fewest: int, most: int) -> str | None:
    """Says whether a text is too short or too long for what was asked, without any slack; None where it fits.

    Args:
      num_words: what was asked for.
      fewest: see `words.count_words`.
      most: the same.
    """
    asked = _ASKED.fullmatch(num_words)
    if asked is None:
        return None
    bound = int(asked[2])
    if asked[1] == "at least":
        return TOO_SHORT if most < bound else None
    return TOO_LONG if fewest >= bound else None


def _fields_of(row: Example, num_words: str, words: int) -> dict[str, str | int]:
    return {
        "id": clean_text(row.id),
        "task": shown(row.task),
        "text": clean_text(row.input_text[:READ_CHARS]),
        "label": shown(row.label),
        "misleading_label": shown(row.misleading_label),
        "language": clean_text(row.language),
        "difficulty": clean_text(row.difficulty),
        "clarity": clean_text(row.clarity),
        "num_words": num_words,
        "model": clean_text(row.model[:_NAME_CHARS]),
        "words": words,
        "characters": len(row.input_text),
    }
