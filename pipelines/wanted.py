"""Is a reply worth a row? It is what `--retry_rejects` asks again for where it is not."""

from __future__ import annotations

import dataclasses

from transforms.elements import Example, Prompt, Reply, Usage
from transforms.llm.base import Answer
from transforms.parse_json import read_example
from transforms.quality import Checks, find_fault


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked and answered -> whether its example would pass the checks.

    Args:
      checks: of one example by itself.
    """

    checks: Checks

    def __call__(self, prompt: Prompt, answer: Answer) -> bool:
        """-> False too where there is no example in the answer."""
        reply = Reply(
            prompt=prompt,
            request_id="",
            text=answer.text,
            finish_reason=answer.finish_reason,
            model=answer.model,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            usage=Usage(),
        )
        example = read_example(reply, keep_raw=False)
        return isinstance(example, Example) and find_fault(example, self.checks) is None
