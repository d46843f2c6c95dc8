"""The ledger's files: what is read is what was written, or it is refused; nothing in a file ends a run."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger import table as ledger
from textmint.transforms.ledger.join import read_for_join
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

from tests.support.any_ledger_rows import ROWS, STRINGS
from tests.support.helpers import shuffled
from tests.support.ledger_rows import CONTENT, FINGERPRINT, NAME, ROWS_OF_FILE, in_order, paid, rows_in, table_of


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
