"""The engine: one event loop a process and configuration, on a thread of its own, that keeps a window of requests
in flight for all threads of the process.

A bundle submits requests and takes what is complete from a queue of its own; the window refills the moment a request
ends, whichever bundle it belongs to, so no call waits for the slowest of its batch. Requests that wait for a second try
hold no place in the window.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import dataclasses
import heapq
import itertools
import logging
import math
import os
import queue
import threading
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

from textmint.transforms.core.elements import Kind, PaidReply
from textmint.transforms.core.identity import UNIT, fraction
from textmint.transforms.core.temporary import is_alive
from textmint.transforms.core.texts import clean_name, clean_text
from textmint.transforms.ledger.writer import Ledger, LedgerWriter, now_ms, open_writer, row_of
from textmint.transforms.llm import descriptors
from textmint.transforms.llm.base import (
    Answer,
    Backend,
    FatalError,
    Refused,
    Request,
    RequestError,
    Session,
    Throttled,
    Transient,
    fingerprint_of,
)
from textmint.transforms.llm.http import masked
from textmint.transforms.llm.limiter import LONGEST_HOLD, Limiter, Limits, Outcome
from textmint.transforms.llm.reject_rate import MOST, Fault, RejectRate

Token = TypeVar("Token")
_LOG = logging.getLogger("textmint")

_BACKOFF: Final = (0.25, 4.0, 60.0)  # seconds, factor, at most: five attempts outlast an outage of some ten seconds
_BACKOFF_WHEN_WELL: Final = (0.1, 2.0, 1.0)  # others are answered: a passing fault of one request should cost little
_MOST_STEPS: Final = 16  # the longest is reached long before, and a power without bound overflows
_REFUSALS: Final = 100  # of one request, while others are answered; then it has failed
_PROBES: Final = 3  # prompts that may go unanswered at the start before it is the endpoint's or the options' fault
_DENIED_IN_A_ROW: Final = 25
"""Requests that an endpoint which answered others may deny one after the other. Where it forbids half of all prompts,
so many in a row come once in 67 million."""
_RECENT: Final = 200  # requests of which more than half may not fail for good
_CHARACTERS_PER_TOKEN: Final = 4
_MOST_TOKENS: Final = 1 << 40  # that an endpoint is believed; sums of counts stay far below 2**63
_PATIENCE_OF_PROBE: Final = 60.0  # seconds of Retry-After; nobody should look at a run that has not begun for longer
_TOLD_WAIT: Final = 15.0  # seconds; a person is told of a wait that is longer
_TOLD_AGAIN: Final = 60.0  # seconds until a person is told of the next one
_CLOSING_SECONDS: Final = 5.0  # for what is in flight to end, and again for connections
LAUNCHER: Final = "TEXTMINT_LAUNCHER"
"""The environment variable in which a run on one machine tells its worker processes its own process id. One that
outlives a launcher that was killed would go on paying for a run that is over."""
_LAUNCHER_SECONDS: Final = 0.5  # between two looks
_HELD_SECONDS: Final = 0.1  # between two looks whether the ledger has caught up
_HELD_TOLD_SECONDS: Final = 5.0  # after which a person is told


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How requests are sent.

    Args:
      limits: of one process.
      request_timeout: seconds that one try may take.
      max_attempts: tries of one request.
      max_reject_rate: the share of replies to prompts of one kind that may be refused, see `RejectRate`; with 1 all.

    Raises:
      ValueError: a value that would let no request succeed.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    request_timeout: float = 120.0
    max_attempts: int = 5
    max_reject_rate: float = MOST

    def __post_init__(self) -> None:
        if not 0 < self.request_timeout < math.inf:
            raise ValueError(f"request_timeout is {self.request_timeout} seconds, but must be above 0")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}, but must be 1 or more")
        if not 0 <= self.max_reject_rate <= 1:
            raise ValueError(f"max_reject_rate is {self.max_reject_rate}, but lies between 0 and 1")


@dataclasses.dataclass(frozen=True, slots=True)
class Done(Generic[Token]):
    """A request that has ended.

    Args:
      token: what the caller gave along with it.
      answer: None where there is none.
      error: what went wrong the last time, where there is no answer.
      sent: how many times it was sent.
      latency: seconds from the last sending to the answer.
    """

    token: Token
    answer: Answer | None
    error: RequestError | None
    sent: int
    latency: float


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    request: Request
    token: Any
    done: queue.SimpleQueue[Done[Any]]
    sent: int = 0
    failures: int = 0  # tries that count
    refusals: int = 0
    answered_before: int = 0  # how many answers the engine had when this was refused last


def backoff(request_id: str, failures: int, is_well: bool = False) -> float:
    """A request and how many tries have failed -> seconds to wait: exponential with full jitter (AWS Architecture Blog,
    "Exponential Backoff And Jitter"), the jitter taken from the request's id.

    Args:
      is_well: whether the endpoint answered others meanwhile.
    """
    return backoff_ceiling(failures, is_well) * fraction("backoff", request_id, failures) / UNIT


def backoff_ceiling(failures: int, is_well: bool) -> float:
    """How many tries have failed -> seconds that `backoff` stays below."""
    first, factor, longest = _BACKOFF_WHEN_WELL if is_well else _BACKOFF
    return min(longest, first * factor ** min(failures - 1, _MOST_STEPS))


class Engine:
    """Sends requests to one back end. It is made by `engine_for`."""

    def __init__(self, backend: Backend, settings: Settings, ledger: Ledger | None = None) -> None:
        self._backend = backend
        self._settings = settings
        self._ledger = ledger
        self._fingerprint = fingerprint_of(backend)
        self._writer: LedgerWriter | None = None
        self._jobs: set[_Job] = set()  # all that have not ended, wherever they are
        self._incoming: collections.deque[_Job] = collections.deque()
        self._parked: list[tuple[float, int, bool, _Job]] = []  # due, tie, throttled?, job
        self._ties = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: collections.deque[bool] = collections.deque(maxlen=_RECENT)
        self._reject_rates: dict[Kind, RejectRate] = {}
        self._brings_too_little = False
        self._answers = 0
        self._is_open = False  # until the first answer, requests are sent one at a time: that is the probe
        self._probe_is_out = False
        self._probes = 0  # prompts that were sent before any was answered
        self._probes_lost = 0  # of these, ended without an answer
        self._probes_failed = 0  # tries of these that may go right the next time
        self._probe_after = -math.inf  # the next is not sent before
        self._probes_take_turns = False  # the last one may have failed for its prompt
        self._denied = 0  # in a row, with no answer between
        self._wait_told = -math.inf
        self._session: Session | None = None
        self._doom: FatalError | None = None
        self._wake_is_due = False
        self._is_closed = False
        self._is_over = False  # the loop has ended, by `close` or by a fault: nothing would answer any more
        launcher = os.environ.get(LAUNCHER, "")
        self._launcher = int(launcher) if launcher.isdecimal() and int(launcher) != os.getpid() else None
        self._launcher_seen = -math.inf
        self._closing = threading.Lock()  # between what is submitted and the end of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._throttled_since: float | None = None
        self._throttled_seconds: collections.deque[float] = collections.deque()
        self._held_since: float | None = None
        self._held_is_told = False
        self._connections = settings.limits.max_concurrency if hasattr(backend, "base_url") else 0
        if self._connections and not descriptors.claim(self._connections):
            self._connections = 0
            self._doom = FatalError(
                f"--max_concurrency={settings.limits.max_concurrency} needs more open files than a process may have",
                f"choose {descriptors.most_connections()} or less, or raise the hard limit (ulimit -Hn)",
            )
        if ledger is not None:
            try:
                self._writer = open_writer(ledger)
            except OSError as error:
                self._doom = _unwritable(ledger, error)
        self._loop = asyncio.new_event_loop()
        self._limiter = Limiter(settings.limits, self._loop.time())
        self._thread = threading.Thread(target=self._run_loop, name="llm-engine", daemon=True)
        self._thread.start()

    # --- called from any thread

    @property
    def is_doomed(self) -> bool:
        """Has it given up? Then it answers nothing any more."""
        return self._doom is not None

    @property
    def is_of_no_use(self) -> bool:
        """Has it given up for good, so that another engine of the run would but pay for more of the same?"""
        return self._brings_too_little and self._ledger is not None

    def count_reply(self, request: Request, answer: Answer, fault: Fault | None) -> FatalError | None:
        """Takes note of what an answer is worth, and gives up where too many are worth nothing.

        Args:
          request: what was asked.
          answer: what was answered, and paid for.
          fault: why no row comes of it; None: one does.

        Returns:
          why no more is asked; None while all is well.
        """
        rate = self._reject_rates.get(request.kind)
        if rate is None:  # of two threads at once the first one counts
            rate = self._reject_rates.setdefault(request.kind, RejectRate(request.kind, self._settings.max_reject_rate))
        told = rate.add(fault, answer.text)
        if told is None:
            return None
        self._brings_too_little = True
        detail, remedy = told
        if self._ledger is not None:
            remedy = f"what was paid for is kept; {remedy}"
        with self._closing:
            self._doom = self._doom or FatalError(detail, remedy)
            if not self._is_closed:
                self._loop.call_soon_threadsafe(self._pump)
        return self._doom

    def submit(self, request: Request, token: Token, done: queue.SimpleQueue[Done[Token]]) -> None:
        """Queues a request; when it has ended, `done` receives it, always exactly once."""
        job = _Job(request, token, done)
        with self._closing:
            self._jobs.add(job)
            if self._is_closed or self._is_over:
                self._end_doomed(job)
                return
            self._incoming.append(job)
            if not self._wake_is_due:  # one wake-up serves all that came in until it runs
                self._wake_is_due = True
                self._loop.call_soon_threadsafe(self._wake)

    def take_throttled_seconds(self) -> float:
        """-> seconds in which the endpoint's throttling held requests back, since the call before."""
        seconds = 0.0
        with contextlib.suppress(IndexError):  # of deques, append and pop are safe between threads
            while True:
                seconds += self._throttled_seconds.pop()
        return seconds

    def flush_ledger(self) -> None:
        """Waits until every reply that was handed out is in the ledger.

        Raises:
          FatalError: it cannot be written.
        """
        if self._writer is not None and self._ledger is not None:
            try:
                self._writer.flush()
            except OSError as error:
                raise _unwritable(self._ledger, error) from None

    def close(self) -> None:
        """Ends all requests as doomed, cancels what is in flight, closes connections and the ledger, and ends the
        thread. A second call does nothing."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            if self._doom is None:
                self._doom = FatalError("the run has ended", "run the same command again")
        if not self._is_over:
            with contextlib.suppress(Exception):  # a connection that cannot be closed must not keep the rest open
                closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
                closing.result(timeout=3 * _CLOSING_SECONDS)
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._loop.stop)
        descriptors.give_back(self._connections)
        self._thread.join(timeout=2 * _CLOSING_SECONDS)
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:  # whatever it is, other engines are to be closed as well
                _LOG.warning("the last replies could not be kept in the ledger: %s", error)

    # --- on the loop's thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        except BaseException as error:  # asyncio lets SystemExit and KeyboardInterrupt of a callback through
            self._break(error)
        finally:
            with self._closing:
                self._is_over = True
                self._doom = self._doom or FatalError("the engine has ended", "run the same command again")
                self._end_all()
            if not self._is_closed:
                with contextlib.suppress(BaseException):  # what was in flight; nobody waits for it
                    self._loop.run_until_complete(self._close())
            self._loop.close()

    async def _close(self) -> None:
        self._give_up_all()  # ends what waits
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSING_SECONDS)
        if self._session is not None:
            await asyncio.wait_for(self._session.aclose(), _CLOSING_SECONDS)

    def _wake(self) -> None:
        self._wake_is_due = False
        self._pump()

    def _pump(self) -> None:
        """Starts whatever may start now, and sees to being called again when more may."""
        try:
            self._start_what_may()
        except Exception as error:
            # Of a ledger's writer that lacks a method, for instance. asyncio would log it and go on, and whoever waits
            # for a request that was never started would wait for ever.
            self._break(error)

    def _start_what_may(self) -> None:
        now = self._loop.time()
        if self._launcher is not None and now - self._launcher_seen > _LAUNCHER_SECONDS:
            self._launcher_seen = now
            if not is_alive(self._launcher):
                self._doom = self._doom or FatalError("the process that started the run is gone", "start it again")
        if self._doom is not None:
            self._give_up_all()
            return
        delay = math.inf
        job_is_due = False
        is_held = self._is_held(now)
        if self._doom is not None:
            return
        while not is_held and (job_is_due := self._is_due(now)):
            delay = self._limiter.delay(now)
            if delay > 0:
                break
            self._probe_is_out = not self._is_open
            self._start(self._next(now), now)
        self._account(now, job_is_due)
        if is_held:
            delay = _HELD_SECONDS
        elif not job_is_due and not self._is_open and not self._probe_is_out and (self._incoming or self._parked):
            delay = self._probe_after - now
        elif not job_is_due and self._is_open and self._parked:
            delay = self._parked[0][0] - now
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if 0 < delay < math.inf:
            self._timer = self._loop.call_later(delay, self._pump)

    def _is_held(self, now: float) -> bool:
        """-> whether nothing more is paid for at this moment: the ledger has too much to write already."""
        if self._writer is None or self._ledger is None:
            return False
        try:
            is_behind = self._writer.is_behind()
        except OSError as error:
            self._give_up(_unwritable(self._ledger, error))
            return True
        if not is_behind:
            self._held_since, self._held_is_told = None, False
            return False
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since > _HELD_TOLD_SECONDS and not self._held_is_told:
            self._held_is_told = True
            _LOG.warning("%s takes no files at this moment; no more is asked until it does", self._ledger.folder)
        return True

    def _is_due(self, now: float) -> bool:
        if self._probe_is_out:
            return False
        if not self._is_open:
            return now >= self._probe_after and bool(self._incoming or self._parked)
        return bool(self._incoming) or (bool(self._parked) and self._parked[0][0] <= now)

    def _next(self, now: float) -> _Job:
        """What was parked and is due comes first: it has waited longest. While nobody was answered, up to three prompts
        take turns: the one that failed may be one that is never answered."""
        if self._is_open:
            is_parked = bool(self._parked) and self._parked[0][0] <= now
        else:
            others = bool(self._incoming) and self._probes_take_turns and self._probes < _PROBES
            is_parked = bool(self._parked) and not others
        return heapq.heappop(self._parked)[3] if is_parked else self._incoming.popleft()

    def _account(self, now: float, job_is_due: bool) -> None:
        if self._throttled_since is not None:
            self._throttled_seconds.append(now - self._throttled_since)
            self._throttled_since = None
        room = self._limiter.in_flight < self._settings.limits.max_concurrency
        refused = any(throttled for _, _, throttled, _ in self._parked[:1])
        if room and ((job_is_due and self._limiter.throttle_delay(now) > 0) or (not job_is_due and refused)):
            self._throttled_since = now

    def _start(self, job: _Job, now: float) -> None:
        self._probes += not self._is_open and not job.sent
        job.sent += 1
        reserved = self._limiter.start(now, len(job.request.text) // _CHARACTERS_PER_TOKEN)
        task = self._loop.create_task(self._try(job, now, reserved))
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self._is_closed:
            self._break(error)

    async def _try(self, job: _Job, started: float, reserved: float) -> None:
        """Sends a request once, and decides what becomes of it."""
        answer: Answer | None = None
        error: RequestError | None = None
        try:
            answer = _storable(await self._answer(job.request), self._secrets())
        except RequestError as raised:
            error = raised
        except (Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt) as raised:
            # A back end's fault must not lose the element, nor end the loop. Signals reach the main thread only; and
            # who is cancelled by `close` finds the engine doomed, so it is not sent again.
            error = Transient(" ".join(f"{type(raised).__name__}: {raised}".split()))
        finally:
            now = self._loop.time()
            self._probe_is_out = False
            outcome: Outcome = "answered"
            if error is not None:
                outcome = "throttled" if isinstance(error, Throttled) else "failed"
            self._limiter.finish(
                now,
                outcome,
                latency=now - started,
                reserved=reserved,
                tokens=answer.prompt_tokens + answer.output_tokens if answer else 0,
                output_tokens=answer.output_tokens if answer else 0,
                retry_after=error.retry_after if isinstance(error, Throttled) else None,
            )
        if answer is not None:
            self._answers += 1
            self._is_open = True
            self._denied = 0
            self._keep(job.request, answer, now - started)
            self._finish(job, Done(job.token, answer, None, job.sent, now - started))
        elif error is not None:
            self._handle(job, error, now)
        self._pump()

    def _keep(self, request: Request, answer: Answer, latency: float) -> None:
        """Puts an answer into the ledger, before it is handed out. It is handed out even where the ledger cannot be
        written, which ends the run all the same."""
        if self._writer is not None and self._ledger is not None:
            reply = PaidReply(
                request_id=request.request_id,
                text=answer.text,
                finish_reason=answer.finish_reason,
                model=answer.model,
                prompt_tokens=answer.prompt_tokens,
                output_tokens=answer.output_tokens,
                time=now_ms(),
            )
            row = row_of(
                reply,
                draft_id=request.prompt_id,
                kind=request.kind,
                refresh=self._ledger.refresh,
                fingerprint=self._fingerprint,
                attempt=request.attempt,
                latency_ms=round(latency * 1000),
            )
            try:
                self._writer.append(row)
            except Exception as error:  # whatever it is, the element must not be lost
                self._give_up(_unwritable(self._ledger, error))

    def _secrets(self) -> Sequence[str]:
        listed = getattr(self._session, "secrets", None)
        return listed() if listed is not None else ()

    async def _answer(self, request: Request) -> Answer:
        if self._session is None:
            self._session = await self._backend.open()
        # A timer and a cancellation: asyncio.wait_for would cost a task more for every request on Python 3.11.
        task = asyncio.current_task()
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            if task is not None:
                task.cancel()

        timer = self._loop.call_later(self._settings.request_timeout, expire)
        try:
            return await self._session.generate(request)
        except asyncio.CancelledError:
            if not expired:
                raise
            if task is not None and hasattr(task, "uncancel"):
                task.uncancel()
            raise Transient(f"no answer within {self._settings.request_timeout:g} s") from None
        finally:
            timer.cancel()

    def _handle(self, job: _Job, error: RequestError, now: float) -> None:
        if isinstance(error, FatalError) and error.may_be_prompt:
            self._forbid(job, error, now)
        elif isinstance(error, FatalError) and error.may_pass and self._is_open:
            self._deny(job, error, now)
        elif isinstance(error, FatalError):
            self._give_up(error, job)
        elif isinstance(error, Refused):
            remedy = "the endpoint refuses the first prompts: check the model's options"
            self._lose(job, error, FatalError(error.detail, remedy))
        elif isinstance(error, Transient) and error.dooms_probe and not self._is_open:
            self._give_up(FatalError(error.detail, error.remedy or "check --base_url, --model and the network"), job)
        else:
            self._again(job, error, now)

    def _forbid(self, job: _Job, error: FatalError, now: float) -> None:
        """What is said of a key, but may be meant of a prompt, is of the key where nobody is answered with it."""
        if self._is_open:
            if not self._is_denied_for_good(job, error, _DENIED_IN_A_ROW):
                self._finish(job, Done(job.token, None, Refused(error.detail), job.sent, 0.0))
        elif self._probes_lost or self._incoming or self._parked:
            self._lose(job, Refused(error.detail), error)
        elif job.sent >= _PROBES:
            self._give_up(error, job)
        else:  # others may be about to come: the first prompt is often sent before the second one is queued
            self._park_probe(job, error, now, backoff_ceiling(job.sent, False))

    def _deny(self, job: _Job, error: FatalError, now: float) -> None:
        """What would end a run at its start is tried again where others were answered, unless nobody is any more."""
        is_spent = job.failures + 1 >= self._settings.max_attempts
        most = max(self._settings.max_attempts, _PROBES) if is_spent else _DENIED_IN_A_ROW
        if not self._is_denied_for_good(job, error, most):
            self._again(job, Transient(error.detail), now)

    def _is_denied_for_good(self, job: _Job, error: FatalError, most: int) -> bool:
        """Counts a denial after answers, and ends the run at so many in a row."""
        self._denied += 1
        if self._denied < most:
            return False
        detail = f"{self._denied} requests in a row were refused, after others were answered; the last one with"
        self._give_up(FatalError(f"{detail}: {error.detail}", error.remedy), job)
        return True

    def _lose(self, job: _Job, error: RequestError, doom: FatalError) -> None:
        """Ends a request that is not answered; at the start of a run, one of too many that are not ends the run."""
        self._probes_lost += not self._is_open
        if not self._is_open and self._probes_lost >= _PROBES:
            self._give_up(doom, job)
        else:
            self._finish(job, Done(job.token, None, error, job.sent, 0.0))

    def _again(self, job: _Job, error: RequestError, now: float) -> None:
        """Parks a request for another try, or ends it when it has had enough of them."""
        refused = isinstance(error, Throttled)
        is_well = self._answers > job.answered_before
        if refused and is_well:
            # Others are answered, so the endpoint is well and merely full: patience costs nothing. The limiter sets the
            # pace then; a long wait of its own would only make the last requests of a run late.
            job.refusals += 1
            steps = job.refusals
        else:
            job.failures += 1
            steps = job.failures
        job.answered_before = self._answers
        if not self._is_open:
            self._probes_failed += 1
            steps = self._probes_failed
        is_spent = job.failures >= self._settings.max_attempts or job.refusals >= _REFUSALS
        if not self._is_open and self._has_failed_enough(is_spent):
            self._give_up(self._nobody_answered(job, error), job)
            return
        if is_spent:
            self._lose(job, error, self._nobody_answered(job, error))
            return
        wait = backoff(job.request.request_id, steps, is_well)
        named = getattr(error, "retry_after", None)
        if named is not None:  # and a little more, so that not all come back at the same instant
            wait = min(named, LONGEST_HOLD) + wait / 10
        elif refused:  # full jitter can be next to nothing, and the endpoint has just said that it has no room
            wait = wait / 2 + backoff_ceiling(steps, is_well) / 2
        if not self._is_open:
            if named is not None and named > _PATIENCE_OF_PROBE:
                remedy = f"the endpoint asks to wait {named:.0f} s: run the same command again then"
                self._give_up(FatalError(error.detail, remedy), job)
                return
            self._park_probe(job, error, now, wait)
            return
        if wait > _TOLD_WAIT and now - self._wait_told > _TOLD_AGAIN:
            self._wait_told = now
            _LOG.warning("waiting %.0f s before a request is sent again: %s", wait, error.detail)
        heapq.heappush(self._parked, (now + wait, next(self._ties), refused, job))

    def _park_probe(self, job: _Job, error: RequestError, now: float, wait: float) -> None:
        """Parks a request while nobody was answered: no other is sent before it may be."""
        self._probe_after = now + wait
        is_throttled = isinstance(error, Throttled)
        self._probes_take_turns = not is_throttled
        _LOG.warning("the first request failed (%s); trying again in %.1f s", error.detail, wait)
        heapq.heappush(self._parked, (now + wait, next(self._ties), is_throttled, job))

    def _has_failed_enough(self, is_spent: bool) -> bool:
        """Is nobody answered, however often, and with whichever prompt?

        Args:
          is_spent: whether the prompt that failed last has had all its tries.
        """
        if self._probes_failed >= max(self._settings.max_attempts, _PROBES):
            return True
        return is_spent and not self._incoming and not self._parked

    def _nobody_answered(self, job: _Job, error: RequestError) -> FatalError:
        if self._probes > 1:
            tries = max(self._probes_failed, self._probes)
            detail = f"none of the first {self._probes} prompts was answered in {tries} tries; the last: {error.detail}"
        else:
            detail = f"the first request failed {job.sent} times, at last with: {error.detail}"
        return FatalError(detail, "see whether the endpoint is up, then run the same command again")

    def _break(self, error: BaseException) -> None:
        """Ends the run for a fault of this program, or of what it was handed (a back end, a ledger): all requests end
        as doomed, with the reason, those in flight as well, since what should end them may be what broke."""
        _LOG.error("the engine that sends requests broke", exc_info=error)
        if self._doom is None:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = "this is a fault of the program; what was paid for before is kept"
            self._doom = FatalError(f"the engine that sends requests broke: {reason}", remedy)
        self._end_all()

    def _finish(self, job: _Job, done: Done[Any]) -> None:
        self._hand_over(job, done)
        self._recent.append(done.answer is None)
        if len(self._recent) == _RECENT and sum(self._recent) > _RECENT // 2:
            detail = f"more than half of the last {_RECENT} requests failed for good"
            if done.error is not None:
                detail += f", the last one with: {done.error.detail}"
            self._give_up(FatalError(detail, "see whether the endpoint is well, then run the same command again"))

    def _give_up(self, doom: FatalError, job: _Job | None = None) -> None:
        if self._doom is None:
            self._doom = doom
        if job is not None:
            self._end_doomed(job)
        self._give_up_all()

    def _give_up_all(self) -> None:
        while self._incoming:
            self._end_doomed(self._incoming.popleft())
        while self._parked:
            self._end_doomed(heapq.heappop(self._parked)[3])

    def _end_all(self) -> None:
        self._incoming.clear()
        self._parked.clear()
        for job in list(self._jobs):
            self._end_doomed(job)

    def _end_doomed(self, job: _Job) -> None:
        self._hand_over(job, Done(job.token, None, self._doom, job.sent, 0.0))

    def _hand_over(self, job: _Job, done: Done[Any]) -> None:
        """Exactly once for each job: what has ended is nobody's any more."""
        if job in self._jobs:
            self._jobs.discard(job)
            job.done.put(done)


def _storable(answer: Answer, secrets: Sequence[str] = ()) -> Answer:
    """An answer, as it came -> the same as it can be stored: clean text, counts that a column can hold, and no secret
    that the process was given, should the endpoint quote one. All that is written stems from here: the ledger, rows,
    rejects, the card.

    A row may so depend on the key; but a reply that quotes the key depends on it by itself, and the mask takes that
    dependence away.
    """
    text, model = clean_text(masked(answer.text, secrets)), clean_name(masked(answer.model, secrets))
    prompt, output = min(answer.prompt_tokens, _MOST_TOKENS), min(answer.output_tokens, _MOST_TOKENS)
    if (text, model, prompt, output) == (answer.text, answer.model, answer.prompt_tokens, answer.output_tokens):
        return answer
    return dataclasses.replace(answer, text=text, model=model, prompt_tokens=prompt, output_tokens=output)


def _unwritable(ledger: Ledger, error: Exception) -> FatalError:
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return FatalError(
        f"the ledger {ledger.folder} cannot be written: {reason}",
        "what was paid for before is kept; make room or mend the folder, then run the same command again",
    )


_engines: Final[dict[tuple[Backend, Settings, Ledger | None], Engine]] = {}
_given_up: Final[list[Engine]] = []  # not closed at once: others may wait for what these have in flight
_engines_lock: Final = threading.Lock()


def engine_for(backend: Backend, settings: Settings, ledger: Ledger | None = None) -> Engine:
    """-> the process's engine for this back end, these settings and this ledger, made at the first call."""
    with _engines_lock:
        engine = _engines.get((backend, settings, ledger))
        if engine is None or (engine.is_doomed and not engine.is_of_no_use):
            if engine is not None:
                _given_up.append(engine)
            engine = _engines[backend, settings, ledger] = Engine(backend, settings, ledger)
        return engine


def close_engines() -> None:
    """Closes all engines of this process, with their connections."""
    with _engines_lock:
        for engine in (*_engines.values(), *_given_up):
            engine.close()
        _engines.clear()
        _given_up.clear()


atexit.register(close_engines)
