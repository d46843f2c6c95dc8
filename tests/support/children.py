"""Processes that tests may kill, forked in milliseconds from one that has imported what they need."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "textmint.transforms.storage.files",
        "textmint.transforms.ledger.files",
        "textmint.transforms.storage.lease",
        "tests.support.helpers",
        "tests.support.ledger_rows",
    ]
)


class Child:
    """A process that runs a function of a module, with its end of a pipe as the first argument."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=function, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid or 0

    def told(self) -> Any:
        """Returns what it sends next."""
        assert self.pipe.poll(20), "the child says nothing"
        return self.pipe.recv()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._process.join(20)
        assert self._process.exitcode == -signal.SIGKILL

    def end(self) -> None:
        """Waits until it ends by itself."""
        self._process.join(20)
        assert self._process.exitcode == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.join(20)
        self.pipe.close()


@contextlib.contextmanager
def child(function: Callable[..., None], *arguments: Any) -> Iterator[Child]:
    """While the `with` block runs, there is a process that runs the function."""
    started = Child(function, *arguments)
    try:
        yield started
    finally:
        started.stop()


def open_under(folder: Path) -> list[str]:
    """Returns the files of a folder, deleted ones too, that this process holds open (on Linux)."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the listing's own
                path = os.readlink(f"/proc/self/fd/{descriptor}")
                if path.startswith(str(folder)):
                    found.append(path)
    return found
