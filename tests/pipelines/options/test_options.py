"""Options: a Config for what is right; one clear line, exit code 2 and nothing written for what is wrong."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    StandardOptions,
)
from apache_beam.runners import create_runner
from textmint.pipelines.cli.run import generate, target_of, versions
from textmint.pipelines.cli.summary import reject_reasons
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.input_files import as_pattern
from textmint.pipelines.options.parse import parse
from textmint.pipelines.options.table import BY_NAME, GROUPS, OPTIONS
from textmint.pipelines.runners.choose import LOCAL_RUNNER
from textmint.transforms.core.attributes import parse_attributes
from textmint.transforms.core.tasks import read_topics
from textmint.transforms.llm.offline.backend import MODEL, OfflineBackend
from textmint.transforms.llm.prices import FREE, Price, parse_price

from tests.support.helpers import config_flag
from tests.support.mem_store import MemFileSystem

TEMPLATES = Path(__file__).parents[3] / "templates"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the command is called; the user's files lie beside it, in `../in`."""
    (tmp_path / "work").mkdir()
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def own(name: str, content: str | bytes) -> str:
    """Writes a file of the user's, and returns its path."""
    path = Path("../in") / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def config_of(*argv: str) -> Config:
    return parse(argv)[0]


def problems(*argv: str) -> tuple[str, ...]:
    with pytest.raises(OptionError) as error:
        parse(argv)
    assert not [problem for problem in error.value.problems if "\n" in problem]
    assert list(Path().iterdir()) == []
    return error.value.problems


def problem(*argv: str) -> str:
    found = problems(*argv)
    assert len(found) == 1, found
    return found[0]


# --- right


def test_defaults(work: Path) -> None:
    config, options = parse([])
    assert config.output == str(work / "output")
    assert (config.refresh, config.keep_raw, config.seed) == ("base", False, 42)
    assert (config.tasks, config.task_requests, config.max_tasks, config.examples_per_task) == (None, 5, None, 3)
    assert config.attributes == parse_attributes(language=None, difficulty=None, clarity=None, num_words=None)
    assert config.backend == OfflineBackend()
    assert (config.brainstorm_template.stem, config.example_template.stem) == ("brainstorm", "classify")
    assert config.topics == read_topics((TEMPLATES / "topics.txt").read_text(encoding="utf-8").splitlines())
    assert (config.typed["temperature"], config.typed["top_p"], config.typed["llm"]) == (1.0, 1.0, "offline")
    assert options.view_as(StandardOptions).runner == LOCAL_RUNNER == "FnApiRunner"
    assert "config" not in config.typed


def test_every_option_arrives() -> None:
    config = config_of(
        "--output=out/a",
        "--refresh=2026-11",
        "--keep_raw",
        "--task_requests=50",
        "--max_tasks=7",
        "--examples_per_task=10",
        "--language=en:0.5",
        "--difficulty=PhD",
        "--clarity=clear,ambiguous",
        "--num_words=any",
        "--seed=-1",
        "--llm=offline",
        f"--model={MODEL}",
        "--temperature=0",
        "--top_p=0.5",
        "--max_output_tokens=100",
        "--offline_fault_rate=0.3",
        f"--topics={own('topics.txt', '# mine' + chr(10) + 'reefs' + chr(10))}",
        f"--brainstorm_template={own('b.jinja2', 'Tasks of {{ topic }}')}",
        f"--example_template={own('e.x.jinja2', '{{ task }} {{ language }}')}",
    )
    assert config.output == str(Path("out/a").absolute())
    assert (config.refresh, config.keep_raw, config.seed) == ("2026-11", True, -1)
    assert (config.task_requests, config.max_tasks, config.examples_per_task) == (50, 7, 10)
    assert config.attributes.describe()["language"] == {"English": 1.0}
    assert config.attributes.describe()["clarity"] == {"clear": 0.5, "ambiguous": 0.5}
    assert config.backend == OfflineBackend(fault_rate=0.3)
    assert config.topics == ("reefs",)
    assert (config.brainstorm_template.stem, config.brainstorm_template.text) == ("b", "Tasks of {{ topic }}")
    assert config.example_template.stem == "e"
    assert {name: config.typed[name] for name in ("temperature", "top_p", "max_output_tokens", "num_words")} == {
        "temperature": 0.0,
        "top_p": 0.5,
        "max_output_tokens": 100,
        "num_words": "any",
    }


def test_other_ways_to_write_an_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config_of("--seed", "7", "--output", "elsewhere").seed == 7
    assert config_of("--topics=none").topics == ()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_of("--output=~/data").output == str(tmp_path / "data")


JSONL = b'{"task": "Tell spam from ham"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"Tell spam from ham\n"),
        ("A.TXT", b"\xef\xbb\xbfTell spam from ham\r\n"),
        ("a.jsonl", JSONL),
        ("a.txt.gz", gzip.compress(b"Tell spam from ham\nAnother\n", mtime=0)),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
    ],
    ids=["txt", "upper_case", "jsonl", "txt.gz", "jsonl.gz"],
)
def test_tasks_files_are_taken(name: str, content: bytes) -> None:
    path = own(name, content)
    assert config_of(f"--tasks={path}").tasks == path


def test_tasks_may_be_a_pattern() -> None:
    pq.write_table(pa.table({"task": ["one"]}), own("1.parquet", ""))
    own("2.txt", "two\n")
    own("3.txt", "")  # one file of several may be empty
    assert config_of("--tasks=../in/*").tasks == "../in/*"


def test_a_task_of_2000_characters_fits() -> None:
    config_of(f"--tasks={own('a.txt', 'x' * 2_000)}")


# --- Beam's options


def test_beams_options_pass_through() -> None:
    flags = "--direct_num_workers=2 --direct_running_mode=multi_processing --experiments=a --experiments=b --streaming"
    _, options = parse([*flags.split(), "--project=p", "--job_name=j"])
    assert options.view_as(DirectOptions).direct_num_workers == 2
    assert options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    assert options.view_as(DebugOptions).experiments == ["a", "b"]
    assert (options.view_as(GoogleCloudOptions).project, options.view_as(GoogleCloudOptions).job_name) == ("p", "j")
    assert options.view_as(StandardOptions).streaming is True


@pytest.mark.parametrize(
    "argv", [[], ["--runner=DirectRunner"], ["--runner=FnApiRunner"], ["--runner=direct"], ["--runner=directrunner"]]
)
def test_the_direct_runner_is_replaced(argv: list[str]) -> None:
    # all of these are the same to Beam: its switch between three engines, which tries a download first
    runner = parse(argv)[1].view_as(StandardOptions).runner
    assert type(create_runner(runner)).__name__ == "FnApiRunner"


# --- wrong: the lines of the issue


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--tasks=nowhere.txt"], "--tasks nowhere.txt: there is no such file"),
        (["--tasks=no/*.txt"], "--tasks no/*.txt: there is no such file"),
        (["--tasks=../in"], "--tasks ../in: is not one of .txt, .jsonl, .parquet, .txt.gz, .jsonl.gz"),
        (
            ["--tasks=nix://bucket/a.txt"],
            "--tasks nix://bucket/a.txt: nix:// is no file system that Apache Beam knows; there are gs://, ",
        ),
        (
            ["--language=German,English"],
            "--language=German,English: the embedded model (--llm=offline) writes English only, not German; leave "
            "--language out, or choose a real model with --llm",
        ),
        (["--language=xlm-r"], "--language=xlm-r: the embedded model (--llm=offline) writes English only, not Afrik"),
        (["--language=Germn"], "--language: unknown language 'Germn': did you mean 'German'?"),
        (["--difficulty=colege"], "--difficulty: unknown difficulty 'colege': did you mean 'college'?"),
        (["--clarity=clearly"], "--clarity: unknown clarity 'clearly': did you mean 'clear'?"),
        (["--num_words=at least 5"], "--num_words: unknown num_words 'at least 5': did you mean 'at least 50'?"),
        (["--language=English:-1"], "--language: the weight of 'English' is negative (-1); weights are 0 or more"),
        (["--language=English:0,German:0"], "--language: the weights in 'English:0,German:0' are all zero"),
        (["--examples_per_task=0"], "--examples_per_task is 0; it must be at least 1"),
        (["--task_requests=0"], "--task_requests is 0; it must be at least 1"),
        (["--max_tasks=-3"], "--max_tasks is -3; it must be at least 1"),
        ([config_flag(max_reply_bytes=0)], "max_reply_bytes in --config is 0; it must be at least 1"),
        (["--max_output_tokens=0"], "--max_output_tokens is 0; it must be at least 1"),
        (["--temperature=2.1"], "--temperature is 2.1; it must be from 0 to 2"),
        (["--temperature=nan"], "--temperature is nan; it must be from 0 to 2"),
        (["--top_p=0"], "--top_p is 0.0; it must be above 0 and at most 1"),
        (["--seed=9223372036854775808"], "--seed is 9223372036854775808; it must fit 64 bits"),
        (["--seed=x"], "argument --seed: invalid int value: 'x'"),
        (["--examples_per_task=1.5"], "argument --examples_per_task: invalid int value: '1.5'"),
        (["--offline_fault_rate=1.5"], "--offline_fault_rate is 1.5; it must be from 0 to 1"),
        (
            ["--llm=gemini", "--model=g", "--vertex_project=p", "--thinking_budget=-2"],
            "--thinking_budget is -2; it must be -1 or more",
        ),
        (["--offline_fault_rate=nan"], "--offline_fault_rate is nan; it must be from 0 to 1"),
        (["--refresh=a/b"], "--refresh is 'a/b'; a name has 1 to 64 letters"),
        (["--refresh=.."], "--refresh is '..'; a name has 1 to 64 letters"),
        (["--refresh=a\n"], "--refresh is 'a\\n'; a name has 1 to 64 letters"),
        (["--refresh="], "--refresh is ''; a name has 1 to 64 letters"),
        (["--llm=ofline"], "--llm=ofline is not known: did you mean offline? There are "),
        (["--model=other"], f"--model=other: --llm=offline has one model only, {MODEL}"),
        (["--price=cheap"], "--price: 'cheap' is no price; write two numbers below 1,000,000, USD per million tokens"),
        (["--price=1"], "--price: '1' is no price; write two numbers"),
        (["--price=1,2,3"], "--price: '1,2,3' is no price; write two numbers"),
        (["--price=-1,2"], "--price: '-1,2' is no price; write two numbers"),
        (["--price="], "--price: '' is no price; write two numbers"),
        (["--verify_price=1,2"], "--verify_price without --verify_model: add it"),
        (["--output= "], "--output is empty; name a folder"),
        (["--output="], "--output is empty; name a folder"),
        (["--output"], "argument --output: expected one argument"),
        (["--output=--"], "argument --output: expected one argument"),
        (["--labels=--"], "argument --labels: expected one argument"),
        (["--temperature=--"], "argument --temperature: expected one argument"),
        (["--keep_raw=yes"], "argument --keep_raw: 'yes' is neither true nor false"),
        (["--topics=nowhere"], "--topics nowhere: cannot be read: No such file or directory"),
        (["--example_template=nowhere"], "--example_template nowhere: cannot be read: No such file or directory"),
        (["--config=nowhere"], "--config nowhere: cannot be read: No such file or directory"),
        (["--direct_num_workers=two"], "argument --direct_num_workers: invalid int value: 'two'"),
        (["--runner=Nonsense"], "--runner=Nonsense: "),
    ],
)
def test_wrong_values(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert problem(*argv).startswith(message)
    assert generate(argv, "textmint") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"textmint: [^\n]+\n", err)
    assert err.startswith(f"textmint: {message}")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        ("tasks", "a.txt", "", "holds no task; write one a line"),
        ("tasks", "a.txt", "\n \n", "holds no task; write one a line"),
        ("tasks", "a.txt", "ok\n" + "x" * 2_001, "line 2: the task has 2,001 characters, at most 2,000 fit"),
        ("tasks", "a.txt", b"\xff\xfeT\0", "line 1: not UTF-8"),
        ("tasks", "a.csv", "task\nx", "is not one of .txt, "),
        ("tasks", "a.jsonl", '{"text": "x"}', "line 1: no JSON object with a key 'task'"),
        ("tasks", "a.parquet", "no Parquet", "is no readable Parquet file"),
        ("tasks", "a.txt.gz", "no gzip", "line 1: it is no intact gzip file ("),
        ("topics", "a", "# only a comment\n", "holds no topic; write one a line, or --topics=none"),
        ("topics", "a", b"\xff", "not UTF-8 (byte 0)"),
        ("example_template", "a", "{{ taks }}", "unknown variable 'taks' (did you mean 'task'?)"),
        ("example_template", "a", "{{ topic }}", "unknown variable 'topic'"),
        ("brainstorm_template", "a", "{{ topics }}", "unknown variable 'topics' (did you mean 'topic'?)"),
        ("brainstorm_template", "a", "\n{{ topic }", "line 2: "),
        ("example_template", "a", "{{ task.__class__ }}", "line 1: access to attribute '__class__'"),
        ("example_template", "a", " ", "the prompt comes out empty"),
        ("example_template", "a", b"\xff", "not UTF-8 (byte 0)"),
        ("example_template", "a", "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", ""),
    ],
)
def test_wrong_files(option: str, name: str, content: str | bytes, message: str) -> None:
    path = own(name, content)
    assert problem(f"--{option}={path}").startswith(f"--{option} {path}: {message}")
    assert generate([f"--{option}={path}"], "textmint") == 2
    assert list(Path().iterdir()) == []


WHOLE = gzip.compress("".join(f"Sort letters of drawer {n} by tone\n" for n in range(400)).encode(), mtime=0)


def parquet_bytes(column: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({column: [f"Sort drawer {n}" for n in range(400)]}),
        sink,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    return sink.getvalue()


@pytest.mark.parametrize("option", ["tasks", "exclude"])
@pytest.mark.parametrize("damage", ["half", "tail", "empty", "plain", "garbage", "jsonl", "parquet", "page"])
def test_a_cut_off_or_damaged_file_is_refused_by_name_and_nothing_is_written(
    option: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = parquet_bytes("task" if option == "tasks" else "text")
    lines = gzip.compress(b'{"task": "Sort bees", "text": "Bees!"}\n' * 400)
    name, content = {
        "half": ("a.txt.gz", WHOLE[: len(WHOLE) // 2]),
        "tail": ("a.txt.gz", WHOLE[:-1]),
        "empty": ("a.txt.gz", b""),
        "plain": ("a.txt.gz", b"Sort bees\n"),
        "garbage": ("a.txt.gz", WHOLE + b"Sort bees\n"),
        "jsonl": ("a.jsonl.gz", lines[:-9]),
        "parquet": ("a.parquet", table[: len(table) // 2]),
        "page": ("a.parquet", table.replace(b"Sort drawer 17", b"Sort drawer 71", 1)),
    }[damage]
    assert content != table
    path = own(name, content)
    assert generate([f"--{option}={path}"], "textmint") == 2
    out, err = capsys.readouterr()
    where = re.escape(f"{Path(path).name}: ")
    assert re.fullmatch(rf"textmint: --{option} \S*{where}[^\n]+\n", err), err
    assert list(Path().iterdir()) == [] and out == ""


READ_WHOLE = ["topics", "example_template", "brainstorm_template", "config"]


@pytest.mark.parametrize("option", READ_WHOLE)
def test_what_has_no_end_is_read_up_to_a_bound(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(f"--{option}=/dev/zero") == f"--{option} /dev/zero: is larger than 16 MB; is it another file?"
    assert problem(f"--{option}=../in").startswith(f"--{option} ../in: cannot be read: Is a directory")
    monkeypatch.setattr("textmint.pipelines.options.stores._REMOTE_SECONDS", 0.05)
    os.mkfifo("../in/pipe")
    assert problem(f"--{option}=../in/pipe").startswith(f"--{option} ../in/pipe: cannot be read: no answer within")
    os.close(os.open("../in/pipe", os.O_WRONLY | os.O_NONBLOCK))  # who waits for a writer waits no more


@pytest.mark.parametrize("option", ["tasks", "exclude"])
def test_what_is_read_twice_must_be_a_regular_file(option: str) -> None:
    """A pipe gives what it holds once, to whoever checks it, and blocks who waits for a writer."""
    os.mkfifo("../in/pipe.txt")
    assert problem(f"--{option}=../in/pipe.txt") == f"--{option} ../in/pipe.txt: is no regular file"


@pytest.mark.parametrize("option", READ_WHOLE)
def test_files_that_are_read_as_they_are_may_not_be_compressed(option: str) -> None:
    for number, content in enumerate((WHOLE, WHOLE[:99], bz2.compress(b"a"), lzma.compress(b"a"), b"\x28\xb5\x2f\xfd")):
        path = own(f"{number}.gz", content)
        assert problem(f"--{option}={path}").startswith(f"--{option} {path}: not UTF-8 (byte ")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_exclusions_that_guard_nothing_are_told(content: str) -> None:
    path = own("a.txt", content)
    assert (
        problem(f"--exclude={path}") == f"--exclude {path}: holds no text, so it would guard nothing; write one a line"
    )


def test_wrong_settings_of_a_task_are_told_by_file_and_line() -> None:
    path = own("a.jsonl", '{"task": "Sort bees", "labels": ["a"]}')
    assert re.match(r"--tasks \S*a\.jsonl: line 1: labels: 1 given", problem(f"--tasks={path}"))


def test_a_language_of_a_task_that_the_model_cannot_write() -> None:
    path = own("a.jsonl", '{"task": "Sort bees"}\n{"task": "Sort trams", "language": "de"}')
    assert re.match(r"--tasks \S*a\.jsonl: line 2: language: the embedded .* not German; ", problem(f"--tasks={path}"))


def test_one_warning_names_what_means_nothing_in_a_task_file() -> None:
    own("a.jsonl", '{"task": "Sort bees", "lables": ["a", "b"]}')
    own("b.jsonl", "\n".join(json.dumps({"task": f"Task {n}", f"key\n{n}": n}) for n in range(9)))
    (warning,) = config_of("--tasks=../in/*.jsonl").warnings
    assert "'lables'" in warning and "and 5 more mean nothing here" in warning and "\n" not in warning
    assert "there are labels, language, examples" in warning
    assert config_of().warnings == ()


def test_examples_of_single_tasks_count_in_the_guess() -> None:
    path = own("a.jsonl", '{"task": "Sort bees", "examples": 1000}\n{"task": "Sort trams"}')
    assert config_of(f"--tasks={path}").expected_examples == 1_003
    assert config_of(f"--tasks={path}", "--max_tasks=1").expected_examples == 502


def test_own_labels_that_every_row_would_be_refused_for() -> None:
    path = own("a.jsonl", json.dumps({"task": "Sort bees", "labels": ["a", "x" * 60]}))
    assert "put `max_label_columns: 60` into" in problem(f"--tasks={path}", config_flag(max_label_columns=50))
    wide = own("b.jsonl", json.dumps({"task": "Sort bees", "labels": ["a", "x" * 160]}))
    assert "put `max_label_columns: 160` into" in problem(f"--tasks={wide}")
    config_of(f"--tasks={wide}", config_flag(max_label_columns=160))
    config_of(f"--tasks={path}", config_flag(max_label_columns=50), "--checks=echo")


def test_a_template_of_ones_own_must_tell_own_labels() -> None:
    tasks = own("a.jsonl", '{"task": "Sort bees", "labels": ["a", "b"]}')
    bare, telling = own("bare", "{{ task }}"), own("telling", "{{ task }}: {{ labels | join(', ') }}")
    assert problem(f"--tasks={tasks}", f"--example_template={bare}").startswith(
        f"--example_template {bare}: tells the model no labels"
    )
    config = config_of(f"--tasks={tasks}", f"--example_template={telling}")
    assert config.labelled_template == config.example_template
    plain = own("b.jsonl", '{"task": "Sort bees"}')
    config_of(f"--tasks={plain}", f"--example_template={bare}")


def test_a_template_that_needs_a_topic_is_refused_where_there_is_none() -> None:
    path = own("b", "{{ topic.title() }}")
    config_of(f"--brainstorm_template={path}", "--output=../out")
    assert problem("--topics=none", f"--brainstorm_template={path}").startswith(f"--brainstorm_template {path}: ")


def test_one_file_of_a_pattern_is_wrong() -> None:
    own("1.txt", "fine\n")
    own("2.jsonl", "{")
    assert re.match(r"--tasks \S*2\.jsonl: line 1: no JSON", problem("--tasks=../in/*"))


def test_a_word_that_is_no_option_and_no_utf_8() -> None:
    assert problem("caf\udce9").startswith("argument: 'caf\\udce9' is not UTF-8")


def test_all_problems_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--examples_per_task=0", "--language=Germn", "--tasks=nix.txt", "--topics=nix", "--llm=x", "--seed=7"]
    expected = "--examples_per_task --language: --topics --tasks --llm"
    assert [line.split()[0].split("=")[0] for line in problems(*argv)] == expected.split()
    assert generate(argv, "./run.sh") == 2
    assert all(line.startswith("./run.sh: --") for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--outptu=x", "unknown option --outptu: did you mean --output?"),
        ("--example_per_task=3", "unknown option --example_per_task: did you mean --examples_per_task?"),
        ("--out=x", "unknown option --out: did you mean --output?"),  # no abbreviations: they would change meaning
        ("--languages=de", "unknown option --languages: did you mean --language?"),
        ("--direct_num_workrs=2", "unknown option --direct_num_workrs: did you mean --direct_num_workers?"),
        ("--exam=3", "unknown option --exam: did you mean --examples_per_task?"),
        ("--zzzzqqq", "unknown option --zzzzqqq; see --help"),
        ("-x", "unknown option -x; see --help"),
        ("stray", "unexpected argument 'stray': options are written --name=value"),
    ],
)
def test_unknown_options_name_the_nearest(argument: str, message: str) -> None:
    assert problem(argument) == message
    assert generate([argument], "textmint") == 2


@pytest.mark.parametrize(
    ("argument", "proposed"),
    [
        ("--label_plan=plan", "planned"),
        ("--label_plan=PLANED", "planned"),
        ("--llm=vertex", "vertex-endpoint"),
        ("--llm=Gemni", "gemini"),
        (config_flag(structured_output="nev"), "never"),
        ("--safety_threshold=medium", "BLOCK_MEDIUM_AND_ABOVE"),
        ("--service_tier=fl", "flex"),
        ("--checks=ech", "'echo'"),
        ("--difficulty=ph", "'PhD'"),
        ("--language=Ger", "'German'"),
    ],
)
def test_a_choice_that_is_not_there_names_the_nearest(argument: str, proposed: str) -> None:
    more = ["--llm=gemini", "--model=m"] if argument.startswith(("--safety", "--service")) else []
    more += ["--llm=openai", "--model=m"] if "--config" in argument else []
    assert f"did you mean {proposed}?" in problem(argument, *more)


@pytest.mark.parametrize("word", ["b\udce9", "\ud83d"])
@pytest.mark.parametrize(
    "option",
    [*READ_WHOLE, "tasks", "exclude", "output", "model", "base_url", "license", "labels"],
)
def test_what_is_no_utf_8_is_refused_before_anything_is_done(option: str, word: str) -> None:
    for argv in ([f"--{option}={word}"], [f"--{option}", word]):
        told = problem(*argv)
        assert told.startswith(f"--{option}: '") and "is not UTF-8, so it cannot be written down" in told


def test_files_and_folders_that_are_no_utf_8_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are reached: by a pattern, from within a folder of such a name, or in YAML."""
    Path(os.fsdecode(b"../in/caf\xe9.txt")).write_text("Sort bees\n")
    for option in ("tasks", "exclude"):
        assert problem(f"--{option}=../in/*.txt").startswith(f"--{option}: '")
    config = own("c.yaml", 'topics: "caf\\uDCE9"')
    assert problem(f"--config={config}").startswith("--topics: 'caf\\udce9' is not UTF-8, so it cannot be written")
    folder = Path(os.fsdecode(b"../in/\xe9"))
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert problem("--output=out").startswith("--output: '/")


@pytest.mark.parametrize(
    ("scheme", "extra"), [("s3", "aws"), ("azfs", "azure"), ("hdfs", "hadoop"), ("foo", None), ("file", None)]
)
@pytest.mark.parametrize("option", ["output", "tasks", "topics", "exclude", "example_template", "config"])
def test_a_file_system_that_is_not_installed_names_its_extra(option: str, scheme: str, extra: str | None) -> None:
    told = problem(f"--{option}={scheme}://bucket/a/b.txt")
    assert told.startswith(f"--{option} {scheme}://bucket/a/b.txt: {scheme}:// ")
    if extra:
        assert told.endswith(
            f"needs the extra `{extra}` of Apache Beam: {sys.executable} -m pip install 'apache-beam[{extra}]'"
        )
    else:
        assert "is no file system that Apache Beam knows; there are gs://, s3://, azfs://, hdfs://, and" in told


def test_a_pattern_needs_no_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / "in[1]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for number in range(3):
        Path(f"my_{number}.txt").write_text(f"Sort bees of hive {number}\n")
    for pattern in ("my_*.txt", "./my_*.txt", "my_[0-2].txt", f"{folder.parent}/in[[]1]/my_?.txt"):
        assert config_of(f"--tasks={pattern}", "--output=../../out").expected_tasks == 3
    found = [match.path for match in FileSystems.match([as_pattern("my_*.txt")])[0].metadata_list]
    assert sorted(found) == [f"./my_{number}.txt" for number in range(3)]
    monkeypatch.chdir(work)
    for pattern in ("in[[]*/my_*.txt", "*/my_*.txt", "../*/in[[]*/my_*.txt"):
        assert config_of(f"--tasks={pattern}", "--output=../out").expected_tasks == 3


# --- wrong: the output folder


def test_a_link_to_what_is_not_there_is_told() -> None:
    Path("../in/out").mkdir()
    Path("../in/out/examples").symlink_to("/nowhere/at/all")
    assert "examples is a link to what is not there" in problem("--output=../in/out")


def test_output_below_a_file() -> None:
    path = own("file", "")
    assert problem(f"--output={path}") == f"--output {path}: cannot be written: File exists; name a folder that can"
    assert problem(f"--output={path}/x").startswith(f"--output {path}/x: cannot be written: Not a directory")


def test_output_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    assert problem("--output=a/b/c") == "--output a/b/c: cannot be written: Permission denied; name a folder that can"
    assert list(work.iterdir()) == []  # what was made for the trial is taken away again


def test_output_that_is_there_keeps_what_it_holds() -> None:
    own("keep.txt", "x")
    assert config_of("--output=../in").output.endswith("in")
    assert [path.name for path in Path("../in").iterdir()] == ["keep.txt"]


@pytest.mark.parametrize("path", ["a" * 300, "~no-such-user-here/x", "nix://bucket/x"])
def test_output_that_is_no_path(path: str) -> None:
    assert problem(f"--output={path}").startswith(f"--output {path}: ")


def test_output_with_a_null_byte() -> None:
    path = own("c.yaml", 'output: "a\\0b"')
    assert "--output" in problem(f"--config={path}")


@pytest.mark.parametrize("path", ["mem://bucket/data", "mem://bucket/data/"])
def test_output_may_be_a_url(path: str, store: dict[str, bytes]) -> None:
    assert config_of(f"--output={path}").output == "mem://bucket/data"
    probe = f"mem://bucket/data/_staging/write-test-{socket.gethostname()}-{os.getpid()}"
    assert MemFileSystem.log == [f"create {probe}", f"delete {probe}"]


def test_wildcards_in_a_url_are_told(store: dict[str, bytes]) -> None:
    for scheme in ("mem", "gs"):
        assert problem(f"--output={scheme}://bucket-name/a[1]").endswith(
            "Beam takes '[' for a wildcard; name a folder without one"
        )
    assert MemFileSystem.log == []


def test_a_store_that_cannot_be_written_is_told_before_anything_is_paid_for(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "no access\nto the bucket")

    monkeypatch.setattr(MemFileSystem, "create", forbidden)
    told = "--output mem://bucket/data: cannot be written: "
    assert problem("--output=mem://bucket/data").startswith(f"{told}no access to the bucket; check the path and your ")
    monkeypatch.setattr(MemFileSystem, "create", lambda *_, **__: time.sleep(5))
    monkeypatch.setattr("textmint.pipelines.options.stores._REMOTE_SECONDS", 0.05)
    assert problem("--output=mem://bucket/data").startswith(f"{told}no answer within 0 s; ")


@pytest.mark.parametrize("name", ["examples", "tasks", "rejects", "_staging"])
def test_what_stands_in_the_way_of_the_output_is_told(name: str) -> None:
    Path("../in/data").mkdir()
    Path("../in/data", name).touch()
    assert problem("--output=../in/data").startswith(f"--output ../in/data: cannot be written: {name} is no folder")


def test_a_file_whose_name_looks_like_a_pattern() -> None:
    Path("odd[1].txt").write_text("Sort bees\n")
    config = config_of("--tasks=odd[1].txt")
    assert config.expected_tasks == 1
    assert [match.path for match in FileSystems.match([str(config.tasks)])[0].metadata_list] == [
        os.path.abspath("odd[1].txt")
    ]


# --- --config


def from_yaml(text: str | bytes, *flags: str) -> Config:
    return config_of(f"--config={own('c.yaml', text)}", *flags)


@pytest.mark.parametrize(
    ("option", "template", "problem"),
    [
        ("example", "a\n{{ task.__class__ }}", "line 2: access to attribute '__class__' of 'str' object is unsafe."),
        ("example", "{% for a in range(99999) %}{% for b in range(9) %}{% endfor %}{% endfor %}", "takes more than"),
        ("example", "{{ {'clear': 1}[clarity] }}", "has no attribute 'ambiguous' (where clarity is 'ambiguous')"),
        ("brainstorm", "{{ 'a' * 10**9 }}", "line 1: could make more than 10,000,000 characters"),
    ],
)
def test_a_template_that_fails_for_every_task_is_told(option: str, template: str, problem: str) -> None:
    with pytest.raises(OptionError) as raised:
        config_of(f"--{option}_template={own('e.jinja2', template)}")
    (line,) = raised.value.problems
    assert (
        line.startswith(f"--{option}_template ") and "e.jinja2: line " in line and problem in line and "\n" not in line
    )


def test_a_template_that_fails_for_some_tasks_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    config_of(f"--example_template={own('e.jinja2', '{{ task.split()[1] }}')}")
    (message,) = caplog.messages
    assert "some tasks will be rejected, for it cannot be filled: line 1: " in message
    caplog.clear()
    config_of(f"--brainstorm_template={own('b.jinja2', '{{ topic.split()[1] }}')}", "--output=../out")
    (message,) = caplog.messages
    assert "some topics will be rejected, for it cannot be filled: line 1: " in message


def test_config_file() -> None:
    config = from_yaml(
        "# my options\noutput: data\nexamples_per_task: 10\nkeep_raw: true\nlanguage: {English: 0.5, German: 0}\n"
        "difficulty: [PhD, college]\nclarity:\nrefresh: 2026-11-01\noffline_fault_rate: 0.25\n"
        "seed: 010\nnum_words: 'any'\n"
    )
    assert config.output.endswith("/data")
    assert (config.examples_per_task, config.keep_raw, config.refresh, config.seed) == (10, True, "2026-11-01", 10)
    assert config.attributes.describe()["language"] == {"English": 1.0}
    assert config.attributes.describe()["difficulty"] == {"PhD": 0.5, "college": 0.5}
    assert len(config.attributes.describe()["clarity"]) == 3
    assert config.backend == OfflineBackend(fault_rate=0.25)


def test_flags_win_over_the_file() -> None:
    path = own("c.yaml", "seed: 1\nexamples_per_task: 10")
    for argv in ([f"--config={path}", "--seed=2"], ["--seed=2", f"--config={path}"], ["--seed=2", "--config", path]):
        config = config_of(*argv)
        assert (config.seed, config.examples_per_task) == (2, 10)


def test_the_file_knows_beams_options() -> None:
    path = own("c.yaml", "direct_num_workers: 2\nexperiments: [a, b]\nstreaming: true\nsave_main_session: false")
    _, options = parse([f"--config={path}"])
    assert options.view_as(DirectOptions).direct_num_workers == 2
    assert options.view_as(DebugOptions).experiments == ["a", "b"]
    assert options.view_as(StandardOptions).streaming is True


def yaml_problem(text: str | bytes) -> str:
    return problem(f"--config={own('c.yaml', text)}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outptu: x", "unknown option --outptu: did you mean --output?"),
        ("examples_per_task: 0", "--examples_per_task is 0; it must be at least 1"),
        ("seed: 1e3", "argument --seed: invalid int value: '1e3'"),
        ("config: other.yaml", "--config ../in/c.yaml: a config file cannot name another one"),
        ("", "--config ../in/c.yaml: expected `option: value` lines"),
        ("output: !!python/object/apply:os.mkdir [x]", "--config ../in/c.yaml: line 1: no YAML: could not "),
        ("[" * 500, "--config ../in/c.yaml: line 1: lists and mappings are nested deeper than 10"),
        ("output: !!binary aGk=", "--config ../in/c.yaml: output: a bytes is no value for an option"),
        ("output: !!set {a, b}", "--config ../in/c.yaml: output: a set is no value for an option"),
        ("refresh: !!timestamp 2026-11-01", "--config ../in/c.yaml: refresh: a date is no value for an option"),
        ("help: true", "--config ../in/c.yaml: a config file cannot ask for help"),
        (b"output: \xff", "--config ../in/c.yaml: not UTF-8 (byte 8)"),
        ("language: {English: -1}", "--language: the weight of 'English' is negative (-1)"),
        ("1: 2", "--config ../in/c.yaml: '1' is no name of an option"),
    ],
)
def test_wrong_config_files(text: str | bytes, message: str) -> None:
    assert yaml_problem(text).startswith(message)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("task_requests: 3\ntask-requests: 4", "task_requests", "task-requests"),
        ("label: a=b\nlabels: c=d", "label", "labels"),
        ("machine_type: a\nworker_machine_type: b", "machine_type", "worker_machine_type"),
    ],
)
def test_one_option_under_two_names_is_refused(text: str, first: str, second: str) -> None:
    assert yaml_problem(text).endswith(f"c.yaml: {first} and {second} are one option; leave one of them out")


def test_a_line_break_in_a_name_does_not_break_the_message() -> None:
    assert yaml_problem('"a\\nb": 1')


@pytest.mark.parametrize(
    "text", ["language: no", "tasks: off", "refresh: no", "output: yes", "language: [no, en]", "language: {no: 1}"]
)
def test_a_bare_yes_or_no_is_never_taken_silently(text: str) -> None:
    # to YAML 1.1, a bare `no` is false; the user may have meant Norwegian
    name = text.split(":")[0]
    assert re.search(rf"{name}: is (true|false), which is no value for it; put quotes around", yaml_problem(text))


def test_two_files_of_options_are_refused() -> None:
    path = own("c.yaml", "seed: 1")
    assert problem(f"--config={path}", "--config", path).startswith("--config is given more than once")


# --- help


def test_help_shows_our_options_a_screen_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(["--seed=x", "--help"], "./run.sh") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ./run.sh generate [--option=value ...]\n")
    assert max(map(len, text.splitlines())) <= 100
    _, *sections, rest = re.split(rf"^({'|'.join(GROUPS)}|Only in the file of --config):", text, flags=re.MULTILINE)
    shown = dict(zip(sections[::2], sections[1::2], strict=False))
    assert list(shown) == list(GROUPS)
    for group in GROUPS:
        options = [option for option in OPTIONS if option.group == group and not option.config_only]
        assert re.findall(r"^  --(\w+)", shown[group], re.MULTILINE) == [option.name for option in options]
        assert len(shown[group].splitlines()) <= 45
        told = " ".join(shown[group].split())
        assert all(option.help_with_default in told for option in options)
    assert all(option.name in rest for option in OPTIONS if option.config_only)
    assert "(default: 42)" in text and "None" not in text and "--help_beam" in rest


def test_help_beam_shows_beams_options_alone(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(["-h"], "textmint") == 0
    capsys.readouterr()
    assert generate(["--help_beam"], "./run.sh") == 0
    assert list(work.iterdir()) == []
    text = capsys.readouterr().out
    assert {"--runner", "--direct_num_workers", "--temp_location"} <= set(re.findall(r"--\w+", text))
    assert not {f"  --{option.name} " for option in OPTIONS} & set(re.findall(r"^  --\w+ ", text, re.MULTILINE))


@pytest.mark.parametrize("name", [option.name for option in OPTIONS if option.config_only])
def test_an_option_of_the_config_file_is_no_flag(name: str) -> None:
    value = str(BY_NAME[name].default)
    for argv in ([f"--{name}={value}"], [f"--{name}", value]):
        assert (
            problem(*argv) == f"--{name} is no flag: put a line such as `{name}: {value}` into a file for --config=FILE"
        )
    assert str(config_of(config_flag(**{name: value})).typed[name]) == value


# --- what the run says of itself


def test_target() -> None:
    config = config_of("--refresh=2026-11", "--task_requests=7", "--examples_per_task=2", "--clarity=clear")
    target = target_of(config)
    assert (target.output, target.refresh) == (config.output, "2026-11")
    assert (target.task_requests, target.examples_per_task) == (7, 2)
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", target.run_id)
    assert target_of(config).run_id != target.run_id
    assert target.description["attributes"]["clarity"] == {"clear": 1.0}
    assert target.description["options"]["examples_per_task"] == 2
    assert target.description["backend"] == {**config.backend.fingerprint(), "base_url": None}
    assert target.description["templates"]["example"] == config.example_template.name
    assert target_of(config_of(f"--tasks={own('a.txt', 'Tell spam from ham')}")).task_requests is None


def test_versions() -> None:
    found = versions()
    assert " ".join(found) == "python textmint apache-beam pyarrow jinja2 json_repair numpy py3langid"
    assert all(re.match(r"\d+\.\d+", found[name]) for name in found if name != "textmint")


def test_reject_reasons_are_added_up_most_first() -> None:
    steps = {
        "TaskGenerate": {"in": 5, "kept": 4, "rejected": {"not_json": 1}},
        "ParseJSON": {"in": 9, "kept": 2, "rejected": {"blocked": 2, "not_json": 3, "empty": 2}},
        "LLMCall": {"in": 9, "kept": 9, "rejected": {}},
    }
    assert list(reject_reasons(steps).items()) == [("not_json", 4), ("blocked", 2), ("empty", 2)]
    assert reject_reasons({}) == {}


OWN_SERVER = ("--llm=openai", "--model=m", "--base_url=http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("argv", "price", "verify_price"),
    [
        ([], FREE, None),
        (["--verify"], FREE, FREE),
        (["--price=1,2"], parse_price("1,2"), None),  # what is named counts, also of the embedded model
        ([*OWN_SERVER, "--verify"], None, None),
        ([*OWN_SERVER, "--verify", "--price=1,2"], parse_price("1,2"), parse_price("1,2")),
        ([*OWN_SERVER, "--verify", "--verify_model=n", "--price=1,2"], parse_price("1,2"), None),
        ([*OWN_SERVER, "--verify", "--verify_model=n", "--verify_price=3,4"], None, parse_price("3,4")),
    ],
)
def test_what_tokens_cost(argv: list[str], price: Price | None, verify_price: Price | None) -> None:
    config = config_of(*argv)
    assert (config.price, config.verify_price) == (price, verify_price)


def test_the_price_of_a_known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("genai_prices", reason="genai-prices needs Python 3.11")
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    config = config_of("--llm=openai", "--model=gpt-4.1-mini", "--verify", "--verify_model=gpt-4.1")
    assert config.price is not None and config.verify_price is not None
    assert (config.price.prompt, config.verify_price.prompt) == (400_000, 2_000_000)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert config_of("--llm=openai", "--model=gpt-4.1-mini").price is None
