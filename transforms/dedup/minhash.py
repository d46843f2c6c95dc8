"""Near-duplicates: texts whose sets of shingles have a high Jaccard similarity.

A shingle is three words in a row, or five characters where words are not spaced. Pairs that share a band of their
MinHash sketches are compared exactly (A. Broder, "On the resemblance and containment of documents", 1997; J. Leskovec
et al., "Mining of Massive Datasets", chapter 3). Sketches equal those of datasketch's scheme `affine32`, which would be
140 MB with scipy.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from textmint.transforms.core.identity import choices, stable_hash
from textmint.transforms.core.texts import clean_text, fold_case

THRESHOLD: Final = 0.8
"""Two texts this alike, or more, are near copies: of 100 words three may differ, or eight in a row. K. Lee et al.,
"Deduplicating Training Data Makes Language Models Better" (arXiv 2107.06499), use 0.8 too, of edit similarity."""

TASK_THRESHOLD: Final = 0.9
"""The same for tasks, sentences of 8 to 32 words, where one word can make another task. At 0.9 a word at one end may
differ in sentences of 21 words and more, and a word may be added at an end from 11 on."""

LEAST_THRESHOLD: Final = 0.3  # below it nearly every pair would be a candidate

WORDS_PER_SHINGLE: Final = 3
CHARS_PER_SHINGLE: Final = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text, and where it is from. Its id and source are valid Unicode without NUL, or it raises a ValueError."""

    id: str  # unique in its source
    text: str
    source: str = ""  # "" for a text of this run; else an earlier refresh or a file of excluded texts

    def __post_init__(self) -> None:
        for name in (self.id, self.source):
            if "\0" in name or clean_text(name) != name:
                raise ValueError(f"a text's id and source must be valid Unicode without NUL: {name!r:.80}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """What a text is a near copy of."""

    id: str
    source: str  # see Text
    similarity: float  # exact; 1.0 where the two have all shingles in common


# Letters and signs of scripts without spaces, after NFKC; without digits, which are words everywhere, and punctuation.
_UNSPACED: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ece\u0edc-\u0edf"  # Lao
    "\u0f00\u0f40-\u0f84\u0f88-\u0fbc"  # Tibetan
    "\u1000-\u103f\u1050-\u108f\ua9e0-\ua9ef\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17d3\u17dc\u17dd"  # Khmer
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7c"  # Tai Le, New Tai Lue, Tai Tham
    "\u1b05-\u1b4b\ua980-\ua9c0"  # Balinese, Javanese
    "\ua000-\ua48c"  # Yi
    "\u3041-\u3096\u3099\u309a\u309d-\u309f"  # Hiragana
    "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Katakana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
)
_UNIT: Final = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
_IS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]").match
# What is not seen: soft hyphen, zero-width and direction marks, variation selectors.
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# Stripped at both ends of a word; not what belongs to it: "C#", "C++", "$5", "5%", "-5", "@name".
_EDGES: Final = ".,;:!?'\"()[]{}<>*_~`|/\\…‥·•。、，；：！？‘’‚‛“”„‟«»‹›「」『』【】〈〉《》〔〕・،؛؟۔।॥።፣՝՜՞؍"
_ONLY_MARKS: Final = re.compile("[-‐‑‒–—―~]+").fullmatch


def normal_form(text: str) -> str:
    """Returns the units of a text, joined by single spaces: words, and single characters where words are not spaced.

    Equal for texts that differ only in case, Unicode form (NFKC), spacing, or punctuation at the edges of words.
    """
    cleaned = _UNSEEN.sub("", fold_case(text))
    units = [word for unit in _UNIT.findall(cleaned) if (word := unit.strip(_EDGES)) and not _ONLY_MARKS(word)]
    return " ".join(units or cleaned.split())


def shingles_of(normal: str) -> frozenset[str]:
    """Returns the shingles of a normal form: word 3-grams, or character 5-grams where their first word is not spaced.

    A text that is too short for a shingle has none; only its equal is a copy of it.
    """
    units = normal.split(" ")
    found = set()
    for place, unit in enumerate(units):
        end = place + (CHARS_PER_SHINGLE if _IS_UNSPACED(unit) else WORDS_PER_SHINGLE)
        if end <= len(units):
            found.add(" ".join(units[place:end]))
    return frozenset(found)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Returns the Jaccard similarity of two sets; 0 where both are empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def similarity(one: str, other: str) -> float:
    """Says how alike two normal forms are: 1 where they are equal, else the similarity of their shingles."""
    return 1.0 if one == other else jaccard(shingles_of(one), shingles_of(other))


HASHES: Final = 128  # of a sketch; the standard error of a similarity read from it is at most 0.045
TARGET_RECALL: Final = 0.98  # of the bands; what is asked for is 0.95
_RECALL_MARGIN: Final = 0.05  # over the threshold, where the target is to be met
_SHINGLES_AT_ONCE: Final = 4_096  # of a long text: a table of so many times HASHES 4-byte numbers


@dataclasses.dataclass(frozen=True, slots=True)
class Banding:
    """How a sketch is cut: two texts are a candidate pair where all hashes of one band are equal."""

    bands: int
    rows: int  # hashes in a band

    def recall(self, similarity: float) -> float:
        """Returns the chance that two texts of this similarity share a band."""
        return 1.0 - (1.0 - similarity**self.rows) ** self.bands


def banding_for(threshold: float) -> Banding:
    """Returns the banding with the most rows that finds a pair 0.05 above the threshold (or half-way to 1, if that is
    less) with TARGET_RECALL.

    Raises:
      ValueError: the threshold is not between LEAST_THRESHOLD and 1.
    """
    if not LEAST_THRESHOLD <= threshold <= 1:
        raise ValueError(f"a near-duplicate threshold must be from {LEAST_THRESHOLD} to 1, not {threshold}")
    aim = min(threshold + _RECALL_MARGIN, (threshold + 1) / 2)
    for rows in range(HASHES, 1, -1):
        for bands in range(1, HASHES // rows + 1):
            if Banding(bands, rows).recall(aim) >= TARGET_RECALL:
                return Banding(bands, rows)
    return Banding(HASHES // 2, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Sketch:
    """What stands for a text when pairs are looked for."""

    bands: tuple[bytes, ...]  # a hash of each band and its number: texts that share one meet
    marks: bytes  # one byte of each hash of the sketch, to estimate how alike two texts are that met


BAND_BYTES: Final = 8
_MIX: Final = np.uint32(0x9E3779B1)  # 2^32 over the golden ratio, odd: D. Knuth's multiplicative hashing


@functools.cache
def _permutations() -> tuple[Any, Any]:
    """Returns factors and offsets: HASHES permutations of the numbers h of 32 bits, factor * h + offset."""
    stream = choices("near_duplicates")
    factors = [next(stream) % (1 << 32) | 1 for _ in range(HASHES)]
    offsets = [next(stream) % (1 << 32) for _ in range(HASHES)]
    return np.array(factors, dtype=np.uint32), np.array(offsets, dtype=np.uint32)


def _spread(hashes: Any) -> Any:
    """Mixes the bits of 32-bit numbers: fmix32 of A. Appleby's MurmurHash3 (public domain)."""
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes *= np.uint32(0xC2B2AE35)
    hashes ^= hashes >> np.uint32(16)
    return hashes


def _hash_values(shingles: Iterable[str]) -> Any:
    """Returns the least hash that each permutation makes of the shingles, an array of HASHES 32-bit numbers."""
    factors, offsets = _permutations()
    least = np.full(HASHES, 0xFFFFFFFF, dtype=np.uint32)
    rest = iter(shingles)
    while some := list(itertools.islice(rest, _SHINGLES_AT_ONCE)):
        digests = b"".join([hashlib.blake2b(shingle.encode(), digest_size=4).digest() for shingle in some])
        hashes = _spread(np.frombuffer(digests, dtype="<u4").astype(np.uint32))
        permuted = hashes[:, np.newaxis] * factors
        permuted += offsets
        least = np.minimum(least, permuted.min(axis=0))
    return least


def sketch_of(shingles: Iterable[str], banding: Banding) -> Sketch:
    """Makes the sketch of a text of its shingles, in any order."""
    values = _hash_values(shingles)
    table = values.astype("<u4").tobytes()
    width = 4 * banding.rows
    bands = tuple(
        hashlib.blake2b(
            table[band * width : (band + 1) * width], digest_size=BAND_BYTES, salt=band.to_bytes(2, "little")
        ).digest()
        for band in range(banding.bands)
    )
    return Sketch(bands, ((values * _MIX) >> np.uint32(24)).astype(np.uint8).tobytes())


MANY: Final = 1_000
"""In a bucket of more texts, each is compared with this many others at most."""
MOST_PAIRS: Final = 8
"""So many others at most, those with the most alike sketches, are compared in full with a text of a bucket."""

_DOUBT: Final = 0.1  # of a similarity read from HASHES marks: 2.8 standard errors at 0.8
_BY_CHANCE: Final = 1 / 256  # that two marks of unlike hashes are equal


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a bucket that are to be compared in full."""

    pairs: list[tuple[int, int]]  # (earlier, later) places in the bucket
    compared: int  # how many pairs of sketches were compared


def pairs_of(marks: Sequence[bytes], first_own: int, threshold: float) -> Pairs:
    """Chooses the pairs of a bucket that are to be compared in full.

    In a bucket of up to MANY texts each is compared with all before it, in a larger one with the first MANY before it
    that are not surely near copies of earlier ones. So a bucket of n equal texts takes n comparisons.

    Args:
      marks: of each text, in the order of precedence.
      first_own: the place of the first text of this run; those before it are never the later one of a pair.
      threshold: two texts this alike are near copies.
    """
    table = np.frombuffer(b"".join(marks), dtype=np.uint8).reshape(len(marks), HASHES)
    doubtful, sure = (HASHES * (_BY_CHANCE + (1 - _BY_CHANCE) * (threshold + doubt)) for doubt in (-_DOUBT, _DOUBT))
    is_large = len(marks) > MANY
    pool = table.copy() if is_large else table  # of the places that later ones are compared with
    pooled = [0] if is_large else range(len(marks))
    pairs: list[tuple[int, int]] = []
    compared = 0
    for later in range(1 if is_large else max(1, first_own), len(marks)):
        size = len(pooled) if is_large else later
        compared += size
        alike = np.count_nonzero(pool[:size] == table[later], axis=1)
        near = np.flatnonzero(alike >= doubtful)
        is_sure = False
        if near.size:
            certain = np.flatnonzero(alike[near] >= sure)
            if is_sure := bool(certain.size):
                near = near[: certain[0] + 1]
            if near.size > MOST_PAIRS:
                near = np.sort(near[np.argsort(-alike[near], kind="stable")[:MOST_PAIRS]])
            if later >= first_own:
                pairs += [(pooled[place], later) for place in near.tolist()]
        if is_large and not is_sure and size < MANY:
            pool[size] = table[later]
            pooled.append(later)  # type: ignore[union-attr]
    return Pairs(pairs, compared)


def digest_of(normal: str) -> str:
    """Returns the hash of a normal form, equal for exact copies."""
    return stable_hash("near_duplicate_text", normal)


def node_of(text: Text) -> str:
    """Names a text; names order texts: those from elsewhere first, by source and id, then those of this run, by id."""
    return f"0{text.source}\0{text.id}" if text.source else f"1{text.id}"


def is_own(node: str) -> bool:
    """Says whether a text that `node_of` has named is of this run."""
    return node.startswith("1")


def near_duplicate_of(node: str, similarity: float) -> NearDuplicate:
    """Returns the text that `node_of` has named, as one that another text is like."""
    source, _, id_ = node[1:].rpartition("\0")
    return NearDuplicate(id=id_, source=source, similarity=similarity)


def first_near_copy(
    normal: str, earlier: Iterable[tuple[str, str]], threshold: float
) -> tuple[NearDuplicate | None, int]:
    """Finds the first text, by name, that a normal form is a near copy of, among names and normal forms.

    Returns:
      That text with the exact similarity, or None; and how many were compared.
    """
    shingles = shingles_of(normal)
    others = sorted(earlier)
    for compared, (node, other) in enumerate(others, start=1):
        alike = jaccard(shingles, shingles_of(other))
        if alike >= threshold:
            return near_duplicate_of(node, alike), compared
    return None, len(others)
