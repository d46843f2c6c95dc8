"""The waves of a capped run, as plain functions: the same replies lead to the same level, whatever was killed before,
and not beyond the cap."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.pipelines.graph.waves import Cap, Plan, Seen, next_level
from textmint.transforms.core.admission import BUCKETS, Admission, bucket_of
from textmint.transforms.dataset.accounting import Meter, rounded_up

from tests.support.helpers import make_draft, make_seed, make_task

METER = Meter(name="tokens", weights={"TaskGenerate": (1, 1), "LLMCall": (1, 1)})


def cap_of(most: int, estimate: int = 200) -> Cap:
    return Cap("--max_tokens", most, METER, {"TaskGenerate": (0, 100), "LLMCall": (0, estimate)})


class World:
    """An endpoint with a fixed size of the reply to each draft, and a launcher that pays for waves."""

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self.sizes = sizes
        self.buckets = [bucket_of(f"{seed}/{number // 3}", number % 3, 3) for number in range(len(sizes))]
        self.paid: set[int] = set()

    @property
    def spent(self) -> int:
        return sum(self.sizes[draft] for draft in self.paid)

    def drafts_below(self, level: int) -> list[int]:
        return [draft for draft, bucket in enumerate(self.buckets) if bucket < level]

    def plan(self) -> Plan:
        by_bucket = Counter(map(str, self.buckets))
        return Plan.of({f"Flatten/drafts.{bucket}": count for bucket, count in by_bucket.items()}, plans_labels=False)

    def counts(self, level: int) -> Mapping[str, int]:
        sizes = [self.sizes[draft] for draft in self.drafts_below(level)]
        spent = Counter(f"LLMCall/spent.tokens.{rounded_up(size)}" for size in sizes)
        return {**spent, "LLMCall/tokens.output": sum(sizes)} if sizes else {}

    def run(self, cap: Cap, kill_after: int | None = None, order: int = 0) -> int | None:
        """Runs waves to their end and returns the level; None where it was killed, after so many more replies."""
        level, left = 0, kill_after
        while True:
            counts = self.counts(level)
            to = next_level([cap], [cap.spent_in_plan(counts)], counts, self.plan(), level, BUCKETS)
            if to == level:
                return level
            missing = [draft for draft in self.drafts_below(to) if draft not in self.paid]
            random.Random(order).shuffle(missing)
            for draft in missing:
                if left is not None:
                    if not left:
                        return None
                    left -= 1
                self.paid.add(draft)
            level = to
            if level == BUCKETS:
                return level


SIZES = st.one_of(
    st.lists(st.integers(1, 1_000), min_size=1, max_size=400),
    st.lists(st.sampled_from([40, 44, 4_000]), min_size=1, max_size=400),
    st.builds(lambda size, count: [size] * count, st.integers(1, 10_000), st.integers(1, 600)),
)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 5), st.floats(0.01, 1.2), st.lists(st.integers(0, 200), max_size=4))
def test_kills_and_orders_change_nothing(sizes: list[int], seed: int, share: float, kills: list[int]) -> None:
    cap = cap_of(max(1, int(sum(sizes) * share)))
    at_once = World(sizes, seed)
    level = at_once.run(cap)
    killed = World(sizes, seed)
    for order, after in enumerate(kills):
        killed.run(cap, after, order)
    assert killed.run(cap, order=99) == level
    assert killed.paid == at_once.paid == set(killed.drafts_below(level or 0))
    again = World(sizes, seed)
    again.paid = set(at_once.paid)
    assert again.run(cap) == level and again.paid == at_once.paid


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(100, 1_500), st.floats(0.1, 0.9), st.sampled_from([0.0, 0.3, 0.7]))
def test_the_cap_holds_and_is_used(seed: int, drafts: int, share: float, sigma: float) -> None:
    """With replies as models write them (lognormal), it is never passed by more than one of them."""
    draw = random.Random(seed)
    sizes = [max(1, round(100 * draw.lognormvariate(0, sigma))) for _ in range(drafts)]
    cap = cap_of(int(sum(sizes) * share))
    world = World(sizes, seed)
    world.run(cap)
    assert world.spent <= cap.most + max(sizes)
    if drafts * share >= 200:
        assert world.spent >= 0.9 * cap.most


def test_a_higher_cap_asks_for_more_and_never_for_others() -> None:
    sizes = [100 + number % 37 for number in range(900)]
    asked = []
    for share in (0.2, 0.4, 0.8, 1.5):
        world = World(sizes, 1)
        world.run(cap_of(int(sum(sizes) * share)))
        asked.append(world.paid)
    assert asked[0] < asked[1] < asked[2] < asked[3] == set(range(900))


def test_a_pilot_stays_within_a_quarter_by_estimate() -> None:
    world = World([10] * 900, 1)
    plan = world.plan()
    level = next_level([cap_of(80_000)], [0], {}, plan, 0, BUCKETS)
    assert 80 < len(world.drafts_below(level)) <= 100
    level = next_level([cap_of(8_000)], [0], {}, plan, 0, BUCKETS)
    assert 8 <= len(world.drafts_below(level)) <= 10
    assert len(world.drafts_below(next_level([cap_of(250)], [0], {}, plan, 0, BUCKETS))) == 1
    assert next_level([cap_of(150)], [0], {}, plan, 0, BUCKETS) == 0  # not even one


def test_both_caps_hold() -> None:
    world = World([100] * 900, 1)
    plan, counts = world.plan(), world.counts(500)
    small, large = cap_of(30_000), cap_of(60_000)
    levels = [
        next_level(caps, [11_000] * len(caps), counts, plan, 500, BUCKETS)
        for caps in ([small], [large], [small, large], [large, small])
    ]
    assert levels[0] == levels[2] == levels[3] < levels[1]


def test_what_failed_is_reckoned_with() -> None:
    world = World([100] * 900, 1)
    counts = world.counts(1_000)
    levels = []
    for failed in (0, 50):
        known = {**counts, "LLMCall/rejected.request_failed": failed}
        levels.append(next_level([cap_of(40_000)], [20_000], known, world.plan(), 1_000, BUCKETS))
    fewer = len(world.drafts_below(levels[0])) - len(world.drafts_below(levels[1]))
    assert 45 <= fewer <= 55


def test_a_level_is_never_above_the_one_wanted() -> None:
    world = World([100] * 900, 1)
    assert next_level([cap_of(10**9)], [0], world.counts(1_000), world.plan(), 1_000, 1_700) == 1_700
    assert next_level([cap_of(10**9)], [0], world.counts(BUCKETS), world.plan(), BUCKETS, BUCKETS) == BUCKETS


@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=50))
def test_sizes_are_rounded_up_a_little(sizes: list[int]) -> None:
    for size in sizes:
        assert size <= rounded_up(size) <= size + size // 16 + 1
    assert len({rounded_up(size) for size in range(1_000, 2_000)}) < 20
    seen = Seen(len(sizes), sum(sizes), Counter(map(rounded_up, sizes)))
    assert seen.bound(1, 0) >= sum(sizes) // len(sizes)
    assert seen.bound(0, 7) == 0 and Seen(0, 0, {}).bound(3, 7) == 21


@given(st.text(min_size=1, max_size=8), st.integers(1, 300))
def test_ranks_go_by_place_first(task_id: str, count: int) -> None:
    ranks = [bucket_of(task_id, place, count) for place in range(count)]
    assert ranks == sorted(ranks) and ranks[0] >= 0 and ranks[-1] < BUCKETS
    for place, rank in enumerate(ranks):
        assert place * BUCKETS // count <= rank <= (place + 1) * BUCKETS // count


def test_ranks_are_pinned() -> None:
    """Another hash would have a capped run that was killed ask for other drafts when it goes on."""
    assert [bucket_of("0123456789abcdef", place, 3) for place in range(3)] == [290, 2720, 3945]


@pytest.mark.parametrize(("level", "with_paid"), [(0, False), (0, True), (2_000, False), (BUCKETS, False)])
def test_what_an_admission_admits(level: int, with_paid: bool) -> None:
    admission = Admission(level=level, with_paid=with_paid, examples_per_task=4)
    task = make_task()
    buckets = list(admission.buckets(task))
    assert buckets == [bucket_of(task.task_id, place, 4) for place in range(4)]
    assert [admission.makes(bucket) for bucket in buckets] == [with_paid or bucket < level for bucket in buckets]
    assert admission.admits(make_seed())
    assert not Admission(asks_for_tasks=False).admits(make_seed())
    assert admission.admits(make_draft()) == (level > 0)
