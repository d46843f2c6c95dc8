"""Measures what a row weighs in the ledger, in the files and between the steps.

    python -m benchmarks.volumes [--rows=4000]

The command runs with the embedded model, once with short texts and once with long ones, so that what follows the length
of a text can be separated from what does not. Its texts compress better than a real model's, so how prose compresses is
measured on tests/support/quality_corpus.jsonl. deploy/capacity.py computes with these figures.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.runners.portability.fn_api_runner import execution
from textmint.pipelines.__main__ import main as textmint

from benchmarks.measuring import EXAMPLES_PER_TASK, ROOT, write_tasks

LENGTHS: Final = ("less than 10", "at least 200")
_TEXTS: Final = {"ledger": ("text",), "examples": ("input_text",), "triplets": ("anchor",)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What one run weighed."""

    chars: float  # of a reply, mean
    shuffled: float  # bytes a row that went into groupings, all of them together
    fixed: dict[str, float]  # for the ledger and each dataset, the bytes a row of all columns but the text


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures, one a line; returns the exit code, 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000, help="of each run, a multiple of 20")
    rows = parser.parse_args(argv).rows
    short, long = (weigh(rows, num_words) for num_words in LENGTHS)
    slope = (long.shuffled - short.shuffled) / (long.chars - short.chars)
    print(f"rows {rows:,} a run; replies of {short.chars:.0f} and {long.chars:.0f} characters")
    print(f"shuffled bytes a row: {short.shuffled - slope * short.chars:.0f} + {slope:.2f} a character of the reply")
    for name, of_short in short.fixed.items():
        print(f"{name}: {of_short:.0f} to {long.fixed[name]:.0f} bytes a row beside the text")
    print(f"prose: {prose_ratio():.2f} bytes a character in Parquet with zstd")
    return 0


def weigh(rows: int, num_words: str) -> Weighed:
    """Runs the command for so many rows, and weighs what it wrote."""
    with tempfile.TemporaryDirectory() as folder, counted_groupings() as shuffled:
        tasks, output = Path(folder, "tasks.txt"), Path(folder, "out")
        write_tasks(tasks, rows)
        config = Path(folder, "config.yaml")
        config.write_text("near_duplicate_threshold: 1\n", "utf-8")
        flags = [f"--config={config}", f"--tasks={tasks}", f"--examples_per_task={EXAMPLES_PER_TASK}"]
        flags += [f"--num_words={num_words}", "--checks=near_duplicate", f"--output={output}"]
        with contextlib.redirect_stdout(io.StringIO()):
            code = textmint(["generate", *flags])
        if code:
            raise SystemExit("volumes: the run failed")
        files = {name: sorted((output / name).rglob("*.parquet")) for name in _TEXTS}
        texts = [text for path in files["ledger"] for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]
        return Weighed(
            chars=sum(map(len, texts)) / len(texts),
            shuffled=shuffled["bytes"] / rows,
            fixed={name: beside(paths, _TEXTS[name]) for name, paths in files.items()},
        )


@contextlib.contextmanager
def counted_groupings() -> Iterator[collections.Counter[str]]:
    """Counts the bytes that Beam's in-process engine puts into groupings while the `with` block runs."""
    counted: collections.Counter[str] = collections.Counter()
    append = execution.GroupingBuffer.append

    def counting(self: Any, elements: bytes) -> None:
        counted["bytes"] += len(elements)
        append(self, elements)

    execution.GroupingBuffer.append = counting
    try:
        yield counted
    finally:
        execution.GroupingBuffer.append = append


def beside(paths: Sequence[Path], texts: Sequence[str]) -> float:
    """Computes the bytes a row of all columns of Parquet files but `texts`."""
    rows = total = 0
    for path in paths:
        metadata = pq.ParquetFile(path).metadata
        rows += metadata.num_rows
        for group in range(metadata.num_row_groups):
            columns = [metadata.row_group(group).column(number) for number in range(metadata.num_columns)]
            total += sum(column.total_compressed_size for column in columns if column.path_in_schema not in texts)
    return total / rows


def prose_ratio() -> float:
    """Computes how many bytes a character of prose takes in a Parquet column with zstd."""
    lines = (ROOT / "tests" / "support" / "quality_corpus.jsonl").read_text("utf-8").splitlines()
    texts = [row["input_text"] for row in map(json.loads, lines) if row["language"] == "English"]
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink, compression="zstd", use_dictionary=False)
    size = pq.ParquetFile(sink).metadata.row_group(0).column(0).total_compressed_size
    return float(size / sum(map(len, texts)))


if __name__ == "__main__":
    sys.exit(main())
