"""ReadLedger: reads from the files of the ledger the replies that this run can use."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.ledger.join import read_for_join
from textmint.transforms.ledger.table import LedgerFileError
from textmint.transforms.storage import files, listing

_GROUP_BYTES = 16 << 20  # of files read together: about 100 MB unpacked
_GROUP_FILES = 256


def groups_of(found: Sequence[files.FoundFile]) -> list[tuple[str, ...]]:
    """Groups the paths of files that are read together, so that many small files are as good as a few large ones."""
    groups: list[tuple[str, ...]] = []
    group: list[str] = []
    size = 0
    for file in found:
        if group and (size + file.bytes > _GROUP_BYTES or len(group) == _GROUP_FILES):
            groups.append(tuple(group))
            group, size = [], 0
        group.append(file.path)
        size += file.bytes
    return [*groups, tuple(group)] if group else groups


class _Read(beam.DoFn):
    def __init__(self, kind: str, fingerprint: str) -> None:
        self._kind = kind
        self._fingerprint = fingerprint
        self._counters = StepCounters("ReadLedger")

    def process(self, paths: tuple[str, ...]) -> Iterator[Any]:
        tables = []
        for path in paths:
            name = path.rpartition("/")[2]
            try:
                content = files.read_file(path)
                tables.append(read_for_join(content, kind=self._kind, fingerprint=self._fingerprint, name=name))
            except FileNotFoundError:
                raise RunFailed(
                    f"{path}, which holds replies that were paid for, is gone since the run began; run the same "
                    "command again when it is back, or with --rebuy"
                ) from None
            except LedgerFileError as error:
                raise RunFailed(
                    f"{path}, which holds replies that were paid for: {error}; bring it back from where you have a "
                    "copy, or let --rebuy keep what is whole in it and pay again for the rest"
                ) from None
        table = pa.concat_tables(tables)
        if table.num_rows:
            self._counters.add("replies", table.num_rows)
            yield table


@dataclasses.dataclass(eq=False)
class ReadLedger(beam.PTransform):
    """Reads Arrow tables of paid replies, as `join.read_for_join` gives them.

    Args:
      found: the files, or a listing of `groups_of` them.
      kind: of the prompts whose replies are wanted.
      fingerprint: of the model whose replies are wanted.

    Raises:
      RunFailed: while it runs, when a file is missing or damaged: its replies would be paid for again.
    """

    found: Sequence[files.FoundFile] | listing.Listing
    kind: str
    fingerprint: str

    def expand(self, pipeline: beam.pvalue.PBegin) -> Any:
        groups = self.found if isinstance(self.found, listing.Listing) else groups_of(self.found)
        return (
            pipeline
            | "Files" >> listing.create(groups)
            | "Read" >> beam.ParDo(_Read(self.kind, self.fingerprint)).with_output_types(Any)
        )
