"""Measures what FindNearDuplicates takes, and what it finds: `python -m benchmarks.near_duplicates`.

The texts are those of tests/support/near_copies.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import ROOT, run_program
from benchmarks.table import section
from tests.support.near_copies import SHARES, Planted, changed, planted, words_of

SIZES: Final = (10_000, 100_000)
QUICK_SIZES: Final = (1_000, 3_000)
PAIRS: Final = 400  # of each kind, at each threshold
QUICK_PAIRS: Final = 40
_THRESHOLDS: Final = (0.8, 0.5)
_PLANTED_EVERY: Final = 10
_TEXTS_AT_ONCE: Final = 500


def corpus(start: int, end: int) -> Iterator[tuple[str, str]]:
    """Yields id and text of the texts from number `start` to before `end`; a tenth are near copies of the one before
    them."""
    for number in range(start, end):
        words = words_of(number)
        if number % _PLANTED_EVERY == _PLANTED_EVERY - 1:
            share = SHARES[number // _PLANTED_EVERY % len(SHARES)]
            words = changed(words_of(number - 1), share, number // 100 % 2 == 0, number)
        yield f"{number:032x}", " ".join(words)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was found of one kind of planted pairs, beside their exact similarity."""

    threshold: float
    kind: Planted
    mean_jaccard: float
    similar: int  # pairs at the threshold or above
    similar_found: int
    dropped: int  # texts
    rightly: int  # of these, texts as similar as that to the text that was named


def quality(kinds: Sequence[Planted], threshold: float, found: dict[str, str]) -> list[Quality]:
    """Compares what was found with the exact Jaccard similarity of each planted pair.

    Args:
      kinds: the planted pairs.
      threshold: of the similarity.
      found: by the id of each dropped text, that of its near duplicate.
    """
    from textmint.transforms.dedup.minhash import jaccard, normal_form, shingles_of

    shingles = {
        id_: shingles_of(normal_form(text))
        for kind in kinds
        for pair in kind.pairs
        for id_, text in (pair[:2], pair[2:])
    }
    lines = []
    for kind in kinds:
        exact = {(earlier, later): jaccard(shingles[earlier], shingles[later]) for earlier, _, later, _ in kind.pairs}
        similar = [pair for pair, value in exact.items() if value >= threshold]
        dropped = [id_ for pair in exact for id_ in pair if id_ in found]
        lines.append(
            Quality(
                threshold=threshold,
                kind=kind,
                mean_jaccard=sum(exact.values()) / len(exact),
                similar=len(similar),
                similar_found=sum(found.get(later) == earlier for earlier, later in similar),
                dropped=len(dropped),
                rightly=sum(jaccard(shingles[id_], shingles[found[id_]]) >= threshold for id_ in dropped),
            )
        )
    return lines


def find(kinds: Sequence[Planted], threshold: float) -> dict[str, str]:
    """Runs the step on planted pairs; returns, by the id of each dropped text, that of its near duplicate."""
    import apache_beam as beam
    from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
    from textmint.transforms.dedup.minhash import Text

    texts = [Text(id=id_, text=text) for kind in kinds for pair in kind.pairs for id_, text in (pair[:2], pair[2:])]
    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = (
                pipeline
                | beam.Create(texts)
                | FindNearDuplicates(threshold)
                | beam.MapTuple(lambda id_, other: json.dumps([id_, other.id]))
                | beam.io.WriteToText(f"{folder}/found", num_shards=1)
            )
        (path,) = Path(folder).iterdir()
        return dict(map(json.loads, path.read_text("utf-8").splitlines()))


def run_once(rows: int) -> dict[str, int]:
    """Runs the step once on a corpus; returns its counters."""
    import apache_beam as beam
    from apache_beam.metrics.metric import Metrics
    from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
    from textmint.transforms.dedup.minhash import Text

    def count_one(element: object) -> None:
        Metrics.counter("Benchmark", "found").inc()

    def make(start: int) -> Iterator[Text]:
        for id_, text in corpus(start, min(rows, start + _TEXTS_AT_ONCE)):
            yield Text(id=id_, text=text)

    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = (
        pipeline
        | beam.Create(range(0, rows, _TEXTS_AT_ONCE))
        | "Make" >> beam.FlatMap(make).with_output_types(Text)
        | FindNearDuplicates()
        | "Count" >> beam.Map(count_one)
    )
    result = pipeline.run()
    result.wait_until_finish()
    return {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query()["counters"]
        if counter.key.metric.namespace in ("FindNearDuplicates", "Benchmark")
    }


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Calls `run_once` in a process of its own; adds its CPU seconds and its peak of memory."""
    command = [sys.executable, "-m", "benchmarks.near_duplicates", f"--rows={rows}"]
    ended = run_program(command, cwd=ROOT, log=folder / "log.txt")
    return {"rows": rows, "cpu_s": ended.cpu_s, "peak_bytes": ended.peak_bytes, **json.loads(ended.out)}


def render_sizes(measured: Sequence[dict[str, Any]]) -> str:
    """Renders what `measure` returned for each size."""
    rows = []
    for one in measured:
        took = [f"{one['cpu_s']:.1f}", f"{1000 * one['cpu_s'] / one['rows']:.2f}", f"{one['peak_bytes'] / 1e6:.0f}"]
        counters = [f"{one.get(name, 0):,}" for name in ("found", "compared.sketches", "compared.texts")]
        rows.append([f"{one['rows']:,}", *took, *counters])
    return section(
        "TIME AND MEMORY: one process, FnApiRunner, making texts included; a tenth are near copies",
        ("texts", "CPU s", "ms/text", "peak MB", "found", "sketches", "texts compared"),
        rows,
    )


def render_quality(lines: Sequence[Quality]) -> str:
    """Renders what `quality` returned."""

    def share(some: int, of: int) -> str:
        return f"{some / of:.3f}" if of else "-"

    rows = [
        [
            *(f"{line.threshold}", f"{line.kind.share:.0%}", "in a run" if line.kind.in_one_run else "scattered"),
            *(f"{len(line.kind.pairs)}", f"{line.mean_jaccard:.2f}"),
            *(f"{line.similar}", share(line.similar_found, line.similar), share(line.rightly, line.dropped)),
        ]
        for line in lines
    ]
    return section(
        "QUALITY: planted pairs beside their exact Jaccard similarity (mean). >= t: pairs at the threshold or over",
        ("threshold", "changed", "words", "pairs", "Jaccard", ">= t", "recall", "precision"),
        rows,
        ("precision: of all texts that were dropped, those that are as similar as that to the text that was named.",),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables; returns the exit code, 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)  # one run, of a process of its own
    options = parser.parse_args(argv)
    if options.rows:
        print(json.dumps(run_once(options.rows)))
        return 0
    kinds = planted(QUICK_PAIRS if options.quick else PAIRS)
    lines = [line for threshold in _THRESHOLDS for line in quality(kinds, threshold, find(kinds, threshold))]
    print(render_quality(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured = [measure(rows, Path(folder)) for rows in (QUICK_SIZES if options.quick else SIZES)]
    print(f"\n{render_sizes(measured)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
