"""Measures the CPU time of a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.measuring import Bench, Measured, Protocol, System
from benchmarks.sizes import Sizes
from benchmarks.table import median, ratios, section


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one program took: by number of rows, each of its runs."""

    system: System
    protocol: Protocol
    runs: Mapping[int, Sequence[Measured]]


def measure(bench: Bench, sizes: Sizes) -> list[Cost]:
    """Measures bare loop and pipeline in turns, with an endpoint that answers at once."""
    costs = []
    for protocol in sizes.cpu_protocols:
        runs: dict[System, dict[int, list[Measured]]] = {"bare": {}, "pipeline": {}}
        for rows in sizes.cpu_rows * sizes.runs:
            for system, of_system in runs.items():
                measured = bench.measure(system, protocol, rows)
                of_system.setdefault(rows, []).append(measured)
                bench.say(f"cpu: {protocol}, {system}, {rows:,} rows: {measured.cpu_ms_per_row:.2f} ms a row")
        costs += [Cost(system=system, protocol=protocol, runs=of_system) for system, of_system in runs.items()]
    return costs


def render(costs: Sequence[Cost]) -> str:
    """Renders what `measure` returned."""
    least, *sizes = costs[0].runs
    bare = {cost.protocol: _ms_per_row(cost, sizes[-1]) for cost in costs if cost.system == "bare"}
    rows = []
    for cost in costs:
        start = median([run.cpu_s for run in cost.runs[least]], 2)
        each_size = [median(_ms_per_row(cost, size), 2) for size in sizes]
        of_bare = median(ratios(_ms_per_row(cost, sizes[-1]), bare[cost.protocol]), 2)
        rows.append([cost.protocol, cost.system, start, *each_size, of_bare])
    return section(
        f"CPU: user and system time of the client's processes, latency 0 (runs: {len(costs[0].runs[least])})",
        ("protocol", "program", "start s", *(f"ms/row {size:,}" for size in sizes), "x bare"),
        rows,
        (f"start s: CPU seconds of a whole run of {least} rows. ms/row: start-up included.",),
    )


def _ms_per_row(cost: Cost, rows: int) -> list[float]:
    return [run.cpu_ms_per_row for run in cost.runs[rows]]
