"""Temporary folders and files; what a killed process leaves behind, the next one removes."""

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
"""The names of unfinished files begin with it."""
_FOLDER: Final = re.compile(r"textmint-(?:plan|preview|progress|push|statistics)-(?:(?P<pid>[0-9]+)-)?[A-Za-z0-9_]+")
_FILE: Final = re.compile(r"_part-(?P<pid>[0-9]+)-[0-9]+(?:-(?P<host>.*))?")
_OLD_SECONDS: Final = 86_400.0  # where it is not known whether the process is alive


def is_alive(process: int) -> bool:
    """Says whether a process, maybe of another user, runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def part_name() -> str:
    """Makes a name for an unfinished file that nobody else uses now, without the final name, which may be too long."""
    return f"{PART}{os.getpid()}-{threading.get_ident()}-{socket.gethostname()}"


@contextlib.contextmanager
def temporary_folder(use: str) -> Iterator[str]:
    """Makes a temporary folder for plan, preview, progress, push or statistics, yields its path, and removes it."""
    remove_left_folders(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=f"textmint-{use}-{os.getpid()}-") as path:
        yield path


def remove_left_folders(where: str) -> None:
    """Removes the temporary folders of this user's dead processes."""
    for path, status in _left(where, _FOLDER):
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)


def remove_left_parts(folder: str) -> None:
    """Removes the unfinished files of dead processes from a local folder."""
    for path, status in _left(folder, _FILE):
        if stat.S_ISREG(status.st_mode):
            with contextlib.suppress(OSError):
                path.unlink()


def _left(folder: str, pattern: re.Pattern[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields what dead processes left behind in a folder."""
    with contextlib.suppress(OSError):
        for path in sorted(Path(folder).iterdir()):
            found = pattern.fullmatch(path.name)
            if found is None:
                continue
            with contextlib.suppress(OSError):
                status = path.lstat()
                is_here = found.groupdict().get("host") in (None, socket.gethostname())
                if found["pid"] is None or not is_here:  # of another machine, or of another version
                    is_left = time.time() - status.st_mtime > _OLD_SECONDS
                else:
                    is_left = not is_alive(int(found["pid"]))
                if is_left:
                    yield path, status
