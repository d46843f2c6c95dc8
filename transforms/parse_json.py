"""ParseJSON: makes examples of the model's replies."""

import dataclasses
import functools
from collections.abc import Iterator

import apache_beam as beam
from textmint.transforms.core.do_fns import CountedMap
from textmint.transforms.core.elements import Draft, Example, FinishReason, Prompt, Reject, Reply
from textmint.transforms.core.labels import spelled_as
from textmint.transforms.core.texts import clean_text
from textmint.transforms.llm.base import Answer
from textmint.transforms.parsing.objects import EXAMPLE_FIELDS, parse_object
from textmint.transforms.parsing.results import Parsed, Refusal

_STEP = "ParseJSON"
_PLANNED_FIELDS = ("input_text",)  # its labels are the draft's, whatever else the reply says
_parsed = functools.lru_cache(maxsize=16)(parse_object)  # LLMCall has just asked whether the same reply can be read


def _read(prompt: Prompt, text: str, finish_reason: FinishReason) -> tuple[Draft, Parsed[dict[str, str]] | Refusal]:
    draft = prompt.subject
    if not isinstance(draft, Draft):
        raise TypeError(f"an example was asked for by a {type(draft).__name__}")
    if draft.label is not None:
        return draft, _parsed(text, finish_reason, _PLANNED_FIELDS)
    parsed = _parsed(text, finish_reason, EXAMPLE_FIELDS)
    return draft, _with_own_labels(parsed, draft.labels) if draft.labels and isinstance(parsed, Parsed) else parsed


def _with_own_labels(parsed: Parsed[dict[str, str]], labels: tuple[str, ...]) -> Parsed[dict[str, str]] | Refusal:
    """Checks a row against the labels that the user gives its task, and spells its labels as the user does."""
    spelled: dict[str, str] = {}
    for field in ("label", "misleading_label"):
        found = spelled_as(parsed.value[field], labels)
        if found is None:
            detail = f"the {field} {parsed.value[field]!r:.80} is none of the {len(labels)} labels of the task"
            return Refusal(reason="unknown_label", detail=detail)
        spelled[field] = found
    return dataclasses.replace(parsed, value={**parsed.value, **spelled})


def read_example(reply: Reply, *, keep_raw: bool) -> Example | Reject:
    """Reads the example in a reply, with the draft's labels where they are planned, or says why there is none.

    With `keep_raw` the example keeps the reply as it came.
    """
    draft, parsed = _read(reply.prompt, reply.text, reply.finish_reason)
    if isinstance(parsed, Refusal):
        return Reject.of_reply(reply, stage=_STEP, reason=parsed.reason, detail=parsed.detail)
    fields = parsed.value
    if draft.label is not None:
        fields = {**fields, "label": draft.label, "misleading_label": draft.misleading_label or ""}
    return Example(
        id=draft.draft_id,
        task_id=draft.task_id,
        task=draft.task,
        input_text=fields["input_text"],
        label=fields["label"],
        misleading_label=fields["misleading_label"],
        language=draft.language,
        difficulty=draft.difficulty,
        clarity=draft.clarity,
        num_words=draft.num_words,
        replica=draft.replica,
        prompt=reply.prompt.text,
        template=reply.prompt.template,
        model=reply.model,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        output_tokens=reply.output_tokens,
        raw_reply=clean_text(reply.text) if keep_raw else "",
        seed=draft.seed,
        repairs=parsed.repairs,
        bucket=draft.bucket,
    )


def is_example(prompt: Prompt, answer: Answer) -> bool:
    """Tells whether `read_example` would take an answer to a prompt."""
    _, parsed = _read(prompt, answer.text, answer.finish_reason)
    return isinstance(parsed, Parsed)


class _Parse(CountedMap):
    def process(self, element: Reply | Reject) -> Iterator[Example | Reject]:
        for result in super().process(element):
            for repair in result.repairs if isinstance(result, Example) else ():
                self.counters.add(f"repaired.{repair}")
            yield result


@dataclasses.dataclass(eq=False)
class ParseJSON(beam.PTransform):
    """Makes an Example of each Reply, or a Reject with the reason and the raw reply. Rejects pass through.

    Args:
      keep_raw: whether examples keep the reply as it came.
    """

    keep_raw: bool = False

    def expand(self, replies: beam.PCollection[Reply | Reject]) -> beam.PCollection[Example | Reject]:
        return replies | "Parse" >> beam.ParDo(_Parse(_STEP, functools.partial(read_example, keep_raw=self.keep_raw)))
