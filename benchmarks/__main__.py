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

from benchmarks import cpu, efficiency, ledger, start
from benchmarks.measuring import Bench, ProgramFailed
from benchmarks.sizes import FULL, QUICK, Sizes
from tests.support.llm_server import LlmServer

SECTIONS: Final = ("start", "efficiency", "cpu", "ledger")
_PACKAGES: Final = ("apache-beam", "aiohttp", "google-genai", "pyarrow")
_HIGH_LOAD: Final = 0.25  # of a core; a tenth of it shows in the ratios


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints what the command line asks for.

    Returns:
      The exit code: 0 done, 1 a measured program failed, 130 interrupted. Wrong options exit with 2.
    """
    options = _parser().parse_args(argv)
    sizes = QUICK if options.quick else FULL
    if options.runs:
        sizes = dataclasses.replace(sizes, runs=options.runs)
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
    """Measures some of SECTIONS, and prints each when it is complete; `say` shows the progress.

    Raises:
      ProgramFailed: a measured program ended with an error.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, LlmServer() as server:
        bench = Bench(server, Path(folder), say)
        bench.prepare(sizes.for_bare_loop)
        if "start" in sections:
            _show(start.render(start.measure(bench, sizes)))
        if "efficiency" in sections:
            _show(efficiency.render(efficiency.measure(bench, sizes)))
        if "cpu" in sections:
            _show(cpu.render(cpu.measure(bench, sizes)))
        if "ledger" in sections:
            _show(ledger.render(ledger.measure(bench, sizes)))
    _show(f"{time.monotonic() - started:.0f} s; load average at the end {os.getloadavg()[0]:.2f}")


def head(load: tuple[float, float, float]) -> str:
    """Renders what the figures are measured on; `load` is the average of 1, 5 and 15 minutes."""
    cores = os.cpu_count() or 1
    versions = [f"{package} {metadata.version(package)}" for package in _PACKAGES]
    lines = [
        "Textmint benchmarks: medians of runs. Bare loop and pipeline run in turns; compare within one report only.",
        f"  machine  {cores} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        f"  python   {platform.python_version()}; {', '.join(versions)}",
        f"  load     {' '.join(f'{value:.2f}' for value in load)} (1, 5, 15 minutes)",
    ]
    if load[0] > _HIGH_LOAD * cores:
        lines.append("  WARNING  others use this machine; the figures will be noisy, and worse than they could be")
    return "\n".join(lines)


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
    parser.add_argument("--runs", type=_at_least_one, metavar="N", help="of each measurement (default: 3)")
    parser.add_argument(
        "--only", type=_sections, metavar="LIST", help=f"some of {sections}, joined by commas (default: all)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
