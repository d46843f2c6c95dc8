"""The command `./run.sh bench`: options in, tables out. No figure makes it fail."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from benchmarks import cpu, efficiency, faults, ledger
from benchmarks.measuring import Bench, ProgramFailed
from benchmarks.sizes import FULL, QUICK, Sizes
from tests.support.llm_server import LlmServer

SECTIONS: Final = ("efficiency", "cpu", "memory", "ledger", "faults")
_PACKAGES: Final = ("apache-beam", "aiohttp", "google-genai", "openai", "pyarrow")
_HIGH_LOAD: Final = 0.25  # of a core; a tenth of it shows in the ratios


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints what the command line asks for.

    Args:
      argv: its arguments; None: those of this process.

    Returns:
      The exit code: 0 done, 1 a measured program failed, 130 interrupted. Wrong options exit with 2.
    """
    options = _parser().parse_args(argv)
    sizes = QUICK if options.quick else FULL
    if options.runs:
        runs = options.runs
        sizes = dataclasses.replace(sizes, efficiency_runs=runs, cpu_runs=runs, fault_runs=runs)
    print(head(os.getloadavg()), flush=True)
    try:
        run(options.only or SECTIONS, sizes, lambda line: print(line, file=sys.stderr, flush=True))
    except ProgramFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        return 130
    return 0


def run(sections: Sequence[str], sizes: Sizes, say: Callable[[str], object]) -> None:
    """Measures sections of the report, and prints each when it is complete.

    Args:
      sections: some of SECTIONS.
      sizes: how much is asked for.
      say: shows a line to the person who waits.

    Raises:
      ProgramFailed: a measured program ended with an error.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, LlmServer() as server:
        bench = Bench(server, Path(folder), say)
        bench.prepare(sizes.beside)
        if "efficiency" in sections:
            _show(efficiency.render(efficiency.measure(bench, sizes)))
        if "cpu" in sections or "memory" in sections:
            costs = cpu.measure(bench, sizes)
            if "cpu" in sections:
                _show(cpu.render_cpu(costs))
            if "memory" in sections:
                _show(cpu.render_memory(costs))
        if "ledger" in sections:
            _show(ledger.render(ledger.measure(bench, sizes)))
        if "faults" in sections:
            _show(faults.render(faults.measure(bench, sizes)))
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    _show(f"{time.monotonic() - started:.0f} s; load average at the end {load}")


def head(load: tuple[float, float, float]) -> str:
    """Renders what the figures are measured on.

    Args:
      load: the load average of 1, 5 and 15 minutes.
    """
    cores = os.cpu_count() or 1
    lines = [
        "Textmint benchmarks: medians of runs. Bare loop and pipeline run in turns; compare within one report only.",
        f"  machine  {cores} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        f"  python   {platform.python_version()}; {', '.join(map(_version, _PACKAGES))}",
        f"  load     {' '.join(f'{value:.2f}' for value in load)} (1, 5, 15 minutes)",
    ]
    if load[0] > _HIGH_LOAD * cores:
        lines.append("  WARNING  others use this machine; the figures will be noisy, and worse than they could be")
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} is missing"


def _show(text: str) -> None:
    print(f"\n{text}", flush=True)


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SECTIONS)}")
    return names


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 upwards")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run.sh bench",
        description="Measures the pipeline against an endpoint on this machine, beside bare loops over the same "
        "clients. It takes about a quarter of an hour, and wants an idle machine with two cores or more.",
        allow_abbrev=False,
    )
    quick, sections = "within two minutes: small sizes, one run, to see that it works", ",".join(SECTIONS)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--runs", type=_at_least_one, metavar="N", help="of each measurement (default: 2 or 3)")
    parser.add_argument(
        "--only", type=_sections, metavar="LIST", help=f"some of {sections}, joined by commas (default: all)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
