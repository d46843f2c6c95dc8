"""WriteDataset: the rows of a run as files, and what the verdicts on them do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, Verdict
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.manifest import read_manifest
from textmint.transforms.dataset.schema import schema_of
from textmint.transforms.dataset.write_dataset import WriteDataset, apply_verdicts

from tests.support.dataset_runs import (
    BUCKET,
    EVERY_RUN,
    NEW,
    OLD,
    data_of,
    expected_files,
    graph,
    make_data,
    make_target,
    publish_data,
)
from tests.support.helpers import entry_of, files_of, rows_of, run_graph


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


def test_raw_replies_when_kept_and_a_dataset_without_rows(tmp_path: Path) -> None:
    data = make_data(rejects=0)
    data = dataclasses.replace(data, examples=[replace(row, raw_reply="raw") for row in data.examples])
    run_graph(graph(make_target(tmp_path), data, keep_raw=True))
    assert {row["raw_reply"] for row in rows_of(tmp_path, "examples")} == {"raw"}
    table = ds.dataset(tmp_path / "rejects", partitioning="hive").to_table()
    assert table.num_rows == 0
    assert not any(pa.types.is_null(field.type) for field in table.schema)
    assert table.schema.names == [*schema_of("rejects").names, "refresh"]


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


def test_a_whole_run_on_an_object_store(store: dict[str, bytes], large: Path) -> None:
    (entry,) = run_graph(graph(make_target(BUCKET), LARGE, order="x", shard_bytes=3_000)).elements
    assert data_of(BUCKET) == files_of(large)
    assert set(store) == {f"{BUCKET}/{path}" for path in ("README.md", "manifest.json", *expected_files(entry))}
    assert read_manifest(BUCKET)["refreshes"]["base"] == entry


def test_no_pipeline_writes_before_it_runs(tmp_path: Path) -> None:
    pipeline = TestPipeline("FnApiRunner")
    graph(make_target(tmp_path), OLD)(pipeline)
    assert list(tmp_path.iterdir()) == []
