"""The ledger: every reply that was paid for, so that none is paid for twice.

    OUTPUT/ledger/replies-DIGEST.parquet    immutable, a row a reply; see SCHEMA
    OUTPUT/ledger/_journal/*.jsonl          on a local disk, what a process has received so far: a line a reply
    OUTPUT/ledger/_set_aside/*              files that could not be read, and why

A file's name is a digest of its content; where that does not match, or the file has another name, a digest of each row
group tells which rows are whole, so that a bad bit costs a row group, not the file. Files of earlier versions have the
first of the two only. Of several rows of one request the earliest counts. This module makes and reads Parquet files.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from textmint.transforms.storage import files

FOLDER: Final = "ledger"
VERSION: Final = b"1"  # of the schema; another one is another file format
_VERSION_KEY: Final = b"textmint.ledger"
_TEXT: Final = pa.string()
_INT: Final = pa.int64()

_COLUMNS: Final = [
    ("request_id", _TEXT, "hash of draft_id, the prompt, the fingerprint and the attempt"),
    ("draft_id", _TEXT, "what was asked for: the id of the draft, or of the brainstorm round"),
    ("kind", _TEXT, "the structure asked for: task_list, example, label_set, ..."),
    ("refresh", _TEXT, "the label of the run that paid"),
    ("model", _TEXT, "the model as served"),
    ("fingerprint", _TEXT, "hash of the model and of every parameter that changes the answer"),
    ("attempt", _INT, "0, then 1 more for each time the reply before could not be read"),
    ("text", _TEXT, "the reply as it came"),
    ("finish_reason", _TEXT, "why the model stopped: stop, length, content_filter, reply_filter"),
    ("prompt_tokens", _INT, "tokens of the prompt, as the endpoint counted them"),
    ("output_tokens", _INT, "tokens of the reply, as the endpoint counted them"),
    ("latency_ms", _INT, "from the sending to the reply"),
    ("time", pa.timestamp("ms", tz="UTC"), "when the reply came"),
]
SCHEMA: Final = pa.schema(
    [pa.field(name, type_, nullable=False, metadata={"description": text}) for name, type_, text in _COLUMNS],
    metadata={_VERSION_KEY: VERSION},
)
"""The columns of the ledger's Parquet files. Every one is non-null."""

FIRST_BY: Final = ["text", "model", "finish_reason", "prompt_tokens", "output_tokens"]
"""What decides which of two replies to one request counts, where their time does not: all that reaches a row."""
_SKIPPED_BY: Final = ["kind", "fingerprint"]  # see `_may_hold`
_WORDS: Final = ["kind", "refresh", "model", "fingerprint", "finish_reason"]  # few values, so a dictionary pays
_GROUPS: Final = 16  # of rows in a file, where they are neither smaller nor larger than the next two say
_LEAST_GROUP_ROWS: Final = 64  # about 20 kB; the footer takes 1 kB of it
_MOST_GROUP_ROWS: Final = 4_096
_DIGESTS_KEY: Final = b"textmint.digests"
_REPLIES_KEY: Final = b"textmint.replies"
FOOTER_BYTES: Final = 1 << 16
"""Of a file: its end, which holds its footer if it has no more than some fifty row groups."""
_NAME: Final = re.compile(r"replies-([0-9a-f]{20})\.parquet")


Paid = collections.Counter[tuple[str, str]]
"""How many replies there are, by the refresh that paid and the kind."""


class LedgerFileError(ValueError):
    """A file that is no part of a ledger; the message says why, in a few words."""


# --- writing


def replies_file(table: pa.Table) -> tuple[str, bytes]:
    """Makes the name and the content of a file from a table of SCHEMA. Rows are sorted by kind and draft, so that a
    reader of one kind skips the rest."""
    by = [(name, "ascending") for name in ("kind", "draft_id", "attempt")]
    ordered = table.select(SCHEMA.names).sort_by(by).combine_chunks()
    rows = min(max(math.ceil(ordered.num_rows / _GROUPS), _LEAST_GROUP_ROWS), _MOST_GROUP_ROWS)
    groups = [ordered.slice(start, rows) for start in range(0, ordered.num_rows, rows)]
    metadata = {
        **(SCHEMA.metadata or {}),
        _DIGESTS_KEY: json.dumps([_digest_of_rows(group) for group in groups]),
        _REPLIES_KEY: json.dumps([[*key, count] for key, count in sorted(paid_in(ordered).items())]),
    }
    sink = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd", "row_group_size": rows, "use_dictionary": _WORDS}
    options |= {"write_statistics": _SKIPPED_BY, "write_page_checksum": True}
    pq.write_table(ordered.replace_schema_metadata(metadata), sink, **options)
    content = sink.getvalue()
    return name_for(content), content


def write_replies(folder: str, table: pa.Table) -> files.FoundFile:
    """Writes a file of replies, durably."""
    name, content = replies_file(table)
    path = files.join(folder, name)
    files.write_file(path, content, durable=True)
    return files.FoundFile(path, len(content))


def name_for(content: bytes) -> str:
    """Makes the name that a file with this content has in a ledger."""
    return f"replies-{hashlib.blake2b(content, digest_size=10).hexdigest()}.parquet"


def digest_in_name(name: str) -> str:
    """Returns the digest that a file's name holds; "" where `replies_file` gave it no such name."""
    match = _NAME.fullmatch(name)
    return match[1] if match else ""


def _digest_of_rows(table: pa.Table) -> str:
    """Digests what a table of SCHEMA holds, however it is laid out in memory."""
    digest = hashlib.blake2b(digest_size=10)
    for name in SCHEMA.names:
        column = pa.concat_arrays(table[name].chunks) if table.num_rows else pa.array([], SCHEMA.field(name).type)
        if column.null_count:
            digest.update(b"null")
        if column.type == pa.string():
            lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
            digest.update(lengths.astype("<i4").tobytes())
            if len(column):
                ends = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset :]
                digest.update(memoryview(column.buffers()[2] or b"")[ends[0] : ends[len(column)]])
        else:
            digest.update(column.cast(pa.int64()).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return digest.hexdigest()


# --- counting


def paid_in(table: pa.Table) -> Paid:
    """Counts the replies of a table that has the columns `refresh` and `kind`."""
    groups = table.select(["refresh", "kind"]).group_by(["refresh", "kind"]).aggregate([([], "count_all")])
    return collections.Counter({(row["refresh"], row["kind"]): row["count_all"] for row in groups.to_pylist()})


def paid_by_footer(file: pq.ParquetFile) -> Paid | None:
    """Reads from its footer how many replies a file holds; None where an earlier version wrote it."""
    written = (file.schema_arrow.metadata or {}).get(_REPLIES_KEY, b"")
    try:
        return Paid({(str(refresh), str(kind)): int(count) for refresh, kind, count in json.loads(written)})
    except (ValueError, TypeError, RecursionError):
        return None


# --- reading


def open_replies(content: bytes) -> pq.ParquetFile:
    """Opens a file of the ledger. Its last `FOOTER_BYTES` will do to see its schema and count its rows, mostly.

    Raises:
      LedgerFileError: it is no Parquet file, or not of a ledger.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
        fault = _fault_of(file.schema_arrow)
    except Exception as error:  # Arrow has others than its own, as where a name is no UTF-8
        raise LedgerFileError(f"no Parquet file, or cut short ({_first_line(error)})") from None
    if fault:
        raise LedgerFileError(fault)
    return file


def _fault_of(schema: pa.Schema) -> str:
    metadata = schema.metadata or {}
    if len(schema.names) > len(set(schema.names)):
        return "not of a ledger: it has several columns of one name"
    lacking = [name for name in SCHEMA.names if name not in schema.names]
    if _VERSION_KEY not in metadata and len(lacking) == len(SCHEMA):
        return f"not of a ledger: its columns are {', '.join(schema.names)[:200] or 'none'}"
    another = "of another version of the ledger"
    if lacking:
        return f"{another}: it lacks {', '.join(lacking)}"
    for name, type_, _ in _COLUMNS:
        if schema.field(name).type != type_:
            return f"{another}: {name} is {schema.field(name).type}, where {type_} is meant"
    version = metadata.get(_VERSION_KEY, VERSION)
    if version != VERSION:
        return f"{another}: {version.decode('utf-8', 'replace')[:20]}, where {VERSION.decode()} is meant"
    return ""


def read_replies(content: bytes, columns: Sequence[str] = SCHEMA.names, *, name: str = "", **wanted: str) -> pa.Table:
    """Reads some columns of a file of the ledger.

    Args:
      content: of the file.
      columns: which.
      name: of the file; if it holds a digest, this checks the content, otherwise the digests in the file do.
      **wanted: the value that a column is to have, such as kind="example"; other rows are left out.

    Raises:
      LedgerFileError: it cannot be read to its end, is not what was written, or is not of a ledger.
    """
    is_named = bool(digest_in_name(name))
    if is_named and name != name_for(content):
        raise LedgerFileError("cut short or damaged: its content is not what was written under its name")
    file = open_replies(content)
    if is_named:
        tables = _read_groups(file, list(dict.fromkeys([*columns, *wanted])), wanted)
    else:
        groups = list(checked_groups(file))
        lost = sum(rows for rows, table in groups if table is None)
        if lost:
            raise LedgerFileError(f"damaged: {lost:,} of its replies are not what was written")
        tables = [table for _, table in groups if table is not None]  # one of no rows has no digest
    kept = []
    for table in tables:
        for column, value in wanted.items():
            if table.num_rows:
                table = table.filter(pc.equal(table[column], value))
        kept.append(table)
    return concat_replies(kept, columns)


def _read_groups(file: pq.ParquetFile, columns: Sequence[str], wanted: Mapping[str, str]) -> list[pa.Table]:
    tables = []
    try:
        for group in range(file.num_row_groups):
            if _may_hold(file.metadata.row_group(group), wanted):
                table = file.read_row_group(group, columns=columns)
                table.validate(full=True)
                tables.append(table)
    except MemoryError:
        raise  # which says nothing of the file
    except Exception as error:
        raise LedgerFileError(f"damaged ({_first_line(error)})") from None
    return tables


def _may_hold(group: Any, wanted: Mapping[str, str]) -> bool:
    for number in range(group.num_columns):
        column = group.column(number)
        value = wanted.get(column.path_in_schema)
        statistics = column.statistics if value is not None else None
        if statistics is not None and statistics.has_min_max and not statistics.min <= value <= statistics.max:
            return False
    return True


def checked_groups(file: pq.ParquetFile) -> Iterator[tuple[int, pa.Table | None]]:
    """Yields how many rows each row group of a file has, and these rows if they are what was written; in a file without
    digests, if they can be read. Statistics are not used: damaged ones end the process, in Arrow 25."""
    digests: list[str] | None = None
    if has_digests(file):
        try:
            digests = [str(digest) for digest in json.loads(file.schema_arrow.metadata[_DIGESTS_KEY])]
        except (ValueError, TypeError, RecursionError):
            digests = []
    for group in range(file.num_row_groups):
        table = None
        try:
            read = file.read_row_group(group, columns=SCHEMA.names)
            read.validate(full=True)
            if digests is None or digests[group : group + 1] == [_digest_of_rows(read)]:
                table = read
        except Exception:  # also where it asks for any amount of memory
            pass
        yield file.metadata.row_group(group).num_rows, table


def has_digests(file: pq.ParquetFile) -> bool:
    """Says whether a file holds digests of its rows; those of earlier versions and other tools do not."""
    return _DIGESTS_KEY in (file.schema_arrow.metadata or {})


def concat_replies(tables: Iterable[pa.Table], columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Puts tables together whose columns may be declared nullable; raises LedgerFileError where one holds a null."""
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    parts = [schema.empty_table()]
    for table in tables:
        for name in columns:
            if table[name].null_count:
                raise LedgerFileError(f"damaged (a null in {name})")
        parts.append(pa.table([table[name] for name in columns], schema=schema))
    return pa.concat_tables(parts)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
