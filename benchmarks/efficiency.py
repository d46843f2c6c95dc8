"""Measures how busy the endpoint is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from benchmarks.measuring import Bench, Measured, Protocol
from benchmarks.sizes import Sizes
from benchmarks.table import median, ratios, section

LATENCY: Final[Mapping[str, Any]] = {"latency_median_ms": 200.0, "latency_sigma": 0.6}
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
        for protocol in get_args(Protocol):
            pairs = []
            for run in range(sizes.runs):
                asked: dict[str, Any] = {"in_flight": in_flight, "seed": run, **LATENCY}
                bare = bench.measure("bare", protocol, rows, **asked)
                ours = bench.measure("pipeline", protocol, rows, **asked)
                pairs.append((bare, ours))
                bench.say(
                    f"efficiency: {protocol}, {rows:,} rows, {in_flight} in flight: "
                    f"bare loop {bare.efficiency(in_flight):.3f}, pipeline {ours.efficiency(in_flight):.3f}"
                )
            loads.append(Load(protocol=protocol, rows=rows, in_flight=in_flight, pairs=pairs))
    return loads


def render(loads: Sequence[Load]) -> str:
    """Renders what `measure` returned."""
    rows = []
    for load in loads:
        bare, ours = ([pair[side].efficiency(load.in_flight) for pair in load.pairs] for side in (0, 1))
        kept = min(each.kept for pair in load.pairs for each in pair)
        figures = [median(bare), median(ours), median(ratios(ours, bare))]
        rows.append([load.protocol, f"{load.rows:,}", f"{load.in_flight}", *figures, f"{kept:,}"])
    return section(
        f"EFFICIENCY: requests x mean latency / in flight, over seconds (runs: {len(loads[0].pairs)})",
        ("protocol", "rows", "in flight", "bare loop", "pipeline", "ratio", "kept"),
        rows,
        _NOTES,
    )
