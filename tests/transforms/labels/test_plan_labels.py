"""PlanLabels: each task gets its labels, or a reject; and what becomes of them in the steps that follow."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import plan_labels
from textmint.pipelines.graph.previous_run import NOTHING
from textmint.pipelines.options.parse import parse
from textmint.transforms.build_prompt import example_prompt
from textmint.transforms.core.elements import (
    REASONS,
    Draft,
    Example,
    FinishReason,
    LabelSet,
    LabelSetSeed,
    Prompt,
    Reject,
    Task,
    Usage,
)
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import label_id
from textmint.transforms.core.prompt_template import LABEL_SET_VARIABLES, PLANNED_VARIABLES, PromptTemplate
from textmint.transforms.labels.plan_labels import (
    PlanLabels,
    is_label_set,
    label_set_prompt,
    label_set_seed,
    read_label_set,
)
from textmint.transforms.ledger.join_ledger import JoinLedger
from textmint.transforms.llm.attempts import request_for
from textmint.transforms.llm.base import Answer
from textmint.transforms.parse_json import is_example, read_example
from textmint.transforms.sample_attributes import SampleAttributes, drafts_of

from tests.support.helpers import (
    FakeLLM,
    Ran,
    attributes,
    config_flag,
    make_draft,
    make_prompt,
    make_reject,
    make_reply,
    make_task,
    run_step,
    shipped_template,
    shuffled,
)

TEMPLATE = PromptTemplate("labels", "Labels of {{ task }}")
REPLIES: dict[str, tuple[str, FinishReason]] = {
    "Sort bees": ('["queen", "drone", "Queen.", "worker"]', "stop"),
    "Sort trams": ('{"labels": ["late", "on time"]}', "stop"),
    "Sort prose": ("I would rather not.", "stop"),
    "Sort one": ('["one", " ONE ", "", 7]', "stop"),
    "Sort blocked": ("", "content_filter"),
    "Sort many": (json.dumps([f"label {n}" for n in range(30)]), "stop"),
}


def make_label_prompt(text: str = "Sort bees") -> Prompt:
    return label_set_prompt(label_set_seed(make_task(text), 42), TEMPLATE)


def make_label_set(text: str = "Sort bees", labels: tuple[str, ...] = ("queen", "drone", "worker")) -> LabelSet:
    found = read_label_set(make_reply(make_label_prompt(text), json.dumps(labels)))
    assert isinstance(found, LabelSet)
    return found


@pytest.fixture(scope="module")
def planned() -> Ran:
    entering = shuffled([make_reject("Other"), *(make_task(text) for text in (*REPLIES, "Sort nothing"))])
    llm = FakeLLM(REPLIES, LabelSetSeed, "PlanLabels", Usage(requests=3, retries=2))
    return run_step(PlanLabels(TEMPLATE, JoinLedger(), llm), entering, Task)


def test_one_request_a_task_by_its_id_and_the_seed() -> None:
    task = make_task("Sort bees")
    prompt = make_label_prompt()
    assert (prompt.kind, prompt.text, prompt.template) == ("label_set", "Labels of Sort bees", TEMPLATE.name)
    assert prompt.prompt_id == stable_hash("label_set", task.task_id, 42)
    assert label_set_seed(make_task("Sort bees", 9), 42).label_set_id == prompt.prompt_id  # only the text counts
    assert label_set_seed(task, 43).label_set_id != prompt.prompt_id
    request = request_for(prompt, "f")
    assert (request.kind, request.variables) == ("label_set", {"task": "Sort bees"})


def test_the_shipped_template_says_how_many() -> None:
    template = shipped_template("label_set")
    template.check(LABEL_SET_VARIABLES)
    text = label_set_prompt(label_set_seed(make_task("Sort {{ 7*7 }}"), 42), template).text
    assert "\n> Sort {{ 7*7 }}\n" in text and "Give 2 to 20 labels" in text


def test_a_label_set_holds_all_that_its_row_needs() -> None:
    task = make_task("Sort bees")
    assert make_label_set() == LabelSet(
        task_id=task.task_id,
        task="Sort bees",
        labels=("queen", "drone", "worker"),
        label_ids=tuple(label_id(task.task_id, label) for label in ("queen", "drone", "worker")),
        model="m-1",
        template=TEMPLATE.name,
        prompt_tokens=7,
        output_tokens=5,
        seed=42,
        usage=Usage(requests=1, prompt_tokens=7, output_tokens=5, latencies_ms=(20,)),
    )


def test_every_task_becomes_a_label_set_or_a_reject(planned: Ran) -> None:
    assert {found.task: found.labels for found in planned.of(LabelSet)} == {
        "Sort bees": ("queen", "drone", "worker"),
        "Sort trams": ("late", "on time"),
        "Sort many": tuple(f"label {n}" for n in range(20)),
    }
    rejects = {reject.task: reject for reject in planned.of(Reject) if reject.stage == "PlanLabels"}
    assert {task: (reject.reason, reject.can_retry) for task, reject in rejects.items()} == {
        "Sort prose": ("not_json", True),
        "Sort one": ("too_few_labels", True),
        "Sort blocked": ("blocked", False),
        "Sort nothing": ("request_failed", True),
    }
    assert {reject.reason for reject in rejects.values()} <= set(REASONS)
    assert make_reject("Other") in planned.elements
    assert len(planned.elements) == len(REPLIES) + 2


def test_a_reject_is_of_the_task_and_holds_the_reply(planned: Ran) -> None:
    reject = next(reject for reject in planned.of(Reject) if reject.reason == "too_few_labels")
    task = make_task("Sort one")
    assert (reject.id, reject.task_id, reject.topic, reject.seed) == (task.task_id, task.task_id, "bees", 42)
    assert (reject.raw_reply, reject.prompt, reject.model) == (REPLIES["Sort one"][0], "Labels of Sort one", "m-1")
    assert reject.detail == "1 of 4 items can be a label, 2 are needed"


def test_only_its_own_outcomes_are_counted(planned: Ran) -> None:
    assert planned.counters == {
        "PlanLabels/in": 7,
        "PlanLabels/kept": 3,
        "PlanLabels/rejected.not_json": 1,
        "PlanLabels/rejected.too_few_labels": 1,
        "PlanLabels/rejected.blocked": 1,
        "PlanLabels/rejected.request_failed": 1,
    }


@pytest.mark.parametrize("task", REPLIES)
def test_what_is_readable_is_what_is_taken(task: str) -> None:
    prompt = make_label_prompt(task)
    text, finish_reason = REPLIES[task]
    answer = Answer(text=text, finish_reason=finish_reason, model="m", prompt_tokens=1, output_tokens=1)
    assert is_label_set(prompt, answer) == isinstance(read_label_set(make_reply(prompt, text, finish_reason)), LabelSet)


def test_labels_that_the_checks_would_refuse_are_not_planned(tmp_path: Path) -> None:
    """Every row of such a label would be refused, and be paid for."""
    config, _ = parse(["--label_plan=planned", config_flag(max_label_columns=9), f"--output={tmp_path}"])
    step = plan_labels(config, target_of(config), NOTHING)
    prompt = make_label_prompt()
    for wide, is_fit in (("w" * 9, True), ("w" * 10, False)):
        answer = Answer(
            text=json.dumps(["bee", wide]), finish_reason="stop", model="m", prompt_tokens=1, output_tokens=1
        )
        assert step.llm.is_readable(prompt, answer) == (step.llm.fault_of(prompt, answer) is None) == is_fit
        found = read_label_set(make_reply(prompt, answer.text), step.max_label_columns)
        assert isinstance(found, LabelSet) == is_fit
    wider = read_label_set(make_reply(prompt, json.dumps(["bee", "w" * 200])), 200)
    assert isinstance(wider, LabelSet)


def test_a_reply_to_another_question_is_an_error() -> None:
    with pytest.raises(TypeError, match="Draft"):
        read_label_set(make_reply(make_prompt(), '["a", "b"]'))


# --- drafts, prompts and examples of planned labels


def planned_drafts(count: int, **chosen: str) -> list[Draft]:
    return list(drafts_of(make_label_set(), examples_per_task=count, attributes=attributes(**chosen), seed=42))


def test_drafts_of_a_label_set_are_those_of_its_task_with_labels() -> None:
    free = list(drafts_of(make_task("Sort bees"), examples_per_task=12, attributes=attributes(), seed=42))
    planned = planned_drafts(12)
    bare: dict[str, Any] = {"label": None, "misleading_label": None, "labels": ()}
    assert [replace(draft, **bare) for draft in planned] == free
    assert {draft.labels for draft in planned} == {("queen", "drone", "worker")}
    assert collections.Counter(draft.label for draft in planned) == {"queen": 4, "drone": 4, "worker": 4}
    assert len({(draft.label, draft.misleading_label) for draft in planned}) == 6
    assert planned_drafts(30)[:12] == planned


def test_the_step_takes_label_sets() -> None:
    reject = make_reject()
    ran = run_step(SampleAttributes(4, attributes()), [reject, make_label_set()], LabelSet)
    assert sorted(ran.of(Draft), key=lambda draft: draft.replica) == planned_drafts(4)
    assert ran.of(Reject) == [reject]
    assert ran.counters == {"SampleAttributes/in": 1, "SampleAttributes/kept": 4}


def test_the_prompt_asks_for_a_text_of_the_label() -> None:
    template = shipped_template("classify_planned")
    template.check(PLANNED_VARIABLES)
    draft = planned_drafts(1, language="German", num_words="at least 50")[0]
    prompt = example_prompt(draft, template)
    assert prompt.kind == "planned_example"
    assert "\n> queen\n> drone\n> worker\n\nRight label" in prompt.text
    assert f"Right label of your text:\n> {draft.label}\n" in prompt.text
    assert f"fits less well:\n> {draft.misleading_label}\n" in prompt.text
    assert "must have at least 50 words" in prompt.text and "in German" in prompt.text
    variables = request_for(prompt, "f").variables
    assert (variables["label"], variables["misleading_label"]) == (draft.label, draft.misleading_label)


def test_the_prompt_of_a_free_draft_is_as_it_was() -> None:
    assert example_prompt(make_draft(), shipped_template("classify")).kind == "example"
    assert set(request_for(make_prompt(), "f").variables) == {"task", "language", "difficulty", "clarity", "num_words"}


@pytest.mark.parametrize(
    "text",
    [
        '{"input_text": "It hums."}',
        '{"input_text": "It hums.", "label": "hornet", "misleading_label": "wasp"}',
        '{"input_text": "It hums.", "label": 3}',
    ],
)
def test_an_example_has_the_labels_of_its_draft(text: str) -> None:
    draft = planned_drafts(1)[0]
    reply = make_reply(example_prompt(draft, shipped_template("classify_planned")), text)
    example = read_example(reply, keep_raw=False)
    assert isinstance(example, Example)
    assert (example.id, example.input_text) == (draft.draft_id, "It hums.")
    assert (example.label, example.misleading_label) == (draft.label, draft.misleading_label)
    answer = Answer(text=text, finish_reason="stop", model="m", prompt_tokens=1, output_tokens=1)
    assert is_example(reply.prompt, answer)
    assert is_example(make_prompt(), answer) == ("misleading" in text)  # a free one needs all three


def test_a_planned_reply_without_a_text_is_refused() -> None:
    prompt = example_prompt(planned_drafts(1)[0], shipped_template("classify_planned"))
    reject = read_example(make_reply(prompt, '{"text": "It hums."}'), keep_raw=False)
    assert isinstance(reject, Reject)
    assert (reject.stage, reject.reason) == ("ParseJSON", "missing_field")
