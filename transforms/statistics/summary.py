"""Summaries: what is known of some rows of a refresh, small however many they are, in a form that can be merged.

All of a summary is whole numbers and lists of the first so many by an order of their own. So the merge of all parts is
the same in whatever order and by whatever division the rows came.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from textmint.transforms.core.identity import fraction
from textmint.transforms.core.packing import compress, decompress
from textmint.transforms.core.texts import clean_text

SAMPLE_ROWS: Final = 2_000
"""Rows at most, the first by hash, on which figures stand that would cost too much of all rows."""
DIVERSITY_ROWS: Final = 200
"""Rows at most of each num_words, the first by hash, whose diversity is measured."""
VALUES: Final = 1_000
"""Values at most of an attribute, the first by hash; of more the counts are not kept."""
SHOWN_CHARS: Final = 500
"""Characters at most of a text that is shown."""
READ_CHARS: Final = 2_000
"""Characters at most of a text in the sample, from its beginning."""

_DIGITS: Final = 3  # of a number that is counted: exact below 1,000, to half a per cent above
_TOPS: Final[Mapping[str, int]] = {
    "longest": 10,
    "labels": 10,
    "most_unbalanced": 20,
    "most_examples": 20,
    "most_disputed": 20,
}
_REJECT_SAMPLES: Final = 3
REJECTED: Final = "rejected "  # the name of a list of rejects begins with it; stage and reason follow

Rank = tuple[int, int, str]
"""What a list is ordered by; the last part is an id, so that no two are equal."""


class Ranked(msgspec.Struct, frozen=True, array_like=True):
    """A row, a task or a label, and its place in the order of its list."""

    rank: Rank
    fields: dict[str, Any]


class Summary(msgspec.Struct, array_like=True):
    """What is known of some rows: see the module."""

    counts: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)  # by name of a table and value
    numbers: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)  # the same, of values that are numbers
    tops: dict[str, list[Ranked]] = msgspec.field(default_factory=dict)  # by name of a list
    sample: list[Ranked] = msgspec.field(default_factory=list)  # rows by hash

    def count(self, table: str, value: str, amount: int = 1) -> None:
        """Adds to the count of a value."""
        counts = self.counts.setdefault(table, {})
        counts[value] = counts.get(value, 0) + amount

    def count_number(self, table: str, value: int, amount: int = 1) -> None:
        """Adds to the count of a number, which is rounded to three digits."""
        value = rounded(value)
        numbers = self.numbers.setdefault(table, {})
        numbers[value] = numbers.get(value, 0) + amount

    def admits(self, name: str, rank: Rank) -> bool:
        """Says whether a list would hold a rank."""
        ranked = self.tops.get(name, [])
        return len(ranked) < limit_of(name) or rank < ranked[-1].rank

    def place(self, name: str, ranked: Ranked) -> None:
        """Puts something into its place in a list."""
        if self.admits(name, ranked.rank):
            top = self.tops.setdefault(name, [])
            bisect.insort(top, ranked, key=rank_of)
            del top[limit_of(name) :]

    def merge(self, other: Summary) -> Summary:
        """Adds what another summary knows, of other rows; returns itself."""
        for table, counts in other.counts.items():
            for value, amount in counts.items():
                self.count(table, value, amount)
        for table, numbers in other.numbers.items():
            for number, amount in numbers.items():
                self.count_number(table, number, amount)
        for name, top in other.tops.items():
            for ranked in top:
                self.place(name, ranked)
        self.sample = [*self.sample, *other.sample]
        return self.prune()

    def prune(self) -> Summary:
        """Drops what is beyond the bounds; returns itself. It drops nothing that the merge of all parts holds."""
        for table, counts in self.counts.items():
            if len(counts) > VALUES:
                first = heapq.nsmallest(VALUES, counts, key=lambda value: (fraction("value", value), value))
                self.counts[table] = {value: counts[value] for value in first}
        self.sample = sampled(self.sample)
        return self


def limit_of(name: str) -> int:
    """Returns how many a list holds at most."""
    return _REJECT_SAMPLES if name.startswith(REJECTED) else _TOPS[name]


def rank_of(ranked: Ranked) -> Rank:
    """Returns what a list is ordered by."""
    return ranked.rank


def sampled(rows: list[Ranked]) -> list[Ranked]:
    """Returns of some rows the SAMPLE_ROWS first by hash, and the DIVERSITY_ROWS first of each num_words; in order."""
    kept = []
    of_length: dict[str, int] = {}
    for place, row in enumerate(sorted(rows, key=rank_of)):
        num_words = row.fields["num_words"]
        of_length[num_words] = of_length.get(num_words, 0) + 1
        if place < SAMPLE_ROWS or of_length[num_words] <= DIVERSITY_ROWS:
            kept.append(row)
    return kept


def rounded(number: int) -> int:
    """Rounds a number to three digits, so that there are few different ones."""
    surplus = len(str(abs(number))) - _DIGITS
    return number if surplus <= 0 else round(number, -surplus)


def shown(text: str) -> str:
    """Cuts a text to what is shown of it."""
    return clean_text(text) if len(text) <= SHOWN_CHARS else clean_text(text[: SHOWN_CHARS - 1]) + "…"


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Summary).decode


def pack(summary: Summary) -> bytes:
    """Makes bytes of a summary, about a third of its size."""
    return compress(_encode(summary))


def unpack(packed: bytes) -> Summary:
    """Reads what `pack` made."""
    return _decode(decompress(packed))
