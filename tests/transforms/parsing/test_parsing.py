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


def replies_of(file: str) -> list[dict[str, Any]]:
    lines = (Path(__file__).parent / file).read_text("utf-8").split("\n")  # splitlines would cut at U+2028 too
    return [json.loads(line) for line in lines if line]


CORPUS = replies_of("corpus.jsonl")
SMALL_MODEL = replies_of("small_model_replies.jsonl")
"""What SmolLM2-135M-Instruct (Apache-2.0; 4 bits, llama.cpp, temperature 1) replied to the shipped prompts, each with
what a person who read it would keep, or the reason why nothing is to be kept. Few are good: that is what they are for.
"""
FIELDS = {"example": EXAMPLE_FIELDS, "planned_example": ("input_text",), "choice": ("label",)}


def parse(kind: str, text: str, finish_reason: FinishReason) -> Parsed[Any] | Refusal:
    if kind in FIELDS:
        return parse_object(text, finish_reason, FIELDS[kind])
    return parse_string_list(text, finish_reason)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.get("name")) for row in CORPUS + SMALL_MODEL])
def test_replies(row: dict[str, Any]) -> None:
    kind = row["kind"]
    for finish_reason in row["finish_reason"].split(", "):
        result = parse(kind, row["reply"], finish_reason)
        check(result)
        if "reason" in row:
            assert isinstance(result, Refusal), result
            assert result.reason == row["reason"]
            assert row.get("detail", "") in result.detail
        else:
            assert isinstance(result, Parsed), result
            assert result.value == (row["kept"] if kind in FIELDS else tuple(row["kept"]))
            assert list(result.repairs) == row.get("repairs", list(result.repairs))


def test_a_long_number_in_an_extra_key() -> None:
    text = f'{EXACT[:-1]}, "n": {"9" * 5000}}}'
    for finish_reason in ("stop", "length"):
        assert parse("example", text, finish_reason) == Parsed(value=MAIL, repairs=("extra_keys",))


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


def test_time_grows_with_the_length_only() -> None:
    """A look ahead over all words of a key would take minutes here."""
    for text in ("{" + "a " * 140_000 + ":", "{" + "a " * 140_000, "[「" + "「」" * 140_000, "{a" + "\\_" * 140_000):
        started = time.process_time()
        assert isinstance(parse_object(text, "stop"), Refusal)
        assert time.process_time() - started < 10


def test_results_travel_between_processes() -> None:
    for result in (parse_object(EXACT, "stop"), parse_string_list(JSON_LIST, "stop"), parse_object("", "stop")):
        assert pickle.loads(pickle.dumps(result)) == result
