"""Temporary folders and files. What a killed process has left behind is removed by the next one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PART: Final = "_part-"
"""What the names of files begin with that are not yet whole."""
_PREFIX: Final = "textmint-"
_FOLDER: Final = re.compile(r"textmint-(?:progress|push)-(?:(?P<pid>[0-9]+)-)?[A-Za-z0-9_]+")
_FILE: Final = re.compile(r"_part-(?P<pid>[0-9]+)-[0-9]+(?:-(?P<host>.*))?")
_OLD_SECONDS: Final = 86_400.0  # of one whose process cannot be asked for


def is_alive(process: int) -> bool:
    """Says whether there is a process of this id on this machine, be it somebody else's."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def part_name() -> str:
    """Makes a name for a file that is not yet whole, to which nobody else writes at this moment.

    It does not hold the final name, which may be as long as names can be.
    """
    return f"{PART}{os.getpid()}-{threading.get_ident()}-{socket.gethostname()}"


@contextlib.contextmanager
def temporary_folder(use: str) -> Iterator[str]:
    """Makes a folder for as long as its `with` block runs, among the system's temporary files, and yields its path.

    Args:
      use: progress or push.
    """
    remove_left_folders(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{use}-{os.getpid()}-") as path:
        yield path


def remove_left_folders(where: str) -> None:
    """Removes the temporary folders of processes that are gone, from the system's folder for such files."""
    for path in _in(where):
        found = _FOLDER.fullmatch(path.name)
        with contextlib.suppress(OSError):
            told = path.lstat()
            if found and stat.S_ISDIR(told.st_mode) and told.st_uid == os.getuid() and _is_left(found["pid"], told):
                shutil.rmtree(path, ignore_errors=True)


def remove_left_parts(folder: str) -> None:
    """Removes files that are not whole and whose processes are gone, from a folder on a disk of this machine."""
    for path in _in(folder):
        found = _FILE.fullmatch(path.name)
        with contextlib.suppress(OSError):
            told = path.lstat()
            if found and stat.S_ISREG(told.st_mode):
                is_here = found["host"] in (None, socket.gethostname())
                if _is_left(found["pid"] if is_here else None, told):
                    path.unlink()


def _in(folder: str) -> list[Path]:
    try:
        return sorted(Path(folder).iterdir())
    except OSError:
        return []


def _is_left(process: str | None, told: os.stat_result) -> bool:
    if process is None:  # of another machine, or of another version
        return time.time() - told.st_mtime > _OLD_SECONDS
    return not is_alive(int(process))
