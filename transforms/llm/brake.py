"""The brake of a capped run: a process asks no more when its replies take far more than was planned for them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Final

from textmint.transforms.core.elements import Kind
from textmint.transforms.llm.base import Answer

BRAKED: Final = "replies take more than was planned"
"""What the message of a run says that the brake ended."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What the replies of one process may take of one cap.

    Args:
      option: the cap, as the user gave it.
      weights: of a token of a prompt and of a reply, and what a reply is planned to take, by kind of prompt.
      slack: by how much the sum of replies may be above what was planned for them: chance, and what is in flight.
      most: what they may take in any case: all that is left of the cap.
    """

    option: str
    weights: tuple[tuple[Kind, tuple[int, int, int]], ...]
    slack: int
    most: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """The limits of each process of a run."""

    limits: tuple[Limit, ...]


class Taken:
    """Counts what the replies of one process take. It may be called from any thread."""

    def __init__(self, brake: Brake) -> None:
        self._limits = [(limit, dict(limit.weights), [0, 0]) for limit in brake.limits]
        self._lock = threading.Lock()

    def add(self, kind: Kind, answer: Answer) -> str | None:
        """Counts a reply. Returns why no more may be asked; None while all is well."""
        problem = None
        with self._lock:
            for limit, weights, sums in self._limits:
                prompt, output, planned = weights[kind]
                sums[0] += prompt * answer.prompt_tokens + output * answer.output_tokens
                sums[1] += planned
                if sums[0] >= limit.most or sums[0] > sums[1] + limit.slack:
                    problem = f"{limit.option}: {BRAKED}"
        return problem


def planned_by_kind(by_step: Mapping[str, tuple[int, int, int]]) -> tuple[tuple[Kind, tuple[int, int, int]], ...]:
    """Arranges what is known of each step by the kinds of prompts that it asks."""
    kinds: Mapping[Kind, str] = {
        "task_list": "TaskGenerate",
        "label_set": "PlanLabels",
        "example": "LLMCall",
        "planned_example": "LLMCall",
        "choice": "VerifyLabels",
    }
    return tuple((kind, by_step[step]) for kind, step in kinds.items() if step in by_step)
