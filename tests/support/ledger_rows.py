"""Rows of a ledger, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.journal import journal_line, read_journal
from textmint.transforms.ledger.table import SCHEMA, read_replies, replies_file
from textmint.transforms.storage import files

from tests.support.mem_store import MemFileSystem

TIME = 1_700_000_000_000  # milliseconds; 2023-11-14
FINGERPRINT = "f" * 32
REMOTE = "mem://bucket/out/ledger"


def paid(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Makes the row of a number, as the engine keeps it: `time` is in milliseconds."""
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
    """Takes the rows out of a table of SCHEMA, as `paid` makes them."""
    columns = {name: table[name] for name in table.schema.names}
    if "time" in columns:
        columns["time"] = columns["time"].cast(pa.int64())
    return list(pa.table(columns).to_pylist())


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Puts rows into one order, to be compared."""
    return sorted(tuple(row[name] for name in SCHEMA.names) for row in rows)


def add_file(folder: str | Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes rows into a new file of the ledger, and returns its path."""
    name, content = replies_file(table_of(rows))
    path = files.join(str(folder), name)
    files.write_file(path, content)
    return path


def add_journal(folder: Path, rows: Iterable[Mapping[str, Any]], name: str = "run-1-0", end: bytes = b"") -> Path:
    """Writes the journal of a process that is gone, with rows and whatever follows at its end."""
    path = folder / "_journal" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(journal_line, rows)) + end)
    return path


def rows_of_ledger(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the rows of all files of the ledger."""
    tables = [read_replies(files.read_file(file.path), name=file.name) for file in ledger_files(str(folder))]
    return [row for table in tables for row in rows_in(table)]


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """Reads the rows of all journals, none of whose lines is damaged."""
    found = []
    for path in sorted((folder / "_journal").glob("*.jsonl")):
        table, damaged = read_journal(path.read_bytes())
        assert damaged == 0
        found += rows_in(table)
    return found


ROWS_OF_FILE = [
    paid(n, kind=("task_list", "example")[n % 2], attempt=n % 3, text=f"Antwort {n} äöü 😀" * (n % 4))
    for n in range(40)
]
NAME, CONTENT = replies_file(table_of(ROWS_OF_FILE))


def tree(folder: Path | str) -> list[str]:
    """Lists all files under a folder."""
    if not files.is_local(str(folder)):
        return sorted(path.removeprefix(f"{folder}/") for path in MemFileSystem.objects)
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def rows(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    return [paid(number, **fields) for number in numbers]


def numbered(count: int, start: int = 0, **fields: Any) -> list[dict[str, Any]]:
    return rows(*range(start, start + count), **fields)


def damage(path: str) -> None:
    """Changes a byte of a file where its footer does not notice."""
    content = bytearray(files.read_file(path))
    content[200] ^= 0xFF
    files.write_file(path, bytes(content))


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is done that the code does not do on every way out."""


def killed(*args: Any, **kwargs: Any) -> Any:
    raise Killed
