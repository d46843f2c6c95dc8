"""TaskGenerate and ReadTasks: prompts of the rounds, lists from replies, lists from files."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from textmint.transforms.core.elements import REASONS, Reject, TaskList, TaskSeed
from textmint.transforms.core.identity import Part
from textmint.transforms.llm.base import Answer, Refused, Request
from textmint.transforms.llm_call import LLMCall
from textmint.transforms.task_generate import (
    ReadTasks,
    SeedsOf,
    TaskGenerate,
    brainstorm_prompt,
    read_task_list,
    spans_of,
    task_seeds,
)

from tests.support.helpers import BRAINSTORM, Ran, make_brainstorm_prompt, make_prompt, make_reply, run_graph, run_step

TOPICS = ("bees", "trams", "opera", "tax", "chess")


@dataclasses.dataclass(frozen=True)
class ListBackend:
    """Answers each topic in its own way: a list, prose, nothing, or an exception."""

    def fingerprint(self) -> Mapping[str, Part]:
        return {"backend": "lists"}

    async def generate(self, request: Request) -> Answer:
        topic = request.variables["topic"]
        if topic == "tax":
            raise Refused("no route")
        texts = {"bees": '["Sort bees", "Sort hives"]', "trams": "I would rather not.", "opera": ""}
        return Answer(
            text=texts.get(topic, '["Sort games", 7, " "]'),
            finish_reason="stop",
            model="lists-1",
            prompt_tokens=3,
            output_tokens=2,
        )

    async def open(self) -> ListBackend:
        return self

    async def aclose(self) -> None:
        pass


def seeds(rounds: int = 5) -> list[TaskSeed]:
    return task_seeds(rounds, topics=TOPICS, refresh="base", seed=42)


@pytest.fixture(scope="module")
def brainstormed() -> Ran:
    return run_step(TaskGenerate(BRAINSTORM, LLMCall(ListBackend(), stage="TaskGenerate")), seeds(), TaskSeed)


def test_the_first_rounds_stay_when_more_are_asked_for() -> None:
    assert seeds(12)[:5] == seeds(5)
    assert len({seed.seed_id for seed in seeds(1000)}) == 1000


def test_the_seed_and_the_label_change_every_round() -> None:
    ids = [
        {seed.seed_id for seed in task_seeds(9, topics=TOPICS, refresh=refresh, seed=seed)}
        for refresh, seed in (("base", 42), ("base", 43), ("next", 42))
    ]
    assert len(set.union(*ids)) == 27


def test_prompts_of_the_rounds_differ() -> None:
    prompts = [brainstorm_prompt(seed, BRAINSTORM) for seed in seeds(15)]
    assert len({prompt.text for prompt in prompts}) == 15
    assert {prompt.kind for prompt in prompts} == {"task_list"}
    assert [prompt.prompt_id for prompt in prompts] == [seed.seed_id for seed in seeds(15)]


def test_without_topics_the_prompt_is_bare() -> None:
    bare = task_seeds(2, topics=(), refresh="base", seed=42)
    assert [brainstorm_prompt(seed, BRAINSTORM).text for seed in bare] == ["Tasks", "Tasks"]
    assert bare[0].seed_id != bare[1].seed_id


def test_every_round_becomes_a_list_or_a_reject(brainstormed: Ran) -> None:
    lists, rejects = brainstormed.of(TaskList), brainstormed.of(Reject)
    assert len(lists) + len(rejects) == 5
    assert {items.topic: items.items for items in lists} == {
        "bees": ("Sort bees", "Sort hives"),
        "chess": ("Sort games",),
    }
    assert {reject.topic: reject.reason for reject in rejects} == {
        "trams": "not_json",
        "opera": "empty",
        "tax": "request_failed",
    }
    assert {reject.stage for reject in rejects} == {"TaskGenerate"}
    assert {reject.reason for reject in rejects} <= set(REASONS)


def test_a_list_knows_where_it_comes_from(brainstormed: Ran) -> None:
    rounds = {seed.topic: seed.round for seed in seeds()}
    for tasks in brainstormed.of(TaskList):
        assert (tasks.source, tasks.model, tasks.template) == ("brainstorm", "lists-1", BRAINSTORM.name)
        assert tasks.round == rounds[tasks.topic]


def test_refused_items_ride_along(brainstormed: Ran) -> None:
    chess = next(tasks for tasks in brainstormed.of(TaskList) if tasks.topic == "chess")
    assert [reason for reason, _, _ in chess.refused] == ["wrong_type", "empty_field"]


def test_a_reject_holds_the_prompt_and_the_reply(brainstormed: Ran) -> None:
    reject = next(reject for reject in brainstormed.of(Reject) if reject.topic == "trams")
    assert (reject.raw_reply, reject.prompt, reject.model) == ("I would rather not.", "Tasks on trams", "lists-1")
    assert reject.can_retry


def test_each_round_is_counted_once(brainstormed: Ran) -> None:
    counters = {name: n for name, n in brainstormed.counters.items() if name.startswith("TaskGenerate/")}
    outcomes = {name: n for name, n in counters.items() if "rejected." in name or name.endswith(("/in", "/kept"))}
    assert outcomes == {
        "TaskGenerate/in": 5,
        "TaskGenerate/kept": 2,
        "TaskGenerate/rejected.not_json": 1,
        "TaskGenerate/rejected.empty": 1,
        "TaskGenerate/rejected.request_failed": 1,
    }
    assert counters["TaskGenerate/gen_ai.client.inference.usage.input_tokens"] == 12
    assert counters["TaskGenerate/gen_ai.client.inference.usage.output_tokens"] == 8


def test_a_reply_to_another_question_is_an_error() -> None:
    with pytest.raises(TypeError, match="Draft"):
        read_task_list(make_reply(make_prompt(), '["Sort bees"]'))


def test_a_withheld_list_cannot_be_had_by_asking_again() -> None:
    reject = read_task_list(make_reply(make_brainstorm_prompt(), "", "content_filter"))
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.can_retry) == ("blocked", False)


def write_tasks(folder: Path, name: str, tasks: list[str]) -> Path:
    path = folder / name
    lines = "".join(f"{task}\n" for task in tasks)
    jsonl = "".join(json.dumps({"task": task, "note": 1}) + "\n" for task in tasks)
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"note": [1] * len(tasks), "task": tasks}), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress((jsonl if "jsonl" in name else lines).encode()))
    else:
        path.write_text(jsonl if "jsonl" in name else lines, "utf-8")
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet", "a.txt.gz", "a.jsonl.gz"])
def test_every_format_is_read(tmp_path: Path, name: str) -> None:
    tasks = ["Sort bees", "Trier les abeilles d'été", 'Sort "x" {{ 7*7 }} \U0001f41d']
    path = write_tasks(tmp_path, name, tasks)
    with TestPipeline("FnApiRunner") as pipeline:
        items = pipeline | ReadTasks(str(path)) | beam.FlatMap(lambda tasks: [task.strip() for task in tasks.items])
        assert_that(items, equal_to(tasks))


def test_a_pattern_reads_every_file_and_long_files_come_in_pieces(tmp_path: Path) -> None:
    write_tasks(tmp_path, "a.txt", [f"Sort {n}" for n in range(2_500)])
    write_tasks(tmp_path, "b.txt", ["Sort bees"])
    ran = run_graph(lambda pipeline: pipeline | ReadTasks(str(tmp_path / "*.txt")))
    assert sorted(len(tasks.items) for tasks in ran.elements) == [1, 500, 1_000, 1_000]
    assert {item.strip() for tasks in ran.elements for item in tasks.items} == {
        "Sort bees",
        *(f"Sort {n}" for n in range(2_500)),
    }
    assert {(tasks.source, tasks.round, tasks.topic, tasks.model) for tasks in ran.elements} == {
        ("file", 0, None, None)
    }


@pytest.mark.parametrize("rounds", [1, 999, 1_000, 1_001, 2_500])
def test_seeds_of_spans_are_those_of_all_rounds(rounds: int) -> None:
    spans = spans_of(rounds)
    assert [seed for span in spans for seed in SeedsOf(TOPICS, "base", 42)(span)] == seeds(rounds)
    assert len(spans) == -(-rounds // 1_000)
