"""The requests of an engine that have not ended: those that came, and those that wait for another try."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import math
import queue
from typing import Any, Generic, TypeVar

from textmint.transforms.llm.base import Answer, Request, RequestError

Token = TypeVar("Token")


@dataclasses.dataclass(frozen=True, slots=True)
class Done(Generic[Token]):
    """A request that has ended."""

    token: Token  # what the caller gave along with it
    answer: Answer | None  # None where there is none
    error: RequestError | None  # what went wrong the last time, where there is no answer
    sent: int  # how many times it was sent
    latency: float = 0.0  # seconds from the last sending to the answer
    throttled: int = 0  # how many times of these the endpoint had no room for it


@dataclasses.dataclass(slots=True, eq=False)
class Job:
    """A request that has not ended."""

    request: Request
    token: Any
    done: queue.SimpleQueue[Done[Any]]
    sent: int = 0  # how many times
    throttled: int = 0  # how many times of these the endpoint had no room for it
    failures: int = 0  # tries that count
    refusals: int = 0  # tries that the endpoint had no room for, while it answered others
    answered_before: int = 0  # how many answers the engine had when this one failed last


class JobQueue:
    """All requests that have not ended. `add` and `end` may be called from any thread."""

    def __init__(self) -> None:
        self._open: set[Job] = set()  # wherever they are, those in flight too
        self._incoming: collections.deque[Job] = collections.deque()
        self._parked: list[tuple[float, int, bool, Job]] = []  # due, tie, throttled?, job
        self._ties = itertools.count()

    def __bool__(self) -> bool:
        """Tells whether any waits to be sent."""
        return bool(self._incoming or self._parked)

    def add(self, job: Job) -> None:
        """Adds a request that waits to be sent."""
        self._open.add(job)
        self._incoming.append(job)

    def park(self, job: Job, due: float, *, is_throttled: bool) -> None:
        """Lets a request wait for another try until it is due."""
        heapq.heappush(self._parked, (due, next(self._ties), is_throttled, job))

    @property
    def has_new(self) -> bool:
        """Whether any waits that was never parked."""
        return bool(self._incoming)

    @property
    def next_due(self) -> float:
        """When the first of those that are parked is due; infinity where none is."""
        return self._parked[0][0] if self._parked else math.inf

    @property
    def waits_for_room(self) -> bool:
        """Whether the endpoint had no room for the one that is due first."""
        return bool(self._parked) and self._parked[0][2]

    def pop(self, *, from_parked: bool) -> Job:
        """Takes out the first request."""
        return heapq.heappop(self._parked)[3] if from_parked else self._incoming.popleft()

    def end(self, job: Job, error: RequestError | None, answer: Answer | None = None, latency: float = 0.0) -> None:
        """Hands a request back, exactly once: what has ended is nobody's any more."""
        if job in self._open:
            self._open.discard(job)
            job.done.put(Done(job.token, answer, error, job.sent, latency, job.throttled))

    def end_waiting(self, error: RequestError | None) -> None:
        """Ends all requests that are not in flight."""
        while self._incoming:
            self.end(self._incoming.popleft(), error)
        while self._parked:
            self.end(heapq.heappop(self._parked)[3], error)

    def end_all(self, error: RequestError | None) -> None:
        """Ends all requests, those in flight too."""
        self._incoming.clear()
        self._parked.clear()
        for job in list(self._open):
            self.end(job, error)
