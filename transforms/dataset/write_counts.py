"""WriteCounts: writes what a pass counted to a file, for the launcher to decide on the next pass."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from textmint.transforms.storage.files import read_file, write_file


class _Write(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, _: bytes, counts: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
        write_file(self._path, json.dumps(counts, sort_keys=True).encode())  # the same again if it is retried
        yield counts


@dataclasses.dataclass(eq=False)
class WriteCounts(beam.PTransform):
    """Writes (name, count) pairs to one JSON file, and gives them as one mapping."""

    path: str

    def expand(self, counts: beam.PCollection[tuple[str, int]]) -> Any:
        return (
            counts.pipeline
            | "OnceCounted" >> beam.Impulse()
            | "WriteCounts" >> beam.ParDo(_Write(self.path), beam.pvalue.AsDict(counts))
        )


def read_counts(path: str) -> dict[str, int]:
    """Reads what `WriteCounts` wrote."""
    counts: dict[str, int] = json.loads(read_file(path))
    return counts
