"""Label choice: what models answer when they are asked which of two labels fits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.elements import REASONS, FinishReason
from textmint.transforms.labels.choice import Named, read_choice, which_label
from textmint.transforms.parsing.results import Refusal


@pytest.mark.parametrize(
    ("named", "first", "second", "label"),
    [
        # the text, exactly or in another spelling
        ("negative", "positive", "negative", "negative"),
        (" Negative. ", "positive", "negative", "negative"),
        ('"non profit"', "Non-Profit", "profit", "Non-Profit"),
        ("NÉGATIF", "positif", "négatif", "négatif"),
        ("反対。", "賛成", "反対", "反対"),
        ("The label is: negative", "positive", "negative", "negative"),
        ("Answer: **negative**", "positive", "negative", "negative"),
        ("not spam", "spam", "not spam", "not spam"),
        ("A+", "A", "A+", "A+"),
        ("A", "A+", "A", "A"),
        ("*", "**", "*", "*"),
        # the place
        ("first", "x", "y", "x"),
        ("The second one.", "x", "y", "y"),
        ("the second label", "x", "y", "y"),
        ("A", "x", "y", "x"),
        ("(b)", "x", "y", "y"),
        ("Option B", "x", "y", "y"),
        ("label 1", "x", "y", "x"),
        ("2", "x", "y", "y"),
        ("B: y", "x", "y", "y"),
        ("1) x", "x", "y", "x"),
        # a label that is a place wins by its text
        ("A", "B", "A", "A"),
        ("b", "B", "A", "B"),
        ("first", "second", "first", "first"),
        ("1", "2", "1", "1"),
        ("2", "2", "1", "2"),
        ("A", "x", "A", "A"),
        ("the first", "second", "the first", "the first"),
        # neither
        ("neither", "x", "y", None),
        ("A: y", "x", "y", None),  # it contradicts itself
        ("both", "x", "y", None),
        ("C", "x", "y", None),
        ("3", "x", "y", None),
        ("positive or negative", "positive", "negative", None),
        ("posi", "positive", "negative", None),
        ("...", "x", "y", None),
        ("", "x", "y", None),
    ],
)
def test_which_label_is_meant(named: str, first: str, second: str, label: str | None) -> None:
    assert which_label(named, first, second) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"label": "negative"}', "negative"),
        ('```json\n{"label": "negative"}\n```', "negative"),
        ('I would say: {"label": "negative"}. It complains.', "negative"),
        ("{'label': 'negative',}", "negative"),
        ('{"label": "negative", "explanation": "positive words are ironic"}', "negative"),
        ('[{"label": "negative"}]', "negative"),
        ('{"label": 2}', "negative"),
        ("{'label': 1}", "positive"),
        ('{"label":2}', "negative"),
        ('{"label": "B"}', "negative"),
        ('{"label": "neutral"}', None),
        ('{"label": 3}', "wrong_type"),
        ('{"label": ["negative"]}', "wrong_type"),
        ("negative", "negative"),
        ('"negative"', "negative"),
        ("**Negative**", "negative"),
        ("2", "negative"),
        ("I would rather not.", "not_json"),
        ("It is hard to tell positive from negative here.", "not_json"),
        ('["positive", "negative"]', "wrong_shape"),
        ('{"answer": "negative"}', "missing_field"),
        ('{"label": " "}', "empty_field"),
        (" \n", "empty"),
    ],
)
def test_replies(text: str, label: str | None) -> None:
    found = read_choice(text, "stop", "positive", "negative")
    if isinstance(found, Refusal):
        assert found.reason == label
    else:
        assert found.label == label
        assert found.text


def test_what_was_cut_off_or_withheld_is_no_answer() -> None:
    def reason(text: str, finish_reason: FinishReason) -> str:
        found = read_choice(text, finish_reason, "spam", "spam of the worst kind")
        assert isinstance(found, Refusal)
        return found.reason

    assert reason('{"label": "spam', "length") == "truncated"
    assert reason("spam", "length") in ("not_json", "truncated")
    assert reason('{"label": "spam"}', "content_filter") == "blocked"


LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda label: label.strip())


@given(LABELS, LABELS)
def test_a_label_that_is_copied_is_understood(first: str, second: str) -> None:
    for label in (first, second):
        found = read_choice(json.dumps({"label": label}), "stop", first, second)
        assert isinstance(found, Named) and found.label is not None
        if label == label.strip():
            assert found.label == label


@given(st.text(), st.sampled_from(["stop", "length", "content_filter"]), LABELS, LABELS)
def test_no_reply_raises(text: str, finish_reason: FinishReason, first: str, second: str) -> None:
    found = read_choice(text, finish_reason, first, second)
    if isinstance(found, Refusal):
        assert found.reason in REASONS
    else:
        assert found.label in (first, second, None)
