"""The engine: one event loop a process and configuration, on a thread of its own, that keeps a window of requests
in flight for all threads of the process.

A bundle submits requests and takes what is complete from a queue of its own; the window refills the moment a request
ends, whichever bundle it belongs to, so no call waits for the slowest of its batch.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import queue
import threading
from typing import Any, Final, Generic, TypeVar

from transforms.llm.base import Answer, Backend, Request

Token = TypeVar("Token")


@dataclasses.dataclass(frozen=True, slots=True)
class Done(Generic[Token]):
    """A request that has ended: what the caller gave along with it, and the answer or what went wrong."""

    token: Token
    answer: Answer | None
    error: str | None


class Engine:
    """Sends requests to one back end, at most `max_concurrency` at a time in this process."""

    def __init__(self, backend: Backend, max_concurrency: int) -> None:
        self._backend = backend
        self._max_concurrency = max_concurrency
        self._waiting: collections.deque[tuple[Request, Any, queue.SimpleQueue[Done[Any]]]] = collections.deque()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="llm-engine", daemon=True).start()

    def submit(self, request: Request, token: Token, done: queue.SimpleQueue[Done[Token]]) -> None:
        """Queues a request; when it has ended, `done` receives it. Callable from any thread."""
        self._waiting.append((request, token, done))
        self._loop.call_soon_threadsafe(self._pump)

    def _pump(self) -> None:
        while self._waiting and self._in_flight < self._max_concurrency:
            self._in_flight += 1
            task = self._loop.create_task(self._call(*self._waiting.popleft()))
            self._tasks.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(self._tasks.discard)

    async def _call(self, request: Request, token: Token, done: queue.SimpleQueue[Done[Token]]) -> None:
        try:
            done.put(Done(token, await self._backend.generate(request), None))
        except Exception as error:  # whatever a client raises, the element is not lost
            done.put(Done(token, None, " ".join(f"{type(error).__name__}: {error}".split())))
        finally:
            self._in_flight -= 1
            self._pump()


_engines: Final[dict[tuple[Backend, int], Engine]] = {}
_engines_lock: Final = threading.Lock()


def engine_for(backend: Backend, max_concurrency: int) -> Engine:
    """-> the process's engine for this back end and window, made at the first call."""
    with _engines_lock:
        key = (backend, max_concurrency)
        if key not in _engines:
            _engines[key] = Engine(backend, max_concurrency)
        return _engines[key]
