"""Admission: which prompts may be paid for, by the rank of each draft. A rank is a hash, so what is admitted depends on
no order, speed or number of processes, and what a level admits is a random sample of all that is planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

from textmint.transforms.core.elements import Choice, Draft, LabelSet, LabelSetSeed, Subject, Task, TaskSeed
from textmint.transforms.core.identity import UNIT, fraction

BUCKETS: Final = 4_096
"""Ranks are whole numbers from 0 up to this one, which itself is the level that admits every draft."""


def bucket_of(task_id: str, place: int, count: int, before: int = 0) -> int:
    """Returns the rank of a draft: the first examples of all tasks come before the second ones.

    Args:
      task_id: of its task.
      place: its number among the drafts of the task, from 0.
      count: how many drafts the task gets.
      before: so many of them were asked for before, and come before all others.
    """
    if place < before:
        return 0
    return ((place - before) * UNIT + fraction("admission", task_id, place)) * BUCKETS // ((count - before) * UNIT)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Which prompts a pass over the graph may ask.

    Args:
      level: drafts whose rank is below it are admitted, with the label sets and the verification that they need.
      with_paid: whether what is not admitted is taken all the same where the ledger answers it; otherwise such drafts
        are not even made.
      asks_for_tasks: whether brainstorm prompts are admitted.
      examples_per_task: drafts of a task that does not say itself how many.
      asked_before: so many of these were asked for before, and all of a task that says how many; their rank is 0.
    """

    level: int = BUCKETS
    with_paid: bool = False
    asks_for_tasks: bool = True
    examples_per_task: int = 1
    asked_before: int = 0

    def buckets(self, task: Task | LabelSet) -> Iterator[int]:
        """Yields the rank of each draft of a task."""
        for place in range(self._count(task)):
            yield self.bucket(task, place)

    def bucket(self, task: Task | LabelSet | LabelSetSeed, place: int) -> int:
        """Returns the rank of a draft, given by its place among those of its task."""
        count = self._count(task)
        has_own = task.settings is not None and task.settings.examples is not None
        return bucket_of(task.task_id, place, count, count if has_own and self.asked_before else self.asked_before)

    def makes(self, bucket: int) -> bool:
        """Tells whether a draft of this rank is made."""
        return self.with_paid or bucket < self.level

    def admits(self, subject: Subject) -> bool:
        """Tells whether a prompt may be asked."""
        if isinstance(subject, TaskSeed):
            return self.asks_for_tasks
        return self._bucket(subject) < self.level

    def _bucket(self, subject: LabelSetSeed | Draft | Choice) -> int:
        if isinstance(subject, LabelSetSeed):  # its first draft needs the labels
            return self.bucket(subject, 0)
        return subject.example.bucket if isinstance(subject, Choice) else subject.bucket

    def _count(self, task: Task | LabelSet | LabelSetSeed) -> int:
        return (task.settings.examples if task.settings else None) or self.examples_per_task


PAYS_NOTHING: Final = Admission(level=0, with_paid=True, asks_for_tasks=False)
"""What takes all that the ledger answers, and asks nothing."""
