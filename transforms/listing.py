"""Listings: long lists of files that a graph is to read, each in a file of its own.

A graph that holds every name grows with what earlier runs have left, and engines refuse large ones (Dataflow takes
10 MB). So from some names on they stand in a file of the run, and the graph names that. It is written once, before the
graph runs: a worker that starts anew reads the same names, whatever has come into the folder since.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from transforms import files

Row = tuple[str, ...]
"""A path and what belongs to it, or several paths that are read together."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """Rows that stand in a file.

    Args:
      path: of that file, or its URL.
    """

    path: str


def write_listing(path: str, rows: Iterable[Row]) -> Listing:
    """Rows -> a file of them, a JSON array a line.

    Raises:
      OSError: it cannot be written.
    """
    files.write_file(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii"))
    return Listing(path)


def read_listing(path: str) -> Iterator[Row]:
    """The path of a listing -> its rows, in order.

    Raises:
      OSError: it cannot be read.
    """
    for line in files.read_file(path).splitlines():
        yield tuple(json.loads(line))


def create(rows: Sequence[Row] | Listing) -> Any:
    """Rows, or where they stand -> a `PTransform` from the pipeline to them, spread over workers."""
    if isinstance(rows, Listing):
        read = beam.FlatMap(read_listing).with_output_types(Row)
        return beam.Create([rows.path]) | "ReadListing" >> read | "Spread" >> beam.Reshuffle()
    return beam.Create(list(rows)).with_output_types(Row)
