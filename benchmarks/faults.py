"""(c) What is left of it when the endpoint fails. All by the OpenAI protocol: what happens after a fault is the same
for each."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.efficiency import LATENCY
from benchmarks.measuring import IN_FLIGHT, Bench, Measured
from benchmarks.sizes import Sizes
from benchmarks.table import count, spread, table

_SHORT: Final[Mapping[str, Any]] = {"latency_median_ms": 20.0, "latency_sigma": 0.6}
_FAILING: Final[Mapping[str, Any]] = {"rate_429": 0.025, "rate_500": 0.025}
_THROTTLED: Final[Mapping[str, Any]] = {"rate_429": 0.1, "retry_after": 1.0}
_LIMIT_RPS: Final = 20
_HANGING: Final[Mapping[str, Any]] = {"rate_hang": 0.01}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What each kind of fault left.

    Args:
      failing: bare loop and pipeline of each run.
      free: the pipeline at an endpoint that refuses nothing.
      throttled: the same at one that refuses some.
      limited: the pipeline at an endpoint with a cap on its rate.
      hanging: the pipeline at an endpoint that leaves some connections open.
    """

    failing: tuple[tuple[Measured, Measured], ...]
    free: Measured
    throttled: Measured
    limited: Measured
    limited_seconds: int
    hanging: Measured
    request_timeout: int


def measure(bench: Bench, sizes: Sizes) -> Faults:
    """-> what came of each kind of fault."""
    pairs = []
    for run in range(sizes.fault_runs):
        played = {**_SHORT, **_FAILING, "seed": run}
        bare = bench.measure("bare", "openai", sizes.faulty_rows, "--backoff", **played)
        ours = bench.measure("pipeline", "openai", sizes.faulty_rows, **played)
        pairs.append((bare, ours))
        bench.say(
            f"faults: 5 % fail, run {run + 1} of {sizes.fault_runs}: bare loop {bare.efficiency(IN_FLIGHT):.3f}, "
            f"pipeline {ours.efficiency(IN_FLIGHT):.3f}"
        )

    def one(said: str, rows: int, *flags: str, **played: Any) -> Measured:
        measured = bench.measure("pipeline", "openai", rows, *flags, **played)
        bench.say(f"faults: {said}: {measured.kept:,} of {rows:,} rows, {measured.rate:.1f}/s")
        return measured

    timeout = f"--request_timeout={sizes.request_timeout}"
    return Faults(
        failing=tuple(pairs),
        free=one("nothing refused", sizes.throttled_rows, **LATENCY),
        throttled=one("10 % refused", sizes.throttled_rows, **LATENCY, **_THROTTLED),
        limited=one("20 a second", _LIMIT_RPS * sizes.limited_seconds, **LATENCY, limit_rps=_LIMIT_RPS),
        limited_seconds=sizes.limited_seconds,
        hanging=one("1 in 100 hangs", sizes.hanging_rows, timeout, **_SHORT, **_HANGING),
        request_timeout=sizes.request_timeout,
    )


def refused_share(by_second: Mapping[str, Mapping[str, int]], since: int) -> float:
    """What the endpoint counted in each second of a run -> the share of requests that it answered with 429, from that
    second on; 0 where there were none."""
    late = [counts for second, counts in by_second.items() if int(second) >= since]
    asked = sum(counts.get("requests", 0) for counts in late)
    return sum(counts.get("429", 0) for counts in late) / asked if asked else 0.0


def render(found: Faults) -> str:
    """What `measure` gave -> the section of the report."""
    return "\n\n".join([_render_failing(found.failing), _render_throttled(found), _render_limited(found), _hung(found)])


def _render_failing(pairs: Sequence[tuple[Measured, Measured]]) -> str:
    bare, ours = [[each[side].efficiency(IN_FLIGHT) for each in pairs] for side in (0, 1)]
    ratios = [second / first for first, second in zip(bare, ours, strict=True)]
    rows = [
        ["bare loop, sleeps 1, 2, 4, 8 s", _kept([each for each, _ in pairs]), _efficiency(bare), "1.000", "-"],
        ["pipeline", _kept([each for _, each in pairs]), _efficiency(ours), _efficiency(ratios), spread(ratios, 3)],
    ]
    return "\n".join(
        [
            f"FAULTS: 2.5 % of requests get 429 and 2.5 % get 500, median 20 ms, {IN_FLIGHT} in flight, openai "
            f"(runs: {len(pairs)})",
            "",
            table(("program", "rows kept", "efficiency", "x bare", "of runs"), rows),
        ]
    )


def _render_throttled(found: Faults) -> str:
    rows = [
        [name, _kept([each]), f"{each.rate:.1f}", count(each.stats["requests"]), f"{each.rate / found.free.rate:.3f}"]
        for name, each in (("no refusal", found.free), ("10 % refused", found.throttled))
    ]
    return "\n".join(
        [
            f"FAULTS: 10 % of requests get 429 with Retry-After: 1, median 200 ms, {IN_FLIGHT} in flight, pipeline",
            "",
            table(("endpoint", "rows kept", "answered/s", "requests", "relative"), rows),
        ]
    )


def _render_limited(found: Faults) -> str:
    seconds, limited = found.limited_seconds // 2, found.limited
    rows = [
        [
            _kept([limited]),
            f"{limited.rate:.1f}",
            count(limited.stats["requests"]),
            f"{100 * refused_share(limited.stats['by_second'], 0):.1f}",
            f"{100 * refused_share(limited.stats['by_second'], seconds):.1f}",
        ]
    ]
    return "\n".join(
        [
            f"FAULTS: 429 above {_LIMIT_RPS} requests a second, median 200 ms, {IN_FLIGHT} in flight, pipeline",
            "",
            table(("rows kept", "answered/s", "requests", "% refused", f"% after {seconds} s"), rows),
        ]
    )


def _hung(found: Faults) -> str:
    hanging = found.hanging
    rows = [
        [
            _kept([hanging]),
            count(hanging.stats["by_outcome"].get("hang", 0)),
            count(hanging.stats["requests"]),
            f"{hanging.span_s:.1f}",
        ]
    ]
    return "\n".join(
        [
            f"FAULTS: 1 request in 100 is never answered, median 20 ms, --request_timeout={found.request_timeout}, "
            "pipeline",
            "",
            table(("rows kept", "hung", "requests", "seconds"), rows),
        ]
    )


def _efficiency(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f}"


def _kept(measured: Sequence[Measured]) -> str:
    """Of the run that lost most."""
    worst = min(measured, key=lambda each: each.kept - each.rows)
    return f"{worst.kept:,} of {worst.rows:,}"
