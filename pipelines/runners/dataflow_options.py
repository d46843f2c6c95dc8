"""Checks what a run on Dataflow needs of its options, before anything is submitted, written or paid for."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner
from textmint.pipelines.options.stores import bucket_problem

RUNNER: Final = "DataflowRunner"
LAUNCH_SCRIPT: Final = "FLEX_TEMPLATE_PYTHON_PY_FILE"
"""The environment variable that a Flex Template's image has, and nothing else."""

NOTHING_DONE: Final = "nothing was submitted, and nothing was paid for"

# As in Beam's validator (apache_beam/options/pipeline_options_validator.py, 2.77).
_JOB: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PROJECT: Final = re.compile(r"[a-z][-a-z0-9:.]+[a-z0-9]")
_REGION: Final = re.compile(r"[a-z]+-[a-z]+[0-9]+")


class LaunchFailed(Exception):
    """The job was not submitted, did not end well, or goes on unwatched; the message says which, in one line."""


def is_dataflow(options: PipelineOptions) -> bool:
    """Returns whether the run is for Dataflow, however the runner is written."""
    name = (options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower()
    return name in ("dataflow", RUNNER.lower())


def is_dry_run(options: PipelineOptions) -> bool:
    """Returns whether nothing is to be asked or written, on whatever engine."""
    return bool(options.view_as(TestOptions).dry_run)


def is_template(options: PipelineOptions) -> bool:
    """Returns whether this is the launcher of a Flex Template. It leaves the job's graph to Dataflow, which starts the
    job when the launcher has ended."""
    return is_dataflow(options) and bool(options.view_as(GoogleCloudOptions).template_location)


def problems_of(typed: Mapping[str, Any], options: PipelineOptions) -> list[str]:
    """Lists all that Dataflow would refuse or could not do, a line each; for other engines hardly anything."""
    if not is_dataflow(options):
        return []
    options.view_as(SetupOptions).save_main_session = False  # on Dataflow Beam would; there is nothing in ours
    problems = [*_cloud_problems(options), *_path_problems(typed), *_template_problems(typed, options)]
    validator = PipelineOptionsValidator(options, create_runner(RUNNER))
    for view in (DebugOptions, SetupOptions, WorkerOptions):
        problems += [" ".join(str(problem).split()) for problem in options.view_as(view).validate(validator)]
    return problems


def _cloud_problems(options: PipelineOptions) -> Iterator[str]:
    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.project:
        yield "--project is missing: name the Google Cloud project of the job (gcloud config get-value project)"
    elif not _PROJECT.fullmatch(cloud.project):
        yield f"--project={cloud.project}: is no project's id; gcloud projects list shows them"
    if not cloud.region:
        yield "--region is missing: name where the workers run, such as --region=europe-west4"
    elif not _REGION.fullmatch(cloud.region):
        yield f"--region={cloud.region}: is no region, such as europe-west4"
    if not cloud.temp_location and not cloud.staging_location:
        yield "--temp_location is missing: name a folder for the job's own files, such as gs://my-bucket/tmp"
    for name in ("temp_location", "staging_location", "template_location"):
        if path := getattr(cloud, name):
            yield from _bucket_problems(name, path, needs_folder=True)
    if cloud.job_name and not _JOB.fullmatch(cloud.job_name):
        yield (
            f"--job_name={cloud.job_name}: has to begin with a small letter, to go on with small letters, digits and "
            "dashes, and not to end with a dash, in 63 characters"
        )
    if cloud.update:
        yield "--update: Dataflow updates streaming jobs only; start the run again, which pays for nothing twice"
    setup = options.view_as(SetupOptions)
    for name, paths in (
        ("setup_file", [setup.setup_file]),
        ("requirements_file", [setup.requirements_file]),
        ("extra_package", setup.extra_packages or []),
    ):
        for path in paths:
            if path and "://" not in path and not os.path.isfile(path):
                yield f"--{name}={path}: there is no such file"


def _path_problems(typed: Mapping[str, Any]) -> Iterator[str]:
    output = typed["output"].strip()
    if "://" not in output:
        yield f"--output={output}: workers do not have this machine's disk; name a folder such as gs://my-bucket/minted"
    yield from _bucket_problems("output", output)
    for name in ("tasks", "exclude"):
        pattern = typed[name]
        if pattern and "://" in pattern:
            yield from _bucket_problems(name, pattern)
        elif pattern and LAUNCH_SCRIPT in os.environ:
            yield (
                f"--{name}={pattern}: a template's launcher does not have your machine's disk; copy it first: "
                f"gcloud storage cp {pattern} gs://my-bucket/, and name it there"
            )


def _bucket_problems(name: str, path: str, *, needs_folder: bool = False) -> Iterator[str]:
    if needs_folder and not path.startswith("gs://"):
        yield f"--{name}={path}: has to be on Cloud Storage, such as gs://my-bucket/tmp"
    elif problem := bucket_problem(path):
        yield f"--{name}={path}: {problem}"
    elif needs_folder and "/" not in path.removeprefix("gs://"):
        yield f"--{name}={path}: names a bucket and no folder in it; {path}/tmp does"


def _template_problems(typed: Mapping[str, Any], options: PipelineOptions) -> Iterator[str]:
    is_left = is_template(options) or options.view_as(StandardOptions).no_wait_until_finish
    if is_template(options) and LAUNCH_SCRIPT not in os.environ:
        yield (
            "--template_location: a classic template would run today's graph for ever; deploy/README.md has a Flex "
            "Template, whose graph is made anew at each launch"
        )
    for name in ("max_cost", "max_tokens", "target_examples"):
        if is_left and typed[name] is not None:
            yield (
                f"--{name}: such a run is several jobs, one after the other, and this launcher ends before the first "
                "does; leave it out, or run from a machine that waits"
            )
    if is_left and typed["push_to_hub"]:
        yield (
            "--push_to_hub: this launcher ends before the job does, and nobody would push; leave it out, and run the "
            "same label with it from a laptop afterwards, which finds the data complete and pushes it"
        )


def plain_flags(flags: Iterable[str], actions: Sequence[argparse.Action]) -> Iterator[str]:
    """Rewrites switches that are given as `=true` or `=false`, as a template's launcher gives them. For Beam's
    `--dry_run` any value would be True."""
    switches = {name for action in actions if action.nargs == 0 for name in action.option_strings}
    for flag in flags:
        name, equals, value = flag.partition("=")
        is_dry_run = name == "--dry_run"
        if is_dry_run and not equals:
            yield f"{name}=True"
        elif not equals or not (is_dry_run or name in switches) or value.lower() not in ("true", "false"):
            yield flag
        elif value.lower() == "true":
            yield flag if is_dry_run else name
