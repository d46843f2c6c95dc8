"""FindNearDuplicates: texts -> those of this run that are near copies of another, each with its twin.

A text of this run is dropped if and only if
  - it is an exact copy (its normal form is equal) of one that comes before it, or
  - its exact Jaccard similarity to one that comes before it, and with which it shares a bucket, is the threshold or
    more.
"Before" is an order of the texts themselves: those from elsewhere come before those of this run, which go by id. A text
that this run's own refresh has published before comes before those of later refreshes: of two that were published at
the same moment, and are near copies, one stands when both refreshes are made anew, at once or one by one. So the
answer is a function of the set of texts, whatever the order of input, the bundles and the number of workers, and it is
found in one pass. Where A ~ B and B ~ C but not A ~ C (A before B before C), B and C are both dropped, C as a copy of
B: a verdict names one pair that can be looked at, and does not hang on what became of B. (To keep C instead would need
the verdict on B first, and so on along a chain of any length: a pass over all data for each link.) No two texts that
are kept are near copies, short of those that no bucket brings together; see `near_duplicates.Banding.recall`.

What is shuffled: of each text a digest, a sketch and its id, to find exact copies; of each distinct text that sketch
once a band; each distinct text itself once; and the texts of candidate pairs. No worker holds more than a bucket, whose
sketches it does not compare all with all where they are many; see `near_duplicates.pairs_of`.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import Tuple
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.dedup.minhash import (
    BAND_BYTES,
    HASHES,
    MANY,
    THRESHOLD,
    Banding,
    NearDuplicate,
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
_LENGTH_BYTES: Final = 4

# What a record of a shuffle is, in its first byte.
_TEXT, _WANTED, _SENT, _COPY, _STANDS = b"t", b"w", b"s", b"c", b"p"


def _squeeze(normal: str) -> bytes:
    return zlib.compress(normal.encode(), 1)


def _unsqueeze(squeezed: bytes) -> str:
    return zlib.decompress(squeezed).decode()


class _Sketch(beam.DoFn):
    """Text -> (digest, sketch and name); and, as `texts`, (name, normal form)."""

    def __init__(self, banding: Banding, refresh: str) -> None:
        self._banding = banding
        self._refresh = refresh

    def process(self, text: Text) -> Iterator[Any]:
        normal = normal_form(text.text)
        node = node_of(text)
        # What the run's own refresh has published is not compared; it says which texts of the run stand.
        shingles = frozenset() if text.source and text.source == self._refresh else shingles_of(normal)
        # What has no shingle can only have exact copies.
        sketch = sketch_of(shingles, self._banding) if shingles else None
        packed = b"".join((sketch.marks, *sketch.bands)) if sketch else b""
        yield digest_of(normal), b"".join((len(packed).to_bytes(_LENGTH_BYTES, "big"), packed, node.encode()))
        if sketch:
            yield TaggedOutput("texts", (node, _TEXT + _squeeze(normal)))


def _source_of(node: str) -> str:
    """The name of a text -> where it is from; "" for one of this run."""
    return "" if is_own(node) else near_duplicate_of(node, 1.0).source


def _node_in(record: bytes) -> str:
    return record[_LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "big") :].decode()


class _CollapseCopies(beam.DoFn):
    """All texts of one normal form -> of the first of them (bucket, sketch and name), once a band; as `copies`, what is
    to be dropped with it, and which texts stand; as `found`, what is a copy of a text from elsewhere."""

    def __init__(self, refresh: str) -> None:
        self._refresh = refresh

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        records: Iterable[bytes] = group[1]
        if self._refresh:
            records, standing = self._without_published(records)
            for node in standing:
                yield TaggedOutput("copies", (node, _STANDS))
            if not records:
                return
        first = min(records, key=_node_in)
        node = _node_in(first)
        packed = first[_LENGTH_BYTES : -len(node.encode())]
        marks, bands = packed[:HASHES], packed[HASHES:]
        for start in range(0, len(bands), BAND_BYTES):
            yield bands[start : start + BAND_BYTES].hex(), marks + node.encode()
        for record in records:
            other = _node_in(record)
            if other == node or not is_own(other):
                continue
            if is_own(node):
                yield TaggedOutput("copies", (node, _COPY + near_duplicate_of(other, 1.0).id.encode()))
            else:
                yield TaggedOutput("found", (near_duplicate_of(other, 1.0).id, near_duplicate_of(node, 1.0)))

    def _without_published(self, records: Iterable[bytes]) -> tuple[list[bytes], list[str]]:
        """-> the records but for those of the run's own refresh and, where there are such, those that yield to them;
        and the names of the texts that stand."""
        named = [(_node_in(record), record) for record in records]
        left = [(node, record) for node, record in named if _source_of(node) != self._refresh]
        if len(left) == len(named):
            return [record for _, record in left], []
        standing = [node for node, _ in left if is_own(node)]
        if standing:
            left = [(node, record) for node, record in left if not _source_of(node) > self._refresh]
        return [record for _, record in left], standing


class _PairUp(beam.DoFn):
    """A bucket -> (name, the name of one that it is to be compared with), under both names of each pair: the earlier
    text is wanted by the later one, the later one by itself."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._counters = StepCounters(_STEP)

    def process(self, bucket: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, bytes]]:
        members = [(record[HASHES:].decode(), record[:HASHES]) for record in bucket[1]]
        if len(members) == 1:
            return
        members.sort()
        first_own = next((place for place, (node, _) in enumerate(members) if is_own(node)), len(members))
        if first_own == len(members):
            return
        found = pairs_of([marks for _, marks in members], first_own, self._threshold)
        self._counters.add("compared.sketches", found.compared)
        if len(members) > MANY:
            self._counters.add("buckets.large")
        asked = -1
        for earlier, later in found.pairs:
            name = _WANTED + members[later][0].encode()
            yield members[earlier][0], name
            if asked != later:
                yield members[later][0], name
                asked = later


class _SendTexts(beam.DoFn):
    """A name with its text and the names that want it -> (each of these, the text and its name)."""

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, bytes]]:
        node, records = group
        wanted = {record[1:] for record in records if record[:1] == _WANTED}
        if wanted:
            name = node.encode()
            text = min(record[1:] for record in records if record[:1] == _TEXT)
            message = b"".join((_SENT, len(name).to_bytes(_LENGTH_BYTES, "big"), name, text))
            for receiver in wanted:
                yield receiver.decode(), message


class _Verify(beam.DoFn):
    """A name with its own text, those that it is to be compared with, and its exact copies -> what is to be dropped."""

    def __init__(self, threshold: float, refresh: str) -> None:
        self._threshold = threshold
        self._refresh = refresh
        self._counters = StepCounters(_STEP)

    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, NearDuplicate]]:
        node, records = group
        texts: dict[str, bytes] = {}
        stands = False
        for record in records:
            stands = stands or record == _STANDS
            if record[:1] == _SENT:
                start = 1 + _LENGTH_BYTES
                end = start + int.from_bytes(record[1:start], "big")
                texts[record[start:end].decode()] = record[end:]
        if stands:
            texts = {name: text for name, text in texts.items() if not _source_of(name) > self._refresh}
        twin = None
        if own := texts.pop(node, None):
            earlier = ((name, _unsqueeze(text)) for name, text in texts.items())
            twin, compared = first_near_copy(_unsqueeze(own), earlier, self._threshold)
            self._counters.add("compared.texts", compared)
        if twin:
            yield near_duplicate_of(node, 1.0).id, twin
        # Copies of a text that is like one from elsewhere are like it too; of another they are copies of that text.
        of_copies = twin if twin and twin.source else near_duplicate_of(node, 1.0)
        for record in records:
            if record[:1] == _COPY:
                yield record[1:].decode(), of_copies


def _keyed(records: beam.PCollection[Any]) -> beam.PCollection[tuple[str, bytes]]:
    """Says what a tagged output holds, so that it is encoded as it is and not pickled."""
    records.element_type = Tuple[str, bytes]
    return records


@dataclasses.dataclass(eq=False)
class FindNearDuplicates(beam.PTransform):
    """Text -> (id, NearDuplicate), for each text of this run that is to be dropped, once; see the head of this file.

    Texts from elsewhere (`source` is not empty) are never dropped, and win over those of this run. The twin of a near
    copy is the first that was found in the order of (source, id), texts from elsewhere before those of this run; a twin
    of this run may itself be dropped. Exact copies have similarity 1 and are found however short they are.

    Args:
      threshold: two texts this alike, or more, are near copies, from 0.3 to 1; see `near_duplicates.THRESHOLD`.
      refresh: the source of the texts that the run's own refresh has published; a text of the run that is among them
        is not dropped for one whose source comes after this one. "": there are none.

    Raises:
      ValueError: the threshold is none.
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
