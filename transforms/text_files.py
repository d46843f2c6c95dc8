"""Text files of users, line by line, with errors that say where and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any


def decoded_lines(file: IO[bytes], error: type[ValueError]) -> Iterator[tuple[str, str]]:
    """An open file of UTF-8 -> (`line 7`, the line), without the blank ones, one at a time.

    Args:
      file: opened in binary, already decompressed.
      error: what is raised; its message begins with the line.

    Raises:
      error: the line is not UTF-8, or holds a NUL character.
    """
    for number, raw in enumerate(iter(file.readline, b""), start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as fault:
            raise error(f"line {number}: not UTF-8 ({fault.reason} at byte {fault.start})") from None
        if "\0" in line:
            raise error(f"line {number}: holds a NUL character; is it UTF-16? Text must be UTF-8")
        if line.strip():
            yield f"line {number}", line


def json_lines(file: IO[bytes], error: type[ValueError]) -> Iterator[tuple[str, Any]]:
    """An open file of JSON lines -> (`line 7`, the value), as `decoded_lines` does.

    Raises:
      error: as there, or the line is no JSON.
    """
    for where, line in decoded_lines(file, error):
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise error(f"{where}: no JSON ({fault})") from None
