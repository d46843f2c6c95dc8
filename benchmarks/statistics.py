"""Measures what the statistics of a run take: `python -m benchmarks.statistics`.

Rows are made, grouped, written and published, without statistics and with them in turns, each in a process of its own.
The texts are those of tests/support/near_copies.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import EXAMPLES_PER_TASK, ROOT, Ended, run_program
from benchmarks.table import median, section
from tests.support.near_copies import words_of

SIZES: Final = (2_000, 20_000, 100_000)
QUICK_SIZES: Final = (200, 400)
RUNS: Final = 3
_ROWS_AT_ONCE: Final = 500
_LABELS: Final = 7  # of a task


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Runs of so many rows, each without and with statistics."""

    rows: int
    without: list[Ended]
    with_them: list[Ended]


def examples(start: int, end: int) -> Iterator[Any]:
    """Yields the examples from number `start` to before `end`, EXAMPLES_PER_TASK a task, with texts of 100 words."""
    from textmint.transforms.core.attributes import parse_attributes
    from textmint.transforms.core.elements import Example
    from textmint.transforms.core.identity import stable_hash

    attributes = parse_attributes()
    for number in range(start, end):
        id_, task = stable_hash("draft", number), f"Sort things of kind {number // EXAMPLES_PER_TASK}"
        text = " ".join(words_of(number))
        row: dict[str, Any] = {
            **{"id": id_, "task_id": stable_hash("task", task), "task": task, "input_text": text},
            **{"label": f"label {number % _LABELS}", "misleading_label": "another", **attributes.pick(id_)},
            **{"replica": number % EXAMPLES_PER_TASK, "prompt": f"{task}: write {task}", "template": "classify@0"},
            **{"model": "m", "finish_reason": "stop", "prompt_tokens": 7, "output_tokens": 5, "raw_reply": ""},
        }
        yield Example(**row, seed=42)


def write(rows: int, folder: str, *, with_statistics: bool) -> None:
    """Writes so many rows as a run on one machine does."""
    import apache_beam as beam
    from textmint.pipelines.runners.local import LocalRunner
    from textmint.transforms.core.elements import Example, Task
    from textmint.transforms.dataset.publish import Target
    from textmint.transforms.dataset.write_dataset import WriteDataset
    from textmint.transforms.statistics.describe_rows import DescribeRows

    tasks = rows // EXAMPLES_PER_TASK
    counts = {
        **dict.fromkeys(("TaskGenerate/kept", "Flatten/in", "Flatten/kept"), tasks),
        **dict.fromkeys(("BuildPrompt/kept", "LLMCall/kept", "ParseJSON/kept", "CheckQuality/kept"), rows),
    }
    target = Target(
        output=folder,
        refresh="base",
        run_id="run",
        task_requests=None,
        examples_per_task=EXAMPLES_PER_TASK,
        description={},
    )

    def make(start: int) -> Iterator[Example]:
        yield from examples(start, min(rows, start + _ROWS_AT_ONCE))

    pipeline = beam.Pipeline(runner=LocalRunner(folder))
    made = pipeline | beam.Create(range(0, rows, _ROWS_AT_ONCE)) | beam.FlatMap(make).with_output_types(Example)
    numbers = pipeline | "Numbers" >> beam.Create(range(tasks))
    named = beam.Map(lambda number: Task(task_id=f"{number:032x}", task=f"Sort things of kind {number}"))
    streams = {
        "examples": made,
        "tasks": numbers | "Tasks" >> named.with_output_types(Task),
        "counts": pipeline | "Counts" >> beam.Create(sorted(counts.items())),
    }
    describe = DescribeRows(rows, 0.8) if with_statistics else None
    _ = streams | WriteDataset(target, expected_rows=rows, describe=describe)
    gc.set_threshold(20_000, 20, 50)  # as a run does
    pipeline.run().wait_until_finish()


def measure(rows: int, runs: int) -> Compared:
    """Writes so many rows, without and with statistics in turns."""
    compared = Compared(rows=rows, without=[], with_them=[])
    for _ in range(runs):
        for how, ended in (("without", compared.without), ("with", compared.with_them)):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                command = [sys.executable, "-m", "benchmarks.statistics", f"--write={how}", f"--rows={rows}", folder]
                ended.append(run_program(command, cwd=ROOT, log=Path(folder, "log.txt")))
    return compared


def render(measured: Sequence[Compared]) -> str:
    """Renders what `measure` returned for each size."""
    rows = []
    for one in measured:
        pairs = list(zip(one.without, one.with_them, strict=True))
        added = [1000 * (after.cpu_s - before.cpu_s) for before, after in pairs]
        peaks = [median([ended.peak_bytes / 1e6 for ended in runs], 0) for runs in zip(*pairs, strict=True)]
        cpu = [median([ended.cpu_s for ended in runs], 2) for runs in zip(*pairs, strict=True)]
        each = median([milliseconds / one.rows for milliseconds in added], 4)
        rows.append([f"{one.rows:,}", *cpu, each, *peaks])
    return section(
        f"STATISTICS: writing rows without statistics and with them, one process (runs: {len(measured[0].without)})",
        ("rows", "CPU s without", "with", "added ms/row", "peak MB without", "with"),
        rows,
        ("Added: medians of pairs. A row of a whole run takes 0.3 to 0.5 ms; see the section cpu of ./run.sh bench.",),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code, 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each size and kind (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="one size instead of several")
    parser.add_argument("--write", choices=("with", "without"), help=argparse.SUPPRESS)  # a process of its own
    parser.add_argument("folder", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.write:
        write(options.rows, options.folder, with_statistics=options.write == "with")
        return 0
    sizes = (options.rows,) if options.rows else QUICK_SIZES if options.quick else SIZES
    print(render([measure(rows, options.runs) for rows in sizes]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
