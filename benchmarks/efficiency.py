"""(a) How busy the endpoint is kept."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.measuring import Bench, Measured, Protocol
from benchmarks.sizes import Sizes
from benchmarks.table import count, spread, table

LATENCY: Final[Mapping[str, Any]] = {"latency_median_ms": 200.0, "latency_sigma": 0.6}
PROTOCOLS: Final[tuple[Protocol, ...]] = ("openai", "gemini")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One protocol under one load: a bare loop and a pipeline of each run, which met the same latencies."""

    protocol: Protocol
    rows: int
    in_flight: int
    pairs: tuple[tuple[Measured, Measured], ...]

    @property
    def figures(self) -> tuple[list[float], list[float], list[float]]:
        """-> of each run: the bare loop's efficiency, the pipeline's, and their ratio."""
        bare = [first.efficiency(self.in_flight) for first, _ in self.pairs]
        ours = [second.efficiency(self.in_flight) for _, second in self.pairs]
        return bare, ours, [second / first for first, second in zip(bare, ours, strict=True)]


def measure(bench: Bench, sizes: Sizes, protocols: Sequence[Protocol] = PROTOCOLS) -> list[Load]:
    """-> what each load gave; bare loop and pipeline in turns."""
    return [
        Load(protocol=protocol, rows=rows, in_flight=in_flight, pairs=tuple(_pairs(bench, sizes, protocol, *load)))
        for load in sizes.loads
        for rows, in_flight in (load,)
        for protocol in protocols
    ]


def _pairs(
    bench: Bench, sizes: Sizes, protocol: Protocol, rows: int, in_flight: int
) -> Iterator[tuple[Measured, Measured]]:
    for run in range(sizes.efficiency_runs):
        # The seed: other latencies in each run, the same ones for both.
        bare = bench.measure("bare", protocol, rows, in_flight=in_flight, seed=run, **LATENCY)
        ours = bench.measure("pipeline", protocol, rows, in_flight=in_flight, seed=run, **LATENCY)
        bench.say(
            f"efficiency: {protocol}, {rows:,} rows, {in_flight} in flight, run {run + 1} of {sizes.efficiency_runs}: "
            f"bare loop {bare.efficiency(in_flight):.3f}, pipeline {ours.efficiency(in_flight):.3f}"
        )
        yield bare, ours


def render(loads: Sequence[Load]) -> str:
    """What `measure` gave -> the section of the report."""
    rows = []
    for load in loads:
        bare, ours, ratios = load.figures
        rows.append(
            [
                load.protocol,
                count(load.rows),
                count(load.in_flight),
                f"{statistics.median(bare):.3f}",
                f"{statistics.median(ours):.3f}",
                f"{statistics.median(ratios):.3f}",
                spread(ratios, 3),
                f"{statistics.median(ours.stats['max_in_flight'] for _, ours in load.pairs):.0f}",
                count(min(each.kept for pair in load.pairs for each in pair)),
            ]
        )
    head = ("protocol", "rows", "in flight", "bare loop", "pipeline", "ratio", "of runs", "most in flight", "kept")
    return "\n".join(
        [
            f"EFFICIENCY: requests x mean latency / concurrency, over seconds (runs: {len(loads[0].pairs)})",
            "  Latency lognormal, median 200 ms, sigma 0.6, the same for each prompt in both programs, which send the",
            "  prompts in the same order. Bare loop: aiohttp for openai, google-genai for gemini. Seconds: from the",
            "  first request to the last reply. The pipeline sends its first request alone; that one does not count;",
            "  the seconds start when the reply to it has left the endpoint (looked for every 10 ms).",
            "",
            table(head, rows),
        ]
    )
