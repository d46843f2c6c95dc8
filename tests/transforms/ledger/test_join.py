"""The join: each element meets the replies that were paid for it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import PaidReply
from textmint.transforms.core.identity import shard_of, stable_hash
from textmint.transforms.ledger.join import pack_table, paid_replies, read_for_join, split_by_shard, unpack_table
from textmint.transforms.ledger.table import SCHEMA

from tests.support.any_ledger_rows import ROWS
from tests.support.ledger_rows import CONTENT, FINGERPRINT, NAME, ROWS_OF_FILE, TIME, in_order, paid, rows_in, table_of


def test_the_shard_of_an_id() -> None:
    # The first 32 bits over 2**32, times the number of shards, rounded down.
    assert shard_of("00000000" + "f" * 24, 64) == 0
    assert shard_of("ffffffff" + "0" * 24, 64) == 63
    assert shard_of("80000000" + "0" * 24, 3) == 1
    assert shard_of("7fffffff" + "f" * 24, 2) == 0
    assert shard_of("80000000" + "0" * 24, 2) == 1
    assert [shard_of(f"{n:x}" + "0" * 31, 16) for n in range(16)] == list(range(16))


def ids(count: int) -> list[str]:
    edges = ["0" * 32, "f" * 32, "8" + "0" * 31, "7" + "f" * 31, "00000000" + "f" * 24, "ffffffff" + "0" * 24]
    return edges + [stable_hash("draft", n) for n in range(count)]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 64, 100, 1_000, 4_096, 65_535, 65_536])
def test_the_split_is_shard_of_row_by_row(shards: int) -> None:
    rows = [paid(n, draft_id=draft_id) for n, draft_id in enumerate(ids(300))]
    split = list(split_by_shard(table_of(rows), shards))
    assert [shard for shard, _ in split] == sorted({shard_of(row["draft_id"], shards) for row in rows})
    for shard, part in split:
        assert rows_in(part) == [row for row in rows if shard_of(row["draft_id"], shards) == shard]


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 65_536),
    st.lists(
        st.sampled_from(["", "x", "F" * 32, "f" * 31, "f" * 33, "g" * 32, "f" * 31 + "é", "f" * 32 + "\n", "\x00" * 32])
    ),
)
@settings(max_examples=80)
def test_the_split_of_slices_and_chunks(
    sizes: list[int], head: int, tail: int, shards: int, no_ids: Sequence[str]
) -> None:
    numbers = itertools.count()
    chunks = [table_of([paid(next(numbers)) for _ in range(size)]) for size in sizes]
    odd = table_of([paid(next(numbers), draft_id=no_id) for no_id in no_ids])
    table = pa.concat_tables([*chunks[::2], odd, *chunks[1::2]])
    table = table.slice(head, max(0, table.num_rows - head - tail))
    good = [row for row in rows_in(table) if row["draft_id"] not in no_ids]
    found = []
    for shard, part in split_by_shard(table, shards):
        assert part.num_rows
        assert all(shard_of(row["draft_id"], shards) == shard for row in rows_in(part))
        found += rows_in(part)
    assert in_order(found) == in_order(good)


def test_the_split_of_nothing() -> None:
    assert list(split_by_shard(SCHEMA.empty_table(), 64)) == []
    assert list(split_by_shard(pa.table({"draft_id": pa.chunked_array([], pa.string())}), 64)) == []
    assert list(split_by_shard(table_of([paid(1, draft_id="none")]), 64)) == []


@given(ROWS)
@settings(max_examples=30)
def test_a_table_is_unpacked_as_it_was_packed(rows: list[dict[str, Any]]) -> None:
    table = table_of(rows)
    for each in (table, table.slice(1), pa.concat_tables([table, table.slice(0, 1), table])):
        assert unpack_table(pack_table(each)).equals(each, check_metadata=True)


def test_a_packed_slice_holds_no_more_than_itself() -> None:
    table = table_of([paid(n, text=stable_hash("incompressible", n) * 9) for n in range(2_000)])
    assert len(pack_table(table.slice(5, 20))) < len(pack_table(table)) / 40


def reply_of(row: dict[str, Any]) -> PaidReply:
    return PaidReply(**{name: row[name] for name in PaidReply.__struct_fields__})


def test_replies_are_found_by_what_was_asked_for() -> None:
    rows = [paid(n, draft_id=stable_hash("draft", n // 2)) for n in range(8)]
    tables = [table_of(rows[:3]), SCHEMA.empty_table(), table_of(rows[3:])]
    wanted = {stable_hash("draft", n) for n in (0, 2, 99)}
    found = paid_replies(tables, wanted)
    assert set(found) == {stable_hash("draft", 0), stable_hash("draft", 2)}
    for number in (0, 2):
        expected = sorted((reply_of(row) for row in rows[2 * number : 2 * number + 2]), key=lambda r: r.request_id)
        assert found[stable_hash("draft", number)] == tuple(expected)
    assert paid_replies(tables, set()) == {}
    assert paid_replies([], wanted) == {}


def test_it_works_on_what_was_read_and_packed() -> None:
    table = read_for_join(CONTENT, kind="example", fingerprint=FINGERPRINT, name=NAME)
    wanted = {row["draft_id"] for row in ROWS_OF_FILE}
    parts = [unpack_table(pack_table(part)) for _, part in split_by_shard(table, 64)]
    examples = [row for row in ROWS_OF_FILE if row["kind"] == "example"]
    assert paid_replies(parts, wanted) == {row["draft_id"]: (reply_of(row),) for row in examples}


def test_the_earliest_reply_to_a_request_counts() -> None:
    rows = [paid(1, time=TIME + 5, text="a"), paid(1, time=TIME - 5, text="z"), paid(1, time=TIME, text="b")]
    for order in itertools.permutations(rows):
        for tables in ([table_of(order)], [table_of([row]) for row in order]):
            ((reply,),) = paid_replies(tables, {rows[0]["draft_id"]}).values()
            assert reply == reply_of(rows[1])


def test_whatever_the_order_the_same_reply_is_taken() -> None:
    """Of two at the same millisecond too: all that reaches a row decides."""
    rows = [
        paid(1, **fields)
        for fields in (
            {"text": "b"},
            {"text": "a", "finish_reason": "stop", "model": "m-2"},
            {"text": "a", "finish_reason": "stop", "model": "m-1", "output_tokens": 4},
            {"text": "a", "finish_reason": "stop", "model": "m-1", "prompt_tokens": 6, "output_tokens": 5},
            {"text": "a", "finish_reason": "length", "model": "m-1", "output_tokens": 9},
            {"text": "a", "finish_reason": "length", "model": "m-1", "output_tokens": 8},
        )
    ]
    for order in itertools.permutations(rows):
        found = paid_replies([table_of(order)], {rows[0]["draft_id"]})
        assert found == {rows[0]["draft_id"]: (reply_of(rows[5]),)}


def test_a_finish_reason_that_is_none_of_ours_is_passed_over() -> None:
    rows = [paid(1, finish_reason="tool_calls", time=TIME - 9), paid(1), paid(2, finish_reason="")]
    found = paid_replies([table_of(rows)], {row["draft_id"] for row in rows})
    assert found == {rows[1]["draft_id"]: (reply_of(rows[1]),)}
