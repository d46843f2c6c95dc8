"""Listings: long lists of files that a graph is to read, each in a file of its own.

A graph that holds every name grows with what earlier runs have left, and engines refuse large ones (Dataflow takes
10 MB). So long lists stand in a file of the run, and the graph holds its name. It is written once, before the graph
runs: a worker that starts again reads the same names, whatever has come into the folder since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.storage import files

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
    """Writes rows to a file, a JSON array a line. Its name holds their digest, by which a reader checks them.

    Raises:
      OSError: it cannot be written.
    """
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii")
    folder, _, name = path.rpartition("/")
    named = files.join(folder, f"{_digest(content)}-{name}")
    files.write_file(named, content)
    return Listing(named)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def read_listing(path: str) -> Iterator[Row]:
    """Reads the rows of a listing, in order.

    Raises:
      OSError: it cannot be read.
      RunFailed: it is not what was written.
    """
    content = files.read_file(path)
    if not path.rpartition("/")[2].startswith(f"{_digest(content)}-"):
        raise RunFailed(f"{path} is not what was written there: it was damaged or changed; run the same command again")
    for line in content.splitlines():
        yield tuple(json.loads(line))


def create(rows: Sequence[Row] | Listing) -> Any:
    """Makes a transform that creates the rows, or reads them from their listing, spread over workers."""
    if isinstance(rows, Listing):
        read = beam.FlatMap(read_listing).with_output_types(Row)
        return beam.Create([rows.path]) | "ReadListing" >> read | "Spread" >> beam.Reshuffle()
    return beam.Create(list(rows)).with_output_types(Row)
