"""BuildPrompt: makes the exact text that is sent to the model."""

import dataclasses
import functools

import apache_beam as beam
from textmint.transforms.core import progress
from textmint.transforms.core.attributes import ATTRIBUTES
from textmint.transforms.core.do_fns import CountedMap
from textmint.transforms.core.elements import Draft, Prompt, Reject
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


def _build(draft: Draft, free: PromptTemplate, planned: PromptTemplate, labelled: PromptTemplate) -> Prompt | Reject:
    template = planned if draft.label is not None else labelled if draft.labels else free
    try:
        return example_prompt(draft, template)
    except TemplateError as error:
        progress.add("LLMCall.failed")
        return Reject.of_template(draft, stage=_STEP, template=template.name, detail=str(error))


@dataclasses.dataclass(eq=False)
class BuildPrompt(beam.PTransform):
    """Makes a Prompt of each Draft, or a Reject where the template cannot be filled. Rejects pass through.

    Args:
      template: the example prompt; its variables are `prompt_template.EXAMPLE_VARIABLES`, of drafts with planned
        labels `PLANNED_VARIABLES`. None: textmint's `classify` and `classify_planned`.
      labelled: the same for drafts whose label the model chooses from the user's; its variables are
        `prompt_template.LABELLED_VARIABLES`. None: `template`, or else textmint's `classify_labels`.
    """

    template: PromptTemplate | None = None
    labelled: PromptTemplate | None = None

    def expand(self, drafts: beam.PCollection[Draft | Reject]) -> beam.PCollection[Prompt | Reject]:
        free = self.template or shipped_template("classify")
        planned = self.template or shipped_template("classify_planned")
        labelled = self.labelled or self.template or shipped_template("classify_labels")
        build = functools.partial(_build, free=free, planned=planned, labelled=labelled)
        return drafts | "Build" >> beam.ParDo(CountedMap(_STEP, build)).with_output_types(Prompt | Reject)
