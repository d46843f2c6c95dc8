"""The ledger: every reply that was paid for, so that none is paid for twice.

    OUTPUT/ledger/replies-DIGEST.parquet    immutable, a row a reply; see SCHEMA
    OUTPUT/ledger/_journal/*.jsonl          on a local disk, what a process has received so far: a line a reply
    OUTPUT/ledger/_set_aside/*              files that could not be read, and why

A file is checked before it counts. Its name is a digest of its content; where that does not match, or the file has
another name, a digest of each row group tells which of its rows are whole, so that a bad bit costs a row group, not the
file. Files of earlier versions have the first of the two only. A line of a journal ends with its checksum.

A reply is found again by its `request_id`, which holds all that changes an answer (see `llm_call.request_for`). Rows of
one request may stand there more than once; the earliest counts. This file knows rows and tables; `ledger_writer` writes
replies as they come, and `ledger_files` looks after the folder.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import math
import operator
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from textmint.transforms.core.elements import FinishReason, PaidReply
from textmint.transforms.dataset.schema import column

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
_SKIPPED_BY: Final = ["kind", "fingerprint"]  # see `_may_hold`
_WORDS: Final = ["kind", "refresh", "model", "fingerprint", "finish_reason"]  # few values, so a dictionary pays
_CHECKSUM: Final = b',"crc32":'  # the last key of a journal's line; what comes before it, closed, is checked
_encode: Final = msgspec.json.Encoder().encode
_FINISH_REASONS: Final = frozenset(get_args(FinishReason))
_GROUPS: Final = 16  # of rows in a file, where they are neither smaller nor larger than the next two say
_LEAST_GROUP_ROWS: Final = 64  # about 20 kB; the footer takes 1 kB of it
_MOST_GROUP_ROWS: Final = 4_096
_DIGESTS_KEY: Final = b"textmint.digests"
_REPLIES_KEY: Final = b"textmint.replies"
_NOTHING_TELLS: Final = "of an earlier version, which has nothing to tell what of it is whole"
FOOTER_BYTES: Final = 1 << 16
"""Of a file: its end, which holds its footer if it has no more than some fifty row groups."""
_END_BYTES: Final = 1 << 15  # of a file, in which a wrong bit is looked for
_ID_CHARS: Final = 32  # `identity.stable_hash`
_PREFIX_CHARS: Final = 8
_INT64: Final = 1 << 63
_NAME: Final = re.compile(r"replies-([0-9a-f]{20})\.parquet")


Paid = collections.Counter[tuple[str, str]]
"""How many replies there are, by the label that paid and the kind."""


class LedgerFileError(ValueError):
    """A file that is no part of a ledger; the message says why, in a few words."""


# --- the journal: a line a reply


def journal_line(row: Mapping[str, Any]) -> bytes:
    """A reply, by column of SCHEMA and `time` in milliseconds -> its line. Its strings hold no lone surrogates."""
    encoded = _encode(row)
    return b"%s%s%d}\n" % (encoded[:-1], _CHECKSUM, zlib.crc32(encoded))


def read_journal(lines: bytes) -> tuple[pa.Table, int]:
    """Lines of a journal -> a table of SCHEMA, and how many lines cannot be read: a process that was killed, or a full
    disk, leaves half a line. A line whose checksum says that it has changed is one of them; lines of earlier versions
    have none."""
    whole, changed = _checked_lines(lines)
    table, damaged = _read_lines(whole)
    return table, damaged + changed


def _checked_lines(lines: bytes) -> tuple[bytes, int]:
    """Lines -> those that have not changed, without their checksums; and how many have."""
    if _CHECKSUM not in lines:
        return lines, 0
    found, changed = [], 0
    for line in lines.split(b"\n"):
        row, checksum, told = line.rpartition(_CHECKSUM)
        if not checksum:
            found.append(line)
        elif told == b"%d}" % zlib.crc32(row + b"}"):
            found.append(row + b"}")
        else:
            changed += 1
    if found and found[-1]:
        found.append(b"")
    return b"\n".join(found), changed


def _read_lines(lines: bytes) -> tuple[pa.Table, int]:
    if not lines:
        return SCHEMA.empty_table(), 0
    try:
        if not lines.startswith(b"{") or lines.count(b"\n{") + 1 < lines.count(b"\n"):
            raise pa.ArrowInvalid("a line holds no object")  # a first `null` ends the process, in Arrow 25
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
    """Makes a file of replies.

    Rows are sorted by kind and draft, so that a reader of one kind skips the rest.

    Args:
      table: of SCHEMA.

    Returns:
      The file's name and content. The name is a digest of the content, so that writing it again changes nothing.
    """
    by = [(name, "ascending") for name in ("kind", "draft_id", "attempt")]
    ordered = table.select(SCHEMA.names).sort_by(by).combine_chunks()
    rows = min(max(math.ceil(ordered.num_rows / _GROUPS), _LEAST_GROUP_ROWS), _MOST_GROUP_ROWS)
    groups = [ordered.slice(start, rows) for start in range(0, ordered.num_rows, rows)]
    told = {
        _DIGESTS_KEY: json.dumps([_digest_of_rows(group) for group in groups]),
        _REPLIES_KEY: json.dumps([[*key, count] for key, count in sorted(paid_in(ordered).items())]),
    }
    sink = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd", "row_group_size": rows, "use_dictionary": _WORDS}
    options |= {"write_statistics": _SKIPPED_BY, "write_page_checksum": True}
    pq.write_table(ordered.replace_schema_metadata({**(SCHEMA.metadata or {}), **told}), sink, **options)
    content = sink.getvalue()
    return name_for(content), content


def _digest_of_rows(table: pa.Table) -> str:
    """A digest of what a table of SCHEMA holds, however it is laid out in memory."""
    digest = hashlib.blake2b(digest_size=10)
    for name in SCHEMA.names:
        column_ = pa.concat_arrays(table[name].chunks) if table.num_rows else pa.array([], SCHEMA.field(name).type)
        if column_.null_count:
            digest.update(b"null")
        if column_.type == pa.string():
            lengths = pc.binary_length(column_).to_numpy(zero_copy_only=False)
            digest.update(lengths.astype("<i4").tobytes())
            digest.update(_bytes_of(column_))
        else:
            digest.update(column_.cast(pa.int64()).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return digest.hexdigest()


def _bytes_of(strings: pa.StringArray) -> Any:
    """All characters of an array of strings, one after the other."""
    if not len(strings):
        return b""
    ends = np.frombuffer(strings.buffers()[1], dtype=np.int32)[strings.offset : strings.offset + len(strings) + 1]
    return memoryview(strings.buffers()[2] or b"")[ends[0] : ends[-1]]


def paid_in(table: pa.Table) -> Paid:
    """Counts the replies of a table that has the columns `refresh` and `kind`."""
    groups = table.select(["refresh", "kind"]).group_by(["refresh", "kind"]).aggregate([([], "count_all")])
    return collections.Counter({(row["refresh"], row["kind"]): row["count_all"] for row in groups.to_pylist()})


def paid_told(file: pq.ParquetFile) -> Paid | None:
    """Reads from its footer how many replies a file holds; None where an earlier version wrote it."""
    told = (file.schema_arrow.metadata or {}).get(_REPLIES_KEY)
    try:
        return None if told is None else collections.Counter({(str(a), str(b)): int(n) for a, b, n in json.loads(told)})
    except (ValueError, TypeError, RecursionError):
        return None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=10).hexdigest()


def _is_what_was_written(content: bytes, name: str) -> bool:
    """The content of a file and its name -> True where its name says that it is whole; False where its name, which is
    none of ours, says nothing.

    Raises:
      LedgerFileError: its name says that it has changed.
    """
    told = _NAME.fullmatch(name)
    if told is not None and name != name_for(content):
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
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
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
        Otherwise the digests in the file tell.
      **wanted: the value that a column is to have, such as kind="example"; other rows are left out.

    Raises:
      LedgerFileError: it cannot be read to its end, is not what was written, or is not of a ledger.
    """
    is_whole = _is_what_was_written(content, name)
    file = open_replies(content)
    read = list(dict.fromkeys([*columns, *wanted]))
    tables = []
    if is_whole:
        try:
            for group in range(file.num_row_groups):
                if _may_hold(file.metadata.row_group(group), wanted):
                    table = file.read_row_group(group, columns=read)
                    table.validate(full=True)
                    tables.append(table)
        except MemoryError:
            raise  # which says nothing of the file
        except Exception as error:
            raise LedgerFileError(f"damaged ({_first_line(error)})") from None
    else:
        lost = 0
        for rows, group_table in _groups_of(file):
            if group_table is None:
                lost += rows
            else:
                tables.append(group_table)
        if lost:
            raise LedgerFileError(f"damaged: {lost:,} of its replies are not what was written")
    return _table_of([_only(table, wanted) for table in tables], columns)


def _table_of(tables: Iterable[pa.Table], columns: Sequence[str]) -> pa.Table:
    """Puts tables together that may be nullable or described otherwise, which is no matter; a null is."""
    found = pa.schema([SCHEMA.field(name) for name in columns])
    parts = [found.empty_table()]
    for table in tables:
        for name in columns:
            if table[name].null_count:
                raise LedgerFileError(f"damaged (a null in {name})")
        parts.append(pa.table([table[name] for name in columns], schema=found))
    return pa.concat_tables(parts)


def _groups_of(file: pq.ParquetFile) -> Iterator[tuple[int, pa.Table | None]]:
    """The row groups of a file that may be damaged: how many rows each has, and its rows if they are what was written.
    Where the file has no digests, they are those that can be read.

    Statistics are not looked at: damaged ones end the process, in Arrow 25.
    """
    told = (file.schema_arrow.metadata or {}).get(_DIGESTS_KEY)
    digests: list[str] | None = None
    if told is not None:
        try:
            digests = [str(digest) for digest in json.loads(told)]
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
            table = None
        yield file.metadata.row_group(group).num_rows, table


def salvage(content: bytes, name: str) -> tuple[pa.Table, int]:
    """Reads what is whole in a damaged file.

    Args:
      content: of the file.
      name: of the file.

    Returns:
      Its whole rows, a table of SCHEMA, and how many are lost.

    Raises:
      LedgerFileError: nothing of it can be read, or nothing tells what of it is whole.
    """
    try:
        return _salvage(content)
    except LedgerFileError:
        mended = _with_end_mended(content, name)
        if mended is None:
            raise
        return _salvage(mended)


def _salvage(content: bytes) -> tuple[pa.Table, int]:
    file = open_replies(content)
    if not has_digests(file):
        raise LedgerFileError(_NOTHING_TELLS)
    found = list(_groups_of(file))
    kept = _table_of((table for _, table in found if table is not None), SCHEMA.names)
    return kept, sum(rows for rows, table in found if table is None)


def _with_end_mended(content: bytes, name: str) -> bytes | None:
    """Turns each bit of a file's end until it is what was written under its name: without its footer nothing of a file
    can be read, and one wrong bit would cost all of it. Takes some seconds."""
    told = _NAME.fullmatch(name)
    if told is None:
        return None
    footer = int.from_bytes(content[-8:-4], "little") + 8  # or anything, if it is just there that it is damaged
    start = max(0, len(content) - min(footer, _END_BYTES))
    before = hashlib.blake2b(content[:start], digest_size=10)
    for place in range(start, len(content)):
        rest = content[place + 1 :]
        for bit in range(8):
            byte = bytes([content[place] ^ 1 << bit])
            digest = before.copy()
            digest.update(byte + rest)
            if digest.hexdigest() == told[1]:
                return content[:place] + byte + rest
        before.update(content[place : place + 1])
    return None


def has_digests(file: pq.ParquetFile) -> bool:
    """Tells whether an open file holds digests of its rows; one of an earlier version, or of another tool, does not."""
    return _DIGESTS_KEY in (file.schema_arrow.metadata or {})


def name_for(content: bytes) -> str:
    """The name that a file with this content has in a ledger."""
    return f"replies-{_digest(content)}.parquet"


def is_name(name: str) -> bool:
    """Tells whether a file's name is one that `replies_file` gives."""
    return _NAME.fullmatch(name) is not None


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
