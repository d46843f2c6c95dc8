"""Files: whole files on whatever file system Beam knows, a local disk, gs://, s3:// or another.

On a local disk a file is written under another name and renamed, so that none is ever seen half; object stores show an
object when all of it is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """A file that is there.

    Args:
      path: in full.
      bytes: its size.
    """

    path: str
    bytes: int

    @property
    def name(self) -> str:
        """-> the last part of its path."""
        return self.path.replace("\\", "/").rpartition("/")[2]


def is_local(path: str) -> bool:
    """A path or URL -> whether it lies on a disk of this machine."""
    return isinstance(FileSystems.get_filesystem(path), LocalFileSystem)


def join(folder: str, *names: str) -> str:
    """A folder and names -> the path or URL of what is in it."""
    return str(FileSystems.join(folder, *names))


def list_files(folder: str, pattern: str = "*") -> list[FoundFile]:
    """A folder -> the files right in it whose name matches, by path; [] where there is no such folder."""
    if is_local(folder):
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if fnmatch.fnmatchcase(entry.name, pattern):
                    with contextlib.suppress(FileNotFoundError):  # it went away meanwhile
                        if entry.is_file():
                            found.append(FoundFile(os.path.join(folder, entry.name), entry.stat().st_size))
        return sorted(found)
    matches = FileSystems.match([FileSystems.join(folder, pattern)])[0].metadata_list
    return sorted(FoundFile(str(match.path), int(match.size_in_bytes)) for match in matches)


def list_folders(folder: str, prefix: str) -> list[str]:
    """A folder -> the names of the folders in it that begin so and hold files, sorted."""
    if is_local(folder):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
        return []
    found = set()
    for match in FileSystems.match([FileSystems.join(folder, f"{prefix}*", "*")])[0].metadata_list:
        found.add(str(match.path)[len(folder) :].strip("/").split("/")[0])
    return sorted(found)


def exists(path: str) -> bool:
    """A path or URL -> whether something is there."""
    return bool(FileSystems.exists(path))


def open_file(path: str) -> IO[bytes]:
    """A path or URL -> the file, open for reading as it is.

    Raises:
      OSError: it cannot be opened; FileNotFoundError where it is not there.
    """
    if is_local(path):
        return open(path, "rb")
    try:
        file: Any = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except BeamIOError:
        if not FileSystems.exists(path):
            raise FileNotFoundError(path) from None
        raise
    return file  # type: ignore[no-any-return]


def read_file(path: str) -> bytes:
    """A path or URL -> the content.

    Raises:
      as `open_file`.
    """
    with open_file(path) as file:
        return bytes(file.read())


def write_file(path: str, content: bytes, *, durable: bool = False) -> None:
    """A path or URL and its content -> the file, whole or not at all; one that is there is replaced.

    Args:
      durable: on a local disk, whether to wait until it is on the disk itself and would outlast a power cut.

    Raises:
      OSError: it cannot be written; nothing is left of it.
    """
    if not is_local(path):
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)
        return
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f"_part-{os.getpid()}-{final.name}")
    try:
        with part.open("wb") as local:
            local.write(content)
            if durable:
                local.flush()
                os.fsync(local.fileno())
        part.replace(final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def move_file(source: str, destination: str) -> None:
    """A file -> the same under another name of the same file system.

    Raises:
      OSError: it cannot be moved.
    """
    if is_local(source):
        Path(destination).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, destination)
    else:
        FileSystems.rename([source], [destination])


def delete_files(paths: Iterable[str]) -> None:
    """Files -> gone; those that are not there are no error.

    Raises:
      OSError: one cannot be deleted.
    """
    remote = []
    for path in paths:
        if is_local(path):
            Path(path).unlink(missing_ok=True)
        else:
            remote.append(path)
    if remote:
        try:
            FileSystems.delete(remote)
        except OSError:
            if any(FileSystems.exists(path) for path in remote):
                raise
