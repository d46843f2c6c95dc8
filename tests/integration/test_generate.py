"""The main job from its command line: options in, the dataset folder and an exit code out."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from apache_beam.internal import pickler
from apache_beam.pipeline import PipelineVisitor
from apache_beam.typehints.decorators import TypeCheckError
from apache_beam.typehints.typehints import is_consistent_with
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import build
from textmint.pipelines.options.parse import parse
from textmint.transforms.build_prompt import BuildPrompt
from textmint.transforms.core.elements import REASONS, Draft, Example, Prompt, Reject, Reply, Task, TaskList, TaskSeed
from textmint.transforms.core.languages import NAMES
from textmint.transforms.dataset.publish import finish_publishing
from textmint.transforms.dataset.schema import schema_of
from textmint.transforms.dataset.statistics_file import STATISTICS, read_statistics
from textmint.transforms.flatten import Flatten
from textmint.transforms.llm.offline.backend import OfflineBackend
from textmint.transforms.llm_call import LLMCall
from textmint.transforms.parse_json import ParseJSON
from textmint.transforms.sample_attributes import SampleAttributes
from textmint.transforms.statistics.published import compute_statistics
from textmint.transforms.task_generate import TaskGenerate

from tests.support.docs import PAGES
from tests.support.helpers import (
    BRAINSTORM,
    TEMPLATE,
    TWO_WORKERS,
    Done,
    attributes,
    entry_of,
    files_of,
    finish,
    generate,
    make_seed,
    rows_of,
    run_main,
    shuffled,
    start,
)
from tests.support.llm_server import LlmServer

FOLDER = [
    *("README.md", "examples", "ledger", "manifest.json", "rejects", "report.html", "statistics.json", "tasks"),
    "triplets",
]
DATASETS = ("examples", "rejects", "tasks", "triplets")
HOSTILE = [
    "Classify {{ 7*7 }} and {% raw %} by mood",
    "{# gone? #} {{ task.__class__.__mro__ }}",
    "Sort \"quoted\", 'single' and \\escaped\\n text",
    '"}, {"input_text": "x", "label": "y"}',
    "Sort emoji \U0001f600\U0001f1e9\U0001f1ea by feeling",
    "\u0635\u0646\u0641 \u0627\u0644\u0631\u0633\u0627\u0626\u0644 \u202eabc\u202c",
    "__import__('os').system('false')",
    "<script>alert(1)</script> & <b>bold</b>",
    "=1+1,;\tcells",
]
PARSE_REASONS = {
    "empty",
    "blocked",
    "truncated",
    "not_json",
    "wrong_shape",
    "missing_field",
    "wrong_type",
    "empty_field",
}


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done


# --- the order of the steps


def steps() -> dict[str, beam.PTransform]:
    backend = OfflineBackend()
    return {
        "TaskGenerate": TaskGenerate(BRAINSTORM, LLMCall(backend, stage="TaskGenerate")),
        "Flatten": Flatten(),
        "SampleAttributes": SampleAttributes(2, attributes()),
        "BuildPrompt": BuildPrompt(TEMPLATE),
        "LLMCall": LLMCall(backend),
        "ParseJSON": ParseJSON(),
    }


OUTPUTS: dict[str, type] = {
    "TaskGenerate": TaskList,
    "Flatten": Task,
    "SampleAttributes": Draft,
    "BuildPrompt": Prompt,
    "LLMCall": Reply,
    "ParseJSON": Example,
}
NAMES_IN_ORDER = list(OUTPUTS)


def chain(names: list[str]) -> dict[str, Any]:
    """Returns what each of the named steps puts out, on a pipeline that is never run."""
    made = steps()
    stream: Any = beam.Pipeline("FnApiRunner") | beam.Create([make_seed()]).with_output_types(TaskSeed)
    found = {}
    for name in names:
        stream = found[name] = stream | made[name]
    return found


def test_the_right_order_is_taken_and_every_output_has_its_type() -> None:
    for name, stream in chain(NAMES_IN_ORDER).items():
        kind = OUTPUTS[name]
        assert is_consistent_with(stream.element_type, kind | Reject)
        assert is_consistent_with(kind, stream.element_type)
        assert is_consistent_with(Reject, stream.element_type)
        assert not is_consistent_with(int, stream.element_type)


@pytest.mark.parametrize("place", range(len(NAMES_IN_ORDER) - 1))
def test_two_neighbours_swapped_are_refused_at_construction(place: int) -> None:
    names = [*NAMES_IN_ORDER]
    names[place], names[place + 1] = names[place + 1], names[place]
    with pytest.raises(TypeCheckError):
        chain(names)


@pytest.mark.parametrize("left_out", NAMES_IN_ORDER[1:-1])
def test_a_step_left_out_is_refused_at_construction(left_out: str) -> None:
    with pytest.raises(TypeCheckError):
        chain([name for name in NAMES_IN_ORDER if name != left_out])


# --- the graph itself


class _Ours(PipelineVisitor):
    def __init__(self) -> None:
        self.found: list[Any] = []
        self.labels: set[str] = set()

    def enter_composite_transform(self, transform_node: Any) -> None:
        self.visit_transform(transform_node)

    def visit_transform(self, transform_node: Any) -> None:
        self.labels.add(transform_node.full_label)
        transform = transform_node.transform
        for thing in (transform, getattr(transform, "fn", None)):
            if type(thing).__module__.startswith("textmint.transforms."):
                self.found.append(thing)


@pytest.mark.parametrize("source", ["brainstorm", "file"])
def test_the_graph_translates_and_each_part_pickles(source: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.txt"
    tasks.write_text("Sort bees\n")
    extra = [f"--tasks={tasks}"] if source == "file" else []
    config, options = parse([f"--output={tmp_path}", "--max_tasks=3", *extra])
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, target_of(config))
    visitor = _Ours()
    pipeline.visit(visitor)
    kinds = {type(thing).__name__ for thing in visitor.found}
    named = {*OUTPUTS, "CountElements", "WriteDataset"} - {"TaskGenerate"}
    assert named | {"TaskGenerate" if source == "brainstorm" else "ReadTasks"} <= kinds
    assert named <= visitor.labels
    for thing in visitor.found:
        again = pickler.loads(pickler.dumps(thing))
        assert type(again) is type(thing)
    proto = pipeline.to_runner_api()
    assert len(proto.components.transforms) > 50


# --- a run with nothing but defaults


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done, Path]:
    """Returns where a plain run ran, what it said, and the folder that another, with two worker processes, wrote."""
    here = tmp_path_factory.mktemp("plain")
    one = start("generate", cwd=here)
    two = start("generate", "--output=two", *TWO_WORKERS, cwd=here)
    done = finish(one)
    ok(finish(two))
    return here, done, here / "two"


def test_defaults(plain: tuple[Path, Done, Path]) -> None:
    here, done, _ = plain
    ok(done)
    entry = entry_of(here / "output")
    counts = entry["counts"]
    assert counts["examples"] + counts["rejects"] == 3 * counts["tasks"] > 200
    rejects = rows_of(here / "output", "rejects")
    assert len(rejects) == counts["rejects"] <= 3
    assert {row["reason"] for row in rejects} <= {"duplicate"}  # the embedded author says a short thing twice
    line = entry["steps"]["TaskGenerate"]
    assert (line["in"], line["kept"], line["rejected"]) == (5, 5, {})
    assert line["requests"] == {"asked_again": 0, "from_ledger": 0, "retries": 0, "sent": 5, "throttled": 0}
    assert entry["options"]["seed"] == 42
    assert sorted(path.name for path in (here / "output").iterdir()) == FOLDER
    assert sorted(path.name for path in here.iterdir()) == ["output", "two"]


def test_what_the_rows_are_like_is_the_same_in_two_processes_and_made_anew(plain: tuple[Path, Done, Path]) -> None:
    here, _, two = plain
    written = (here / "output" / STATISTICS).read_bytes()
    assert (two / STATISTICS).read_bytes() == written
    figures = read_statistics(str(here / "output"))["base"]
    assert json.dumps(compute_statistics(str(here / "output"), "base")) == json.dumps(figures)
    assert figures["attributes"]["language"] == {
        "English": {"asked": 3 * figures["rows"]["tasks"], "kept": figures["rows"]["examples"]}
    }


def test_the_summary_says_what_a_user_wants_to_know(plain: tuple[Path, Done, Path]) -> None:
    here, done, _ = plain
    counts = entry_of(here / "output")["counts"]
    examples, tasks, rejects = (f"{counts[kind]:,}" for kind in ("examples", "tasks", "rejects"))
    assert f"output: {examples} examples of {tasks} tasks, {rejects} rejects" in done.out
    for name in ("task", "input_text", "label", "misleading_label"):
        assert len(re.findall(rf"^  {name} +\S", done.out, re.MULTILINE)) == 3
    assert re.search(r"^Next: +.+ generate --task_requests=", done.out, re.MULTILINE)
    commands = ("Look at it: ", "Next: ", "To train on: ")  # as long as the path of the Python that runs
    assert max(len(line) for line in done.out.splitlines() if not line.startswith(commands)) <= 130


def test_the_command_that_the_summary_offers_works(plain: tuple[Path, Done, Path]) -> None:
    here, done, _ = plain
    look = re.search(r"^Look at it: +(.*)$", done.out, re.MULTILINE)
    assert look
    program, *arguments = shlex.split(look[1])
    assert Path(here, program).samefile(sys.executable)  # the Python that has pyarrow, seen from where the user is
    shown = subprocess.run([program, *arguments], cwd=here, capture_output=True, text=True, check=True)
    assert "misleading_label" in shown.stdout


def test_the_schema_of_the_partitioned_datasets(plain: tuple[Path, Done, Path]) -> None:
    here, _, _ = plain
    for kind in ("examples", "tasks", "rejects"):
        table = ds.dataset(here / "output" / kind, partitioning="hive").to_table()
        assert table.schema.names == [*schema_of(kind).names, "refresh"]  # type: ignore[arg-type]
        for field in schema_of(kind):  # type: ignore[arg-type]
            found = table.schema.field(field.name)
            assert (found.type, found.nullable) == (field.type, field.nullable)
            assert not pa.types.is_null(found.type)
    columns = (
        "id, task_id, task, input_text, label, misleading_label, label_id, misleading_label_id, language, difficulty, "
        "clarity, num_words, replica, prompt, template, model, finish_reason, prompt_tokens, output_tokens, seed"
    )
    assert schema_of("examples").names == columns.split(", ")
    assert not any(field.nullable for field in schema_of("examples"))


def test_rows_explain_themselves(plain: tuple[Path, Done, Path]) -> None:
    here, _, _ = plain
    rows = rows_of(here / "output", "examples")
    tasks = {row["task_id"]: row["task"] for row in rows_of(here / "output", "tasks")}
    assert {row["task_id"]: row["task"] for row in rows} == tasks
    assert {row["model"] for row in rows} == {"offline-2"}
    replicas = Counter(row["replica"] for row in [*rows, *rows_of(here / "output", "rejects")])
    assert replicas == dict.fromkeys(range(3), len(tasks))
    for row in rows:
        assert row["task"] in row["prompt"] and f"must have {row['num_words']} words" in row["prompt"]
        assert row["label"] != row["misleading_label"]
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})


def test_worker_processes_change_no_byte(plain: tuple[Path, Done, Path]) -> None:
    here, _, two = plain
    assert files_of(two) == files_of(here / "output")


def test_worker_threads_and_a_second_run_change_no_byte(plain: tuple[Path, Done, Path], tmp_path: Path) -> None:
    here, _, _ = plain
    again = tmp_path / "again"
    shutil.copytree(here / "output", again)
    generate(f"--output={again}", "--direct_num_workers=3", "--direct_running_mode=multi_threading")
    assert files_of(again) == files_of(here / "output")
    assert not (again / "_staging").exists()


def test_a_second_label_leaves_the_first(plain: tuple[Path, Done, Path], tmp_path: Path) -> None:
    here, _, _ = plain
    folder = tmp_path / "labels"
    shutil.copytree(here / "output", folder)
    before = files_of(folder)
    generate(f"--output={folder}", "--refresh=2026-11", "--task_requests=1", "--examples_per_task=1")
    assert files_of(folder, "base") == before
    table = ds.dataset(folder / "examples", partitioning="hive").to_table()
    assert set(table["refresh"].to_pylist()) == {"base", "2026-11"}
    assert entry_of(folder)["counts"] == entry_of(here / "output")["counts"]
    fresh = {row["task_id"] for row in rows_of(folder, "tasks", "2026-11")}
    assert len(fresh - {row["task_id"] for row in rows_of(folder, "tasks")}) > 10


# --- the user's own tasks


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Returns where the file and the `out` of a run on hostile tasks are, and the tasks."""
    here = tmp_path_factory.mktemp("own")
    tasks = [*HOSTILE, *(f"Sort letters about subject {n} by tone" for n in range(20))]
    (here / "tasks.txt").write_text("".join(f"{task}\n" for task in tasks), "utf-8")
    generate(f"--tasks={here / 'tasks.txt'}", f"--output={here / 'out'}", "--examples_per_task=2")
    return here, tasks


def test_tasks_come_through_literally(own: tuple[Path, list[str]]) -> None:
    here, tasks = own
    shown = {" ".join(task.split()) for task in tasks}
    assert {row["task"] for row in rows_of(here / "out", "tasks")} == shown
    for row in rows_of(here / "out", "examples"):
        assert f"\n> {row['task']}\n" in row["prompt"]
    assert entry_of(here / "out")["counts"] == {"examples": 58, "triplets": 58, "tasks": 29, "rejects": 0}
    assert {(row["source"], row["model"], row["topic"]) for row in rows_of(here / "out", "tasks")} == {
        ("file", None, None)
    }


def test_the_order_of_the_tasks_and_repeats_change_no_example(own: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Of spellings of one task the smallest stands for it, so the repeats are such as come later."""
    here, tasks = own
    repeats = [f"  {task.lower()}!" for task in tasks if task.startswith("Sort letters")] + [f"\t{tasks[0]} "]
    folders = []
    for key in "ab":
        path = tmp_path / f"{key}.jsonl"
        lines = [json.dumps({"task": task}) for task in shuffled([*tasks, *repeats], key)]
        path.write_text("\n".join(lines), "utf-8")
        folders.append(tmp_path / key)
        generate(f"--tasks={path}", f"--output={folders[-1]}", "--examples_per_task=2")
    first, second = files_of(folders[0]), files_of(folders[1])
    assert first == second
    plain = files_of(here / "out")
    assert {name for name in plain if not name.startswith("rejects")} <= set(first)
    assert Counter(row["reason"] for row in rows_of(folders[0], "rejects")) == {"duplicate": 21}


def test_languages_of_xlm_r(own: tuple[Path, list[str]], tmp_path: Path) -> None:
    here, _ = own
    with LlmServer() as server:  # the embedded model writes English only, and so does this one: no check is made
        generate(
            "--llm=openai",
            "--model=m",
            f"--base_url={server.base_url}/v1",
            f"--tasks={here / 'tasks.txt'}",
            f"--output={tmp_path}",
            "--examples_per_task=10",
            "--language=xlm-r",
            "--num_words=any",
            "--checks=none",
        )
    rows = rows_of(tmp_path, "examples")
    languages = Counter(row["language"] for row in rows)
    assert set(languages) <= set(NAMES)
    assert len(languages) > 30
    assert 0.3 < languages["English"] / len(rows) < 0.55
    for row in rows:
        assert f"must be in {row['language']}." in row["prompt"]
        assert "words and" not in row["prompt"]


# --- bad replies


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("faulty")
    faults = ("--offline_fault_rate=0.3", "--parse_attempts=1", "--task_requests=12", "--examples_per_task=5")
    return folder, generate(f"--output={folder}", *faults, "--keep_raw")


def test_every_bad_reply_is_accounted_for(faulty: tuple[Path, Done]) -> None:
    folder, done = faulty
    entry = entry_of(folder)
    rejects = rows_of(folder, "rejects")
    for step, line in entry["steps"].items():
        kept = line["in"] if step == "SampleAttributes" else line["kept"]
        assert line["in"] == kept + sum(line["rejected"].values()), step
    assert (
        entry["counts"]["rejects"]
        == len(rejects)
        == sum(sum(line["rejected"].values()) for line in entry["steps"].values())
    )
    asked = entry["counts"]["tasks"] * 5
    assert entry["steps"]["ParseJSON"]["in"] == asked
    assert 0.2 < sum(entry["steps"]["ParseJSON"]["rejected"].values()) / asked < 0.4
    assert f"{len(rejects):,} rejects" in done.out
    assert re.search(r"rejected: \d+ \w+, ", done.out)


def test_every_reject_explains_itself(faulty: tuple[Path, Done]) -> None:
    folder, _ = faulty
    rejects = rows_of(folder, "rejects")
    for row in rejects:
        assert row["reason"] in REASONS
        assert isinstance(row["raw_reply"], str)
        if row["reason"] != "empty_field":  # a blank item of a list is blank as it came
            assert bool(row["raw_reply"].strip()) == (row["reason"] not in ("empty", "blocked"))
        assert row["detail"] and "\n" not in row["detail"]
    assert {row["reason"] for row in rejects if row["stage"] == "ParseJSON"} == PARSE_REASONS
    assert {row["stage"] for row in rejects} == {"TaskGenerate", "Flatten", "ParseJSON"}


def test_what_was_mended_is_counted(faulty: tuple[Path, Done]) -> None:
    folder, _ = faulty
    repaired = entry_of(folder)["steps"]["ParseJSON"]["repaired"]
    assert {"fence", "prose", "quotes", "trailing_comma", "raw_newline", "one_element_list", "extra_keys"} <= set(
        repaired
    )


def test_raw_replies_are_kept_in_their_place(faulty: tuple[Path, Done]) -> None:
    folder, _ = faulty
    rows = rows_of(folder, "examples")
    names = list(rows[0])
    assert names[-3:] == ["output_tokens", "raw_reply", "seed"]
    assert all(row["label"] in row["raw_reply"] for row in rows)


def test_nothing_but_bad_replies(tmp_path: Path) -> None:
    flags = ("generate", f"--output={tmp_path}", "--offline_fault_rate=1")
    tasks = tmp_path / "tasks.txt"
    tasks.write_text("Sort bees\nSort hives\n")
    done = run_main(*flags, f"--tasks={tasks}")
    assert done.code == 1
    assert "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if "not one example was kept" in line]
    assert re.search(r"the run failed: not one example was kept \(\d+ ParseJSON \w+", line)
    assert "as it was before" not in done.err
    assert len(rows_of(tmp_path, "rejects")) == 6
    assert done.out == ""


def test_nothing_but_bad_replies_in_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text("Sort bees\nSort hives\n")
    done = finish(
        start(
            "generate",
            "--tasks=tasks.txt",
            "--offline_fault_rate=1",
            *TWO_WORKERS,
            cwd=tmp_path,
        )
    )
    assert done.code == 1
    assert "the run failed: not one example was kept" in done.err
    assert "Traceback" not in done.err


def test_a_failing_refresh_leaves_the_earlier_data(own: tuple[Path, list[str]], tmp_path: Path) -> None:
    here, _ = own
    folder = tmp_path / "out"
    shutil.copytree(here / "out", folder)
    before, manifest = files_of(folder), (folder / "manifest.json").read_bytes()
    done = run_main("generate", f"--tasks={here / 'tasks.txt'}", f"--output={folder}", "--offline_fault_rate=1")
    assert done.code == 1
    assert "The refresh keeps the data it had" in done.err
    assert "Traceback" not in done.err
    assert files_of(folder) == before
    assert (folder / "manifest.json").read_bytes() == manifest


# --- runs that are killed

MOMENTS = {
    "asking": """
from textmint.transforms.llm.offline.backend import OfflineBackend as Where
name, nth = "generate", 30
""",
    "writing": """
from textmint.transforms.dataset import write_dataset as Where
name, nth = "write_file", 2
""",
    "publishing": """
from textmint.transforms.dataset import publish as Where
name, nth = "_publish_local", 1
""",
    "exchanging": """
from textmint.transforms.dataset import publish as Where
name, nth = "exchange_folders", 2
""",
    "telling": """
from textmint.transforms.dataset import publish as Where
name, nth = "with_entry", 1
""",
}
RUN_UNTIL = """
import os, signal, sys
from textmint.pipelines.__main__ import main
{moment}
there, calls = getattr(Where, name), []
def dies(*arguments):
    calls.append(arguments)
    if len(calls) == nth:
        os.killpg(0, signal.SIGKILL)
    return there(*arguments)
setattr(Where, name, dies)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def killed(own: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns the folders of runs that replace the data of `own` and are killed on the way, by the moment."""
    here, _ = own
    root = tmp_path_factory.mktemp("killed")
    running = {}
    for moment, code in MOMENTS.items():
        shutil.copytree(here / "out", root / moment)
        running[moment] = start(
            "generate",
            f"--output={root / moment}",
            "--task_requests=3",
            cwd=root,
            script=RUN_UNTIL.format(moment=code),
        )
    for process in running.values():
        assert finish(process).code == -signal.SIGKILL
    return {moment: root / moment for moment in MOMENTS}


@pytest.mark.parametrize("moment", ["asking", "writing", "publishing"])
def test_a_killed_run_changes_nothing(moment: str, killed: dict[str, Path], own: tuple[Path, list[str]]) -> None:
    before = files_of(own[0] / "out")
    assert files_of(killed[moment]) == before
    assert (killed[moment] / "manifest.json").read_bytes() == (own[0] / "out" / "manifest.json").read_bytes()
    assert ds.dataset(killed[moment] / "examples", partitioning="hive").to_table().num_rows == 58


def test_a_run_killed_while_it_exchanges_leaves_whole_datasets_and_is_completed(
    killed: dict[str, Path], own: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Each dataset is the old one or the new one; examples come last."""
    old = files_of(own[0] / "out")
    now = files_of(killed["exchanging"])
    assert {name for name in old if name.startswith("examples")} <= set(now)
    assert len(now) == len(DATASETS)
    assert ds.dataset(killed["telling"] / "examples", partitioning="hive").to_table().num_rows > 58
    folder = Path(shutil.copytree(killed["exchanging"], tmp_path / "out"))
    for _ in range(2):
        finish_publishing(str(folder))
        entry = entry_of(folder)
        assert entry["options"]["task_requests"] == 3
        assert set(files_of(folder)) == {file["path"] for files in entry["files"].values() for file in files}
    tasks = {row["task_id"] for row in rows_of(folder, "tasks")}
    assert {row["task_id"] for row in rows_of(folder, "examples")} <= tasks


@pytest.mark.parametrize("moment", ["writing", "exchanging", "telling"])
def test_the_next_run_succeeds_and_cleans_up(moment: str, killed: dict[str, Path], own: tuple[Path, list[str]]) -> None:
    here, _ = own
    folder = killed[moment]
    fewer = ["--examples_per_task=1", "--replace"]
    generate(f"--tasks={here / 'tasks.txt'}", f"--output={folder}", *fewer)
    assert entry_of(folder)["counts"] == {"examples": 29, "triplets": 29, "tasks": 29, "rejects": 0}
    assert sorted(path.name for path in folder.iterdir()) == FOLDER
    assert len(files_of(folder)) == len(DATASETS)


# --- options


def test_a_task_for_which_the_template_cannot_be_filled_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text("Sort bees\nSort hives\n")
    (tmp_path / "mine.jinja2").write_text("{{ task }}\n{{ 1 // (task|length - 10) }}")
    flags = (f"--tasks={tmp_path / 'tasks.txt'}", f"--example_template={tmp_path / 'mine.jinja2'}")
    done = run_main("generate", *flags, "--examples_per_task=1", f"--output={tmp_path / 'out'}")
    ok(done)
    (reject,) = rows_of(tmp_path / "out", "rejects")
    assert (reject["task"], reject["stage"], reject["reason"]) == ("Sort hives", "BuildPrompt", "template_failed")
    assert ": line 2: ZeroDivisionError" in reject["detail"] and reject["prompt"] is None
    assert [row["task"] for row in rows_of(tmp_path / "out", "examples")] == ["Sort bees"]


def test_own_templates_topics_and_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "ideas.jinja2").write_text("Tasks about {{ topic }}, please")
    (tmp_path / "mine.jinja2").write_text("{{ task }} -> {{ language }}, {{ num_words }}")
    (tmp_path / "topics.txt").write_text("# fields\nbee keeping\n\nopera houses\n")
    (tmp_path / "run.yaml").write_text(
        "task_requests: 2\nexamples_per_task: 2\nrefresh: from-file\n"
        "language: [en]\nclarity: {clear: 0.5, ambiguous: 0.5}\n"
        "num_words: [less than 10, at least 10]\nkeep_raw: true\n"
    )
    generate(
        f"--config={tmp_path / 'run.yaml'}",
        f"--output={tmp_path / 'out'}",
        f"--brainstorm_template={tmp_path / 'ideas.jinja2'}",
        f"--example_template={tmp_path / 'mine.jinja2'}",
        f"--topics={tmp_path / 'topics.txt'}",
        "--examples_per_task=1",
    )
    entry = entry_of(tmp_path / "out", "from-file")
    assert entry["options"]["task_requests"] == 2
    assert entry["options"]["examples_per_task"] == 1
    rows = rows_of(tmp_path / "out", "examples", "from-file")
    assert {row["language"] for row in rows} == {"English"}
    assert {row["clarity"] for row in rows} == {"clear", "ambiguous"}
    assert {row["num_words"] for row in rows} == {"less than 10", "at least 10"}
    assert all(row["prompt"] == f"{row['task']} -> {row['language']}, {row['num_words']}" for row in rows)
    assert {row["template"] for row in rows} == {entry["templates"]["example"]}
    assert entry["templates"]["example"].startswith("mine@")
    assert all(row["raw_reply"] for row in rows)
    assert {row["topic"] for row in rows_of(tmp_path / "out", "tasks", "from-file")} == {"bee keeping", "opera houses"}


def test_commands_and_help() -> None:
    assert run_main("generat").code == 2
    assert "did you mean generate" in run_main("generat").err
    for arguments in (["--help"], ["generate", "--help"]):
        done = run_main(*arguments)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("usage: ")


# --- an installed wheel


def test_an_installed_wheel_in_another_directory(
    tmp_path: Path, installed_wheel: Path, plain: tuple[Path, Done, Path]
) -> None:
    for name in ("transforms", "pipelines", "templates"):  # of the user's own project
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('the own {name} of the project')\n")
    ok(finish(start("generate", cwd=tmp_path, path=installed_wheel)))
    assert files_of(tmp_path / "output") == files_of(plain[0] / "output")
    assert entry_of(tmp_path / "output")["versions"]["textmint"] == "0.1.0"


def test_the_rows_that_the_readme_shows_come_out(plain: tuple[Path, Done, Path]) -> None:
    here, _, _ = plain
    head = "| task | input_text | label | misleading_label |\n|---|---|---|---|\n"
    table, _, _ = PAGES["README.md"].partition(head)[2].partition("\n\n")
    shown = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()]
    rows = {
        (row["task"], row["input_text"], row["label"], row["misleading_label"])
        for row in rows_of(here / "output", "examples")
    }
    assert len(shown) == 2
    assert set(shown) <= rows
