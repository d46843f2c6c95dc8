"""VerifyLabels: rejects the examples whose label a model would not choose again."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from msgspec.structs import replace
from textmint.transforms.core import progress
from textmint.transforms.core.do_fns import MakePrompt, ReadReply
from textmint.transforms.core.elements import Choice, Example, Prompt, Reject, Reply
from textmint.transforms.core.identity import UNIT, fraction, stable_hash
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate
from textmint.transforms.labels.choice import Named, read_choice
from textmint.transforms.llm.base import Answer
from textmint.transforms.parsing.results import Refusal

_STEP = "VerifyLabels"
_DETAIL_CHARS = 60  # of each label and of the answer


def choice_of(example: Example) -> Choice:
    """Makes the choice between the labels of an example, in an order that its id decides."""
    labels = (example.label, example.misleading_label)
    first, second = labels if fraction("label_order", example.id) < UNIT // 2 else labels[::-1]
    return Choice(
        choice_id=stable_hash("choice", example.id), example=example, first=first, second=second, seed=example.seed
    )


def choice_prompt(choice: Choice, template: PromptTemplate) -> Prompt:
    """Makes the prompt that asks for a choice."""
    variables = {
        "task": choice.example.task,
        "input_text": choice.example.input_text,
        "first": choice.first,
        "second": choice.second,
    }
    return Prompt(kind="choice", subject=choice, text=template.render(variables), template=template.name)


def verify_choice(reply: Reply) -> Example | Reject:
    """Returns the example if a reply confirms its label, or a Reject with the choice's prompt, model and reply."""
    choice = _choice(reply.prompt)
    named = read_choice(reply.text, reply.finish_reason, choice.first, choice.second)
    if isinstance(named, Refusal):
        return Reject.of_reply(reply, stage=_STEP, reason=named.reason, detail=named.detail)
    example = choice.example
    dispute = _dispute(example, named)
    if dispute is None:
        return replace(example, verified=reply.usage)
    reject = Reject.of_reply(reply, stage=_STEP, reason=dispute.reason, detail=dispute.detail)
    return replace(reject, can_retry=False)


def _dispute(example: Example, named: Named) -> Refusal | None:
    if named.label == example.label:
        return None
    label, answer = (
        repr(text if len(text) <= _DETAIL_CHARS else text[: _DETAIL_CHARS - 1] + "…")
        for text in (example.label, named.text)
    )
    return Refusal(reason="label_disputed", detail=f"the label is {label}, the answer {answer}")


def choice_fault(prompt: Prompt, answer: Answer) -> Refusal | None:
    """Says why an answer drops the row: it cannot be read, or names another label; None where the row stays."""
    choice = _choice(prompt)
    named = read_choice(answer.text, answer.finish_reason, choice.first, choice.second)
    return named if isinstance(named, Refusal) else _dispute(choice.example, named)


def is_choice(prompt: Prompt, answer: Answer) -> bool:
    """Tells whether `verify_choice` can read an answer. One that names neither label can be read."""
    choice = _choice(prompt)
    return not isinstance(read_choice(answer.text, answer.finish_reason, choice.first, choice.second), Refusal)


def _choice(prompt: Prompt) -> Choice:
    if not isinstance(prompt.subject, Choice):
        raise TypeError(f"a choice was asked for by a {type(prompt.subject).__name__}")
    return prompt.subject


class _Ask(beam.DoFn):
    def __init__(self) -> None:
        self._counters = StepCounters(_STEP)

    def process(self, example: Example | Reject) -> Iterator[Choice | Reject]:
        if isinstance(example, Reject):
            yield example
            return
        self._counters.add("in")
        progress.add(f"{_STEP}.in")
        yield choice_of(example)

    def finish_bundle(self) -> None:
        progress.flush()


@dataclasses.dataclass(eq=False)
class VerifyLabels(beam.PTransform):
    """Passes each Example on, or a Reject where a model that is shown both labels does not choose its label.

    Rejects pass through. It sends one request an example.

    Args:
      template: the prompt; its variables are `prompt_template.VERIFY_VARIABLES`.
      join: what regroups Choices and brings to each what was paid for it, a `PTransform` such as `JoinLedger`.
      llm: what answers prompts, a `PTransform` from Prompt to Reply or Reject; its rejects name the stage
        `VerifyLabels`. It may be another model than the one that wrote the examples.
    """

    template: PromptTemplate
    join: beam.PTransform
    llm: beam.PTransform

    def expand(self, examples: beam.PCollection[Example | Reject]) -> beam.PCollection[Example | Reject]:
        return (
            examples
            | "Ask" >> beam.ParDo(_Ask())
            | self.join
            | "Prompt" >> beam.ParDo(MakePrompt(_STEP, choice_prompt, self.template))
            | self.llm
            | "Verify" >> beam.ParDo(ReadReply(_STEP, verify_choice)).with_output_types(Example | Reject)
        )
