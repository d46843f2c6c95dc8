"""Leases: one run at a time for a refresh of a dataset folder, wherever the folder is.

    OUTPUT/_leases/NAME.json    who holds it, and until when

A holder renews its lease from time to time. An expired one can be taken over; so can, at once, the lease of a process
of this machine that has ended. On a local disk the file is locked as well. On gs:// a lease is written on the condition
that nobody has written it since it was read. On other stores a new holder writes its lease, waits and reads it again,
so that the last writer keeps it. A run checks its lease once more before it publishes (`require`).

Where the work goes on after the launcher has ended (a Dataflow job), the launcher hands its lease over to the job
(`Held.hand_over`). The job's worker processes renew it (`keep`), and whoever publishes gives it back (`release`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from textmint.transforms.core.errors import FileChangedError
from textmint.transforms.core.temporary import is_alive
from textmint.transforms.storage import files, gcs

FOLDER: Final = "_leases"
_LOG = logging.getLogger("textmint")
_SECONDS: Final = 180.0  # that a lease is valid without being renewed
_RENEW_SECONDS: Final = 30.0
_JOB_SECONDS: Final = 1_800.0  # that a job's lease is valid: its workers come and go
_LONGEST_SECONDS: Final = 86_400.0  # a day; no run asks for more than an hour or two
_LOOK_SECONDS: Final = 60.0  # between two looks of a worker process at its job's lease
_PATIENCE_SECONDS: Final = 20.0  # for a store that does not answer; a renewal is tried again soon
_PATIENCE_AT_END_SECONDS: Final = 3.0  # a lease that stays behind does no harm: it expires
SETTLE_SECONDS = 2.0  # between a lease written to an object store and the second look; what a slow write may take


class LeaseTakenError(Exception):
    """Somebody else holds the lease; the message says who, and until when."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The holder of a lease.

    Args:
      owner: the holder's own name for itself, such as the id of its run.
      host: its machine; of a job that works on many, the name of the job.
      process: its process id there; 0 for a job.
      expires: seconds since 1970.
    """

    owner: str
    host: str
    process: int
    expires: float

    def __str__(self) -> str:
        until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.expires))
        who = f"process {self.process} on {self.host}" if self.process else self.host
        return f"{who}, lease until {until} unless renewed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobLease:
    """What the workers of a job must know of the job's lease: the arguments with which the launcher took it."""

    output: str
    name: str
    owner: str


class Held:
    """A lease on an object store, while the `with` block of `hold` runs."""

    def __init__(self, output: str, name: str, owner: str) -> None:
        self.path = path_of(output, name)
        self._owner = owner
        self._lock = threading.Lock()
        self.is_handed_over = False

    def hand_over(self, job: str, seconds: float) -> None:
        """Leaves the lease to a job: this process no longer renews it, and the end of the block does not give it back.

        Args:
          job: its name, for whoever is refused.
          seconds: from now until its workers must have renewed it.

        Raises:
          LeaseTakenError: somebody else has taken it over.
          OSError: it cannot be written.
          ValueError: it is on a local disk, where a lease ends with its process.
        """
        if files.is_local(self.path):
            raise ValueError(self.path)
        with self._lock:
            self._rewrite(_content(self._owner, job, seconds))
            self.is_handed_over = True

    def take_back(self) -> None:
        """Takes the lease back from a job that has ended or never began: the end of the block gives it back."""
        with self._lock:
            self.is_handed_over = False

    def renew(self) -> None:
        """Renews the lease, unless a job has it."""
        with self._lock:
            if not self.is_handed_over:
                self._rewrite(_content(self._owner))

    def _rewrite(self, content: bytes) -> None:
        old, generation = files.read_version(self.path, patience=_PATIENCE_SECONDS)
        _refuse_others(_parse(old), self._owner, self.path)
        files.write_version(self.path, content, generation, patience=_PATIENCE_SECONDS)


def path_of(output: str, name: str) -> str:
    """Returns the path of the file of a lease."""
    return files.join(output, FOLDER, f"{name}.json")


@contextlib.contextmanager
def hold(output: str, name: str, owner: str) -> Iterator[Held]:
    """Holds a lease while the `with` block runs: nobody else can have it.

    Args:
      output: the dataset folder.
      name: what is leased.
      owner: tells this holder from others of the same process.

    Raises:
      LeaseTakenError: somebody else holds it.
      OSError: it cannot be written.
    """
    held = Held(output, name, owner)
    if files.is_local(output):
        with _locked(output, name, owner) as descriptor:

            def overwrite() -> None:
                require(output, name, owner)  # locks of a network's file system may not reach all machines
                _overwrite(descriptor, _content(owner))

            os.ftruncate(descriptor, 0)
            _overwrite(descriptor, _content(owner))
            with _renewed(overwrite):
                yield held
        return
    path = held.path
    while True:
        content, generation = files.read_version(path)
        _refuse_others(_if_current(_parse(content)), owner, path)
        with contextlib.suppress(FileChangedError):  # by somebody else; or the answer to our own write was lost
            files.write_version(path, _content(owner), generation)
            break
    try:
        if not gcs.is_gcs(path):
            time.sleep(SETTLE_SECONDS)
            require(output, name, owner)
        with _renewed(held.renew):
            yield held
    finally:
        if not held.is_handed_over:
            _give_back(path, owner)


def require(output: str, name: str, owner: str) -> None:
    """Checks that nobody else has taken the lease over, else raises LeaseTakenError. A missing lease counts as free."""
    path = path_of(output, name)
    content, _ = files.read_version(path)
    _refuse_others(_parse(content), owner, path)


def holders(output: str) -> dict[str, Lease]:
    """Returns who holds which lease of a dataset folder at this moment, by name."""
    found = {}
    for file in files.list_files(files.join(output, FOLDER), "*.json"):
        content, _ = files.read_version(file.path)
        holder = _if_current(_parse(content))
        if holder is not None:
            found[file.name.removesuffix(".json")] = holder
    return found


def _refuse_others(holder: Lease | None, owner: str, path: str) -> None:
    if holder is not None and holder.owner != owner:
        raise LeaseTakenError(_describe(holder, path))


def _describe(holder: Lease, path: str) -> str:
    if holder.expires - time.time() <= _LONGEST_SECONDS:
        return str(holder)
    return f"{holder}, which is longer than any run asks for: if it is none's, delete {path}"


def _if_current(holder: Lease | None) -> Lease | None:
    """Returns a holder whose lease has not expired and whose process, if it is one of this machine, is alive."""
    if holder is None or holder.expires <= time.time():
        return None
    return None if holder.host == socket.gethostname() and not is_alive(holder.process) else holder


def _give_back(path: str, owner: str) -> None:
    with contextlib.suppress(OSError):
        content, generation = files.read_version(path, patience=_PATIENCE_AT_END_SECONDS)
        holder = _parse(content)
        if holder is None or holder.owner != owner:
            return
        if gcs.is_gcs(path):
            gcs.delete(path, generation=generation, patience=_PATIENCE_AT_END_SECONDS)
        else:
            files.delete_files([path])


# --- what the file holds


def _content(owner: str, job: str | None = None, seconds: float | None = None) -> bytes:
    """Makes the lease of a job, or of this process."""
    host, process = (socket.gethostname(), os.getpid()) if job is None else (job, 0)
    expires = time.time() + (_SECONDS if seconds is None else seconds)
    return msgspec.json.encode(Lease(owner=owner, host=host, process=process, expires=expires))


def _parse(content: bytes | None) -> Lease | None:
    """Parses a lease; anything else counts as no lease."""
    try:
        lease = msgspec.json.decode(content or b"", type=Lease)
        time.gmtime(lease.expires)  # not beyond all calendars
        return lease
    except (msgspec.MsgspecError, OSError, ValueError, OverflowError, RecursionError):
        return None


# --- renewing


class _Renewer:
    """A thread that renews a lease from time to time, until it is stopped, the lease is lost or `renew` says False."""

    def __init__(self, renew: Callable[[], object], *, holder: str, first: float, seconds: float) -> None:
        self._renew = renew
        self._holder = holder
        self._first = first
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{holder}-lease", daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Waits for the thread: a later renewal would bring the lease back, or write to a closed descriptor."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        seconds = self._first
        while not self._stopped.wait(seconds):
            seconds = self._seconds
            try:
                if self._renew() is False:
                    return
            except LeaseTakenError as error:
                _LOG.error("another run took this %s's lease over (%s); it will not publish", self._holder, error)
                return
            except Exception as error:  # the next try may succeed, and an expired lease does no harm by itself
                _LOG.warning("this %s's lease could not be renewed: %s", self._holder, error)


@contextlib.contextmanager
def _renewed(renew: Callable[[], None]) -> Iterator[None]:
    renewer = _Renewer(renew, holder="run", first=_RENEW_SECONDS, seconds=_RENEW_SECONDS)
    try:
        yield
    finally:
        renewer.stop()


# --- on a local disk


@contextlib.contextmanager
def _locked(output: str, name: str, owner: str) -> Iterator[int]:
    """Locks the file of a lease on a local disk while the `with` block runs, and yields its descriptor."""
    path = path_of(output, name)
    lock = _lock_file(path)
    try:
        holder = _parse(os.pread(lock, 10_000, 0))
        if holder is not None and holder.host != socket.gethostname() and holder.expires > time.time():
            raise LeaseTakenError(_describe(holder, path))  # of a machine whose locks do not reach this one
        try:
            yield lock
        finally:
            with contextlib.suppress(OSError, LeaseTakenError):
                require(output, name, owner)
                os.unlink(path)
                os.rmdir(os.path.dirname(path))  # only where nothing else is in it
    finally:
        os.close(lock)


def _lock_file(path: str) -> int:
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            lock = _open(path)
        except FileNotFoundError:  # a run that ended just now deleted the folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(lock)):
                return lock
        except BlockingIOError:
            holder = _parse(os.pread(lock, 10_000, 0))
            os.close(lock)
            raise LeaseTakenError(_describe(holder, path) if holder else "a process of this machine") from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(lock)
            raise
        os.close(lock)  # its owner ended and deleted it between our two calls


def _open(path: str) -> int:
    """Opens the file of a lease, or makes it. It will be written over, so it must be a file of its own."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a link; take it away", path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file; take it away", path)
    return descriptor


def _overwrite(descriptor: int, content: bytes) -> None:
    """Writes with one call, and spaces over what was there: a reader sees the old lease or the new one."""
    os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size), 0)


# --- the lease of a job, in its worker processes

_renewers: Final[dict[JobLease, _Renewer]] = {}
_renewers_lock: Final = threading.Lock()


def keep(job: JobLease) -> None:
    """Renews the lease of a job on a thread of this process. A second call does nothing.

    The thread writes only where half of the lease's time has passed and no other process has written: a store takes
    about one write a second of the same object.
    """
    with _renewers_lock:
        if job in _renewers and _renewers[job].is_running():
            return
        _renewers[job] = _Renewer(lambda: _renew_if_due(job), holder="job", first=0.0, seconds=_LOOK_SECONDS)


def release(job: JobLease) -> None:
    """Gives the lease of a finished job back, unless somebody else has it."""
    with _renewers_lock:
        renewer = _renewers.pop(job, None)
    if renewer is not None:
        renewer.stop()
    _give_back(path_of(job.output, job.name), job.owner)


def _renew_if_due(job: JobLease) -> bool:
    """Returns whether there still is such a lease. The first worker also shortens the one that the launcher left, which
    had to cover the start of the job."""
    path = path_of(job.output, job.name)
    content, generation = files.read_version(path, patience=_PATIENCE_SECONDS)
    if content is None:  # given back: the run is over
        return False
    holder = _parse(content)
    _refuse_others(holder, job.owner, path)
    left = holder.expires - time.time() if holder else 0.0
    if not _JOB_SECONDS / 2 <= left <= _JOB_SECONDS + _LOOK_SECONDS:
        renewed = _content(job.owner, holder.host if holder else "a job", _JOB_SECONDS)
        with contextlib.suppress(FileChangedError):  # another worker was quicker
            files.write_version(path, renewed, generation, patience=_PATIENCE_SECONDS)
    return True
