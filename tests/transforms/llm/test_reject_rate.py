"""Paying for rubbish: a run most of whose replies are refused ends early and says why."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.cli.summary import warnings_of
from textmint.pipelines.graph.passes_checks import PassesChecks
from textmint.transforms.core.elements import Kind, LabelSetSeed, Prompt
from textmint.transforms.core.prompt_template import shipped_template
from textmint.transforms.labels.plan_labels import label_set_fault
from textmint.transforms.labels.verify_labels import choice_fault, choice_of, choice_prompt
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm.attempts import request_for
from textmint.transforms.llm.base import Answer, FatalError
from textmint.transforms.llm.engine import Engine, Settings, close_engines, engine_for
from textmint.transforms.llm.offline.backend import OfflineBackend
from textmint.transforms.llm.reject_rate import FEWEST, RECENT, RejectRate
from textmint.transforms.parsing.results import Refusal
from textmint.transforms.quality.checks import Checks
from textmint.transforms.task_generate import task_list_fault

from tests.support.helpers import (
    REPLY,
    entry_of,
    files_of,
    make_brainstorm_prompt,
    make_example,
    make_prompt,
    run_main,
    write_tasks,
)
from tests.support.llm_server import LlmServer

BAD = Refusal(reason="not_json", detail="no object")
ECHO = Refusal(reason="echo", detail="the text is the task")
TWO = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


def added(rate: RejectRate, *faults: Refusal | None) -> list[tuple[str, str]]:
    """Collects what was reported, for each reply after which something was."""
    return [told for fault in faults if (told := rate.add(fault, f"a {fault.reason if fault else 'good'} reply"))]


# --- the share


def test_nothing_is_said_before_there_are_enough() -> None:
    assert added(RejectRate("example", 0.0), *[BAD] * (FEWEST - 1)) == []
    assert len(added(RejectRate("example", 0.0), *[BAD] * FEWEST)) == 1


def test_the_share_itself_is_borne_and_1_bears_everything() -> None:
    faults = ([None] + [BAD] * 4) * (2 * RECENT // 5)
    assert added(RejectRate("example", 0.8), *faults) == []
    assert added(RejectRate("example", 1.0), *[BAD] * 2 * RECENT) == []


def test_what_was_long_ago_is_forgotten() -> None:
    rate = RejectRate("example", 0.8)
    assert added(rate, *[None] * 10_000, *[BAD] * 400) == []
    assert len(added(rate, BAD)) == 1


def test_it_names_reasons_and_an_example_that_cannot_harm() -> None:
    rate = RejectRate("example", 0.8)
    for number in range(FEWEST):
        fault = ECHO if number % 4 else BAD
        told = rate.add(fault, f"\x1b]0;owned\x07 {fault.reason}\r\n\u202e{'x' * 10_000}")
    assert told is not None
    problem, remedy = told
    assert problem == (
        "200 of the last 200 replies for examples were refused, more than --max_reject_rate=0.8 of them: 150 echo, "
        "50 not_json"
    )
    assert "--max_reject_rate=1. The last that was echo (the text is the task): " in remedy
    assert remedy.isprintable() and len(remedy) < 500


# --- what counts as refused, of each kind of prompt


def answer(text: str, **fields: Any) -> Answer:
    known = {"finish_reason": "stop", "model": "m", "prompt_tokens": 1, "output_tokens": 1, **fields}
    return Answer(text=text, **known)


def label_set_prompt() -> Prompt:
    seed = LabelSetSeed(label_set_id="0" * 32, task_id="1" * 32, task="Sort mail", topic=None, seed=1)
    return Prompt(kind="label_set", subject=seed, text="?", template="t")


CHOICE = choice_of(make_example())
CHOICE_PROMPT = choice_prompt(CHOICE, shipped_template("verify"))


@pytest.mark.parametrize(
    ("fault_of", "prompt", "text", "reason"),
    [
        (PassesChecks(Checks()).fault_of, make_prompt(), REPLY, "wrong_length"),
        (PassesChecks(Checks(names=())).fault_of, make_prompt(), REPLY, None),
        (PassesChecks(Checks()).fault_of, make_prompt(), "no", "not_json"),
        (task_list_fault, make_brainstorm_prompt(), '["Sort mail", "Sort parcels"]', None),
        (task_list_fault, make_brainstorm_prompt(), "I cannot.", "not_json"),
        (label_set_fault, label_set_prompt(), '["good", "bad"]', None),
        (label_set_fault, label_set_prompt(), '["good"]', "too_few_labels"),
        (choice_fault, CHOICE_PROMPT, '{"label": "right"}', None),
        (choice_fault, CHOICE_PROMPT, '{"label": "wrong"}', "label_disputed"),
        (choice_fault, CHOICE_PROMPT, '{"label": ""}', "empty_field"),
    ],
)
def test_the_whole_kind(fault_of: Any, prompt: Prompt, text: str, reason: str | None) -> None:
    fault = fault_of(prompt, answer(text))
    assert (fault.reason if fault else None) == reason


# --- the engine


def judged(engine: Engine, count: int, kind: Kind = "example") -> list[FatalError]:
    request = dataclasses.replace(request_for(make_prompt(), "f"), kind=kind)
    told = (engine.count_reply(request, answer("rubbish"), BAD) for _ in range(count))
    return [doom for doom in told if doom is not None]


def test_each_kind_of_prompt_has_its_own_share(tmp_path: Path) -> None:
    kinds: tuple[Kind, ...] = ("example", "task_list", "label_set", "choice")
    engine = Engine(OfflineBackend(fault_rate=0.1), Settings())
    try:
        assert [judged(engine, FEWEST - 1, kind) for kind in kinds] == [[], [], [], []]
        (doom,) = judged(engine, 1, "choice")
        assert "replies for choices between labels were refused" in doom.detail
        assert "paid for is kept" not in doom.remedy  # there is no ledger
    finally:
        engine.close()


def test_no_other_engine_of_the_run_begins_anew(tmp_path: Path) -> None:
    """As a bundle that is tried again would have, on an engine that does so: it would pay for 200 more each time."""
    ledger = Ledger(folder=str(tmp_path), refresh="base", run_id="run")
    try:
        engine = engine_for(OfflineBackend(), Settings(), ledger)
        (doom,) = judged(engine, FEWEST)
        assert doom.remedy.startswith("what was paid for is kept; ")
        assert engine_for(OfflineBackend(), Settings(), ledger) is engine and engine.is_doomed
        assert engine_for(OfflineBackend(), Settings(), dataclasses.replace(ledger, run_id="next")) is not engine
    finally:
        close_engines()


# --- runs


def run(server: LlmServer, folder: Path, *flags: str, tasks: int = 400) -> Any:
    """English texts where Thai ones are asked for, long enough to be sure of."""
    write_tasks(folder / "tasks.txt", tasks)
    return run_main(
        *("generate", "--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", "--examples_per_task=1"),
        *("--language=Thai", "--num_words=at least 50", "--max_concurrency=8", f"--tasks={folder / 'tasks.txt'}"),
        *(f"--output={folder / 'out'}", *flags),
    )


@pytest.mark.parametrize("workers", [[], TWO])
def test_a_run_that_pays_for_rubbish_ends_and_can_go_on(workers: list[str], tmp_path: Path) -> None:
    tasks = 400 * max(1, len(workers))
    with LlmServer() as server:
        done = run(server, tmp_path, *workers, tasks=tasks)
        asked = server.stats()["requests"]
        assert done.code == 1
        (line,) = (line for line in done.err.splitlines() if "the run failed" in line)
        assert re.search(
            r"\d+ of the last \d+ replies for examples were refused, more than --max_reject_rate=0.8 of them: "
            r"\d+ wrong_language.*; what was paid for is kept; .* The last that was wrong_language \(English ",
            line,
        )
        assert "Traceback" not in done.err
        assert FEWEST <= asked < tasks
        assert not (tmp_path / "out" / "examples").exists()
        again = run(server, tmp_path, *workers, "--max_reject_rate=1", tasks=tasks)
        assert server.stats()["requests"] < tasks + 40  # those that were in flight at the end are asked for again
    assert "not one example was kept" in again.err
    held = entry_of(tmp_path / "out")["steps"]["LLMCall"]
    assert (held["in"], held["rejected"]) == (tasks, {})
    assert held["requests"]["from_ledger"] >= FEWEST


def test_replies_of_the_ledger_and_small_runs_do_not_end_a_run(tmp_path: Path) -> None:
    with LlmServer() as server:
        small = run(server, tmp_path, tasks=FEWEST - 1)
        assert "not one example was kept" in small.err and "max_reject_rate" not in small.err
        larger = run(server, tmp_path, tasks=FEWEST + 40)
        assert "not one example was kept" in larger.err and "max_reject_rate" not in larger.err
        assert server.stats()["requests"] == FEWEST + 40


def test_a_run_that_ends_well_warns_of_what_it_paid_for_in_vain(tmp_path: Path) -> None:
    with LlmServer() as server:
        done = run(server, tmp_path, "--language=Thai:0.6,English:0.4", tasks=60)
    assert done.code == 0
    steps = entry_of(tmp_path / "out")["steps"]
    (told,) = warnings_of(steps)
    assert re.fullmatch(r"\d+ of 60 examples \(\d\d%\) were refused: \d+ wrong_language.*", told)
    assert told in done.err
    assert files_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({}, []),
        ({"LLMCall": {"in": 10, "rejected": {"request_failed": 3}}}, []),
        (
            {"Flatten": {"in": 10, "rejected": {"over_max_tasks": 5, "duplicate": 4}}},  # the model repeats itself
            ["4 of 10 tasks (40%) were refused: 4 duplicate; "],
        ),
        ({"LLMCall": {"in": 10, "rejected": {}}, "SelectExamples": {"in": 9, "rejected": {"over_target": 8}}}, []),
        (
            {
                "TaskGenerate": {"in": 5, "rejected": {"not_json": 4}},
                "LLMCall": {"in": 1_000, "rejected": {}},
                "ParseJSON": {"in": 1_000, "rejected": {"not_json": 200}},
                "CheckQuality": {"in": 800, "rejected": {"echo": 101}},
            },
            ["4 of 5 lists of tasks (80%) were refused: 4 not_json", "301 of 1,000 examples (30%) were refused: "],
        ),
    ],
)
def test_what_is_warned_of(steps: Mapping[str, Any], told: list[str]) -> None:
    found = warnings_of(steps)
    assert len(found) == len(told)
    assert all(line.startswith(begin) for line, begin in zip(found, told, strict=True))


@pytest.mark.parametrize("value", ["1.1", "-0.1", "nan"])
def test_a_share_is_from_0_to_1(value: str, tmp_path: Path) -> None:
    done = run_main("generate", f"--max_reject_rate={value}", f"--output={tmp_path}")
    assert (done.code, done.err) == (2, f"textmint: --max_reject_rate is {value}; it must be from 0 to 1\n")
