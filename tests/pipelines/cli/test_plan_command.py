"""The command `plan`: what it prints, what it refuses, and that it asks and writes nothing."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from textmint.pipelines.cli import plan
from textmint.pipelines.cli.plan import as_text, processes_of
from textmint.pipelines.graph.plan_inputs import make_plan
from textmint.pipelines.options.parse import parse

from tests.support.helpers import run_main

ALL_KINDS = ("--label_plan=planned", "--verify")
VLLM = ("--llm=openai", "--base_url=http://127.0.0.1:9/v1", "--model=m/7b")

GOLDEN = """\
Plan of refresh=base in out. Nothing was asked, written or paid for.

                prompts   in the ledger   requests   prompt tokens   output tokens      cost
────────────────────────────────────────────────────────────────────────────────────────────
task lists            5               0          5             585           2,475   $0.0052
label sets          ~90               0         90          12,960           1,800    $0.010
examples            ~90               0         90          22,197          12,672    $0.036
verifications       ~90               0         90          21,717             720    $0.012

all                                            275          57,459          17,667    $0.064

prompts   ~ label sets, examples, verifications: estimated, since they depend on replies that are still to come
tokens    task lists, label sets, examples, verifications: estimated from the templates and num_words, at four \
characters a token
price     task lists, label sets, examples, verifications: $0.50 and $2.00 per million tokens of prompts and of \
replies (--price)
latency   task lists, label sets, examples, verifications: none: the embedded model answers at once, and a run \
takes what its rows take of the CPU
time      about 0 s in 1 process with --max_concurrency=64
output    about 90 examples (if all that is asked for is kept): 5 files of data with 0.1 MB, and 0.1 MB more in \
the ledger
target    90 examples take 90 prompts if all are kept; preview shows how many are
cap       --max_cost=0.05: $0.00 of it is spent, and the plan takes $0.064 more: about 78% of it fits, and what \
there is then is published"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, no key, and no network."""

    def refused(*_: object) -> None:
        raise AssertionError("a plan used the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text_of(*argv: str) -> str:
    done = run_main("plan", *argv)
    assert done.code == 0, done.err
    return done.out


def json_of(*argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of(*argv, "--json"))
    return found


def line_of(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (line,) = (line for line in found["requests"] if line["kind"] == kind)
    return line


# --- what it prints


def test_the_text() -> None:
    config, _ = parse(
        ["--output=out", *ALL_KINDS, "--price=0.5,2", "--max_cost=0.05", "--target_examples=90"], asks=False
    )
    assert as_text(make_plan(config), config) == GOLDEN


def test_a_million_examples_have_a_cost_before_any_key_is_there(work: Path) -> None:
    pytest.importorskip("genai_prices", reason="genai-prices needs Python 3.11")
    found = json_of("--llm=openai", "--model=gpt-4.1-mini", "--task_requests=5000", "--examples_per_task=10")
    examples = line_of(found, "examples")
    assert examples["prompts"] == examples["requests"] == 1_000_000
    assert not examples["prompts_are_exact"] and line_of(found, "task lists")["prompts_are_exact"]
    assert 0.4 * examples["prompt_tokens"] / 1e6 + 1.6 * examples["output_tokens"] / 1e6 == pytest.approx(
        examples["cost_usd"]
    )
    assert 200 < found["total"]["cost_usd"] < 500
    assert (examples["latency_is"], examples["limited_by"]) == ("assumed", "max_concurrency")
    assert examples["price"]["source"].startswith("genai-prices ")
    assert found["total"]["hours"] == pytest.approx(1_005_000 * 2 / 64 / 3_600, rel=0.01)
    assert list(work.iterdir()) == []


def test_an_unknown_price_is_said_and_not_guessed() -> None:
    text = text_of(*VLLM)
    assert "examples: unknown: --price=IN,OUT names it" in text
    assert "$" not in text
    found = json_of(*VLLM)
    assert found["total"]["cost_usd"] is line_of(found, "examples")["cost_usd"] is line_of(found, "examples")["price"]
    named = json_of(*VLLM, "--price=1,2")
    assert named["total"]["cost_usd"] == pytest.approx(
        (named["total"]["prompt_tokens"] + 2 * named["total"]["output_tokens"]) / 1e6
    )
    assert line_of(named, "examples")["price"] == {
        "prompt_usd_per_million": 1.0,
        "output_usd_per_million": 2.0,
        "source": "--price",
    }


def test_without_the_table_the_price_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # as on Python 3.10
    assert json_of("--llm=openai", "--model=gpt-4.1-mini")["total"]["cost_usd"] is None


def test_another_verifier_has_a_price_of_its_own() -> None:
    found = json_of(*VLLM, "--verify", "--verify_model=n", "--price=1,2")
    assert line_of(found, "examples")["cost_usd"] > 0
    assert (line_of(found, "verifications")["cost_usd"], found["total"]["cost_usd"]) == (None, None)
    assert "verifications: unknown: --verify_price=IN,OUT" in text_of(
        *VLLM, "--verify", "--verify_model=n", "--price=1,2"
    )


def test_the_keys_are_those_of_the_docs() -> None:
    docs = (Path(plan.__file__).parents[2] / "docs" / "cost.md").read_text()
    found = json_of("--max_tokens=1000", "--target_examples=10")
    keys = {*found, *found["requests"][0], *found["total"], *found["pace"], *found["written"], *found["caps"][0]}
    section = docs.partition("## For programs")[2]
    missing = [key for key in keys if f"`{key}`" not in section and f".{key}`" not in section]
    assert not missing


def test_own_tasks_are_counted_one_by_one(work: Path) -> None:
    (work / "tasks.jsonl").write_text(
        '{"task": "Sort bees"}\n{"task": "sort bees."}\n{"task": "Grade eggs", "examples": 7, "labels": ["a", "b"]}\n'
    )
    found = json_of("--tasks=tasks.jsonl", "--label_plan=planned", "--examples_per_task=2", "--output=out")
    examples, labels = line_of(found, "examples"), line_of(found, "label sets")
    assert (examples["prompts"], examples["prompts_are_exact"]) == (2 + 7, False)  # the labels of one are to come
    assert (labels["prompts"], labels["prompts_are_exact"]) == (1, True)
    assert [line["kind"] for line in found["requests"]] == ["label sets", "examples"]
    free = line_of(json_of("--tasks=tasks.jsonl", "--examples_per_task=2", "--output=out"), "examples")
    assert (free["prompts"], free["prompts_are_exact"]) == (9, True)
    assert sorted(os.listdir(work)) == ["tasks.jsonl"]


def test_hostile_names_do_not_reach_the_terminal() -> None:
    text = text_of(*VLLM[:2], "--model=m\x1b[31m\u202e", "--output=o\x1b]0;x\x07ut", "--price=1,2")
    assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    assert json.loads(run_main("plan", "--output=o\x1bx", "--json").out)["output"].endswith("o\x1bx")


@pytest.mark.parametrize(
    "argv",
    [
        ["--llm=openai", "--model=m"],
        ["--llm=gemini", "--model=gemini-2.5-flash"],
        ["--llm=gemini", "--model=m", "--api_key_secret=projects/p-1/secrets/key/versions/3"],
        ["--llm=vertex-endpoint", "--vertex_endpoint=1", "--vertex_project=p", "--vertex_location=r"],
    ],
)
def test_no_key_is_needed(argv: list[str]) -> None:
    assert json_of(*argv)["total"]["requests"] == 305
    assert run_main("generate", *argv, "--dry_run").out == text_of(*argv)


def test_help() -> None:
    text = text_of("--help")
    assert "--json" in text and "generate --help" in text


# --- a target and a cap


def test_a_target_asks_for_as_many_as_it_needs() -> None:
    few = json_of("--target_examples=50")
    assert (line_of(few, "examples")["prompts"], few["written"]["examples"], few["target"]) == (50, 50, 50)
    assert line_of(few, "task lists")["prompts"] == 5
    many = json_of("--target_examples=3000")
    assert line_of(many, "examples")["prompts"] == 3_000
    assert line_of(many, "task lists")["prompts"] == 50  # three of each task, as --examples_per_task says


def test_a_cap_tells_how_much_of_the_plan_fits() -> None:
    whole = json_of("--price=1,2")["total"]
    found = json_of("--price=1,2", f"--max_cost={whole['cost_usd'] / 2:.6f}", "--max_tokens=1000000000")
    cost, tokens = found["caps"]
    assert (cost["unit"], cost["spent"], cost["planned"]) == ("usd", 0, pytest.approx(whole["cost_usd"]))
    assert cost["share"] == pytest.approx(0.5, rel=0.01)
    assert (tokens["unit"], tokens["share"]) == ("tokens", 1.0)
    assert tokens["planned"] == whole["prompt_tokens"] + whole["output_tokens"]


# --- what it refuses


@pytest.mark.parametrize(
    "argv",
    [
        ["--price=cheap"],
        ["--price=1"],
        ["--price=1,2,3"],
        ["--price=-1,2"],
        ["--task_requests=0"],
        ["--tasks=nowhere.txt"],
        ["--llm=openai"],
        [*VLLM, "--max_cost=1"],
        [*VLLM, "--max_concurrency=100000000"],
        ["--nosuch=1"],
        ["--output="],
        ["--refresh=a/b", "--seed=x"],
    ],
)
def test_wrong_options_are_refused_as_by_generate(argv: list[str], work: Path) -> None:
    done, same = run_main("plan", *argv), run_main("generate", *argv)
    assert (done.code, done.out, done.err) == (2, "", same.err)
    assert done.err.startswith("textmint: ")
    assert list(work.iterdir()) == []


def test_an_output_that_can_be_none_is_refused(work: Path) -> None:
    (work / "file").touch()
    for output in ("file", "file/below"):
        done = run_main("plan", f"--output={output}")
        assert done.code == 2
        assert f"--output {output}: cannot be written" in done.err
    assert (work / "file").read_bytes() == b""


# --- processes


@pytest.mark.parametrize(
    ("flags", "processes"),
    [
        ((), 1),
        (("--direct_num_workers=4",), 1),  # threads share a process
        (("--direct_num_workers=3", "--direct_running_mode=multi_processing"), 3),
        (("--direct_num_workers=0", "--direct_running_mode=multi_processing"), os.cpu_count()),
        (("--runner=DataflowRunner",), 1),
        (("--runner=DataflowRunner", "--num_workers=2"), 2),
        (("--runner=DataflowRunner", "--max_num_workers=5", "--machine_type=n2-standard-4"), 20),
    ],
)
def test_how_many_processes_ask(flags: tuple[str, ...], processes: int) -> None:
    options = PipelineOptions(["--runner=FnApiRunner", *flags])
    assert processes_of(options) == processes
