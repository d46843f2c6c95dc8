"""AgreeLabels: within a task, labels that differ only in case, spacing or punctuation are to be one."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from textmint.transforms.core.elements import Example, Reject, Relabel
from textmint.transforms.core.labels import agree

Labelled = tuple[str, str, str]
"""The id of an example, its label and its misleading label."""


def relabel(examples: Iterable[Labelled]) -> Iterator[Relabel]:
    """Yields new labels for the examples of one task that do not use the most frequent spelling (see `agree`)."""
    known = sorted(examples)
    spelling = agree(collections.Counter(label for _, *labels in known for label in labels))
    for id_, label, misleading_label in known:
        if spelling[label] != label or spelling[misleading_label] != misleading_label:
            yield Relabel(id=id_, label=spelling[label], misleading_label=spelling[misleading_label])


def _key_labels(row: Example | Reject) -> Iterator[tuple[str, Labelled]]:
    if isinstance(row, Example):
        yield row.task_id, (row.id, row.label, row.misleading_label)


def _agree(group: tuple[str, Iterable[Labelled]]) -> Iterator[Relabel]:
    return relabel(group[1])


@dataclasses.dataclass(eq=False)
class AgreeLabels(beam.PTransform):
    """Makes a Relabel for each Example that needs another spelling of a label. Only ids and labels are shuffled."""

    def expand(self, rows: beam.PCollection[Example | Reject]) -> beam.PCollection[Relabel]:
        return (
            rows
            | "KeyLabels" >> beam.FlatMap(_key_labels).with_output_types(tuple[str, Labelled])
            | "GroupByTask" >> beam.GroupByKey()
            | "Agree" >> beam.FlatMap(_agree)
        )
