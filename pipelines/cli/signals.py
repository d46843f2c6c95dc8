"""Ctrl-C and a request to end: a run stops in order, whatever it is doing; asked twice, at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from textmint.transforms.core import progress

ENDING: Final = "ending"
"""The file of the folder of progress by which worker processes are told that the run is to end. Beam waits for them
without a limit, and one that it was just starting would wait for Beam (fn_api_runner/worker_handlers.py, 2.77)."""
_SAME_SECONDS: Final = 0.5
"""A signal so soon after the first is the same request: a terminal sends Ctrl-C to all processes of a command, and the
one that has started ours may hand it on as well."""


@contextlib.contextmanager
def ending_on_signals() -> Iterator[list[int]]:
    """While its `with` block runs, SIGINT and SIGTERM raise KeyboardInterrupt in it; a second one ends the process.

    Yields:
      the signals that came. Beam wraps what a step raises into its own error, so a handler looks here for the cause.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield came
        return
    first = 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not came:
            came.append(number)
            first = time.monotonic()
            threading.excepthook = lambda lost: None  # Beam's threads lose their workers now, which is no news
            if folder := os.environ.get(progress.VARIABLE):
                with contextlib.suppress(OSError):
                    Path(folder, ENDING).touch()
            raise KeyboardInterrupt
        if time.monotonic() - first > _SAME_SECONDS:
            _end_at_once(number, frame)

    hook = threading.excepthook
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        threading.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def ended_by(signals: Sequence[int]) -> signal.Signals:
    """Returns the signal that ended a command."""
    return signal.Signals(signals[0]) if signals else signal.SIGINT


def end_at_once_on_signals() -> None:
    """From now on SIGINT and SIGTERM end this process without a traceback: it has just begun, or is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"ended by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)
