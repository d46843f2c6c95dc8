"""Listings: long lists of files that a graph is to read, each in a file of its own.

Engines refuse large graphs (Dataflow takes 10 MB), so the graph holds only the name of the list. The list is written
once, before the graph runs: a worker that starts again reads the same names.
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
    """Rows that stand in the file at a path or URL."""

    path: str


def write_listing(path: str, rows: Iterable[Row]) -> Listing:
    """Writes rows to a file, a JSON array a line. Its name holds their digest, by which a reader checks them."""
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii")
    folder, _, name = path.rpartition("/")
    named = files.join(folder, f"{_digest(content)}-{name}")
    files.write_file(named, content)
    return Listing(named)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def read_listing(path: str) -> Iterator[Row]:
    """Reads the rows of a listing, in order; raises RunFailed where they are not what was written."""
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
