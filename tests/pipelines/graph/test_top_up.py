"""The waves of a run with a target: they end, soon, with enough rows, and ask for little more than was needed."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.pipelines.graph.top_up import Goal, Seen, Step, Stop, Wave, next_wave
from textmint.transforms.core.admission import bucket_of
from textmint.transforms.core.identity import UNIT, fraction


def chance(*parts: str | int) -> float:
    return fraction("test", *parts) / UNIT


Place = tuple[str, int]
"""A draft: its task, and its number there."""


@dataclasses.dataclass(frozen=True)
class World:
    """What would come of all that could be asked for.

    Args:
      rate: the share of drafts that bring a row.
      own: examples that tasks of the user's own want, 0 where they do not say; (): tasks are brainstormed.
      fresh: the share of brainstormed tasks that no earlier round had.
      most_tasks: after which no round brings a new one.
      pool: so many rows there are, of which others are copies; 0: none is a copy.
    """

    rate: float
    own: tuple[int, ...] = ()
    fresh: float = 1.0
    most_tasks: int = 10**9
    pool: int = 0
    salt: int = 0

    def tasks(self, wave: Wave) -> list[tuple[str, int]]:
        if self.own:
            return [(f"own {n}", wants) for n, wants in enumerate(self.own)]
        found = [(f"{n}", 0) for n in range(20 * wave.task_requests) if chance("fresh", n, self.salt) < self.fresh]
        return found[: self.most_tasks]

    def run(self, wave: Wave) -> tuple[Seen, list[Place]]:
        """Returns what is counted, and what is asked for, in order."""
        found = self.tasks(wave)
        taken = found[: wave.max_tasks]
        ranks: dict[Place, int] = {}
        for task, wants in taken:
            count = wants or wave.examples_per_task
            before = wants if wants and wave.asked_before else wave.asked_before
            for place in range(count):
                ranks[task, place] = bucket_of(task, place, count, before)
        asked = sorted((rank, place) for place, rank in ranks.items() if rank < wave.level)
        seen = Seen(
            tasks=len(taken),
            tasks_left=len(found) - len(taken),
            own_tasks=sum(wants > 0 for _, wants in taken),
            drafts=Counter(ranks.values()),
            accepted=len(self.rows_of(place for _, place in asked)),
        )
        return seen, [place for _, place in asked]

    def rows_of(self, asked: Iterable[Place]) -> set[Place | int]:
        """Returns the rows that come of drafts."""
        kept = (place for place in asked if chance("accept", *place, self.salt) < self.rate)
        return {int(self.pool * chance("row", *place, self.salt)) if self.pool else place for place in kept}


@dataclasses.dataclass
class Outcome:
    steps: list[Step]
    asked: list[Place]
    why: str

    @property
    def waves(self) -> int:
        return sum(wave.level > 0 for wave, _ in self.steps)


def play(world: World, examples: int, *, max_tasks: int | None = None, max_waves: int = 8) -> Outcome:
    first = Wave(task_requests=5, max_tasks=max_tasks, examples_per_task=3)
    goal = Goal(examples=examples, first=first, brainstorms=not world.own, max_waves=max_waves)
    steps: list[Step] = []
    order: dict[Place, None] = {}
    while not isinstance(wave := next_wave(goal, steps), Stop):
        seen, asked = world.run(wave)
        assert order.keys() <= set(asked), "each wave has what the waves before have paid for"
        order |= dict.fromkeys(asked)
        steps.append((wave, seen))
    return Outcome(steps, list(order), wave.reason)


def perfect(world: World, asked: list[Place], examples: int) -> int:
    """The fewest drafts, in the order in which they were asked for, that bring so many rows."""
    rows: set[Place | int] = set()
    for number, place in enumerate(asked, start=1):
        rows |= world.rows_of([place])
        if len(rows) == examples:
            return number
    raise AssertionError("never")


SHAPES: dict[str, Callable[[int], World]] = {
    "brainstormed": lambda salt: World(0.7, salt=salt),
    "repeating": lambda salt: World(0.7, fresh=0.6, salt=salt),
    "one wave does": lambda salt: World(1.0, salt=salt),
    "few are kept": lambda salt: World(0.3, salt=salt),
    "own tasks": lambda salt: World(0.7, own=(0,) * 150, salt=salt),
    "own numbers": lambda salt: World(0.7, own=(0, 7, 0, 1) * 40, salt=salt),
    "saturated": lambda salt: World(0.7, most_tasks=130, salt=salt),
}


@pytest.mark.parametrize("examples", [40, 400, 2_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_target_is_reached_soon_and_cheaply(shape: str, examples: int) -> None:
    ratios, waves = [], []
    for salt in range(6):
        world = SHAPES[shape](salt)
        outcome = play(world, examples)
        assert outcome.why == "" and outcome.waves <= 5
        ratios.append(len(outcome.asked) / perfect(world, outcome.asked, examples))
        waves.append(outcome.waves)
    assert max(ratios) <= (1.15 if examples > 100 else 1.4)  # of forty rows, one more is much
    assert sum(ratios) / len(ratios) <= 1.15
    assert sum(waves) / len(waves) <= 4.5


def test_more_of_what_there_is_comes_first() -> None:
    """Of 100 tasks with three drafts each: as many as are wanted, of all tasks alike; then more tasks; then, where
    the user has set how many tasks there are, more drafts of each."""
    (_, counted), (first, seen), *_ = play(World(1.0), 150).steps
    assert (counted.accepted, counted.tasks) == (0, 100)
    assert (first.task_requests, first.max_tasks, first.examples_per_task) == (5, None, 3)
    assert len({task for task, _ in play(World(1.0), 150).asked}) == 100
    assert seen.accepted == 150

    outcome = play(World(1.0), 900)
    assert (outcome.steps[-1][0].task_requests, outcome.steps[-1][0].max_tasks) == (18, 300)
    assert [wave.examples_per_task for wave, _ in outcome.steps] == [3, 3]

    outcome = play(World(0.7), 500, max_tasks=40)
    assert {wave.task_requests for wave, _ in outcome.steps} == {5}
    assert {wave.max_tasks for wave, _ in outcome.steps} == {40}
    last = outcome.steps[-1][0]
    assert last.examples_per_task > last.asked_before >= 3
    assert outcome.why == ""


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([(), (0,) * 30, (0, 2, 9) * 5]), st.integers(0, 9))
def test_it_always_ends(examples: int, rate: float, own: tuple[int, ...], salt: int) -> None:
    outcome = play(World(rate, own=own, salt=salt), examples)
    assert outcome.waves <= 8
    assert (outcome.steps[-1][1].accepted >= examples) == (outcome.why == "")
    asked = [seen.asked_of(wave) for wave, seen in outcome.steps]
    assert all(more <= max(examples, 4 * less) + 100 for less, more in itertools.pairwise(asked))


@pytest.mark.parametrize(
    ("world", "why", "waves"),
    [
        (World(0.0), "the last 402 drafts brought no row that is new", 1),
        (World(0.01), "--max_waves=2 is reached", 2),
        (World(0.5, own=(3, 4) * 20), "each task says itself how many examples it wants", 1),
        (World(0.5, most_tasks=0), "there is no task", 0),
    ],
)
def test_why_it_ends_before(world: World, why: str, waves: int) -> None:
    outcome = play(world, 400, max_waves=2)
    assert outcome.why.startswith(why) and outcome.waves == waves


@pytest.mark.parametrize(("pool", "examples"), [(300, 240), (1_000, 900), (3_000, 2_900)])
def test_rows_that_repeat_each_other_the_more_there_are(pool: int, examples: int) -> None:
    """How many are new falls from wave to wave, so the share of all waves promises too much."""
    ratios = []
    for salt in range(3):
        world = World(1.0, own=(0,) * 400, pool=pool, salt=salt)
        outcome = play(world, examples)
        assert outcome.why == "" and outcome.waves <= 8
        ratios.append(len(outcome.asked) / perfect(world, outcome.asked, examples))
    assert sum(ratios) / len(ratios) <= 1.15


def test_one_missing_row_does_not_end_it() -> None:
    """Where one row is wanted, or missing at last, a few drafts may well bring none."""
    for salt in range(200):
        outcome = play(World(0.5, salt=salt), 1)
        assert outcome.why == "" and len(outcome.asked) <= 32
