"""Launching on Dataflow: Beam's real client against a service on loopback that runs the graph it is sent."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, SetupOptions, WorkerOptions
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from google.api_core import exceptions as refusals
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from textmint.pipelines.cli.run import generate, target_of
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.pipelines.runners import dataflow, worker_code
from textmint.pipelines.runners.dataflow import JOB_BYTES, refusal_of
from textmint.pipelines.runners.dataflow_options import LAUNCH_SCRIPT
from textmint.transforms.dataset.manifest import read_manifest
from textmint.transforms.storage import files, lease

from tests.conftest import ROOT
from tests.support.dataflow_server import JOB_ID, DataflowServer, serving
from tests.support.mem_store import MemFileSystem

OUTPUT = "mem://bucket/out"
LEASE = lease.path_of(OUTPUT, "refresh=base")
CLOUD = ("--runner=DataflowRunner", "--project=my-project", "--region=europe-west4", "--temp_location=gs://bucket/tmp")
IMAGE = "--sdk_container_image=registry/image:1"  # nothing is packed for the workers
QUICK = "--experiments=disable_logging_submission_environment"  # which runs `pip freeze`
SMALL = ("--task_requests=1", "--max_tasks=4", "--examples_per_task=2")
TEMPLATE = "gs://bucket/staging/template_launches/2026-11-25_01/job_object"


@pytest.fixture(autouse=True)
def quick(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits for seconds, and no setting of Beam's logs is left."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(
        dataflow_runner, "time", types.SimpleNamespace(time=time.time, sleep=lambda s: time.sleep(min(s, 0.02)))
    )
    loggers = [logging.getLogger(name) for name in ("apache_beam", dataflow_runner.__name__, "textmint", None)]
    before = [(logger, logger.level, list(logger.handlers), list(logger.filters)) for logger in loggers]
    yield
    for logger, level, handlers, filters in before:
        logger.setLevel(level)
        logger.handlers[:], logger.filters[:] = handlers, filters
    for job in list(lease._renewers):
        lease.release(job)


Launch = Callable[..., int]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    def call(service: DataflowServer, *argv: str) -> int:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        loopback = ("--no_auth", f"--dataflow_endpoint={service.url}")
        return generate([*CLOUD, *loopback, f"--output={OUTPUT}", *SMALL, IMAGE, QUICK, *argv], "textmint")

    return call


def failed_with(error: str, state: str = "JOB_STATE_FAILED") -> Callable[[DataflowServer], tuple[str, str]]:
    return lambda service: (state, error)


def lease_holder() -> str | None:
    return json.loads(files.read_file(LEASE))["host"] if files.exists(LEASE) else None


# --- from a laptop


def test_files_of_this_machine_are_copied_to_where_workers_read_them(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one [1].txt").write_text("Sort letters by tone\nTell a complaint from a question\n")
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(b'{"task": "Name the sender"}\n'))
    (tmp_path / "texts.txt").write_text("It rains.\n")
    inputs = (f"--tasks={tmp_path}/[!t]*", f"--exclude={tmp_path}/texts.txt")
    both = (f"--tasks={tmp_path}/*o*[tz]", f"--exclude={tmp_path}/texts.txt")
    read: list[str] = []

    def ends(service: DataflowServer) -> tuple[str, str]:
        read.extend(sorted(path.rpartition("/inputs/")[2] for path in MemFileSystem.objects if "/inputs/" in path))
        return service.run_graph()

    for chosen, names, count in (
        (inputs, ["exclude/00000.txt", "tasks/00000.txt"], 2),
        (both, ["exclude/00000.txt", "tasks/00000.txt", "tasks/00001.jsonl.gz"], 3),
    ):
        read.clear()
        with serving(ends) as service:
            assert launch(service, *chosen) == 0, capsys.readouterr().err
        assert read == names
        assert read_manifest(OUTPUT)["refreshes"]["base"]["counts"]["tasks"] == count
        assert not [path for path in MemFileSystem.objects if "/inputs/" in path]  # which go when it has published
        local = tmp_path / f"local{count}"
        assert generate([*SMALL, *chosen, f"--output={local}"], "textmint") == 0
        rows = {str(path.relative_to(local)): path.read_bytes() for path in local.glob("examples/*/*.parquet")}
        assert {path: files.read_file(f"{OUTPUT}/{path}") for path in rows} == rows != {}


def test_a_template_has_no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.txt").write_text("Sort letters by tone\n")
    monkeypatch.setenv(LAUNCH_SCRIPT, "/template/launch.py")
    with pytest.raises(OptionError, match="does not have your machine's disk; copy it first: gcloud storage cp"):
        parse([*CLOUD, f"--output={OUTPUT}", f"--tasks={tmp_path}/my.txt", "--dry_run"])


def test_a_job_is_submitted_run_and_published(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held: list[str | None] = []

    def ends(service: DataflowServer) -> tuple[str, str]:
        held.append(lease_holder())
        return service.run_graph()

    for name in ("GEMINI_API_KEY", "OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "the-secret-key")
    with serving(ends) as service:
        assert launch(service, "--num_workers=3", "--labels=team=data") == 0
    (job,) = service.jobs
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert (options["task_requests"], options["output"]) == (1, OUTPUT)
    assert options["save_main_session"] is False
    assert job["environment"]["workerPools"][0]["numWorkers"] == 3
    assert job["labels"] == {"team": "data"}
    assert job["name"].startswith("textmint-base-20")
    everything = json.dumps(job).encode() + b"".join(service.objects.values())
    assert b"the-secret-key" not in everything
    # the job held the lease, and whoever published gave it back
    assert held == [f"Dataflow job {job['name']}"]
    assert files.list_files(f"{OUTPUT}/_leases") == []
    assert read_manifest(OUTPUT)["refreshes"]["base"]["counts"]["examples"] == 8
    said = capsys.readouterr()
    assert said.out.startswith(f"\n{OUTPUT}: 8 examples of 4 tasks")
    assert f"console.cloud.google.com/dataflow/jobs/europe-west4/{JOB_ID}?project=my-project" in said.err
    assert "JOB_STATE_DONE" in said.err
    # its rows are those of a local run
    assert generate([*SMALL, f"--output={tmp_path}"], "textmint") == 0
    local = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.glob("examples/*/*.parquet")}
    assert local
    assert {path: files.read_file(f"{OUTPUT}/{path}") for path in local} == local
    # and the same again is no job
    with serving() as service:
        assert launch(service) == 0
    assert service.requests == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "Traceback (most recent call last):\n  File x\nValueError: boom",
            f"job {JOB_ID} ended as FAILED: ValueError: boom; https://console",
        ),
        (
            "Traceback:\n  x\ntextmint.transforms.core.errors.RunFailed: the key is wrong; set it "
            "[while running 'LLMCall/Call']",
            "the run failed: the key is wrong; set it\n",
        ),
    ],
)
def test_a_job_that_fails_is_one_line(error: str, line: str, launch: Launch, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(failed_with(error)) as service:
        assert launch(service) == 1
    said = capfd.readouterr()
    last = said.err.splitlines(keepends=True)[-1]
    assert last.startswith(f"textmint: {line}")
    assert said.out == ""
    assert 'File "' not in said.err, "a traceback of ours"
    assert not files.exists(LEASE), "the same command again is not refused"


class Result:
    """What Beam gives for a job that was submitted."""

    def __init__(self, ends: Callable[[], Any]) -> None:
        self.wait_until_finish = ends
        self.state = "CANCELLED"

    def job_id(self) -> str:
        return JOB_ID


def watch(ends: Callable[[], Any]) -> tuple[str, bool]:
    """Returns what is said of a job that ended so, and whether the job keeps its lease."""
    cloud = PipelineOptions(["--project=p", "--region=r"])
    label = lease.Held(OUTPUT, "refresh=base", "run 1")
    label.hand_over("Dataflow job j", 100)
    with pytest.raises(dataflow.LaunchFailed) as caught:
        dataflow._watch(Result(ends), cloud, label, "publishes by itself")
    return str(caught.value), label.is_handed_over


def test_a_job_that_somebody_cancelled_is_told() -> None:
    def ends() -> None:
        message = "Dataflow pipeline failed. State: CANCELLED, Error:\nNone"
        raise dataflow_runner.DataflowRuntimeException(message, Result(ends))

    line, is_left = watch(ends)
    assert line.startswith(f"job {JOB_ID} ended as CANCELLED: no reason was told; https://console")
    assert not is_left


def test_a_job_out_of_sight_may_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    """Beam asks for its state in a thread, and takes the thread's end for the job's."""

    def ends() -> None:
        def refuses() -> None:
            raise refusals.Forbidden("not any more")

        thread = threading.Thread(target=refuses)
        thread.start()
        thread.join()
        raise AssertionError("Job did not reach to a terminal state")

    hook = threading.excepthook
    assert watch(ends) == (
        f"lost sight of job {JOB_ID}, which may go on (403 not any more); look at "
        f"https://console.cloud.google.com/dataflow/jobs/r/{JOB_ID}?project=p",
        True,
    )
    assert threading.excepthook is hook
    assert capfd.readouterr().err == ""


def test_a_service_that_refuses_is_one_line(launch: Launch, capfd: pytest.CaptureFixture[str]) -> None:
    disabled = "Dataflow API has not been used in project 1 before or it is disabled."
    with serving(refusal=(403, disabled)) as service:
        assert launch(service) == 1
    assert service.jobs == []
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("textmint: the Dataflow API is not enabled in my-project (403")
    assert line.endswith(
        "gcloud services enable dataflow.googleapis.com --project=my-project; nothing was submitted, and nothing was "
        "paid for"
    )
    assert not files.exists(LEASE)


def test_a_missing_bucket_is_told_at_once(launch: Launch, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with serving() as service:
        assert launch(service, "--temp_location=gs://absent-1/tmp", "--staging_location=gs://absent-2/x") == 2
    assert time.monotonic() - began < 20
    assert capfd.readouterr().err.splitlines() == [
        f"textmint: --{name}=gs://{bucket}: there is no such bucket; make it: gcloud storage buckets create "
        f"gs://{bucket.partition('/')[0]}; nothing was submitted, and nothing was paid for"
        for name, bucket in (("temp_location", "absent-1/tmp"), ("staging_location", "absent-2/x"))
    ]
    assert (service.jobs, service.objects) == ([], {})
    assert not files.exists(LEASE)


AGAIN = "when it has ended, run the same command again, which pays for nothing twice"


@pytest.mark.parametrize(
    ("flags", "jobs", "outcome"),
    [
        ([], 0, "publishes by itself"),
        (["--target_examples=4"], 0, f"publishes nothing: {AGAIN}"),
        (["--target_examples=4"], 1, f"publishes by itself if it has 4 examples; if not, {AGAIN}"),
    ],
)
def test_ctrl_c_leaves_the_job_and_its_lease(
    launch: Launch, capfd: pytest.CaptureFixture[str], flags: list[str], jobs: int, outcome: str
) -> None:
    enough = threading.Event()

    def ends(service: DataflowServer) -> tuple[str, str]:
        if len(service.jobs) <= jobs:
            return service.run_graph()
        before = len(service.requests)
        while not any(request.endswith("/messages") for request in service.requests[before:]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        assert enough.wait(30)
        return "JOB_STATE_DONE", ""

    with serving(ends) as service:
        assert launch(service, *flags) == 130
        last = capfd.readouterr().err.splitlines()[-1]
        assert last == (
            f"textmint: job {JOB_ID} goes on without this launcher, and {outcome}; to end it: "
            f"gcloud dataflow jobs cancel {JOB_ID} --region=europe-west4 --project=my-project"
        )
        enough.set()
    assert lease_holder() == f"Dataflow job {service.jobs[-1]['name']}"
    with serving() as second:
        assert launch(second) == 2
    assert "another run of this refresh is writing" in capfd.readouterr().err
    assert second.jobs == []


def test_a_launcher_need_not_wait(launch: Launch, capfd: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()

    def ends(service: DataflowServer) -> tuple[str, str]:
        assert done.wait(30)
        return service.run_graph()

    with serving(ends) as service:
        assert launch(service, "--no_wait_until_finish") == 0
        assert "to end it: gcloud dataflow jobs cancel" in capfd.readouterr().err
        assert lease_holder()
        done.set()
    assert service.state == "JOB_STATE_DONE"
    assert not files.exists(LEASE)
    assert read_manifest(OUTPUT)["refreshes"]["base"]["counts"]["examples"] == 8


# --- from a template's launcher


@pytest.fixture
def in_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCH_SCRIPT, "/template/launch.py")
    monkeypatch.setenv(worker_code.IMAGE, "registry/textmint:1")


def test_a_template_leaves_the_job_to_dataflow(
    launch: Launch, in_template: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a flag that only the launcher knows, and switches as it writes them."""
    flags = (f"--template_location={TEMPLATE}", "--job_name=nightly-1", "--keep_raw=true", "--future_flag=1")
    with serving() as service:
        assert launch(service, *flags) == 0
        assert service.jobs == []
        job = json.loads(service.objects[TEMPLATE])
        assert job["name"] == "nightly-1"
        said = capfd.readouterr()
        assert said.out == ""
        assert f"the graph of job nightly-1 is at {TEMPLATE}; Dataflow runs it" in said.err
        assert lease_holder() == "Dataflow job nightly-1"
        # the launcher of a second run of the label comes before the first job has ended
        assert launch(service, *flags) == 2
        assert service.run_graph() == ("JOB_STATE_DONE", "")
    assert not files.exists(LEASE)
    entry = read_manifest(OUTPUT)["refreshes"]["base"]
    assert entry["counts"]["examples"] == 8
    assert entry["options"]["keep_raw"] is True


def test_a_template_that_has_nothing_to_do_leaves_a_job_that_says_so(
    launch: Launch, in_template: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Dataflow takes a launcher that leaves no job for one that failed."""
    with serving() as service:
        assert launch(service) == 0
        before = dict(MemFileSystem.objects)
        service.objects.clear()
        assert launch(service, f"--template_location={TEMPLATE}") == 0
        job = json.loads(service.objects[TEMPLATE])
        assert job["environment"]["workerPools"][0]["numWorkers"] == 1
        caplog.clear()
        assert service.run_graph() == ("JOB_STATE_DONE", "")
    assert "refresh=base is complete, and nothing has changed" in caplog.text
    assert MemFileSystem.objects == before


def test_workers_of_a_template_use_its_image(
    in_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = PipelineOptions([])
    with worker_code.code_for_workers(options):
        assert options.view_as(WorkerOptions).sdk_container_image == "registry/textmint:1"
        assert options.view_as(SetupOptions).setup_file is None


# --- a dry run


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise AssertionError("a dry run asked the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuses, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuses)


@pytest.mark.parametrize("form", ["--dry_run", "--dry_run=true"])
def test_a_dry_run_translates_and_does_nothing_else(
    form: str, offline: None, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [*CLOUD, "--output=gs://bucket/out", "--tasks=gs://bucket/tasks.txt", "--exclude=gs://b-2/*.txt", form]
    assert generate([*argv, IMAGE, QUICK], "textmint") == 0
    said = capfd.readouterr()
    assert said.err == ""
    translated, _, plan = said.out.partition("\n\n")
    assert translated.startswith("the graph translates for Dataflow: 1")
    assert translated.endswith(" MB of 10; nothing was submitted, and nothing was paid for, or written")
    assert plan.startswith("Plan of refresh=base in gs://bucket/out.")
    assert "--output was not read" in plan and "--tasks was not read" in plan
    assert (MemFileSystem.log, list(tmp_path.iterdir())) == ([], [])


def test_a_graph_that_is_too_large_is_refused_and_not_submitted(
    launch: Launch, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataflow, "JOB_BYTES", 100_000)
    with serving() as service:
        for flags in ((), ("--dry_run",)):
            assert launch(service, *flags) == 2
            assert "and Dataflow takes 0: choose fewer --task_requests" in capfd.readouterr().err
    assert (service.jobs, service.objects) == ([], {})
    assert not files.exists(LEASE)
    assert JOB_BYTES == 10_000_000


# --- what Google Cloud refuses


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (DefaultCredentialsError("none were found"), "gcloud auth application-default login"),
        (RefreshError("it expired"), "gcloud auth application-default login"),
        (refusals.Unauthenticated("who?"), "gcloud auth application-default login"),
        (refusals.Forbidden("reason: SERVICE_DISABLED"), "gcloud services enable dataflow.googleapis.com --project=p"),
        (refusals.PermissionDenied("no"), "roles/dataflow.developer"),
        (refusals.ResourceExhausted("CPUS"), "--max_num_workers"),
        (refusals.TooManyRequests("slow down"), "--max_num_workers"),
        (refusals.AlreadyExists("there"), "--job_name"),
        (DataflowJobAlreadyExistsError("there"), "--job_name"),
        (refusals.NotFound("no project"), "--project=p"),
        (refusals.BadRequest("the machine type is unknown"), "the machine type is unknown"),
        (refusals.ServiceUnavailable("later"), "again"),
        (OSError("Could not upload to GCS path gs://b"), "--staging_location"),
        (ConnectionError("reset by peer"), "--staging_location"),
    ],
)
def test_each_refusal_is_one_line_with_its_remedy(error: Exception, remedy: str) -> None:
    line = refusal_of(error, PipelineOptions(["--project=p", "--region=r"]))
    assert line is not None
    assert remedy in line
    assert "\n" not in line


def test_a_mistake_of_ours_is_no_refusal() -> None:
    assert refusal_of(TypeError("x"), PipelineOptions([])) is None


# --- our code, on the workers


def test_from_a_checkout_workers_get_its_setup_file() -> None:
    options = PipelineOptions([])
    with worker_code.code_for_workers(options):
        assert options.view_as(SetupOptions).setup_file == str(ROOT / "setup.py")


@pytest.mark.parametrize(
    "given", ["--setup_file=/mine/setup.py", "--sdk_container_image=mine", "--extra_package=/mine/x.whl"]
)
def test_what_the_user_says_stays(given: str) -> None:
    options = PipelineOptions([given])
    before = options.get_all_options(drop_default=True)
    with worker_code.code_for_workers(options):
        assert options.get_all_options(drop_default=True) == before


def test_what_is_packed_from_a_checkout_holds_all_of_it(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real packing, by Beam: an sdist of setup.py."""
    with serving(failed_with("", "JOB_STATE_DONE")) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        config, options = parse(
            [*CLOUD, "--no_auth", f"--dataflow_endpoint={service.url}", f"--output={OUTPUT}", *SMALL]
        )
        target = dataclasses.replace(target_of(config), held_by_job=True)
        with lease.hold(target.output, target.partition, target.run_id) as label:
            assert dataflow.launch(config, options, target, dataflow.NOTHING, label)
        assert options.view_as(GoogleCloudOptions).job_name
    with tarfile.open(fileobj=io.BytesIO(service.staged("workflow.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {
        str(path.relative_to(ROOT))
        for folder in ("pipelines", "transforms", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"setup.py", "pyproject.toml", *tracked} <= names


def test_from_an_installed_package_workers_get_a_wheel_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed is packed anew, and can be installed again, without the index."""
    site = tmp_path / "site"
    info = site / "textmint-9.9.9.dist-info"
    info.mkdir(parents=True)
    (site / "textmint" / "pipelines").mkdir(parents=True)
    (site / "textmint" / "pipelines" / "__init__.py").write_text("WHERE = 'wheel'\n")
    (site / "textmint" / "pipelines" / "__pycache__").mkdir()
    (site / "textmint" / "pipelines" / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"x")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: textmint\nVersion: 9.9.9\nRequires-Dist: pyyaml\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "INSTALLER").write_text("pip\n")
    listed = [
        "../../bin/textmint",
        "textmint/pipelines/__init__.py",
        "textmint/pipelines/__pycache__/__init__.cpython-311.pyc",
        *(f"{info.name}/{name}" for name in ("METADATA", "WHEEL", "INSTALLER", "RECORD")),
    ]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    distribution = next(iter(worker_code.metadata.distributions(path=[str(site)])))
    monkeypatch.setattr(worker_code.metadata, "distribution", lambda name: distribution)
    monkeypatch.setattr(worker_code, "_ROOT", site)
    options = PipelineOptions([])
    with worker_code.code_for_workers(options):
        (wheel,) = options.view_as(SetupOptions).extra_packages
        with zipfile.ZipFile(wheel) as archive:
            assert sorted(archive.namelist()) == sorted(
                ["textmint/pipelines/__init__.py", *(f"{info.name}/{name}" for name in ("METADATA", "WHEEL", "RECORD"))]
            )
        into = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--target", str(tmp_path / "new"))
        subprocess.run([sys.executable, "-m", "pip", "install", *into, wheel], check=True)
    assert (tmp_path / "new" / "textmint" / "pipelines" / "__init__.py").read_text() == "WHERE = 'wheel'\n"
    assert not Path(wheel).exists()


def test_without_either_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise worker_code.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(worker_code, "_ROOT", tmp_path)
    monkeypatch.setattr(worker_code.metadata, "distribution", absent)
    with (
        pytest.raises(dataflow.LaunchFailed, match="give --setup_file, --extra_package or --sdk_container_image"),
        worker_code.code_for_workers(PipelineOptions([])),
    ):
        pass


def test_the_file_system_of_the_tests_is_no_local_one() -> None:
    assert not files.is_local(OUTPUT)
    assert FileSystems.get_scheme(OUTPUT) == "mem"
