"""Similarity: how alike each text of a sample is to the nearest other one, exactly."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from textmint.transforms.dedup.minhash import normal_form, shingles_of

PAIRS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Nearest:
    """What was found of some texts: of each the similarity to its nearest other one, and the most alike pairs."""

    similarities: list[float]
    pairs: list[tuple[float, int, int]]  # similarity, and the places of both texts, the earlier first


def nearest(texts: Sequence[str]) -> Nearest:
    """Compares each text with all others by the Jaccard similarity of their shingles; see `minhash.shingles_of`.

    Where texts share shingles they are counted through lists of the texts that have each shingle, so that texts that
    have nothing in common cost nothing. Texts of one normal form are 1.0 alike, also where they are too short for a
    shingle.
    """
    forms = [normal_form(text) for text in texts]
    copies: dict[str, list[int]] = collections.defaultdict(list)
    for place, form in enumerate(forms):
        copies[form].append(place)
    firsts = [places[0] for places in copies.values()]  # of each form, in order
    shingles = [shingles_of(forms[place]) for place in firsts]
    having: dict[str, list[int]] = collections.defaultdict(list)
    for index, of_text in enumerate(shingles):
        for shingle in of_text:
            having[shingle].append(index)
    shared_by = {shingle: np.array(indices) for shingle, indices in having.items() if len(indices) > 1}
    sizes = np.array([len(of_text) for of_text in shingles], dtype=np.int64)

    similarities = [0.0] * len(texts)
    pairs: list[tuple[float, int, int]] = []
    for index, of_text in enumerate(shingles):
        others = [found for shingle in of_text if (found := shared_by.get(shingle)) is not None]
        if others:
            common = np.bincount(np.concatenate(others), minlength=len(shingles))
            common[index] = 0
            alike = common / np.maximum(1, sizes + sizes[index] - common)
            similarities[firsts[index]] = float(alike.max())
            later = np.flatnonzero(alike[index + 1 :]) + index + 1
            best = sorted(later.tolist(), key=lambda other: (-alike[other], other))[:PAIRS]
            pairs += [(float(alike[other]), firsts[index], firsts[other]) for other in best]
    for places in copies.values():
        for place in places if len(places) > 1 else ():
            similarities[place] = 1.0
        pairs += [(1.0, places[0], other) for other in places[1 : PAIRS + 1]]
    return Nearest(similarities, sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:PAIRS])
