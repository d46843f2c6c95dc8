"""Figures: what `OUTPUT/statistics.json` says of a refresh; docs/dataset.md describes each key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.core.attributes import ANY, ATTRIBUTES, NUM_WORDS
from textmint.transforms.dataset.accounting import STEPS
from textmint.transforms.dataset.statistics_file import FORMAT
from textmint.transforms.statistics.accumulate import MODEL, OTHER, TOO_LONG, TOO_SHORT
from textmint.transforms.statistics.distributions import histogram, quantiles
from textmint.transforms.statistics.diversity import diversity
from textmint.transforms.statistics.identified import identified
from textmint.transforms.statistics.similarity import nearest
from textmint.transforms.statistics.summary import DIVERSITY_ROWS, REJECTED, SAMPLE_ROWS, Summary, shown

_RANDOM: Final = 10
_AMOUNTS: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000)  # edges, of examples and labels of a task
_WORDS: Final = (0, 5, 10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 1_000)
_HUNDREDTHS: Final = 100
_TENTHS: Final = tuple(range(0, 101, 10))  # edges of shares, in hundredths
_TWENTIETHS: Final = tuple(range(0, 101, 5))
_HALF_BITS: Final = tuple(range(0, 401, 50))  # edges of entropies, in hundredths of a bit
_MILLION: Final = 1_000_000


def figures_of(summary: Summary, threshold: float) -> dict[str, Any]:
    """Makes the figures of a refresh from the summary of all its rows.

    Args:
      summary: of all rows; see `summary`.
      threshold: two texts that are this alike are near copies.
    """
    counts = summary.counts
    rows = [ranked.fields for ranked in summary.sample]
    first = rows[:SAMPLE_ROWS]
    return {
        "format": FORMAT,
        "rows": {kind: counts.get("rows", {}).get(kind, 0) for kind in ("examples", "rejects", "tasks")},
        "rejects": _rejects(summary),
        "tasks": _tasks(summary),
        "labels": {
            "distinct": counts.get("tasks", {}).get("distinct labels", 0),
            "disputed": counts.get("tasks", {}).get("disputed", 0),
            "most_frequent": _top(summary, "labels"),
        },
        "attributes": {attribute: _asked_and_kept(counts, attribute) for attribute in ATTRIBUTES},
        "models": _most_frequent(counts.get(MODEL, {})),
        "lengths": _lengths(summary),
        "languages": identified(first),
        "similarity": _similarity(first, threshold),
        "diversity": {
            num_words: diversity(texts)
            for num_words in (*NUM_WORDS, ANY, OTHER)
            if (texts := [row["text"] for row in rows if row["num_words"] == num_words][:DIVERSITY_ROWS])
        },
        "diversity_sample": DIVERSITY_ROWS,
        "samples": {
            "random": [_shown_row(row) for row in first[:_RANDOM]],
            "longest": [_shown_row(row) for row in _top(summary, "longest")],
        },
    }


def _top(summary: Summary, name: str) -> list[dict[str, Any]]:
    return [ranked.fields for ranked in summary.tops.get(name, ())]


def _shown_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "text": shown(row["text"])}


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _rejects(summary: Summary) -> list[dict[str, Any]]:
    def order(item: tuple[str, int]) -> tuple[int, str, int, str]:
        stage, _, reason = item[0].rpartition("/")
        return STEPS.index(stage) if stage in STEPS else len(STEPS), stage, -item[1], reason

    found = []
    for why, count in sorted(summary.counts.get("rejects", {}).items(), key=order):
        stage, _, reason = why.rpartition("/")
        found.append({"stage": stage, "reason": reason, "count": count, "samples": _top(summary, REJECTED + why)})
    return found


def _tasks(summary: Summary) -> dict[str, Any]:
    of_tasks = summary.counts.get("tasks", {})
    sums = summary.counts.get("sums", {})
    having = of_tasks.get("with examples", 0)
    several = of_tasks.get("of two examples or more", 0)

    def distribution(table: str, total: float, of: int, edges: tuple[int, ...], unit: int, is_open: bool) -> Any:
        numbers = summary.numbers.get(table, {})
        return {
            "mean": round(total / of, 4) if of else None,
            "quantiles": quantiles(numbers, unit),
            "histogram": histogram(numbers, edges, unit, is_open=is_open),
        }

    def of_several(table: str, name: str, edges: tuple[int, ...], is_open: bool = False) -> Any:
        return distribution(table, sums.get(name, 0) / _MILLION, several, edges, _HUNDREDTHS, is_open)

    examples = summary.counts.get("rows", {}).get("examples", 0)
    return {
        "with_examples": having,
        "without_examples": max(0, summary.counts.get("rows", {}).get("tasks", 0) - having),
        "examples": distribution("examples of a task", examples, having, _AMOUNTS, 1, True),
        "labels": distribution("labels of a task", of_tasks.get("labels", 0), having, _AMOUNTS, 1, True),
        "one_label": of_tasks.get("one label", 0),
        "entropy_bits": of_several("entropy", "entropy", _HALF_BITS, is_open=True),
        "normalised_entropy": of_several("normalised", "normalised", _TENTHS),
        "largest_share": of_several("share", "share", _TENTHS),
        **{name: _top(summary, name) for name in ("most_unbalanced", "most_examples", "most_disputed")},
    }


def _asked_and_kept(counts: Mapping[str, Mapping[str, int]], attribute: str) -> dict[str, dict[str, int]]:
    kept, refused = counts.get(f"kept {attribute}", {}), counts.get(f"refused {attribute}", {})
    asked = _most_frequent({value: kept.get(value, 0) + refused.get(value, 0) for value in {*kept, *refused}})
    return {value: {"asked": amount, "kept": kept.get(value, 0)} for value, amount in asked.items()}


def _lengths(summary: Summary) -> dict[str, Any]:
    counts = summary.counts
    found = {}
    for num_words in (*NUM_WORDS, ANY, OTHER):
        if rows := counts.get("rows of length", {}).get(num_words, 0):
            words = summary.numbers[num_words]
            found[num_words] = {
                "examples": rows,
                "mean": round(counts["words of length"][num_words] / rows, 2),
                "quantiles": quantiles(words),
                "too_short": counts.get(TOO_SHORT, {}).get(num_words, 0),
                "too_long": counts.get(TOO_LONG, {}).get(num_words, 0),
                "histogram": histogram(words, _WORDS),
            }
    return found


def _similarity(rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    found = nearest([row["text"] for row in rows])
    hundredths: dict[int, int] = {}
    for similarity in found.similarities:
        place = int(similarity * _HUNDREDTHS + 1e-9)
        hundredths[place] = hundredths.get(place, 0) + 1

    def one(place: int) -> dict[str, Any]:
        return {"id": rows[place]["id"], "task": rows[place]["task"], "text": shown(rows[place]["text"])}

    return {
        "sample": len(rows),
        "threshold": threshold,
        "at_threshold": sum(similarity >= threshold for similarity in found.similarities),
        "mean": round(math.fsum(found.similarities) / len(rows), 4) if rows else None,
        "quantiles": quantiles(hundredths, _HUNDREDTHS),
        "histogram": histogram(hundredths, _TWENTIETHS, _HUNDREDTHS, is_open=False),
        "pairs": [
            {"similarity": round(similarity, 4), "first": one(first), "second": one(second)}
            for similarity, first, second in found.pairs
        ],
    }
