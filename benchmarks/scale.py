"""Measures what a run on one machine takes as it grows: `.venv/bin/python -m benchmarks.scale`.

Every run is `generate` with the embedded model and all checks, 70 examples a task; each number of rows is a multiple of
the same work, so that the cost of a row can be compared. `--engines=memory` is Beam's own in-process engine, which
holds everything that it shuffles in memory: give it rows with care, 16 kB each.

A million rows take a quarter of an hour, and 10 GB of disk in TMPDIR.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow.dataset

from benchmarks.measuring import ROOT, ProgramFailed, environment, run_program
from benchmarks.table import count, table

_EXAMPLES_PER_TASK: Final = 70  # the embedded model knows some 14,500 tasks: enough for a million rows
_ROWS_PER_REQUEST: Final = 500  # of brainstorming, so that there are more tasks than are kept
_LONGEST_SECONDS: Final = 7_200.0
_IN_MEMORY: Final = """
import sys
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from textmint.pipelines.cli import run
run.local_runner = lambda config: FnApiRunner()
sys.exit(run.generate(sys.argv[1:], "generate"))
"""
_GENERATE: Final = ("-m", "textmint.pipelines", "generate")
ENGINES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "local": (_GENERATE, ()),
    "threads": (_GENERATE, ("--direct_num_workers=2", "--direct_running_mode=multi_threading")),
    "processes": (_GENERATE, ("--direct_num_workers=2", "--direct_running_mode=multi_processing")),
    "portable": (_GENERATE, ("--runner=PortableRunner", "--job_endpoint=embed")),
    "memory": (("-c", _IN_MEMORY), ()),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and prints a table.

    Args:
      argv: arguments of the command line.

    Returns:
      The exit code: 0 done, 1 a run failed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", default="10000,100000", help="numbers, joined by commas (default: %(default)s)")
    parser.add_argument("--engines", default="local", help=f"some of {','.join(ENGINES)} (default: %(default)s)")
    options = parser.parse_args(argv)
    engines = options.engines.split(",")
    if unknown := set(engines) - set(ENGINES):
        parser.error(f"--engines: {', '.join(sorted(unknown))} is none of {', '.join(ENGINES)}")
    rows: list[list[str]] = []
    first: dict[str, float] = {}
    try:
        for asked in map(int, options.rows.split(",")):
            for engine in engines:
                line, cost = _measure(engine, asked)
                first.setdefault(engine, cost)
                rows.append([*line, f"{cost / first[engine]:.2f}"])
                print(f"scale: {', '.join(rows[-1])}", file=sys.stderr, flush=True)
    except ProgramFailed as error:
        print(f"scale: {error}", file=sys.stderr)
        return 1
    print(table(["engine", "asked", "kept", "wall s", "CPU s", "ms a row", "peak MB", "rows, sorted", "ratio"], rows))
    return 0


def _measure(engine: str, asked: int) -> tuple[list[str], float]:
    """Returns the cells of a line, and the CPU milliseconds of a row."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        output = Path(folder, "output")
        program, flags = ENGINES[engine]
        command = [
            *(sys.executable, *program, *flags),
            f"--output={output}",
            f"--task_requests={max(5, asked // _ROWS_PER_REQUEST)}",
            f"--max_tasks={math.ceil(asked / _EXAMPLES_PER_TASK)}",
            f"--examples_per_task={_EXAMPLES_PER_TASK}",
        ]
        started = time.monotonic()
        ended = run_program(
            command,
            cwd=ROOT,
            env=environment(os.environ),
            log=Path(folder, "log"),
            longest_s=_LONGEST_SECONDS,
        )
        wall = time.monotonic() - started
        kept, digest = digest_of(output)
    cost = 1000 * ended.cpu_s / asked
    cells = [count(asked), count(kept), f"{wall:.0f}", f"{ended.cpu_s:.0f}", f"{cost:.3f}"]
    return [engine, *cells, f"{ended.peak_bytes / 1e6:.0f}", digest], cost


def digest_of(output: Path) -> tuple[int, str]:
    """Counts the examples of a dataset folder, and digests their rows in the order of their ids."""
    digest = hashlib.blake2b(digest_size=8)
    rows = 0
    found = pyarrow.dataset.dataset(output / "examples", partitioning="hive")
    for batch in found.to_batches():  # files and rows are in that order
        for row in batch.to_pylist():
            digest.update(repr(sorted(row.items())).encode("utf-8", "surrogatepass"))
            rows += 1
    return rows, digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
