"""FindDuplicates: examples -> a verdict on each whose text is there already, in this run or another refresh.

Only ids and hashes travel to be compared. The verdicts meet their examples where those are sorted to be written, so
that an example is shuffled once (see `WriteDataset`).
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam
from textmint.transforms.core.elements import Example, Reject, Verdict
from textmint.transforms.core.identity import shard_of
from textmint.transforms.core.texts import text_id

_STEP = "FindDuplicates"
_SHARD_ROWS = 20_000  # of a few words each, held in memory at once

Seen = tuple[str, str, str]
"""A text_id, the id of an example that has it, and the label that published it; "" where it is of this run."""


def duplicates(seen: Iterable[Seen], refresh: str = "") -> Iterator[Verdict]:
    """Says which examples of this run are not to be kept.

    What another label has published stands, the earliest label first; in this run the smallest id. A text that this
    run's label and a later one have both published, as after a first run at the same moment, stands here: so one of
    them has it still when both run again at once. The verdict does not depend on any order.

    Args:
      seen: the texts of this run, and those that were published.
      refresh: the label of the run.

    Yields:
      a verdict on each of those examples.
    """
    first: dict[str, tuple[bool, str, str]] = {}
    ours: list[tuple[str, str]] = []
    found: list[Seen] = []
    standing: set[str] = set()
    for text, id_, label in seen:
        if label and label == refresh:
            standing.add(text)
            continue
        found.append((text, id_, label))
        if not label:
            ours.append((text, id_))
    for text, id_, label in found:
        if label > refresh and text in standing:
            continue
        rank = (not label, label, id_)
        if text not in first or rank < first[text]:
            first[text] = rank
    for text, id_ in ours:
        _, label, stands = first[text]
        if label or stands != id_:
            detail = f"the same text as {stands}" + (f" of refresh={label}" if label else "")
            yield Verdict(id=id_, stage=_STEP, reason="duplicate", detail=detail)


class _KeyText(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, row: Example | Reject) -> Iterator[tuple[str, Seen]]:
        if isinstance(row, Example):
            text = text_id(row.input_text)
            yield f"{shard_of(text, self._shards):04x}", (text, row.id, "")


class _KeyPublished(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, published: Seen) -> Iterator[tuple[str, Seen]]:
        yield f"{shard_of(published[0], self._shards):04x}", published


class _Compare(beam.DoFn):
    def __init__(self, refresh: str) -> None:
        self._refresh = refresh

    def process(self, group: tuple[str, Iterable[Seen]]) -> Iterator[Verdict]:
        yield from duplicates(group[1], self._refresh)


@dataclasses.dataclass(eq=False)
class FindDuplicates(beam.PTransform):
    """Example or Reject -> Verdict, on each example whose text is there already, in this or another spelling. It names
    the id that has the text.

    Args:
      published: a `PTransform` from the pipeline to the texts that refreshes have published, as `ReadPublished` gives
        them; None: there are none.
      expected_rows: a guess at the number of texts, published ones among them; it decides in how many pieces they are
        compared.
      refresh: the label of the run; see `duplicates`.
    """

    published: beam.PTransform | None = None
    expected_rows: int = _SHARD_ROWS
    refresh: str = ""

    def expand(self, rows: beam.PCollection[Example | Reject]) -> beam.PCollection[Verdict]:
        shards = max(1, min(65_536, math.ceil(self.expected_rows / _SHARD_ROWS)))
        pair = tuple[str, Seen]
        texts = rows | "KeyTexts" >> beam.ParDo(_KeyText(shards)).with_output_types(pair)
        if self.published is not None:
            published = (
                rows.pipeline
                | "Published" >> self.published
                | "KeyPublished" >> beam.ParDo(_KeyPublished(shards)).with_output_types(pair)
            )
            texts = (texts, published) | "AllTexts" >> beam.Flatten()
        return texts | "GroupByText" >> beam.GroupByKey() | "Compare" >> beam.ParDo(_Compare(self.refresh))
