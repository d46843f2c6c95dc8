"""Plans what each wave of a run with `--target_examples` asks for.

All of it is a function of the options and of what the waves before have counted, in whole numbers; what the ledger has
from elsewhere decides nothing. So a run that was interrupted walks the same path again, and pays for nothing twice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

from textmint.pipelines.options.config import Config
from textmint.transforms.core.admission import BUCKETS, Admission
from textmint.transforms.dataset.accounting import Counts, Watch, named
from textmint.transforms.dataset.publish import ACCEPTED

_GROWTH: Final = 4
"""How many times as many drafts there may be after a wave as before: a rate that few rows tell is not trusted far."""
_FEW_ROUNDS: Final = 5
"""The replies to fewer rounds may all be spoiled."""
_BARREN: Final = 100
"""So many drafts without one new row, at the least, end a run."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What a wave asks for: the drafts of these tasks whose rank is below the level.

    Args:
      task_requests: brainstorm rounds.
      max_tasks: as many tasks are taken at most; None: all.
      examples_per_task: drafts of each task that does not say itself how many.
      asked_before: so many drafts of each task, and all of those that say how many, were asked for by earlier waves;
        their rank is 0.
      level: see `Admission`; 0: none, only tasks are counted.
    """

    task_requests: int
    max_tasks: int | None
    examples_per_task: int
    asked_before: int = 0
    level: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was counted in a wave.

    Args:
      tasks: those that were taken.
      tasks_left: those beyond `max_tasks`.
      own_tasks: of those taken, how many say themselves how many examples they want.
      drafts: of these tasks, by rank.
      accepted: how many rows passed everything.
    """

    tasks: int
    tasks_left: int
    own_tasks: int
    drafts: Mapping[int, int]
    accepted: int

    @classmethod
    def of(cls, counts: Counts) -> Seen:
        """Reads it from the counts of a pass."""
        return cls(
            tasks=counts.get("Flatten/kept", 0),
            tasks_left=counts.get("Flatten/rejected.over_max_tasks", 0),
            own_tasks=counts.get("Flatten/own.tasks", 0),
            drafts={int(rank): count for rank, count in named(counts, "Flatten/drafts.").items()},
            accepted=counts.get(ACCEPTED, 0),
        )

    def asked_of(self, wave: Wave) -> int:
        """Returns how many drafts the wave admits, those of earlier ones among them."""
        return sum(count for rank, count in self.drafts.items() if rank < wave.level)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a run with a target wants.

    Args:
      examples: how many rows.
      first: the wave before the first, which counts tasks; its `max_tasks` is the user's.
      brainstorms: whether more rounds can bring more tasks.
      max_waves: that may ask for drafts.
    """

    examples: int
    first: Wave
    brainstorms: bool
    max_waves: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Why there is no further wave; `reason` is "" where the goal is reached."""

    reason: str


Step = tuple[Wave, Seen]
MAX_WAVES: Final = 8
CAPPED: Final = "what may be spent is spent; a higher cap goes on"
"""What a manifest says of a target that a cap did not let be reached."""


def goal_of(config: Config, examples: int) -> Goal:
    """Returns the goal of a run that is to have so many examples."""
    first = Wave(
        task_requests=config.task_requests, max_tasks=config.max_tasks, examples_per_task=config.examples_per_task
    )
    return Goal(
        examples=examples,
        first=first,
        brainstorms=config.tasks is None,
        max_waves=config.max_waves if config.max_waves is not None else MAX_WAVES,
    )


def with_wave(config: Config, wave: Wave) -> Config:
    """Makes a run do what a wave asks for."""
    amounts = {name: getattr(wave, name) for name in ("task_requests", "max_tasks", "examples_per_task")}
    if config.tasks is None:
        amounts["expected_tasks"] = config.expected_tasks * wave.task_requests // config.task_requests
    admission = Admission(level=wave.level, examples_per_task=wave.examples_per_task, asked_before=wave.asked_before)
    return dataclasses.replace(config, **amounts, watch=Watch(admission=admission))


def next_wave(goal: Goal, steps: Sequence[Step]) -> Wave | Stop:
    """Returns what to ask for after these waves, or why to stop."""
    if not steps:
        return goal.first
    wave, seen = steps[-1]
    missing = goal.examples - seen.accepted
    if missing <= 0:
        return Stop("")
    waves = sum(step[0].level > 0 for step in steps)
    if waves >= goal.max_waves:
        return Stop(f"--max_waves={goal.max_waves} is reached; more waves go on")
    asked, barren = seen.asked_of(wave), _barren(steps)
    if barren >= _BARREN and barren * seen.accepted >= 4 * asked * (seen.accepted > 0):
        return Stop(f"the last {barren:,} drafts brought no row that is new; look at the rejects")
    wanted = goal.examples if waves == 0 else asked + max(barren, _to_ask(missing, asked, *_rate(steps)))
    found = sum(seen.drafts.values())
    if not found:
        return Stop("there is no task")
    if wanted <= found:
        return dataclasses.replace(wave, level=_level(seen.drafts, wanted))
    more = _more_tasks(goal, steps, wanted) or _more_examples(wave, seen, wanted)
    if more is None and wave.level < BUCKETS:
        more = dataclasses.replace(wave, level=BUCKETS)
    return more or Stop("each task says itself how many examples it wants; give more tasks, or let them want more")


def _barren(steps: Sequence[Step]) -> int:
    """Counts the latest drafts that brought no new row."""
    wave, last = steps[-1]
    return last.asked_of(wave) - min(seen.asked_of(wave) for wave, seen in steps if seen.accepted >= last.accepted)


def _rate(steps: Sequence[Step]) -> tuple[int, int]:
    """Returns a number of drafts, and how many rows they brought: of all waves, or of the last alone if it brought
    fewer, by two standard deviations, than those before let expect: rows repeat each other the more there are."""
    (_, before), (wave, seen) = steps[-2:]
    asked, accepted = before.asked_of(steps[-2][0]), before.accepted
    more, new = seen.asked_of(wave) - asked, seen.accepted - accepted
    short = more * accepted - new * asked
    if new > 0 and short > 0 and short**2 > 4 * more * accepted * (asked - accepted):
        return more, new
    return asked + more, seen.accepted


def _to_ask(missing: int, asked: int, tried: int, brought: int) -> int:
    """Estimates how many further drafts are needed: what is missing by the rate seen, and a standard deviation more.

    The number of drafts to the last of m rows is negative binomial, of the variance m(1-p)/p²; the rate p was measured
    with the variance p(1-p)/n. With p = brought/tried, and by the delta method, the two add up to the one below.
    """
    most = max(1, (_GROWTH - 1) * asked)
    if not brought:
        return min(most, max(1, asked))
    variance = missing * tried * (tried - brought) * (brought + missing) // brought**3
    return min(most, -(-missing * tried // brought) + math.isqrt(variance))


def _level(drafts: Mapping[int, int], wanted: int) -> int:
    """Returns the least level that admits so many drafts."""
    for bucket in sorted(drafts):
        wanted -= drafts[bucket]
        if wanted <= 0:
            return bucket + 1
    return BUCKETS


def _more_tasks(goal: Goal, steps: Sequence[Step], wanted: int) -> Wave | None:
    """Returns a wave with more tasks, all of whose drafts are asked for; None if there are none to be had."""
    wave, seen = steps[-1]
    found = sum(seen.drafts.values())
    if not goal.brainstorms or wave.examples_per_task > goal.first.examples_per_task:
        return None
    tasks = -(-wanted * seen.tasks // found)
    if goal.first.max_tasks is not None:
        tasks = min(tasks, goal.first.max_tasks)
    there = seen.tasks + seen.tasks_left
    rounds, new = _last_rounds(steps)
    if tasks <= seen.tasks or (tasks > there and not new):
        return None
    more = -(-(tasks - there) * rounds // new) if tasks > there else 0
    more += math.isqrt(more)  # a round is one request, and too few of them cost a wave
    if wave.task_requests > goal.first.task_requests:  # the later rounds are, the fewer tasks may they bring
        more = min(more, wave.task_requests)
    return dataclasses.replace(wave, task_requests=wave.task_requests + more, max_tasks=tasks, level=BUCKETS)


def _last_rounds(steps: Sequence[Step]) -> tuple[int, int]:
    """Returns how many rounds were added last, _FEW_ROUNDS at least, and how many tasks they brought."""
    wave, seen = steps[-1]
    for earlier, then in reversed(steps):
        if earlier.task_requests <= wave.task_requests - _FEW_ROUNDS:
            new = seen.tasks + seen.tasks_left - then.tasks - then.tasks_left
            return wave.task_requests - earlier.task_requests, new
    return wave.task_requests, seen.tasks + seen.tasks_left


def _more_examples(wave: Wave, seen: Seen, wanted: int) -> Wave | None:
    """Returns a wave with more drafts of each task; None if each says itself how many it wants."""
    tasks = seen.tasks - seen.own_tasks
    if not tasks:
        return None
    found = sum(seen.drafts.values())
    more = -(-(wanted - found) // tasks)
    examples = wave.examples_per_task + more
    if not wave.level:  # nothing was asked yet
        return dataclasses.replace(
            wave, examples_per_task=examples, level=-(-wanted * BUCKETS // (found + more * tasks))
        )
    return dataclasses.replace(
        wave,
        examples_per_task=examples,
        asked_before=wave.examples_per_task,
        level=-(-(wanted - found) * BUCKETS // (more * tasks)),
    )
