"""Caps that cannot be: each is one line, before anything is paid for."""

from __future__ import annotations

from pathlib import Path

import pytest
from textmint.pipelines.graph.caps import caps_of
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse

OPENAI = ("--llm=openai", "--model=m", "--base_url=http://127.0.0.1:9/v1")
DATAFLOW = (
    *("--runner=DataflowRunner", "--project=my-project", "--region=europe-west1", "--output=gs://my-bucket/out"),
    *("--temp_location=gs://my-bucket/tmp", "--staging_location=gs://my-bucket/stg"),
)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--max_cost=0",), "--max_cost is 0.0; it must be above 0"),
        (("--max_cost=-2",), "--max_cost is -2.0; it must be above 0"),
        (("--max_cost=nan",), "--max_cost is nan; it must be above 0"),
        (("--max_cost=inf",), "--max_cost is inf; it must be above 0"),
        (("--max_cost=much",), "argument --max_cost: invalid float value: 'much'"),
        (("--max_tokens=0",), "--max_tokens is 0; it must be at least 1"),
        (("--max_tokens=2.5",), "argument --max_tokens: invalid int value: '2.5'"),
        (
            ("--max_tokens=9", "--retry_rejects"),
            "--max_tokens with --retry_rejects: such a run goes over its prompts several times, and each would ask "
            "again; leave one of them out",
        ),
        (
            (*OPENAI, "--max_cost=2.5"),
            "--max_cost=2.5: nobody knows what 'm' costs; say it in USD per million tokens of prompts and of replies: "
            "--price=IN,OUT",
        ),
        (
            (*OPENAI, "--max_cost=2", "--price=1,2", "--verify", "--verify_model=judge"),
            "--max_cost=2: nobody knows what 'judge' costs; say it in USD per million tokens of prompts and of "
            "replies: --verify_price=IN,OUT",
        ),
        (
            (*DATAFLOW, "--max_tokens=9", "--no_wait_until_finish"),
            "--max_tokens: such a run is several jobs, one after the other, and this launcher ends before the first "
            "does; leave it out, or run from a machine that waits",
        ),
    ],
)
def test_what_is_refused(flags: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    output = () if flags[:1] == DATAFLOW[:1] else (f"--output={tmp_path / 'out'}",)
    with pytest.raises(OptionError) as refused:
        parse([*flags, *output])
    assert list(refused.value.problems) == [problem]
    assert not (tmp_path / "out").exists()


def test_what_costs_nothing_needs_no_waves(tmp_path: Path) -> None:
    config, _ = parse([f"--output={tmp_path}", "--max_cost=0.5"])
    assert caps_of(config) == []


def test_a_cap_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    shared = [*OPENAI, f"--output={tmp_path}", "--price=0.1,0.4", "--max_cost=0.1", "--max_tokens=7"]
    cost, tokens = caps_of(parse([*shared, "--max_output_tokens=50"])[0])
    assert (cost.option, cost.most, cost.meter.weights["LLMCall"]) == ("--max_cost=0.1", 10**11, (100_000, 400_000))
    assert (tokens.option, tokens.most, tokens.meter.weights["LLMCall"]) == ("--max_tokens=7", 7, (1, 1))
    assert cost.estimates["LLMCall"][1] == 50 and cost.shown(cost.most) == "$0.10" and tokens.shown(7) == "7 tokens"
