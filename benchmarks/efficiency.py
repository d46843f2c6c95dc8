"""Measures how busy the endpoint is kept."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.measuring import Bench, Measured, Protocol
from benchmarks.sizes import Sizes
from benchmarks.table import count, median, ratios, section, spread

LATENCY: Final[Mapping[str, Any]] = {"latency_median_ms": 200.0, "latency_sigma": 0.6}
_PROTOCOLS: Final[tuple[Protocol, ...]] = ("openai", "gemini")
_NOTES: Final = (
    "Latency lognormal, median 200 ms, sigma 0.6, the same for each prompt in both programs, which send the",
    "prompts in the same order. Bare loop: aiohttp for openai, google-genai for gemini. Seconds: from the",
    "first request to the last reply. The pipeline sends its first request alone; that one does not count;",
    "the seconds start when the reply to it has left the endpoint (polled every 10 ms).",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One protocol under one load: of each run the bare loop and the pipeline, which met the same latencies."""

    protocol: Protocol
    rows: int
    in_flight: int
    pairs: Sequence[tuple[Measured, Measured]]


def measure(bench: Bench, sizes: Sizes) -> list[Load]:
    """Measures each protocol under each load; bare loop and pipeline in turns."""
    loads = []
    for rows, in_flight in sizes.loads:
        for protocol in _PROTOCOLS:
            said = f"efficiency: {protocol}, {rows:,} rows, {in_flight} in flight"
            pairs = [
                measure_pair(bench, protocol, rows, f"{said}, run {run + 1}", in_flight=in_flight, seed=run, **LATENCY)
                for run in range(sizes.efficiency_runs)
            ]
            loads.append(Load(protocol=protocol, rows=rows, in_flight=in_flight, pairs=pairs))
    return loads


def measure_pair(
    bench: Bench, protocol: Protocol, rows: int, said: str, *bare_flags: str, in_flight: int, seed: int, **played: Any
) -> tuple[Measured, Measured]:
    """Measures the bare loop, then the pipeline, under the same conditions.

    Args:
      bench: runs them.
      protocol: as of `Bench.measure`; so are rows, in_flight and played.
      rows: how many.
      said: what the person who waits is told that was measured.
      *bare_flags: options of the bare loop alone.
      in_flight: requests at once.
      seed: of the endpoint's latencies and faults; another one in each run.
      **played: options of the endpoint.
    """
    bare = bench.measure("bare", protocol, rows, *bare_flags, in_flight=in_flight, seed=seed, **played)
    ours = bench.measure("pipeline", protocol, rows, in_flight=in_flight, seed=seed, **played)
    bench.say(f"{said}: bare loop {bare.efficiency(in_flight):.3f}, pipeline {ours.efficiency(in_flight):.3f}")
    return bare, ours


def efficiencies(pairs: Sequence[tuple[Measured, Measured]], in_flight: int) -> tuple[list[float], ...]:
    """Computes, of each run: the bare loop's efficiency, the pipeline's, and their ratio."""
    bare, ours = ([pair[side].efficiency(in_flight) for pair in pairs] for side in (0, 1))
    return bare, ours, ratios(ours, bare)


def render(loads: Sequence[Load]) -> str:
    """Renders what `measure` returned."""
    rows = []
    for load in loads:
        bare, ours, relative = efficiencies(load.pairs, load.in_flight)
        most = statistics.median(pipeline.stats["max_in_flight"] for _, pipeline in load.pairs)
        kept = min(each.kept for pair in load.pairs for each in pair)
        sizes = [count(load.rows), count(load.in_flight)]
        figures = [median(bare), median(ours), median(relative), spread(relative, 3)]
        rows.append([load.protocol, *sizes, *figures, count(most), count(kept)])
    return section(
        f"EFFICIENCY: requests x mean latency / concurrency, over seconds (runs: {len(loads[0].pairs)})",
        ("protocol", "rows", "in flight", "bare loop", "pipeline", "ratio", "of runs", "most in flight", "kept"),
        rows,
        _NOTES,
    )
