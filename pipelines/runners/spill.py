"""Buffers for what a run on one machine shuffles: in memory up to some megabytes, then on disk."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from apache_beam.coders.coder_impl import create_InputStream, create_OutputStream
from apache_beam.runners.portability.fn_api_runner import execution
from textmint.transforms.core.errors import RunFailed, system_reason

MEMORY_BYTES: Final = 16 << 20
"""Of one shuffle in memory, encoded; as Python objects it is several times that."""

SLICE_BYTES: Final = 8 << 20
"""Of one bundle's input. A draft of 300 bytes becomes some 7 kB on its way through a fused stage, and a bundle's output
is in memory as a whole; on the other hand LLMCall waits for its last replies at the end of each bundle."""

_PARTITIONS: Final = 256
_Segment = tuple["_Scratch", int, int]  # the file, from which byte, and how many


class _Scratch:
    """A file without a name, which goes with the process. What cannot be written raises `RunFailed`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._end = 0
        with self._readable_errors():
            # Without a buffer of its own: what is written is whole parts, read back at once by position.
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix="textmint-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def append(self, content: bytes) -> _Segment:
        left = memoryview(content)
        with self._readable_errors():
            while left:
                left = left[self._file.write(left) :]
        start, self._end = self._end, self._end + len(content)
        return self, start, len(content)

    def close(self) -> None:
        self._file.close()

    def read(self, start: int, length: int) -> bytes:
        parts = []
        while length > 0:
            parts.append(os.pread(self._file.fileno(), length, start))
            start, length = start + len(parts[-1]), length - len(parts[-1])
        return b"".join(parts)

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFailed(
                f"{self._folder}: {system_reason(error)}, while what does not fit into memory was put aside there "
                "(some 4 kB for each example); make room, then run the same command again: what was paid for is kept"
            ) from None


class Disk:
    """The files for what does not fit into memory, in a folder; None: in the system's temporary folder."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder or tempfile.gettempdir()
        self._files: weakref.WeakSet[_Scratch] = weakref.WeakSet()

    def scratch(self) -> _Scratch:
        """Makes a file. It is gone when nobody refers to it any more, or with the run."""
        made = _Scratch(self._folder)
        self._files.add(made)
        return made

    def close(self) -> None:
        """Closes all files that are left."""
        for file in list(self._files):
            file.close()


class GroupOnDisk(execution.GroupingBuffer):
    """What goes into a GroupByKey, and comes out of it: in memory up to `MEMORY_BYTES`, then on disk.

    On disk it lies in partitions by key; a slice is some of these, so that a key's values are always together.
    """

    def __init__(self, like: execution.GroupingBuffer, disk: Disk) -> None:
        super().__init__(like._pre_grouped_coder, like._post_grouped_coder, like._windowing)
        self._disk = disk
        self._memory = 0
        self._scratch: _Scratch | None = None
        self._partitions: list[list[_Segment]] = [[] for _ in range(_PARTITIONS)]

    def append(self, elements_data: bytes) -> None:
        """Adds encoded elements."""
        super().append(elements_data)
        self._count(len(elements_data))

    def extend(self, input_buffer: Any) -> None:
        """Adds the content of another buffer."""
        super().extend(input_buffer)
        if isinstance(input_buffer, GroupOnDisk):
            for mine, others in zip(self._partitions, input_buffer._partitions, strict=True):
                mine.extend(others)
            self._count(input_buffer._memory)

    def slices(self, count: int) -> Iterator[list[bytes]]:
        """Yields the encoded groups, about `SLICE_BYTES` at a time; at least `count` slices if there are enough."""
        if not any(self._partitions):
            yield from self.partition(max(count, math.ceil(self._memory / SLICE_BYTES)))
            return
        self._spill()
        total = sum(length for segments in self._partitions for _, _, length in segments)
        limit = min(SLICE_BYTES, total // count)
        taken: list[_Segment] = []
        for segments in self._partitions:
            taken += segments
            if sum(length for _, _, length in taken) >= limit:
                yield self._grouped(taken)
                taken = []
        if taken:
            yield self._grouped(taken)

    def partition(self, n: int) -> list[list[bytes]]:
        """Returns all groups in `n` parts, for Beam's own code, which knows no slices."""
        if not any(self._partitions):
            return super().partition(n)  # type: ignore[no-any-return]
        parts: list[list[bytes]] = [[] for _ in range(n)]
        for part, content in zip(itertools.cycle(parts), self.slices(n), strict=False):
            part += content
        return parts

    def _count(self, size: int) -> None:
        self._memory += size
        if self._memory > MEMORY_BYTES and self._windowing.is_default():
            self._spill()

    def _spill(self) -> None:
        if not self._table:
            return
        if self._scratch is None:
            self._scratch = self._disk.scratch()
        encode = self._pre_grouped_coder.value_coder().get_impl().encode_to_stream
        streams: dict[int, Any] = collections.defaultdict(create_OutputStream)
        for key, values in self._table.items():
            out = streams[zlib.crc32(key) % _PARTITIONS]
            out.write(key, True)
            out.write_var_int64(len(values))
            for value in values:
                encode(value, out, True)
        for number, out in streams.items():
            self._partitions[number].append(self._scratch.append(out.get()))
        self._table.clear()
        self._memory = 0

    def _grouped(self, segments: Iterable[_Segment]) -> list[bytes]:
        decode = self._pre_grouped_coder.value_coder().get_impl().decode_from_stream
        group = execution.GroupingBuffer(self._pre_grouped_coder, self._post_grouped_coder, self._windowing)
        for scratch, start, length in segments:
            stream = create_InputStream(scratch.read(start, length))
            while stream.size() > 0:
                values = group._table[stream.read_all(True)]
                values.extend([decode(stream, True) for _ in range(stream.read_var_int64())])
        parts: list[list[bytes]] = group.partition(1)
        return parts[0]


class _Chunks:
    """Encoded elements, some megabytes each: a list of them, in memory up to `MEMORY_BYTES`, then on disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._memory = 0
        self._scratch: _Scratch | None = None
        self._chunks: list[bytes | _Segment] = []

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[bytes]:
        return map(_content, self._chunks)

    def __getitem__(self, which: slice) -> list[bytes]:
        return [_content(chunk) for chunk in self._chunks[which]]

    def append(self, chunk: bytes) -> None:
        self._memory += len(chunk)
        if self._memory <= MEMORY_BYTES:
            self._chunks.append(chunk)
            return
        if self._scratch is None:
            self._scratch = self._disk.scratch()
        self._chunks.append(self._scratch.append(chunk))

    def extend(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.append(chunk)


def _content(chunk: bytes | _Segment) -> bytes:
    return chunk if isinstance(chunk, bytes) else chunk[0].read(*chunk[1:])


class ListOnDisk(execution.ListBuffer):
    """What goes from one stage to another as it is: in memory up to `MEMORY_BYTES`, then on disk."""

    def __init__(self, like: execution.ListBuffer, disk: Disk) -> None:
        super().__init__(like._coder_impl)
        self._disk = disk
        self._inputs: Any = _Chunks(disk)

    def copy(self) -> execution.ListBuffer:
        """Returns another buffer with the same elements."""
        new = ListOnDisk(self, self._disk)
        new._inputs.extend(self._inputs)
        return new

    def slices(self, count: int) -> Iterator[list[bytes]]:
        """Yields the encoded elements, about `SLICE_BYTES` at a time; at least `count` slices if there are enough."""
        if len(self._inputs) < count:
            yield from self.partition(count)
            return
        taken: list[bytes] = []
        size = 0
        for left, chunk in zip(range(len(self._inputs), 0, -1), self._inputs, strict=True):
            taken.append(chunk)
            size += len(chunk)
            if size >= SLICE_BYTES or left <= count:
                yield taken
                taken, size = [], 0
        if taken:
            yield taken
