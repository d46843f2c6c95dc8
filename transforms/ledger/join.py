"""What the ledger holds for an element: replies by shard, and the one that counts of each request."""

from __future__ import annotations

import collections
import io
import operator
from collections.abc import Iterable, Iterator, Set
from typing import Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from textmint.transforms.core.elements import FinishReason, PaidReply
from textmint.transforms.core.identity import ID_DIGITS, SHARD_DIGITS
from textmint.transforms.ledger.table import FIRST_BY, read_replies

_FIELDS: Final = [name for name in PaidReply.__struct_fields__ if name != "time"]
_FINISH_REASONS: Final = frozenset(get_args(FinishReason))
_HEX_VALUES: Final = np.full(256, 255, dtype=np.uint8)
_HEX_VALUES[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16, dtype=np.uint8)
_POWERS: Final = np.array([16**place for place in reversed(range(SHARD_DIGITS))], dtype=np.uint64)
_rank: Final = operator.attrgetter("time", *FIRST_BY)


def read_for_join(content: bytes, *, kind: str, fingerprint: str, name: str = "") -> pa.Table:
    """Reads from a file the replies to prompts of one kind by one model, as `read_replies`, with the columns that the
    functions below need."""
    return read_replies(content, ["draft_id", *_FIELDS, "time"], name=name, kind=kind, fingerprint=fingerprint)


def split_by_shard(table: pa.Table, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Yields each shard that has replies, and these; see `identity.shard_of`. Rows whose draft_id is no id are left
    out. No row becomes a Python object, so a million rows take less than a second."""
    table = table.filter(pc.match_substring_regex(table["draft_id"], f"^[0-9a-f]{{{ID_DIGITS}}}$"))
    rows = table.num_rows
    if not rows:
        return
    ids = pa.concat_arrays(table["draft_id"].chunks)
    start = np.frombuffer(ids.buffers()[1], dtype=np.int32)[ids.offset]
    letters = np.frombuffer(ids.buffers()[2], dtype=np.uint8, count=rows * ID_DIGITS, offset=start)
    digits = _HEX_VALUES[letters.reshape(rows, ID_DIGITS)[:, :SHARD_DIGITS]].astype(np.uint64)
    numbers = (digits @ _POWERS) * np.uint64(shards) >> np.uint64(4 * SHARD_DIGITS)
    order = np.argsort(numbers, kind="stable")
    ordered = table.take(pa.array(order))
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    for begin, end in zip([0, *ends.tolist()], [*ends.tolist(), rows], strict=True):
        yield int(numbers[order[begin]]), ordered.slice(begin, end - begin)


def pack_table(table: pa.Table) -> bytes:
    """Packs a table for a shuffle, compressed."""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def unpack_table(packed: bytes) -> pa.Table:
    """Unpacks what `pack_table` made."""
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(packed, options=options) as reader:
        return reader.read_all()


def paid_replies(tables: Iterable[pa.Table], wanted: Set[str]) -> dict[str, tuple[PaidReply, ...]]:
    """Finds the replies to each of the `wanted` ids, by request_id; the earliest where a request has several."""
    found: dict[str, dict[str, PaidReply]] = collections.defaultdict(dict)
    for table in tables:
        table = table.filter(pa.array([draft_id in wanted for draft_id in table["draft_id"].to_pylist()], pa.bool_()))
        draft_ids = table["draft_id"].to_pylist()
        times = table["time"].cast(pa.int64()).to_pylist()
        columns = [table[name].to_pylist() for name in _FIELDS]
        for draft_id, time, *values in zip(draft_ids, times, *columns, strict=True):
            reply = PaidReply(time=time, **dict(zip(_FIELDS, values, strict=True)))
            if reply.finish_reason not in _FINISH_REASONS:
                continue
            known = found[draft_id].get(reply.request_id)
            if known is None or _rank(reply) < _rank(known):
                found[draft_id][reply.request_id] = reply
    return {draft_id: tuple(by_id[key] for key in sorted(by_id)) for draft_id, by_id in found.items()}
