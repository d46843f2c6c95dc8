"""The waves of a capped run: passes over the graph that ask for more and more drafts, until the cap lets no more be
asked. What they pay for is in the ledger, so the last pass, which publishes, finds all replies there."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from textmint.pipelines.graph.caps import braked, spent
from textmint.pipelines.graph.waves import Cap, Plan, Seen, next_level
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.transforms.core.admission import BUCKETS, Admission
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.texts import counted
from textmint.transforms.dataset.accounting import Counts, Watch, named
from textmint.transforms.ledger.compact import tokens_paid
from textmint.transforms.llm.brake import BRAKED

_LOG = logging.getLogger("textmint")
_MOST_BRAKED: Final = 3  # times that the brake may end a pass before the plan is given up
_BRAINSTORM_SHARE: Final = 2  # of what is left brainstorming may take half, by estimate

RunPass = Callable[[Config], Counts]
"""Runs one pass to its end, puts the ledger in order for the next, and returns what the pass has counted."""


def _admission(config: Config) -> Admission:
    """Makes what admits tasks, and no draft."""
    first = config.admission or Admission(examples_per_task=config.examples_per_task)
    return dataclasses.replace(first, level=0)


def _tell_if_braked(error: Exception) -> None:
    """Warns of what the brake has ended, and raises any other error again."""
    if BRAKED not in str(error):
        raise error
    _LOG.warning("%s: how far the cap goes is planned anew", BRAKED)


class Waves:
    """Pays for the drafts of a run as far as its caps let it.

    Args:
      caps: all of them hold.
      run_pass: asks for what the `watch` of a config admits, and publishes nothing.
    """

    def __init__(self, caps: Sequence[Cap], run_pass: RunPass) -> None:
        self._caps = caps
        self._run_pass = run_pass
        self._had: int | None = None  # replies in the ledger before the first wave
        self._now = [0 for _ in caps]  # what is spent of each
        self.done: list[dict[str, Any]] = []
        """What each wave was, for the manifest."""

    def finish(self, config: Config, publish: Callable[[Config], object], limit: int = BUCKETS) -> Config:
        """Pays for the drafts below a level, or for as many as the caps let it, then runs what publishes.

        Returns:
          The config that was published with; its admission says how far the caps let it go.

        Raises:
          OptionError: the caps are too small for the plan, or even for one example.
        """
        for _ in range(_MOST_BRAKED):
            try:
                last = self.pay(config, limit) if self._caps else config
                publish(last)
                return last
            except Exception as error:
                _tell_if_braked(error)  # by chance, mostly: it goes on as after a kill, and has the same rows
        last = self._salvage(config, limit)
        publish(last)
        return last

    def count(self, config: Config) -> Counts:
        """Runs a pass that asks for tasks, and for no draft; returns what it has counted."""
        before = self._spent(config)
        self._refuse_long_brainstorm(config, before)
        return self._wave(self._braked(config, _admission(config), before, {}, {"TaskGenerate": config.task_requests}))

    def pay(self, config: Config, limit: int = BUCKETS) -> Config:
        """Pays for the drafts below a level, or for as many as the caps let it. Returns the config of the pass that is
        left to do: it asks for what is missing of its level, if anything is."""
        before = self._spent(config)
        self._refuse_long_brainstorm(config, before)
        first = dataclasses.replace(_admission(config), with_paid=any(before))
        counts = self._wave(self._braked(config, first, before, {}, {"TaskGenerate": config.task_requests}))
        plan = Plan.of(counts, plans_labels=config.plans_labels)
        missing = plan.without(named(counts, "LLMCall/settled."))
        now = self._spent(config)
        foreign = [taken - cap.spent_in_plan(counts) for cap, taken in zip(self._caps, now, strict=True)]
        level = 0
        if first.asked_before:  # what earlier waves of a target have asked is settled, and little of it is missing
            to = next_level(self._caps, now, counts, missing, 0, 1)
        else:  # what drafts took is counted again as they are admitted
            counts = {name: count for name, count in counts.items() if name.startswith(("TaskGenerate/", "Flatten/"))}
            to = self._next_level(foreign, counts, plan, 0, limit)
        while to not in (level, limit):
            units = missing.between(level, to)
            if not self._affords(now, counts, units):
                return self._salvage(config, limit)
            counts = self._wave(
                self._braked(config, dataclasses.replace(first, level=to, with_paid=False), now, counts, units)
            )
            now = self._now
            level, to = to, self._next_level(foreign, counts, plan, to, limit)
        units = missing.between(level, to)
        if not self._affords(now, counts, units):
            return self._salvage(config, limit)
        is_paid_beyond = any(had - left for had, left in zip(plan.drafts[to:], missing.drafts[to:], strict=True))
        if not to and not is_paid_beyond and any(plan.drafts):
            raise self._too_small(now)
        self._tell_held_back(now, missing, to, limit)
        last = dataclasses.replace(first, level=to, with_paid=is_paid_beyond)
        return self._braked(config, last, now, counts, units)

    def _next_level(self, foreign: Sequence[int], counts: Counts, plan: Plan, level: int, limit: int) -> int:
        bases = [other + cap.spent_in_plan(counts) for cap, other in zip(self._caps, foreign, strict=True)]
        return next_level(self._caps, bases, counts, plan, level, limit)

    def _refuse_long_brainstorm(self, config: Config, before: Sequence[int]) -> None:
        if config.tasks is not None:
            return
        for cap, taken in zip(self._caps, before, strict=True):
            estimate = config.task_requests * cap.estimate("TaskGenerate")
            if not taken and estimate * _BRAINSTORM_SHARE > cap.most:
                raise OptionError(
                    f"{cap.option}: brainstorming with --task_requests={config.task_requests} may take more than half "
                    f"of it; choose fewer, a higher cap, or tasks of your own (--tasks). Nothing was paid for"
                )

    def _tell_held_back(self, now: Sequence[int], missing: Plan, level: int, limit: int) -> None:
        if held_back := sum(missing.drafts[level:limit]):
            option = self._fullest(now)[0].option
            _LOG.warning("%s: %s drafts are held back; a higher cap asks for them", option, f"{held_back:,}")

    def _fullest(self, now: Sequence[int]) -> tuple[Cap, int]:
        """Returns the cap that is nearest to its end, and what is spent of it."""
        return max(zip(self._caps, now, strict=True), key=lambda each: each[1] * 10**9 // each[0].most)

    def _affords(self, now: Sequence[int], counts: Counts, units: Mapping[str, int]) -> bool:
        """Tells whether what is missing of a wave fits into the caps with what has really been spent: an earlier run
        may have paid for drafts that are far from being next."""
        for cap, taken in zip(self._caps, now, strict=True):
            for step, more in units.items():
                if step not in cap.meter.weights:
                    continue
                seen = Seen.of(counts, step, cap.meter)
                taken += more * seen.total // seen.units if seen.units else more * cap.estimate(step)
            if taken > cap.most and any(units.values()):
                return False
        return True

    def _salvage(self, config: Config, limit: int) -> Config:
        """Goes on where the plan does not hold: replies take more than was planned, or an earlier run has paid for
        drafts here and there. Asks for what the rest of the caps pays for, and takes all that is paid for."""
        nothing = dataclasses.replace(_admission(config), with_paid=True, asks_for_tasks=False)
        counts = self._wave(self._braked(config, nothing, self._spent(config), {}, {}))
        has_braked, has_paid, asked = 0, True, 0
        while True:
            now = self._spent(config)
            plan = Plan.of(counts, plans_labels=config.plans_labels)
            missing = plan.without(named(counts, "LLMCall/settled."))
            goes_on = has_paid and has_braked < _MOST_BRAKED
            level = next_level(self._caps, now, counts, missing, 0, limit) if goes_on else 0
            units = missing.between(0, level)
            if not any(units.values()):
                break
            try:
                counts = self._wave(self._braked(config, dataclasses.replace(nothing, level=level), now, counts, units))
                has_paid, asked = any(cap.spent_in_pass(counts) for cap in self._caps), level
            except Exception as error:
                _tell_if_braked(error)
                has_braked += 1
                counts = self._wave(self._braked(config, nothing, self._spent(config), {}, {}))
        if not named(counts, "LLMCall/settled."):
            raise self._too_small(now)
        self._tell_held_back(now, missing, 0, limit)
        is_all = not any(missing.drafts[:limit]) or (not has_paid and asked == limit)  # what is missing always fails
        return self._braked(config, dataclasses.replace(nothing, level=limit if is_all else 0), now, counts, {})

    def _too_small(self, now: Sequence[int]) -> Exception:
        cap, taken = self._fullest(now)
        one = sum(cap.estimate(step) for step in ("PlanLabels", "LLMCall", "VerifyLabels"))
        return (RunFailed if any(now) else OptionError)(
            f"{cap.option}: {cap.shown(taken)} is spent, and an example may take {cap.shown(one)}, which does not "
            "fit; choose a higher cap"
        )

    def _spent(self, config: Config) -> list[int]:
        paid = tokens_paid(config.ledger, config.refresh)
        replies = sum(count for count, *_ in paid.values())
        if self._had is None:
            self._had = replies
        if (more := replies - self._had - sum(wave["replies"] for wave in self.done)) > 0:
            self.done.append({"stopped_by": BRAKED, "replies": more})
        self._now = [spent(cap, config, paid) for cap in self._caps]
        return self._now

    def _wave(self, config: Config) -> Counts:
        assert config.admission is not None, "it is a config of `_braked`"
        counts = self._run_pass(config)
        self.note(config.admission.level, counts)
        return counts

    def note(self, level: int, counts: Counts) -> None:
        """Notes, for the log and the manifest, what a pass has counted that published nothing."""

        def total(name: str) -> int:
            return sum(count for key, count in counts.items() if key.endswith(f"/{name}"))

        drafts, replies = counts.get("BuildPrompt/kept", 0), total("requests.sent") - total("requests.retries")
        tokens = {f"{kind}_tokens": total(f"tokens.{kind}") for kind in ("prompt", "output")}
        self.done.append({"level": level / BUCKETS, "drafts": drafts, "replies": replies, **tokens})
        self._now = [taken + cap.spent_in_pass(counts) for cap, taken in zip(self._caps, self._now, strict=True)]
        asked = counted(drafts, "draft") if level else "tasks"
        of_caps = [
            f"; {cap.shown(taken)} of {cap.option} spent so far"
            for cap, taken in zip(self._caps, self._now, strict=True)
        ]
        _LOG.info("wave %d (%s): %s replies paid for%s", len(self.done), asked, f"{replies:,}", "".join(of_caps))

    def _braked(
        self,
        config: Config,
        admission: Admission,
        now: Sequence[int],
        counts: Counts,
        units: Mapping[str, int],
    ) -> Config:
        watch = Watch(admission=admission, meters=tuple(cap.meter for cap in self._caps))
        left = [cap.most - taken for cap, taken in zip(self._caps, now, strict=True)]
        return braked(dataclasses.replace(config, watch=watch), self._caps, left, counts, units)
