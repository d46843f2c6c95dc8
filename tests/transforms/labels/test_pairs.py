"""Label pairs: the examples of a task share its labels evenly."""

from __future__ import annotations

import collections

import pytest
from textmint.transforms.labels.pairs import pair_of

SIZES = (2, 3, 4, 7, 20)


def label_set(size: int) -> tuple[str, ...]:
    return tuple(f"label {number}" for number in range(size))


def pairs(labels: tuple[str, ...], replicas: int, task_id: str = "t", seed: int = 42) -> list[tuple[str, str]]:
    return [pair_of(labels, task_id=task_id, seed=seed, replica=replica) for replica in range(replicas)]


def spread(counts: collections.Counter[str], labels: tuple[str, ...]) -> int:
    amounts = [counts[label] for label in labels]
    return max(amounts) - min(amounts)


@pytest.mark.parametrize("size", SIZES)
def test_labels_are_spread_evenly_over_any_number_of_replicas(size: int) -> None:
    labels = label_set(size)
    right: collections.Counter[str] = collections.Counter()
    wrong: collections.Counter[str] = collections.Counter()
    against: dict[str, collections.Counter[str]] = {label: collections.Counter() for label in labels}
    for label, misleading in pairs(labels, 2 * size * (size - 1) + size + 1):
        assert label != misleading
        right[label] += 1
        wrong[misleading] += 1
        against[label][misleading] += 1
        assert spread(right, labels) <= 1 and spread(wrong, labels) <= 1
        others = tuple(other for other in labels if other != label)
        assert spread(against[label], others) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_every_pair_comes_once_before_any_comes_twice(size: int) -> None:
    cycle = size * (size - 1)
    found = pairs(label_set(size), 2 * cycle)
    assert len(set(found[:cycle])) == len(set(found[cycle:])) == cycle


def test_the_order_in_which_a_model_lists_labels_changes_nothing() -> None:
    assert pairs(label_set(5), 50) == pairs(label_set(5)[::-1], 50)


def test_tasks_seeds_and_blocks_have_orders_of_their_own() -> None:
    labels = label_set(6)
    assert len({tuple(pairs(labels, 6, f"task {number}")) for number in range(20)}) == 20
    assert len({tuple(pairs(labels, 6, seed=seed)) for seed in range(20)}) == 20
    found = [label for label, _ in pairs(labels, 60)]
    assert len({tuple(found[start : start + 6]) for start in range(0, 60, 6)}) > 5


def test_golden_pairs() -> None:
    # Another order would give other examples for every planned dataset.
    assert pairs(("positive", "neutral", "negative"), 7) == GOLDEN


GOLDEN = [
    ("neutral", "negative"),
    ("negative", "positive"),
    ("positive", "neutral"),
    ("negative", "neutral"),
    ("positive", "negative"),
    ("neutral", "positive"),
    ("neutral", "negative"),
]
