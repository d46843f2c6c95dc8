"""ReadExclusions: reads the files of texts that no example may share."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from textmint.transforms.dedup.exclusions import read_exclusions
from textmint.transforms.dedup.minhash import Text
from textmint.transforms.storage import files


def _read_file(path: str) -> Iterator[Text]:
    with files.open_text(path) as file:
        yield from read_exclusions(file, path)


@dataclasses.dataclass(eq=False)
class ReadExclusions(beam.PTransform):
    """Reads texts, each with its file's path as source, to stand beside those of the run in `FindNearDuplicates`.

    Args:
      pattern: a path or pattern that Beam's FileSystems open; see `exclusions.read_exclusions` for the formats.
    """

    pattern: str

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection[Text]:
        return (
            pipeline
            | "Pattern" >> beam.Create([self.pattern])
            | "Match" >> beam.FlatMap(files.match_paths).with_output_types(str)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_read_file)
        )
