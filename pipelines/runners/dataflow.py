"""Launches a run on Dataflow: submits its job, and watches it to its end."""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
from collections.abc import Sequence
from typing import Any, Final

import apache_beam as beam
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions, WorkerOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from google.api_core import exceptions as refusals
from google.auth.exceptions import GoogleAuthError
from textmint.pipelines.generate import build
from textmint.pipelines.graph.previous_run import NOTHING, PreviousRun
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.runners.dataflow_options import NOTHING_DONE, LaunchFailed
from textmint.pipelines.runners.worker_code import code_for_workers
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.tasks import TASK_SUFFIXES
from textmint.transforms.dataset.publish import Target
from textmint.transforms.dedup.exclusions import EXCLUSION_SUFFIXES
from textmint.transforms.storage import files
from textmint.transforms.storage.lease import Held

JOB_BYTES: Final = 10_000_000
"""The most that the graph of a job may have (cloud.google.com/dataflow/quotas)."""

_LOG: Final = logging.getLogger("textmint")
_START_SECONDS: Final = 4_500.0  # Dataflow ends a job if no worker starts within an hour
_BUCKET_SECONDS: Final = 45.0  # clients of Cloud Storage wait for minutes where they find no credentials
_FLEXRS_SECONDS: Final = 6 * 3_600.0  # that such a job may wait before it starts
_REFUSALS: Final[Sequence[tuple[tuple[type[Exception], ...], str, str]]] = (
    (
        (GoogleAuthError, refusals.Unauthorized),
        "",
        "Google Cloud does not know who you are ({text}): gcloud auth application-default login",
    ),
    (
        (refusals.Forbidden,),
        "SERVICE_DISABLED|has not been used|is disabled",
        "the Dataflow API is not enabled in {project} ({text}): "
        "gcloud services enable dataflow.googleapis.com --project={project}",
    ),
    (
        (refusals.Forbidden,),
        "",
        "Dataflow refused ({text}): you need roles/dataflow.developer in {project}, and roles/iam.serviceAccountUser "
        "on the workers' service account",
    ),
    (
        (refusals.TooManyRequests,),
        "",
        "a quota of {project} is used up ({text}): wait, ask for more, or lower --max_num_workers",
    ),
    (
        (refusals.Conflict, DataflowJobAlreadyExistsError),
        "",
        "a job of this name is running ({text}): choose another --job_name, or wait",
    ),
    ((refusals.NotFound,), "", "{text}: check --project={project}, --region={region} and the buckets"),
    (
        (refusals.GoogleAPICallError,),
        "",
        "Dataflow did not take the job ({text}): run the same command again if that may pass",
    ),
    (
        (OSError, RuntimeError),  # a bucket, the network, or a command that packs our code
        "",
        "the job could not be submitted ({text}): check --staging_location and --temp_location",
    ),
)
"""Errors, what their text must hold, and what is wrong then; the first that fits counts."""


def dry_run(config: Config, options: PipelineOptions, target: Target) -> str:
    """Translates the graph for Dataflow, without network or credentials; returns what to say of it.

    Raises:
      OptionError: the graph is too large.
      LaunchFailed: our code cannot be packed for workers.
    """
    _set_up_logging()
    config = with_inputs(config, target, copy=False)
    with code_for_workers(options):
        pipeline = beam.Pipeline(options=options)
        build(pipeline, config, target, NOTHING)
        try:
            proto = pipeline.run().job.proto_pipeline
        except RuntimeError as error:  # of the commands that pack our code
            raise LaunchFailed(f"{reason_of(error)}; {NOTHING_DONE}") from None
    _check_size(proto.ByteSize())
    return (
        f"the graph translates for Dataflow: {len(proto.components.transforms):,} transforms, "
        f"{proto.ByteSize() / 1e6:.2f} MB of {JOB_BYTES / 1e6:.0f}; {NOTHING_DONE}, or written"
    )


def with_inputs(config: Config, target: Target, *, copy: bool) -> Config:
    """Puts tasks and excluded texts where workers can read them: local files are copied into the run's staging folder,
    which goes when the run publishes. Without `copy`, the config only says where the files would be.

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


def launch(
    config: Config, options: PipelineOptions, target: Target, previous: PreviousRun, label: Held, report: str = ""
) -> bool:
    """Submits the job of a run, which takes over the lease of its refresh, and watches it. With `report`, it is a pass
    that does not publish, see `build`.

    Returns:
      Whether the run is complete: False if the job goes on by itself, after a template's launcher or with
      --no_wait_until_finish.

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
    with code_for_workers(options):
        pipeline = beam.Pipeline(options=options)
        build(pipeline, config, target, previous, report=report)
        _check_size(pipeline.to_runner_api().ByteSize())
        # Before the job can begin: its workers renew what they find.
        label.hand_over(f"Dataflow job {name}", _START_SECONDS + (_FLEXRS_SECONDS if cloud.flexrs_goal else 0))
        try:
            result = _submit(pipeline, options)
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
        _LOG.info(
            "it goes on without this launcher, and publishes by itself; to end it: %s", _cancel_command(job, options)
        )
        return False
    _watch(result, options, label, _what_comes_of_it(target, report))
    return True


def submit_nothing(options: PipelineOptions, why: str) -> None:
    """Submits a job that logs why there is nothing to do. Dataflow takes a template's launcher that leaves no job for
    failed.

    Raises:
      LaunchFailed: the job was not submitted.
    """
    _set_up_logging()
    workers = options.view_as(WorkerOptions)
    workers.num_workers = workers.max_num_workers = 1
    with code_for_workers(options):
        pipeline = beam.Pipeline(options=options)
        _ = pipeline | "Why" >> beam.Create([why]) | "NothingToDo" >> beam.Map(_LOG.warning)
        _submit(pipeline, options)


def _job_name(target: Target) -> str:
    """Makes a name that no other job has, and that says what this one does, in 63 characters."""
    label, run = (re.sub(r"[^-a-z0-9]+", "-", name.lower()) for name in (target.refresh, target.run_id))
    return f"textmint-{label[: 53 - len(run)]}-{run}".strip("-")


def _check_buckets(options: PipelineOptions) -> None:
    """Asks for the buckets that the job is staged to. Beam itself would try for seven minutes if one is missing or
    forbidden (`stage_file_with_retry` of apiclient.py, 2.77)."""
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
                problems[option] = _bucket_problem(error, bucket)
            del unanswered[bucket]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_BUCKET_SECONDS)
    for option in list(unanswered.values()):
        problems[option] = f"no answer within {_BUCKET_SECONDS:.0f} s; check the network and your credentials"
    if problems:
        raise OptionError(*(f"{option}: {problem}; {NOTHING_DONE}" for option, problem in problems.items()))


def _bucket_problem(error: Exception, bucket: str) -> str:
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
            f"--task_requests, and run again under another label for the rest; {NOTHING_DONE}"
        )


def _submit(pipeline: beam.Pipeline, options: PipelineOptions) -> Any:
    try:
        return pipeline.run()
    except KeyboardInterrupt:
        cloud = options.view_as(GoogleCloudOptions)
        raise LaunchFailed(
            f"ended while job {cloud.job_name} was being submitted; this tells whether it is there: "
            f"gcloud dataflow jobs list --filter=name={cloud.job_name} --region={cloud.region} "
            f"--project={cloud.project}"
        ) from None
    except Exception as error:
        problem = refusal_of(error, options)
        if problem is None:
            raise
        raise LaunchFailed(f"{problem}; {NOTHING_DONE}") from None


def refusal_of(error: Exception, options: PipelineOptions) -> str | None:
    """Says in one line what Google Cloud refused and how to mend it; None if the error is something else."""
    cloud = options.view_as(GoogleCloudOptions)
    for kinds, pattern, problem in _REFUSALS:
        if isinstance(error, kinds) and re.search(pattern, str(error)):
            return problem.format(text=reason_of(error), project=cloud.project, region=cloud.region)
    return None


def _what_comes_of_it(target: Target, report: str) -> str:
    """Says what a job does at its end if nobody watches it."""
    again = "when it has ended, run the same command again, which pays for nothing twice"
    if report:
        return f"publishes nothing: {again}"
    if target.publish_from:
        return f"publishes by itself if it has {target.publish_from:,} examples; if not, {again}"
    return "publishes by itself"


def _watch(result: Any, options: PipelineOptions, label: Held, outcome: str) -> None:
    job = result.job_id()
    url = _url(job, options)
    lost: list[BaseException | None] = []  # what ended the thread in which Beam asks for the job's state
    before, threading.excepthook = threading.excepthook, lambda ended: lost.append(ended.exc_value)
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        raise LaunchFailed(
            f"job {job} goes on without this launcher, and {outcome}; to end it: {_cancel_command(job, options)}"
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
        reason = reason_of(next((each for each in lost if each), error))
        raise LaunchFailed(f"lost sight of job {job}, which may go on ({reason}); look at {url}") from None
    finally:
        threading.excepthook = before
    label.take_back()


def _url(job: str, options: PipelineOptions) -> str:
    cloud = options.view_as(GoogleCloudOptions)
    return f"https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{job}?project={cloud.project}"


def _cancel_command(job: str, options: PipelineOptions) -> str:
    cloud = options.view_as(GoogleCloudOptions)
    return f"gcloud dataflow jobs cancel {job} --region={cloud.region} --project={cloud.project}"


def _last_line(text: str) -> str:
    """Returns the last line of a failure's text, which may hold a traceback: it says what happened."""
    lines = [line.strip() for line in text.partition("Error:")[2].splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return last[:300] if last and last != "None" else "no reason was told"


def _set_up_logging() -> None:
    """Shows the job's states and messages, and nothing else of Beam's: we report failures ourselves."""
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    runner = logging.getLogger("apache_beam.runners.dataflow.dataflow_runner")
    runner.setLevel(logging.INFO)
    runner.addFilter(_is_of_job)
    logging.getLogger("apache_beam.runners.dataflow.internal.apiclient").setLevel(logging.CRITICAL + 1)


def _is_of_job(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Pipeline has additional dependencies")
