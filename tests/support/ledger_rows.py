"""Rows of a ledger, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.journal import journal_line
from textmint.transforms.ledger.table import SCHEMA, read_replies, replies_file
from textmint.transforms.storage import files

TIME = 1_700_000_000_000  # milliseconds; 2023-11-14
FINGERPRINT = "f" * 32


def paid(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A number -> a row of its own, as `ledger_writer.row_of` makes it: `time` is in milliseconds."""
    return {
        "request_id": stable_hash("request", number),
        "draft_id": stable_hash("draft", number),
        "kind": "example",
        "refresh": "base",
        "model": "m-1",
        "fingerprint": FINGERPRINT,
        "attempt": 0,
        "text": f"reply {number}",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "output_tokens": 3,
        "latency_ms": 20,
        "time": TIME + number,
        **fields,
    }


def table_of(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def rows_in(table: pa.Table) -> list[dict[str, Any]]:
    """A table of SCHEMA -> its rows, as `paid` makes them."""
    columns = {name: table[name] for name in table.schema.names}
    if "time" in columns:
        columns["time"] = columns["time"].cast(pa.int64())
    return list(pa.table(columns).to_pylist())


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows, in whatever order -> the same in one order, to be compared."""
    return sorted(tuple(row[name] for name in SCHEMA.names) for row in rows)


def add_file(folder: str | Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows -> the path of a new file of the ledger that holds them."""
    name, content = replies_file(table_of(rows))
    path = files.join(str(folder), name)
    files.write_file(path, content)
    return path


def add_journal(folder: Path, rows: Iterable[Mapping[str, Any]], name: str = "run-1-0", end: bytes = b"") -> Path:
    """Rows -> the journal that a process which is gone left with them, and with whatever follows at its end."""
    path = folder / "_journal" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(journal_line, rows)) + end)
    return path


def rows_of_ledger(folder: str | Path) -> list[dict[str, Any]]:
    """-> the rows of all files of the ledger."""
    tables = [read_replies(files.read_file(file.path), name=file.name) for file in ledger_files(str(folder))]
    return [row for table in tables for row in rows_in(table)]


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows -> their texts, sorted."""
    return sorted(row["text"] for row in rows)
