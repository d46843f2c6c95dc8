"""Measures what FindNearDuplicates takes, how that grows, and what it finds: `python -m benchmarks.near_duplicates`.

The texts are those of tests/support/near_copies.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import ROOT, environment, run_program
from benchmarks.table import count, section
from tests.support.near_copies import SHARES, Planted, changed, planted, words_of

SIZES: Final = (10_000, 30_000, 100_000)
QUICK_SIZES: Final = (1_000, 3_000)
PAIRS: Final = 400  # of each kind, at each threshold
QUICK_PAIRS: Final = 40
_THRESHOLDS: Final = (0.8, 0.5)
_PLANTED_EVERY: Final = 10
_TEXTS_AT_ONCE: Final = 500


def corpus(start: int, end: int, kind: str) -> Iterator[tuple[str, str]]:
    """Yields id and text of the texts with these numbers.

    Args:
      start: the first number.
      end: the number after the last.
      kind: `mixed`, of which a tenth are near copies of the text before, or `alike`, all near copies of one.
    """
    for number in range(start, end):
        if kind == "alike":
            words = changed(words_of(0), 0.01, False, number)
        elif number % _PLANTED_EVERY == _PLANTED_EVERY - 1:
            share = SHARES[number // _PLANTED_EVERY % len(SHARES)]
            words = changed(words_of(number - 1), share, number // 100 % 2 == 0, number)
        else:
            words = words_of(number)
        yield f"{number:032x}", " ".join(words)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was found of one kind of planted pairs, beside their exact similarity."""

    threshold: float
    share: float
    in_one_run: bool
    pairs: int
    mean_jaccard: float
    alike: int  # pairs at the threshold or above
    alike_found: int
    clear: int  # pairs at the threshold + 0.05 or above
    clear_found: int
    dropped: int  # whatever the text that was named
    rightly: int  # of these, those that are as near as that to the text that was named


def quality(kinds: Sequence[Planted], threshold: float, found: dict[str, tuple[str, float]]) -> list[Quality]:
    """Compares what was found with the exact similarity of each planted pair.

    Args:
      kinds: the planted pairs.
      threshold: of the Jaccard similarity.
      found: by the later id, the earlier one and their similarity.
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
        hits = {pair for pair in exact if found.get(pair[1], ("",))[0] == pair[0]}
        dropped = [id_ for pair in exact for id_ in pair if id_ in found]
        alike = {pair for pair, value in exact.items() if value >= threshold}
        clear = {pair for pair, value in exact.items() if value >= threshold + 0.05}
        lines.append(
            Quality(
                threshold=threshold,
                share=kind.share,
                in_one_run=kind.in_one_run,
                pairs=len(exact),
                mean_jaccard=sum(exact.values()) / len(exact),
                alike=len(alike),
                alike_found=len(alike & hits),
                clear=len(clear),
                clear_found=len(clear & hits),
                dropped=len(dropped),
                rightly=sum(jaccard(shingles[id_], shingles[found[id_][0]]) >= threshold for id_ in dropped),
            )
        )
    return lines


def find(texts: Sequence[tuple[str, str]], threshold: float) -> dict[str, tuple[str, float]]:
    """Runs the step on (id, text) pairs.

    Returns:
      By the id of each text that is dropped: the id of its near duplicate, and how similar it is.
    """
    import apache_beam as beam
    from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
    from textmint.transforms.dedup.minhash import Text

    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = (
                pipeline
                | beam.Create([Text(id=id_, text=text) for id_, text in texts])
                | FindNearDuplicates(threshold)
                | beam.MapTuple(lambda id_, other: json.dumps([id_, other.id, other.similarity]))
                | beam.io.WriteToText(f"{folder}/found", num_shards=1)
            )
        lines = [line for path in Path(folder).iterdir() for line in path.read_text("utf-8").splitlines()]
    return {id_: (other, similarity) for id_, other, similarity in map(json.loads, lines)}


def run_once(rows: int, kind: str) -> dict[str, Any]:
    """Runs the step once on a corpus; returns its seconds and its counters."""
    import apache_beam as beam
    from apache_beam.metrics.metric import Metrics
    from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
    from textmint.transforms.dedup.minhash import Text

    def count_one(element: object) -> None:
        Metrics.counter("Benchmark", "found").inc()

    def make(start: int) -> Iterator[Text]:
        for id_, text in corpus(start, min(rows, start + _TEXTS_AT_ONCE), kind):
            yield Text(id=id_, text=text)

    started = time.monotonic()
    pipeline = beam.Pipeline(runner="FnApiRunner")
    found = (
        pipeline
        | beam.Create(range(0, rows, _TEXTS_AT_ONCE))
        | "Make" >> beam.FlatMap(make).with_output_types(Text)
        | FindNearDuplicates()
    )
    _ = found | "Count" >> beam.Map(count_one)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query()["counters"]
        if counter.key.metric.namespace in ("FindNearDuplicates", "Benchmark")
    }
    return {"seconds": time.monotonic() - started, **counters}


def measure(rows: int, kind: str, folder: Path) -> dict[str, Any]:
    """Does `run_once` in a process of its own; adds its CPU seconds and its peak of memory."""
    command = [sys.executable, "-m", "benchmarks.near_duplicates", f"--rows={rows}", f"--kind={kind}"]
    ended = run_program(command, cwd=ROOT, env=environment(os.environ), log=folder / "log.txt")
    return {"rows": rows, "kind": kind, "cpu_s": ended.cpu_s, "peak_bytes": ended.peak_bytes, **json.loads(ended.out)}


def exponent(fewer: int, few_seconds: float, more: int, many_seconds: float) -> float:
    """Computes k from what two sizes took, where the time grows as (n log n) to the k: 1 is n log n."""
    return math.log(many_seconds / few_seconds) / math.log(more * math.log(more) / (fewer * math.log(fewer)))


def render_sizes(measured: Sequence[dict[str, Any]]) -> str:
    """Renders what `measure` returned for each size."""
    rows = []
    for one, before in zip(measured, [None, *measured], strict=False):
        growth = "-"
        if before and before["kind"] == one["kind"]:
            growth = f"{exponent(before['rows'], before['cpu_s'], one['rows'], one['cpu_s']):.2f}"
        took = [f"{one['seconds']:.1f}", f"{one['cpu_s']:.1f}", f"{one['peak_bytes'] / 1e6:.0f}", growth]
        counters = [count(one.get(name, 0)) for name in ("found", "compared.sketches", "compared.texts")]
        rows.append([count(one["rows"]), one["kind"], *took, *counters])
    return section(
        "TIME AND MEMORY: one process, FnApiRunner, making texts included. growth: of CPU, the power of n log n.",
        ("texts", "corpus", "seconds", "CPU s", "peak MB", "growth", "found", "sketches held", "texts compared"),
        rows,
        ("mixed: a tenth are near copies of the text before. alike: all are near copies of one text.",),
    )


def render_quality(lines: Sequence[Quality]) -> str:
    """Renders what `quality` returned."""

    def share(some: int, of: int) -> str:
        return f"{some / of:.3f}" if of else "-"

    rows = [
        [
            *(f"{line.threshold}", f"{line.share:.0%}", "in a run" if line.in_one_run else "scattered"),
            *(count(line.pairs), f"{line.mean_jaccard:.2f}"),
            *(count(line.alike), share(line.alike_found, line.alike)),
            *(count(line.clear), share(line.clear_found, line.clear), share(line.rightly, line.dropped)),
        ]
        for line in lines
    ]
    return section(
        "QUALITY: planted pairs beside their exact Jaccard similarity (mean). >= t: pairs at the threshold or over",
        ("threshold", "changed", "words", "pairs", "Jaccard", ">= t", "recall", ">= t+0.05", "recall", "precision"),
        rows,
        ("precision: of all texts that were dropped, those that are as near as that to the text that was named.",),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables.

    Args:
      argv: arguments of the command line.

    Returns:
      The exit code, 0.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)  # one run, of a process of its own
    parser.add_argument("--kind", default="mixed", choices=("mixed", "alike"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.rows:
        print(json.dumps(run_once(options.rows, options.kind)))
        return 0
    sizes = QUICK_SIZES if options.quick else SIZES
    kinds = planted(QUICK_PAIRS if options.quick else PAIRS)
    texts = [text for kind in kinds for pair in kind.pairs for text in (pair[:2], pair[2:])]
    lines = [line for threshold in _THRESHOLDS for line in quality(kinds, threshold, find(texts, threshold))]
    print(render_quality(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured = [measure(rows, "mixed", Path(folder)) for rows in sizes]
        measured += [measure(rows, "alike", Path(folder)) for rows in sizes[:2]]
    print(f"\n{render_sizes(measured)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
