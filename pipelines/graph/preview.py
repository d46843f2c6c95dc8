"""The part of the graph that only a preview has: a few examples of as many tasks as there are, and a file in place of a
dataset folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec
from msgspec.structs import replace
from textmint.transforms.core.elements import Reject, Task, TaskSettings
from textmint.transforms.core.packing import pack, unpack
from textmint.transforms.storage.files import write_file

_COUNTS = "counts"


@dataclasses.dataclass(frozen=True, slots=True)
class PreviewTarget:
    """What a preview asks for, and where it writes what came.

    Args:
      rows: how many examples are asked for at most. The run's `max_tasks` is no more than that.
      path: a local file.
    """

    rows: int
    path: str


def examples_of_each(limits: Mapping[str, int], rows: int) -> dict[str, int]:
    """Divides `rows` examples among tasks: one for each, then a second for each, and so on.

    Args:
      limits: how many examples each task may have, by its id.
      rows: how many there are to be, no fewer than there are tasks.

    Returns:
      How many examples each task gets, by its id. All together are fewer than `rows` if the limits are.
    """
    shares = dict.fromkeys(limits, 0)
    while rows > 0 and (fit := [task for task in sorted(limits) if shares[task] < limits[task]][:rows]):
        for task in fit:
            shares[task] += 1
        rows -= len(fit)
    return shares


def _limit_of(task: Task | Reject, examples_per_task: int) -> Iterator[tuple[str, int]]:
    if isinstance(task, Task):
        yield task.task_id, (task.settings or TaskSettings()).examples or examples_per_task


class _Share(beam.DoFn):
    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._shares: dict[str, int] = {}

    def start_bundle(self) -> None:
        self._shares = {}

    def process(self, task: Task | Reject, limits: Mapping[str, int]) -> Iterator[Task | Reject]:
        if isinstance(task, Task):
            self._shares = self._shares or examples_of_each(limits, self._rows)
            task = replace(task, settings=replace(task.settings or TaskSettings(), examples=self._shares[task.task_id]))
        yield task


@dataclasses.dataclass(eq=False)
class FewExamples(beam.PTransform):
    """Gives each Task a share of `rows` examples, as a setting of the task; see `examples_of_each`. These are the first
    examples that the whole run asks for of the task. Rejects pass through.

    Args:
      rows: how many examples there are to be, no fewer than there are tasks.
      examples_per_task: how many a task may have that does not say so itself.
    """

    rows: int
    examples_per_task: int

    def expand(self, tasks: beam.PCollection[Task | Reject]) -> beam.PCollection[Task | Reject]:
        """Gives the tasks."""
        keyed = tuple[str, int]
        limits = tasks | "Limits" >> beam.FlatMap(_limit_of, self.examples_per_task).with_output_types(keyed)
        share = beam.ParDo(_Share(self.rows), beam.pvalue.AsDict(limits))
        return tasks | "Share" >> share.with_output_types(Task | Reject)


def _packed(element: Any, stream: str) -> tuple[str, tuple[str, bytes]]:
    return "", (stream, json.dumps(element).encode() if stream == _COUNTS else pack(element))


class _Write(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, group: tuple[str, Iterable[tuple[str, bytes]]]) -> Iterator[str]:
        write_file(self._path, msgspec.msgpack.encode(sorted(group[1])))
        yield self._path


@dataclasses.dataclass(eq=False)
class WritePreview(beam.PTransform):
    """Writes the elements of streams, given by name, to one local file, and gives its path. The stream "counts" holds
    (name, count), the others elements."""

    path: str

    def expand(self, streams: Mapping[str, Any]) -> Any:
        """Gives the path, once the file is there."""
        keyed = tuple[str, tuple[str, bytes]]
        packed = [
            stream | f"Pack{name.title()}" >> beam.Map(_packed, name).with_output_types(keyed)
            for name, stream in streams.items()
        ]
        return packed | beam.Flatten() | "Together" >> beam.GroupByKey() | "Write" >> beam.ParDo(_Write(self.path))


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """What a preview has brought."""

    elements: Mapping[str, list[Any]]  # by stream, always in the same order
    counts: Mapping[str, int]  # see `accounting.Counts`


def read_preview(path: str) -> Collected:
    """Reads what `WritePreview` has written.

    Raises:
      OSError: there is no such file.
    """
    elements: dict[str, list[Any]] = {}
    for stream, packed in msgspec.msgpack.decode(Path(path).read_bytes(), type=list[tuple[str, bytes]]):
        elements.setdefault(stream, []).append(json.loads(packed) if stream == _COUNTS else unpack(packed))
    return Collected(elements, dict(elements.pop(_COUNTS, [])))
