"""VerifyLabels: an example stays where a model that is shown both labels chooses its label."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace
from textmint.transforms.core.elements import REASONS, Choice, Example, FinishReason, Prompt, Reject, Usage
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.prompt_template import VERIFY_VARIABLES, PromptTemplate
from textmint.transforms.labels.verify_labels import VerifyLabels, choice_of, choice_prompt, is_choice, verify_choice
from textmint.transforms.ledger.join_ledger import JoinLedger
from textmint.transforms.llm.attempts import request_for
from textmint.transforms.llm.base import Answer

from tests.support.helpers import (
    FakeLLM,
    Ran,
    make_example,
    make_prompt,
    make_reject,
    make_reply,
    run_step,
    shipped_template,
    shuffled,
)

TEMPLATE = PromptTemplate("verify", "{{ task }} | {{ input_text }} | {{ first }} | {{ second }}")
ANSWERS: dict[str, tuple[str, FinishReason]] = {
    "agrees": ('{"label": "right"}', "stop"),
    "agrees in passing": ("Sure!\n{'label': 'Right.'}", "stop"),
    "disputes": ('{"label": "wrong"}', "stop"),
    "neither": ('{"label": "something else"}', "stop"),
    "prose": ("Who can tell?", "stop"),
    "blocked": ("", "content_filter"),
}


def make_choice_prompt(task: str = "Sort bees", replica: int = 0) -> Prompt:
    return choice_prompt(choice_of(make_example(task, replica)), TEMPLATE)


EXAMPLES = {task: make_example(task, repairs=("quotes",), raw_reply="as it came") for task in (*ANSWERS, "unanswered")}


@pytest.fixture(scope="module")
def verified() -> Ran:
    entering = shuffled([make_reject("Other"), *EXAMPLES.values()])
    llm = FakeLLM(ANSWERS, Choice, "VerifyLabels", Usage(requests=1))
    return run_step(VerifyLabels(TEMPLATE, JoinLedger(), llm), entering, Example)


def test_the_order_of_the_labels_is_by_hash_and_tells_nothing() -> None:
    choices = [choice_of(make_example("Sort bees", replica)) for replica in range(400)]
    assert {(choice.first, choice.second) for choice in choices} == {("right", "wrong"), ("wrong", "right")}
    first = sum(choice.first == "right" for choice in choices)
    assert 150 <= first <= 250  # binomial, 200 of 400 expected: five standard deviations are 50
    assert choices == [choice_of(make_example("Sort bees", replica)) for replica in range(400)]


def test_the_request_is_known_by_the_example_and_does_not_tell_the_truth() -> None:
    prompt = make_choice_prompt()
    example = make_example("Sort bees")
    assert prompt.kind == "choice"
    assert prompt.prompt_id == stable_hash("choice", example.id)
    choice = choice_of(example)
    assert prompt.text == f"Sort bees | {example.input_text} | {choice.first} | {choice.second}"
    assert request_for(prompt, "f").variables == {"first": choice.first, "second": choice.second, "label": "right"}


def test_the_shipped_template() -> None:
    template = shipped_template("verify")
    template.check(VERIFY_VARIABLES)
    text = choice_prompt(choice_of(make_example("Sort {{ 7*7 }}", input_text="{% raw %}")), template).text
    assert "\n> Sort {{ 7*7 }}\n" in text and "\n> {% raw %}\n" in text
    assert "\n> right\n" in text and "\n> wrong\n" in text


def test_what_is_kept_is_as_it_was(verified: Ran) -> None:
    kept = {example.task: example for example in verified.of(Example)}
    usage = Usage(requests=1, prompt_tokens=7, output_tokens=5, latencies_ms=(20,))
    assert kept == {task: replace(EXAMPLES[task], verified=usage) for task in ("agrees", "agrees in passing")}


def test_what_is_not_kept_says_why(verified: Ran) -> None:
    rejects = {reject.task: reject for reject in verified.of(Reject) if reject.stage == "VerifyLabels"}
    assert {task: (reject.reason, reject.can_retry) for task, reject in rejects.items()} == {
        "disputes": ("label_disputed", False),
        "neither": ("label_disputed", False),
        "prose": ("not_json", True),
        "blocked": ("blocked", False),
        "unanswered": ("request_failed", True),
    }
    assert {reject.reason for reject in rejects.values()} <= set(REASONS)
    assert make_reject("Other") in verified.elements
    assert len(verified.elements) == len(EXAMPLES) + 1


def test_a_dispute_can_be_looked_into(verified: Ran) -> None:
    reject = next(reject for reject in verified.of(Reject) if reject.task == "disputes")
    example = EXAMPLES["disputes"]
    assert (reject.id, reject.task_id, reject.replica) == (example.id, example.task_id, example.replica)
    assert (reject.raw_reply, reject.detail) == ('{"label": "wrong"}', "the label is 'right', the answer 'wrong'")
    assert (reject.prompt, reject.template) == (choice_prompt(choice_of(example), TEMPLATE).text, TEMPLATE.name)
    assert (reject.model, reject.output_tokens, reject.usage) == (
        "m-1",
        5,
        Usage(requests=1, prompt_tokens=7, output_tokens=5, latencies_ms=(20,)),
    )


def test_only_its_own_outcomes_are_counted(verified: Ran) -> None:
    assert verified.counters == {
        "VerifyLabels/in": 7,
        "VerifyLabels/kept": 2,
        "VerifyLabels/rejected.label_disputed": 2,
        "VerifyLabels/rejected.not_json": 1,
        "VerifyLabels/rejected.blocked": 1,
        "VerifyLabels/rejected.request_failed": 1,
    }


@pytest.mark.parametrize("task", ANSWERS)
def test_what_is_readable_is_not_asked_again(task: str) -> None:
    prompt = make_choice_prompt(task)
    text, finish_reason = ANSWERS[task]
    answer = Answer(text=text, finish_reason=finish_reason, model="m", prompt_tokens=1, output_tokens=1)
    assert is_choice(prompt, answer) == (task not in ("prose", "blocked"))


def test_labels_that_are_places_are_told_apart_by_their_text() -> None:
    for label, misleading in (("A", "B"), ("B", "A"), ("first", "second"), ("2", "1")):
        for replica in range(8):  # both orders
            example = make_example("Grade", replica, label=label, misleading_label=misleading)
            prompt = choice_prompt(choice_of(example), TEMPLATE)
            reply = make_reply(prompt, json.dumps({"label": label}))
            assert verify_choice(reply) == replace(example, verified=reply.usage)
            assert isinstance(verify_choice(make_reply(prompt, json.dumps({"label": misleading}))), Reject)


def test_long_and_hostile_labels_stay_one_line_of_detail() -> None:
    example = make_example(label="x\n" * 500, misleading_label="\u202e" * 500)
    prompt = choice_prompt(choice_of(example), TEMPLATE)
    reject = verify_choice(make_reply(prompt, json.dumps({"label": "\u202e" * 500})))
    assert isinstance(reject, Reject)
    assert reject.reason == "label_disputed"
    assert reject.detail.isprintable() and len(reject.detail) < 1_000


def test_a_reply_to_another_question_is_an_error() -> None:
    with pytest.raises(TypeError, match="Draft"):
        verify_choice(make_reply(make_prompt(), '{"label": "right"}'))
