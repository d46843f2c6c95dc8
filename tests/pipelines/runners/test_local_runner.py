"""The engine of a run on one machine: the same as Beam's, in bounded slices."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints import Tuple
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textmint.pipelines.runners import spill
from textmint.pipelines.runners.local import LocalRunner, slices_of
from textmint.transforms.core.errors import RunFailed

from tests.support.children import open_under
from tests.support.helpers import ROOT, files_of, run_main
from tests.support.local_graphs import Fails, Numbered, counted, run_graph, summed


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Next to nothing fits into memory, and a slice is a handful of elements."""
    monkeypatch.setattr(spill, "MEMORY_BYTES", 200)
    monkeypatch.setattr(spill, "SLICE_BYTES", 300)
    return tmp_path


def expected_of(items: list[tuple[str, int]]) -> list[Any]:
    by_key: dict[str, list[int]] = {}
    for key, value in items:
        by_key.setdefault(key, []).append(value)
    total = sum(value for _, value in items)
    return 2 * [((key, 2 * len(values), 2 * sum(values)), total, sum(values)) for key, values in by_key.items()]


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(-(2**40), 2**40)), max_size=60))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_graph_gives_what_it_gives_on_beams_own_engine(small: Path, items: list[tuple[str, int]]) -> None:
    result = run_graph(LocalRunner(str(small)), items, expected_of(items), None)
    told = counted(result)
    assert told.get("elements.before", 0) == len(items)
    assert told.get("elements.after", 0) == len({key for key, _ in items})
    assert open_under(small) == []


def test_a_stage_is_given_its_input_in_slices(small: Path) -> None:
    items = [(f"k{n % 70}", n) for n in range(500)]
    result = run_graph(LocalRunner(str(small)), items, expected_of(items), None)
    assert counted(result)["bundles.after"] > 4
    assert counted(result)["elements.after"] == 70


def test_what_is_small_stays_in_memory_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("nothing is put aside")

    monkeypatch.setattr(spill, "_Scratch", refuse)
    items = [(f"k{n % 70}", n) for n in range(500)]
    result = run_graph(LocalRunner(str(tmp_path)), items, expected_of(items), None)
    assert counted(result)["bundles.after"] == 1


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_several_workers_share_the_slices(small: Path, mode: str) -> None:
    items = [(f"k{n % 70}", n) for n in range(500)]
    options = PipelineOptions(direct_num_workers=2, direct_running_mode=mode)
    result = run_graph(LocalRunner(str(small)), items, expected_of(items), options)
    assert counted(result)["elements.before"] == 500
    assert counted(result)["elements.after"] == 70


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("mode", ["in_memory", "multi_threading"])
def test_an_error_in_one_slice_ends_the_run(small: Path, mode: str) -> None:
    workers = 1 if mode == "in_memory" else 2
    options = PipelineOptions(direct_num_workers=workers, direct_running_mode=mode)
    pipeline = beam.Pipeline(runner=LocalRunner(str(small)), options=options)
    items = [(f"k{n % 70}", n) for n in range(500)]
    pipeline | beam.Create(items) | beam.GroupByKey() | beam.ParDo(Fails())
    with pytest.raises(Exception, match="k13 is not wanted"):
        pipeline.run()
    assert open_under(small) == []
    for thread in threading.enumerate():  # it ends with an error of its own, and should not do so in another test
        if thread.name == "read_grpc_client_inputs":
            thread.join(5)


def test_steps_with_state_are_beams_own_affair(small: Path) -> None:
    pipeline = beam.Pipeline(runner=LocalRunner(str(small)))
    items = [(f"k{n % 7}", n) for n in range(100)]
    numbered = pipeline | beam.Create(items) | beam.ParDo(Numbered())
    assert_that(numbered, equal_to([(f"k{n % 7}", n // 7) for n in range(100)]))
    pipeline.run()


def test_windows_are_kept(small: Path) -> None:
    pipeline = beam.Pipeline(runner=LocalRunner(str(small)))
    items = [TimestampedValue((f"k{n % 7}", n), n) for n in range(100)]
    windowed = pipeline | beam.Create(items) | beam.WindowInto(FixedWindows(50))
    windowed.element_type = Tuple[str, int]
    wanted = {
        (f"k{key}", len(values), sum(values))
        for first in (0, 50)
        for key in range(7)
        for values in [[n for n in range(first, first + 50) if n % 7 == key]]
    }
    assert_that(windowed | beam.GroupByKey() | beam.Map(summed), equal_to(wanted))
    pipeline.run()


def test_a_bundle_waits_for_all_its_inputs() -> None:
    assert list(slices_of({}, 3)) == []

    class Buffer:
        def __init__(self, *content: list[bytes]) -> None:
            self._content = list(content)

        def partition(self, n: int) -> list[list[bytes]]:
            return self._content

    assert list(slices_of({"a": Buffer([], []), "b": Buffer([])}, 2)) == []
    found = list(slices_of({"a": Buffer([b"x"], [b"y"]), "b": Buffer([b"z"])}, 2))
    assert found == [{"a": [b"x"], "b": []}, {"a": [b"y"], "b": []}, {"a": [], "b": [b"z"]}]


def test_a_beam_that_is_another_inside_runs_all_the_same(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(*_: Any) -> None:
        raise TypeError("GroupingBuffer takes 5 arguments")

    monkeypatch.setattr(LocalRunner, "_give_buffers", changed)
    items = [(f"k{n % 70}", n) for n in range(500)]
    run_graph(LocalRunner(str(small)), items, expected_of(items), None)
    assert "holds in memory what it shuffles (GroupingBuffer takes 5 arguments)" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_is_full_is_told(small: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    items = [(f"k{n % 70}", n) for n in range(500)]
    with pytest.raises(RunFailed, match=rf"{small}: {os.strerror(number)}.*what was paid for is kept"):
        run_graph(LocalRunner(str(small)), items, [], None)


OPTIONS = ("--task_requests=4", "--label_plan=planned", "--verify", "--offline_fault_rate=0.2", "--keep_raw")


def test_rows_are_the_same_however_little_fits_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, little = tmp_path / "large", tmp_path / "little"
    assert run_main("generate", *OPTIONS, f"--output={large}").code == 0
    monkeypatch.setattr(spill, "MEMORY_BYTES", 10_000)
    monkeypatch.setattr(spill, "SLICE_BYTES", 20_000)
    assert run_main("generate", *OPTIONS, f"--output={little}").code == 0
    assert files_of(little) == files_of(large) != {}
    assert sorted(path.name for path in little.iterdir()) == sorted(path.name for path in large.iterdir())
    assert open_under(little) == []


PEAK = """
import pathlib, resource, sys
import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from textmint.pipelines.runners import spill
from textmint.pipelines.runners.local import LocalRunner
from tests.support.local_graphs import many, size_of

def peak():  # bytes; where Linux tells it, of this program alone, and not of the one that started it
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def run(count):
    runner = LocalRunner(sys.argv[1]) if len(sys.argv) > 1 else FnApiRunner()
    pipeline = beam.Pipeline(runner=runner)
    numbers = pipeline | beam.Create([(n, n) for n in range(count)]) | beam.GroupByKey()
    sizes = numbers | beam.FlatMap(many).with_output_types(tuple[str, bytes]) | "Again" >> beam.GroupByKey()
    sizes | beam.Map(size_of) | beam.Distinct() | beam.Map(print)
    pipeline.run()

spill.SLICE_BYTES = 1_000  # as numbers are small, and what becomes of them is not
run(2)  # what Beam imports when it runs is no matter here
before = peak()
run(1_250)
print(peak() - before)
"""


def test_a_shuffle_takes_the_same_memory_however_large_it_is(tmp_path: Path) -> None:
    # 100 MB go through it. Beam's own engine has them as the output of a bundle, as elements, and encoded once more.
    def grown(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
        )
        *sizes, grown_by = done.stdout.split()
        assert sizes == ["4000", "4000"]
        return int(grown_by)

    ours, beams = grown(str(tmp_path)), grown()
    assert ours < 100e6 < 200e6 < beams, (ours, beams)
