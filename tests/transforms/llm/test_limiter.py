"""The limiter, against simulated endpoints: it fills what there is room for, and no more. No clock, no waiting."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.identity import UNIT, fraction
from textmint.transforms.llm.limiter import LONGEST_HOLD, Limiter, Limits, Outcome


def unit(*parts: Any) -> float:
    return fraction("limiter test", *parts) / UNIT


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of a request, and seconds until it is known."""

    outcome: Outcome
    after: float
    retry_after: float | None = None


Endpoint = Callable[[float, int, int], Fate]
"""Tells what becomes of a request, by the time, its number and how many are being answered."""

REFUSED_AFTER = 0.002  # seconds that a refusal takes


def endless(latency: float) -> Endpoint:
    return lambda now, number, busy: Fate("answered", latency * (0.75 + 0.5 * unit("latency", number)))


class Rated:
    """An endpoint that takes so many requests a second, with a burst of 5, and refuses the others."""

    def __init__(self, per_second: float, latency: float, retry_after: float | None = None) -> None:
        self.per_second = per_second
        self.latency = latency
        self.retry_after = retry_after
        self.level = 5.0
        self.at = 0.0

    def __call__(self, now: float, number: int, busy: int) -> Fate:
        self.level = min(5.0, self.level + (now - self.at) * self.per_second)
        self.at = now
        if self.level < 1:
            return Fate("throttled", REFUSED_AFTER, self.retry_after)
        self.level -= 1
        return Fate("answered", self.latency * (0.75 + 0.5 * unit("latency", number)))


def roomy(most: int, latency: float) -> Endpoint:
    """An endpoint that answers so many requests at once."""

    def play(now: float, number: int, busy: int) -> Fate:
        if busy >= most:
            return Fate("throttled", REFUSED_AFTER)
        return Fate("answered", latency * (0.75 + 0.5 * unit("latency", number)))

    return play


class Simulation:
    """A limiter with no end of requests to send, and an endpoint. Refused requests come back after a while, as the
    engine's do, and go before new ones."""

    def __init__(self, limits: Limits, endpoint: Endpoint, tokens: tuple[int, int] = (0, 0)) -> None:
        self.limiter = Limiter(limits, 0.0)
        self.limits = limits
        self.endpoint = endpoint
        self.tokens = tokens  # of each prompt and each reply
        self.now = 0.0
        self.busy = 0  # what the endpoint is answering
        self.most_in_flight = 0
        self.starts: list[float] = []
        self.ends: list[tuple[float, Outcome]] = []
        self.windows: list[tuple[float, float]] = []  # at each end
        self._events: list[tuple[float, int, Any]] = []
        self._ties = itertools.count()
        self._parked: list[float] = []
        self._numbers = itertools.count()
        self._wake_at = math.inf

    def run(self, until: float) -> Simulation:
        self._fill()
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            if event is None:
                self._wake_at = math.inf
            else:
                self._end(*event)
            self._fill()
        self.now = until
        return self

    def _end(self, fate: Fate, reserved: float) -> None:
        self.busy -= fate.outcome == "answered"
        answered = fate.outcome == "answered"
        self.limiter.finish(
            self.now,
            fate.outcome,
            latency=fate.after,
            reserved=reserved,
            tokens=sum(self.tokens) if answered else 0,
            output_tokens=self.tokens[1] if answered else 0,
            retry_after=fate.retry_after,
        )
        self.ends.append((self.now, fate.outcome))
        self.windows.append((self.now, self.limiter.window))
        if fate.outcome == "throttled":
            wait = 0.25 * unit("wait", len(self.ends))
            if fate.retry_after is not None:
                wait = fate.retry_after + wait / 10
            heapq.heappush(self._parked, self.now + wait)

    def _fill(self) -> None:
        while (delay := self.limiter.delay(self.now)) <= 0:
            if self._parked and self._parked[0] <= self.now:
                heapq.heappop(self._parked)
            reserved = self.limiter.start(self.now, self.tokens[0])
            self.starts.append(self.now)
            self.most_in_flight = max(self.most_in_flight, self.limiter.in_flight)
            fate = self.endpoint(self.now, next(self._numbers), self.busy)
            self.busy += fate.outcome == "answered"
            heapq.heappush(self._events, (self.now + fate.after, next(self._ties), (fate, reserved)))
        if delay < math.inf and self.now + delay < self._wake_at:
            self._wake_at = self.now + delay
            heapq.heappush(self._events, (self._wake_at, next(self._ties), None))

    def count(self, outcome: Outcome, since: float = 0.0, until: float = math.inf) -> int:
        return sum(1 for at, which in self.ends if which == outcome and since <= at < until)

    def share_refused(self, since: float) -> float:
        refused = self.count("throttled", since)
        return refused / (refused + self.count("answered", since))

    def busiest(self, seconds: float) -> int:
        """Counts the most requests that were started within any stretch of so many seconds."""
        return max(bisect.bisect_left(self.starts, at + seconds) - index for index, at in enumerate(self.starts))


# --- the window


@pytest.mark.parametrize("latency", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("most", [1, 7, 64])
def test_an_endpoint_without_limit_is_kept_busy_to_the_maximum_and_no_further(most: int, latency: float) -> None:
    played = Simulation(Limits(max_concurrency=most), endless(latency or 0.001)).run(5.0 if latency else 0.2)
    assert played.most_in_flight == most
    assert played.limiter.in_flight == most
    assert played.limiter.window == most
    assert not played.limiter.is_throttled


OUTCOMES = st.sampled_from(["answered", "answered", "throttled", "failed"])


@settings(max_examples=60)
@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(OUTCOMES, st.floats(0.001, 2.0), st.none() | st.floats(0.0, 1e6), st.floats(0.0, 1.0)),
        min_size=1,
        max_size=200,
    ),
)
def test_never_more_than_the_maximum_in_flight_and_never_stuck(
    most: int, fates: list[tuple[Outcome, float, float | None, float]]
) -> None:
    """Whatever comes back, in whatever order: an idle limiter always lets a request start, soon or at a known time."""
    limiter = Limiter(Limits(max_concurrency=most), 0.0)
    now = 0.0
    out: list[float] = []
    for outcome, latency, retry_after, step in fates:
        now += step
        while limiter.delay(now) == 0:
            out.append(limiter.start(now, 10))
            assert limiter.in_flight == len(out) <= most
        if not out:
            delay = limiter.delay(now)
            assert 0 < delay <= LONGEST_HOLD + 50  # a window of 0.05 and a latency of 2 s: 40 s between starts
            now += delay + 1e-6
            assert limiter.delay(now) == 0
            out.append(limiter.start(now, 10))
        limiter.finish(now, outcome, latency=latency, reserved=out.pop(), retry_after=retry_after)
        assert 0 < limiter.window <= most
        assert limiter.throttle_delay(now) <= max(limiter.delay(now), 0)


def test_requests_that_are_shed_at_random_do_not_shrink_the_window() -> None:
    latency = 0.2

    def shedding(now: float, number: int, busy: int) -> Fate:
        if unit("shed", number) < 0.1:
            return Fate("throttled", REFUSED_AFTER)
        return Fate("answered", latency * (0.75 + 0.5 * unit("latency", number)))

    played = Simulation(Limits(max_concurrency=64), shedding).run(40.0)
    assert played.count("answered", since=5.0) / 35.0 >= 0.85 * 64 / latency
    assert played.share_refused(5.0) == pytest.approx(0.1, abs=0.01)
    later = [window for at, window in played.windows if at > 5.0]
    assert sum(later) / len(later) > 0.85 * 64


def test_failures_that_are_no_refusals_leave_the_window_alone() -> None:
    def failing(now: float, number: int, busy: int) -> Fate:
        return Fate("failed" if unit("fail", number) < 0.5 else "answered", 0.1)

    played = Simulation(Limits(max_concurrency=32), failing).run(10.0)
    assert played.limiter.window == 32
    assert len(played.starts) >= 0.98 * 32 / 0.1 * 10


# --- an endpoint with a rate


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("latency", [0.05, 0.5, 2.0])
def test_a_rate_of_twenty_a_second_is_used_and_seldom_overrun(latency: float, retry_after: float | None) -> None:
    played = Simulation(Limits(max_concurrency=64), Rated(20.0, latency, retry_after)).run(120.0)
    assert played.count("answered", since=30.0) / 90.0 >= 18.0
    assert played.share_refused(30.0) < 0.25
    assert played.most_in_flight <= 64


@pytest.mark.parametrize(("per_second", "latency"), [(0.5, 0.3), (2.0, 0.05), (200.0, 0.2)])
def test_other_rates_are_found_too(per_second: float, latency: float) -> None:
    """The slow ones need a window of less than one request."""
    played = Simulation(Limits(max_concurrency=64), Rated(per_second, latency)).run(300.0 if per_second < 5 else 60.0)
    middle = played.now / 2
    assert played.count("answered", since=middle) / (played.now - middle) >= 0.8 * per_second
    assert played.share_refused(middle) < 0.35


def test_starts_are_spread_while_the_window_is_narrow() -> None:
    """Not a burst a second: half a second hardly ever sees more than its share of starts."""
    played = Simulation(Limits(max_concurrency=64), Rated(20.0, 0.5)).run(90.0)
    halves = collections.Counter(int(at * 2) for at in played.starts if at >= 45.0)
    assert max(halves.values()) <= 20  # a share is 10


# --- an endpoint with room for some


@pytest.mark.parametrize("latency", [0.1, 1.0])
def test_the_room_of_an_endpoint_is_found(latency: float) -> None:
    played = Simulation(Limits(max_concurrency=64), roomy(10, latency)).run(120.0)
    assert played.count("answered", since=30.0) / 90.0 >= 0.85 * 10 / latency
    assert played.share_refused(30.0) < 0.25
    later = [window for at, window in played.windows if at > 30.0]
    assert 8 <= sum(later) / len(later) <= 16


def test_the_window_recovers_within_seconds_once_throttling_ends() -> None:
    limits = Limits(max_concurrency=64)
    rated, free = Rated(20.0, 0.2), endless(0.2)
    played = Simulation(limits, lambda *seen: rated(*seen) if seen[0] < 40.0 else free(*seen)).run(40.0)
    assert played.limiter.window < 16
    assert played.limiter.is_throttled
    played.run(52.0)
    assert played.limiter.window == 64
    assert not played.limiter.is_throttled
    assert played.limiter.in_flight == 64


# --- holds


def refuse_all(limiter: Limiter, now: float, count: int, retry_after: float | None = None) -> None:
    reserved = [limiter.start(now, 1) for _ in range(count)]
    for each in reserved:
        limiter.finish(now, "throttled", reserved=each, retry_after=retry_after)


def test_when_nobody_is_answered_all_wait_as_long_as_is_asked() -> None:
    limiter = Limiter(Limits(max_concurrency=8), 0.0)
    refuse_all(limiter, 1.0, 8, retry_after=7.0)
    assert limiter.delay(1.0) == pytest.approx(7.0)
    assert limiter.throttle_delay(5.0) == pytest.approx(3.0)
    assert limiter.delay(8.01) < 1.0


def test_a_wait_that_is_asked_for_has_an_end() -> None:
    limiter = Limiter(Limits(max_concurrency=8), 0.0)
    refuse_all(limiter, 1.0, 8, retry_after=1e9)
    assert limiter.delay(1.0) == pytest.approx(LONGEST_HOLD)


def test_without_a_time_the_waits_of_our_own_double_up_to_a_second() -> None:
    limiter = Limiter(Limits(max_concurrency=4), 0.0)
    now, waits = 0.0, []
    for _ in range(12):
        refuse_all(limiter, now, max(1, limiter.in_flight or 4))
        delay = limiter.throttle_delay(now)
        waits.append(delay)
        now += delay + 1e-6
    assert 0 < waits[0] < 0.1
    assert all(before <= after + 1e-9 for before, after in itertools.pairwise(waits))
    assert waits[-1] == pytest.approx(1.0)


def test_one_answer_ends_the_row_of_refusals() -> None:
    limiter = Limiter(Limits(max_concurrency=8), 0.0)
    for _ in range(30):
        reserved = [limiter.start(0.0, 1) for _ in range(8)]
        for number, each in enumerate(reserved):
            limiter.finish(0.0, "answered" if number % 4 == 3 else "throttled", reserved=each, retry_after=60.0)
        assert limiter.throttle_delay(0.0) == 0


def test_refusals_do_not_hold_while_most_are_still_being_answered() -> None:
    limiter = Limiter(Limits(max_concurrency=64), 0.0)
    reserved = [limiter.start(0.0, 1) for _ in range(64)]
    for each in reserved[:20]:
        limiter.finish(0.01, "throttled", reserved=each, retry_after=60.0)
    assert limiter.throttle_delay(0.01) == 0


def test_an_outage_costs_few_requests_and_is_soon_forgotten() -> None:
    """Everything is refused for half a minute: some tries a second, not thousands; then the window grows again."""
    played = Simulation(
        Limits(max_concurrency=64),
        lambda now, number, busy: (
            Fate("throttled", REFUSED_AFTER) if 5.0 <= now < 35.0 else endless(0.2)(now, number, busy)
        ),
    ).run(55.0)
    assert played.count("throttled", since=6.0, until=35.0) < 300
    assert played.limiter.window == 64


# --- what the user allows


@pytest.mark.parametrize("per_minute", [30.0, 600.0, 6000.0])
def test_requests_per_minute_holds_over_any_minute(per_minute: float) -> None:
    played = Simulation(Limits(max_concurrency=64, requests_per_minute=per_minute), endless(0.1)).run(130.0)
    allowed = per_minute + max(1.0, per_minute / 60)
    assert played.busiest(60.0) <= allowed + 1e-6 + 1  # the start that begins the stretch
    assert len(played.starts) >= 0.97 * per_minute * 130 / 60
    assert not played.limiter.is_throttled  # the user does that, not the endpoint
    assert played.limiter.throttle_delay(played.now) == 0


@pytest.mark.parametrize("reply", [0, 60, 400])
def test_tokens_per_minute_holds_over_any_minute(reply: int) -> None:
    per_minute, prompt = 60_000.0, 100
    limits = Limits(max_concurrency=16, tokens_per_minute=per_minute)
    played = Simulation(limits, endless(0.2), tokens=(prompt, reply)).run(150.0)
    each = prompt + reply
    # At first the length of a reply is not known: what is in flight then may lie above the cap.
    unknown = 16 * reply
    steady = [at for at in played.starts if at >= 60.0]
    for begin in range(60, 90):
        taken = each * sum(1 for at in steady if begin <= at < begin + 60)
        assert taken <= per_minute + per_minute / 60 + each
        assert taken >= 0.95 * per_minute
    assert each * sum(1 for at in played.starts if at < 60) <= per_minute + per_minute / 60 + unknown + each


def test_a_request_larger_than_the_cap_still_goes_out_and_is_paid_off() -> None:
    played = Simulation(Limits(tokens_per_minute=600.0), endless(0.1), tokens=(1000, 200)).run(600.0)
    assert 4 <= len(played.starts) <= 7  # 600 s allow 6,000 tokens


def test_tokens_that_were_set_aside_and_not_used_are_given_back() -> None:
    limiter = Limiter(Limits(tokens_per_minute=60.0), 0.0)
    reserved = limiter.start(0.0, 500)
    assert limiter.delay(0.0) > 400
    limiter.finish(0.0, "failed", reserved=reserved)
    assert limiter.delay(0.0) == 0
