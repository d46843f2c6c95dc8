"""WriteDataset: a label's data is replaced as a whole or not at all, on a disk and on an object store."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, Reject, Task, Verdict
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset import publish as publishing
from textmint.transforms.dataset.manifest import DIGEST, read_manifest, recorded_replies
from textmint.transforms.dataset.publish import StagedFile, Target, finish_publishing, publish
from textmint.transforms.dataset.publish_checks import _remedy, explain_no_examples
from textmint.transforms.dataset.published_files import open_published, published_examples, published_files
from textmint.transforms.dataset.schema import KINDS, DatasetKind, Row, schema_of, to_parquet
from textmint.transforms.dataset.triplets import to_triplet
from textmint.transforms.dataset.write_dataset import WriteDataset, apply_verdicts
from textmint.transforms.storage import lease

from tests.support.helpers import (
    entry_of,
    files_of,
    make_example,
    make_reject,
    make_task,
    rows_of,
    run_graph,
    shuffled,
)
from tests.support.mem_store import MemFileSystem

# --- data


@dataclasses.dataclass(frozen=True)
class Data:
    """The rows of a run, and its counts."""

    tasks: list[Task]
    examples: list[Example]
    rejects: list[Reject]

    @property
    def counts(self) -> dict[str, int]:
        asked = len(self.examples) + len(self.rejects)
        steps = ("TaskGenerate/kept", "Flatten/in", "Flatten/kept")
        return {
            **dict.fromkeys(steps, len(self.tasks)),
            **dict.fromkeys(("BuildPrompt/kept", "LLMCall/kept"), asked),
            "ParseJSON/kept": len(self.examples),
            "CheckQuality/kept": len(self.examples),
            **collections.Counter(f"ParseJSON/rejected.{reject.reason}" for reject in self.rejects),
        }

    def of(self, kind: str) -> Sequence[Row]:
        if kind == "triplets":
            return [to_triplet(example) for example in self.examples]
        rows: Sequence[Row] = getattr(self, kind)
        return rows


PER_TASK = 3
EVERY_RUN: tuple[DatasetKind, ...] = tuple(kind for kind in KINDS if kind != "label_sets")


def make_data(tasks: int = 4, rejects: int = 2, name: str = "Sort", reason: str = "empty") -> Data:
    """Tasks with three drafts each, of which the last `rejects` are refused."""
    texts = [f"{name} things of kind {n}" for n in range(tasks)]
    places = [(text, replica) for text in texts for replica in range(PER_TASK)]
    kept = len(places) - rejects
    return Data(
        [make_task(text) for text in texts],
        [make_example(*place) for place in places[:kept]],
        [make_reject(*place, reason) for place in places[kept:]],
    )


def make_target(output: Path | str, refresh: str = "base", run_id: str = "run-1") -> Target:
    return Target(
        output=str(output),
        refresh=refresh,
        run_id=run_id,
        task_requests=None,
        examples_per_task=PER_TASK,
        description={"started": "2026-01-01T00:00:00Z"},
    )


def stage(target: Target, data: Data, parts: int = 1) -> list[StagedFile]:
    """Writes the rows where the workers of a run would have written them."""
    staged = []
    for kind in EVERY_RUN:
        for part in range(parts):
            rows = data.of(kind)[part::parts]
            content = to_parquet(rows, schema_of(kind))
            name = f"part-{part:05d}-of-{parts:05d}-{hashlib.blake2b(content, digest_size=8).hexdigest()}.parquet"
            path = f"{target.staging}/{kind}/{name}"
            if "://" in path:
                MemFileSystem.objects[path] = content
            else:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(content)
            staged.append(StagedFile(kind=kind, name=name, rows=len(rows), bytes=len(content)))
    return staged


def publish_data(target: Target, data: Data, parts: int = 1) -> dict[str, Any]:
    return publish(target, stage(target, data, parts), data.counts)


def graph(
    target: Target,
    data: Data,
    *,
    verdicts: Sequence[Verdict] | None = None,
    order: str = "",
    shard_bytes: int = 1 << 27,
    keep_raw: bool = False,
    expected_rows: int = 2_000,
) -> Any:
    """The step with its streams, as a function that puts it on a pipeline."""

    def build(pipeline: beam.Pipeline) -> Any:
        streams: dict[str, Sequence[Any]] = {
            "examples": shuffled([*data.examples, *data.rejects], order),
            "tasks": shuffled([*data.tasks, *data.rejects], order),  # rejects ride along in every stream
            "counts": sorted(data.counts.items()),
            **({} if verdicts is None else {"verdicts": shuffled(verdicts, order)}),
        }
        created = {name: pipeline | name >> beam.Create(elements) for name, elements in streams.items()}
        return created | WriteDataset(target, keep_raw, shard_bytes, expected_rows)

    return build


def expected_files(entry: dict[str, Any]) -> set[str]:
    return {file["path"] for files in entry["files"].values() for file in files}


OLD, NEW = make_data(), make_data(tasks=6, rejects=5, name="Rank")
NOTHING = make_data(tasks=2, rejects=6, name="Fail")


# --- a whole run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("written")
    (entry,) = run_graph(graph(make_target(folder), OLD)).elements
    return folder, entry


def test_rows_come_out_as_they_went_in_and_sorted(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    for kind, key in (("examples", "id"), ("tasks", "task_id"), ("rejects", "id")):
        rows = rows_of(folder, kind)
        names = schema_of(kind).names  # type: ignore[arg-type]
        entered = [{name: getattr(row, name) for name in names} for row in OLD.of(kind)]
        assert rows == sorted(entered, key=lambda row: row[key])


def test_the_folder_holds_what_the_manifest_lists_and_nothing_else(written: tuple[Path, dict[str, Any]]) -> None:
    folder, entry = written
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "README.md",
        "manifest.json",
        *expected_files(entry),
    }
    assert entry == entry_of(folder)
    assert entry["counts"] == {"examples": 10, "triplets": 10, "tasks": 4, "rejects": 2}
    assert entry["started"] == "2026-01-01T00:00:00Z"
    for files in entry["files"].values():
        for file in files:
            path = folder / file["path"]
            assert path.stat().st_size == file["bytes"]
            assert pq.ParquetFile(path).metadata.num_rows == file["rows"]


def test_files_are_zstd_with_the_declared_schema(written: tuple[Path, dict[str, Any]]) -> None:
    folder, entry = written
    for kind, files in entry["files"].items():
        (file,) = files
        parquet = pq.ParquetFile(folder / file["path"])
        assert parquet.schema_arrow.equals(schema_of(kind), check_metadata=True)
        group = parquet.metadata.row_group(0)
        assert {group.column(n).compression for n in range(group.num_columns)} == {"ZSTD"}


def test_running_again_in_another_order_changes_no_file(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*.parquet")}
    run_graph(graph(make_target(folder, run_id="run-2"), OLD, order="x"))
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*.parquet")} == before
    assert not (folder / "_staging").exists()


LARGE = make_data(tasks=80, rejects=40)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    run_graph(graph(make_target(folder), LARGE, shard_bytes=3_000))
    return folder


def test_large_data_comes_in_several_files_with_ranges_of_ids(large: Path) -> None:
    assert entry_of(large)["counts"] == {"examples": 200, "triplets": 200, "tasks": 80, "rejects": 40}
    assert set(files_of(large)) == expected_files(entry_of(large))
    for kind, key in (("examples", "id"), ("tasks", "task_id")):
        paths = sorted((large / kind / "refresh=base").glob("*.parquet"))
        assert len(paths) > 1
        assert [path.name[:19] for path in paths] == [f"part-{n:05d}-of-{len(paths):05d}" for n in range(len(paths))]
        ids = [row[key] for row in rows_of(large, kind)]
        assert ids == sorted(getattr(row, key) for row in LARGE.of(kind))


def test_a_file_a_row_at_most(tmp_path: Path) -> None:
    data = make_data(tasks=2, rejects=1)
    (entry,) = run_graph(graph(make_target(tmp_path), data, shard_bytes=400)).elements
    assert len(entry["files"]["examples"]) == len(data.examples)
    assert set(files_of(tmp_path)) == expected_files(entry)
    assert [row["id"] for row in rows_of(tmp_path, "examples")] == sorted(row.id for row in data.examples)


def test_no_stale_file_when_a_run_has_fewer(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD, parts=3)
    assert len(files_of(tmp_path)) == 3 * len(EVERY_RUN)
    entry = publish_data(make_target(tmp_path, run_id="run-2"), NEW)
    assert set(files_of(tmp_path)) == expected_files(entry)
    assert len(rows_of(tmp_path, "examples")) == len(NEW.examples)


def test_raw_replies_when_kept_and_a_dataset_without_rows(tmp_path: Path) -> None:
    data = make_data(rejects=0)
    data = dataclasses.replace(data, examples=[replace(row, raw_reply="raw") for row in data.examples])
    run_graph(graph(make_target(tmp_path), data, keep_raw=True))
    assert {row["raw_reply"] for row in rows_of(tmp_path, "examples")} == {"raw"}
    table = ds.dataset(tmp_path / "rejects", partitioning="hive").to_table()
    assert table.num_rows == 0
    assert not any(pa.types.is_null(field.type) for field in table.schema)
    assert table.schema.names == [*schema_of("rejects").names, "refresh"]


# --- verdicts


def verdict(example: Example, detail: str = "the same text as x") -> Verdict:
    return Verdict(id=example.id, stage="FindDuplicates", reason="duplicate", detail=detail)


NOBODY = Verdict(id="0" * 32, stage="FindDuplicates", reason="duplicate", detail="of a run before")
REFUSED = OLD.examples[2:5]
VERDICTS = [*map(verdict, REFUSED), NOBODY, verdict(REFUSED[0], "a smaller detail")]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("judged")
    (entry,) = run_graph(graph(make_target(folder), OLD, verdicts=VERDICTS)).elements
    return folder, entry


def test_what_a_verdict_refuses_is_a_reject_that_tells_all_of_it(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = judged
    refused = {example.id: example for example in REFUSED}
    assert [row["id"] for row in rows_of(folder, "examples")] == sorted(
        example.id for example in OLD.examples if example.id not in refused
    )
    rows = [row for row in rows_of(folder, "rejects") if row["stage"] == "FindDuplicates"]
    assert {row["id"] for row in rows} == set(refused)
    for row in rows:
        example = refused[row["id"]]
        assert (row["reason"], row["can_retry"]) == ("duplicate", False)
        assert row["detail"] == ("a smaller detail" if example is REFUSED[0] else "the same text as x")
        assert json.loads(row["raw_reply"]) == {
            name: getattr(example, name) for name in ("input_text", "label", "misleading_label")
        }
        for name in ("task_id", "task", "language", "replica", "prompt", "template", "model", "seed", "output_tokens"):
            assert row[name] == getattr(example, name)
    assert len(rows_of(folder, "rejects")) == len(OLD.rejects) + len(REFUSED)


def test_the_counts_add_up_with_verdicts(judged: tuple[Path, dict[str, Any]]) -> None:
    _, entry = judged
    assert entry["counts"] == {"examples": 7, "triplets": 7, "tasks": 4, "rejects": 5}
    assert entry["steps"]["FindDuplicates"] == {"in": 10, "kept": 7, "rejected": {"duplicate": 3}}


@pytest.mark.parametrize(("order", "expected_rows"), [("x", 2_000), ("y", 20_000)])
def test_no_order_and_no_guess_changes_a_file(
    order: str, expected_rows: int, judged: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """In how many pieces rows are sorted must not show: the guess may be another one in the next run."""
    build = graph(make_target(tmp_path), OLD, verdicts=VERDICTS, order=order, expected_rows=expected_rows)
    assert run_graph(build).elements[0]["counts"]["examples"] == 7
    there, before = files_of(tmp_path), files_of(judged[0])
    if expected_rows == 2_000:
        assert there == before
    else:
        for kind in EVERY_RUN:
            assert rows_of(tmp_path, kind) == rows_of(judged[0], kind)


def test_verdicts_on_nothing_that_is_there_change_no_file(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    verdicts = [NOBODY, replace(NOBODY, id=OLD.rejects[0].id)]
    run_graph(graph(make_target(tmp_path), OLD, verdicts=verdicts))
    assert files_of(tmp_path) == files_of(written[0])


def test_a_run_whose_every_example_is_refused(tmp_path: Path) -> None:
    """What the label had stays: it is the same run over, or something is wrong with it."""
    publish_data(make_target(tmp_path), NEW)
    before = files_of(tmp_path)
    build = graph(make_target(tmp_path, run_id="run-2"), OLD, verdicts=[*map(verdict, OLD.examples)])
    with pytest.raises(RunFailed, match=r"not one example was kept \(10 FindDuplicates duplicate, 2 ParseJSON empty\)"):
        run_graph(build)
    assert files_of(tmp_path) == before


JUDGED = st.lists(
    st.builds(
        Verdict,
        id=st.sampled_from([example.id for example in OLD.examples[:4]] + ["0" * 32]),
        stage=st.sampled_from(["CheckQuality", "FindDuplicates"]),
        reason=st.sampled_from(["duplicate", "empty"]),
        detail=st.sampled_from(["a", "b"]),
    ),
    max_size=8,
)


@given(JUDGED, st.randoms(use_true_random=False))
def test_the_smallest_of_several_verdicts_speaks_in_any_order(verdicts: list[Verdict], chance: Any) -> None:
    elements = [*OLD.examples[:6], *verdicts]
    chance.shuffle(elements)
    kept, refused = apply_verdicts(elements)
    assert sorted([row.id for row in (*kept, *refused)]) == sorted(row.id for row in OLD.examples[:6])  # type: ignore[union-attr]
    assert [row.id for row in kept] == sorted(row.id for row in kept)  # type: ignore[union-attr]
    assert [row.id for row in refused] == sorted(row.id for row in refused)
    for reject in refused:
        of_it = [(one.stage, one.reason, one.detail) for one in verdicts if one.id == reject.id]
        assert (reject.stage, reject.reason, reject.detail) == min(of_it)
    assert not {one.id for one in verdicts} & {row.id for row in kept}  # type: ignore[union-attr]


def test_a_verdict_is_on_examples_only() -> None:
    reject = replace(OLD.rejects[0], id=OLD.examples[0].id)
    kept, refused = apply_verdicts([verdict(OLD.examples[0]), reject, OLD.tasks[0]])
    assert sorted(map(repr, kept)) == sorted(map(repr, [reject, OLD.tasks[0]]))
    assert refused == []


# --- runs that fail


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
def test_counts_that_do_not_add_up_publish_nothing(tmp_path: Path, step: str, count: int, message: str) -> None:
    publish_data(make_target(tmp_path), NEW)
    before, manifest = files_of(tmp_path), (tmp_path / "manifest.json").read_bytes()
    target = make_target(tmp_path, run_id="run-2")
    with pytest.raises(RunFailed, match=message):
        publish(target, stage(target, OLD), {**OLD.counts, step: count})
    assert files_of(tmp_path) == before
    assert (tmp_path / "manifest.json").read_bytes() == manifest


def test_a_lost_file_publishes_nothing(tmp_path: Path) -> None:
    target = make_target(tmp_path)
    staged = [file for file in stage(target, OLD, parts=2) if not file.name.startswith("part-00001")]
    with pytest.raises(RunFailed, match="examples: 5 rows written, but 10 counted"):
        publish(target, staged, OLD.counts)
    assert files_of(tmp_path) == {}
    assert not (tmp_path / "manifest.json").exists()


def test_brainstorm_rounds_that_are_lost_publish_nothing(tmp_path: Path) -> None:
    target = dataclasses.replace(make_target(tmp_path), task_requests=5)
    with pytest.raises(RunFailed, match="TaskGenerate: 5 in, but 4 kept"):
        publish(target, stage(target, OLD), OLD.counts)


def test_the_graph_fails_with_the_reason(tmp_path: Path) -> None:
    wrong = dataclasses.replace(OLD, examples=OLD.examples[:-1])
    target = make_target(tmp_path)

    def build(pipeline: beam.Pipeline) -> Any:
        streams = {
            "examples": pipeline | "Rows" >> beam.Create([*wrong.examples, *wrong.rejects]),
            "tasks": pipeline | "Tasks" >> beam.Create(wrong.tasks),
            "counts": pipeline | "Counts" >> beam.Create(list(OLD.counts.items())),
        }
        return streams | WriteDataset(target)

    with pytest.raises(Exception, match="examples: 9 rows written, but 10 counted") as caught:
        run_graph(build)
    assert isinstance(caught.value, RunFailed)
    assert files_of(tmp_path) == {}


def test_without_an_example_the_old_data_stays(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD)
    before, manifest = files_of(tmp_path), (tmp_path / "manifest.json").read_bytes()
    target = make_target(tmp_path, run_id="run-2")
    with pytest.raises(RunFailed, match=r"not one example was kept \(6 ParseJSON empty\)"):
        publish_data(target, NOTHING)
    assert files_of(tmp_path) == before
    assert (tmp_path / "manifest.json").read_bytes() == manifest
    assert Path(target.staging, "rejects").is_dir()


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


# --- publishing again, other labels


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD, parts=2)
    target = make_target(tmp_path, run_id="run-2")
    staged = stage(target, NEW)
    first = publish(target, staged, NEW.counts)
    before = files_of(tmp_path)
    second = publish(target, staged, NEW.counts)
    assert files_of(tmp_path) == before
    of_the_moment = {"finished": "", "digest": ""}  # of what the entry holds, the time among it
    assert {**first, **of_the_moment} == {**second, **of_the_moment}
    assert set(before) == expected_files(entry_of(tmp_path))


def test_a_publish_that_stopped_half_way_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_data(make_target(tmp_path), OLD, parts=2)
    target = make_target(tmp_path, run_id="run-2")
    staged = stage(target, NEW)
    exchange, done = publishing.exchange_folders, []

    def stops(new: Path, old: Path) -> None:
        if done:
            raise OSError("the power went")
        done.append(old)
        exchange(new, old)

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "exchange_folders", stops)
        with pytest.raises(OSError, match="the power went"):
            publish(target, staged, NEW.counts)
    assert sorted(row["id"] for row in rows_of(tmp_path, "examples")) == sorted(row.id for row in OLD.examples)
    entry = publish(target, staged, NEW.counts)
    assert set(files_of(tmp_path)) == expected_files(entry)
    assert len(rows_of(tmp_path, "examples")) == len(NEW.examples)
    assert not (tmp_path / "_staging").exists()


def begin_publishing(folder: Path, label: str, data: Data, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A run that is killed after it has written down what it is about to publish."""
    target = make_target(folder, label, "run-2")
    staged = stage(target, data)

    def stops(*_: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "exchange_folders", stops)
        with pytest.raises(OSError, match="the power went"):
            publish(target, staged, data.counts)
    return target


def test_what_a_run_began_to_publish_is_completed_whichever_label_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("base", "other"):
        publish_data(make_target(tmp_path, label), OLD)
        begin_publishing(tmp_path, label, NEW, monkeypatch)
    with lease.hold(str(tmp_path), "refresh=base", "we"):
        finish_publishing(str(tmp_path), leased="base")
    for label in ("base", "other"):
        assert set(files_of(tmp_path, label)) == expected_files(entry_of(tmp_path, label))
        assert len(rows_of(tmp_path, "examples", label)) == len(NEW.examples)
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
    before, manifest = files_of(tmp_path), (tmp_path / "manifest.json").read_bytes()
    for path in Path(target.staging, kind).iterdir():
        path.unlink()
    if whole:
        Path(target.staging, kind).rmdir()
    finish_publishing(str(tmp_path), leased="base")
    assert files_of(tmp_path) == before
    assert (tmp_path / "manifest.json").read_bytes() == manifest
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


def test_a_plan_speaks_for_the_label_of_its_own_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("base", "other"):
        publish_data(make_target(tmp_path, label), OLD)
    plan = Path(begin_publishing(tmp_path, "base", NEW, monkeypatch).staging, "publish.json")
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "refresh": "other"}))
    before = files_of(tmp_path, "other")
    finish_publishing(str(tmp_path), leased="base")
    assert files_of(tmp_path, "other") == before
    assert len(rows_of(tmp_path, "examples", "base")) == len(NEW.examples)


def test_what_cannot_be_completed_is_told_and_blocks_no_other_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full now may have room later, so that plan stays; one that can never be carried out goes aside."""
    for label in ("a", "b", "c"):
        publish_data(make_target(tmp_path, label), OLD)
    plans = {label: Path(begin_publishing(tmp_path, label, NEW, monkeypatch).staging) for label in ("a", "b", "c")}
    real = publishing._exchange_all

    def fails(target: Target, *rest: Any) -> None:
        if target.refresh in ("a", "b"):
            raise OSError(28, "No space left on device") if target.refresh == "a" else UnicodeError("surrogates")
        real(target, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_exchange_all", fails)
        finish_publishing(str(tmp_path), leased="d")
    assert [len(rows_of(tmp_path, "examples", label)) for label in "abc"] == [
        len(OLD.examples),
        len(OLD.examples),
        len(NEW.examples),
    ]
    told = [record.getMessage() for record in caplog.records]
    assert [f"refresh={label} was left half published" in line for label, line in zip("ab", told, strict=True)] == [
        True
    ] * 2
    assert (plans["a"] / "publish.json").exists()
    assert (plans["b"] / "publish.set_aside").exists() and not (plans["b"] / "publish.json").exists()
    assert not (tmp_path / "_leases").exists()
    finish_publishing(str(tmp_path), leased="d")
    assert [len(rows_of(tmp_path, "examples", label)) for label in "ab"] == [len(NEW.examples), len(OLD.examples)]
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
    before = files_of(tmp_path), (tmp_path / "manifest.json").read_bytes()
    target = make_target(tmp_path, run_id="run-2")
    broken = dataclasses.replace(target, description={"options": {"x": object()}})
    with pytest.raises(TypeError):
        publish(broken, stage(broken, NEW), NEW.counts)
    assert (files_of(tmp_path), (tmp_path / "manifest.json").read_bytes()) == before
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


# --- what other labels have published


def test_files_of_all_labels(tmp_path: Path) -> None:
    assert published_files(str(tmp_path), "examples") == []
    publish_data(make_target(tmp_path), OLD)
    publish_data(make_target(tmp_path, "base.2"), OLD, parts=2)
    publish_data(make_target(tmp_path, "other"), NEW)
    found = published_files(str(tmp_path), "examples")
    assert [(label, rows) for _, label, rows in found] == [
        ("base", 10),
        ("base.2", 5),
        ("base.2", 5),
        ("other", 13),
    ]
    assert {str(Path(path).relative_to(tmp_path)) for path, _, _ in found} == {
        path for path in files_of(tmp_path) if path.startswith("examples/")
    }
    assert [label for _, label, _ in published_files(str(tmp_path), "tasks")] == ["base", "base.2", "base.2", "other"]


def test_what_readers_skip_is_no_published_file(tmp_path: Path) -> None:
    """A Mac leaves `._name` files on other disks; a copy that is under way has a name of its own."""
    publish_data(make_target(tmp_path), OLD)
    (path,) = (tmp_path / "examples" / "refresh=base").iterdir()
    for name in (f"._{path.name}", "_part-1-x.parquet", ".hidden.parquet", "notes.txt"):
        path.with_name(name).write_bytes(b"no table")
    assert [found for found, _, _ in published_files(str(tmp_path), "examples")] == [str(path)]


MANIFESTS = [
    "",
    "[]",
    '{"refreshes": []}',
    '{"refreshes": {"base": 3}}',
    '{"refreshes": {"base": "x"}}',
    '{"refreshes": {"base": {}}}',
    '{"refreshes": {"base": {"files": []}}}',
    '{"refreshes": {"base": {"files": {"examples": 3}}}}',
    '{"refreshes": {"base": {"files": {"examples": ["x", 3, null]}}}}',
    '{"refreshes": {"base": {"files": {"examples": [{"path": "x"}]}}}}',
    '{"refreshes": {"base": {"files": {"examples": [{"path": [], "rows": "many"}]}}}}',
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_that_was_mended_by_hand_hides_no_file(
    manifest: str, tmp_path: Path, store: dict[str, bytes]
) -> None:
    for output in (str(tmp_path), BUCKET):
        publish_data(make_target(output), OLD)
    (tmp_path / "manifest.json").write_text(manifest)
    store[f"{BUCKET}/manifest.json"] = manifest.encode()
    for output in (str(tmp_path), BUCKET):
        ((path, label, rows),) = published_files(output, "examples")
        assert path.startswith(f"{output}/examples/refresh=base/part-")
        assert label == "base"
        assert rows > 0  # a guess


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_an_entry_that_was_mended_by_hand_stops_no_other_label(
    manifest: str, tmp_path: Path, store: dict[str, bytes]
) -> None:
    for output in (str(tmp_path), BUCKET):
        publish_data(make_target(output), OLD)
    (tmp_path / "manifest.json").write_text(manifest)
    store[f"{BUCKET}/manifest.json"] = manifest.encode()
    for output in (str(tmp_path), BUCKET):
        entry = publish_data(make_target(output, "other"), NEW)
        assert read_manifest(output) == {"refreshes": {"other": entry}}


def test_a_wrong_bit_in_a_published_file_makes_it_unreadable_and_no_more(tmp_path: Path) -> None:
    """Arrow reads on where it can, and raises whatever it likes; in a name of a column it is a UnicodeDecodeError."""
    publish_data(make_target(tmp_path), OLD)
    ((path, _, rows),) = published_files(str(tmp_path), "examples")
    content = Path(path).read_bytes()
    assert published_examples(str(tmp_path), "base") == open_published(path).metadata.num_rows == rows
    for name in (Path(path).name, "of-somebody-else.parquet"):
        Path(path).unlink(missing_ok=True)
        renamed = Path(path).with_name(name)
        for place in range(len(content) - 4_000, len(content), 41):  # the footer
            changed = bytearray(content)
            changed[place] ^= 0x80
            renamed.write_bytes(changed)
            assert published_examples(str(tmp_path), "base") in ((0,) if renamed == Path(path) else (0, rows))


def test_a_wrong_bit_in_the_manifest_is_told_or_changes_nothing(tmp_path: Path) -> None:
    for label in ("base", "base.0", "base.1"):  # of which one bit makes another
        publish_data(make_target(tmp_path, label), OLD)
    path = tmp_path / "manifest.json"
    content, before = path.read_bytes(), read_manifest(str(tmp_path))["refreshes"]
    recorded_replies(str(tmp_path))
    ends = [content.index(b"base.0") + 5, content.index(b"base.1") + 5]
    for place in (*range(0, len(content), 5), *ends):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8 * (place not in ends)]) + content[place + 1 :]
        )
        with contextlib.suppress(ValueError):
            recorded_replies(str(tmp_path))
            for label, entry in read_manifest(str(tmp_path))["refreshes"].items():
                assert {name: entry.get(name) for name in before[label] if name != DIGEST}.items() <= before[
                    label
                ].items()


def test_on_a_store_the_manifest_says_which_files_count(store: dict[str, bytes]) -> None:
    publish_data(make_target(BUCKET), OLD)
    publish_data(make_target(BUCKET, "other"), NEW)
    store[f"{BUCKET}/examples/refresh=other/part-00000-of-00001-0.parquet"] = b"of a run that did not come to its end"
    of_base, (path, label, rows) = published_files(BUCKET, "examples")
    assert of_base[1:] == ("base", len(OLD.examples))
    assert (path.removeprefix(f"{BUCKET}/"), label, rows) == (
        remote_entry(store, "other")["files"]["examples"][0]["path"],
        "other",
        len(NEW.examples),
    )


@pytest.mark.parametrize("label", ["second", "0", "007", "2026-11-23", "v1.2_x-Y", "a..b", "base.old", "A" * 64])
def test_other_labels_are_untouched(tmp_path: Path, label: str) -> None:
    publish_data(make_target(tmp_path), OLD)
    before = files_of(tmp_path, "base")
    publish_data(make_target(tmp_path, label), NEW)
    publish_data(make_target(tmp_path, label, "run-2"), NEW, parts=2)
    assert files_of(tmp_path, "base") == before
    assert len(files_of(tmp_path, label)) == 2 * len(EVERY_RUN)
    assert sorted(read_manifest(str(tmp_path))["refreshes"]) == sorted(["base", label])
    table = ds.dataset(tmp_path / "examples", partitioning="hive").to_table()
    assert table.num_rows == len(OLD.examples) + len(NEW.examples)
    assert set(table["refresh"].to_pylist()) == {"base", label}


def test_staging_of_another_label_is_untouched(tmp_path: Path) -> None:
    other = make_target(tmp_path, "other")
    staged = stage(other, NEW)
    publish_data(make_target(tmp_path), OLD)
    publish(other, staged, NEW.counts)
    assert len(rows_of(tmp_path, "examples", "other")) == len(NEW.examples)
    assert not (tmp_path / "_staging").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"refreshes": 3}', '{"other": {}}'])
def test_a_manifest_that_cannot_be_read_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    publish_data(make_target(tmp_path), OLD)
    assert entry_of(tmp_path)["counts"]["examples"] == len(OLD.examples)


# --- the exchange of two folders


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


# --- an object store

BUCKET = "mem://bucket/data"


def remote_parquet(store: dict[str, bytes]) -> set[str]:
    return {path.removeprefix(f"{BUCKET}/") for path in store if path.endswith(".parquet")}


def remote_entry(store: dict[str, bytes], label: str = "base") -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(store[f"{BUCKET}/manifest.json"])["refreshes"][label]
    return entry


def test_a_whole_run_on_an_object_store(store: dict[str, bytes], large: Path) -> None:
    (entry,) = run_graph(graph(make_target(BUCKET), LARGE, order="x", shard_bytes=3_000)).elements
    assert {path: store[f"{BUCKET}/{path}"] for path in remote_parquet(store)} == files_of(large)
    assert set(store) == {f"{BUCKET}/{path}" for path in ("README.md", "manifest.json", *expected_files(entry))}
    assert read_manifest(BUCKET)["refreshes"]["base"] == entry


def test_stale_objects_go_after_the_manifest_came(store: dict[str, bytes]) -> None:
    publish_data(make_target(BUCKET), OLD, parts=3)
    publish_data(make_target(BUCKET, "other"), OLD)
    MemFileSystem.log.clear()
    entry = publish_data(make_target(BUCKET, run_id="run-2"), NEW)
    assert remote_parquet(store) == expected_files(entry) | expected_files(remote_entry(store, "other"))
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
    assert {f"{BUCKET}/{path}" for path in expected_files(remote_entry(store))} <= set(store)
    entry = publish(target, staged, NEW.counts)
    assert remote_parquet(store) == expected_files(entry) == expected_files(remote_entry(store))
    assert not any("_staging" in path for path in store)


def test_publishing_twice_on_a_store_changes_nothing(store: dict[str, bytes]) -> None:
    target = make_target(BUCKET)
    staged = stage(target, NEW)
    publish(target, staged, NEW.counts)
    before = {path: content for path, content in store.items() if path.endswith(".parquet")}
    publish(target, staged, NEW.counts)
    assert {path: content for path, content in store.items() if path.endswith(".parquet")} == before
    assert remote_parquet(store) == expected_files(remote_entry(store))


def test_a_failing_run_on_a_store_leaves_the_old_data(store: dict[str, bytes]) -> None:
    publish_data(make_target(BUCKET), OLD)
    before = dict(store)
    target = make_target(BUCKET, run_id="run-2")
    for data, counts in ((NOTHING, NOTHING.counts), (NEW, {**NEW.counts, "LLMCall/kept": 1})):
        with pytest.raises(RunFailed):
            publish(target, stage(target, data), counts)
        assert before.items() <= store.items()
        assert {path for path in store if "_staging" not in path} == set(before)


# --- fewer than there are


def test_fewer_examples_than_the_label_has_are_not_published_unasked(tmp_path: Path, store: dict[str, bytes]) -> None:
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
    """-> the same, of which so many examples were refused; as these rejects, if they are given."""
    more = list(rejects) or [make_reject("Refused", n) for n in range(count)]
    return dataclasses.replace(data, examples=data.examples[count:], rejects=[*data.rejects, *more])


def test_what_stands_in_another_label_is_no_loss(tmp_path: Path) -> None:
    """Two labels that were published at once are made anew: one of them yields."""
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


def test_labels_on_a_store_do_not_meet(store: dict[str, bytes]) -> None:
    """A name that begins with another one is another label."""
    publish_data(make_target(BUCKET, "a"), OLD)
    before = {path: content for path, content in store.items() if "refresh=a/" in path}
    publish_data(make_target(BUCKET, "a.b"), OLD)
    publish_data(make_target(BUCKET, "a.b", "run-2"), NEW, parts=2)
    assert {path: content for path, content in store.items() if "refresh=a/" in path} == before


def test_no_pipeline_writes_before_it_runs(tmp_path: Path) -> None:
    pipeline = TestPipeline("FnApiRunner")
    graph(make_target(tmp_path), OLD)(pipeline)
    assert list(tmp_path.iterdir()) == []
