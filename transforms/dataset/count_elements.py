"""CountElements: counts what went through each step of the graph."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue
from textmint.transforms.dataset.accounting import Watch, increments


class _Count(beam.DoFn):
    """Counts a bundle in memory and emits the sums at its end, so that an element costs an addition."""

    def __init__(self, stream: str, watch: Watch | None) -> None:
        self._stream = stream
        self._watch = watch
        self._counts: collections.Counter[str]

    def start_bundle(self) -> None:
        self._counts = collections.Counter()

    def process(self, element: Any) -> None:
        for name, amount in increments(self._stream, element, self._watch):
            self._counts[name] += amount

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for name, amount in self._counts.items():
            yield WindowedValue((name, amount), MIN_TIMESTAMP, (GlobalWindow(),))


@dataclasses.dataclass(eq=False)
class CountElements(beam.PTransform):
    """Counts the elements of streams, given by name, as (name, count) pairs; see `accounting.increments`. Unlike
    metrics, these counts are exact when an engine retries a bundle.

    Args:
      watch: what is counted beside the rest where a cap decides how far a run goes.
    """

    watch: Watch | None = None

    def expand(self, streams: Mapping[str, Any]) -> Any:
        counted = [
            stream | f"Count{name.title()}" >> beam.ParDo(_Count(name, self.watch)).with_output_types(tuple[str, int])
            for name, stream in sorted(streams.items())
        ]
        return counted | beam.Flatten() | "Sum" >> beam.CombinePerKey(sum)
