"""SampleAttributes: makes drafts of examples, each with its attributes and, where they are planned, its labels."""

import dataclasses
import functools
from collections.abc import Iterator

import apache_beam as beam
from textmint.transforms.core import progress
from textmint.transforms.core.admission import Admission
from textmint.transforms.core.attributes import Attributes, parse_attributes
from textmint.transforms.core.elements import Draft, LabelSet, Reject, Task, TaskSettings
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.labels.pairs import pair_of

_STEP = "SampleAttributes"
_NO_SETTINGS = TaskSettings()


def draft_id_of(task: Task | LabelSet, place: int, seed: int, refresh: str) -> str:
    """Returns the id of a draft, in the ledger and among the examples; `place` counts the drafts of the task.

    Where another refresh had the task first, ids depend on the label of this one. So no two refreshes ask for the same
    draft, and a run that is started again asks for what it has paid for, whatever was published since.
    """
    of_refresh = (refresh,) if task.first_replica else ()
    return stable_hash("draft", task.task_id, place, seed, *of_refresh)


def drafts_of(
    task: Task | LabelSet,
    *,
    examples_per_task: int,
    attributes: Attributes,
    seed: int = 42,
    refresh: str = "base",
    admission: Admission | None = None,
) -> Iterator[Draft]:
    """Yields the drafts of a task, numbered from its `first_replica`; its settings go before the other arguments.

    More examples a task leave the first ones as they were. The labels of a set are spread over the drafts by
    `pairs.pair_of`. Where the user gives labels and none are planned, the model chooses from them.
    """
    settings = task.settings or _NO_SETTINGS
    labels = task.labels if isinstance(task, LabelSet) else ()
    count = settings.examples or examples_per_task
    for place in range(count):
        bucket = admission.bucket(task, place) if admission else 0
        if admission and not admission.makes(bucket):
            continue
        draft_id = draft_id_of(task, place, seed, refresh)
        chosen = attributes.pick(draft_id)
        label, misleading_label = (
            pair_of(labels, task_id=task.task_id, seed=seed, replica=place) if labels else (None, None)
        )
        yield Draft(
            draft_id=draft_id,
            task_id=task.task_id,
            task=task.task,
            replica=task.first_replica + place,
            seed=seed,
            language=settings.language or chosen["language"],
            difficulty=chosen["difficulty"],
            clarity=chosen["clarity"],
            num_words=chosen["num_words"],
            label=label,
            misleading_label=misleading_label,
            labels=labels or settings.labels,
            bucket=bucket,
        )


class _Sample(beam.DoFn):
    def __init__(self, sample: "SampleAttributes") -> None:
        self._drafts_of = functools.partial(
            drafts_of,
            examples_per_task=sample.examples_per_task,
            attributes=sample.attributes,
            seed=sample.seed,
            refresh=sample.refresh,
            admission=sample.admission,
        )
        self._counters = StepCounters(_STEP)

    def process(self, task: Task | LabelSet | Reject) -> Iterator[Draft | Reject]:
        if isinstance(task, Reject):
            yield task
            return
        self._counters.add("in")
        count = 0
        for draft in self._drafts_of(task):
            count += 1
            yield draft
        self._counters.add("kept", count)
        progress.add("LLMCall.in", count)

    def finish_bundle(self) -> None:
        progress.flush()


@dataclasses.dataclass(eq=False)
class SampleAttributes(beam.PTransform):
    """Makes `examples_per_task` drafts of each Task or LabelSet, or as many as its settings say. Rejects pass through.

    Args:
      examples_per_task: at least 1.
      attributes: from what each attribute is picked; see `attributes.parse_attributes`, whose defaults these are.
      seed: the user's; another seed gives other drafts.
      refresh: the label of the run; see `draft_id_of`.
      admission: which drafts are made; None: all.

    Raises:
      ValueError: `examples_per_task` is less than 1.
    """

    examples_per_task: int = 1
    attributes: Attributes = dataclasses.field(default_factory=parse_attributes)
    seed: int = 42
    refresh: str = "base"
    admission: Admission | None = None

    def __post_init__(self) -> None:
        if self.examples_per_task < 1:
            raise ValueError(f"examples_per_task is {self.examples_per_task}, but must be 1 or more")

    def expand(self, tasks: beam.PCollection[Task | LabelSet | Reject]) -> beam.PCollection[Draft | Reject]:
        return tasks | "Sample" >> beam.ParDo(_Sample(self))
