"""Checks before a run publishes: a run that lost rows, or has less than its refresh, publishes nothing."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.published_files import UNREADABLE, open_published, published_files

_ELSEWHERE: Final = r"^refresh=\S+ has this task$|of refresh=\S+$"
"""The detail of a reject that another refresh has, as `flatten`, `find_duplicates` and `find_near_duplicates` write."""

_KNOWN_ALREADY: Final = frozenset(("duplicate", "near_duplicate", "contaminated", "over_max_tasks"))
_BAD_REPLIES: Final = (
    *("empty", "blocked", "truncated", "not_json", "wrong_shape", "missing_field", "wrong_type", "empty_field"),
    *("too_long", "too_few_labels"),
)


def refuse_fewer(
    output: str, refresh: str, count: int, *, examples: Iterable[str], rejects: Iterable[str], staging: str
) -> None:
    """Refuses to replace examples by fewer, unless another refresh has all that would be lost.

    Args:
      output: the dataset folder.
      refresh: the refresh that is to be replaced.
      count: how many examples it has.
      examples: the run's files of examples.
      rejects: the run's files of rejects.
      staging: where the run has written them, for the message.

    Raises:
      RunFailed: examples would be lost.
    """
    published = published_files(output, "examples")
    new = _read_columns(examples, ("id",))["id"]
    refused = _read_columns(rejects, ("id", "task_id", "detail"))
    elsewhere = refused.filter(pc.match_substring_regex(refused["detail"], _ELSEWHERE))
    lost = _read_columns((path for path, name, _ in published if name == refresh), ("id", "task_id"))
    lost = _without(lost, "id", new)
    missing = lost.num_rows
    lost = _without(_without(lost, "id", elsewhere["id"]), "task_id", elsewhere["task_id"].drop_null())
    for path, name, _ in published:
        if name != refresh and lost.num_rows:
            lost = _without(lost, "id", _read_columns([path], ("id",))["id"])
    if count - len(new) > missing - lost.num_rows:
        raise RunFailed(
            f"refresh={refresh} has {count:,} examples, and this run has {len(new):,}: {lost.num_rows:,} would go, so "
            "nothing was published, and the refresh keeps the data it had. If they may go, run the same command again "
            f"with --replace, which pays for nothing twice; what this run wrote is in {staging}"
        )


def _without(table: pa.Table, column: str, values: pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table[column], value_set=values)))


def _read_columns(paths: Iterable[str], columns: Sequence[str]) -> pa.Table:
    """Reads text columns of Parquet files; an unreadable file has no rows."""
    tables = [pa.table({name: pa.array([], pa.string()) for name in columns})]
    for path in paths:
        with contextlib.suppress(*UNREADABLE):
            table = open_published(path).read(columns=list(columns))
            tables.append(pa.table({name: table[name].cast(pa.string()) for name in columns}))
    return pa.concat_tables(tables)


def explain_no_examples(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Explains, from the table of steps, why a run kept no example, and what to do about it."""
    reasons: collections.Counter[str] = collections.Counter()
    for step, line in table.items():
        for reason, count in line["rejected"].items():
            reasons[f"{step} {reason}"] += count
    # Tasks over --max_tasks were left out as asked; they are a reason only if there is no other.
    others = {name: count for name, count in reasons.items() if not name.endswith(" over_max_tasks")}
    reasons = collections.Counter(others) or reasons
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4))
    return f"not one example was kept ({listed or 'there were no rejects either'}): {_remedy(reasons)}."


def _remedy(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "no task came; give more with --tasks or --task_requests"
    others = [name for name in reasons if name.rpartition(" ")[2] not in _KNOWN_ALREADY]
    if not others:
        return "all of it is there already; ask for more examples or tasks, for other tasks, or with another --seed"
    reason = max(others, key=lambda name: reasons[name]).rpartition(" ")[2]
    if reason == "request_failed":
        return "run the same command again when the model answers, which asks for these only"
    if reason in _BAD_REPLIES:
        return "choose another --model or a larger --max_output_tokens, or ask once more with --retry_rejects"
    return "look at the rejects; then change --checks, the template or the model, or ask once more with --retry_rejects"
