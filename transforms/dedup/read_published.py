"""ReadPublished: reads what other refreshes of the dataset hold, and a new one must not repeat."""

import dataclasses
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.texts import text_id
from textmint.transforms.dataset.published_files import check_digest
from textmint.transforms.dataset.schema import DatasetKind
from textmint.transforms.dedup.minhash import Text
from textmint.transforms.dedup.verdicts import source_of
from textmint.transforms.storage import files, listing

_LOG = logging.getLogger("textmint")

Published = tuple[str, str, str]
"""An example: its `texts.text_id`, its id, and the refresh that has it."""

PublishedTask = tuple[str, str, int, int]
"""A task_id, a refresh that has the task, the number of its first example there, and the one after its last."""


def published_rows(content: bytes, label: str) -> Iterator[Published]:
    """Reads a published file of examples, or raises a ValueError where it is none."""
    for id_, text, _ in _rows("examples", content):
        yield text_id(text), id_, label


def published_tasks(content: bytes, label: str, examples_per_task: int) -> Iterator[PublishedTask]:
    """Reads a published file of tasks, or raises a ValueError where it is none."""
    for id_, _, first in _rows("tasks", content):
        yield id_, label, first, first + examples_per_task


def published_texts(kind: DatasetKind, content: bytes, label: str) -> Iterator[Text]:
    """Reads the texts of a published file, of tasks only those that no refresh had before, or raises a ValueError."""
    for id_, text, first in _rows(kind, content):
        if not first:
            yield Text(id=id_, text=text, source=source_of(label))


def _rows(kind: DatasetKind, content: bytes) -> Iterator[tuple[str, str, int]]:
    """Yields id, text and, of a task, the number of its first example."""
    columns = ["task_id", "task"] if kind == "tasks" else ["id", "input_text"]
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        is_numbered = kind == "tasks" and _FIRST in file.schema_arrow.names  # not in a file of an older version
        for batch in file.iter_batches(columns=[*columns, *([_FIRST] if is_numbered else [])]):
            numbers = batch.column(_FIRST).to_pylist() if is_numbered else [0] * batch.num_rows
            if not all(type(number) is int and number >= 0 for number in numbers):
                raise ValueError(f"{_FIRST} holds what is no number")
            yield from zip(*(_strings(batch, name) for name in columns), numbers, strict=True)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


_FIRST = "first_replica"


def _strings(batch: pa.RecordBatch, name: str) -> list[str]:
    values: list[str] = batch.column(name).to_pylist()
    if not all(type(value) is str for value in values):  # a file that somebody else wrote
        raise ValueError(f"{name} holds what is no string")
    return values


class _Read(beam.DoFn):
    def __init__(self, kind: DatasetKind, as_texts: bool, refresh: str) -> None:
        self._kind = kind
        self._refresh = refresh
        self._as_texts = as_texts

    def _rows(self, content: bytes, label: str, examples_per_task: str = "1") -> Iterator[Any]:
        if self._as_texts:
            return published_texts(self._kind, content, label)
        if self._kind == "tasks":
            return published_tasks(content, label, int(examples_per_task))
        return published_rows(content, label)

    def process(self, found: listing.Row) -> Iterator[Any]:
        path, label = found[:2]
        try:
            content = files.read_file(path)
            check_digest(path, content)
            yield from self._rows(content, *found[1:])
        except (ValueError, OSError) as error:
            if label == self._refresh:  # which is about to be written anew
                _LOG.warning("%s cannot be read (%s); this run writes it anew", path, error)
                return
            if not isinstance(error, FileNotFoundError):
                raise RunFailed(
                    f"{path}, which refresh={label} published, cannot be read ({error}); "
                    "take it away, or run that label again"
                ) from None
            raise RunFailed(
                f"{path} is gone: refresh={label} was published anew meanwhile; run the same command again"
            ) from None


@dataclasses.dataclass(eq=False)
class ReadPublished(beam.PTransform):
    """Reads each task or example that refreshes hold, as `PublishedTask`, `Published` or Text.

    Args:
      kind: tasks or examples.
      found: of each file its path, its label and, of tasks, how many examples were asked for; or a listing of these.
      as_texts: whether the texts themselves are wanted.
      refresh: the label of the run; a file of it that cannot be read is skipped with a warning.

    Raises:
      RunFailed: while it runs, when a file of another label cannot be read.
    """

    kind: DatasetKind
    found: Sequence[listing.Row] | listing.Listing
    as_texts: bool = False
    refresh: str = ""

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection[Any]:
        read = beam.ParDo(_Read(self.kind, self.as_texts, self.refresh))
        rows = PublishedTask if self.kind == "tasks" else Published
        return (
            pipeline
            | "Files" >> listing.create(self.found)
            | "Read" >> read.with_output_types(Text if self.as_texts else rows)
        )
