"""Schema: the columns as promised, and the same bytes for the same rows."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, LabelSet, Reject, Task
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.dataset.schema import (
    KINDS,
    ROW_GROUP_ROWS,
    DatasetKind,
    kind_of,
    schema_of,
    sort_key,
    to_parquet,
    to_table,
)
from textmint.transforms.dataset.triplets import Triplet, to_triplet

from tests.support.helpers import make_example, make_list, make_reject, make_task

COLUMNS = [
    *("id", "task_id", "task", "input_text", "label", "misleading_label", "label_id", "misleading_label_id"),
    *("language", "difficulty", "clarity", "num_words", "replica", "prompt", "template", "model", "finish_reason"),
    *("prompt_tokens", "output_tokens", "seed"),
]
COLUMNS_WITH_RAW = [*COLUMNS[:-1], "raw_reply", "seed"]


def example(number: int, **changes: Any) -> Example:
    return make_example("Sort mail", number, raw_reply=f"{{{number}}}", **changes)


def task(number: int, **changes: Any) -> Task:
    return replace(make_task(f"Task {number}"), **changes)


def reject(number: int, **changes: Any) -> Reject:
    return replace(make_reject("Sort mail", number), **changes)


def triplet(number: int, **changes: Any) -> Triplet:
    return replace(to_triplet(example(number)), **changes)


def label_set(number: int, **changes: Any) -> LabelSet:
    made = LabelSet(
        task_id=stable_hash("task", number),
        task=f"Task {number}",
        labels=("yes", "no"),
        label_ids=("1", "2"),
        model="m-1",
        template="label_set@1",
        prompt_tokens=10,
        output_tokens=20,
        seed=42,
    )
    return replace(made, **changes)


MAKE: dict[DatasetKind, Any] = {
    "examples": example,
    "triplets": triplet,
    "label_sets": label_set,
    "tasks": task,
    "rejects": reject,
}
DERIVED = {"label_id", "misleading_label_id"}  # of an example, properties and no fields


def read(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


@pytest.mark.parametrize(("keep_raw", "names"), [(False, COLUMNS), (True, COLUMNS_WITH_RAW)])
def test_columns_of_examples_in_their_order(keep_raw: bool, names: list[str]) -> None:
    schema = schema_of("examples", keep_raw=keep_raw)
    assert schema.names == names
    integers = {"replica", "prompt_tokens", "output_tokens", "seed"}
    assert {field.name for field in schema if field.type == pa.int64()} == integers
    assert {field.name for field in schema if field.type == pa.string()} == set(names) - integers
    assert not any(field.nullable for field in schema)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_raw", [False, True])
def test_every_column_is_described_and_nulls_are_explained(kind: DatasetKind, keep_raw: bool) -> None:
    for field in schema_of(kind, keep_raw=keep_raw):
        description = field.metadata[b"description"].decode()
        assert description
        assert field.nullable == ("null" in description), field.name


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_is_a_field_of_its_element(kind: DatasetKind) -> None:
    fields = set(type(MAKE[kind](0)).__struct_fields__)
    names = schema_of(kind, keep_raw=True).names
    # repairs and what a reply cost are counted, not written
    told_elsewhere = {"repairs", "verified", "usage", "settings", "bucket"} | (
        {"first_replica"} if kind == "label_sets" else set()
    )
    assert set(names) == fields - told_elsewhere | (DERIVED if kind == "examples" else set())
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_file_has_the_schema_with_data_and_without(kind: DatasetKind, count: int) -> None:
    schema = schema_of(kind)
    table = read(to_parquet([MAKE[kind](number) for number in range(count)], schema))
    assert table.num_rows == count
    assert table.schema.equals(schema, check_metadata=False)
    assert [field.nullable for field in table.schema] == [field.nullable for field in schema]
    assert not any(pa.types.is_null(field.type) for field in table.schema)
    # a row group without rows is legal Parquet, but `datasets` takes its size for the size of a batch and fails
    groups = pq.ParquetFile(io.BytesIO(to_parquet([MAKE[kind](number) for number in range(count)], schema))).metadata
    assert groups.num_row_groups == min(count, 1)
    assert all(table.schema.field(field.name).metadata[b"description"] for field in schema)


@pytest.mark.parametrize("keep_raw", [False, True])
def test_values_arrive(keep_raw: bool) -> None:
    rows = [example(number, input_text="Umlaut ä, emoji \U0001f600, NUL \0, line\nend") for number in range(3)]
    names = COLUMNS_WITH_RAW if keep_raw else COLUMNS
    expected = [{name: getattr(row, name) for name in names} for row in sorted(rows, key=lambda row: row.id)]
    assert read(to_parquet(rows, schema_of("examples", keep_raw=keep_raw))).to_pylist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_sorted(kind: DatasetKind) -> None:
    column = "task_id" if kind in ("tasks", "label_sets") else "id"
    content = to_parquet([MAKE[kind](number) for number in range(50)], schema_of(kind))
    ids = read(content).column(column).to_pylist()
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    # the file says by what it is sorted
    (sorting,) = group.sorting_columns
    assert group.column(sorting.column_index).path_in_schema == column


def test_every_column_is_zstd() -> None:
    metadata = pq.ParquetFile(io.BytesIO(to_parquet([example(0)], schema_of("examples")))).metadata
    group = metadata.row_group(0)
    assert {group.column(place).compression for place in range(group.num_columns)} == {"ZSTD"}


@settings(max_examples=25)
@given(st.permutations(range(8)), st.sampled_from(KINDS))
def test_bytes_are_equal_in_any_order(order: list[int], kind: DatasetKind) -> None:
    rows = [MAKE[kind](number) for number in range(8)]
    assert to_parquet([rows[place] for place in order], schema_of(kind)) == to_parquet(rows, schema_of(kind))


@settings(max_examples=15)
@given(st.permutations(range(4)))
def test_rejects_of_one_id_have_an_order_too(order: list[int]) -> None:
    rows = [
        reject(0, stage=stage, reason=reason) for stage in ("Flatten", "ParseJSON") for reason in ("empty", "blocked")
    ]
    assert to_parquet([rows[place] for place in order], schema_of("rejects")) == to_parquet(rows, schema_of("rejects"))


def test_one_value_changes_the_bytes() -> None:
    rows = [example(number) for number in range(3)]
    changed = [*rows[:2], replace(rows[2], label="other")]
    assert to_parquet(rows, schema_of("examples")) != to_parquet(changed, schema_of("examples"))


def test_row_groups_are_bounded() -> None:
    rows = [task(0, task_id=f"{number:08x}") for number in range(ROW_GROUP_ROWS + 1)]
    metadata = pq.ParquetFile(io.BytesIO(to_parquet(rows, schema_of("tasks")))).metadata
    assert [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)] == [ROW_GROUP_ROWS, 1]


NON_NULL = [
    (kind, field.name)
    for kind in KINDS
    for field in schema_of(kind, keep_raw=True)
    if not field.nullable and not (kind == "examples" and field.name in DERIVED)
]


@pytest.mark.parametrize(("kind", "name"), [pair for pair in NON_NULL if pair[1] not in ("id", "task_id")])
def test_a_null_in_a_non_null_column_is_refused(kind: DatasetKind, name: str) -> None:
    rows = [MAKE[kind](0), replace(MAKE[kind](1), **{name: None})]
    with pytest.raises(ValueError, match=rf"column '{name}' is null in the row \('{sort_key(rows[1])[0]}'"):
        to_parquet(rows, schema_of(kind, keep_raw=True))


@pytest.mark.parametrize("kind", KINDS)
def test_nulls_are_allowed_where_declared(kind: DatasetKind) -> None:
    names = [field.name for field in schema_of(kind) if field.nullable]
    row = replace(MAKE[kind](0), **dict.fromkeys(names))
    assert all(read(to_parquet([row], schema_of(kind))).column(name).null_count == 1 for name in names)


@pytest.mark.parametrize(("name", "value"), [("label", 7), ("label", ["a"]), ("replica", "0"), ("seed", 1 << 63)])
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises((pa.ArrowException, OverflowError)):
        to_table([replace(example(0), **{name: value})], schema_of("examples"))


def test_limits_of_integers() -> None:
    rows = [example(0, seed=-(1 << 63)), example(1, seed=(1 << 63) - 1)]
    assert {row["seed"] for row in to_table(rows, schema_of("examples")).to_pylist()} == {-(1 << 63), (1 << 63) - 1}


def test_kinds() -> None:
    assert KINDS[-1] == "examples"  # published last
    assert {kind_of(MAKE[kind](0)): kind for kind in KINDS} == {kind: kind for kind in KINDS}
    assert kind_of(make_list()) is None
    assert kind_of(None) is None
