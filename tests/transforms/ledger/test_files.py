"""The ledger's folder: each file is checked, and what is foreign is set aside."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from textmint.transforms.ledger import files as ledger_files
from textmint.transforms.ledger import table as ledger
from textmint.transforms.ledger.compact import compact, contents
from textmint.transforms.ledger.files import check_files, files_set_aside, set_aside, sound_files
from textmint.transforms.ledger.table import digest_in_name, name_for, replies_file
from textmint.transforms.storage import files

from tests.support.ledger_rows import REMOTE, add_file, damage, in_order, numbered, rows, rows_of_ledger, table_of, tree
from tests.support.mem_store import MemFileSystem

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


# --- damaged files


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


def test_who_only_looks_leaves_out_what_is_not_of_a_ledger_and_changes_nothing(folder: str) -> None:
    good = add_file(folder, rows(1, 2))
    for name, content in BROKEN.items():
        files.write_file(files.join(folder, name), content)
    before = tree(folder)
    assert [file.path for file in sound_files(folder)] == [good]
    assert tree(folder) == before
