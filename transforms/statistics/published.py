"""The figures of a refresh that is published, made anew from its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from textmint.transforms.core.attributes import ATTRIBUTES
from textmint.transforms.core.temporary import temporary_folder
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.dataset.published_files import open_published
from textmint.transforms.dataset.schema import DatasetKind
from textmint.transforms.dedup.minhash import THRESHOLD
from textmint.transforms.statistics.accumulate import Accumulator
from textmint.transforms.statistics.figures import figures_of
from textmint.transforms.statistics.task_labels import shares_for, summary_of
from textmint.transforms.storage.files import join

_COLUMNS: Final[Mapping[DatasetKind, tuple[str, ...]]] = {
    "examples": ("id", "task_id", "task", "input_text", "label", "misleading_label", *ATTRIBUTES, "model"),
    "rejects": ("id", "stage", "reason", "detail", "raw_reply", "task_id", "task", *ATTRIBUTES),
    "tasks": ("task_id",),
}
_ROWS_AT_ONCE: Final = 2_000
_LENGTH_BYTES: Final = 8


def compute_statistics(output: str, refresh: str) -> dict[str, Any]:
    """Makes the figures of a refresh from its files, a few rows at a time; equal to what its run wrote.

    Args:
      output: the dataset folder, a path or URL.
      refresh: its name.

    Raises:
      LookupError: the manifest has no such refresh.
      published_files.UNREADABLE: one of these, where a file is missing or damaged.
    """
    try:
        entry = read_entries(output)[refresh]
    except KeyError:
        raise LookupError(f"{output} holds no refresh={refresh}") from None
    rows = Accumulator(shares_for(sum(file["rows"] for file in entry["files"].get("examples", ()))))
    with temporary_folder("statistics") as folder:
        for kind, row in _rows_of(output, entry):
            if kind == "examples":
                rows.add_example(row)
            elif kind == "rejects":
                rows.add_reject(row)
            else:
                rows.add_task()
            _put_aside(folder, rows, at_end=False)
        _put_aside(folder, rows, at_end=True)
        summary = rows.take_summary()
        for share in Path(folder).iterdir():
            summary.merge(summary_of(_parts_in(share)))
    threshold = entry.get("options", {}).get("near_duplicate_threshold")
    return figures_of(summary, threshold if isinstance(threshold, (int, float)) else THRESHOLD)


def _rows_of(output: str, entry: Mapping[str, Any]) -> Iterator[tuple[DatasetKind, Any]]:
    for kind, columns in _COLUMNS.items():
        for file in entry["files"].get(kind, ()):
            opened = open_published(join(output, *file["path"].split("/")))
            for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
                for row in batch.to_pylist():
                    yield kind, SimpleNamespace(**row)


def _put_aside(folder: str, rows: Accumulator, *, at_end: bool) -> None:
    for share, part in rows.take_parts(at_end=at_end):
        with Path(folder, share).open("ab") as file:
            file.write(len(part).to_bytes(_LENGTH_BYTES, "big") + part)


def _parts_in(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield file.read(int.from_bytes(length, "big"))
