"""An engine over a back end that does what a test says."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from textmint.transforms.core.identity import Part, stable_hash
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm.base import Answer, FatalError, Request
from textmint.transforms.llm.engine import Engine, Settings
from textmint.transforms.llm.jobs import Done
from textmint.transforms.llm.limiter import Limits

ANSWER = Answer(text="yes", finish_reason="stop", model="m-1", prompt_tokens=7, output_tokens=3)
Play = Callable[[Request, int], Any]


@dataclasses.dataclass
class Seen:
    """What the back end of a name has seen, and what it is to do. Back ends are frozen, and may be pickled."""

    play: Play = lambda request, visit: None
    wait: float = 0.0  # seconds that an answer takes
    open_fault: Exception | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    calls: list[tuple[str, float]] = dataclasses.field(default_factory=list)  # text, when
    visits: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    ids: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    in_flight: int = 0
    most: int = 0
    opened: int = 0
    closed: int = 0
    threads: set[int] = dataclasses.field(default_factory=set)


seen_by: dict[str, Seen] = collections.defaultdict(Seen)
names = (f"scripted-{number}" for number in itertools.count())


@dataclasses.dataclass(frozen=True)
class Scripted:
    """Does what `Seen.play` says of a request and of how many times it came before: None answers, an exception is
    raised, a number of seconds is waited, "hang" never ends."""

    name: str
    temperature: float = 1.0

    def fingerprint(self) -> Mapping[str, Part]:
        return {"backend": "scripted", "temperature": self.temperature}

    async def open(self) -> Scripted:
        seen = seen_by[self.name]
        seen.opened += 1
        if seen.open_fault is not None:
            raise seen.open_fault
        return self

    async def generate(self, request: Request) -> Answer:
        seen = seen_by[self.name]
        with seen.lock:
            visit = seen.visits[request.text]
            seen.visits[request.text] += 1
            seen.ids[request.request_id] += 1
            seen.calls.append((request.text, time.monotonic()))
            seen.in_flight += 1
            seen.most = max(seen.most, seen.in_flight)
            seen.threads.add(threading.get_ident())
        try:
            planned = seen.play(request, visit)
            if planned == "hang":
                await asyncio.Event().wait()
            await asyncio.sleep(planned if isinstance(planned, float) else seen.wait)
            if isinstance(planned, BaseException):
                raise planned
            return planned if isinstance(planned, Answer) else dataclasses.replace(ANSWER, text=request.text)
        finally:
            with seen.lock:
                seen.in_flight -= 1

    async def aclose(self) -> None:
        seen_by[self.name].closed += 1


def ask_for(text: str, attempt: int = 0) -> Request:
    """The request for a text, which is its prompt."""
    request_id, prompt_id = stable_hash("request", text, attempt), stable_hash("draft", text)
    given: dict[str, Any] = {"prompt_id": prompt_id, "attempt": attempt, "seed": 1, "variables": {}}
    return Request(request_id=request_id, kind="example", text=text, **given)


@dataclasses.dataclass
class Running:
    """An engine, and what came out of it."""

    engine: Engine
    seen: Seen
    done: queue.SimpleQueue[Done[str]] = dataclasses.field(default_factory=queue.SimpleQueue)

    def ask(self, asked: Sequence[str]) -> Running:
        """Queues all of them before the first is sent."""
        are_queued = threading.Event()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.engine._loop.call_soon_threadsafe(are_queued.wait, 10)
        for text in asked:
            self.engine.submit(ask_for(text), text, self.done)
        are_queued.set()
        return self

    def take(self, count: int) -> dict[str, Done[str]]:
        """Takes what has ended, by token, and checks that it is no more than that."""
        found: dict[str, Done[str]] = {}
        for _ in range(count):
            each = self.done.get(timeout=10)
            assert each.token not in found
            found[each.token] = each
        assert self.done.empty()
        return found

    def answers(self, asked: Sequence[str]) -> dict[str, Done[str]]:
        """Asks, and takes as many."""
        return self.ask(asked).take(len(asked))


@contextlib.contextmanager
def running(
    play: Play | None = None,
    wait: float = 0.0,
    *,
    ledger: Ledger | None = None,
    request_timeout: float = 120.0,
    max_attempts: int = 5,
    **limits: Any,
) -> Iterator[Running]:
    """While the `with` block runs, there is an engine; afterwards nothing of it is left."""
    name = next(names)
    seen = seen_by[name]
    seen.wait = wait
    seen.play = play or seen.play
    settings = Settings(limits=Limits(**limits), request_timeout=request_timeout, max_attempts=max_attempts)
    engine = Engine(Scripted(name), settings, ledger)
    try:
        yield Running(engine, seen)
    finally:
        engine.close()
        assert not engine._thread.is_alive()
        assert seen.in_flight == 0
        assert not engine._tasks
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ledger-")]
        del seen_by[name]


def texts(count: int) -> list[str]:
    return [f"prompt {number}" for number in range(count)]


def all_doomed(found: Mapping[str, Done[str]]) -> FatalError:
    """The one error with which all have ended."""
    errors = {id(done.error): done.error for done in found.values()}
    assert all(done.answer is None for done in found.values())
    (error,) = errors.values()
    assert isinstance(error, FatalError)
    return error
