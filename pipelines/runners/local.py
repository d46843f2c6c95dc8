"""The engine of a run on one machine: Beam's in-process one, in bounded slices.

Beam's FnApiRunner hands a stage all of its input as one bundle and keeps what is shuffled in memory, several times
over: a million examples would take some 16 GB. Here what is shuffled goes to disk beyond some megabytes, and a stage is
given its input slice by slice, as many bundles as it takes. The graph is the same as on any other engine, and so is the
data: how elements are bundled decides nothing in it.

It builds on the insides of Beam (2.77) at one place: `FnApiRunner._get_bundle_manager`, from which a stage's outputs
can be given other buffers, and its bundles another manager.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import math
import os
import shlex
import sys
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from apache_beam.coders.coder_impl import create_InputStream, create_OutputStream
from apache_beam.metrics import monitoring_infos
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import execution, translations
from apache_beam.runners.portability.fn_api_runner.fn_runner import BundleManager, FnApiRunner
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
from apache_beam.version import __version__ as VERSION
from textmint.transforms.core import progress
from textmint.transforms.core.errors import RunFailed

_LOG = logging.getLogger("textmint")

HELD_BYTES: Final = 16 << 20  # of one shuffle in memory, encoded; as Python objects it is several times that
SLICE_BYTES: Final = 8 << 20
"""Of one bundle's input. A draft of 300 bytes becomes some 7 kB on its way through a fused stage, and a bundle's output
is in memory as a whole; on the other hand LLMCall waits for its last replies at the end of each bundle."""

_PARTITIONS: Final = 256
_BEAMS_WORKER: Final = b" -m apache_beam.runners.worker.sdk_worker_main"
_Segment = tuple["_Scratch", int, int]  # where, from which byte, and how many


class _Scratch:
    """A file without a name, which goes with the process.

    Raises:
      RunFailed: it cannot be written.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._end = 0
        with self._told():
            # Without a buffer of its own: what is written is whole parts, read back at once by position.
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix="textmint-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def append(self, content: bytes) -> _Segment:
        left = memoryview(content)
        with self._told():
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
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFailed(
                f"{self._folder}: {error.strerror or error}, while what does not fit into memory was put aside there "
                "(some 4 kB for each example); make room, then run the same command again: what was paid for is kept"
            ) from None


class Disk:
    """Where a run puts aside what does not fit into memory, as long as it goes on.

    Args:
      folder: None: the system's folder for temporary files.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder or tempfile.gettempdir()
        self._files: weakref.WeakSet[_Scratch] = weakref.WeakSet()

    def scratch(self) -> _Scratch:
        """-> a new file. It is gone when nobody has it any more, or with the run."""
        made = _Scratch(self._folder)
        self._files.add(made)
        return made

    def close(self) -> None:
        """Gives back all that is left."""
        for file in list(self._files):
            file.close()


class GroupOnDisk(execution.GroupingBuffer):
    """What goes into a GroupByKey, and comes out of it: in memory up to `HELD_BYTES`, then on disk.

    On disk it lies in partitions by key; a slice is some of these, so that a key's values are always together.
    """

    def __init__(self, like: execution.GroupingBuffer, disk: Disk) -> None:
        super().__init__(like._pre_grouped_coder, like._post_grouped_coder, like._windowing)
        self._disk = disk
        self._held = 0
        self._scratch: _Scratch | None = None
        self._partitions: list[list[_Segment]] = [[] for _ in range(_PARTITIONS)]

    def append(self, elements_data: bytes) -> None:
        """Takes encoded elements in."""
        super().append(elements_data)
        self._hold(len(elements_data))

    def extend(self, input_buffer: Any) -> None:
        """Takes in what another buffer has."""
        super().extend(input_buffer)
        if isinstance(input_buffer, GroupOnDisk):
            for mine, others in zip(self._partitions, input_buffer._partitions, strict=True):
                mine.extend(others)
            self._hold(input_buffer._held)

    def slices(self, count: int) -> Iterator[list[bytes]]:
        """Groups, encoded, about `SLICE_BYTES` at a time; at least `count` slices where it can be."""
        if not any(self._partitions):
            yield from self.partition(max(count, math.ceil(self._held / SLICE_BYTES)))
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
        """All groups, in so many parts; Beam asks for this where it knows no slices."""
        if not any(self._partitions):
            return super().partition(n)  # type: ignore[no-any-return]
        parts: list[list[bytes]] = [[] for _ in range(n)]
        for part, content in zip(itertools.cycle(parts), self.slices(n), strict=False):
            part += content
        return parts

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > HELD_BYTES and self._windowing.is_default():
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
        self._held = 0

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
    """Encoded elements, some megabytes each: a list of them, in memory up to `HELD_BYTES`, then on disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._held = 0
        self._scratch: _Scratch | None = None
        self._chunks: list[bytes | _Segment] = []

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[bytes]:
        return map(_content, self._chunks)

    def __getitem__(self, which: slice) -> list[bytes]:
        return [_content(chunk) for chunk in self._chunks[which]]

    def append(self, chunk: bytes) -> None:
        self._held += len(chunk)
        if self._held <= HELD_BYTES:
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
    """What goes from one stage to another as it is: in memory up to `HELD_BYTES`, then on disk."""

    def __init__(self, like: execution.ListBuffer, disk: Disk) -> None:
        super().__init__(like._coder_impl)
        self._disk = disk
        self._inputs: Any = _Chunks(disk)

    def copy(self) -> execution.ListBuffer:
        """-> another buffer with the same elements."""
        new = ListOnDisk(self, self._disk)
        new._inputs.extend(self._inputs)
        return new

    def slices(self, count: int) -> Iterator[list[bytes]]:
        """Elements, encoded, about `SLICE_BYTES` at a time; at least `count` slices where it can be."""
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


class _OneWorker:
    """A stage, as if it had but one of its workers."""

    def __init__(self, manager: execution.BundleContextManager, worker: Any) -> None:
        self._manager = manager
        self.worker_handlers = [worker]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


def slices_of(inputs: Mapping[str, Any], count: int) -> Iterator[dict[str, list[bytes]]]:
    """The inputs of a stage, by name -> the inputs of each of its bundles; `count` of them where there is enough. A
    bundle has all names: a worker waits for each."""
    empty: dict[str, list[bytes]] = {name: [] for name in inputs}
    for name, buffer in inputs.items():
        slices = buffer.slices(count) if isinstance(buffer, (GroupOnDisk, ListOnDisk)) else buffer.partition(count)
        for content in slices:
            if any(content):
                yield {**empty, name: content}


class _SlicedBundleManager(BundleManager):
    """Runs a stage on its input slice by slice, on as many workers as it has."""

    def process_bundle(
        self,
        inputs: Mapping[str, Any],
        expected_outputs: Any,
        fired_timers: Any,
        expected_output_timers: Any,
        dry_run: bool = False,
    ) -> Any:
        """The whole input of a stage -> the results of all its bundles as one, and no splits."""
        workers = self.bundle_context_manager.worker_handlers
        slices = slices_of(inputs, len(workers))
        turn = threading.Lock()
        ended = threading.Event()

        def work(worker: Any, content: dict[str, list[bytes]] | None) -> Any:
            manager = BundleManager(
                _OneWorker(self.bundle_context_manager, worker),
                self._progress_frequency,
                cache_token_generator=self._cache_token_generator,
            )
            merged = None
            try:
                while content is not None and not ended.is_set():
                    result, _ = manager.process_bundle(
                        content, expected_outputs, fired_timers, expected_output_timers, dry_run
                    )
                    merged = _merged(merged, result)
                    with turn:
                        content = next(slices, None)
            except BaseException:
                ended.set()
                raise
            return merged

        # Each has a first slice, be it an empty one: a worker that is idle in small stages would be cold in large ones.
        empty: dict[str, list[bytes]] = {name: [] for name in inputs}
        firsts = [next(slices, empty) for _ in workers]
        if len(workers) == 1:
            return work(workers[0], firsts[0]), []
        merged = None
        # Beam's threads, which do not keep a process that was told to end.
        for result in shared_unbounded_instance().map(work, workers, firsts):
            merged = _merged(merged, result)
        return merged, []


def _merged(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return one or other
    parts = (one.process_bundle, other.process_bundle)
    return beam_fn_api_pb2.InstructionResponse(
        process_bundle=beam_fn_api_pb2.ProcessBundleResponse(
            monitoring_infos=monitoring_infos.consolidate(
                itertools.chain.from_iterable(part.monitoring_infos for part in parts)
            ),
            residual_roots=list(itertools.chain.from_iterable(part.residual_roots for part in parts)),
        )
    )


class LocalRunner(FnApiRunner):
    """Beam's FnApiRunner, in bounded slices.

    Args:
      folder: where what does not fit into memory goes; None: the system's folder for temporary files, which may itself
        lie in memory.
    """

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self._folder = folder
        self._disk = Disk(folder)

    def run_via_runner_api(self, pipeline_proto: Any, options: Any) -> Any:
        """Runs a graph. Worker processes are ours in place of Beam's, see `local_worker`."""
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK and environment.payload.endswith(_BEAMS_WORKER):
                # `exec`, so that its parent is this process and no shell
                module = "textmint.pipelines.runners.local_worker"
                environment.payload = f"exec {shlex.quote(sys.executable)} -m {module}".encode()
        return super().run_via_runner_api(pipeline_proto, options)

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        """Runs a graph that has been cut into stages."""
        progress.add("stages", len(stages))
        with contextlib.closing(Disk(self._folder)) as self._disk:
            return super().run_stages(stage_context, stages)

    def _get_bundle_manager(self, bundle_context_manager: execution.BundleContextManager) -> Any:
        stage = bundle_context_manager.stage
        progress.add("stages.begun")
        progress.flush()
        if stage.is_stateful() or bundle_context_manager.stage_timer_outputs or self._split_managers:
            return super()._get_bundle_manager(bundle_context_manager)
        try:
            self._give_buffers(bundle_context_manager)
        except (AttributeError, TypeError) as error:
            _LOG.warning(
                "Apache Beam %s is another inside: this run holds in memory what it shuffles (%s)", VERSION, error
            )
            return super()._get_bundle_manager(bundle_context_manager)
        return _SlicedBundleManager(
            bundle_context_manager,
            progress_frequency=self._progress_frequency,
            cache_token_generator=FnApiRunner.get_cache_token_generator(static=False),
        )

    def _give_buffers(self, bundle_context_manager: execution.BundleContextManager) -> None:
        """Gives a stage's outputs buffers that go to disk."""
        buffers = bundle_context_manager.execution_context.pcoll_buffers
        for transform, buffer_id in bundle_context_manager.stage_data_outputs.items():
            if buffer_id not in buffers:
                made = bundle_context_manager.get_buffer(buffer_id, transform)
                kind, _ = translations.split_buffer_id(buffer_id)
                on_disk = GroupOnDisk if kind == "group" else ListOnDisk
                buffers[buffer_id] = on_disk(made, self._disk)
