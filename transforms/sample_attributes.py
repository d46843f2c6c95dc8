"""SampleAttributes: tasks -> drafts of examples, each with its attributes and, where they are planned, its labels."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

from transforms import progress
from transforms.attributes import Attributes, parse_attributes
from transforms.elements import Draft, LabelSet, Reject, Task, TaskSettings
from transforms.identity import stable_hash
from transforms.label_sets import pair_of
from transforms.metrics import StepCounters

_STEP = "SampleAttributes"
_NO_SETTINGS = TaskSettings()


def drafts_of(
    task: Task | LabelSet, *, examples_per_task: int, attributes: Attributes, seed: int = 42
) -> Iterator[Draft]:
    """Makes the drafts of a task, replica 0 first.

    A draft depends on its task with its settings, its replica and the seed only, and of a task with a label set on that
    too, so more examples a task leave the first ones as they were. The labels of a set are spread over the drafts as
    `label_sets.pair_of` says, whatever their attributes.

    Args:
      task: whose settings go before the other arguments.
      examples_per_task: how many drafts.
      attributes: from what each attribute is picked.
      seed: the user's.

    Yields:
      Each draft. Where the user gives labels and none are planned, it holds them for the model to choose from.
    """
    settings = task.settings or _NO_SETTINGS
    labels = task.labels if isinstance(task, LabelSet) else ()
    for replica in range(settings.examples or examples_per_task):
        draft_id = stable_hash("draft", task.task_id, replica, seed)
        chosen = attributes.pick(draft_id)
        label, misleading_label = (
            pair_of(labels, task_id=task.task_id, seed=seed, replica=replica) if labels else (None, None)
        )
        yield Draft(
            draft_id=draft_id,
            task_id=task.task_id,
            task=task.task,
            replica=replica,
            seed=seed,
            language=settings.language or chosen["language"],
            difficulty=chosen["difficulty"],
            clarity=chosen["clarity"],
            num_words=chosen["num_words"],
            label=label,
            misleading_label=misleading_label,
            labels=labels or settings.labels,
        )


class _Sample(beam.DoFn):
    def __init__(self, examples_per_task: int, attributes: Attributes, seed: int) -> None:
        self._examples_per_task = examples_per_task
        self._attributes = attributes
        self._seed = seed
        self._counters = StepCounters(_STEP)

    def process(self, task: Task | LabelSet | Reject) -> Iterator[Draft | Reject]:
        if isinstance(task, Reject):
            yield task
            return
        self._counters.add("in")
        count = (task.settings or _NO_SETTINGS).examples or self._examples_per_task
        self._counters.add("kept", count)
        progress.add("drafts", count)
        yield from drafts_of(
            task,
            examples_per_task=self._examples_per_task,
            attributes=self._attributes,
            seed=self._seed,
        )

    def finish_bundle(self) -> None:
        progress.flush()


@dataclasses.dataclass(eq=False)
class SampleAttributes(beam.PTransform):
    """Task or LabelSet -> Draft, `examples_per_task` of them a task, or as many as its settings say. Rejects pass
    through.

    Args:
      examples_per_task: at least 1.
      attributes: from what each attribute is picked; see `attributes.parse_attributes`, whose defaults these are.
      seed: the user's; another seed gives other drafts.

    Raises:
      ValueError: `examples_per_task` is less than 1.
    """

    examples_per_task: int = 1
    attributes: Attributes = dataclasses.field(default_factory=parse_attributes)
    seed: int = 42

    def __post_init__(self) -> None:
        if self.examples_per_task < 1:
            raise ValueError(f"examples_per_task is {self.examples_per_task}, but must be 1 or more")

    def expand(self, tasks: beam.PCollection[Task | LabelSet | Reject]) -> beam.PCollection[Draft | Reject]:
        return tasks | "Sample" >> beam.ParDo(_Sample(self.examples_per_task, self.attributes, self.seed))
