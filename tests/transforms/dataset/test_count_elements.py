"""CountElements and the counters: what the graph counts, what Beam counts, and what came out are the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import build
from textmint.pipelines.options.parse import parse
from textmint.transforms.core import metrics
from textmint.transforms.dataset.accounting import STEPS
from textmint.transforms.dataset.count_elements import CountElements
from textmint.transforms.dataset.schema import KINDS
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.llm.engine import close_engines
from textmint.transforms.llm.prices import Price

from tests.support.helpers import (
    counters_of,
    distributions_of,
    entry_of,
    make_example,
    make_list,
    make_prompt,
    make_reject,
    make_reply,
    make_task,
    rows_of,
)

STREAMS: dict[str, list[Any]] = {
    "lists": [make_list("One", "Two", "one", refused=(("wrong_type", "a number", "7"),)), make_list("Three")],
    "tasks": [make_task("One"), make_task("Two"), make_reject("One", reason="duplicate")],
    "prompts": [make_prompt("One"), make_prompt("Two")],
    "replies": [make_reply(make_prompt("One")), make_reply(make_prompt("Two")), make_reject("Two")],
    "parsed": [
        make_example("One", repairs=("fence", "prose")),
        make_example("Two", repairs=("fence",)),
        make_reject("Two"),
        make_reject("Two", 1),
        make_reject("Two", 2, reason="blocked"),
    ],
    "checked": [make_example("One"), make_reject("Two")],
    "examples": [
        make_example("One"),
        make_reject("Two"),
        make_reject("Two", 1),
        make_reject("Two", 2, reason="blocked"),
    ],
}
COUNTS = {
    "TaskGenerate/kept": 2,
    "Flatten/in": 5,
    "Flatten/kept": 2,
    "BuildPrompt/kept": 2,
    "LLMCall/kept": 2,
    "LLMCall/tokens.prompt": 14,
    "LLMCall/tokens.output": 10,
    "LLMCall/requests.sent": 2,
    "LLMCall/latency_ms.21": 2,
    "ParseJSON/kept": 2,
    "ParseJSON/repaired.fence": 2,
    "ParseJSON/repaired.prose": 1,
    "CheckQuality/kept": 1,
    "ParseJSON/rejected.empty": 2,
    "ParseJSON/rejected.blocked": 1,
}


def streams_on(pipeline: beam.Pipeline, streams: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: pipeline | name >> beam.Create(elements) for name, elements in streams.items()}


def test_each_stream_adds_its_part() -> None:
    with TestPipeline("FnApiRunner") as pipeline:
        assert_that(streams_on(pipeline, STREAMS) | CountElements(), equal_to(list(COUNTS.items())))


def test_empty_streams_count_nothing() -> None:
    with TestPipeline("FnApiRunner") as pipeline:
        empty = streams_on(pipeline, {name: [] for name in STREAMS})
        assert_that(empty | CountElements(), equal_to([]))


def test_an_element_in_the_wrong_stream_fails_the_run() -> None:
    with pytest.raises(Exception, match="a Prompt in the stream 'examples'"), TestPipeline("FnApiRunner") as pipeline:
        _ = streams_on(pipeline, {**STREAMS, "examples": [make_prompt()]}) | CountElements()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], dict[str, Any], dict[str, Any], Path]:
    """A whole run with bad replies and a limit: Beam's counters and distributions, the manifest's entry, the folder."""
    folder = tmp_path_factory.mktemp("counted")
    config, options = parse(
        [
            f"--output={folder}",
            "--offline_fault_rate=0.4",
            "--parse_attempts=1",  # so that the rows hold all tokens that were paid for
            "--task_requests=8",
            "--label_plan=planned",
            "--verify",
            "--examples_per_task=4",
            "--max_tasks=40",
            "--target_examples=50",
        ]
    )
    vars(config)["price"] = Price(500_000, 2_000_000, "a test")  # the embedded model, which writes faults, is free
    target = target_of(config)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, target)
    result = pipeline.run()
    result.wait_until_finish()
    return counters_of(result), distributions_of(result), entry_of(folder), folder


def as_counters(step: str, line: dict[str, Any]) -> dict[str, int]:
    """Returns the counters that say the same as a line of the manifest's table."""
    found = {f"{step}/in": line["in"], f"{step}/kept": line["kept"]}
    for part in ("rejected", "repaired", "requests"):
        found |= {f"{step}/{part}.{name}": count for name, count in line.get(part, {}).items()}
    for name, kind in ((metrics.INPUT_TOKENS, "prompt"), (metrics.OUTPUT_TOKENS, "output")):
        found[f"{step}/{name}"] = line.get("tokens", {}).get(kind, 0)
    found[f"{step}/{metrics.COST}"] = int(line.get("cost_usd", 0) * 1_000_000)  # what is below waits for the next
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("step", STEPS)
def test_beams_counters_equal_the_manifest(step: str, run: tuple[dict[str, int], Any, dict[str, Any], Path]) -> None:
    counters, _, entry, _ = run
    ours = {name: count for name, count in counters.items() if name.startswith(f"{step}/") and count}
    assert ours == as_counters(step, entry["steps"][step])


@pytest.mark.parametrize("step", ["TaskGenerate", "PlanLabels", "LLMCall", "VerifyLabels"])
def test_beams_distributions_equal_the_manifest(
    step: str, run: tuple[Any, dict[str, Any], dict[str, Any], Path]
) -> None:
    _, distributions, entry, _ = run
    requests, tokens = (entry["steps"][step][part] for part in ("requests", "tokens"))
    found = {name: distributions[f"{step}/{name}"] for name in (metrics.INPUT_TOKENS_EACH, metrics.OUTPUT_TOKENS_EACH)}
    assert {name: (each.count, each.sum) for name, each in found.items()} == {
        metrics.INPUT_TOKENS_EACH: (requests["sent"], tokens["prompt"]),
        metrics.OUTPUT_TOKENS_EACH: (requests["sent"], tokens["output"]),
    }
    assert distributions[f"{step}/{metrics.DURATION}"].count == requests["sent"]


def test_the_manifest_tells_what_was_paid(run: tuple[Any, Any, dict[str, Any], Path]) -> None:
    entry = run[2]
    asking = [line for line in entry["steps"].values() if "tokens" in line]
    prompt, output = (sum(line["tokens"][kind] for line in asking) for kind in ("prompt", "output"))
    assert len(asking) == 4 and prompt and output
    assert entry["spending"] == {
        "prompt_tokens": prompt,
        "output_tokens": output,
        "cost_usd": pytest.approx(prompt * 0.5e-6 + output * 2e-6),
        "price": {"prompt_usd_per_million": 0.5, "output_usd_per_million": 2.0, "source": "a test"},
    }
    assert sum(line["cost_usd"] for line in asking) == pytest.approx(entry["spending"]["cost_usd"])


def test_the_manifest_equals_the_rows(run: tuple[Any, Any, dict[str, Any], Path]) -> None:
    *_, entry, folder = run
    assert entry["counts"] == {kind: len(rows_of(folder, kind)) for kind in KINDS}
    by_step: dict[str, Counter[str]] = {step: Counter() for step in STEPS}
    for row in rows_of(folder, "rejects"):
        by_step[row["stage"]][row["reason"]] += 1
    assert {step: line["rejected"] for step, line in entry["steps"].items()} == by_step
    assert by_step["Flatten"]["over_max_tasks"] > 0
    for kind, step in ASKS.items():
        paid = [row for row in ledger_of(folder) if row["kind"] == kind]
        assert entry["steps"][step]["tokens"] == {
            "prompt": sum(row["prompt_tokens"] for row in paid),
            "output": sum(row["output_tokens"] for row in paid),
        }


ASKS = {"task_list": "TaskGenerate", "label_set": "PlanLabels", "planned_example": "LLMCall", "choice": "VerifyLabels"}


def ledger_of(folder: Path) -> list[dict[str, Any]]:
    close_engines()  # with them their journals
    merge_journals(str(folder / "ledger"))
    return [row for path in (folder / "ledger").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
