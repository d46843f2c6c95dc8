"""The limiter: how many requests may be in flight, and when the next one may start. Plain arithmetic, no clock.

An endpoint that has no room answers 429, and how much room it has is found by trying: the window of requests in flight
shrinks when too many are refused and grows again when few are (AIMD: Chiu and Jain, "Analysis of the increase and
decrease algorithms", 1989). Three things differ from TCP, because a refusal here is cheap and comes at once, while an
answer takes seconds:

- The window shrinks towards what was answered: rate times latency is the number of requests that the endpoint had
  accepted (Little's law). An epoch lasts two latencies, so that the answers to what it started have come in.
- A small share of refusals is left alone: an endpoint that sheds a few requests at random would otherwise be driven
  far below its rate.
- While the window is below its maximum, starts are spaced by latency / window. A window may so be less than one
  request, which is what a slow quota on a fast endpoint needs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final, Literal

Outcome = Literal["answered", "throttled", "failed"]

_TOLERATED: Final = 0.10  # share of refusals that an endpoint may shed at random; above it by ...
_MARGIN: Final = 0.08  # ... so much, and ...
_SIGMAS: Final = 2.0  # ... by so many standard deviations, the window shrinks
_GROW_BELOW: Final = 0.12
_GROWTH_FREE: Final = 1.25  # after an epoch without a refusal
_GROWTH: Final = 1.05  # after an epoch with a few
_HEADROOM: Final = 1.05  # over what was answered, to find out when there is more room
_LEAST_FACTOR: Final = 0.1  # one epoch shrinks the window to no less than that
_LEAST_WINDOW: Final = 0.05
_EPOCH_SECONDS: Final = 0.5  # at least
_EPOCH_LATENCIES: Final = 2.0  # at least
_SHARE_OUTCOMES: Final = 20  # at least so many tell a share
_FREE_OUTCOMES: Final = 3  # without a refusal
_IN_A_ROW: Final = 4  # refusals with no answer between; then all wait
_FIRST_HOLD: Final = 0.02  # seconds, where the endpoint names no time; doubled as long as nobody is answered
_LONGEST_OWN_HOLD: Final = 1.0
_SMOOTHING: Final = 0.1  # of the mean latency and the mean tokens of a reply
LONGEST_HOLD: Final = 60.0
"""Seconds that a Retry-After is obeyed for. Limits of a day are given in hours; one request a minute finds out as well
when they are over, and nobody is asked to look at a run that stands still."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the user allows one process. A value that lets no request start raises ValueError."""

    max_concurrency: int = 64  # requests in flight
    requests_per_minute: float | None = None  # None: no cap
    tokens_per_minute: float | None = None  # of prompts and replies together; None: no cap

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise ValueError(f"max_concurrency is {self.max_concurrency}, but must be 1 or more")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, but must be above 0, or None for no cap")


class _Bucket:
    """A token bucket that may go into debt: a cap on a rate, with one second of burst."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60
        self._capacity = max(1.0, self._rate)
        self._level = self._capacity
        self._at = now

    def delay(self, now: float) -> float:
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._level >= 1.0 - 1e-9 else (1.0 - self._level) / self._rate

    def take(self, amount: float) -> None:
        self._level -= amount


class Limiter:
    """Decides for one process when the next request starts. Times are seconds of any clock that only goes forward."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.window = float(limits.max_concurrency)
        self.in_flight = 0
        self._latency = 0.0
        self._output_tokens = 0.0
        self._answered = self._refused = 0
        self._epoch = now
        self._limited = False  # was a start held back by the window in this epoch?
        self._refused_in_a_row = 0
        self._holds = 0
        self._hold_until = now
        self._next_start = now
        self._requests = _Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = _Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None

    @property
    def is_throttled(self) -> bool:
        """Whether the endpoint, not the user, keeps the window below its maximum."""
        return self.window < self._limits.max_concurrency

    def throttle_delay(self, now: float) -> float:
        """Returns the seconds until the endpoint's throttling lets the next request start; infinity when a request must
        end first."""
        if now < self._hold_until:
            return self._hold_until - now
        if not self.is_throttled:
            return 0.0
        delay = math.inf if self.in_flight >= math.ceil(self.window) else max(0.0, self._next_start - now)
        self._limited = self._limited or delay > 0
        return delay

    def delay(self, now: float) -> float:
        """Returns the seconds until the next request may start; infinity when a request must end first."""
        if self.in_flight >= self._limits.max_concurrency:
            return math.inf
        delay = self.throttle_delay(now)
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                delay = max(delay, bucket.delay(now))
        return delay

    def start(self, now: float, prompt_tokens: int) -> float:
        """Counts the start of a request, and returns the tokens that are reserved for it, to be given to `finish`."""
        self.in_flight += 1
        if self.is_throttled:
            self._next_start = max(now, self._next_start) + self._latency / self.window
        if self._requests is not None:
            self._requests.take(1)
        reserved = prompt_tokens + self._output_tokens
        if self._tokens is not None:
            self._tokens.take(reserved)
        return reserved

    def finish(
        self,
        now: float,
        outcome: Outcome,
        *,
        latency: float = 0.0,
        reserved: float = 0.0,
        tokens: int = 0,
        output_tokens: int = 0,
        retry_after: float | None = None,
    ) -> None:
        """Counts the end of a request, for which `start` reserved tokens. One that failed says nothing of the room that
        the endpoint has."""
        self.in_flight -= 1
        if self._tokens is not None:
            self._tokens.take(tokens - reserved)
        if outcome == "answered":
            self._answered += 1
            self._refused_in_a_row = self._holds = 0
            self._latency = _smoothed(self._latency, latency)
            self._output_tokens = _smoothed(self._output_tokens, output_tokens)
        elif outcome == "throttled":
            self._refused += 1
            self._refused_in_a_row += 1
            self._hold(now, retry_after)
        self._adapt(now)

    def _hold(self, now: float, retry_after: float | None) -> None:
        """Nobody is answered: all wait, for the time that the endpoint names or a short one of our own. Refusals come
        back sooner than answers, so they must outnumber what is still in flight to tell that."""
        if self._refused_in_a_row < max(_IN_A_ROW, self.in_flight) or now < self._hold_until:
            return
        wait = min(_LONGEST_OWN_HOLD, _FIRST_HOLD * 2**self._holds)
        self._holds = min(self._holds + 1, 16)
        self._hold_until = now + (wait if retry_after is None else min(retry_after, LONGEST_HOLD))

    def _adapt(self, now: float) -> None:
        """Ends the epoch where it has lasted long enough, and shrinks or grows the window."""
        outcomes = self._answered + self._refused
        lasted = now - self._epoch
        enough = _SHARE_OUTCOMES if self._refused else _FREE_OUTCOMES
        if lasted < max(_EPOCH_SECONDS, _EPOCH_LATENCIES * self._latency) or outcomes < enough:
            return
        share = self._refused / outcomes
        if share > _TOLERATED + max(_MARGIN, _SIGMAS * math.sqrt(_TOLERATED * (1 - _TOLERATED) / outcomes)):
            accepted = self._answered / lasted * self._latency
            aim = max(accepted * _HEADROOM, self.window * (1 - share))  # the first is too low after a hold
            # Where nobody is answered, the rate is not known: holds space the starts then, and a window of less than
            # one would take minutes to grow again after an outage.
            least = _LEAST_WINDOW if self._answered else min(1.0, self.window)
            self.window = max(least, self.window * _LEAST_FACTOR, min(self.window, aim))
            self._next_start = now
        elif share < _GROW_BELOW and self._limited:
            growth = _GROWTH if self._refused else _GROWTH_FREE
            self.window = min(float(self._limits.max_concurrency), self.window * growth)
        self._answered = self._refused = 0
        self._epoch = now
        self._limited = False


def _smoothed(mean: float, value: float) -> float:
    return value if mean == 0 else mean + _SMOOTHING * (value - mean)
