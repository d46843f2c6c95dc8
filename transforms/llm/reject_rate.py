"""How many of the replies that are paid for bring no row: a run that pays for rubbish is to end early."""

from __future__ import annotations

import collections
import threading
from typing import Final, Protocol

from textmint.transforms.core.elements import Kind
from textmint.transforms.core.texts import printable_line

MOST: Final = 0.8
"""The share of refused replies above which a run ends by default. Real small models had 0.77 of their replies refused
(see the README), and their users may still want what is left."""
RECENT: Final = 500  # replies that the share is taken of
FEWEST: Final = 200  # replies before which nothing is said: a small run is never ended
_REASONS: Final = 3  # that are named
_EXAMPLE_CHARS: Final = 160
_DETAIL_CHARS: Final = 100
_ASKED_FOR: Final[dict[Kind, str]] = {
    "task_list": "lists of tasks",
    "label_set": "labels of tasks",
    "example": "examples",
    "planned_example": "examples",
    "choice": "choices between labels",
}


class Fault(Protocol):
    """Why a reply brings no row."""

    @property
    def reason(self) -> str:
        """One of elements.REASONS."""

    @property
    def detail(self) -> str:
        """One line for a person."""


class RejectRate:
    """Counts the replies to prompts of one kind in one process, of which the share `most` may be refused. It may be
    called from any thread."""

    def __init__(self, kind: Kind, most: float) -> None:
        self._kind = kind
        self._most = most
        self._lock = threading.Lock()
        self._recent: collections.deque[str | None] = collections.deque(maxlen=RECENT)  # the reason, or None
        self._refused = 0  # of these
        self._examples: dict[str, tuple[str, str]] = {}  # by reason, the last detail and reply

    def add(self, fault: Fault | None, text: str) -> tuple[str, str] | None:
        """Counts one reply and why it brings no row. Returns what is wrong with too many and what can be done, a line
        each; None while all is well."""
        with self._lock:
            if len(self._recent) == RECENT and self._recent[0] is not None:
                self._refused -= 1
            self._recent.append(fault.reason if fault else None)
            if fault is not None:
                self._refused += 1
                self._examples[fault.reason] = fault.detail, text
            if len(self._recent) < FEWEST or self._refused <= self._most * len(self._recent):
                return None
            return self._describe(collections.Counter(reason for reason in self._recent if reason is not None))

    def _describe(self, refused: collections.Counter[str]) -> tuple[str, str]:
        ordered = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
        reasons = ", ".join(f"{count} {reason}" for reason, count in ordered[:_REASONS])
        detail, text = self._examples[ordered[0][0]]
        return (
            f"{refused.total()} of the last {len(self._recent)} replies for {_ASKED_FOR[self._kind]} were refused, "
            f"more than --max_reject_rate={self._most:g} of them: {reasons}",
            "mend the prompt or the checks, take another model, or go on with "
            f"--max_reject_rate=1. The last that was {ordered[0][0]} ({printable_line(detail, _DETAIL_CHARS)}): "
            f"{printable_line(text, _EXAMPLE_CHARS) or 'an empty reply'}",
        )
