"""WriteDataset: examples, tasks and rejects -> the dataset folder, all of a label at once or not at all.

    OUTPUT/{examples,tasks,rejects}/refresh=LABEL/part-00000-of-00001-DIGEST.parquet   OUTPUT/manifest.json

Files are first written under `OUTPUT/_staging`, where readers do not look (a leading underscore is skipped by
pyarrow, Spark and Hive). When every count adds up, the last element of the graph publishes them: it puts the new files
in the label's place and takes the old ones away, touching no other label. Until then a run that fails or is killed has
changed nothing. Names hold a digest of the content, so a bundle that an engine retries writes the same file again, and
old and new files of a label never collide.

On a local disk each of the folders is exchanged in one atomic step; where a link or a mount puts one on another disk,
the new files are first copied beside it. What is to be exchanged is written down
before the first, and a run that is killed between them is completed by the next one (`finish_publishing`). Object
stores have no such step: there the new files are written, then the manifest, which lists the files that count, then the
old files are deleted. Two labels that publish at the same moment change one manifest; on gs:// neither loses its entry.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import hashlib
import json
import logging
import math
import operator
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam import typehints
from textmint.transforms.core.elements import Example, Kind, LabelSet, Reject, Relabel, Task, Verdict
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.packing import pack, unpack
from textmint.transforms.core.texts import clean_text
from textmint.transforms.dataset.accounting import JUDGES, STEPS, as_sent, discrepancies, named, step_table
from textmint.transforms.dataset.card import CARD, COUNTED, DIGEST, Statistics, dataset_card, is_ours
from textmint.transforms.dataset.published_files import UNREADABLE, open_published
from textmint.transforms.dataset.schema import (
    KINDS,
    DatasetKind,
    content_digest,
    join_parquet,
    kind_of,
    schema_of,
    sort_key,
    to_parquet,
)
from textmint.transforms.dataset.triplets import TRIPLETS, to_triplet
from textmint.transforms.ledger.files import files_set_aside
from textmint.transforms.ledger.table import FOLDER, Paid, shard_of
from textmint.transforms.storage import lease
from textmint.transforms.storage.files import (
    delete_files,
    is_local,
    join,
    list_below,
    list_files,
    list_folders,
    move_files,
    open_file,
    read_file,
    update_file,
    write_file,
)

Row = Example | Task | Reject
SHARD_BYTES: Final = 128 << 20
BUCKET_ROWS: Final = 2_000  # about 4 MB: what a worker holds in memory at once to sort it
STAGING: Final = "_staging"
MANIFEST: Final = "manifest.json"
_PLAN: Final = "publish.json"
_LOG = logging.getLogger("textmint")
_HIVE: Final = "refresh="
EXAMPLES: Final = "Examples"
"""Under what name the counts hold how many examples have which attributes."""
_SAMPLES: Final = 50  # rows that the card picks two of
_ROW_BYTES: Final = 300  # of a published file, compressed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file that is written but not yet published."""

    kind: DatasetKind
    name: str
    rows: int
    bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a run publishes, and what it says of itself.

    Args:
      output: the dataset folder, an absolute path or URL.
      refresh: the label.
      run_id: names the staging folder; no row depends on it.
      task_requests: brainstorm prompts sent; None where tasks came from files.
      examples_per_task: drafts made of each task.
      optional: which of `accounting.OPTIONAL` the graph has.
      example_kind: what the prompts of examples ask for.
      paid: how many replies the ledger held that runs of the label had paid for, by kind.
      description: what else the manifest holds of this run: options, versions, when it was started.
      held_by_job: whether the lease of the label is renewed by the workers and given back by whoever publishes;
        otherwise the launcher does that.
      replace: whether the run may have fewer examples than the label.
    """

    output: str
    refresh: str
    run_id: str
    task_requests: int | None
    examples_per_task: int
    description: Mapping[str, Any]
    optional: tuple[str, ...] = ()
    held_by_job: bool = False
    example_kind: Kind = "example"
    paid: Mapping[str, int] = dataclasses.field(default_factory=dict)
    replace: bool = False

    @property
    def job_lease(self) -> lease.JobLease | None:
        """-> the lease of the label, where the job holds it."""
        return lease.JobLease(output=self.output, name=self.label, owner=self.run_id) if self.held_by_job else None

    @property
    def label(self) -> str:
        """-> the folder name of the label, in Hive's form."""
        return f"{_HIVE}{self.refresh}"

    @property
    def staging(self) -> str:
        """-> the folder that the run writes to before it publishes."""
        return str(join(self.output, STAGING, self.label, self.run_id))


# --- rows to files


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """A range of ids, sorted and compressed: about a tenth of its rows' size, so that it can be moved about."""

    place: tuple[int, int]  # bucket, and slice of the bucket
    rows: int
    content: bytes  # a Parquet file


_Size = tuple[tuple[int, int], int]  # a chunk's place and bytes


class _OfRun(beam.DoFn):
    """A step of a run, in whose worker processes a lease that the job holds is renewed."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def setup(self) -> None:
        if self._target.job_lease is not None:
            lease.keep(self._target.job_lease)


class _AssignBucket(beam.DoFn):
    """The rows of one kind, or the verdicts on them, by bucket. Buckets split the ids evenly and in order: ids are
    hashes, so their first bits place them."""

    def __init__(self, kind: DatasetKind, buckets: int) -> None:
        self._kind = kind
        self._buckets = buckets

    def process(self, row: Row | Verdict | Relabel) -> Iterator[tuple[str, bytes]]:
        if isinstance(row, (Verdict, Relabel)) or kind_of(row) == self._kind:
            yield _bucket_of(row.task_id if isinstance(row, (Task, LabelSet)) else row.id, self._buckets), pack(row)


def _bucket_of(row_id: str, buckets: int) -> str:
    return f"{shard_of(row_id, buckets):05d}"


def apply_verdicts(elements: Iterable[Row | Verdict | Relabel]) -> tuple[list[Row], list[Reject]]:
    """Rows, and what steps that compare them say of some -> the rows that are kept, their labels in the spelling that
    their task agrees on, and a reject for each other; both sorted.

    Where several steps refuse an example, the first of them in the order of the graph speaks for all, or the smallest
    reason and detail of one step.
    """
    rows: list[Row] = []
    verdicts: dict[str, Verdict] = {}
    relabels: dict[str, Relabel] = {}
    for element in elements:
        if isinstance(element, Verdict):
            known = verdicts.setdefault(element.id, element)
            verdicts[element.id] = min(known, element, key=_precedence)
        elif isinstance(element, Relabel):
            relabels[element.id] = element
        else:
            rows.append(element)
    rows.sort(key=sort_key)
    if not verdicts and not relabels:
        return rows, []
    kept: list[Row] = []
    refused: list[Reject] = []
    for row in rows:
        if isinstance(row, Example) and row.id in relabels:
            new = relabels[row.id]
            row = dataclasses.replace(row, label=new.label, misleading_label=new.misleading_label)
        verdict = verdicts.get(row.id) if isinstance(row, Example) else None
        if isinstance(row, Example) and verdict is not None:
            told = {"stage": verdict.stage, "reason": verdict.reason, "detail": verdict.detail}
            refused.append(Reject.of_example(row, can_retry=False, **told))
        else:
            kept.append(row)
    return kept, refused


def _precedence(verdict: Verdict) -> tuple[int, str, str, str]:
    place = STEPS.index(verdict.stage) if verdict.stage in STEPS else len(STEPS)
    return place, verdict.stage, verdict.reason, verdict.detail


class _Pack(_OfRun):
    """A bucket -> chunks of at most about `shard_bytes`. Of examples there also come their triplets, in the output
    `TRIPLETS`; those that a verdict refuses, by bucket, in the output `REFUSED`; and in the output `COUNTS` how many
    were refused, and how many of those kept have which attributes."""

    TRIPLETS = "triplets"
    REFUSED = "refused"
    COUNTS = "counts"

    def __init__(self, target: Target, kind: DatasetKind, schema: pa.Schema, shard_bytes: int, buckets: int) -> None:
        super().__init__(target)
        self._kind = kind
        self._schema = schema
        self._shard_bytes = shard_bytes
        self._buckets = buckets
        self._counters = {stage: StepCounters(stage) for stage in JUDGES}  # their verdicts take effect here

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
            yield _Chunk(
                place=(int(bucket), index),
                rows=len(part),
                content=content if slices == 1 else to_parquet(part, schema),
            )

    def _count(self, examples: Sequence[Example], refused: Sequence[Reject]) -> Mapping[str, int]:
        counts: collections.Counter[str] = collections.Counter()
        counts.update(f"{reject.stage}/rejected.{reject.reason}" for reject in refused)
        for column in COUNTED:
            values = map(operator.attrgetter(column), examples)
            for value, count in collections.Counter(values).items():
                counts[f"{EXAMPLES}/{column}.{value}"] = count
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
    """The chunks' places and bytes, in any order -> the file of each, `00000-of-00003`: neighbours together, as many
    files as the bytes ask for."""
    ordered = sorted(sizes)
    files = math.ceil(sum(size for _, size in ordered) / shard_bytes)
    total = sum(size for _, size in ordered)
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
        self._files: dict[tuple[int, int], str] | None = None

    def start_bundle(self) -> None:
        self._files = None

    def process(self, chunk: _Chunk, sizes: list[_Size]) -> Iterator[tuple[str, _Chunk]]:
        if self._files is None:
            self._files = file_of_each(sizes, self._shard_bytes)
        yield self._files[chunk.place], chunk


class _EmptyFile(beam.DoFn):
    """Without rows there is one file still, for its schema."""

    def process(self, _: bytes, sizes: list[_Size]) -> Iterator[tuple[str, None]]:
        if not sizes:
            yield "00000-of-00001", None


class _WriteFile(_OfRun):
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
    """Chunks -> StagedFile: files of about `shard_bytes` in the run's staging folder, neighbours together."""

    kind: DatasetKind
    target: Target
    schema: pa.Schema
    shard_bytes: int

    def expand(self, chunks: Any) -> Any:
        sizes = beam.pvalue.AsList(chunks | "SizeOf" >> beam.Map(_size_of))
        assigned = chunks | "AssignFile" >> beam.ParDo(_AssignFile(self.shard_bytes), sizes).with_output_types(
            tuple[str, Any]
        )
        empty = (
            chunks.pipeline
            | "Once" >> beam.Impulse()
            | "EmptyFile" >> beam.ParDo(_EmptyFile(), sizes).with_output_types(tuple[str, Any])
        )
        return (
            (assigned, empty)
            | "Together" >> beam.Flatten()
            | "GroupByFile" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteFile(self.kind, self.target, self.schema)).with_output_types(StagedFile)
        )


# --- publishing


def publish(target: Target, files: Iterable[StagedFile], counts: Mapping[str, int]) -> dict[str, Any]:
    """The staged files of a run and what was counted on the way -> the run's entry in the manifest, after its files
    have taken the label's place. Doing it again changes nothing.

    Raises:
      RunFailed: the counts do not add up, no example was kept, or fewer than the label has; then it keeps the data
        that it had. (Where it had none, a run without examples publishes its rejects, so that they can be looked at.)
    """
    by_kind: dict[str, list[StagedFile]] = {kind: [] for kind in KINDS}
    for file in files:
        by_kind[file.kind].append(file)
    rows = {kind: sum(file.rows for file in staged) for kind, staged in by_kind.items()}
    table = step_table(
        counts,
        task_requests=target.task_requests,
        examples_per_task=target.examples_per_task,
        optional=target.optional,
    )
    problems = discrepancies(table, rows)
    if problems:
        raise RunFailed(
            f"the counts do not add up, so nothing was published: {'; '.join(problems)}. "
            f"What was written is in {target.staging}"
        )
    there = published_examples(target.output, target.refresh)
    if not rows["examples"] and there:
        raise RunFailed(f"{_no_examples(table)} The label keeps the data it had; the rejects are in {target.staging}")
    if rows["examples"] < there and not target.replace:
        _refuse_fewer(target, by_kind, there)
    entry: dict[str, Any] = {
        **target.description,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "backend": as_sent(target.description.get("backend", {}), table, _backends(target.output)),
        "counts": {kind: rows[kind] for kind in reversed(KINDS) if by_kind[kind]},
        "steps": table,
        "statistics": Statistics.of_counts(named(counts, f"{EXAMPLES}/")).to_json(),
        "ledger": {"replies": _paid_after(target, table), "set_aside": files_set_aside(join(target.output, FOLDER))},
        "files": {
            kind: [
                {"path": f"{kind}/{target.label}/{file.name}", "rows": file.rows, "bytes": file.bytes}
                for file in sorted(by_kind[kind], key=lambda file: file.name)
            ]
            for kind in reversed(KINDS)
            if by_kind[kind]
        },
    }
    entry[DIGEST] = _digest_of(target.refresh, entry)
    _manifest_of({target.refresh: entry})  # what cannot be written down is found before any folder is exchanged
    _require_lease(target)
    if is_local(target.output):
        _publish_local(target, by_kind, entry)
    else:
        _publish_remote(target, by_kind, entry)
    if not rows["examples"]:
        raise RunFailed(f"{_no_examples(table)} The rejects are in {join(target.output, 'rejects')}")
    return entry


def _backends(output: str) -> Iterator[Mapping[str, Any]]:
    for entry in _refreshes(output).values():
        if isinstance(entry.get("backend"), Mapping):
            yield entry["backend"]


def _paid_after(target: Target, table: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """-> how many replies the ledger holds now, at least, that runs of the label paid for, by kind."""
    kinds: dict[str, Kind] = {
        "TaskGenerate": "task_list",
        "PlanLabels": "label_set",
        "LLMCall": target.example_kind,
        "VerifyLabels": "choice",
    }
    paid = collections.Counter(target.paid)
    for step, line in table.items():
        if "requests" in line:
            asked = int(line["requests"]["sent"]) - int(line["requests"]["retries"])
            paid[kinds[step]] += max(0, asked - int(line["rejected"].get("request_failed", 0)))
    return {kind: count for kind, count in sorted(paid.items()) if count}


def replies_told(output: str) -> Paid:
    """Reads from the manifest of a dataset folder how many replies its ledger holds at least, by label and kind.

    Raises:
      OSError: the manifest cannot be read.
      ValueError: it is none of ours, or damaged.
    """
    path = join(output, MANIFEST)
    try:
        refreshes = read_manifest(output)["refreshes"]
        if not isinstance(refreshes, dict):
            raise TypeError
    except OSError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{path} is damaged, or not Textmint's; bring it back from where you have a copy, or take it away"
        ) from None
    for label, entry in refreshes.items():
        if not _is_as_written(label, entry):
            raise ValueError(
                f"{path}: its entry of refresh={label} is damaged, or was edited; bring it back from where you have a "
                f'copy or, if it is right as it is, delete its "{DIGEST}"'
            )
    return _replies_told(_entries_of(json.dumps({"refreshes": refreshes}).encode()))


def _replies_told(refreshes: Mapping[str, Any]) -> Paid:
    told: Paid = collections.Counter()
    for label, entry in refreshes.items():
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):  # mended by hand
            told.update({(label, str(kind)): int(count) for kind, count in entry["ledger"]["replies"].items()})
    return told


def lower_replies_told(output: str, there: Paid, left_out: Paid | None = None) -> None:
    """Has the manifest tell of no more replies than there are.

    Args:
      output: the dataset folder.
      there: how many replies its ledger holds, by label and kind.
      left_out: of so many it held another copy, which is gone; None: all that are missing are given up.

    Raises:
      OSError: the manifest cannot be read or written.
    """

    def lowered(old: bytes | None) -> bytes:
        refreshes = _entries_of(old or b"")
        whole = [label for label, entry in refreshes.items() if DIGEST in entry and _is_as_written(label, entry)]
        for (label, kind), count in _replies_told(refreshes).items():
            least = there[label, kind] if left_out is None else max(there[label, kind], count - left_out[label, kind])
            refreshes[label]["ledger"]["replies"][kind] = min(count, least)
        for label in whole:
            refreshes[label][DIGEST] = _digest_of(label, refreshes[label])
        return _manifest_of(refreshes)

    if _replies_told(_refreshes(output)):
        with _manifest_locked(output) if is_local(output) else contextlib.nullcontext():
            update_file(join(output, MANIFEST), lowered)


def published_examples(output: str, refresh: str) -> int:
    """Counts the examples that a label has, by its files and not by what the manifest says of them. One that cannot be
    read is none: the next run of the label mends it.

    Raises:
      OSError: the folder cannot be listed.
    """
    there = 0
    for path, label, _ in published_files(output, "examples"):
        if label == refresh:
            with contextlib.suppress(*UNREADABLE):
                if is_local(path):
                    there += open_published(path).metadata.num_rows
                else:  # its end must do, for the rest would be a download
                    with open_file(path) as file:
                        there += pq.ParquetFile(file).metadata.num_rows
    return there


_ELSEWHERE: Final = r"^refresh=\S+ has this task$|of refresh=\S+$"
"""The detail of a reject that another refresh has; see `flatten.first_of`, `find_duplicates` and `judging.describe`."""


def _refuse_fewer(target: Target, by_kind: Mapping[str, list[StagedFile]], there: int) -> None:
    """Raises RunFailed, unless whatever the label would lose stands in another one: that is no loss of the dataset."""

    def staged(kind: DatasetKind, *columns: str) -> pa.Table:
        return _columns_of([join(target.staging, kind, file.name) for file in by_kind[kind]], columns)

    published = published_files(target.output, "examples")
    new = staged("examples", "id")["id"]
    rejects = staged("rejects", "id", "task_id", "detail")
    rejects = rejects.filter(pc.match_substring_regex(rejects["detail"], _ELSEWHERE))
    gone = _columns_of([path for path, label, _ in published if label == target.refresh], ("id", "task_id"))
    gone = _without(gone, "id", new)
    missing = gone.num_rows
    gone = _without(_without(gone, "id", rejects["id"]), "task_id", rejects["task_id"].drop_null())
    for path, label, _ in published:
        if label != target.refresh and gone.num_rows:
            gone = _without(gone, "id", _columns_of([path], ("id",))["id"])
    if there - len(new) > missing - gone.num_rows:
        raise RunFailed(
            f"refresh={target.refresh} has {there:,} examples, and this run has {len(new):,}: {gone.num_rows:,} would "
            "go, so nothing was published, and the label keeps the data it had. If they may go, run the same command "
            f"again with --replace, which pays for nothing twice; what this run wrote is in {target.staging}"
        )


def _without(table: pa.Table, column: str, values: pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table[column], value_set=values)))


def _columns_of(paths: Iterable[str], columns: Sequence[str]) -> pa.Table:
    """Some columns of Parquet files; a file that cannot be read has no rows."""
    tables = [pa.table({name: pa.array([], pa.string()) for name in columns})]
    for path in paths:
        with contextlib.suppress(*UNREADABLE):
            table = open_published(path).read(columns=list(columns))
            tables.append(pa.table({name: table[name].cast(pa.string()) for name in columns}))
    return pa.concat_tables(tables)


def _no_examples(table: Mapping[str, Mapping[str, Any]]) -> str:
    reasons: collections.Counter[str] = collections.Counter()
    for step, line in table.items():
        for reason, count in line["rejected"].items():
            reasons[f"{step} {reason}"] += count
    told = {name: count for name, count in reasons.items() if not name.endswith(" over_max_tasks")}
    reasons = collections.Counter(told) or reasons  # what was left out as it was asked for is no reason beside others
    listed = (
        ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4)) or "there were no rejects either"
    )
    return f"not one example was kept ({listed}): {_remedy(reasons)}."


_SEEN: Final = frozenset(("duplicate", "near_duplicate", "contaminated", "over_max_tasks"))
_UNREADABLE: Final = frozenset(
    (
        *("empty", "blocked", "truncated", "not_json", "wrong_shape", "missing_field", "wrong_type", "empty_field"),
        *("too_long", "too_few_labels"),
    )
)


def _remedy(reasons: Mapping[str, int]) -> str:
    """What is to be done where nothing but rejects came, by how many there are of a step and reason."""
    if not reasons:
        return "no task came; give more with --tasks or --task_requests"
    others = [name for name in reasons if name.rpartition(" ")[2] not in _SEEN]
    if not others:
        return "all of it is there already; ask for more examples or tasks, for other tasks, or with another --seed"
    reason = max(others, key=lambda name: reasons[name]).rpartition(" ")[2]
    if reason == "request_failed":
        return "run the same command again when the model answers, which asks for these only"
    if reason in _UNREADABLE:
        return "choose another --model or a larger --max_output_tokens, or ask once more with --retry_rejects"
    return "look at the rejects; then change --checks, the template or the model, or ask once more with --retry_rejects"


def _files_in(folder: str) -> list[str]:
    """A folder -> the full paths of the Parquet files in it; [] where there is none."""
    return [file.path for file in list_files(folder, "*.parquet")]


def _publish_local(target: Target, by_kind: Mapping[str, list[StagedFile]], entry: Mapping[str, Any]) -> None:
    plan = Path(target.staging, _PLAN)
    names: dict[str, list[str]] = {kind: [file.name for file in by_kind[kind]] for kind in KINDS}
    write_file(str(plan), json.dumps({"refresh": target.refresh, "names": names, "entry": entry}).encode())
    _exchange_all(target, names, entry)


def finish_publishing(output: str, *, held: str = "") -> None:
    """Completes what a run that was killed had begun to publish. Nothing happens in a folder on an object store, whose
    manifest says which files count.

    What cannot be completed is told, and stops no run: neither of other labels, nor of its own, which replaces it.

    Args:
      output: the dataset folder.
      held: the label whose lease the caller holds. Another label is left alone where a run of it is under way: that
        one may be publishing at this moment, and two that exchange the same folders would undo each other's work.
    """
    if not is_local(output):
        return
    for plan in sorted(Path(output, STAGING).glob(f"{_HIVE}*/*/{_PLAN}")):
        refresh = plan.parent.parent.name.removeprefix(_HIVE)
        try:
            with contextlib.ExitStack() as stack:
                if refresh != held:
                    stack.enter_context(lease.hold(output, f"{_HIVE}{refresh}", f"completing-{os.getpid()}"))
                _finish(output, refresh, plan)
        except lease.LeaseTakenError:
            continue
        except OSError as error:  # a full disk, a missing permission: the next run tries again
            _LOG.warning("refresh=%s was left half published, and cannot be completed now: %s", refresh, error)
        except Exception as error:
            aside = plan.with_suffix(".set_aside")
            _LOG.warning(
                "refresh=%s was left half published and cannot be completed (%s: %s): run that label again. "
                "Its plan is kept in %s",
                *(refresh, type(error).__name__, error, aside),
            )
            with contextlib.suppress(OSError):
                plan.replace(aside)


def _finish(output: str, refresh: str, plan: Path) -> None:
    target = Target(
        output=output, refresh=refresh, run_id=plan.parent.name, task_requests=None, examples_per_task=1, description={}
    )
    try:
        if not stat.S_ISREG(os.lstat(plan).st_mode):
            raise ValueError("no regular file")
        begun = json.loads(plan.read_text(encoding="utf-8"))
        told = {"label_sets": [], **begun["names"]}  # of a run with planned labels only
        names: dict[str, list[str]] = {kind: [str(name) for name in told[kind]] for kind in KINDS}
        entry = dict(begun["entry"])
        if not _is_as_written(refresh, entry):
            raise ValueError("it is damaged")
    except FileNotFoundError:
        return  # its own run has come to its end meanwhile
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        _LOG.warning("%s is left alone: it is no plan of what is to be published (%s)", plan, reason)
        return
    if all(_is_there(target, kind, names[kind]) for kind in KINDS):
        _exchange_all(target, names, entry)


def _is_there(target: Target, kind: str, names: Iterable[str]) -> bool:
    """Are the files of a dataset in their place, or ready to be put there? Where somebody has tidied up since, there is
    nothing to complete."""
    staged = {Path(path).name for path in _files_in(join(target.staging, kind))}
    return set(names) <= staged or _holds(join(target.output, kind, target.label), set(names))


def _holds(folder: str, names: Set[str]) -> bool:
    """Are just these files in a folder on a local disk, each with the content that its name tells?"""
    found = list_files(folder, "*.parquet")
    return {file.name for file in found} == names and all(
        file.name.endswith(f"-{content_digest(read_file(file.path))}.parquet") for file in found
    )


def _exchange_all(target: Target, names: Mapping[str, Iterable[str]], entry: Mapping[str, Any]) -> None:
    """Puts every folder in its place that is not yet there, then the manifest, then clears up. All that can fail for
    want of space or permission comes before the first exchange."""
    ready: dict[str, Path] = {}
    copies: list[Path] = []
    for kind in KINDS:
        staged, final = Path(target.staging, kind), Path(target.output, kind, target.label)
        wanted = set(names[kind])
        if not wanted or _holds(str(final), wanted):
            continue  # the same content is there already, of an earlier run or an earlier try at this bundle
        for left_over in set(staged.iterdir()) - {staged / name for name in wanted}:
            left_over.unlink()
        final.parent.mkdir(parents=True, exist_ok=True)
        ready[kind] = staged
        if not _can_move(staged, final.parent):
            ready[kind] = final.with_name(f"_{final.name}-{target.run_id}")  # which readers skip
            copies.append(ready[kind])
            shutil.rmtree(ready[kind], ignore_errors=True)  # half a copy, of a run that was killed
            shutil.copytree(staged, ready[kind])
    for kind in KINDS:
        final = Path(target.output, kind, target.label)
        if not names[kind]:  # of a run of another kind
            shutil.rmtree(final, ignore_errors=True)
        elif kind in ready and final.exists():
            _exchange(ready[kind], final)
        elif kind in ready:
            ready[kind].rename(final)
    with _manifest_locked(target.output):
        manifest = Path(target.output, MANIFEST)
        old = manifest.read_bytes() if manifest.exists() else None
        write_file(str(manifest), _manifest_with(target, entry, old), durable=True)
        _write_card(target)
    for folder in (*copies, Path(target.output, STAGING, target.label)):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # another label is being written at this moment
        Path(target.output, STAGING).rmdir()


def _can_move(folder: Path, to: Path) -> bool:
    """Tells whether what is in a folder can be moved to another. It cannot where a link or a mount leads to another
    disk; a file is moved to see, since two mounts of one disk look like one."""
    probe = folder / f".move-test-{os.getpid()}"
    probe.touch()
    moved = to / probe.name
    try:
        probe.rename(moved)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)
    moved.unlink()
    return True


def _write_card(target: Target) -> None:
    """Writes the dataset card, unless somebody has made it their own. What is published is published: a card that
    cannot be made, for the sake of an entry that somebody mended by hand, is told and no more."""
    path = join(target.output, CARD)
    if is_local(path) and os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        return  # a link, such as somebody makes to a page of their own
    try:
        update_file(path, lambda old: _card_after(target, old))
    except _Keep:
        pass
    except (KeyError, TypeError, ValueError, AttributeError, OSError, pa.ArrowException) as error:
        _LOG.warning("%s was not written: %s", path, error)


class _Keep(OSError):
    """A card that is not ours is left as it is. (An OSError, since `update_file` makes one of any other error.)"""


def _card_after(target: Target, old: bytes | None) -> bytes:
    """The card that is there -> the one that takes its place, of what the manifest says after that was read: so the
    last of two labels that publish at the same moment tells of both."""
    if old is not None and not is_ours(old.decode("utf-8", "replace")):
        raise _Keep
    refreshes = _refreshes(target.output)
    license_ = str(refreshes[target.refresh].get("options", {}).get("license") or "unknown")
    return dataset_card({"refreshes": refreshes}, _samples(target.output, refreshes), license=license_).encode()


def _samples(output: str, refreshes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """-> the first rows of the first examples that there are."""
    for label in sorted(refreshes):
        for file in refreshes[label]["files"].get("examples", ()):
            if file["rows"]:
                with open_file(join(output, file["path"])) as opened:
                    rows: list[dict[str, Any]] = next(
                        pq.ParquetFile(opened).iter_batches(batch_size=_SAMPLES)
                    ).to_pylist()
                return rows
    return []


@contextlib.contextmanager
def _manifest_locked(output: str) -> Iterator[None]:
    """While its `with` block runs, no other label changes the manifest of a local folder."""
    folder = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _publish_remote(target: Target, by_kind: Mapping[str, list[StagedFile]], entry: Mapping[str, Any]) -> None:
    stale: list[str] = []
    moves: list[tuple[str, str]] = []
    for kind in KINDS:
        final = join(target.output, kind, target.label)
        there = {file.path: file.bytes for file in list_files(final, "*.parquet")}
        wanted = {join(final, file.name): file for file in by_kind[kind]}
        for path, file in wanted.items():
            if there.get(path) != file.bytes:
                moves.append((join(target.staging, kind, file.name), path))
        stale += [path for path in there if path not in wanted]
    move_files(moves)
    _require_lease(target)  # moving files may have taken a while
    update_file(join(target.output, MANIFEST), lambda old: _manifest_with(target, entry, old))
    _write_card(target)
    staged = list_below(join(target.output, STAGING, target.label))
    delete_files(stale + [file.path for file in staged])


def _require_lease(target: Target) -> None:
    try:
        lease.require(target.output, target.label, target.run_id)
    except lease.LeaseTakenError as error:
        raise RunFailed(f"another run of refresh={target.refresh} took this one's place: {error}") from None


def read_manifest(output: str) -> dict[str, Any]:
    """The dataset folder -> its manifest: {"refreshes": {label: what that run said of itself}}; without entries where
    there is none yet.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no JSON, or a key stands twice in it.
    """
    try:
        manifest: dict[str, Any] = json.loads(read_file(join(output, MANIFEST)), object_pairs_hook=_each_key_once)
    except FileNotFoundError:
        return {"refreshes": {}}
    return manifest


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A wrong bit can turn a label into another one, whose entry would then hide it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _digest_of(label: str, entry: Mapping[str, Any]) -> str:
    """A digest of what an entry of the manifest holds, however it is laid out in the file."""
    told = json.loads(clean_text(json.dumps(entry, ensure_ascii=False)))
    told.pop(DIGEST, None)
    return hashlib.blake2b(json.dumps([label, told], sort_keys=True).encode(), digest_size=10).hexdigest()


def _is_as_written(label: str, entry: Any) -> bool:
    """Does an entry hold what its run wrote? One of an earlier version, or of a user's making, has no digest."""
    return not isinstance(entry, dict) or DIGEST not in entry or entry[DIGEST] == _digest_of(label, entry)


def _refreshes(output: str) -> dict[str, Any]:
    """The dataset folder -> the manifest's entries, as `_entries_of` has them."""
    try:
        return _entries_of(read_file(join(output, MANIFEST)))
    except FileNotFoundError:
        return {}


def _entries_of(manifest: bytes) -> dict[str, Any]:
    """The content of a manifest -> its entries; {} where it is not ours, or was cut short by a full disk, and without
    those that somebody has mended into another form: the data is what counts."""
    try:
        refreshes = dict(json.loads(manifest)["refreshes"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {label: entry for label, entry in refreshes.items() if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    try:
        files = [file for listed in entry["files"].values() for file in listed]
        return all(type(file["path"]) is str and type(file["rows"]) is int for file in files)
    except (KeyError, TypeError, AttributeError):
        return False


def published_files(output: str, kind: DatasetKind) -> list[tuple[str, str, int]]:
    """The dataset folder -> (path, label, rows) of each published file of a dataset. On an
    object store the manifest says which files count; rows are a guess where it does not tell them."""
    told: dict[str, int] = {
        file["path"]: file["rows"] for entry in _refreshes(output).values() for file in entry["files"].get(kind, ())
    }
    found = []
    for folder in list_folders(join(output, kind), _HIVE):
        for file in list_files(join(output, kind, folder), "*.parquet"):
            name = f"{kind}/{folder}/{file.name}"
            if not file.name.startswith(("_", ".")) and (name in told or not told or is_local(output)):
                found.append((file.path, folder.removeprefix(_HIVE), told.get(name, file.bytes // _ROW_BYTES)))
    return found


def labels_lacking_files(output: str, found: Iterable[tuple[str, str, int]]) -> set[str]:
    """Says which labels lack a file of tasks or examples that the manifest lists.

    Args:
      output: the dataset folder.
      found: its files of both kinds, as `published_files` gives them.
    """
    there = {path for path, _, _ in found}
    return {
        label
        for label, entry in _refreshes(output).items()
        for kind in ("tasks", "examples")
        for file in entry["files"].get(kind, ())
        if join(output, *file["path"].split("/")) not in there
    }


def examples_asked(output: str) -> dict[str, int]:
    """The dataset folder -> how many examples each refresh asked for of a task, where its entry in the manifest tells
    it."""
    asked = {}
    for label, entry in _refreshes(output).items():
        options = entry.get("options")
        number = options.get("examples_per_task") if isinstance(options, dict) else None
        if type(number) is int and number > 0:
            asked[label] = number
    return asked


def _manifest_with(target: Target, entry: Mapping[str, Any], old: bytes | None) -> bytes:
    return _manifest_of({**_entries_of(old or b""), target.refresh: entry})


def _manifest_of(refreshes: Mapping[str, Any]) -> bytes:
    text = json.dumps({"refreshes": dict(sorted(refreshes.items()))}, indent=2, ensure_ascii=False)
    return f"{clean_text(text)}\n".encode()  # an entry of an earlier version may hold what is no UTF-8


_AT_FDCWD_LINUX: Final = -100  # linux/fcntl.h
_RENAME_EXCHANGE: Final = 2  # linux/fs.h; renameat2(2)
_RENAME_SWAP: Final = 2  # sys/stdio.h of macOS; renamex_np(2)


def _exchange(new: Path, old: Path) -> None:
    """Two folders of one file system -> each under the other's name. Atomic where the system can (Linux's renameat2,
    macOS's renamex_np); elsewhere two renames, between which the label is absent for an instant."""
    source, destination = os.fsencode(new), os.fsencode(old)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = libc.renamex_np(source, destination, _RENAME_SWAP)
        else:
            failed = libc.renameat2(_AT_FDCWD_LINUX, source, _AT_FDCWD_LINUX, destination, _RENAME_EXCHANGE)
    except (AttributeError, OSError):  # a C library without it
        failed = -1
    if failed:
        aside = new.with_name(f"{new.name}-old")
        old.rename(aside)
        new.rename(old)


class _Publish(_OfRun):
    def process(
        self, _: bytes, files: Iterable[StagedFile], counts: Mapping[str, int], judged: Mapping[str, int]
    ) -> Iterator[dict[str, Any]]:
        entry = publish(self._target, files, {**counts, **judged})
        if self._target.job_lease is not None:
            lease.release(self._target.job_lease)
        yield entry


@dataclasses.dataclass(eq=False)
class WriteDataset(beam.PTransform):
    """{"examples": Example or Reject, "verdicts": Verdict or Relabel, "tasks": Task or Reject, "label_sets": LabelSet
    or Reject, "counts": (name, count)} -> one element, the run's entry in the manifest, once everything is published.

    The rejects written are those of the stream `examples`, to whose end all of them ride along, and the examples that a
    verdict refuses. Rows are shuffled once, and meet the verdicts there; what moves after that is compressed. The
    verdicts and the label sets may be left out.

    Args:
      target: where to, and what the manifest says of the run.
      keep_raw: whether examples have the column `raw_reply`.
      shard_bytes: the size of file to aim at.
      expected_rows: a guess at the number of examples; it decides in how many pieces they are sorted, not what is
        written.
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
                beam.pvalue.AsDict(counts | "SumJudged" >> beam.CombinePerKey(sum)),
            )
        )

    def _schema(self, kind: DatasetKind) -> pa.Schema:
        return schema_of(kind, keep_raw=self.keep_raw)
