"""The command `ledger`: what was paid for, by refresh and model, and small files merged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from textmint.pipelines.cli.ledger import COMPACTING, report
from textmint.transforms.ledger.compact import Contents, ModelReplies
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.table import SCHEMA, read_replies, replies_file
from textmint.transforms.ledger.writer import Ledger, open_writer
from textmint.transforms.storage import files, lease

from tests.support.helpers import Done, run_main
from tests.support.ledger_rows import paid
from tests.support.mem_store import MemFileSystem

BUCKET = "mem://bucket/data"


def rows_for(*numbers: int, refresh: str = "base", model: str = "m-1", tokens: int = 10, time: int = 5) -> list[Any]:
    fields = {"refresh": refresh, "model": model, "prompt_tokens": tokens, "output_tokens": 1}
    return [paid(number, time=time, **fields) for number in numbers]


def put(output: Path | str, rows: Sequence[Any], name: str | None = None) -> str:
    own_name, content = replies_file(pa.Table.from_pylist(rows, schema=SCHEMA))
    path = files.join(str(output), "ledger", name or own_name)
    files.write_file(path, content)
    return path


def journal(output: Path, rows: Sequence[Any], run_id: str = "run-1") -> None:
    """What a process that was killed leaves."""
    writer = open_writer(Ledger(folder=str(output / "ledger"), refresh="base", run_id=run_id))
    for row in rows:
        writer.append(row)
    writer.close()


def ledger(output: Path | str, *flags: str) -> Done:
    return run_main("ledger", f"--output={output}", *flags)


def ok(done: Done) -> str:
    assert (done.code, done.err) == (0, "")
    return done.out


def refused(done: Done, code: int) -> str:
    """What a command that did nothing said: one line."""
    assert (done.code, done.out) == (code, "")
    (line,) = done.err.splitlines()
    return line


def replies_in(output: Path | str) -> list[str]:
    folder = files.join(str(output), "ledger")
    return sorted(
        text
        for file in ledger_files(folder)
        for text in read_replies(files.read_file(file.path), ["text"])["text"].to_pylist()
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)


# --- the table


def test_one_model(tmp_path: Path) -> None:
    path = put(tmp_path, rows_for(1, 2, 3))
    size = os.path.getsize(path) / 1_000_000
    assert ok(ledger(tmp_path)).splitlines() == [
        f"{tmp_path}/ledger: 3 replies in 1 file ({size:.1f} MB)",
        "",
        "  refresh  model  replies  prompt tokens  output tokens  files  cost",
        "  base     m-1          3             30              3      1     -",
        "",
        "-: the price is not known; --price=IN,OUT tells it",
    ]


def test_several_labels_and_models_and_their_sum(tmp_path: Path) -> None:
    """A file that holds replies of two models counts for both, and once in all."""
    put(tmp_path, [*rows_for(1, 2), *rows_for(3, model="a longer name", tokens=1_000)])
    put(tmp_path, rows_for(4, refresh="2026-11-23", tokens=1_234_567))
    put(tmp_path, rows_for(5))
    assert ok(ledger(tmp_path, "--price=0.5,1")).splitlines()[2:] == [
        "  refresh     model          replies  prompt tokens  output tokens  files       cost",
        "  2026-11-23  m-1                  1      1,234,567              1      1      $0.62",
        "  base        a longer name        1          1,000              1      1   $0.00050",
        "  base        m-1                  3             30              3      2  $0.000018",
        "  all                              5      1,235,597              5      3      $0.62",
        "",
        "cost: by --price",
    ]


PRICE = {"prompt_usd_per_million": 0.4, "output_usd_per_million": 1.6, "source": "a table\x1b[31m"}


def entry(spending: Any, verify_model: str | None = None) -> dict[str, Any]:
    options = {"model": "gpt-4.1-mini", "verify_model": verify_model}
    return {"files": {}, "options": options, "backend": {"model": "gpt-4.1-mini"}, "spending": spending}


def write_manifest(output: Path, **entries: Any) -> None:
    (output / "manifest.json").write_text(json.dumps({"refreshes": entries}))


def test_models_cost_what_the_manifest_says_of_those_that_were_asked(tmp_path: Path) -> None:
    """A version may stand behind the name; another model whose name begins in the same way is another model."""
    for model in ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini-nano", "gpt-4.1", "judge-001"):
        put(tmp_path, rows_for(1, model=model, tokens=1_000_000))
    put(tmp_path, rows_for(1, refresh="other", model="gpt-4.1-mini"))
    verify = {**PRICE, "prompt_usd_per_million": 2}
    write_manifest(tmp_path, base=entry({"price": PRICE, "verify_price": verify}, "judge"))
    lines = ok(ledger(tmp_path)).splitlines()
    assert {line.split()[1]: line.split()[-1] for line in lines[3:8]} == {
        "gpt-4.1": "-",
        "gpt-4.1-mini": "$0.40",
        "gpt-4.1-mini-2025-04-14": "$0.40",
        "gpt-4.1-mini-nano": "-",
        "judge-001": "$2.00",
    }
    assert [line.split()[-1] for line in lines[8:10]] == ["-", "-"]  # of another refresh, and the sum
    assert lines[11].startswith("cost: by a table")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "spending",
    [None, 5, {}, {"price": None}, {"price": 5}, {"price": {**PRICE, "prompt_usd_per_million": "x"}}]
    + [{"price": {**PRICE, "output_usd_per_million": number}} for number in (float("nan"), float("inf"), None)],
)
def test_a_manifest_that_says_nothing_of_use_tells_no_price(spending: Any, tmp_path: Path) -> None:
    put(tmp_path, rows_for(1, model="gpt-4.1-mini"))
    write_manifest(tmp_path, base=entry(spending))
    assert ok(ledger(tmp_path)).splitlines()[3].split()[-1] == "-"


@pytest.mark.parametrize("price", ["", "1", "1,2,3", "a,b", "-1,2", "nan,1"])
def test_a_price_that_is_none_is_refused(price: str, tmp_path: Path) -> None:
    put(tmp_path, rows_for(1))
    assert "--price" in refused(ledger(tmp_path, f"--price={price}"), 2)


def test_what_waits_in_journals_is_told_and_left_there(tmp_path: Path) -> None:
    journal(tmp_path, rows_for(1, 2))
    put(tmp_path, rows_for(3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    out = ok(ledger(tmp_path)).splitlines()
    assert out[0].startswith(f"{tmp_path}/ledger: 3 replies in 1 file (")
    assert out[3] == "  base     m-1          3             30              3      1     -"
    assert out[-1] == "2 of them wait in journals, of a run that is under way or was cut short"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_journals_is_a_ledger_too(tmp_path: Path) -> None:
    journal(tmp_path, rows_for(1))
    assert ok(ledger(tmp_path)).startswith(f"{tmp_path}/ledger: 1 reply in 0 files (0.0 MB)\n")


def test_files_that_are_no_ledger_are_set_aside_and_told_every_time(tmp_path: Path) -> None:
    put(tmp_path, rows_for(1))
    (tmp_path / "ledger" / "notes.txt").write_text("mine")
    (tmp_path / "ledger" / "cut.parquet").write_bytes(b"PAR1 and no more")
    for _ in range(2):
        out = ok(ledger(tmp_path)).splitlines()
        told = out.index("2 files set aside:")
        assert out[told + 1].startswith("  cut.parquet: no Parquet file, or cut short")
        assert out[told + 2] == "  notes.txt: no Parquet file by its name"
        assert len(out) == told + 3
    assert (tmp_path / "ledger" / "_set_aside" / "notes.txt").read_text() == "mine"


def test_a_ledger_with_nothing_but_what_was_set_aside(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "notes.txt").write_text("mine")
    for _ in range(2):
        out = ok(ledger(tmp_path))
        assert out.startswith(f"{tmp_path}/ledger: 0 replies in 0 files")
        assert "1 file set aside:" in out


@pytest.mark.parametrize("name", ["two\nlines", "tab\tbed", "\x1b[31mred\x1b[0m", "\u202eright to left", "a\x00b", " "])
def test_what_an_endpoint_calls_itself_cannot_spoil_the_table(name: str, tmp_path: Path) -> None:
    """The name comes as served, and stands in somebody's terminal."""
    put(tmp_path, rows_for(1, model=name))
    out = ok(ledger(tmp_path))
    assert len(out.splitlines()) == 6
    assert all(char.isprintable() for line in out.splitlines() for char in line)


def no_price(refresh: str, model: str) -> None:
    return None


def test_the_report_alone() -> None:
    held = {("b", "m"): ModelReplies(replies=1, files=1), ("a", "m"): ModelReplies(replies=2, files=1)}
    found = Contents(held, files=1, bytes=1_550_000, journals=0, set_aside={})
    lines = report(found, "gs://b/d", no_price).splitlines()
    assert lines[0] == "gs://b/d/ledger: 3 replies in 1 file (1.6 MB)"  # a decimal megabyte
    assert [line.split()[0] for line in lines[2:6]] == ["refresh", "a", "b", "all"]
    assert lines[-3].split()[-2:] == ["1", "-"]


# --- --compact


def test_small_files_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, rows_for(number, number + 100))
    put(tmp_path, rows_for(0, time=9))  # asked for twice, the second time later
    before = replies_in(tmp_path)
    out = ok(ledger(tmp_path, "--compact")).splitlines()
    assert out[0] == "6 files before, 1 file now, 1 duplicate left out"
    assert out[1].startswith(f"{tmp_path}/ledger: 10 replies in 1 file")
    assert replies_in(tmp_path) == sorted(set(before))
    there = [file.path for file in ledger_files(str(tmp_path / "ledger"))]
    assert ok(ledger(tmp_path, "--compact")).splitlines()[0] == "1 file before, 1 file now"
    assert [file.path for file in ledger_files(str(tmp_path / "ledger"))] == there
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger"]  # its lease is gone


def test_journals_become_files(tmp_path: Path) -> None:
    journal(tmp_path, rows_for(1, 2))
    journal(tmp_path, rows_for(3), run_id="run-2")
    put(tmp_path, rows_for(4))
    out = ok(ledger(tmp_path, "--compact")).splitlines()
    assert out[:2] == ["3 replies from 2 journals: now in files", "2 files before, 1 file now"]
    assert "wait in journals" not in "\n".join(out)
    assert replies_in(tmp_path) == [f"reply {number}" for number in (1, 2, 3, 4)]


def test_lines_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    journal(tmp_path, rows_for(1))
    (path,) = (tmp_path / "ledger" / "_journal").iterdir()
    path.write_bytes(path.read_bytes() + b'{"request_id": "ab')
    out = ok(ledger(tmp_path, "--compact")).splitlines()
    assert out[:2] == [
        "1 reply from 1 journal: now in files",
        "1 line of journals could not be read; whole ones are kept in _set_aside",
    ]
    assert replies_in(tmp_path) == ["reply 1"]


# --- refused


@pytest.mark.parametrize("output", ["disk", BUCKET])
def test_not_while_a_run_is_under_way(output: str, tmp_path: Path, store: dict[str, bytes], quick: None) -> None:
    folder = str(tmp_path) if output == "disk" else output
    for number in range(3):
        put(folder, rows_for(number))
    before = ledger_files(files.join(folder, "ledger"))
    with lease.hold(folder, "refresh=2026-11-23", "somebody"):
        line = refused(ledger(folder, "--compact"), 2)
        assert len(ok(ledger(folder)).splitlines()) == 6  # to look is no harm
    assert f"--compact: a run of refresh=2026-11-23 is under way (process {os.getpid()} on " in line
    assert line.endswith("); wait for its end")
    assert ledger_files(files.join(folder, "ledger")) == before
    assert ok(ledger(folder, "--compact")).startswith("3 files before, 1 file now\n")


def test_not_while_another_one_compacts(tmp_path: Path) -> None:
    put(tmp_path, rows_for(1))
    with lease.hold(str(tmp_path), COMPACTING, "somebody"):
        line = refused(ledger(tmp_path, "--compact"), 2)
    assert "--compact: the ledger is being compacted already (process " in line


def test_a_run_that_was_killed_is_no_run(tmp_path: Path, store: dict[str, bytes], quick: None) -> None:
    """On a store its lease stays, until it expires or its process is seen to be gone."""
    for folder in (str(tmp_path), BUCKET):
        put(folder, rows_for(1))
        stale = {"owner": "x", "host": "elsewhere", "process": 1, "expires": time.time() - 1}
        files.write_file(lease.path_of(folder, "refresh=base"), json.dumps(stale).encode())
        assert ok(ledger(folder, "--compact")).startswith("1 file before, 1 file now\n")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--output="], "--output is empty; name a folder"),
        (["--output={tmp_path}/nowhere"], "--output {tmp_path}/nowhere: there is no ledger in it; name the folder"),
        (["--output={tmp_path}"], "--output {tmp_path}: there is no ledger in it"),
        (["--output={tmp_path}/file"], "--output {tmp_path}/file: there is no ledger in it"),
        (["--output=nosuch://bucket/data"], "--output nosuch://bucket/data: cannot be read: Unable to get filesystem"),
        (["--output=mem://bucket/none"], "--output mem://bucket/none: there is no ledger in it"),
        (["--compakt"], "unrecognized arguments: --compakt"),
        (["--comp"], "unrecognized arguments: --comp"),
        (["--output"], "argument --output: expected one argument"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_options(flags: list[str], said: str, tmp_path: Path, store: dict[str, bytes]) -> None:
    (tmp_path / "file").write_text("x")
    line = refused(run_main("ledger", *(flag.format(tmp_path=tmp_path) for flag in flags)), 2)
    assert line.startswith("textmint: ")
    assert said.format(tmp_path=tmp_path) in line


def test_looking_for_a_ledger_leaves_nothing_behind(tmp_path: Path) -> None:
    for flags in ([], ["--compact"]):
        refused(ledger(tmp_path / "new", *flags), 2)
    assert list(tmp_path.iterdir()) == []


def test_help() -> None:
    for flag in ("--help", "-h"):
        out = ok(run_main("ledger", flag))
        assert out.startswith("usage: textmint ledger [--output DIR] [--compact]")
    assert "ledger" in run_main("--help").out


def test_a_relative_folder_a_tilde_and_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "output", rows_for(1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ok(run_main("ledger")).startswith("output/ledger: 1 reply in 1 file")
    for typed in ("output/", "./output", "~/output", f"{tmp_path}/output//"):
        assert "1 reply in 1 file" in ok(ledger(typed))


# --- what fails


def test_a_ledger_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, rows_for(1))
    put(tmp_path, rows_for(2))
    write = files.write_file

    def full(path: str, content: bytes, *, durable: bool = False) -> None:
        if "/ledger/" in path:
            raise OSError(28, os.strerror(28), path)
        write(path, content, durable=durable)

    monkeypatch.setattr(files, "write_file", full)
    assert refused(ledger(tmp_path, "--compact"), 1) == (f"textmint: the ledger of {tmp_path}: {os.strerror(28)}")
    monkeypatch.undo()
    assert replies_in(tmp_path) == ["reply 1", "reply 2"]
    assert [path.name for path in tmp_path.iterdir()] == ["ledger"]


# --- on an object store


def test_on_an_object_store(store: dict[str, bytes], quick: None) -> None:
    for number in range(3):
        put(BUCKET, rows_for(number))
    store[f"{BUCKET}/ledger/notes.txt"] = b"mine"
    out = ok(ledger(BUCKET)).splitlines()
    assert out[0].startswith(f"{BUCKET}/ledger: 3 replies in 3 files (0.0 MB)")
    assert out[-1] == "  notes.txt: no Parquet file by its name"
    out = ok(ledger(f"{BUCKET}/", "--compact")).splitlines()
    assert out[0] == "3 files before, 1 file now"
    assert replies_in(BUCKET) == ["reply 0", "reply 1", "reply 2"]
    assert sorted(path.removeprefix(f"{BUCKET}/ledger/").split("-")[0] for path in store) == [
        "_set_aside/notes.txt",
        "_set_aside/notes.txt.reason.txt",
        "replies",
    ]


def test_an_object_store_that_is_out_of_order(store: dict[str, bytes], quick: None) -> None:
    for number in range(3):
        put(BUCKET, rows_for(number))
    MemFileSystem.broken.add("delete")
    line = refused(ledger(BUCKET, "--compact"), 1)
    assert line.startswith(f"textmint: the ledger of {BUCKET}: ")
    MemFileSystem.broken.clear()
    assert sorted(set(replies_in(BUCKET))) == ["reply 0", "reply 1", "reply 2"]
