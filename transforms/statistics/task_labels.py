"""The labels of each task, and how often each label stands in all tasks: what is counted of one share of them.

What must be brought together is divided by hash into shares that one worker can hold, as `Part`s. The labels of one
task are held together, as `AgreeLabels` does too.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from textmint.transforms.core.identity import UNIT, fraction
from textmint.transforms.core.labels import normal_form
from textmint.transforms.core.packing import compress, decompress
from textmint.transforms.statistics.summary import Ranked, Summary, shown

SHARE_ROWS: Final = 20_000
"""Rows whose tasks and labels are one share; also how many rows a worker takes before it passes them on."""
EACH: Final = 2
"""Examples from which on the balance of a task's labels means something."""
_MILLION: Final = 1_000_000
_LABELS_SHOWN: Final = 3


class OfTask(msgspec.Struct, array_like=True):
    """What is counted of one task."""

    task: str
    labels: dict[str, int] = msgspec.field(default_factory=dict)  # of its examples, by spelling
    disputed: int = 0  # rejects of VerifyLabels

    def merge(self, other: OfTask) -> None:
        """Adds what was counted of other rows of the task."""
        self.task = min(self.task, other.task)
        self.disputed += other.disputed
        for label, amount in other.labels.items():
            self.labels[label] = self.labels.get(label, 0) + amount


class Part(msgspec.Struct, array_like=True):
    """A share of the tasks, and a share of the labels, as some rows have them."""

    tasks: dict[str, OfTask] = msgspec.field(default_factory=dict)  # by task_id
    labels: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)  # by normal form, then spelling

    def merge(self, other: Part) -> Part:
        """Adds what another part of the same share holds, of other rows; returns itself."""
        for task_id, of_task in other.tasks.items():
            if known := self.tasks.get(task_id):
                known.merge(of_task)
            else:
                self.tasks[task_id] = of_task
        for normal, spellings in other.labels.items():
            known_spellings = self.labels.setdefault(normal, {})
            for spelling, amount in spellings.items():
                known_spellings[spelling] = known_spellings.get(spelling, 0) + amount
        return self


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Part).decode


def shares_for(rows: int) -> int:
    """Returns into how many shares the tasks and labels of so many rows are divided."""
    return max(1, math.ceil(rows / SHARE_ROWS))


def parts_of(tasks: Mapping[str, OfTask], shares: int) -> dict[str, bytes]:
    """Divides what was counted of tasks, and of their labels, into parts; returns them as bytes, by share."""
    parts: dict[str, Part] = collections.defaultdict(Part)
    spellings: collections.Counter[str] = collections.Counter()
    for task_id, of_task in tasks.items():
        parts[_share_of(task_id, shares)].tasks[task_id] = of_task
        spellings.update(of_task.labels)
    for spelling, amount in spellings.items():
        normal = normal_form(spelling)
        parts[_share_of(normal, shares)].labels.setdefault(normal, {})[spelling] = amount
    return {share: compress(_encode(part)) for share, part in parts.items()}


def _share_of(key: str, shares: int) -> str:
    return f"{fraction('share', key) * shares // UNIT:05d}"


def summary_of(parts: Iterable[bytes]) -> Summary:
    """Makes a summary of all parts of one share."""
    whole = Part()
    for part in parts:
        whole.merge(_decode(decompress(part)))
    summary = Summary()
    for task_id, of_task in whole.tasks.items():
        _add_task(summary, task_id, of_task)
    for normal, spellings in whole.labels.items():
        amount = sum(spellings.values())
        summary.count("tasks", "distinct labels")
        if summary.admits("labels", rank := (-amount, 0, normal)):
            spelling = min(spellings, key=lambda spelling: (-spellings[spelling], spelling))
            summary.place("labels", Ranked(rank, {"label": spelling, "count": amount}))
    return summary


def _add_task(summary: Summary, task_id: str, of_task: OfTask) -> None:
    labels = of_task.labels
    examples = sum(labels.values())
    if examples:
        summary.count("tasks", "with examples")
        summary.count("tasks", "labels", len(labels))
        summary.count_number("examples of a task", examples)
        summary.count_number("labels of a task", len(labels))
    bits = entropy(labels.values())
    normalised = bits / math.log2(len(labels)) if len(labels) > 1 else 0.0
    share = max(labels.values(), default=0)
    ranks = {}
    if of_task.disputed:
        ranks["most_disputed"] = (-of_task.disputed, -examples, task_id)
    if examples:
        ranks["most_examples"] = (-examples, 0, task_id)
    if examples >= EACH:
        summary.count("tasks", "of two examples or more")
        if len(labels) == 1:
            summary.count("tasks", "one label")
        summary.count("sums", "entropy", round(bits * _MILLION))
        summary.count("sums", "normalised", round(normalised * _MILLION))
        summary.count("sums", "share", share * _MILLION // examples)
        # Rounded down to hundredths, so that they stay in their bins.
        summary.count_number("entropy", int(bits * 100 + 1e-9))
        summary.count_number("normalised", int(normalised * 100 + 1e-9))
        summary.count_number("share", share * 100 // examples)
        ranks["most_unbalanced"] = (round(normalised * _MILLION), -examples, task_id)
    ranks = {name: rank for name, rank in ranks.items() if summary.admits(name, rank)}
    if ranks:
        fields: dict[str, Any] = {
            "task_id": task_id,
            "task": shown(of_task.task),
            "examples": examples,
            "labels": len(labels),
            "entropy_bits": round(bits, 4),
            "normalised_entropy": round(normalised, 4),
            "largest_share": round(share / examples, 4) if examples else 0.0,
            "most_frequent": [
                {"label": label, "count": labels[label]}
                for label in sorted(labels, key=lambda label: (-labels[label], label))[:_LABELS_SHOWN]
            ],
            "disputed": of_task.disputed,
        }
        for name, rank in ranks.items():
            summary.place(name, Ranked(rank, fields))


def entropy(counts: Iterable[int]) -> float:
    """Returns Shannon's entropy of counts, in bits; 0 where there are none."""
    ordered = sorted(counts)
    total = sum(ordered)
    return max(0.0, math.log2(total) - sum(count * math.log2(count) for count in ordered) / total) if total else 0.0
