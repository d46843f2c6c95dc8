"""Progress: counts of all worker processes added up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from textmint.transforms.core import progress

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(progress.VARIABLE, "")  # so that it is put back
    progress.begin(str(tmp_path))
    return tmp_path


# --- the board


def test_without_the_variable_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    progress.add("drafts")
    progress.flush()
    assert list(tmp_path.rglob("*")) == []


def test_counts_are_added_and_read(folder: Path) -> None:
    progress.add("drafts")
    progress.add("drafts", 4)
    progress.add("refused")
    progress.flush()
    assert progress.read(str(folder)) == {"drafts": 5, "refused": 1}
    assert [path.name for path in folder.rglob("*.json")] == [f"{os.getpid()}.json"]


def test_the_first_count_shows_at_once_and_later_ones_not_too_often(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + 1_000
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: later + now)
    shown = []
    for now in (0.0, 0.125, 0.375, 0.5, 0.75):  # noqa: B007 (the clock reads it)
        progress.add("drafts")
        shown.append(progress.read(str(folder))["drafts"])
    assert shown == [1, 1, 1, 4, 4]  # half a second after the first


def test_another_run_in_the_same_process_begins_at_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, "")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        progress.begin(str(tmp_path / name))
        progress.add("drafts", 3)
        progress.flush()
    assert progress.read(str(tmp_path / "first")) == progress.read(str(tmp_path / "second")) == {"drafts": 3}


def test_processes_are_added_up(folder: Path) -> None:
    progress.add("drafts", 3)
    progress.flush()
    adds = "progress.add('drafts', 4); progress.add('refused', 2); progress.flush()"
    code = f"from textmint.transforms.core import progress; {adds}"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert progress.read(str(folder)) == {"drafts": 7, "refused": 2}
    assert len(list(folder.rglob("*.json"))) == 2


def test_each_pass_counts_from_0_and_what_was_paid_adds_up(folder: Path) -> None:
    for _ in range(3):
        progress.add("LLMCall.replies", 10)
        progress.add(progress.TOKENS, 100)
        progress.flush()
        last = progress.read(str(folder))
        progress.begin_pass()
    assert last == {"LLMCall.replies": 10, progress.TOKENS: 300}
    assert progress.read(str(folder)) == {progress.TOKENS: 300}


def test_a_folder_that_is_gone_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "gone" / "000000"))
    progress.add("drafts")
    progress.flush()
    assert list(tmp_path.iterdir()) == []


CORRUPT = ["", "{", '{"drafts": ', "null", "5", "[1]", '"abc"', '{"drafts": "x"}', '{"drafts": null}', "\x00"]


@pytest.mark.parametrize("content", [*(text.encode() for text in CORRUPT), b"\xff\xfe"])
def test_corrupt_files_are_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000").mkdir()
    (tmp_path / "000000" / "1.json").write_bytes(content)
    (tmp_path / "000000" / "2.json").write_text(json.dumps({"drafts": 2}))
    (tmp_path / "000000" / "3.part").write_text(json.dumps({"drafts": 100}))  # half written
    assert progress.read(str(tmp_path)) == {"drafts": 2}
