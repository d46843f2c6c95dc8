"""ShardElements: elements come out as they went in, in groups by their id alone."""

from __future__ import annotations

import pytest
from transforms.shard_elements import ShardElements, shard_of, shards_for

from tests.helpers import make_draft, make_reject, make_seed, run_step, shuffled
from transforms.elements import Draft, TaskSeed

DRAFTS = [make_draft("Sort bees", n) for n in range(200)]


@pytest.mark.parametrize("shards", [1, 7, 1000])
def test_every_element_comes_out_once_and_unchanged(shards: int) -> None:
    elements = [*DRAFTS, make_reject("Other")]
    ran = run_step(ShardElements(shards), shuffled(elements), Draft)
    assert sorted(map(repr, ran.elements)) == sorted(map(repr, elements))


def test_seeds_too() -> None:
    seeds = [make_seed(n, None if n % 2 else "bees") for n in range(9)]
    assert sorted(map(repr, run_step(ShardElements(), seeds, TaskSeed).elements)) == sorted(map(repr, seeds))


def test_a_shard_depends_on_the_id_alone_and_is_evenly_filled() -> None:
    counts: dict[str, int] = {}
    for draft in (make_draft("Sort bees", n) for n in range(4_000)):
        shard = shard_of(draft, 4)
        assert shard == shard_of(draft, 4)
        counts[shard] = counts.get(shard, 0) + 1
    assert sorted(counts) == ["0000", "0001", "0002", "0003"]
    # Binomial, 1,000 expected of 4,000: five standard deviations are 137.
    assert all(abs(count - 1_000) < 137 for count in counts.values())


def test_groups_hold_about_a_thousand() -> None:
    assert shards_for(0) == shards_for(10_000) == 64
    assert shards_for(1_000_000) == 1_000
    assert shards_for(10**12) == 65_536
