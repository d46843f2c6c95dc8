"""Graphs for the tests of the local engine, in a module that worker processes can import."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.typehints import Tuple


class CountBundles(beam.DoFn):
    """Passes elements on, and counts each bundle."""

    def __init__(self, name: str) -> None:
        self._bundles = Metrics.counter("test", f"bundles.{name}")
        self._elements = Metrics.counter("test", f"elements.{name}")

    def start_bundle(self) -> None:
        self._bundles.inc()

    def process(self, element: Any) -> Iterator[Any]:
        self._elements.inc()
        yield element


def counted(result: Any) -> dict[str, int]:
    return {found.key.metric.name: found.committed for found in result.metrics().query()["counters"]}


def summed(group: tuple[str, Iterable[int]]) -> tuple[str, int, int]:
    values = list(group[1])
    return group[0], len(values), sum(values)


def with_side(element: Any, whole: list[int], by_key: Mapping[str, int]) -> tuple[Any, int, int]:
    return element, sum(whole), by_key.get(str(element[0]), -1)


def run_graph(runner: Any, items: list[tuple[str, int]], expected: list[Any], workers: PipelineOptions | None) -> Any:
    """A graph with all that ours has: shuffles, one after the other, of two streams together, of one stream twice,
    side inputs, a combiner, an input that is empty."""
    pipeline = beam.Pipeline(runner=runner, options=workers)
    made = pipeline | beam.Create(items) | "Before" >> beam.ParDo(CountBundles("before"))
    made.element_type = Tuple[str, int]
    none = pipeline | "None" >> beam.Create([]).with_output_types(tuple[str, int])
    groups = (made, none, made) | beam.Flatten() | beam.GroupByKey()
    sums = groups | "After" >> beam.ParDo(CountBundles("after")) | beam.Map(summed)
    again = groups | "Again" >> beam.Map(summed)
    whole = beam.pvalue.AsList(made | beam.Values())
    by_key = beam.pvalue.AsDict(made | beam.CombinePerKey(sum))
    both = (sums | beam.Map(with_side, whole, by_key), again | "Same" >> beam.Map(with_side, whole, by_key))
    assert_that(both | "Both" >> beam.Flatten(), equal_to(expected))
    result = pipeline.run()
    result.wait_until_finish()
    return result


class Fails(beam.DoFn):
    def process(self, element: Any) -> Iterator[Any]:
        if element[0] == "k13":
            raise ValueError("k13 is not wanted")
        yield element


class Numbered(beam.DoFn):
    STATE = ReadModifyWriteStateSpec("seen", beam.coders.VarIntCoder())

    def process(
        self,
        element: tuple[str, int],
        seen: Any = beam.DoFn.StateParam(STATE),  # noqa: B008  Beam's way
    ) -> Iterator[tuple[str, int]]:
        number = seen.read() or 0
        seen.write(number + 1)
        yield element[0], number


def many(group: tuple[int, Iterable[int]]) -> Iterator[tuple[str, bytes]]:
    """Makes 80 kB of a number that cannot be compressed."""
    for n in range(20):
        yield f"{group[0]:06d} {n}", os.urandom(4_000)


def size_of(group: tuple[str, Iterable[bytes]]) -> int:
    return sum(map(len, group[1]))
