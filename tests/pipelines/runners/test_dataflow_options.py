"""What Dataflow needs of the options is told before anything is submitted, written or paid for: all at once, each in
one line with its remedy."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import GoogleCloudOptions, SetupOptions
from textmint.pipelines.cli.run import generate
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.pipelines.options.refresh_label import label_of
from textmint.pipelines.runners.dataflow_options import (
    LAUNCH_SCRIPT,
    is_dataflow,
    is_dry_run,
    is_template,
    plain_flags,
)

from tests.support.mem_store import MemFileSystem

CLOUD = {
    "runner": "DataflowRunner",
    "project": "my-project",
    "region": "europe-west4",
    "temp_location": "gs://bucket/tmp",
    "output": "gs://bucket/out",
    "dry_run": "true",
}


def problems(**changed: str | None) -> list[str]:
    """Returns what is wrong with good options in which these are changed, or left out (None)."""
    argv = [f"--{name}={value}" for name, value in {**CLOUD, **changed}.items() if value is not None]
    try:
        parse(argv)
    except OptionError as error:
        return list(error.problems)
    return []


def test_nothing_is_wrong_with_these() -> None:
    assert problems() == []
    assert problems(temp_location=None, staging_location="gs://bucket/staging") == []
    assert problems(tasks="gs://bucket/*.txt", exclude="gs://bucket/test.jsonl", job_name="nightly-1") == []


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("project", None, "--project is missing: name the Google Cloud project of the job (gcloud config get-value"),
        ("project", "123456", "--project=123456: is no project's id"),
        ("project", "My Project", "--project=My Project: is no project's id"),
        ("region", None, "--region is missing: name where the workers run, such as --region=europe-west4"),
        ("region", "europe-west4-a", "--region=europe-west4-a: is no region, such as europe-west4"),
        ("temp_location", None, "--temp_location is missing: name a folder for the job's own files, such as gs://"),
        ("temp_location", "/tmp", "--temp_location=/tmp: has to be on Cloud Storage, such as gs://my-bucket/tmp"),
        ("temp_location", "s3://bucket/tmp", "--temp_location=s3://bucket/tmp: has to be on Cloud Storage"),
        ("temp_location", "gs://bucket", "--temp_location=gs://bucket: names a bucket and no folder in it"),
        ("temp_location", "gs://b/tmp", "--temp_location=gs://b/tmp: 'b' is no name of a bucket, which has 3 to"),
        ("staging_location", "gs://My_Bucket/x", "--staging_location=gs://My_Bucket/x: 'My_Bucket' is no name of"),
        ("staging_location", "gs:///x", "--staging_location=gs:///x: '' is no name of a bucket"),
        ("output", "out", "--output=out: workers do not have this machine's disk; name a folder such as gs://"),
        ("output", "/data/out", "--output=/data/out: workers do not have this machine's disk"),
        ("output", "gs://b/out", "--output=gs://b/out: 'b' is no name of a bucket"),
        ("tasks", "my.txt", "--tasks my.txt: there is no such file"),
        ("tasks", "gs://x/my.txt", "--tasks=gs://x/my.txt: 'x' is no name of a bucket"),
        ("exclude", "/data/*.txt", "--exclude /data/*.txt: there is no such file"),
        ("job_name", "Nightly", "--job_name=Nightly: has to begin with a small letter"),
        ("job_name", "n" * 64, f"--job_name={'n' * 64}: has to begin with a small letter"),
        ("setup_file", "/absent/setup.py", "--setup_file=/absent/setup.py: there is no such file"),
        ("extra_package", "/absent/x.whl", "--extra_package=/absent/x.whl: there is no such file"),
        ("num_workers", "0", "Invalid value (0) for option: num_workers. Value needs to be positive."),
        ("template_location", "gs://bucket/t", "--template_location: a classic template would run today's graph"),
        ("update", "true", "--update: Dataflow updates streaming jobs only"),
    ],
)
def test_each_is_one_line_with_its_remedy(name: str, value: str | None, line: str) -> None:
    (problem,) = problems(**{name: value})
    assert problem.startswith(line)
    assert "\n" not in problem


def test_all_are_told_at_once_and_nothing_was_touched(
    capsys: pytest.CaptureFixture[str], store: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(["--runner=DataflowRunner", "--tasks=my.txt", "--seed=1"], "textmint") == 2
    said = [line.partition(": ")[2].split("=")[0].split(" ")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["--project", "--region", "--temp_location", "--output", "--tasks"]
    assert list(tmp_path.iterdir()) == []
    assert MemFileSystem.log == []


@pytest.mark.parametrize("runner", ["DataflowRunner", "dataflow", "dataflowrunner"])
def test_however_the_runner_is_written(runner: str) -> None:
    assert problems(runner=runner, project=None)[0].startswith("--project is missing")


def test_beam_saves_no_session_of_ours() -> None:
    _, options = parse([*(f"--{name}={value}" for name, value in CLOUD.items()), "--save_main_session"])
    assert options.view_as(SetupOptions).save_main_session is False


@pytest.mark.parametrize("runner", [(), ("--runner=DirectRunner",), ("--runner=FnApiRunner",)])
def test_a_dry_run_elsewhere_needs_no_key_and_tries_no_folder(
    runner: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    argv = [*runner, "--dry_run", "--llm=openai", "--model=m", f"--output={tmp_path / 'out'}"]
    config, options = parse(argv)
    assert is_dry_run(options)
    assert config.output == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_does_not_wait_cannot_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setenv(LAUNCH_SCRIPT, "/template/launch.py")
    for left in ({"template_location": "gs://bucket/t"}, {"no_wait_until_finish": "true"}):
        (problem,) = problems(push_to_hub="me/data", **left)
        assert problem.startswith("--push_to_hub: this launcher ends before the job does, and nobody would push")
        for several in ("max_tokens", "target_examples"):
            (problem,) = problems(**{several: "5"}, **left)
            assert problem.startswith(f"--{several}: such a run is several jobs, one after the other, and this")


# --- what a template's launcher gives


def test_a_template_may_be_given_what_only_its_launcher_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCH_SCRIPT, "/template/launch.py")
    flags = [f"--{name}={value}" for name, value in CLOUD.items()]
    flags += ["--template_location=gs://bucket/job_object", "--label_plan=planned", "--verify=true", "--keep_raw=false"]
    flags += ['--labels={\n  "goog-dataflow-provided-template-type": "flex"\n}', "--streaming_mode_2=x"]
    config, options = parse(flags)
    assert (config.plans_labels, config.verify_backend is not None, config.keep_raw) == (True, True, False)
    assert "template-type" in options.view_as(GoogleCloudOptions).labels[0]
    assert is_template(options)


def test_elsewhere_an_option_that_nobody_knows_is_refused() -> None:
    assert problems(streaming_mode_2="x") == ["unknown option --streaming_mode_2: did you mean --streaming?"]


def test_switches_as_words() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--keep_raw", action="store_true")
    parser.add_argument("--tasks")
    flags = ["--keep_raw=true", "--keep_raw=FALSE", "--keep_raw", "--keep_raw=yes", "--tasks=true", "--tasks", "true"]
    assert list(plain_flags(flags, parser._actions)) == [
        "--keep_raw",
        "--keep_raw",
        "--keep_raw=yes",
        "--tasks=true",
        "--tasks",
        "true",
    ]


@pytest.mark.parametrize(
    ("flag", "is_dry"),
    [("--dry_run", True), ("--dry_run=TRUE", True), ("--dry_run=1", True), ("--dry_run=false", False)],
)
def test_of_a_dry_run_beam_takes_any_value_for_true(flag: str, is_dry: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmint.pipelines.options.validate.checked_output", lambda path, writes: path)
    _, options = parse([*(f"--{name}={value}" for name, value in CLOUD.items() if name != "dry_run"), flag])
    assert bool(options.view_as(pipeline_options.TestOptions).dry_run) is is_dry
    assert (is_dataflow(options), is_dry_run(options)) == (True, is_dry)


# --- the label


def test_today_is_the_day_in_utc() -> None:
    last_second = 1_795_651_199.0  # 2026-11-25 23:59:59 UTC
    assert [label_of("today", last_second + more) for more in (0, 1)] == ["2026-11-25", "2026-11-26"]
    assert [label_of(label) for label in ("base", "2026-11-01", "Today", "today-2")] == [
        "base",
        "2026-11-01",
        "Today",
        "today-2",
    ]


def test_a_run_of_today_stands_under_its_date(tmp_path: Path) -> None:
    config, _ = parse([f"--output={tmp_path}", "--refresh=today"])
    assert config.refresh == config.typed["refresh"]
    assert config.refresh.startswith("2") and len(config.refresh) == 10
