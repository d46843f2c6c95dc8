"""The ledger's folder: journals become files, what is foreign is set aside, small files are merged, and at no moment
could a kill lose a reply."""

from __future__ import annotations

import fcntl
import io
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.ledger import compact as compact_module
from textmint.transforms.ledger import files as ledger_files
from textmint.transforms.ledger import journal as journal_module
from textmint.transforms.ledger import merge_journals as merge_module
from textmint.transforms.ledger import table as ledger
from textmint.transforms.ledger.compact import ModelReplies, compact, contents, first_of_each
from textmint.transforms.ledger.files import check_files, files_set_aside, set_aside
from textmint.transforms.ledger.join import paid_replies
from textmint.transforms.ledger.journal import journal_line
from textmint.transforms.ledger.merge_journals import MergedJournals, merge_journals, paid_in_journals
from textmint.transforms.ledger.table import SCHEMA, digest_in_name, name_for, replies_file
from textmint.transforms.ledger.writer import Ledger, open_writer
from textmint.transforms.storage import files

from tests.support.children import child, open_under
from tests.support.helpers import shuffled
from tests.support.ledger_rows import (
    TIME,
    add_file,
    add_journal,
    in_order,
    paid,
    rows_in,
    rows_of_ledger,
    table_of,
)
from tests.support.mem_store import MemFileSystem

REMOTE = "mem://bucket/out/ledger"


@pytest.fixture(autouse=True)
def no_descriptor_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert open_under(tmp_path) == []


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, bytes]) -> str:
    return str(tmp_path / "ledger") if request.param == "disk" else REMOTE


def tree(folder: Path | str) -> list[str]:
    """Lists all files under a folder."""
    if not files.is_local(str(folder)):
        return sorted(path.removeprefix(f"{folder}/") for path in MemFileSystem.objects)
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def rows(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    return [paid(number, **fields) for number in numbers]


def numbered(count: int, start: int = 0, **fields: Any) -> list[dict[str, Any]]:
    return rows(*range(start, start + count), **fields)


# --- which files there are


def test_what_begins_with_an_underscore_or_a_dot_is_no_file_of_the_ledger(folder: str) -> None:
    path = add_file(folder, rows(1))
    for name in ("_part-1-2", ".hidden", "_journal/run.jsonl", "_set_aside/x.parquet"):
        files.write_file(files.join(folder, name), b"x")
    assert [file.path for file in ledger_files.ledger_files(folder)] == [path]
    assert check_files(folder).set_aside == {}


def test_a_ledger_that_is_not_there_holds_nothing(folder: str) -> None:
    checked = check_files(folder)
    assert (checked.found, checked.replies, checked.set_aside) == ((), 0, {})
    assert files_set_aside(folder) == {}
    assert compact(folder).after == 0
    found = contents(folder)
    assert (found.by_model, found.files, found.bytes, found.journals, found.set_aside) == ({}, 0, 0, 0, {})


def test_files_are_counted_by_their_footers(folder: str) -> None:
    paths = [add_file(folder, part) for part in (numbered(3), numbered(5, 3), [])]
    checked = check_files(folder)
    assert [file.path for file in checked.found] == sorted(paths)
    assert (checked.replies, checked.set_aside) == (8, {})


def test_a_footer_may_be_longer_than_what_is_read_at_first(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_LEAST_GROUP_ROWS", 2)
    add_file(folder, numbered(40))
    for size in (8, 9, 100, 1 << 16):
        monkeypatch.setattr(ledger_files, "FOOTER_BYTES", size)
        assert check_files(folder).replies == 40


BROKEN = {
    "foreign.parquet": replies_file(table_of([]))[1].replace(b"request_id", b"request_no"),
    "cut.parquet": replies_file(table_of(numbered(9)))[1][:-100],
    "empty.parquet": b"",
    "long.parquet": b"PAR1" + b"x" * 90_000 + b"\xff\xff\xff\x00PAR1",
    "notes.txt": b"hello",
    "replies-0.parquet.tmp": replies_file(table_of(rows(1)))[1],
}


def test_what_is_not_of_a_ledger_is_set_aside_and_the_reason_kept(folder: str) -> None:
    good = add_file(folder, rows(1, 2))
    for name, content in BROKEN.items():
        files.write_file(files.join(folder, name), content)
    checked = check_files(folder)
    assert [file.path for file in checked.found] == [good]
    assert checked.replies == 2
    assert set(checked.set_aside) == set(BROKEN)
    assert checked.set_aside["notes.txt"] == "no Parquet file by its name"
    assert "cut short" in checked.set_aside["cut.parquet"]
    for name, content in BROKEN.items():
        assert files.read_file(files.join(folder, "_set_aside", name)) == content
    assert files_set_aside(folder) == checked.set_aside
    again = check_files(folder)
    assert (again.found, again.set_aside) == (checked.found, {})
    assert files_set_aside(folder) == checked.set_aside


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), RuntimeError("503 busy")])
@pytest.mark.parametrize("where", ["open", "read"])
def test_a_file_that_cannot_be_read_at_this_moment_stays(
    folder: str, monkeypatch: pytest.MonkeyPatch, fault: Exception, where: str
) -> None:
    """It was paid for, and a store that is busy says nothing of what is in it."""
    path = add_file(folder, numbered(9))
    real = files.open_file

    def fail(*args: Any) -> Any:
        raise fault

    class Busy:
        def __init__(self, path: str) -> None:
            self._file = real(path)
            self.seek, self.tell = self._file.seek, self._file.tell
            self.read = fail

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

    monkeypatch.setattr(files, "open_file", fail if where == "open" else Busy)
    with pytest.raises(OSError, match=r"Input/output|503 busy"):
        check_files(folder)
    with pytest.raises(OSError):
        compact(folder)
    monkeypatch.undo()
    assert [file.path for file in check_files(folder).found] == [path]


def test_a_file_that_goes_away_meanwhile_is_no_error(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, kept = sorted([add_file(folder, rows(1)), add_file(folder, rows(2, 3))])
    real = files.read_end
    monkeypatch.setattr(files, "read_end", lambda p, n: (files.delete_files([gone]), real(p, n))[1])
    checked = check_files(folder)
    assert checked.set_aside == {}
    assert checked.replies == len(rows_of_ledger(folder))
    assert files.exists(kept)


def test_a_name_with_a_backslash_is_not_that_of_its_neighbour(tmp_path: Path) -> None:
    good = Path(add_file(tmp_path, rows(1)))
    (tmp_path / f"x\\{good.name}").write_bytes(b"no")
    checked = check_files(str(tmp_path))
    assert [file.path for file in checked.found] == [str(good)]
    assert set(checked.set_aside) == {f"x\\{good.name}"}


# --- setting aside


def test_setting_aside_twice_is_setting_aside_once(folder: str) -> None:
    path = add_file(folder, rows(1))
    name = path.rpartition("/")[2]
    set_aside(path, "first")
    before = tree(folder)
    set_aside(path, "first")
    assert tree(folder) == before == [f"_set_aside/{name}", f"_set_aside/{name}.reason.txt"]
    assert files_set_aside(folder) == {name: "first"}


def test_what_is_gone_is_not_told_of(folder: str) -> None:
    set_aside(files.join(folder, "merged.parquet"), "damaged")
    assert tree(folder) == []
    assert files_set_aside(folder) == {}


def test_what_cannot_be_set_aside_is_an_error_and_stays(
    tmp_path: Path, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = add_file(REMOTE, rows(1))
    MemFileSystem.broken.add("rename")
    with pytest.raises(OSError):
        set_aside(path, "damaged")
    assert files.exists(path)
    local = add_file(tmp_path, rows(1))
    (tmp_path / "_set_aside").touch()
    with pytest.raises(OSError):
        set_aside(local, "damaged")
    assert files.exists(local)


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "n" * 244, "n" * 245])
def test_a_long_name_is_set_aside_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert set(check_files(str(tmp_path)).set_aside) == {name}
    assert (tmp_path / "_set_aside" / name).read_bytes() == b"x"
    ((told, reason),) = files_set_aside(str(tmp_path)).items()
    assert told[:60] == name[:60]
    assert reason == "no Parquet file by its name"


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are text there")
def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "\udcff.parquet").write_bytes(b"x")
    check_files(str(tmp_path))
    ((name, _),) = files_set_aside(str(tmp_path)).items()
    assert name.encode() == "\N{REPLACEMENT CHARACTER}.parquet".encode()


# --- journals


def test_journals_become_a_file(tmp_path: Path) -> None:
    add_journal(tmp_path, numbered(3), "a-1-0")
    add_journal(tmp_path, numbered(4, 3), "b-2-0")
    add_journal(tmp_path, [], "c-3-0")
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=3, replies=7)
    assert in_order(rows_of_ledger(tmp_path)) == in_order(numbered(7))
    (name,) = tree(tmp_path)
    assert name.startswith("replies-")
    assert not (tmp_path / "_journal").exists()
    assert merge_journals(str(tmp_path)) == MergedJournals()
    assert tree(tmp_path) == [name]


def test_there_may_be_nothing_to_fold(tmp_path: Path) -> None:
    assert merge_journals(str(tmp_path / "none")) == MergedJournals()
    assert not (tmp_path / "none").exists()
    add_journal(tmp_path, [])
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1)
    assert tree(tmp_path) == []


def hold_journal(pipe: Connection, folder: str, count: int) -> None:
    writer = open_writer(Ledger(folder=folder, refresh="base", run_id="live"))
    for number in range(count):
        writer.append(paid(number))
    pipe.send(os.getpid())
    pipe.recv()
    writer.append(paid(count))
    pipe.send("appended")
    pipe.recv()


def test_the_journal_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    add_journal(tmp_path, numbered(2, 100), "dead-1-0")
    with child(hold_journal, str(tmp_path), 3) as process:
        name = f"live-{process.told()}-0.jsonl"
        assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=2, busy=(name,))
        assert merge_journals(str(tmp_path)) == MergedJournals(busy=(name,))
        process.pipe.send("go on")
        assert process.told() == "appended"  # to the same file
        process.kill()
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=4)
    assert in_order(rows_of_ledger(tmp_path)) == in_order([*numbered(4), *numbered(2, 100)])


def test_a_journal_of_this_process_is_left_alone_too(tmp_path: Path) -> None:
    writer = open_writer(Ledger(folder=str(tmp_path), refresh="base", run_id="me"))
    writer.append(paid(1))
    assert len(merge_journals(str(tmp_path)).busy) == 1
    writer.append(paid(2))
    writer.close()
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=2)
    assert in_order(rows_of_ledger(tmp_path)) == in_order(rows(1, 2))


def test_who_comes_second_finds_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fold at the same time: a journal that is gone was folded by the other, and is not under way."""
    path = add_journal(tmp_path, rows(1))
    real = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        path.unlink(missing_ok=True)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert merge_journals(str(tmp_path)) == MergedJournals()


@pytest.mark.parametrize("block", [1, 7, 64, 1_000, 1 << 20])
@pytest.mark.parametrize("end", [b"", b'{"request_id":"half'])
def test_lines_may_straddle_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: bytes) -> None:
    monkeypatch.setattr(journal_module, "_BLOCK_BYTES", block)
    written = [paid(n, text=text) for n, text in enumerate(["", "ü" * 300, "😀\n" * 50, "x", "y" * 2_000])]
    add_journal(tmp_path, written, end=end)
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=5, damaged=1 if end else 0)
    assert in_order(rows_of_ledger(tmp_path)) == in_order(written)


def test_many_replies_become_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_BLOCK_BYTES", 2_000)
    monkeypatch.setattr(merge_module, "FILE_BYTES", 10_000)
    for number in range(3):
        add_journal(tmp_path, numbered(60, 60 * number), f"run-{number}-0")
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=3, replies=180)
    assert 3 < len(tree(tmp_path)) < 30
    assert in_order(rows_of_ledger(tmp_path)) == in_order(numbered(180))  # each once


def test_half_a_line_at_the_end_is_counted_and_gone(tmp_path: Path) -> None:
    """Nobody can use it."""
    add_journal(tmp_path, rows(1), end=journal_line(paid(2))[:-9])
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=1, damaged=1)
    assert rows_of_ledger(tmp_path) == rows(1)
    assert len(tree(tmp_path)) == 1


def test_lines_that_another_version_wrote_are_kept(tmp_path: Path) -> None:
    """They were paid for; the version that wrote them can read them."""
    other = b'{"request_id":"r","text":"of a version to come"}\n'
    content = add_journal(tmp_path, rows(1, 2), "run-1-0", end=other * 3).read_bytes()
    add_journal(tmp_path, rows(3), "run-2-0")
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=2, replies=3, damaged=3)
    assert in_order(rows_of_ledger(tmp_path)) == in_order(rows(1, 2, 3))
    assert (tmp_path / "_set_aside" / "run-1-0.jsonl").read_bytes() == content
    assert files_set_aside(str(tmp_path)) == {
        "run-1-0.jsonl": "3 of its lines cannot be read; the others are in the ledger"
    }
    assert not (tmp_path / "_journal").exists()
    assert merge_journals(str(tmp_path)) == MergedJournals()


def test_a_journal_with_lines_that_cannot_be_read_stays_until_it_is_to_be_mended(tmp_path: Path) -> None:
    changed = journal_line(paid(2)).replace(b"reply 2", b"reply 3")
    add_journal(tmp_path, rows(1), "run-1-0", end=changed)
    add_journal(tmp_path, rows(4), "run-2-0")
    assert merge_journals(str(tmp_path), mend=False) == MergedJournals(journals=1, replies=1, left={"run-1-0.jsonl": 1})
    assert rows_of_ledger(tmp_path) == rows(4)
    assert paid_in_journals(str(tmp_path)) == {("base", "example"): 1}
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=1, damaged=1)
    assert in_order(rows_of_ledger(tmp_path)) == in_order(rows(1, 4))


def test_one_bad_byte_does_not_spoil_the_file(tmp_path: Path) -> None:
    good = b"".join(map(journal_line, numbered(20)))
    add_journal(tmp_path, [], end=good + journal_line(paid(99, text="QQ")).replace(b"QQ", b"\xff\xff") + good)
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=40, damaged=1)
    assert check_files(str(tmp_path)).set_aside == {}
    assert len(rows_of_ledger(tmp_path)) == 40


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is done that the code does not do on every way out."""


def killed(*args: Any, **kwargs: Any) -> Any:
    raise Killed


def test_who_is_killed_between_writing_and_taking_away_leaves_harmless_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        add_journal(tmp_path, numbered(2, 2 * number), f"run-{number}-0")
    real = files.delete_files
    deleted: list[str] = []

    def once(paths: Any) -> None:
        if deleted:
            raise Killed
        deleted.extend(paths)
        real(deleted)

    with monkeypatch.context() as patch:
        patch.setattr(files, "delete_files", once)
        with pytest.raises(Killed):
            merge_journals(str(tmp_path))
    assert open_under(tmp_path) == []
    assert len(rows_of_ledger(tmp_path)) == 6
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=2, replies=4)
    found = rows_of_ledger(tmp_path)
    assert len(found) == 10
    assert in_order({row["request_id"]: row for row in found}.values()) == in_order(numbered(6))
    assert compact(str(tmp_path)).duplicates == 4
    assert in_order(rows_of_ledger(tmp_path)) == in_order(numbered(6))


def test_who_is_killed_again_and_again_writes_the_same_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_journal(tmp_path, numbered(5))
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(files, "delete_files", killed)
            with pytest.raises(Killed):
                merge_journals(str(tmp_path))
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=1, replies=5)
    assert in_order(rows_of_ledger(tmp_path)) == in_order(numbered(5))


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), Killed()])
def test_a_file_that_cannot_be_written_leaves_the_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    for number in range(2):
        add_journal(tmp_path, rows(number), f"run-{number}-0")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_file", fail)
        with pytest.raises(type(fault)):
            merge_journals(str(tmp_path))
    assert tree(tmp_path) == ["_journal/run-0-0.jsonl", "_journal/run-1-0.jsonl"]
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=2, replies=2)  # they are not locked any more


@pytest.mark.parametrize("bad", [0, 1])
def test_a_journal_that_cannot_be_read_keeps_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    for number in range(2):
        add_journal(tmp_path, rows(number), f"run-{number}-0")
    real = merge_module.tables_of
    read: list[int] = []

    def fail(file: Any) -> Any:
        read.append(1)
        if len(read) > bad:
            raise OSError(5, "Input/output error")
        return real(file)

    with monkeypatch.context() as patch:
        patch.setattr(merge_module, "tables_of", fail)
        with pytest.raises(OSError, match="Input/output"):
            merge_journals(str(tmp_path))
    assert open_under(tmp_path) == []
    assert merge_journals(str(tmp_path)) == MergedJournals(journals=2, replies=2)


def test_a_journal_that_cannot_be_taken_away_closes_each_descriptor_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing it twice could close what somebody else has opened meanwhile."""
    for number in range(3):
        add_journal(tmp_path, rows(number), f"run-{number}-0")
    closed: list[int] = []
    real_close, real_delete = os.close, files.delete_files
    deleted: list[str] = []

    def once(paths: Any) -> None:
        if deleted:
            raise PermissionError(13, "denied")
        deleted.extend(paths)
        real_delete(deleted)

    with monkeypatch.context() as patch:
        patch.setattr(files, "delete_files", once)
        patch.setattr(os, "close", lambda fd: (closed.append(fd), real_close(fd))[1])
        with pytest.raises(PermissionError):
            merge_journals(str(tmp_path))
    held = [fd for fd in closed if closed.count(fd) > 1]
    assert held == [], "no descriptor is opened between these, so none may be closed twice"


# --- merging


def test_small_files_are_merged_and_the_earliest_of_each_request_is_kept(folder: str) -> None:
    late = [paid(n, time=TIME + 1_000, text="late") for n in range(4)]
    for part in (numbered(3), late, numbered(3, 3)):
        add_file(folder, part)
    compacted = compact(folder)
    assert (compacted.before, compacted.after, compacted.duplicates) == (3, 1, 4)
    assert in_order(rows_of_ledger(folder)) == in_order(numbered(6))
    assert len(tree(folder)) == 1


def test_merging_again_changes_nothing(folder: str) -> None:
    for part in (numbered(3), numbered(3, 3)):
        add_file(folder, part)
    compact(folder)
    before = tree(folder)
    compacted = compact(folder)
    assert (compacted.before, compacted.after, compacted.duplicates) == (1, 1, 0)
    assert tree(folder) == before


def test_one_file_is_left_as_it_is(folder: str) -> None:
    path = add_file(folder, numbered(3))
    assert compact(folder).after == 1
    assert files.exists(path)


def test_large_files_are_left_as_they_are(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [add_file(folder, numbered(60, 1_000 * n)) for n in range(2)]
    small = [add_file(folder, numbered(2, 5_000 + 1_000 * n)) for n in range(3)]
    limit = min(len(files.read_file(path)) for path in large)
    assert max(len(files.read_file(path)) for path in small) < limit
    monkeypatch.setattr(compact_module, "_SMALL_BYTES", limit)
    compacted = compact(folder)
    assert (compacted.before, compacted.after) == (5, 3)
    assert all(files.exists(path) for path in large)
    assert not any(files.exists(path) for path in small)
    assert len(rows_of_ledger(folder)) == 126


def test_merged_files_are_not_larger_than_they_should_be(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [numbered(10, 10 * n) for n in range(9)]
    for part in parts:
        add_file(folder, part)
    monkeypatch.setattr(compact_module, "FILE_BYTES", int(3.5 * table_of(parts[0]).nbytes))
    compacted = compact(folder)
    assert (compacted.before, compacted.after) == (9, 3)
    assert in_order(rows_of_ledger(folder)) == in_order(numbered(90))


@pytest.mark.parametrize("deletions", [0, 1, 2])
def test_who_is_killed_while_merging_loses_nothing(
    folder: str, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    parts = [numbered(3, 3 * n) for n in range(3)]
    for part in parts:
        add_file(folder, part)
    real = files.delete_files

    def some(paths: Any) -> None:
        for path, _ in zip(paths, range(deletions), strict=False):
            real([path])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "delete_files", some)
        with pytest.raises(Killed):
            compact(folder)
    found = rows_of_ledger(folder)
    assert len(found) == 9 + 3 * (3 - deletions)
    assert in_order({row["request_id"]: row for row in found}.values()) == in_order(numbered(9))
    compacted = compact(folder)
    assert (compacted.after, compacted.duplicates) == (1, 3 * (3 - deletions))
    assert in_order(rows_of_ledger(folder)) == in_order(numbered(9))


def test_who_is_killed_before_the_new_file_is_there_changes_nothing(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (numbered(3), numbered(3, 3)):
        add_file(folder, part)
    before = tree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_file", killed)
        with pytest.raises(Killed):
            compact(folder)
    assert tree(folder) == before


def test_what_is_not_there_as_it_was_written_is_not_believed(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [add_file(folder, part) for part in (numbered(3), numbered(3, 3))]
    real = files.write_file
    monkeypatch.setattr(files, "write_file", lambda path, content, **k: real(path, content[:-20], **k))
    with pytest.raises(OSError, match="does not hold what was written"):
        compact(folder)
    assert all(files.exists(path) for path in paths)


def test_files_that_hold_the_same_are_merged_into_one_of_them(folder: str) -> None:
    """The new file may have the name of an old one, which must not go then."""
    name, content = replies_file(first_of_each(table_of(numbered(5))))
    files.write_file(files.join(folder, name), content)
    add_file(folder, numbered(2))
    compacted = compact(folder)
    assert (compacted.before, compacted.after, compacted.duplicates) == (2, 1, 2)
    assert tree(folder) == [name]
    assert in_order(rows_of_ledger(folder)) == in_order(numbered(5))


def damage(path: str) -> None:
    """Changes a byte of a file where its footer does not notice."""
    content = bytearray(files.read_file(path))
    content[200] ^= 0xFF
    files.write_file(path, bytes(content))


def test_a_damaged_file_is_set_aside_and_the_others_are_merged(folder: str) -> None:
    bad = add_file(folder, numbered(30, 100))
    for part in (numbered(3), numbered(3, 3)):
        add_file(folder, part)
    damage(bad)
    name = bad.rpartition("/")[2]
    files.write_file(files.join(folder, "foreign.parquet"), b"x")
    assert check_files(folder, thorough=False).replies == 36  # its footer is well
    compacted = compact(folder)
    assert compacted.after == 1
    assert in_order(rows_of_ledger(folder)) == in_order(numbered(6))
    reasons = files_set_aside(folder)
    assert set(reasons) == {name, "foreign.parquet"}
    assert "damaged" in reasons[name]


@pytest.mark.parametrize("thorough", [False, True])
def test_a_damaged_file_is_told_and_left_until_it_is_to_be_mended(folder: str, thorough: bool) -> None:
    bad = add_file(folder, numbered(400, 100))
    add_file(folder, numbered(3))
    damage(bad)
    name = bad.rpartition("/")[2]
    content = files.read_file(bad)
    told = check_files(folder, mend=False, thorough=thorough)
    if thorough:
        assert str(told.damaged[name]) == "damaged: 336 of its 400 replies are whole"
        assert (told.replies, told.set_aside) == (3, {})
    assert files.read_file(bad) == content
    mended = check_files(folder, thorough=True)
    assert mended.paid == {("base", "example"): 339}
    assert files_set_aside(folder) == mended.set_aside == {name: "damaged: 336 of its 400 replies are whole"}
    assert files.read_file(files.join(folder, "_set_aside", name)) == content
    assert len(rows_of_ledger(folder)) == 339
    again = check_files(folder, thorough=True)
    assert (again.found, again.paid, again.damaged) == (mended.found, mended.paid, {})


def test_one_wrong_bit_in_a_footer_costs_nothing(folder: str) -> None:
    path = add_file(folder, numbered(9))
    content = bytearray(files.read_file(path))
    content[-20] ^= 4
    files.write_file(path, bytes(content))
    mended = check_files(folder, thorough=True)
    assert (mended.paid, mended.set_aside) == ({("base", "example"): 9}, {})
    assert [file.path for file in mended.found] == [path]
    assert in_order(rows_of_ledger(folder)) == in_order(numbered(9))


@pytest.mark.parametrize("thorough", [False, True])
def test_a_file_of_an_earlier_version_or_another_tool_gets_a_name_that_tells(folder: str, thorough: bool) -> None:
    content = io.BytesIO()
    pq.write_table(table_of(numbered(3)), content)
    files.write_file(files.join(folder, "merged.parquet"), content.getvalue())
    older = io.BytesIO()
    pq.write_table(table_of(numbered(3, 10)), older)
    files.write_file(files.join(folder, name_for(older.getvalue())), older.getvalue())
    checked = check_files(folder, mend=False, thorough=thorough)
    assert (checked.replies, checked.set_aside, checked.damaged) == (6, {}, {})
    (taken_in,) = {file.name for file in checked.found} - {name_for(older.getvalue())}
    assert digest_in_name(taken_in)
    assert list(checked.found) == ledger_files.ledger_files(folder)
    assert in_order(rows_of_ledger(folder)) == in_order([*numbered(3), *numbered(3, 10)])


REPLY = st.fixed_dictionaries(
    {
        "number": st.integers(0, 3),
        "time": st.integers(TIME, TIME + 1),
        "text": st.sampled_from(["a", "b"]),
        "finish_reason": st.sampled_from(["stop", "length"]),
        "output_tokens": st.integers(1, 2),
    }
)


@given(st.lists(REPLY, max_size=12), st.integers(0, 9))
@settings(max_examples=80)
def test_what_is_kept_is_what_a_run_takes(replies: list[dict[str, Any]], order: int) -> None:
    """Before merging as after it, in whatever order."""
    all_rows = [paid(reply.pop("number"), **reply) for reply in map(dict, replies)]
    wanted = {row["draft_id"] for row in all_rows}
    table = table_of(shuffled(all_rows, str(order)))
    kept = first_of_each(pa.concat_tables([table.slice(0, 3), table.slice(3)]))
    assert paid_replies([kept], wanted) == paid_replies([table_of(all_rows)], wanted)
    assert kept.num_rows == len(wanted)
    assert rows_in(kept) == rows_in(first_of_each(table_of(all_rows)))


# --- what is in it


def test_contents_are_told_by_label_and_model(folder: str) -> None:
    add_file(folder, [*rows(1, 2), *rows(3, model="m-2")])
    add_file(folder, [*rows(4), *rows(5, refresh="b", prompt_tokens=100)])
    files.write_file(files.join(folder, "notes.txt"), b"hello")
    bad = add_file(folder, numbered(30, 100))
    damage(bad)
    found = contents(folder)
    assert found.by_model == {
        ("base", "m-1"): ModelReplies(replies=3, prompt_tokens=21, output_tokens=9, files=2),
        ("base", "m-2"): ModelReplies(replies=1, prompt_tokens=7, output_tokens=3, files=1),
        ("b", "m-1"): ModelReplies(replies=1, prompt_tokens=100, output_tokens=3, files=1),
    }
    assert set(found.set_aside) == {"notes.txt", bad.rpartition("/")[2]}
    good = ledger_files.ledger_files(folder)
    assert (found.files, found.bytes, found.journals) == (2, sum(file.bytes for file in good), 0)


def test_what_waits_in_journals_is_told_too(tmp_path: Path) -> None:
    add_file(tmp_path, rows(1))
    add_journal(tmp_path, rows(2, 3), "dead-1-0", end=b'{"half')
    writer = open_writer(Ledger(folder=str(tmp_path), refresh="base", run_id="live"))
    writer.append(paid(4))
    found = contents(str(tmp_path))
    writer.close()
    assert found.by_model == {("base", "m-1"): ModelReplies(replies=4, prompt_tokens=28, output_tokens=12, files=1)}
    assert (found.files, found.journals, found.set_aside) == (1, 3, {})
    assert len(tree(tmp_path)) == 3  # nothing was changed


def test_a_file_that_goes_away_is_not_counted(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted([add_file(folder, rows(1)), add_file(folder, rows(2))])
    real: Callable[[str], bytes] = files.read_file

    def gone(path: str) -> bytes:
        files.delete_files(paths[:1])
        return real(path)

    monkeypatch.setattr(files, "read_file", gone)
    found = contents(folder)
    assert (found.files, sum(held.replies for held in found.by_model.values())) == (1, 1)


def test_columns_of_the_folder_are_those_of_the_schema(tmp_path: Path) -> None:
    add_journal(tmp_path, rows(1))
    merge_journals(str(tmp_path))
    (name,) = tree(tmp_path)
    assert pq.read_schema(tmp_path / name).equals(SCHEMA, check_metadata=False)
    assert all(not field.nullable for field in pq.read_schema(tmp_path / name))
