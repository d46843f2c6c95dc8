"""The command `report`: makes OUTPUT/report.html anew."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from textmint.pipelines.cli.command import dataset_folder, new_parser, run_command
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.nearest import hint
from textmint.transforms.core.texts import printable_line
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.dataset.pages import REPORT
from textmint.transforms.dataset.report.page import last_refresh, refresh_before, replace_report
from textmint.transforms.dataset.statistics_file import read_statistics
from textmint.transforms.statistics.published import compute_statistics
from textmint.transforms.storage.files import is_local, join


def main(argv: Sequence[str], prog: str) -> int:
    """Writes the report of a refresh; returns the exit code."""
    parser = new_parser(prog, "report", f"Makes {REPORT} anew: figures, pictures and rows of a refresh, for a browser.")
    parser.add_argument("--refresh", metavar="NAME", help="which refresh (default: the one that was published last)")
    return run_command(parser, argv, prog, _write, "report")


def _write(options: argparse.Namespace) -> str:
    output = dataset_folder(options.output, lambda folder: bool(read_entries(folder)), "dataset")
    entries = read_entries(output)
    refresh = last_refresh(entries) if options.refresh is None else options.refresh
    if refresh not in entries:
        near = hint(refresh, entries) or f"; there are {printable_line(', '.join(sorted(entries)), 300)}"
        raise OptionError(f"--refresh={refresh}: the dataset has no such refresh{near}")
    statistics = read_statistics(output, entries)
    for name in (refresh, refresh_before(entries, refresh)):
        if name is not None and name not in statistics:  # an earlier version wrote it
            statistics[name] = compute_statistics(output, name)
    path = join(output, REPORT)
    if not replace_report(output, statistics, refresh):
        raise OptionError(f"{path} is not Textmint's, and was left alone; move it away")
    return f"{path}: the report of refresh {refresh}; open it in a browser" if is_local(path) else path
