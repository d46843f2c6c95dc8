"""The dashboard and the alerts: what they ask for is what a job counts, and their shares are those of the manifest."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import hcl2
import pytest
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import build
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.metrics import THROTTLED_SECONDS
from textmint.transforms.dataset.accounting import STEPS
from textmint.transforms.dataset.publish import ACCEPTED
from textmint.transforms.dataset.write_counts import read_counts
from textmint.transforms.dataset.write_dataset import SAYS
from textmint.transforms.llm.prices import Price
from textmint.transforms.storage import lease

from tests.conftest import ROOT
from tests.support.dataset_runs import OLD, graph, make_target
from tests.support.helpers import entry_of, run_graph

TERRAFORM = ROOT / "deploy" / "terraform"
Series = Mapping[str, str]
"""A counter as Dataflow exports it: `metric_name` and `ptransform`."""


def unquoted(value: Any) -> Any:
    """Returns what was parsed without the quotes that the parser leaves."""
    if isinstance(value, dict):
        inside = value.items()
        return {unquoted(name): unquoted(each) for name, each in inside if not name.startswith("__")}
    if isinstance(value, str) and value.startswith('"'):
        return value[1:-1].replace('\\"', '"')
    return value


PARSED = {path.name: hcl2.loads(path.read_text("utf-8")) for path in TERRAFORM.glob("*.tf")}
LOCALS = unquoted(PARSED["monitoring.tf"]["locals"][0])
VARIABLES = {
    name: body.get("default") for block in PARSED["variables.tf"]["variable"] for name, body in unquoted(block).items()
}
LOG_METRIC = unquoted(PARSED["monitoring.tf"]["resource"][0])["google_logging_metric"]["published"]


def filled(text: str) -> str:
    """Replaces what Terraform would replace."""
    named = {f"local.{name}": value for name, value in LOCALS.items() if isinstance(value, str)}
    named |= {f"var.{name}": str(value) for name, value in VARIABLES.items()}
    named["google_logging_metric.published.name"] = LOG_METRIC["name"]
    while "${" in text or text in named:
        text = named.get(text) or re.sub(r"\$\{([^}]+)\}", lambda found: named[found[1]], text)
    return text


CHARTS = {
    f"{title}: {name}": filled(query) for title, chart in LOCALS["charts"].items() for name, query in chart.items()
}
ALERTS = {name: filled(alert["query"]) for name, alert in LOCALS["alerts"].items()}
QUERIES = {**CHARTS, **ALERTS}
OF_DATAFLOW = {"job_is_failed", "job_elapsed_time"}
"""https://cloud.google.com/monitoring/api/metrics_gcp_d_h#gcp-dataflow"""


def selectors(query: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yields the metrics that a query asks for, each with its matchers: label, operator and value."""
    for metric, matchers in re.findall(r"([a-z_]+:\w+)\{([^}]*)\}", query):
        yield metric, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)


def is_selected(series: Series, matchers: list[tuple[str, str, str]]) -> bool:
    """Matches as Prometheus does: whole values."""
    for label, operator, value in matchers:
        if label in series and {
            "=": series[label] != value,
            "!=": series[label] == value,
            "=~": not re.fullmatch(value, series[label]),
            "!~": bool(re.fullmatch(value, series[label])),
        }.get(operator):
            return False
    return True


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[Series, float]], dict[str, Any]]:
    """A run with all steps and bad replies: its counters as Dataflow would export them, and the manifest's entry."""
    folder = tmp_path_factory.mktemp("watched")
    flags = ["--offline_fault_rate=0.3", "--task_requests=6", "--label_plan=planned", "--verify", "--max_tasks=40"]
    config, options = parse([f"--output={folder}", *flags, "--examples_per_task=4", "--target_examples=50"])
    vars(config)["price"] = Price(500_000, 2_000_000, "a test")
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, target_of(config))
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query()
    exported: list[tuple[Series, float]] = []
    for each in found["counters"]:
        exported.append(({"metric_name": each.key.metric.name, "ptransform": each.key.step}, each.committed))
    for each in found["distributions"]:
        of = each.committed
        for suffix, value in {"MIN": of.min, "MAX": of.max, "MEAN": of.mean, "COUNT": of.count}.items():
            exported.append(({"metric_name": f"{each.key.metric.name}_{suffix}", "ptransform": each.key.step}, value))
    return exported, entry_of(folder)


@pytest.mark.parametrize("name", QUERIES)
def test_what_a_query_asks_for_is_counted(name: str, run: tuple[list[tuple[Series, float]], Any]) -> None:
    exported = [series for series, _ in run[0]] + [{"metric_name": THROTTLED_SECONDS, "ptransform": "LLMCall/Call"}]
    for metric, matchers in selectors(QUERIES[name]):
        domain, _, path = metric.partition(":")
        labels = {label: value for label, _, value in matchers}
        if domain == "logging_googleapis_com":
            assert path == f"user_{LOG_METRIC['name']}"
            continue
        assert domain == "dataflow_googleapis_com"
        assert labels["monitored_resource"] == "dataflow_job"
        assert re.fullmatch(labels["job_name"], "textmint-nightly")
        if path == "job_user_counter":
            assert any(is_selected(series, matchers) for series in exported), f"nothing is counted for {matchers}"
        else:
            assert path in OF_DATAFLOW
    assert list(selectors(QUERIES[name])) or QUERIES[name].startswith("vector(")


def total(query: str, exported: list[tuple[Series, float]]) -> float:
    ((_, matchers),) = selectors(query)
    return sum(value for series, value in exported if is_selected(series, matchers))


def test_shares_and_sums_are_those_of_the_manifest(run: tuple[list[tuple[Series, float]], dict[str, Any]]) -> None:
    exported, entry = run
    steps = entry["steps"]
    rejects = {step: sum(line["rejected"].values()) for step, line in steps.items()}
    later = STEPS[STEPS.index("LLMCall") : STEPS.index("SelectExamples")]
    assert total(filled("local.asked"), exported) == steps["LLMCall"]["in"] > 100
    assert total(filled("local.rejected"), exported) == sum(rejects[step] for step in later) > 0
    assert rejects["Flatten"] and rejects["PlanLabels"] and rejects["SelectExamples"]  # which do not count there
    spent = total(filled("local.last_day"), exported) / 1e6
    assert spent == pytest.approx(entry["spending"]["cost_usd"], abs=5e-6)
    for name, kind in {"Tokens: prompts": "prompt_tokens", "Tokens: replies": "output_tokens"}.items():
        assert total(CHARTS[name], exported) == entry["spending"][kind]
    (lag,) = (query for name, query in CHARTS.items() if name.startswith("Lag: drafts"))
    made, answered = lag.split(" - ")
    assert total(made, exported) == total(answered, exported) == steps["LLMCall"]["in"]


def test_thresholds_are_variables_and_somebody_is_told() -> None:
    assert "[26h]" in ALERTS["nothing published"]
    assert " > 0.5 and " in ALERTS["reject share"]
    assert ALERTS["spend"].endswith(" > 50")
    (policy,) = (
        body["textmint"]
        for block in map(unquoted, PARSED["monitoring.tf"]["resource"])
        for kind, body in block.items()
        if kind == "google_monitoring_alert_policy"
    )
    assert policy["notification_channels"] == "${var.notification_channels}"
    assert policy["for_each"] == "${local.alerts}"


@pytest.mark.parametrize("held_by_job", [True, False])
def test_a_job_says_that_it_has_published(held_by_job: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The alert waits for this line. Where the launcher waits, it tells what there is."""
    caplog.set_level(logging.INFO, logger="textmint")
    assert f'jsonPayload.message:"{SAYS} "' in LOG_METRIC["filter"]
    target = dataclasses.replace(make_target(tmp_path), held_by_job=held_by_job)
    with lease.hold(target.output, target.partition, target.run_id):
        run_graph(graph(target, OLD))
    told = [message for message in caplog.messages if message.startswith(SAYS)]
    assert told == [f"{SAYS} refresh=base: {len(OLD.examples)} examples in {tmp_path}"] * held_by_job


def test_a_job_that_has_too_few_examples_says_nothing_of_a_publication(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps the lease for the job that follows."""
    caplog.set_level(logging.INFO, logger="textmint")
    report = str(tmp_path / "counts.json")
    target = dataclasses.replace(make_target(tmp_path), held_by_job=True, publish_from=100, report=report)
    with lease.hold(target.output, target.partition, target.run_id):
        run_graph(graph(target, OLD))
        assert target.partition in lease.holders(target.output)
    assert not any(message.startswith(SAYS) for message in caplog.messages)
    assert read_counts(report)[ACCEPTED] == len(OLD.examples)
