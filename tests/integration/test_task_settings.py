"""Settings of a task in the user's file: its labels, its language, how many examples. Used, enforced, or refused."""

from __future__ import annotations

import collections
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from textmint.transforms.build_prompt import example_prompt
from textmint.transforms.core.elements import (
    Draft,
    Example,
    LabelSet,
    LabelSetSeed,
    Reject,
    Reply,
    Task,
    TaskSettings,
    Usage,
)
from textmint.transforms.core.labels import MAX_OWN_LABELS, own_labels, spelled_as
from textmint.transforms.core.prompt_template import LABELLED_VARIABLES, PromptTemplate
from textmint.transforms.core.tasks import MAX_EXAMPLES, MAX_UNKNOWN, TaskFileError, TaskSurvey, read_tasks
from textmint.transforms.dataset.accounting import discrepancies, increments, step_table
from textmint.transforms.flatten import first_of
from textmint.transforms.labels.plan_labels import PlanLabels
from textmint.transforms.ledger.join_ledger import JoinLedger
from textmint.transforms.llm.attempts import request_for
from textmint.transforms.llm.base import Answer
from textmint.transforms.parse_json import is_example, read_example
from textmint.transforms.sample_attributes import drafts_of

from tests.support.helpers import (
    TWO_WORKERS,
    FakeLLM,
    attributes,
    entry_of,
    files_of,
    generate,
    make_reject,
    make_reply,
    make_task,
    rows_of,
    run_main,
    run_step,
    shipped_template,
    shuffled,
)
from tests.support.llm_server import LlmServer

BEES = ("queen", "drone", "worker")
OWN = TaskSettings(labels=BEES, language="German", examples=7)


def own_task(text: str = "Sort bees", settings: TaskSettings | None = OWN) -> Task:
    return replace(make_task(text), settings=settings)


# --- files


def settings_of(content: bytes, path: str = "a.jsonl", unknown: set[str] | None = None) -> list[TaskSettings | None]:
    return [entry.settings for entry in read_tasks(io.BytesIO(content), path, unknown)]


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps({"task": "Sort bees", **row}) for row in rows).encode()


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    count = len(next(iter(columns.values())))
    pq.write_table(pa.table({"task": [f"Task {number}" for number in range(count)], **columns}), sink)
    return sink.getvalue()


def test_settings_stand_beside_the_task() -> None:
    rows = (
        {"labels": ["queen", " drone ", "worker"], "language": "de", "examples": 7},
        {},
        {"labels": None, "language": None, "examples": None},
        {"examples": 3.0},
    )
    assert settings_of(jsonl(*rows)) == [OWN, None, None, TaskSettings(examples=3)]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.dictionary(pa.int8(), pa.string()))]
)
def test_columns_of_parquet(kind: pa.DataType) -> None:
    plain = pa.array([list(BEES), None, ["late", "on time"]], pa.list_(pa.string()))
    if pa.types.is_dictionary(kind.value_type):
        coded = plain.flatten().dictionary_encode().cast(kind.value_type)
        labels = pa.ListArray.from_arrays(
            pa.array([0, 3, 3, 5], pa.int32()), coded, mask=pa.array([False, True, False])
        )
    else:
        labels = plain.cast(kind)
    content = parquet(labels=labels, examples=pa.array([7, None, None], pa.uint8()), language=["German", None, None])
    assert settings_of(content, "a.parquet") == [OWN, None, TaskSettings(labels=("late", "on time"))]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"labels": ["one"]}, "labels: 1 given, but a task has 2 to 200"),
        ({"labels": []}, "labels: 0 given"),
        ({"labels": [f"label {n}" for n in range(MAX_OWN_LABELS + 1)]}, "labels: 201 given"),
        ({"labels": "a, b"}, "labels: is str, not a list of strings"),
        ({"labels": {"a": 1, "b": 2}}, "labels: is dict, not a list of strings"),
        ({"labels": ["a", 7]}, "labels: item 2 is int, not a string"),
        ({"labels": ["a", None]}, "labels: item 2 is NoneType, not a string"),
        ({"labels": ["a", " "]}, "labels: item 2 is blank"),
        ({"labels": ["a", "b\0"]}, "labels: item 2 holds a NUL character"),
        ({"labels": ["Non-profit", "b", "non profit"]}, "labels: 'Non-profit' and 'non profit' are one label"),
        ({"labels": ["a", "x" * 1_001]}, f"labels: {'x' * 40!r}... is wider than 1,000 columns"),
        ({"labels": ["a", "字" * 501]}, "labels: '字字"),
        ({"task": "Sort\0 bees"}, "the task holds a NUL character"),
        ({"language": "Germn"}, "language: unknown language 'Germn': did you mean 'German'?"),
        ({"language": ""}, "language: unknown language ''"),
        ({"language": ["German"]}, "language: is list, not a string"),
        ({"examples": 0}, "examples: is 0; it must be a whole number from 1 to 1,000,000"),
        ({"examples": -3}, "examples: is -3; "),
        ({"examples": MAX_EXAMPLES + 1}, "examples: is 1000001; "),
        ({"examples": 10**400}, "examples: is 10000000000000000000; "),
        ({"examples": 2.5}, "examples: is 2.5; "),
        ({"examples": float("nan")}, "examples: is nan; "),
        ({"examples": float("inf")}, "examples: is inf; "),
        ({"examples": True}, "examples: is bool, not a number"),
        ({"examples": "3"}, "examples: is str, not a number"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_told_with_its_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskFileError) as error:
        settings_of(jsonl({}, row))
    assert str(error.value).startswith(f"line 2: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": ["a", "b"]}, "row 1: labels: is str, not a list"),
        ({"labels": [["a", "b"], ["a"]]}, "row 2: labels: 1 given"),
        ({"labels": [[1, 2], [3, 4]]}, "row 1: labels: item 1 is int"),
        ({"examples": [1, 0]}, "row 2: examples: is 0"),
        ({"examples": [1.0, 1.5]}, "row 2: examples: is 1.5"),
        ({"language": ["Thai", "Tai"]}, "row 2: language: unknown language 'Tai'"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_row(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskFileError, match=message):
        settings_of(parquet(**columns), "a.parquet")


def test_a_large_label_set_is_taken() -> None:
    """As those of intents: Banking has 77, CLINC 150."""
    assert len(own_labels([f"intent {number}" for number in range(MAX_OWN_LABELS)])) == MAX_OWN_LABELS


def test_lines_that_begin_with_a_hash_are_comments_in_text_only() -> None:
    content = b"# mine\nSort bees\n   # and\xc2\xa0his\n#\nTell C from C#\n"
    assert [entry.text.strip() for entry in read_tasks(io.BytesIO(content), "a.txt")] == ["Sort bees", "Tell C from C#"]
    (entry,) = read_tasks(io.BytesIO(b'{"task": "#metoo: tell support from mockery"}'), "a.jsonl")
    assert entry.text == "#metoo: tell support from mockery"


def test_unknown_keys_are_collected_and_not_without_end() -> None:
    unknown: set[str] = set()
    settings_of(jsonl({"note": 1, "labels": None}, {"lables": [], "id": 3}), unknown=unknown)
    assert unknown == {"note", "lables", "id"}
    settings_of(jsonl(*({f"k{number}": 1} for number in range(500))), unknown=unknown)
    assert len(unknown) == MAX_UNKNOWN
    columns: set[str] = set()
    settings_of(parquet(source=["x"], labels=[list(BEES)]), "a.parquet", columns)
    assert columns == {"source"}


# --- two lines of one task


def survey(*files: tuple[str, bytes]) -> TaskSurvey:
    found = TaskSurvey()
    for path, content in files:
        assert list(found.read(io.BytesIO(content), path))
    return found


def test_one_task_with_two_sets_of_labels_is_refused_with_both_lines() -> None:
    one = {"labels": ["queen", "drone"]}
    with pytest.raises(TaskFileError, match=r"^line 2: the same task stands in a.jsonl: line 1 with other labels; "):
        survey(("a.jsonl", jsonl(one, {"task": "SORT bees.", "labels": ["queen", "worker"]})))
    with pytest.raises(TaskFileError, match=r"^line 1: the same task stands in a.jsonl: line 2 with other examples"):
        survey(("a.jsonl", jsonl({}, {**one, "examples": 3})), ("b.jsonl", jsonl({**one, "examples": 4})))
    with pytest.raises(TaskFileError, match="with other language"):
        survey(("a.jsonl", jsonl({"language": "Thai"}, {"language": "German"})))


def test_one_task_may_stand_twice_with_one_meaning() -> None:
    """A line without settings says nothing; an order and a spelling of labels change no set."""
    found = survey(
        ("a.jsonl", jsonl({}, {"labels": ["queen", "drone"], "examples": 3}, {})),
        ("b.jsonl", jsonl({"labels": ["Drone", "queen."], "examples": 3})),
        ("c.txt", b"Sort bees\nSort trams\n"),
    )
    assert (found.tasks, found.labelled, found.own_tasks, found.own_examples, found.widest) == (6, 2, 2, 6, 6)


def test_of_two_lines_the_one_with_settings_stands_for_both_in_any_order() -> None:
    bare = replace(own_task(settings=None), task="SORT BEES")
    twice = [own_task(), bare, own_task(settings=replace(OWN, labels=BEES[::-1]))]
    kept = {next(iter(first_of(shuffled(twice, str(number))))) for number in range(10)}
    assert len(kept) == 1
    assert next(iter(kept)).settings is not None  # type: ignore[union-attr]


# --- drafts, prompts, replies


def drafts(task: Task | LabelSet, count: int = 2) -> list[Draft]:
    return list(drafts_of(task, examples_per_task=count, attributes=attributes(language="English,Thai"), seed=42))


def test_settings_go_before_the_options_and_ids_stay() -> None:
    own, plain = drafts(own_task()), drafts(own_task(settings=None), 7)
    assert [draft.draft_id for draft in own] == [draft.draft_id for draft in plain]
    assert {draft.language for draft in own} == {"German"}
    assert {draft.labels for draft in own} == {BEES}
    assert [replace(draft, language="", labels=()) for draft in own] == [replace(draft, language="") for draft in plain]


def test_planned_labels_are_taken_without_asking() -> None:
    llm = FakeLLM({"Sort trams": ('["late", "on time"]', "stop")}, LabelSetSeed, "PlanLabels", Usage(requests=1))
    trams = own_task("Sort trams", TaskSettings(language="Thai", examples=3))
    step = PlanLabels(PromptTemplate("labels", "Labels of {{ task }}"), JoinLedger(), llm)
    ran = run_step(step, [own_task(), trams, make_reject("Other")], Task)
    sets = {found.task: found for found in ran.of(LabelSet)}
    assert {task: found.labels for task, found in sets.items()} == {
        "Sort bees": BEES,
        "Sort trams": ("late", "on time"),
    }
    assert (sets["Sort bees"].model, sets["Sort bees"].usage, sets["Sort trams"].model) == ("", None, "m-1")
    assert len(ran.of(Reject)) == 1
    assert ran.counters == {"PlanLabels/in": 2, "PlanLabels/kept": 2}
    assert {draft.language for draft in drafts(sets["Sort trams"])} == {"Thai"}
    planned = drafts(sets["Sort bees"])
    assert len(planned) == 7 and {draft.label for draft in planned} == set(BEES)


def free_reply(label: str, misleading_label: str) -> Reply:
    prompt = example_prompt(drafts(own_task())[0], shipped_template("classify_labels"))
    told = {"input_text": "Sie summt.", "label": label, "misleading_label": misleading_label}
    return make_reply(prompt, json.dumps(told))


def test_the_prompt_tells_the_labels() -> None:
    template = shipped_template("classify_labels")
    template.check(LABELLED_VARIABLES)
    reply = free_reply("queen", "drone")
    assert "\n> queen\n> drone\n> worker\n\nReply" in reply.prompt.text
    assert reply.prompt.kind == "example" and "in German" in reply.prompt.text
    assert request_for(reply.prompt, "f").variables["labels"] == "queen\ndrone\nworker"


@pytest.mark.parametrize(
    ("label", "misleading_label", "outside"),
    [
        ("queen", "drone", None),
        (" QUEEN. ", "'Drone'", None),
        ("king", "drone", "the label 'king' is none of the 3 labels of the task"),
        ("queen", "hornet\n", "the misleading_label 'hornet' is none of the 3 labels of the task"),
        ("x" * 5_000, "drone", "the label 'xxx"),
    ],
)
def test_a_row_has_labels_of_the_user_or_is_refused(label: str, misleading_label: str, outside: str | None) -> None:
    reply = free_reply(label, misleading_label)
    found = read_example(reply, keep_raw=False)
    answer = Answer(text=reply.text, finish_reason="stop", model="m", prompt_tokens=1, output_tokens=1)
    assert is_example(reply.prompt, answer) == (outside is None)  # else it is asked again
    if outside is None:
        assert isinstance(found, Example)
        assert (found.label, found.misleading_label) == ("queen", "drone")
    else:
        assert isinstance(found, Reject)
        assert (found.reason, found.can_retry, found.raw_reply) == ("unknown_label", True, reply.text)
        assert found.detail.startswith(outside) and len(found.detail) < 200


def test_labels_are_known_in_any_spelling() -> None:
    assert spelled_as("non profit", ("Non-profit", "other")) == "Non-profit"
    assert spelled_as("profit", ("Non-profit", "other")) is None


def test_counts_add_up_whatever_tasks_ask_for() -> None:
    counts: collections.Counter[str] = collections.Counter()
    for task in (own_task(), own_task("Sort trams", None), own_task("Sort hives", TaskSettings(language="Thai"))):
        counts.update(dict(increments("tasks", task)))
    made = 7 + 2 + 2
    counts.update({"TaskGenerate/kept": 1, "Flatten/in": 3})
    counts.update(dict.fromkeys(("BuildPrompt/kept", "LLMCall/kept", "ParseJSON/kept", "CheckQuality/kept"), made))
    table = step_table(counts, task_requests=None, examples_per_task=2)
    assert table["SampleAttributes"] == {"in": 3, "kept": made, "rejected": {}}
    assert discrepancies(table, {"examples": made, "triplets": made, "tasks": 3, "rejects": 0}) == []


# --- whole runs

ROWS: list[dict[str, Any]] = [
    {"task": "Tell the tone of a letter", "labels": ["warm", "cold", "neutral"], "language": "en", "examples": 7},
    {"task": "Sort bees by role", "note": "mine"},
    {"task": "Sort trams", "labels": ["late", "on time"]},
]


def tasks_file(path: Path, order: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in shuffled(rows, order)))
    return path


@pytest.mark.parametrize("how", ["free", "planned"])
def test_a_run_of_tasks_with_and_without_settings(how: str, tmp_path: Path) -> None:
    for name, flags in (("a", ()), ("b", TWO_WORKERS if how == "planned" else ())):
        tasks = tasks_file(tmp_path / f"{name}.jsonl", name)
        done = generate(f"--tasks={tasks}", f"--label_plan={how}", "--verify", *flags, f"--output={tmp_path / name}")
        assert done.err.count("'note' mean nothing here") == 1
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    rows = rows_of(tmp_path / "a", "examples")
    assert collections.Counter(row["task"] for row in rows) == {
        ROWS[0]["task"]: 7,
        ROWS[1]["task"]: 3,
        ROWS[2]["task"]: 3,
    }
    for row in rows:
        given = next(task for task in ROWS if task["task"] == row["task"])
        assert {row["label"], row["misleading_label"]} <= set(
            given.get("labels", (row["label"], row["misleading_label"]))
        )
        assert row["language"] == "English"
    plain = tasks_file(tmp_path / "plain.jsonl", "", [{"task": row["task"]} for row in ROWS])
    generate(f"--tasks={plain}", f"--label_plan={how}", f"--output={tmp_path / 'plain'}")
    bees = [
        [row for row in rows_of(tmp_path / name, "examples") if row["task"] == ROWS[1]["task"]]
        for name in ("a", "plain")
    ]
    assert bees[0] == bees[1]  # settings of one task change nothing of another


def test_changed_labels_are_another_run(tmp_path: Path) -> None:
    flags = [f"--tasks={tmp_path / 'a.jsonl'}", f"--output={tmp_path / 'out'}"]
    tasks_file(tmp_path / "a.jsonl", "")
    generate(*flags)
    assert "there is nothing to do" in generate(*flags).err
    tasks_file(tmp_path / "a.jsonl", "", [*ROWS[:2], {**ROWS[2], "labels": ["early", "on time"]}])
    assert "there is nothing to do" not in generate(*flags).err
    assert {"early"} < {row["label"] for row in rows_of(tmp_path / "out", "examples")}


def test_a_model_that_takes_other_labels_gives_no_row(tmp_path: Path) -> None:
    with LlmServer() as server:
        flags = ["--llm=openai", f"--base_url={server.base_url}/v1", "--model=m", "--examples_per_task=2"]
        rows = [{"task": "Sort trams", "labels": ["punctual", "delayed"]}]
        tasks = tasks_file(tmp_path / "a.jsonl", "", rows)
        done = run_main("generate", *flags, f"--tasks={tasks}", f"--output={tmp_path / 'out'}")
    assert done.code == 1 and "2 ParseJSON unknown_label" in done.err
    assert {row["reason"] for row in rows_of(tmp_path / "out", "rejects")} == {"unknown_label"}
    assert entry_of(tmp_path / "out")["steps"]["LLMCall"]["requests"]["asked_again"] == 2
