"""Distributions: mean, quantiles and histogram of numbers, from how often each occurs."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

_QUANTILES: Final = {"min": 0, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "max": 100}


def quantiles(counts: Mapping[int, int], unit: int = 1) -> dict[str, float]:
    """Returns quantiles, each a number that occurs; {} where there are none.

    Args:
      counts: how often each number occurs.
      unit: what a number is divided by, where numbers are counted as hundredths or the like.
    """
    numbers = sorted(counts)
    passed = list(itertools.accumulate(counts[number] for number in numbers))
    if not passed:
        return {}
    places = {name: max(1, -(-percent * passed[-1] // 100)) for name, percent in _QUANTILES.items()}
    found = {name: numbers[bisect.bisect_left(passed, place)] for name, place in places.items()}
    return {name: number if unit == 1 else number / unit for name, number in found.items()}


def histogram(
    counts: Mapping[int, int], edges: Sequence[int], unit: int = 1, *, is_open: bool = True
) -> list[dict[str, Any]]:
    """Returns how many numbers lie between each two edges.

    Args:
      counts: how often each number occurs; none lies below the first edge.
      edges: of the bins, each of which holds its lower edge and not its upper one.
      unit: see `quantiles`; of the edges too.
      is_open: whether there is another bin, from the last edge on; else the last bin holds its upper edge too.
    """
    bins = [0] * len(edges)
    for number, amount in counts.items():
        place = bisect.bisect_right(edges, number) - 1
        bins[place if is_open else min(place, len(edges) - 2)] += amount
    scaled: list[float] = [edge if unit == 1 else edge / unit for edge in edges]
    uppers = [*scaled[1:], None]
    return [
        {"from": lower, "to": upper, "count": amount}
        for lower, upper, amount in zip(scaled, uppers, bins, strict=True)
        if is_open or upper is not None
    ]
