"""Drift: in what two refreshes differ, with a test of whether chance may explain it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

_EXPECTED: Final = 5
"""Rows at least that are expected of each value in each refresh; with fewer, chi-squared is no good approximation (W.
G. Cochran, "Some methods for strengthening the common chi-squared tests", Biometrics 10, 1954)."""

Figures = Mapping[str, Any]


def drift(before: Figures, after: Figures) -> list[dict[str, Any]]:
    """Compares the distributions of two refreshes.

    Args:
      before: the figures of one refresh; see `figures.figures_of`.
      after: those of another.

    Returns:
      Of each distribution: name; before and after, how many there are; values, each with both counts, both shares and
      their difference; test, of `chi_squared`, or None with a note why there is none.
    """
    old, new = _distributions(before), _distributions(after)
    return [_compared(name, old[name], new[name]) for name in new]


def _distributions(figures: Figures) -> dict[str, dict[str, int]]:
    attributes = {
        name: {value: count["kept"] for value, count in counts.items()}
        for name, counts in figures["attributes"].items()
    }
    refused = {f"{line['stage']}: {line['reason']}": line["count"] for line in figures["rejects"]}
    words = [bin_ for of_length in figures["lengths"].values() for bin_ in of_length["histogram"]]
    found = figures["languages"]["found"]
    return {
        "outcome": {"kept": figures["rows"]["examples"], **refused},
        **attributes,
        "models": dict(figures["models"]),
        "words": _bins(words),
        "language found": _summed((line["found"] or "not identified", line["count"]) for line in found),
        "examples of a task": _bins(figures["tasks"]["examples"]["histogram"]),
        "labels of a task": _bins(figures["tasks"]["labels"]["histogram"]),
        "largest share of a label": _bins(figures["tasks"]["largest_share"]["histogram"]),
        "similarity": _bins(figures["similarity"]["histogram"]),
    }


def _summed(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for value, count in counts:
        sums[value] = sums.get(value, 0) + count
    return sums


def _bins(histogram: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return _summed(
        (
            f"{bin_['from']:g} to {bin_['to']:g}" if bin_["to"] is not None else f"{bin_['from']:g} or more",
            bin_["count"],
        )
        for bin_ in histogram
    )


def _compared(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any]:
    totals = sum(before.values()), sum(after.values())
    values = []
    for value in dict.fromkeys((*after, *before)):
        counts = before.get(value, 0), after.get(value, 0)
        old, new = (count / total if total else 0.0 for count, total in zip(counts, totals, strict=True))
        values.append(
            {
                **{"value": value, "before": counts[0], "after": counts[1]},
                **{"before_share": round(old, 4), "after_share": round(new, 4), "difference": round(new - old, 4)},
            }
        )
    test = chi_squared(before, after)
    found: dict[str, Any] = {"name": name, "before": totals[0], "after": totals[1], "values": values, "test": test}
    if test is None:
        used = [value for value in values if value["before"] or value["after"]]
        found["note"] = "one value only" if len(used) == 1 and all(totals) else "too few rows"
    return found


def chi_squared(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any] | None:
    """Tests whether two distributions may be the same, with Pearson's chi-squared test of homogeneity.

    Values of which fewer than 5 rows are expected count as one value; see _EXPECTED.

    Returns:
      chi_squared, degrees_of_freedom, p_value, and cramers_v: how large the difference is, from 0 to 1, for with many
      rows each difference is significant. None where there are not two values with enough rows.
    """
    totals = sum(before.values()), sum(after.values())
    every = sum(totals)
    if not all(totals):
        return None
    values = sorted({*before, *after}, key=lambda value: (-before.get(value, 0) - after.get(value, 0), value))
    cells = [cell for value in values if any(cell := (before.get(value, 0), after.get(value, 0)))]
    kept: list[tuple[int, int]] = []
    rest = (0, 0)
    for cell in cells:  # the largest first, so what is pooled is at the end
        if sum(cell) * min(totals) >= _EXPECTED * every:
            kept.append(cell)
        else:
            rest = rest[0] + cell[0], rest[1] + cell[1]
    if any(rest):
        if sum(rest) * min(totals) < _EXPECTED * every and kept:
            least = kept.pop()
            rest = rest[0] + least[0], rest[1] + least[1]
        kept.append(rest)
    if len(kept) < 2:
        return None
    statistic = math.fsum(
        (count - total * sum(cell) / every) ** 2 / (total * sum(cell) / every)
        for cell in kept
        for count, total in zip(cell, totals, strict=True)
    )
    degrees = len(kept) - 1
    return {
        "chi_squared": round(statistic, 4),
        "degrees_of_freedom": degrees,
        "p_value": float(f"{survival(statistic, degrees):.4g}"),
        "cramers_v": round(math.sqrt(statistic / every), 4),
    }


def survival(statistic: float, degrees: int) -> float:
    """Returns the chance that chi-squared is this large or larger: M. Abramowitz and I. Stegun, "Handbook of
    Mathematical Functions", 26.4.4 and 26.4.5."""
    half = statistic / 2
    if half <= 0:
        return 1.0
    start = 0.5 if degrees % 2 else 0.0
    total = math.erfc(math.sqrt(half)) if degrees % 2 else 0.0
    for step in range(degrees // 2):
        power = start + step
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(1.0, total)
