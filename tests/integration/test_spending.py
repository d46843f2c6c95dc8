"""What a run says it has paid is what the endpoint has counted: with refusals, in waves, and when it goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.cli.progress_line import ProgressLine
from textmint.transforms.core import progress

from tests.support.helpers import entry_of, generate, run_main, write_tasks
from tests.support.llm_server import LlmServer

PRICE = (0.4, 1.6)


def passes_seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Collects what the line of progress would show last of each pass over the graph."""
    seen: list[dict[str, int]] = []
    close = ProgressLine.__exit__

    def look_and_close(line: ProgressLine, *error: Any) -> None:
        for folder in sorted(Path(line._folder).iterdir())[1:]:  # the first is for what comes before a pass
            seen.append(dict(progress._read_pass(folder)))
        close(line, *error)

    monkeypatch.setattr(ProgressLine, "__exit__", look_and_close)
    return seen


def test_it_is_what_the_endpoint_has_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    out = tmp_path / "out"
    passes = passes_seen(monkeypatch)
    before = {"prompt_tokens": 0, "output_tokens": 0, "answered": 0, "429": 0}
    with LlmServer(rate_429=0.2, retry_after=0.01, rate_bad_reply=0.05) as server:
        flags = [f"--output={out}", "--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", "--price=0.4,1.6"]
        flags += [f"--tasks={write_tasks(tmp_path / 'tasks.txt', 8)}", "--label_plan=planned", "--verify"]
        flags += ["--checks=none", "--max_reject_rate=1", "--examples_per_task=6"]
        for more, waves in ((["--max_tokens=20000"], True), ([], False), (["--recompute"], False)):
            done = generate(*flags, *more)
            counted = counts_of(server)
            new = {name: counted[name] - before[name] for name in counted}
            before = counted
            entry = entry_of(out)
            spending = entry["spending"]
            assert ("waves" in entry) == waves
            tokens = new["prompt_tokens"] + new["output_tokens"]
            shown = sum(counts.get(progress.TOKENS, 0) for counts in passes)
            assert shown == counted["prompt_tokens"] + counted["output_tokens"]
            assert {name: spending[name] for name in ("prompt_tokens", "output_tokens")} == {
                name: new[name] for name in ("prompt_tokens", "output_tokens")
            }
            cost = (PRICE[0] * new["prompt_tokens"] + PRICE[1] * new["output_tokens"]) / 1e6
            assert spending["cost_usd"] == pytest.approx(cost, abs=1e-12)
            assert f"  asked for: {new['answered']:,} replies; " in done.out
            assert (f"  paid for: {tokens:,} tokens (" in done.out) == (tokens > 0)
            asking = [step for step in entry["steps"].values() if "requests" in step]
            assert sum(step["requests"]["throttled"] for step in asking) == new["429"]
            assert sum(step["tokens"]["prompt"] for step in asking) == new["prompt_tokens"]
            assert sum(step["cost_usd"] for step in asking) == pytest.approx(cost)
    assert before["429"] > 0 and not new["answered"]
    assert len(passes) > 4
    for counts in passes:  # of each the line comes to an end
        for step in ("PlanLabels", "LLMCall", "VerifyLabels"):
            done_of_step = counts.get(f"{step}.replies", 0) + counts.get(f"{step}.failed", 0)
            assert done_of_step == counts.get(f"{step}.in", 0)
    (line,) = re.findall(r"^  base +m .*$", run_main("ledger", f"--output={out}").out, re.MULTILINE)
    numbers = [f"{before[name]:,}" for name in ("answered", "prompt_tokens", "output_tokens")]
    assert line.split()[2:5] == numbers
    assert line.split()[-1].startswith("$0.0")


def counts_of(server: LlmServer) -> dict[str, int]:
    stats: dict[str, Any] = server.stats()
    return {
        **{name: stats[name] for name in ("prompt_tokens", "output_tokens", "answered")},
        "429": stats["by_status"].get("429", 0),
    }
