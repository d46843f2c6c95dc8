"""The plan of a run beside the run itself: what it says is asked, answered and taken is what happens."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.helpers import entry_of, generate, run_main
from tests.support.ledger_rows import add_journal, damage, rows_of_ledger

STEPS = {
    "task lists": "TaskGenerate",
    "label sets": "PlanLabels",
    "examples": "LLMCall",
    "verifications": "VerifyLabels",
}
FLAGS = ("--task_requests=2", "--label_plan=planned", "--verify", "--offline_fault_rate=0.1")


def plan_of(output: Path, *flags: str) -> dict[str, Any]:
    """The plan as JSON. Making it changes nothing in the folder."""
    before = everything_in(output)
    done = run_main("plan", f"--output={output}", *FLAGS, *flags, "--json")
    assert done.code == 0, done.err
    assert everything_in(output) == before
    found: dict[str, Any] = json.loads(done.out)
    return found


def everything_in(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def lines_of(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {line["kind"]: line for line in plan["requests"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plan") / "out"
    first = plan_of(output, "--examples_per_task=2")
    assert not output.exists()
    generate(f"--output={output}", *FLAGS, "--examples_per_task=2")
    steps = entry_of(output)["steps"]
    for kind, line in lines_of(first).items():  # before any reply, estimates are within 30 %
        sent, tokens = steps[STEPS[kind]]["requests"]["sent"], steps[STEPS[kind]]["tokens"]
        assert line["tokens_measured_on"] == line["from_ledger"] == 0
        assert line["prompt_tokens"] / line["requests"] == pytest.approx(tokens["prompt"] / sent, rel=0.3)
        assert line["output_tokens"] / line["requests"] == pytest.approx(tokens["output"] / sent, rel=0.3)
    return output


def test_where_all_is_there_nothing_is_asked(made: Path) -> None:
    found = plan_of(made, "--examples_per_task=2")
    assert {line["requests"] for line in found["requests"]} == {0}
    assert all(line["prompts_are_exact"] and line["prompts"] == line["from_ledger"] for line in found["requests"])
    assert (found["total"]["cost_usd"], found["total"]["hours"]) == (0, 0)
    assert found["written"]["examples"] == pytest.approx(entry_of(made)["counts"]["examples"], abs=1)


def test_what_a_larger_run_lacks_is_what_it_then_asks(made: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(made, tmp_path / "out"))
    lines = lines_of(plan_of(output, "--examples_per_task=4"))
    assert lines["examples"]["prompts_are_exact"] and lines["task lists"]["requests"] == 0
    generate(f"--output={output}", *FLAGS, "--examples_per_task=4")
    for kind in ("task lists", "label sets", "examples"):
        requests = entry_of(output)["steps"][STEPS[kind]]["requests"]
        asked = requests["sent"] - requests["asked_again"]
        assert asked == lines[kind]["prompts"] - lines[kind]["from_ledger"]
        assert lines[kind]["requests"] == pytest.approx(requests["sent"], rel=0.1)
    tokens = entry_of(output)["steps"]["LLMCall"]["tokens"]
    assert lines["examples"]["tokens_measured_on"] > 50
    assert lines["examples"]["prompt_tokens"] == pytest.approx(tokens["prompt"], rel=0.1)
    assert lines["examples"]["output_tokens"] == pytest.approx(tokens["output"], rel=0.2)


def test_another_refresh_and_another_seed_find_no_answers_but_measures(made: Path) -> None:
    kept = plan_of(made, "--examples_per_task=2")["written"]["acceptance"]
    new = plan_of(made, "--examples_per_task=2", "--refresh=next", "--target_examples=20")
    assert new["written"]["acceptance_is_measured"] and new["written"]["acceptance"] == kept < 1
    assert lines_of(new)["examples"]["prompts"] == math.ceil(20 / kept)  # as the refresh before fared
    for flags in (("--refresh=next",), ("--seed=7",)):
        lines = lines_of(plan_of(made, "--examples_per_task=2", *flags))
        assert {line["from_ledger"] for line in lines.values()} == {0}
        assert lines["examples"]["tokens_measured_on"] > 50 and not lines["examples"]["prompts_are_exact"]


def test_replies_in_journals_count_and_stay_there(made: Path, tmp_path: Path) -> None:
    """As a run leaves them that was killed."""
    output = Path(shutil.copytree(made, tmp_path / "out"))
    whole = plan_of(output, "--examples_per_task=3")
    ledger = output / "ledger"
    rows = rows_of_ledger(ledger)
    for file in ledger.glob("*.parquet"):
        file.unlink()
    add_journal(ledger, rows, end=b'{"half a li')
    (ledger / "notes.txt").write_text("not of a ledger")
    (ledger / "replies-cut.parquet").write_bytes(b"PAR1")
    found = plan_of(output, "--examples_per_task=3")
    assert lines_of(found) == lines_of(whole)
    assert lines_of(found)["examples"]["from_ledger"] > 50


def test_a_preview_is_taken_off_and_measured(tmp_path: Path) -> None:
    output = tmp_path / "out"
    flags = (f"--output={output}", *FLAGS, "--examples_per_task=2")
    assert run_main("preview", *flags, "--rows=8").code == 0
    lines = lines_of(plan_of(output, "--examples_per_task=2"))
    assert [lines[kind]["from_ledger"] for kind in STEPS] == [1, 8, 8, lines["verifications"]["from_ledger"]]
    assert lines["examples"]["tokens_measured_on"] >= 8
    generate(*flags)
    steps = entry_of(output)["steps"]
    assert steps["LLMCall"]["requests"]["from_ledger"] == lines["examples"]["tokens_measured_on"]
    assert run_main("generate", *flags, "--dry_run").out.startswith(f"Plan of refresh=base in {output}.")


def test_a_damaged_ledger_is_told_and_left(made: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(made, tmp_path / "out"))
    (file,) = (output / "ledger").glob("*.parquet")
    damage(str(file))
    before = everything_in(output)
    done = run_main("plan", f"--output={output}", *FLAGS)
    assert (done.code, done.out, everything_in(output)) == (1, "", before)
    assert "Traceback" not in done.err
    assert f"textmint: no plan can be made: {file}, which holds replies that were paid for: " in done.err
