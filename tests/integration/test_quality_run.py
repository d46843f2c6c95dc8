"""Whole runs with checks, comparisons, planned labels and verification: what is refused, why, and always the same."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from textmint.transforms.core.labels import label_id, normal_form
from textmint.transforms.dataset.accounting import discrepancies

from tests.support.helpers import TWO_WORKERS, config_flag, entry_of, files_of, generate, rows_of, run_main, shuffled
from tests.support.llm_server import LlmServer

MUCH = ["--label_plan=planned", "--verify", "--offline_fault_rate=0.2", "--examples_per_task=3"]


def tasks_file(path: Path, order: str = "") -> Path:
    lines = [f"Classify a {what} of shelf {number} by topic" for what in ("letter", "report") for number in range(12)]
    path.write_text("".join(f"{line}\n" for line in shuffled(lines, order)))
    return path


def test_the_same_verdicts_in_any_order_with_any_number_of_workers(tmp_path: Path) -> None:
    folders = []
    for name, flags in (("one", ()), ("two", TWO_WORKERS)):
        tasks = tasks_file(tmp_path / f"{name}.txt", name)
        generate(f"--tasks={tasks}", f"--output={tmp_path / name}", *MUCH, *flags)
        folders.append(files_of(tmp_path / name))
    assert folders[0] == folders[1]
    entry = entry_of(tmp_path / "one")
    rejected = {reason for line in entry["steps"].values() for reason in line["rejected"]}
    assert {"label_disputed", "not_json"} <= rejected
    assert discrepancies(entry["steps"], entry["counts"]) == []
    for line in entry["steps"].values():
        if line is not entry["steps"]["SampleAttributes"]:
            assert line["in"] == line["kept"] + sum(line["rejected"].values())


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    generate(
        f"--tasks={tasks_file(folder / 'tasks.txt')}",
        "--label_plan=planned",
        "--examples_per_task=12",
        f"--output={folder}",
    )
    return folder


def test_planned_labels_are_a_dataset_and_evenly_spread(planned: Path) -> None:
    sets = {row["task_id"]: row for row in rows_of(planned, "label_sets")}
    assert len(sets) == entry_of(planned)["counts"]["label_sets"] == 24
    examples = collections.defaultdict(list)
    for row in rows_of(planned, "examples"):
        examples[row["task_id"]].append(row)
    rejected = entry_of(planned)["counts"]["rejects"]
    for task_id, rows in examples.items():
        labels = sets[task_id]["labels"]
        assert 2 <= len(labels) <= 20
        assert sets[task_id]["label_ids"] == [label_id(task_id, label) for label in labels]
        assert all(row["label"] in labels and row["misleading_label"] in labels for row in rows)
        assert all(row["label_id"] in sets[task_id]["label_ids"] for row in rows)
        counts = collections.Counter(row["label"] for row in rows)
        assert max(counts.values()) - min(counts[label] for label in labels) <= 1 + rejected


def test_a_run_with_free_labels_takes_the_label_sets_away(planned: Path, tmp_path: Path) -> None:
    shutil.copytree(planned, tmp_path / "out")
    generate(f"--tasks={planned / 'tasks.txt'}", f"--output={tmp_path / 'out'}", "--replace")
    assert not list((tmp_path / "out" / "label_sets").glob("*/*"))
    assert "label_sets" not in entry_of(tmp_path / "out")["files"]


def test_planning_and_verifying_are_paid_for_once(tmp_path: Path) -> None:
    with LlmServer() as server:
        flags = ["--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", "--task_requests=1"]
        flags += [f"--output={tmp_path}", "--label_plan=planned", "--verify", "--verify_model=judge"]
        generate(*flags)
        steps = entry_of(tmp_path)["steps"]
        asked = {step: line["requests"]["sent"] for step, line in steps.items() if "requests" in line}
        assert asked["TaskGenerate"] == 1
        assert asked["PlanLabels"] == steps["Flatten"]["kept"]
        assert asked["VerifyLabels"] == steps["CheckQuality"]["kept"] > 40
        assert sum(asked.values()) == server.stats()["requests"]
        assert steps["VerifyLabels"]["rejected"]["label_disputed"] > 0  # the endpoint errs now and then
        before = files_of(tmp_path)
        generate(*flags, "--recompute")
        assert sum(asked.values()) == server.stats()["requests"]
        assert files_of(tmp_path) == before
        generate(*[flag for flag in flags if not flag.startswith("--verify_model")], "--replace")
        assert server.stats()["requests"] == sum(asked.values()) + asked["VerifyLabels"]


def excluded(path: Path, texts: list[str]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        path.write_text("".join(f"{' '.join(text.split())}\n" for text in texts))


def test_texts_of_an_evaluation_never_become_rows(tmp_path: Path) -> None:
    flags = [f"--tasks={tasks_file(tmp_path / 'tasks.txt')}", "--num_words=at least 50", "--examples_per_task=4"]
    generate(*flags, f"--output={tmp_path / 'free'}")
    rows = rows_of(tmp_path / "free", "examples")
    found_in = {}
    for number, suffix in enumerate(("txt", "jsonl", "parquet")):
        same, alike = rows[2 * number : 2 * number + 2]
        path = tmp_path / f"test_split.{suffix}"
        excluded(path, [same["input_text"].upper(), alike["input_text"] + " Postscript."])
        found_in.update({same["id"]: str(path), alike["id"]: str(path)})
    generate(*flags, f"--exclude={tmp_path}/test_split.*", f"--output={tmp_path / 'clean'}")
    refused = [row for row in rows_of(tmp_path / "clean", "rejects") if row["reason"] == "contaminated"]
    assert {row["id"] for row in refused} == set(found_in)
    assert all(found_in[row["id"]] in row["detail"] for row in refused)
    kept = {row["id"] for row in rows_of(tmp_path / "clean", "examples")}
    assert kept == {row["id"] for row in rows} - set(found_in)


def test_checks_can_be_switched_off(tmp_path: Path) -> None:
    reasons = []
    for checks in ("all", "near_duplicate", "label_in_text,wrong_length"):
        flags = [config_flag(near_duplicate_threshold=0.3, length_slack=1), f"--checks={checks}"]
        generate("--task_requests=8", "--examples_per_task=5", f"--output={tmp_path}", *flags, "--replace")
        rejects = [row for row in rows_of(tmp_path, "rejects") if row["reason"] != "duplicate"]
        reasons.append({row["reason"] for row in rejects if row["stage"] != "Flatten"})
    assert entry_of(tmp_path)["steps"]["LLMCall"]["requests"]["sent"] == 0  # other checks pay for nothing
    assert reasons == [{"near_duplicate"}, {"near_duplicate"}, set()]


def test_what_a_check_refused_is_asked_for_again_on_demand(tmp_path: Path) -> None:
    with LlmServer() as server:
        flags = ["--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", "--task_requests=2"]
        flags += [f"--output={tmp_path}", config_flag(length_slack=1), "--num_words=less than 10"]
        generate(*flags)
        rejects = [row for row in rows_of(tmp_path, "rejects") if row["stage"] == "CheckQuality"]
        asked = server.stats()["requests"]
        assert rejects and all(row["can_retry"] for row in rejects)
        generate(*flags, "--retry_rejects")
        assert server.stats()["requests"] >= asked + len(rejects)
        left = [row for row in rows_of(tmp_path, "rejects") if row["stage"] == "CheckQuality"]
        assert len(left) < len(rejects)  # another seed writes another text, and some are long enough
        asked, before = server.stats()["requests"], files_of(tmp_path)
        generate(*flags, "--recompute")
        assert server.stats()["requests"] == asked
        assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--checks=all,nothing"], "--checks: "),
        (["--checks=label_in_txt"], "label_in_text"),
        ([config_flag(length_slack=0.5)], "length_slack is 0.5, but must be 1 or more; set it in the file of --config"),
        (
            [config_flag(near_duplicate_threshold=1.5)],
            "near_duplicate_threshold in --config is 1.5; it must be from 0.3 to 1",
        ),
        (["--labels=planned"], "--label_plan=planned"),
        (["--labels", "free"], "--label_plan=free"),
        ([config_flag(labels="planned")], "--label_plan=planned"),
        (["--verify_model=m"], "--verify_model without --verify"),
        (["--exclude=nowhere/*.txt"], "--exclude nowhere/*.txt: there is no such file"),
        (["--exclude=x.txt", "--checks=none"], "leaves contaminated out"),
        (["--push_to_hub=no slash"], "--push_to_hub"),
        (["--license=<b>"], "--license is '<b>'"),
    ],
)
def test_bad_options_are_told_in_a_line(flags: list[str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    done = run_main("generate", *flags)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_spellings_of_a_label_become_one(tmp_path: Path) -> None:
    beams = "--labels=team=minting"  # labels of a Dataflow job, and no plan of class labels
    generate(beams, "--label_plan", "free", "--task_requests=10", "--examples_per_task=6", f"--output={tmp_path}")
    assert entry_of(tmp_path)["options"]["label_plan"] == "free"
    spellings = collections.defaultdict(set)
    for row in rows_of(tmp_path, "examples"):
        for name in ("label", "misleading_label"):
            spellings[row["task_id"], normal_form(row[name])].add(row[name])
    assert all(len(found) == 1 for found in spellings.values())
    triplets = {row["id"]: row for row in rows_of(tmp_path, "triplets")}
    for row in rows_of(tmp_path, "examples"):
        assert triplets[row["id"]]["positive"] == row["label"]
        assert triplets[row["id"]]["anchor"] == f"Instruct: {row['task']}\nQuery: {row['input_text']}"
        assert triplets[row["id"]]["label_id"] == row["label_id"] == label_id(row["task_id"], row["label"])
