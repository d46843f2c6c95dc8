"""Diversity of texts, by measures of C. Shaib et al., "Standardizing the Measurement of Text Diversity" (arXiv
2403.00553).

All of them depend on how many texts there are and how long these are (arXiv 2507.15092). So they are taken of equally
many texts that were to be equally long, and compare only with the same of other data.
"""

from __future__ import annotations

import collections
import math
import zlib
from collections.abc import Sequence
from typing import Any, Final

from textmint.transforms.dedup.minhash import normal_form

_DISTINCT: Final = (1, 2, 3, 4)  # words of an n-gram
_LONG: Final = 4  # of those whose repetition counts: N. Salkar et al., 2022, as in 2403.00553
_LEVEL: Final = 9


def diversity(texts: Sequence[str]) -> dict[str, Any]:
    """Measures the diversity of texts; words are single characters where scripts do not space them.

    Returns:
      compression_ratio: bytes of all texts over their bytes after zlib; the larger, the less diverse.
      distinct_ngrams: by n, the share of n-grams that are distinct.
      self_repetition: of each text the logarithm of 1 + how many times one of its 4-grams stands in another text; the
        mean.
      repeating: the share of texts with a 4-gram that stands in another text.
      Beside these: sample, the number of texts; words, of all of them.
    """
    units = [normal_form(text).split(" ") for text in texts]
    joined = "\n".join(texts).encode("utf-8", "replace")
    distinct = {}
    for n in _DISTINCT:
        grams = [tuple(of_text[at : at + n]) for of_text in units for at in range(len(of_text) - n + 1)]
        distinct[str(n)] = round(len(set(grams)) / len(grams), 4) if grams else None
    long = [{tuple(of_text[at : at + _LONG]) for at in range(len(of_text) - _LONG + 1)} for of_text in units]
    texts_with = collections.Counter(gram for grams in long for gram in grams)
    repeated = [sum(texts_with[gram] - 1 for gram in grams) for grams in long]
    return {
        "sample": len(texts),
        "words": sum(map(len, units)),
        "compression_ratio": round(len(joined) / len(zlib.compress(joined, _LEVEL)), 3),
        "distinct_ngrams": distinct,
        "self_repetition": round(math.fsum(math.log1p(times) for times in repeated) / len(texts), 4),
        "repeating": round(sum(map(bool, repeated)) / len(texts), 4),
    }
