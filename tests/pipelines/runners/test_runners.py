"""Which engine a run goes to: one that needs no network, unless the user names another; and what cannot work is told
before anything is paid for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, SetupOptions, StandardOptions
from apache_beam.runners import create_runner
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.runners.choose import LOCAL_RUNNER, has_worker_processes, is_local, settle_runner

from tests.support.helpers import ROOT, entry_of, files_of, run_main

EMBED = ("--runner=PortableRunner", "--job_endpoint=embed")
SUBPROCESS = "--environment_type=beam:env:harness_subprocess_python:v1"


def settled(*flags: str) -> PipelineOptions:
    options = PipelineOptions(list(flags))
    settle_runner(options)
    return options


def problem(*flags: str) -> str:
    with pytest.raises(OptionError) as error:
        settled(*flags)
    (told,) = error.value.problems
    assert "\n" not in told
    return told


# --- which one


@pytest.mark.parametrize(
    "name",
    [
        "",
        "direct",
        "DirectRunner",
        "directrunner",
        "SwitchingDirectRunner",
        "BundleBasedDirectRunner",
        "TestDirectRunner",
        "FnApiRunner",
        "fnapi",
        "apache_beam.runners.direct.direct_runner.DirectRunner",
        "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    ],
)
def test_what_runs_on_this_machine_is_beams_own_engine(name: str) -> None:
    options = settled(*([f"--runner={name}"] if name else []))
    runner = options.view_as(StandardOptions).runner
    assert runner == LOCAL_RUNNER
    assert type(create_runner(runner)).__name__ == "FnApiRunner"
    assert is_local(options)


@pytest.mark.parametrize(
    "flags",
    [
        ["--runner=DataflowRunner"],
        ["--runner=FlinkRunner", "--flink_master=host:8081"],
        ["--runner=FlinkRunner", "--flink_master=[local]"],
        ["--runner=FlinkRunner", "--flink_job_server_jar=server.jar"],
        ["--runner=flink", "--job_endpoint=host:8099"],
        ["--runner=SparkRunner", "--spark_master_url=spark://host:7077"],
        ["--runner=SparkRunner", "--spark_rest_url=http://host:6066"],
        ["--runner=PortableRunner", "--job_endpoint=host:8099"],
        ["--runner=PrismRunner", "--job_endpoint=host:8073"],
        ["--runner=PrismRunner", f"--prism_location={sys.executable}"],
    ],
)
def test_what_the_user_names_is_kept(flags: list[str]) -> None:
    options = settled(*flags)
    assert options.view_as(StandardOptions).runner == flags[0].partition("=")[2]
    assert options.view_as(PortableOptions).environment_type is None
    assert not is_local(options) and not has_worker_processes(options)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--runner=DaskRunner"], "loses rows"),
        (["--runner=dask"], "loses rows"),
        (["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"], "loses rows"),
        (["--runner=PrismRunner"], "--prism_location="),
        (["--runner=prism", "--prism_location=https://example.org/prism.zip"], "--prism_location="),
        (["--runner=FlinkRunner"], "--flink_master=host:8081"),
        (["--runner=FlinkRunner", "--flink_master=[auto]"], "--flink_master=host:8081"),
        (["--runner=SparkRunner"], "--spark_master_url="),
        (["--runner=PortableRunner"], "--job_endpoint=embed"),
        (["--runner=InteractiveRunner"], "notebooks"),
        (["--runner=NoSuchRunner"], "FnApiRunner"),
        (["--runner=no.such.Runner"], "No module named 'no'"),
        ([*EMBED, "--environment_type=PROCESS"], "beam:env:harness_subprocess_python:v1"),
    ],
)
def test_what_cannot_work_is_refused_with_its_remedy(flags: list[str], told: str) -> None:
    assert told in problem(*flags)


@pytest.mark.parametrize("runner", ["DaskRunner", "PrismRunner", "FlinkRunner", "PortableRunner"])
def test_a_refusal_is_one_line_and_nothing_is_written(
    runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_main("generate", f"--runner={runner}", "--output=out")
    assert done.code == 2
    assert done.out == "" and done.err.count("\n") == 1 and f"--runner={runner}: " in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ([], "LOOPBACK"),
        (["--environment_type=DOCKER"], "DOCKER"),
        (["--environment_type=EXTERNAL", "--environment_config=localhost:1"], "EXTERNAL"),
        ([SUBPROCESS], "beam:env:harness_subprocess_python:v1"),
    ],
)
def test_workers_of_the_embedded_job_server_are_threads_unless_others_are_named(
    flags: list[str], environment: str
) -> None:
    options = settled(*EMBED, *flags)
    assert options.view_as(PortableOptions).environment_type == environment
    assert is_local(options)
    assert has_worker_processes(options) is (SUBPROCESS in flags)


def test_worker_processes_of_the_own_engine_are_known() -> None:
    assert not has_worker_processes(settled())
    assert not has_worker_processes(settled("--direct_num_workers=2", "--direct_running_mode=multi_threading"))
    assert has_worker_processes(settled("--direct_num_workers=2", "--direct_running_mode=multi_processing"))


@pytest.mark.parametrize("runner", ["DataflowRunner", "FnApiRunner"])
def test_the_main_module_does_not_travel_unless_asked_for(runner: str) -> None:
    options = settled(f"--runner={runner}")
    assert options.view_as(SetupOptions).save_main_session is False
    assert settled(f"--runner={runner}", "--save_main_session").view_as(SetupOptions).save_main_session is True


# --- no network

GUARD = """
import os, sys

def guard(event, arguments):
    if event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event == "urllib.Request":
        host = arguments[0].partition("://")[2].partition("/")[0].partition(":")[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host not in (None, "", "localhost", "127.0.0.1", "::1", "::", "0.0.0.0"):
        with open(os.environ["GUARD_LOG"], "a") as log:
            log.write(f"{event} {host}\\n")
        raise OSError(f"the guard refuses {host}")

sys.addaudithook(guard)
"""


def guarded(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Runs Python without a way out of this machine; returns how it ended, and what it tried to reach.

    gRPC has sockets of its own, which Python does not see; what Beam downloads comes through Python's."""
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    log = folder / "guard.log"
    log.touch()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder / "guard"), str(ROOT)]),
        "GUARD_LOG": str(log),
        "HOME": str(folder),  # where Beam keeps what it downloaded before
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done, log.read_text()


def generate(folder: Path, *flags: str) -> tuple[subprocess.CompletedProcess[str], str]:
    small = ("--task_requests=1", "--examples_per_task=1", "--output=out")
    return guarded(folder, "-m", "textmint.pipelines", "generate", *small, *flags)


@pytest.mark.parametrize("flags", [["--runner=DirectRunner"], list(EMBED)])
def test_a_local_run_reaches_for_nothing(flags: list[str], tmp_path: Path) -> None:
    done, tried = generate(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert tried == ""
    count = entry_of(tmp_path / "out")["counts"]["examples"]
    assert count > 10
    assert f"out: {count} examples of {count} tasks, 0 rejects" in done.stdout


def test_beams_direct_runner_would_reach_for_a_program(tmp_path: Path) -> None:
    """Why another one is chosen. When this fails, Beam has changed its mind, and so may we."""
    code = """
        import apache_beam as beam
        with beam.Pipeline("DirectRunner") as pipeline:
            pipeline | beam.Create([1])
    """
    done, tried = guarded(tmp_path, "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr  # it falls back
    assert "urllib.Request github.com" in tried


# --- what returns before it is done


class _Late(beam.runners.PipelineRunner):
    """An engine that returns at once, and whose metrics are empty for ever: the work is done while it is waited for."""

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> Any:
        return _LateResult(pipeline, options)


class _LateResult:
    def __init__(self, pipeline: beam.Pipeline, options: PipelineOptions) -> None:
        self._later = lambda: create_runner(LOCAL_RUNNER).run_pipeline(pipeline, options)

    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(self._later().wait_until_finish())


def test_an_engine_that_returns_at_once_is_waited_for(tmp_path: Path) -> None:
    late = run(tmp_path / "late", f"--runner={__name__}._Late")
    assert late == run(tmp_path / "own")


def run(folder: Path, *flags: str) -> tuple[list[str], dict[str, bytes]]:
    """Returns the summary, and the files of the data."""
    done = run_main("generate", "--task_requests=1", f"--output={folder}", *flags)
    assert done.code == 0, done.err
    return done.out.replace(str(folder), "out").splitlines(), files_of(folder)
