"""What a plan rests on: how many prompts there are, what the manifest says, and how long prompts are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.graph.plan_inputs import (
    Settled,
    bytes_a_row,
    make_plan,
    share_kept,
    what_is_asked,
)
from textmint.pipelines.graph.replies_seen import replies_seen
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.llm.base import fingerprint_of

from tests.support.ledger_rows import add_file, add_journal, paid


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(*argv: str) -> Config:
    return parse([*argv, "--output=out"], asks=False)[0]


def prompts(config: Config, settled: Settled | None = None, kept: float | None = None) -> dict[str, Any]:
    found = what_is_asked(config, {}, settled, kept)[1]
    return {each.what: (each.prompts, each.answered, each.is_exact) for each in found}


# --- how many prompts


def test_of_an_empty_folder() -> None:
    found = prompts(config_of("--task_requests=3", "--label_plan=planned", "--verify"))
    assert found == {
        "task lists": (3, 0, True),
        "label sets": (60, 0, False),
        "examples": (180, 0, False),
        "verifications": (180, 0, False),
    }
    assert prompts(config_of("--task_requests=3", "--max_tasks=10"))["examples"] == (30, 0, False)


def test_own_tasks_have_no_task_lists(work: Path) -> None:
    (work / "tasks.jsonl").write_text(
        '{"task": "Sort bees", "labels": ["a", "b"], "examples": 10}\n{"task": "Grade"}\n'
    )
    found = prompts(config_of("--tasks=tasks.jsonl", "--label_plan=planned"))
    assert found == {"label sets": (1, 0, False), "examples": (13, 0, False)}


def settled(lists: int, lists_left: int, tasks: int, examples: int, left: int, **more: Any) -> Settled:
    return Settled(
        tasks=tasks,
        met={"task lists": lists, "examples": examples},
        held_back={"task lists": lists_left, "examples": left},
        **more,
    )


def test_what_is_settled_is_exact_and_the_rest_is_estimated() -> None:
    config = config_of("--task_requests=10")
    all_there = prompts(config, settled(10, 0, 150, 450, 20))
    assert all_there == {"task lists": (10, 10, True), "examples": (450, 430, True)}
    half = prompts(config, settled(10, 5, 75, 225, 0))  # 15 tasks a list, as the lists brought that are there
    assert half == {"task lists": (10, 5, True), "examples": (450, 225, False)}
    one = prompts(config, settled(10, 9, 15, 45, 0))  # one list is no measure
    assert one["examples"] == (45 + 9 * 20 * 3, 45, False)


def test_examples_wait_for_the_labels_of_their_tasks() -> None:
    config = config_of("--task_requests=2", "--label_plan=planned", "--verify")
    known = Settled(
        tasks=40,
        met={"task lists": 2, "label sets": 40, "examples": 90, "verifications": 30},
        held_back={"task lists": 0, "label sets": 10, "examples": 30, "verifications": 5},
        to_label=30,
    )
    assert prompts(config, known) == {
        "task lists": (2, 2, True),
        "label sets": (40, 30, True),
        "examples": (120, 60, False),
        "verifications": (30 + 30, 25, False),  # half of the 60 that are answered led to one
    }
    few = Settled(tasks=40, met={"task lists": 2, "examples": 90, "verifications": 1}, held_back={"examples": 86})
    assert prompts(config, few)["verifications"] == (1 + 86, 1, False)  # four that are answered say little


def test_a_target_asks_for_the_first_examples_of_all_tasks() -> None:
    config = config_of("--task_requests=2", "--target_examples=50")
    assert prompts(config)["examples"] == (50, 0, False)
    assert prompts(config, kept=0.5)["examples"] == (100, 0, False)
    known = settled(2, 0, 40, 120, 60, by_rank=((40, 10), (40, 40), (40, 10)))
    assert prompts(config, known)["examples"] == (50, 10 + 10, False)
    assert prompts(config, known, kept=0.25) == {"task lists": (4, 2, False), "examples": (200, 60, False)}


# --- the manifest


def entry(**steps: Any) -> dict[str, Any]:
    return {"counts": {"examples": 60}, "steps": {"LLMCall": {"kept": 80}, **steps}}


def test_shares_are_those_of_the_last_run() -> None:
    assert share_kept(entry()) == 0.75
    assert share_kept(entry(SelectExamples={"in": 72})) == 0.9  # what is over a target was good
    for damaged in ({}, {"steps": 3}, {"counts": {}, "steps": {"LLMCall": {"kept": 0}}}, entry(LLMCall={"kept": 0})):
        assert share_kept(damaged) is None


def test_the_size_of_rows_is_known_where_there_are_enough() -> None:
    files = {
        "examples": [{"rows": 900, "bytes": 90_000}, {"rows": 600, "bytes": 60_000}],
        "rejects": [{"rows": 2, "bytes": 9}],
    }
    assert bytes_a_row({"files": files}) == {"examples": 100.0}
    assert bytes_a_row({}) == {}


# --- the ledger


def test_replies_are_those_of_the_model_and_the_kind(work: Path) -> None:
    config = config_of("--verify")
    ours = fingerprint_of(config.backend)
    drafts = [stable_hash("draft", number) for number in range(40)]
    common = {"fingerprint": ours, "latency_ms": 250, "prompt_tokens": 100, "output_tokens": 7}
    rows = [paid(n, kind="example", draft_id=draft, attempt=n % 2, **common) for n, draft in enumerate(drafts)]
    rows += [
        paid(100 + n, kind="choice", draft_id=stable_hash("choice", draft), **common) for n, draft in enumerate(drafts)
    ]
    rows += [paid(200, kind="planned_example", **common), paid(201, kind="example", fingerprint="another")]
    ledger = work / "out" / "ledger"
    add_file(ledger, rows)
    add_journal(ledger, [paid(300, kind="task_list", **common)])
    found = replies_seen(config)
    assert found.keys() == {"example", "choice", "task_list"}
    examples = found["example"]
    assert (examples.replies, examples.firsts, examples.latency_ms) == (40, 20, 10_000)
    assert sum(number for number, _, _ in examples.tokens.values()) == 40
    assert len(examples.tokens) == 5 and examples.tokens == found["choice"].tokens  # by what the draft asked for
    assert found["task_list"].tokens == {"": (1, 100, 7)}
    line = next(line for line in make_plan(config, seen=found).lines if line.what == "examples")
    assert (line.measured_on, line.latency, line.output_tokens / line.requests) == (
        40,
        0.25,
        pytest.approx(7, rel=0.01),
    )
