"""The engine: one event loop a process and configuration, on a thread of its own, that keeps a window of requests
in flight for all threads of the process.

A bundle submits requests and takes what is complete from a queue of its own; the window refills the moment a request
ends, whichever bundle it belongs to. Requests that wait for a second try hold no place in the window.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import dataclasses
import logging
import math
import os
import queue
import sys
import threading
from typing import Final

from textmint.transforms.core.elements import Kind
from textmint.transforms.core.temporary import is_alive
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm import descriptors
from textmint.transforms.llm.base import (
    Answer,
    Backend,
    FatalError,
    Request,
    RequestError,
    Session,
    Throttled,
    Transient,
    fingerprint_of,
)
from textmint.transforms.llm.brake import Brake, Taken
from textmint.transforms.llm.jobs import Done, Job, JobQueue, Token
from textmint.transforms.llm.limiter import Limiter, Limits, Outcome
from textmint.transforms.llm.reject_rate import MOST, Fault, RejectRate
from textmint.transforms.llm.reply_keeper import ReplyKeeper, storable
from textmint.transforms.llm.retry import RetryPolicy

if sys.version_info >= (3, 11):
    from asyncio import Timeout, timeout

    _has_expired = Timeout.expired
else:  # which aiohttp depends on there
    from async_timeout import Timeout, timeout  # type: ignore[import-not-found, unused-ignore]

    _has_expired = Timeout.expired.fget

_LOG = logging.getLogger("textmint")
_CHARACTERS_PER_TOKEN: Final = 4
_CLOSING_SECONDS: Final = 5.0  # for what is in flight to end, and again for connections
_LEDGER_SECONDS: Final = 0.1  # between two looks whether the ledger has caught up
LAUNCHER: Final = "TEXTMINT_LAUNCHER"
"""The environment variable in which a run on this machine tells its worker processes its own process id. A worker that
outlives a killed run would pay for a run that is over. `local_worker` looks too; an engine with a worker command of its
own does not start it."""
_LAUNCHER_SECONDS: Final = 0.5  # between two looks


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How requests are sent. A value that lets no request succeed raises ValueError."""

    limits: Limits = dataclasses.field(default_factory=Limits)  # of one process
    request_timeout: float = 120.0  # seconds that one try may take
    max_attempts: int = 5  # tries of one request
    # the share of replies to prompts of one kind that may be refused, see `RejectRate`; with 1 all.
    max_reject_rate: float = MOST
    brake: Brake | None = None  # of a run with a cap
    has_answered: bool = False  # whether the endpoint has answered this run before, in another pass

    def __post_init__(self) -> None:
        if not 0 < self.request_timeout < math.inf:
            raise ValueError(f"request_timeout is {self.request_timeout} seconds, but must be above 0")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}, but must be 1 or more")
        if not 0 <= self.max_reject_rate <= 1:
            raise ValueError(f"max_reject_rate is {self.max_reject_rate}, but lies between 0 and 1")


class Engine:
    """Sends requests to one back end. It is made by `engine_for`."""

    def __init__(self, backend: Backend, settings: Settings, ledger: Ledger | None = None) -> None:
        self._backend = backend
        self._settings = settings
        self._session: Session | None = None
        self._doom: FatalError | None = None  # why no more is asked
        self._jobs = JobQueue()
        self._retries = RetryPolicy(settings.max_attempts, settings.has_answered)
        self._tasks: set[asyncio.Task[None]] = set()
        self._probe_is_out = False
        self._reject_rates: dict[Kind, RejectRate] = {}
        self._taken = Taken(settings.brake) if settings.brake is not None else None
        self._is_of_no_use = False
        self._wake_is_due = False
        self._is_closed = False
        self._is_over = False  # the loop has ended, by `close` or by a fault: nothing would answer any more
        self._closing = threading.Lock()  # between what is submitted and the end of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._throttled_since: float | None = None
        self._throttled_seconds: collections.deque[float] = collections.deque()
        self._connections = settings.limits.max_concurrency if hasattr(backend, "base_url") else 0
        self._keeper: ReplyKeeper | None = None
        launcher = os.environ.get(LAUNCHER, "")
        self._launcher = int(launcher) if launcher.isdecimal() and int(launcher) != os.getpid() else None
        self._launcher_seen = -math.inf
        try:
            if self._connections and not descriptors.claim(self._connections):
                self._connections, most = 0, settings.limits.max_concurrency
                raise FatalError(
                    f"--max_concurrency={most} needs more open files than a process may have",
                    f"choose {descriptors.most_connections()} or less, or raise the hard limit (ulimit -Hn)",
                )
            if ledger is not None:
                self._keeper = ReplyKeeper(ledger, fingerprint_of(backend))
        except FatalError as error:
            self._doom = error
        self._loop = asyncio.new_event_loop()
        self._limiter = Limiter(settings.limits, self._loop.time())
        self._thread = threading.Thread(target=self._run_loop, name="llm-engine", daemon=True)
        self._thread.start()

    # --- called from any thread

    @property
    def is_doomed(self) -> bool:
        """Whether it has given up, and answers nothing any more."""
        return self._doom is not None

    @property
    def is_of_no_use(self) -> bool:
        """Whether it has given up for good: another engine of the run would but pay for more of the same."""
        return self._is_of_no_use and self._keeper is not None

    def count_reply(self, request: Request, answer: Answer, fault: Fault | None) -> FatalError | None:
        """Counts a paid answer and why no row comes of it, and gives up where too many bring none: returns why no more
        is asked."""
        rate = self._reject_rates.get(request.kind)
        if rate is None:  # of two threads at once the first one counts
            rate = self._reject_rates.setdefault(request.kind, RejectRate(request.kind, self._settings.max_reject_rate))
        problem = rate.add(fault, answer.text)
        if problem is None:
            return None
        self._is_of_no_use = True
        detail, remedy = problem
        if self._keeper is not None:
            remedy = f"what was paid for is kept; {remedy}"
        with self._closing:
            self._doom = self._doom or FatalError(detail, remedy)
            if not self._is_closed:
                self._loop.call_soon_threadsafe(self._pump)
        return self._doom

    def submit(self, request: Request, token: Token, done: queue.SimpleQueue[Done[Token]]) -> None:
        """Queues a request; when it has ended, `done` receives it, always exactly once."""
        with self._closing:
            if self._is_closed or self._is_over:
                done.put(Done(token, None, self._doom, sent=0))
                return
            self._jobs.add(Job(request, token, done))
            if not self._wake_is_due:  # one wake-up serves all that came in until it runs
                self._wake_is_due = True
                self._loop.call_soon_threadsafe(self._wake)

    def take_throttled_seconds(self) -> float:
        """Returns the seconds in which the endpoint's throttling held requests back, since the call before."""
        seconds = 0.0
        with contextlib.suppress(IndexError):  # of deques, append and pop are safe between threads
            while True:
                seconds += self._throttled_seconds.pop()
        return seconds

    def flush_ledger(self) -> None:
        """Waits until every reply that was handed out is in the ledger, or raises a FatalError."""
        if self._keeper is not None:
            self._keeper.flush()

    def close(self) -> None:
        """Ends all requests as doomed, cancels what is in flight, closes connections and the ledger, and ends the
        thread. A second call does nothing."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self._doom = self._doom or FatalError("the run has ended", "run the same command again")
        if not self._is_over:
            with contextlib.suppress(Exception):  # a connection that cannot be closed must not keep the rest open
                closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
                closing.result(timeout=3 * _CLOSING_SECONDS)
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._loop.stop)
        descriptors.give_back(self._connections)
        self._thread.join(timeout=2 * _CLOSING_SECONDS)
        if self._keeper is not None:
            self._keeper.close()

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
                self._jobs.end_all(self._doom)
            if not self._is_closed:
                with contextlib.suppress(BaseException):  # what was in flight; nobody waits for it
                    self._loop.run_until_complete(self._close())
            self._loop.close()

    async def _close(self) -> None:
        self._jobs.end_waiting(self._doom)
        self._set_timer(math.inf)
        if self._is_of_no_use and self._tasks:  # what is in flight is paid for, and the next run builds on it
            await asyncio.wait(self._tasks, timeout=_CLOSING_SECONDS)
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
        """Starts whatever may start now, and arranges to be called again when more may."""
        try:
            self._start_due()
        except FatalError as error:
            self._give_up(error)
        except Exception as error:
            # Of a ledger's writer that lacks a method, for instance. asyncio would log it and go on, and whoever waits
            # for a request that was never started would wait for ever.
            self._break(error)

    def _start_due(self) -> None:
        now = self._loop.time()
        if self._launcher is not None and now - self._launcher_seen > _LAUNCHER_SECONDS:
            self._launcher_seen = now
            if not is_alive(self._launcher):
                raise FatalError("the process that started the run is gone", "start it again")
        if self._doom is not None:
            self._jobs.end_waiting(self._doom)
            return
        is_behind = self._keeper is not None and self._keeper.is_behind(now)
        delay = math.inf
        is_due = False
        while not is_behind and (is_due := self._is_due(now)):
            delay = self._limiter.delay(now)
            if delay > 0:
                break
            self._probe_is_out = not self._retries.is_open
            self._start(self._pop(now), now)
        self._count_throttled(now, is_due)
        if is_behind:
            delay = _LEDGER_SECONDS
        elif not is_due and self._retries.is_open:
            delay = self._jobs.next_due - now
        elif not is_due and not self._probe_is_out and self._jobs:
            delay = self._retries.probe_after - now
        self._set_timer(delay)

    def _set_timer(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, self._pump) if 0 < delay < math.inf else None

    def _is_due(self, now: float) -> bool:
        if self._probe_is_out:
            return False
        if not self._retries.is_open:
            return now >= self._retries.probe_after and bool(self._jobs)
        return self._jobs.has_new or self._jobs.next_due <= now

    def _pop(self, now: float) -> Job:
        """Takes out the next request. What was parked and is due comes first: it has waited longest."""
        if self._retries.is_open:
            return self._jobs.pop(from_parked=self._jobs.next_due <= now)
        takes_new = self._jobs.has_new and self._retries.prefers_new_probe
        return self._jobs.pop(from_parked=self._jobs.next_due < math.inf and not takes_new)

    def _count_throttled(self, now: float, is_due: bool) -> None:
        if self._throttled_since is not None:
            self._throttled_seconds.append(now - self._throttled_since)
            self._throttled_since = None
        if self._limiter.in_flight < self._settings.limits.max_concurrency:
            is_throttled = self._limiter.throttle_delay(now) > 0 if is_due else self._jobs.waits_for_room
            self._throttled_since = now if is_throttled else None

    def _start(self, job: Job, now: float) -> None:
        self._retries.count_sent(job)
        reserved = self._limiter.start(now, len(job.request.text) // _CHARACTERS_PER_TOKEN)
        task = self._loop.create_task(self._try(job, now, reserved))
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self._is_closed:
            self._break(error)

    async def _try(self, job: Job, started: float, reserved: float) -> None:
        """Sends a request once, and decides what becomes of it."""
        answer: Answer | None = None
        error: RequestError | None = None
        try:
            answer = await self._answer(job.request)
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
            self._retries.count_answer()
            if self._keeper is not None:
                try:
                    self._keeper.keep(job.request, answer, now - started)
                except FatalError as unwritable:  # it ends the run, but the answer is handed out all the same
                    self._give_up(unwritable)
            if self._taken is not None and (problem := self._taken.add(job.request.kind, answer)):
                self._is_of_no_use = True
                self._give_up(FatalError(problem, "what was paid for is kept; run the same command again"))
            self._finish(job, answer, None, now - started)
        elif error is not None:
            self._handle(job, error, now)
        self._pump()

    async def _answer(self, request: Request) -> Answer:
        """Asks the back end once, and returns its answer as it can be stored."""
        if self._session is None:
            self._session = await self._backend.open()
        limit = timeout(self._settings.request_timeout)
        try:
            async with limit:
                answer = await self._session.generate(request)
        except asyncio.TimeoutError:
            if not _has_expired(limit):  # it is the back end's own
                raise
            raise Transient(f"no answer within {self._settings.request_timeout:g} s") from None
        secrets = getattr(self._session, "secrets", None)
        return storable(answer, secrets() if secrets is not None else ())

    def _handle(self, job: Job, error: RequestError, now: float) -> None:
        job.throttled += isinstance(error, Throttled)
        decision = self._retries.decide(job, error, now, bool(self._jobs))
        if isinstance(decision, FatalError):
            self._give_up(decision, job)
        elif isinstance(decision, RequestError):
            self._finish(job, None, decision)
        else:
            self._jobs.park(job, now + decision, is_throttled=isinstance(error, Throttled))

    def _finish(self, job: Job, answer: Answer | None, error: RequestError | None, latency: float = 0.0) -> None:
        self._jobs.end(job, error, answer, latency)
        doom = self._retries.count_end(error)
        if doom is not None:
            self._give_up(doom)

    def _give_up(self, doom: FatalError, job: Job | None = None) -> None:
        """Ends the run: all that waits ends as doomed, and the request for which this is."""
        self._doom = self._doom or doom
        if job is not None:
            self._jobs.end(job, self._doom)
        self._jobs.end_waiting(self._doom)

    def _break(self, error: BaseException) -> None:
        """Ends the run for a fault of this program, or of what it was handed (a back end, a ledger): all requests end
        as doomed, with the reason, those in flight as well, since what should end them may be what broke."""
        _LOG.error("the engine that sends requests broke", exc_info=error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = "this is a fault of the program; what was paid for before is kept"
        self._doom = self._doom or FatalError(f"the engine that sends requests broke: {reason}", remedy)
        self._jobs.end_all(self._doom)


_engines: Final[dict[tuple[Backend, Settings, Ledger | None], Engine]] = {}
_given_up: Final[list[Engine]] = []  # not closed at once: others may wait for what these have in flight
_engines_lock: Final = threading.Lock()


def engine_for(backend: Backend, settings: Settings, ledger: Ledger | None = None) -> Engine:
    """Returns the process's engine for this back end, these settings and this ledger, made at the first call."""
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
