"""FindNearDuplicates: finds the texts of this run that are near copies of another.

A text of this run is dropped if and only if it is an exact copy (by its normal form) of one before it, or has a Jaccard
similarity of the threshold or more to one before it with which it shares a bucket. Texts from elsewhere come before
those of this run, which go by id. A text that this run's own refresh has published before comes before those of later
refreshes, so that one of two near copies stays when both refreshes are made anew. So the answer is a function of the
set of texts, found in one pass. Of near copies A, B and B, C both B and C are dropped, even where A and C are unlike:
to keep C would need the verdict on B first, and so on along chains.

What is shuffled: of each text a digest, a sketch and its id; of each distinct text that sketch once a band, and the
text once; and the texts of candidate pairs. No worker holds more than a bucket; see `minhash.pairs_of`.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
import msgspec
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import Tuple
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.dedup.minhash import (
    MANY,
    THRESHOLD,
    Banding,
    NearDuplicate,
    Sketch,
    Text,
    banding_for,
    digest_of,
    first_near_copy,
    is_own,
    near_duplicate_of,
    node_of,
    normal_form,
    pairs_of,
    shingles_of,
    sketch_of,
)

_STEP = "FindNearDuplicates"

# What is shuffled is MessagePack, so that engines move it as bytes. Records under the name of a text:
_TEXT = "text"  # its normal form, compressed
_WANTED = "wanted"  # the name of a text that it is to be sent to
_SENT = "sent"  # the name of another text and its normal form, to be compared with
_COPY = "copy"  # the id of an exact copy
_STANDS = "stands"  # it is not dropped for a text of a later refresh
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


def _unsqueeze(squeezed: bytes) -> str:
    return zlib.decompress(squeezed).decode()


def _source_of(node: str) -> str:
    return near_duplicate_of(node, 1.0).source


def _id_of(node: str) -> str:
    return near_duplicate_of(node, 1.0).id


class _Sketch(beam.DoFn):
    """Yields the digest of a text with its name and sketch; in the output `texts` the name with the text."""

    def __init__(self, banding: Banding, refresh: str) -> None:
        self._banding = banding
        self._refresh = refresh

    def process(self, text: Text) -> Iterator[Any]:
        normal = normal_form(text.text)
        node = node_of(text)
        # What the run's own refresh has published is not compared; it says which texts of the run stand.
        shingles = frozenset() if text.source and text.source == self._refresh else shingles_of(normal)
        # What has no shingle can only have exact copies.
        sketch = sketch_of(shingles, self._banding) if shingles else Sketch((), b"")
        yield digest_of(normal), _encode((node, sketch.marks, sketch.bands))
        if shingles:
            yield TaggedOutput("texts", (node, _encode((_TEXT, zlib.compress(normal.encode(), 1)))))


class _CollapseCopies(beam.DoFn):
    """Yields the first of all texts of one normal form, with its sketch, under each of its buckets.

    The output `copies` has what is dropped with that text, and which texts stand; `found` has copies of texts from
    elsewhere.
    """

    def __init__(self, refresh: str) -> None:
        self._refresh = refresh

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        records: Iterable[bytes] = group[1]
        if self._refresh:
            records, standing = self._without_published(records)
            for node in standing:
                yield TaggedOutput("copies", (node, _encode((_STANDS,))))
            if not records:
                return
        node, marks, bands = min(map(_decode, records))
        for band in bands:
            yield band.hex(), _encode((node, marks))
        for record in records:
            other = _decode(record)[0]
            if other == node or not is_own(other):
                continue
            if is_own(node):
                yield TaggedOutput("copies", (node, _encode((_COPY, _id_of(other)))))
            else:
                yield TaggedOutput("found", (_id_of(other), near_duplicate_of(node, 1.0)))

    def _without_published(self, records: Iterable[bytes]) -> tuple[list[bytes], list[str]]:
        """Leaves out the records of the run's own refresh, and those that yield to them.

        Returns:
          The others, and the names of the texts that stand.
        """
        named = [(_decode(record)[0], record) for record in records]
        left = [(node, record) for node, record in named if _source_of(node) != self._refresh]
        if len(left) == len(named):
            return [record for _, record in left], []
        standing = [node for node, _ in left if is_own(node)]
        if standing:
            left = [(node, record) for node, record in left if not _source_of(node) > self._refresh]
        return [record for _, record in left], standing


class _PairUp(beam.DoFn):
    """Yields the later name of each pair that is to be compared under both names, since it needs both texts."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._counters = StepCounters(_STEP)

    def process(self, bucket: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, bytes]]:
        members = sorted(map(_decode, bucket[1]))
        first_own = next((place for place, (node, _) in enumerate(members) if is_own(node)), len(members))
        if len(members) == 1 or first_own == len(members):
            return
        found = pairs_of([marks for _, marks in members], first_own, self._threshold)
        self._counters.add("compared.sketches", found.compared)
        if len(members) > MANY:
            self._counters.add("buckets.large")
        asked = -1
        for earlier, later in found.pairs:
            wanted = _encode((_WANTED, members[later][0]))
            yield members[earlier][0], wanted
            if asked != later:
                yield members[later][0], wanted
                asked = later


class _SendTexts(beam.DoFn):
    """Yields a text and its name, under each name that wants it."""

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, bytes]]:
        node, records = group
        decoded = [_decode(record) for record in records]
        wanted = {value for kind, value in decoded if kind == _WANTED}
        if wanted:
            message = _encode((_SENT, node, min(value for kind, value in decoded if kind == _TEXT)))
            for receiver in wanted:
                yield receiver, message


class _Verify(beam.DoFn):
    """Yields what is dropped: a text that is like one that was sent to it, and its exact copies."""

    def __init__(self, threshold: float, refresh: str) -> None:
        self._threshold = threshold
        self._refresh = refresh
        self._counters = StepCounters(_STEP)

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, NearDuplicate]]:
        node, records = group
        texts: dict[str, bytes] = {}
        stands = False
        for kind, *values in map(_decode, records):
            if kind == _SENT:
                name, texts[name] = values
            stands = stands or kind == _STANDS
        if stands:
            texts = {name: text for name, text in texts.items() if not _source_of(name) > self._refresh}
        first = None
        if own := texts.pop(node, None):
            earlier = ((name, _unsqueeze(text)) for name, text in texts.items())
            first, compared = first_near_copy(_unsqueeze(own), earlier, self._threshold)
            self._counters.add("compared.texts", compared)
        if first:
            yield _id_of(node), first
        # Copies of a text that is like one from elsewhere are like it too; of another they are copies of that text.
        of_copies = first if first and first.source else near_duplicate_of(node, 1.0)
        for kind, *values in map(_decode, records):
            if kind == _COPY:
                yield values[0], of_copies


def _keyed(records: beam.PCollection[Any]) -> beam.PCollection[tuple[str, bytes]]:
    """Declares the type of a tagged output, so that it is not pickled."""
    records.element_type = Tuple[str, bytes]
    return records


@dataclasses.dataclass(eq=False)
class FindNearDuplicates(beam.PTransform):
    """Yields the id of each text of this run that is to be dropped, with the first text that it is like.

    Texts from elsewhere (`source` is not empty) are never dropped. Exact copies have similarity 1, however short.

    Args:
      threshold: two texts this alike, or more, are near copies, from 0.3 to 1; see `minhash.THRESHOLD`.
      refresh: the source of the texts that the run's own refresh has published, if any; a text of the run that is among
        them is not dropped for one whose source comes after this one.
    """

    threshold: float = THRESHOLD
    refresh: str = ""

    def __post_init__(self) -> None:
        banding_for(self.threshold)

    def expand(self, texts: beam.PCollection[Text]) -> beam.PCollection[tuple[str, NearDuplicate]]:
        sketched = texts | "Sketch" >> beam.ParDo(_Sketch(banding_for(self.threshold), self.refresh)).with_outputs(
            "texts", main="sketches"
        )
        distinct = (
            _keyed(sketched.sketches)
            | "GroupCopies" >> beam.GroupByKey()
            | "CollapseCopies"
            >> beam.ParDo(_CollapseCopies(self.refresh)).with_outputs("copies", "found", main="buckets")
        )
        pairs = (
            _keyed(distinct.buckets)
            | "GroupBuckets" >> beam.GroupByKey()
            | "PairUp" >> beam.ParDo(_PairUp(self.threshold)).with_output_types(tuple[str, bytes])
        )
        sent = (
            (_keyed(sketched.texts), pairs)
            | "TextsAndPairs" >> beam.Flatten()
            | "GroupByName" >> beam.GroupByKey()
            | "SendTexts" >> beam.ParDo(_SendTexts()).with_output_types(tuple[str, bytes])
        )
        verified = (
            (sent, _keyed(distinct.copies))
            | "SentAndCopies" >> beam.Flatten()
            | "GroupByReceiver" >> beam.GroupByKey()
            | "Verify" >> beam.ParDo(_Verify(self.threshold, self.refresh)).with_output_types(tuple[str, NearDuplicate])
        )
        found = distinct.found
        found.element_type = Tuple[str, NearDuplicate]
        return (verified, found) | "Together" >> beam.Flatten()
