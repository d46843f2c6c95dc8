"""The ledger: every reply that was paid for, so that none is paid for twice.

    OUTPUT/ledger/replies-DIGEST.parquet    immutable, a row a reply; see SCHEMA
    OUTPUT/ledger/_journal/*.jsonl          on a local disk, what a process has received so far: a line a reply
    OUTPUT/ledger/_set_aside/*              files that could not be read, and why

A reply is found again by its `request_id`, which holds all that changes an answer (see `llm_call.request_for`). Rows of
one request may stand there more than once; the earliest counts. This file knows rows and tables; `ledger_writer` writes
replies as they come, and `ledger_files` looks after the folder.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from transforms.elements import FinishReason, PaidReply
from transforms.schema import column

FOLDER: Final = "ledger"
VERSION: Final = b"1"  # of the schema; another one is another file format
_VERSION_KEY: Final = b"textmint.ledger"
_MILLISECONDS: Final = pa.timestamp("ms", tz="UTC")

SCHEMA: Final = pa.schema(
    [
        column("request_id", pa.string(), "hash of draft_id, the prompt, the fingerprint and the attempt"),
        column("draft_id", pa.string(), "what was asked for: the id of the draft, or of the brainstorm round"),
        column("kind", pa.string(), "the structure asked for: task_list, example, label_set, ..."),
        column("refresh", pa.string(), "the label of the run that paid"),
        column("model", pa.string(), "the model as served"),
        column("fingerprint", pa.string(), "hash of the model and of every parameter that changes the answer"),
        column("attempt", pa.int64(), "0, then 1 more for each time the reply before could not be read"),
        column("text", pa.string(), "the reply as it came"),
        column("finish_reason", pa.string(), "why the model stopped: stop, length, content_filter, reply_filter"),
        column("prompt_tokens", pa.int64(), "tokens of the prompt, as the endpoint counted them"),
        column("output_tokens", pa.int64(), "tokens of the reply, as the endpoint counted them"),
        column("latency_ms", pa.int64(), "from the sending to the reply"),
        column("time", _MILLISECONDS, "when the reply came"),
    ],
    metadata={_VERSION_KEY: VERSION},
)
"""The columns of the ledger's Parquet files. Every one is non-null."""

_JOURNAL_SCHEMA: Final = pa.schema(
    [pa.field(field.name, pa.int64() if field.name == "time" else field.type) for field in SCHEMA]
)
_TYPES: Final[Mapping[str, type]] = {field.name: int if field.type == pa.int64() else str for field in _JOURNAL_SCHEMA}
FIRST_BY: Final = ["text", "model", "finish_reason", "prompt_tokens", "output_tokens"]
"""What decides which of two replies to one request counts, where their time does not: all that reaches a row."""
_JOINED: Final = ["request_id", *(name for name in PaidReply.__slots__ if name not in ("request_id", "time")), "time"]
_WORDS: Final = ["kind", "refresh", "model", "fingerprint", "finish_reason"]  # few values, so a dictionary pays
_encode: Final = msgspec.json.Encoder().encode
_FINISH_REASONS: Final = frozenset(get_args(FinishReason))
_ROW_GROUP_ROWS: Final = 32_768
FOOTER_BYTES: Final = 1 << 16
"""Of a file: its end, which holds its footer if it has no more than some fifty row groups."""
_ID_CHARS: Final = 32  # `identity.stable_hash`
_PREFIX_CHARS: Final = 8
_INT64: Final = 1 << 63
_NAME: Final = re.compile(r"replies-([0-9a-f]{20})\.parquet")


class LedgerFileError(ValueError):
    """A file that is no part of a ledger; the message says why, in a few words."""


# --- the journal: a line a reply


def journal_line(row: Mapping[str, Any]) -> bytes:
    """A reply, by column of SCHEMA and `time` in milliseconds -> its line. Its strings hold no lone surrogates."""
    return _encode(row) + b"\n"


def read_journal(lines: bytes) -> tuple[pa.Table, int]:
    """Lines of a journal -> a table of SCHEMA, and how many lines cannot be read: a process that was killed, or a full
    disk, leaves half a line."""
    if not lines:
        return SCHEMA.empty_table(), 0
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(lines),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_JOURNAL_SCHEMA, unexpected_field_behavior="error"),
        )
        if not any(name.null_count for name in table.columns) and lines.endswith(b"\n"):
            table.validate(full=True)  # Arrow reads bytes that are no UTF-8 as they are
            return _cast(table), 0
    except pa.ArrowException:
        pass
    rows, damaged = [], 0
    for line in filter(None, lines.split(b"\n")):
        row = _journal_row(line)
        if row is None:
            damaged += 1
        else:
            rows.append(row)
    columns = {name: [row[name] for row in rows] for name in _JOURNAL_SCHEMA.names}
    return _cast(pa.table(columns, schema=_JOURNAL_SCHEMA)), damaged


def _journal_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.keys() != _TYPES.keys():
        return None
    for name, type_ in _TYPES.items():
        value = row[name]
        if type(value) is not type_:
            return None
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            return None
        if isinstance(value, str) and not _is_utf8(value):
            return None
    return row


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cast(table: pa.Table) -> pa.Table:
    return table.select(SCHEMA.names).cast(SCHEMA)


# --- the files


def replies_file(table: pa.Table) -> tuple[str, bytes]:
    """A table of SCHEMA -> a file's name and content. The name is a digest of the content, so that writing it again
    changes nothing. Rows are sorted by kind and draft, so that a reader of one kind skips the rest."""
    by = [(name, "ascending") for name in ("kind", "draft_id", "attempt")]
    ordered = table.replace_schema_metadata(SCHEMA.metadata).sort_by(by)
    sink = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd", "row_group_size": _ROW_GROUP_ROWS, "use_dictionary": _WORDS}
    pq.write_table(ordered, sink, **options)
    content = sink.getvalue()
    return f"replies-{_digest(content)}.parquet", content


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=10).hexdigest()


def _is_what_was_written(content: bytes, name: str) -> bool:
    """The content of a file and its name -> True where its name says that it is whole; False where its name, which is
    none of ours, says nothing.

    Raises:
      LedgerFileError: its name says that it has changed.
    """
    told = _NAME.fullmatch(name)
    if told is not None and told[1] != _digest(content):
        raise LedgerFileError("cut short or damaged: its content is not what was written under its name")
    return told is not None


def check_schema(file: pq.ParquetFile) -> None:
    """An open Parquet file -> nothing, where it is one of ours.

    Raises:
      LedgerFileError: its columns, their types or its version are others.
    """
    schema = file.schema_arrow
    metadata = schema.metadata or {}
    if len(schema.names) > len(set(schema.names)):
        raise LedgerFileError("not of a ledger: it has several columns of one name")
    lacking = [name for name in SCHEMA.names if name not in schema.names]
    if _VERSION_KEY not in metadata and len(lacking) == len(SCHEMA):
        raise LedgerFileError(f"not of a ledger: its columns are {', '.join(schema.names)[:200] or 'none'}")
    if lacking:
        raise LedgerFileError(f"of another version of the ledger: it lacks {', '.join(lacking)}")
    for field in SCHEMA:
        if schema.field(field.name).type != field.type:
            found = schema.field(field.name).type
            raise LedgerFileError(
                f"of another version of the ledger: {field.name} is {found}, where {field.type} is meant"
            )
    if metadata.get(_VERSION_KEY, VERSION) != VERSION:
        version = metadata[_VERSION_KEY].decode("utf-8", "replace")
        raise LedgerFileError(f"of another version of the ledger: {version[:20]}, where {VERSION.decode()} is meant")


def open_replies(content: bytes) -> pq.ParquetFile:
    """The content of a file -> the Parquet file. Its last `FOOTER_BYTES` will do to see its schema and count its rows,
    mostly.

    Raises:
      LedgerFileError: it is none, or not of a ledger.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        check_schema(file)
    except LedgerFileError:
        raise
    except Exception as error:  # Arrow has others than its own, as where a name is no UTF-8
        raise LedgerFileError(f"no Parquet file, or cut short ({_first_line(error)})") from None
    return file


def read_replies(content: bytes, columns: Sequence[str] = SCHEMA.names, *, name: str = "", **wanted: str) -> pa.Table:
    """The content of a file of the ledger -> a table of some of its columns.

    Args:
      columns: which.
      name: of the file; where it is one that `replies_file` gave, it tells whether the content is what was written.
      **wanted: the value that a column is to have, such as kind="example"; other rows are left out.

    Raises:
      LedgerFileError: it cannot be read to its end, is not what was written, or is not of a ledger.
    """
    is_whole = _is_what_was_written(content, name)
    file = open_replies(content)
    read = list(dict.fromkeys([*columns, *wanted]))
    tables = []
    try:
        for group in range(file.num_row_groups):
            # Damaged statistics end the process, in Arrow 25.
            if not is_whole or _may_hold(file.metadata.row_group(group), wanted):
                table = file.read_row_group(group, columns=read)
                table.validate(full=True)
                tables.append(_only(table, wanted).select(columns))
    except Exception as error:
        if is_whole and isinstance(error, MemoryError):
            raise  # which says nothing of the file
        raise LedgerFileError(f"damaged ({_first_line(error)})") from None
    found = pa.schema([SCHEMA.field(name) for name in columns])
    # Nullable or described otherwise is no matter; a null is.
    for table in tables:
        for name in columns:
            if table[name].null_count:
                raise LedgerFileError(f"damaged (a null in {name})")
    return pa.concat_tables([pa.table(table.columns, schema=found) for table in tables] or [found.empty_table()])


def _may_hold(group: Any, wanted: Mapping[str, str]) -> bool:
    for number in range(group.num_columns):
        column_ = group.column(number)
        value = wanted.get(column_.path_in_schema)
        if value is not None:
            statistics = column_.statistics
            if statistics is not None and statistics.has_min_max and not statistics.min <= value <= statistics.max:
                return False
    return True


def _only(table: pa.Table, wanted: Mapping[str, str]) -> pa.Table:
    for name, value in wanted.items():
        if table.num_rows:
            table = table.filter(pc.equal(table[name], value))
    return table


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


# --- the join


def read_for_join(content: bytes, *, kind: str, fingerprint: str, name: str = "") -> pa.Table:
    """The content of a file of the ledger -> the replies to prompts of one kind by one model, with the columns that
    `split_by_shard` and `paid_replies` need.

    Args:
      name: as for `read_replies`.

    Raises:
      as `read_replies`.
    """
    return read_replies(content, ["draft_id", *_JOINED], name=name, kind=kind, fingerprint=fingerprint)


def shard_of(element_id: str, shards: int) -> int:
    """An id and how many shards there are -> its shard, in [0, shards). Ids are hashes, so their first 32 bits place
    them evenly."""
    return int(element_id[:_PREFIX_CHARS], 16) * shards >> 4 * _PREFIX_CHARS


_HEX_VALUES: Final = np.full(256, 255, dtype=np.uint8)
_HEX_VALUES[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16, dtype=np.uint8)
_POWERS: Final = np.array([16**place for place in reversed(range(_PREFIX_CHARS))], dtype=np.uint64)


def split_by_shard(table: pa.Table, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Replies -> (shard, its replies), without the shards that have none; see `shard_of`. A million rows take less
    than a second, since none is looked at in Python. Rows whose draft_id is no id are left out."""
    if not table.num_rows:
        return
    ids = pa.concat_arrays(table["draft_id"].chunks)
    is_id = pc.match_substring_regex(ids, f"^[0-9a-f]{{{_ID_CHARS}}}$")
    if not pc.all(is_id).as_py():
        table = table.filter(is_id)
        ids = ids.filter(is_id)
    rows = len(ids)
    if not rows:
        return
    start = np.frombuffer(ids.buffers()[1], dtype=np.int32)[ids.offset]
    letters = np.frombuffer(ids.buffers()[2], dtype=np.uint8, count=rows * _ID_CHARS, offset=start)
    digits = _HEX_VALUES[letters.reshape(rows, _ID_CHARS)[:, :_PREFIX_CHARS]].astype(np.uint64)
    numbers = (digits @ _POWERS) * np.uint64(shards) >> np.uint64(4 * _PREFIX_CHARS)
    order = np.argsort(numbers, kind="stable")
    ordered = table.take(pa.array(order))
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    for begin, end in zip([0, *ends.tolist()], [*ends.tolist(), rows], strict=True):
        yield int(numbers[order[begin]]), ordered.slice(begin, end - begin)


def pack_table(table: pa.Table) -> bytes:
    """A table -> bytes for a shuffle, compressed."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    ) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def unpack_table(packed: bytes) -> pa.Table:
    """What `pack_table` made -> the table."""
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(packed, options=options) as reader:
        return reader.read_all()


_rank: Final = operator.attrgetter("time", *FIRST_BY)


def paid_replies(tables: Iterable[pa.Table], wanted: Set[str]) -> dict[str, tuple[PaidReply, ...]]:
    """Replies of a shard, and the ids of what is asked for in it -> the replies to each, the earliest where a request
    has several, by request_id."""
    found: dict[str, dict[str, PaidReply]] = collections.defaultdict(dict)
    for table in tables:
        draft_ids = table["draft_id"].to_pylist()
        rows = [row for row, draft_id in enumerate(draft_ids) if draft_id in wanted]
        if not rows:
            continue
        if len(rows) < len(draft_ids):
            table = table.take(pa.array(rows))
            draft_ids = [draft_ids[row] for row in rows]
        times = table["time"].cast(pa.int64()).to_pylist()
        columns = [table[name].to_pylist() for name in _JOINED[:-1]]
        for draft_id, time, *values in zip(draft_ids, times, *columns, strict=True):
            reply = PaidReply(time=time, **dict(zip(_JOINED, values, strict=False)))
            if reply.finish_reason not in _FINISH_REASONS:
                continue
            known = found[draft_id].get(reply.request_id)
            if known is None or _rank(reply) < _rank(known):
                found[draft_id][reply.request_id] = reply
    return {draft_id: tuple(by_id[key] for key in sorted(by_id)) for draft_id, by_id in found.items()}
