"""Label pairs: which two labels of its task's label set each planned example gets."""

from __future__ import annotations

import functools

from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import normal_form


def pair_of(labels: tuple[str, ...], *, task_id: str, seed: int, replica: int) -> tuple[str, str]:
    """Picks the label and the misleading label of one example of a task, from a set of labels whose order is ignored.

    Over the first n replicas, labels differ by at most 1 in how often they are the label, the misleading label, and the
    misleading label of one label. The labels are set in a ring. Each block of as many replicas as there are labels
    takes every place of the ring once, with the label some steps further on as the misleading one; the number of steps
    changes with the block until all pairs were there once. Then comes another ring.
    """
    count = len(labels)
    block, turn = divmod(replica, count)
    cycle, block_of_cycle = divmod(block, count - 1)
    ring = _ring(labels, task_id, seed, cycle)
    steps = 1 + _order(count - 1, "label_steps", task_id, seed, cycle)[block_of_cycle]
    place = _order(count, "label_place", task_id, seed, block)[turn]
    return ring[place], ring[(place + steps) % count]


@functools.lru_cache(maxsize=64)  # the drafts of a task are made one after the other
def _ring(labels: tuple[str, ...], task_id: str, seed: int, cycle: int) -> tuple[str, ...]:
    return tuple(sorted(labels, key=lambda label: stable_hash("label_ring", task_id, seed, cycle, normal_form(label))))


@functools.lru_cache(maxsize=64)
def _order(count: int, domain: str, task_id: str, seed: int, number: int) -> tuple[int, ...]:
    return tuple(sorted(range(count), key=lambda place: stable_hash(domain, task_id, seed, number, place)))
