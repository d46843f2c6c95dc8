"""Text files of users, line by line, with errors that say where and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any, Final

from textmint.transforms.core.errors import DamagedFileError

MAX_LINE_BYTES: Final = 16 << 20
"""The longest line that is read: no text that fits a prompt is near it, and a file without line ends, or a small file
that decompresses to a large one, must not fill the memory."""
_BLOCK_BYTES: Final = 1 << 20


def raw_lines(file: IO[bytes]) -> Iterator[bytes]:
    r"""Reads lines that end in `\n`, `\r\n` or `\r`, one at a time.

    Those are the line ends of Unix, Windows and old Macs (and of some spreadsheets today). Other characters that
    Unicode counts as line ends (U+0085, U+2028, ...) stand within a text as white space, as they may in JSON.

    Args:
      file: opened in binary, already decompressed.

    Yields:
      Each line with its end.

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
    """Reads the lines of a file of UTF-8, one at a time, without the blank ones.

    Args:
      file: opened in binary, already decompressed.
      error: what is raised; its message begins with the line.

    Yields:
      Where each stands (`line 7`), and the line.

    Raises:
      error: the line is not UTF-8, holds a NUL character or is longer than MAX_LINE_BYTES, or the compressed file that
        it stands in is damaged.
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
    """Reads the lines of a file of JSON lines, as `decoded_lines` does.

    Args:
      file: opened in binary, already decompressed.
      error: what is raised; its message begins with the line.

    Yields:
      Where each stands (`line 7`), and its value.

    Raises:
      error: as there, or the line is no JSON, or an object in it has a key twice.
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
