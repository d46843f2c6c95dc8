"""ShardElements: elements spread over workers, in groups that do not depend on the engine.

Engines choose how many elements they hand over at once, and it can be as few as one; a step that keeps requests in
flight would then wait for each of them. So elements are grouped by a hash of their id, and a group is handed over
whole.
It stands before the prompt is built, where elements are small: engines hold several copies of what they shuffle.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from transforms.elements import Draft, TaskSeed
from transforms.identity import fraction
from transforms.packing import pack, unpack


def shards_for(elements: int) -> int:
    """A guess at the number of elements -> in how many groups they are handed to workers: of about a thousand, so that
    a group that an engine starts anew is not much work, and enough of them for a few hundred workers."""
    return max(64, min(65_536, elements // 1_000))


def shard_of(element: Any, shards: int) -> str:
    """An element -> its shard, by the hash of its id."""
    if isinstance(element, Draft):
        element_id = element.draft_id
    else:
        element_id = element.seed_id if isinstance(element, TaskSeed) else element.id
    return f"{fraction('shard', element_id) % shards:04x}"


class _Pack(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, element: Any) -> Iterator[tuple[str, bytes]]:
        yield shard_of(element, self._shards), pack(element)


class _Unpack(beam.DoFn):
    def process(self, group: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        yield from map(unpack, group[1])


@dataclasses.dataclass(eq=False)
class ShardElements(beam.PTransform):
    """TaskSeed, Draft or Reject -> the same, regrouped.

    Args:
      shards: how many groups; the number of workers that can take part is at most that. See `shards_for`.
    """

    shards: int = 64

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        regrouped = (
            elements
            | "Pack" >> beam.ParDo(_Pack(self.shards))
            | "GroupByShard" >> beam.GroupByKey()
            | "Unpack" >> beam.ParDo(_Unpack())
        )
        regrouped.element_type = elements.element_type
        return regrouped
