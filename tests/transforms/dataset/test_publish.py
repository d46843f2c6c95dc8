"""Publishing: the data of a refresh is replaced as a whole or not at all, on a disk and on an object store."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from apache_beam.io.filesystem import BeamIOError
from textmint.transforms.core.elements import Reject
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset import publish as publishing
from textmint.transforms.dataset.manifest import read_manifest
from textmint.transforms.dataset.publish import ACCEPTED, Target, finish_publishing, publish
from textmint.transforms.dataset.publish_checks import _remedy, explain_no_examples
from textmint.transforms.dataset.published_files import published_examples
from textmint.transforms.dataset.schema import schema_of
from textmint.transforms.storage import lease
from textmint.transforms.storage.files import exists, list_files, read_file

from tests.support.dataset_runs import (
    BUCKET,
    EVERY_RUN,
    NEW,
    NOTHING,
    OLD,
    Data,
    data_of,
    expected_files,
    make_data,
    make_target,
    publish_data,
    publishes_nothing,
    stage,
    visible_files,
)
from tests.support.helpers import entry_of, files_of, make_reject, rows_of
from tests.support.mem_store import MemFileSystem


def test_no_stale_file_when_a_run_has_fewer(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD, parts=3)
    assert len(files_of(tmp_path)) == 3 * len(EVERY_RUN)
    entry = publish_data(make_target(tmp_path, run_id="run-2"), NEW)
    assert set(files_of(tmp_path)) == expected_files(entry)
    assert len(rows_of(tmp_path, "examples")) == len(NEW.examples)


@pytest.fixture(params=["disk", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, bytes]) -> str:
    """A dataset folder on a disk, and one on an object store."""
    return str(tmp_path) if request.param == "disk" else BUCKET


def test_a_run_with_too_few_examples_publishes_its_counts_only(output: str) -> None:
    publish_data(make_target(output), OLD)
    before, wanted = visible_files(output), len(NEW.examples)
    target = make_target(output, run_id="run-2")
    target = dataclasses.replace(target, publish_from=wanted + 1, report=f"{target.staging}/counts.json")
    for _ in range(2):  # an engine may run it twice
        found = publish_data(target, NEW)
        assert found == {**NEW.counts, ACCEPTED: wanted} == json.loads(read_file(target.report))
    assert visible_files(output) == before
    publish_data(dataclasses.replace(target, publish_from=wanted), NEW)
    assert published_examples(output, "base") == wanted
    assert not exists(target.report)


def entry_at(refresh: str = "base") -> Any:
    return read_manifest(BUCKET)["refreshes"][refresh]


@pytest.mark.parametrize(
    ("step", "count", "message"),
    [
        ("ParseJSON/kept", 9, "ParseJSON: 12 in, but 9 kept [+] 2 rejected"),
        ("LLMCall/kept", 13, "LLMCall: 12 in, but 13 kept"),
        ("BuildPrompt/kept", 11, "BuildPrompt: 12 in, but 11 kept"),
        ("Flatten/in", 5, "Flatten: 5 in, but 4 kept"),
        ("ParseJSON/rejected.bored", 0, "unknown reason 'bored'"),
    ],
)
def test_counts_that_do_not_add_up_publish_nothing(output: str, step: str, count: int, message: str) -> None:
    publish_data(make_target(output), NEW)
    target = make_target(output, run_id="run-2")
    with publishes_nothing(output, message):
        publish(target, stage(target, OLD), {**OLD.counts, step: count})


def test_a_lost_file_publishes_nothing(tmp_path: Path) -> None:
    target = make_target(tmp_path)
    staged = [file for file in stage(target, OLD, parts=2) if not file.name.startswith("part-00001")]
    with publishes_nothing(tmp_path, "examples: 5 rows written, but 10 counted"):
        publish(target, staged, OLD.counts)


def test_brainstorm_rounds_that_are_lost_publish_nothing(tmp_path: Path) -> None:
    target = dataclasses.replace(make_target(tmp_path), task_requests=5)
    with pytest.raises(RunFailed, match="TaskGenerate: 5 in, but 4 kept"):
        publish(target, stage(target, OLD), OLD.counts)


def test_without_an_example_the_old_data_stays(output: str) -> None:
    publish_data(make_target(output), OLD)
    target = make_target(output, run_id="run-2")
    with publishes_nothing(output, r"not one example was kept \(6 ParseJSON empty\)"):
        publish_data(target, NOTHING)
    assert list_files(f"{target.staging}/rejects")


def test_without_an_example_and_without_old_data_the_rejects_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="not one example was kept") as caught:
        publish_data(make_target(tmp_path), NOTHING)
    assert str(tmp_path / "rejects") in str(caught.value)
    assert len(rows_of(tmp_path, "rejects")) == 6
    table = ds.dataset(tmp_path / "examples", partitioning="hive").to_table()
    assert table.num_rows == 0
    assert table.schema.names == [*schema_of("examples").names, "refresh"]
    assert not any(pa.types.is_null(field.type) for field in table.schema)
    assert entry_of(tmp_path)["counts"]["examples"] == 0


def test_a_second_run_without_an_example_shows_its_own_rejects(tmp_path: Path) -> None:
    """What the first one left is no data to protect."""
    for run_id, data in (("run-1", NOTHING), ("run-2", make_data(tasks=1, rejects=3, name="Other"))):
        with pytest.raises(RunFailed, match="not one example was kept"):
            publish_data(make_target(tmp_path, run_id=run_id), data)
    assert {row["task"] for row in rows_of(tmp_path, "rejects")} == {"Other things of kind 0"}


@pytest.mark.parametrize(
    ("reasons", "remedy"),
    [
        ({}, "give more with --tasks or --task_requests"),
        ({"Flatten duplicate": 9, "ParseJSON not_json": 2}, "choose another --model"),
        ({"Flatten duplicate": 3, "FindNearDuplicates near_duplicate": 9}, "all of it is there already; ask for more"),
        ({"Flatten duplicate": 3, "LLMCall request_failed": 9}, "run the same command again"),
        ({"FindDuplicates duplicate": 3, "ParseJSON truncated": 9}, "--max_output_tokens"),
        ({"ParseJSON truncated": 3, "CheckQuality wrong_length": 9}, "change --checks"),
    ],
)
def test_a_run_without_an_example_says_what_to_do(reasons: dict[str, int], remedy: str) -> None:
    assert remedy in _remedy(reasons)


def test_tasks_over_the_number_asked_for_are_no_reason_beside_others() -> None:
    table = {"Flatten": {"rejected": {"over_max_tasks": 240}}, "ParseJSON": {"rejected": {"not_json": 20}}}
    assert explain_no_examples(table).startswith(
        "not one example was kept (20 ParseJSON not_json): choose another --model"
    )
    del table["ParseJSON"]
    assert "(240 Flatten over_max_tasks)" in explain_no_examples(table)


def test_a_run_that_finds_nothing_new_fails(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD)
    data = make_data(tasks=2, rejects=6, name="Fail", reason="duplicate")
    with pytest.raises(RunFailed, match="all of it is there already; ask for more"):
        publish_data(make_target(tmp_path, "2"), data)
    assert read_manifest(str(tmp_path))["refreshes"]["2"]["counts"]["rejects"] == 6


def test_a_retried_publish_without_an_example_says_the_same(tmp_path: Path) -> None:
    target = make_target(tmp_path)
    staged = stage(target, NOTHING)
    messages = []
    for _ in range(2):
        with pytest.raises(RunFailed) as caught:
            publish(target, staged, NOTHING.counts)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@contextlib.contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, exchanges: int) -> Iterator[None]:
    """Stops whoever publishes after so many exchanges of folders."""
    exchange, done = publishing.exchange_folders, []

    def stops(new: Path, old: Path) -> None:
        if len(done) == exchanges:
            raise OSError("the power went")
        done.append(old)
        exchange(new, old)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="the power went"):
        patched.setattr(publishing, "exchange_folders", stops)
        yield


def test_publishing_twice_changes_nothing(output: str) -> None:
    publish_data(make_target(output), OLD, parts=2)
    target = make_target(output, run_id="run-2")
    staged = stage(target, NEW)
    first = publish(target, staged, NEW.counts)
    before = data_of(output)
    second = publish(target, staged, NEW.counts)
    assert data_of(output) == before
    of_the_moment = {"finished": "", "digest": ""}  # of what the entry holds, the time among it
    assert {**first, **of_the_moment} == {**second, **of_the_moment}
    assert set(before) == expected_files(read_manifest(output)["refreshes"]["base"])


def test_a_publish_that_stopped_half_way_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_data(make_target(tmp_path), OLD, parts=2)
    target = make_target(tmp_path, run_id="run-2")
    staged = stage(target, NEW)
    with power_cut(monkeypatch, exchanges=1):
        publish(target, staged, NEW.counts)
    assert sorted(row["id"] for row in rows_of(tmp_path, "examples")) == sorted(row.id for row in OLD.examples)
    entry = publish(target, staged, NEW.counts)
    assert set(files_of(tmp_path)) == expected_files(entry)
    assert len(rows_of(tmp_path, "examples")) == len(NEW.examples)
    assert not (tmp_path / "_staging").exists()


def begin_publishing(folder: Path, refresh: str, data: Data, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A run that is killed after it has written down what it is about to publish."""
    target = make_target(folder, refresh, "run-2")
    with power_cut(monkeypatch, exchanges=0):
        publish_data(target, data)
    return target


def test_what_a_run_began_to_publish_is_completed_whichever_refresh_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for refresh in ("base", "other"):
        publish_data(make_target(tmp_path, refresh), OLD)
        begin_publishing(tmp_path, refresh, NEW, monkeypatch)
    with lease.hold(str(tmp_path), "refresh=base", "we"):
        finish_publishing(str(tmp_path), leased="base")
    for refresh in ("base", "other"):
        assert set(files_of(tmp_path, refresh)) == expected_files(entry_of(tmp_path, refresh))
        assert len(rows_of(tmp_path, "examples", refresh)) == len(NEW.examples)
    assert not {"_leases", "_staging"} & {path.name for path in tmp_path.iterdir()}


def test_what_a_run_is_publishing_at_this_moment_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else both would exchange the same folders, and the second exchange would put the old data back."""
    publish_data(make_target(tmp_path, "other"), OLD)
    target = begin_publishing(tmp_path, "other", NEW, monkeypatch)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with lease.hold(str(tmp_path), target.partition, target.run_id):
        finish_publishing(str(tmp_path), leased="base")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    finish_publishing(str(tmp_path), leased="base")
    assert len(rows_of(tmp_path, "examples", "other")) == len(NEW.examples)


@pytest.mark.parametrize("kind", EVERY_RUN)
@pytest.mark.parametrize("whole", [True, False])
def test_what_somebody_took_away_is_not_published(
    kind: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan whose files are gone must neither stop every later run nor publish less than it says."""
    publish_data(make_target(tmp_path), OLD)
    target = begin_publishing(tmp_path, "base", NEW, monkeypatch)
    before = visible_files(tmp_path)
    for path in Path(target.staging, kind).iterdir():
        path.unlink()
    if whole:
        Path(target.staging, kind).rmdir()
    finish_publishing(str(tmp_path), leased="base")
    assert visible_files(tmp_path) == before
    entry = publish_data(make_target(tmp_path, run_id="run-3"), NEW)
    assert set(files_of(tmp_path)) == expected_files(entry)
    assert not (tmp_path / "_staging").exists()


def test_a_damaged_file_is_replaced_by_one_of_the_same_name(tmp_path: Path) -> None:
    """Its name holds the digest of what was once written, which is what a run that computes it again will write."""
    publish_data(make_target(tmp_path), OLD)
    before = files_of(tmp_path)
    (path,) = (tmp_path / "examples" / "refresh=base").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    publish_data(make_target(tmp_path, run_id="run-2"), OLD)
    assert files_of(tmp_path) == before
    assert not (tmp_path / "_staging").exists()


def test_a_plan_whose_data_was_damaged_since_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published, but the plan is still there: the run was killed while it cleared up."""
    target = make_target(tmp_path)
    staged = stage(target, OLD)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        publish(target, staged, OLD.counts)
    (path,) = (tmp_path / "examples" / "refresh=base").iterdir()
    path.write_bytes(b"damaged")
    finish_publishing(str(tmp_path), leased="base")
    assert path.read_bytes() == b"damaged"  # there is nothing to mend it with
    publish_data(make_target(tmp_path, run_id="run-2"), OLD)
    assert len(rows_of(tmp_path, "examples")) == len(OLD.examples)


def test_a_plan_speaks_for_the_refresh_of_its_own_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for refresh in ("base", "other"):
        publish_data(make_target(tmp_path, refresh), OLD)
    plan = Path(begin_publishing(tmp_path, "base", NEW, monkeypatch).staging, "publish.json")
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "refresh": "other"}))
    before = files_of(tmp_path, "other")
    finish_publishing(str(tmp_path), leased="base")
    assert files_of(tmp_path, "other") == before
    assert len(rows_of(tmp_path, "examples", "base")) == len(NEW.examples)


def test_what_cannot_be_completed_is_told_and_blocks_no_other_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full now may have room later, so that plan stays; one that can never be carried out goes aside."""
    for refresh in ("a", "b", "c"):
        publish_data(make_target(tmp_path, refresh), OLD)
    plans = {
        refresh: Path(begin_publishing(tmp_path, refresh, NEW, monkeypatch).staging) for refresh in ("a", "b", "c")
    }
    real = publishing._exchange_all

    def fails(target: Target, *rest: Any) -> None:
        if target.refresh in ("a", "b"):
            raise OSError(28, "No space left on device") if target.refresh == "a" else UnicodeError("surrogates")
        real(target, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_exchange_all", fails)
        finish_publishing(str(tmp_path), leased="d")
    assert [len(rows_of(tmp_path, "examples", refresh)) for refresh in "abc"] == [
        len(OLD.examples),
        len(OLD.examples),
        len(NEW.examples),
    ]
    told = [record.getMessage() for record in caplog.records]
    assert [f"refresh={refresh} was left half published" in line for refresh, line in zip("ab", told, strict=True)] == [
        True
    ] * 2
    assert (plans["a"] / "publish.json").exists()
    assert (plans["b"] / "publish.set_aside").exists() and not (plans["b"] / "publish.json").exists()
    assert not (tmp_path / "_leases").exists()
    finish_publishing(str(tmp_path), leased="d")
    assert [len(rows_of(tmp_path, "examples", refresh)) for refresh in "ab"] == [len(NEW.examples), len(OLD.examples)]
    publish_data(make_target(tmp_path, "b", "run-3"), NEW)
    assert not (tmp_path / "_staging").exists()


def test_what_is_no_utf_8_in_a_plan_of_an_earlier_version_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_data(make_target(tmp_path), OLD)
    plan = Path(begin_publishing(tmp_path, "base", NEW, monkeypatch).staging, "publish.json")
    begun = json.loads(plan.read_text())
    begun["entry"]["options"] = {"topics": "caf\udce9"}
    del begun["entry"]["digest"]  # an earlier version gave it none
    plan.write_text(json.dumps(begun))
    finish_publishing(str(tmp_path), leased="other")
    assert entry_of(tmp_path)["options"] == {"topics": "caf\ufffd"}
    assert (tmp_path / "README.md").exists()


def test_an_entry_that_cannot_be_written_down_exchanges_nothing(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD)
    before = visible_files(tmp_path)
    target = make_target(tmp_path, run_id="run-2")
    broken = dataclasses.replace(target, description={"options": {"x": object()}})
    with pytest.raises(TypeError):
        publish(broken, stage(broken, NEW), NEW.counts)
    assert visible_files(tmp_path) == before
    assert not list((tmp_path / "_staging").rglob("publish.json"))


SHM = Path("/dev/shm")


two_disks = pytest.mark.skipif(
    not os.access(SHM, os.W_OK) or SHM.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev,
    reason="there is no second file system here",
)


@pytest.fixture
def other_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SHM) as folder:
        yield Path(folder)


@two_disks
@pytest.mark.parametrize("linked", [["examples"], ["tasks", "triplets"], ["_staging"], list(EVERY_RUN)], ids=str)
def test_folders_on_another_disk_are_published_by_copy(linked: list[str], tmp_path: Path, other_disk: Path) -> None:
    for name in linked:
        (other_disk / name).mkdir()
        (tmp_path / name).symlink_to(other_disk / name)
    for run_id, data in (("run-1", OLD), ("run-2", NEW)):
        entry = publish_data(make_target(tmp_path, run_id=run_id), data)
        assert set(files_of(tmp_path)) == expected_files(entry)
        assert len(rows_of(tmp_path, "examples")) == len(data.examples)
    assert all((tmp_path / name).is_symlink() for name in linked if name != "_staging")
    left = [path.name for name in EVERY_RUN for path in (tmp_path / name).iterdir()]
    assert left == ["refresh=base"] * len(EVERY_RUN)
    assert not list(other_disk.glob("_staging/*"))


@two_disks
def test_a_run_killed_while_it_copied_to_another_disk_is_completed(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(other_disk)
    publish_data(make_target(tmp_path), OLD)
    before = files_of(tmp_path)

    def half(source: Path, copy: Path) -> None:
        copy.mkdir()
        (copy / "half").touch()
        raise OSError(28, "No space left on device")

    target = make_target(tmp_path, run_id="run-2")
    staged = stage(target, NEW)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", half)
        with pytest.raises(OSError, match="No space"):
            publish(target, staged, NEW.counts)
    assert files_of(tmp_path) == before  # nothing is mixed
    finish_publishing(str(tmp_path), leased="base")
    assert len(rows_of(tmp_path, "examples")) == len(NEW.examples)
    assert [path.name for path in other_disk.iterdir()] == ["refresh=base"]


@pytest.mark.parametrize("refresh", ["second", "0", "007", "2026-11-23", "v1.2_x-Y", "a..b", "base.old", "A" * 64])
def test_other_refreshes_are_untouched(output: str, refresh: str) -> None:
    """One whose name begins with another name too."""
    publish_data(make_target(output), OLD)
    before = data_of(output, "base")
    publish_data(make_target(output, refresh), NEW)
    publish_data(make_target(output, refresh, "run-2"), NEW, parts=2)
    assert data_of(output, "base") == before
    assert len(data_of(output, refresh)) == 2 * len(EVERY_RUN)
    assert sorted(read_manifest(output)["refreshes"]) == sorted(["base", refresh])
    if output != BUCKET:
        table = ds.dataset(f"{output}/examples", partitioning="hive").to_table()
        assert table.num_rows == len(OLD.examples) + len(NEW.examples)
        assert set(table["refresh"].to_pylist()) == {"base", refresh}


def test_staging_of_another_refresh_is_untouched(tmp_path: Path) -> None:
    other = make_target(tmp_path, "other")
    staged = stage(other, NEW)
    publish_data(make_target(tmp_path), OLD)
    publish(other, staged, NEW.counts)
    assert len(rows_of(tmp_path, "examples", "other")) == len(NEW.examples)
    assert not (tmp_path / "_staging").exists()


def _no_library(*_: Any, **__: Any) -> Any:
    raise OSError("no C library")


class _OldLibrary:
    """A C library without the exchange."""

    def __init__(self, *_: Any, **__: Any) -> None: ...


class _OldKernel:
    """A C library whose kernel, or file system, does not know the exchange."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def renameat2(self, *_: Any) -> int:
        return -1

    def renamex_np(self, *_: Any) -> int:
        return -1


@pytest.mark.parametrize("library", [None, _no_library, _OldLibrary, _OldKernel])
def test_the_exchange_and_its_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    publish_data(make_target(tmp_path), OLD, parts=2)
    publish_data(make_target(tmp_path, "other"), OLD)
    before = files_of(tmp_path, "other")
    if library is not None:
        monkeypatch.setattr(ctypes, "CDLL", library)
    entry = publish_data(make_target(tmp_path, run_id="run-2"), NEW)
    assert set(files_of(tmp_path, "base")) == expected_files(entry)
    assert len(rows_of(tmp_path, "examples")) == len(NEW.examples)
    assert files_of(tmp_path, "other") == before
    assert not (tmp_path / "_staging").exists()


def test_stale_objects_go_after_the_manifest_came(store: dict[str, bytes]) -> None:
    publish_data(make_target(BUCKET), OLD, parts=3)
    publish_data(make_target(BUCKET, "other"), OLD)
    target = make_target(BUCKET, run_id="run-2")
    staged = stage(target, NEW)
    MemFileSystem.log.clear()
    entry = publish(target, staged, NEW.counts)
    assert set(data_of(BUCKET)) == expected_files(entry) | expected_files(entry_at("other"))
    assert not any("_staging" in path for path in store)
    steps = [line.split(" ")[0] for line in MemFileSystem.log]
    assert steps == [*["rename"] * 4, "create", "create", *["delete"] * 12]  # the manifest, then the card


@pytest.mark.parametrize("broken", ["rename", "create manifest.json", "delete"])
def test_a_publish_that_stopped_half_way_on_a_store(store: dict[str, bytes], broken: str) -> None:
    publish_data(make_target(BUCKET), OLD, parts=2)
    old = {path: content for path, content in store.items() if path.endswith(".parquet")}
    target = make_target(BUCKET, run_id="run-2")
    staged = stage(target, NEW)
    MemFileSystem.broken.add(broken)
    with pytest.raises(BeamIOError, match="out of order"):
        publish(target, staged, NEW.counts)
    MemFileSystem.broken.clear()
    assert old.items() <= store.items()
    assert {f"{BUCKET}/{path}" for path in expected_files(entry_at())} <= set(store)
    entry = publish(target, staged, NEW.counts)
    assert set(data_of(BUCKET)) == expected_files(entry) == expected_files(entry_at())
    assert not any("_staging" in path for path in store)


def test_fewer_examples_than_the_refresh_has_are_not_published_unasked(tmp_path: Path, store: dict[str, bytes]) -> None:
    for folder in (tmp_path, BUCKET):
        publish_data(make_target(folder), NEW)
        entry, there = read_manifest(str(folder))["refreshes"]["base"], len(NEW.examples)
        target = make_target(folder, run_id="run-2")
        staged = stage(target, OLD)
        told = f"refresh=base has {there} examples, and this run has 10: {there} would go, so nothing was published"
        for _ in range(2):
            with pytest.raises(RunFailed, match=told) as caught:
                publish(target, staged, OLD.counts)
        assert "--replace" in str(caught.value)
        assert target.staging in str(caught.value)
        assert read_manifest(str(folder))["refreshes"]["base"] == entry
        publish(dataclasses.replace(target, replace=True), staged, OLD.counts)
        assert read_manifest(str(folder))["refreshes"]["base"]["counts"]["examples"] == 10
        publish(target, staged, OLD.counts)  # a bundle that is tried again
    assert rows_of(tmp_path, "examples") == [row for row in rows_of(tmp_path, "examples") if row["id"] in ids_of(OLD)]


def ids_of(data: Data) -> set[str]:
    return {example.id for example in data.examples}


def test_how_many_would_go_is_counted_by_rows(tmp_path: Path) -> None:
    """The manifest may say something else, and of many runs most rows are the same."""
    publish_data(make_target(tmp_path), OLD)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 10', '"rows": 3'))
    fewer = without(OLD, 2)
    with pytest.raises(RunFailed, match="has 10 examples, and this run has 8: 2 would go"):
        publish_data(make_target(tmp_path, run_id="run-2"), fewer)
    (file,) = (tmp_path / "examples" / "refresh=base").iterdir()
    file.write_bytes(b"damaged")  # and so none is there to lose
    publish_data(make_target(tmp_path, run_id="run-3"), fewer)


def without(data: Data, count: int, *rejects: Reject) -> Data:
    """Returns the data with so many examples refused, as these rejects if they are given."""
    more = list(rejects) or [make_reject("Refused", n) for n in range(count)]
    return dataclasses.replace(data, examples=data.examples[count:], rejects=[*data.rejects, *more])


def test_what_stands_in_another_refresh_is_no_loss(tmp_path: Path) -> None:
    """Two refreshes that were published at once are made anew: one of them yields."""
    publish_data(make_target(tmp_path), OLD)
    gone = [
        Reject.of_example(
            row, stage="ParseJSON", reason="empty", detail=f"the same text as x of refresh={n}", can_retry=False
        )
        for n, row in enumerate(OLD.examples[:2])
    ]
    publish_data(make_target(tmp_path, run_id="run-2"), without(OLD, 2, *gone))
    publish_data(make_target(tmp_path, "other"), OLD)  # the same ids
    publish_data(make_target(tmp_path, run_id="run-3"), without(OLD, 5))
    with pytest.raises(RunFailed, match="has 10 examples, and this run has 8: 2 would go"):
        publish_data(make_target(tmp_path, "other", "run-4"), without(OLD, 2))
