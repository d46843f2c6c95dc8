"""Launching on Dataflow: how its workers get our code, how a job is submitted, and how it is watched to its end."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import re
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from google.api_core import exceptions as refusals
from google.auth.exceptions import GoogleAuthError
from textmint.pipelines.generate import build
from textmint.pipelines.graph.previous_run import NOTHING, PreviousRun
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.runners.dataflow_options import LaunchFailed
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.tasks import TASK_SUFFIXES
from textmint.transforms.dataset.publish import Target
from textmint.transforms.dedup.exclusions import EXCLUSION_SUFFIXES
from textmint.transforms.storage import files
from textmint.transforms.storage.lease import Held

JOB_BYTES: Final = 10_000_000
"""Of a job's graph at most (cloud.google.com/dataflow/quotas)."""

IMAGE: Final = "TEXTMINT_IMAGE"
"""The environment variable by which a container image knows its own name; its workers then need nothing installed."""

_LOG = logging.getLogger("textmint")
_PACKAGE: Final = "textmint"
_ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 4_500.0  # Dataflow ends a job none of whose workers came to life within an hour
_BUCKET_SECONDS: Final = 45.0  # clients of Cloud Storage wait for minutes where they find no credentials
_FLEXRS_SECONDS: Final = 6 * 3_600.0  # that such a job may wait before it starts
_NOTHING_DONE: Final = "nothing was submitted, and nothing was paid for"


def dry_run(config: Config, options: PipelineOptions, target: Target) -> str:
    """A checked Config -> what is to be said of its graph, translated for Dataflow without network or credentials.

    Raises:
      OptionError: the graph is too large.
      LaunchFailed: our code cannot be packed for workers.
    """
    _set_up_logging()
    config = with_inputs(config, target, copy=False)
    with _code_for_workers(options):
        pipeline = beam.Pipeline(options=options)
        build(pipeline, config, target, NOTHING)
        try:
            proto = pipeline.run().job.proto_pipeline
        except RuntimeError as error:  # of the commands that pack our code
            raise LaunchFailed(f"{reason_of(error)}; {_NOTHING_DONE}") from None
    _check_size(proto.ByteSize())
    return (
        f"the graph translates for Dataflow: {len(proto.components.transforms):,} transforms, "
        f"{proto.ByteSize() / 1e6:.2f} MB of {JOB_BYTES / 1e6:.0f}; {_NOTHING_DONE}, or written"
    )


def with_inputs(config: Config, target: Target, *, copy: bool) -> Config:
    """A checked Config -> the same, with tasks and excluded texts where workers can read them: files of this machine
    are copied into the run's staging folder, which goes when the run publishes.

    Args:
      copy: False: only says where they would be.

    Raises:
      OSError: a file cannot be read, or not be written there.
    """
    moved: dict[str, Any] = {}
    for name, suffixes in (("tasks", TASK_SUFFIXES), ("exclude", EXCLUSION_SUFFIXES)):
        pattern = getattr(config, name)
        if pattern is None or not files.is_local(pattern):
            continue
        folder = files.join(target.staging, "inputs", name)
        for number, file in enumerate(files.match_files(pattern) if copy else ()):
            # By number: a name could hold what Beam takes for a wildcard. The ending tells how it is read.
            suffix = max((end for end in suffixes if file.path.lower().endswith(end)), key=len)
            files.write_file(files.join(folder, f"{number:05d}{suffix}"), files.read_file(file.path))
        moved[name] = files.join(folder, "*")
    return dataclasses.replace(config, **moved)


def launch(config: Config, options: PipelineOptions, target: Target, previous: PreviousRun, label: Held) -> bool:
    """A checked Config, and what earlier runs left -> whether the run is complete: True where it was watched to its
    good end, False where it goes on by itself: after a template's launcher, or with --no_wait_until_finish.

    Args:
      label: the lease, which goes over to the job.

    Raises:
      LaunchFailed: the job was not submitted, did not end well, or goes on unwatched.
      OptionError: its graph is too large.
      RuntimeError: it failed; the message holds `RunFailed: ` and the reason.
    """
    _set_up_logging()
    cloud = options.view_as(GoogleCloudOptions)
    cloud.job_name = cloud.job_name or _job_name(target)
    name = cloud.job_name
    _check_buckets(options)
    config = with_inputs(config, target, copy=True)
    with _code_for_workers(options):
        pipeline = beam.Pipeline(options=options)
        build(pipeline, config, target, previous)
        _check_size(pipeline.to_runner_api().ByteSize())
        # Before the job can begin: its workers renew what they find.
        label.hand_over(f"Dataflow job {name}", _START_SECONDS + (_FLEXRS_SECONDS if cloud.flexrs_goal else 0))
        try:
            result = _submitted(pipeline, options)
        except BaseException:
            label.take_back()
            raise
    if not result.has_job:
        _LOG.info(
            "the graph of job %s is at %s; Dataflow runs it when this launcher has ended, and the data will be in %s",
            name,
            cloud.template_location,
            config.output,
        )
        return False
    job = result.job_id()
    _LOG.info("Dataflow job %s: %s", job, _url(job, options))
    if options.view_as(StandardOptions).no_wait_until_finish:
        _LOG.info("it goes on without this launcher, and publishes by itself; to end it: %s", _to_cancel(job, options))
        return False
    _watch(result, options, label)
    return True


def submit_nothing(options: PipelineOptions, why: str) -> None:
    """A template's launcher that has nothing to do -> a job that says why, in its log. Dataflow takes a launcher that
    leaves no job for one that failed.

    Raises:
      LaunchFailed: the job was not submitted.
    """
    _set_up_logging()
    workers = options.view_as(WorkerOptions)
    workers.num_workers = workers.max_num_workers = 1
    with _code_for_workers(options):
        pipeline = beam.Pipeline(options=options)
        _ = pipeline | "Why" >> beam.Create([why]) | "NothingToDo" >> beam.Map(_LOG.warning)
        _submitted(pipeline, options)


def _job_name(target: Target) -> str:
    """-> a name that no other job has, and that says what this one does."""
    label = re.sub(r"[^-a-z0-9]+", "-", target.refresh.lower())
    run = re.sub(r"[^-a-z0-9]+", "-", target.run_id.lower())
    return f"{_PACKAGE}-{label[: 62 - len(_PACKAGE) - len(run) - 1]}-{run}".strip("-")


def _check_buckets(options: PipelineOptions) -> None:
    """Asks for the buckets that the job is staged to, as Beam does first. Beam itself would go on for seven minutes
    where one is missing or forbidden (`stage_file_with_retry` of apiclient.py, 2.77)."""
    cloud = options.view_as(GoogleCloudOptions)
    problems: dict[str, str] = {}
    unanswered = {
        location.removeprefix("gs://").partition("/")[0]: f"--{name}={location}"
        for name in ("temp_location", "staging_location")
        if (location := getattr(cloud, name))
    }

    def ask() -> None:
        for bucket, option in list(unanswered.items()):
            try:
                create_storage_client(options, use_credentials=not cloud.no_auth).get_bucket(bucket)
            except Exception as error:
                problems[option] = _bucket_refused(error, bucket)
            del unanswered[bucket]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_BUCKET_SECONDS)
    for option in list(unanswered.values()):
        problems[option] = f"no answer within {_BUCKET_SECONDS:.0f} s; check the network and your credentials"
    if problems:
        raise OptionError(*(f"{option}: {problem}; {_NOTHING_DONE}" for option, problem in problems.items()))


def _bucket_refused(error: Exception, bucket: str) -> str:
    if isinstance(error, refusals.NotFound):
        return f"there is no such bucket; make it: gcloud storage buckets create gs://{bucket}"
    if isinstance(error, (refusals.Forbidden, refusals.Unauthorized)):
        return (
            f"the bucket is not yours to use ({reason_of(error)}); roles/storage.objectUser and "
            "roles/storage.legacyBucketReader on it are needed"
        )
    return f"cannot be used: {reason_of(error)}; check the path and your credentials"


def _check_size(size: int) -> None:
    if size > JOB_BYTES:
        raise OptionError(
            f"the job's graph has {size / 1e6:.1f} MB, and Dataflow takes {JOB_BYTES / 1e6:.0f}: choose fewer "
            f"--task_requests, and run again under another label for the rest; {_NOTHING_DONE}"
        )


def _submitted(pipeline: beam.Pipeline, options: PipelineOptions) -> Any:
    try:
        return pipeline.run()
    except KeyboardInterrupt:
        cloud = options.view_as(GoogleCloudOptions)
        raise LaunchFailed(
            f"ended while job {cloud.job_name} was being submitted; whether it is there tells "
            f"gcloud dataflow jobs list --filter=name={cloud.job_name} --region={cloud.region} "
            f"--project={cloud.project}"
        ) from None
    except Exception as error:
        reason = refused(error, options)
        if reason is None:
            raise
        raise LaunchFailed(f"{reason}; {_NOTHING_DONE}") from None


def refused(error: Exception, options: PipelineOptions) -> str | None:
    """What came of asking Google Cloud -> what is wrong and how to mend it, in one line; None: something else is."""
    cloud = options.view_as(GoogleCloudOptions)
    text = reason_of(error)
    if isinstance(error, (GoogleAuthError, refusals.Unauthorized)):
        return f"Google Cloud does not know who you are ({text}): gcloud auth application-default login"
    if isinstance(error, refusals.Forbidden) and re.search(
        "SERVICE_DISABLED|has not been used|is disabled", str(error)
    ):
        return (
            f"the Dataflow API is not enabled in {cloud.project} ({text}): "
            f"gcloud services enable dataflow.googleapis.com --project={cloud.project}"
        )
    if isinstance(error, refusals.Forbidden):
        return (
            f"Dataflow refused ({text}): you need roles/dataflow.developer in {cloud.project}, and "
            "roles/iam.serviceAccountUser on the workers' service account"
        )
    if isinstance(error, refusals.TooManyRequests):
        return f"a quota of {cloud.project} is used up ({text}): wait, ask for more, or lower --max_num_workers"
    if isinstance(error, (refusals.Conflict, DataflowJobAlreadyExistsError)):
        return f"a job of this name is running ({text}): choose another --job_name, or wait"
    if isinstance(error, refusals.NotFound):
        return f"{text}: check --project={cloud.project}, --region={cloud.region} and the buckets"
    if isinstance(error, refusals.GoogleAPICallError):
        return f"Dataflow did not take the job ({text}): run the same command again if that may pass"
    if isinstance(error, (OSError, RuntimeError)):  # a bucket, the network, or a command that packs our code
        return f"the job could not be submitted ({text}): check --staging_location and --temp_location"
    return None


def _watch(result: Any, options: PipelineOptions, label: Held) -> None:
    job = result.job_id()
    url = _url(job, options)
    lost: list[BaseException | None] = []  # what ended the thread in which Beam asks for the job's state
    before, threading.excepthook = threading.excepthook, lambda told: lost.append(told.exc_value)
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        raise LaunchFailed(
            f"job {job} goes on without this launcher, and publishes by itself; to end it: {_to_cancel(job, options)}"
        ) from None
    except DataflowRuntimeException as error:
        label.take_back()
        if f"{RunFailed.__name__}: " in str(error):
            raise
        raise LaunchFailed(
            f"job {job} ended as {error.result.state}: {_last_line(str(error))}; {url} has its logs. What was paid for "
            "is kept; run the same command again"
        ) from None
    except Exception as error:  # Beam asserts that a job it lost sight of has ended
        reason = reason_of(next((told for told in lost if told), error))
        raise LaunchFailed(f"lost sight of job {job}, which may go on ({reason}); look at {url}") from None
    finally:
        threading.excepthook = before
    label.take_back()


def _url(job: str, options: PipelineOptions) -> str:
    cloud = options.view_as(GoogleCloudOptions)
    return f"https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{job}?project={cloud.project}"


def _to_cancel(job: str, options: PipelineOptions) -> str:
    cloud = options.view_as(GoogleCloudOptions)
    return f"gcloud dataflow jobs cancel {job} --region={cloud.region} --project={cloud.project}"


def _last_line(text: str) -> str:
    """What Dataflow tells of a failure, maybe with a traceback -> its last line, which says what happened."""
    lines = [line.strip() for line in text.partition("Error:")[2].splitlines() if line.strip()]
    told = lines[-1] if lines else ""
    return told[:300] if told and told != "None" else "no reason was told"


def _set_up_logging() -> None:
    """The job's states and messages are told, and nothing of Beam's own doings: what fails is said by ourselves."""
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    runner = logging.getLogger("apache_beam.runners.dataflow.dataflow_runner")
    runner.setLevel(logging.INFO)
    runner.addFilter(_is_of_job)
    logging.getLogger("apache_beam.runners.dataflow.internal.apiclient").setLevel(logging.CRITICAL + 1)


def _is_of_job(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Pipeline has additional dependencies")


# --- our code, on the workers


@contextlib.contextmanager
def _code_for_workers(options: PipelineOptions) -> Iterator[None]:
    """While its `with` block runs, the options say how workers get our code, unless the user says it: from the image
    that this runs in, from the checkout, or as a wheel that is packed anew from what is installed."""
    setup = options.view_as(SetupOptions)
    workers = options.view_as(WorkerOptions)
    if setup.setup_file or setup.extra_packages or workers.sdk_container_image:
        yield
    elif image := os.environ.get(IMAGE):
        workers.sdk_container_image = image
        yield
    elif (_ROOT / "setup.py").is_file():
        setup.setup_file = str(_ROOT / "setup.py")
        yield
    else:
        with tempfile.TemporaryDirectory(prefix="textmint-wheel-") as folder:
            setup.extra_packages = [str(_pack_wheel(Path(folder)))]
            yield


def _pack_wheel(folder: Path) -> Path:
    """A folder -> a wheel in it of Textmint as it is installed here (packaging.python.org, binary distribution format).

    Raises:
      LaunchFailed: it is not installed as a package.
    """
    try:
        installed = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        installed = None
    files = [file for file in (installed.files if installed else None) or [] if _belongs_in_wheel(file)]
    if not any(file.parts[:2] == ("textmint", "pipelines") for file in files):
        raise LaunchFailed(
            "workers need Textmint, and it is neither a checkout nor an installed package here: give --setup_file, "
            f"--extra_package or --sdk_container_image; {_NOTHING_DONE}"
        )
    assert installed is not None
    record = io.StringIO()
    wheel = folder / f"{_PACKAGE}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            content = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.write(f"{file},sha256={digest},{len(content)}\n")
            archive.writestr(str(file), content)
        name = next(file.parts[0] for file in files if file.name == "METADATA") + "/RECORD"
        archive.writestr(name, f"{record.getvalue()}{name},,\n")
    return wheel


def _belongs_in_wheel(file: metadata.PackagePath) -> bool:
    """Not scripts, which lie outside of the packages' folder, and nothing that pip adds."""
    added = file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    return not added and ".." not in file.parts and "__pycache__" not in file.parts
