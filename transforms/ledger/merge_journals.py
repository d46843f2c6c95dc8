"""Journals of processes that are gone, merged into Parquet files of the ledger."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import fcntl
import os
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
from textmint.transforms.ledger.files import set_aside
from textmint.transforms.ledger.journal import JOURNAL, journals_in, tables_of, waiting_replies
from textmint.transforms.ledger.table import SCHEMA, Paid, paid_in, write_replies
from textmint.transforms.storage import files

FILE_BYTES: Final = 64 << 20
"""Of replies that become one file: about 16 MB as Parquet."""


@dataclasses.dataclass(slots=True)
class MergedJournals:
    """What became of journals.

    Args:
      journals: merged, and deleted or set aside.
      replies: in these.
      damaged: lines that could not be read.
      busy: the names of journals of living processes, which stay as they are.
      left: the names of journals with whole lines that cannot be read, which stay as they are, and how many lines.
    """

    journals: int = 0
    replies: int = 0
    damaged: int = 0
    busy: tuple[str, ...] = ()
    left: Mapping[str, int] = dataclasses.field(default_factory=dict)


def merge_journals(folder: str, *, mend: bool = True) -> MergedJournals:
    """Turns the journals of a ledger on a local disk into Parquet files. A process that is killed while it does so
    leaves some rows twice, which is harmless, and none lost.

    Args:
      folder: the ledger's.
      mend: whether a journal with whole lines that cannot be read is set aside, after the others were kept; otherwise
        it is reported and stays as it is.
    """
    merge = _Merge(folder, mend)
    try:
        for journal in journals_in(folder):
            merge.add(journal.path)
        merge.write()
    finally:
        merge.release()
    with contextlib.suppress(OSError):  # a process has its journal in it
        os.rmdir(os.path.join(folder, JOURNAL))
    return merge.result


def paid_in_journals(folder: str) -> Paid:
    """Counts the replies in the journals of a ledger on a local disk, also those of living processes."""
    paid: Paid = collections.Counter()
    for table in waiting_replies(folder):
        paid.update(paid_in(table))
    return paid


class _Merge:
    """Journals on their way into Parquet: they are deleted once all of their rows are written."""

    def __init__(self, folder: str, mend: bool) -> None:
        self._folder = folder
        self._mend = mend
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._read: list[tuple[str, int, int]] = []  # journals read to their end: path, descriptor, whole lines damaged
        self.result = MergedJournals()

    def add(self, path: str) -> None:
        name = os.path.basename(path)
        descriptor = _lock(path)
        if descriptor is None:
            if os.path.exists(path):  # else somebody else has just merged it
                self.result.busy += (name,)
            return
        before, tables = dataclasses.replace(self.result), len(self._tables)
        try:
            damaged = self._read_lines(descriptor)
        except BaseException:
            os.close(descriptor)  # and unlocked
            raise
        if damaged and not self._mend:
            del self._tables[tables:]  # what of it is written already is in the ledger twice some day
            self.result = dataclasses.replace(before, left={**before.left, name: damaged})
            os.close(descriptor)
            return
        self._read.append((path, descriptor, damaged))

    def _read_lines(self, descriptor: int) -> int:
        damaged_lines = 0
        with open(os.dup(descriptor), "rb") as file:
            for table, damaged, is_half in tables_of(file):
                self.result.replies += table.num_rows
                self.result.damaged += damaged
                damaged_lines += 0 if is_half else damaged
                self._tables.append(table)
                self._bytes += table.nbytes
                if self._bytes >= FILE_BYTES:
                    self.write()
        return damaged_lines

    def write(self) -> None:
        table = pa.concat_tables([SCHEMA.empty_table(), *self._tables])
        if table.num_rows:
            write_replies(self._folder, table)
        self._tables, self._bytes = [], 0
        while self._read:
            path, descriptor, damaged = self._read[-1]
            if damaged:
                reason = f"{damaged} of its lines cannot be read; the others are in the ledger"
                set_aside(path, reason, folder=self._folder)
            else:
                files.delete_files([path])
            self._read.pop()
            os.close(descriptor)
            self.result.journals += 1

    def release(self) -> None:
        while self._read:
            os.close(self._read.pop()[1])


def _lock(path: str) -> int | None:
    """Opens and locks a journal; None where its process lives, or somebody else has just merged it."""
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
