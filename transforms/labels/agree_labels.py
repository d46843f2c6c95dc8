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
    """Gives the examples of one task, in any order, the most frequent spelling of their labels (see `labels.agree`).

    Yields:
      The new labels of each example that is spelled otherwise.
    """
    known = sorted(examples)
    spelling = agree(collections.Counter(label for _, *labels in known for label in labels))
    for id_, label, misleading_label in known:
        if spelling[label] != label or spelling[misleading_label] != misleading_label:
            yield Relabel(id=id_, label=spelling[label], misleading_label=spelling[misleading_label])


class _KeyLabels(beam.DoFn):
    def process(self, row: Example | Reject) -> Iterator[tuple[str, Labelled]]:
        if isinstance(row, Example):
            yield row.task_id, (row.id, row.label, row.misleading_label)


class _Agree(beam.DoFn):
    def process(self, group: tuple[str, Iterable[Labelled]]) -> Iterator[Relabel]:
        yield from relabel(group[1])


@dataclasses.dataclass(eq=False)
class AgreeLabels(beam.PTransform):
    """Makes a Relabel for each Example that needs another spelling of a label. Only ids and labels are shuffled."""

    def expand(self, rows: beam.PCollection[Example | Reject]) -> beam.PCollection[Relabel]:
        return (
            rows
            | "KeyLabels" >> beam.ParDo(_KeyLabels()).with_output_types(tuple[str, Labelled])
            | "GroupByTask" >> beam.GroupByKey()
            | "Agree" >> beam.ParDo(_Agree())
        )
