"""(b) What a row costs: CPU, and memory. Both come from the same runs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.measuring import Bench, Measured, Protocol, System
from benchmarks.sizes import Sizes
from benchmarks.table import count, table

_MEGABYTE = 1_000_000
_NAMES: Mapping[tuple[System, Protocol], str] = {
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
    runs: tuple[Mapping[int, Measured], ...]

    @property
    def sizes(self) -> list[int]:
        """-> the numbers of rows, from the least."""
        return sorted(self.runs[0])

    def of_runs(self, figure: Callable[[Mapping[int, Measured]], float]) -> list[float]:
        """A figure of one run -> that of each."""
        return [figure(run) for run in self.runs]

    def per_row(self, rows: int) -> list[float]:
        """Rows -> CPU milliseconds of each, start-up included, of each run."""
        return self.of_runs(lambda run: run[rows].cpu_ms_per_row)

    def further(self, fewer: int, more: int) -> list[float]:
        """Two sizes -> CPU milliseconds of each row that the larger has more, of each run."""
        return self.of_runs(lambda run: 1000 * (run[more].cpu_s - run[fewer].cpu_s) / (more - fewer))

    def memory(self, fewer: int, more: int) -> list[float]:
        """Two sizes -> bytes of peak memory for each row that the larger has more, of each run."""
        return self.of_runs(lambda run: (run[more].peak_bytes - run[fewer].peak_bytes) / (more - fewer))


def measure(bench: Bench, sizes: Sizes) -> list[Cost]:
    """-> what each program took, the endpoint answering at once; the programs in turns."""
    runs: dict[tuple[System, Protocol], list[dict[int, Measured]]] = {}
    for run in range(sizes.cpu_runs):
        for protocol in sizes.cpu_protocols:
            plan: list[tuple[System, int]] = []
            for rows in sizes.cpu_rows:
                plan += [("bare", rows), ("pipeline", rows)]
            plan += [("naive", rows) for rows in sizes.naive_rows]
            for system, rows in plan:
                measured = bench.measure(system, protocol, rows)
                of_system = runs.setdefault((system, protocol), [])
                if len(of_system) == run:
                    of_system.append({})
                of_system[run][rows] = measured
                bench.say(
                    f"cpu: {protocol}, {_NAMES[system, protocol]}, {rows:,} rows, run {run + 1} of {sizes.cpu_runs}: "
                    f"{measured.cpu_ms_per_row:.2f} ms a row, {measured.peak_bytes / _MEGABYTE:.0f} MB"
                )
    return [Cost(system=system, protocol=protocol, runs=tuple(each)) for (system, protocol), each in runs.items()]


def render_cpu(costs: Sequence[Cost]) -> str:
    """What `measure` gave -> the section of the report."""
    bare = {cost.protocol: cost for cost in costs if cost.system == "bare"}
    first = next(iter(bare.values())).sizes
    small, large = first[-2:]
    rows = []
    for cost in costs:
        floor = bare[cost.protocol]
        least = cost.sizes[0]
        row = [cost.protocol, _NAMES[cost.system, cost.protocol], f"{_median(cost.of_runs(_cpu_of(least))):.2f}"]
        floor_further = floor.further(small, large)
        if cost.system == "naive":
            further = cost.further(*cost.sizes)
            row += ["-", "-", "-", "-", f"{_median(further):.2f}", _ratio(further, floor_further), "-"]
        else:
            at_small, at_large = cost.per_row(small), cost.per_row(large)
            further = cost.further(small, large)
            row += [
                f"{_median(at_small):.2f}",
                f"{_median(at_large):.2f}",
                _ratio(at_large, floor.per_row(large)),
                _ratio(at_large, at_small),
                f"{_median(further):.2f}",
                _ratio(further, floor_further),
                _ratio(further, cost.further(least, small)) if least < small else "-",
            ]
        rows.append(row)
    head = (
        "protocol",
        "program",
        "start s",
        f"ms/row {count(small)}",
        f"ms/row {count(large)}",
        "x bare",
        "growth",
        "further",
        "x bare",
        "growth",
    )
    naive = next((cost.sizes for cost in costs if cost.system == "naive"), [0, 0])
    return "\n".join(
        [
            f"CPU of a row: user and system time of the client's processes, latency 0 (runs: {len(costs[0].runs)})",
            f"  start s: CPU seconds of a whole run of {first[0]} rows (naive: {naive[0]}). ms/row: start-up included.",
            f"  further: ms of each row that {count(large)} have more than {count(small)}, so without start-up "
            f"(naive: {naive[1]} more than {naive[0]}).",
            "  growth: the larger run over the smaller one; of further rows, over those up to the smaller one; 1: a",
            "  row costs the same however many there are. x bare: times the bare loop of the same protocol.",
            "",
            table(head, rows),
        ]
    )


def render_memory(costs: Sequence[Cost]) -> str:
    """What `measure` gave -> the section of the report."""
    rows = []
    for cost in costs:
        fewer, more = cost.sizes[-2:]
        rows.append(
            [
                cost.protocol,
                _NAMES[cost.system, cost.protocol],
                count(fewer),
                f"{_median(cost.of_runs(_peak_of(fewer))):.0f}",
                count(more),
                f"{_median(cost.of_runs(_peak_of(more))):.0f}",
                # below the noise of an allocator it may come out negative
                count(max(0.0, _median(cost.memory(fewer, more)))),
            ]
        )
    head = ("protocol", "program", "rows", "peak MB", "rows", "peak MB", "bytes/further row")
    return "\n".join(
        [
            f"MEMORY: peak of the client's largest process, resident (runs: {len(costs[0].runs)})",
            "  The bare loops keep no reply.",
            "",
            table(head, rows),
        ]
    )


def _cpu_of(rows: int) -> Callable[[Mapping[int, Measured]], float]:
    return lambda run: run[rows].cpu_s


def _peak_of(rows: int) -> Callable[[Mapping[int, Measured]], float]:
    return lambda run: run[rows].peak_bytes / _MEGABYTE


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _ratio(values: Sequence[float], others: Sequence[float]) -> str:
    """The median of the ratios of each run."""
    return f"{_median([value / other if other > 0 else 0.0 for value, other in zip(values, others, strict=True)]):.2f}"
