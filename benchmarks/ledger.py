"""Measures what the ledger costs, what a run costs that has been paid for, and how fast a large ledger is read."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.measuring import Bench, Ended, Measured
from benchmarks.sizes import Sizes
from benchmarks.table import median, ratios, section

_RUNS: Final = {
    "keeping nothing": "keeping nothing",
    "first run": "keeping nothing",
    "the same again": "first run",
    "the same, recomputed": "first run",
}
"""The runs of a round in order, and which other run of the round each is compared with."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was measured: of each round the runs by name; by number of drafts, the program that read a large ledger."""

    rounds: Sequence[Mapping[str, Measured]]
    readings: Mapping[int, Ended]


def measure(bench: Bench, sizes: Sizes) -> Costs:
    """Measures rounds of runs at latency 0, and readings of a ledger of `sizes.ledger_replies`."""
    rounds = []
    for number in range(sizes.runs):
        rows = sizes.ledger_rows
        measured = (
            bench.measure("without_ledger", "openai", rows),
            bench.measure("pipeline", "openai", rows),
            bench.measure("pipeline", "openai", rows, resumes=True),
            bench.measure("pipeline", "openai", rows, "--recompute", resumes=True),
        )
        rounds.append(dict(zip(_RUNS, measured, strict=True)))
        bench.say(f"ledger: run {number + 1} of {sizes.runs}")
    folder = str(bench.folder / "many" / "ledger")
    bench.run("benchmarks.read_ledger", "write", folder, f"--replies={sizes.ledger_replies}")
    readings = {}
    for drafts in (sizes.ledger_replies // 1_000, sizes.ledger_replies):
        readings[drafts] = bench.run("benchmarks.read_ledger", "read", folder, f"--drafts={drafts}")
        bench.say(f"ledger: read for {drafts:,} drafts")
    return Costs(rounds=rounds, readings=readings)


def render(costs: Costs) -> str:
    """Renders what `measure` returned."""
    rows = []
    for name, other in _RUNS.items():
        runs = [each[name] for each in costs.rounds]
        relative = ratios([run.cpu_s for run in runs], [each[other].cpu_s for each in costs.rounds])
        requests = f"{statistics.median(run.stats['requests'] for run in runs):,.0f}"
        cpu = [median([run.cpu_s for run in runs], 2), median([run.cpu_ms_per_row for run in runs])]
        rows.append([name, requests, *cpu, median(relative)])
    keeping = section(
        f"LEDGER: {costs.rounds[0]['first run'].rows:,} rows at latency 0, start-up included "
        f"(runs: {len(costs.rounds)})",
        ("run", "requests", "CPU s", "ms/row", "ratio"),
        rows,
        ("ratio: of the first run to one that keeps nothing, of the others to the first run.",),
    )
    readings = []
    for drafts, ended in costs.readings.items():
        read = json.loads(ended.out)
        amounts = [f"{number:,}" for number in (read["replies"], drafts, read["met"])]
        readings.append([*amounts, f"{read['seconds']:.1f}", f"{read['rate']:,.0f}", f"{ended.peak_bytes / 1e6:.0f}"])
    reading = section(
        "  Reading a ledger, from listing its files to the last draft that has got its reply:",
        ("replies", "drafts", "met", "seconds", "replies/s", "peak MB"),
        readings,
    )
    return f"{keeping}\n\n{reading}"
