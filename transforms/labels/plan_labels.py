"""PlanLabels: tasks -> the labels that their examples shall have."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from textmint.transforms.core.elements import FinishReason, LabelSet, LabelSetSeed, Prompt, Reject, Reply, Task
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import MAX_LABEL_COLUMNS, MIN_LABELS, clean_labels, label_id
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate, TemplateError
from textmint.transforms.llm.base import Answer
from textmint.transforms.parsing.lists import parse_string_list
from textmint.transforms.parsing.results import Refusal

_STEP = "PlanLabels"


def label_set_seed(task: Task, seed: int) -> LabelSetSeed:
    """A task and the user's seed -> what asks for its labels."""
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
    """Takes the labels that the user gives a task, where no model need be asked.

    Args:
      task: with its settings.
      seed: the user's.

    Returns:
      The label set; None where the user gives the task none.
    """
    if task.settings is None or not task.settings.labels:
        return None
    return LabelSet(
        task_id=task.task_id,
        task=task.task,
        labels=task.settings.labels,
        label_ids=tuple(label_id(task.task_id, label) for label in task.settings.labels),
        model="",
        template="",
        prompt_tokens=0,
        output_tokens=0,
        seed=seed,
        settings=task.settings,
        first_replica=task.first_replica,
    )


def label_set_prompt(seed: LabelSetSeed, template: PromptTemplate) -> Prompt:
    """A task whose labels are asked for -> the prompt."""
    return Prompt(kind="label_set", subject=seed, text=template.render({"task": seed.task}), template=template.name)


def read_label_set(reply: Reply, max_label_columns: int = MAX_LABEL_COLUMNS) -> LabelSet | Reject:
    """A reply to a label set prompt -> the labels, or why there are none."""
    labels = _labels_in(reply.text, reply.finish_reason, max_label_columns)
    if isinstance(labels, Refusal):
        return Reject.of_reply(reply, stage=_STEP, reason=labels.reason, detail=labels.detail)
    seed = reply.prompt.subject
    if not isinstance(seed, LabelSetSeed):
        raise TypeError(f"a label set was asked for by a {type(seed).__name__}")
    return LabelSet(
        task_id=seed.task_id,
        task=seed.task,
        labels=labels,
        label_ids=tuple(label_id(seed.task_id, label) for label in labels),
        model=reply.model,
        template=reply.prompt.template,
        prompt_tokens=reply.prompt_tokens,
        output_tokens=reply.output_tokens,
        seed=seed.seed,
        settings=seed.settings,
        first_replica=seed.first_replica,
        usage=reply.usage,
    )


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
    """Says why no labels come of an answer.

    Args:
      prompt: what was asked.
      answer: what was answered.
      max_label_columns: the widest label.

    Returns:
      what is wrong with it; None where nothing is.
    """
    found = _labels_in(answer.text, answer.finish_reason, max_label_columns)
    return found if isinstance(found, Refusal) else None


def is_label_set(prompt: Prompt, answer: Answer, *, max_label_columns: int = MAX_LABEL_COLUMNS) -> bool:
    """What was asked and answered -> whether `read_label_set` would take it."""
    return label_set_fault(prompt, answer, max_label_columns=max_label_columns) is None


class _Seed(beam.DoFn):
    """What asks for the labels of a task; where the user gives them, the label set in the output `GIVEN`."""

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
            yield label_set_seed(task, self._seed)
        else:
            self._counters.outcome(given)
            yield beam.pvalue.TaggedOutput(self.GIVEN, given)


class _Prompt(beam.DoFn):
    def __init__(self, template: PromptTemplate) -> None:
        self._template = template

    def process(self, seed: LabelSetSeed | Reject) -> Iterator[Prompt | Reject]:
        if isinstance(seed, Reject):
            yield seed
            return
        try:
            yield label_set_prompt(seed, self._template)
        except TemplateError as error:
            yield Reject.of_template(seed, stage=_STEP, template=self._template.name, detail=str(error))


class _Read(beam.DoFn):
    def __init__(self, max_label_columns: int) -> None:
        self._max_label_columns = max_label_columns
        self._counters = StepCounters(_STEP)

    def process(self, reply: Reply | Reject) -> Iterator[LabelSet | Reject]:
        result = reply if isinstance(reply, Reject) else read_label_set(reply, self._max_label_columns)
        if not isinstance(result, Reject) or result.stage == _STEP:  # else it only passes through
            self._counters.outcome(result)
        yield result


@dataclasses.dataclass(eq=False)
class PlanLabels(beam.PTransform):
    """Task -> LabelSet, or a Reject where no labels could be had. Rejects pass through. One request a task, but none
    for a task whose labels the user gives.

    Args:
      template: the label set prompt; its variables are `prompt_template.LABEL_SET_VARIABLES`.
      join: what regroups LabelSetSeeds and brings to each what was paid for it, a `PTransform` such as `JoinLedger`.
      llm: what answers prompts, a `PTransform` from Prompt to Reply or Reject; its rejects name the stage `PlanLabels`.
      seed: the user's; another seed asks anew.
      max_label_columns: the widest label that is taken; what `llm` takes for readable should know it too.
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
        asked = (
            seeds
            | self.join
            | "Prompt" >> beam.ParDo(_Prompt(self.template))
            | self.llm
            | "Read" >> beam.ParDo(_Read(self.max_label_columns))
        )
        return (asked, given) | "WithGiven" >> beam.Flatten()
