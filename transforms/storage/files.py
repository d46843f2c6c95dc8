"""Whole files on any file system that Beam knows: a local disk, gs://, s3:// or another.

Nobody sees half of a file. All functions raise an OSError where they cannot do their work, whatever the store's client
raises; a FileNotFoundError where what they are to read is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import glob
import gzip
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Final, ParamSpec, TypeVar

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem
from textmint.transforms.core.errors import DamagedFileError, FileChangedError, StoreError
from textmint.transforms.core.temporary import part_name
from textmint.transforms.storage import gcs

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def _with_os_errors(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Turns errors of an object store's client into OSErrors. Google's are none, not even that of a missing object."""

    @functools.wraps(function)
    def wrapped(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except OSError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise StoreError(f"{type(error).__name__}: {reason}", reason) from error

    return wrapped


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """A file that a listing found, by its full path, and its size."""

    path: str
    bytes: int

    @property
    def name(self) -> str:
        """Returns the last part of the path."""
        return self.path.rpartition("/")[2]


def is_local(path: str) -> bool:
    """Says whether a path or URL is on a disk of this machine."""
    return type(FileSystems.get_filesystem(path)) is LocalFileSystem


def join(folder: str, *names: str) -> str:
    """Joins the path or URL of a folder with names."""
    return str(FileSystems.join(folder, *names))


@_with_os_errors
def list_files(folder: str, pattern: str = "*") -> list[FoundFile]:
    """Lists the files directly in a folder whose names match, by path; [] if there is no such folder."""
    if is_local(folder):
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if fnmatch.fnmatchcase(entry.name, pattern):
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        if entry.is_file():
                            found.append(FoundFile(os.path.join(folder, entry.name), entry.stat().st_size))
        return sorted(found)
    if gcs.is_gcs(folder):
        return [FoundFile(*found) for found in gcs.list_objects(folder, pattern)]
    return _matching(_within(folder, pattern))


@_with_os_errors
def list_folders(folder: str, prefix: str) -> list[str]:
    """Lists the names of the folders in a folder that begin with a prefix and hold files, sorted."""
    if is_local(folder):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
        return []
    if gcs.is_gcs(folder):
        return gcs.list_folders(folder, prefix)
    found = _matching(_within(folder, f"{prefix}*", "*"))
    return sorted({file.path[len(folder) :].strip("/").split("/")[0] for file in found})


@_with_os_errors
def list_below(folder: str) -> list[FoundFile]:
    """Lists the files in a folder of an object store and in its folders, by path."""
    if gcs.is_gcs(folder):
        return [FoundFile(*found) for found in gcs.list_below(folder)]
    return _matching(_within(folder, "**"))


@_with_os_errors
def match_files(pattern: str) -> list[FoundFile]:
    """Lists the files that a path, URL or pattern of the user stands for, by path."""
    if not gcs.is_gcs(pattern):
        return _matching(pattern)
    gcs.settle_credentials()
    with gcs.translate_errors(pattern, "read"):
        return _matching(pattern)


def match_paths(pattern: str) -> list[str]:
    """Lists the paths that `match_files` finds."""
    found = [file.path for file in match_files(pattern)]
    if not found:  # it was there when the options were checked
        raise FileNotFoundError(f"{pattern}: there is no such file")
    return found


def _within(folder: str, *patterns: str) -> str:
    """Makes a pattern for Beam in which the folder's own name is no pattern."""
    return join(glob.escape(folder), *patterns)


def _matching(pattern: str) -> list[FoundFile]:
    matches = FileSystems.match([pattern])[0].metadata_list
    return sorted(FoundFile(str(match.path), int(match.size_in_bytes)) for match in matches)


@_with_os_errors
def exists(path: str) -> bool:
    """Says whether something is at a path or URL."""
    return gcs.exists(path) if gcs.is_gcs(path) else bool(FileSystems.exists(path))


# --- reading


@_with_os_errors
def open_file(path: str) -> IO[bytes]:
    """Opens a file as it is stored. Reading from it later may raise any error of the file system."""
    if is_local(path):
        return open(path, "rb")
    if gcs.is_gcs(path):
        return gcs.open_object(path)
    try:
        file: Any = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except Exception:  # each file system has its own
        if not FileSystems.exists(path):
            raise FileNotFoundError(path) from None
        raise
    return file  # type: ignore[no-any-return]


def open_text(path: str) -> IO[bytes]:
    """Opens a text file of the user, and decompresses it where its name ends in `.gz`.

    Where the compressed data is cut off, damaged, or not compressed at all, reading raises a `DamagedFileError`.
    Beam's `CompressedFile` takes the end of a cut-off file for the end of its text.
    """
    file = open_file(path)
    return _GzipFile(file) if path.lower().endswith(".gz") else file  # type: ignore[return-value]


class _GzipFile(gzip.GzipFile):
    """Reads a compressed file to its last byte or not at all: all members, each checked by its checksum and length."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._file = file
        self._is_begun = False

    def read(self, size: int | None = -1) -> bytes:
        try:
            content = super().read(size)
        except EOFError:
            raise DamagedFileError(f"its compressed data is cut off; {_COPY_AGAIN}") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DamagedFileError(f"it is no intact gzip file ({error}); {_COPY_AGAIN}") from None
        if not content and not self._is_begun and size != 0 and not self._file.tell():
            raise DamagedFileError(f"it is empty, but a compressed file has a header; {_COPY_AGAIN}")
        self._is_begun = True
        return content

    def close(self) -> None:
        super().close()
        self._file.close()


_COPY_AGAIN: Final = "copy it anew from where it came"


@_with_os_errors
def read_file(path: str) -> bytes:
    """Reads a whole file."""
    if gcs.is_gcs(path):
        return gcs.read(path)
    with open_file(path) as file:
        return bytes(file.read())


@_with_os_errors
def read_end(path: str, count: int) -> bytes:
    """Reads the last `count` bytes of a file, or all of it where it is shorter."""
    if gcs.is_gcs(path):
        return gcs.read_end(path, count)
    with open_file(path) as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - count))
        return bytes(file.read())


# --- writing


@_with_os_errors
def write_file(path: str, content: bytes, *, durable: bool = False) -> None:
    """Writes a file, whole or not at all; an existing one is replaced.

    Args:
      path: of the file, or its URL.
      content: all of it.
      durable: whether to wait, on a local disk, until a power cut would not lose it.
    """
    if gcs.is_gcs(path):
        gcs.write(path, content)
        return
    if not is_local(path):
        _write_remote(path, content)
        return
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(part_name())
    try:
        with part.open("wb") as local:
            local.write(content)
            if durable:
                local.flush()
                os.fsync(local.fileno())
        part.replace(final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a full disk does not say which file
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if durable:  # its name too
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_remote(path: str, content: bytes) -> None:
    system: Any = FileSystems.get_filesystem(path)
    if not system.has_dirs():
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)
        return
    # As HDFS: a file is seen while it grows, and one that is there is not replaced.
    part = join(path.rpartition("/")[0], part_name())
    try:
        with FileSystems.create(part, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)
        delete_files([path])
        FileSystems.rename([part], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            delete_files([part])
        raise


def read_version(path: str, *, patience: float | None = None) -> tuple[bytes | None, int | None]:
    """Reads a file (None where it is missing) and, on gs://, its generation, which `write_version` can demand."""
    if is_local(path) and os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for without end
        raise OSError("something that is no file has its name; move it away")
    try:
        return gcs.read_version(path, patience=patience) if gcs.is_gcs(path) else (read_file(path), None)
    except FileNotFoundError:
        return None, gcs.ABSENT


def write_version(path: str, content: bytes, generation: int | None, *, patience: float | None = None) -> None:
    """Writes a file, on gs:// on the condition that it still has the generation (else a FileChangedError is raised);
    elsewhere the last writer wins."""
    if gcs.is_gcs(path):
        gcs.write(path, content, generation=generation, patience=patience)
    else:
        write_file(path, content)


@_with_os_errors
def update_file(path: str, change: Callable[[bytes | None], bytes]) -> None:
    """Changes a file: `change` makes the new content from the old one, which is None where there is no file.

    On gs:// no change that somebody else makes at the same moment is lost: the file is read again, and `change` called
    again. Elsewhere the last writer wins.
    """
    while True:
        old, generation = read_version(path)
        # An answer may have been lost, so that the other write is our own; then once more changes nothing.
        with contextlib.suppress(FileChangedError):
            write_version(path, change(old), generation)
            return


def move_file(source: str, destination: str) -> None:
    """Renames a file within its file system."""
    move_files([(source, destination)])


@_with_os_errors
def move_files(pairs: Iterable[tuple[str, str]]) -> None:
    """Renames files, given as (from, to), within the one file system that all of them are on."""
    moves = list(pairs)
    if not moves:
        return
    if is_local(moves[0][0]):
        for source, destination in moves:
            Path(destination).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, destination)
    elif gcs.is_gcs(moves[0][0]):
        gcs.move_all(moves)
    else:
        FileSystems.rename([source for source, _ in moves], [destination for _, destination in moves])


@_with_os_errors
def delete_files(paths: Iterable[str]) -> None:
    """Deletes files of one file system; a missing one is no error."""
    listed = list(paths)
    if not listed:
        return
    if is_local(listed[0]):
        for path in listed:
            Path(path).unlink(missing_ok=True)
    elif gcs.is_gcs(listed[0]):
        gcs.delete_all(listed)
    else:
        try:
            FileSystems.delete(listed)
        except Exception:  # one was missing; some file systems leave the others then
            if left := [path for path in listed if FileSystems.exists(path)]:
                FileSystems.delete(left)
