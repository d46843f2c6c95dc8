"""Triplets: the examples as training reads them.

    anchor "Instruct: {task}\\nQuery: {input_text}"   positive: the label   negative: the misleading label

The anchor is that of "Improving Text Embeddings with Large Language Models" (arXiv 2401.00368), section 3.2; the names
and the order of the columns are those that the losses of sentence-transformers take.
"""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa
from textmint.transforms.core.elements import Example


class Triplet(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the training view. The columns are described in `TRIPLETS`."""

    anchor: str
    positive: str
    negative: str
    id: str
    task_id: str
    label_id: str
    misleading_label_id: str


def anchor_of(task: str, input_text: str) -> str:
    """Makes the query that is embedded for a task and a text; a trained model takes later queries in the same form."""
    return f"Instruct: {task}\nQuery: {input_text}"


def to_triplet(example: Example) -> Triplet:
    """Makes the training view of an example."""
    return Triplet(
        anchor=anchor_of(example.task, example.input_text),
        positive=example.label,
        negative=example.misleading_label,
        id=example.id,
        task_id=example.task_id,
        label_id=example.label_id,
        misleading_label_id=example.misleading_label_id,
    )


def _column(name: str, description: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata={"description": description})


TRIPLETS: Final = pa.schema(
    [
        # The losses take columns by their place, not by their names: the three texts come first, in this order.
        _column("anchor", "the task and the text to classify, as 'Instruct: {task}', a line break, 'Query: {text}'"),
        _column("positive", "the correct label"),
        _column("negative", "the misleading label: valid for the task but wrong here, a hard negative"),
        # sentence-transformers trains on every column that it is given, on ids too; see the dataset card.
        _column("id", "the id of the example, in the dataset `examples` too"),
        _column("task_id", "hash of the normalised task"),
        _column("label_id", "hash of task_id and the normalised label; rows that share it are no negatives"),
        _column("misleading_label_id", "hash of task_id and the normalised misleading label, to compare with label_id"),
    ]
)
"""The columns of the training view. Rows are sorted by `id`, a hash, so that neighbours are of different tasks."""
