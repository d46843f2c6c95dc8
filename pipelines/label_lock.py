"""One run at a time for a label of a local dataset folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.option_error import OptionError
from transforms.write_dataset import STAGING, Target


@contextlib.contextmanager
def label_lock(target: Target) -> Iterator[None]:
    """While its `with` block runs, no other run of the label writes to the folder. The lock belongs to the open file,
    so it goes with the process, however that ends.

    Raises:
      OptionError: another run of the label is under way.
    """
    path = Path(target.output, STAGING, f"{target.label}.lock")
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # a run that ended just now took the folder away
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise OptionError(
                f"--refresh={target.refresh}: another run of this label is writing to {target.output}; "
                "wait for its end, or choose another label or folder"
            ) from None
        if _is_still(path, lock):
            break
        os.close(lock)  # its owner ended and took it away between our two calls
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # only where nothing else is in it
        os.close(lock)


def _is_still(path: Path, lock: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(lock).st_ino
    except FileNotFoundError:
        return False
