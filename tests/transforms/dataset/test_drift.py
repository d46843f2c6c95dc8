"""Drift: what has changed between two refreshes, and whether chance explains it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import Example
from textmint.transforms.dataset.drift import chi_squared, drift, survival

from tests.support.described_rows import described, make_rows

ROWS = make_rows()


@pytest.mark.parametrize(
    ("statistic", "degrees", "chance"),
    # of tables of chi-squared: M. Abramowitz and I. Stegun, table 26.8
    [(3.84146, 1, 0.05), (5.99146, 2, 0.05), (7.81473, 3, 0.05), (18.3070, 10, 0.05), (24.7250, 11, 0.01), (0, 3, 1)],
)
def test_chance_is_that_of_the_tables(statistic: float, degrees: int, chance: float) -> None:
    assert survival(statistic, degrees) == pytest.approx(chance, rel=1e-4)


def test_chi_squared_of_a_known_table() -> None:
    found = chi_squared({"a": 10, "b": 20}, {"a": 20, "b": 10})
    assert found is not None
    assert (found["chi_squared"], found["degrees_of_freedom"]) == (6.6667, 1)
    assert found["p_value"] == pytest.approx(0.00982, rel=1e-3)
    assert found["cramers_v"] == pytest.approx((6.6667 / 60) ** 0.5, abs=1e-4)


def test_rare_values_are_pooled_and_too_few_rows_are_not_tested() -> None:
    rare = {f"rare {n}": 1 for n in range(12)}
    found = chi_squared({"a": 100, "b": 50, **rare}, {"a": 100, "b": 50, **rare})
    assert found is not None and found["degrees_of_freedom"] == 2 and found["p_value"] == 1
    assert chi_squared({"a": 4, "b": 3}, {"a": 3, "b": 4}) is None
    assert chi_squared({"a": 100}, {"a": 100}) is None
    assert chi_squared({}, {"a": 100, "b": 100}) is None


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 200))


@given(COUNTS, COUNTS)
def test_any_counts(before: dict[str, int], after: dict[str, int]) -> None:
    found = chi_squared(before, after)
    if found:
        assert 0 <= found["p_value"] <= 1 and 0 <= found["cramers_v"] <= 1
        assert found == chi_squared(after, before)


def test_what_changed_is_shown() -> None:
    long = [
        replace(row, language="German") if isinstance(row, Example) and n % 2 else row for n, row in enumerate(ROWS)
    ]
    found = {line["name"]: line for line in drift(described(ROWS), described(long))}
    assert json.loads(json.dumps(found)) == found
    language = found["language"]
    assert language["test"]["p_value"] < 0.001
    shares = {value["value"]: (value["before_share"], value["after_share"]) for value in language["values"]}
    assert shares["English"][0] == 1 and shares["German"][0] == 0
    assert shares["German"][1] == pytest.approx(1 - shares["English"][1], abs=2e-4)
    for name in ("num_words", "words", "labels of a task", "similarity"):
        assert found[name]["test"] is None or found[name]["test"]["p_value"] == 1, name
        assert all(value["difference"] == 0 for value in found[name]["values"])
    assert (found["clarity"]["test"], found["clarity"]["note"]) == (None, "one value only")


def test_a_refresh_without_rows() -> None:
    for pair in ((ROWS, []), ([], ROWS), ([], [])):
        for line in drift(described(pair[0]), described(pair[1])):
            assert line["test"] is None and line["note"] == "too few rows"
