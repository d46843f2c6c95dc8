"""Journals become files, and at no moment could a kill lose a reply."""

from __future__ import annotations

import fcntl
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.ledger import journal as journal_module
from textmint.transforms.ledger import merge_journals as merge_module
from textmint.transforms.ledger.compact import compact
from textmint.transforms.ledger.files import check_files, files_set_aside
from textmint.transforms.ledger.journal import journal_line
from textmint.transforms.ledger.merge_journals import MergedJournals, merge_journals, paid_in_journals
from textmint.transforms.ledger.writer import Ledger, open_writer
from textmint.transforms.storage import files

from tests.support.children import child, open_under
from tests.support.ledger_rows import Killed, add_journal, in_order, killed, numbered, paid, rows, rows_of_ledger, tree


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
