"""The command `ledger`: what was paid for, by label and model; and small files merged."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Sequence

from textmint.pipelines.cli.signals import ended_by, ending_on_signals
from textmint.pipelines.cli.terminal import refused, shown, tell
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.input_files import check_listing
from textmint.pipelines.options.parse import OptionParser
from textmint.transforms.core.texts import clean_name
from textmint.transforms.dataset.manifest import lower_recorded_replies
from textmint.transforms.ledger.compact import Contents, compact, contents
from textmint.transforms.ledger.files import check_files
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.ledger.table import FOLDER
from textmint.transforms.storage import files, lease

COMPACTING = "compacting"
"""The lease of whoever merges files of the ledger."""

_COLUMNS = ("refresh", "model", "replies", "prompt tokens", "output tokens", "files")


def main(argv: Sequence[str], prog: str) -> int:
    """Prints what a ledger holds, and merges its files if asked to; returns the exit code: 0 done, 1 it failed, 2 the
    options are wrong."""
    parser = _parser(prog)
    if "--help" in argv or "-h" in argv:
        return shown(parser.format_help().removesuffix("\n"), prog)
    with ending_on_signals() as signals:
        try:
            options = parser.parse_args(list(argv))
            output = _output(options.output)
            folder = files.join(output, FOLDER)
            done = _compact(output, folder) if options.compact else []
            return shown("\n".join([*done, report(contents(folder), options.output)]), prog)
        except OptionError as error:
            return refused(error.problems, prog)
        except (Exception, KeyboardInterrupt) as error:  # each file system raises its own
            if signals or isinstance(error, KeyboardInterrupt):
                tell(f"{prog}: ended by {ended_by(signals).name}; what the ledger held it still holds")
                return 128 + ended_by(signals)
            tell(f"{prog}: the ledger of {options.output}: {reason_of(error)}")
            return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = OptionParser(
        prog=f"{prog} ledger",
        description="Tells what the ledger of a dataset folder holds: replies, tokens and files, by label and model.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", default="output", metavar="DIR", help="the dataset folder, as for generate (default: output)"
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="first turn what waits in journals into files, and merge small files; no run may be under way",
    )
    return parser


def _output(path: str) -> str:
    if not path.strip():
        raise OptionError("--output is empty; name a folder")
    output = path.rstrip("/") if "://" in path else os.path.abspath(os.path.expanduser(path))
    check_listing("--output", output)
    try:
        found = files.list_files(files.join(output, FOLDER)) or files.list_folders(files.join(output, FOLDER), "_")
    except Exception as error:
        raise OptionError(f"--output {path}: cannot be read: {reason_of(error)}") from None
    if not found:
        raise OptionError(f"--output {path}: there is no ledger in it; name the folder that a run wrote to")
    return output


def _compact(output: str, folder: str) -> list[str]:
    """Merges the ledger's files; returns what was done, a line each."""
    done = []
    try:
        with lease.hold(output, COMPACTING, secrets.token_hex(8)):
            others = {name: holder for name, holder in lease.holders(output).items() if name != COMPACTING}
            for name, holder in others.items():
                raise OptionError(f"--compact: a run of {name} is under way ({holder}); wait for its end")
            if files.is_local(folder):
                merged = merge_journals(folder)
                if merged.journals:
                    done.append(f"{_replies(merged.replies)} from {_count(merged.journals, 'journal')}: now in files")
                if merged.damaged:
                    lines = _count(merged.damaged, "line")
                    done.append(f"{lines} of journals could not be read; whole ones are kept in _set_aside")
            compacted = compact(folder)
            lower_recorded_replies(output, check_files(folder, thorough=False).paid, compacted.left_out)
    except lease.LeaseTakenError as error:
        raise OptionError(f"--compact: the ledger is being compacted already ({error})") from None
    left_out = f", {_count(compacted.duplicates, 'duplicate')} left out" if compacted.duplicates else ""
    return [*done, f"{_count(compacted.before, 'file')} before, {_count(compacted.after, 'file')} now{left_out}"]


def report(found: Contents, output: str) -> str:
    """Returns a table of what a ledger holds, and what else a person should know."""
    numbers = {key: (of.replies, of.prompt_tokens, of.output_tokens, of.files) for key, of in found.by_model.items()}
    rows = [(*map(clean_name, key), *(f"{number:,}" for number in numbers[key])) for key in sorted(numbers)]
    *totals, _ = [sum(column) for column in zip(*numbers.values(), strict=True)] or (0, 0)
    if len(rows) > 1:  # a file may hold replies of several models
        rows.append(("all", "", *(f"{total:,}" for total in (*totals, found.files))))
    widths = [max(len(row[at]) for row in (_COLUMNS, *rows)) for at in range(len(_COLUMNS))]
    lines = [
        f"{output}/{FOLDER}: {_replies(totals[0])} in {_count(found.files, 'file')} ({found.bytes / 1e6:.1f} MB)",
        "",
        *("  " + _line(row, widths) for row in (_COLUMNS, *rows)),
    ]
    if found.journals:
        lines += ["", f"{found.journals:,} of them wait in journals, of a run that is under way or was cut short"]
    if found.set_aside:
        lines += ["", f"{_count(len(found.set_aside), 'file')} set aside:"]
        lines += [f"  {clean_name(name)}: {clean_name(reason)}" for name, reason in sorted(found.set_aside.items())]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if at < 2 else cell.rjust(width)  # names to the left, numbers to the right
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _replies(number: int) -> str:
    return f"{number:,} {'reply' if number == 1 else 'replies'}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
