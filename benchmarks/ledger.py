"""(d) The ledger: what keeping costs, what a run that has been paid for costs, and how fast a large ledger is read."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.measuring import Bench, Measured
from benchmarks.sizes import Sizes
from benchmarks.table import count, spread, table

_MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of runs of the same rows, in turns.

    Args:
      without: a ledger that keeps nothing.
      first: the ordinary run.
      unchanged: the same command again.
      recomputed: the same again, computing every row anew.
    """

    without: Measured
    first: Measured
    unchanged: Measured
    recomputed: Measured


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a large ledger was read, by how many drafts asked for their replies.

    Args:
      drafts: how many.
      told: the figures of `benchmarks.read_ledger`.
      peak_bytes: of memory.
    """

    drafts: int
    told: dict[str, Any]
    peak_bytes: int


def measure(bench: Bench, sizes: Sizes) -> tuple[list[Round], list[Reading]]:
    """-> rounds of runs at latency 0, and readings of a ledger of `sizes.ledger_replies`."""
    rounds = []
    for number in range(sizes.ledger_runs):
        rows = sizes.ledger_rows
        rounds.append(
            Round(
                without=bench.measure("without_ledger", "openai", rows),
                first=bench.measure("pipeline", "openai", rows),
                unchanged=bench.measure("pipeline", "openai", rows, resumes=True),
                recomputed=bench.measure("pipeline", "openai", rows, "--recompute", resumes=True),
            )
        )
        bench.say(f"ledger: run {number + 1} of {sizes.ledger_runs}")
    folder = str(bench.folder / "many" / "ledger")
    bench.run("benchmarks.read_ledger", "write", folder, f"--replies={sizes.ledger_replies}")
    readings = []
    for drafts in (sizes.ledger_replies // 1_000, sizes.ledger_replies):
        ended = bench.run("benchmarks.read_ledger", "read", folder, f"--drafts={drafts}")
        readings.append(Reading(drafts=drafts, told=json.loads(ended.out), peak_bytes=ended.peak_bytes))
        bench.say(f"ledger: read for {drafts:,} drafts")
    return rounds, readings


def render(rounds: Sequence[Round], readings: Sequence[Reading]) -> str:
    """What `measure` gave -> the section of the report."""
    rows = []
    for name, of in (
        ("keeping nothing", [(each.without, each.without) for each in rounds]),
        ("first run", [(each.first, each.without) for each in rounds]),
        ("the same again", [(each.unchanged, each.first) for each in rounds]),
        ("the same, recomputed", [(each.recomputed, each.first) for each in rounds]),
    ):
        ratios = [one.cpu_s / other.cpu_s for one, other in of]
        rows.append(
            [
                name,
                count(statistics.median(one.stats["requests"] for one, _ in of)),
                f"{statistics.median(one.cpu_s for one, _ in of):.2f}",
                f"{statistics.median(one.cpu_ms_per_row for one, _ in of):.3f}",
                f"{statistics.median(ratios):.3f}",
                spread(ratios, 3),
            ]
        )
    head = ("run", "requests", "CPU s", "ms/row", "ratio", "of runs")
    read_rows = [
        [
            count(reading.told["replies"]),
            count(reading.drafts),
            count(reading.told["met"]),
            f"{reading.told['seconds']:.1f}",
            count(reading.told["rate"]),
            f"{reading.peak_bytes / _MEGABYTE:.0f}",
        ]
        for reading in readings
    ]
    read_head = ("replies", "drafts", "met", "seconds", "replies/s", "peak MB")
    return "\n".join(
        [
            f"LEDGER: {count(rounds[0].first.rows)} rows at latency 0, start-up included (runs: {len(rounds)})",
            "  ratio: of the first run to one that keeps nothing, of the others to the first run.",
            "",
            table(head, rows),
            "",
            "  Reading a ledger, from the look at its files to the last draft that has met its reply:",
            "",
            table(read_head, read_rows),
        ]
    )
