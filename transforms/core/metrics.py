"""Beam's metrics of the steps: namespace = the step, names `in`, `kept`, `rejected.<reason>` and so on.

What OpenTelemetry has a name for has that name, of its conventions for generative AI, v0.1.0:
https://github.com/open-telemetry/semantic-conventions-genai/blob/v0.1.0/docs/gen-ai/client-inference.md
Beam's metrics have no attributes: the namespace tells the step, and the manifest the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from apache_beam.metrics.metric import Metrics
from textmint.transforms.core.elements import Reject

INPUT_TOKENS: Final = "gen_ai.client.inference.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.client.inference.usage.output_tokens"
INPUT_TOKENS_EACH: Final = "gen_ai.client.inference.operation.input_tokens"
"""A distribution: the prompt tokens of each request that was answered."""
OUTPUT_TOKENS_EACH: Final = "gen_ai.client.inference.operation.output_tokens"
DURATION: Final = "gen_ai.client.inference.duration"
"""A distribution, in milliseconds: those of Beam hold whole numbers, so the convention's seconds are too coarse."""
REQUESTS: Final = "requests.sent"
THROTTLED: Final = "requests.throttled"
"""Of the requests that were sent, those that the endpoint had no room for (429, and overload in its own words)."""
COST: Final = "cost.micro_usd"
"""Millionths of a US dollar, where the price of the model is known."""
THROTTLED_SECONDS: Final = "cumulativeThrottlingSeconds"
"""Time that more workers would not help with. Dataflow's autoscaler looks for this name
(apache_beam/ml/inference/base.py, RemoteModelHandler)."""


class StepCounters:
    """The metrics of one step. Beam drops what is counted on another thread than the bundle's, without a word: call it
    from `process` and `finish_bundle` only."""

    def __init__(self, step: str) -> None:
        self.step = step
        self._metrics: dict[str, Any] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Adds to the counter `name` of this step."""
        self._metric(Metrics.counter, name).inc(amount)

    def record(self, name: str, value: int) -> None:
        """Adds a value to the distribution `name` of this step."""
        self._metric(Metrics.distribution, name).update(value)

    def _metric(self, kind: Callable[[str, str], Any], name: str) -> Any:
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = kind(self.step, name)
        return metric

    def outcome(self, element: object) -> None:
        """Counts an element that leaves the step: `kept`, or `rejected.<reason>`."""
        self.add(f"rejected.{element.reason}" if isinstance(element, Reject) else "kept")
