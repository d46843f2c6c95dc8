"""A ledger of many replies -> how fast a run reads it, as one line of JSON. A program of its own, so that its memory
can be told:

    python -m benchmarks.read_ledger write FOLDER --replies=1000000
    python -m benchmarks.read_ledger read FOLDER --drafts=1000
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from textmint.transforms.core.elements import Draft
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger.files import check_files
from textmint.transforms.ledger.join_ledger import JoinLedger, shards_for
from textmint.transforms.ledger.read_ledger import ReadLedger
from textmint.transforms.ledger.table import SCHEMA, replies_file
from textmint.transforms.storage import files

_FINGERPRINT = stable_hash("backend", {"model": "m"})
_FILE_REPLIES = 50_000
_SENTENCE = (
    "the letter asks for money back because heating failed twice last winter and nobody came to mend it until spring "
    "while neighbours on every floor had hot water all along and said so when they were asked by a clerk"
)
_WORDS = _SENTENCE.split()


def replies(first: int, count: int) -> pa.Table:
    """A range of numbers -> replies of some 600 characters, no two the same."""
    rows = []
    for number in range(first, first + count):
        draft_id = stable_hash("draft", number)
        digest = bytes.fromhex(draft_id) * 6
        text = " ".join(_WORDS[(letter + place) % len(_WORDS)] for place, letter in enumerate(digest))
        example = {"input_text": f"{text}, no. {number}", "label": "refund", "misleading_label": "complaint"}
        rows.append(
            {
                "request_id": stable_hash("request", draft_id),
                "draft_id": draft_id,
                "kind": "example",
                "refresh": "base",
                "model": "m",
                "fingerprint": _FINGERPRINT,
                "attempt": 0,
                "text": json.dumps(example),
                "finish_reason": "stop",
                "prompt_tokens": 300,
                "output_tokens": 150,
                "latency_ms": 200,
                "time": 1_767_225_600_000 + number,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write(folder: str, count: int) -> None:
    """A folder and how many -> a ledger of so many replies in it."""
    for first in range(0, count, _FILE_REPLIES):
        name, content = replies_file(replies(first, min(_FILE_REPLIES, count - first)))
        files.write_file(files.join(folder, name), content)


def drafts(_: bytes, count: int, of: int) -> Iterator[Draft]:
    """-> drafts whose replies lie all over a ledger of `of` replies."""
    for number in range(0, of, max(1, of // count)):
        yield Draft(
            draft_id=stable_hash("draft", number),
            task_id=stable_hash("task", "t"),
            task="t",
            replica=0,
            seed=42,
            language="English",
            difficulty="college",
            clarity="clear",
            num_words="any",
        )


class _CountPaid(beam.DoFn):
    paid = 0

    def process(self, draft: Draft) -> None:
        """Counts what came with it; the engine of local runs shares this process."""
        _CountPaid.paid += len(draft.paid)


def read(folder: str, count: int) -> dict[str, Any]:
    """A ledger and how many drafts -> what it took until each draft had met its reply."""
    started, cpu = time.monotonic(), time.process_time()
    _CountPaid.paid = 0
    checked = check_files(folder)
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.Impulse()
            | beam.FlatMap(drafts, count, checked.replies).with_output_types(Draft)
            | JoinLedger(ReadLedger(checked.found, "example", _FINGERPRINT), shards_for(checked.replies))
            | beam.ParDo(_CountPaid())
        )
    seconds = time.monotonic() - started
    return {
        "replies": checked.replies,
        "met": _CountPaid.paid,
        "seconds": seconds,
        "cpu_s": time.process_time() - cpu,
        "rate": checked.replies / seconds,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Arguments of the command line -> a ledger, or a line of JSON."""
    parser = argparse.ArgumentParser(description="Writes or reads a ledger of many replies.", allow_abbrev=False)
    parser.add_argument("what", choices=("write", "read"))
    parser.add_argument("folder")
    parser.add_argument("--replies", type=int, default=1_000_000)
    parser.add_argument("--drafts", type=int, default=1_000)
    options = parser.parse_args(argv)
    if options.what == "write":
        write(options.folder, options.replies)
    else:
        print(json.dumps(read(options.folder, options.drafts)))


if __name__ == "__main__":
    main()
