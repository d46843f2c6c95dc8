"""Lines of a journal: what is read is what was written, and one that is damaged harms no other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from textmint.transforms.ledger.journal import journal_line, read_journal
from textmint.transforms.ledger.table import SCHEMA, read_replies, replies_file

from tests.support.any_ledger_rows import ROWS, TEXT
from tests.support.ledger_rows import paid, rows_in

GOOD = journal_line(paid(1))
PLAIN = GOOD.partition(b',"crc32":')[0] + b"}\n"
"""A line of an earlier version, without a checksum, so that nothing but its own form tells what is wrong with it."""


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
