"""Measures what a run on one machine takes as it grows: `.venv/bin/python -m benchmarks.scale`.

Every run is `generate` with the embedded model and all checks, 70 examples a task. A million rows take a quarter of an
hour, and 10 GB of disk in TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measuring import ROOT, ProgramFailed, run_program
from benchmarks.table import table

_EXAMPLES_PER_TASK: Final = 70  # the embedded model knows some 14,500 tasks: enough for a million rows
_ROWS_PER_REQUEST: Final = 500  # of brainstorming, so that there are more tasks than are kept
_LONGEST_SECONDS: Final = 7_200.0


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table; returns the exit code, 1 where a run failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", default="10000,100000", help="numbers, joined by commas (default: %(default)s)")
    rows = []
    try:
        for asked in map(int, parser.parse_args(argv).rows.split(",")):
            rows.append(_measure(asked))
            print(f"scale: {', '.join(rows[-1])}", file=sys.stderr, flush=True)
    except ProgramFailed as error:
        print(f"scale: {error}", file=sys.stderr)
        return 1
    print(table(["asked", "kept", "wall s", "CPU s", "ms a row", "peak MB"], rows))
    return 0


def _measure(asked: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        output = Path(folder, "output")
        command = [
            *(sys.executable, "-m", "textmint.pipelines", "generate"),
            f"--output={output}",
            f"--task_requests={max(5, asked // _ROWS_PER_REQUEST)}",
            f"--max_tasks={math.ceil(asked / _EXAMPLES_PER_TASK)}",
            f"--examples_per_task={_EXAMPLES_PER_TASK}",
        ]
        started = time.monotonic()
        ended = run_program(command, cwd=ROOT, log=Path(folder, "log"), longest_s=_LONGEST_SECONDS)
        wall = time.monotonic() - started
        manifest = json.loads((output / "manifest.json").read_text("utf-8"))
    kept = manifest["refreshes"]["base"]["counts"]["examples"]
    times = [f"{wall:.0f}", f"{ended.cpu_s:.0f}", f"{1000 * ended.cpu_s / asked:.3f}"]
    return [f"{asked:,}", f"{kept:,}", *times, f"{ended.peak_bytes / 1e6:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
