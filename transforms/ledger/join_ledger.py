"""JoinLedger: groups elements and the replies that were paid for them, and hands each group to a worker whole.

Engines may hand over one element at a time; a step that keeps requests in flight would then wait for each of them.
It stands before the prompt is built, where elements are small: engines hold several copies of what they shuffle.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from msgspec.structs import replace
from textmint.transforms.core.elements import Subject, subject_id
from textmint.transforms.core.identity import shard_of
from textmint.transforms.core.packing import pack, unpack
from textmint.transforms.ledger.join import pack_table, paid_replies, split_by_shard, unpack_table

_ELEMENT = b"E"
_REPLIES = b"R"


def shards_for(elements: int) -> int:
    """Chooses the number of groups for a guessed number of elements: small groups, but enough for many workers."""
    return max(64, min(65_536, elements // 1_000))


def id_of(element: Any) -> str:
    """Returns the id of an element; for a subject of a prompt, the one in the ledger."""
    return subject_id(element) if isinstance(element, Subject) else str(element.id)


def join(values: Iterable[bytes]) -> Iterator[Any]:
    """Takes apart what was grouped, and gives each element the replies that were paid for it."""
    elements, tables = [], []
    for value in values:
        if value.startswith(_ELEMENT):
            elements.append(unpack(value[1:]))
        else:
            tables.append(unpack_table(value[1:]))
    paid = paid_replies(tables, {subject_id(element) for element in elements if isinstance(element, Subject)})
    for element in elements:
        replies = paid.get(subject_id(element)) if isinstance(element, Subject) else None
        yield replace(element, paid=replies) if replies else element


class _KeyElement(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, element: Any) -> Iterator[tuple[str, bytes]]:
        yield f"{shard_of(id_of(element), self._shards):04x}", _ELEMENT + pack(element)


class _KeyReplies(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, table: Any) -> Iterator[tuple[str, bytes]]:
        for shard, part in split_by_shard(table, self._shards):
            yield f"{shard:04x}", _REPLIES + pack_table(part)


class _Join(beam.DoFn):
    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        yield from join(group[1])


@dataclasses.dataclass(eq=False)
class JoinLedger(beam.PTransform):
    """Regroups subjects of prompts (TaskSeed, LabelSetSeed, Draft, Choice) and rejects; `paid` of subjects becomes what
    the ledger holds for them.

    Args:
      ledger: a `PTransform` from the pipeline to Arrow tables of paid replies; None: there is no ledger.
      shards: how many groups; the number of workers that can take part is at most that. See `shards_for`.
    """

    ledger: beam.PTransform | None = None
    shards: int = 64  # as many as `shards_for` gives at least

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        pair = tuple[str, bytes]
        keyed = elements | "KeyElements" >> beam.ParDo(_KeyElement(self.shards)).with_output_types(pair)
        if self.ledger is not None:
            replies = (
                elements.pipeline
                | "Ledger" >> self.ledger
                | "KeyReplies" >> beam.ParDo(_KeyReplies(self.shards)).with_output_types(pair)
            )
            keyed = (keyed, replies) | "Together" >> beam.Flatten()
        joined = keyed | "GroupByShard" >> beam.GroupByKey() | "Join" >> beam.ParDo(_Join())
        joined.element_type = elements.element_type
        return joined
