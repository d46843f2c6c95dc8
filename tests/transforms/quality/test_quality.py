"""Quality: what is refused, and above all what is not."""

from __future__ import annotations

import collections
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.attributes import ANY, NUM_WORDS
from textmint.transforms.core.elements import REASONS, Example
from textmint.transforms.core.languages import NAMES, find_language
from textmint.transforms.quality.checks import CHECKS, Checks, find_fault, parse_checks
from textmint.transforms.quality.common_words import common_words

from tests.support.helpers import ROOT, make_example, shipped_template, shuffled

CORPUS: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests" / "support" / "quality_corpus.jsonl").read_text("utf-8").splitlines()
]
CLASSIFY = shipped_template("classify")


def example_of(
    input_text: str,
    label: str = "aaa",
    misleading_label: str = "bbb",
    *,
    task: str = "Classify a note",
    language: str = "English",
    num_words: str = ANY,
) -> Example:
    """An example with the prompt that would have been sent for it."""
    attributes = {"language": language, "difficulty": "college", "clarity": "clear", "num_words": num_words}
    return make_example(
        task,
        input_text=input_text,
        label=label,
        misleading_label=misleading_label,
        prompt=CLASSIFY.render({"task": task, **attributes}),
        **attributes,
    )


def of_line(line: dict[str, Any]) -> Example:
    return example_of(**{name: value for name, value in line.items() if name not in ("expected", "note")})


def reason_of(example: Example, checks: Checks | None = None) -> str | None:
    fault = find_fault(example, Checks() if checks is None else checks)
    return None if fault is None else fault.reason


# --- the corpus


@pytest.mark.parametrize("line", CORPUS, ids=[f"{n}-{line['expected']}" for n, line in enumerate(CORPUS, start=1)])
def test_the_corpus(line: dict[str, Any]) -> None:
    assert reason_of(of_line(line)) == line["expected"]


def test_the_corpus_is_wide() -> None:
    good = [line for line in CORPUS if line["expected"] is None]
    assert len(CORPUS) >= 150
    assert len(good) >= len(CORPUS) / 2
    assert len({line["language"] for line in good}) >= 40
    assert {line["num_words"] for line in good} == {*NUM_WORDS, ANY}
    refused = collections.Counter(line["expected"] for line in CORPUS if line["expected"])
    assert set(refused) == set(CHECKS)
    assert all(find_language(line["language"]).name == line["language"] for line in CORPUS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_is_off_refuses_nothing(name: str) -> None:
    without = Checks().without(name)
    alone = Checks(names=(name,))
    for line in CORPUS:
        example = of_line(line)
        assert reason_of(example, without) != name
        assert reason_of(example, alone) in (None, name)
        if line["expected"] == name:
            assert reason_of(example, alone) == name


def test_with_no_checks_all_is_good() -> None:
    assert all(find_fault(of_line(line), Checks(names=())) is None for line in CORPUS)


def test_verdicts_do_not_depend_on_order() -> None:
    lines = [(n, of_line(line)) for n, line in enumerate(CORPUS)]
    again = {n: find_fault(example, Checks()) for n, example in shuffled(lines)}
    assert [again[n] for n, _ in lines] == [find_fault(example, Checks()) for _, example in lines]


def test_every_check_is_a_reason() -> None:
    assert set(CHECKS) <= set(REASONS)
    assert len(set(CHECKS)) == len(CHECKS)


def test_details_are_one_line() -> None:
    for line in CORPUS:
        fault = find_fault(of_line({**line, "label": f"{line['label']}\n"}), Checks())
        assert fault is None or (fault.detail and "\n" not in fault.detail and len(fault.detail) < 250)


# --- each check at its edges


@pytest.mark.parametrize(
    ("num_words", "words", "reason"),
    [
        ("less than 10", 19, None),  # twice 10 is where it ends
        ("less than 10", 20, "wrong_length"),
        ("at least 10", 5, None),
        ("at least 10", 4, "wrong_length"),
        ("at least 50", 25, None),
        ("at least 50", 24, "wrong_length"),
        ("at least 100", 50, None),
        ("at least 100", 49, "wrong_length"),
        ("at least 200", 100, None),
        ("at least 200", 99, "wrong_length"),
        ("at least 10", 3_000, None),
        (ANY, 1, None),
        ("about a page", 1, None),  # an attribute of one's own
    ],
)
def test_length(num_words: str, words: int, reason: str | None) -> None:
    only = Checks(names=("wrong_length",))
    assert reason_of(example_of("word " * words, num_words=num_words), only) == reason


def test_the_slack_of_length() -> None:
    text = example_of("word " * 9, num_words="at least 10")
    assert reason_of(text, Checks(names=("wrong_length",), length_slack=1.0)) == "wrong_length"
    assert reason_of(text, Checks(names=("wrong_length",), length_slack=1.2)) is None


@pytest.mark.parametrize(
    ("label", "reason"),
    [("x" * 100, None), ("x" * 101, "label_too_long"), ("字" * 50, None), ("字" * 51, "label_too_long")],
)
def test_label_too_long(label: str, reason: str | None) -> None:
    only = Checks(names=("label_too_long",))
    assert reason_of(example_of("A text.", label=label), only) == reason
    assert reason_of(example_of("A text.", misleading_label=label), only) == reason
    assert reason_of(example_of("A text.", label=label), Checks(names=only.names, max_label_columns=200)) is None


@pytest.mark.parametrize(
    ("text", "label", "language", "reason"),
    [
        ("It is true that he left.", "true", "English", "label_in_text"),  # a word of meaning, however common
        ("It is true that he left.", "it", "English", None),
        ("May I come in?", "may", "English", None),
        ("The hindi word for it", "hindi", "English", "label_in_text"),
        ("Masarap pero hindi mura.", "hindi", "Filipino", None),  # no
        ("Masarap pero hindi mura.", "masarap", "Filipino", "label_in_text"),
        ("Das ist kein Problem", "kein", "German", None),
        ("Category: may", "may", "English", "label_in_text"),
        ("Category: mayor", "may", "English", None),
        ("Réponse : non", "non", "French", "label_in_text"),
        ("答案：是", "是", "Chinese (Simplified)", "label_in_text"),
        ("The sentiment: +", "+", "English", "label_in_text"),
        ("1 + 1 = 2", "+", "English", None),
        ("No!", "no", "English", "label_in_text"),
        ("是", "是", "Chinese (Simplified)", "label_in_text"),
        ("Is it a bird? A plane?", "A", "English", None),
        ("Blood group AB-, no allergies", "AB-", "English", None),
        ("We rate it AAA today", "AAA", "English", "label_in_text"),
        ("#happy days", "happy", "English", "label_in_text"),
        ("He was so HAPPY", "#happy", "English", "label_in_text"),
        ("unhappy", "happy", "English", None),
        ("in c", "C#", "English", None),
        ("50% off", "50%", "English", None),  # two digits; a per cent sign makes no word
        ("born in 1984", "1984", "English", "label_in_text"),
        ("👍🏽 thanks", "👍", "English", "label_in_text"),
        ("nothing", "", "English", None),
        ("a - b", "-", "English", None),
    ],
)
def test_label_in_text(text: str, label: str, language: str, reason: str | None) -> None:
    only = Checks(names=("label_in_text",))
    assert reason_of(example_of(text, label=label, misleading_label="zzz", language=language), only) == reason
    assert reason_of(example_of(text, label="zzz", misleading_label=label, language=language), only) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("???", "placeholder"),
        ("", "placeholder"),
        ("n/a", "placeholder"),
        ("<text>", "placeholder"),
        ("[Your message here]", "placeholder"),
        ("Lorem ipsum", "placeholder"),
        ("Not applicable to us, thanks", None),
        ("[music]", None),
        ("<3", None),
        ("¯\\_(ツ)_/¯", None),
        ("[Text message from Anna, sent last night at nine:] come home", None),
        ("Your text here is too small to read on my phone.", None),
        ("42", None),
        ("😀", None),
        ("H", None),
    ],
)
def test_placeholder(text: str, reason: str | None) -> None:
    assert reason_of(example_of(text), Checks(names=("placeholder",))) == reason


TASK = "Classify a customer e-mail by the department that should answer it"


@pytest.mark.parametrize(
    ("text", "task", "reason"),
    [
        (TASK.upper() + ".", TASK, "echo"),
        (f"{TASK}\n\nWhere is my parcel?", TASK, "echo"),
        ("Spam filter", "Spam filter", "echo"),
        ("My spam filter eats all my mail since Monday.", "Spam filter", None),  # too short a task to be one's echo
        ('- "label": the label that is right for this text.', TASK, "echo"),
        ('"label": the label that is right for this text. Indeed.', TASK, "echo"),
        ("high school", TASK, None),  # it stands in the prompt, as it may in any text
        ("Please classify my complaint as urgent, the department should answer today.", TASK, None),
        ("根据主题对顾客的反馈意见进行分类", "根据主题对顾客的反馈意见进行分类", "echo"),
        ("反馈意见", "根据主题对顾客的反馈意见进行分类", None),
    ],
)
def test_echo(text: str, task: str, reason: str | None) -> None:
    assert reason_of(example_of(text, task=task), Checks(names=("echo",))) == reason


def test_a_ruler_in_a_prompt_is_no_line() -> None:
    example = replace(example_of("A text of its own."), prompt="=" * 50 + "\n" + "-" * 50 + "\n" + " " * 50)
    assert reason_of(example) is None


GERMAN = "Das Paket wartet seit drei Wochen in Ihrem Lager, und niemand geht ans Telefon."


@pytest.mark.parametrize(
    ("task", "language", "reason"),
    [
        ("Classify a complaint", "English", "wrong_language"),
        ("Classify a complaint", "German", None),
        ("Classify a complaint", "Klingon", None),  # nothing is known of it
        ("Identify the language of a sentence", "English", None),
        ("Judge the quality of a translation", "English", None),
        ("Classify a German complaint", "English", None),
    ],
)
def test_language(task: str, language: str, reason: str | None) -> None:
    example = replace(example_of(GERMAN, task=task), language=language)
    assert reason_of(example) == reason


def test_thresholds_of_language() -> None:
    example = example_of(GERMAN)
    assert reason_of(example, Checks(language_min_bytes=200)) is None
    assert reason_of(example, Checks(language_min_confidence=1.0)) is None


# --- options


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", CHECKS),
        (" None ", ()),
        ("echo", ("echo",)),
        ("wrong-length, LABELS_EQUAL", ("labels_equal", "wrong_length")),
        ("echo,echo", ("echo",)),
    ],
)
def test_parse_checks(text: str, names: tuple[str, ...]) -> None:
    assert parse_checks(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label_in_txt", "did you mean 'label_in_text'?"),
        ("language", "did you mean 'wrong_language'?"),
        ("length", "did you mean 'wrong_length'?"),
        ("non", "did you mean 'none'?"),
        ("qqqq", "Known are placeholder, echo"),
        ("", "empty name"),
        ("echo,", "empty name"),
        ("all,echo", "stands alone"),
        ("echo,none", "stands alone"),
        ("x" * 10_000, "unknown check"),
    ],
)
def test_checks_that_cannot_be_understood(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse_checks(text)
    assert "\n" not in str(error.value)


def test_a_caller_may_have_checks_of_its_own() -> None:
    assert parse_checks("near_duplicate,echo", (*CHECKS, "near_duplicate")) == ("echo", "near_duplicate")
    with pytest.raises(ValueError, match="did you mean 'near_duplicate'"):
        parse_checks("near-duplicates", (*CHECKS, "near_duplicate"))


@pytest.mark.parametrize(
    "fields",
    [
        {"names": ("nothing",)},
        {"length_slack": 0.5},
        {"length_slack": float("nan")},
        {"max_label_columns": 0},
        {"language_min_confidence": 1.5},
    ],
)
def test_thresholds_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"known are|must be|lies between"):
        Checks(**fields)


def test_common_words_are_known_for_every_language() -> None:
    english = common_words("English")
    assert {"yes", "no", "none", "other", "both"} <= english
    assert not english & {"positive", "negative", "true", "false", "spam", "right", "left"}
    bare = {name for name in NAMES if common_words(name) == english}
    assert bare == {"English", *(name for name in NAMES if name.endswith(("Romanized", "(Zawgyi)")))}


# --- any text

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=200)
WORDS = st.sampled_from(
    ["no", "体育", "กีฬา", "C++", "N/A", "[text]", "\ud800", "ก", "한국", "رياضة", "-", "label: ", ""]
)
TEXTS = ANY_TEXT | st.lists(WORDS, max_size=8).map("".join) | st.lists(WORDS, max_size=8).map(" ".join)


@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.sampled_from(NAMES), st.sampled_from((*NUM_WORDS, ANY)))
@settings(max_examples=200)
def test_nothing_raises_and_verdicts_stay(
    text: str, label: str, misleading: str, task: str, prompt: str, language: str, num_words: str
) -> None:
    example = make_example(
        task,
        input_text=text,
        label=label,
        misleading_label=misleading,
        prompt=prompt,
        language=language,
        num_words=num_words,
    )
    fault = find_fault(example, Checks())
    assert find_fault(replace(example), Checks()) == fault
    if fault is not None:
        assert fault.reason in CHECKS
        assert reason_of(example, Checks().without(fault.reason)) != fault.reason
        assert reason_of(example, Checks(names=(fault.reason,))) == fault.reason
    assert find_fault(example, Checks(names=())) is None
