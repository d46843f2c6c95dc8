"""The run of `--target_examples`: passes over the graph that ask for more and more drafts, until there are enough rows
that have passed everything. Each finds in the ledger what those before it have paid for."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from textmint.pipelines.cli.waves import Waves
from textmint.pipelines.graph.top_up import CAPPED, Goal, Seen, Step, Stop, Wave, next_wave, with_wave
from textmint.pipelines.options.config import Config
from textmint.transforms.dataset.accounting import Counts
from textmint.transforms.dataset.manifest import TARGET

_LOG = logging.getLogger("textmint")


class Publish(Protocol):
    """Runs a pass to its end."""

    def __call__(self, config: Config, described: Mapping[str, Any], least: int) -> Counts | None:
        """Publishes what comes of the pass, with what the manifest is to say of it; with fewer rows than `least` it
        does not, and returns what it has counted."""


def reach_target(config: Config, goal: Goal, waves: Waves, publish: Publish) -> None:
    """Asks for drafts until there are as many rows as wanted, and publishes them; if that cannot be, what there is."""
    steps: list[Step] = []
    number = 0
    while not isinstance(wave := next_wave(goal, steps), Stop):
        of_wave = with_wave(config, wave)
        if not wave.level:
            steps.append((wave, Seen.of(waves.count(of_wave))))
            continue
        number += 1
        counts = _pay_and_publish(of_wave, goal, wave, number, waves, publish)
        if counts is None:
            return
        seen = Seen.of(counts)
        _LOG.info("%s of %s examples are there", f"{seen.accepted:,}", f"{goal.examples:,}")
        steps.append((wave, seen))
    last = steps[-1][0]
    _pay_and_publish(with_wave(config, last), goal, last, number, waves, publish, wave.reason)


def _pay_and_publish(
    config: Config, goal: Goal, wave: Wave, number: int, waves: Waves, publish: Publish, stopped_by: str = ""
) -> Counts | None:
    """Pays for a wave, or for as much of it as the caps let it, and publishes if there are enough rows or can be no
    more, which `stopped_by` says. Returns what was counted where it did not publish."""
    counts: list[Counts | None] = []

    def attempt(paid: Config) -> None:
        assert paid.watch is not None
        if paid.watch.admission.level < wave.level:
            counts.append(publish(paid, _described(goal, wave, number, CAPPED), 0))
            return
        exactly = dataclasses.replace(paid.watch.admission, with_paid=False)  # whatever was paid for beyond
        paid = dataclasses.replace(paid, watch=dataclasses.replace(paid.watch, admission=exactly))
        least = 0 if stopped_by else goal.examples
        counts.append(publish(paid, _described(goal, wave, number, stopped_by), least))

    waves.finish(config, attempt, wave.level)
    return counts[-1]


def _described(goal: Goal, wave: Wave, number: int, stopped_by: str) -> dict[str, Any]:
    """Describes for the manifest what was really asked for, and why it was no more."""
    told = {
        "examples": goal.examples,
        "waves": number,
        "task_requests": wave.task_requests if goal.brainstorms else None,
        "examples_per_task": wave.examples_per_task,
        "stopped_by": stopped_by,
    }
    return {TARGET: told}
