"""Files of users, line by line or row by row, with errors that say where and why."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from textmint.transforms.core.errors import DamagedFileError

SUFFIXES: Final = (".txt", ".jsonl", ".parquet", ".txt.gz", ".jsonl.gz")
MAX_LINE_BYTES: Final = 16 << 20
"""The longest line that is read: a file without line ends, or one that decompresses to much, must not fill memory."""
_BLOCK_BYTES: Final = 1 << 20


def raw_lines(file: IO[bytes]) -> Iterator[bytes]:
    r"""Yields lines with their ends, which are `\n`, `\r\n` or `\r`.

    Other line ends of Unicode (U+0085, U+2028, ...) are white space, as in JSON.

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
    """Yields the lines of a UTF-8 file that are not blank, each after where it stands (`line 7`).

    Raises:
      error: a line is not UTF-8, holds a NUL character or is too long, or the compressed file is damaged.
    """
    lines = raw_lines(file)
    for number in itertools.count(1):
        try:
            raw = next(lines, None)
        except (DamagedFileError, ValueError) as fault:
            raise error(f"line {number}: {fault}") from None
        if raw is None:
            return
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

    Raises:
      error: as of `decoded_lines`, or a line is not JSON, or an object in it has a key twice.
    """
    for where, line in decoded_lines(file, error):
        try:
            yield where, json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as fault:
            raise error(f"{where}: no JSON ({fault})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object, and refuses a key that stands twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r:.80} stands twice")
        found[key] = value
    return found


def parquet_rows(
    file: IO[bytes], error: type[ValueError], choose: Callable[[pa.Schema], list[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the rows of a Parquet file, with the columns that `choose` names, each after where it stands (`row 7`).

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
