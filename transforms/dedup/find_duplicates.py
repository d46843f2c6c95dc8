"""FindDuplicates: finds the examples whose text this run or another refresh already has.

Only ids and hashes are shuffled; verdicts meet their examples in `WriteDataset`.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam
from textmint.transforms.core.elements import Example, Reject, Verdict
from textmint.transforms.core.identity import shard_of
from textmint.transforms.core.texts import text_id

_STEP = "FindDuplicates"
_SHARD_ROWS = 20_000  # of a few words each, in memory at once

Seen = tuple[str, str, str]
"""A text_id, the id of an example that has it, and the refresh that published it; "" where it is of this run."""


def duplicates(seen: Iterable[Seen], refresh: str = "") -> Iterator[Verdict]:
    """Yields a verdict on each example of this run that is not to be kept, whatever the order of `seen`.

    The earliest refresh by label keeps a text, in this run the smallest id. A text that this refresh and a later one
    have both published stays here, so that one of them still has it when both run again at once.
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


class _Key(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, row: Example | Reject | Seen) -> Iterator[tuple[str, Seen]]:
        if isinstance(row, Reject):
            return
        seen = (text_id(row.input_text), row.id, "") if isinstance(row, Example) else row
        yield f"{shard_of(seen[0], self._shards):04x}", seen


def _compare(group: tuple[str, Iterable[Seen]], refresh: str) -> Iterator[Verdict]:
    return duplicates(group[1], refresh)


@dataclasses.dataclass(eq=False)
class FindDuplicates(beam.PTransform):
    """Finds examples whose text is there already, in any spelling; the verdict names the id that has the text.

    Args:
      published: a `PTransform` from the pipeline to the texts that refreshes have published (see `ReadPublished`).
      expected_rows: a guess at the number of texts, which decides in how many pieces they are compared.
      refresh: the label of the run; see `duplicates`.
    """

    published: beam.PTransform | None = None
    expected_rows: int = _SHARD_ROWS
    refresh: str = ""

    def expand(self, rows: beam.PCollection[Example | Reject]) -> beam.PCollection[Verdict]:
        shards = max(1, min(65_536, math.ceil(self.expected_rows / _SHARD_ROWS)))
        key = beam.ParDo(_Key(shards)).with_output_types(tuple[str, Seen])
        texts = rows | "KeyTexts" >> key
        if self.published is not None:
            published = rows.pipeline | "Published" >> self.published | "KeyPublished" >> key
            texts = (texts, published) | "AllTexts" >> beam.Flatten()
        return texts | "GroupByText" >> beam.GroupByKey() | "Compare" >> beam.FlatMap(_compare, self.refresh)
