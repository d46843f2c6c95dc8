"""Listings: what a graph reads is the same whether it names the files or a listing of them."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

import apache_beam as beam
import pytest
import textmint.pipelines.graph.previous_run
from hypothesis import given
from hypothesis import strategies as st
from textmint.pipelines.graph.previous_run import NAMED_FILES, NOTHING, PreviousRun, with_listings
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger.read_ledger import groups_of
from textmint.transforms.storage.files import FoundFile
from textmint.transforms.storage.listing import Listing, Row, create, read_listing, write_listing

from tests.support.helpers import files_of, run_graph, run_main

ROWS: list[Row] = [("a", "b"), ("a\nb", "\u2028"), ("\udcff.parquet", "x" * 5_000), ("c",)]


@pytest.mark.parametrize("rows", [ROWS, []])
def test_rows_come_back_in_order(rows: list[Row], tmp_path: Path) -> None:
    listing = write_listing(str(tmp_path / "new" / "rows.jsonl"), rows)
    assert re.fullmatch(r"[0-9a-f]{16}-rows\.jsonl", str(Path(listing.path).relative_to(tmp_path / "new")))
    assert list(read_listing(listing.path)) == rows


def test_rows_come_back_on_an_object_store(store: dict[str, bytes]) -> None:
    assert list(read_listing(write_listing("mem://bucket/rows.jsonl", ROWS).path)) == ROWS
    (path,) = store
    assert path.endswith("-rows.jsonl")


@given(st.lists(st.lists(st.text(st.characters()), min_size=1).map(tuple), max_size=5))
def test_any_name_comes_back(rows: list[Row]) -> None:
    path = Path(_folder(), "rows.jsonl")
    assert list(read_listing(write_listing(str(path), rows).path)) == rows


@functools.cache
def _folder() -> str:
    import tempfile

    return tempfile.mkdtemp()


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_graph_reads_them_all(is_listed: bool, tmp_path: Path) -> None:
    rows = [(f"{number}", "label") for number in range(300)]
    source = write_listing(str(tmp_path / "rows.jsonl"), rows) if is_listed else rows
    ran = run_graph(lambda pipeline: pipeline | "Files" >> create(source))
    assert sorted(ran.elements) == sorted(rows)


def test_a_listing_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"FileNotFoundError.*rows\.jsonl"):
        run_graph(lambda pipeline: pipeline | "Files" >> create(Listing(str(tmp_path / "rows.jsonl"))))


# --- what earlier runs left

LEDGER = tuple(FoundFile(f"/d/ledger/replies-{number:04d}.parquet", 50_000) for number in range(600))
PUBLISHED = tuple((f"/d/examples/refresh={number}/part.parquet", f"{number}") for number in range(5))


def test_only_long_lists_become_listings(tmp_path: Path) -> None:
    previous = PreviousRun(ledger=LEDGER, tasks=PUBLISHED[:2], examples=PUBLISHED)
    listed = with_listings(previous, str(tmp_path), most=4)
    assert listed.listings.keys() == {"ledger", "examples"}
    assert listed.named("tasks") == previous.tasks
    assert list(read_listing(listed.named("examples").path)) == list(PUBLISHED)
    assert list(read_listing(listed.named("ledger").path)) == groups_of(LEDGER)
    assert (listed.ledger, listed.examples) == (previous.ledger, previous.examples)


@pytest.mark.parametrize("previous", [NOTHING, PreviousRun(ledger=LEDGER[:NAMED_FILES], tasks=PUBLISHED)])
def test_short_lists_write_nothing(previous: PreviousRun, tmp_path: Path) -> None:
    assert with_listings(previous, str(tmp_path)) == previous
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "listings").touch()
    with pytest.raises(RunFailed, match=r"mend that.*Nothing was paid for"):
        with_listings(PreviousRun(ledger=LEDGER), str(tmp_path), most=4)


def test_a_run_writes_the_same_with_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are a ledger, and tasks and examples of another label, to read."""
    seen: list[PreviousRun] = []

    def spied(previous: PreviousRun, folder: str) -> PreviousRun:
        seen.append(with_listings(previous, folder, most=0))
        return seen[-1]

    for name, refresh in (("named", "base"), ("named", "next"), ("listed", "next")):
        if name == "listed":
            monkeypatch.setattr(textmint.pipelines.graph.previous_run, "with_listings", spied)
        done = run_main("generate", "--task_requests=1", f"--output={tmp_path / name}", f"--refresh={refresh}")
        assert done.code == 0, done.err
        if refresh == "base":
            shutil.copytree(tmp_path / "named", tmp_path / "listed")
    named, listed = (files_of(tmp_path / name) for name in ("named", "listed"))
    assert named == listed and len(named) == 8
    (previous,) = seen
    assert previous.listings.keys() == {"ledger", "tasks", "examples"}
    assert not (tmp_path / "listed" / "_staging").exists()  # they go with the rest of what was staged


def test_a_graph_with_listings_does_not_grow(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 5_000):
        rows = [(stable_hash("file", number), "label") for number in range(count)]
        pipeline = beam.Pipeline("FnApiRunner")
        _ = pipeline | "Files" >> create(write_listing(str(tmp_path / "rows.jsonl"), rows))
        sizes.append(pipeline.to_runner_api().ByteSize())
    assert abs(sizes[1] - sizes[0]) < 200  # pickled, what Beam brings along is never quite of the same size


def test_a_listing_that_was_changed_is_refused(tmp_path: Path) -> None:
    written = write_listing(str(tmp_path / "tasks.jsonl"), [("/a/b", "c")])
    Path(written.path).write_bytes(Path(written.path).read_bytes().replace(b"/a/b", b"/a/c"))
    with pytest.raises(RunFailed, match=r"tasks\.jsonl is not what was written there"):
        list(read_listing(written.path))
