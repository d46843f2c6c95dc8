"""Parts for others: what `from transforms import ...` offers, and each step used alone."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.internal import pickler
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.typehints.decorators import TypeCheckError
from msgspec.structs import replace
from textmint import transforms
from textmint.transforms import (
    AgreeLabels,
    BuildPrompt,
    CheckQuality,
    Draft,
    Example,
    FindDuplicates,
    FindNearDuplicates,
    Flatten,
    JoinLedger,
    LLMCall,
    OfflineBackend,
    OpenAIBackend,
    ParseJSON,
    PlanLabels,
    Prompt,
    PromptTemplate,
    Reject,
    Reply,
    SampleAttributes,
    Task,
    TaskGenerate,
    VerifyLabels,
    is_example,
    parse_attributes,
    schema_of,
    shipped_template,
    task_of,
    task_seeds,
    to_record,
)
from textmint.transforms.core.elements import LabelSet, TaskList, TaskSeed
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dedup.minhash import Text
from textmint.transforms.llm.base import Answer, Request
from textmint.transforms.llm.engine import Settings
from textmint.transforms.llm.limiter import Limits
from textmint.transforms.sample_attributes import drafts_of

from tests.support import docs
from tests.support.helpers import (
    ROOT,
    make_draft,
    make_example,
    make_prompt,
    make_reject,
    make_reply,
    make_seed,
    run_step,
    tally,
)
from tests.support.llm_server import LlmServer
from tests.test_arrows import STEPS, TREES, public_transforms

TASK = "Sort mail by topic"

# --- the names


def test_the_names_are_listed_once() -> None:
    assert 30 <= len(transforms.__all__) <= 45
    assert set(transforms.__all__) <= set(dir(transforms))


@pytest.mark.parametrize("name", sorted(transforms.__all__))
def test_a_name_is_what_its_module_has_and_pickles_under_it(name: str) -> None:
    found = getattr(transforms, name)
    module = transforms._HOMES[name]
    assert found is getattr(importlib.import_module(module), name)
    if isinstance(found, type) or callable(found):
        assert found.__module__ == module


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match=r"module 'textmint\.transforms' has no attribute 'SampleAttribute'"):
        getattr(transforms, "SampleAttribute")  # noqa: B009
    with pytest.raises(ImportError, match="SampleAttribute"):
        from textmint.transforms import SampleAttribute  # noqa: F401
    from textmint.transforms.storage import files  # a module is still found

    assert files.__name__ == "textmint.transforms.storage.files"


def test_things_do_not_wait_for_beam_and_steps_unpickle_where_nothing_was_imported() -> None:
    steps = [
        Flatten(),
        SampleAttributes(),
        BuildPrompt(),
        LLMCall(OfflineBackend(), is_example),
        ParseJSON(),
        CheckQuality(),
    ]
    pickled = [pickler.dumps(step).decode() for step in steps]
    script = """if True:
        import json, sys
        from textmint import transforms
        assert set(sys.modules) & {"apache_beam", "pyarrow", "textmint.transforms.core.elements"} == set()
        from textmint.transforms import Draft, OfflineBackend, OpenAIBackend, PromptTemplate, Task
        from textmint.transforms import parse_attributes, parse_checks, shipped_template
        assert "apache_beam" not in sys.modules and "pyarrow" not in sys.modules
        assert "textmint.transforms.llm.gemini" not in sys.modules
        from apache_beam.internal import pickler
        print([repr(type(pickler.loads(step.encode()))) for step in json.load(sys.stdin)])
    """
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(pickled), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr([repr(type(step)) for step in steps])
    assert "<class 'textmint.transforms.sample_attributes.SampleAttributes'>" in done.stdout


# --- each step alone


def test_texts_are_tasks() -> None:
    ran = run_step(Flatten(), [TASK, "sort  MAIL by topic.", " ", "x" * 2_001, "Tell spam from ham"], str)
    assert {task.task for task in ran.of(Task)} == {TASK, "Tell spam from ham"}
    assert list(tally(ran.of(Reject))) == [("duplicate", 1), ("empty_field", 1), ("too_long", 1)]
    # the same tasks as those of a list, and as `task_of` makes them
    listed = run_step(Flatten(), [TaskList(items=(TASK, "Tell spam from ham"))], TaskList)
    assert set(ran.of(Task)) == set(listed.of(Task)) == {task_of(TASK), task_of("Tell  spam from ham")}


@pytest.mark.parametrize(
    ("text", "problem"), [(" . ", "the task is blank"), ("x" * 2_001, "2,001 characters, at most")]
)
def test_a_text_that_is_no_task(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        task_of(text)


def test_tasks_to_drafts() -> None:
    ran = run_step(SampleAttributes(), [task_of(TASK)], Task)
    assert ran.elements == list(drafts_of(task_of(TASK), examples_per_task=1, attributes=parse_attributes()))
    ran = run_step(SampleAttributes(3, parse_attributes(language="Thai"), seed=7), [task_of(TASK)], Task)
    assert {(draft.language, draft.seed) for draft in ran.elements} == {("Thai", 7)} and len(ran.elements) == 3


def test_drafts_to_prompts() -> None:
    planned = replace(make_draft(), label="news", misleading_label="sport", labels=("news", "sport"))
    ran = run_step(BuildPrompt(), [make_draft(), planned], Draft)
    assert [prompt.template for prompt in ran.elements] == [
        shipped_template("classify").name,
        shipped_template("classify_planned").name,
    ]
    ran = run_step(BuildPrompt(PromptTemplate("mine", "Do {{ task }}")), [make_draft()], Draft)
    assert [prompt.text for prompt in ran.elements] == [f"Do {TASK}"]


UNFILLABLE = PromptTemplate("mine", "\n{{ 1 // 0 }}")


@pytest.mark.parametrize(
    ("step", "element", "stage", "id_"),
    [
        (TaskGenerate(UNFILLABLE, LLMCall(OfflineBackend())), make_seed(), "TaskGenerate", make_seed().seed_id),
        (
            PlanLabels(UNFILLABLE, JoinLedger(), LLMCall(OfflineBackend())),
            task_of(TASK),
            "PlanLabels",
            task_of(TASK).task_id,
        ),
        (BuildPrompt(UNFILLABLE), make_draft(), "BuildPrompt", make_draft().draft_id),
        (
            VerifyLabels(UNFILLABLE, JoinLedger(), LLMCall(OfflineBackend())),
            make_example(),
            "VerifyLabels",
            make_example().id,
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_no_prompt_can_be_made_for_is_a_reject(step: Any, element: Any, stage: str, id_: str) -> None:
    ran = run_step(step, [element], type(element))
    (reject,) = ran.elements
    assert (reject.id, reject.stage, reject.reason, reject.can_retry) == (id_, stage, "template_failed", False)
    assert reject.detail == f"{UNFILLABLE.name}: line 2: ZeroDivisionError: integer division or modulo by zero"
    assert (reject.template, reject.prompt, reject.raw_reply) == (UNFILLABLE.name, None, "")
    assert ran.counters == {f"{stage}/in": 1, f"{stage}/rejected.template_failed": 1}


def test_the_embedded_model_writes_no_other_language() -> None:
    draft = replace(make_draft(), language="Thai")
    with pytest.raises(RunFailed, match="writes English only, and was asked for Thai; ask for English, or choose a"):
        run_step(LLMCall(OfflineBackend()), [replace(make_prompt(), subject=draft)], Prompt)


@dataclasses.dataclass(frozen=True)
class Echo:
    """A back end as a user would write one."""

    shout: bool = False

    def fingerprint(self) -> Mapping[str, Any]:
        return {"backend": "echo", "shout": self.shout}

    async def open(self) -> Echo:
        return self

    async def generate(self, request: Request) -> Answer:
        text = request.text.upper() if self.shout else request.text
        return Answer(text=text, finish_reason="stop", model="echo-1", prompt_tokens=1, output_tokens=1)

    async def aclose(self) -> None:
        pass


def test_prompts_of_ones_own_to_a_model_of_ones_own() -> None:
    prompts = [Prompt(kind="example", subject=make_draft(replica=n), text=f"say {n}", template="") for n in range(3)]
    ran = run_step(LLMCall(Echo(shout=True)), prompts, Prompt)
    assert {(reply.text, reply.model) for reply in ran.of(Reply)} == {(f"SAY {n}", "echo-1") for n in range(3)}


def test_prompts_to_an_endpoint_without_a_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with LlmServer() as server:
        backend = OpenAIBackend(model="m", base_url=f"{server.base_url}/v1")
        prompts = run_step(BuildPrompt(), [make_draft(replica=n) for n in range(5)], Draft).elements
        ran = run_step(LLMCall(backend, is_example), prompts, Prompt)
        assert len(ran.of(Reply)) == 5 == server.stats()["requests"]
    examples = run_step(ParseJSON(), ran.elements, Reply)
    assert len(examples.of(Example)) == 5


def test_replies_to_examples_to_checked_ones() -> None:
    ran = run_step(ParseJSON(), [make_reply(make_prompt()), make_reply(make_prompt(replica=1), "{")], Reply)
    assert len(ran.of(Example)) == 1 and list(tally(ran.of(Reject))) == [("truncated", 1)]
    echo = make_example(input_text="[input_text]")
    ran = run_step(
        CheckQuality(), [make_example(input_text="Nobody answers the phone, or my letters, at all."), echo], Example
    )
    assert len(ran.of(Example)) == 1 and list(tally(ran.of(Reject))) == [("placeholder", 1)]


@pytest.mark.parametrize("keep_raw", [False, True])
def test_rows_to_records(keep_raw: bool) -> None:
    record = to_record(make_example(raw_reply="{}"), keep_raw=keep_raw)
    assert list(record) == schema_of("examples", keep_raw=keep_raw).names
    assert record["label_id"] == make_example().label_id
    assert list(to_record(make_reject())) == schema_of("rejects").names
    assert to_record(task_of(TASK))["source"] == "file"


def test_the_program_of_the_docs(tmp_path: Path) -> None:
    _, program = docs.blocks("docs/python-api.md", "python")  # the first is tested where previews are
    (tmp_path / "parts.py").write_text(program, "utf-8")
    done = subprocess.run([sys.executable, "parts.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [row for path in tmp_path.glob("out/parts/examples*") for row in pq.ParquetFile(path).read().to_pylist()]
    assert len(rows) == 20 and {row["difficulty"] for row in rows} == {"college", "PhD"}


# --- what is refused when a pipeline is built


LLM = LLMCall(OfflineBackend(), is_example)
TEMPLATE = PromptTemplate("mine", "{{ task }}")
TAKES: dict[str, tuple[beam.PTransform, set[type]]] = {
    "TaskGenerate": (TaskGenerate(TEMPLATE, LLM), {TaskSeed}),
    "Flatten": (Flatten(), {TaskList, str}),
    "PlanLabels": (PlanLabels(TEMPLATE, JoinLedger(), LLM), {Task}),
    "SampleAttributes": (SampleAttributes(), {Task, LabelSet}),
    "BuildPrompt": (BuildPrompt(), {Draft}),
    "LLMCall": (LLM, {Prompt}),
    "ParseJSON": (ParseJSON(), {Reply}),
    "CheckQuality": (CheckQuality(), {Example}),
    "VerifyLabels": (VerifyLabels(TEMPLATE, JoinLedger(), LLM), {Example}),
    "FindDuplicates": (FindDuplicates(), {Example}),
    "AgreeLabels": (AgreeLabels(), {Example}),
    "FindNearDuplicates": (FindNearDuplicates(), {Text}),
}
UNTYPED = {  # each takes what is no stream of elements of one class
    *("JoinLedger", "CountElements", "SelectExamples", "DescribeRows", "WriteCounts", "WriteDataset"),
    *("ReadTasks", "ReadLedger", "ReadExclusions", "ReadPublished"),
}
KINDS = sorted(set().union(*(kinds for _, kinds in TAKES.values())), key=lambda kind: kind.__name__)


def test_the_table_holds_every_step() -> None:
    assert set(TAKES) | UNTYPED == {name for module in STEPS for name in public_transforms(TREES[module])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TAKES)
def test_a_step_takes_its_own_elements_and_no_others(name: str, kind: type) -> None:
    step, takes = TAKES[name]
    elements = TestPipeline("FnApiRunner") | beam.Create([]).with_output_types(kind)
    if kind in takes:
        elements | step
    else:
        with pytest.raises(TypeCheckError):
            elements | step


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: SampleAttributes(0), "examples_per_task is 0, but must be 1 or more"),
        (lambda: Flatten(max_tasks=0), "max_tasks is 0, but must be 1 or more"),
        (lambda: LLMCall(OfflineBackend(), parse_attempts=0), "parse_attempts is 0"),
        (lambda: FindNearDuplicates(0.1), "0.1"),
        (lambda: Limits(max_concurrency=0), "max_concurrency is 0"),
        (lambda: Limits(requests_per_minute=0), "requests_per_minute is 0, but must be above 0"),
        (lambda: Limits(tokens_per_minute=float("inf")), "tokens_per_minute is inf"),
        (lambda: Settings(request_timeout=0), "request_timeout is 0 seconds"),
        (lambda: Settings(max_attempts=0), "max_attempts is 0"),
        (lambda: parse_attributes(language="Germna"), "did you mean 'German'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(make: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()


def test_seeds_without_plumbing() -> None:
    assert [(seed.round, seed.topic, seed.seed) for seed in task_seeds(2)] == [(0, None, 42), (1, None, 42)]
    assert task_seeds(2) == task_seeds(2, topics=(), refresh="base", seed=42)
