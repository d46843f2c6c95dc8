"""The ledger's folder: journals folded into Parquet, files that are no part of it set aside, small files merged, and
what is in it all."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from transforms import files
from transforms.ledger import (
    SCHEMA,
    LedgerFileError,
    open_replies,
    read_journal,
    read_replies,
    replies_file,
)
from transforms.ledger_writer import JOURNAL

SET_ASIDE: Final = "_set_aside"
_REASON: Final = ".reason.txt"
_BLOCK_BYTES: Final = 16 << 20  # of a journal, read at once
_FILE_BYTES: Final = 64 << 20  # of replies unpacked: about 16 MB as Parquet
_SMALL_BYTES: Final = 8 << 20  # of a file: compacting leaves larger ones as they are
_READERS: Final = 16  # of file footers; object stores answer slowly, and many at once


# --- which files there are


def ledger_files(folder: str) -> list[files.FoundFile]:
    """The ledger's folder -> its files, by path. What begins with an underscore or a dot is none."""
    return [file for file in files.list_files(folder) if not file.name.startswith(("_", "."))]


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """The files of a ledger, as their footers tell.

    Args:
      found: those that are of a ledger.
      replies: rows in them.
      set_aside: the names of the others, and why each was set aside.
    """

    found: tuple[files.FoundFile, ...]
    replies: int
    set_aside: Mapping[str, str]


def check_files(folder: str) -> Checked:
    """The ledger's folder -> the files in it, after those that are not of a ledger were set aside.

    Raises:
      OSError: a file cannot be read, or not be set aside.
    """
    found = ledger_files(folder)
    with ThreadPoolExecutor(_READERS) as pool:
        told = list(pool.map(_rows_or_problem, (file.path for file in found)))
    aside = {file.name: rows for file, rows in zip(found, told, strict=True) if isinstance(rows, str)}
    for file in found:
        if file.name in aside:
            set_aside(file.path, aside[file.name])
    return Checked(
        found=tuple(file for file in found if file.name not in aside),
        replies=sum(rows for rows in told if isinstance(rows, int)),
        set_aside=aside,
    )


def _rows_or_problem(path: str) -> int | str:
    if not path.endswith(".parquet"):
        return "no Parquet file by its name"
    try:
        with files.open_file(path) as file:
            return int(open_replies(file).metadata.num_rows)
    except FileNotFoundError:  # merged by somebody at this moment
        return 0
    except LedgerFileError as error:
        return str(error)


def set_aside(path: str, reason: str) -> None:
    """A file of the ledger that cannot be used -> moved to `_set_aside`, with the reason beside it. Nothing happens
    where it is gone already.

    Raises:
      OSError: it cannot be moved.
    """
    folder, _, name = path.rpartition("/")
    aside = files.join(folder, SET_ASIDE, name)
    try:
        files.write_file(aside + _REASON, f"{reason}\n".encode())
        files.move_file(path, aside)
    except OSError:
        if files.exists(path):
            raise


def files_set_aside(folder: str) -> dict[str, str]:
    """The ledger's folder -> the name of every file that was ever set aside, and why."""
    found = {}
    for file in files.list_files(files.join(folder, SET_ASIDE), f"*{_REASON}"):
        found[file.name.removesuffix(_REASON)] = files.read_file(file.path).decode("utf-8", "replace").strip()
    return found


# --- journals


@dataclasses.dataclass(frozen=True, slots=True)
class Folded:
    """What became of journals.

    Args:
      journals: folded, and taken away.
      replies: that were in them.
      damaged: lines that could not be read.
      busy: the names of journals of a process that lives, left as they are.
    """

    journals: int = 0
    replies: int = 0
    damaged: int = 0
    busy: tuple[str, ...] = ()


def fold_journals(folder: str) -> Folded:
    """The ledger's folder on a local disk -> its journals turned into Parquet files. A process that is killed while it
    does so leaves some rows twice, which is harmless, and none lost.

    Raises:
      OSError: a file cannot be written; then the journals are left as they are.
    """
    fold = _Fold(folder)
    try:
        for journal in files.list_files(os.path.join(folder, JOURNAL), "*.jsonl"):
            fold.take(journal.path)
        fold.write()
    finally:
        fold.let_go()
    with contextlib.suppress(OSError):  # a process has its journal in it
        os.rmdir(os.path.join(folder, JOURNAL))
    return fold.folded


class _Fold:
    """Journals on their way into Parquet: they are taken away once all of their rows are written."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._read: list[tuple[str, int]] = []  # path and descriptor of journals read to their end
        self.folded = Folded()

    def take(self, path: str) -> None:
        descriptor = _lock(path)
        if descriptor is None:
            self.folded = dataclasses.replace(self.folded, busy=(*self.folded.busy, os.path.basename(path)))
            return
        with open(os.dup(descriptor), "rb") as file:
            for table, damaged in _tables_of(file):
                self.folded = dataclasses.replace(
                    self.folded,
                    replies=self.folded.replies + table.num_rows,
                    damaged=self.folded.damaged + damaged,
                )
                self._tables.append(table)
                self._bytes += table.nbytes
                if self._bytes >= _FILE_BYTES:
                    self.write()
        self._read.append((path, descriptor))

    def write(self) -> None:
        table = pa.concat_tables([SCHEMA.empty_table(), *self._tables])
        if table.num_rows:
            name, content = replies_file(table)
            files.write_file(os.path.join(self._folder, name), content, durable=True)
        self._tables, self._bytes = [], 0
        for path, descriptor in self._read:
            os.unlink(path)
            os.close(descriptor)
        self.folded = dataclasses.replace(self.folded, journals=self.folded.journals + len(self._read))
        self._read = []

    def let_go(self) -> None:
        for _, descriptor in self._read:
            os.close(descriptor)
        self._read = []


def _lock(path: str) -> int | None:
    """A journal -> its open descriptor, locked; None where its process lives, or somebody else has just folded it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
    except OSError:  # of its process, or gone
        pass
    os.close(descriptor)
    return None


def _tables_of(file: Any) -> Iterator[tuple[pa.Table, int]]:
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            yield read_journal(rest + head + newline)
            rest = tail
        else:
            rest += block
    if rest:
        yield read_journal(rest)


# --- merging


@dataclasses.dataclass(frozen=True, slots=True)
class Compacted:
    """What merging did.

    Args:
      before: files that there were.
      after: files that there are.
      duplicates: rows left out, since an earlier row has their request.
    """

    before: int
    after: int
    duplicates: int


def compact(folder: str) -> Compacted:
    """The ledger's folder -> its small files merged into larger ones. The new file stands there whole before the old
    ones go, so whoever is killed in between leaves rows twice, which is harmless, and loses none. No run may be under
    way: it would look for files that are gone.

    Raises:
      OSError: a file cannot be read or written.
    """
    found = check_files(folder).found
    before, duplicates = len(found), 0
    group: list[tuple[str, pa.Table]] = []
    size = 0
    for file in [file for file in found if file.bytes < _SMALL_BYTES]:
        try:
            table = read_replies(files.read_file(file.path))
        except LedgerFileError as error:
            set_aside(file.path, str(error))
            continue
        if group and size + table.nbytes > _FILE_BYTES:
            duplicates += _merge(folder, group)
            group, size = [], 0
        group.append((file.path, table))
        size += table.nbytes
    duplicates += _merge(folder, group)
    return Compacted(before, len(ledger_files(folder)), duplicates)


def _merge(folder: str, group: Sequence[tuple[str, pa.Table]]) -> int:
    if len(group) < 2:
        return 0
    table = pa.concat_tables([table for _, table in group])
    kept = first_of_each(table)
    name, content = replies_file(kept)
    path = files.join(folder, name)
    files.write_file(path, content, durable=True)
    if read_replies(files.read_file(path)).num_rows != kept.num_rows:
        raise OSError(f"{path} does not hold what was written to it")
    files.delete_files(old for old, _ in group if old.rpartition("/")[2] != name)
    return int(table.num_rows - kept.num_rows)


def first_of_each(table: pa.Table) -> pa.Table:
    """Replies -> the earliest to each request, ties by text: the one that a run takes."""
    ordered = table.sort_by([("request_id", "ascending"), ("time", "ascending"), ("text", "ascending")])
    if ordered.num_rows < 2:
        return ordered
    ids = pa.concat_arrays(ordered["request_id"].chunks)
    is_other = pc.not_equal(ids[1:], ids[:-1])
    return ordered.filter(pa.concat_arrays([pa.array([True]), is_other]))


# --- what is in it


@dataclasses.dataclass(slots=True)
class Held:
    """What a ledger holds of one model and label.

    Args:
      replies: rows; one request may have several.
      prompt_tokens: of all.
      output_tokens: of all.
      files: that hold some of them.
    """

    replies: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    files: int = 0


@dataclasses.dataclass(slots=True)
class Contents:
    """What a ledger holds.

    Args:
      held: by label and model.
      files: Parquet files, and their bytes.
      journals: replies that wait in journals, of runs that are under way or were killed.
      set_aside: files that could not be read, and why.
    """

    held: dict[tuple[str, str], Held]
    files: int
    bytes: int
    journals: int
    set_aside: dict[str, str]


def contents(folder: str) -> Contents:
    """The ledger's folder -> what it holds. It reads a few columns of every file, one file at a time, and changes
    nothing but that files which are not of a ledger are set aside.

    Raises:
      OSError: a file cannot be read.
    """
    found = check_files(folder).found
    held: dict[tuple[str, str], Held] = collections.defaultdict(Held)
    columns = ["refresh", "model", "prompt_tokens", "output_tokens"]
    for file in found:
        try:
            table = read_replies(files.read_file(file.path), columns)
        except FileNotFoundError:
            continue
        except LedgerFileError as error:
            set_aside(file.path, str(error))
            continue
        _add(held, table, is_file=True)
    waiting = 0
    if files.is_local(folder):
        for journal in files.list_files(os.path.join(folder, JOURNAL), "*.jsonl"):
            with contextlib.suppress(FileNotFoundError), Path(journal.path).open("rb") as lines:
                for table, _ in _tables_of(lines):
                    waiting += table.num_rows
                    _add(held, table.select(columns), is_file=False)
    return Contents(dict(held), len(found), sum(file.bytes for file in found), waiting, files_set_aside(folder))


def _add(held: dict[tuple[str, str], Held], table: pa.Table, *, is_file: bool) -> None:
    groups = table.group_by(["refresh", "model"]).aggregate(
        [("prompt_tokens", "sum"), ("output_tokens", "sum"), ([], "count_all")]
    )
    for row in groups.to_pylist():
        of_model = held[row["refresh"], row["model"]]
        of_model.replies += row["count_all"]
        of_model.prompt_tokens += row["prompt_tokens_sum"]
        of_model.output_tokens += row["output_tokens_sum"]
        of_model.files += is_file
