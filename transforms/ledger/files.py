"""The ledger's folder: journals folded into Parquet, files that are no part of it set aside, small files merged, and
what is in it all."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from textmint.transforms.core.texts import clean_text
from textmint.transforms.ledger.table import (
    FIRST_BY,
    FOOTER_BYTES,
    SCHEMA,
    LedgerFileError,
    Paid,
    is_name,
    name_for,
    open_replies,
    paid_in,
    paid_told,
    read_journal,
    read_replies,
    replies_file,
    salvage,
)
from textmint.transforms.ledger.writer import JOURNAL
from textmint.transforms.storage import files

SET_ASIDE: Final = "_set_aside"
_REASON: Final = ".reason.txt"
_NAME_BYTES: Final = 255  # that a file's name may have on most disks
_BLOCK_BYTES: Final = 16 << 20  # of a journal, read at once
_FILE_BYTES: Final = 64 << 20  # of replies unpacked: about 16 MB as Parquet
_SMALL_BYTES: Final = 8 << 20  # of a file: compacting leaves larger ones as they are
_CHECKERS: Final = 4  # of whole files
_READERS: Final = 16  # of file footers; object stores answer slowly, and many at once


# --- which files there are


def ledger_files(folder: str) -> list[files.FoundFile]:
    """The ledger's folder -> its files, by path. What begins with an underscore or a dot is none."""
    return [file for file in files.list_files(folder) if not file.name.startswith(("_", "."))]


@dataclasses.dataclass(frozen=True, slots=True)
class Damaged:
    """What is wrong with a file that held replies.

    Args:
      reason: in a few words.
      kept: its replies that are whole.
      lost: those that are not; None where that is not known, since nothing of the file can be read.
    """

    reason: str
    kept: int = 0
    lost: int | None = None

    def __str__(self) -> str:
        if self.lost is None:
            return self.reason
        return f"damaged: {self.kept:,} of its {self.kept + self.lost:,} replies are whole"


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """The files of a ledger.

    Args:
      found: those that are of a ledger.
      paid: how many replies are in them, by label and kind.
      set_aside: the names of the others, and why each was set aside.
      damaged: the names of files that held replies which are lost now. They were left as they are, unless they are in
        `set_aside` too.
    """

    found: tuple[files.FoundFile, ...]
    paid: Paid
    set_aside: Mapping[str, str]
    damaged: Mapping[str, Damaged] = dataclasses.field(default_factory=dict)

    @property
    def replies(self) -> int:
        """-> rows in the files."""
        return self.paid.total()


def check_files(folder: str, *, mend: bool = True, thorough: bool | None = None) -> Checked:
    """Looks at the files of a ledger, and sets aside those that are not of one.

    Args:
      folder: the ledger's.
      mend: whether what is whole in a damaged file is kept in a new one, and the damaged one set aside; otherwise it is
        told and stays as it is.
      thorough: whether each file is read to its end, as it is on a local disk. Otherwise its footer must do, and who
        reads the file finds out.

    Returns:
      What was found. A file that another tool or an earlier version wrote under a name of its own has got one that
      tells from then on whether it is whole.

    Raises:
      OSError: a file cannot be read, or not be written or set aside.
    """
    thorough = files.is_local(folder) if thorough is None else thorough
    found = ledger_files(folder)
    with ThreadPoolExecutor(_CHECKERS if thorough else _READERS) as pool:
        looks = list(pool.map(functools.partial(_look_at, thorough=thorough), found))
    kept: list[files.FoundFile] = []
    paid: Paid = collections.Counter()
    aside: dict[str, str] = {}
    damaged: dict[str, Damaged] = {}
    for file, (there, told) in zip(found, looks, strict=True):
        if isinstance(told, Damaged):
            damaged[file.name] = told
            if mend:
                rest, told = _mend(file, told.reason)
                damaged[file.name] = told
                if rest is None or rest[0].path != file.path:
                    aside[file.name] = str(told)
                if rest is not None:
                    kept.append(rest[0])
                    paid += rest[1]
        elif isinstance(told, str):
            aside[file.name] = told
            set_aside(file.path, told)
        else:
            kept.append(there)
            paid += told
    return Checked(found=tuple(sorted(set(kept))), paid=paid, set_aside=aside, damaged=damaged)


def _look_at(file: files.FoundFile, *, thorough: bool) -> tuple[files.FoundFile, Paid | Damaged | str]:
    """-> the file, which may have got another name, and what is in it, or why it is not of a ledger."""
    if not file.name.endswith(".parquet"):
        return file, "no Parquet file by its name"
    try:
        try:
            end = files.read_end(file.path, FOOTER_BYTES)
            footer = int.from_bytes(end[-8:-4], "little") + 8  # its length and "PAR1" end the file
            if footer > len(end) == FOOTER_BYTES:
                end = files.read_end(file.path, footer)
            opened = open_replies(end)
            paid = paid_told(opened)
        except LedgerFileError as error:
            return file, damage_of(files.read_file(file.path), file.name, str(error)) if is_name(file.name) else str(
                error
            )
        is_ours = is_name(file.name)
        if paid is not None and not thorough:
            return file, paid
        content = files.read_file(file.path)
        if is_ours and paid is not None and name_for(content) == file.name:
            return file, paid
        try:
            if is_ours or paid is not None:
                return file, paid_in(read_replies(content, ["refresh", "kind"], name=file.name))
            table = read_replies(content)
        except LedgerFileError as error:
            return file, damage_of(content, file.name, str(error)) if is_ours or paid is not None else str(error)
        return _take_in(file, table), paid_in(table)
    except FileNotFoundError:  # merged by somebody at this moment
        return file, collections.Counter()


def _take_in(file: files.FoundFile, table: pa.Table) -> files.FoundFile:
    """Nothing tells whether the file is what was written; from now on something does."""
    found = _write(file.path.rpartition("/")[0], table)
    files.delete_files([file.path])
    return found


def _write(folder: str, table: pa.Table) -> files.FoundFile:
    name, content = replies_file(table)
    path = files.join(folder, name)
    files.write_file(path, content, durable=True)
    return files.FoundFile(path, len(content))


def damage_of(content: bytes, name: str, reason: str) -> Damaged:
    """Tells how much of a damaged file is whole.

    Args:
      content: of the file.
      name: of the file.
      reason: what is known to be wrong with it.
    """
    try:
        table, lost = salvage(content, name)
    except LedgerFileError as error:
        return Damaged(reason if str(error) in reason else f"{reason} ({error})")
    return Damaged(reason, table.num_rows, lost)


def _mend(file: files.FoundFile, reason: str) -> tuple[tuple[files.FoundFile, Paid] | None, Damaged]:
    """Keeps what is whole in a damaged file in a new one, and sets the damaged one aside."""
    found = None
    told = Damaged(reason)
    with contextlib.suppress(LedgerFileError, FileNotFoundError):
        table, lost = salvage(files.read_file(file.path), file.name)
        told = Damaged(reason, table.num_rows, lost)
        if table.num_rows:
            found = _write(file.path.rpartition("/")[0], table), paid_in(table)
    if found is None or found[0].path != file.path:  # else it was one wrong bit in its end
        set_aside(file.path, str(told))
    return found, told


def set_aside(path: str, reason: str) -> None:
    """A file of the ledger that cannot be used -> moved to `_set_aside`, with the reason beside it. Nothing happens
    where it is gone already.

    Raises:
      OSError: it cannot be moved.
    """
    _set_aside(path.rpartition("/")[0], path, reason)


def _set_aside(folder: str, path: str, reason: str) -> None:
    name = path.rpartition("/")[2]
    aside = files.join(folder, SET_ASIDE, name)
    told = files.join(folder, SET_ASIDE, _reason_name(name))
    try:
        files.write_file(told, f"{clean_text(reason)}\n".encode())
        files.move_file(path, aside)
    except OSError:
        if files.exists(path):
            raise
        if not files.exists(aside):  # it was not set aside by somebody else: it is merged, or deleted
            files.delete_files([told])


def _reason_name(name: str) -> str:
    """The name of a file -> that of its reason."""
    encoded = os.fsencode(name)
    if len(encoded) + len(_REASON) > _NAME_BYTES:
        cut = encoded[: _NAME_BYTES // 2].decode("utf-8", "ignore")
        name = f"{cut}-{hashlib.blake2b(encoded, digest_size=10).hexdigest()}"
    return name + _REASON


def files_set_aside(folder: str) -> dict[str, str]:
    """The ledger's folder -> the name of every file that was ever set aside, and why."""
    found = {}
    for file in files.list_files(files.join(folder, SET_ASIDE), f"*{_REASON}"):
        name = clean_text(file.name.removesuffix(_REASON))  # a name on a disk can be any bytes
        found[name] = files.read_file(file.path).decode("utf-8", "replace").strip()
    return found


# --- journals


@dataclasses.dataclass(frozen=True, slots=True)
class Folded:
    """What became of journals.

    Args:
      journals: folded, and taken away.
      replies: that were in them.
      damaged: lines that could not be read. A journal in which one of them is whole, and so was written by another
        version, or is broken, is set aside and not taken away.
      busy: the names of journals of a process that lives, left as they are.
      left: the names of journals with a whole line that cannot be read, left as they are, and how many.
    """

    journals: int = 0
    replies: int = 0
    damaged: int = 0
    busy: tuple[str, ...] = ()
    left: Mapping[str, int] = dataclasses.field(default_factory=dict)


def merge_journals(folder: str, *, mend: bool = True) -> Folded:
    """Turns the journals of a ledger on a local disk into Parquet files. A process that is killed while it does so
    leaves some rows twice, which is harmless, and none lost.

    Args:
      folder: the ledger's.
      mend: whether a journal with whole lines that cannot be read is set aside, after its others were kept; otherwise
        it is told and stays as it is.

    Raises:
      OSError: a file cannot be written; then the journals are left as they are.
    """
    fold = _Fold(folder, mend)
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

    def __init__(self, folder: str, mend: bool) -> None:
        self._folder = folder
        self._mend = mend
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._read: list[tuple[str, int, int]] = []  # journals read to their end: path, descriptor, whole lines damaged
        self.folded = Folded()

    def take(self, path: str) -> None:
        descriptor = _lock(path)
        if descriptor is None:
            if not os.path.exists(path):  # somebody else has just folded it
                return
            self.folded = dataclasses.replace(self.folded, busy=(*self.folded.busy, os.path.basename(path)))
            return
        try:
            before, tables = self.folded, len(self._tables)
            damaged = self._take(descriptor)
        except BaseException:
            os.close(descriptor)  # and unlocked
            raise
        if damaged and not self._mend:
            del self._tables[tables:]  # what of it is written already is in the ledger twice some day
            self.folded = dataclasses.replace(before, left={**before.left, os.path.basename(path): damaged})
            os.close(descriptor)
            return
        self._read.append((path, descriptor, damaged))

    def _take(self, descriptor: int) -> int:
        whole = 0
        with open(os.dup(descriptor), "rb") as file:
            for table, damaged, is_half in _tables_of(file):
                self.folded = dataclasses.replace(
                    self.folded,
                    replies=self.folded.replies + table.num_rows,
                    damaged=self.folded.damaged + damaged,
                )
                whole += 0 if is_half else damaged
                self._tables.append(table)
                self._bytes += table.nbytes
                if self._bytes >= _FILE_BYTES:
                    self.write()
        return whole

    def write(self) -> None:
        table = pa.concat_tables([SCHEMA.empty_table(), *self._tables])
        if table.num_rows:
            name, content = replies_file(table)
            files.write_file(os.path.join(self._folder, name), content, durable=True)
        self._tables, self._bytes = [], 0
        while self._read:
            path, descriptor, damaged = self._read[-1]
            if damaged:
                _set_aside(self._folder, path, f"{damaged} of its lines cannot be read; the others are in the ledger")
            else:
                files.delete_files([path])
            self._read.pop()
            os.close(descriptor)
            self.folded = dataclasses.replace(self.folded, journals=self.folded.journals + 1)

    def let_go(self) -> None:
        while self._read:
            os.close(self._read.pop()[1])


def _lock(path: str) -> int | None:
    """A journal -> its open descriptor, locked; None where its process lives, or somebody else has just folded it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "a journal that is a link; take it away", path) from None
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
    except OSError:  # of its process, or gone
        pass
    os.close(descriptor)
    return None


def _tables_of(file: Any) -> Iterator[tuple[pa.Table, int, bool]]:
    """A journal -> tables of its replies, with how many lines cannot be read, and whether that is the half line at its
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


def paid_in_journals(folder: str) -> Paid:
    """Counts the replies that wait in the journals of a ledger on a local disk, be they of processes that live."""
    paid: Paid = collections.Counter()
    for journal in files.list_files(os.path.join(folder, JOURNAL), "*.jsonl"):
        with contextlib.suppress(FileNotFoundError), Path(journal.path).open("rb") as lines:
            for table, _, _ in _tables_of(lines):
                paid += paid_in(table)
    return paid


# --- merging


@dataclasses.dataclass(frozen=True, slots=True)
class Compacted:
    """What merging did.

    Args:
      before: files that there were.
      after: files that there are.
      left_out: how many rows, by label and kind, since an earlier row has their request.
    """

    before: int
    after: int
    left_out: Paid

    @property
    def duplicates(self) -> int:
        """-> how many rows were left out."""
        return self.left_out.total()


def compact(folder: str) -> Compacted:
    """The ledger's folder -> its small files merged into larger ones. The new file stands there whole before the old
    ones go, so whoever is killed in between leaves rows twice, which is harmless, and loses none. No run may be under
    way: it would look for files that are gone.

    Raises:
      OSError: a file cannot be read or written.
    """
    found = check_files(folder).found
    before = len(found)
    left_out: Paid = collections.Counter()
    group: list[tuple[str, pa.Table]] = []
    size = 0
    for file in [file for file in found if file.bytes < _SMALL_BYTES]:
        try:
            table = read_replies(files.read_file(file.path), name=file.name)
        except LedgerFileError as error:
            _mend(file, str(error))
            continue
        if group and size + table.nbytes > _FILE_BYTES:
            left_out += _merge(folder, group)
            group, size = [], 0
        group.append((file.path, table))
        size += table.nbytes
    left_out += _merge(folder, group)
    return Compacted(before, len(ledger_files(folder)), left_out)


def _merge(folder: str, group: Sequence[tuple[str, pa.Table]]) -> Paid:
    if len(group) < 2:
        return collections.Counter()
    table = pa.concat_tables([table for _, table in group])
    kept = first_of_each(table)
    name, content = replies_file(kept)
    path = files.join(folder, name)
    files.write_file(path, content, durable=True)
    if files.read_file(path) != content:
        raise OSError(f"{path} does not hold what was written to it")
    files.delete_files(old for old, _ in group if old.rpartition("/")[2] != name)
    return paid_in(table) - paid_in(kept)


def first_of_each(table: pa.Table) -> pa.Table:
    """Replies -> the earliest to each request: the one that a run takes, see `ledger.paid_replies`."""
    ordered = table.sort_by([(name, "ascending") for name in ("request_id", "time", *FIRST_BY)])
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
    found = list(check_files(folder).found)
    held: dict[tuple[str, str], Held] = collections.defaultdict(Held)
    columns = ["refresh", "model", "prompt_tokens", "output_tokens"]
    for file in tuple(found):
        try:
            table = read_replies(files.read_file(file.path), columns, name=file.name)
        except FileNotFoundError:
            found.remove(file)
            continue
        except LedgerFileError as error:
            found.remove(file)
            rest, _ = _mend(file, str(error))
            if rest is None:
                continue
            found.append(rest[0])
            table = read_replies(files.read_file(rest[0].path), columns, name=rest[0].name)
        _add(held, table, is_file=True)
    waiting = 0
    if files.is_local(folder):
        for journal in files.list_files(os.path.join(folder, JOURNAL), "*.jsonl"):
            with contextlib.suppress(FileNotFoundError), Path(journal.path).open("rb") as lines:
                for table, _, _ in _tables_of(lines):
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
