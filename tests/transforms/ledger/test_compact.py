"""Small files are merged, and at no moment could a kill lose a reply; what a ledger holds is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.ledger import compact as compact_module
from textmint.transforms.ledger import files as ledger_files
from textmint.transforms.ledger.compact import ModelReplies, compact, contents, first_of_each
from textmint.transforms.ledger.files import check_files, files_set_aside
from textmint.transforms.ledger.join import paid_replies
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.ledger.table import SCHEMA, replies_file
from textmint.transforms.ledger.writer import Ledger, open_writer
from textmint.transforms.storage import files

from tests.support.helpers import shuffled
from tests.support.ledger_rows import (
    TIME,
    Killed,
    add_file,
    add_journal,
    damage,
    in_order,
    killed,
    numbered,
    paid,
    rows,
    rows_in,
    rows_of_ledger,
    table_of,
    tree,
)

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
