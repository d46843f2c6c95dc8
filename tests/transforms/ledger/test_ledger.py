"""The ledger's rows and tables: what is read is what was written, or it is refused; nothing in a file ends a run."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import PaidReply
from textmint.transforms.core.identity import shard_of, stable_hash
from textmint.transforms.ledger import table as ledger
from textmint.transforms.ledger.join import pack_table, paid_replies, read_for_join, split_by_shard, unpack_table
from textmint.transforms.ledger.journal import journal_line, read_journal
from textmint.transforms.ledger.mend import salvage
from textmint.transforms.ledger.table import (
    SCHEMA,
    LedgerFileError,
    name_for,
    open_replies,
    paid_by_footer,
    read_replies,
    replies_file,
)

from tests.support.helpers import shuffled
from tests.support.ledger_rows import FINGERPRINT, TIME, in_order, paid, rows_in, table_of

GOOD = journal_line(paid(1))
PLAIN = GOOD.partition(b',"crc32":')[0] + b"}\n"
"""A line of an earlier version, without a checksum, so that nothing but its own form tells what is wrong with it."""
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
STRINGS = [field.name for field in SCHEMA if field.type == pa.string()]
NUMBERS = [field.name for field in SCHEMA if field.type != pa.string()]
ROWS = st.lists(st.fixed_dictionaries({name: TEXT if name in STRINGS else INT64 for name in SCHEMA.names}), max_size=4)


# --- journals


@given(ROWS)
@settings(max_examples=150)
def test_journal_lines_are_read_as_they_were_written(rows: list[dict[str, Any]]) -> None:
    lines = [journal_line(row) for row in rows]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    table, damaged = read_journal(b"".join(lines))
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert (rows_in(table), damaged) == (rows, 0)


@given(ROWS, TEXT)
@settings(max_examples=60)
def test_a_damaged_line_harms_no_other(rows: list[dict[str, Any]], garbage: str) -> None:
    """Which makes them be read one by one."""
    line = b"{" + garbage.replace("\n", " ").encode() + b"\n"
    content = b"".join(map(journal_line, rows))
    for lines in (line + content, content + line):
        table, damaged = read_journal(lines)
        assert (rows_in(table), damaged) == (rows, 1)


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_a_line_cut_short_is_no_row(cut: int) -> None:
    table, damaged = read_journal(GOOD + GOOD[:cut])
    is_whole = cut == len(GOOD) - 1  # all but the line's end
    assert (table.num_rows, damaged) == ((2, 0) if is_whole else (1, 1))
    assert rows_in(table)[-1] == paid(1)


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_a_changed_bit_in_a_line_is_noticed(place: int) -> None:
    """JSON alone would not: another letter is another text."""
    line = bytearray(GOOD)
    line[place] ^= 1 << place % 8
    table, damaged = read_journal(journal_line(paid(2)) + bytes(line) + journal_line(paid(3)))
    found = [row["text"] for row in rows_in(table)]
    assert set(found) <= {"reply 2", "reply 3"}
    assert damaged
    assert found == ["reply 2", "reply 3"] or place == len(GOOD) - 1  # the line's end: the next line went into it


def test_lines_of_an_earlier_version_are_read() -> None:
    for lines in (PLAIN * 3, PLAIN + GOOD + PLAIN, PLAIN + GOOD[:-1]):
        table, damaged = read_journal(lines)
        assert ({row["text"] for row in rows_in(table)}, damaged) == ({"reply 1"}, 0)


@pytest.mark.parametrize("lines", [b"", b"\n", b"\n\n\n"])
def test_nothing_is_no_row(lines: bytes) -> None:
    table, damaged = read_journal(lines)
    assert (table.num_rows, damaged) == (0, 0)
    assert table.schema.equals(SCHEMA, check_metadata=True)


def changed(**fields: Any) -> bytes:
    return (json.dumps({**paid(2), **fields}) + "\n").encode()


LINES = {
    "no JSON": b"what is this\n",
    "zeros, as a power cut may leave": b"\x00" * 64 + b"\n",
    "no UTF-8": PLAIN.replace(b"reply 1", b"\xff\xfe"),
    "a surrogate in UTF-8": PLAIN.replace(b"reply 1", b"\xed\xa0\x80"),
    "half a pair, escaped": PLAIN.replace(b"reply 1", b"\\ud800"),
    "the other half": PLAIN.replace(b"reply 1", b"a\\udc00b"),
    "a bare control character": PLAIN.replace(b"reply 1", b"a\x00b"),
    "a list": b"[1, 2]\n",
    "a number": b"7\n",
    "a string": b'"text"\n',
    "nothing in it": b"{}\n",
    "a column too few": (json.dumps({k: v for k, v in paid(2).items() if k != "text"}) + "\n").encode(),
    "a column too many": changed(more=1),
    "null for a text": changed(text=None),
    "null for a number": changed(time=None),
    "a number for a text": changed(text=5),
    "a text for a number": changed(attempt="0"),
    "true for a number": changed(attempt=True),
    "a fraction": changed(attempt=0.5),
    "a fraction that is whole": changed(attempt=1.0),
    "not a number": changed(attempt=float("nan")),
    "endless": changed(attempt=float("inf")),
    "2**63": changed(output_tokens=1 << 63),
    "below -2**63": changed(output_tokens=-(1 << 63) - 1),
    "more digits than Python reads": PLAIN.replace(b'"attempt":0', b'"attempt":' + b"9" * 5000),
    "a list for a text": changed(text=["a"]),
    "an object for a text": changed(text={"a": 1}),
    "null, which ends the process where Arrow reads it": b"null\n",
    "deep lists": b"[" * 200_000 + b"\n",
    "deep objects": b'{"text":' * 200_000 + b"\n",
    "deep and closed, in a column": PLAIN.replace(b'"reply 1"', b"[" * 100_000 + b"]" * 100_000),
    "a half line with another after it": GOOD[:60] + GOOD,
    "another form of UTF": GOOD.decode().encode("utf-16-le").replace(b"\n", b" ") + b"\n",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_line_that_is_no_reply_is_counted_and_the_rest_is_kept(line: bytes) -> None:
    for before, after in ((0, 0), (0, 1), (1, 0), (1, 1)):
        table, damaged = read_journal(GOOD * before + line + GOOD * after)
        assert (rows_in(table), damaged) == ([paid(1)] * (before + after), 1)
        assert read_replies(replies_file(table)[1]).num_rows == before + after  # nothing that cannot be read again


def test_escapes_and_pairs_are_read_both_ways() -> None:
    """The quick way, and one by one."""
    line = PLAIN.replace(b"reply 1", b'\\ud83d\\ude00 \\u00e9 \\" \\\\ \\n \\u0000')
    for lines in (line, line + b"x\n"):
        assert rows_in(read_journal(lines)[0])[0]["text"] == '\U0001f600 é " \\ \n \x00'


def test_a_lone_surrogate_is_refused_before_it_is_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        journal_line(paid(text="\ud800"))


# --- files


ROWS_OF_FILE = [
    paid(n, kind=("task_list", "example")[n % 2], attempt=n % 3, text=f"Antwort {n} äöü 😀" * (n % 4))
    for n in range(40)
]
NAME, CONTENT = replies_file(table_of(ROWS_OF_FILE))


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_a_file_holds_what_was_put_into_it() -> None:
    table = read_replies(CONTENT, name=NAME)
    assert table.schema.equals(SCHEMA)
    assert in_order(rows_in(table)) == in_order(ROWS_OF_FILE)
    keys = [(row["kind"], row["draft_id"], row["attempt"]) for row in rows_in(table)]
    assert keys == sorted(keys)


@given(ROWS)
@settings(max_examples=50)
def test_files_of_any_rows_are_read_as_they_were_written(rows: list[dict[str, Any]]) -> None:
    name, content = replies_file(table_of(rows))
    assert in_order(rows_in(read_replies(content, name=name))) == in_order(rows)


def test_writing_the_same_again_is_the_same_file() -> None:
    table = table_of(ROWS_OF_FILE)
    assert replies_file(table) == (NAME, CONTENT)
    assert replies_file(table.slice(0, 9)) != replies_file(table)
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])
    assert replies_file(chunked) == (NAME, CONTENT)
    read = read_replies(CONTENT)
    assert replies_file(read) == (NAME, CONTENT)
    assert replies_file(table_of(shuffled(ROWS_OF_FILE))) == (NAME, CONTENT)


def test_a_file_that_was_made_of_files_has_their_version() -> None:
    """Else a version to come would take it for its own."""
    _, content = replies_file(pa.concat_tables([read_replies(CONTENT), read_replies(CONTENT)]))
    assert (open_replies(content).schema_arrow.metadata or {})[b"textmint.ledger"] == b"1"


def test_columns_and_rows_that_are_not_wanted_are_left_out() -> None:
    table = read_replies(CONTENT, ["text", "attempt"], name=NAME, kind="task_list", fingerprint=FINGERPRINT)
    assert table.schema.names == ["text", "attempt"]
    assert sorted(rows_in(table), key=str) == sorted(
        [{"text": row["text"], "attempt": row["attempt"]} for row in ROWS_OF_FILE if row["kind"] == "task_list"],
        key=str,
    )
    for wanted in ({"kind": "other"}, {"fingerprint": "0" * 32}, {"kind": "zzz"}, {"refresh": ""}, {"model": "m-1 "}):
        for name in (NAME, ""):
            nothing = read_replies(CONTENT, ["text"], name=name, **wanted)
            assert (nothing.num_rows, nothing.schema.names) == (0, ["text"])


def test_row_groups_of_another_kind_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_LEAST_GROUP_ROWS", 5)
    name, content = replies_file(table_of(ROWS_OF_FILE))
    read: list[int] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, n, **k: (read.append(n), real(self, n, **k))[1])
    table = read_for_join(content, kind="example", fingerprint=FINGERPRINT, name=name)
    assert table.num_rows == 20
    assert read == [0, 1, 2, 3]  # of eight, those with examples: rows are sorted by kind
    read.clear()
    assert read_for_join(content, kind="example", fingerprint="0" * 32, name=name).num_rows == 0
    assert read == []


def test_more_columns_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a version to come may have them; one of several leaves before ours, and statistics are still found."""
    table = table_of(ROWS_OF_FILE)
    nested = pa.array([{"kind": 1, "y": "zzz"}] * table.num_rows)
    more = table.add_column(0, "more", nested).replace_schema_metadata(SCHEMA.metadata)
    content = parquet(more)
    name = name_for(content)
    assert read_replies(content, name=name).equals(table)
    assert read_for_join(content, kind="example", fingerprint=FINGERPRINT, name=name).num_rows == 20


def without(*names: str) -> pa.Table:
    return table_of(ROWS_OF_FILE).drop_columns(list(names))


def with_type(name: str, type_: pa.DataType) -> pa.Table:
    table = table_of(ROWS_OF_FILE)
    at = table.schema.names.index(name)
    return table.set_column(at, pa.field(name, type_), table[name].cast(type_))


FOREIGN = {
    "other columns": (parquet(pa.table({"a": [1], "b": ["x"]})), "not of a ledger: its columns are a, b"),
    "no columns": (parquet(pa.table({})), "not of a ledger: its columns are none"),
    "a column missing": (parquet(without("fingerprint")), "of another version of the ledger: it lacks fingerprint"),
    "columns missing": (parquet(without("kind", "time")), "it lacks kind, time"),
    "all missing, but ours": (
        parquet(pa.table({"a": [1]}).replace_schema_metadata(SCHEMA.metadata)),
        "of another version of the ledger: it lacks request_id",
    ),
    "another type": (parquet(with_type("attempt", pa.int32())), "attempt is int32, where int64 is meant"),
    "time without a zone": (parquet(with_type("time", pa.timestamp("ms"))), "time is timestamp"),
    "text as bytes": (parquet(with_type("text", pa.binary())), "text is binary, where string is meant"),
    "another version": (
        parquet(table_of(ROWS_OF_FILE).replace_schema_metadata({b"textmint.ledger": b"2"})),
        "of another version of the ledger: 2, where 1 is meant",
    ),
    "a version that is no text": (
        parquet(table_of(ROWS_OF_FILE).replace_schema_metadata({b"textmint.ledger": b"\xff" * 99})),
        "of another version of the ledger",
    ),
    "two columns of one name": (
        parquet(table_of(ROWS_OF_FILE).add_column(0, "text", table_of(ROWS_OF_FILE)["text"])),
        "not of a ledger: it has several columns of one name",
    ),
    "empty": (b"", "no Parquet file, or cut short"),
    "a text": (b"hello\n" * 99, "no Parquet file, or cut short"),
    "zeros": (bytes(5000), "no Parquet file, or cut short"),
    "the marks of Parquet only": (b"PAR1" + bytes(96) + b"PAR1", "no Parquet file, or cut short"),
    "a footer longer than the file": (b"PAR1" + bytes(8) + b"\xff\xff\xff\x7fPAR1", "no Parquet file, or cut short"),
}


@pytest.mark.parametrize(("content", "reason"), FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_and_older_files_are_refused_and_the_reason_is_told(content: bytes, reason: str) -> None:
    for read in (open_replies, read_replies, lambda c: read_for_join(c, kind="example", fingerprint="f")):
        with pytest.raises(LedgerFileError) as raised:
            read(content)  # type: ignore[operator]
        assert reason in str(raised.value)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 400


def test_a_file_without_our_mark_but_with_our_columns_is_read() -> None:
    """Whoever merged files with another tool meant no harm."""
    content = parquet(table_of(ROWS_OF_FILE).replace_schema_metadata(None))
    assert read_replies(content).num_rows == 40


@pytest.mark.parametrize("name", SCHEMA.names)
def test_a_null_is_damage(name: str) -> None:
    nullable = pa.schema([field.with_nullable(True) for field in SCHEMA], metadata=SCHEMA.metadata)
    content = parquet(pa.Table.from_pylist([paid(1), {**paid(2), name: None}], schema=nullable))
    with pytest.raises(LedgerFileError, match=f"a null in {name}"):
        read_replies(content)
    assert read_replies(content, [other for other in SCHEMA.names if other != name]).num_rows == 2
    assert read_replies(parquet(pa.Table.from_pylist([paid(1)], schema=nullable))).num_rows == 1


@pytest.mark.parametrize("name", STRINGS)
def test_text_that_is_no_utf8_is_damage(name: str) -> None:
    table = table_of([paid(1), paid(2)])
    bad = pa.array([b"\xff\xfe", b"ok"], pa.binary()).view(pa.string())
    content = parquet(table.set_column(table.schema.names.index(name), SCHEMA.field(name), bad))
    with pytest.raises(LedgerFileError, match="damaged"):
        read_replies(content)
    with pytest.raises(LedgerFileError, match="damaged"):
        read_for_join(content, kind="example", fingerprint=FINGERPRINT) if name != "refresh" else read_replies(content)


@pytest.mark.parametrize("cut", [*range(0, 64), *range(64, len(CONTENT), 97), *range(len(CONTENT) - 16, len(CONTENT))])
def test_a_file_that_was_cut_short_is_refused(cut: int) -> None:
    for name in (NAME, ""):
        with pytest.raises(LedgerFileError):
            read_replies(CONTENT[:cut], name=name)
    with pytest.raises(LedgerFileError):
        open_replies(CONTENT[:cut])


def test_a_changed_byte_anywhere_is_noticed_by_the_name() -> None:
    """Parquet alone would not: in 541 of 12,756 such files it read other rows, and one ended the process, in the
    statistics of a column chunk."""
    for offset in range(len(CONTENT)):
        changed_ = bytearray(CONTENT)
        changed_[offset] ^= 1 << offset % 8
        with pytest.raises(LedgerFileError, match="not what was written"):
            read_for_join(bytes(changed_), kind="example", fingerprint=FINGERPRINT, name=NAME)
    with pytest.raises(LedgerFileError, match="not what was written"):
        read_replies(CONTENT + b"PAR1", name=NAME)


def test_a_changed_byte_in_a_file_with_another_name_is_noticed_too() -> None:
    """By the digests of its rows; without them it read other rows in one of six files, and said nothing."""
    footer = len(CONTENT) - 8 - int.from_bytes(CONTENT[-8:-4], "little")
    whole = in_order(ROWS_OF_FILE)
    for offset in [*range(0, footer, 7), *range(footer, len(CONTENT), 3)]:
        for flip in (0xFF, 1 << offset % 8):
            changed_ = bytearray(CONTENT)
            changed_[offset] ^= flip
            with contextlib.suppress(LedgerFileError):
                assert in_order(rows_in(read_replies(bytes(changed_)))) == whole
            with contextlib.suppress(LedgerFileError):
                open_replies(bytes(changed_))


def test_a_changed_bit_costs_one_row_group() -> None:
    texts = ["".join(stable_hash("text", number, place) for place in range(20)) for number in range(400)]
    rows = [paid(number, text=text) for number, text in enumerate(texts)]
    name, content = replies_file(table_of(rows))
    whole = set(in_order(rows))
    for offset in [*range(4, len(content) - 12_000, 19_997), len(content) - 3_000, len(content) - 6]:
        changed_ = bytearray(content)
        changed_[offset] ^= 1 << offset % 8
        kept, damage = salvage(bytes(changed_), name, "damaged")
        assert kept is not None
        assert damage.lost is not None
        assert kept.num_rows + damage.lost == 400
        assert damage.lost <= 64
        assert set(in_order(rows_in(kept))) <= whole


def test_a_file_of_an_earlier_version_is_read_whole_or_not_at_all() -> None:
    """Its name is all that tells."""
    older = parquet(table_of(ROWS_OF_FILE))
    assert read_replies(older, name=name_for(older)).num_rows == 40
    changed_ = older[:99] + bytes([older[99] ^ 3]) + older[100:]
    with pytest.raises(LedgerFileError, match="not what was written"):
        read_replies(changed_, name=name_for(older))
    table, damage = salvage(changed_, name_for(older), "damaged")
    assert table is None
    assert "of an earlier version" in damage.reason


def test_a_file_tells_what_is_in_it() -> None:
    rows = [paid(1), paid(2, kind="task_list"), paid(3, refresh="more"), paid(4)]
    told = paid_by_footer(open_replies(replies_file(table_of(rows))[1]))
    assert told == {("base", "example"): 2, ("base", "task_list"): 1, ("more", "example"): 1}
    assert paid_by_footer(open_replies(parquet(table_of(rows)))) is None


def test_only_a_name_that_was_given_speaks_for_the_content() -> None:
    other, _ = replies_file(table_of([paid(1)]))
    with pytest.raises(LedgerFileError, match="not what was written"):
        read_replies(CONTENT, name=other)
    for name in ("", "mine.parquet", "replies-.parquet", f"x{other}", other.upper(), other + "\n"):
        assert read_replies(CONTENT, name=name).num_rows == 40


def test_the_end_of_a_file_tells_its_rows() -> None:
    footer = int.from_bytes(CONTENT[-8:-4], "little") + 8
    assert footer < ledger.FOOTER_BYTES
    assert open_replies(CONTENT[-footer:]).metadata.num_rows == 40
    with pytest.raises(LedgerFileError):
        open_replies(CONTENT[-footer + 1 :])


def test_no_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise pa.ArrowMemoryError("malloc of size 1 failed")

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", full)
    with pytest.raises(MemoryError):
        read_replies(CONTENT, name=NAME)
    with pytest.raises(LedgerFileError):  # where nobody says that it is whole, it may ask for any size
        read_replies(CONTENT)


# --- the join


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
