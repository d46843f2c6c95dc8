"""WriteDataset: writes the rows of a run to Parquet files and publishes them, all of a refresh at once or not at all.

Rows are sorted by id, packed into files of about the same size and written to a staging folder. When every count adds
up, the last element of the graph publishes them; see `publish`. Until then nothing that readers see has changed.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import apache_beam as beam
from apache_beam import typehints
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, LabelSet, Reject, Relabel, Task, Verdict
from textmint.transforms.core.identity import shard_of
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.packing import pack, unpack
from textmint.transforms.dataset.accounting import COMPARISONS, STEPS, steps_with
from textmint.transforms.dataset.publish import ACCEPTED, StagedFile, Target, publish
from textmint.transforms.dataset.schema import (
    DatasetKind,
    content_digest,
    join_parquet,
    kind_of,
    schema_of,
    sort_key,
    to_parquet,
)
from textmint.transforms.dataset.triplets import to_triplet
from textmint.transforms.storage import lease
from textmint.transforms.storage.files import join, write_file

SAYS: Final = "textmint published"
"""What a job says at its end; an alert of `deploy/terraform` looks for it in the logs of workers."""
_LOG = logging.getLogger("textmint")
Row = Example | Task | Reject
SHARD_BYTES: Final = 128 << 20
BUCKET_ROWS: Final = 2_000  # about 4 MB: what a worker holds in memory at once to sort it


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """The rows of a range of ids, sorted and compressed to about a tenth of their size, so that they can be moved."""

    kind: DatasetKind
    place: tuple[int, int]  # bucket, and slice of the bucket
    rows: int
    content: bytes  # a Parquet file


_Size = tuple[tuple[int, int], int]  # place and bytes of a chunk
_KindAndSize = tuple[DatasetKind, _Size]


class _RenewsLease(beam.DoFn):
    """A step whose worker processes renew the lease, where the job holds it."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def setup(self) -> None:
        if self._target.job_lease is not None:
            lease.keep(self._target.job_lease)


class _AssignBucket(beam.DoFn):
    """Keys the rows of one kind, and what refers to them, by kind and bucket. Buckets divide the ids evenly and in
    order."""

    def __init__(self, kind: DatasetKind, buckets: int) -> None:
        self._kind = kind
        self._buckets = buckets

    def process(self, row: Row | Verdict | Relabel) -> Iterator[tuple[str, bytes]]:
        if isinstance(row, (Verdict, Relabel)) or kind_of(row) == self._kind:
            yield (
                _key_of(self._kind, row.task_id if isinstance(row, (Task, LabelSet)) else row.id, self._buckets),
                pack(row),
            )


def _key_of(kind: DatasetKind, row_id: str, buckets: int) -> str:
    return f"{kind}/{shard_of(row_id, buckets):05d}"


def _kind_in(key: str) -> tuple[DatasetKind, str]:
    kind, _, rest = key.partition("/")
    return cast(DatasetKind, kind), rest


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
    """Packs the rows of a bucket into chunks of about `shard_bytes` at most; of examples also their training view.

    There are more outputs: ROWS, the rows themselves, where they are wanted; and of examples REFUSED, those that a
    verdict refuses, by bucket; COUNTS, of these by reason.
    """

    ROWS = "rows"
    REFUSED = "refused"
    COUNTS = "counts"

    def __init__(self, target: Target, keep_raw: bool, shard_bytes: int, buckets: int, wants_rows: bool) -> None:
        super().__init__(target)
        self._keep_raw = keep_raw
        self._shard_bytes = shard_bytes
        self._buckets = buckets
        self._wants_rows = wants_rows
        compared = [step for step in steps_with(target.optional) if step in COMPARISONS]
        self._counters = {stage: StepCounters(stage) for stage in compared}  # their verdicts take effect here

    def process(self, bucket: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        kind, number = _kind_in(bucket[0])
        rows, refused = apply_verdicts(map(unpack, bucket[1]))
        yield from self._chunks(kind, int(number), rows)
        if self._wants_rows and kind != "label_sets":
            for row in rows:
                yield beam.pvalue.TaggedOutput(self.ROWS, row)
        if kind == "examples":
            examples = [row for row in rows if isinstance(row, Example)]
            yield from self._chunks("triplets", int(number), [to_triplet(example) for example in examples])
            for name, count in self._count(len(examples), refused).items():
                yield beam.pvalue.TaggedOutput(self.COUNTS, (name, count))
            for reject in refused:
                yield beam.pvalue.TaggedOutput(
                    self.REFUSED, (_key_of("rejects", reject.id, self._buckets), pack(reject))
                )

    def _chunks(self, kind: DatasetKind, bucket: int, rows: Sequence[Any]) -> Iterator[_Chunk]:
        if not rows:
            return
        schema = schema_of(kind, keep_raw=self._keep_raw)
        content = to_parquet(rows, schema)
        slices = min(len(rows), math.ceil(len(content) / self._shard_bytes))
        for index in range(slices):
            part = rows[len(rows) * index // slices : len(rows) * (index + 1) // slices]
            packed = content if slices == 1 else to_parquet(part, schema)
            yield _Chunk(kind=kind, place=(bucket, index), rows=len(part), content=packed)

    def _count(self, kept: int, refused: Sequence[Reject]) -> Mapping[str, int]:
        counts = collections.Counter(f"{reject.stage}/rejected.{reject.reason}" for reject in refused)
        left = kept + len(refused)
        for stage, counters in self._counters.items():
            counters.add("in", left)
            of_stage = [reject for reject in refused if reject.stage == stage]
            for reject in of_stage:
                counters.outcome(reject)
            left -= len(of_stage)
            counters.add("kept", left)
        return counts


def _size_of(chunk: _Chunk) -> _KindAndSize:
    return chunk.kind, (chunk.place, len(chunk.content))


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
        self._files: dict[DatasetKind, dict[tuple[int, int], str]] = {}

    def start_bundle(self) -> None:
        self._files = {}

    def process(self, chunk: _Chunk, sizes: list[_KindAndSize]) -> Iterator[tuple[str, _Chunk]]:
        if chunk.kind not in self._files:
            of_kind = [size for kind, size in sizes if kind == chunk.kind]
            self._files[chunk.kind] = file_of_each(of_kind, self._shard_bytes)
        yield f"{chunk.kind}/{self._files[chunk.kind][chunk.place]}", chunk


class _EmptyFile(beam.DoFn):
    """Asks for one file where there are no rows of a kind: it holds the schema."""

    def process(self, kind: DatasetKind, sizes: list[_KindAndSize]) -> Iterator[tuple[str, None]]:
        if all(kind != other for other, _ in sizes):
            yield f"{kind}/00000-of-00001", None


class _WriteFile(_RenewsLease):
    def __init__(self, target: Target, keep_raw: bool) -> None:
        super().__init__(target)
        self._keep_raw = keep_raw

    def process(self, file: tuple[str, Iterable[_Chunk | None]]) -> Iterator[StagedFile]:
        kind, number = _kind_in(file[0])
        chunks = sorted((chunk for chunk in file[1] if chunk is not None), key=lambda chunk: chunk.place)
        content = join_parquet([chunk.content for chunk in chunks], schema_of(kind, keep_raw=self._keep_raw))
        name = f"part-{number}-{content_digest(content)}.parquet"
        write_file(join(self._target.staging, kind, name), content)
        yield StagedFile(kind=kind, name=name, rows=sum(chunk.rows for chunk in chunks), bytes=len(content))


@dataclasses.dataclass(eq=False)
class _WriteFiles(beam.PTransform):
    """Writes chunks to files of their kind, of about `shard_bytes`, in the run's staging folder, neighbours together.
    All kinds go through the same few steps, for a step costs more than a small run's rows."""

    kinds: Sequence[DatasetKind]
    target: Target
    keep_raw: bool
    shard_bytes: int

    def expand(self, chunks: Any) -> Any:
        sizes = beam.pvalue.AsList(chunks | "SizeOf" >> beam.Map(_size_of))
        keyed = tuple[str, Any]
        assign = beam.ParDo(_AssignFile(self.shard_bytes), sizes).with_output_types(keyed)
        assigned = chunks | "AssignFile" >> assign
        create_empty = beam.ParDo(_EmptyFile(), sizes).with_output_types(keyed)
        kinds = chunks.pipeline | "Kinds" >> beam.Create(self.kinds, reshuffle=False)
        empty = kinds | "EmptyFile" >> create_empty
        return (
            (assigned, empty)
            | "Together" >> beam.Flatten()
            | "GroupByFile" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteFile(self.target, self.keep_raw)).with_output_types(StagedFile)
        )


class _Publish(_RenewsLease):
    def process(
        self,
        _: bytes,
        files: Iterable[StagedFile],
        counts: Mapping[str, int],
        compared: Mapping[str, int],
        figures: Mapping[str, Any] | None,
    ) -> Iterator[dict[str, Any]]:
        entry = publish(self._target, files, {**counts, **compared}, figures)
        if self._target.job_lease is not None and ACCEPTED not in entry:  # else another job follows
            lease.release(self._target.job_lease)
            examples = entry["counts"].get("examples", 0)
            _LOG.info("%s refresh=%s: %d examples in %s", SAYS, self._target.refresh, examples, self._target.output)
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
      describe: what makes the figures of `statistics.json` of the rows as they are written, a `PTransform` such as
        `DescribeRows`; None: there are none.
    """

    target: Target
    keep_raw: bool = False
    shard_bytes: int = SHARD_BYTES
    expected_rows: int = BUCKET_ROWS
    describe: beam.PTransform | None = None

    def expand(self, streams: Mapping[str, Any]) -> Any:
        buckets = max(1, math.ceil(self.expected_rows / BUCKET_ROWS))

        def assigned(kind: DatasetKind, stream: str) -> Any:
            assign = beam.ParDo(_AssignBucket(kind, buckets)).with_output_types(tuple[str, bytes])
            return streams[stream] | f"Assign{kind.title()}From{stream.title()}" >> assign

        wants_rows = self.describe is not None

        def packed(name: str, rows: Sequence[Any]) -> Any:
            do = beam.ParDo(_Pack(self.target, self.keep_raw, self.shard_bytes, buckets, wants_rows))
            return (
                rows
                | f"All{name}" >> beam.Flatten()
                | f"Group{name}" >> beam.GroupByKey()
                | f"Pack{name}" >> do.with_outputs(_Pack.ROWS, _Pack.REFUSED, _Pack.COUNTS, main="chunks")
            )

        own: list[DatasetKind] = ["tasks", "label_sets"] if "label_sets" in streams else ["tasks"]
        rows = [assigned(kind, kind) for kind in ("examples", *own)]
        if "verdicts" in streams:
            rows.append(assigned("examples", "verdicts"))
        kept = packed("Rows", rows)
        kept.refused.element_type = typehints.KV[str, bytes]
        kept.counts.element_type = typehints.KV[str, int]
        rejects = packed("Rejects", [assigned("rejects", "examples"), kept.refused])
        kinds: list[DatasetKind] = ["examples", "triplets", "rejects", *own]
        write = _WriteFiles(kinds, self.target, self.keep_raw, self.shard_bytes)
        files = (kept.chunks, rejects.chunks) | "AllChunks" >> beam.Flatten() | "WriteFiles" >> write
        figures: Any = None
        if self.describe is not None:
            described = {"kept": kept.rows, "rejects": rejects.rows} | "Describe" >> self.describe
            figures = beam.pvalue.AsSingleton(described, default_value=None)
        return (
            streams["counts"].pipeline
            | "Once" >> beam.Impulse()
            | "Publish"
            >> beam.ParDo(
                _Publish(self.target),
                beam.pvalue.AsList(files),
                beam.pvalue.AsDict(streams["counts"]),
                beam.pvalue.AsDict(kept.counts | "SumCompared" >> beam.CombinePerKey(sum)),
                figures,
            )
        )
