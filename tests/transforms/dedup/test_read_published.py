"""ReadPublished: every task and example that other refreshes hold is known, or the run stops."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.texts import text_id
from textmint.transforms.dataset.published_files import check_digest
from textmint.transforms.dataset.schema import DatasetKind, content_digest, schema_of, to_parquet
from textmint.transforms.dedup.read_published import (
    Published,
    ReadPublished,
    published_rows,
    published_tasks,
    published_texts,
)

from tests.support.helpers import Ran, make_example, make_task, run_graph

EXAMPLES = [make_example("Sort bees", n) for n in range(5)]
TASKS = [make_task("Sort bees"), make_task("Sort ants")]
EXAMPLES_FILE = to_parquet(EXAMPLES, schema_of("examples"))
TASKS_FILE = to_parquet(TASKS, schema_of("tasks"))


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def read(kind: DatasetKind, *found: tuple[str, str]) -> Ran:
    return run_graph(lambda pipeline: pipeline | ReadPublished(kind, found))


def test_examples_by_their_text() -> None:
    assert list(published_rows(EXAMPLES_FILE, "one")) == [
        (text_id(example.input_text), example.id, "one") for example in sorted(EXAMPLES, key=lambda row: row.id)
    ]


def test_tasks_by_their_id() -> None:
    ids = sorted(task.task_id for task in TASKS)
    assert list(published_tasks(TASKS_FILE, "one", 3)) == [(id_, "one", 0, 3) for id_ in ids]
    older = pq.ParquetFile(io.BytesIO(TASKS_FILE)).read().drop_columns(["first_replica"]).to_pydict()
    assert list(published_tasks(parquet(**older), "one", 3)) == [(id_, "one", 0, 3) for id_ in ids]


def test_a_task_that_others_had_before_goes_on_with_its_numbers_and_its_text_stands_there() -> None:
    later = replace(TASKS[0], first_replica=10)
    content = to_parquet(sorted([later, TASKS[1]], key=lambda task: task.task_id), schema_of("tasks"))
    assert (later.task_id, "two", 10, 14) in list(published_tasks(content, "two", 4))
    assert [text.id for text in published_texts("tasks", content, "two")] == [TASKS[1].task_id]


def test_a_file_without_rows() -> None:
    assert list(published_rows(to_parquet([], schema_of("examples")), "one")) == []


def test_a_file_that_another_program_wrote_anew() -> None:
    """Other columns besides, text as a dictionary or with long offsets: what it says is what counts."""
    text = pa.array(["It rains.", "It rains."]).dictionary_encode()
    content = parquet(note=[1, 2], input_text=text, id=pa.array(["a", "b"], pa.large_string()))
    assert list(published_rows(content, "one")) == [
        (text_id("It rains."), "a", "one"),
        (text_id("It rains."), "b", "one"),
    ]


BAD: dict[str, tuple[DatasetKind, bytes]] = {
    "empty": ("tasks", b""),
    "no Parquet": ("tasks", b"hello, this is text and no table"),
    "cut short": ("examples", EXAMPLES_FILE[:-20]),
    "without the column": ("examples", TASKS_FILE),
    "a null text": ("examples", parquet(id=["a"], input_text=pa.array([None], pa.string()))),
    "a null id": ("examples", parquet(id=pa.array([None], pa.string()), input_text=["It rains."])),
    "numbers for ids": ("examples", parquet(id=[7], input_text=["It rains."])),
    "numbers for texts": ("examples", parquet(id=["a"], input_text=[7])),
    "a null task": ("tasks", parquet(task_id=pa.array(["a", None]))),
    "numbers for tasks": ("tasks", parquet(task_id=[1, 2], task=["a", "b"])),
    "no number": ("tasks", parquet(task_id=["a"], task=["b"], first_replica=pa.array([None], pa.int64()))),
    "a number below 0": ("tasks", parquet(task_id=["a"], task=["b"], first_replica=[-1])),
    "no UTF-8": ("examples", parquet(id=["a"], input_text=pa.array([b"\xff\xfe"]).view(pa.string()))),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_file_is_told(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        list(published_texts(*BAD[name], "one"))
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_page_is_told_or_read_but_ends_nothing_else() -> None:
    """Parquet has no checksums of its own here, so some damage reads as other text."""
    refused = 0
    for place in range(4, len(EXAMPLES_FILE) - 8, 97):
        damaged = bytearray(EXAMPLES_FILE)
        damaged[place] ^= 0xFF
        try:
            rows: list[Published] = list(published_rows(bytes(damaged), "one"))
        except ValueError:
            refused += 1
        else:
            assert all(isinstance(part, str) for row in rows for part in row)
    assert refused > 5


def test_files_of_several_labels(tmp_path: Path, store: dict[str, bytes]) -> None:
    (tmp_path / "a.parquet").write_bytes(EXAMPLES_FILE)
    store["mem://bucket/b.parquet"] = to_parquet(EXAMPLES[:1], schema_of("examples"))
    ran = read("examples", (str(tmp_path / "a.parquet"), "one"), ("mem://bucket/b.parquet", "two"))
    assert sorted(ran.elements) == sorted(
        [
            *((text_id(example.input_text), example.id, "one") for example in EXAMPLES),
            (text_id(EXAMPLES[0].input_text), EXAMPLES[0].id, "two"),
        ]
    )


def test_a_run_stops_where_it_cannot_know_what_is_published(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(BAD["numbers for tasks"][1])
    with pytest.raises(RunFailed, match=r"bad\.parquet, which refresh=one published, cannot be read \(task_id holds"):
        read("tasks", (str(path), "one"))


def test_what_the_run_itself_writes_anew_may_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(BAD["numbers for tasks"][1])
    (tmp_path / "good.parquet").write_bytes(TASKS_FILE)
    found = [(str(tmp_path / f"{name}.parquet"), "one", "3") for name in ("bad", "gone", "good")]
    ran = run_graph(lambda pipeline: pipeline | ReadPublished("tasks", found, refresh="one"))
    assert sorted(ran.elements) == sorted(published_tasks(TASKS_FILE, "one", 3))


@pytest.mark.parametrize("path", ["{tmp_path}/gone.parquet", "mem://bucket/gone.parquet"])
def test_a_file_that_was_replaced_meanwhile(path: str, tmp_path: Path, store: dict[str, bytes]) -> None:
    """Another run may publish another label while this one is under way; nothing is broken then."""
    with pytest.raises(RunFailed, match="refresh=one was published anew meanwhile; run the same command again"):
        read("tasks", (path.format(tmp_path=tmp_path), "one"))


def test_a_published_file_that_has_changed_ends_the_run(tmp_path: Path) -> None:
    """Be it by one bit, which Parquet reads as another text."""
    whole = tmp_path / f"part-00000-of-00001-{content_digest(EXAMPLES_FILE)}.parquet"
    check_digest(str(whole), EXAMPLES_FILE)
    check_digest(str(tmp_path / "mine.parquet"), EXAMPLES_FILE)
    for place in range(0, len(EXAMPLES_FILE), 7):
        changed = bytearray(EXAMPLES_FILE)
        changed[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="not what was written"):
            check_digest(str(whole), bytes(changed))
