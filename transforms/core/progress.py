"""Progress of a run on one machine: each worker process writes how far it is into a small file of its own.

Beam's local runner gives no metrics before its end. The launcher names a folder in the environment variable
TEXTMINT_PROGRESS, another one for each pass over the graph, and adds up what workers write there. Without the variable
(on Dataflow) nothing is written. No row and no check depends on the counts.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "TEXTMINT_PROGRESS"
TOKENS: Final = "tokens"
"""Of replies that this run paid for, prompts among them."""
UNPRICED: Final = "tokens.unpriced"
"""Of these, those whose price is not known."""
PICODOLLARS: Final = "picodollars"
"""What the others cost."""
_INTERVAL: Final = 0.5  # seconds between two writes of a process


class _Board:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: str | None = None
        self._has_looked = False
        self._counts: collections.Counter[str] = collections.Counter()
        self._written = 0.0

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            if not self._has_looked:
                self._look()
            if self._folder is None:
                return
            self._counts[name] += amount
            if time.monotonic() - self._written >= _INTERVAL:
                self._write()

    def flush(self) -> None:
        with self._lock:
            self._look()
            if self._folder is not None:
                self._write()
            self._has_looked = False  # the next bundle may be of another run; within one the variable stays as it is

    def _look(self) -> None:
        folder = os.environ.get(VARIABLE)
        self._has_looked = True
        if folder != self._folder:  # another run in the same process
            self._folder, self._written = folder, 0.0
            self._counts.clear()

    def _write(self) -> None:
        self._written = time.monotonic()
        path = Path(self._folder or "", f"{os.getpid()}.json")
        part = path.with_suffix(".part")
        with contextlib.suppress(OSError):  # a full disk must not end a run for the sake of a progress line
            part.write_text(json.dumps(self._counts))
            part.replace(path)


_board = _Board()
add = _board.add
flush = _board.flush


def begin(folder: str) -> None:
    """Lets the workers of the next pass count in this folder, which is for one run."""
    passes = sum(1 for _ in Path(folder).iterdir())
    own = Path(folder, f"{passes:06d}")
    own.mkdir()
    os.environ[VARIABLE] = str(own)
    flush()  # a pass before, in this process, may have ended amid a bundle


def begin_pass() -> None:
    """Lets the workers of another pass of the same run count from 0 again."""
    if folder := os.environ.get(VARIABLE):
        begin(str(Path(folder).parent))


def read(folder: str) -> collections.Counter[str]:
    """Adds up the counts of all worker processes: of the last pass of a run, and what all passes have paid."""
    *before, last = [_read_pass(path) for path in sorted(Path(folder).iterdir())] or [collections.Counter()]
    for name in (TOKENS, UNPRICED, PICODOLLARS):
        if paid := sum(counts[name] for counts in before):
            last[name] += paid
    return last


def _read_pass(folder: Path) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            counts = json.loads(path.read_text())
            if isinstance(counts, dict):
                total.update({name: count for name, count in counts.items() if isinstance(count, int)})
    return total
