"""The engine: every request ends exactly once, whatever the back end does, and no money is spent on a hopeless run."""

from __future__ import annotations

import asyncio
import collections
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.llm import engine as engine_module
from textmint.transforms.llm import limiter as limiter_module
from textmint.transforms.llm import retry as retry_module
from textmint.transforms.llm.base import (
    FatalError,
    Refused,
    Request,
    RequestError,
    Throttled,
    Transient,
)
from textmint.transforms.llm.engine import Engine, Settings, close_engines, engine_for
from textmint.transforms.llm.jobs import Done
from textmint.transforms.llm.limiter import Limits
from textmint.transforms.llm.reply_keeper import ReplyKeeper
from textmint.transforms.llm.retry import backoff

from tests.support.scripted_engine import Running, Scripted, all_doomed, running, seen_by, texts


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a quarter of a second there is a millisecond here."""
    monkeypatch.setattr(retry_module, "_BACKOFF", (0.001, 4.0, 60.0))
    monkeypatch.setattr(retry_module, "_BACKOFF_WHEN_WELL", (0.001, 2.0, 0.01))


def first_fails_with(*faults: Any) -> Callable[[Request, int], Any]:
    """The requests that come first, of whatever prompt, meet these faults."""
    left = collections.deque(faults)
    return lambda request, visit: left.popleft() if left else None


# --- the ordinary case


def test_each_request_gets_its_own_answer() -> None:
    with running(wait=0.002, max_concurrency=16) as run:
        found = run.answers(texts(200))
    assert {token: done.answer.text for token, done in found.items() if done.answer} == {t: t for t in texts(200)}
    assert all((done.error, done.sent) == (None, 1) for done in found.values())
    assert all(0.001 < done.latency < 5 for done in found.values())
    assert set(run.seen.visits.values()) == {1}
    assert (run.seen.opened, run.seen.closed, len(run.seen.threads), run.seen.most) == (1, 1, 1, 16)


def test_a_slow_one_holds_nobody_back() -> None:
    with running(lambda request, visit: 0.4 if request.text == "prompt 1" else 0.005, max_concurrency=4) as run:
        run.ask(texts(60))
        order = [run.done.get(timeout=5).token for _ in range(60)]
    assert order[-1] == "prompt 1"


def test_no_more_is_asked_once_the_process_that_started_the_run_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of a command of the user's own do not watch their launcher themselves."""
    with subprocess.Popen(["sleep", "60"]) as launcher:
        monkeypatch.setenv(engine_module.LAUNCHER, str(launcher.pid))
        monkeypatch.setattr(engine_module, "_LAUNCHER_SECONDS", 0.0)
        with running(max_concurrency=2) as run:
            assert all(done.answer for done in run.answers(texts(5)).values())
            launcher.kill()
            launcher.wait()
            error = all_doomed(run.answers(["late", "later"]))
    assert error.detail == "the process that started the run is gone"
    assert run.seen.visits.total() == 5


# --- the probe


def test_the_first_request_is_alone_until_it_is_answered() -> None:
    with running(lambda request, visit: 0.05, max_concurrency=8) as run:
        run.ask(texts(9))
        run.done.get(timeout=5)
        assert [text for text, _ in run.seen.calls[:1]] == ["prompt 0"]
        run.take(8)
    assert run.seen.calls[1][1] - run.seen.calls[0][1] >= 0.045
    assert run.seen.most == 8  # and then all at once


def test_a_probe_that_fails_is_sent_again_alone() -> None:
    faults = [Throttled("busy"), Throttled("busy"), Throttled("busy")]
    with running(first_fails_with(*faults), wait=0.01, max_concurrency=8) as run:
        found = run.answers(texts(20))
    assert [text for text, _ in run.seen.calls[:4]] == ["prompt 0"] * 4
    assert found["prompt 0"].sent == 4
    assert run.seen.calls[3][1] - run.seen.calls[0][1] >= 0.03
    assert all(done.answer for done in found.values())
    assert run.seen.visits.total() == 23


def test_a_probe_that_waits_for_its_retry_is_not_overtaken() -> None:
    with running(first_fails_with(Throttled("busy", 0.1)), max_concurrency=8) as run:
        run.ask(texts(5))
        time.sleep(0.05)
        assert len(run.seen.calls) == 1
        run.ask(["late"])
        run.take(6)
    assert [text for text, _ in run.seen.calls[:2]] == ["prompt 0"] * 2
    assert run.seen.calls[1][1] - run.seen.calls[0][1] >= 0.1


def test_a_doomed_probe_ends_all_after_one_request() -> None:
    with running(lambda request, visit: FatalError("no such key", "set the key"), max_concurrency=8) as run:
        error = all_doomed(run.answers(texts(30)))
        assert run.engine.is_doomed
        later = run.answers(["later"])
        assert later["later"].error is error
    assert (error.detail, error.remedy) == ("no such key", "set the key")
    assert run.seen.visits.total() == 1


def test_a_back_end_that_cannot_open_is_doomed_without_a_request() -> None:
    with running() as run:
        run.seen.open_fault = FatalError("no key", "set it")
        assert all_doomed(run.answers(texts(5))).detail == "no key"
    assert (run.seen.visits.total(), run.seen.opened) == (0, 1)


def test_a_back_end_that_opens_at_the_second_try() -> None:
    with running() as run:
        run.seen.open_fault = ValueError("metadata server")
        run.seen.play = lambda request, visit: None
        run.ask(texts(3))
        while run.seen.opened < 2:
            time.sleep(0.001)
        run.seen.open_fault = None
        assert all(done.answer for done in run.take(3).values())


def test_what_dooms_a_probe_is_a_passing_fault_later() -> None:
    refused = Transient("connection refused", dooms_probe=True)
    with running(first_fails_with(refused)) as run:
        error = all_doomed(run.answers(texts(9)))
    assert error.detail == "connection refused"
    assert "--base_url" in error.remedy
    assert run.seen.visits.total() == 1
    with running(lambda request, visit: refused if request.text == "prompt 3" and not visit else None) as run:
        found = run.answers(texts(9))
    assert all(done.answer for done in found.values())
    assert found["prompt 3"].sent == 2


def test_three_prompts_refused_at_the_start_doom() -> None:
    with running(lambda request, visit: Refused("400: no such parameter")) as run:
        found = run.answers(texts(20))
    assert [type(found[f"prompt {n}"].error) for n in range(4)] == [Refused, Refused, FatalError, FatalError]
    assert found["prompt 2"].error.detail == "400: no such parameter"  # type: ignore[union-attr]
    assert run.seen.visits.total() == 3


def test_a_probe_that_fails_for_good_says_how_often_and_why() -> None:
    with running(lambda request, visit: Transient("500: oh"), max_attempts=3) as run:
        error = all_doomed(run.answers(texts(5)))
    assert error.detail == "none of the first 3 prompts was answered in 3 tries; the last: 500: oh"
    assert error.remedy
    assert run.seen.visits == {"prompt 0": 1, "prompt 1": 1, "prompt 2": 1}
    with running(lambda request, visit: Transient("500: oh"), max_attempts=3) as run:
        error = all_doomed(run.answers(texts(1)))
    assert "3 times" in error.detail and "500: oh" in error.detail
    with running(lambda request, visit: Transient("500: oh"), max_attempts=1) as run:
        found = run.answers(texts(4))
    assert [type(found[f"prompt {n}"].error) for n in range(4)] == [Transient, Transient, FatalError, FatalError]


@pytest.mark.parametrize("bad", [{"prompt 0"}, {"prompt 0", "prompt 1"}])
@pytest.mark.parametrize(
    "fault",
    [
        Transient("answered without a choice"),
        Refused("400"),
        FatalError("403: nobody knows why", "check the key", may_be_prompt=True),
    ],
)
@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_another_prompt_becomes_the_probe_where_the_first_is_never_answered(
    bad: set[str], fault: RequestError, max_attempts: int
) -> None:
    with running(
        lambda request, visit: fault if request.text in bad else None, wait=0.002, max_attempts=max_attempts
    ) as run:
        found = run.answers(texts(12))
        assert not run.engine.is_doomed
    assert {token for token, done in found.items() if done.answer is None} == bad
    for token in bad:
        assert not isinstance(found[token].error, FatalError), "the run would end"
        assert run.seen.visits[token] == (max_attempts if isinstance(fault, Transient) else 1)
    in_order = [text for text, _ in run.seen.calls[: len(bad) + 1]]
    assert in_order == [f"prompt {number}" for number in range(len(bad) + 1)]


# --- what may be said of a key and be meant of a prompt


FORBIDDEN: Final = FatalError("403: no", "check the key", may_be_prompt=True)


def test_three_prompts_forbidden_at_the_start_blame_the_key() -> None:
    with running(lambda request, visit: FORBIDDEN) as run:
        found = run.answers(texts(9))
    assert [type(found[f"prompt {n}"].error) for n in range(4)] == [Refused, Refused, FatalError, FatalError]
    error = found["prompt 2"].error
    assert isinstance(error, FatalError) and (error.detail, error.remedy) == ("403: no", "check the key")
    with running(lambda request, visit: FORBIDDEN) as run:
        assert all_doomed(run.answers(texts(1))).remedy == "check the key"
    assert run.seen.visits == {"prompt 0": 3}, "others might have come"


def test_a_forbidden_prompt_waits_for_others_that_are_queued_after_it() -> None:
    """The first one is sent as soon as it is queued, and may come back before the second one is."""

    def play(request: Request, visit: int) -> Any:
        if request.text == "prompt 0" and visit == 1:
            run.ask(texts(5)[1:])
        return FORBIDDEN if request.text == "prompt 0" else None

    with running(play) as run:
        found = run.ask(texts(1)).take(5)
        assert not run.engine.is_doomed
    assert {token for token, done in found.items() if done.answer is None} == {"prompt 0"}
    assert isinstance(found["prompt 0"].error, Refused)


def test_prompts_forbidden_after_others_were_answered_are_refused() -> None:
    bad = {f"prompt {number}" for number in range(7, 100, 3)}
    with running(lambda request, visit: FORBIDDEN if request.text in bad else None, max_concurrency=4) as run:
        found = run.answers(texts(100))
        assert not run.engine.is_doomed
    assert {token for token, done in found.items() if done.answer is None} == bad
    assert {type(found[token].error) for token in bad} == {Refused}


def test_many_forbidden_in_a_row_end_the_run_and_say_that_others_were_answered() -> None:
    def play(request: Request, visit: int) -> Any:
        return None if int(request.text.split()[1]) < 10 else FORBIDDEN

    with running(play, max_concurrency=1) as run:
        found = run.answers(texts(60))
    ended = [done.error for done in found.values() if isinstance(done.error, FatalError)]
    assert ended and ended[0].remedy == "check the key"
    assert ended[0].detail.startswith("25 requests in a row were refused, after others were answered")
    assert run.seen.visits.total() == 35
    assert sum(done.answer is not None for done in found.values()) == 10


DENIED: Final = FatalError("401: no", "check the key", may_pass=True)


def test_what_would_end_a_run_at_its_start_is_tried_again_where_others_were_answered() -> None:
    """Of a gateway's keys one is revoked."""

    def play(request: Request, visit: int) -> Any:
        number = int(request.text.split()[1])
        return DENIED if number and (number + visit) % 3 == 0 else None

    with running(play, max_concurrency=8) as run:
        found = run.answers(texts(200))
        assert not run.engine.is_doomed
    assert all(done.answer for done in found.values())
    with running(lambda request, visit: DENIED) as run:
        assert all_doomed(run.answers(texts(9))).remedy == "check the key"
    assert run.seen.visits.total() == 1, "at the start it ends the run at once"


@pytest.mark.parametrize(("prompts", "denials"), [(200, 25), (11, 5)])
def test_a_key_that_is_revoked_in_mid_run_ends_it(prompts: int, denials: int) -> None:
    def play(request: Request, visit: int) -> Any:
        return None if int(request.text.split()[1]) < 10 else DENIED

    with running(play, max_concurrency=1) as run:
        found = run.answers(texts(prompts))
    doom = next(done.error for done in found.values() if isinstance(done.error, FatalError))
    assert doom.remedy == "check the key"
    assert doom.detail.startswith(f"{denials} requests in a row were refused, after others were answered")
    assert run.seen.visits.total() == 10 + denials


# --- how long it waits


def test_a_long_wait_is_bounded_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry_module, "LONGEST_HOLD", 0.05)
    monkeypatch.setattr(limiter_module, "LONGEST_HOLD", 0.05)
    monkeypatch.setattr(retry_module, "_LOGGED_WAIT", 0.04)

    def play(request: Request, visit: int) -> Any:
        return Throttled("429: come back in an hour", 3600.0) if request.text != "prompt 0" and not visit else None

    with running(play, max_concurrency=4) as run:
        found = run.answers(texts(20))
    assert all(done.answer for done in found.values())
    told = [record.getMessage() for record in caplog.records if "before a request is sent again" in record.getMessage()]
    assert len(told) == 1 and "429: come back in an hour" in told[0]


def test_a_first_request_that_is_to_wait_for_long_ends_the_run_and_says_how_long() -> None:
    with running(lambda request, visit: Throttled("429: wait", 3600.0)) as run:
        error = all_doomed(run.answers(texts(3)))
    assert "3600 s" in error.remedy and run.seen.visits.total() == 1


def test_nobody_waits_for_minutes_for_one_header() -> None:
    assert limiter_module.LONGEST_HOLD <= 60


# --- a single request


def test_a_refused_prompt_harms_no_other_and_is_not_sent_again() -> None:
    bad = {"prompt 5", "prompt 6", "prompt 7", "prompt 8"}
    with running(lambda request, visit: Refused("too long") if request.text in bad else None) as run:
        found = run.answers(texts(30))
    assert {token for token, done in found.items() if done.error} == bad
    assert all(isinstance(found[token].error, Refused) and found[token].sent == 1 for token in bad)
    assert run.seen.visits.total() == 30


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_a_request_is_sent_so_many_times_at_most(max_attempts: int) -> None:
    def play(request: Request, visit: int) -> Any:
        return Transient(f"500 at visit {visit}") if request.text == "prompt 4" else None

    with running(play, max_attempts=max_attempts) as run:
        found = run.answers(texts(10))
    done = found["prompt 4"]
    assert (done.sent, run.seen.visits["prompt 4"]) == (max_attempts, max_attempts)
    assert isinstance(done.error, Transient)
    assert done.error.detail == f"500 at visit {max_attempts - 1}"
    assert done.answer is None
    assert sum(done.answer is not None for done in found.values()) == 9


def test_the_last_try_may_still_be_answered() -> None:
    faults = {"prompt 4": 4}
    with running(lambda r, visit: Transient("500") if visit < faults.get(r.text, 0) else None) as run:
        assert run.answers(texts(10))["prompt 4"].sent == 5


@given(st.text(), st.integers(1, 2000), st.booleans())
def test_backoff_is_the_requests_own_and_below_its_ceiling(request_id: str, failures: int, is_well: bool) -> None:
    wait = backoff(request_id, failures, is_well)
    assert wait == backoff(request_id, failures, is_well)
    assert 0 <= wait <= (1 if is_well else 60)


def test_backoff_grows_and_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real one
    failing = [(1, 0.25), (2, 1.0), (3, 4.0), (4, 16.0), (5, 60.0), (50, 60.0)]
    well = [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (50, 1.0)]  # others are answered meanwhile
    for is_well, steps in ((False, failing), (True, well)):
        for failures, ceiling in steps:
            waits = [backoff(f"request {number}", failures, is_well) for number in range(400)]
            assert max(waits) <= ceiling
            assert sum(waits) / 400 == pytest.approx(ceiling / 2, rel=0.1)
            assert min(waits) < 0.05 * ceiling < 0.95 * ceiling < max(waits)
    assert backoff("a", 1) / 0.25 != backoff("a", 2)


def test_retry_after_delays_its_own_request_only() -> None:
    def play(request: Request, visit: int) -> Any:
        return Throttled("busy", 0.15) if request.text == "prompt 4" and not visit else None

    with running(play, wait=0.002, max_concurrency=4) as run:
        run.ask(texts(12))
        others = [run.done.get(timeout=5) for _ in range(11)]
        between = time.monotonic()
        late = run.done.get(timeout=5)
    assert "prompt 4" not in {done.token for done in others}
    assert (late.token, late.sent) == ("prompt 4", 2)
    first, second = (at for text, at in run.seen.calls if text == "prompt 4")
    assert second - first >= 0.15
    assert between < second


def test_refusals_while_others_are_answered_use_up_no_attempts() -> None:
    """A full endpoint is not a failing one: the same request may be refused many times more than --max_attempts."""
    others = itertools.count()

    def play(request: Request, visit: int) -> Any:
        if request.text == "prompt 1" and visit < 12:
            return Throttled("busy", 0.02)  # in which some others are answered
        return 0.002

    with running(play, max_concurrency=4, max_attempts=3) as run:
        run.ask(texts(4))
        found: dict[str, Done[str]] = {}
        while "prompt 1" not in found:
            done = run.done.get(timeout=10)
            found[done.token] = done
            if done.token != "prompt 1":
                run.ask([f"other {next(others)}"])
        assert found["prompt 1"].answer is not None
        assert found["prompt 1"].sent == 13
        run.take(len(run.seen.visits) - len(found))


def test_refusals_while_nobody_is_answered_do() -> None:
    def play(request: Request, visit: int) -> Any:
        return None if request.text == "prompt 0" else Throttled("busy")

    with running(play, max_concurrency=4, max_attempts=3) as run:
        found = run.answers(texts(3))
    for token in ("prompt 1", "prompt 2"):
        assert isinstance(found[token].error, Throttled)
        assert 3 <= found[token].sent <= 4  # the first may have come after the probe's answer


def test_a_hang_is_cut_and_sent_again() -> None:
    hangs = {"prompt 0", "prompt 3"}
    with running(
        lambda request, visit: "hang" if request.text in hangs and not visit else None, request_timeout=0.15
    ) as run:
        found = run.answers(texts(6))
    assert all(done.answer for done in found.values())
    assert {token: found[token].sent for token in texts(6)} == {token: 1 + (token in hangs) for token in texts(6)}
    assert all(done.latency < 0.15 for done in found.values())  # of the try that was answered


def test_what_hangs_for_ever_is_a_failure_that_names_the_time() -> None:
    with running(
        lambda request, visit: "hang" if request.text == "prompt 1" else None, request_timeout=0.02, max_attempts=2
    ) as run:
        done = run.answers(texts(3))["prompt 1"]
    assert isinstance(done.error, Transient)
    assert "0.02 s" in done.error.detail
    assert done.sent == 2


FOREIGN = [
    KeyError("choices"),
    ValueError("two\nlines"),
    asyncio.TimeoutError(),
    asyncio.CancelledError(),
    asyncio.InvalidStateError(),
    TimeoutError(),
    ConnectionResetError(104, "reset"),
    RecursionError(),
    StopAsyncIteration(),
    SystemExit(3),
    KeyboardInterrupt(),
    MemoryError(),
    AssertionError(),
]


@pytest.mark.parametrize("fault", FOREIGN, ids=lambda fault: type(fault).__name__)
def test_whatever_a_back_end_raises_loses_nothing(fault: BaseException) -> None:
    def once(request: Request, visit: int) -> Any:
        return fault if request.text in ("prompt 0", "prompt 2") and not visit else None

    with running(once) as run:
        found = run.answers(texts(5))
        assert all(done.answer for done in found.values())
        assert found["prompt 2"].sent == 2
        run.seen.play = lambda request, visit: fault
        done = run.answers(["bad"])["bad"]
    assert isinstance(done.error, Transient)
    assert type(fault).__name__ in done.error.detail
    assert "\n" not in done.error.detail
    assert done.sent == 5


# --- the whole run


def test_when_more_than_half_of_the_last_200_fail_the_run_stops() -> None:
    def play(request: Request, visit: int) -> Any:
        return Refused("no") if int(request.text.split()[1]) >= 100 else None

    with running(play, max_concurrency=4) as run:
        found = run.answers(texts(400))
    errors = collections.Counter(type(done.error).__name__ for done in found.values())
    assert errors["NoneType"] == 100
    assert 100 <= errors["Refused"] <= 105  # and those in flight
    assert errors["FatalError"] == 300 - errors["Refused"]
    assert run.seen.visits.total() <= 205
    doom = next(done.error for done in found.values() if isinstance(done.error, FatalError))
    assert "more than half of the last 200" in doom.detail
    assert "no" in doom.detail
    assert doom.remedy


def test_when_half_of_them_fail_it_goes_on() -> None:
    def play(request: Request, visit: int) -> Any:
        return Refused("no") if int(request.text.split()[1]) % 2 else None

    with running(play, max_concurrency=1) as run:
        found = run.answers(texts(500))
        assert not run.engine.is_doomed
    assert sum(isinstance(done.error, Refused) for done in found.values()) == 250


def test_a_doom_in_the_middle_keeps_what_is_paid_for() -> None:
    """What is in flight when the run ends is still delivered; what waits is not sent."""

    def play(request: Request, visit: int) -> Any:
        if request.text == "prompt 5":
            return FatalError("quota is zero", "raise it")
        return 0.03 if request.text != "prompt 0" else None

    with running(play, wait=0.01, max_concurrency=8) as run:
        found = run.answers(texts(50))
    assert sum(done.answer is not None for done in found.values()) == 8
    assert sum(isinstance(done.error, FatalError) for done in found.values()) == 42
    assert run.seen.visits.total() == 9


FAULTS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 0.001,
    lambda: Throttled("busy"),
    lambda: Throttled("busy", 0.001),
    lambda: Transient("500"),
    lambda: Transient("503", 0.002),
    lambda: Transient("refused", dooms_probe=True),
    lambda: Refused("400"),
    lambda: KeyError("choices"),
    lambda: asyncio.TimeoutError(),
    lambda: asyncio.CancelledError(),
    lambda: SystemExit(1),
    lambda: "hang",
    lambda: FatalError("401", "set the key"),
]


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, len(FAULTS) - 2), max_size=4), min_size=1, max_size=12),
    st.sampled_from([None, None, None, 0, 3]),
    st.integers(1, 5),
)
def test_every_request_ends_exactly_once_whatever_happens(
    scripts: list[list[int]], doomed: int | None, most: int
) -> None:
    def play(request: Request, visit: int) -> Any:
        number = int(request.text.split()[1])
        if number == doomed:
            return FAULTS[-1]()
        script = scripts[number]
        return FAULTS[script[visit]]() if visit < len(script) else None

    with running(play, max_concurrency=most, request_timeout=0.03, max_attempts=3) as run:
        found = run.answers(texts(len(scripts)))
    assert run.done.empty()
    for token, done in found.items():
        assert (done.answer is None) != (done.error is None)
        assert done.sent == run.seen.visits[token]
        assert done.answer is None or done.answer.text == token
    assert run.seen.most <= most
    if doomed is not None and doomed < len(scripts) and run.seen.visits[f"prompt {doomed}"]:
        assert isinstance(found[f"prompt {doomed}"].error, FatalError)


# --- what breaks on the engine's own thread


class WithoutWriter(ReplyKeeper):
    def __init__(self) -> None:
        self._writer = object()  # type: ignore[assignment]


def _broken_writer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger's writer that lacks a method, as a stand-in of somebody's may."""
    engine._keeper = WithoutWriter()


def _broken(owner: str, method: str, error: BaseException) -> Callable[[Engine, pytest.MonkeyPatch], None]:
    def damage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise error

        monkeypatch.setattr(getattr(engine, owner) if owner else engine, method, broken)

    return damage


BREAKS: list[tuple[Callable[[Engine, pytest.MonkeyPatch], None], str]] = [
    (_broken_writer, "AttributeError: 'object' object has no attribute 'is_behind'"),
    (_broken("_limiter", "delay", KeyError("no such\nkey")), "KeyError: 'no such\\nkey'"),
    (_broken("_limiter", "start", ValueError("two\nlines")), "ValueError: two lines"),
    (_broken("_limiter", "finish", ZeroDivisionError("by zero")), "ZeroDivisionError: by zero"),
    (_broken("", "_finish", MemoryError()), "MemoryError:"),
    (_broken("_retries", "count_answer", asyncio.CancelledError()), "CancelledError:"),
    (_broken("", "_wake", SystemExit(3)), "SystemExit: 3"),
    (_broken("_limiter", "delay", KeyboardInterrupt()), "KeyboardInterrupt:"),
]


@pytest.mark.parametrize(("damage", "reason"), BREAKS, ids=[reason.split(":")[0] for _, reason in BREAKS])
def test_an_engine_that_breaks_ends_all_with_the_reason(
    damage: Callable[[Engine, pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a request would wait for ever."""
    with running(lambda request, visit: None if request.text == "first" else "hang", max_concurrency=3) as run:
        run.answers(["first"])
        run.ask(texts(2))
        while run.seen.in_flight < 2:
            time.sleep(0.001)
        run.seen.play = lambda request, visit: None
        damage(run.engine, monkeypatch)
        run.ask(["new", "newer"])
        found = run.take(4)  # what was in flight and what came later
        assert {type(done.error) for done in found.values()} == {FatalError}
        (detail,) = {done.error.detail for done in found.values() if done.error}
        assert detail.startswith(f"the engine that sends requests broke: {reason}")
        assert run.engine.is_doomed
        assert isinstance(run.answers(["late"])["late"].error, FatalError)


def test_a_loop_that_somebody_stops_ends_all() -> None:
    def stop(request: Request, visit: int) -> Any:
        asyncio.get_running_loop().stop()
        return "hang"

    with running(stop) as run:
        assert isinstance(run.answers(["a"])["a"].error, FatalError)
        run.engine._thread.join(5)
        assert isinstance(run.answers(["late"])["late"].error, FatalError)
    assert run.seen.closed == 1


# --- closing


def test_closing_ends_what_is_in_flight_and_what_waits() -> None:
    before = set(threading.enumerate())
    play = lambda request, visit: "hang" if request.text != "prompt 0" else None  # noqa: E731
    with running(play, max_concurrency=4) as run:
        run.ask(texts(20))
        assert run.done.get(timeout=5).answer is not None
        while run.seen.in_flight < 4:
            time.sleep(0.001)
        run.engine.close()
        found = run.take(19)
        assert all(isinstance(done.error, FatalError) for done in found.values())
        assert run.seen.in_flight == 0
        assert run.seen.closed == 1
        run.engine.close()
        assert isinstance(run.answers(["late"])["late"].error, FatalError)
    assert run.seen.visits.total() == 5
    assert set(threading.enumerate()) <= before


def test_closing_ends_what_waits_for_a_retry() -> None:
    with running(lambda r, visit: Throttled("busy", 500.0) if r.text == "prompt 1" else None) as run:
        run.ask(texts(2))
        assert run.done.get(timeout=5).answer is not None
        while run.seen.visits["prompt 1"] < 1:
            time.sleep(0.001)
        run.engine.close()
        assert isinstance(run.take(1)["prompt 1"].error, FatalError)


def test_closing_an_engine_that_never_did_anything() -> None:
    with running() as run:
        pass
    assert (run.seen.opened, run.seen.closed) == (0, 0)


def test_a_session_that_cannot_be_closed_does_not_keep_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_CLOSING_SECONDS", 0.05)

    async def stuck(self: Scripted) -> None:
        await asyncio.Event().wait()

    async def broken(self: Scripted) -> None:
        raise RuntimeError("cannot close")

    for aclose in (stuck, broken):
        monkeypatch.setattr(Scripted, "aclose", aclose)
        with running() as run:
            run.answers(texts(1))


# --- engines of a process


@pytest.fixture
def fresh_engines() -> Iterator[None]:
    close_engines()
    yield
    close_engines()


@pytest.mark.usefixtures("fresh_engines")
def test_one_engine_for_each_configuration() -> None:
    backend, chosen = Scripted("for"), Settings(limits=Limits(max_concurrency=3))
    engine = engine_for(backend, chosen)
    assert engine_for(Scripted("for"), Settings(limits=Limits(max_concurrency=3))) is engine
    assert engine_for(backend, Settings(limits=Limits(max_concurrency=4))) is not engine
    assert engine_for(Scripted("other"), chosen) is not engine


@pytest.mark.usefixtures("fresh_engines")
def test_threads_that_ask_at_once_get_the_same_engine() -> None:
    barrier = threading.Barrier(8)
    found: list[Engine] = []

    def ask() -> None:
        barrier.wait()
        found.append(engine_for(Scripted("at once"), Settings()))

    workers = [threading.Thread(target=ask) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(set(map(id, found))) == 1
    assert len(found) == 8


@pytest.mark.usefixtures("fresh_engines")
def test_after_a_doom_there_is_a_new_engine_and_no_thread_is_left() -> None:
    before = threading.active_count()
    seen = seen_by["after doom"]
    seen.play = first_fails_with(FatalError("no key", "set it"))
    engine = engine_for(Scripted("after doom"), Settings())
    assert isinstance(Running(engine, seen).ask(["a"]).take(1)["a"].error, FatalError)
    another = engine_for(Scripted("after doom"), Settings())
    assert another is not engine
    assert Running(another, seen).ask(["a"]).take(1)["a"].answer is not None
    close_engines()
    assert threading.active_count() == before
    assert seen.opened == seen.closed == 2


@pytest.mark.usefixtures("fresh_engines")
def test_after_closing_there_is_a_new_engine() -> None:
    engine = engine_for(Scripted("after close"), Settings())
    close_engines()
    another = engine_for(Scripted("after close"), Settings())
    assert another is not engine
    assert Running(another, seen_by["after close"]).ask(["a"]).take(1)["a"].answer is not None


def test_two_threads_share_one_window() -> None:
    with running(wait=0.004, max_concurrency=6) as run:
        found: list[dict[str, Done[str]]] = []

        def bundle(name: str) -> None:
            own = Running(run.engine, run.seen).ask([f"{name} {number}" for number in range(60)])
            found.append(own.take(60))

        workers = [threading.Thread(target=bundle, args=(name,)) for name in ("left", "right")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert run.seen.most == 6
    assert len(run.seen.threads) == 1
    for answers in found:
        assert len({token.split()[0] for token in answers}) == 1
        assert all(done.answer and done.answer.text == token for token, done in answers.items())
    assert len(found) == 2


# --- what is told of throttling


def test_time_without_throttling_is_not_reported() -> None:
    with running(wait=0.01, max_concurrency=2, requests_per_minute=6000) as run:
        run.answers(texts(150))
        assert run.engine.take_throttled_seconds() == 0.0


def test_throttled_seconds_are_reported_once() -> None:
    def play(request: Request, visit: int) -> Any:
        return Throttled("busy", 0.1) if request.text != "prompt 0" and not visit else None

    started = time.monotonic()
    with running(play, max_concurrency=8) as run:
        run.answers(texts(9))
        seconds = run.engine.take_throttled_seconds()
        assert run.engine.take_throttled_seconds() == 0.0
    assert 0.08 <= seconds <= time.monotonic() - started
