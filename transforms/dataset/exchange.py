"""Exchanging two folders of a local disk in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Final

_AT_FDCWD_LINUX: Final = -100  # linux/fcntl.h
_RENAME_EXCHANGE: Final = 2  # linux/fs.h; renameat2(2)
_RENAME_SWAP: Final = 2  # sys/stdio.h of macOS; renamex_np(2)


def can_move(folder: Path, to: Path) -> bool:
    """Says whether files of one folder can be renamed into another, that is, whether both are on one disk.

    A file is moved to find out, since two mounts of one disk look like one. Both folders must exist.
    """
    probe = folder / f".move-test-{os.getpid()}"
    probe.touch()
    moved = to / probe.name
    try:
        probe.rename(moved)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)
    moved.unlink()
    return True


def exchange_folders(new: Path, old: Path) -> None:
    """Exchanges the names of two folders of one file system: atomically with Linux's renameat2 and macOS's renamex_np,
    elsewhere by two renames."""
    source, destination = os.fsencode(new), os.fsencode(old)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = libc.renamex_np(source, destination, _RENAME_SWAP)
        else:
            failed = libc.renameat2(_AT_FDCWD_LINUX, source, _AT_FDCWD_LINUX, destination, _RENAME_EXCHANGE)
    except (AttributeError, OSError):  # a C library without it
        failed = -1
    if failed:
        aside = new.with_name(f"{new.name}-old")
        old.rename(aside)
        new.rename(old)
