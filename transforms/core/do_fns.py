"""DoFns that several steps share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from textmint.transforms.core.elements import Prompt, Reject, Reply
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate, TemplateError


class MakePrompt(beam.DoFn):
    """Makes the prompt of each element, or a Reject where the template cannot be filled. Rejects pass through.

    Args:
      step: the name of the step that asks.
      prompt_of: makes the prompt of an element with a template.
      template: of the prompt.
    """

    def __init__(self, step: str, prompt_of: Callable[[Any, PromptTemplate], Prompt], template: PromptTemplate) -> None:
        self._step = step
        self._prompt_of = prompt_of
        self._template = template

    def process(self, subject: Any) -> Iterator[Prompt | Reject]:
        """Yields the prompt of an element."""
        if isinstance(subject, Reject):
            yield subject
            return
        try:
            yield self._prompt_of(subject, self._template)
        except TemplateError as error:
            yield Reject.of_template(subject, stage=self._step, template=self._template.name, detail=str(error))


class ReadReply(beam.DoFn):
    """Reads each reply, and counts what comes of it. Rejects pass through; those of other steps are not counted.

    Args:
      step: the name of the step that has asked.
      read: makes an element or a Reject of a reply.
    """

    def __init__(self, step: str, read: Callable[[Reply], Any]) -> None:
        self._step = step
        self._read = read
        self._counters = StepCounters(step)

    def process(self, reply: Reply | Reject) -> Iterator[Any]:
        """Yields what a reply holds."""
        result = reply if isinstance(reply, Reject) else self._read(reply)
        if not isinstance(result, Reject) or result.stage == self._step:
            self._counters.outcome(result)
        yield result
