"""The engine of a run on one machine: Beam's in-process one, in bounded slices.

Beam's FnApiRunner hands a stage all of its input as one bundle and keeps what is shuffled in memory: a million examples
would take some 16 GB. Here what is shuffled goes to disk beyond some megabytes (`spill`), and a stage gets its input
slice by slice. How elements are bundled decides nothing in the data.

It builds on the insides of Beam (2.77) at one place: `FnApiRunner._get_bundle_manager`, from which a stage's outputs
can be given other buffers, and its bundles another manager."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from apache_beam.metrics import monitoring_infos
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import execution, translations
from apache_beam.runners.portability.fn_api_runner.fn_runner import BundleManager, FnApiRunner
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
from apache_beam.version import __version__ as VERSION
from textmint.pipelines.runners.spill import Disk, GroupOnDisk, ListOnDisk
from textmint.transforms.core import progress

_LOG = logging.getLogger("textmint")
_BEAMS_WORKER: Final = b" -m apache_beam.runners.worker.sdk_worker_main"


class _OneWorker:
    """Shows a stage as if it had only one of its workers."""

    def __init__(self, manager: execution.BundleContextManager, worker: Any) -> None:
        self._manager = manager
        self.worker_handlers = [worker]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


def slices_of(inputs: Mapping[str, Any], count: int) -> Iterator[dict[str, list[bytes]]]:
    """Yields the inputs of at least `count` bundles of a stage, if there is enough. Each has all names, since a worker
    waits for each."""
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
        """Processes the whole input of a stage; returns the results of all its bundles as one, and no splits."""
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
    """Beam's FnApiRunner, in bounded slices. What does not fit into memory goes into `folder`; None: the system's
    temporary folder, which may itself lie in memory."""

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
