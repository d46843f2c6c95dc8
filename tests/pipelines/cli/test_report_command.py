"""The command `report`: the report anew, of any refresh, also of data that an earlier version wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textmint.transforms.dataset.pages import REPORT
from textmint.transforms.dataset.statistics_file import STATISTICS

from tests.support.helpers import Done, run_main


def report(output: Path, *flags: str) -> Done:
    return run_main("report", f"--output={output}", *flags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dataset") / "out"
    options = ("--task_requests=1", "--max_tasks=3", "--examples_per_task=4")
    assert run_main("generate", *options, f"--output={output}").code == 0
    assert run_main("generate", *options, f"--output={output}", "--refresh=later", "--no_report", "--seed=7").code == 0
    return output


def test_a_run_writes_it_unless_told_not_to(folder: Path) -> None:
    page = (folder / REPORT).read_text("utf-8")
    assert "<h1>Refresh base</h1>" in page and str(folder) not in page


def test_it_is_made_anew_of_any_refresh(folder: Path) -> None:
    listed = "Refreshes of the dataset"  # of which there is one more now
    first = (folder / REPORT).read_text("utf-8").partition(listed)[0]
    done = report(folder)
    assert (done.code, done.err) == (0, "") and f"{folder}/{REPORT}: the report of refresh later" in done.out
    page = (folder / REPORT).read_text("utf-8")
    assert "<h1>Refresh later</h1>" in page and "Compared with base" in page
    assert report(folder, "--refresh=base").code == 0
    assert (folder / REPORT).read_text("utf-8").partition(listed)[0] == first


def test_data_of_an_earlier_version_has_a_report(folder: Path) -> None:
    assert report(folder, "--refresh=later").code == 0
    expected = (folder / REPORT).read_bytes()
    statistics = (folder / STATISTICS).read_bytes()
    (folder / STATISTICS).unlink()
    try:
        assert report(folder, "--refresh=later").code == 0
        assert (folder / REPORT).read_bytes() == expected
    finally:
        (folder / STATISTICS).write_bytes(statistics)


def test_a_page_of_the_users_own_is_left_alone(folder: Path) -> None:
    before = (folder / REPORT).read_bytes()
    (folder / REPORT).write_text("mine")
    try:
        done = report(folder)
        assert done.code == 2 and f"{folder}/{REPORT} is not Textmint's" in done.err
        assert (folder / REPORT).read_text() == "mine"
    finally:
        (folder / REPORT).write_bytes(before)


def test_what_is_wrong_is_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no dataset")
    for done, told in (
        (report(tmp_path), "there is no dataset in it"),
        (report(tmp_path / "nowhere"), "there is no dataset in it"),
        (report(Path("")), "--output"),
        (report(folder, "--refresh=bsae"), "no such refresh: did you mean base"),
        (report(folder, "--refresh=\x1b[2J"), "no such refresh; there are base, later"),
        (report(folder, "--refrehs=base"), "--refrehs"),
    ):
        assert done.code == 2 and told in done.err and done.err.count("\n") == 1 and done.out == "", done
        assert "\x1b" not in done.err


def test_a_damaged_manifest_is_told_in_a_line(tmp_path: Path) -> None:
    entry = {"files": {"examples": []}, "steps": 5}
    (tmp_path / "manifest.json").write_text(json.dumps({"refreshes": {"base": entry}}))
    done = report(tmp_path)
    assert done.code in (1, 2) and done.err.count("\n") == 1 and "Traceback" not in done.err
