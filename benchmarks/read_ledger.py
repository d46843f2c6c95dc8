"""Measures how fast a run reads a ledger of many replies. A program of its own, so that its memory can be measured:

python -m benchmarks.read_ledger write FOLDER --replies=1000000
python -m benchmarks.read_ledger read FOLDER --drafts=1000      prints a line of JSON
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from textmint.transforms.core.elements import Draft
from textmint.transforms.ledger.files import check_files
from textmint.transforms.ledger.join_ledger import JoinLedger, shards_for
from textmint.transforms.ledger.read_ledger import ReadLedger

from tests.support.helpers import make_draft
from tests.support.ledger_rows import FINGERPRINT, add_file, paid

_FILE_REPLIES: Final = 50_000
_SENTENCE: Final = (
    "the letter asks for money back because heating failed twice last winter and nobody came to mend it until spring "
    "while neighbours on every floor had hot water all along and said so when they were asked by a clerk"
)
_WORDS: Final = _SENTENCE.split()


def _reply(number: int) -> dict[str, Any]:
    """Makes a row of the ledger, with a reply of some 600 characters; no two are the same."""
    draft_id = make_draft("t", number).draft_id
    digest = bytes.fromhex(draft_id) * 6
    text = " ".join(_WORDS[(letter + place) % len(_WORDS)] for place, letter in enumerate(digest))
    example = {"input_text": f"{text}, no. {number}", "label": "refund", "misleading_label": "complaint"}
    return paid(number, draft_id=draft_id, text=json.dumps(example))


def write(folder: str, count: int) -> None:
    """Writes a ledger of so many replies."""
    for first in range(0, count, _FILE_REPLIES):
        add_file(folder, [_reply(number) for number in range(first, min(count, first + _FILE_REPLIES))])


def drafts(_: bytes, count: int, of: int) -> Iterator[Draft]:
    """Yields so many drafts, whose replies are spread over a ledger of `of` replies."""
    for number in range(0, of, max(1, of // count)):
        yield make_draft("t", number)


class _CountPaid(beam.DoFn):
    paid = 0  # the engine of local runs shares this process

    def process(self, draft: Draft) -> None:
        _CountPaid.paid += len(draft.paid)


def read(folder: str, count: int) -> dict[str, Any]:
    """Reads a ledger for so many drafts; returns what it took until each had got its reply."""
    started = time.monotonic()
    _CountPaid.paid = 0
    checked = check_files(folder)
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        _ = (
            pipeline
            | beam.Impulse()
            | beam.FlatMap(drafts, count, checked.replies).with_output_types(Draft)
            | JoinLedger(ReadLedger(checked.found, "example", FINGERPRINT), shards_for(checked.replies))
            | beam.ParDo(_CountPaid())
        )
    seconds = time.monotonic() - started
    rate = checked.replies / seconds
    return {"replies": checked.replies, "met": _CountPaid.paid, "seconds": seconds, "rate": rate}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a ledger, or reads one and prints what that took."""
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
