"""Files of users: any line end, any compressed file to its last byte or not at all, no more memory than a line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core import text_files
from textmint.transforms.core.tasks import TaskFileError, read_tasks
from textmint.transforms.core.text_files import decoded_lines, json_lines, raw_lines
from textmint.transforms.dedup.exclusions import ExclusionFileError, read_exclusions
from textmint.transforms.storage import files

TEXT = "".join(f"Sort letters of drawer {number} by tone\n" for number in range(400)).encode()
WHOLE = gzip.compress(TEXT, mtime=0)
MEMBERS = gzip.compress(TEXT[:999], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(TEXT[999:], mtime=0)


def lines(content: bytes) -> list[str]:
    return [line for _, line in decoded_lines(io.BytesIO(content), ValueError)]


def read(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    with files.open_text(str(path)) as file:
        return [line for _, line in decoded_lines(file, ValueError)]


# --- lines


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end(end: str) -> None:
    found = list(decoded_lines(io.BytesIO(f"\ufeffone{end}{end}two{end} {end}three".encode()), ValueError))
    assert [(where, line.strip()) for where, line in found] == [
        ("line 1", "one"),
        ("line 3", "two"),
        ("line 5", "three"),
    ]


def test_mixed_line_ends() -> None:
    assert [line.strip() for line in lines(b"a\rb\nc\r\nd\n\re")] == ["a", "b", "c", "d", "e"]


def test_what_else_unicode_takes_for_a_line_end_stands_within_a_line() -> None:
    """JSON lets a string hold U+2028 as it is, and a text copied from a page may hold one within a sentence."""
    assert lines("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n".encode()) == ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n"]
    assert list(json_lines(io.BytesIO('{"a": "x\u2028y"}\r'.encode()), ValueError)) == [("line 1", {"a": "x\u2028y"})]


@given(st.binary(max_size=40) | st.text("ab\r\n", max_size=40).map(str.encode), st.integers(1, 5))
def test_lines_are_the_same_wherever_a_block_ends(content: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK_BYTES", block)
        assert list(raw_lines(io.BytesIO(content))) == content.splitlines(keepends=True)


def test_a_line_has_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a file of a few kB that decompresses to many GB without a line end would fill the memory."""
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 3 << 20)
    bomb = gzip.compress(b"fine\n" + bytes(64 << 20))
    with pytest.raises(ValueError, match=r"^line 2: is longer than 3 MB$"):
        read(tmp_path / "a.txt.gz", bomb)


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^line 2: no JSON \(the key 'task' stands twice\)"):
        list(json_lines(io.BytesIO(b'{"task": 1}\n{"task": 1, "task": 2}\n'), ValueError))


# --- both kinds of files that users give

# Parquet readers do not check their strings.
OFFSETS = pa.py_buffer((0).to_bytes(4, "little") + (2).to_bytes(4, "little"))
NOT_UTF_8 = io.BytesIO()
pq.write_table(
    pa.table({"task": pa.Array.from_buffers(pa.string(), 1, [None, OFFSETS, pa.py_buffer(b"\xff\xfe")])}), NOT_UTF_8
)
READERS = pytest.mark.parametrize(
    ("reader", "refusal"),
    [(read_tasks, TaskFileError), (read_exclusions, ExclusionFileError)],
    ids=["tasks", "exclusions"],
)
Reader = Callable[..., Any]


@READERS
@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        *((path, b"a", "is not one of .txt, .jsonl, .parquet, ") for path in ("a.csv", "a", "txt", "a.json", "a.txt/")),
        ("a.txt.zip", b"a", "is not one of .txt, .jsonl, .parquet, .txt.gz, .jsonl.gz"),
        ("a.txt", "a\nTäsk".encode("latin-1"), "line 2: not UTF-8 (invalid continuation byte at byte 1)"),
        ("a.txt", "a\n".encode("utf-16"), "line 1: not UTF-8"),
        ("a.txt", "a\n".encode("utf-16-be"), "line 1: holds a NUL character"),  # no byte order mark
        ("a.txt", "a\n".encode("utf-16-le"), "line 1: holds a NUL character"),
        ("a.txt", "a\n".encode("utf-32"), "line 1: not UTF-8"),
        ("a.jsonl", b'{"task": "a"}\n{"task": "b"\n', "line 2: no JSON ("),
        ("a.jsonl", b"[" * 100_000, "line 1: no JSON ("),
        ("a.jsonl", b'{"task": ' + b"1" * 5_000 + b"}", "line 1: no JSON ("),
        ("a.jsonl", b"{'task': 'a'}", "line 1: no JSON ("),  # never evaluated
        ("a.jsonl", "{}".encode("utf-16"), "line 1: not UTF-8"),
        ("a.parquet", b"a", "is no readable Parquet file ("),
        ("a.parquet", b"", "is no readable Parquet file ("),
        ("a.parquet", NOT_UTF_8.getvalue(), "row 1: not UTF-8"),
    ],
)
def test_what_neither_reads(reader: Reader, refusal: type[ValueError], path: str, content: bytes, message: str) -> None:
    with pytest.raises(refusal) as error:
        list(reader(io.BytesIO(content), path))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@READERS
def test_a_file_is_read_one_item_at_a_time(reader: Reader, refusal: type[ValueError]) -> None:
    items = reader(io.BytesIO(b"One\n\xff\n"), "a.txt")
    assert next(items).text == "One\n"
    with pytest.raises(refusal, match="line 2"):
        next(items)


@READERS
@given(content=st.binary(max_size=60), path=st.sampled_from(["a.txt", "a.jsonl", "a.parquet"]))
def test_any_bytes_are_read_or_refused(reader: Reader, refusal: type[ValueError], content: bytes, path: str) -> None:
    try:
        texts = [item.text for item in reader(io.BytesIO(content), path)]
    except refusal as error:
        assert str(error)
    else:
        assert all(text.strip() for text in texts)


# --- compressed


@pytest.mark.parametrize("content", [WHOLE, MEMBERS, WHOLE + bytes(512)], ids=["one", "members", "padded"])
@pytest.mark.parametrize("name", ["a.txt.gz", "A.TXT.GZ"])
def test_a_whole_file_is_read_to_its_end(tmp_path: Path, name: str, content: bytes) -> None:
    assert "".join(read(tmp_path / name, content)).encode() == TEXT


def test_a_whole_file_of_nothing_is_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt.gz", gzip.compress(b"")) == []


@pytest.mark.parametrize("cut", [1, 2, 9, 10, 11, 200, len(WHOLE) - 9, len(WHOLE) - 8, len(WHOLE) - 4, len(WHOLE) - 1])
def test_a_cut_off_file_is_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(ValueError, match=r"^line \d+: (its compressed data is cut off|it is no intact gzip file)"):
        read(tmp_path / "a.txt.gz", WHOLE[:cut])


def test_a_file_cut_off_in_a_later_member_is_refused(tmp_path: Path) -> None:
    for cut in range(1, 40):
        with pytest.raises(ValueError, match=r"^line \d+: it"):
            read(tmp_path / "a.txt.gz", MEMBERS[:-cut])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty, but a compressed file has a header; copy it anew from where it came"),
        (TEXT, "it is no intact gzip file"),
        (WHOLE + b"more", "it is no intact gzip file"),
        (WHOLE[:-8] + bytes(4) + WHOLE[-4:], "it is no intact gzip file"),  # another checksum
        (WHOLE[:-4] + bytes(4), "it is no intact gzip file"),  # another length
        (WHOLE[:60] + bytes([WHOLE[60] ^ 1]) + WHOLE[61:], "it is no intact gzip file"),
        (zlib.compress(TEXT), "it is no intact gzip file"),
    ],
    ids=["empty", "plain", "garbage", "checksum", "length", "bit", "deflate"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read(tmp_path / "a.txt.gz", content)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_file_beneath_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(WHOLE)
    with files.open_text(str(tmp_path / "a.gz")) as file:
        beneath = file._file  # type: ignore[attr-defined]
        assert not beneath.closed
    assert beneath.closed
