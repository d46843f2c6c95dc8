"""Similarity, diversity and distributions: that their arithmetic is right."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.dedup.minhash import normal_form, similarity
from textmint.transforms.statistics.distributions import histogram, quantiles
from textmint.transforms.statistics.diversity import diversity
from textmint.transforms.statistics.identified import identified
from textmint.transforms.statistics.similarity import PAIRS, nearest

from tests.support.near_copies import words_of

FEW_WORDS = st.lists(st.sampled_from(["a", "b", "c", "漢", "ไ"]), max_size=9).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(FEW_WORDS, max_size=14))
def test_each_text_is_as_alike_to_its_nearest_as_when_all_are_compared(texts: list[str]) -> None:
    found = nearest(texts)
    forms = [normal_form(text) for text in texts]
    alike = {(a, b): similarity(forms[a], forms[b]) for a, b in itertools.combinations(range(len(texts)), 2)}
    exact = [max((value for pair, value in alike.items() if place in pair), default=0) for place in range(len(texts))]
    assert found.similarities == pytest.approx(exact)
    for value, first, second in found.pairs:
        assert value == pytest.approx(alike[first, second]) and first < second
    if alike:
        assert [value for value, *_ in found.pairs][:1] == pytest.approx([max(alike.values())] * bool(found.pairs))
    assert len(found.pairs) <= PAIRS
    assert bool(found.pairs) == any(alike.values())


def test_diverse_texts_and_others() -> None:
    diverse = diversity([" ".join(words_of(number)) for number in range(50)])
    same = diversity([" ".join(words_of(0))] * 50)
    assert same["compression_ratio"] > 10 * diverse["compression_ratio"]
    assert same["repeating"] == 1 and diverse["repeating"] == 0
    assert same["distinct_ngrams"]["4"] == pytest.approx(1 / 50, abs=0.001)
    assert diverse["distinct_ngrams"]["4"] == 1
    assert diverse["self_repetition"] == 0
    grams = len({tuple(words_of(0)[at : at + 4]) for at in range(len(words_of(0)) - 3)})
    assert same["self_repetition"] == pytest.approx(math.log(1 + 49 * grams), abs=1e-4)
    assert same["sample"] == 50 and same["words"] == 50 * len(words_of(0))


def test_diversity_of_texts_too_short_for_anything() -> None:
    assert diversity([""])["distinct_ngrams"] == {"1": 1.0, "2": None, "3": None, "4": None}


def test_languages_found_and_asked() -> None:
    english = "The parcel came yesterday, but nobody has answered my question about the delivery since then."
    rows = [
        {"id": "1", "language": "English", "text": english},
        {"id": "2", "language": "German", "text": english},
        {"id": "3", "language": "German", "text": "kurz"},
        {"id": "4", "language": "Klingon", "text": english},
    ]
    found = identified(rows)
    assert found["sample"] == 4
    assert {(line["asked"], line["found"], line["verdict"], line["count"]) for line in found["found"]} == {
        ("English", "English", "right", 1),
        ("German", "English", "wrong", 1),
        ("German", None, "unknown", 1),
        ("Klingon", None, "unknown", 1),
    }
    assert [line["id"] for line in found["wrong"]] == ["2"]


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 9), min_size=1))
def test_quantiles_are_those_of_the_sorted_numbers(counts: dict[int, int]) -> None:
    numbers = sorted(number for number, count in counts.items() for _ in range(count))
    found = quantiles(counts)
    assert found["min"] == numbers[0] and found["max"] == numbers[-1]
    assert found["p50"] == numbers[math.ceil(len(numbers) / 2) - 1]
    assert quantiles({}) == {}


def test_histograms() -> None:
    counts = {0: 1, 4: 2, 5: 3, 10: 4, 12: 5}
    assert histogram(counts, (0, 5, 10)) == [
        {"from": 0, "to": 5, "count": 3},
        {"from": 5, "to": 10, "count": 3},
        {"from": 10, "to": None, "count": 9},
    ]
    shares = histogram({0: 1, 50: 2, 100: 4}, (0, 50, 100), 100, is_open=False)
    assert shares == [{"from": 0.0, "to": 0.5, "count": 1}, {"from": 0.5, "to": 1.0, "count": 6}]
