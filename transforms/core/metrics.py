"""Beam's counters for the steps: namespace = the step, names `in`, `kept`, `rejected.<reason>` and so on."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics.metric import Metrics
from textmint.transforms.core.elements import Reject


class StepCounters:
    """The counters of one step. Beam drops what is counted on another thread than the bundle's, without a word: call
    it from `process` and `finish_bundle` only."""

    def __init__(self, step: str) -> None:
        self.step = step
        self._counters: dict[str, Any] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Adds to the counter `name` of this step."""
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Metrics.counter(self.step, name)
        counter.inc(amount)

    def outcome(self, element: object) -> None:
        """Counts an element that leaves the step: `kept`, or `rejected.<reason>`."""
        self.add(f"rejected.{element.reason}" if isinstance(element, Reject) else "kept")
