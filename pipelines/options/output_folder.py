"""The output folder: can it be written to? It is tried, before anything is paid for or submitted."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from pathlib import Path
from typing import Final

from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.input_files import check_name
from textmint.pipelines.options.stores import PATIENCE_SECONDS, try_store
from textmint.transforms.dataset.manifest import MANIFEST
from textmint.transforms.dataset.publish import STAGING
from textmint.transforms.dataset.schema import KINDS
from textmint.transforms.ledger import table as ledger
from textmint.transforms.ledger.journal import JOURNAL
from textmint.transforms.storage import files, gcs, lease

_FOLDERS: Final = (STAGING, ledger.FOLDER, f"{ledger.FOLDER}/{JOURNAL}", lease.FOLDER, *KINDS)  # that a run writes to


def checked_output(path: str, *, writes: bool = True) -> str:
    """Tries whether the output folder can be written to, and leaves it as it was; returns its absolute path or URL.

    Args:
      path: as typed.
      writes: whether a file is written to try it; otherwise the folder is only listed where it is on gs://.

    Raises:
      OptionError: it cannot.
    """
    if not path.strip():
        raise OptionError("--output is empty; name a folder")
    return _remote_output(path, writes) if "://" in path else _local_output(path, writes)


def _local_output(path: str, writes: bool) -> str:
    made: list[Path] = []
    try:
        folder = Path(path).expanduser().absolute()
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        if writes:
            made = missing
            folder.mkdir(parents=True, exist_ok=True)
        elif not (missing[-1].parent if missing else folder).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        check_name("--output", str(folder))  # which may lie in a folder that is no UTF-8
        for inside in (folder, *(folder / name for name in _FOLDERS)):
            if inside.is_symlink() and not inside.exists():
                raise OSError(f"{inside.name} is a link to what is not there")
            if inside.exists() and not inside.is_dir():
                raise OSError(f"{inside.name} is no folder")
            if writes and (inside is folder or inside.exists()):
                probe = inside / f".write-test-{os.getpid()}"
                probe.touch()
                probe.unlink()
        if os.path.lexists(folder / MANIFEST) and (what := _other_than_a_file(folder / MANIFEST)):
            raise OSError(f"{MANIFEST} is {what}")
    except (OSError, ValueError, RuntimeError, OptionError) as error:
        for parent in made:
            if parent.is_dir():
                parent.rmdir()
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"--output {path}: cannot be written: {reason_of(error)}; name a folder that can") from None
    return str(folder)


def _other_than_a_file(path: Path) -> str:
    """A file that a run replaces must be no link, since it is not clear whether the link is to stay, and no pipe, which
    a reader would wait for."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"


def _remote_output(path: str, writes: bool) -> str:
    """Lists, writes a small file, reads it and deletes it: all that a run needs permission for."""
    output = path.rstrip("/")
    if found := re.search(r"[*?\[\]]", output):
        raise OptionError(f"--output {path}: Beam takes {found[0]!r} for a wildcard; name a folder without one")

    def attempt() -> None:
        probe = files.join(output, STAGING, f"write-test-{socket.gethostname()}-{os.getpid()}")
        if gcs.is_gcs(output):
            gcs.check_listing(f"{output}/", patience=PATIENCE_SECONDS)
        if writes and gcs.is_gcs(output):
            gcs.write(probe, b"textmint", patience=PATIENCE_SECONDS)
            gcs.read(probe, patience=PATIENCE_SECONDS)
            gcs.delete(probe, patience=PATIENCE_SECONDS)
        elif writes:
            files.write_file(probe, b"textmint")
            files.delete_files([probe])

    try_store("--output", path, "written" if writes else "read", attempt)
    return output
