"""FindDuplicates: examples -> a verdict on each whose text is there already, in this run or another refresh.

Only ids and hashes travel to be compared. The verdicts meet their examples where those are sorted to be written, so
that an example is shuffled once (see `WriteDataset`).
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam

from transforms.elements import Example, Reject, Verdict
from transforms.ledger import shard_of
from transforms.texts import text_id

_STEP = "FindDuplicates"
_SHARD_ROWS = 20_000  # of a few words each, held in memory at once

Seen = tuple[str, str, str]
"""A text_id, the id of an example that has it, and the label that published it; "" where it is of this run."""


def duplicates(seen: Iterable[Seen]) -> Iterator[Verdict]:
    """Texts that were seen -> a verdict on each example of this run that is not to be kept.

    What another label has published stands, the earliest label first; in this run the smallest id. So the verdict does
    not depend on any order.
    """
    first: dict[str, tuple[bool, str, str]] = {}
    ours = []
    for text, id_, label in seen:
        rank = (not label, label, id_)
        if text not in first or rank < first[text]:
            first[text] = rank
        if not label:
            ours.append((text, id_))
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
    def process(self, group: tuple[str, Iterable[Seen]]) -> Iterator[Verdict]:
        yield from duplicates(group[1])


@dataclasses.dataclass(eq=False)
class FindDuplicates(beam.PTransform):
    """Example or Reject -> Verdict, on each example whose text is there already, in this or another spelling. It names
    the id that has the text.

    Args:
      published: a `PTransform` from the pipeline to the texts that other refreshes have, as `ReadPublished` gives them;
        None: there are none.
      expected_rows: a guess at the number of texts, published ones among them; it decides in how many pieces they are
        compared.
    """

    published: beam.PTransform | None = None
    expected_rows: int = _SHARD_ROWS

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
        return texts | "GroupByText" >> beam.GroupByKey() | "Compare" >> beam.ParDo(_Compare())
