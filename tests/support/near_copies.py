"""Texts and near copies of them, planted: each is made from its number alone, so every run sees the same."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Final

WORDS: Final = 100  # of a text, on average
SHARES: Final = (0.02, 0.05, 0.1, 0.2, 0.4)  # of words that are changed
_VOCABULARY: Final = [f"w{number}" for number in range(20_000)]
_WEIGHTS: Final = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(_VOCABULARY))))


def words_of(number: int, words: int = WORDS) -> list[str]:
    """Makes the words of a text, drawn from a vocabulary as unevenly as in a language."""
    chance = random.Random(f"text {number}")
    length = chance.randrange(words - words // 5, words + words // 5 + 1)
    return [
        _VOCABULARY[bisect.bisect(_WEIGHTS, chance.random() * _WEIGHTS[-1], 0, len(_WEIGHTS) - 1)]
        for _ in range(length)
    ]


def changed(words: Sequence[str], share: float, in_one_run: bool, number: int) -> list[str]:
    """Replaces a share of the words by others, here and there or all in one run."""
    chance = random.Random(f"change {number}")
    amount = max(1, round(share * len(words)))
    start = chance.randrange(len(words) - amount + 1)
    places = range(start, start + amount) if in_one_run else chance.sample(range(len(words)), amount)
    new = list(words)
    for place in places:
        new[place] = f"x{number}.{place}"
    return new


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One kind of planted pairs.

    Args:
      share: of words changed.
      in_one_run: whether they stand next to each other.
      pairs: (earlier id, its text, later id, its text).
    """

    share: float
    in_one_run: bool
    pairs: tuple[tuple[str, str, str, str], ...]


def planted(pairs: int, words: int = WORDS) -> list[Planted]:
    """Makes so many pairs of each kind."""
    kinds = []
    number = 0
    for share, in_one_run in itertools.product(SHARES, (False, True)):
        made = []
        for _ in range(pairs):
            number += 2
            base = words_of(number, words)
            copy = changed(base, share, in_one_run, number)
            made.append((f"{number:08x}", " ".join(base), f"{number + 1:08x}", " ".join(copy)))
        kinds.append(Planted(share=share, in_one_run=in_one_run, pairs=tuple(made)))
    return kinds
