"""A time limit for an await: `asyncio.timeout`, which Python 3.10 lacks, and without the task that wait_for costs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from textmint.transforms.llm.base import Transient


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Cancels what the block awaits when it takes longer.

    Raises:
      Transient: it did.
    """
    task = asyncio.current_task()
    assert task is not None, "called from a coroutine"
    has_expired = False

    def expire() -> None:
        nonlocal has_expired
        has_expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError:
        if not has_expired:
            raise
        if hasattr(task, "uncancel"):
            task.uncancel()
        raise Transient(f"no answer within {seconds:g} s") from None
    finally:
        timer.cancel()
