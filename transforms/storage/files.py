"""Files: whole files on whatever file system Beam knows, a local disk, gs://, s3:// or another.

On a local disk, or another file system with folders, a file is written under another name and renamed, so that none is
ever seen half; object stores show an object when all of it is there. On gs:// a file can also be changed for sure: see
`update_file`.
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
    """A function -> the same, which raises an OSError where the client of an object store raises an error of its own:
    Google's, for one, are no OSErrors, not even where there is no such object."""

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
        return self.path.rpartition("/")[2]


def is_local(path: str) -> bool:
    """A path or URL -> whether it lies on a disk of this machine."""
    return type(FileSystems.get_filesystem(path)) is LocalFileSystem


def join(folder: str, *names: str) -> str:
    """A folder and names -> the path or URL of what is in it."""
    return str(FileSystems.join(folder, *names))


@_with_os_errors
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
    if gcs.is_gcs(folder):
        return [FoundFile(path, size) for path, size in gcs.list_objects(folder, pattern)]
    # What looks like a pattern in the folder's own name is none.
    matches = FileSystems.match([FileSystems.join(glob.escape(folder), pattern)])[0].metadata_list
    return sorted(FoundFile(str(match.path), int(match.size_in_bytes)) for match in matches)


@_with_os_errors
def list_folders(folder: str, prefix: str) -> list[str]:
    """A folder -> the names of the folders in it that begin so and hold files, sorted."""
    if is_local(folder):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
        return []
    if gcs.is_gcs(folder):
        return gcs.list_folders(folder, prefix)
    found = set()
    for match in FileSystems.match([FileSystems.join(glob.escape(folder), f"{prefix}*", "*")])[0].metadata_list:
        found.add(str(match.path)[len(folder) :].strip("/").split("/")[0])
    return sorted(found)


@_with_os_errors
def list_below(folder: str) -> list[FoundFile]:
    """A folder of an object store -> the files in it and in its folders, by path."""
    if gcs.is_gcs(folder):
        return [FoundFile(path, size) for path, size in gcs.list_below(folder)]
    matches = FileSystems.match([FileSystems.join(glob.escape(folder), "**")])[0].metadata_list
    return sorted(FoundFile(str(match.path), int(match.size_in_bytes)) for match in matches)


@_with_os_errors
def match_files(pattern: str) -> list[FoundFile]:
    """A path, URL or pattern that a user gave -> the files that it stands for, by path."""
    if gcs.is_gcs(pattern):
        gcs.settle_credentials()
    with gcs.translate_errors(pattern, "read") if gcs.is_gcs(pattern) else contextlib.nullcontext():
        matches = FileSystems.match([pattern])[0].metadata_list
    return sorted(FoundFile(str(match.path), int(match.size_in_bytes)) for match in matches)


def match_paths(pattern: str) -> list[str]:
    """As `match_files`, but their paths alone.

    Raises:
      FileNotFoundError: there is none.
    """
    found = [file.path for file in match_files(pattern)]
    if not found:  # it was there when the options were checked
        raise FileNotFoundError(f"{pattern}: there is no such file")
    return found


@_with_os_errors
def exists(path: str) -> bool:
    """A path or URL -> whether something is there."""
    return gcs.exists(path) if gcs.is_gcs(path) else bool(FileSystems.exists(path))


@_with_os_errors
def open_file(path: str) -> IO[bytes]:
    """A path or URL -> the file, open for reading as it is. What is read from it later may raise what the file system
    likes.

    Raises:
      OSError: it cannot be opened; FileNotFoundError where it is not there.
    """
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

    Beam's `CompressedFile` is not used: it takes the end of a cut-off file for the end of its text, and skips what
    follows the last member.

    Args:
      path: a path or URL.

    Returns:
      The file, open for reading. Where the compressed data is cut off, damaged, or not compressed at all, reading
      raises a `DamagedFileError`.

    Raises:
      as `open_file`.
    """
    file = open_file(path)
    return _GzipFile(file) if path.lower().endswith(".gz") else file  # type: ignore[return-value]


class _GzipFile(gzip.GzipFile):
    """Reads a compressed file to its last byte or not at all: all members, each held against its checksum and length.

    Memory is bounded whatever the file holds, as long as it is read in pieces.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._file = file
        self._is_begun = False

    def read(self, size: int | None = -1) -> bytes:
        try:
            content = super().read(size)
        except EOFError:
            raise DamagedFileError(f"its compressed data is cut off; {_COPY_ANEW}") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DamagedFileError(f"it is no intact gzip file ({error}); {_COPY_ANEW}") from None
        if not content and not self._is_begun and size != 0 and not self._file.tell():
            raise DamagedFileError(f"it is empty, but a compressed file has a header; {_COPY_ANEW}")
        self._is_begun = True
        return content

    def close(self) -> None:
        super().close()
        self._file.close()


_COPY_ANEW: Final = "copy it anew from where it came"


@_with_os_errors
def read_file(path: str) -> bytes:
    """A path or URL -> the content.

    Raises:
      as `open_file`.
    """
    if gcs.is_gcs(path):
        return gcs.read(path)
    with open_file(path) as file:
        return bytes(file.read())


@_with_os_errors
def read_end(path: str, count: int) -> bytes:
    """A path or URL -> the last bytes of the content, so many of them or all that there are.

    Raises:
      as `open_file`.
    """
    if gcs.is_gcs(path):
        return gcs.read_end(path, count)
    with open_file(path) as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - count))
        return bytes(file.read())


@_with_os_errors
def write_file(path: str, content: bytes, *, durable: bool = False) -> None:
    """A path or URL and its content -> the file, whole or not at all; one that is there is replaced.

    Args:
      durable: on a local disk, whether to wait until it is on the disk itself and would outlast a power cut.

    Raises:
      OSError: it cannot be written; nothing is left of it.
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
    if durable:
        _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    """The name of a file is part of its folder, which is to be on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


@_with_os_errors
def update_file(path: str, change: Callable[[bytes | None], bytes]) -> None:
    """A path or URL, and what makes its new content of the old one (None: there is none) -> the file.

    On gs:// no change that somebody else makes at the same moment is lost: it is looked at, and `change` is called
    again. Elsewhere there is nothing of that kind, and the last of the two stays.

    Raises:
      OSError: it cannot be read or written.
    """
    if not gcs.is_gcs(path):
        write_file(path, change(_content_of(path)))
        return
    while True:
        content: bytes | None
        try:
            content, generation = gcs.read_version(path)
        except FileNotFoundError:
            content, generation = None, gcs.ABSENT
        try:
            gcs.write(path, change(content), generation=generation)
            return
        except FileChangedError:  # or an answer was lost, and it is our own; then once more changes nothing
            continue


def _content_of(path: str) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None


def move_file(source: str, destination: str) -> None:
    """A file -> the same under another name of the same file system.

    Raises:
      OSError: it cannot be moved.
    """
    move_files([(source, destination)])


@_with_os_errors
def move_files(pairs: Iterable[tuple[str, str]]) -> None:
    """(from, to) -> each file under its other name, on the same file system.

    Raises:
      OSError: one cannot be moved.
    """
    remote: list[tuple[str, str]] = []
    for source, destination in pairs:
        if is_local(source):
            Path(destination).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, destination)
        else:
            remote.append((source, destination))
    if remote and gcs.is_gcs(remote[0][0]):
        gcs.move_all(remote)
    elif remote:
        FileSystems.rename([source for source, _ in remote], [destination for _, destination in remote])


@_with_os_errors
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
    if remote and gcs.is_gcs(remote[0]):
        gcs.delete_all(remote)
    elif remote:
        try:
            FileSystems.delete(remote)
        except Exception:  # one was not there; some file systems leave the others then
            left = [path for path in remote if FileSystems.exists(path)]
            if left:
                FileSystems.delete(left)
