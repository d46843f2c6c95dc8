"""SelectExamples: exactly as many examples as were asked for, whatever the order, evenly over tasks and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.elements import REASONS, Example, Relabel, Verdict
from textmint.transforms.dataset.select_examples import SelectExamples, boundary, left_over, order_of, turns_of

from tests.support.helpers import make_example, make_reject, run_graph, shuffled

SIZES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=5)
"""How many rows of each label, of each task."""


def rows(sizes: Sequence[Sequence[int]]) -> list[tuple[str, str, str]]:
    return [
        (f"{task}-{label}-{n}", f"task {task}", f"label {label}")
        for task, labels in enumerate(sizes)
        for label, count in enumerate(labels)
        for n in range(count)
    ]


def taken(found: Sequence[tuple[str, str, str]], wanted: int) -> set[str]:
    """What the graph takes, put together of its pure parts."""
    turns = [
        turn
        for task in {row[1] for row in found}
        for turn in turns_of((id_, label) for id_, task_id, label in found if task_id == task)
    ]
    end, rest = boundary(Counter(turn for _, turn in turns), wanted)
    last = sorted(order_of(id_) for id_, turn in turns if turn == end)
    return {id_ for id_, turn in turns if turn < end or (turn == end and order_of(id_) < last[rest])}


def is_even(kept: Counter[str], there: Counter[str]) -> bool:
    """No group has two fewer than another, unless it has no more."""
    return all(
        kept[less] >= kept[more] - 1 or kept[less] == there[less] for less in there for more in there if less != more
    )


@given(SIZES, st.integers(1, 60), st.randoms(use_true_random=False))
def test_exactly_so_many_evenly_and_in_any_order(sizes: list[list[int]], wanted: int, random: Any) -> None:
    found = rows(sizes)
    kept = taken(found, wanted)
    assert len(kept) == min(wanted, len(found))
    chosen = [row for row in found if row[0] in kept]
    assert is_even(Counter(task for _, task, _ in chosen), Counter(task for _, task, _ in found))
    for task in {row[1] for row in found}:
        of_task = [[label for _, other, label in each if other == task] for each in (chosen, found)]
        assert is_even(Counter(of_task[0]), Counter(of_task[1]))
    random.shuffle(found)
    assert taken(found, wanted) == kept
    assert taken(found, wanted + 1) > kept or len(found) <= wanted  # one more changes nothing else


def test_hashes_decide_and_are_pinned() -> None:
    assert order_of("a") == "53c64755ba7cc6280ab4d19cc31fc69b"
    assert [id_ for id_, _ in turns_of([(str(n), "one") for n in range(6)])] == sorted("012345", key=order_of)


@pytest.mark.parametrize(
    ("turns", "wanted", "end"),
    [
        ({0: 5, 1: 3}, 4, (0, 4)),
        ({0: 5, 1: 3}, 5, (1, 0)),
        ({0: 5, 1: 3}, 7, (1, 2)),
        ({0: 5, 1: 3}, 8, (2, 0)),
        ({0: 5, 1: 3}, 9, (2, 0)),
        ({}, 1, (0, 0)),
    ],
)
def test_the_last_turn(turns: dict[int, int], wanted: int, end: tuple[int, int]) -> None:
    assert boundary(turns, wanted) == end


def test_what_a_comparison_refuses_is_not_counted() -> None:
    assert list(left_over(["b", ("a", "t", "l"), ("b", "t", "l"), "z"])) == [("a", "t", "l")]


def select(examples: Sequence[Any], verdicts: Sequence[Verdict | Relabel], wanted: int, **more: Any) -> list[Any]:
    def build(pipeline: beam.Pipeline) -> Any:
        streams = {"examples": examples, "verdicts": verdicts}
        created = {name: pipeline | name >> beam.Create(elements) for name, elements in streams.items()}
        return created | SelectExamples(wanted, **more)

    return sorted(run_graph(build).elements, key=repr)


EXAMPLES = [
    make_example(f"Sort kind {task}", replica, label=f"label {replica % 3}")
    for task in range(5)
    for replica in range(6 if task else 2)
]
OTHERS: list[Verdict | Relabel] = [
    *(Verdict(id=row.id, stage="FindDuplicates", reason="duplicate", detail="") for row in EXAMPLES[2:5]),
    *(Verdict(id=row.id, stage="FindNearDuplicates", reason="near_duplicate", detail="") for row in EXAMPLES[3:4]),
    Relabel(id=EXAMPLES[-1].id, label="a", misleading_label="b"),
]


@pytest.mark.parametrize("wanted", [1, 9, 22, 23, 24, 500])
def test_the_step_refuses_the_surplus(wanted: int) -> None:
    found = select([*EXAMPLES, make_reject()], OTHERS, wanted)
    surplus = [one for one in found if one not in OTHERS]
    assert len(found) == len(surplus) + len(OTHERS) and all(one in found for one in OTHERS)
    assert len(surplus) == max(0, 23 - wanted)
    assert {(one.stage, one.reason in REASONS) for one in surplus} <= {("SelectExamples", True)}
    refused = {one.id for one in found if isinstance(one, Verdict)}
    left = [row for row in EXAMPLES if row.id not in {one.id for one in OTHERS if isinstance(one, Verdict)}]
    kept = {row.id for row in EXAMPLES} - refused
    assert kept == taken([(row.id, row.task_id, row.label_id) for row in left], wanted)


def test_neither_order_nor_shards_matter() -> None:
    examples: list[Example] = shuffled(EXAMPLES)
    assert select(examples, OTHERS[::-1], 9, expected_rows=10**9) == select(EXAMPLES, OTHERS, 9)
    assert select([make_reject()], [], 9) == []
