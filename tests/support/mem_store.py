"""An object store in memory, for tests. Its class stands in a module of its own: Beam finds file systems by their
class, and a module of tests may be imported under two names."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem


class _Upload(io.BytesIO):
    """Becomes visible when it is closed, all at once, as objects do."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            MemFileSystem.objects[self._path] = self.getvalue()
        super().close()


class _Download(io.BytesIO):
    mode = "rb"  # as that of files and of Beam's own stores


class MemFileSystem(FileSystem):
    """What Beam's FileSystems asks of an object store: no folders, no atomic exchange."""

    objects: dict[str, bytes] = {}  # noqa: RUF012
    broken: set[str] = set()  # noqa: RUF012  what cannot be done: "create NAME", or "rename" or "delete"
    log: list[str] = []  # noqa: RUF012

    @classmethod
    def scheme(cls) -> str:
        return "mem"

    def _do(self, what: str, path: str) -> None:
        name = path.rsplit("/", 1)[-1]
        if what in self.broken or f"{what} {name}" in self.broken:
            raise BeamIOError(f"{what} {path}: the store is out of order")
        self.log.append(f"{what} {path}")

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise NotImplementedError

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path, content in sorted(self.objects.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(content))

    def create(self, path: str, mime_type: str = "", compression_type: Any = None) -> io.BytesIO:
        self._do("create", path)
        return _Upload(path)

    def open(self, path: str, mime_type: str = "", compression_type: Any = None) -> io.BytesIO:
        if path not in self.objects:
            raise BeamIOError(f"open {path}: there is none")
        return _Download(self.objects[path])

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            self._do("rename", destination)
            self.objects[destination] = self.objects.pop(source)

    def exists(self, path: str) -> bool:
        return path in self.objects

    def size(self, path: str) -> int:
        return len(self.objects[path])

    def last_updated(self, path: str) -> float:
        raise NotImplementedError

    def checksum(self, path: str) -> str:
        raise NotImplementedError

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, len(self.objects[path]))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self._do("delete", path)
            if self.objects.pop(path, None) is None:
                raise BeamIOError(f"delete {path}: there is none")
