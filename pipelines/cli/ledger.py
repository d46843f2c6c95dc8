"""The command `ledger`: what was paid for, by refresh and model; and small files merged."""

from __future__ import annotations

import argparse
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textmint.pipelines.cli.command import dataset_folder, new_parser, run_command
from textmint.pipelines.options.errors import OptionError
from textmint.transforms.core.texts import clean_name, counted
from textmint.transforms.dataset.manifest import lower_recorded_replies, read_entries
from textmint.transforms.ledger.compact import Contents, compact, contents
from textmint.transforms.ledger.files import check_files
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.ledger.table import FOLDER
from textmint.transforms.llm.prices import Price, format_usd, parse_price
from textmint.transforms.storage import files, lease

COMPACTING = "compacting"
"""The lease of whoever merges files of the ledger."""

_COLUMNS = ("refresh", "model", "replies", "prompt tokens", "output tokens", "files", "cost")
_VERSION = re.compile(r"(-\d+)*")
"""What providers append to the name that was asked for: gpt-4.1-mini-2025-04-14, gemini-2.0-flash-001."""
_UNKNOWN = "-"

PriceOf = Callable[[str, str], Price | None]
"""The price of the model that served replies, by refresh and its name; None: it is not known."""


def main(argv: Sequence[str], prog: str) -> int:
    """Prints what a ledger holds, and merges its files if asked to; returns the exit code."""
    parser = new_parser(
        prog, "ledger", "Shows what was paid for: replies, tokens, files and cost, by refresh and model."
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="first turn what waits in journals into files, and merge small files; no run may be under way",
    )
    parser.add_argument(
        "--price",
        metavar="IN,OUT",
        help="USD per million tokens of prompts and of replies, whatever the model (default: what the manifest says of "
        "the models that the last run of each refresh has asked)",
    )
    return run_command(parser, argv, prog, _show, "ledger")


def _show(options: argparse.Namespace) -> str:
    try:
        given = parse_price(options.price) if options.price is not None else None
    except ValueError as error:
        raise OptionError(f"--price: {error}") from None
    output = dataset_folder(options.output, _has_ledger, "ledger")
    folder = files.join(output, FOLDER)
    done = _compact(output, folder) if options.compact else []
    prices = {refresh: prices_in(entry) for refresh, entry in read_entries(output).items()}

    def price_of(refresh: str, model: str) -> Price | None:
        return given or served_by(model, prices.get(refresh, {}))

    return "\n".join([*done, report(contents(folder), options.output, price_of)])


def prices_in(entry: Mapping[str, Any]) -> dict[str, Price]:
    """Returns the prices in an entry of the manifest, by the name of the model that was asked."""
    try:
        spending = entry["spending"]
        shown = {entry["backend"]["model"]: spending["price"]}
        if verify_model := entry["options"].get("verify_model"):
            shown.setdefault(verify_model, spending.get("verify_price", spending["price"]))
        return {model: _price(price) for model, price in shown.items() if price}
    except (
        AttributeError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
    ):  # of an earlier version
        return {}


def _price(shown: Mapping[str, Any]) -> Price:
    prompt, output = (round(shown[f"{kind}_usd_per_million"] * 10**6) for kind in ("prompt", "output"))
    return Price(prompt, output, str(shown["source"]))


def served_by(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Finds the price of a model as it was served: it has the name that was asked for, or that and a version."""
    return next(
        (
            price
            for asked, price in prices.items()
            if model.startswith(asked) and _VERSION.fullmatch(model.removeprefix(asked))
        ),
        None,
    )


def _has_ledger(output: str) -> bool:
    folder = files.join(output, FOLDER)
    return bool(files.list_files(folder) or files.list_folders(folder, "_"))


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
                    replies = counted(merged.replies, "reply", "replies")
                    done.append(f"{replies} from {counted(merged.journals, 'journal')}: now in files")
                if merged.damaged:
                    lines = counted(merged.damaged, "line")
                    done.append(f"{lines} of journals could not be read; whole ones are kept in _set_aside")
            compacted = compact(folder)
            lower_recorded_replies(output, check_files(folder, thorough=False).paid, compacted.left_out)
    except lease.LeaseTakenError as error:
        raise OptionError(f"--compact: the ledger is being compacted already ({error})") from None
    left_out = f", {counted(compacted.duplicates, 'duplicate')} left out" if compacted.duplicates else ""
    return [*done, f"{counted(compacted.before, 'file')} before, {counted(compacted.after, 'file')} now{left_out}"]


def report(found: Contents, output: str, price_of: PriceOf) -> str:
    """Returns a table of what a ledger holds, and what else a person should know."""
    numbers = {key: (of.replies, of.prompt_tokens, of.output_tokens, of.files) for key, of in found.by_model.items()}
    prices = {key: price_of(*key) for key in sorted(numbers)}
    costs = {key: price.cost(*numbers[key][1:3]) if price else None for key, price in prices.items()}
    rows = [
        (*map(clean_name, key), *(f"{number:,}" for number in numbers[key]), _cost(cost)) for key, cost in costs.items()
    ]
    *totals, _ = [sum(column) for column in zip(*numbers.values(), strict=True)] or (0, 0)
    if len(rows) > 1:  # a file may hold replies of several models
        known = [cost for cost in costs.values() if cost is not None]
        total = _cost(sum(known) if len(known) == len(costs) else None)
        rows.append(("all", "", *(f"{total:,}" for total in (*totals, found.files)), total))
    widths = [max(len(row[at]) for row in (_COLUMNS, *rows)) for at in range(len(_COLUMNS))]
    replies = counted(totals[0], "reply", "replies")
    lines = [
        f"{output}/{FOLDER}: {replies} in {counted(found.files, 'file')} ({found.bytes / 1e6:.1f} MB)",
        "",
        *("  " + _line(row, widths) for row in (_COLUMNS, *rows)),
    ]
    if sources := sorted({clean_name(price.source) for price in prices.values() if price}):
        lines += ["", f"cost: by {'; '.join(sources)}"]
    if None in costs.values():
        lines += ["", f"{_UNKNOWN}: the price is not known; --price=IN,OUT tells it"]
    if found.journals:
        lines += ["", f"{found.journals:,} of them wait in journals, of a run that is under way or was cut short"]
    if found.set_aside:
        lines += ["", f"{counted(len(found.set_aside), 'file')} set aside:"]
        lines += [f"  {clean_name(name)}: {clean_name(reason)}" for name, reason in sorted(found.set_aside.items())]
    return "\n".join(lines)


def _cost(picodollars: int | None) -> str:
    return _UNKNOWN if picodollars is None else format_usd(picodollars)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if at < 2 else cell.rjust(width)  # names to the left, numbers to the right
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
