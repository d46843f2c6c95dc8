"""The plan's arithmetic: what requests take, from what is known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.pipelines.graph.plan import (
    ASSUMED_LATENCY,
    ENOUGH,
    EXAMPLE_BYTES,
    Asked,
    Line,
    Pace,
    Plan,
    Seen,
    Stratum,
    duration,
    line_of,
    output_of,
    text_tokens,
    tokens_of,
)
from textmint.transforms.core.attributes import ANY, NUM_WORDS
from textmint.transforms.llm.prices import parse_price

PACE = Pace(max_concurrency=64, requests_per_minute=None, tokens_per_minute=None)
LENGTHS = {
    "short": Stratum(share=0.5, prompt=200.0, output=20.0),
    "long": Stratum(share=0.5, prompt=200.0, output=180.0),
}
PRICE = parse_price("1,2")


def asked(**changes: Any) -> Asked:
    given = {"what": "examples", "prompts": 1_000, "is_exact": True, "strata": LENGTHS}
    return Asked(**{**given, "price": PRICE, **changes})


def seen(short: tuple[int, int], long: tuple[int, int], **changes: Any) -> Seen:
    replies = short[0] + long[0]
    tokens = {name: (number, 200 * number, output) for name, (number, output) in {"short": short, "long": long}.items()}
    given = {"replies": replies, "firsts": replies, "latency_ms": 500 * replies}
    return Seen(**{**given, "tokens": tokens, **changes})


# --- tokens


def test_without_replies_tokens_are_estimated() -> None:
    line = line_of(asked(), PACE)
    assert (line.prompt_tokens, line.output_tokens, line.measured_on) == (200_000, 100_000, 0)
    assert line.cost == 200_000 * 10**6 + 100_000 * 2 * 10**6
    assert (line.latency, line.latency_is) == (ASSUMED_LATENCY, "assumed")


def test_too_few_replies_are_no_measure() -> None:
    few = seen((ENOUGH - 1, 999), (0, 0))
    assert tokens_of(asked(seen=few)) == tokens_of(asked())
    assert line_of(asked(seen=few), PACE).measured_on == 0


def test_replies_of_one_length_do_not_stand_for_all() -> None:
    """Nine short replies and one long one, as long as estimated: the mean is not that of the ten."""
    assert tokens_of(asked(seen=seen((9, 9 * 20), (1, 180))))[1] == pytest.approx(100)
    half = seen((9, 9 * 10), (1, 90))
    assert tokens_of(asked(seen=half))[1] == pytest.approx(50)
    assert tokens_of(asked(seen=seen((10, 10 * 10), (0, 0))))[1] == pytest.approx(50)  # of long ones none was seen


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.2, 5))
def test_measured_tokens_scale_with_what_was_seen(short: int, long: int, factor: float) -> None:
    found = seen((short, round(short * 20 * factor)), (long, round(long * 180 * factor)))
    if found.is_enough:
        assert tokens_of(asked(seen=found))[1] == pytest.approx(100 * factor, rel=0.1, abs=2)


def test_many_replies_of_a_length_count_as_they_are() -> None:
    assert tokens_of(asked(seen=seen((5_000, 5_000 * 40), (5_000, 5_000 * 160))))[1] == pytest.approx(100, rel=0.01)


def test_replies_of_lengths_that_are_not_asked_for_any_more() -> None:
    found = Seen(replies=10, firsts=10, latency_ms=10, tokens={"any": (10, 100, 700)})
    assert tokens_of(asked(seen=found)) == (10, 70)


def test_longer_texts_take_more_tokens_and_other_languages_more_than_english() -> None:
    english = [text_tokens(num_words, "English") for num_words in NUM_WORDS]
    assert english == sorted(english)
    assert all(text_tokens(num_words, "Thai") > text_tokens(num_words, "English") for num_words in (*NUM_WORDS, ANY))


# --- requests


def test_what_the_ledger_answers_is_not_sent() -> None:
    assert line_of(asked(answered=990), PACE).requests == 10
    nothing = line_of(asked(answered=1_000, price=None), PACE)
    assert (nothing.requests, nothing.cost, nothing.seconds) == (0, 0, 0.0)  # whatever a request costs


def test_what_cannot_be_read_is_asked_again() -> None:
    found = seen((60, 1_200), (60, 10_800), firsts=100)
    assert line_of(asked(seen=found), PACE).requests == 1_200


def test_without_a_price_no_cost_is_told() -> None:
    line = line_of(asked(price=None), PACE)
    assert line.cost is None
    lines = (line_of(asked(), PACE), line)
    output = output_of(lines[:1], 1, None, bytes_a_row={}, shard_bytes=10**6, plans_labels=False)
    plan = Plan(lines=lines, pace=PACE, output=output)
    assert (plan.cost, plan.requests) == (None, 2_000)
    assert dataclasses.replace(plan, lines=lines[:1]).cost == lines[0].cost


# --- time


@pytest.mark.parametrize(
    ("changes", "latency", "seconds", "limit"),
    [
        ({}, 2.0, 1_000 * 2 / 64, "max_concurrency"),
        ({"max_concurrency": 1}, 2.0, 2_000, "max_concurrency"),
        ({"requests_per_minute": 60.0}, 2.0, 1_000, "requests_per_minute"),
        ({"requests_per_minute": 60.0, "processes": 4}, 2.0, 250, "requests_per_minute"),
        ({"tokens_per_minute": 3_000.0}, 2.0, 6_000, "tokens_per_minute"),
        ({"requests_per_minute": 10_000.0}, 2.0, 1_000 * 2 / 64, "max_concurrency"),
        ({"requests_per_minute": 600.0}, 0.0, 100, "requests_per_minute"),
        ({}, 0.0, 0, "max_concurrency"),
    ],
)
def test_the_narrowest_cap_decides(changes: dict[str, Any], latency: float, seconds: float, limit: str) -> None:
    found = duration(1_000, 300.0, latency, dataclasses.replace(PACE, **changes))
    assert found == (pytest.approx(seconds), limit)


def test_few_requests_take_the_time_of_one() -> None:
    assert duration(1, 300.0, 2.0, PACE)[0] == 2.0
    assert duration(0, 300.0, 2.0, PACE)[0] == 0.0


def test_the_latency_seen_goes_before_the_assumed_one() -> None:
    line = line_of(asked(seen=seen((10, 200), (10, 1_800))), PACE)
    assert (line.latency, line.latency_is) == (0.5, "measured")
    known = line_of(asked(latency=0.0, latency_is_known=True), PACE)
    assert (known.latency, known.latency_is, known.seconds) == (0.0, "known", 0.0)


@given(st.integers(0, 10**9), st.floats(0, 100), st.integers(1, 1_000), st.integers(1, 100))
def test_time_is_finite_and_more_processes_are_never_slower(
    requests: int, latency: float, concurrency: int, processes: int
) -> None:
    pace = dataclasses.replace(PACE, max_concurrency=concurrency)
    one, _ = duration(requests, 300.0, latency, pace)
    many, _ = duration(requests, 300.0, latency, dataclasses.replace(pace, processes=processes))
    assert 0 <= many <= one < math.inf


# --- output


def line(**changes: Any) -> Line:
    return dataclasses.replace(line_of(asked(), PACE), **changes)


def test_rows_are_those_that_are_kept() -> None:
    output = output_of([line()], 100, 0.75, bytes_a_row={}, shard_bytes=10**9, plans_labels=False)
    assert (output.examples, output.acceptance, output.acceptance_is_measured, output.files) == (750, 0.75, True, 4)
    unknown = output_of([line()], 100, None, bytes_a_row={}, shard_bytes=10**9, plans_labels=True)
    assert (unknown.examples, unknown.acceptance_is_measured, unknown.files) == (1_000, False, 5)


def test_sizes_that_were_seen_go_before_estimates() -> None:
    sizes = {"examples": 1_000.0, "triplets": 500.0, "tasks": 0.0}
    output = output_of([line()], 100, 1.0, bytes_a_row=sizes, shard_bytes=100_000, plans_labels=False)
    assert output.bytes == pytest.approx(1_500_000, rel=0.1)
    assert output.files == 10 + 5 + 1 + 1
    estimated = output_of([line()], 100, 1.0, bytes_a_row={}, shard_bytes=10**9, plans_labels=False)
    assert estimated.bytes > 2 * 1_000 * EXAMPLE_BYTES


def test_what_the_ledger_answers_makes_it_no_larger() -> None:
    none = line_of(asked(answered=1_000), PACE)
    output = output_of([none], 100, None, bytes_a_row={}, shard_bytes=10**9, plans_labels=False)
    assert output.ledger_bytes == 0
    assert output.bytes > 1_000 * EXAMPLE_BYTES
