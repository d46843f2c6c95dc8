"""Measures what a command takes before there is much to do."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.measuring import Bench
from benchmarks.sizes import Sizes
from benchmarks.table import median, ratios, section

_ALONE: Final = "import apache_beam"
_THREE_ROWS: Final = ("--task_requests=1", "--max_tasks=1", "--examples_per_task=3")
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    _ALONE: ("benchmarks.import_beam",),
    "generate --help": ("textmint.pipelines", "generate", "--help"),
    "preview --rows=3": ("textmint.pipelines", "preview", "--rows=3"),
    "generate, 3 rows": ("textmint.pipelines", "generate", *_THREE_ROWS),
}
"""The programs, by the name that the report gives them. The embedded model answers."""

MOST: Final[Mapping[str, float]] = {"generate --help": 1.0, "preview --rows=3": 1.6, "generate, 3 rows": 1.7}
"""So many times the CPU of importing Beam alone a command should take at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """What a command took in each of its runs, CPU seconds."""

    name: str
    cpu_s: Sequence[float]


def measure(bench: Bench, sizes: Sizes) -> list[Start]:
    """Measures the commands in turns."""
    runs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    output = bench.folder / "started"
    for _ in range(sizes.runs):
        for name, (module, *arguments) in COMMANDS.items():
            shutil.rmtree(output, ignore_errors=True)
            places = [f"--output={output}"] if module != "benchmarks.import_beam" else []
            runs[name].append(bench.run(module, *arguments, *places).cpu_s)
            bench.say(f"start: {name}: {runs[name][-1]:.2f} s")
    return [Start(name, cpu_s) for name, cpu_s in runs.items()]


def render(starts: Sequence[Start]) -> str:
    """Renders what `measure` returned."""
    alone = next(start.cpu_s for start in starts if start.name == _ALONE)
    rows = []
    for start in starts:
        most = MOST.get(start.name)
        rows.append(
            [
                start.name,
                median(start.cpu_s, 2),
                median(ratios(start.cpu_s, alone), 2),
                "-" if most is None else f"{most:.1f}",
            ]
        )
    return section(
        f"START: user and system time of whole commands (runs: {len(alone)})",
        ("command", "CPU s", "x import", "at most"),
        rows,
        ("x import: times that of importing Apache Beam, in the same turn. at most: what it should be.",),
    )
