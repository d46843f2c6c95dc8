"""Files of users, line by line or row by row, with errors that say where and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from textmint.transforms.core.errors import DamagedFileError

SUFFIXES: Final = (".txt", ".jsonl", ".parquet", ".txt.gz", ".jsonl.gz")
"""What the names of such files end with."""

MAX_LINE_BYTES: Final = 16 << 20
"""The longest line that is read. A file without line ends, or a small one that decompresses to a large one, must not
fill the memory."""
_BLOCK_BYTES: Final = 1 << 20


def raw_lines(file: IO[bytes]) -> Iterator[bytes]:
    r"""Yields lines with their ends, which are `\n`, `\r\n` or `\r`.

    Other characters that Unicode counts as line ends (U+0085, U+2028, ...) are white space within a text, as in JSON.

    Args:
      file: opened in binary, already decompressed.

    Raises:
      ValueError: a line is longer than MAX_LINE_BYTES.
    """
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        lines = (rest + block).splitlines(keepends=True)  # of bytes: just these three ends
        # The last line may go on, and a `\r` at the end may be the first half of `\r\n`.
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"is longer than {MAX_LINE_BYTES >> 20} MB")
    if rest:
        yield rest


def decoded_lines(file: IO[bytes], error: type[ValueError]) -> Iterator[tuple[str, str]]:
    """Yields the lines of a file of UTF-8 that are not blank, each after where it stands (`line 7`).

    Args:
      file: opened in binary, already decompressed.
      error: what is raised; its message begins with the line.

    Raises:
      error: the line is not UTF-8, holds a NUL character or is longer than MAX_LINE_BYTES, or the compressed file is
        damaged.
    """
    number = 0
    lines = raw_lines(file)
    while True:
        try:
            raw = next(lines, None)
        except (DamagedFileError, ValueError) as fault:
            raise error(f"line {number + 1}: {fault}") from None
        if raw is None:
            return
        number += 1
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as fault:
            raise error(f"line {number}: not UTF-8 ({fault.reason} at byte {fault.start})") from None
        if "\0" in line:
            raise error(f"line {number}: holds a NUL character; is it UTF-16? Text must be UTF-8")
        if line.strip():
            yield f"line {number}", line


def json_lines(file: IO[bytes], error: type[ValueError]) -> Iterator[tuple[str, Any]]:
    """Yields the values of a file of JSON lines, each after where it stands (`line 7`).

    Args:
      file: opened in binary, already decompressed.
      error: what is raised; its message begins with the line.

    Raises:
      error: as of `decoded_lines`, or the line is no JSON, or an object in it has a key twice.
    """
    for where, line in decoded_lines(file, error):
        try:
            yield where, json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as fault:
            raise error(f"{where}: no JSON ({fault})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object, and refuses a second value of a key: which of the two is meant cannot be known."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r:.80} stands twice")
        found[key] = value
    return found


def parquet_rows(
    file: IO[bytes], error: type[ValueError], choose: Callable[[pa.Schema], list[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the rows of a Parquet file, each after where it stands (`row 7`).

    Args:
      file: opened in binary.
      error: what is raised; its message begins with the row.
      choose: names the columns that are read, or raises.

    Raises:
      error: a string is not UTF-8, or the file cannot be read.
    """
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        number = 0
        for batch in parquet.iter_batches(columns=choose(parquet.schema_arrow)):
            for place in range(batch.num_rows):
                number += 1
                try:
                    row = {name: column[place].as_py() for name, column in zip(batch.schema.names, batch, strict=True)}
                except UnicodeDecodeError:
                    raise error(f"row {number}: not UTF-8") from None
                yield f"row {number}", row
    except (pa.ArrowException, OSError) as fault:
        raise error(f"is no readable Parquet file ({str(fault).splitlines()[0]})") from None
