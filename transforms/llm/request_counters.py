"""What requests took: Beam's metrics, and the same for the line of progress."""

from __future__ import annotations

from textmint.transforms.core import metrics, progress
from textmint.transforms.core.elements import Usage
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.llm.prices import Price

_PICODOLLARS = 1_000_000  # in a micro-dollar


class RequestCounters:
    """Counts what requests of one step took; `StepCounters` says from where it may be called.

    Beam's counters are whole numbers: what is less than a second, or a micro-dollar, waits for the next request.
    """

    def __init__(self, counters: StepCounters, price: Price | None) -> None:
        self._counters = counters
        self._price = price
        self._throttled_ms = 0
        self._picodollars = 0

    def count(self, usage: Usage) -> None:
        """Counts a request that has ended."""
        add, tokens = self._counters.add, (usage.prompt_tokens, usage.output_tokens)
        add(metrics.REQUESTS, usage.requests)
        add("requests.retries", usage.retries)
        add(metrics.THROTTLED, usage.throttled)
        for option in usage.left_out:
            add(f"left_out.{option}")
        seconds, self._throttled_ms = divmod(self._throttled_ms + usage.throttled_ms, 1_000)
        if seconds:
            add(metrics.THROTTLED_SECONDS, seconds)
        for latency in usage.latencies_ms:  # it was answered
            self._count_answer(*tokens, latency)

    def _count_answer(self, prompt_tokens: int, output_tokens: int, latency: int) -> None:
        self._counters.add(metrics.INPUT_TOKENS, prompt_tokens)
        self._counters.add(metrics.OUTPUT_TOKENS, output_tokens)
        self._counters.record(metrics.INPUT_TOKENS_EACH, prompt_tokens)
        self._counters.record(metrics.OUTPUT_TOKENS_EACH, output_tokens)
        self._counters.record(metrics.DURATION, latency)
        progress.add(progress.TOKENS, prompt_tokens + output_tokens)
        if self._price is None:
            progress.add(progress.UNPRICED, prompt_tokens + output_tokens)
            return
        cost = self._price.cost(prompt_tokens, output_tokens)
        progress.add(progress.PICODOLLARS, cost)
        dollars, self._picodollars = divmod(self._picodollars + cost, _PICODOLLARS)
        self._counters.add(metrics.COST, dollars)
