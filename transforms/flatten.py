"""Flatten: makes one element of each task, and keeps no task twice."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from msgspec.structs import replace
from textmint.transforms.core.elements import Reject, Task, TaskList, TaskSettings
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.tasks import MAX_TASK_CHARS, normalise_task, task_id, tidy_task
from textmint.transforms.core.texts import clean_text
from textmint.transforms.dedup.minhash import NearDuplicate
from textmint.transforms.dedup.verdicts import describe, task_id_of, text_of_task

_STEP = "Flatten"
Rank = tuple[int, str]


def split_list(tasks: TaskList) -> Iterator[Task | Reject]:
    """Yields the items of a list as tasks, and a reject for each item that cannot be one."""

    def read(text: str, place: int, settings: TaskSettings | None = None) -> tuple[Task, str]:
        tidy = tidy_task(text)
        is_blank = not normalise_task(tidy)
        task = Task(
            task_id="" if is_blank else task_id(tidy),
            task="" if is_blank else tidy,
            source=tasks.source,
            round=tasks.round,
            topic=tasks.topic,
            model=tasks.model,
            template=tasks.template,
            settings=settings,
        )
        return task, stable_hash("task_item", tasks.source, tasks.round, tasks.topic, tasks.model, place, text)

    settings = tasks.settings or (None,) * len(tasks.items)
    for place, text in enumerate(tasks.items):
        task, item_id = read(text, place, settings[place])
        if not task.task:
            yield _refuse(task, item_id, "empty_field", "a blank task", clean_text(text))
        elif len(task.task) > MAX_TASK_CHARS:
            detail = f"{len(task.task):,} characters, at most {MAX_TASK_CHARS:,} fit"
            yield _refuse(task, item_id, "too_long", detail, clean_text(text))
        else:
            yield task
    for place, (reason, detail, raw) in enumerate(tasks.refused):
        task, item_id = read("", -1 - place)
        yield _refuse(task, item_id, reason, detail, raw)


def _refuse(task: Task, id_: str, reason: str, detail: str, raw: str | None = None) -> Reject:
    return Reject.of_task(
        task, id=id_, stage=_STEP, reason=reason, detail=detail, raw=task.task if raw is None else raw
    )


Holder = tuple[int, str, int]
"""A refresh that has published a task: the number of its first example, the label, the number after its last. The least
holder had the task first."""

_OWN = "file"


@dataclasses.dataclass(frozen=True, slots=True)
class Numbering:
    """How a run numbers the examples of tasks that other refreshes have too."""

    refresh: str = ""
    examples_per_task: int = 1
    is_alone: bool = True  # no other refresh is under way, which might take plain ids for the same tasks

    def first_replica(self, task: Task, holders: Iterable[Holder]) -> int | None:
        """Returns the number of the run's first example of a task; None where the task belongs to others.

        A refresh that has published a task keeps its numbers, so the order of runs does not matter. Where two have the
        same numbers, all but the first by label yield, so that one of them still has the task when all run again at
        once. A brainstormed task yields by being dropped; the examples of a user's own task, which every refresh has,
        go on where the numbers of others end.
        """
        own = min((holder for holder in holders if holder[1] == self.refresh), default=None)
        others = [holder for holder in holders if holder[1] != self.refresh]
        if own is not None and (not others or own < min(others)):
            return own[0]
        if task.source != _OWN:
            return None if others else 0
        if own is not None and own[0]:
            return own[0]
        has_first = any(first == 0 for first, _, _ in others)
        if own is None and self.is_alone and not has_first:
            return 0
        wanted = (task.settings.examples if task.settings else None) or 0
        return max((max(end, first + wanted) for first, _, end in others), default=wanted or self.examples_per_task)


def first_of(found: Iterable[Task | Holder], numbering: Numbering | None = None) -> Iterator[Task | Reject]:
    """Yields the first of the tasks of one task_id, if the run may have it, and a reject for each other.

    The earliest round comes first, so that more rounds never change an earlier task; then tasks with settings; then the
    smallest text. Among the tasks are the refreshes that have published them.
    """
    numbering = numbering or Numbering()
    values = list(found)
    holders = [one for one in values if isinstance(one, tuple)]
    tasks = [one for one in values if isinstance(one, Task)]
    if not tasks:
        return
    tasks.sort(key=_precedence)
    number = numbering.first_replica(tasks[0], holders)
    if number is None:
        first = 0
        detail = f"refresh={min(label for _, label, _ in holders if label != numbering.refresh)} has this task"
    else:
        first = 1
        detail = f"the same task as {tasks[0].task!r:.120}"
        yield replace(tasks[0], first_replica=number) if number else tasks[0]
    for place, task in enumerate(tasks[first:], start=first):
        yield _refuse(task, stable_hash("duplicate_task", task.task_id, place), "duplicate", detail)


def _precedence(task: Task) -> tuple[Any, ...]:
    own = task.settings or TaskSettings()
    settings = own.labels, own.language or "", own.examples or 0
    return task.round, task.settings is None, task.task, task.topic or "", task.model or "", settings


def rank(task: Task, seed: int) -> Rank:
    """Orders tasks for `--max_tasks`: by round, then by hash, so that a larger one keeps what a smaller one kept."""
    return task.round, stable_hash("max_tasks", task.task_id, seed)


class _Split(beam.DoFn):
    """Yields tasks by their id in the output `TASKS`; in the main one what is refused, here or before."""

    TASKS = "tasks"

    def __init__(self) -> None:
        self._counters = StepCounters(_STEP)

    def process(self, tasks: TaskList | str | Reject) -> Iterator[Any]:
        if isinstance(tasks, Reject):
            yield tasks
            return
        for task in split_list(TaskList(items=(tasks,)) if isinstance(tasks, str) else tasks):
            self._counters.add("in")
            if isinstance(task, Reject):
                self._counters.outcome(task)
                yield task
            else:
                yield beam.pvalue.TaggedOutput(self.TASKS, (task.task_id, task))


class _Deduplicate(beam.DoFn):
    """Yields the first of each task in the output `FIRST`; in the main one the others, as rejects."""

    FIRST = "first"

    def __init__(self, count_kept: bool, numbering: Numbering) -> None:
        self._count_kept = count_kept
        self._numbering = numbering
        self._counters = StepCounters(_STEP)

    def process(self, group: tuple[str, Iterable[Any]]) -> Iterator[Any]:
        for task in first_of(group[1], self._numbering):
            if self._count_kept or isinstance(task, Reject):
                self._counters.outcome(task)
            yield task if isinstance(task, Reject) else beam.pvalue.TaggedOutput(self.FIRST, task)


def _last(ranks: list[Rank]) -> Rank:
    return max(ranks, default=(0, ""))


class _TakeUpTo(beam.DoFn):
    def __init__(self, max_tasks: int, seed: int) -> None:
        self._max_tasks = max_tasks
        self._seed = seed
        self._counters = StepCounters(_STEP)

    def process(self, task: Task, last: Rank) -> Iterator[Task | Reject]:
        result: Task | Reject = task
        if rank(task, self._seed) > last:
            id_ = stable_hash("over_max_tasks", task.task_id)
            result = _refuse(task, id_, "over_max_tasks", f"beyond the first {self._max_tasks:,} tasks")
        self._counters.outcome(result)
        yield result


class _DropNearCopies(beam.DoFn):
    """Yields a task in the output `KEPT`, or its reject where it is a near copy of another."""

    KEPT = "kept"

    def __init__(self, count_kept: bool) -> None:
        self._count_kept = count_kept
        self._counters = StepCounters(_STEP)

    def process(self, group: tuple[str, Iterable[Any]]) -> Iterator[Any]:
        found = list(group[1])
        task = next(value for value in found if isinstance(value, Task))
        details = sorted(value for value in found if isinstance(value, str))
        if details:
            reject = _refuse(task, stable_hash("near_duplicate_task", task.task_id), "near_duplicate", details[0])
            self._counters.outcome(reject)
            yield reject
        else:
            if self._count_kept:
                self._counters.outcome(task)
            yield beam.pvalue.TaggedOutput(self.KEPT, task)


def _by_task_id(task: Task) -> tuple[str, Any]:
    return task.task_id, task


def _near_duplicate_by_task_id(found: tuple[str, NearDuplicate]) -> tuple[str, Any]:
    id_, other = found
    return task_id_of(id_), describe(dataclasses.replace(other, id=task_id_of(other.id)))


def _holder_by_task_id(published: tuple[str, str, int, int]) -> tuple[str, Any]:
    task_id, label, first, end = published
    return task_id, (first, label, end)


@dataclasses.dataclass(eq=False)
class Flatten(beam.PTransform):
    """Makes Tasks of lists of tasks, or of texts of tasks.

    Blanks, repeats and what is over `max_tasks` become rejects. Rejects of the step before pass through.

    Args:
      max_tasks: how many tasks are kept at most; None: all.
      seed: decides which, together with the tasks themselves.
      published: a `PTransform` from the pipeline to the tasks that all refreshes have published (`ReadPublished`).
      near_copies: a `PTransform` from the texts of tasks to those that are near copies (`FindNearDuplicates`).
      numbering: of the run.
    """

    max_tasks: int | None = None
    seed: int = 42
    published: beam.PTransform | None = None
    near_copies: beam.PTransform | None = None
    numbering: Numbering = dataclasses.field(default_factory=Numbering)

    def __post_init__(self) -> None:
        if self.max_tasks is not None and self.max_tasks < 1:
            raise ValueError(f"max_tasks is {self.max_tasks}, but must be 1 or more, or None for all")

    def expand(self, lists: beam.PCollection[TaskList | str | Reject]) -> beam.PCollection[Task | Reject]:
        refused, keyed = lists | "Split" >> beam.ParDo(_Split()).with_outputs(_Split.TASKS, main="refused")
        keyed.element_type = typehints.KV[str, typehints.Any]
        if self.published is not None:
            published = (
                lists.pipeline | "Published" >> self.published | "KeyHolderByTaskId" >> beam.Map(_holder_by_task_id)
            )
            keyed = (keyed, published) | "WithPublished" >> beam.Flatten()
        deduplicate = beam.ParDo(_Deduplicate(self.max_tasks is None and self.near_copies is None, self.numbering))
        repeated, kept = (
            keyed
            | "GroupByTaskId" >> beam.GroupByKey()
            | "Deduplicate" >> deduplicate.with_outputs(_Deduplicate.FIRST, main="repeated")
        )
        refused_later = []
        if self.near_copies is not None:
            dropped, kept = self._without_near_copies(kept, self.near_copies)
            refused_later.append(dropped)
        if self.max_tasks is not None:
            ranks = kept | "Rank" >> beam.Map(rank, self.seed)
            smallest = ranks | "Smallest" >> beam.combiners.Top.Smallest(self.max_tasks)
            last = beam.pvalue.AsSingleton(smallest | "Last" >> beam.Map(_last))
            kept = kept | "TakeUpTo" >> beam.ParDo(_TakeUpTo(self.max_tasks, self.seed), last)
        together = (refused, repeated, *refused_later, kept) | "Together" >> beam.Flatten()
        together.element_type = typehints.Union[Task, Reject]
        return together

    def _without_near_copies(
        self, tasks: beam.PCollection[Task], near_copies: beam.PTransform
    ) -> tuple[beam.PCollection[Any], ...]:
        tasks.element_type = Task
        copies = tasks | "TextsOfTasks" >> beam.Map(text_of_task) | "NearCopies" >> near_copies
        keyed_copies = copies | "KeyNearCopies" >> beam.Map(_near_duplicate_by_task_id)
        keyed_tasks = tasks | "KeyTasks" >> beam.Map(_by_task_id)
        drop = beam.ParDo(_DropNearCopies(self.max_tasks is None)).with_outputs(_DropNearCopies.KEPT, main="dropped")
        found = (
            (keyed_tasks, keyed_copies)
            | "TasksAndNearCopies" >> beam.Flatten()
            | "GroupNearCopies" >> beam.GroupByKey()
            | "DropNearCopies" >> drop
        )
        return found.dropped, found[_DropNearCopies.KEPT]
