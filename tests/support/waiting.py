"""Waiting in tests for what other threads and processes do."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from textmint.transforms.storage.lease import LeaseTakenError, hold


def wait_until(is_so: Callable[[], bool], run: subprocess.Popen[str] | None = None, seconds: float = 5.0) -> None:
    """Returns when it is so.

    Args:
      run: what has to be alive all the while.
      seconds: that it may take.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        assert run is None or run.poll() is None, run.communicate()[1]
        time.sleep(0.002)


@contextlib.contextmanager
def contenders(output: str, name: str, count: int, seconds: float = 5.0) -> Iterator[tuple[list[str], list[str]]]:
    """Lets so many ask for a lease at once; says who holds it while the `with` block runs, and who was refused."""
    inside: list[str] = []
    refused: list[str] = []
    everybody = threading.Barrier(count)
    enough = threading.Event()

    def come(owner: str) -> None:
        everybody.wait(5)
        try:
            with hold(output, name, owner):
                inside.append(owner)
                enough.wait(10)
        except LeaseTakenError:
            refused.append(owner)

    threads = [threading.Thread(target=come, args=(f"owner {n}",)) for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(inside) + len(refused) == count, seconds=seconds)
        yield inside, refused
    finally:
        enough.set()
        for thread in threads:
            thread.join(5)
