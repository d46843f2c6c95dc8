"""The command `rejects`: what was refused, why, and the reply."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from textmint.transforms.core.elements import Reject
from textmint.transforms.dataset.schema import schema_of, to_parquet

from tests.support.helpers import Done, make_reject, run_main

HOSTILE = '{"input_text": "\x1b[2J\u202egone", "label": 1}\nsecond line'


def put(output: Path, *rejects: Reject, refresh: str = "base") -> None:
    folder = output / "rejects" / f"refresh={refresh}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part.parquet").write_bytes(to_parquet(rejects, schema_of("rejects")))


def rejects(output: Path, *flags: str) -> Done:
    return run_main("rejects", f"--output={output}", *flags)


def out_of(done: Done) -> str:
    assert (done.code, done.err) == (0, "")
    return done.out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [make_reject(f"Task {number}", reason="not_json" if number % 3 else "duplicate") for number in range(9)]
    put(tmp_path, *rows, make_reject("Hostile", reason="wrong_type", replica=7))
    put(tmp_path, msgspec.structs.replace(make_reject("Later"), raw_reply="x" * 5_000), refresh="later")
    return tmp_path


def test_it_shows_counts_reasons_and_replies(folder: Path) -> None:
    text = out_of(rejects(folder))
    assert text.startswith(f"{folder}: 11 rejects\n          6  not_json            no JSON can be found")
    assert "          3  duplicate" in text
    assert text.count("\n  task      Task ") == 9
    assert "… (4,000 more characters; --json has all)" in text and "x" * 1_001 not in text
    assert "empty (ParseJSON; asking again can help)" in text


def test_it_shows_those_of_one_reason_and_refresh(folder: Path) -> None:
    text = out_of(rejects(folder, "--reason=duplicate", "--n=2"))
    assert text.count("\nduplicate (ParseJSON") == 2 and "\nnot_json (" not in text
    assert text == out_of(rejects(folder, "--reason=duplicate", "--n=2"))
    assert out_of(rejects(folder, "--refresh=later")).startswith(f"{folder}: 1 reject\n")
    assert "none with the reason echo" in out_of(rejects(folder, "--reason=echo"))


def test_a_hostile_reply_reaches_no_terminal_and_stays_whole_in_json(tmp_path: Path) -> None:
    put(tmp_path, msgspec.structs.replace(make_reject(), raw_reply=HOSTILE, detail="a\x1bb"))
    text = out_of(rejects(tmp_path))
    assert "\x1b" not in text and "\u202e" not in text and "\n            second line" in text
    lines = out_of(rejects(tmp_path, "--json")).splitlines()
    (row,) = map(json.loads, lines)
    assert lines[0].isascii() and row["raw_reply"] == HOSTILE and row["refresh"] == "base"
    assert list(row) == ["refresh", *schema_of("rejects").names]


def test_which_are_shown_does_not_depend_on_files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [make_reject(f"Task {number}") for number in range(20)]
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    put(one, *rows)
    put(two, *rows[::-1])
    assert out_of(rejects(one, "--n=5", "--json")) == out_of(rejects(two, "--n=5", "--json"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--reason=dupliacte"], "--reason=dupliacte: unknown: did you mean duplicate"),
        (["--n=0"], "--n=0: it must be at least 1"),
        (["--n=many"], "--n"),
        (["--output="], "--output is empty; name a folder"),
        (["--output=/nowhere"], "--output /nowhere: there is no dataset in it; name the folder that a run wrote to"),
        (["--reasons=echo"], "--reasons"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(flags: list[str], told: str, folder: Path) -> None:
    done = rejects(folder, *flags)
    assert (done.code, done.out) == (2, "") and told in done.err and len(done.err.splitlines()) == 1


def test_a_damaged_file_is_named_with_no_traceback(folder: Path) -> None:
    (folder / "rejects" / "refresh=base" / "part.parquet").write_bytes(b"PAR1 no more")
    done = rejects(folder)
    assert done.code == 1 and "Traceback" not in done.err and str(folder) in done.err
