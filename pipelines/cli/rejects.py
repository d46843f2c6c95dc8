"""The command `rejects`: what was refused, why, and the reply."""

from __future__ import annotations

import argparse
import collections
import heapq
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow.compute as pc
from textmint.pipelines.cli.command import dataset_folder, new_parser, run_command
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.nearest import hint
from textmint.transforms.core.elements import REASONS
from textmint.transforms.core.texts import counted, printable_line, printable_text
from textmint.transforms.dataset.published_files import open_published, published_files

_SHOWN_CHARS: Final = 1_000  # of a reply on the terminal; --json has all of it
_BATCH_ROWS: Final = 1_000


def main(argv: Sequence[str], prog: str) -> int:
    """Prints rejects of a dataset folder; returns the exit code."""
    parser = new_parser(prog, "rejects", "Shows what was refused, why, and the reply, from a dataset folder.")
    parser.add_argument("--reason", metavar="NAME", help="only those with this reason (default: all)")
    parser.add_argument("--refresh", metavar="NAME", help="only those of this refresh (default: all)")
    parser.add_argument(
        "--n", type=int, default=20, metavar="N", help="how many, those of the smallest ids (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with every column")
    return run_command(parser, argv, prog, _show, "list of rejects")


def _show(options: argparse.Namespace) -> str:
    if options.reason is not None and options.reason not in REASONS:
        near = hint(options.reason, REASONS) or f"; there are {', '.join(REASONS)}"
        raise OptionError(f"--reason={options.reason}: unknown{near}")
    if options.n < 1:
        raise OptionError(f"--n={options.n}: it must be at least 1")
    output = dataset_folder(options.output, _has_dataset, "dataset")
    paths = {
        path: refresh for path, refresh, _ in published_files(output, "rejects") if options.refresh in (None, refresh)
    }
    counts: collections.Counter[str] = collections.Counter()
    rows = heapq.nsmallest(
        options.n, _rows(paths, options.reason, counts), key=lambda row: (row["id"], row["refresh"], row["stage"])
    )
    if options.json:
        return "\n".join(json.dumps(row) for row in rows)
    return "\n".join([_summary(options.output, counts, options.reason), *map(_card, rows)])


def _has_dataset(output: str) -> bool:
    return any(published_files(output, kind) for kind in ("rejects", "examples"))  # a failed run has rejects alone


def _rows(paths: dict[str, str], reason: str | None, counts: collections.Counter[str]) -> Iterator[dict[str, Any]]:
    """Yields rejects of one reason, or of all, and counts those of each reason."""
    for path, refresh in sorted(paths.items()):
        for batch in open_published(path).iter_batches(_BATCH_ROWS):
            counts.update(batch["reason"].to_pylist())
            chosen = batch if reason is None else batch.filter(pc.equal(batch["reason"], reason))
            yield from ({"refresh": refresh, **row} for row in chosen.to_pylist())


def _summary(output: str, counts: collections.Counter[str], chosen: str | None) -> str:
    lines = [f"{output}: {counted(counts.total(), 'reject')}"]
    for reason, count in counts.most_common():
        lines.append(f"  {count:>9,}  {reason:<18}  {REASONS.get(reason, '')}".rstrip())
    if chosen is not None and not counts[chosen]:
        lines.append(f"  none with the reason {chosen}")
    return "\n".join(lines)


def _card(row: dict[str, Any]) -> str:
    retry = "asking again can help" if row["can_retry"] else "asking again cannot help"
    reply = printable_text(row["raw_reply"])
    more = len(reply) - _SHOWN_CHARS
    if more > 0:
        reply = f"{reply[:_SHOWN_CHARS]}… ({more:,} more characters; --json has all)"
    fields = {
        "id": f"{row['id']} of {row['refresh']}",
        "task": printable_line(row["task"] or "", 300),
        "detail": printable_line(row["detail"]),
        "reply": "\n            ".join(reply.splitlines()),
    }
    lines = [f"  {name:<8}  {value}" for name, value in fields.items() if value]
    return "\n".join(["", f"{row['reason']} ({row['stage']}; {retry})", *lines])
