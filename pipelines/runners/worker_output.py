"""Captures what local worker processes print, so that a user's mistake does not end in four tracebacks."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

_TAIL_BYTES = 20_000


@contextlib.contextmanager
def capture_worker_output(wanted: bool) -> Iterator[Callable[[], str]]:
    """Sends what worker processes write to standard error to a temporary file while its `with` block runs, if `wanted`.
    They inherit standard error, and print the traceback of whatever a step raises, our own refusals too.

    Yields:
      A function that returns the end of what was written so far.
    """
    if not wanted:
        yield lambda: ""
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        real = os.dup(2)
        os.dup2(aside.fileno(), 2)
        ours = os.fdopen(
            os.dup(real), "w", buffering=1, encoding=sys.stderr.encoding or "utf-8", errors="backslashreplace"
        )
        before = sys.stderr
        _redirect(before, ours)

        def tail() -> str:
            aside.seek(0, os.SEEK_END)
            aside.seek(max(0, aside.tell() - _TAIL_BYTES))
            return aside.read().decode("utf-8", "replace")

        try:
            yield tail
        finally:
            _redirect(ours, before)
            ours.close()
            os.dup2(real, 2)
            os.close(real)


def _redirect(old: object, new: object) -> None:
    """Moves standard error, and the logs that go there, to another stream, unless somebody else (a test) took standard
    error over."""
    if getattr(old, "name", None) != "<stderr>" and getattr(new, "name", None) != "<stderr>":
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)
    sys.stderr = new
