"""FindDuplicates: of several examples with one text one stands, always the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import apache_beam as beam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.elements import REASONS, Example, Reject, Verdict
from textmint.transforms.core.texts import text_id
from textmint.transforms.dedup.find_duplicates import FindDuplicates, Seen, duplicates

from tests.support.helpers import make_example, make_reject, run_step, shuffled


def verdict(id_: str, detail: str) -> Verdict:
    return Verdict(id=id_, stage="FindDuplicates", reason="duplicate", detail=detail)


def by_id(verdicts: Any) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: verdict.id)


# --- which one stands


def test_the_smallest_id_of_this_run_stands() -> None:
    seen = [("t", "c", ""), ("t", "a", ""), ("t", "b", ""), ("u", "d", "")]
    assert by_id(duplicates(seen)) == [verdict("b", "the same text as a"), verdict("c", "the same text as a")]


def test_what_another_label_has_stands_whatever_the_ids_are() -> None:
    seen = [("t", "a", ""), ("t", "b", ""), ("t", "z", "two"), ("t", "y", "two"), ("t", "zz", "one")]
    told = "the same text as zz of refresh=one"
    assert by_id(duplicates(seen)) == [verdict("a", told), verdict("b", told)]


def test_the_same_id_in_another_label_stands_too() -> None:
    assert list(duplicates([("t", "a", ""), ("t", "a", "one")])) == [verdict("a", "the same text as a of refresh=one")]


def test_texts_that_only_other_labels_have_are_no_matter() -> None:
    assert list(duplicates([("t", "a", "one"), ("t", "b", "two"), ("u", "c", "")])) == []
    assert list(duplicates([])) == []


def test_of_labels_that_were_published_at_once_the_first_keeps_a_text() -> None:
    both = [("t", "x", "a"), ("t", "y", "b")]
    assert list(duplicates([*both, ("t", "x", "")], "a")) == []
    assert list(duplicates([*both, ("t", "y", "")], "b")) == [verdict("y", "the same text as x of refresh=a")]
    # what the label did not have it does not get, whatever its name
    assert list(duplicates([("t", "y", "b"), ("t", "x", "")], "a")) == [verdict("x", "the same text as y of refresh=b")]
    # a text of a third label, before both
    assert len(list(duplicates([*both, ("t", "z", "A"), ("t", "x", "")], "a"))) == 1
    # within the run the smallest id stands, whichever was published
    assert by_id(duplicates([*both, ("t", "x", ""), ("t", "w", "")], "a")) == [verdict("x", "the same text as w")]


SEEN = st.lists(
    st.tuples(st.sampled_from("tuv"), st.sampled_from("abcdefgh"), st.sampled_from(["", "", "one", "two"])),
    max_size=12,
    unique_by=lambda seen: seen[1:],  # an id is once in a label
)


@given(SEEN, st.randoms(use_true_random=False))
def test_no_order_decides_and_one_of_each_text_stands(seen: list[Seen], chance: Any) -> None:
    other = list(seen)
    chance.shuffle(other)
    verdicts = by_id(duplicates(seen))
    assert verdicts == by_id(duplicates(other))
    refused = {verdict.id for verdict in verdicts}
    assert len(refused) == len(verdicts)
    for text in "tuv":
        ours = {id_ for found, id_, label in seen if found == text and not label}
        theirs = any(found == text and label for found, _, label in seen)
        assert len(ours - refused) == (1 if ours and not theirs else 0)
    assert {verdict.reason for verdict in verdicts} <= set(REASONS)


# --- the step


def saying(text: str, replica: int) -> Example:
    return make_example("Sort bees", replica, input_text=text)


ROWS = [
    *(saying(f"Text {n}.", n) for n in range(20)),
    saying("It rains.", 20),
    saying(" it  RAINS.", 21),
    saying("\uff29t rains.", 22),
    saying("It rains!", 23),
    saying("\ud800 half", 24),
    saying("\ufffd half", 25),
]
RAINS = sorted(row.id for row in ROWS[20:23])
HALF = sorted(row.id for row in ROWS[24:26])
IN_THIS_RUN = by_id(
    [
        *(verdict(id_, f"the same text as {RAINS[0]}") for id_ in RAINS[1:]),
        verdict(HALF[1], f"the same text as {HALF[0]}"),
    ]
)


@dataclasses.dataclass(eq=False)
class Publish(beam.PTransform):
    rows: list[Seen]

    def expand(self, pipeline: beam.pvalue.PBegin) -> Any:
        return pipeline | beam.Create(self.rows)


@pytest.mark.parametrize("expected_rows", [0, 1, 100_000, 10**12])
def test_in_how_many_pieces_texts_are_compared_decides_nothing(expected_rows: int) -> None:
    step = FindDuplicates(expected_rows=expected_rows)
    assert by_id(run_step(step, shuffled([*ROWS, make_reject()], "x"), Example).elements) == IN_THIS_RUN


def test_rejects_have_no_text() -> None:
    assert run_step(FindDuplicates(), [make_reject("Sort", n) for n in range(3)], Reject).elements == []


@pytest.mark.parametrize("expected_rows", [1, 1_000_000])
def test_with_what_other_labels_have(expected_rows: int) -> None:
    published = Publish(
        [
            (text_id("IT RAINS."), "f" * 32, "two"),
            (text_id("it rains."), "e" * 32, "one"),
            (text_id("Nobody says this."), "d" * 32, "one"),
            (text_id("text 3."), "0" * 32, "two"),
        ]
    )
    ran = run_step(FindDuplicates(published, expected_rows), shuffled(ROWS), Example)
    assert by_id(ran.elements) == by_id(
        [
            *(verdict(id_, f"the same text as {'e' * 32} of refresh=one") for id_ in RAINS),
            verdict(ROWS[3].id, f"the same text as {'0' * 32} of refresh=two"),
            verdict(HALF[1], f"the same text as {HALF[0]}"),
        ]
    )


def test_golden_values() -> None:
    """The later replica stands, since its id is smaller: another answer would take other rows of every dataset."""
    first, second = saying("It rains.", 1), saying("it rains.", 3)
    (told,) = run_step(FindDuplicates(), [first, second], Example).elements
    assert told == verdict("bad34d0143b64e05ab5e675a48ed466c", "the same text as b3635886d19e3515469412a2b4f62b11")
