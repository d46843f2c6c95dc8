"""Ctrl-C and a request to end: a run stops in order, whatever it is doing."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def ending_on_signals() -> Iterator[list[int]]:
    """While its `with` block runs, SIGINT and SIGTERM raise KeyboardInterrupt in it.

    Yields:
      the signals that came. Beam wraps what is raised inside a step into an error of its own, so whoever catches an
      error looks here for what it really was.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield came
        return

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
