"""The lines of a journal: what one process has received so far, a JSON object with a checksum for each reply."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec
import pyarrow as pa
from textmint.transforms.ledger.table import SCHEMA
from textmint.transforms.storage import files

JOURNAL: Final = "_journal"
"""The folder of journals, inside the ledger's."""
_CHECKSUM: Final = b',"crc32":'  # the last key of a line; what comes before it, closed, is checked
_BLOCK_BYTES: Final = 16 << 20  # of a journal, read at once
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Line: Any = msgspec.defstruct(
    "_Line",
    [(field.name, str if field.type == pa.string() else _Int64) for field in SCHEMA],
    forbid_unknown_fields=True,
    gc=False,
)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Line).decode


def journal_line(row: Mapping[str, Any]) -> bytes:
    """Encodes a row, by column of SCHEMA, with `time` in milliseconds. Its strings hold no lone surrogates."""
    encoded = _encode(row)
    return b"%s%s%d}\n" % (encoded[:-1], _CHECKSUM, zlib.crc32(encoded))


def read_journal(lines: bytes) -> tuple[pa.Table, int]:
    """Reads lines of a journal: a table of SCHEMA, and how many lines cannot be read or do not fit their checksum.
    Lines of earlier versions have none."""
    rows, damaged = [], 0
    for line in filter(None, lines.split(b"\n")):
        start, checksum, digits = line.rpartition(_CHECKSUM)
        encoded = start + b"}" if checksum else line
        try:
            if checksum and digits != b"%d}" % zlib.crc32(encoded):
                raise ValueError("changed")
            rows.append(msgspec.structs.astuple(_decode(encoded)))
        except (ValueError, RecursionError):
            damaged += 1
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA), damaged


def tables_of(file: BinaryIO) -> Iterator[tuple[pa.Table, int, bool]]:
    """Yields tables of an open journal, with how many lines cannot be read, and whether that is the half line at its
    end."""
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            yield *read_journal(rest + head + newline), False
            rest = tail
        else:
            rest += block
    if rest:
        yield *read_journal(rest), True


def journals_in(folder: str) -> list[files.FoundFile]:
    """Lists the journals of a ledger on a local disk."""
    return files.list_files(os.path.join(folder, JOURNAL), "*.jsonl")


def waiting_replies(folder: str) -> Iterator[pa.Table]:
    """Reads all journals of a ledger on a local disk, those of processes that live too."""
    for journal in journals_in(folder):
        with contextlib.suppress(FileNotFoundError), Path(journal.path).open("rb") as lines:
            for table, _, _ in tables_of(lines):
                yield table
