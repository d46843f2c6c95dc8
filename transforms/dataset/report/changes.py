"""The section of the report on what changed since the refresh before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from textmint.transforms.dataset.drift import drift
from textmint.transforms.dataset.report.parts import (
    Entry,
    Picture,
    Section,
    Statistics,
    Table,
    by_words,
    cost_of,
    decimal,
    drafts_of,
    grouped_bars,
    percent,
    shortened,
    whole,
)

_SIGNIFICANT: Final = 0.01  # p-values of ten tests stand in one report
_LEAST: Final = 0.0001  # a smaller chance is not told
_SMALL: Final = 0.1  # Cramér's V; Cohen, Statistical Power Analysis (1988), calls 0.1 small, 0.3 medium, 0.5 large


def changes_section(
    entries: Mapping[str, Entry], statistics: Mapping[str, Statistics], before: str | None, refresh: str
) -> Section:
    """Makes the section: figures side by side, and tests of drift."""
    title = "What changed since the refresh before"
    if before is None:
        return Section("changes", title, "No other refresh of the dataset was published before this one.")
    if before not in statistics:
        lead = f"The refresh before, {before}, has no statistics: an earlier version wrote it."
        return Section("changes", title, lead)
    rows: list[list[Table | Picture]] = [
        [Table("Side by side", ("figure", before, refresh), list(_side_by_side(entries, statistics, before, refresh)))]
    ]
    found = drift(statistics[before], statistics[refresh])
    lines = []
    for each in found:
        test = each["test"]
        figures = (
            ("–", "–", "–", "–")
            if test is None
            else (
                f"{test['chi_squared']:,.1f}",
                whole(test["degrees_of_freedom"]),
                _chance(test["p_value"]),
                f"{test['cramers_v']:.3f}",
            )
        )
        lines.append((each["name"], _verdict(each), whole(each["before"]), whole(each["after"]), *figures))
    head = ("distribution", "what the test says", before, refresh, "χ²", "df", "p", "Cramér's V")
    rows.append([Table("Tests of drift", head, lines, texts=2)])
    for each in found:
        rows += _shift(each, before, refresh)
    changed = [each["name"] for each in found if _has_changed(each)]
    notes = [f"Changed since {before}: {', '.join(changed)}."] if changed else []
    lead = (
        f"Compared with {before}. A p below {_SIGNIFICANT} says that chance alone rarely makes such a difference; "
        f"Cramér's V says how large it is: {_SMALL} is small, 0.3 medium, 0.5 large."
    )
    return Section("changes", title, lead, rows, notes)


def _has_changed(each: Mapping[str, Any]) -> bool:
    test = each["test"]
    return test is not None and test["p_value"] < _SIGNIFICANT and test["cramers_v"] >= _SMALL


def _verdict(each: Mapping[str, Any]) -> str:
    if each["test"] is None:
        return f"not tested: {each['note']}" if each.get("note") else "not tested"
    if _has_changed(each):
        return "changed"
    return "changed a little" if each["test"]["p_value"] < _SIGNIFICANT else "no difference seen"


def _chance(p_value: float) -> str:
    return f"{p_value:.4f}" if p_value >= _LEAST else f"<{_LEAST:.4f}"


def _shift(each: Mapping[str, Any], before: str, refresh: str) -> list[list[Table | Picture]]:
    values = [value for value in each["values"] if value["before"] or value["after"]]
    if len(values) < 2:
        return []
    names = [str(value["value"]) for value in values]
    series = [
        (refresh, [100 * value["after_share"] for value in values]),
        (before, [100 * value["before_share"] for value in values]),
    ]
    lines = [
        (
            name,
            *(percent(value[when], 1) for when in ("before_share", "after_share")),
            f"{100 * value['difference']:+.1f}",
        )
        for name, value in zip(names, values, strict=True)
    ]
    table = Table(each["name"], ("value", before, refresh, "points"), shortened(lines))
    return [[grouped_bars(f"{each['name']}, % of each refresh", names, series, form=".1f"), table]]


def _side_by_side(
    entries: Mapping[str, Entry], statistics: Mapping[str, Statistics], before: str, refresh: str
) -> Iterator[Sequence[str]]:
    both = [(entries[name], statistics[name]) for name in (before, refresh)]
    for name, figure_of in _FIGURES.items():
        if name != "cost" or "spending" in entries[refresh]:
            yield name, *(figure_of(entry, of) for entry, of in both)
    full = all(of["diversity_sample"] == both[0][1]["diversity_sample"] for _, of in both)
    for bucket in by_words(both[1][1]["diversity"]):
        pair = [of["diversity"].get(bucket) for _, of in both]
        if full and all(
            each and each["sample"] == of["diversity_sample"] for each, (_, of) in zip(pair, both, strict=True)
        ):
            yield f"compression ratio, “{bucket}”", *(decimal(each["compression_ratio"]) for each in pair)
            yield f"self-repetition, “{bucket}”", *(decimal(each["self_repetition"]) for each in pair)


_FIGURES: Final[Mapping[str, Callable[[Entry, Statistics], str]]] = {
    "examples": lambda entry, of: whole(of["rows"]["examples"]),
    "kept of what was asked": lambda entry, of: percent(of["rows"]["examples"], drafts_of(entry)),
    "refused": lambda entry, of: whole(of["rows"]["rejects"]),
    "tasks with examples": lambda entry, of: whole(of["tasks"]["with_examples"]),
    "examples a task, mean": lambda entry, of: decimal(of["tasks"]["examples"]["mean"]),
    "labels a task, mean": lambda entry, of: decimal(of["tasks"]["labels"]["mean"]),
    "balance of labels, mean": lambda entry, of: decimal(of["tasks"]["normalised_entropy"]["mean"]),
    "tasks with one label": lambda entry, of: whole(of["tasks"]["one_label"]),
    "disputed labels": lambda entry, of: whole(of["labels"]["disputed"]),
    "texts in another language, of those sampled": lambda entry, of: percent(
        sum(each["count"] for each in of["languages"]["found"] if each["verdict"] == "wrong"), of["languages"]["sample"]
    ),
    "texts of another length than asked": lambda entry, of: percent(
        sum(each["too_short"] + each["too_long"] for each in of["lengths"].values()), of["rows"]["examples"]
    ),
    "near copies, of those sampled": lambda entry, of: percent(
        of["similarity"]["at_threshold"], of["similarity"]["sample"]
    ),
    "similarity, mean": lambda entry, of: decimal(of["similarity"]["mean"], 3),
    "cost": lambda entry, of: cost_of(entry),
}
