"""Leases: one run at a time for a label of a dataset folder, wherever the folder is.

    OUTPUT/_leases/NAME.json    who holds it, and until when

A holder renews its lease now and then. One that has expired is taken over; so is, at once, that of a process of this
machine that is gone. On a local disk the file is locked as well, and the lock goes with the process, however that ends.
Object stores have no locks. On gs:// a lease is written on the condition that nobody has written it since it was read,
so of two that come at the same time one is refused. On other stores a new holder writes its lease, waits for a moment
and reads it again, so that the last writer stays. A run looks once more before it publishes (`require`).

A run whose work goes on elsewhere after its launcher has ended (a Dataflow job) takes its lease along: the launcher
hands it over (`Held.hand_over`), with an end that leaves the job the time to start, the job's worker processes renew it
(`keep`), and whoever publishes the job's result gives it back (`release`). Of a job that died it expires.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from textmint.transforms.core.errors import FileChangedError
from textmint.transforms.core.temporary import is_alive
from textmint.transforms.storage import files, gcs

FOLDER: Final = "_leases"
_LOG = logging.getLogger("textmint")
_SECONDS: Final = 180.0  # that a lease is good for without being renewed
_RENEW_SECONDS: Final = 30.0
_JOB_SECONDS: Final = 1_800.0  # that a job's lease is good for: its workers come and go
_LONGEST_SECONDS: Final = 86_400.0  # a day; the longest that is ever asked for is an hour or two
_LOOK_SECONDS: Final = 60.0  # between two looks of a worker process at its job's lease
_PATIENCE_SECONDS: Final = 20.0  # for a store that does not answer; a renewal is tried again soon
_PATIENCE_AT_END_SECONDS: Final = 3.0  # a lease that stays behind is no harm: it expires
SETTLE_SECONDS = 2.0  # between a lease written to an object store and the second look; what a slow write may take


class LeaseTakenError(Exception):
    """Somebody else holds the lease; the message says who, and until when."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who holds it.

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
    """A lease that a job holds; what its workers must know of it.

    Args:
      output: the dataset folder, on an object store.
      name: what is leased.
      owner: as it was when the launcher took the lease.
    """

    output: str
    name: str
    owner: str


class Held:
    """A lease, while the `with` block of `hold` runs."""

    def __init__(self, output: str, name: str, owner: str) -> None:
        self._path = path_of(output, name)
        self._owner = owner
        self._lock = threading.Lock()
        self.is_handed_over = False

    def hand_over(self, job: str, seconds: float) -> None:
        """Leaves the lease to a job: this process renews it no more, and the end of the block does not give it back.

        Args:
          job: its name, for whoever is refused.
          seconds: from now until its workers must have renewed it.

        Raises:
          LeaseTakenError: somebody else has taken it over.
          OSError: it cannot be written.
          ValueError: it is on a local disk, where a lease goes with its process.
        """
        if files.is_local(self._path):
            raise ValueError(self._path)
        with self._lock:
            _rewrite(self._path, self._owner, _content(self._owner, host=job, process=0, seconds=seconds))
            self.is_handed_over = True

    def take_back(self) -> None:
        """The job has ended, or never began: the end of the block gives the lease back, if it is still there."""
        with self._lock:
            self.is_handed_over = False

    def renew(self) -> None:
        """On an object store.

        Raises:
          LeaseTakenError: somebody else has taken it over.
          OSError: it cannot be written.
        """
        with self._lock:
            if not self.is_handed_over:
                _rewrite(self._path, self._owner, _mine(self._owner))


def path_of(output: str, name: str) -> str:
    """The dataset folder and what is leased -> the lease's file."""
    return files.join(output, FOLDER, f"{name}.json")


@contextlib.contextmanager
def hold(output: str, name: str, owner: str) -> Iterator[Held]:
    """While its `with` block runs, nobody else holds the lease.

    Args:
      output: the dataset folder.
      name: what is leased.
      owner: tells this holder from others of the same process.

    Yields:
      what hands the lease over to a job.

    Raises:
      LeaseTakenError: somebody else holds it.
      OSError: the lease cannot be written.
    """
    held = Held(output, name, owner)
    if files.is_local(output):
        with _locked(output, name, owner) as descriptor:

            def overwrite() -> None:
                require(output, name, owner)  # locks of a network's file system may not reach all machines
                _overwrite(descriptor, _mine(owner))

            os.ftruncate(descriptor, 0)
            _overwrite(descriptor, _mine(owner))
            with _renewed(overwrite):
                yield held
        return
    path = path_of(output, name)
    compares = gcs.is_gcs(path)
    if compares:
        _take(path, owner)
    elif (holder := _holder_at(path)) is not None:
        raise LeaseTakenError(_told(holder, path))
    else:
        files.write_file(path, _mine(owner))
    try:
        if not compares:
            time.sleep(SETTLE_SECONDS)
            require(output, name, owner)
        with _renewed(held.renew):
            yield held
    finally:
        if not held.is_handed_over:
            _give_back(path, owner)


def require(output: str, name: str, owner: str) -> None:
    """Checks that nobody else has taken the lease over meanwhile. One that is gone was taken by nobody.

    Raises:
      LeaseTakenError: somebody has.
      OSError: it cannot be read.
    """
    try:
        holder = _parsed(files.read_file(path_of(output, name)))
    except FileNotFoundError:
        return
    _refuse_another(holder, owner, path_of(output, name))


def _refuse_another(holder: Lease | None, owner: str, path: str) -> None:
    if holder is not None and holder.owner != owner:
        raise LeaseTakenError(_told(holder, path))


def _told(holder: Lease, path: str) -> str:
    """Who holds a lease -> what to say of it, with the remedy where its end is so far away that nobody waits for it."""
    if holder.expires - time.time() <= _LONGEST_SECONDS:
        return str(holder)
    return f"{holder}, which is longer than any run asks for: if it is none's, delete {path}"


def holders(output: str) -> dict[str, Lease]:
    """The dataset folder -> who holds what at this moment, by name."""
    found = {}
    for file in files.list_files(files.join(output, FOLDER), "*.json"):
        holder = _holder_at(file.path)
        if holder is not None:
            found[file.name.removesuffix(".json")] = holder
    return found


def _holder_at(path: str) -> Lease | None:
    """-> who holds the lease; None where it is absent, stale or unreadable."""
    try:
        return _if_current(_parsed(files.read_file(path)))
    except FileNotFoundError:
        return None


def _if_current(holder: Lease | None) -> Lease | None:
    if holder is None or holder.expires <= time.time():
        return None
    return None if holder.host == _host() and not is_alive(holder.process) else holder


def _take(path: str, owner: str) -> None:
    """A lease on gs:// -> it is ours, if it is nobody's. The object's generation decides between two that come at the
    same moment."""
    while True:
        holder, generation = _versioned(path, gcs.PATIENCE_SECONDS)
        _refuse_another(_if_current(holder), owner, path)
        with contextlib.suppress(FileChangedError):  # by somebody else; or the answer to our own write was lost
            gcs.write(path, _mine(owner), generation=generation)
            return


def _rewrite(path: str, owner: str, content: bytes) -> None:
    """A lease on an object store that is ours, or nobody's -> it says something else.

    Raises:
      LeaseTakenError: somebody else has it.
      OSError: it cannot be read or written, or somebody writes it at this moment.
    """
    holder, generation = _versioned(path, _PATIENCE_SECONDS)
    _refuse_another(holder, owner, path)
    _write_version(path, content, generation)


def _give_back(path: str, owner: str) -> None:
    with contextlib.suppress(OSError):
        holder, generation = _versioned(path, _PATIENCE_AT_END_SECONDS)
        if holder is None or holder.owner != owner:
            return
        if gcs.is_gcs(path):
            gcs.delete(path, generation=generation, patience=_PATIENCE_AT_END_SECONDS)
        else:
            files.delete_files([path])


def _versioned(path: str, patience: float) -> tuple[Lease | None, int | None]:
    """-> the lease that is there, and its generation where the store tells one."""
    try:
        content, generation = (
            gcs.read_version(path, patience=patience) if gcs.is_gcs(path) else (files.read_file(path), gcs.ABSENT)
        )
    except FileNotFoundError:
        return None, gcs.ABSENT
    return _parsed(content), generation


def _write_version(path: str, content: bytes, generation: int | None) -> None:
    if gcs.is_gcs(path):
        gcs.write(path, content, generation=generation, patience=_PATIENCE_SECONDS)
    else:
        files.write_file(path, content)


def _host() -> str:
    return socket.gethostname()


def _mine(owner: str) -> bytes:
    return _content(owner, host=_host(), process=os.getpid(), seconds=_SECONDS)


def _content(owner: str, *, host: str, process: int, seconds: float) -> bytes:
    lease = Lease(owner=owner, host=host, process=process, expires=time.time() + seconds)
    return json.dumps(dataclasses.asdict(lease)).encode()


def _parsed(content: bytes) -> Lease | None:
    try:
        told = json.loads(content)
        lease = Lease(
            owner=str(told["owner"]),
            host=str(told["host"]),
            process=int(told["process"]),
            expires=float(told["expires"]),
        )
        time.gmtime(lease.expires)  # neither endless nor beyond all calendars
        return lease
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


@contextlib.contextmanager
def _renewed(renew: Callable[[], None]) -> Iterator[None]:
    """While its `with` block runs, a thread renews the lease."""
    ended = threading.Event()

    def now_and_then() -> None:
        while not ended.wait(_RENEW_SECONDS):
            try:
                renew()
            except LeaseTakenError as error:
                _LOG.error("another run took this one's lease over (%s); this one will not publish", error)
                return
            except Exception as error:  # the next try may go right, and an expired lease is no harm by itself
                _LOG.warning("the lease could not be renewed: %s", error)

    thread = threading.Thread(target=now_and_then, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # a renewal after the end would bring the lease back, or write to a descriptor that is closed


@contextlib.contextmanager
def _locked(output: str, name: str, owner: str) -> Iterator[int]:
    """While its `with` block runs, the lease's file on a local disk is locked; then it is taken away.

    Yields:
      its descriptor.
    """
    path = path_of(output, name)
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            lock = _open(path)
        except FileNotFoundError:  # a run that ended just now took the folder away
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _parsed(os.pread(lock, 10_000, 0))
            os.close(lock)
            raise LeaseTakenError(_told(holder, path) if holder else "a process of this machine") from None
        except OSError:
            os.close(lock)
            raise
        if _is_still(path, lock):
            break
        os.close(lock)  # its owner ended and took it away between our two calls
    try:
        holder = _parsed(os.pread(lock, 10_000, 0))
        if holder is not None and holder.host != _host() and holder.expires > time.time():
            raise LeaseTakenError(_told(holder, path))  # of a machine whose locks do not reach this one
        try:
            yield lock
        finally:
            with contextlib.suppress(OSError, LeaseTakenError):
                require(output, name, owner)
                os.unlink(path)
                os.rmdir(os.path.dirname(path))  # only where nothing else is in it
    finally:
        os.close(lock)


def _open(path: str) -> int:
    """-> the descriptor of a lease's file on a local disk, which is made where there is none. What it holds will be
    written over, so it must be a file of its own.

    Raises:
      OSError: it is a folder, a link, a pipe or the like, or cannot be opened.
    """
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


def _is_still(path: str, lock: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(lock))
    except FileNotFoundError:
        return False


def _overwrite(descriptor: int, content: bytes) -> None:
    """With one call, and spaces over what was there: whoever reads at the same moment sees the one or the other."""
    os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size), 0)


# --- the lease of a job, in its worker processes

_keepers: Final[dict[JobLease, tuple[threading.Thread, threading.Event]]] = {}
_keepers_lock: Final = threading.Lock()


def keep(job: JobLease) -> None:
    """From now on a thread of this process renews the job's lease now and then, until the lease is given back or the
    process ends. A second call does nothing.

    It looks once a minute, and writes only where half of the lease's time has passed and no other process has written:
    a store takes about one write a second of the same object.
    """
    with _keepers_lock:
        if job in _keepers:
            return
        ended = threading.Event()
        thread = threading.Thread(target=_keep_now_and_then, args=(job, ended), name="job-lease", daemon=True)
        _keepers[job] = thread, ended
        thread.start()


def release(job: JobLease) -> None:
    """The job is done: the lease is given back, unless somebody else has it."""
    with _keepers_lock:
        kept = _keepers.get(job)
    if kept is not None:
        thread, ended = kept
        ended.set()
        thread.join()  # a renewal after the end would bring the lease back
    _give_back(path_of(job.output, job.name), job.owner)


def _keep_now_and_then(job: JobLease, ended: threading.Event) -> None:
    try:
        while not ended.is_set():
            try:
                if not _renewed_where_due(job):
                    return
            except LeaseTakenError as error:
                _LOG.error("another run took this job's lease over (%s); this one will not publish", error)
                return
            except Exception as error:  # the next try may go right, and an expired lease is no harm by itself
                _LOG.warning("the job's lease could not be renewed: %s", error)
            ended.wait(_LOOK_SECONDS)
    finally:
        with _keepers_lock:
            _keepers.pop(job, None)


def _renewed_where_due(job: JobLease) -> bool:
    """-> whether there still is such a lease. The first worker also shortens the one that the launcher left, which had
    to cover the start of the job."""
    path = path_of(job.output, job.name)
    holder, generation = _versioned(path, _PATIENCE_SECONDS)
    if holder is None and generation == gcs.ABSENT and not files.exists(path):  # given back: the run is over
        return False
    _refuse_another(holder, job.owner, path)
    left = holder.expires - time.time() if holder else 0.0
    if not _JOB_SECONDS / 2 <= left <= _JOB_SECONDS + _LOOK_SECONDS:
        host = holder.host if holder else "a job"
        with contextlib.suppress(FileChangedError):  # another worker was quicker
            _write_version(path, _content(job.owner, host=host, process=0, seconds=_JOB_SECONDS), generation)
    return True
