"""Where endpoints put what a model wrote: the same places for every back end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.elements import Reject
from textmint.transforms.llm.gemini import read_reply
from textmint.transforms.llm.http import Reading
from textmint.transforms.llm.openai import read_chat
from textmint.transforms.llm.reply_text import choice_text
from textmint.transforms.llm.vertex_endpoint import read_prediction
from textmint.transforms.parse_json import read_example

from tests.support.helpers import make_prompt, make_reply

EXAMPLE = '{"input_text": "It rains.", "label": "weather", "misleading_label": "sport"}'
FIELDS = json.loads(EXAMPLE)
THOUGHT = f"Perhaps {EXAMPLE.replace('rains', 'snows')}? No."
PLACES: list[tuple[dict[str, Any], str]] = [
    ({"content": EXAMPLE}, EXAMPLE),
    ({"content": EXAMPLE, "reasoning_content": THOUGHT, "tool_calls": []}, EXAMPLE),
    ({"content": [{"type": "text", "text": EXAMPLE[:9]}, {"type": "output_text", "text": EXAMPLE[9:]}]}, EXAMPLE),
    ({"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": EXAMPLE}]}, EXAMPLE),
    ({"content": [EXAMPLE]}, EXAMPLE),
    ({"content": {"type": "text", "text": EXAMPLE}}, EXAMPLE),
    # a server that takes reasoning apart, and a model that never closed it
    ({"content": None, "reasoning_content": EXAMPLE}, EXAMPLE),
    ({"content": "", "reasoning": EXAMPLE}, EXAMPLE),
    ({"content": " \n", "reasoning": {"content": EXAMPLE}}, EXAMPLE),
    ({"reasoning_details": [{"type": "reasoning.text", "text": EXAMPLE}]}, EXAMPLE),
    ({"reasoning": EXAMPLE, "reasoning_details": [{"type": "reasoning.summary", "summary": EXAMPLE}]}, EXAMPLE),
    ({"content": [{"type": "thinking", "thinking": EXAMPLE}]}, EXAMPLE),
    ({"content": [], "reasoning_content": EXAMPLE}, EXAMPLE),
    # structured output as a tool call, whose arguments are the answer and not what was thought before it
    ({"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": EXAMPLE}}]}, EXAMPLE),
    ({"content": "", "tool_calls": [{"function": {"name": "f", "arguments": FIELDS}}], "reasoning": THOUGHT}, EXAMPLE),
    ({"content": None, "tool_calls": {"function": {"arguments": EXAMPLE}}}, EXAMPLE),
    ({"content": None, "tool_calls": None, "function_call": {"name": "f", "arguments": EXAMPLE}}, EXAMPLE),
    ({"content": None, "function_call": {"arguments": FIELDS}}, EXAMPLE),
    ({"content": None, "tool_calls": [{"custom": {"name": "f", "input": EXAMPLE}}]}, EXAMPLE),
    ({"content": [{"type": "tool_use", "id": "t", "name": "f", "input": FIELDS}]}, EXAMPLE),
    ({"content": None, "tool_calls": [{"function": {"arguments": "{}"}}], "reasoning": EXAMPLE}, EXAMPLE),
    ({"content": "I call it.", "tool_calls": [{"function": {"arguments": EXAMPLE}}]}, f"I call it.\n{EXAMPLE}"),
    ({"content": "It is in [1].", "tool_calls": [{"function": {"arguments": EXAMPLE}}]}, "It is in [1]."),
    ({"content": "<think>\n\n</think>\n<|im_end|>", "reasoning": EXAMPLE}, EXAMPLE),  # nothing but marks
    ({"content": "</think>", "reasoning": None}, "</think>"),
    ({"content": "", "thinking_blocks": [{"type": "thinking", "thinking": EXAMPLE}]}, EXAMPLE),  # LiteLLM
    ({"content": None, "refusal": "I cannot."}, "I cannot."),
    # nothing came, and it is not made up
    ({"content": None}, ""),
    ({"content": "", "reasoning": None, "tool_calls": [], "refusal": None, "annotations": [], "audio": None}, ""),
    ({"role": "assistant", "content": None, "provider_specific_fields": {"refusal": None}}, ""),
    ({"content": [{"type": "image_url", "image_url": {"url": ""}}]}, ""),
]


@pytest.mark.parametrize(("message", "text"), PLACES)
def test_places_of_a_message(message: dict[str, Any], text: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    found = choice_text(choice, "stop")
    assert found is not None and found.strip() == text
    read = read_chat({"choices": [choice]}, {}, "it")
    assert isinstance(read, Reading) and read.text.strip() == text
    delta = {"delta": choice["message"]}
    assert choice_text(delta, "stop") == found


def test_places_of_a_choice() -> None:
    assert choice_text({"text": EXAMPLE}, "stop") == EXAMPLE
    assert choice_text({"text": EXAMPLE, "message": {"content": None}}, "stop") == EXAMPLE
    assert choice_text({"message": EXAMPLE}, "stop") == EXAMPLE
    assert choice_text({"message": {"content": None}, "reasoning_content": EXAMPLE}, "stop") == EXAMPLE
    assert choice_text({"index": 0}, "stop") is None


@pytest.mark.parametrize(
    "prediction",
    [
        {"message": 1, "content": "", "reasoning_content": EXAMPLE},
        {"content": None, "tool_calls": [{"function": {"arguments": FIELDS}}]},
        {"choices": [{"message": {"content": None, "reasoning": EXAMPLE}}]},
    ],
)
def test_places_of_a_prediction(prediction: dict[str, Any]) -> None:
    read = read_prediction([prediction], "?", {}, "it")
    assert isinstance(read, Reading) and read.text == EXAMPLE


def gemini(parts: object, finish: str = "STOP", **more: object) -> str:
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, **more}
    found = read_reply({"candidates": [candidate]}, "it")
    assert found is not None
    return found.text


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": THOUGHT, "thought": True}, {"text": EXAMPLE}],
        [{"text": EXAMPLE, "thought": True}],
        [{"text": EXAMPLE, "thought": True}, {"text": " "}],
        [{"functionCall": {"name": "f", "args": FIELDS}}],
        [{"text": THOUGHT, "thought": True}, {"functionCall": {"name": "f", "args": FIELDS}}],
    ],
)
def test_places_of_geminis_parts(parts: list[Any]) -> None:
    assert gemini(parts) == EXAMPLE


def test_what_has_no_place_is_kept_as_it_came() -> None:
    message = {"role": "assistant", "content": None, "audio": {"transcript": "It rains."}}
    found = choice_text({"message": message}, "stop")
    assert found is not None and json.loads(found) == message
    part = {"executableCode": {"code": "print(1)"}}
    assert json.loads(gemini([part]))["parts"] == [part]
    assert gemini([], "MALFORMED_FUNCTION_CALL", finishMessage="Malformed: f(x") == "Malformed: f(x"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_reasoning_that_was_cut_off_is_no_answer(name: str) -> None:
    """There is a whole draft in it, which the model may have thought better of."""
    text = choice_text({"message": {"content": "", name: THOUGHT}}, "length")
    assert text is not None and text.endswith(THOUGHT)
    assert gemini([{"text": THOUGHT, "thought": True}], "MAX_TOKENS") == text
    found = read_example(make_reply(make_prompt(), text, "length"), keep_raw=False)
    assert isinstance(found, Reject) and (found.reason, found.raw_reply) == ("truncated", text)


@pytest.mark.parametrize(
    ("thought", "is_row"),
    [
        (EXAMPLE, True),
        (f"```json\n{EXAMPLE}\n```\n", True),
        (f"{EXAMPLE}<|im_end|>", True),
        (f"{EXAMPLE[:-1]},}}", True),
        (EXAMPLE.replace('",', '"'), True),  # broken, and mended
        (f"I [should] write one.\n{EXAMPLE}", True),
        (f"{THOUGHT} Better:\n{EXAMPLE}", True),
        (f"{THOUGHT}</think>{EXAMPLE}", True),
        (f"{THOUGHT} Better:\n```json\n{EXAMPLE}\n```", True),
        (THOUGHT, False),  # thought better of, and nothing in its place
        (f"{EXAMPLE} is too dull.", False),
        (f"```json\n{EXAMPLE}\n```\nI may do better", False),
    ],
)
def test_of_a_reasoning_only_what_it_ends_with_is_an_answer(thought: str, is_row: bool) -> None:
    text = choice_text({"message": {"content": None, "reasoning": thought}}, "stop")
    assert text is not None and gemini([{"text": thought, "thought": True}]) == text
    found = read_example(make_reply(make_prompt(), text), keep_raw=True)
    assert isinstance(found, Reject) != is_row, found
    if not isinstance(found, Reject):
        assert found.input_text == FIELDS["input_text"]


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["content", "reasoning", "tool_calls", "function", "arguments", "text", "type", "parts"]), inner
)))  # fmt: skip
def test_any_message(message: Any) -> None:
    found = choice_text({"message": message}, "stop")
    assert found is None or isinstance(found, str)
