"""Rows with faults planted in them, and their figures made without an engine, for tests of the statistics."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Final

from textmint.transforms.core.elements import Example, Reject, Task
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.statistics.accumulate import Accumulator
from textmint.transforms.statistics.figures import figures_of
from textmint.transforms.statistics.summary import Summary, pack, unpack
from textmint.transforms.statistics.task_labels import summary_of

from tests.support.helpers import make_example, make_reject, make_task, shuffled
from tests.support.near_copies import words_of

Row = Example | Reject | Task
GERMAN: Final = (
    "Das Paket kam gestern an, aber die Lieferung war leider nicht vollständig, und niemand hat geantwortet."
)
TWIN: Final = " ".join(f"word{number}" for number in range(60))


def make_rows(tasks: int = 20, per_task: int = 10) -> list[Row]:
    """Makes rows of tasks with three labels each, every seventh of which is a reject, without any fault."""
    rows: list[Row] = []
    for number in range(tasks):
        text = f"Sort things of kind {number}"
        rows.append(make_task(text))
        for replica in range(per_task):
            if (number + replica) % 7 == 6:
                rows.append(make_reject(text, replica))
                continue
            words = words_of(number * per_task + replica, 10 if replica % 2 else 60)
            asked = "at least 10" if replica % 2 else "at least 50"
            fields = {"input_text": " ".join(words), "label": "abc"[replica % 3], "num_words": asked}
            rows.append(make_example(text, replica, **fields))
    return rows


def planted_rows() -> list[Row]:
    """Makes rows of which some have a fault: one task with one label, a text twice, another language, short texts."""
    one_label = [make_example("One label only", replica, label="same", input_text=TWIN[replica:]) for replica in (0, 7)]
    twins = [make_example("Twins", replica, label="ab"[replica], input_text=f"{TWIN} end") for replica in (0, 1)]
    german = make_example("Foreign", 0, input_text=GERMAN, label="x")
    short = [
        make_example("Short", n, num_words="at least 200", input_text=f"Short {n}.", label="xy"[n]) for n in (0, 1)
    ]
    named = [make_task(text) for text in ("One label only", "Twins", "Foreign", "Short", "Nothing came of it")]
    return [*make_rows(), *one_label, *twins, german, *short, *named]


def take(rows: Iterable[Row], shares: int = 1) -> tuple[Summary, list[tuple[str, bytes]]]:
    """Takes rows as one bundle does."""
    taken = Accumulator(shares)
    parts: list[tuple[str, bytes]] = []
    for row in rows:
        if isinstance(row, Example):
            taken.add_example(row)
        elif isinstance(row, Reject):
            taken.add_reject(row)
        else:
            taken.add_task()
        parts += taken.take_parts(at_end=False)
    parts += taken.take_parts(at_end=True)
    return taken.take_summary(), parts


def described(rows: Sequence[Row], *, bundles: int = 1, shares: int = 1, order: str = "") -> dict[str, Any]:
    """Makes the figures of rows that come in so many bundles, and in an order that depends on `order`."""
    mixed = shuffled(rows, order) if order else list(rows)
    taken = [take(mixed[start::bundles], shares) for start in range(bundles)]
    by_share: dict[str, list[bytes]] = {}
    for _, parts in taken:
        for share, part in parts:
            by_share.setdefault(share, []).append(part)
    summaries = [unpack(pack(summary)) for summary, _ in taken]
    summaries += [unpack(pack(summary_of(parts))) for parts in by_share.values()]
    random.Random(order).shuffle(summaries)
    merged = Summary()
    for summary in summaries:
        merged.merge(summary)
    return figures_of(merged, 0.8)


def example_of(text: str, number: int = 0, **fields: Any) -> Example:
    """Makes an example whose every field from outside holds a text."""
    outside = dict.fromkeys(("task", "input_text", "label", "misleading_label", "model"), text)
    return make_example("Any", number, **{**outside, **fields, "id": stable_hash("any", number)})
