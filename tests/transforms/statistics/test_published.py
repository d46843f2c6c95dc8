"""OUTPUT/statistics.json: what the graph counts, what the files hold, and what stands in the file are one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.core.elements import Example, Reject, Task, Verdict
from textmint.transforms.dataset.card import CARD
from textmint.transforms.dataset.publish import finish_publishing
from textmint.transforms.dataset.statistics_file import STATISTICS, read_statistics, write_statistics
from textmint.transforms.statistics.describe_rows import DescribeRows
from textmint.transforms.statistics.published import compute_statistics

from tests.support.dataset_runs import BUCKET, NEW, OLD, Data, graph, make_target, publish_data
from tests.support.described_rows import described, planted_rows
from tests.support.helpers import run_graph

ROWS = planted_rows()


class _OwnNumbers(Data):
    """Rows of tasks that want different numbers of examples."""

    @property
    def counts(self) -> dict[str, int]:
        asked = len(self.examples) + len(self.rejects)
        return {**super().counts, "Flatten/own.tasks": len(self.tasks), "Flatten/own.examples": asked}


DATA = _OwnNumbers(*([row for row in ROWS if isinstance(row, kind)] for kind in (Task, Example, Reject)))


def refreshes_of(content: bytes) -> dict[str, Any]:
    refreshes: dict[str, Any] = json.loads(content)["refreshes"]
    return refreshes


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("described")
    run_graph(graph(make_target(folder), DATA, describe=DescribeRows(2_000, 0.8)))
    return folder


def test_the_graph_makes_the_figures_of_the_rows(output: Path) -> None:
    assert read_statistics(str(output)) == {"base": described(ROWS)}


def test_equal_rows_give_a_byte_equal_file(output: Path, tmp_path: Path) -> None:
    """In another order, in other buckets, files and shares."""
    describe = DescribeRows(60_000, 0.8)
    target = make_target(tmp_path, run_id="run-2")
    run_graph(graph(target, DATA, order="x", shard_bytes=3_000, expected_rows=20_000, describe=describe))
    assert (tmp_path / STATISTICS).read_bytes() == (output / STATISTICS).read_bytes()
    assert len(list((tmp_path / "examples" / "refresh=base").iterdir())) > 1


def test_figures_made_anew_are_those_of_the_run(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = json.dumps(read_statistics(str(output))["base"])
    assert json.dumps(compute_statistics(str(output), "base")) == written
    monkeypatch.setattr("textmint.transforms.statistics.accumulate.SHARE_ROWS", 10)
    monkeypatch.setattr("textmint.transforms.statistics.task_labels.SHARE_ROWS", 10)
    assert json.dumps(compute_statistics(str(output), "base")) == written
    with pytest.raises(LookupError, match="holds no refresh=other"):
        compute_statistics(str(output), "other")


def test_the_card_takes_its_figures_from_the_file(output: Path) -> None:
    card = (output / CARD).read_text("utf-8")
    kept = len(DATA.examples)
    assert f"| English | {kept:,} | 100.0 % |" in card
    assert f"| m-1 | {kept:,} | 100.0 % |" in card
    lengths = read_statistics(str(output))["base"]["attributes"]["num_words"]
    for value, count in lengths.items():
        assert f"| {value} | {count['kept']:,} |" in card


def test_rows_that_a_comparison_refuses_are_rejects_here_too(tmp_path: Path) -> None:
    refused = DATA.examples[::9]
    verdicts = [Verdict(id=row.id, stage="FindDuplicates", reason="duplicate", detail="of x") for row in refused]
    run_graph(graph(make_target(tmp_path), DATA, verdicts=verdicts, describe=DescribeRows(2_000, 0.8)))
    found = read_statistics(str(tmp_path))["base"]
    assert found["rows"]["examples"] == len(DATA.examples) - len(refused)
    (line,) = [line for line in found["rejects"] if line["stage"] == "FindDuplicates"]
    assert line["count"] == len(refused) and line["samples"][0]["detail"] == "of x"
    english = found["attributes"]["language"]["English"]
    assert english == {"asked": len(DATA.examples) + len(DATA.rejects), "kept": len(DATA.examples) - len(refused)}
    assert found == compute_statistics(str(tmp_path), "base")


# --- the file


def figures_of(data: Data, **changes: Any) -> dict[str, Any]:
    return {**described([*data.tasks, *data.examples, *data.rejects]), **changes}


def test_each_refresh_has_its_own_figures(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path, "b"), OLD, figures=figures_of(OLD))
    publish_data(make_target(tmp_path, "a"), NEW, figures=figures_of(NEW))
    assert list(refreshes_of((tmp_path / STATISTICS).read_bytes())) == ["a", "b"]
    assert read_statistics(str(tmp_path)) == {"a": figures_of(NEW), "b": figures_of(OLD)}


def test_figures_of_data_that_is_gone_are_not_shown(tmp_path: Path) -> None:
    """A step without statistics has published since: the old figures go; where nobody took them out, they do not
    fit."""
    publish_data(make_target(tmp_path), OLD, figures=figures_of(OLD))
    publish_data(make_target(tmp_path, "other"), OLD, figures=figures_of(OLD))
    before = (tmp_path / STATISTICS).read_bytes()
    publish_data(make_target(tmp_path, run_id="run-2"), NEW)
    assert list(read_statistics(str(tmp_path))) == ["other"]
    assert list(refreshes_of((tmp_path / STATISTICS).read_bytes())) == ["other"]
    (tmp_path / STATISTICS).write_bytes(before)
    assert list(read_statistics(str(tmp_path))) == ["other"]


def test_figures_of_another_form_are_left_to_those_who_know_them(tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD, figures=figures_of(OLD, format=2))
    publish_data(make_target(tmp_path, "other"), NEW, figures=figures_of(NEW))
    assert list(read_statistics(str(tmp_path))) == ["other"]
    assert list(refreshes_of((tmp_path / STATISTICS).read_bytes())) == ["base", "other"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"refreshes": {"base": 7}}', b"\xff", b'{"refreshes": [1]}'])
def test_a_damaged_file_is_replaced(content: bytes, tmp_path: Path) -> None:
    publish_data(make_target(tmp_path), OLD, figures=figures_of(OLD))
    (tmp_path / STATISTICS).write_bytes(content)
    assert read_statistics(str(tmp_path)) == {}
    write_statistics(str(tmp_path), "base", figures_of(OLD))
    assert read_statistics(str(tmp_path)) == {"base": figures_of(OLD)}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_data_is_published_also_where_the_file_cannot_be_written(
    make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / STATISTICS)
    entry = publish_data(make_target(tmp_path), OLD, figures=figures_of(OLD))
    assert entry["counts"]["examples"] == len(OLD.examples)
    assert f"{STATISTICS} was not written" in caplog.text
    assert "| English |" not in (tmp_path / CARD).read_text("utf-8")


def test_a_run_that_was_killed_while_it_published_leaves_its_figures_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("textmint.transforms.dataset.publish.write_statistics", killed)
        publish_data(make_target(tmp_path), OLD, figures=figures_of(OLD))
    assert not (tmp_path / STATISTICS).exists()
    finish_publishing(str(tmp_path))
    assert read_statistics(str(tmp_path)) == {"base": figures_of(OLD)}


@pytest.mark.usefixtures("store")
def test_an_object_store(store: dict[str, bytes]) -> None:
    publish_data(make_target(BUCKET), OLD, figures=figures_of(OLD))
    assert refreshes_of(store[f"{BUCKET}/{STATISTICS}"]) == {"base": figures_of(OLD)}
    assert compute_statistics(BUCKET, "base") == figures_of(OLD)
