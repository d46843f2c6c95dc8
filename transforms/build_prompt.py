"""BuildPrompt: makes the exact text that is sent to the model."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from textmint.transforms.core.attributes import ATTRIBUTES
from textmint.transforms.core.elements import Draft, Prompt, Reject
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate, TemplateError, shipped_template

_STEP = "BuildPrompt"


def example_prompt(draft: Draft, template: PromptTemplate) -> Prompt:
    """Makes the prompt that asks for an example: where labels are planned, for a text of the draft's label; where the
    user gives labels, for one of these."""
    is_planned = draft.label is not None
    variables = {name: getattr(draft, name) for name in ("task", *ATTRIBUTES, "labels")}
    if is_planned:
        variables |= {"label": draft.label, "misleading_label": draft.misleading_label}
    return Prompt(
        kind="planned_example" if is_planned else "example",
        subject=draft,
        text=template.render(variables),
        template=template.name,
    )


class _Build(beam.DoFn):
    def __init__(self, free: PromptTemplate, planned: PromptTemplate, labelled: PromptTemplate) -> None:
        self._free = free
        self._planned = planned
        self._labelled = labelled
        self._counters = StepCounters(_STEP)

    def process(self, draft: Draft | Reject) -> Iterator[Prompt | Reject]:
        if isinstance(draft, Reject):
            yield draft
            return
        self._counters.add("in")
        free = self._labelled if draft.labels else self._free
        template = free if draft.label is None else self._planned
        try:
            result: Prompt | Reject = example_prompt(draft, template)
        except TemplateError as error:
            result = Reject.of_template(draft, stage=_STEP, template=template.name, detail=str(error))
        self._counters.outcome(result)
        yield result


@dataclasses.dataclass(eq=False)
class BuildPrompt(beam.PTransform):
    """Makes a Prompt of each Draft, or a Reject where the template cannot be filled. Rejects pass through.

    Args:
      template: the example prompt; its variables are `prompt_template.EXAMPLE_VARIABLES`, of drafts with planned
        labels `PLANNED_VARIABLES`. None: those that come with textmint, `classify` and `classify_planned`.
      labelled: the same for drafts whose label the model is to choose from the user's; its variables are
        `prompt_template.LABELLED_VARIABLES`. None: `template`, or else `classify_labels` that comes with textmint.
    """

    template: PromptTemplate | None = None
    labelled: PromptTemplate | None = None

    def expand(self, drafts: beam.PCollection[Draft | Reject]) -> beam.PCollection[Prompt | Reject]:
        free = self.template or shipped_template("classify")
        planned = self.template or shipped_template("classify_planned")
        labelled = self.labelled or self.template or shipped_template("classify_labels")
        return drafts | "Build" >> beam.ParDo(_Build(free, planned, labelled))
