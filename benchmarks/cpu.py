"""Measures what a row costs: CPU, and memory. Both come from the same runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.measuring import Bench, Measured, Protocol, System
from benchmarks.sizes import Sizes
from benchmarks.table import count, median, ratios, section

_NAMES: Final[Mapping[tuple[System, Protocol], str]] = {
    ("bare", "openai"): "bare loop, aiohttp",
    ("bare", "gemini"): "bare loop, google-genai",
    ("pipeline", "openai"): "pipeline",
    ("pipeline", "gemini"): "pipeline",
    ("naive", "openai"): "naive Beam, openai",
    ("naive", "gemini"): "naive Beam, google-genai",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One program at several sizes: of each run, what each number of rows took."""

    system: System
    protocol: Protocol
    runs: Sequence[Mapping[int, Measured]]

    @property
    def name(self) -> str:
        """The program, as the report calls it."""
        return _NAMES[self.system, self.protocol]

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows, in order."""
        return sorted(self.runs[0])

    def of_runs(self, figure: str, rows: int) -> list[float]:
        """Returns a figure of `Measured` for a number of rows, of each run."""
        return [getattr(run[rows], figure) for run in self.runs]

    def further(self, figure: str, fewer: int, more: int) -> list[float]:
        """Computes how much of a figure each row takes that the larger size has more, of each run."""
        return [(getattr(run[more], figure) - getattr(run[fewer], figure)) / (more - fewer) for run in self.runs]


def measure(bench: Bench, sizes: Sizes) -> list[Cost]:
    """Measures each program, with an endpoint that answers at once; the programs in turns."""
    runs: dict[tuple[System, Protocol], list[dict[int, Measured]]] = {}
    for run in range(sizes.cpu_runs):
        for protocol in sizes.cpu_protocols:
            plan: list[tuple[System, int]] = [
                (system, rows) for rows in sizes.cpu_rows for system in ("bare", "pipeline")
            ]
            plan += [("naive", rows) for rows in sizes.naive_rows]
            for system, rows in plan:
                measured = bench.measure(system, protocol, rows)
                of_system = runs.setdefault((system, protocol), [{} for _ in range(sizes.cpu_runs)])
                of_system[run][rows] = measured
                bench.say(
                    f"cpu: {protocol}, {_NAMES[system, protocol]}, {rows:,} rows, run {run + 1} of {sizes.cpu_runs}: "
                    f"{measured.cpu_ms_per_row:.2f} ms a row, {measured.peak_mb:.0f} MB"
                )
    return [Cost(system=system, protocol=protocol, runs=each) for (system, protocol), each in runs.items()]


def render_cpu(costs: Sequence[Cost]) -> str:
    """Renders the CPU of what `measure` returned."""
    bare = {cost.protocol: cost for cost in costs if cost.system == "bare"}
    least, *_ = sizes = next(iter(bare.values())).sizes
    small, large = sizes[-2:]
    naive = next((cost.sizes for cost in costs if cost.system == "naive"), [0, 0])
    head = ("protocol", "program", "start s", f"ms/row {count(small)}", f"ms/row {count(large)}", "x bare", "growth")
    return section(
        f"CPU of a row: user and system time of the client's processes, latency 0 (runs: {len(costs[0].runs)})",
        (*head, "further", "x bare", "growth"),
        [_cpu_row(cost, bare[cost.protocol], least, small, large) for cost in costs],
        (
            f"start s: CPU seconds of a whole run of {least} rows (naive: {naive[0]}). ms/row: start-up included.",
            f"further: ms of each row that {count(large)} have more than {count(small)}, so without start-up "
            f"(naive: {naive[1]} more than {naive[0]}).",
            "growth: the larger run over the smaller one; of further rows, over those up to the smaller one; 1: a",
            "row costs the same however many there are. x bare: times the bare loop of the same protocol.",
        ),
    )


def _cpu_row(cost: Cost, floor: Cost, least: int, small: int, large: int) -> list[str]:
    row = [cost.protocol, cost.name, median(cost.of_runs("cpu_s", cost.sizes[0]), 2)]
    floor_further = floor.further("cpu_s", small, large)
    if cost.system == "naive":
        further = cost.further("cpu_s", *cost.sizes)
        return [*row, *("-" * 4), _ms(further), median(ratios(further, floor_further), 2), "-"]
    at_small, at_large = (cost.of_runs("cpu_ms_per_row", rows) for rows in (small, large))
    further = cost.further("cpu_s", small, large)
    growth = median(ratios(further, cost.further("cpu_s", least, small)), 2) if least < small else "-"
    of_floor = ratios(at_large, floor.of_runs("cpu_ms_per_row", large))
    return [
        *(*row, median(at_small, 2), median(at_large, 2)),
        *(median(of_floor, 2), median(ratios(at_large, at_small), 2)),
        *(_ms(further), median(ratios(further, floor_further), 2), growth),
    ]


def _ms(seconds: Sequence[float]) -> str:
    return median([1000 * each for each in seconds], 2)


def render_memory(costs: Sequence[Cost]) -> str:
    """Renders the memory of what `measure` returned."""
    rows = []
    for cost in costs:
        fewer, more = cost.sizes[-2:]
        peaks = [cell for size in (fewer, more) for cell in (count(size), median(cost.of_runs("peak_mb", size), 0))]
        # below the noise of an allocator it may come out negative
        further = max(0.0, float(median(cost.further("peak_bytes", fewer, more), 6)))
        rows.append([cost.protocol, cost.name, *peaks, count(further)])
    return section(
        f"MEMORY: peak of the client's largest process, resident (runs: {len(costs[0].runs)})",
        ("protocol", "program", "rows", "peak MB", "rows", "peak MB", "bytes/further row"),
        rows,
        ("The bare loops keep no reply.",),
    )
