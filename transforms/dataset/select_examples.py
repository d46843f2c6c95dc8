"""SelectExamples: takes exactly as many examples as `--target_examples` asks for, of those that all else has kept.

Tasks take turns, and within a task its labels: each task has as many rows as any other, or all that it has, and so has
each label within a task. Only ids are shuffled; verdicts meet their examples in `WriteDataset`.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import apache_beam as beam
from textmint.transforms.core.elements import Example, Reject, Relabel, Verdict
from textmint.transforms.core.identity import shard_of, stable_hash

_STEP: Final = "SelectExamples"
_SHARD_ROWS: Final = 20_000  # of a few words each, in memory at once

Row: TypeAlias = tuple[str, str, str]
"""The id of an example, of its task, and of its label within the task."""
Turns: TypeAlias = collections.Counter[int]
"""How many rows each turn has."""


def order_of(id_: str) -> str:
    """Returns the place of an example among others by hash."""
    return stable_hash("select_example", id_)


def left_over(found: Iterable[Row | str]) -> Iterator[Row]:
    """Yields the rows whose ids do not stand among them by themselves, as those that a comparison refuses do."""
    rows: list[Row] = []
    refused: set[str] = set()
    for each in found:
        if isinstance(each, str):
            refused.add(each)
        else:
            rows.append(each)
    return (row for row in rows if row[0] not in refused)


def turns_of(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    """Numbers the rows of one task from 0 in the order in which they are taken: its labels take turns, and the rows of
    a label come by hash.

    Args:
      rows: the id of each, and its label.
    """
    by_label: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for id_, label in rows:
        by_label[label].append((order_of(id_), id_))
    places = [(place, *row) for of_label in by_label.values() for place, row in enumerate(sorted(of_label))]
    for turn, (_, _, id_) in enumerate(sorted(places)):
        yield id_, turn


def boundary(turns: Mapping[int, int], wanted: int) -> tuple[int, int]:
    """Returns the first turn of which not all rows are taken, and how many of its rows are."""
    for turn in sorted(turns):
        if turns[turn] > wanted:
            return turn, wanted
        wanted -= turns[turn]
    return len(turns), 0


class _CountTurns(beam.CombineFn):
    """Counts the rows of each turn, and finds the boundary."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted

    def create_accumulator(self) -> Turns:
        return collections.Counter()

    def add_input(self, turns: Turns, row: tuple[str, int]) -> Turns:
        turns[row[1]] += 1
        return turns

    def merge_accumulators(self, accumulators: Iterable[Turns]) -> Turns:
        total: Turns = collections.Counter()
        for turns in accumulators:
            total.update(turns)
        return total

    def extract_output(self, turns: Turns) -> tuple[int, int]:
        return boundary(turns, self._wanted)


class _Key(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, element: Example | Reject | Verdict | Relabel) -> Iterator[tuple[str, Row | str]]:
        if isinstance(element, (Example, Verdict)):
            row = (element.id, element.task_id, element.label_id) if isinstance(element, Example) else element.id
            yield f"{shard_of(element.id, self._shards):04x}", row


def _survivors(group: tuple[str, Iterable[Row | str]]) -> Iterator[tuple[str, tuple[str, str]]]:
    for id_, task_id, label_id in left_over(group[1]):
        yield task_id, (id_, label_id)


def _turns(group: tuple[str, Iterable[tuple[str, str]]]) -> Iterator[tuple[str, int]]:
    return turns_of(group[1])


def _of_turn(row: tuple[str, int], end: tuple[int, int]) -> Iterator[tuple[str, str]]:
    if row[1] == end[0]:
        yield "", order_of(row[0])


def _first_refused(group: tuple[str, Iterable[str]], end: tuple[int, int]) -> str:
    return sorted(group[1])[end[1]]  # one hash a task at most


def _verdict(row: tuple[str, int], end: tuple[int, int], first_refused: str, wanted: int) -> Iterator[Verdict]:
    id_, turn = row
    if turn > end[0] or (turn == end[0] and order_of(id_) >= first_refused):
        detail = f"--target_examples={wanted}"
        yield Verdict(id=id_, stage=_STEP, reason="over_target", detail=detail)


@dataclasses.dataclass(eq=False)
class SelectExamples(beam.PTransform):
    """Refuses the surplus over `wanted` examples. It gives its verdicts and those that it was given.

    Takes streams by name: "examples" (Example or Reject) and "verdicts" on them (Verdict or Relabel).

    Args:
      wanted: how many examples to take; all, where there are fewer.
      expected_rows: a guess at the number of examples, which decides in how many pieces they are joined with verdicts.
    """

    wanted: int
    expected_rows: int = _SHARD_ROWS

    def expand(self, streams: Mapping[str, Any]) -> Any:
        shards = max(1, min(65_536, math.ceil(self.expected_rows / _SHARD_ROWS)))
        keyed = [
            stream | f"Key{name.title()}" >> beam.ParDo(_Key(shards)).with_output_types(tuple[str, Any])
            for name, stream in sorted(streams.items())
        ]
        turns = (
            keyed
            | "Together" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "Survivors" >> beam.FlatMap(_survivors).with_output_types(tuple[str, tuple[str, str]])
            | "GroupByTask" >> beam.GroupByKey()
            | "Turns" >> beam.FlatMap(_turns).with_output_types(tuple[str, int])
        )
        end = beam.pvalue.AsSingleton(turns | "CountTurns" >> beam.CombineGlobally(_CountTurns(self.wanted)))
        first_refused = (
            turns
            | "LastTurn" >> beam.FlatMap(_of_turn, end).with_output_types(tuple[str, str])
            | "GroupLastTurn" >> beam.GroupByKey()
            | "FirstRefused" >> beam.Map(_first_refused, end)
        )
        surplus = turns | "Surplus" >> beam.FlatMap(
            _verdict, end, beam.pvalue.AsSingleton(first_refused, default_value=""), self.wanted
        )
        return (streams["verdicts"], surplus) | "Verdicts" >> beam.Flatten()
