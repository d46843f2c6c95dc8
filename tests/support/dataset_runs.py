"""The rows of small runs, and ways to write and publish them, for tests of the dataset folder."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from textmint.transforms.core.elements import Example, Reject, Task, Verdict
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.publish import StagedFile, Target, publish
from textmint.transforms.dataset.schema import KINDS, DatasetKind, Row, content_digest, schema_of, to_parquet
from textmint.transforms.dataset.triplets import to_triplet
from textmint.transforms.dataset.write_dataset import WriteDataset
from textmint.transforms.storage.files import is_local, read_version, write_file

from tests.support.helpers import files_of, make_example, make_reject, make_task, shuffled
from tests.support.mem_store import MemFileSystem


@dataclasses.dataclass(frozen=True)
class Data:
    """The rows of a run, and its counts."""

    tasks: list[Task]
    examples: list[Example]
    rejects: list[Reject]

    @property
    def counts(self) -> dict[str, int]:
        asked = len(self.examples) + len(self.rejects)
        steps = ("TaskGenerate/kept", "Flatten/in", "Flatten/kept")
        return {
            **dict.fromkeys(steps, len(self.tasks)),
            **dict.fromkeys(("BuildPrompt/kept", "LLMCall/kept"), asked),
            "ParseJSON/kept": len(self.examples),
            "CheckQuality/kept": len(self.examples),
            **collections.Counter(f"ParseJSON/rejected.{reject.reason}" for reject in self.rejects),
        }

    def of(self, kind: str) -> Sequence[Row]:
        if kind == "triplets":
            return [to_triplet(example) for example in self.examples]
        rows: Sequence[Row] = getattr(self, kind)
        return rows


PER_TASK = 3


EVERY_RUN: tuple[DatasetKind, ...] = tuple(kind for kind in KINDS if kind != "label_sets")


def make_data(tasks: int = 4, rejects: int = 2, name: str = "Sort", reason: str = "empty") -> Data:
    """Tasks with three drafts each, of which the last `rejects` are refused."""
    texts = [f"{name} things of kind {n}" for n in range(tasks)]
    places = [(text, replica) for text in texts for replica in range(PER_TASK)]
    kept = len(places) - rejects
    return Data(
        [make_task(text) for text in texts],
        [make_example(*place) for place in places[:kept]],
        [make_reject(*place, reason) for place in places[kept:]],
    )


def make_target(output: Path | str, refresh: str = "base", run_id: str = "run-1") -> Target:
    return Target(
        output=str(output),
        refresh=refresh,
        run_id=run_id,
        task_requests=None,
        examples_per_task=PER_TASK,
        description={"started": "2026-01-01T00:00:00Z"},
    )


def stage(target: Target, data: Data, parts: int = 1) -> list[StagedFile]:
    """Writes the rows where the workers of a run would have written them."""
    staged = []
    for kind in EVERY_RUN:
        for part in range(parts):
            rows = data.of(kind)[part::parts]
            content = to_parquet(rows, schema_of(kind))
            name = f"part-{part:05d}-of-{parts:05d}-{content_digest(content)}.parquet"
            write_file(f"{target.staging}/{kind}/{name}", content)
            staged.append(StagedFile(kind=kind, name=name, rows=len(rows), bytes=len(content)))
    return staged


def publish_data(target: Target, data: Data, parts: int = 1, figures: dict[str, Any] | None = None) -> dict[str, Any]:
    return publish(target, stage(target, data, parts), data.counts, figures)


def graph(
    target: Target,
    data: Data,
    *,
    verdicts: Sequence[Verdict] | None = None,
    order: str = "",
    shard_bytes: int = 1 << 27,
    keep_raw: bool = False,
    expected_rows: int = 2_000,
    describe: beam.PTransform | None = None,
) -> Any:
    """The step with its streams, as a function that puts it on a pipeline."""

    def build(pipeline: beam.Pipeline) -> Any:
        streams: dict[str, Sequence[Any]] = {
            "examples": shuffled([*data.examples, *data.rejects], order),
            "tasks": shuffled([*data.tasks, *data.rejects], order),  # rejects ride along in every stream
            "counts": sorted(data.counts.items()),
            **({} if verdicts is None else {"verdicts": shuffled(verdicts, order)}),
        }
        created = {name: pipeline | name >> beam.Create(elements) for name, elements in streams.items()}
        return created | WriteDataset(target, keep_raw, shard_bytes, expected_rows, describe)

    return build


def expected_files(entry: dict[str, Any]) -> set[str]:
    return {file["path"] for files in entry["files"].values() for file in files}


OLD, NEW = make_data(), make_data(tasks=6, rejects=5, name="Rank")
NOTHING = make_data(tasks=2, rejects=6, name="Fail")


BUCKET = "mem://bucket/data"


def data_of(output: Path | str, refresh: str = "") -> dict[str, bytes]:
    """Returns the data files of a refresh or of all, by their path in the folder, on a disk or in the store."""
    if is_local(str(output)):
        return files_of(Path(output), refresh or None)
    found = {path.removeprefix(f"{output}/"): content for path, content in MemFileSystem.objects.items()}
    folder = re.compile(rf"[a-z]\w*/refresh={re.escape(refresh) or '[^/]+'}/")
    return {path: content for path, content in sorted(found.items()) if folder.match(path)}


def visible_files(output: Path | str) -> dict[str, bytes]:
    """Returns the contents of the data files, and of the manifest."""
    manifest, _ = read_version(f"{output}/manifest.json")
    return {**data_of(output), **({"manifest.json": manifest} if manifest else {})}


@contextlib.contextmanager
def publishes_nothing(output: Path | str, match: str) -> Iterator[pytest.ExceptionInfo[RunFailed]]:
    """Expects that its `with` block fails with this message, and changes nothing that readers see."""
    before = visible_files(output)
    with pytest.raises(RunFailed, match=match) as caught:
        yield caught
    assert visible_files(output) == before
