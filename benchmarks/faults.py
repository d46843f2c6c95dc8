"""Measures what is left of the efficiency when the endpoint fails.

All by the OpenAI protocol: what happens after a fault is the same for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.efficiency import LATENCY, efficiencies, measure_pair
from benchmarks.measuring import IN_FLIGHT, Bench, Measured
from benchmarks.sizes import Sizes
from benchmarks.table import count, median, section, spread

_SHORT: Final[Mapping[str, Any]] = {"latency_median_ms": 20.0, "latency_sigma": 0.6}
_FAILING: Final[Mapping[str, Any]] = {"rate_429": 0.025, "rate_500": 0.025}
_THROTTLED: Final[Mapping[str, Any]] = {"rate_429": 0.1, "retry_after": 1.0}
_HANGING: Final[Mapping[str, Any]] = {"rate_hang": 0.01}
_LIMIT_RPS: Final = 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What each kind of fault left.

    Args:
      failing: bare loop and pipeline of each run.
      free: the pipeline at an endpoint that refuses nothing.
      throttled: the same at one that refuses some.
      limited: the pipeline at an endpoint with a cap on its rate.
      limited_seconds: how long that one is asked.
      hanging: the pipeline at an endpoint that leaves some connections open.
      request_timeout: of these, in seconds.
    """

    failing: Sequence[tuple[Measured, Measured]]
    free: Measured
    throttled: Measured
    limited: Measured
    limited_seconds: int
    hanging: Measured
    request_timeout: int


def measure(bench: Bench, sizes: Sizes) -> Faults:
    """Measures each kind of fault."""

    def pipeline(said: str, rows: int, *flags: str, **played: Any) -> Measured:
        measured = bench.measure("pipeline", "openai", rows, *flags, **played)
        bench.say(f"faults: {said}: {measured.kept:,} of {rows:,} rows, {measured.rate:.1f}/s")
        return measured

    played = {"in_flight": IN_FLIGHT, **_SHORT, **_FAILING}
    failing = [
        measure_pair(
            bench, "openai", sizes.faulty_rows, f"faults: 5 % fail, run {run + 1}", "--backoff", seed=run, **played
        )
        for run in range(sizes.fault_runs)
    ]
    timeout = bench.folder / "timeout.yaml"
    timeout.write_text(f"request_timeout: {sizes.request_timeout}\n", "utf-8")
    return Faults(
        failing=failing,
        free=pipeline("nothing refused", sizes.throttled_rows, **LATENCY),
        throttled=pipeline("10 % refused", sizes.throttled_rows, **LATENCY, **_THROTTLED),
        limited=pipeline("20 a second", _LIMIT_RPS * sizes.limited_seconds, **LATENCY, limit_rps=_LIMIT_RPS),
        limited_seconds=sizes.limited_seconds,
        hanging=pipeline("1 in 100 hangs", sizes.hanging_rows, f"--config={timeout}", **_SHORT, **_HANGING),
        request_timeout=sizes.request_timeout,
    )


def refused_share(by_second: Mapping[str, Mapping[str, int]], since: int) -> float:
    """Computes the share of requests that were answered with 429; 0 if there were no requests.

    Args:
      by_second: what the endpoint counted in each second of a run.
      since: the first second that counts.
    """
    late = [counts for second, counts in by_second.items() if int(second) >= since]
    asked = sum(counts.get("requests", 0) for counts in late)
    return sum(counts.get("429", 0) for counts in late) / asked if asked else 0.0


def render(found: Faults) -> str:
    """Renders what `measure` returned."""
    bare, ours, relative = efficiencies(found.failing, IN_FLIGHT)
    kept = [_kept([pair[side] for pair in found.failing]) for side in (0, 1)]
    limited, hanging, half = found.limited, found.hanging, found.limited_seconds // 2
    refused = [f"{100 * refused_share(limited.stats['by_second'], since):.1f}" for since in (0, half)]
    hung = count(hanging.stats["by_outcome"].get("hang", 0))
    sections = [
        section(
            f"FAULTS: 2.5 % of requests get 429 and 2.5 % get 500, median 20 ms, {IN_FLIGHT} in flight, openai "
            f"(runs: {len(found.failing)})",
            ("program", "rows kept", "efficiency", "x bare", "of runs"),
            [
                ["bare loop, sleeps 1, 2, 4, 8 s", kept[0], median(bare), "1.000", "-"],
                ["pipeline", kept[1], median(ours), median(relative), spread(relative, 3)],
            ],
        ),
        section(
            f"FAULTS: 10 % of requests get 429 with Retry-After: 1, median 200 ms, {IN_FLIGHT} in flight, pipeline",
            ("endpoint", "rows kept", "answered/s", "requests", "relative"),
            [
                [name, *_answered(each), f"{each.rate / found.free.rate:.3f}"]
                for name, each in (("no refusal", found.free), ("10 % refused", found.throttled))
            ],
        ),
        section(
            f"FAULTS: 429 above {_LIMIT_RPS} requests a second, median 200 ms, {IN_FLIGHT} in flight, pipeline",
            ("rows kept", "answered/s", "requests", "% refused", f"% after {half} s"),
            [[*_answered(limited), *refused]],
        ),
        section(
            "FAULTS: 1 request in 100 is never answered, median 20 ms, "
            f"request_timeout {found.request_timeout}, pipeline",
            ("rows kept", "hung", "requests", "seconds"),
            [[_kept([hanging]), hung, count(hanging.stats["requests"]), f"{hanging.span_s:.1f}"]],
        ),
    ]
    return "\n\n".join(sections)


def _answered(measured: Measured) -> list[str]:
    return [_kept([measured]), f"{measured.rate:.1f}", count(measured.stats["requests"])]


def _kept(measured: Sequence[Measured]) -> str:
    """Renders the rows of the run that lost most."""
    worst = min(measured, key=lambda each: each.kept - each.rows)
    return f"{worst.kept:,} of {worst.rows:,}"
