"""PlanLabels: asks a model for the labels that the examples of each task shall have."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from textmint.transforms.core import progress
from textmint.transforms.core.do_fns import MakePrompt, ReadReply
from textmint.transforms.core.elements import FinishReason, LabelSet, LabelSetSeed, Prompt, Reject, Reply, Task
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import MAX_LABEL_COLUMNS, MIN_LABELS, clean_labels, label_id
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate
from textmint.transforms.llm.base import Answer
from textmint.transforms.parsing.lists import parse_string_list
from textmint.transforms.parsing.results import Refusal

_STEP = "PlanLabels"


def label_set_seed(task: Task, seed: int) -> LabelSetSeed:
    """Makes what asks for the labels of a task, under the user's seed."""
    return LabelSetSeed(
        label_set_id=stable_hash("label_set", task.task_id, seed),
        task_id=task.task_id,
        task=task.task,
        topic=task.topic,
        seed=seed,
        settings=task.settings,
        first_replica=task.first_replica,
    )


def given_label_set(task: Task, seed: int) -> LabelSet | None:
    """Makes the label set of the labels that the user gives a task; None where the user gives none."""
    if task.settings is None or not task.settings.labels:
        return None
    return _label_set(label_set_seed(task, seed), task.settings.labels)


def _label_set(seed: LabelSetSeed, labels: tuple[str, ...], reply: Reply | None = None) -> LabelSet:
    return LabelSet(
        task_id=seed.task_id,
        task=seed.task,
        labels=labels,
        label_ids=tuple(label_id(seed.task_id, label) for label in labels),
        model=reply.model if reply else "",
        template=reply.prompt.template if reply else "",
        prompt_tokens=reply.prompt_tokens if reply else 0,
        output_tokens=reply.output_tokens if reply else 0,
        seed=seed.seed,
        settings=seed.settings,
        first_replica=seed.first_replica,
        usage=reply.usage if reply else None,
    )


def label_set_prompt(seed: LabelSetSeed, template: PromptTemplate) -> Prompt:
    """Makes the prompt that asks for the labels of a task."""
    return Prompt(kind="label_set", subject=seed, text=template.render({"task": seed.task}), template=template.name)


def read_label_set(reply: Reply, max_label_columns: int = MAX_LABEL_COLUMNS) -> LabelSet | Reject:
    """Reads the labels in a reply to a label set prompt, or says in a Reject why there are none."""
    seed = reply.prompt.subject
    if not isinstance(seed, LabelSetSeed):
        raise TypeError(f"a label set was asked for by a {type(seed).__name__}")
    labels = _labels_in(reply.text, reply.finish_reason, max_label_columns)
    if isinstance(labels, Refusal):
        return Reject.of_reply(reply, stage=_STEP, reason=labels.reason, detail=labels.detail)
    return _label_set(seed, labels, reply)


def _labels_in(text: str, finish_reason: FinishReason, max_label_columns: int) -> tuple[str, ...] | Refusal:
    parsed = parse_string_list(text, finish_reason)
    if isinstance(parsed, Refusal):
        return parsed
    labels = clean_labels(parsed.value, max_label_columns)
    if len(labels) < MIN_LABELS:
        listed = len(parsed.value) + len(parsed.refused)
        detail = f"{len(labels)} of {listed} items can be a label, {MIN_LABELS} are needed"
        return Refusal(reason="too_few_labels", detail=detail)
    return labels


def label_set_fault(prompt: Prompt, answer: Answer, *, max_label_columns: int = MAX_LABEL_COLUMNS) -> Refusal | None:
    """Says why no labels come of an answer to a prompt; None where some do."""
    found = _labels_in(answer.text, answer.finish_reason, max_label_columns)
    return found if isinstance(found, Refusal) else None


def is_label_set(prompt: Prompt, answer: Answer, *, max_label_columns: int = MAX_LABEL_COLUMNS) -> bool:
    """Tells whether `read_label_set` would take an answer to a prompt."""
    return label_set_fault(prompt, answer, max_label_columns=max_label_columns) is None


class _Seed(beam.DoFn):
    """Yields what asks for the labels of a task; where the user gives them, the label set in the output `GIVEN`."""

    GIVEN = "given"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._counters = StepCounters(_STEP)

    def process(self, task: Task | Reject) -> Iterator[Any]:
        if isinstance(task, Reject):
            yield task
            return
        self._counters.add("in")
        given = given_label_set(task, self._seed)
        if given is None:
            progress.add(f"{_STEP}.in")
            yield label_set_seed(task, self._seed)
        else:
            self._counters.outcome(given)
            yield beam.pvalue.TaggedOutput(self.GIVEN, given)

    def finish_bundle(self) -> None:
        progress.flush()


@dataclasses.dataclass(eq=False)
class PlanLabels(beam.PTransform):
    """Makes a LabelSet of each Task, or a Reject where no labels could be had. Rejects pass through.

    It sends one request a task, and none for a task whose labels the user gives.

    Args:
      template: the label set prompt; its variables are `prompt_template.LABEL_SET_VARIABLES`.
      join: what regroups LabelSetSeeds and brings to each what was paid for it, a `PTransform` such as `JoinLedger`.
      llm: what answers prompts, a `PTransform` from Prompt to Reply or Reject; its rejects name the stage `PlanLabels`.
      seed: the user's; another seed asks anew.
      max_label_columns: the widest label that is taken; `llm` should accept the same.
    """

    template: PromptTemplate
    join: beam.PTransform
    llm: beam.PTransform
    seed: int = 42
    max_label_columns: int = MAX_LABEL_COLUMNS

    def expand(self, tasks: beam.PCollection[Task | Reject]) -> beam.PCollection[LabelSet | Reject]:
        seeds, given = tasks | "Seed" >> beam.ParDo(_Seed(self.seed)).with_outputs(_Seed.GIVEN, main="seeds")
        seeds.element_type = typehints.Union[LabelSetSeed, Reject]
        given.element_type = LabelSet
        read = functools.partial(read_label_set, max_label_columns=self.max_label_columns)
        asked = (
            seeds
            | self.join
            | "Prompt" >> beam.ParDo(MakePrompt(_STEP, label_set_prompt, self.template))
            | self.llm
            | "Read" >> beam.ParDo(ReadReply(_STEP, read)).with_output_types(LabelSet | Reject)
        )
        return (asked, given) | "WithGiven" >> beam.Flatten()
