"""ReadPublished: what other refreshes of the dataset hold -> what a new one must not repeat."""

import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import files, listing
from transforms.errors import RunFailed
from transforms.judging import source_of
from transforms.near_duplicates import Text
from transforms.schema import DatasetKind, content_digest
from transforms.texts import text_id

_NAME: Final = re.compile(r"part-\d{5}-of-\d{5}-([0-9a-f]{16})\.parquet")
Published = tuple[str, str, str]
"""What tells it apart (a task_id, or the `texts.text_id` of an example), its id, and the label that has it."""


def published_rows(kind: DatasetKind, content: bytes, label: str) -> Iterator[Published]:
    """The content of a published file -> its rows.

    Raises:
      ValueError: it is no file of that dataset.
    """
    for id_, text in _ids_and_texts(kind, content):
        yield (id_ if kind == "tasks" else text_id(text)), id_, label


def published_texts(kind: DatasetKind, content: bytes, label: str) -> Iterator[Text]:
    """The content of a published file -> the text of each of its rows.

    Raises:
      ValueError: it is no file of that dataset.
    """
    for id_, text in _ids_and_texts(kind, content):
        yield Text(id=id_, text=text, source=source_of(label))


def _ids_and_texts(kind: DatasetKind, content: bytes) -> Iterator[tuple[str, str]]:
    columns = ["task_id", "task"] if kind == "tasks" else ["id", "input_text"]
    try:
        for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches(columns=columns):
            yield from zip(*(_strings(batch, name) for name in columns), strict=True)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def _strings(batch: pa.RecordBatch, name: str) -> list[str]:
    values: list[str] = batch.column(name).to_pylist()
    if not all(type(value) is str for value in values):  # a file that somebody else wrote
        raise ValueError(f"{name} holds what is no string")
    return values


def check_digest(path: str, content: bytes) -> None:
    """Checks what a published file holds against the digest in its name, if it has the name that a run gave it.

    Args:
      path: of the file.
      content: of the file.

    Raises:
      ValueError: it is not what was written.
    """
    told = _NAME.fullmatch(path.rpartition("/")[2])
    if told is not None and told[1] != content_digest(content):
        raise ValueError("damaged: its content is not what was written under its name")


class _Read(beam.DoFn):
    def __init__(self, kind: DatasetKind, as_texts: bool) -> None:
        self._kind = kind
        self._rows = published_texts if as_texts else published_rows

    def process(self, found: listing.Row) -> Iterator[Any]:
        path, label = found
        try:
            content = files.read_file(path)
            check_digest(path, content)
            yield from self._rows(self._kind, content, label)
        except FileNotFoundError:
            raise RunFailed(
                f"{path} is gone: refresh={label} was published anew meanwhile; run the same command again"
            ) from None
        except (ValueError, OSError) as error:
            raise RunFailed(
                f"{path}, which refresh={label} published, cannot be read ({error}); "
                "take it away, or run that label again"
            ) from None


@dataclasses.dataclass(eq=False)
class ReadPublished(beam.PTransform):
    """Pipeline -> `Published`, or Text, for each task or example that other refreshes hold.

    Args:
      kind: tasks or examples.
      found: the path of each file and the label it belongs to, or a listing of these.
      as_texts: whether the texts themselves are wanted.

    Raises:
      RunFailed: while it runs, when a file cannot be read: what is in it might come again.
    """

    kind: DatasetKind
    found: Sequence[tuple[str, str]] | listing.Listing
    as_texts: bool = False

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection[Any]:
        read = beam.ParDo(_Read(self.kind, self.as_texts))
        return (
            pipeline
            | "Files" >> listing.create(self.found)
            | "Read" >> read.with_output_types(Text if self.as_texts else Published)
        )
