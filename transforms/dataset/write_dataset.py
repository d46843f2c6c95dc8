"""WriteDataset: writes the rows of a run to Parquet files and publishes them, all of a refresh at once or not at all.

Rows are sorted by id, packed into files of about the same size and written to a staging folder. When every count adds
up, the last element of the graph publishes them; see `publish`. Until then nothing that readers see has changed.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from apache_beam import typehints
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, LabelSet, Reject, Relabel, Task, Verdict
from textmint.transforms.core.identity import shard_of
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.packing import pack, unpack
from textmint.transforms.dataset.accounting import COMPARISONS, STEPS
from textmint.transforms.dataset.card import COUNTED
from textmint.transforms.dataset.publish import EXAMPLES, StagedFile, Target, publish
from textmint.transforms.dataset.schema import (
    DatasetKind,
    content_digest,
    join_parquet,
    kind_of,
    schema_of,
    sort_key,
    to_parquet,
)
from textmint.transforms.dataset.triplets import TRIPLETS, to_triplet
from textmint.transforms.storage import lease
from textmint.transforms.storage.files import join, write_file

Row = Example | Task | Reject
SHARD_BYTES: Final = 128 << 20
BUCKET_ROWS: Final = 2_000  # about 4 MB: what a worker holds in memory at once to sort it


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """The rows of a range of ids, sorted and compressed to about a tenth of their size, so that they can be moved."""

    place: tuple[int, int]  # bucket, and slice of the bucket
    rows: int
    content: bytes  # a Parquet file


_Size = tuple[tuple[int, int], int]  # place and bytes of a chunk


class _RenewsLease(beam.DoFn):
    """A step whose worker processes renew the lease, where the job holds it."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def setup(self) -> None:
        if self._target.job_lease is not None:
            lease.keep(self._target.job_lease)


class _AssignBucket(beam.DoFn):
    """Keys the rows of one kind, and what refers to them, by bucket. Buckets divide the ids evenly and in order."""

    def __init__(self, kind: DatasetKind, buckets: int) -> None:
        self._kind = kind
        self._buckets = buckets

    def process(self, row: Row | Verdict | Relabel) -> Iterator[tuple[str, bytes]]:
        if isinstance(row, (Verdict, Relabel)) or kind_of(row) == self._kind:
            yield _bucket_of(row.task_id if isinstance(row, (Task, LabelSet)) else row.id, self._buckets), pack(row)


def _bucket_of(row_id: str, buckets: int) -> str:
    return f"{shard_of(row_id, buckets):05d}"


def apply_verdicts(elements: Iterable[Row | Verdict | Relabel]) -> tuple[list[Row], list[Reject]]:
    """Applies what the comparisons say of rows, and gives labels the spelling that their task agrees on.

    Where several comparisons refuse an example, the first of them in the order of the graph decides, and of several
    verdicts of one comparison the smallest reason and detail.

    Returns:
      The kept rows, and a reject for each other; both sorted.
    """
    rows: list[Row] = []
    verdicts: dict[str, Verdict] = {}
    relabels: dict[str, Relabel] = {}
    for element in elements:
        if isinstance(element, Verdict):
            verdicts[element.id] = min(verdicts.get(element.id, element), element, key=_precedence)
        elif isinstance(element, Relabel):
            relabels[element.id] = element
        else:
            rows.append(element)
    kept: list[Row] = []
    refused: list[Reject] = []
    for row in sorted(rows, key=sort_key):
        if not isinstance(row, Example):
            kept.append(row)
            continue
        if relabel := relabels.get(row.id):
            row = replace(row, label=relabel.label, misleading_label=relabel.misleading_label)
        if verdict := verdicts.get(row.id):
            why = {"stage": verdict.stage, "reason": verdict.reason, "detail": verdict.detail}
            refused.append(Reject.of_example(row, can_retry=False, **why))
        else:
            kept.append(row)
    return kept, refused


def _precedence(verdict: Verdict) -> tuple[int, str, str, str]:
    place = STEPS.index(verdict.stage) if verdict.stage in STEPS else len(STEPS)
    return place, verdict.stage, verdict.reason, verdict.detail


class _Pack(_RenewsLease):
    """Packs the rows of a bucket into chunks of about `shard_bytes` at most.

    Examples have three more outputs: TRIPLETS, chunks of their training view; REFUSED, those that a verdict refuses, by
    bucket; COUNTS, of those refused by reason and those kept by attribute.
    """

    TRIPLETS = "triplets"
    REFUSED = "refused"
    COUNTS = "counts"

    def __init__(self, target: Target, kind: DatasetKind, schema: pa.Schema, shard_bytes: int, buckets: int) -> None:
        super().__init__(target)
        self._kind = kind
        self._schema = schema
        self._shard_bytes = shard_bytes
        self._buckets = buckets
        self._counters = {stage: StepCounters(stage) for stage in COMPARISONS}  # their verdicts take effect here

    def process(self, bucket: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        rows, refused = apply_verdicts(map(unpack, bucket[1]))
        yield from self._chunks(bucket[0], rows, self._schema)
        if self._kind == "examples":
            examples = [row for row in rows if isinstance(row, Example)]
            for chunk in self._chunks(bucket[0], [to_triplet(example) for example in examples], TRIPLETS):
                yield beam.pvalue.TaggedOutput(self.TRIPLETS, chunk)
            for name, count in self._count(examples, refused).items():
                yield beam.pvalue.TaggedOutput(self.COUNTS, (name, count))
            for reject in refused:
                yield beam.pvalue.TaggedOutput(self.REFUSED, (_bucket_of(reject.id, self._buckets), pack(reject)))

    def _chunks(self, bucket: str, rows: Sequence[Any], schema: pa.Schema) -> Iterator[_Chunk]:
        if not rows:
            return
        content = to_parquet(rows, schema)
        slices = min(len(rows), math.ceil(len(content) / self._shard_bytes))
        for index in range(slices):
            part = rows[len(rows) * index // slices : len(rows) * (index + 1) // slices]
            packed = content if slices == 1 else to_parquet(part, schema)
            yield _Chunk(place=(int(bucket), index), rows=len(part), content=packed)

    def _count(self, examples: Sequence[Example], refused: Sequence[Reject]) -> Mapping[str, int]:
        counts: collections.Counter[str] = collections.Counter()
        counts.update(f"{reject.stage}/rejected.{reject.reason}" for reject in refused)
        for column in COUNTED:
            counts.update(f"{EXAMPLES}/{column}.{value}" for value in map(operator.attrgetter(column), examples))
        left = len(examples) + len(refused)
        for stage, counters in self._counters.items():
            counters.add("in", left)
            of_stage = [reject for reject in refused if reject.stage == stage]
            for reject in of_stage:
                counters.outcome(reject)
            left -= len(of_stage)
            counters.add("kept", left)
        return counts


def _size_of(chunk: _Chunk) -> _Size:
    return chunk.place, len(chunk.content)


def file_of_each(sizes: Iterable[_Size], shard_bytes: int) -> dict[tuple[int, int], str]:
    """Assigns each chunk to a file, such as `00000-of-00003`: neighbours together, files of about `shard_bytes`."""
    ordered = sorted(sizes)
    total = sum(size for _, size in ordered)
    files = math.ceil(total / shard_bytes)
    before = 0
    numbers: list[int] = []
    for _, size in ordered:
        numbers.append(before * files // total)
        before += size
    used = {number: index for index, number in enumerate(sorted(set(numbers)))}  # a large chunk can fill two
    return {
        place: f"{used[number]:05d}-of-{len(used):05d}" for (place, _), number in zip(ordered, numbers, strict=True)
    }


class _AssignFile(beam.DoFn):
    def __init__(self, shard_bytes: int) -> None:
        self._shard_bytes = shard_bytes
        self._files: dict[tuple[int, int], str] = {}

    def start_bundle(self) -> None:
        self._files = {}

    def process(self, chunk: _Chunk, sizes: list[_Size]) -> Iterator[tuple[str, _Chunk]]:
        if not self._files:
            self._files = file_of_each(sizes, self._shard_bytes)
        yield self._files[chunk.place], chunk


class _EmptyFile(beam.DoFn):
    """Asks for one file where there are no rows: it holds the schema."""

    def process(self, _: bytes, sizes: list[_Size]) -> Iterator[tuple[str, None]]:
        if not sizes:
            yield "00000-of-00001", None


class _WriteFile(_RenewsLease):
    def __init__(self, kind: DatasetKind, target: Target, schema: pa.Schema) -> None:
        super().__init__(target)
        self._kind = kind
        self._schema = schema

    def process(self, file: tuple[str, Iterable[_Chunk | None]]) -> Iterator[StagedFile]:
        chunks = sorted((chunk for chunk in file[1] if chunk is not None), key=lambda chunk: chunk.place)
        content = join_parquet([chunk.content for chunk in chunks], self._schema)
        name = f"part-{file[0]}-{content_digest(content)}.parquet"
        write_file(join(self._target.staging, self._kind, name), content)
        yield StagedFile(kind=self._kind, name=name, rows=sum(chunk.rows for chunk in chunks), bytes=len(content))


@dataclasses.dataclass(eq=False)
class _WriteFiles(beam.PTransform):
    """Writes chunks to files of about `shard_bytes` in the run's staging folder, neighbours together."""

    kind: DatasetKind
    target: Target
    schema: pa.Schema
    shard_bytes: int

    def expand(self, chunks: Any) -> Any:
        sizes = beam.pvalue.AsList(chunks | "SizeOf" >> beam.Map(_size_of))
        keyed = tuple[str, Any]
        assign = beam.ParDo(_AssignFile(self.shard_bytes), sizes).with_output_types(keyed)
        assigned = chunks | "AssignFile" >> assign
        create_empty = beam.ParDo(_EmptyFile(), sizes).with_output_types(keyed)
        empty = chunks.pipeline | "Once" >> beam.Impulse() | "EmptyFile" >> create_empty
        return (
            (assigned, empty)
            | "Together" >> beam.Flatten()
            | "GroupByFile" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteFile(self.kind, self.target, self.schema)).with_output_types(StagedFile)
        )


class _Publish(_RenewsLease):
    def process(
        self, _: bytes, files: Iterable[StagedFile], counts: Mapping[str, int], compared: Mapping[str, int]
    ) -> Iterator[dict[str, Any]]:
        entry = publish(self._target, files, {**counts, **compared})
        if self._target.job_lease is not None:
            lease.release(self._target.job_lease)
        yield entry


@dataclasses.dataclass(eq=False)
class WriteDataset(beam.PTransform):
    """Writes the rows of a run and publishes them; the result is one element, the run's entry in the manifest.

    Takes streams by name: "examples" (Example or Reject), "tasks" (Task or Reject), "counts" (name, count); and, where
    the graph has them, "verdicts" (Verdict or Relabel) and "label_sets" (LabelSet or Reject). The rejects written are
    those of the stream "examples", and the examples that a verdict refuses.

    Args:
      target: where to, and what the manifest says of the run.
      keep_raw: whether examples have the column `raw_reply`.
      shard_bytes: the size of file to aim at.
      expected_rows: a guess at the number of examples: in how many pieces they are sorted, not what is written.
    """

    target: Target
    keep_raw: bool = False
    shard_bytes: int = SHARD_BYTES
    expected_rows: int = BUCKET_ROWS

    def expand(self, streams: Mapping[str, Any]) -> Any:
        buckets = max(1, math.ceil(self.expected_rows / BUCKET_ROWS))

        def assigned(kind: DatasetKind, stream: str) -> Any:
            assign = beam.ParDo(_AssignBucket(kind, buckets)).with_output_types(tuple[str, bytes])
            return streams[stream] | f"Assign{kind.title()}From{stream.title()}" >> assign

        def packed(kind: DatasetKind, *rows: Any) -> Any:
            together = rows[0] if len(rows) == 1 else rows | f"All{kind.title()}" >> beam.Flatten()
            do = beam.ParDo(_Pack(self.target, kind, self._schema(kind), self.shard_bytes, buckets))
            return (
                together
                | f"Group{kind.title()}" >> beam.GroupByKey()
                | f"Pack{kind.title()}" >> do.with_outputs(_Pack.TRIPLETS, _Pack.REFUSED, _Pack.COUNTS, main="chunks")
            )

        verdicts = [assigned("examples", "verdicts")] if "verdicts" in streams else []
        chunks, triplets, refused, counts = packed("examples", assigned("examples", "examples"), *verdicts)
        refused.element_type = typehints.KV[str, bytes]
        counts.element_type = typehints.KV[str, int]
        by_kind: dict[DatasetKind, Any] = {
            "rejects": packed("rejects", assigned("rejects", "examples"), refused).chunks,
            "tasks": packed("tasks", assigned("tasks", "tasks")).chunks,
            "triplets": triplets,
            "examples": chunks,
        }
        if "label_sets" in streams:
            by_kind["label_sets"] = packed("label_sets", assigned("label_sets", "label_sets")).chunks
        files = [
            of_kind | f"Write{kind.title()}" >> _WriteFiles(kind, self.target, self._schema(kind), self.shard_bytes)
            for kind, of_kind in by_kind.items()
        ] | "AllFiles" >> beam.Flatten()
        return (
            streams["counts"].pipeline
            | "Once" >> beam.Impulse()
            | "Publish"
            >> beam.ParDo(
                _Publish(self.target),
                beam.pvalue.AsList(files),
                beam.pvalue.AsDict(streams["counts"]),
                beam.pvalue.AsDict(counts | "SumCompared" >> beam.CombinePerKey(sum)),
            )
        )

    def _schema(self, kind: DatasetKind) -> pa.Schema:
        return schema_of(kind, keep_raw=self.keep_raw)
