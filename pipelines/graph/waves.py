"""Waves: how far the next pass of a capped run may go, by what the drafts before have really taken. Whole numbers only,
and of nothing but the replies to the drafts below a level: so the same replies lead to the same levels, however often a
run was killed or repeated, and in whatever order its replies came."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final

from textmint.transforms.core.admission import BUCKETS
from textmint.transforms.dataset.accounting import Counts, Meter, named
from textmint.transforms.llm.prices import format_usd

_PILOT_DRAFTS: Final = 100
PILOT_SHARE: Final = 4
"""Of what is left a pilot may take a quarter, by estimate."""
_GROWTH: Final = 15  # times as many drafts as were seen may be asked at once
_SIGMAS: Final = 3
_FEW: Final = 30  # replies whose spread says little: nearly their mean is taken for it, if it is less
_WORTHWHILE: Final = 50  # a wave of less than a fiftieth of what is there is not worth a pass


@dataclasses.dataclass(frozen=True, slots=True)
class Cap:
    """A limit of what a refresh may spend.

    Args:
      option: as the user gave it, such as `--max_cost=5`.
      most: in units of the meter.
      meter: what is summed up: picodollars, or tokens.
      estimates: what a prompt of a step is thought to take before any was asked: tokens of the prompt and the reply.
    """

    option: str
    most: int
    meter: Meter
    estimates: Mapping[str, tuple[int, int]]

    def estimate(self, step: str) -> int:
        """Returns what a prompt of a step is thought to take."""
        (prompt, output), tokens = self.meter.weights.get(step, (0, 0)), self.estimates.get(step, (0, 0))
        return prompt * tokens[0] + output * tokens[1]

    def shown(self, amount: int) -> str:
        """Writes an amount for a person."""
        return format_usd(amount) if self.meter.name == "cost" else f"{amount:,} tokens"

    def spent_in_plan(self, counts: Counts) -> int:
        """Returns what all replies to prompts of the plan took that a pass met, whoever paid for them."""
        return sum(Seen.of(counts, step, self.meter).total for step in self.meter.weights)

    def spent_in_pass(self, counts: Counts) -> int:
        """Returns what a pass paid itself."""
        return sum(
            prompt * counts.get(f"{step}/tokens.prompt", 0) + output * counts.get(f"{step}/tokens.output", 0)
            for step, (prompt, output) in self.meter.weights.items()
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What the prompts of a step took, further attempts among them.

    Args:
      units: how many prompts, or drafts where not each draft leads to a prompt.
      total: their sum.
      sizes: how many took about so much, rounded up.
    """

    units: int
    total: int
    sizes: Mapping[int, int]

    @classmethod
    def of(cls, counts: Counts, step: str, meter: Meter) -> Seen:
        """Reads it from the counts of a pass."""
        prompt, output = meter.weights[step]
        tokens = [
            counts.get(f"{step}/tokens.{name}", 0) + counts.get(f"{step}/ledger_tokens.{name}", 0)
            for name in ("prompt", "output")
        ]
        sizes = {int(size): count for size, count in named(counts, f"{step}/spent.{meter.name}.").items()}
        return cls(sum(sizes.values()), prompt * tokens[0] + output * tokens[1], sizes)

    @property
    def largest(self) -> int:
        """The largest of them, rounded up."""
        return max(self.sizes, default=0)

    def bound(self, more: int, estimate: int) -> int:
        """Returns what so many more take at most: their mean, three deviations of a sum whose mean is itself known
        from a sample only, and one as large as the largest.

        Args:
          more: how many.
          estimate: of one, where none was seen.
        """
        if not more:
            return 0
        if not self.units:
            return more * estimate
        units = self.units
        sums = [sum(size**power * count for size, count in self.sizes.items()) for power in (1, 2)]
        variance = max(0, sums[1] // units - (sums[0] // units) ** 2)
        variance = max(variance, (self.total // units) ** 2 * _FEW // (_FEW + units))
        deviation = math.isqrt(variance * more * (more + units) // units)
        return -(-more * self.total // units) + _SIGMAS * deviation + self.largest


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What there is to ask, by rank: how many drafts there are in each bucket, and of how many label sets the first."""

    drafts: Sequence[int]
    label_sets: Sequence[int]

    @classmethod
    def of(cls, counts: Counts, *, plans_labels: bool) -> Plan:
        """Reads it from the counts of a pass."""
        first = named(counts, "Flatten/first.") if plans_labels else {}
        return cls(_by_bucket(named(counts, "Flatten/drafts.")), _by_bucket(first))

    def between(self, level: int, to: int) -> dict[str, int]:
        """Returns how many prompts of each step the drafts from one level to another need."""
        drafts, label_sets = sum(self.drafts[level:to]), sum(self.label_sets[level:to])
        return {"PlanLabels": label_sets, "LLMCall": drafts, "VerifyLabels": drafts}

    def without(self, settled: Mapping[str, int]) -> Plan:
        """Returns what of it is still to be paid for, where so many drafts of each bucket are settled."""
        left = [max(0, all_ - done) for all_, done in zip(self.drafts, _by_bucket(settled), strict=True)]
        return Plan(left, list(map(min, self.label_sets, left)))


def _by_bucket(found: Mapping[str, int]) -> list[int]:
    return [found.get(str(bucket), 0) for bucket in range(BUCKETS)]


def next_level(caps: Sequence[Cap], bases: Sequence[int], counts: Counts, plan: Plan, level: int, limit: int) -> int:
    """Returns the level of the next wave; the same level where the cap lets no other be reached.

    Args:
      caps: all of them hold.
      bases: what is spent already, of each.
      counts: of a pass that admitted the drafts below `level`, or of one that met all that is settled.
      plan: what there is to pay for; below `level` nothing but what failed.
      level: up to which all is settled.
      limit: the highest level that is wanted.
    """
    drafts = [0, *itertools.accumulate(plan.drafts)]
    label_sets = [0, *itertools.accumulate(plan.label_sets)]
    failed = counts.get("LLMCall/rejected.request_failed", 0)
    seen = [{step: Seen.of(counts, step, cap.meter) for step in _STEPS if step in cap.meter.weights} for cap in caps]
    asked = seen[0]["LLMCall"].units

    def fits(to: int) -> bool:
        more = drafts[to] - drafts[level]
        if more > (_GROWTH * asked or _PILOT_DRAFTS):
            return False
        for cap, base, of_step in zip(caps, bases, seen, strict=True):
            taken = 0
            for step, what in of_step.items():
                units = label_sets[to] - label_sets[level] if step == "PlanLabels" else more + failed
                if step == "VerifyLabels":  # not every draft leads to one
                    what = dataclasses.replace(what, units=asked)
                taken += what.bound(units, cap.estimate(step))
            if taken * (1 if asked or more == 1 else PILOT_SHARE) > cap.most - base:
                return False
        return True

    found = bisect.bisect_left(range(level + 1, limit + 1), True, key=lambda to: not fits(to)) + level
    more = drafts[found] - drafts[level]
    if not more or (found < limit and more * _WORTHWHILE < asked):
        return level if drafts[limit] > drafts[level] else limit
    return found


_STEPS: Final = ("PlanLabels", "LLMCall", "VerifyLabels")
