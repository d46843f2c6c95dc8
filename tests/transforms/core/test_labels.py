"""Labels: what vanishes from a spelling and what does not, and the ids that follow from it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.labels import MAX_LABEL_COLUMNS, MAX_LABELS, agree, clean_labels, label_id, normal_form

from tests.support.helpers import shuffled

# Each line is one label in several spellings; no two lines are the same label.
SPELLINGS = [
    ["Non-profit", "non profit", '"nonprofit"', "NON_PROFIT.", "**Non‑Profit**", "<non-profit>", "- non-profit"],
    ["C", "c", "(C)", "C.", "Ｃ"],
    ["C++", "c ++"],
    ["C#", "c#"],
    ["F", "f"],
    ["F#"],
    ["+", "＋"],
    ["-", "−", "–"],
    ["?"],
    [":("],
    [":)"],
    ["A", "a)", "**A**"],
    ["A+", "a +"],
    ["A-", "a−"],
    ["A*"],
    ["AB-"],
    ["AB+"],
    ["1"],
    ["-1", "−1"],
    ["+1"],
    ["1.5"],
    ["15"],
    ["10-20", "10 – 20", "10–20"],
    ["10 20"],
    ["1020"],
    ["3/4"],
    ["34"],
    ["<10", "< 10"],
    [">10"],
    [">=10", ">= 10"],
    ["10"],
    ["50%", "50 %"],
    ["50"],
    ["$"],
    ["$$"],
    ["R&D", "R & D", "rd"],
    ["don't know", "Dont know", "don’t know"],
    ["STRASSE", "Straße"],
    ["İyi", "iyi", "IYI"],
    ["می‌شود", "می شود", "«میشود»"],
    ["सकारात्मक", "सकारात्मक।"],
    ["👍", "👍️"],
    ["👎"],
    ["¿Qué?", "qué"],
    ["que"],
    ["体育", "体育。", "「体育」"],
]


@pytest.mark.parametrize("spellings", SPELLINGS, ids=lambda spellings: spellings[0])
def test_spellings_of_one_label_are_one(spellings: list[str]) -> None:
    assert len({normal_form(spelling) for spelling in spellings}) == 1


def test_different_labels_stay_apart() -> None:
    assert len({normal_form(spellings[0]) for spellings in SPELLINGS}) == len(SPELLINGS)


@pytest.mark.parametrize(
    ("label", "form"),
    [
        ("Customer Service", "customerservice"),
        ("C++", "c++"),
        ("10 – 20", "10-20"),
        ("A-", "a-"),
        ("...", "..."),
        (" ", ""),
        ("\ud83d", "\ufffd"),  # a lone surrogate cannot be stored
    ],
)
def test_the_form_is_pinned(label: str, form: str) -> None:
    # Changing a form changes label ids, on which datasets of earlier refreshes are joined.
    assert normal_form(label) == form


def test_ids_are_pinned() -> None:
    # made with BLAKE2b over the encoding of transforms/core/identity.py; a change is a breaking one
    assert label_id("t1", "Customer Service") == "4de3a662e6fee59a436014ac65a30117"
    assert label_id("t1", "C++") == "669417c7585445eea5cee462df64540e"
    assert label_id("t1", "customer-service.") == label_id("t1", "Customer Service")
    assert label_id("t2", "Customer Service") != label_id("t1", "Customer Service")


def test_the_most_frequent_spelling_wins() -> None:
    counts = {"Spam": 3, "spam": 5, "SPAM.": 1, "Ham": 2, "ham": 2, "C": 9, "C++": 1}
    assert agree(counts) == {
        "Spam": "spam",
        "spam": "spam",
        "SPAM.": "spam",
        "Ham": "Ham",  # a tie: H comes before h
        "ham": "Ham",
        "C": "C",
        "C++": "C++",
    }
    assert agree({}) == {}


@given(st.dictionaries(st.text("aA-. +1", max_size=4), st.integers(1, 3), max_size=8))
def test_agreement_is_the_same_in_every_order(counts: dict[str, int]) -> None:
    agreed = agree(counts)
    assert agree(dict(shuffled(list(counts.items())))) == agreed
    assert set(agreed) == set(counts)
    for spelling, chosen in agreed.items():
        assert normal_form(chosen) == normal_form(spelling)
        assert counts[chosen] >= counts[spelling]
        assert agreed[chosen] == chosen


@given(st.text(st.characters(codec=None, categories=None)))
def test_no_label_raises(label: str) -> None:
    form = normal_form(label)
    form.encode()
    assert bool(form) == bool(form.strip())
    assert normal_form(f" {label}\n") == form


@pytest.mark.parametrize("part", ["a- ", "--", " 1", "<", " <"])
def test_a_huge_label_takes_no_more_than_its_length(part: str) -> None:
    normal_form.cache_clear()
    started = time.process_time()
    normal_form(part * 100_000)
    assert time.process_time() - started < 10  # it takes 0.1 s; growing with the square it would take an hour


@pytest.mark.parametrize(
    ("items", "labels"),
    [
        (["positive", "negative"], ("positive", "negative")),
        (["Positive", "positive.", " POSITIVE ", "negative"], ("Positive", "negative")),
        (["non profit", "Non-Profit", "profit"], ("non profit", "profit")),
        (["A+", "A-", "A"], ("A+", "A-", "A")),  # a sign says something here
        ([" two\n words ", "\t", "", "x"], ("two words", "x")),
        (["賛成", "反対", "賛成。"], ("賛成", "反対")),
        (["\ud83d", "x"], ("\ufffd", "x")),  # a lone surrogate cannot be stored
        (["a" * MAX_LABEL_COLUMNS, "b" * (MAX_LABEL_COLUMNS + 1)], ("a" * MAX_LABEL_COLUMNS,)),
        (["字" * (MAX_LABEL_COLUMNS // 2), "句" * (MAX_LABEL_COLUMNS // 2 + 1)], ("字" * (MAX_LABEL_COLUMNS // 2),)),
        ([], ()),
    ],
)
def test_what_is_a_label(items: list[str], labels: tuple[str, ...]) -> None:
    assert clean_labels(items) == labels


def test_of_too_many_labels_the_first_are_kept() -> None:
    numbered = tuple(f"label {number}" for number in range(30))
    assert clean_labels(numbered) == numbered[:MAX_LABELS]
    doubled = [spelling for label in numbered[:25] for spelling in (label, label.upper())]
    assert clean_labels(doubled) == numbered[:MAX_LABELS]  # the same label twice takes no place


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=20), max_size=30))
def test_labels_differ_and_can_be_stored(items: list[str]) -> None:
    labels = clean_labels(items)
    assert len({normal_form(label) for label in labels}) == len(labels) <= MAX_LABELS
    assert all(label.strip() == label != "" and label.encode() for label in labels)
    assert clean_labels(labels) == labels
