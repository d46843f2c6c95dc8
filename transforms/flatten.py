"""Flatten: lists of tasks -> tasks, one element each, no task twice."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam

from transforms.elements import Reject, Task, TaskList
from transforms.identity import stable_hash
from transforms.metrics import StepCounters
from transforms.parsing import clean_text
from transforms.tasks import MAX_TASK_CHARS, normalise_task, task_id, tidy_task

_STEP = "Flatten"
Rank = tuple[int, str]


def split_list(tasks: TaskList) -> Iterator[Task | Reject]:
    """A list -> its items as tasks, and a reject for each item that cannot be one."""

    def item(text: str, place: int) -> tuple[Task, str]:
        tidy = tidy_task(text)
        normal = normalise_task(tidy)
        task = Task(
            task_id=task_id(tidy) if normal else "",
            task=tidy if normal else "",
            source=tasks.source,
            round=tasks.round,
            topic=tasks.topic,
            model=tasks.model,
            template=tasks.template,
        )
        return task, stable_hash("task_item", tasks.source, tasks.round, tasks.topic, tasks.model, place, text)

    for place, text in enumerate(tasks.items):
        task, item_id = item(text, place)
        raw = clean_text(text)
        if not task.task:
            yield Reject.of_task(task, id=item_id, stage=_STEP, reason="empty_field", detail="a blank task", raw=raw)
        elif len(task.task) > MAX_TASK_CHARS:
            detail = f"{len(task.task):,} characters, at most {MAX_TASK_CHARS:,} fit"
            yield Reject.of_task(task, id=item_id, stage=_STEP, reason="too_long", detail=detail, raw=raw)
        else:
            yield task
    for place, (reason, detail, raw) in enumerate(tasks.refused):
        task, item_id = item("", -1 - place)
        yield Reject.of_task(task, id=item_id, stage=_STEP, reason=reason, detail=detail, raw=raw)


def first_of(tasks: Iterable[Task]) -> Iterator[Task | Reject]:
    """All tasks of one task_id -> the one that stands for them, then a reject for each other.

    The earliest round wins, so that more rounds never change a task that is already there; then the smallest text.
    """
    ordered = sorted(tasks, key=_precedence)
    yield ordered[0]
    for place, task in enumerate(ordered[1:], start=1):
        yield Reject.of_task(
            task,
            id=stable_hash("duplicate_task", task.task_id, place),
            stage=_STEP,
            reason="duplicate",
            detail=f"the same task as {ordered[0].task!r:.120}",
            raw=task.task,
        )


def _precedence(task: Task) -> tuple[int, str, str, str]:
    return task.round, task.task, task.topic or "", task.model or ""


def rank(task: Task, seed: int) -> Rank:
    """A task -> its place when only some are taken: earlier rounds first, within a round by hash. So a larger
    `--max_tasks` keeps all that a smaller one kept."""
    return task.round, stable_hash("max_tasks", task.task_id, seed)


class _Split(beam.DoFn):
    def __init__(self) -> None:
        self._counters = StepCounters(_STEP)

    def process(self, tasks: TaskList) -> Iterator[Task | Reject]:
        for task in split_list(tasks):
            self._counters.add("in")
            if isinstance(task, Reject):
                self._counters.outcome(task)
            yield task


class _Deduplicate(beam.DoFn):
    def __init__(self, count_kept: bool) -> None:
        self._count_kept = count_kept
        self._counters = StepCounters(_STEP)

    def process(self, group: tuple[str, Iterable[Task]]) -> Iterator[Task | Reject]:
        for task in first_of(group[1]):
            if self._count_kept or isinstance(task, Reject):
                self._counters.outcome(task)
            yield task


class _TakeUpTo(beam.DoFn):
    def __init__(self, max_tasks: int, seed: int) -> None:
        self._max_tasks = max_tasks
        self._seed = seed
        self._counters = StepCounters(_STEP)

    def process(self, task: Task, taken: list[Rank]) -> Iterator[Task | Reject]:
        result: Task | Reject = task
        if rank(task, self._seed) > max(taken):
            result = Reject.of_task(
                task,
                id=stable_hash("over_max_tasks", task.task_id),
                stage=_STEP,
                reason="over_max_tasks",
                detail=f"--max_tasks={self._max_tasks}",
                raw=task.task,
            )
        self._counters.outcome(result)
        yield result


def _is_task(element: object) -> bool:
    return isinstance(element, Task)


def _is_reject(element: object) -> bool:
    return isinstance(element, Reject)


def _is_list(element: object) -> bool:
    return isinstance(element, TaskList)


def _by_task_id(task: Task) -> tuple[str, Task]:
    return task.task_id, task


@dataclasses.dataclass(eq=False)
class Flatten(beam.PTransform):
    """TaskList -> Task, one element a task; blanks, repeats and what is over `max_tasks` become rejects. Rejects of
    the step before pass through.

    Args:
      max_tasks: how many tasks are kept at most; None: all.
      seed: decides which, together with the tasks themselves.
    """

    max_tasks: int | None = None
    seed: int = 42

    def expand(self, lists: beam.PCollection[TaskList | Reject]) -> beam.PCollection[Task | Reject]:
        passed = lists | "PassRejects" >> beam.Filter(_is_reject).with_output_types(Reject)
        items = (
            lists | "OnlyLists" >> beam.Filter(_is_list).with_output_types(TaskList) | "Split" >> beam.ParDo(_Split())
        )
        refused = items | "RefusedItems" >> beam.Filter(_is_reject).with_output_types(Reject)
        distinct = (
            items
            | "Items" >> beam.Filter(_is_task).with_output_types(Task)
            | "KeyByTaskId" >> beam.Map(_by_task_id)
            | "GroupByTaskId" >> beam.GroupByKey()
            | "Deduplicate" >> beam.ParDo(_Deduplicate(self.max_tasks is None))
        )
        if self.max_tasks is None:
            return (passed, refused, distinct) | "Together" >> beam.Flatten()
        repeated = distinct | "Repeated" >> beam.Filter(_is_reject).with_output_types(Reject)
        first = distinct | "First" >> beam.Filter(_is_task).with_output_types(Task)
        taken = first | "Rank" >> beam.Map(rank, self.seed) | "Smallest" >> beam.combiners.Top.Smallest(self.max_tasks)
        kept = first | "TakeUpTo" >> beam.ParDo(_TakeUpTo(self.max_tasks, self.seed), beam.pvalue.AsSingleton(taken))
        return (passed, refused, repeated, kept) | "Together" >> beam.Flatten()
