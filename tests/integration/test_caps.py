"""Runs with a cap on what they may spend: it holds by the endpoint's own count, and the rows are the same in one
process, in two, and after a kill."""

from __future__ import annotations

import collections
import json
import os
import signal
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.helpers import (
    TWO_WORKERS,
    Done,
    Script,
    config_flag,
    entry_of,
    files_of,
    generate,
    rows_of,
    start,
    write_tasks,
)
from tests.support.llm_server import LlmServer
from tests.support.waiting import wait_until

IN_FLIGHT = 8
TASKS, EXAMPLES = 100, 3
PRICES = (1.0, 4.0)
LARGEST = 0.005  # dollars: far more than any reply of the endpoint costs


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as started:
        yield started


def flags(server: LlmServer, output: Path, *more: str) -> list[str]:
    tasks = write_tasks(output.parent / "tasks.txt", TASKS)
    shared = ["--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", f"--max_concurrency={IN_FLIGHT}"]
    asked = [f"--tasks={tasks}", f"--examples_per_task={EXAMPLES}", "--checks=none", "--no_report"]
    asked += ["--max_output_tokens=256"]  # nearly what a reply takes: a larger pilot, and so fewer waves
    return [*shared, *asked, "--price={},{}".format(*PRICES), f"--output={output}", *more]


def spent(server: LlmServer) -> float:
    """Returns what the endpoint was paid, by its own count."""
    stats = server.stats()
    return float(PRICES[0] * stats["prompt_tokens"] + PRICES[1] * stats["output_tokens"]) / 10**6


@pytest.fixture(scope="module")
def whole(server: LlmServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run without a cap, and what it cost."""
    output = tmp_path_factory.mktemp("whole") / "out"
    server.reset()
    generate(*flags(server, output))
    return output, spent(server)


@pytest.fixture(scope="module")
def capped(
    server: LlmServer, whole: tuple[Path, float], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float, Done]:
    """A run with a cap of 0.4 of the whole cost, the cap, and what the run said."""
    output, cap = tmp_path_factory.mktemp("capped") / "out", round(0.4 * whole[1], 6)
    server.reset()
    done = generate(*flags(server, output, f"--max_cost={cap}"))
    assert 0.9 * cap <= spent(server) <= cap
    return output, cap, done


def test_what_a_capped_run_tells(capped: tuple[Path, float, Done], whole: tuple[Path, float]) -> None:
    output, cap, done = capped
    entry = entry_of(output)
    steps, rows = entry["steps"], len(rows_of(output, "examples"))
    assert 100 < rows < 125 and rows + steps["SampleAttributes"]["held_back"] == TASKS * EXAMPLES
    assert steps["SampleAttributes"]["kept"] == steps["BuildPrompt"]["in"] == steps["LLMCall"]["kept"] == rows
    assert entry["caps"]["max_cost"]["cap"] == cap
    assert entry["caps"]["max_cost"]["spent"] == pytest.approx(entry["spending"]["cost_usd"])
    waves = entry["waves"]
    assert sum(wave["replies"] for wave in waves) == rows and waves[-1]["drafts"] == rows
    assert [wave["level"] for wave in waves] == sorted(wave["level"] for wave in waves)
    held_back = TASKS * EXAMPLES - rows
    assert f"held back: {held_back} drafts, by --max_cost={cap:.12g} ($" in done.out
    assert f"--max_cost={2 * cap:.12g}" in done.out and f"asked for: {rows} replies; from the ledger: 0" in done.out
    assert f"{held_back} drafts are held back; a higher cap asks for them" in done.err
    assert f"; $0.00 of --max_cost={cap:.12g} spent so far" in done.err
    ids = {row["id"] for row in rows_of(output, "examples")}
    assert ids < {row["id"] for row in rows_of(whole[0], "examples")}
    per_task = collections.Counter(row["task_id"] for row in rows_of(output, "examples"))
    assert set(per_task.values()) == {1, 2}  # the first example of every task comes before the second of any
    assert len(per_task) == TASKS


def test_killed_gone_on_with_in_two_processes_and_then_without_a_cap(
    server: LlmServer, whole: tuple[Path, float], capped: tuple[Path, float, Done], tmp_path: Path
) -> None:
    cap, output = f"--max_cost={capped[1]}", tmp_path / "out"
    server.reset(latency_median_ms=10)
    run = start("generate", *flags(server, output, cap), cwd=tmp_path)
    wait_until(lambda: server.stats()["answered"] >= 50, run, seconds=60)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert not files_of(output)
    generate(*flags(server, output, *TWO_WORKERS, cap))
    assert files_of(output) == files_of(capped[0])
    assert spent(server) <= capped[1] + IN_FLIGHT * LARGEST  # of replies that were in flight at the kill nobody knows
    generate(*flags(server, output))
    assert files_of(output) == files_of(whole[0])
    assert server.stats()["answered"] <= TASKS * EXAMPLES + IN_FLIGHT
    asked = server.stats()["requests"]
    generate(*flags(server, output, cap))  # what is paid for stays, whatever the cap
    assert files_of(output) == files_of(whole[0]) and server.stats()["requests"] == asked


def test_replies_that_grow_in_the_middle(server: LlmServer, capped: tuple[Path, float, Done], tmp_path: Path) -> None:
    """Ten times as long from the 20th on: what is in flight comes to an end, and what was paid for is published."""
    server.reset(token_factor=10, token_factor_after=20)
    done = generate(*flags(server, tmp_path / "out", f"--max_cost={capped[1]}"))
    assert "replies take more than was planned: how far the cap goes is planned anew" in done.err
    assert spent(server) <= capped[1] + IN_FLIGHT * 10 * LARGEST
    entry = entry_of(tmp_path / "out")
    assert entry["counts"]["examples"] == server.stats()["answered"] > 20
    assert entry["spending"]["cost_usd"] == pytest.approx(spent(server))
    assert entry["steps"]["LLMCall"]["held_back"] == TASKS * EXAMPLES - entry["counts"]["examples"]
    assert f"asked for: {entry['counts']['examples']} replies" in done.out


def test_labels_and_verification_are_paid_for_too(tmp_path: Path) -> None:
    """Of the embedded model, which costs nothing but has tokens."""

    def tokens(entry: dict[str, Any]) -> int:
        return int(entry["spending"]["prompt_tokens"] + entry["spending"]["output_tokens"])

    asked = ("--task_requests=2", "--examples_per_task=2", "--label_plan=planned", "--verify", "--no_report")
    generate(*asked, f"--output={tmp_path / 'all'}")
    whole = tokens(entry_of(tmp_path / "all"))
    output = f"--output={tmp_path / 'out'}"
    generate(*asked, output, f"--max_tokens={whole // 2}", "--max_cost=1")
    entry = entry_of(tmp_path / "out")
    assert 0.85 * (whole // 2) <= tokens(entry) <= whole // 2
    assert entry["caps"] == {"max_tokens": {"cap": whole // 2, "spent": tokens(entry)}}  # the other is never reached
    for step, line in entry["steps"].items():
        if step != "SampleAttributes":
            assert line["in"] == line["kept"] + sum(line["rejected"].values()) + line.get("held_back", 0), step
    replies, all_replies = (each["steps"]["LLMCall"]["kept"] for each in (entry, entry_of(tmp_path / "all")))
    assert entry["steps"]["VerifyLabels"]["in"] <= replies < all_replies
    generate(*asked, output, f"--max_tokens={whole // 2}", "--max_cost=1", "--recompute")
    again = entry_of(tmp_path / "out")
    assert tokens(again) == 0
    # the same way again, whatever else the ledger holds
    assert [wave["level"] for wave in again["waves"]] == [wave["level"] for wave in entry["waves"]]
    generate(*asked, output, f"--max_tokens={2 * whole}")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "all")
    assert tokens(entry_of(tmp_path / "out")) == whole - tokens(entry)


def test_a_prompt_that_always_fails_ends_no_capped_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass that publishes asks for it alone, so the endpoint looks as if it were down."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")

    def reply(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if b"drawer 3 by" in body:
            return 500, {}, b"{}"
        text = json.dumps({"input_text": f"Text {zlib.crc32(body)}", "label": "a", "misleading_label": "b"})
        message = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(body) // 4, "completion_tokens": 20}  # about what is expected: so fewer waves
        return 200, {}, json.dumps({"model": "m", "choices": [message], "usage": usage}).encode()

    with Script(reply) as script:
        asked = [f"--tasks={write_tasks(tmp_path / 'tasks.txt', 150)}", "--examples_per_task=1", "--checks=none"]
        model = ["--llm=openai", "--model=m", f"--base_url={script.url}/v1", "--max_output_tokens=20"]
        shown = [f"--output={tmp_path / 'out'}", "--no_report", config_flag(max_attempts=2)]
        generate(*model, *asked, *shown, "--max_tokens=50000")
    (reject,) = rows_of(tmp_path / "out", "rejects")
    assert reject["reason"] == "request_failed"
    assert 80 <= len(rows_of(tmp_path / "out", "examples")) < 149  # the cap ended it
