"""Runs `generate` from a command line: options in, exit code out."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import platform
import secrets
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from textmint.pipelines.cli import terminal
from textmint.pipelines.cli.ledger import COMPACTING
from textmint.pipelines.cli.progress_line import ProgressLine, expected_prompts
from textmint.pipelines.cli.signals import ended_by, ending_on_signals
from textmint.pipelines.cli.summary import AFTERWARDS, reason_in, show_summary
from textmint.pipelines.cli.target import reach_target
from textmint.pipelines.cli.waves import Waves
from textmint.pipelines.generate import build
from textmint.pipelines.graph.caps import caps_of, describe_caps, spending_between
from textmint.pipelines.graph.cost_notices import cost_notices
from textmint.pipelines.graph.previous_run import PreviousRun, inspect_output, missing_replies, prepare_to_ask
from textmint.pipelines.graph.refuse_shrinking import refuse_shrinking
from textmint.pipelines.graph.top_up import goal_of
from textmint.pipelines.graph.up_to_date import KEY, is_up_to_date, run_key
from textmint.pipelines.graph.waves import Cap
from textmint.pipelines.hub import PushFailed, push
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.parse import beam_help_text, help_text, parse
from textmint.pipelines.runners.choose import LOCAL_RUNNER, has_worker_processes, is_local
from textmint.pipelines.runners.dataflow_options import LaunchFailed, is_dataflow, is_dry_run, is_template
from textmint.pipelines.runners.local import LocalRunner
from textmint.pipelines.runners.signatures import remembering_signatures
from textmint.pipelines.runners.worker_output import capture_worker_output
from textmint.transforms.core import progress
from textmint.transforms.core.admission import BUCKETS
from textmint.transforms.core.temporary import remove_left_parts
from textmint.transforms.dataset.accounting import Counts, of_requests
from textmint.transforms.dataset.manifest import read_manifest
from textmint.transforms.dataset.publish import Target
from textmint.transforms.dataset.write_counts import read_counts
from textmint.transforms.ledger.compact import tokens_paid
from textmint.transforms.ledger.files import SET_ASIDE
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.llm.engine import LAUNCHER, close_engines
from textmint.transforms.storage import files, lease

_LOG = logging.getLogger("textmint")
_PACKAGES: Final = ("textmint", "apache-beam", "pyarrow", "jinja2", "json_repair", "numpy", "py3langid")


def generate(argv: Sequence[str], prog: str) -> int:
    """Runs the pipeline with the options in `argv`; returns the exit code: 0 done, 1 the run failed, 2 the options are
    wrong."""
    if "--help" in argv or "-h" in argv:
        return terminal.shown(help_text(f"{prog} generate"), prog)
    if "--help_beam" in argv:
        return terminal.shown(beam_help_text(f"{prog} generate"), prog)
    with ending_on_signals() as signals:
        try:
            return _generate(argv, prog, signals)
        except KeyboardInterrupt as error:
            return failed(error, prog, signals)


def _generate(argv: Sequence[str], prog: str, signals: Sequence[int]) -> int:
    try:
        config, options = parse(argv)
    except OptionError as error:
        return failed(error, prog, signals)
    terminal.set_up_logging(is_local(options))
    for warning in config.warnings:
        _LOG.warning(warning)
    target = target_of(config)
    if is_dry_run(options):
        try:
            return _dry_run(config, options, target, prog)
        except Exception as error:
            return failed(error, prog, signals)
    with capture_worker_output(has_worker_processes(options) or is_dataflow(options)) as workers_said:
        try:
            is_complete = _mint(config, options, target)
        except (Exception, KeyboardInterrupt) as error:
            return failed(error, prog, signals, workers_said, config.typed["output"])
        finally:
            close_engines()
    if is_complete:
        show_summary(config, target, prog, argv)
    return 0


def failed(
    error: BaseException, prog: str, signals: Sequence[int], workers_said: Callable[[], str] = str, output: str = ""
) -> int:
    """Tells why a command failed that asks a model; returns the exit code."""
    if isinstance(error, OptionError):
        return terminal.refused(error.problems, prog)
    if isinstance(error, LaunchFailed):
        terminal.tell(f"{prog}: {error}")
        return 128 + signals[0] if signals else 1
    if isinstance(error, PushFailed):
        terminal.tell(f"{prog}: the data is in {output}, but was not pushed: {error}")
    elif signals or isinstance(error, KeyboardInterrupt):
        terminal.tell(f"{prog}: ended by {ended_by(signals).name}; {AFTERWARDS}")
        return 128 + ended_by(signals)
    elif reason := reason_in(f"{type(error).__name__}: {error}"):
        terminal.tell(f"{prog}: the run failed: {reason}")
    else:
        terminal.tell_lines(workers_said())
        terminal.tell_lines("".join(traceback.format_exception(error)))
        terminal.tell(f"{prog}: the run failed; {AFTERWARDS}")
    return 1


def _mint(config: Config, options: PipelineOptions, target: Target) -> bool:
    """Runs the pipeline where there is something to do; returns whether the dataset is complete now."""
    is_complete = True
    with hold_refresh(target) as held:
        if files.is_local(config.output):
            for folder in (config.output, config.ledger, files.join(config.ledger, SET_ASIDE)):
                remove_left_parts(folder)
        previous = inspect_output(config)
        key = run_key(config, previous, target.description["versions"])
        entry = published_entry(config)
        if is_up_to_date(config, previous, key, entry):
            _report_nothing_new(config, options)
        else:
            before_paying(config, entry)
            target = dataclasses.replace(
                target,
                description={**target.description, KEY: key},
                held_by_job=is_dataflow(options),
                paid=previous.paid_by(config.refresh),
            )
            try:
                with known_to_workers(is_local(options)), ProgressLine(is_local(options), expected_prompts(config)):
                    caps = caps_of(config)
                    if caps or config.target_examples is not None:
                        is_complete = run_in_waves(config, options, target, previous, held, caps)
                    else:
                        is_complete = run(config, options, target, previous, held)
            finally:
                close_engines()
                merge_when_ended(config.ledger, target.run_id)
            if is_complete:
                _warn_of_missing_replies(config)
        if config.push_to_hub:
            _LOG.info("pushed to %s", push(config.output, config.push_to_hub))
    return is_complete


def _report_nothing_new(config: Config, options: PipelineOptions) -> None:
    message = (
        f"refresh={config.refresh} is complete, and nothing has changed that decides a row: there is nothing to do "
        "(--recompute runs all the same)"
    )
    _LOG.info("%s", message)
    if is_template(options):
        from textmint.pipelines.runners import dataflow

        dataflow.submit_nothing(options, message)


def _dry_run(config: Config, options: PipelineOptions, target: Target, prog: str) -> int:
    """Prints the plan of the run, for Dataflow also whether the graph translates, and does nothing else."""
    from textmint.pipelines.cli.plan import plan_text

    terminal.set_up_logging(local=True)
    said = []
    if is_dataflow(options):
        from textmint.pipelines.runners import dataflow

        with capture_worker_output(True):
            said.append(dataflow.dry_run(config, options, target))
    said.append(plan_text(config, options))
    return terminal.shown("\n\n".join(said), prog)


@contextlib.contextmanager
def hold_refresh(target: Target) -> Iterator[lease.Held]:
    """While its `with` block runs, no other run writes the refresh, and nobody merges files of the ledger.

    Raises:
      OptionError: somebody does, or the leases cannot be written.
    """
    try:
        with lease.hold(target.output, target.partition, target.run_id) as held:
            if COMPACTING in lease.holders(target.output):
                raise OptionError(
                    f"--output={target.output}: its ledger is being compacted at this moment; run the same command "
                    "again when that has ended"
                )
            yield held
    except lease.LeaseTakenError as error:
        raise OptionError(
            f"--refresh={target.refresh}: another run of this refresh is writing to {target.output} ({error}); "
            "wait for its end, or choose another name or folder"
        ) from None
    except OSError as error:
        if lease.FOLDER not in str(error.filename):  # of what the block does
            raise
        raise OptionError(f"{error.filename}: {reason_of(error)}; no run can begin before that is mended") from None


@contextlib.contextmanager
def known_to_workers(local: bool) -> Iterator[None]:
    """While its `with` block runs, worker processes on this machine find out when this one is killed."""
    if local:
        os.environ[LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(LAUNCHER, None)


def merge_when_ended(folder: str, run_id: str) -> None:
    """Turns journals on a local disk into Parquet. The run's worker processes may take a moment to end; the next run
    merges what they still write after that."""
    if not files.is_local(folder):
        return
    try:
        for _ in range(10):
            if not any(name.startswith(run_id) for name in merge_journals(folder, mend=False).busy):
                return
            time.sleep(0.2)
    except OSError as error:
        _LOG.warning("the ledger's journals are kept as they are (%s); the next run turns them into Parquet", error)


def _warn_of_missing_replies(config: Config) -> None:
    """Warns if replies that were paid for were deleted while the run was under way."""
    try:
        if problem := missing_replies(config):
            _LOG.warning("%s; the data is complete, but who needs them again will pay for them", problem)
    except (OSError, ValueError) as error:
        _LOG.warning("the ledger was not checked once more: %s", error)


def run_in_waves(
    config: Config, options: PipelineOptions, target: Target, previous: PreviousRun, held: lease.Held, caps: list[Cap]
) -> bool:
    """Runs the pipeline several times: as often as it takes to see how much the caps pay for, or to have as many
    examples as are wanted, then to publish."""
    is_first, has_answered = True, False
    before = tokens_paid(config.ledger, config.refresh)
    earlier: collections.Counter[str] = collections.Counter()

    def latest() -> PreviousRun:
        nonlocal is_first
        if is_first:
            is_first = False
            return previous
        close_engines()
        merge_when_ended(config.ledger, target.run_id)
        return inspect_output(config)

    def proven(config: Config) -> Config:
        # The last passes may ask nothing but prompts that always fail, which would look like an endpoint that is down.
        return dataclasses.replace(config, settings=dataclasses.replace(config.settings, has_answered=has_answered))

    def run_pass(config: Config) -> Counts:
        nonlocal has_answered
        report = files.join(target.staging, "waves", f"{len(waves.done)}.json")
        run(proven(config), options, target, latest(), held, report)
        counts = read_counts(report)
        earlier.update(of_requests(counts))
        has_answered = has_answered or counts.get("LLMCall/tokens.output", 0) > 0
        return counts

    def publish(config: Config, described: Mapping[str, Any] | None = None, least: int = 0) -> Counts | None:
        found = latest()
        report = files.join(target.staging, "waves", f"{len(waves.done)}.json") if least else ""
        paid = tokens_paid(config.ledger, config.refresh)
        told = {**(described or {}), "waves": waves.done, "caps": describe_caps(caps, config, paid)}
        last = dataclasses.replace(
            target,
            description={**target.description, **told},
            paid=found.paid_by(config.refresh),
            spent=spending_between(before, paid, config),
            earlier=dict(earlier),
            task_requests=None if config.tasks else config.task_requests,
            examples_per_task=config.examples_per_task,
            publish_from=least,
            report=report,
        )
        run(proven(config), options, last, found, held)
        if not report or not files.exists(report):  # which goes with its folder when something is published
            return None
        counts = read_counts(report)
        earlier.update(of_requests(counts))
        waves.note(config.admission.level if config.admission else BUCKETS, counts)
        return counts

    waves = Waves(caps, run_pass)
    if config.target_examples is not None:
        reach_target(config, goal_of(config, config.target_examples), waves, publish)
    else:
        waves.finish(config, publish)
    return True


def run(
    config: Config,
    options: PipelineOptions,
    target: Target,
    previous: PreviousRun,
    held: lease.Held,
    report: str = "",
) -> bool:
    """Runs the pipeline; returns whether the dataset folder is complete. It is not if a job goes on by itself. With
    `report`, the name of a file, it publishes nothing and writes its counts there.

    Raises:
      RuntimeError: the run failed; the message holds `RunFailed: ` and the reason if the result was refused.
    """
    progress.begin_pass()
    previous = prepare_to_ask(config, previous, target.staging)
    if is_dataflow(options):
        from textmint.pipelines.runners import dataflow  # only now: its client takes a moment to import

        return dataflow.launch(config, options, target, previous, held, report)
    is_ours = options.view_as(StandardOptions).runner == LOCAL_RUNNER
    pipeline = beam.Pipeline(runner=local_runner(config) if is_ours else None, options=options)
    run_graph(pipeline, functools.partial(build, pipeline, config, target, previous, report=report))
    return True


def run_graph(pipeline: beam.Pipeline, build_it: Callable[[], object]) -> None:
    """Builds a graph on a pipeline, and runs it to its end."""
    # A row makes hundreds of short-lived objects and no cycles; looking for cycles every 700 took 7 % of its CPU.
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 50)
    try:
        with remembering_signatures():
            build_it()
            result = pipeline.run()
            if result is not None:
                result.wait_until_finish()
    finally:
        gc.set_threshold(*before)
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam does it where a run has begun, and not always


def local_runner(config: Config) -> LocalRunner:
    """Returns the engine of a run on this machine. It spills beside the data if that is on a local disk: the system's
    temporary folder is often in memory."""
    return LocalRunner(config.output if files.is_local(config.output) else None)


def before_paying(config: Config, entry: Mapping[str, Any] | None) -> None:
    """Logs what a run is going to ask anew.

    Raises:
      OptionError: the run would have fewer examples than the refresh has.
      RunFailed: the dataset folder cannot be read.
    """
    refuse_shrinking(config, entry)
    for line in cost_notices(config, entry):
        _LOG.info("%s", line)


def published_entry(config: Config) -> Mapping[str, Any] | None:
    """Returns the manifest's entry of the refresh; None if there is none, or it cannot be read."""
    try:
        entry: Mapping[str, Any] = read_manifest(config.output)["refreshes"][config.refresh]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry


def target_of(config: Config) -> Target:
    """Returns where a run publishes, with what its manifest says of it."""
    started = time.gmtime()
    return Target(
        output=config.output,
        refresh=config.refresh,
        run_id=f"{time.strftime('%Y%m%dT%H%M%SZ', started)}-{secrets.token_hex(4)}",
        task_requests=None if config.tasks else config.task_requests,
        examples_per_task=config.examples_per_task,
        optional=config.optional_steps,
        example_kind=config.example_kind,
        replace=config.replace,
        prices=config.prices,
        description={
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", started),
            "options": dict(config.typed),
            "attributes": config.attributes.describe(),
            "templates": {"brainstorm": config.brainstorm_template.name, "example": config.example_template.name},
            "backend": {**config.backend.fingerprint(), "base_url": getattr(config.backend, "base_url", None)},
            "versions": versions(),
        },
    )


def versions() -> dict[str, str]:
    """Returns the versions of what makes the rows."""
    return {"python": platform.python_version(), **{package: _version_of(package) for package in _PACKAGES}}


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
