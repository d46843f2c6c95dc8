"""Reasoning between the marks of all families: no draft in it becomes a row, and a text that speaks of marks does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import FinishReason
from textmint.transforms.labels.choice import Named, read_choice
from textmint.transforms.parsing.answers import READ_MAX_CHARS
from textmint.transforms.parsing.lists import parse_string_list
from textmint.transforms.parsing.objects import parse_object
from textmint.transforms.parsing.reasoning import drop_end_tokens
from textmint.transforms.parsing.results import Parsed, Refusal

EXAMPLE = {"input_text": "The invoice is wrong.", "label": "billing", "misleading_label": "shipping"}
DRAFT = {"input_text": "A draft.", "label": "draft", "misleading_label": "other draft"}
TASKS = ("Classify an e-mail by department.", "Tell a customer's mood.")

BLOCKS: dict[str, tuple[str, str]] = {  # what opens the reasoning, and what closes it or opens the answer
    "DeepSeek, Qwen": ("<think>\n", "\n</think>\n\n"),
    "upper case": ("<THINK>", "</THINK>"),
    "with attributes and spaces": ('<think effort="high">', "</think >"),
    "thinking": ("<thinking>", "</thinking>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "reflection": ("<reflection>", "</reflection>"),
    "scratchpad": ("<scratchpad>", "</scratchpad>"),
    "EXAONE": ("<thought>\n", "\n</thought>\n"),
    "a name of one's own": ("<my_inner-thoughts>", "</my_inner-thoughts>"),
    "analysis": ("<analysis>", "</analysis>"),
    "Seed-OSS": ("<seed:think>", "</seed:think>"),
    "LongCat": ("<longcat_think>", "</longcat_think>"),
    "Magistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "Cohere": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    "OpenThinker": ("<|begin_of_thought|>\n", "\n<|end_of_thought|>\n\n<|begin_of_solution|>\n"),
    "Step-Audio": ("<|THINK_START|>", "<|THINK_END|>"),
    "ether0": ("<|think_start|>", "<|think_end|><|answer_start|>"),
    "Solar": ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "Pangu": ("[unused16]", "[unused17]"),
    "Gemini": ("<ctrl94>thought\n", "<ctrl95>"),
    "s1": ("<|im_start|>think\n", "<|im_end|>\n<|im_start|>answer\n"),
    "Gemma 4": ("<|channel>thought\n", "<channel|>"),
    "Hunyuan": ("<think>\n", "\n</think>\n<answer>\n"),
    "Granite": ("Here is my thought process:\n", "\nHere is my response:\n"),
    "Granite, short": ("Here's my thought process: ", "\n\nHere's my response: "),
    "Apriel": ("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n"),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "gpt-oss, with its start": (
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|end|>\n<|start|>assistant<|channel|>final<|message|>",
    ),
    "gpt-oss, constrained": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
    ),
    "gpt-oss, commentary": (
        "<|channel|>commentary<|message|>",
        "<|end|><|start|>assistant<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "gpt-oss, no channel": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|message|>"),
    "gpt-oss without its tokens": ("analysisWe need one. ", "assistantfinal"),
}
THOUGHTS = {
    "nothing": "",
    "words": "The user wants [one], it's {easy}.",
    "a draft": json.dumps(DRAFT),
    "a draft in prose": f"Maybe {json.dumps(DRAFT)}? No, it's dull.",
    "a draft in a fence": f"Maybe:\n```json\n{json.dumps(DRAFT, indent=1)}\n```\nNo.",
    "a draft that is not closed": 'Maybe {"input_text": "A draft, no',
    "drafts of tasks": '["A draft.", "Another."]',
    "drafts of tasks in lines": "1. A draft.\n2. Another.\n",
}
ENDS = ("", "\n", "<|return|>", "<|im_end|>\n", "</s>", "</answer>", "<|end_of_solution|>", "<end_of_turn>")


@pytest.mark.parametrize("block", BLOCKS)
def test_the_answer_is_what_stands_behind_the_reasoning(block: str) -> None:
    opening, closing = BLOCKS[block]
    finish_reasons: tuple[FinishReason, ...] = ("stop", "length")
    for thought in THOUGHTS.values():
        for start in (opening, ""):  # a chat template may have opened it
            for number, finish_reason in enumerate(finish_reasons * 4):
                before, end = start + thought + closing, ENDS[number]
                example = parse_object(before + json.dumps(EXAMPLE) + end, finish_reason)
                assert isinstance(example, Parsed), (before, end, example)
                assert example.value == EXAMPLE
                tasks = parse_string_list(before + json.dumps(TASKS) + end, finish_reason)
                assert isinstance(tasks, Parsed), (before, end, tasks)
                assert tasks.value == TASKS
                if start or thought != THOUGHTS["a draft that is not closed"]:  # whose string may hold the lines
                    lines = parse_string_list(before + "1. " + "\n2. ".join((*TASKS, "")) + end, finish_reason)
                    assert isinstance(lines, Parsed), (before, end, lines)
                    assert lines.value == TASKS


@pytest.mark.parametrize("block", BLOCKS)
def test_a_reasoning_that_is_cut_off_is_truncated(block: str) -> None:
    opening, closing = BLOCKS[block]
    finish_reasons: tuple[FinishReason, ...] = ("stop", "length")
    for thought in THOUGHTS.values():
        for end in ("", closing[: len(closing.rstrip()) // 3]):
            for finish_reason in finish_reasons:
                for read in (parse_object, parse_string_list):
                    refusal = read(opening + thought + end, finish_reason)
                    assert isinstance(refusal, Refusal), (opening, thought, end, refusal)
                    assert refusal.reason == "truncated"
                assert isinstance(read_choice(opening + "billing" + end, finish_reason, "billing", "b"), Refusal)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_choice_is_what_stands_behind_the_reasoning(block: str) -> None:
    opening, closing = BLOCKS[block]
    for thought in ("shipping", '{"label": "shipping"}', "It may be shipping. " * 50):
        for start in (opening, ""):
            for answer in ("billing", '{"label": "billing"}', "The label is: billing<|im_end|>"):
                found = read_choice(start + thought + closing + answer, "stop", "billing", "shipping")
                assert isinstance(found, Named), (start, thought, answer, found)
                assert found.label == "billing"


WRITERS: dict[str, Callable[[Any], str]] = {
    "exact": json.dumps,
    "python": repr,
    "fenced": lambda value: f"```json\n{json.dumps(value, indent=1)}\n```",
    "in prose": lambda value: f"Here it is, as [asked]:\n{json.dumps(value)}\nBye!",
    "python in prose": lambda value: f"Here it's: {value!r}",
    "behind a reasoning": lambda value: f"<think>Hm, [so].</think>\n{json.dumps(value)}",
    "behind a reasoning that a template opened": lambda value: f"Hm, it's [so].</think>\n{json.dumps(value)}",
    "before a turn's end": lambda value: f"{json.dumps(value)}<|im_end|>",
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_text_may_speak_of_marks(block: str, writer: str) -> None:
    for mark in map(str.strip, BLOCKS[block]):
        for text in (f"Is {mark} a mark?", f"{mark} It's {mark}", f"one\n{mark}\ntwo"):
            example = {**EXAMPLE, "input_text": text.strip()}
            found = parse_object(WRITERS[writer](example), "stop")
            assert isinstance(found, Parsed), (text, found)
            assert found.value == example
            tasks = parse_string_list(WRITERS[writer]([text, "Another."]), "stop")
            assert isinstance(tasks, Parsed), (text, tasks)
            assert tasks.value == (text, "Another.")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_text_that_speaks_of_marks_may_be_broken(block: str) -> None:
    for mark in map(str.strip, BLOCKS[block]):
        text = f'Is "{mark}" a mark?'
        example = {**EXAMPLE, "input_text": text}
        written = json.dumps(example, ensure_ascii=False).replace('\\"', '"')  # quotation marks are not escaped
        for text in (written, written.replace('", "misl', '" "misl')):
            found = parse_object(text, "stop")
            assert isinstance(found, Parsed), (text, found)
            assert found.value == example
        # what a draft left open may have swallowed the mark, and the answer behind it
        found = parse_object(f'{{"input_text": "A "draft" {BLOCKS[block][1]}{json.dumps(EXAMPLE)}', "stop")
        assert isinstance(found, Parsed) and found.value == EXAMPLE, found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"{json.dumps(EXAMPLE)}\n<think>Was that right?", EXAMPLE),  # the answer came first, and is whole
        (f"<think>I must write </think> first. {json.dumps(DRAFT)}</think>{json.dumps(EXAMPLE)}", EXAMPLE),
        (f"<think>one</think>\n<reflection>{json.dumps(DRAFT)}</reflection>\n{json.dumps(EXAMPLE)}", EXAMPLE),
        (f"Sure! <think>{json.dumps(DRAFT)}</think><output>{json.dumps(EXAMPLE)}</output>", EXAMPLE),
        (f"Draft: {json.dumps(DRAFT)}\n<answer>{json.dumps(EXAMPLE)}</answer>", EXAMPLE),
        (f"<think>{json.dumps(DRAFT)}\n<answer>{json.dumps(EXAMPLE)}</answer>", EXAMPLE),  # never closed, yet answered
        (f"<|channel|>final<|message|>{json.dumps(EXAMPLE)}<|end|><|start|>assistant<|channel|>analysis", EXAMPLE),
        (f"<|start|>assistant<|channel|>final <|constrain|>answer<|constrain|>{json.dumps(EXAMPLE)}", EXAMPLE),
        (f"<think>{'hm ' * READ_MAX_CHARS}</think>{json.dumps(EXAMPLE)}", EXAMPLE),  # longer than what is read
        (f"hm {json.dumps(DRAFT)} {'hm ' * READ_MAX_CHARS}</think>{json.dumps(EXAMPLE)}", EXAMPLE),
    ],
)
def test_several_marks(text: str, value: dict[str, str]) -> None:
    found = parse_object(text, "stop")
    assert isinstance(found, Parsed), found
    assert found.value == value


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        (f"{json.dumps(DRAFT)}<think>No.</think>", "stop", "empty"),
        (f"{json.dumps(DRAFT)}<think>No.</think>\n", "length", "truncated"),
        (f"<think>{json.dumps(DRAFT)}\n<answer>{json.dumps(EXAMPLE)}</answer>", "length", "truncated"),
        (f"<|channel|>commentary<|message|>{json.dumps(DRAFT)}<|end|>", "stop", "truncated"),
        (f"Maybe {json.dumps(DRAFT)}?\n<think>", "length", "truncated"),
        (f"<think>hm</think> or {json.dumps(DRAFT)}, but", "length", "truncated"),
    ],
)
def test_what_is_no_answer(text: str, finish_reason: FinishReason, reason: str) -> None:
    refusal = parse_object(text, finish_reason)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.reason == reason


DRAFTS = {  # of models that are not trained to reason, in an element or under a heading of any name
    "an element": "<plan>\n{}\n</plan>\n\n",
    "a template opened it": "{}\n</brainstorm>\n",
    "in each other": '<notes kind="own"><step>{0}</step><step>{0}</step></notes>',
    "square brackets": "[DRAFT] {} [/DRAFT]\n",
    "another case": "[thinking] {} [/thinking]\n",
    "another script": "<思考>{}</思考>",
    "details": '<details type="reasoning"><summary>Thinking</summary>\n{}\n</details>\n',
    "a heading": "### Reasoning\n{}\n### Answer\n",
    "a bold heading": "**Draft**\n\n{}\n\n**Final version:**\n\n",
    "words": "Reasoning: {}\nFinal answer: ",
    "harmony without tokens": "analysis\n\n{}\n\nfinal\n\n",
}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_gives_way_to_the_answer_behind_it(name: str) -> None:
    for thought in (THOUGHTS["a draft"], THOUGHTS["a draft in prose"], THOUGHTS["a draft in a fence"]):
        for writer in ("exact", "python", "fenced"):
            example = {**EXAMPLE, "input_text": "Use <b>bold</b> [b]text[/b]\n</plan>\nAnswer:\n{}"}
            text = DRAFTS[name].format(thought) + WRITERS[writer](example)
            found = parse_object(text, "stop")
            assert isinstance(found, Parsed) and found.value == example, (text, found)
            assert "prose" in found.repairs or "reasoning" in found.repairs
    for thought in ("drafts of tasks", "drafts of tasks in lines"):
        tasks = parse_string_list(DRAFTS[name].format(THOUGHTS[thought]) + json.dumps(TASKS), "stop")
        assert isinstance(tasks, Parsed) and tasks.value == TASKS, (name, thought, tasks)


@pytest.mark.parametrize(
    "text",
    [
        f"<example>{json.dumps(EXAMPLE)}</example>\n<example>{json.dumps(DRAFT)}</example>",
        f"<json>\n{json.dumps(EXAMPLE)}\n</json>\n{{'confidence': 1}}",
        f'<record>{json.dumps(EXAMPLE)}</record> <note>See {{"a": 1}}.</note>',
        f'Answer:\n{json.dumps(EXAMPLE)}\nAnswer:\n{{"none": 0}}',
        f"{json.dumps(EXAMPLE)}\n**Answer:** billing",
    ],
)
def test_an_element_or_heading_alone_costs_no_answer(text: str) -> None:
    found = parse_object(text, "stop")
    assert isinstance(found, Parsed) and found.value == EXAMPLE, found


def test_no_part_of_a_broken_text_is_taken_for_an_element() -> None:
    """What json_repair mends is the text as it came."""
    text = json.dumps({**EXAMPLE, "input_text": "Use <b>bold</b> <plan>now</plan>."}).replace('",', '"')
    found = parse_object(f"<plan>One.</plan>\n{text}", "stop")
    assert isinstance(found, Parsed) and found.value["input_text"] == "Use <b>bold</b> <plan>now</plan>.", found


@pytest.mark.parametrize(
    "text", ["I like <b>bold</b>", "a < b > c", "see [1]", "List<Reason", "[thinking]", "the assistant final answer"]
)
def test_other_brackets_and_words_are_no_marks(text: str) -> None:
    found = parse_object(f"{text}: {json.dumps(EXAMPLE)}", "stop")
    assert found == Parsed(value=EXAMPLE, repairs=("prose",))


def test_tokens_that_end_a_turn_are_dropped() -> None:
    assert drop_end_tokens("1. A task.<|im_end|>\n<|endoftext|> ") == "1. A task."
    assert drop_end_tokens("a <b> [c]") == "a <b> [c]"
    assert drop_end_tokens("x" + "</s>" * 9) == "x</s>"  # the work is bounded


MARKS = st.sampled_from([mark for block in BLOCKS.values() for mark in block])
PIECES = st.one_of(MARKS, st.sampled_from([*"{}[]\"'`,: \n", json.dumps(DRAFT), '["A draft."]', "it's", "```json\n"]))


@settings(deadline=None, max_examples=200)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_is_thought_the_answer_is_read_or_refused(thought: str) -> None:
    """Never a draft, and never half an answer."""
    text = f"<think>{thought}</think>{json.dumps(EXAMPLE)}"
    found = parse_object(text, "stop")
    assert isinstance(found, Refusal) or found.value == EXAMPLE, found
    tasks = parse_string_list(f"<think>{thought}</think>{json.dumps(TASKS)}", "stop")
    assert isinstance(tasks, Refusal) or tasks.value == TASKS, tasks
