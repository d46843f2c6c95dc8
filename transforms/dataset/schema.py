"""The columns of the dataset, and how rows become Parquet.

A column's description travels in the file as the field's metadata. A column is non-null unless its description says
when it is null.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from textmint.transforms.core.elements import HELD_BACK, Example, LabelSet, Reject, Task
from textmint.transforms.dataset.triplets import TRIPLETS, Triplet

Row = Example | Triplet | LabelSet | Task | Reject
DatasetKind = Literal["examples", "triplets", "label_sets", "tasks", "rejects"]
KINDS: Final[tuple[DatasetKind, ...]] = ("rejects", "tasks", "label_sets", "triplets", "examples")
"""The datasets of a folder, in the order in which they are published: the one that counts comes last."""

_STRING: Final = pa.string()
_INT: Final = pa.int64()
ROW_GROUP_ROWS: Final = 32_768  # about 32 MB of text, so that a reader of one group stays small


def column(name: str, type_: pa.DataType, description: str, *, nullable: bool = False) -> pa.Field:
    """Makes a column, which carries its description in the file."""
    return pa.field(name, type_, nullable=nullable, metadata={"description": description})


_maybe: Final = functools.partial(column, nullable=True)


_RAW_REPLY: Final = column("raw_reply", _STRING, "the reply as it came")

EXAMPLES: Final = pa.schema(
    [
        column("id", _STRING, "hash of task_id, replica and seed; of the refresh too where another had the task first"),
        column("task_id", _STRING, "hash of the normalised task"),
        column("task", _STRING, "the classification task, a sentence"),
        column("input_text", _STRING, "the text to classify"),
        column("label", _STRING, "its correct label"),
        column("misleading_label", _STRING, "a label that is valid for the task but wrong here: a hard negative"),
        column("label_id", _STRING, "hash of task_id and the normalised label; rows that share it are no negatives"),
        column("misleading_label_id", _STRING, "the same of the misleading label, to compare with label_id"),
        column("language", _STRING, "the language asked for"),
        column("difficulty", _STRING, "the education asked for"),
        column("clarity", _STRING, "the clarity asked for"),
        column("num_words", _STRING, "the length asked for"),
        column("replica", _INT, "which example of its task, from 0, or from the task's first_replica"),
        column("prompt", _STRING, "the exact text sent"),
        column("template", _STRING, "the template's name and the digest of its text"),
        column("model", _STRING, "the model as served"),
        column("finish_reason", _STRING, "why the model stopped: stop, length"),
        column("prompt_tokens", _INT, "tokens of the prompt, as the endpoint counted them"),
        column("output_tokens", _INT, "tokens of the reply, as the endpoint counted them"),
        column("seed", _INT, "the seed of the run"),
    ]
)

TASKS: Final = pa.schema(
    [
        column("task_id", _STRING, "hash of the normalised task"),
        column("task", _STRING, "the classification task, a sentence"),
        column("source", _STRING, "brainstorm, or file for the user's own"),
        column("round", _INT, "the brainstorm round that first brought it; 0 for a file"),
        _maybe("topic", _STRING, "the topic of that round; null for a file, and where there are no topics"),
        _maybe("model", _STRING, "the model as served; null for a file"),
        _maybe("template", _STRING, "the template's name and digest; null for a file"),
        column("first_replica", _INT, "the number of its first example: 0, or on from those of other refreshes"),
    ]
)

_STRINGS: Final = pa.list_(pa.field("item", _STRING, nullable=False))

LABEL_SETS: Final = pa.schema(
    [
        column("task_id", _STRING, "hash of the normalised task"),
        column("task", _STRING, "the classification task, a sentence"),
        column("labels", _STRINGS, "its labels, 2 or more, in the order of the reply or of the user"),
        column("label_ids", _STRINGS, "of each label: hash of task_id and the normalised label"),
        column("model", _STRING, "the model as served; empty where the user gave the labels"),
        column(
            "template", _STRING, "the template's name and the digest of its text; empty where the user gave the labels"
        ),
        column("prompt_tokens", _INT, "tokens of the prompt, as the endpoint counted them"),
        column("output_tokens", _INT, "tokens of the reply, as the endpoint counted them"),
        column("seed", _INT, "the seed of the run"),
    ]
)

REJECTS: Final = pa.schema(
    [
        column("id", _STRING, "the id of what was refused: of the example that would have been, of the round, ..."),
        column("stage", _STRING, "the step that refused it"),
        column("reason", _STRING, "one of a closed set"),
        column("detail", _STRING, "one line for a person"),
        column("can_retry", pa.bool_(), "whether the same request, sent again, has a chance"),
        column("raw_reply", _STRING, "what was refused, as it came; of an example without its reply, its fields"),
        _maybe("task_id", _STRING, "null for a refused brainstorm reply"),
        _maybe("task", _STRING, "null for a refused brainstorm reply"),
        _maybe("topic", _STRING, "null but for what a brainstorm round with a topic brought"),
        _maybe("language", _STRING, "null before SampleAttributes"),
        _maybe("difficulty", _STRING, "null before SampleAttributes"),
        _maybe("clarity", _STRING, "null before SampleAttributes"),
        _maybe("num_words", _STRING, "null before SampleAttributes"),
        _maybe("replica", _INT, "null before SampleAttributes"),
        _maybe("prompt", _STRING, "null where nothing was asked"),
        _maybe("template", _STRING, "null where nothing was asked"),
        _maybe("model", _STRING, "null where no reply came"),
        _maybe("finish_reason", _STRING, "null where no reply came"),
        _maybe("prompt_tokens", _INT, "null where no reply came"),
        _maybe("output_tokens", _INT, "null where no reply came"),
        _maybe("seed", _INT, "null where nothing was asked"),
        _maybe(
            "attempts",
            _INT,
            "replies that came for it, and tries of the request that got none; null where that is not known",
        ),
    ]
)


def schema_of(kind: DatasetKind, *, keep_raw: bool = False) -> pa.Schema:
    """Returns the schema of a dataset. With `keep_raw`, examples have the column `raw_reply` before `seed`."""
    if kind == "examples":
        return EXAMPLES.insert(EXAMPLES.get_field_index("seed"), _RAW_REPLY) if keep_raw else EXAMPLES
    return {"triplets": TRIPLETS, "label_sets": LABEL_SETS, "tasks": TASKS, "rejects": REJECTS}[kind]


def sort_key(row: Row) -> tuple[str, str, str]:
    """Returns what rows are sorted by: the id, then what tells rows of one id apart."""
    if isinstance(row, Reject):
        return row.id, row.stage, row.reason
    return row.task_id if isinstance(row, (Task, LabelSet)) else row.id, "", ""


_KIND_OF: Final[Mapping[type, DatasetKind]] = {
    Example: "examples",
    Triplet: "triplets",
    LabelSet: "label_sets",
    Task: "tasks",
    Reject: "rejects",
}


def kind_of(element: object) -> DatasetKind | None:
    """Returns the dataset that an element is a row of, if it is one."""
    return None if isinstance(element, Reject) and element.reason == HELD_BACK else _KIND_OF.get(type(element))


def to_record(row: Row, *, keep_raw: bool = False) -> dict[str, Any]:
    """Returns a row by column of its schema, as `beam.io.WriteToParquet` takes it; see `schema_of`."""
    return {name: getattr(row, name) for name in _columns(_KIND_OF[type(row)], keep_raw)}


@functools.cache
def _columns(kind: DatasetKind, keep_raw: bool) -> tuple[str, ...]:
    return tuple(schema_of(kind, keep_raw=keep_raw).names)


def to_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Makes a table of rows with exactly the schema's columns.

    Raises:
      ValueError: a column that is declared non-null holds a null.
    """
    columns: list[pa.Array] = []
    for field in schema:
        column = pa.array([getattr(row, field.name) for row in rows], type=field.type)
        if column.null_count and not field.nullable:
            row = rows[column.is_null().index(pa.scalar(True)).as_py()]
            raise ValueError(f"column {field.name!r} is null in the row {sort_key(row)}, but is declared non-null")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def to_parquet(rows: Iterable[Row], schema: pa.Schema) -> bytes:
    """Makes a Parquet file of rows: sorted by id, zstd, the same bytes whatever order the rows came in."""
    table = to_table(sorted(rows, key=sort_key), schema)
    if not table.num_rows:
        return join_parquet([], schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, sorting_columns=_sorting(schema), compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def _sorting(schema: pa.Schema) -> list[pq.SortingColumn]:
    return [pq.SortingColumn(max(0, schema.get_field_index("id")))]  # tasks have none, and their task_id comes first


def join_parquet(files: Sequence[bytes], schema: pa.Schema) -> bytes:
    """Joins Parquet files into one, in their order. Without files it has no row group, as `datasets` wants."""
    if len(files) == 1:
        return files[0]
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd", sorting_columns=_sorting(schema)) as writer:
        for file in files:
            writer.write_table(pq.read_table(io.BytesIO(file), schema=schema), row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def content_digest(content: bytes) -> str:
    """Computes the digest in the name of a published file, `part-00000-of-00001-DIGEST.parquet`."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
