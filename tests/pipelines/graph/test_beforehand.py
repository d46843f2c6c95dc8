"""What is told, or refused, before anything is paid for: what is asked anew, and a run that would have fewer examples;
and the hints at the end."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.cli.run import published_entry
from textmint.pipelines.cli.summary import _hints, _look_command, command_of
from textmint.pipelines.graph.cost_notices import cost_notices
from textmint.pipelines.graph.refuse_shrinking import max_examples, refuse_shrinking
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.transforms.dataset.accounting import REFUSED
from textmint.transforms.dataset.schema import schema_of, to_parquet

from tests.support.helpers import Done, entry_of, files_of, make_example, rows_of, run_main, write_tasks

OWN, ROUNDS = ("--offline_fault_rate=0.4", "--num_words=any"), ("--task_requests=3", "--checks=none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A label of the user's own tasks with many rejects, and a brainstormed one."""
    here = tmp_path_factory.mktemp("beforehand")
    tasks = write_tasks(here / "tasks.txt", 20)
    for flags in ((*OWN, f"--tasks={tasks}"), (*ROUNDS, "--refresh=night")):
        assert run_main("generate", f"--output={here / 'out'}", *flags).code == 0
    return here


def config_of(folder: Path, *flags: str) -> Config:
    return parse([f"--output={folder / 'out'}", *flags])[0]


def own(folder: Path, *flags: str) -> Config:
    return config_of(folder, f"--tasks={folder / 'tasks.txt'}", *OWN, *flags)


def notices_of(config: Config, **entry: Any) -> list[str]:
    published = published_entry(config)
    assert published is not None
    return cost_notices(config, {**published, **entry})


# --- what is asked anew


def test_another_seed_is_told_with_what_no_longer_serves(folder: Path) -> None:
    requests = entry_of(folder / "out")["steps"]["LLMCall"]["requests"]
    assert notices_of(own(folder, "--seed=7")) == [
        "refresh=base was made with --seed=42 (now 7): all prompts of examples are new, so 60 are asked for; the "
        f"{requests['sent']:,} replies of the last run do not answer them"
    ]
    assert "so about 180 are asked for" in notices_of(config_of(folder, *ROUNDS, "--refresh=night", "--seed=7"))[0]


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--offline_fault_rate=0.3"], "--offline_fault_rate=0.4 (now 0.3)"),
        (
            ["--llm=openai", "--model=m", "--base_url=http://127.0.0.1:1/v1", "--temperature=0.5"],
            "--llm=offline (now openai), ",
        ),
        (["--label_plan=planned"], "--label_plan=free (now planned)"),
    ],
)
def test_whatever_makes_all_prompts_new_is_told(flags: list[str], changed: str, folder: Path) -> None:
    (line,) = notices_of(own(folder, *flags))
    assert line.startswith(f"refresh=base was made with {changed}")


def test_a_template_and_attributes_are_told(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja2"
    template.write_text("{{ task }} {{ language }} {{ difficulty }} {{ clarity }} {{ num_words }}")
    (line,) = notices_of(own(folder, f"--example_template={template}"))
    assert "with the template classify@" in line and "(now mine@" in line
    (line,) = notices_of(own(folder, "--difficulty=PhD"))
    assert "with other attributes" in line
    (line,) = notices_of(own(folder), backend={"backend": "offline", "model": "offline-0", "fault_rate": 0.4})
    assert "with other parameters of the model: all prompts" in line


def test_what_an_endpoint_refused_is_no_change_and_another_judge_is_one(folder: Path) -> None:
    backend = {**entry_of(folder / "out")["backend"], "fault_rate": REFUSED}
    assert notices_of(own(folder), backend=backend) == []
    judge = ["--verify", "--verify_model=b", "--llm=openai", "--model=m", "--base_url=http://127.0.0.1:1/v1"]
    config = own(folder, *judge)
    before = {**config.typed, "verify_model": "a"}
    (line,) = notices_of(config, options=before, backend=json.loads(json.dumps(dict(config.backend.fingerprint()))))
    assert line.startswith("refresh=base was verified by a (now b): every example is verified anew, about ")


def test_what_changes_no_prompt_is_not_told(folder: Path) -> None:
    for flags in ([], ["--max_concurrency=3", "--keep_raw"], ["--checks=none"], ["--examples_per_task=9"]):
        assert notices_of(own(folder, *flags)) == []
    assert cost_notices(own(folder, "--refresh=new"), None) == []


def test_retried_rejects_are_counted_with_what_they_brought(folder: Path) -> None:
    rejects = [row for row in rows_of(folder / "out", "rejects") if row["can_retry"]]
    kept = len(rows_of(folder / "out", "examples"))
    assert len(rejects) > 3
    (line,) = notices_of(own(folder, "--retry_rejects"))
    assert line.startswith(f"--retry_rejects asks again for {len(rejects)} prompts, each 2 times at most; last time ")
    assert f" {kept} of 60 examples of refresh=base were kept, and these were refused: " in line
    unread = sum(row["stage"] == "ParseJSON" for row in rejects)
    (line,) = notices_of(own(folder, "--parse_attempts=4"))
    assert line.startswith(f"--parse_attempts=4 asks again for {unread} prompts, each 4 times at most")


@pytest.mark.parametrize("entry", [{"steps": 3}, {"options": None}, {"backend": []}, {"counts": {}}, {"templates": {}}])
def test_an_entry_that_was_mended_by_hand_stops_nothing(entry: Mapping[str, Any], folder: Path) -> None:
    for flags in ([], ["--seed=7"], ["--retry_rejects"]):
        assert isinstance(notices_of(own(folder, *flags), **entry), list)


# --- fewer than there are


def fewer(config: Config) -> str:
    with contextlib.suppress(OptionError):
        refuse_shrinking(config, published_entry(config))
        return ""
    with pytest.raises(OptionError) as caught:
        refuse_shrinking(config, published_entry(config))
    return str(caught.value)


def test_a_run_that_cannot_but_have_fewer_examples_is_refused(folder: Path) -> None:
    there = len(rows_of(folder / "out", "examples"))
    assert fewer(own(folder, "--max_tasks=1")) == (
        f"--refresh=base: it has {there} examples, and this run would have 3 at most, so {there - 3} or more would go; "
        "ask for as many as before, choose another refresh or folder, or say --replace. Nothing was paid for"
    )
    assert "would have 20 at most" in fewer(own(folder, "--examples_per_task=1"))
    assert not fewer(own(folder, "--max_tasks=1", "--replace"))
    assert not fewer(own(folder, "--max_tasks=1", "--refresh=other"))
    for flags in ([], ["--examples_per_task=9"], ["--seed=7"], ["--checks=none"]):
        assert not fewer(own(folder, *flags))


def test_how_many_a_model_brainstorms_is_known_of_the_rounds_that_there_were(folder: Path) -> None:
    night = [*ROUNDS, "--refresh=night"]
    tasks = rows_of(folder / "out", "tasks", "night")
    two = sum(row["round"] < 2 for row in tasks)

    def most(*flags: str) -> int | None:
        config = config_of(folder, *night, *flags)
        return max_examples(config, published_entry(config))

    assert most() == 3 * len(tasks)
    assert most("--task_requests=2") == 3 * two
    assert most("--examples_per_task=2") == 2 * len(tasks)
    assert most("--max_tasks=4") == 12
    assert fewer(config_of(folder, *night, "--task_requests=2"))
    # of other rounds nothing is known
    assert most("--task_requests=4") is most("--seed=7") is most("--topics=none") is None
    assert most("--seed=7", "--max_tasks=4") == 12
    config = config_of(folder, *night)
    assert max_examples(config, None) is max_examples(config, {"options": 3}) is None


def test_the_command_refuses_with_2_and_replaces_when_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    before = files_of(tmp_path / "out")
    flags = ["generate", f"--output={tmp_path / 'out'}", f"--tasks={folder / 'tasks.txt'}", *OWN, "--max_tasks=1"]
    done = run_main(*flags)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "--replace" in done.err
    assert files_of(tmp_path / "out") == before
    assert run_main(*flags, "--replace").code == 0
    assert len(rows_of(tmp_path / "out", "examples")) <= 3


# --- hints


def lines(folder: Path, *flags: str) -> dict[str, str]:
    argv = [f"--output={folder / 'out'}", *flags]
    found = [line.split(":", 1) for line in _hints(parse(argv)[0], "./run.sh", argv)]
    return {name: command.strip() for name, command in found}


def test_after_a_real_run_nothing_of_the_embedded_model_is_proposed(folder: Path) -> None:
    real = ["--llm=openai", "--model=m", "--base_url=http://127.0.0.1:1/v1"]
    said = lines(folder, *real, "--examples_per_task=5", "--refresh=a")
    assert set(said) == {"More of it", "Paid for"}
    assert "offline" not in str(said)
    command = shlex.split(said["More of it"].removesuffix("(pays for the difference)"))
    config, _ = parse(command[2:])
    assert (config.examples_per_task, config.refresh, config.typed["model"]) == (10, "a", "m")
    assert config.output == str(folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "textmint.pipelines.cli.summary.shlex.join", lambda _: pytest.fail("a password would be repeated")
        )
        typed = parse([f"--output={folder / 'out'}", *real])[0]
        object.__setattr__(typed, "typed", {**typed.typed, "base_url": "http://user:secret@host/v1"})
        assert [line.split(":")[0] for line in _hints(typed, "x", [])] == ["Paid for"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--examples_per_task", "5", "--replace", "true", "--max_tasks", "3"],
        ["--replace", "--max_tasks=3", "--examples_per_task=5", "--retry_rejects", "--refresh", "today"],
    ],
)
def test_the_command_for_more_holds_each_option_once(flags: list[str], folder: Path) -> None:
    real = ["--llm=openai", "--model=m", "--base_url=http://127.0.0.1:1/v1"]
    command = lines(folder, *real, *flags)["More of it"].removesuffix("(pays for the difference)")
    config, _ = parse(shlex.split(command)[2:])
    assert (config.examples_per_task, config.max_tasks) == (10, 3)
    assert (config.replace, config.retry_rejects) == (False, False)
    assert config.refresh == parse(flags)[0].refresh and "today" not in command


def test_tasks_that_say_how_many_they_want_get_no_more(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"task": "Sort mail", "examples": 5}\n')
    real = ["--llm=openai", "--model=m", "--base_url=http://127.0.0.1:1/v1"]
    assert set(lines(folder, *real, f"--tasks={tmp_path / 't.jsonl'}")) == {"Paid for"}


def test_the_program_is_called_as_a_shell_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMINT_PROG", "./my dir/run.sh")
    assert command_of("./my dir/run.sh") == "'./my dir/run.sh'"
    monkeypatch.delenv("TEXTMINT_PROG")
    monkeypatch.setattr("sys.argv", ["/anywhere/pipelines/__main__.py"])
    assert shlex.split(command_of("textmint"))[1:] == ["-m", "textmint.pipelines"]
    script = tmp_path / "my bin" / "textmint"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.setattr("sys.argv", [str(script)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_of("textmint") == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert command_of("textmint") == "textmint"


def test_after_the_embedded_model_there_is_something_to_try(folder: Path) -> None:
    assert list(lines(folder)) == ["Next", "To train on"]
    assert "--output=more" in lines(folder)["Next"]
    assert "--output=faults" in lines(folder, "--refresh=b")["Next"]
    assert list(lines(folder, "--refresh=b", "--offline_fault_rate=0.3")) == ["To train on"]


def test_the_summary_says_what_was_asked_and_what_the_ledger_had(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    flags = [f"--output={tmp_path / 'out'}", *ROUNDS, "--refresh=night"]
    done: Done = run_main("generate", *flags, "--recompute")
    replies = sum(
        step["requests"]["from_ledger"]
        for step in entry_of(tmp_path / "out", "night")["steps"].values()
        if "requests" in step
    )
    assert f"  asked for: 0 replies; from the ledger: {replies}\n" in done.out
    assert "asked for:" not in run_main("generate", *flags).out  # there was nothing to do


@pytest.mark.parametrize(
    "name", ["plain", 'it\'s "quoted" $HOME `x` \\n {0}\nnew line', "*[a]?", "-dash", "s3:x", "ü 雨"]
)
def test_the_command_to_look_at_it_works_whatever_the_folder_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # from where the command names its Python
    text = "It \x1b[31mrains.\nNow. " + "word " * 99
    rows = [make_example("Sort bees", 0, input_text=text), make_example("Sort bees", 1)]
    place = tmp_path / name / "examples" / "refresh=base"
    place.mkdir(parents=True)
    (place / "part-0.parquet").write_bytes(to_parquet(rows, schema_of("examples")))
    command = _look_command(name)
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == 3
    assert [cell.strip() for cell in shown[0].split(" | ")] == [
        "'task'",
        "'input_text'",
        "'label'",
        "'misleading_label'",
    ]
    assert len({len(line) for line in shown}) == 1
    assert "\x1b" not in done.stdout
    assert "'Sort bees'" in shown[1]
    assert all(line.isprintable() for line in shown)
