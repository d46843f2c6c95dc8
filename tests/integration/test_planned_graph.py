"""Planned labels and verification from tasks to examples, with the embedded model and with the endpoint for tests; and
the same again, out of the ledger."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from msgspec.structs import replace
from textmint.transforms.build_prompt import BuildPrompt
from textmint.transforms.core.elements import Example, Kind, LabelSet, Prompt, Reject, Reply, Task, Usage
from textmint.transforms.core.labels import normal_form
from textmint.transforms.labels.plan_labels import PlanLabels, is_label_set
from textmint.transforms.labels.verify_labels import VerifyLabels, is_choice
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.join_ledger import JoinLedger
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.ledger.read_ledger import ReadLedger
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm.attempts import IsReadable, request_for
from textmint.transforms.llm.base import fingerprint_of
from textmint.transforms.llm.engine import close_engines
from textmint.transforms.llm.offline.author import label_set
from textmint.transforms.llm.offline.backend import OfflineBackend
from textmint.transforms.llm.offline.tasks import brainstorm
from textmint.transforms.llm_call import LLMCall
from textmint.transforms.parse_json import ParseJSON, is_example
from textmint.transforms.sample_attributes import SampleAttributes

from tests.support.helpers import Ran, attributes, make_task, run_graph, shipped_template
from tests.support.llm_server import prompt_digest, reply_text

TASKS = [make_task(text) for text in brainstorm("", "planned", 8)]
EXAMPLES_PER_TASK = 6


def graph(pipeline: beam.Pipeline, folder: Path, fault_rate: float) -> Any:
    """Returns the label sets, and the examples and rejects at the end."""
    backend = OfflineBackend(fault_rate=fault_rate)
    found = ledger_files(str(folder))

    def join(kind: Kind) -> JoinLedger:
        return JoinLedger(ReadLedger(found, kind, fingerprint_of(backend)) if found else None)

    def call(is_readable: IsReadable, stage: str = "LLMCall") -> LLMCall:
        return LLMCall(backend, is_readable, stage, ledger=Ledger(folder=str(folder), refresh="base", run_id="run"))

    label_sets = (
        pipeline
        | beam.Create(TASKS).with_output_types(Task)
        | PlanLabels(shipped_template("label_set"), join("label_set"), call(is_label_set, "PlanLabels"))
    )
    examples = (
        label_sets
        | SampleAttributes(EXAMPLES_PER_TASK, attributes())
        | join("planned_example")
        | BuildPrompt(shipped_template("classify_planned"))
        | call(is_example)
        | ParseJSON()
        | VerifyLabels(shipped_template("verify"), join("choice"), call(is_choice, "VerifyLabels"))
    )
    sets_only = label_sets | "SetsOnly" >> beam.Filter(lambda element: isinstance(element, LabelSet))
    return (sets_only, examples) | beam.Flatten()


def run(folder: Path, fault_rate: float = 0.0) -> Ran:
    folder.mkdir(exist_ok=True)
    ran = run_graph(lambda pipeline: graph(pipeline, folder, fault_rate))
    close_engines()
    merge_journals(str(folder))
    return ran


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tmp_path_factory.mktemp("good") / "ledger")


def test_every_task_has_its_labels_and_every_example_two_of_them(good: Ran) -> None:
    sets = {found.task_id: found for found in good.of(LabelSet)}
    assert set(sets) == {task.task_id for task in TASKS}
    for found in sets.values():
        assert found.labels == tuple(label_set(found.task))
    examples = good.of(Example)
    assert len(examples) == len(TASKS) * EXAMPLES_PER_TASK and not good.of(Reject)
    for example in examples:
        labels = sets[example.task_id].labels
        assert {example.label, example.misleading_label} <= set(labels)
        assert normal_form(example.label) != normal_form(example.misleading_label)
        for label in (example.label, example.misleading_label):
            assert label.casefold() not in example.input_text.casefold()
        assert example.verified is not None and example.verified.requests == 1
    for task_id, found in sets.items():
        counts = collections.Counter(example.label for example in examples if example.task_id == task_id)
        amounts = [counts[label] for label in found.labels]
        assert max(amounts) - min(amounts) <= 1


def test_nothing_is_lost_where_models_answer_badly(tmp_path: Path) -> None:
    ran = run(tmp_path / "ledger", 0.4)
    sets, examples, rejects = ran.of(LabelSet), ran.of(Example), ran.of(Reject)
    by_stage = collections.Counter(reject.stage for reject in rejects)
    assert len(sets) + by_stage["PlanLabels"] == len(TASKS)
    drafts = len(sets) * EXAMPLES_PER_TASK
    assert len(examples) + by_stage["ParseJSON"] + by_stage["VerifyLabels"] == drafts
    assert by_stage.keys() == {"PlanLabels", "ParseJSON", "VerifyLabels"}
    # some are disputed, and some answers cannot be read
    assert {reject.reason for reject in rejects if reject.stage == "VerifyLabels"} > {"label_disputed"}
    for step, left in (("PlanLabels", len(sets)), ("VerifyLabels", len(examples))):
        rejected = sum(n for name, n in ran.counters.items() if name.startswith(f"{step}/rejected."))
        assert ran.counters[f"{step}/in"] == ran.counters[f"{step}/kept"] + rejected
        assert (ran.counters[f"{step}/kept"], rejected) == (left, by_stage[step])


@pytest.mark.parametrize("fault_rate", [0.0, 0.4])
def test_the_same_again_is_paid_for_by_the_ledger(tmp_path: Path, fault_rate: float) -> None:
    first, second = (run(tmp_path / "ledger", fault_rate) for _ in range(2))
    for kind, fields in ((LabelSet, {"usage": None}), (Example, {"verified": None})):
        shown = [sorted(repr(replace(row, **fields)) for row in ran.of(kind)) for ran in (first, second)]
        assert shown[0] == shown[1]
    outcomes = [
        sorted((reject.id, reject.stage, reject.reason, reject.raw_reply) for reject in ran.of(Reject))
        for ran in (first, second)
    ]
    assert outcomes[0] == outcomes[1]
    sent = {step: first.counters[f"{step}/requests.sent"] for step in ("PlanLabels", "LLMCall", "VerifyLabels")}
    for step, requests in sent.items():
        assert requests > 0
        assert f"{step}/requests.sent" not in second.counters
        assert second.counters[f"{step}/requests.from_ledger"] == requests


def test_usage_is_on_what_comes_out(good: Ran) -> None:
    for step, usages in (
        ("PlanLabels", [found.usage for found in good.of(LabelSet)]),
        ("VerifyLabels", [example.verified for example in good.of(Example)]),
    ):
        total = sum((usage for usage in usages if usage is not None), Usage())
        assert total.requests == good.counters[f"{step}/requests.sent"]
        assert total.prompt_tokens == good.counters[f"{step}/gen_ai.client.inference.usage.input_tokens"]
        assert total.output_tokens == good.counters[f"{step}/gen_ai.client.inference.usage.output_tokens"]


# --- the endpoint for tests knows these prompts by their text


class ServerLLM(beam.PTransform):
    """Answers as the endpoint for tests would."""

    def expand(self, prompts: beam.PCollection[Any]) -> beam.PCollection[Any]:
        return prompts | beam.Map(server_answer)


def server_answer(prompt: Prompt | Reject) -> Reply | Reject:
    if isinstance(prompt, Reject):
        return prompt
    return Reply(
        prompt=prompt,
        request_id=request_for(prompt, "f").request_id,
        text=reply_text(prompt.text, prompt_digest(prompt.text)),
        finish_reason="stop",
        model="server",
        prompt_tokens=1,
        output_tokens=1,
        usage=Usage(requests=1),
    )


@pytest.mark.parametrize("is_planned", [True, False])
def test_the_endpoint_for_tests_agrees_with_itself_but_for_one_choice_in_sixteen(is_planned: bool) -> None:
    def build(pipeline: beam.Pipeline) -> Any:
        tasks = pipeline | beam.Create(TASKS).with_output_types(Task)
        if is_planned:
            tasks = tasks | PlanLabels(shipped_template("label_set"), JoinLedger(), ServerLLM())
        return (
            tasks
            | SampleAttributes(50, attributes())
            | BuildPrompt(shipped_template("classify_planned" if is_planned else "classify"))
            | ServerLLM()
            | ParseJSON()
            | VerifyLabels(shipped_template("verify"), JoinLedger(), ServerLLM())
        )

    ran = run_graph(build)
    assert len(ran.of(Example)) + len(ran.of(Reject)) == 400
    assert {reject.reason for reject in ran.of(Reject)} == {"label_disputed"}
    assert 8 <= len(ran.of(Reject)) <= 42  # binomial, 25 of 400 expected: 3.5 standard deviations are 17
    labels = {example.label for example in ran.of(Example)}
    assert len(labels) == 16


def test_the_endpoint_for_tests_guesses_at_texts_of_others() -> None:
    text = "Task\n\n> praise\n> complaint\n\nWhich of the two labels fits {}?"
    answers = collections.Counter(
        json.loads(reply_text(text.format(n), prompt_digest(text.format(n))))["label"] for n in range(200)
    )
    assert set(answers) == {"praise", "complaint"}
    assert min(answers.values()) > 60
