"""`--target_examples`: exactly so many rows, however many replies are spoiled, however often a run was killed, in any
number of processes; and little is asked for that was not needed."""

from __future__ import annotations

import collections
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.core.identity import fraction

from tests.support.helpers import TWO_WORKERS, entry_of, files_of, generate, rows_of, run_main, start, write_tasks
from tests.support.llm_server import LlmServer
from tests.support.waiting import wait_until

SPOILED = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as started:
        yield started


@pytest.fixture(autouse=True)
def spoiling(server: LlmServer) -> None:
    """Two drafts may have one prompt, whose replies are to be the same in whatever order they come."""
    server.reset(rate_bad_reply=SPOILED, repeats=True)


def flags(server: LlmServer, output: Path, *more: str) -> list[str]:
    model = ["--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", "--parse_attempts=1"]
    return [*model, f"--output={output}", *more]


def is_accepted(row: dict[str, Any]) -> bool:
    return row.get("reason") in (None, "over_target")


def drafts_of(output: Path) -> list[dict[str, Any]]:
    """Returns the rows and rejects of drafts, in the order in which those of own tasks are asked for."""
    rows = [*rows_of(output, "examples"), *rows_of(output, "rejects")]
    drafts = [row for row in rows if row["replica"] is not None]
    return sorted(drafts, key=lambda row: (row["replica"], fraction("admission", row["task_id"], row["replica"])))


def needed(drafts: list[dict[str, Any]], examples: int) -> int:
    """Returns how many drafts it takes, in their order, to have so many rows."""
    accepted = 0
    for number, row in enumerate(drafts, start=1):
        accepted += is_accepted(row)
        if accepted == examples:
            return number
    raise AssertionError("there are not so many")


def shares(rows: list[dict[str, Any]], column: str) -> list[int]:
    return sorted(collections.Counter(row[column] for row in rows).values())


def test_own_tasks_killed_repeated_and_in_two_processes(server: LlmServer, tmp_path: Path) -> None:
    """Thirty tasks with three drafts each do not do: more of each are asked for."""
    tasks = write_tasks(tmp_path / "tasks.txt", 30)
    more = [f"--tasks={tasks}", "--target_examples=150"]
    done = generate(*flags(server, tmp_path / "whole", *more))
    whole, asked = tmp_path / "whole", server.stats()["requests"]
    rows = rows_of(whole, "examples")
    assert len(rows) == entry_of(whole)["counts"]["examples"] == entry_of(whole)["counts"]["triplets"] == 150
    drafts = drafts_of(whole)
    assert len(drafts) == asked <= 1.15 * needed(drafts, 150)
    per_task = shares(rows, "task_id")
    there = collections.Counter(row["task_id"] for row in drafts if is_accepted(row))
    assert max(per_task) - min(per_task) <= 1 or min(per_task) == min(there.values())
    surplus = [row for row in drafts if row.get("reason") == "over_target"]
    assert {(row["stage"], row["can_retry"]) for row in surplus} == {("SelectExamples", False)}
    assert len(surplus) == sum(map(is_accepted, drafts)) - 150
    told = entry_of(whole)["target"]
    assert (told["examples"], told["task_requests"], told["stopped_by"]) == (150, None, "")
    assert told["examples_per_task"] == max(row["replica"] for row in drafts) + 1 > 5
    assert 2 <= told["waves"] <= 4
    assert "are missing" not in done.out + done.err

    # once more, it is all there
    assert "there is nothing to do" in generate(*flags(server, whole, *more)).err
    assert server.stats()["requests"] == asked

    # killed when a wave was half done, gone on with in two processes
    server.reset(rate_bad_reply=SPOILED, repeats=True, latency_median_ms=5)
    run = start("generate", *flags(server, tmp_path / "cut", *more, "--max_concurrency=8"), cwd=tmp_path)
    wait_until(lambda: server.stats()["answered"] >= 160, run, seconds=60)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    run.communicate()
    generate(*flags(server, tmp_path / "cut", *more, "--max_concurrency=8", *TWO_WORKERS))
    assert files_of(tmp_path / "cut") == files_of(whole)
    assert asked <= server.stats()["requests"] <= asked + 2 * 8


def test_brainstormed_tasks_with_planned_labels(server: LlmServer, tmp_path: Path) -> None:
    """One round with one draft for each task does not do: rounds are added, and labels are spread."""
    more = ["--task_requests=1", "--examples_per_task=4", "--label_plan=planned", "--target_examples=120"]
    generate(*flags(server, tmp_path, *more))
    rows, entry = rows_of(tmp_path, "examples"), entry_of(tmp_path)
    assert len(rows) == 120
    assert entry["target"]["task_requests"] > 1 and entry["target"]["examples_per_task"] == 4
    drafts = drafts_of(tmp_path)
    assert sum(map(is_accepted, drafts)) <= 1.15 * 120
    for task_id in {row["task_id"] for row in rows}:
        labels = [row["label"] for row in rows if row["task_id"] == task_id]
        assert max(collections.Counter(labels).values()) <= 2  # of four drafts, over two labels or more
    per_task = collections.Counter(row["task_id"] for row in rows)
    there = collections.Counter(row["task_id"] for row in drafts if is_accepted(row))
    most = max(per_task.values())
    assert all(count >= most - 1 or count == there[task_id] for task_id, count in per_task.items())


def test_what_cannot_be_reached_is_published_and_told(server: LlmServer, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(f'{{"task": "Sort letters of drawer {n}", "examples": 2}}\n' for n in range(20)))
    done = generate(*flags(server, tmp_path / "out", f"--tasks={tasks}", "--target_examples=60"))
    found = len(rows_of(tmp_path / "out", "examples"))
    assert 15 < found < 40
    told = f"{60 - found} of the 60 examples asked for are missing: each task says itself how many examples it wants"
    assert told in done.out and told in done.err
    again = generate(*flags(server, tmp_path / "out", f"--tasks={tasks}", "--target_examples=60"))
    assert told in again.out and server.stats()["requests"] == 40

    # of a refresh that has more, a smaller target takes nothing away
    refused = run_main("generate", *flags(server, tmp_path / "out", f"--tasks={tasks}", "--target_examples=10"))
    assert refused.code == 2 and "this run would have 10 at most" in refused.err


def test_a_cap_that_ends_it_and_a_larger_target(server: LlmServer, tmp_path: Path) -> None:
    """Twenty tasks with three drafts each do not do, neither in the first wave nor in the second."""
    tasks = write_tasks(tmp_path / "tasks.txt", 20)
    done = generate(*flags(server, tmp_path / "out", f"--tasks={tasks}", "--target_examples=80", "--max_tokens=8000"))
    stats = server.stats()
    assert stats["prompt_tokens"] + stats["output_tokens"] <= 8_000
    found = len(rows_of(tmp_path / "out", "examples"))
    assert 8 < found < 80
    assert f"{80 - found} of the 80 examples asked for are missing" in done.out
    generate(*flags(server, tmp_path / "out", f"--tasks={tasks}", "--target_examples=90", "--max_tokens=900000"))
    assert len(rows_of(tmp_path / "out", "examples")) == 90
    drafts = drafts_of(tmp_path / "out")
    assert server.stats()["requests"] == len(drafts) <= 1.15 * needed(drafts, 90)  # nothing was paid twice


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--target_examples=0"], "--target_examples is 0; it must be at least 1"),
        (["--target_examples=many"], "--target_examples"),
        (["--max_waves=3"], "--max_waves without --target_examples: add it, or leave both out"),
        (["--target_examples=3", "--max_waves=0"], "--max_waves is 0; it must be at least 1"),
        (["--target_examples=3", "--retry_rejects"], "--target_examples with --retry_rejects"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], told: str, tmp_path: Path) -> None:
    done = run_main("generate", *options, f"--output={tmp_path / 'out'}")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert told in done.err
    assert not (tmp_path / "out").exists()
