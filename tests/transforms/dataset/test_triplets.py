"""Triplets: the training view says what the paper and sentence-transformers expect."""

from __future__ import annotations

import pickle

import msgspec
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.labels import label_id
from textmint.transforms.dataset.schema import to_table
from textmint.transforms.dataset.triplets import TRIPLETS, Triplet, anchor_of, to_triplet

from tests.support.helpers import make_example


def test_the_view_of_an_example() -> None:
    example = make_example(
        "Sort mail by topic",
        id="e1",
        task_id="t1",
        input_text="My parcel\nis late.",
        label="post",
        misleading_label="tax",
    )
    assert to_triplet(example) == Triplet(
        # "Instruct: {task_definition} \n Query: {q+}" in section 3.2 of arXiv 2401.00368, spaced as in the code that
        # the authors published with the model (https://huggingface.co/intfloat/e5-mistral-7b-instruct)
        anchor="Instruct: Sort mail by topic\nQuery: My parcel\nis late.",
        positive="post",
        negative="tax",
        id="e1",
        task_id="t1",
        label_id=label_id("t1", "post"),
        misleading_label_id=label_id("t1", "tax"),
    )


@given(st.text(), st.text())
def test_nothing_of_the_texts_is_changed(task: str, text: str) -> None:
    assert anchor_of(task, text) == "Instruct: " + task + "\nQuery: " + text


def test_the_columns_are_the_fields_in_an_order_that_losses_understand() -> None:
    assert TRIPLETS.names == list(Triplet.__struct_fields__)
    # MultipleNegativesRankingLoss, TripletLoss and their like take the first column as the anchor, the second as the
    # positive and the third as a hard negative
    assert TRIPLETS.names[:3] == ["anchor", "positive", "negative"]
    # a column of one of these names would be taken for the label of the row
    assert not {"label", "labels", "score", "scores"} & set(TRIPLETS.names)
    assert all(field.type == pa.string() and not field.nullable for field in TRIPLETS)
    assert all(field.metadata[b"description"] for field in TRIPLETS)


def test_rows_fit_the_schema_and_travel_between_processes() -> None:
    triplet = to_triplet(make_example())
    assert pickle.loads(pickle.dumps(triplet)) == triplet
    table = to_table([triplet], TRIPLETS)
    assert table.to_pylist() == [msgspec.structs.asdict(triplet)]
