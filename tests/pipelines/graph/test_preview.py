"""What only a preview's graph has: how few examples are divided among tasks, and the file in place of a dataset."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.pipelines.graph.preview import FewExamples, WritePreview, examples_of_each, read_preview
from textmint.transforms.core.elements import Task, TaskSettings

from tests.support.helpers import make_example, make_reject, make_task, run_graph, run_step, shuffled


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 5), max_size=8), st.integers(0, 30))
def test_rows_are_divided_evenly_and_within_the_limits(limits: dict[str, int], rows: int) -> None:
    shares = examples_of_each(limits, rows)
    assert shares.keys() == limits.keys() and all(shares[task] <= limits[task] for task in limits)
    assert sum(shares.values()) == min(rows, sum(limits.values()))
    assert shares == examples_of_each(dict(shuffled(list(limits.items()))), rows)
    open_ = [shares[task] for task in limits if shares[task] < limits[task]]
    assert not open_ or max(shares.values()) <= min(open_) + 1  # nobody has a third one where another has no second


def test_tasks_get_their_share_as_a_setting() -> None:
    own = replace(make_task("Sort bees"), settings=TaskSettings(labels=("a", "b"), examples=2))
    others = [make_task(f"Sort shelf {number}") for number in range(2)]
    reject = make_reject("Another task")
    ran = run_step(FewExamples(7, 4), shuffled([own, *others, reject]), Task)
    shares = {task.task: task.settings.examples for task in ran.of(Task)}
    assert shares["Sort bees"] == 2 and sorted(shares.values()) == [2, 2, 3]
    assert {task.task: task.settings.labels for task in ran.of(Task)}["Sort bees"] == ("a", "b")
    assert [element for element in ran.elements if not isinstance(element, Task)] == [reject]
    again = run_step(FewExamples(7, 4), [*others, own], Task)
    assert {task.task: task.settings.examples for task in again.of(Task)} == shares


def test_what_is_written_is_read_in_one_order(tmp_path: Path) -> None:
    rows = [make_example(f"Task {number}") for number in range(4)]
    found = []
    for name in ("one", "two"):
        path = str(tmp_path / name)

        def build(pipeline: beam.Pipeline, path: str = path, name: str = name) -> beam.PCollection:
            streams = {
                "examples": pipeline | "Rows" >> beam.Create(shuffled([*rows, make_reject()], name)),
                "counts": pipeline | "Counts" >> beam.Create([("LLMCall/kept", 4), ("Flatten/in", 9)]),
            }
            return streams | WritePreview(path)

        assert run_graph(build).elements == [path]
        found.append(read_preview(path))
    assert found[0] == found[1]
    assert found[0].counts == {"LLMCall/kept": 4, "Flatten/in": 9}
    assert {element.id for element in found[0].elements["examples"]} == {*(row.id for row in rows), make_reject().id}
