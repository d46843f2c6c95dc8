"""Runs that go on where another was killed, and refreshes that add to each other: nothing is paid for twice, and the
data is what it would have been."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from textmint.pipelines.graph.previous_run import inspect_output, prepare_to_ask
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.texts import normalise_text
from textmint.transforms.dataset.manifest import read_manifest
from textmint.transforms.storage import lease

from tests.support.helpers import (
    ROOT,
    TWO_WORKERS,
    Done,
    config_flag,
    entry_of,
    files_of,
    rows_of,
    run_main,
    shipped_template,
    write_tasks,
)
from tests.support.llm_server import LlmServer

ROWS = 1_000
IN_FLIGHT = 16


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as started:
        yield started


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks.txt", ROWS)


def flags(server: LlmServer, output: Path, *more: str) -> list[str]:
    """Returns options with which no prompt comes twice, so that the endpoint can tell what it is paid for."""
    url = f"{server.base_url}/v1"
    # Nothing is compared, which is a third of a graph, and of no account here.
    shared = ["--llm=openai", "--model=m", f"--base_url={url}", f"--max_concurrency={IN_FLIGHT}", "--checks=none"]
    return ["generate", *shared, "--examples_per_task=1", f"--output={output}", *more]


def generate(server: LlmServer, output: Path, *more: str) -> Done:
    done = run_main(*flags(server, output, *more))
    assert done.code == 0, done.err
    return done


def started(server: LlmServer, output: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "textmint.pipelines", *flags(server, output, *more)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def killed_after(answers: int, server: LlmServer, output: Path, *more: str) -> None:
    """A run of which nothing but the launcher is killed, once the endpoint has given so many answers."""
    run = started(server, output, *more)
    deadline = time.monotonic() + 60
    while server.stats()["answered"] < answers and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    run.kill()
    assert run.wait() == -signal.SIGKILL


def test_killed_three_times_a_run_pays_twice_for_no_more_than_was_in_flight(
    server: LlmServer, tasks: Path, tmp_path: Path
) -> None:
    more = [f"--tasks={tasks}"]
    server.reset(latency_median_ms=5)
    generate(server, tmp_path / "whole", *more)
    whole = server.stats()
    server.reset(latency_median_ms=5)
    for answers, workers in ((100, 2), (350, 1), (650, 2)):
        killed_after(answers, server, tmp_path / "cut", *more, *(TWO_WORKERS if workers == 2 else []))
        shown = [path for path in (tmp_path / "cut").rglob("*") if path.suffix == ".parquet"]
        assert {path.parent.name for path in shown} <= {"ledger"}  # nothing under the dataset's names
        for path in shown:
            pq.read_table(path)  # and what the ledger shows is whole
    generate(server, tmp_path / "cut", *more)
    cut = server.stats()
    # paid is what the endpoint delivered; what was on its way when the process died may have been delivered too
    assert 0 <= cut["answered"] - whole["answered"] <= 5 * IN_FLIGHT
    assert cut["paid_twice"] - whole["paid_twice"] <= 5 * IN_FLIGHT
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    names = {path.name for path in (tmp_path / "cut").iterdir()}
    assert names == {
        "examples",
        "triplets",
        "tasks",
        "rejects",
        "ledger",
        "manifest.json",
        "README.md",
        "report.html",
        "statistics.json",
    }
    assert not list((tmp_path / "cut" / "ledger").glob("_*"))


def test_a_finished_run_asks_for_nothing_again(server: LlmServer, tmp_path: Path) -> None:
    server.reset(rate_bad_reply=0.1)
    more = ["--task_requests=3", "--examples_per_task=2"]
    generate(server, tmp_path, *more)
    before, asked = files_of(tmp_path), server.stats()["requests"]
    for flag in ([], ["--recompute", *TWO_WORKERS], ["--recompute", "--keep_raw"]):
        generate(server, tmp_path, *more, *flag)
        assert server.stats()["requests"] == asked
        if "--keep_raw" not in flag:
            assert files_of(tmp_path) == before
    steps = entry_of(tmp_path)["steps"]
    assert sum(steps[step]["requests"]["from_ledger"] for step in ("TaskGenerate", "LLMCall")) == asked
    assert steps["LLMCall"]["requests"]["sent"] == 0
    assert steps["LLMCall"]["tokens"] == {"prompt": 0, "output": 0}
    assert all(row["raw_reply"] for row in rows_of(tmp_path, "examples"))


def test_more_is_paid_for_by_the_difference(server: LlmServer, tmp_path: Path) -> None:
    server.reset()
    generate(server, tmp_path, "--task_requests=2")
    counted = server.stats()["requests"]
    assert counted == 2 + 40

    def added(*more: str) -> int:
        nonlocal counted
        generate(server, tmp_path, *more, "--replace")
        before, counted = counted, server.stats()["requests"]
        return int(counted - before)

    assert added("--task_requests=2", "--examples_per_task=3") == 80
    assert added("--task_requests=3", "--examples_per_task=3") == 1 + 60
    assert added("--task_requests=1") == 0
    assert added("--task_requests=1", "--model=other", "--temperature=0.5") == 1 + 20
    assert added("--task_requests=1", "--max_concurrency=3", config_flag(request_timeout=9)) == 0
    template = tmp_path / "mine.jinja2"
    template.write_text(f"{shipped_template('classify').text}\nThank you.\n")
    assert added("--task_requests=1", f"--example_template={template}") == 20


def test_rejects_are_asked_for_again_only_on_demand(server: LlmServer, tasks: Path, tmp_path: Path) -> None:
    more = [f"--tasks={tasks}", "--max_tasks=60", "--parse_attempts=1"]
    server.reset(rate_bad_reply=0.3, rate_blocked=0.1)
    generate(server, tmp_path, *more)
    rejects = [row for row in rows_of(tmp_path, "rejects") if row["stage"] == "ParseJSON"]
    again = sum(row["can_retry"] for row in rejects)
    assert 3 < again < len(rejects)
    first = {row["id"] for row in rows_of(tmp_path, "examples")}
    server.reset()
    generate(server, tmp_path, *more)
    assert server.stats()["requests"] == 0
    generate(server, tmp_path, *more, "--retry_rejects")
    assert server.stats()["requests"] == again
    second = {row["id"] for row in rows_of(tmp_path, "examples")}
    assert second == first | {row["id"] for row in rejects if row["can_retry"]}
    generate(server, tmp_path, *more, "--recompute")
    assert server.stats()["requests"] == again
    assert {row["id"] for row in rows_of(tmp_path, "examples")} == second


def test_what_got_no_reply_is_asked_for_again(server: LlmServer, tasks: Path, tmp_path: Path) -> None:
    more = [f"--tasks={tasks}", "--max_tasks=300", config_flag(max_attempts=1)]
    server.reset(fail_always=r"drawer \d*7 ", fail_always_status=500)
    generate(server, tmp_path, *more)
    failed = {row["id"] for row in rows_of(tmp_path, "rejects") if row["reason"] == "request_failed"}
    assert 10 < len(failed) < 100
    server.reset()
    generate(server, tmp_path, *more)
    assert server.stats()["requests"] == len(failed)
    assert failed < {row["id"] for row in rows_of(tmp_path, "examples")}
    assert rows_of(tmp_path, "rejects") == [row for row in rows_of(tmp_path, "rejects") if row["stage"] == "Flatten"]


def texts_and_ids(folder: Path, labels: list[str]) -> tuple[list[str], list[str], list[str]]:
    rows = [row for label in labels for row in rows_of(folder, "examples", label)]
    tasks = [row["task_id"] for label in labels for row in rows_of(folder, "tasks", label)]
    return [normalise_text(row["input_text"]) for row in rows], [row["id"] for row in rows], tasks


def test_refreshes_add_to_each_other(server: LlmServer, tmp_path: Path) -> None:
    labels = ["2026-11-22", "2026-11-23", "2026-11-24"]
    server.reset()
    for label in labels:
        generate(server, tmp_path, "--task_requests=12", f"--refresh={label}")
    for values in texts_and_ids(tmp_path, labels):
        assert len(values) == len(set(values)) > 600
    before, asked = files_of(tmp_path), server.stats()["requests"]
    for label, flag in ((labels[2], []), (labels[2], ["--recompute"]), (labels[0], ["--recompute"])):
        generate(server, tmp_path, "--task_requests=12", f"--refresh={label}", *flag)
        assert server.stats()["requests"] == asked
        assert files_of(tmp_path) == before


def test_a_text_of_another_refresh_is_a_duplicate_that_names_it(tmp_path: Path) -> None:
    flags = ["--task_requests=30", "--num_words=less than 10", "--examples_per_task=4", f"--output={tmp_path}"]
    for label in ("a", "b"):
        assert run_main("generate", f"--refresh={label}", *flags).code == 0
    ids = {row["id"]: normalise_text(row["input_text"]) for row in rows_of(tmp_path, "examples", "a")}
    found = 0
    for row in rows_of(tmp_path, "rejects", "b"):
        if row["stage"] == "FindDuplicates" and "of refresh=a" in row["detail"]:
            found += 1
            stands = row["detail"].split(" of refresh=a")[0].split()[-1]
            assert ids[stands] in normalise_text(row["raw_reply"])
    assert found > 3


def of_label(folder: Path, label: str) -> dict[str, bytes]:
    return {path: content for path, content in files_of(folder, label).items() if not path.startswith("rejects")}


@pytest.fixture(scope="module")
def refreshed(server: LlmServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two refreshes of one file of tasks, and one more task in the second."""
    folder = tmp_path_factory.mktemp("refreshed")
    write_tasks(folder / "tasks.txt", 3)
    server.reset()
    more = [f"--tasks={folder / 'tasks.txt'}", "--examples_per_task=4"]
    generate(server, folder / "out", *more, "--refresh=tue")
    write_tasks(folder / "tasks.txt", 4)
    generate(server, folder / "out", *more, "--refresh=mon")
    return folder


def numbers_of(folder: Path, label: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in rows_of(folder, "examples", label):
        found.setdefault(row["task"].split()[4], []).append(row["replica"])
    return {drawer: sorted(found[drawer]) for drawer in sorted(found)}


def test_tasks_of_the_users_own_get_new_examples_in_every_refresh(refreshed: Path) -> None:
    out = refreshed / "out"
    assert numbers_of(out, "tue") == {drawer: [0, 1, 2, 3] for drawer in "012"}
    assert numbers_of(out, "mon") == {**{drawer: [4, 5, 6, 7] for drawer in "012"}, "3": [0, 1, 2, 3]}
    texts, ids, _ = texts_and_ids(out, ["mon", "tue"])
    assert len(set(texts)) == len(set(ids)) == 12 + 16
    assert [row["first_replica"] for row in rows_of(out, "tasks", "tue")] == [0, 0, 0]
    assert sorted(row["first_replica"] for row in rows_of(out, "tasks", "mon")) == [0, 4, 4, 4]


def test_each_refresh_of_the_users_own_tasks_keeps_its_rows_and_grows(
    server: LlmServer, refreshed: Path, tmp_path: Path
) -> None:
    """Whatever its name, and whatever others have published since."""
    shutil.copytree(refreshed / "out", tmp_path / "out")
    out, tasks = tmp_path / "out", f"--tasks={refreshed / 'tasks.txt'}"
    (refreshed / "first.txt").write_text("".join((refreshed / "tasks.txt").read_text().splitlines(keepends=True)[:3]))
    of = {"tue": f"--tasks={refreshed / 'first.txt'}", "mon": tasks}
    before = {label: of_label(out, label) for label in of}
    asked = server.stats()["requests"]
    for label in ("tue", "mon"):
        generate(server, out, of[label], "--examples_per_task=4", f"--refresh={label}", "--recompute")
        assert of_label(out, label) == before[label]
    assert server.stats()["requests"] == asked
    generate(server, out, of["tue"], "--examples_per_task=9", "--refresh=tue")
    assert server.stats()["requests"] - asked == 3 * 5
    assert numbers_of(out, "tue") == {drawer: list(range(9)) for drawer in "012"}
    generate(server, out, of["mon"], "--examples_per_task=4", "--refresh=mon", "--recompute")
    assert of_label(out, "mon") == before["mon"]
    texts, ids, _ = texts_and_ids(out, ["mon", "tue"])
    assert len(set(texts)) == len(set(ids)) == 27 + 16


def merged(folder: Path, *others: Path) -> None:
    """What several runs would have left that wrote one folder, each without knowing of the others."""
    for other in others:
        manifest = {"refreshes": {**read_manifest(str(folder))["refreshes"], **read_manifest(str(other))["refreshes"]}}
        shutil.copytree(other, folder, dirs_exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(manifest))


def test_labels_that_share_tasks_and_run_again_at_once_lose_none(
    server: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First published at once, then made anew at once: of what both have, one has it still."""
    server.reset()
    lines = write_tasks(tmp_path / "all.txt", 9).read_text().splitlines(keepends=True)
    labels = {"a": lines[:6], "b": lines[3:]}
    for kind in ("own", "brainstormed"):
        # Lists from files take the part of lists from a model that brings the same to both.
        monkeypatch.setattr("textmint.transforms.flatten._OWN", "file" if kind == "own" else "none")
        folder = tmp_path / kind
        for label, part in labels.items():
            (tmp_path / f"{label}.txt").write_text("".join(part))
            generate(server, tmp_path / f"{kind}-{label}", f"--tasks={tmp_path / label}.txt", f"--refresh={label}")
        folder.mkdir()
        merged(folder, *(tmp_path / f"{kind}-{label}" for label in labels))
        assert [len(rows_of(folder, "tasks", label)) for label in labels] == [6, 6]
        again = {label: tmp_path / f"{kind}-again-{label}" for label in labels}
        for label in labels:
            shutil.copytree(folder, again[label])
            generate(server, again[label], f"--tasks={tmp_path / label}.txt", f"--refresh={label}")
        kept = {label: rows_of(again[label], "tasks", label) for label in labels}
        assert len({row["task_id"] for rows in kept.values() for row in rows}) == 9
        assert [len(kept["a"]), len(kept["b"])] == [6, 6 if kind == "own" else 3]
        ids = [row["id"] for label in labels for row in rows_of(again[label], "examples", label)]
        assert len(ids) == len(set(ids)) == (12 if kind == "own" else 9)


def test_a_refresh_beside_another_takes_no_numbers_that_this_one_may_take(
    server: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it saw when it began is what a run that goes on after it was killed keeps to, and what others go by."""
    server.reset()
    out, tasks = tmp_path / "out", write_tasks(tmp_path / "tasks.txt", 2)
    of_a, of_b = (parse(flags(server, out, f"--tasks={tasks}", f"--refresh={label}")[1:])[0] for label in "ab")
    assert inspect_output(of_b).is_alone
    with lease.hold(str(out), "refresh=a", "somebody"), lease.hold(str(out), "refresh=b", "a run that is killed"):
        assert not prepare_to_ask(of_b, inspect_output(of_b), str(out / "_staging" / "refresh=b" / "run")).is_alone
        assert inspect_output(of_a).is_alone  # which was killed too, and is started again: the other one makes way
        assert not inspect_output(of_b).is_alone
    assert not inspect_output(of_b).is_alone
    generate(server, out, f"--tasks={tasks}", "--refresh=b")
    assert {row["replica"] for row in rows_of(out, "examples", "b")} == {1}
    assert not (out / "_staging").exists()
    generate(server, out, f"--tasks={tasks}", "--refresh=a")
    assert {row["replica"] for row in rows_of(out, "examples", "a")} == {0}
    with monkeypatch.context() as patch:  # another one that is published at any moment is seen, there or here
        seen: list[str] = []
        patch.setattr(
            "textmint.pipelines.graph.previous_run.is_alone", lambda config: bool(seen.append("leases")) or True
        )
        patch.setattr(
            "textmint.pipelines.graph.previous_run.published_files", lambda output, kind: seen.append(kind) or []
        )
        inspect_output(of_a)
        assert seen == ["leases", "tasks", "examples"]


# --- a ledger in trouble


def test_broken_and_foreign_files_are_named_and_set_aside(server: LlmServer, tmp_path: Path) -> None:
    server.reset()
    generate(server, tmp_path, "--task_requests=2")
    before = files_of(tmp_path)
    (own,) = (tmp_path / "ledger").glob("*.parquet")
    (tmp_path / "ledger" / "cut.parquet").write_bytes(own.read_bytes()[:-100])
    (tmp_path / "ledger" / "notes.txt").write_text("mine")
    (tmp_path / "ledger" / "rows.parquet").write_bytes(
        next((tmp_path / "examples" / "refresh=base").iterdir()).read_bytes()
    )
    older = pq.read_table(own).drop_columns(["latency_ms"])
    pq.write_table(older, tmp_path / "ledger" / "older.parquet")
    asked = server.stats()["requests"]
    done = generate(server, tmp_path, "--task_requests=2")
    assert server.stats()["requests"] == asked
    for name in ("cut.parquet", "notes.txt", "rows.parquet", "older.parquet"):
        assert f"{name} is set aside: " in done.err
        assert (tmp_path / "ledger" / "_set_aside" / name).exists()
    assert "it lacks latency_ms" in done.err
    assert files_of(tmp_path) == before
    assert set(entry_of(tmp_path)["ledger"]["set_aside"]) == {
        "cut.parquet",
        "notes.txt",
        "rows.parquet",
        "older.parquet",
    }


def test_a_ledger_that_lost_a_file_pays_for_that_file_only(server: LlmServer, tmp_path: Path) -> None:
    server.reset()
    generate(server, tmp_path, "--task_requests=1")
    generate(server, tmp_path, "--task_requests=3")
    before = files_of(tmp_path)
    largest = max((tmp_path / "ledger").glob("*.parquet"), key=lambda path: path.stat().st_size)
    lost = pq.read_metadata(largest).num_rows
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    asked = server.stats()["requests"]
    stopped = run_main(*flags(server, tmp_path, "--task_requests=3"))
    assert (stopped.code, stopped.err.count("\n")) == (1, 1)
    assert f"{lost} replies that were paid for are missing in {tmp_path / 'ledger'}" in stopped.err
    assert f"{largest}: " in stopped.err
    assert server.stats()["requests"] == asked
    generate(server, tmp_path, "--task_requests=3", "--rebuy")
    assert server.stats()["requests"] - asked == lost
    assert files_of(tmp_path) == before


def test_one_wrong_bit_costs_a_row_group_and_only_when_that_is_said(server: LlmServer, tmp_path: Path) -> None:
    server.reset()
    generate(server, tmp_path, "--task_requests=10")
    before = files_of(tmp_path)
    (path,) = (tmp_path / "ledger").glob("*.parquet")
    content = bytearray(path.read_bytes())
    content[1_000] ^= 1
    path.write_bytes(bytes(content))
    asked = server.stats()["requests"]
    for more in ([], TWO_WORKERS):
        stopped = run_main(*flags(server, tmp_path, "--task_requests=10", *more))
        assert stopped.code == 1
        assert f"{path}: damaged: " in stopped.err
    assert server.stats()["requests"] == asked
    generate(server, tmp_path, "--task_requests=10", "--rebuy")
    assert 0 < server.stats()["requests"] - asked <= 64
    assert files_of(tmp_path) == before
    generate(server, tmp_path, "--task_requests=10", "--recompute")  # and all is well again
    assert 0 < server.stats()["requests"] - asked <= 64


def test_journals_that_are_deleted_while_a_run_is_under_way_are_written_again(
    server: LlmServer, tasks: Path, tmp_path: Path
) -> None:
    server.reset(latency_median_ms=20)
    with running(server, tmp_path, f"--tasks={tasks}", "--max_tasks=200") as run:
        shutil.rmtree(tmp_path / "ledger")
        assert b"is written again" in run.communicate()[1]
        assert run.returncode == 0
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "ledger").glob("*.parquet")) == 200
    assert entry_of(tmp_path)["ledger"]["replies"] == {"example": 200}


def test_a_ledger_that_cannot_be_written_is_told_before_anything_is_paid_for(server: LlmServer, tmp_path: Path) -> None:
    server.reset()
    (tmp_path / "ledger").write_text("a file in its place")
    done = run_main(*flags(server, tmp_path))
    assert done.code == 2
    assert server.stats()["requests"] == 0
    assert len(done.err.splitlines()) == 1


def limited(bytes_: int) -> Any:
    """Returns what ends the files of a child process at so many bytes, as a full disk would."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

    return limit


def test_a_disk_that_gets_full_stops_the_run_and_keeps_what_fits(
    server: LlmServer, tasks: Path, tmp_path: Path
) -> None:
    server.reset()
    limit = 200_000
    more = [f"--tasks={tasks}", "--max_tasks=1000", "--checks=none"]  # of languages unpacks its model to a file
    run = subprocess.run(
        [sys.executable, "-m", "textmint.pipelines", *flags(server, tmp_path, *more)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=limited(limit),
    )
    assert run.returncode == 1
    told = [line for line in run.stderr.splitlines() if "the run failed" in line]
    assert len(told) == 1
    assert f"the ledger {tmp_path / 'ledger'} cannot be written: File too large" in told[0]
    assert "Traceback" not in run.stderr
    paid = server.stats()["answered"]
    kept = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "ledger").glob("*.parquet"))
    assert kept > 100
    assert paid - kept <= 2 * IN_FLIGHT
    generate(server, tmp_path, *more)
    assert server.stats()["answered"] - 1_000 <= 2 * IN_FLIGHT


@contextlib.contextmanager
def running(server: LlmServer, output: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    run = started(server, output, *more)
    try:
        while not server.stats()["requests"] and run.poll() is None:
            time.sleep(0.01)
        yield run
    finally:
        run.kill()
        run.wait()


def test_two_runs_of_a_label_at_a_time(server: LlmServer, tasks: Path, tmp_path: Path) -> None:
    server.reset(latency_median_ms=200)
    with running(server, tmp_path, f"--tasks={tasks}") as run:
        done = run_main(*flags(server, tmp_path, f"--tasks={tasks}"))
        assert done.code == 2
        assert f"another run of this refresh is writing to {tmp_path} (process {run.pid} on " in done.err
        done = run_main("ledger", f"--output={tmp_path}", "--compact")
        assert done.code == 2
        assert "a run of refresh=base is under way" in done.err
        assert run.poll() is None
