"""DescribeRows: the figures of all rows of a run, counted where they lie."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue
from textmint.transforms.core.elements import Example, Reject, Task
from textmint.transforms.statistics.accumulate import Accumulator
from textmint.transforms.statistics.figures import figures_of
from textmint.transforms.statistics.summary import Summary, pack, unpack
from textmint.transforms.statistics.task_labels import shares_for, summary_of

_HEAPS = 16
"""Summaries of rows are merged in so many heaps first: each is up to 2 MB, and there is one from each bundle."""
_OF_ROWS = "rows "
_ALL = "all"


class _Accumulate(beam.DoFn):
    """Makes parts, keyed by their share, and a summary of each bundle, keyed by its heap."""

    def __init__(self, shares: int) -> None:
        self._shares = shares
        self._rows: Accumulator

    def start_bundle(self) -> None:
        self._rows = Accumulator(self._shares)

    def process(self, row: Example | Reject | Task) -> Iterator[tuple[str, bytes]]:
        if isinstance(row, Example):
            self._rows.add_example(row)
        elif isinstance(row, Reject):
            self._rows.add_reject(row)
        else:
            self._rows.add_task()
        return self._rows.take_parts(at_end=False)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        summary = pack(self._rows.take_summary())
        for keyed in (*self._rows.take_parts(at_end=True), (f"{_OF_ROWS}{zlib.crc32(summary) % _HEAPS}", summary)):
            yield WindowedValue(keyed, MIN_TIMESTAMP, (GlobalWindow(),))


def _summarise(group: tuple[str, Iterable[bytes]]) -> tuple[str, bytes]:
    key, packed = group
    if not key.startswith(_OF_ROWS):
        return _ALL, pack(summary_of(packed))
    merged = Summary()
    for summary in packed:
        merged.merge(unpack(summary))
    return _ALL, pack(merged)


class _Merge(beam.CombineFn):
    """Merges summaries, given as bytes, and makes the figures of all rows."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def create_accumulator(self) -> Summary:
        return Summary()

    def add_input(self, merged: Summary | bytes, summary: bytes) -> Summary:
        return _opened(merged).merge(unpack(summary))

    def merge_accumulators(self, several: Iterable[Summary | bytes]) -> Summary:
        merged = Summary()
        for one in several:
            merged.merge(_opened(one))
        return merged

    def compact(self, merged: Summary | bytes) -> bytes:  # engines move bytes as they are
        return merged if isinstance(merged, bytes) else pack(merged)

    def extract_output(self, merged: Summary | bytes) -> dict[str, Any]:
        return figures_of(_opened(merged), self._threshold)


def _opened(merged: Summary | bytes) -> Summary:
    return unpack(merged) if isinstance(merged, bytes) else merged


@dataclasses.dataclass(eq=False)
class DescribeRows(beam.PTransform):
    """Makes the figures of the examples, rejects and tasks of a run: one element, see `figures.figures_of`, or none
    where there are no rows. It takes streams by name, which hold any of these.

    Args:
      expected_rows: a guess at the number of examples; on it depends what a worker holds at once, not a figure.
      threshold: two texts that are this alike are near copies.
    """

    expected_rows: int
    threshold: float

    def expand(self, streams: Mapping[str, Any]) -> Any:
        accumulate = beam.ParDo(_Accumulate(shares_for(self.expected_rows))).with_output_types(tuple[str, bytes])
        # Each stream by itself, where it is made: of a Flatten before, engines would write all rows and read them back.
        accumulated = [stream | f"Accumulate{name.title()}" >> accumulate for name, stream in sorted(streams.items())]
        return (
            accumulated
            | "Accumulated" >> beam.Flatten()
            | "GroupByShare" >> beam.GroupByKey()
            | "Summarise" >> beam.Map(_summarise).with_output_types(tuple[str, bytes])
            | "Figures" >> beam.CombinePerKey(_Merge(self.threshold))
            | "Values" >> beam.Values()
        )
