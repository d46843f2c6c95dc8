"""Writing the ledger while a run is under way: each process keeps what it pays for, from the moment that it arrives.

On a local disk a reply is appended to a journal, with one system call: SIGKILL loses nothing that has arrived. Object
stores cannot append; there replies wait in memory for at most 30 seconds or until there are 256, and become a file.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
from textmint.transforms.core.errors import system_reason
from textmint.transforms.ledger.journal import JOURNAL, journal_line
from textmint.transforms.ledger.table import SCHEMA, replies_file
from textmint.transforms.storage import files
from textmint.transforms.storage.lease import JobLease

_LOG = logging.getLogger("textmint")
_SYNC_SECONDS: Final = 1.0  # that a power cut may cost; SIGKILL costs nothing
_ROOM_BYTES: Final = 1 << 16  # that there must be on a disk, for some tens of replies
_COPY_BYTES: Final = 1 << 20
_BATCH_REPLIES: Final = 256
_BATCH_SECONDS: Final = 30.0
_MOST_WAITING: Final = 2 * _BATCH_REPLIES  # one batch is being written, and another has come together meanwhile
_LONGEST_SECONDS: Final = 2 * _BATCH_SECONDS
_CLOSE_SECONDS: Final = 30.0  # for the last replies of a run that was stopped, or has failed
_TRY_AGAIN_SECONDS: Final = (1.0, 4.0, 10.0)  # after each try to write a file to an object store but the last
_CLOSED: Final = "it is closed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the replies of a run are kept.

    Args:
      folder: a path or URL.
      refresh: of the run.
      run_id: names the run's journals; no row depends on it.
      lease: of the refresh; None where the launcher holds it, not the job.
    """

    folder: str
    refresh: str
    run_id: str
    lease: JobLease | None = None


def open_writer(ledger: Ledger) -> LedgerWriter:
    """Opens what keeps the replies of this process, after a test that it can write there.

    The methods of a writer are safe in any thread, and raise an OSError where what was appended cannot be kept.
    """
    return Journal(ledger) if files.is_local(ledger.folder) else ReplyBatches(ledger)


def now_ms() -> int:
    """Returns the time for the column `time`, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Journal:
    """An append-only file of this process, locked as long as the process lives, so that nobody merges it too early."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._numbers = itertools.count()
        self._path, self._descriptor = self._new_file()
        self._size = 0
        self._lock = threading.Lock()
        self._failure: OSError | None = None
        self._unsynced = threading.Event()
        self._is_closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync_now_and_then, name="ledger-sync", daemon=True)
        self._syncing.start()

    def _new_file(self) -> tuple[str, int]:
        folder = os.path.join(self._ledger.folder, JOURNAL)
        while True:
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, f"{self._ledger.run_id}-{os.getpid()}-{next(self._numbers)}.jsonl")
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            except (FileExistsError, FileNotFoundError):  # of an engine before; or the folder was cleared up meanwhile
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(path, descriptor):  # nobody merged it in between
                    _write_all(descriptor, b"\n" * _ROOM_BYTES)  # a full disk takes new files, if they are empty
                    os.ftruncate(descriptor, 0)
                    return path, descriptor
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _restore(self) -> None:
        """Writes the journal again where somebody has deleted or moved it; its descriptor still has the replies."""
        if _is_at(self._path, self._descriptor):
            return
        path, descriptor = self._new_file()
        try:
            done = 0
            while done < self._size:
                block = os.pread(self._descriptor, _COPY_BYTES, done)
                if not block:
                    raise OSError(f"{self._path} is gone, and cannot be read any more")
                done += len(block)
                _write_all(descriptor, block)
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        _LOG.warning("%s was taken away while the run is under way; it is written again", self._path)
        os.close(self._descriptor)
        self._path, self._descriptor = path, descriptor

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes the line of a reply, by column of `table.SCHEMA` with `time` in milliseconds, with one system call."""
        line = journal_line(row)
        with self._lock:
            if self._is_closed.is_set():  # its descriptor may be that of another file by now
                raise OSError(_CLOSED)
            self._raise_failure()
            self._restore()
            try:
                _write_all(self._descriptor, line)
            except OSError:
                os.ftruncate(self._descriptor, self._size)  # half a line would swallow the next one
                raise
            self._size += len(line)
        self._unsynced.set()

    def is_behind(self) -> bool:
        """Returns False: what was appended is written, so more may be paid for."""
        self._raise_failure()
        return False

    def flush(self) -> None:
        """Checks that the journal is in its place: what was appended is written."""
        self._raise_failure()
        with self._lock:
            if self._size and not self._is_closed.is_set():
                self._restore()

    def close(self) -> None:
        """Syncs the file to the disk and unlocks it; an empty one is deleted."""
        with self._lock:
            if self._is_closed.is_set():
                return
            self._is_closed.set()
        self._unsynced.set()
        self._syncing.join()
        try:
            if self._size:
                self._restore()
                os.fsync(self._descriptor)
            else:
                files.delete_files([self._path])
        finally:
            os.close(self._descriptor)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _sync_now_and_then(self) -> None:
        while not self._is_closed.wait(_SYNC_SECONDS):
            self._unsynced.wait()
            self._unsynced.clear()
            try:
                with self._lock:  # it may become another descriptor
                    if self._is_closed.is_set():
                        return
                    descriptor = os.dup(self._descriptor)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                self._failure = error
                return


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class ReplyBatches:
    """Replies gathered in memory, and written as a file of their own on a thread of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._folder = ledger.folder
        # Workers in containers often have the same process id, and stores refuse many writes of one object.
        probe = files.join(self._folder, f"_write-test-{ledger.run_id}-{socket.gethostname()}-{os.getpid()}")
        files.write_file(probe, b"textmint")
        files.delete_files([probe])
        self._rows: collections.deque[tuple[float, Mapping[str, Any]]] = collections.deque()  # and when each came
        self._changed = threading.Condition()
        self._appended = 0
        self._written = 0
        self._wanted = 0  # of what was appended, how much is to be written at once
        self._is_closing = False
        self._failure: OSError | None = None
        self._lost = 0  # replies that came after the failure
        self._thread = threading.Thread(target=self._write_batches, name="ledger-writer", daemon=True)
        self._thread.start()

    def append(self, row: Mapping[str, Any]) -> None:
        """Hands the reply to the writing thread."""
        with self._changed:
            if self._failure is not None:
                self._lost += 1
                self._raise_failure()
            if self._is_closing:  # nobody would write it
                raise OSError(_CLOSED)
            self._rows.append((time.monotonic(), row))
            self._appended += 1
            if len(self._rows) == 1 or len(self._rows) >= _BATCH_REPLIES:
                self._changed.notify_all()

    def is_behind(self) -> bool:
        """Says whether more waits than two batches, or for longer: then no more should be paid for."""
        with self._changed:
            self._raise_failure()
            if not self._rows:
                return False
            return len(self._rows) >= _MOST_WAITING or time.monotonic() - self._rows[0][0] > _LONGEST_SECONDS

    def flush(self) -> None:
        """Has all replies written now, and waits for that."""
        with self._changed:
            wanted = self._wanted = self._appended
            self._changed.notify_all()
            while self._written < wanted and self._failure is None:
                self._changed.wait()
            self._raise_failure()

    def close(self) -> None:
        """Writes what waits, and ends the thread."""
        with self._changed:
            is_first = not self._is_closing
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)
        with self._changed:
            if self._failure is None and self._thread.is_alive():
                self._failure = OSError(f"the store has not taken them within {_CLOSE_SECONDS:.0f} s")
            if is_first:
                self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            count = len(self._rows) + self._lost
            kept = "1 reply that was paid for is" if count == 1 else f"{count:,} replies that were paid for are"
            raise OSError(f"{system_reason(self._failure)}; {kept} not kept") from self._failure

    def _write_batches(self) -> None:
        while (batch := self._next_batch()) is not None:
            failure = self._write(batch)
            with self._changed:
                self._changed.notify_all()
                if failure is not None:
                    self._failure = failure
                    return
                for _ in batch:
                    self._rows.popleft()
                self._written += len(batch)

    def _next_batch(self) -> list[Mapping[str, Any]] | None:
        with self._changed:
            while True:
                left = self._rows[0][0] + _BATCH_SECONDS - time.monotonic() if self._rows else None
                if left is not None:
                    is_wanted = self._is_closing or self._written < self._wanted
                    if is_wanted or len(self._rows) >= _BATCH_REPLIES or left <= 0:
                        return [row for _, row in self._rows]
                elif self._is_closing:
                    return None
                self._changed.wait(left)

    def _write(self, batch: list[Mapping[str, Any]]) -> OSError | None:
        """Writes a file of replies, and returns the error of the last of several tries."""
        failure: Exception | None = None
        for pause in (0.0, *_TRY_AGAIN_SECONDS):
            time.sleep(pause)
            try:
                name, content = replies_file(pa.Table.from_pylist(batch, schema=SCHEMA))
                files.write_file(files.join(self._folder, name), content)
                return None
            except Exception as error:  # each client of an object store has its own
                failure = error
        return failure if isinstance(failure, OSError) else OSError(f"{type(failure).__name__}: {failure}")


LedgerWriter = Journal | ReplyBatches
"""What keeps the replies of one process."""
