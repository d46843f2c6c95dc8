"""Decides whether a reply is worth a row. If not, `--retry_rejects` asks again, and `--max_reject_rate` counts it."""

from __future__ import annotations

import dataclasses

from textmint.transforms.core.elements import Prompt, Reject, Reply, Usage
from textmint.transforms.llm.attempts import answer_fields
from textmint.transforms.llm.base import Answer
from textmint.transforms.llm.reject_rate import Fault
from textmint.transforms.parse_json import read_example
from textmint.transforms.quality.check_quality import fault_in
from textmint.transforms.quality.checks import Checks


@dataclasses.dataclass(frozen=True, slots=True)
class PassesChecks:
    """Decides whether the example in an answer would pass the checks."""

    checks: Checks

    def __call__(self, prompt: Prompt, answer: Answer) -> bool:
        """Returns whether the answer holds an example that passes."""
        return self.fault_of(prompt, answer) is None

    def fault_of(self, prompt: Prompt, answer: Answer) -> Fault | None:
        """Returns what keeps an example from being read, or the first check that it fails; None if it is good."""
        reply = Reply(prompt=prompt, request_id="", usage=Usage(), **answer_fields(answer))
        example = read_example(reply, keep_raw=False)
        return example if isinstance(example, Reject) else fault_in(example, self.checks)
