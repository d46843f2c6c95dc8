"""ParseJSON: one reply becomes one example or one reject, and the counters say which."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.elements import FILTERED, REASONS, Draft, Example, FinishReason, Reject, Reply
from textmint.transforms.parse_json import ParseJSON, read_example

from tests.support.helpers import (
    REPLY,
    make_brainstorm_prompt,
    make_prompt,
    make_reject,
    make_reply,
    run_step,
    shuffled,
)

BAD: dict[str, tuple[str, FinishReason]] = {
    "empty": (" \n", "stop"),
    "blocked": ("", "content_filter"),
    "truncated": ('{"input_text": "It ra', "length"),
    "not_json": ("I would rather not.", "stop"),
    "wrong_shape": ("[1, 2]", "stop"),
    "missing_field": ('{"input_text": "It rains.", "label": "weather"}', "stop"),
    "wrong_type": ('{"input_text": "It rains.", "label": 3, "misleading_label": "sport"}', "stop"),
    "empty_field": ('{"input_text": "It rains.", "label": " ", "misleading_label": "sport"}', "stop"),
}
MENDED = {
    "fence": f"```json\n{REPLY}\n```",
    "quotes": REPLY.replace('"', "'"),
    "trailing_comma": REPLY.replace("}", ",}"),
    "extra_keys": REPLY.replace("}", ', "note": "x"}'),
}


def test_an_example_holds_all_that_its_row_needs() -> None:
    reply = make_reply(make_prompt("Sort bees", 3))
    draft = reply.prompt.subject
    assert isinstance(draft, Draft)
    assert read_example(reply, keep_raw=False) == Example(
        id=draft.draft_id,
        task_id=draft.task_id,
        task="Sort bees",
        input_text="It rains.",
        label="weather",
        misleading_label="sport",
        language="English",
        difficulty="college",
        clarity="clear",
        num_words="at least 10",
        replica=3,
        prompt="Do: Sort bees #3",
        template="classify@0",
        model="m-1",
        finish_reason="stop",
        prompt_tokens=7,
        output_tokens=5,
        raw_reply="",
        seed=42,
    )


@pytest.mark.parametrize("reason", BAD)
def test_a_reject_explains_itself(reason: str) -> None:
    text, finish_reason = BAD[reason]
    reject = read_example(make_reply(make_prompt(), text, finish_reason), keep_raw=False)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.stage, reject.raw_reply) == (reason, "ParseJSON", text)
    assert reject.id == make_prompt().prompt_id
    assert reject.can_retry == (reason != "blocked")
    assert reject.detail
    assert "\n" not in reject.detail
    assert (reject.task, reject.replica, reject.prompt) == ("Sort mail by topic", 0, "Do: Sort mail by topic #0")
    assert (reject.model, reject.finish_reason, reject.output_tokens) == ("m-1", finish_reason, 5)


def test_only_a_reply_that_a_filter_stopped_may_be_asked_for_again() -> None:
    found = {}
    for finish in ("content_filter", "reply_filter"):
        reject = read_example(make_reply(make_prompt(), REPLY, finish), keep_raw=False)
        assert isinstance(reject, Reject)
        found[finish] = (reject.reason, reject.can_retry, reject.detail)
    assert found == {
        "content_filter": ("blocked", False, "the provider's filter withholds the answer to this prompt"),
        "reply_filter": ("blocked", True, "the provider's filter stopped this reply"),
    }


def test_the_raw_reply_is_kept_when_asked_for() -> None:
    text = f"Here you are \ud83d\n{REPLY}"
    kept = read_example(make_reply(make_prompt(), text), keep_raw=True)
    assert isinstance(kept, Example)
    assert kept.raw_reply == f"Here you are \ufffd\n{REPLY}"
    dropped = read_example(make_reply(make_prompt(), text), keep_raw=False)
    assert isinstance(dropped, Example)
    assert dropped.raw_reply == ""


def test_a_reply_to_another_question_is_an_error() -> None:
    with pytest.raises(TypeError, match="TaskSeed"):
        read_example(make_reply(make_brainstorm_prompt()), keep_raw=False)


@given(st.text(), st.sampled_from(get_args(FinishReason)))
def test_no_reply_raises_and_none_is_lost(text: str, finish_reason: FinishReason) -> None:
    result = read_example(make_reply(make_prompt(), text, finish_reason), keep_raw=True)
    if isinstance(result, Reject):
        assert result.reason in REASONS
    else:
        assert result.label.strip() and result.misleading_label.strip() and result.input_text.strip()
        assert finish_reason not in FILTERED
    result.raw_reply.encode()


def test_the_step_and_its_counters() -> None:
    texts = [(REPLY, "stop"), *BAD.values(), *((text, "stop") for text in MENDED.values())]
    replies = [
        make_reply(make_prompt("Sort bees", n), text, reason)  # type: ignore[arg-type]
        for n, (text, reason) in enumerate(texts)
    ]
    passing = make_reject("Another task", reason="request_failed")
    ran = run_step(ParseJSON(), shuffled([passing, *replies]), Reply)
    assert sorted(example.replica for example in ran.of(Example)) == [0, *range(9, 13)]
    rejects = [reject for reject in ran.of(Reject) if reject != passing]
    assert {reject.replica: reject.reason for reject in rejects} == dict(enumerate(BAD, start=1))
    assert len(ran.elements) == len(replies) + 1
    assert ran.counters == {
        "ParseJSON/in": 13,
        "ParseJSON/kept": 5,
        **{f"ParseJSON/rejected.{reason}": 1 for reason in BAD},
        **{f"ParseJSON/repaired.{repair}": 1 for repair in MENDED},
    }
