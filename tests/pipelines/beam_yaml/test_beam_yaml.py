"""Beam YAML: what is listed, and pipelines whose rows are those that `generate` writes."""

from __future__ import annotations

import inspect
import json
import logging
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
import yaml
from apache_beam.yaml import main as yaml_main
from apache_beam.yaml.yaml_provider import load_providers
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.pipelines.beam_yaml import rows as yaml_rows
from textmint.pipelines.beam_yaml import transforms as beam_yaml
from textmint.pipelines.options.table import BY_NAME, OPTIONS
from textmint.transforms.core.elements import Usage

from tests.support import docs
from tests.support.helpers import (
    ROOT,
    files_of,
    make_draft,
    make_example,
    make_prompt,
    make_reject,
    make_reply,
    make_task,
    rows_of,
    run_main,
)

TASKS = ("Classify a customer e-mail by the department that should answer it", "Tell a complaint from a question")
FAULTS = {"offline_fault_rate": 0.4, "parse_attempts": 1}  # so that there is something to refuse
CHOICES = {"examples_per_task": 12, "clarity": {"clear": 0.5, "ambiguous": 0.5}, "seed": 7}
STEPS = {
    "TextmintFlatten": {},
    "TextmintSampleAttributes": CHOICES,
    "TextmintBuildPrompt": {},
    "TextmintLLMCall": {"llm": "offline", **FAULTS},
    "TextmintParseJSON": {"keep_raw": True},
    "TextmintCheckQuality": {"llm": "offline", "keep_raw": True},
}
REFUSING = [name for name in STEPS if getattr(beam_yaml, name).refuses]


def run_yaml(transforms: list[dict[str, Any]], kind: str = "composite", runner: str = "FnApiRunner") -> None:
    pipeline = {
        "options": {"runner": runner},
        "providers": [{"include": str(beam_yaml.PROVIDERS)}],
        "pipeline": {"type": kind, "transforms": transforms},
    }
    Path("pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), "utf-8")
    yaml_main.run(["--yaml_pipeline_file=pipeline.yaml"])


def create(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Create", "name": "Rows", "config": {"elements": rows}}


def write(name: str, source: Any) -> dict[str, Any]:
    return {"type": "WriteToParquet", "name": f"Write{name}", "input": source, "config": {"path": f"rows/{name}"}}


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Returns the rows that were written, by id."""
    found = [row for path in folder.glob(f"rows/{name}-*") for row in pq.ParquetFile(path).read().to_pylist()]
    return sorted(found, key=lambda row: str(row.get("id") or row.get("task_id") or row))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a folder of its own, and its labels are free afterwards."""
    monkeypatch.chdir(tmp_path)
    yield
    beam_yaml._let_go()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches out for the network or starts a program has failed: Beam YAML can fetch jars and packages."""

    def refused(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"reached out: {arguments}")

    for owner, name in ((urllib.request, "urlopen"), (subprocess, "Popen"), (socket.socket, "connect")):
        monkeypatch.setattr(owner, name, refused)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder that `generate` wrote of TASKS, CHOICES and FAULTS."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "tasks.txt").write_text("\n".join(TASKS), "utf-8")
    (folder / "options.yaml").write_text(yaml.safe_dump({**CHOICES, **FAULTS}), "utf-8")
    done = run_main(
        "generate",
        f"--config={folder / 'options.yaml'}",
        f"--tasks={folder / 'tasks.txt'}",
        f"--output={folder / 'out'}",
        "--keep_raw",
    )
    assert done.code == 0, done.err
    return folder


# --- the listing


def listed() -> dict[str, Any]:
    (provider,) = load_providers(str(beam_yaml.PROVIDERS))
    return {name: (provider, provider._transform_factories[name]) for name in provider.provided_transforms()}


def test_every_transform_is_listed_under_its_name() -> None:
    public = {
        name: value
        for name, value in vars(beam_yaml).items()
        if name.startswith("Textmint") and issubclass(value, beam.PTransform)
    }
    assert {name: factory for name, (_, factory) in listed().items()} == public
    (spec,) = yaml.safe_load(beam_yaml.PROVIDERS.read_text("utf-8"))
    assert spec["config"] == {"packages": []}, "Beam would install packages, and start another process"


@pytest.mark.parametrize("name", listed())
def test_beam_can_read_what_a_transform_is_and_takes(name: str) -> None:
    provider, factory = listed()[name]
    assert [field.name for field in provider.config_schema(name).fields] == ["error_handling", "options"]
    assert all(field.description for field in provider.config_schema(name).fields)
    assert provider.description(name)
    assert provider.requires_inputs(name, {}) == issubclass(factory, beam_yaml._Step)
    assert not any(isinstance(p.annotation, str) for p in inspect.signature(factory.__init__).parameters.values())


def test_whatever_asks_a_model_knows_its_options() -> None:
    assert {*beam_yaml._MODEL, "retry_rejects"} == {option.name for option in OPTIONS if option.group == "model"}
    for name in ("TextmintTaskGenerate", *STEPS):
        assert set(getattr(beam_yaml, name).options) <= set(BY_NAME)


def test_its_path_is_printed_for_whoever_has_no_repository(tmp_path: Path) -> None:
    # in a real process
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "textmint.pipelines.beam_yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(beam_yaml.PROVIDERS), done.stderr


# --- rows that are those of `generate`


def test_step_by_step(alone: None, generated: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    transforms: list[dict[str, Any]] = [create([{"task": task, "mine": 1} for task in TASKS])]
    before = "Rows"
    for name, config in STEPS.items():
        handling = {"error_handling": {"output": "refused"}} if name in REFUSING else {}
        transforms.append({"type": name, "input": before, "config": {**config, **handling}})
        before = name
    transforms.append(write("examples", before))
    transforms.append(write("rejects", [f"{name}.refused" for name in REFUSING]))
    with caplog.at_level(logging.WARNING, "textmint"):
        run_yaml(transforms)
    examples, rejects = rows_of(generated / "out", "examples"), rows_of(generated / "out", "rejects")
    stages = {row["stage"] for row in rejects}
    assert "ParseJSON" in stages
    assert stages <= {name.removeprefix("Textmint") for name in REFUSING}, (
        "else compare less: FindDuplicates is no step"
    )
    assert read(tmp_path, "examples") == examples and len(examples) > 5
    assert read(tmp_path, "rejects") == rejects
    assert "leaves out" not in caplog.text


def test_the_whole_then_again_and_its_label_is_held_meanwhile(alone: None, generated: Path, tmp_path: Path) -> None:
    options = {**CHOICES, **FAULTS, "tasks": str(generated / "tasks.txt"), "output": "out", "keep_raw": True}
    mint = {"type": "TextmintGenerate", "config": {**options, "error_handling": {"output": "refused"}}}
    graph = [mint, write("examples", "TextmintGenerate"), write("rejects", "TextmintGenerate.refused")]
    run_yaml(graph)
    assert files_of(tmp_path / "out") == files_of(generated / "out")
    assert read(tmp_path, "examples") == rows_of(generated / "out", "examples")
    assert read(tmp_path, "rejects") == rows_of(generated / "out", "rejects")

    config = tmp_path / "options.yaml"
    config.write_text(yaml.safe_dump(options), "utf-8")
    done = run_main("generate", f"--config={config}")
    assert done.code == 2 and "another run of this refresh" in done.err

    before = (tmp_path / "out" / "manifest.json").read_bytes()
    for path in (tmp_path / "rows").iterdir():
        path.unlink()
    run_yaml(graph)  # in the same process: its own lease is no hindrance
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before, "nothing was computed"
    assert read(tmp_path, "examples") == rows_of(generated / "out", "examples")
    assert read(tmp_path, "rejects") == rows_of(generated / "out", "rejects")

    beam_yaml._let_go()
    assert not list((tmp_path / "out").glob("ledger/_journal/*")) and not (tmp_path / "out" / "_leases").exists()
    assert run_main("generate", f"--config={config}").code == 0


def test_brainstormed_tasks(alone: None, tmp_path: Path) -> None:
    options = {"task_requests": 6, "offline_fault_rate": 0.3, "parse_attempts": 1, "seed": 3}  # refuses lists and items
    handling = {"error_handling": {"output": "refused"}}
    ask = {"type": "TextmintTaskGenerate", "config": {**options, **handling}}
    flatten = {"type": "TextmintFlatten", "input": "TextmintTaskGenerate", "config": handling}
    refused = ["TextmintTaskGenerate.refused", "TextmintFlatten.refused"]
    run_yaml([ask, flatten, write("tasks", "TextmintFlatten"), write("rejects", refused)])
    flags = [f"--{name}={value}" for name, value in options.items()]
    done = run_main("generate", *flags, "--checks=none", "--examples_per_task=1", f"--output={tmp_path / 'out'}")
    assert done.code == 0, done.err
    assert read(tmp_path, "tasks") == rows_of(tmp_path / "out", "tasks")

    def told(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
        of_tasks = [row for row in rows if row["stage"] in ("TaskGenerate", "Flatten")]
        return sorted((row["stage"], row["reason"], row["raw_reply"]) for row in of_tasks)

    rejects = told(rows_of(tmp_path / "out", "rejects"))
    assert {"TaskGenerate", "Flatten"} == {stage for stage, _, _ in rejects}
    assert told(read(tmp_path, "rejects")) == rejects


def test_readmes_steps(alone: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pipelines" / "beam_yaml").mkdir(parents=True)
    (tmp_path / "pipelines" / "beam_yaml" / "providers.yaml").write_bytes(beam_yaml.PROVIDERS.read_bytes())
    (tmp_path / "steps.yaml").write_text(docs.pipelines()["steps.yaml"], "utf-8")
    with caplog.at_level(logging.WARNING, "textmint"):
        yaml_main.run(["--yaml_pipeline_file=steps.yaml"])
    rows = [row for path in tmp_path.glob("out/steps/examples*") for row in pq.ParquetFile(path).read().to_pylist()]
    assert len(rows) == 20 and set(rows[0]) == {"text", "label"}
    assert "TextmintParseJSON leaves out what it refuses" in caplog.text
    assert "TextmintBuildPrompt leaves out" not in caplog.text


def test_readmes_whole_in_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "pipelines" / "beam_yaml").mkdir(parents=True)
    (tmp_path / "pipelines" / "beam_yaml" / "providers.yaml").write_bytes(beam_yaml.PROVIDERS.read_bytes())
    (tmp_path / "whole.yaml").write_text(docs.pipelines()["whole.yaml"], "utf-8")
    command = "-m apache_beam.yaml.main --yaml_pipeline_file=whole.yaml"
    assert f".venv/bin/python {command}\n" in docs.PAGES["docs/beam-yaml.md"]
    done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    written = rows_of(tmp_path / "out" / "yaml", "examples")
    (tmp_path / "rows").symlink_to(tmp_path / "out" / "rows")
    assert len(written) > 50 and read(tmp_path, "examples") == written
    assert read(tmp_path, "rejects") == rows_of(tmp_path / "out" / "yaml", "rejects")
    assert not (tmp_path / "out" / "yaml" / "_leases").exists(), "what was held is let go at the end"
    assert not list(tmp_path.glob("out/yaml/ledger/_journal/*"))


# --- what is refused when a pipeline is built


ROW = {name: 1 if type_ is int else "x" for name, type_ in yaml_rows.DRAFT.items()}


@pytest.mark.parametrize(
    ("rows", "transform", "config", "problem"),
    [
        ([{"text": "a"}], "TextmintFlatten", {}, "its input lacks the columns task; it has text"),
        ([{"task": 1}], "TextmintFlatten", {}, "column task of its input holds .*int.*, not str"),
        ([{"task": "a"}], "TextmintSampleAttributes", {}, "lacks the columns task_id"),
        ([ROW], "TextmintLLMCall", {}, "lacks the columns prompt, template"),
        (
            [{"task": "a"}],
            "TextmintFlatten",
            {"max_task": 1},
            "TextmintFlatten has no option max_task; it has max_tasks, s",
        ),
        ([{"task": "a"}], "TextmintFlatten", {"max_tasks": 0}, "--max_tasks is 0; it must be at least 1"),
        ([ROW], "TextmintBuildPrompt", {"example_template": "none.jinja2"}, "none.jinja2: cannot be read"),
        ([{**ROW, "prompt": "p", "template": "t"}], "TextmintLLMCall", {"llm": "openai"}, "--model is missing"),
        (None, "TextmintGenerate", {"task_request": 1}, "unknown option --task_request: did you mean --task_requests"),
        (None, "TextmintGenerate", {"push_to_hub": "a/b"}, "has no option push_to_hub"),
        (None, "TextmintGenerate", {"target_examples": 3, "max_cost": 1.0}, "has no option target_examples, max_cost"),
        (None, "TextmintGenerate", {"language": "Germna"}, "did you mean 'German'"),
        (None, "TextmintGenerate", {"language": {"en": 1, "de": 1}}, "writes English only, not German"),
        (None, "TextmintTaskGenerate", {"topics": "none.txt"}, "--topics none.txt: cannot be read"),
    ],
)
def test_bad_input(
    rows: list[dict[str, Any]] | None, transform: str, config: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    step = {"type": transform, "config": config}
    with pytest.raises(ValueError, match=f'(?s)"{transform}" at line \\d+.*{problem}'):
        run_yaml([create(rows), {**step, "input": "Rows"}] if rows else [step])
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


def test_a_step_that_asks_no_model_takes_any_language() -> None:
    step = beam_yaml.TextmintSampleAttributes(language="Thai")
    assert step._config(beam.Pipeline()).attributes.language.describe() == {"Thai": 1.0}


@pytest.mark.parametrize("handling", [{}, {"output": ""}, {"output": "bad", "threshold": 1}])
def test_error_handling_of_another_form_is_refused(handling: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"error_handling is \{output: NAME\}"):
        beam_yaml.TextmintParseJSON(error_handling=handling)


# --- rows and elements


@pytest.mark.parametrize(
    ("element", "back"),
    [
        (make_draft(), yaml_rows.to_draft),
        (make_prompt(), yaml_rows.to_prompt),
        (replace(make_reply(make_prompt()), usage=Usage(), attempts=2), yaml_rows.to_reply),
        (make_example(), yaml_rows.to_example),
    ],
)
def test_an_element_comes_back_from_its_row(element: Any, back: Any) -> None:
    row = beam.Row(**yaml_rows.to_columns(element))
    assert back(row) == element
    assert back(beam.Row(**row.as_dict(), mine="rides along")) == element


def test_a_reply_that_is_kept_comes_back_too() -> None:
    example = make_example(raw_reply="{}")
    assert yaml_rows.to_example(beam.Row(**yaml_rows.to_columns(example, keep_raw=True))) == example


@pytest.mark.parametrize(
    ("element", "columns"),
    [
        (make_task(), yaml_rows.TASK),
        (make_draft(), yaml_rows.DRAFT),
        (make_prompt(), yaml_rows.PROMPT),
        (make_reply(make_prompt()), yaml_rows.REPLY),
        (make_example(), yaml_rows.EXAMPLE),
        (make_reject(), yaml_rows.REJECT),
    ],
)
def test_a_row_has_just_the_columns_that_are_told(element: Any, columns: yaml_rows.Columns) -> None:
    assert list(yaml_rows.to_columns(element)) == list(columns)


def test_a_task_keeps_where_it_comes_from() -> None:
    row = beam.Row(task="Sort mail", source="brainstorm", round=3, topic=None, model="m", template=None)
    tasks = yaml_rows.to_task_list(row)
    assert (tasks.items, tasks.source, tasks.round, tasks.topic, tasks.model) == (
        ("Sort mail",),
        "brainstorm",
        3,
        None,
        "m",
    )


@given(st.one_of(st.none(), st.integers(), st.floats(allow_nan=True), st.binary(), st.lists(st.text())))
def test_a_value_of_another_type_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"column task holds .*, which is no str"):
        yaml_rows.to_task_list(beam.Row(task=value))


@given(st.text(max_size=30), st.integers(0, 10**6))
def test_any_text_comes_back(text: str, replica: int) -> None:
    draft = replace(make_draft(), task=text, replica=replica)
    assert yaml_rows.to_draft(beam.Row(**{**yaml_rows.to_columns(draft), "replica": float(replica)})) == draft
    assert json.dumps(yaml_rows.to_columns(draft))
