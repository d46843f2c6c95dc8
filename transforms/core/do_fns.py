"""DoFns that several steps share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from textmint.transforms.core import progress
from textmint.transforms.core.elements import Prompt, Reject, Reply
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate, TemplateError


class CountedMap(beam.DoFn):
    """Makes an element or a Reject of each element, and counts both. Rejects pass through."""

    def __init__(self, step: str, function: Callable[[Any], Any]) -> None:
        self._function = function
        self.counters = StepCounters(step)

    def process(self, element: Any) -> Iterator[Any]:
        """Yields the result for an element."""
        if isinstance(element, Reject):
            yield element
            return
        self.counters.add("in")
        result = self._function(element)
        self.counters.outcome(result)
        yield result


class MakePrompt(beam.DoFn):
    """Makes the prompt of each element, or a Reject where the template cannot be filled. Rejects pass through."""

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
            progress.add(f"{self._step}.failed")
            yield Reject.of_template(subject, stage=self._step, template=self._template.name, detail=str(error))


class ReadReply(beam.DoFn):
    """Reads each reply, and counts the results. Rejects pass through; those of other steps are not counted."""

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
