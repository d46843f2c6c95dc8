"""Replies as models really send them, cut off at every place, and made up by hypothesis."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import REASONS, FinishReason
from textmint.transforms.core.texts import clean_text
from textmint.transforms.parsing.answers import READ_MAX_CHARS
from textmint.transforms.parsing.lists import parse_string_list
from textmint.transforms.parsing.objects import EXAMPLE_FIELDS, parse_object
from textmint.transforms.parsing.repair import REPAIR_MAX_CHARS, REPAIR_MAX_WORK
from textmint.transforms.parsing.results import REPAIRS, Parsed, Refusal

FINISH: tuple[FinishReason, ...] = get_args(FinishReason)

MAIL = {"input_text": "The invoice is wrong.", "label": "billing", "misleading_label": "shipping"}
OTHER = {"input_text": "Where is my parcel?", "label": "shipping", "misleading_label": "billing"}
TASKS = ("Classify an e-mail by department.", "Tell a customer's mood.", "Find the topic of a news text.")

JSON_LIST = json.dumps(TASKS)
EXACT = json.dumps(MAIL)
SECOND = json.dumps(OTHER)


def fields(input_text: object = "x", label: object = "a", misleading_label: object = "b") -> dict[str, Any]:
    return {"input_text": input_text, "label": label, "misleading_label": misleading_label}


OBJECTS: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "exact": (EXACT, MAIL, set()),
    "exact, indented, other order": (json.dumps(dict(reversed(MAIL.items())), indent=2) + "\n", MAIL, set()),
    "fence with a language": (f"```json\n{EXACT}\n```", MAIL, {"fence"}),
    "fence without a language": (f"```\n{EXACT}\n```\n", MAIL, {"fence"}),
    "fence on one line": (f"```json {EXACT} ```", MAIL, {"fence"}),
    "fence of tildes": (f"~~~json\n{EXACT}\n~~~", MAIL, {"fence"}),
    "fence never closed": (f"```json\n{EXACT}", MAIL, {"fence"}),
    "fence inside a string": (json.dumps(fields("```py\nx = {1}\n```")), fields("```py\nx = {1}\n```"), set()),
    "fence and fence inside a string": (
        "```json\n" + json.dumps(fields("```py\nx\n```")) + "\n```",
        fields("```py\nx\n```"),
        {"fence"},
    ),
    "prose before": (f"Sure! Here is an example:\n\n{EXACT}", MAIL, {"prose"}),
    "prose after": (f"{EXACT}\n\nLet me know if you'd like another one!", MAIL, {"prose"}),
    "prose with braces and an apostrophe": (f"Here's {{the}} example: {EXACT} (it's [1] of {{n}})", MAIL, {"prose"}),
    "prose with quotes in brackets": (f'I\'d say ["quoted" words], so: {EXACT}', MAIL, {"prose"}),
    "prose with an opening bracket and quote": (f'An opening [" is not "[, so: {EXACT}', MAIL, {"prose"}),
    "prose and fence": (f"Here you go:\n```json\n{EXACT}\n```\nHope it's fine.", MAIL, {"fence", "prose"}),
    "python": (repr(MAIL), MAIL, {"quotes"}),
    "python, escapes": (
        r"""{'input_text': 'It\'s "so"\n\\ \u00e9\x41\U0001F600 \ud83d\ude00',"""
        """ 'label': "it's", 'misleading_label': 'b'}""",
        fields('It\'s "so"\n\\ éA😀 😀', "it's"),
        {"quotes", "escapes"},
    ),
    "python, apostrophes not escaped": (
        "{'input_text': 'It's the customer's fault', 'label': 'isn't', 'misleading_label': 'b'}",
        fields("It's the customer's fault", "isn't"),
        {"quotes", "inner_quotes"},
    ),
    "python, triple quotes": (
        '{"input_text": """He said "no".\nTwice.""", "label": \'a\', "misleading_label": "b"}',
        fields('He said "no".\nTwice.'),
        {"quotes", "raw_newline"},
    ),
    "python, joined strings": (
        "{'input_text': 'one '\n    'two', 'label': 'a' + 'b', 'misleading_label': 'b'}",
        fields("one two", "ab"),
        {"quotes", "joined_strings"},
    ),
    "python literals in extra keys": (
        "{'input_text': 'x', 'label': 'a', 'misleading_label': 'b', 'ok': True, 'no': None, 'n': -1.5e3, 'l': [1, {}]}",
        fields(),
        {"quotes", "literals", "extra_keys"},
    ),
    "json literals in a python dict": (
        "{'input_text': 'x', 'label': 'a', 'misleading_label': 'b', 'ok': true, 'no': null}",
        fields(),
        {"quotes", "extra_keys"},
    ),
    "an assignment": (f"example = {MAIL!r}", MAIL, {"quotes", "prose"}),
    "trailing commas": (f"[{EXACT[:-1]},}},]", MAIL, {"trailing_comma", "one_element_list"}),
    "raw newline and tab": (
        '{"input_text": "Dear all,\n\n\tno.", "label": "a", "misleading_label": "b"}',
        fields("Dear all,\n\n\tno."),
        {"raw_newline"},
    ),
    "one-element list": (f"[{EXACT}]", MAIL, {"one_element_list"}),
    "one-element list in a fence": (f"```json\n[\n  {EXACT}\n]\n```", MAIL, {"one_element_list", "fence"}),
    "escaped as in a string, in prose": (
        "It's \"" + json.dumps(json.dumps(fields('It\'s 5, he said: "no".')))[1:-1] + '"!',
        fields('It\'s 5, he said: "no".'),
        {"json_string"},
    ),
    "const of a schema": (
        json.dumps({"type": "object", "properties": {k: {"type": "string", "const": v} for k, v in MAIL.items()}}),
        MAIL,
        {"wrapped_object"},
    ),
    "values": (json.dumps({key: {"value": value} for key, value in MAIL.items()}), MAIL, {"wrapped_object"}),
    "back ticks": ("{" + ", ".join(f"`{key}`: `{value}`" for key, value in MAIL.items()) + "}", MAIL, {"quotes"}),
    "Ethiopic": (
        "{" + "፣ ".join(f"❝{key}❞፡ ❝{value}❞" for key, value in MAIL.items()) + "}",
        MAIL,
        {"quotes", "punctuation"},
    ),
    "several in a list": (f"[{EXACT}, {SECOND}]", MAIL, {"several_objects"}),
    "json lines": (f"{EXACT}\n{SECOND}\n", MAIL, {"several_objects"}),
    "several with prose": (f"1. {EXACT}\n2. {SECOND}", MAIL, {"several_objects", "prose"}),
    "first incomplete": (f'{{"input_text": "x"}}\n{EXACT}', MAIL, {"several_objects"}),
    "first blank": (f"[{json.dumps(fields(' '))}, {EXACT}]", MAIL, {"several_objects"}),
    "first of wrong type": (f"[{json.dumps(fields(label=1))}, {EXACT}]", MAIL, {"several_objects"}),
    "second cut off": (f'{EXACT}\n{{"input_text": "Where is', MAIL, {"several_objects"}),
    "several, the first broken": (
        f'{{"input_text": "x", "label": "a" "misleading_label": "b"}}\n{SECOND}',
        OTHER,
        {"several_objects", "prose"},
    ),
    "several, all broken": (
        '{"input_text": "x", "label": "a" "misleading_label": "b"}\n{"input_text": "y" "label": "a"}',
        fields(),
        {"syntax", "prose"},
    ),
    "extra keys": (json.dumps({**MAIL, "explanation": "because"}), MAIL, {"extra_keys"}),
    "a long number in an extra key": (f'{EXACT[:-1]}, "n": {"9" * 5000}}}', MAIL, {"extra_keys"}),
    "a key twice with the same value": ('{"label": " billing", ' + EXACT[1:], MAIL, {"repeated_keys"}),
    "a key twice with the same value, in python": (
        "{'LABEL': 'billing', " + repr(MAIL)[1:],
        MAIL,
        {"quotes", "repeated_keys"},
    ),
    "in an object": (json.dumps({"example": MAIL}), MAIL, {"wrapped_object"}),
    "in an object, with other keys": (json.dumps({"ok": True, "n": [1], "output": MAIL}), MAIL, {"wrapped_object"}),
    "in an object, in python": (repr({"example": MAIL}), MAIL, {"quotes", "wrapped_object"}),
    "in an object, fenced": (f'```json\n{{"example": {EXACT}}}\n```', MAIL, {"fence", "wrapped_object"}),
    "in an object, in prose": (f"Here: {{'example': {EXACT}}}", MAIL, {"prose", "quotes", "wrapped_object"}),
    "in an object, broken": (
        '{"example": {"input_text": "x", "label": "a" "misleading_label": "b"}}',
        fields(),
        {"syntax", "wrapped_object"},
    ),
    "in an object, not closed": (f'{{"example": {EXACT}', MAIL, {"missing_close", "wrapped_object"}),
    "in a list in an object": (json.dumps({"examples": [MAIL]}), MAIL, {"wrapped_object"}),
    "in objects in one another": (json.dumps({"a": [{"b": {"c": MAIL}}]}), MAIL, {"wrapped_object"}),
    "twice the same in an object": (json.dumps({"first": MAIL, "second": MAIL}), MAIL, {"wrapped_object"}),
    "in an object, with an incomplete one": (
        json.dumps({"bad": {"label": "x"}, "good": MAIL}),
        MAIL,
        {"wrapped_object"},
    ),
    "under the name of a field": (json.dumps({"input_text": MAIL, "label": "billing"}), MAIL, {"wrapped_object"}),
    "in a schema": (
        json.dumps({"type": "object", "properties": MAIL, "required": list(MAIL)}),
        MAIL,
        {"wrapped_object"},
    ),
    "in a schema, beside the types": (
        json.dumps({"type": "object", "properties": {key: {"type": "string", "value": MAIL[key]} for key in MAIL}}),
        MAIL,
        {"wrapped_object"},
    ),
    "beside a schema": (
        json.dumps({"type": "object", "properties": {key: {"type": "string"} for key in MAIL}, "example": MAIL}),
        MAIL,
        {"wrapped_object"},
    ),
    "in objects in a list": (
        json.dumps([{"example": MAIL}, {"example": OTHER}]),
        MAIL,
        {"several_objects", "wrapped_object"},
    ),
    "a JSON string": (json.dumps(EXACT), MAIL, {"json_string"}),
    "a JSON string of a JSON string": (json.dumps(json.dumps(EXACT)), MAIL, {"json_string"}),
    "a JSON string in a fence": (f"```json\n{json.dumps(EXACT)}\n```", MAIL, {"json_string", "fence"}),
    "a JSON string in a list": (json.dumps([EXACT]), MAIL, {"json_string"}),
    "a JSON string in an object": (json.dumps({"output": EXACT}), MAIL, {"json_string", "wrapped_object"}),
    "a fence in a JSON string": (json.dumps(f"```json\n{EXACT}\n```"), MAIL, {"json_string", "fence"}),
    "python in a JSON string": (json.dumps(repr(MAIL)), MAIL, {"json_string", "quotes"}),
    "keys escaped for Markdown": (
        r'{"input\_text": "a snake\_case name", "label": "a\_b", "misleading\_label": "b"}',
        {"input_text": "a snake_case name", "label": r"a\_b", "misleading_label": "b"},  # its own key is not escaped
        {"escapes", "key_spelling"},
    ),
    "bare keys escaped for Markdown": (
        r"{input\_text: 'x', label: 'a', misleading\_label: 'b'}",
        fields(),
        {"bare_keys", "key_spelling", "quotes"},
    ),
    "keys in other case": (
        EXACT.replace('"label', '"Label').replace("input_text", "INPUT_TEXT"),
        MAIL,
        {"key_spelling"},
    ),
    "keys with spaces": (
        EXACT.replace("input_text", "Input text").replace("misleading_label", " Misleading Label "),
        MAIL,
        {"key_spelling"},
    ),
    "bare keys with spaces": (
        "{Input text: 'x', Label: 'a', Misleading label: 'b'}",
        fields(),
        {"bare_keys", "key_spelling", "quotes"},
    ),
    "keys with hyphens": (EXACT.replace("t_t", "t-t").replace("g_l", "g-l"), MAIL, {"key_spelling"}),
    "keys in camelCase": (EXACT.replace("t_t", "tT").replace("g_l", "gL"), MAIL, {"key_spelling"}),
    "full-width commas and colons": (EXACT.replace('", "', '"，"').replace('": "', '"："'), MAIL, {"punctuation"}),
    "Chinese commas": (EXACT.replace('", "', '"、"'), MAIL, {"punctuation"}),
    "Arabic commas": (EXACT.replace('", "', '"، "'), MAIL, {"punctuation"}),
    "Arabic semicolons": (EXACT.replace('", "', '"؛ "'), MAIL, {"punctuation"}),
    "full-width quotes": (EXACT.replace('"', "＂"), MAIL, {"quotes"}),
    "corner brackets": (
        "{「input_text」：「他说「好」，走了」，「label」：「a」，「misleading_label」：「b」}",
        fields("他说「好」，走了"),
        {"quotes", "punctuation"},
    ),
    "guillemets": (
        "{«input_text»: «He said «yes», twice», «label»: «a», «misleading_label»: «b»}",
        fields("He said «yes», twice"),
        {"quotes"},
    ),
    "full-width braces": (
        "｛“input_text”：“x”，“label”：“a”，“misleading_label”：“b”｝",
        fields(),
        {"quotes", "punctuation"},
    ),
    "other scripts' punctuation in a text": (
        json.dumps(fields("一，二：「三」、«四»")) + "!",
        fields("一，二：「三」、«四»"),
        {"prose"},
    ),
    "reasoning": (f"<think>\nThe user wants one.\n</think>\n\n{EXACT}", MAIL, {"reasoning"}),
    "reasoning with a draft": (f"<think>\nMaybe {SECOND}? No.\n</think>\n{EXACT}", MAIL, {"reasoning"}),
    "reasoning not opened": (f"Okay, maybe {SECOND}.\n</think>\n```json\n{EXACT}\n```", MAIL, {"reasoning", "fence"}),
    "reasoning twice": (f"<think>{SECOND}</think> Well. <think>no: {SECOND}</think>{EXACT}", MAIL, {"reasoning"}),
    "a tag of reasoning in a string": (
        "```json\n" + json.dumps(fields("Is </think> a tag?")) + "\n```",
        fields("Is </think> a tag?"),
        {"fence"},
    ),
    "typographic quotes": (
        "{“input_text”: “It’s " + '"so"' + "”, “label”: „a“, “misleading_label”: ‘b’}",
        fields('It’s "so"'),
        {"quotes"},
    ),
    "byte order mark": (f"\ufeff{EXACT}", MAIL, {"bom"}),
    "comments": (
        '{"input_text": "see http://x.y # 1", // the text\n "label": "a", /* right */\n'
        ' "misleading_label": "b" # wrong\n}',
        fields("see http://x.y # 1"),
        {"comments"},
    ),
    "keys without quotes": ('{input_text: "x", label: "a", misleading_label: "b"}', fields(), {"bare_keys"}),
    "inner quotes": (
        '{"input_text": "He said "hello" to me", "label": "a", "misleading_label": "b"}',
        fields('He said "hello" to me'),
        {"inner_quotes"},
    ),
    "inner quotes before a comma": (
        '{"input_text": "He said "yes", then left", "label": "a", "misleading_label": "b"}',
        fields('He said "yes", then left'),
        {"syntax"},
    ),
    "inner quotes that may be a joint": (
        '{"input_text": "Say "yes"  "no" now", "label": "a", "misleading_label": "b"}',
        fields('Say "yes"  "no" now'),
        {"syntax"},
    ),
    "missing comma": ('{"input_text": "x", "label": "a" "misleading_label": "b"}', fields(), {"syntax"}),
    "escaped as a whole": (EXACT.replace('"', '\\"'), MAIL, {"syntax"}),
    "broken, with prose around": (
        'Here:\n{"input_text": "x", "label": "a" "misleading_label": "b"}\nHope it is "good".',
        fields(),
        {"syntax", "prose"},
    ),
    "broken, in a list": (
        '[{"input_text": "x", "label": "a" "misleading_label": "b"}]',
        fields(),
        {"syntax", "one_element_list"},
    ),
    "closing brace missing": (EXACT[:-1], MAIL, {"missing_close"}),
    "closing brace missing in a fence": (f"```json\n{EXACT[:-1]}\n```", MAIL, {"missing_close", "fence"}),
    "closing bracket of the list missing": (f"[{EXACT}", MAIL, {"missing_close", "one_element_list"}),
    "white space around values": (json.dumps(fields(" x\n", "\ta", "b\u3000")), fields(), set()),
    "emoji and right to left": (
        json.dumps(fields("👩‍👩‍👧 שלום", "مرحبا", "👍🏽"), ensure_ascii=False),
        fields("👩‍👩‍👧 שלום", "مرحبا", "👍🏽"),
        set(),
    ),
    "escaped surrogate pair": (
        r'{"input_text": "\ud83d\ude00", "label": "a", "misleading_label": "b"}',
        fields("😀"),
        set(),
    ),
    "lone surrogates": (
        r'{"input_text": "x\ud83d y", "label": "\ude00a", "misleading_label": "b"}',
        fields("x\ufffd y", "\ufffda"),
        {"surrogates"},
    ),
    "escapes that JSON does not know": (
        r'{"input_text": "it\'s 5\_000 \$ C:\users", "label": "a", "misleading_label": "b"}',
        fields(r"it's 5\_000 \$ C:\users"),
        {"escapes"},
    ),
    "NUL": (json.dumps(fields("a\0b")), fields("a\0b"), set()),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_that_are_taken(name: str) -> None:
    text, value, repairs = OBJECTS[name]
    assert parse_object(text, "stop") == Parsed(value=value, repairs=tuple(sorted(repairs)))
    assert repairs <= REPAIRS.keys()


IN_TALK = (  # other text before and behind the value
    "prose with braces and an apostrophe",
    "prose and fence",
    "several with prose",
    "broken, with prose around",
)


@pytest.mark.parametrize(
    "name", [name for name in OBJECTS if not {"missing_close", "reasoning"} & OBJECTS[name][2] and name not in IN_TALK]
)
def test_a_complete_object_is_taken_at_the_token_limit_too(name: str) -> None:
    text, _, _ = OBJECTS[name]
    assert parse_object(text, "length") == parse_object(text, "stop")


@pytest.mark.parametrize("name", IN_TALK)
def test_a_value_in_talk_that_the_token_limit_cut_off_may_be_a_draft(name: str) -> None:
    """A chat template may have opened the reasoning, and the closing mark never came."""
    refusal = parse_object(OBJECTS[name][0], "length")
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, "draft" in refusal.detail) == ("truncated", True)


@pytest.mark.parametrize(
    "text",
    [
        f"I could list {JSON_LIST}, but rather",
        f"I could list:\n```\n{JSON_LIST}\n```\nbut rather",
        "I could list:\n1. One.\n2. Two.\nBut rather",
    ],
)
def test_so_may_a_list(text: str) -> None:
    assert isinstance(parse_string_list(text, "stop"), Parsed)
    refusal = parse_string_list(text, "length")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "truncated"


REFUSED_OBJECTS: dict[str, tuple[str, str, str]] = {  # where the model stopped by itself
    "nothing": ("", "empty", "no text"),
    "white space": (" \n\t\ufeff", "empty", "no text"),
    "an empty fence": ("```json\n```", "empty", "no text"),
    "reasoning only": ("<think>hm</think>\n", "empty", "nothing stands behind"),
    "reasoning never closed": (f"<think>\n{EXACT}", "truncated", "reasoning"),
    "an open string": (EXACT[:-4], "truncated", "3 fields"),
    "a string that lost its end, then closed": (EXACT[:-2] + "}", "truncated", "3 fields"),
    "a comma at the end": (EXACT[:-1] + ",", "truncated", "3 fields"),
    "a plus sign at the end": (EXACT[:-1] + " +", "truncated", "3 fields"),
    "broken and cut off": ('{"input_text": "x" "label": "a", "misleading_label": "ha', "truncated", ""),
    "cut off in a fence": (f"```json\n{EXACT[:-4]}\n```", "truncated", ""),
    "prose": ("I'm sorry, I can't help with that.", "not_json", "sorry"),
    "prose with brackets": ("I can't {do} [that].", "not_json", "can't"),
    "a number": ("42", "wrong_shape", "a number"),
    "a fenced number": ("```json\n42\n```", "wrong_shape", "a number"),
    "a string": ('"billing"', "wrong_shape", "a string"),
    "null": ("null", "wrong_shape", "null"),
    "a list of strings": ('["a", "b"]', "wrong_shape", "a list"),
    "a fenced list of strings": ('```\n["a", "b"]\n```', "wrong_shape", "a list"),
    "an empty object": ("{}", "wrong_shape", "empty"),
    "an empty list": ("[]", "wrong_shape", "an empty list"),
    "a missing field": ('{"input_text": "x", "label": "a"}', "missing_field", "missing: misleading_label"),
    "two missing fields": ('{"label": "a"}', "missing_field", "input_text, misleading_label"),
    "a key that is another word": (EXACT.replace('"label', '"labels'), "missing_field", "label"),
    "a missing field in python": ("{'label': 'a'}", "missing_field", "input_text"),
    "a blank field": (json.dumps(fields(label=" \n")), "empty_field", "label"),
    "empty fields": (json.dumps(fields("", "", "")), "empty_field", "input_text, label"),
    "the best of several": (f'{{"x": 1}}{json.dumps(fields(" "))}{{"label": "a"}}', "empty_field", "input_text"),
    "the best is the one cut off": ('{"label": "a"} {"input_text": "x", "label": "a', "truncated", ""),
    "a repair that would drop text": (
        '{"input_text": "I b",  end", "label": "a", "misleading_label": "b"}',
        "not_json",
        "quotation marks",
    ),
    "a repair that would make a key of text": (
        '{"input_text": "He wrote ", ""x": "a end", "label": "a", "misleading_label": "b"}',
        "not_json",
        "other keys",
    ),
    "a quote that may be a key": (
        '{"input_text": "He said "yes", then: "bye" to me", "label": "a", "misleading_label": "b"}',
        "not_json",
        "other keys",
    ),
    "a key twice": ('{"label": "first", ' + EXACT[1:], "wrong_shape", "label twice"),
    "a key twice, in python": ("{'label': 'first', " + repr(MAIL)[1:], "wrong_shape", "label twice"),
    "a key twice, once escaped": (r'{"lab\u0065l": "first", ' + EXACT[1:], "wrong_shape", "label twice"),
    "a key twice, in other case": ('{"Label": "first", ' + EXACT[1:], "wrong_shape", "label twice"),
    "a key twice, with a space": ('{"input text": "x", ' + EXACT[1:], "wrong_shape", "input_text twice"),
    "a key twice, escaped for Markdown": (r'{"input\\_text": "x", ' + EXACT[1:], "wrong_shape", "input_text twice"),
    "a key twice, in no form that was asked for": (
        '{"Label": "first", "LABEL": "second", "input_text": "x", "misleading_label": "b"}',
        "wrong_shape",
        "label twice",
    ),
    "a key twice, once of another type": ('{"label": 1, ' + EXACT[1:], "wrong_shape", "label twice"),
    "two examples in one": (f"{EXACT[:-1]}, {SECOND[1:]}", "wrong_shape", "two examples"),
    "two examples in one, in a list": (f"[{EXACT[:-1]}, {SECOND[1:]}]", "wrong_shape", "two examples"),
    "two examples in one, fenced": (f"```\n{EXACT[:-1]},\n{SECOND[1:]}\n```", "wrong_shape", "two examples"),
    "two examples in one, in prose": (f"Here: {EXACT[:-1]}, {SECOND[1:]}", "wrong_shape", "two examples"),
    "two examples in one, not closed": (f"{EXACT[:-1]}, {SECOND[1:-1]}", "wrong_shape", "two examples"),
    "two examples in one, in an object": (f'{{"example": {EXACT[:-1]}, {SECOND[1:]}}}', "wrong_shape", "two examples"),
    "two examples in one, broken": (
        f"{EXACT[:-1]}, {SECOND[1:]}".replace('", "label', '" "label', 1),
        "wrong_shape",
        "two examples",
    ),
    "two examples in one, broken in a list": (f"[{EXACT[:-1]} {SECOND[1:]}]", "wrong_shape", "two examples"),
    "two examples in one, in a JSON string": (json.dumps(f"{EXACT[:-1]}, {SECOND[1:]}"), "wrong_shape", "two examples"),
    "an object twice under one key": (f'{{"a": {EXACT}, "a": {SECOND}}}', "wrong_shape", "several examples"),
    "two in an object": (json.dumps({"a": MAIL, "b": OTHER}), "wrong_shape", "several examples"),
    "a list in an object": (json.dumps({"examples": [MAIL, OTHER]}), "wrong_shape", "several examples"),
    "two in an object, one a JSON string": (json.dumps({"a": EXACT, "b": OTHER}), "wrong_shape", "several examples"),
    "another label around": (json.dumps({"label": "x", "example": MAIL}), "wrong_shape", "several examples"),
    "a schema": (
        json.dumps({"type": "object", "properties": {key: {"type": "string"} for key in MAIL}, "required": list(MAIL)}),
        "wrong_type",
        "input_text is an object",
    ),
    "a schema of words": (
        json.dumps({"type": "object", "properties": dict.fromkeys(MAIL, "string")}),
        "wrong_shape",
        "schema",
    ),
    "a schema of the prompt's words": (
        json.dumps(
            {
                "properties": {
                    "input_text": "a string, the input text specified by the classification task.",
                    "label": "The correct label of the input text.",
                    "misleading_label": "an incorrect label that is related to the task",
                }
            }
        ),
        "wrong_shape",
        "schema",
    ),
    "a schema of the shipped prompt's words": (
        json.dumps(
            {
                "properties": {
                    "input_text": "the text to be classified",
                    "label": "the label that is right for this text.",
                    "misleading_label": "another possible label of the task",
                }
            }
        ),
        "wrong_shape",
        "schema",
    ),
    "an incomplete object in another": (json.dumps({"example": fields(" ")}), "empty_field", "input_text"),
    "fields in several objects": (
        json.dumps({"input": {"input_text": "x"}, "output": {"label": "a", "misleading_label": "b"}}),
        "missing_field",
        "input_text",
    ),
    "an example in a text": (json.dumps({"input_text": EXACT, "label": "a"}), "missing_field", "misleading_label"),
    "cut off in an object": (f'{{"example": {EXACT[:-4]}', "truncated", "3 fields"),
    "too many JSON strings": (json.dumps(json.dumps(json.dumps(json.dumps(EXACT)))), "wrong_shape", "a string"),
}
REFUSED_AT_A_LIMIT: dict[str, tuple[str, FinishReason, str, str]] = {
    "filtered": (EXACT, "content_filter", "blocked", "this prompt"),
    "stopped by a filter": (EXACT, "reply_filter", "blocked", "this reply"),
    "reasoning only, at the limit": ("<think>hm</think>\n", "length", "truncated", "reasoning"),
    "reasoning cut off": (f"<think>Maybe {EXACT} or", "length", "truncated", "reasoning"),
    "an open string, at the limit": (EXACT[:-4], "length", "truncated", "3 fields"),
    "only the brace is missing, at the limit": (EXACT[:-1], "length", "truncated", "3 fields"),
    "cut off before it began": ("Sure, I can do that. Here is", "length", "truncated", "token limit"),
    "in an object that is not closed, at the limit": (f'{{"example": {EXACT}', "length", "truncated", ""),
}


def check_refused(text: str, finish_reason: FinishReason, reason: str, detail: str) -> None:
    refusal = parse_object(text, finish_reason)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.reason == reason
    assert detail in refusal.detail


@pytest.mark.parametrize("name", REFUSED_OBJECTS)
def test_objects_that_are_refused(name: str) -> None:
    text, reason, detail = REFUSED_OBJECTS[name]
    check_refused(text, "stop", reason, detail)


@pytest.mark.parametrize("name", REFUSED_AT_A_LIMIT)
def test_objects_that_a_limit_or_a_filter_stopped(name: str) -> None:
    check_refused(*REFUSED_AT_A_LIMIT[name])


@pytest.mark.parametrize("value", [1, 1.5, True, None, ["a"], {"a": "b"}, [], {}])
def test_a_field_of_another_type_is_never_converted(value: object) -> None:
    for text in (json.dumps(fields(label=value)), repr(fields(label=value))):
        refusal = parse_object(text, "stop")
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.detail[:9]) == ("wrong_type", "label is ")


def test_other_fields() -> None:
    assert parse_object('{"q": "x", "label": "a"}', "stop", ("q",)) == Parsed(value={"q": "x"}, repairs=("extra_keys",))


# ------------------------------------------------------------------------------------------ every prefix

WHOLE = {
    "input_text": 'She wrote: {"a": "b"} and {\'c\': "d"}, isn\'t it [so]?\nYes \\ no, 100 %',
    "label": 'it\'s [complicated], "really"',
    "misleading_label": 'so "END", isn\'t it',
}
OBJECT_FORMS: dict[str, str] = {
    "json": json.dumps(WHOLE),
    "json indented": json.dumps(WHOLE, indent=2),
    "json, raw newline": json.dumps(WHOLE).replace("\\n", "\n"),
    "python": repr(WHOLE),
    "python, always single quotes": "{"
    + ", ".join(
        f"'{k}': '" + v.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'" for k, v in WHOLE.items()
    )
    + "}",
    "comments": json.dumps(WHOLE, indent=1).replace(",\n", ", // and\n"),
    "typographic": '{“input_text”: “it\'s {so}”, “label”: “a "b"”, “misleading_label”: “the END”}',
    "an example in the text": "{'input_text': 'Say " + EXACT + " now', 'label': 'a', 'misleading_label': 'the END'}",
}
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "fenced": lambda text: f"```json\n{text}\n```\n",
    "in a list": lambda text: f"[{text}]",
    "in a fenced list, with a second": lambda text: f"```\n[\n{text},\n{text}\n]\n```",
    "prose": lambda text: f"Here's {{the}} example:\n{text}\nThat's it.",
    "with an extra key": lambda text: text[:-1] + ', "why": true}',
    "reasoning": lambda text: f"<think>Let's see {{}}</think>{text}",
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("form", OBJECT_FORMS)
def test_no_prefix_of_an_object_gives_half_a_text(form: str, wrapping: str) -> None:
    text = WRAPPINGS[wrapping](OBJECT_FORMS[form])
    whole = parse_object(text, "stop")
    assert isinstance(whole, Parsed), whole
    assert "END" in whole.value["misleading_label"]
    needed = text.index("END") + len("END")
    taken_from: dict[str, int] = {}
    finish_reasons: tuple[FinishReason, ...] = ("stop", "length")
    for finish_reason in finish_reasons:
        for length in range(len(text)):
            result = parse_object(text[:length], finish_reason)
            if isinstance(result, Parsed):
                assert length > needed, (finish_reason, text[:length])
                assert result.value == whole.value, (finish_reason, text[:length])
                taken_from.setdefault(finish_reason, length)
            elif length > needed:
                assert result.reason == "truncated", (finish_reason, text[:length])
    if wrapping == "bare":  # without its closing brace, an object is taken only if the model stopped by itself
        assert taken_from == {"stop": len(text.rstrip("}").rstrip())}


LIST_FORMS = {
    "json": json.dumps(TASKS),
    "python": repr(list(TASKS)),
    "indented": json.dumps(TASKS, indent=2),
    "fenced": f"```python\n{list(TASKS)!r}\n```",
    "in an object": json.dumps({"tasks": TASKS}),
    "of objects": json.dumps([{"task": task} for task in TASKS]),
    "numbered": "".join(f"{number}. {task}\n" for number, task in enumerate(TASKS, 1)),
}


@pytest.mark.parametrize("form", LIST_FORMS)
def test_prefixes_of_a_list_keep_its_complete_items(form: str) -> None:
    text = LIST_FORMS[form]
    assert parse_string_list(text, "stop").value == TASKS  # type: ignore[union-attr]
    for length in range(len(text)):
        result = parse_string_list(text[:length], "length")
        complete = sum(text.index(task) + len(task) + 1 < length for task in TASKS)
        if isinstance(result, Parsed):
            assert result.value == TASKS[: len(result.value)]
            assert complete - 1 <= len(result.value) <= complete + 1
            assert not result.refused
        else:
            assert complete <= 1
            assert result.reason in ("truncated", "empty") or text[:length] == "1"


# ------------------------------------------------------------------------------------------------ lists

LISTS: dict[str, tuple[str, set[str]]] = {
    "exact": (JSON_LIST, set()),
    "python": (repr(list(TASKS)), {"quotes"}),
    "python, apostrophe not escaped": (
        "[" + ", ".join(f"'{task}'" for task in TASKS) + "]",
        {"quotes", "inner_quotes"},
    ),
    "fence": (f"```python\n{JSON_LIST}\n```", {"fence"}),
    "an assignment in a fence": (f"```python\ntasks = {JSON_LIST}\n```", {"fence", "prose"}),
    "prose around": (f"Here's a list [as asked]:\n{JSON_LIST}\nThat's all [1].", {"prose"}),
    "prose with a footnote": (f"See [1]: {JSON_LIST}", {"prose"}),
    "in an object": (json.dumps({"tasks": TASKS}), {"wrapped_list"}),
    "in an object, with other keys": (json.dumps({"n": 3, "classification": TASKS}), {"wrapped_list"}),
    "in an object with other lists": (json.dumps({"fields": ["a"], "tasks": TASKS}), {"wrapped_list"}),
    "objects with a task": (json.dumps([{"id": 1, "task": task} for task in TASKS]), {"object_items"}),
    "objects with one string": (json.dumps([{"description": task} for task in TASKS]), {"object_items"}),
    "objects with a string and a number": (
        json.dumps([{"n": n, "description": task} for n, task in enumerate(TASKS)]),
        {"object_items"},
    ),
    "numbered in an object": (json.dumps({str(n): task for n, task in enumerate(TASKS)}), {"wrapped_list"}),
    "numbered names in objects": (
        json.dumps({"tasks": {f"task_{n}": task for n, task in enumerate(TASKS)}}),
        {"wrapped_list"},
    ),
    "escaped as in a string": ("It's " + json.dumps(JSON_LIST)[1:-1], {"json_string"}),
    "objects one a line": ("\n".join(json.dumps({"task": task}) for task in TASKS), {"object_items", "several_lists"}),
    "nested": (f"[{JSON_LIST}]", {"one_element_list"}),
    "an object with the list, in a list": (json.dumps([{"tasks": TASKS}]), {"one_element_list", "wrapped_list"}),
    "in objects in one another": (json.dumps({"result": {"tasks": TASKS}}), {"wrapped_list"}),
    "under a key in other case": (json.dumps({"Tasks": TASKS, "notes": ["x"]}), {"wrapped_list"}),
    "of labels, beside another": (json.dumps({"labels": TASKS, "notes": ["x"]}), {"wrapped_list"}),
    "in a schema": (
        json.dumps({"type": "object", "properties": {"tasks": TASKS}, "required": ["tasks"]}),
        {"wrapped_list"},
    ),
    "in the type of a schema": (
        json.dumps({"type": "object", "properties": {"tasks": {"type": "array", "items": TASKS}}}),
        {"wrapped_list"},
    ),
    "twice the same under one key": (f'{{"tasks": {JSON_LIST}, "tasks": {JSON_LIST}}}', {"wrapped_list"}),
    "a JSON string": (json.dumps(JSON_LIST), {"json_string"}),
    "a JSON string of a JSON string": (json.dumps(json.dumps(JSON_LIST)), {"json_string"}),
    "a JSON string in a list": (json.dumps([JSON_LIST]), {"json_string"}),
    "a JSON string in an object": (json.dumps({"tasks": JSON_LIST}), {"wrapped_list"}),
    "objects in JSON strings": (
        json.dumps([json.dumps({"task": task}) for task in TASKS]),
        {"json_string", "object_items"},
    ),
    "objects with a task in other case": (json.dumps([{"n": 1, "Task": task} for task in TASKS]), {"object_items"}),
    "Japanese commas": (JSON_LIST.replace('", "', '"、"'), {"punctuation"}),
    "corner brackets": ("[「" + "」、「".join(TASKS) + "」]", {"punctuation", "quotes"}),
    "full-width brackets": (f"［{JSON_LIST[1:-1].replace(', ', '，')}］", {"punctuation"}),
    "guillemets and semicolons": ("[«" + "»; «".join(TASKS) + "»]", {"punctuation", "quotes"}),
    "a token that ends the turn": ("\n".join(f"- {task}" for task in TASKS) + "<|im_end|>", {"line_list", "prose"}),
    "two lists": (f"Mail:\n{json.dumps(TASKS[:1])}\nNews:\n{json.dumps(TASKS[1:])}", {"prose", "several_lists"}),
    "trailing comma": (JSON_LIST[:-1] + ",]", {"trailing_comma"}),
    "missing comma": (JSON_LIST.replace('", "', '" "', 1), {"syntax"}),
    "bracket missing": (JSON_LIST[:-1], {"missing_close"}),
    "reasoning": (f'<think>["no"]</think>{JSON_LIST}', {"reasoning"}),
    "numbers with a dot": ("\n".join(f"{n}. {task}" for n, task in enumerate(TASKS, 1)), {"line_list"}),
    "numbers with a bracket": ("\n".join(f"{n}) {task}" for n, task in enumerate(TASKS, 1)), {"line_list"}),
    "numbers in brackets": ("\n\n".join(f"({n}) {task}" for n, task in enumerate(TASKS, 1)), {"line_list"}),
    "prose and bullets": ("Sure:\n\n" + "\n".join(f"- {task}" for task in TASKS) + "\n\nBye.", {"line_list", "prose"}),
    "stars": ("\n".join(f" * {task}" for task in TASKS), {"line_list"}),
    "dots": ("\n".join(f"• {task}" for task in TASKS), {"line_list"}),
    "dashes in a fence": ("```\n" + "\n".join(f"– {task}" for task in TASKS) + "\n```", {"line_list", "fence"}),
    "bold": ("\n".join(f"{n}. **{task}**" for n, task in enumerate(TASKS, 1)), {"line_list"}),
    "bold numbers": ("\n".join(f"**{n}.** {task}" for n, task in enumerate(TASKS, 1)), {"line_list"}),
    "double quotes and commas": ("\n".join(f'- "{task}",' for task in TASKS), {"line_list"}),
    "single quotes": ("\n".join(f"- '{task}'" for task in TASKS), {"line_list"}),
    "continued lines": ("\r\n".join("- " + task.replace(" a ", "\r\n  a ") for task in TASKS), {"line_list"}),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_are_taken(name: str) -> None:
    text, repairs = LISTS[name]
    assert parse_string_list(text, "stop") == Parsed(value=TASKS, repairs=tuple(sorted(repairs)))
    assert repairs <= REPAIRS.keys()


def test_bulleted_lines_keep_what_does_not_wrap_them() -> None:
    text = '- "a" or "b"\n- **Mood**: tell it\n- Sort by ["x", "y"]\n- 3.5 stars\n-- no\n- isn\'t'
    result = parse_string_list(text, "stop")
    assert isinstance(result, Parsed)
    assert result.value == ('"a" or "b"', "**Mood**: tell it", 'Sort by ["x", "y"]', "3.5 stars", "isn't")


REFUSED_LISTS: dict[str, tuple[str, FinishReason, str]] = {
    "filtered": (JSON_LIST, "content_filter", "blocked"),
    "nothing": (" ", "stop", "empty"),
    "prose": ("I'm sorry, I can't help with that.", "stop", "not_json"),
    "prose at the limit": ("Here are some tasks that", "length", "truncated"),
    "an object": ('{"error": "no"}', "stop", "wrong_shape"),
    "an object with two lists": ('{"a": ["x"], "b": ["y"]}', "stop", "wrong_shape"),
    "a number": ("7", "stop", "wrong_shape"),
    "a string": ('"Classify."', "stop", "wrong_shape"),
    "empty": ("[]", "stop", "wrong_shape"),
    "empty, fenced": ("```json\n[]\n```", "stop", "wrong_shape"),
    "two lists under one key": ('{"tasks": ["a"], "tasks": ["b"]}', "stop", "wrong_shape"),
    "two lists under one key, in python": ("{'tasks': ['a'], 'tasks': ['b']}", "stop", "wrong_shape"),
    "two lists under two spellings of a key": ('{"tasks": ["a"], "Tasks": ["b"]}', "stop", "wrong_shape"),
    "two items in each object": ('[{"label": "a", "label": "b"}]', "stop", "wrong_shape"),
    "a schema": (
        json.dumps({"type": "object", "properties": {"tasks": {"type": "array"}}, "required": ["tasks"]}),
        "stop",
        "wrong_shape",
    ),
    "a schema in the list": ('{"tasks": [{"type": "string"}]}', "stop", "wrong_shape"),
    "numbers": ("[1, 2]", "stop", "wrong_type"),
    "blanks": ('["", " "]', "stop", "empty_field"),
    "cut in the first item": ('["Classify the', "length", "truncated"),
    "cut in the first item, which shows a list": ('[\'Sort as ["a", "b"] the', "length", "truncated"),
    "cut in the first line": ("1. Classify the", "length", "truncated"),
    "cut in a text with bullets": ('["Sort these:\n- one\n- two', "stop", "truncated"),
}


@pytest.mark.parametrize("name", REFUSED_LISTS)
def test_lists_that_are_refused(name: str) -> None:
    text, finish_reason, reason = REFUSED_LISTS[name]
    refusal = parse_string_list(text, finish_reason)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.reason == reason


def test_bad_items_of_a_list_come_back() -> None:
    text = json.dumps(["good", 1, "", None, ["x"], {"a": 1, "b": 2}, {"task": " "}, {"task": 3}, "fine"])
    text = text[:-1] + ', {"task": "one", "Task": "two"}]'
    result = parse_string_list(text, "stop")
    assert isinstance(result, Parsed)
    assert result.value == ("good", "fine")
    assert [(reason, item) for reason, _, item in result.refused] == [
        ("wrong_type", "1"),
        ("empty_field", '""'),
        ("wrong_type", "null"),
        ("wrong_type", '["x"]'),
        ("wrong_type", '{"a": 1, "b": 2}'),
        ("empty_field", '{"task": " "}'),
        ("wrong_type", '{"task": 3}'),
        ("wrong_shape", '[{"task": "one"}, {"Task": "two"}]'),
    ]


def test_parts_of_a_string_that_a_repair_split_are_no_items() -> None:
    result = parse_string_list('["First one.", "Tell ""yes" apart", "Third one.", "Fourth one."]', "stop")
    assert isinstance(result, Parsed)
    assert result.value == ("First one.", "Third one.", "Fourth one.")
    assert [json.loads(item) for _, _, item in result.refused] == ["Tell ", "yes", "apart"]


def test_a_cut_item_with_an_apostrophe_is_dropped() -> None:
    text = "['Find it.', 'The customer'"  # the token limit fell inside `customer's`
    assert parse_string_list(text, "length").value == ("Find it.",)  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------- hostile

HOSTILE: dict[str, str] = {
    "objects in one another": '{"a":' * 200_000,
    "lists in one another": "[" * 1_000_000,
    "lists in one another, closed": "[" * 100_000 + "]" * 100_000,
    "lists with prose": "[" * 100_000 + " x",
    "keys": '{"' * 300_000,
    "single quotes": "{'" * 50_000,
    "quotes": '"' * 100_000,
    "brackets and quotes": "['" * 50_000,
    "backslashes": '{"a": "' + "\\" * 1_000_000,
    "backslashes and prose": "[\\" * 100_000,
    "NULs": "\0" * 100_000,
    "surrogates": '{"\ud83d": "\ude00"' * 10_000,
    "a long integer": '{"a": ' + "1" * 100_000 + "}",
    "a list of a long integer": "[" + "1" * 100_000 + ', "x"]',
    "spaces": "{" + " " * 1_000_000 + "x",
    "spaces in a fence": "``` " + " " * 1_000_000 + "x y",
    "braces": "{}" * 100_000,
    "objects": '{"a": "b"} ' * 50_000,
    "brace and spaces": "{'a' 'b'" + "} " * 1_000 + " " * 100_000,
    "commas": "- " + "," * 1_000_000,
    "bullets": "- \n" * 100_000,
    "comments": "{" + "/* " * 100_000,
    "comment lines": "{" + "#\n" * 100_000,
    "fences": "```" * 100_000,
    "reasoning": "<think>" * 50_000,
    "reasoning closed": "</think>" * 50_000,
    "prose brackets": "it's [a] {b} " * 20_000,
    "broken objects": '{"a": "b" "c"} ' * 20_000,
    "broken lists": '["a" "c"] ' * 20_000,
    "broken and deep": '{"a" "b": ' * 20_000,
    "channels": "<|channel|>" * 10_000,
    "marks and quotes": '</think>["' * 30_000,
    "answers": "<answer>" * 10_000,
    "tokens that end a turn": "x" + "<|im_end|>" * 10_000,
    "half marks": "<think " * 40_000,
    "long marks": "<" + "think" * 60_000,
    "phrases": "Here is my thought process:\n" * 10_000,
    "wrappers": '{"a": ' * 900 + "{}" + "}" * 900,
    "wrappers with fields": '{"label": "a", "b": ' * 900 + "{}" + "}" * 900,
    "one wrapper, many inside": '{"a": [' + '{"label": "a"},' * 10_000 + "1]}",
    "keys twice": "{" + '"label": "a",' * 60_000 + '"label": "b"}',
    "JSON strings": json.dumps(json.dumps("[" + "1," * 60_000 + "1]")),
    "strings in a wrapper": json.dumps({"a": ["[[[[" for _ in range(20_000)]}),
    "corner brackets": "[" + "「" * 200_000,
    "guillemets": "[«" + "«»" * 100_000,
    "full-width brackets": "［" * 100_000,
    "bare keys": "{a" + " a" * 100_000,
    "bold": "- " + "*" * 100_000,
    "mark": "".join(map(chr, range(0xFDD0, 0xFDF0))) + '{"a" "b"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_are_refused(name: str) -> None:
    whole = HOSTILE[name]
    for text in (whole[:10], whole[:1_001], whole[:8_000], whole):
        if 8_000 < len(text) <= READ_MAX_CHARS:
            continue  # nothing that 8,000 characters do not show, and seconds rather than milliseconds
        for finish_reason in FINISH:
            object_refusal = parse_object(text, finish_reason)
            assert isinstance(object_refusal, Refusal)
            check(object_refusal)
            check(parse_string_list(text, finish_reason))


def test_a_reply_past_the_limit_of_the_reader_must_be_exact() -> None:
    long = "x" * READ_MAX_CHARS
    assert parse_object(json.dumps(fields(long)), "stop") == Parsed(value=fields(long), repairs=())
    refusal = parse_object("Here: " + json.dumps(fields(long)), "stop")
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, "300,000" in refusal.detail) == ("not_json", True)


def test_the_work_of_json_repair_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[str] = []

    def spy(text: str, **options: object) -> object:
        handed.append(text)
        return None

    monkeypatch.setattr("json_repair.repair_json", spy)
    calls = 0
    for name in ("single quotes", "brackets and quotes", "broken objects", "broken lists", "broken and deep"):
        text = HOSTILE[name]
        for parse in (parse_object, parse_string_list):
            handed.clear()
            parse(text[:40_000], "stop")
            parse(text[:2_000], "stop")
            calls += len(handed)
            assert len(handed) <= 8  # four for each of the two
            for chunk in handed:
                assert len(chunk) <= REPAIR_MAX_CHARS + 1
                assert len(chunk) * sum(map(chunk.count, "\"'“”")) <= REPAIR_MAX_WORK * 1.01
    assert calls  # else this shows nothing


def test_past_the_limits_only_what_is_exact_is_taken() -> None:
    long = "x" * REPAIR_MAX_CHARS
    assert parse_object("Here: " + json.dumps(fields(long)), "stop").value == fields(long)  # type: ignore[union-attr]
    broken = json.dumps(fields(long)).replace('", "', '" "')
    refusal = parse_object(broken, "stop")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "not_json"
    assert "too large" in refusal.detail
    list_refusal = parse_string_list(f'["{long}" "b"]', "stop")
    assert isinstance(list_refusal, Refusal)
    assert "too large" in list_refusal.detail


def test_an_error_of_json_repair_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, **options: object) -> object:
        raise IndexError(text)

    monkeypatch.setattr("json_repair.repair_json", fail)
    refusal = parse_object('{"input_text": "x", "label": "a" "misleading_label": "b"}', "stop")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "not_json"


def test_text_is_never_executed(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    code = f"__import__('pathlib').Path({str(target)!r}).touch()"
    for text in (
        code,
        f"[{code}]",
        f"{{'input_text': {code}, 'label': 'a', 'misleading_label': 'b'}}",
        f"{{{{ {code} }}}}",
    ):
        for parse in (parse_object, parse_string_list):
            parse(text, "stop")
    result = parse_object(json.dumps(fields(code)), "stop")
    assert isinstance(result, Parsed)
    assert result.value["input_text"] == code
    assert not target.exists()


# --------------------------------------------------------------------------------------------- any text


def check(result: Parsed[Any] | Refusal) -> None:
    """What holds for every result."""
    if isinstance(result, Refusal):
        assert result.reason in REASONS
        assert result.detail.isprintable()
        assert 0 < len(result.detail) <= 200
        return
    assert set(result.repairs) <= REPAIRS.keys()
    assert result.repairs == tuple(sorted(set(result.repairs)))
    values = list(result.value.values()) if isinstance(result.value, dict) else list(result.value)
    assert values
    for value in values:
        assert type(value) is str
        assert value
        assert value == value.strip()
    pyarrow.array([*values, *(part for entry in result.refused for part in entry)], type=pyarrow.string())
    for reason, detail, item in result.refused:
        assert reason in ("wrong_type", "empty_field", "wrong_shape")
        assert detail.isprintable()
        json.loads(item)


ANY_CHARACTER = st.characters(exclude_categories=())  # surrogates too
PIECES = st.sampled_from(
    [  # what a reply is made of
        *"{}[]\"'“”‘,:\\\n\t #/*-_`().0",
        "```",
        "```json\n",
        "</think>",
        "<think>",
        "null",
        "True",
        "1. ",
        "- ",
        "\ufdd0",
        "\ud83d",
        '"input_text": "x"',
        '"label": "a"',
        '"misleading_label": "b"',
        "'label': 'a'",
        "Here's ",
        EXACT,
        JSON_LIST,
        "\\u",
        "\\x4",
    ]
)
REPLIES = st.one_of(st.text(ANY_CHARACTER), st.lists(PIECES, max_size=25).map("".join))


@settings(deadline=None)
@given(REPLIES, st.sampled_from(FINISH))
def test_any_text_is_taken_or_refused(text: str, finish_reason: FinishReason) -> None:
    result = parse_object(text, finish_reason)
    check(result)
    if isinstance(result, Parsed):
        assert tuple(result.value) == EXAMPLE_FIELDS
    check(parse_string_list(text, finish_reason))


# JSON and Python write every string that has no lone surrogates, so no alphabet needs to be left out.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
SYNTAX = st.lists(st.sampled_from([*"{}[]\"'“”‘’,:\\\n\t #/*-`abn", "```", '", "', "', '", "<think>"]), min_size=1)
TRICKY = st.one_of(TEXTS, SYNTAX.map("".join).filter(str.strip))
WRITERS: dict[str, Callable[[Any], str]] = {
    "ascii": json.dumps,
    "unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "indented": lambda value: json.dumps(value, indent=2),
    "python": repr,
}
AROUND: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "fenced": lambda text: f"```json\n{text}\n```",
    "prose": lambda text: f"Here's {{the}} example, as [asked]:\n\n{text}\n\nIsn't it fine?",
    "fenced in prose": lambda text: f"Here's one:\n```\n{text}\n```\nBye!",
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None, max_examples=60)
@given(st.tuples(TRICKY, TRICKY, TRICKY))
def test_any_three_strings_come_back(write: str, around: str, texts: tuple[str, str, str]) -> None:
    result = parse_object(AROUND[around](WRITERS[write](fields(*texts))), "stop")
    assert isinstance(result, Parsed), result
    assert result.value == {name: text.strip() for name, text in fields(*texts).items()}
    if write != "python" and around == "bare":
        assert result.repairs == ()


ITEMS = st.one_of(
    TRICKY, TRICKY, st.sampled_from(["", " \n"]), st.none(), st.booleans(), st.integers(), st.just(["x", "y"])
)


@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None, max_examples=60)
@given(st.lists(ITEMS, min_size=1, max_size=6), st.data())
def test_every_item_of_a_list_is_accounted_for(write: str, items: list[Any], data: st.DataObject) -> None:
    if not any(isinstance(item, str) and item.strip() for item in items) or isinstance(items[0], list):
        items = ["good", *items]
    good = [item.strip() for item in items if isinstance(item, str) and item.strip()]
    bad = [item for item in items if not (isinstance(item, str) and item.strip())]
    text = WRITERS[write](items)
    result = parse_string_list(text, "stop")
    assert isinstance(result, Parsed), result
    assert list(result.value) == good
    assert [json.loads(item) for _, _, item in result.refused] == bad

    end = data.draw(st.integers(1, len(text) - 1))
    cut = parse_string_list(text[:end], "length")
    if isinstance(cut, Parsed):
        assert "cut_list" in cut.repairs
        assert list(cut.value) == good[: len(cut.value)]
        kept = len(cut.value) + len(cut.refused)
        # What is behind the kept items is less than one item and its commas.
        assert kept == len(items) or end <= len(WRITERS[write](items[: kept + 1]))


@settings(deadline=None)
@given(st.text(ANY_CHARACTER))
@example("\ud83d\ude00")
def test_clean_text_can_be_stored_and_changes_nothing_else(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert clean_text(cleaned) == cleaned
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert cleaned == text


def test_clean_text() -> None:
    assert clean_text("a\ud83d b\ude00") == "a\ufffd b\ufffd"
    assert clean_text("\ud83d\ude00") == "😀"
    assert clean_text("\ufeffx") == "\ufeffx"


SMALL_MODEL = [
    json.loads(line)
    for line in (Path(__file__).parent / "small_model_replies.jsonl").read_text("utf-8").split("\n")  # not at U+2028
    if line
]
"""What SmolLM2-135M-Instruct (Apache-2.0; 4 bits, llama.cpp, temperature 1) replied to the shipped prompts, each with
what a person who read it would keep, or the reason why nothing is to be kept. Few are good: that is what they are for.
"""
FIELDS = {"example": EXAMPLE_FIELDS, "planned_example": ("input_text",), "choice": ("label",)}


@pytest.mark.parametrize("number", range(len(SMALL_MODEL)))
def test_replies_of_a_small_model(number: int) -> None:
    row = SMALL_MODEL[number]
    text, finish_reason, kind = row["reply"], row["finish_reason"], row["kind"]
    result: Parsed[Any] | Refusal
    if kind in FIELDS:
        result = parse_object(text, finish_reason, FIELDS[kind])
    else:
        result = parse_string_list(text, finish_reason)
    check(result)
    if "reason" in row:
        assert isinstance(result, Refusal), result
        assert result.reason == row["reason"]
    else:
        assert isinstance(result, Parsed), result
        assert result.value == (row["kept"] if kind in FIELDS else tuple(row["kept"]))


def test_time_grows_with_the_length_only() -> None:
    """A look ahead over all words of a key would take minutes here."""
    for text in ("{" + "a " * 140_000 + ":", "{" + "a " * 140_000, "[「" + "「」" * 140_000, "{a" + "\\_" * 140_000):
        started = time.process_time()
        assert isinstance(parse_object(text, "stop"), Refusal)
        assert time.process_time() - started < 10


def test_results_travel_between_processes() -> None:
    for result in (parse_object(EXACT, "stop"), parse_string_list(JSON_LIST, "stop"), parse_object("", "stop")):
        assert pickle.loads(pickle.dumps(result)) == result
