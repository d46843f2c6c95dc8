"""Writing the ledger: what was appended is there, however the process ends, or the caller is told that it is not."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.ledger import writer as ledger_writer
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.journal import read_journal
from textmint.transforms.ledger.writer import Journal, Ledger, LedgerWriter, ReplyBatches, now_ms, open_writer
from textmint.transforms.storage import files

from tests.support.children import child, open_under
from tests.support.ledger_rows import REMOTE, in_order, lines_in, paid, rows_in, rows_of_ledger
from tests.support.mem_store import MemFileSystem
from tests.support.waiting import wait_until


def ledger_in(folder: Path | str, run_id: str = "run") -> Ledger:
    return Ledger(folder=str(folder), refresh="base", run_id=run_id)


@pytest.fixture(autouse=True)
def no_thread_is_left(tmp_path: Path) -> Iterator[None]:
    """Nor a descriptor."""
    threads = set(threading.enumerate())
    yield
    left = {thread for thread in threading.enumerate() if thread.name.startswith("ledger")} - threads
    assert left == set()
    assert open_under(tmp_path) == []


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# --- journals


def test_a_disk_has_journals_and_a_store_has_batches(tmp_path: Path, store: dict[str, bytes]) -> None:
    for folder, kind in ((str(tmp_path), Journal), (REMOTE, ReplyBatches)):
        writer: LedgerWriter = open_writer(ledger_in(folder))
        assert type(writer) is kind
        writer.close()


def test_what_was_appended_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    writer = open_writer(ledger_in(tmp_path))
    rows = [paid(n, text=text) for n, text in enumerate(["a", "", "ü\n\x00 😀", "x" * 300_000, "\u2028"])]
    for count, row in enumerate(rows):
        assert lines_in(tmp_path) == rows[:count]
        writer.append(row)
    assert lines_in(tmp_path) == rows
    writer.flush()
    writer.close()
    assert lines_in(tmp_path) == rows


def test_each_line_is_written_with_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process can be killed between two."""
    writer = open_writer(ledger_in(tmp_path))
    written: list[int] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(len(data)), real(fd, data))[1])
    writer.append(paid(1, text="x" * 100_000))
    writer.append(paid(2))
    writer.close()
    assert len(written) == 2


def append_and_wait(pipe: Connection, folder: str, count: int) -> None:
    writer = open_writer(ledger_in(folder))
    for number in range(count):
        writer.append(paid(number))
    pipe.send(number)
    time.sleep(60)


@pytest.mark.parametrize("what", ["file", "folder", "moved", "between the last reply and the end"])
def test_a_journal_that_is_taken_away_is_written_again(what: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    writer = open_writer(ledger_in(ledger))
    for number in range(5):
        writer.append(paid(number))
    (path,) = (ledger / "_journal").iterdir()
    if what == "file":
        path.unlink()
    elif what == "moved":
        ledger.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(ledger)
    if what != "between the last reply and the end":
        writer.append(paid(5))
        assert lines_in(ledger) == [paid(n) for n in range(6)]
        assert [is_locked(path) for path in (ledger / "_journal").iterdir()] == [True]
    writer.close()
    assert lines_in(ledger)[:5] == [paid(n) for n in range(5)]


def append_for_ever(pipe: Connection, folder: str) -> None:
    writer = open_writer(ledger_in(folder))
    number = 0
    while True:
        writer.append(paid(number, text="x" * 3_000))
        os.write(pipe.fileno(), b".")  # one for each that append has returned of
        number += 1


def test_sigkill_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    with child(append_and_wait, str(tmp_path), 50) as process:
        assert process.told() == 49
        process.kill()
    assert lines_in(tmp_path) == [paid(n) for n in range(50)]


def test_sigkill_amid_appending(tmp_path: Path) -> None:
    with child(append_for_ever, str(tmp_path)) as process:
        told = 0
        while told < 300:
            told += len(os.read(process.pipe.fileno(), 1 << 16))
        process.kill()
        while more := os.read(process.pipe.fileno(), 1 << 16):
            told += len(more)
    (path,) = (tmp_path / "_journal").iterdir()
    table, damaged = read_journal(path.read_bytes())
    assert [row["request_id"] for row in rows_in(table)] == [paid(n)["request_id"] for n in range(table.num_rows)]
    assert told <= table.num_rows <= told + 1
    assert damaged <= 1  # the line that it was just writing


def test_the_lock_lives_as_long_as_the_process(tmp_path: Path) -> None:
    with child(append_and_wait, str(tmp_path), 1) as process:
        process.told()
        (path,) = (tmp_path / "_journal").iterdir()
        assert is_locked(path)
        process.kill()
        assert not is_locked(path)


def test_the_lock_goes_when_it_is_closed(tmp_path: Path) -> None:
    writer = open_writer(ledger_in(tmp_path))
    writer.append(paid(1))
    (path,) = (tmp_path / "_journal").iterdir()
    assert is_locked(path)
    writer.close()
    assert not is_locked(path)


def fill_the_disk(pipe: Connection, folder: str, limit: int) -> None:
    """A limit of the size of files is a full disk, as far as this process can see."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        writer = open_writer(ledger_in(folder))
    except OSError as error:
        pipe.send(("refused", error.errno))
        return
    outcomes: list[Any] = []
    for number, size in enumerate([30_000, 30_000, 30_000, 30_000, 10, 30_000, 20]):
        try:
            writer.append(paid(number, text="x" * size))
            outcomes.append(number)
        except OSError as error:
            outcomes.append(type(error))
    writer.close()
    pipe.send(outcomes)


def test_a_full_disk_keeps_what_fits(tmp_path: Path) -> None:
    """And what comes after a line that did not fit stands on a line of its own."""
    with child(fill_the_disk, str(tmp_path), 100_000) as process:
        outcomes = process.told()
        process.end()
    assert outcomes == [0, 1, 2, OSError, 4, OSError, 6]
    sizes = {0: 30_000, 1: 30_000, 2: 30_000, 4: 10, 6: 20}
    assert lines_in(tmp_path) == [paid(number, text="x" * size) for number, size in sizes.items()]


@pytest.mark.parametrize("limit", [0, 4_096])
def test_a_disk_that_is_full_already_is_found_out_before_anything_is_paid_for(tmp_path: Path, limit: int) -> None:
    """It takes a new file, as long as that is empty."""
    with child(fill_the_disk, str(tmp_path), limit) as process:
        assert process.told()[0] == "refused"
        process.end()
    assert list((tmp_path / "_journal").iterdir()) == []


def test_a_line_that_is_cut_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(ledger_in(tmp_path))
    writer.append(paid(1))
    real = os.write
    left = [10]  # bytes that there is room for

    def full(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] = 0
        return real(descriptor, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            writer.append(paid(2))
    writer.append(paid(3))
    writer.close()
    assert lines_in(tmp_path) == [paid(1), paid(3)]


def test_a_disk_that_fails_later_is_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written may not be on the disk then: fsync says so once, and never again."""
    monkeypatch.setattr(ledger_writer, "_SYNC_SECONDS", 0.001)
    failed = threading.Event()

    def fail(descriptor: int) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    writer = open_writer(ledger_in(tmp_path))
    writer.append(paid(1))
    assert failed.wait(5)
    wait_until(lambda: raises(writer.flush))
    for act in (lambda: writer.append(paid(2)), writer.flush, writer.close):
        with pytest.raises(OSError, match="Input/output"):
            act()
    writer.close()
    assert lines_in(tmp_path) == [paid(1)]


def raises(act: Callable[[], None]) -> bool:
    with contextlib.suppress(OSError):
        act()
        return False
    return True


def test_it_is_synced_now_and_then_when_there_is_something_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_writer, "_SYNC_SECONDS", 0.001)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    writer = open_writer(ledger_in(tmp_path))
    time.sleep(0.02)
    assert synced == []
    for number in (1, 2):
        writer.append(paid(number))
        wait_until(lambda number=number: len(synced) >= number)  # type: ignore[misc]
        time.sleep(0.02)
        assert len(synced) == number
    writer.close()


def test_a_journal_without_a_line_is_taken_away(tmp_path: Path) -> None:
    writer = open_writer(ledger_in(tmp_path))
    (path,) = (tmp_path / "_journal").iterdir()
    assert path.stat().st_size == 0  # nothing is left of the trial
    writer.close()
    assert list((tmp_path / "_journal").iterdir()) == []


def test_a_journal_whose_folder_was_deleted_is_closed_all_the_same(tmp_path: Path) -> None:
    writer = open_writer(ledger_in(tmp_path))
    (path,) = (tmp_path / "_journal").iterdir()
    path.unlink()
    path.parent.rmdir()
    writer.close()


def test_a_process_may_have_several_journals(tmp_path: Path) -> None:
    writers = [open_writer(ledger_in(tmp_path, run_id)) for run_id in ("a", "a", "b")]
    for number, writer in enumerate(writers):
        writer.append(paid(number))
    writers[0].close()
    writers.append(open_writer(ledger_in(tmp_path, "a")))
    writers[-1].append(paid(3))
    for writer in writers:
        writer.close()
    pid = os.getpid()
    names = [f"a-{pid}-0.jsonl", f"a-{pid}-1.jsonl", f"a-{pid}-2.jsonl", f"b-{pid}-0.jsonl"]
    assert sorted(path.name for path in (tmp_path / "_journal").iterdir()) == names
    assert in_order(lines_in(tmp_path)) == in_order(paid(n) for n in range(4))


def test_what_comes_after_the_end_is_refused(tmp_path: Path) -> None:
    """Its descriptor may be that of another file by then."""
    writer = open_writer(ledger_in(tmp_path))
    writer.append(paid(1))
    writer.close()
    with (tmp_path / "other").open("wb") as other:  # gets the same number
        with pytest.raises(OSError, match="closed"):
            writer.append(paid(2))
        other.flush()
    writer.close()
    assert (tmp_path / "other").read_bytes() == b""
    assert lines_in(tmp_path) == [paid(1)]


def test_threads_may_append_at_the_same_time(tmp_path: Path) -> None:
    writer = open_writer(ledger_in(tmp_path))

    def append(thread: int) -> None:
        for number in range(50):
            writer.append(paid(100 * thread + number, text="y" * 5_000))

    in_threads(append, 4)
    writer.close()
    expected = [paid(100 * t + n, text="y" * 5_000) for t in range(4) for n in range(50)]
    assert in_order(lines_in(tmp_path)) == in_order(expected)


def in_threads(act: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("what", ["a file in its place", "a file above", "a dangling link"])
def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "ledger"
    if what == "a file in its place":
        folder.mkdir()
        (folder / "_journal").touch()
    elif what == "a file above":
        folder.touch()
    else:
        folder.mkdir()
        (folder / "_journal").symlink_to(tmp_path / "nowhere" / "at all")
    with pytest.raises(OSError):
        open_writer(ledger_in(folder))


def test_a_disk_that_has_no_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="No locks"):
        open_writer(ledger_in(tmp_path))
    assert list((tmp_path / "_journal").iterdir()) == []


def test_a_journal_that_is_folded_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever folds sees an empty journal that nobody has locked, and takes it and its folder away."""
    real = fcntl.flock
    folded: list[Path] = []

    def late(descriptor: int, how: int) -> None:
        if not folded:
            (path,) = (tmp_path / "_journal").iterdir()
            path.unlink()
            path.parent.rmdir()
            folded.append(path)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    writer = open_writer(ledger_in(tmp_path))
    writer.append(paid(1))
    writer.close()
    assert folded
    assert lines_in(tmp_path) == [paid(1)]


# --- batches for object stores


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_writer, "_TRY_AGAIN_SECONDS", (0.001, 0.001, 0.001))


@contextlib.contextmanager
def batches(run_id: str = "run") -> Iterator[ReplyBatches]:
    writer = open_writer(ledger_in(REMOTE, run_id))
    assert isinstance(writer, ReplyBatches)
    try:
        yield writer
    finally:
        with contextlib.suppress(OSError):
            writer.close()


def test_a_store_is_tried_before_anything_is_paid_for(store: dict[str, bytes]) -> None:
    with batches():
        pass
    assert store == {}
    (created, deleted) = MemFileSystem.log
    assert created.startswith(f"create {REMOTE}/_write-test-run-")
    assert deleted == created.replace("create", "delete")


@pytest.mark.parametrize("error", [OSError(13, "denied"), PermissionError("403"), RuntimeError("403 Forbidden")])
def test_a_store_that_cannot_be_written_is_an_os_error_at_once(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(MemFileSystem, "create", refuse)
    with pytest.raises(OSError, match=r"denied|403"):
        open_writer(ledger_in(REMOTE))


def test_256_replies_are_a_file(store: dict[str, bytes]) -> None:
    with batches() as writer:
        for number in range(255):
            writer.append(paid(number))
        time.sleep(0.05)
        assert store == {}
        writer.append(paid(255))
        wait_until(lambda: len(store) == 1)
        assert in_order(rows_of_ledger(REMOTE)) == in_order(paid(n) for n in range(256))
        writer.append(paid(256))
        time.sleep(0.05)
        assert len(store) == 1
    assert len(store) == 2
    assert in_order(rows_of_ledger(REMOTE)) == in_order(paid(n) for n in range(257))
    assert all(file.name.startswith("replies-") for file in ledger_files(REMOTE))


def test_the_oldest_reply_waits_for_so_many_seconds_at_most(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger_writer._BATCH_SECONDS == 30.0
    monkeypatch.setattr(ledger_writer, "_BATCH_SECONDS", 0.5)
    with batches() as writer:
        for number in range(3):  # the later ones do not make the first wait longer
            writer.append(paid(number))
            if not number:
                began = time.monotonic()
            time.sleep(0.1)
        assert store == {}
        wait_until(lambda: len(store) == 1)
        assert 0.45 < time.monotonic() - began < 1.5
        assert len(rows_of_ledger(REMOTE)) == 3
        writer.append(paid(3))  # and it starts anew
        wait_until(lambda: len(store) == 2)
    assert len(rows_of_ledger(REMOTE)) == 4


def test_flush_waits_until_it_is_there(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.write_file

    def slowly(path: str, content: bytes, **options: Any) -> None:
        time.sleep(0.05)
        real(path, content, **options)

    with batches() as writer:
        monkeypatch.setattr(files, "write_file", slowly)
        writer.flush()  # nothing to wait for
        for count in (1, 2, 3):
            writer.append(paid(count))
            writer.flush()
            assert len(rows_of_ledger(REMOTE)) == count


def test_threads_may_append_and_flush_at_the_same_time(store: dict[str, bytes]) -> None:
    with batches() as writer:

        def work(thread: int) -> None:
            for number in range(100):
                writer.append(paid(1000 * thread + number))
                if number % 25 == 24:
                    writer.flush()
                    mine = {paid(1000 * thread + n)["request_id"] for n in range(number + 1)}
                    assert mine <= {row["request_id"] for row in rows_of_ledger(REMOTE)}

        in_threads(work, 3)
    expected = [paid(1000 * t + n) for t in range(3) for n in range(100)]
    assert in_order(rows_of_ledger(REMOTE)) == in_order(expected)  # each once


class Failing:
    """A store that fails so many times, then works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, error: Exception | None = None) -> None:
        self.tried = 0
        self._times = times
        self._error = error or OSError(5, "out of order")
        self._real = files.write_file
        monkeypatch.setattr(files, "write_file", self.write)

    def write(self, path: str, content: bytes, **options: Any) -> None:
        self.tried += 1
        if self.tried <= self._times:
            raise self._error
        self._real(path, content, **options)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("times", [1, 3])
def test_a_store_that_fails_for_a_moment_is_tried_again(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    with batches() as writer:
        failing = Failing(monkeypatch, times)
        writer.append(paid(1))
        writer.flush()
        assert failing.tried == times + 1
        assert rows_of_ledger(REMOTE) == [paid(1)]
        writer.append(paid(2))
    assert in_order(rows_of_ledger(REMOTE)) == in_order([paid(1), paid(2)])


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("error", [OSError(5, "out of order"), RuntimeError("out of order")])
def test_a_store_that_goes_on_failing_is_told_and_nobody_waits_for_ever(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with batches() as writer:
        failing = Failing(monkeypatch, 1_000, error)
        writer.append(paid(1))
        for act in (writer.flush, lambda: writer.append(paid(2)), writer.flush, writer.close):
            with pytest.raises(OSError, match="out of order"):
                act()
        assert failing.tried == 4
        writer.close()  # told once
    assert store == {}


@pytest.mark.usefixtures("short_waits")
def test_close_tells_of_replies_that_are_lost(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the thread that should have written them has ended long before."""
    monkeypatch.setattr(ledger_writer, "_BATCH_SECONDS", 0.0)
    with batches() as writer:
        Failing(monkeypatch, 1_000)
        writer.append(paid(1))
        wait_until(lambda: not writer._thread.is_alive())
        with pytest.raises(OSError, match="out of order"):
            writer.close()


@pytest.mark.usefixtures("short_waits")
def test_a_flush_that_waits_is_told_of_the_failure(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with batches() as writer:
        Failing(monkeypatch, 1_000)
        told: collections.deque[bool] = collections.deque()
        writer.append(paid(1))
        in_threads(lambda number: told.append(raises(writer.flush)), 3)
        assert list(told) == [True] * 3


def test_close_writes_what_is_there_and_can_be_called_twice(store: dict[str, bytes]) -> None:
    with batches() as writer:
        writer.append(paid(1))
        writer.close()
        assert rows_of_ledger(REMOTE) == [paid(1)]
        writer.close()
        writer.flush()
    assert len(store) == 1


def test_what_comes_after_the_end_is_refused_by_a_store_too(store: dict[str, bytes]) -> None:
    """Nobody would write it; and a flush would wait for ever."""
    with batches() as writer:
        writer.close()
        with pytest.raises(OSError, match="closed"):
            writer.append(paid(1))
        writer.flush()
    assert store == {}


def test_what_comes_while_it_is_closed_is_written_or_refused(store: dict[str, bytes]) -> None:
    """And close does not wait for its time to come."""
    with batches() as writer:
        kept: collections.deque[int] = collections.deque()
        going = threading.Event()

        def append(thread: int) -> None:
            for number in range(10_000):
                if raises(lambda: writer.append(paid(number))):  # noqa: B023
                    return
                kept.append(number)
                going.set()

        threads = threading.Thread(target=append, args=(0,))
        threads.start()
        going.wait(5)
        began = time.monotonic()
        writer.close()
        assert time.monotonic() - began < 5
        threads.join(5)
        assert not threads.is_alive()
    assert in_order(rows_of_ledger(REMOTE)) == in_order(paid(n) for n in kept)


def test_two_workers_with_one_process_id_do_not_try_with_the_same_object(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers all are, say, process 7; and stores refuse many writes of one object."""
    for host in ("worker-a", "worker-b"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with batches():
            pass
    assert len({line for line in MemFileSystem.log if line.startswith("create")}) == 2


# --- rows


def test_the_time_is_in_milliseconds() -> None:
    assert abs(now_ms() - 1000 * time.time()) < 1000
    assert isinstance(now_ms(), int)
