"""ReadPublished: what other refreshes of the dataset hold -> what a new one must not repeat."""

import dataclasses
import io
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import files
from transforms.errors import RunFailed
from transforms.schema import DatasetKind
from transforms.texts import text_id

Published = tuple[str, str, str]
"""What tells it apart (a task_id, or the `texts.text_id` of an example), its id, and the label that has it."""


def published_rows(kind: DatasetKind, content: bytes, label: str) -> Iterator[Published]:
    """The content of a published file -> its rows.

    Raises:
      ValueError: it is no file of that dataset.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        for batch in file.iter_batches(columns=["task_id"] if kind == "tasks" else ["id", "input_text"]):
            if kind == "tasks":
                for task_id in _strings(batch, "task_id"):
                    yield task_id, task_id, label
            else:
                for id_, text in zip(_strings(batch, "id"), _strings(batch, "input_text"), strict=True):
                    yield text_id(text), id_, label
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def _strings(batch: pa.RecordBatch, name: str) -> list[str]:
    values: list[str] = batch.column(name).to_pylist()
    if not all(type(value) is str for value in values):  # a file that somebody else wrote
        raise ValueError(f"{name} holds what is no string")
    return values


class _Read(beam.DoFn):
    def __init__(self, kind: DatasetKind) -> None:
        self._kind = kind

    def process(self, found: tuple[str, str]) -> Iterator[Published]:
        path, label = found
        try:
            yield from published_rows(self._kind, files.read_file(path), label)
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
    """Pipeline -> `Published`, for each task or example that other refreshes hold.

    Args:
      kind: tasks or examples.
      found: the path of each file, and the label it belongs to.

    Raises:
      RunFailed: while it runs, when a file cannot be read: what is in it might come again.
    """

    kind: DatasetKind
    found: Sequence[tuple[str, str]]

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection[Published]:
        return (
            pipeline
            | "Files" >> beam.Create(list(self.found)).with_output_types(tuple[str, str])
            | "Read" >> beam.ParDo(_Read(self.kind))
        )
