"""Running the main job from a command line: options in, exit code out, and what a person should see on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import logging
import os
import platform
import re
import secrets
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Container, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from textmint.pipelines.cli import terminal
from textmint.pipelines.cli.ledger import COMPACTING
from textmint.pipelines.cli.progress_line import ProgressLine
from textmint.pipelines.cli.signals import ending_on_signals
from textmint.pipelines.generate import build
from textmint.pipelines.graph.cost_notices import cost_notices
from textmint.pipelines.graph.previous_run import PreviousRun, inspect_output, missing_replies, prepare_to_ask
from textmint.pipelines.graph.refuse_shrinking import refuse_shrinking
from textmint.pipelines.graph.up_to_date import KEY, is_up_to_date, run_key
from textmint.pipelines.hub import PushFailed, push
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.parse import Config, help_text, parse
from textmint.pipelines.runners.choose import LOCAL_RUNNER, has_worker_processes, is_local
from textmint.pipelines.runners.dataflow_options import LaunchFailed, is_dataflow, is_dry_run, is_template
from textmint.pipelines.runners.local import LocalRunner
from textmint.pipelines.runners.local_worker import LAUNCHER
from textmint.pipelines.runners.worker_output import capture_worker_output
from textmint.transforms.core.errors import RunFailed, StoreError
from textmint.transforms.core.temporary import remove_left_parts
from textmint.transforms.core.texts import printable_line
from textmint.transforms.dataset.accounting import STEPS
from textmint.transforms.dataset.manifest import read_manifest
from textmint.transforms.dataset.publish import Target
from textmint.transforms.ledger.files import SET_ASIDE
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.llm.engine import close_engines
from textmint.transforms.storage import files, lease

_LOG = logging.getLogger("textmint")
_REASONS: Final = tuple(
    re.compile(rf"{told.__name__}: (.*?)(?: \[while running|\n|$)") for told in (RunFailed, StoreError)
)
_WIDTH: Final = 100
_AFTERWARDS: Final = "what was published before is there, and what was paid for is kept; run the same command again"
_NOTHING_NEW: Final = (
    "refresh=%s is complete, and nothing has changed that decides a row: there is nothing to do (--recompute runs all "
    "the same)"
)
_FOLD_TRIES: Final = 10
_FOLD_SECONDS: Final = 0.2


def generate(argv: Sequence[str], prog: str) -> int:
    """The main job's options -> the exit code: 0 done, 1 the run failed, 2 the options are wrong.

    Args:
      argv: the options, without the program's name.
      prog: how the user called the program, for help and hints.
    """
    if "--help" in argv or "-h" in argv:
        return terminal.shown(help_text(f"{prog} generate").removesuffix("\n"), prog)
    with ending_on_signals() as signals:
        try:
            return _generate(argv, prog, signals)
        except KeyboardInterrupt:
            return _ended_by(signals, prog)


def _generate(argv: Sequence[str], prog: str, signals: Sequence[int]) -> int:
    try:
        config, options = parse(argv)
    except OptionError as error:
        return _refused(error, prog)
    local, processes = is_local(options), has_worker_processes(options)
    _set_up_logging(local)
    for warning in config.warnings:
        _LOG.warning(warning)
    target = target_of(config)
    if is_dry_run(options):
        return dry_run(config, options, target, prog)
    is_complete = True
    with capture_worker_output(processes or is_dataflow(options)) as workers_said:
        try:
            with held(target) as label:
                if files.is_local(config.output):
                    for folder in (config.output, config.ledger, files.join(config.ledger, SET_ASIDE)):
                        remove_left_parts(folder)
                previous = inspect_output(config)
                key = run_key(config, previous, target.description["versions"])
                entry = published_entry(config)
                if is_up_to_date(config, previous, key, entry):
                    _LOG.info(_NOTHING_NEW, config.refresh)
                    if is_template(options):
                        from textmint.pipelines.runners import dataflow

                        dataflow.submit_nothing(options, _NOTHING_NEW % config.refresh)
                else:
                    before_paying(config, entry)
                    target = dataclasses.replace(
                        target,
                        description={**target.description, KEY: key},
                        held_by_job=is_dataflow(options),
                        paid=previous.paid_by(config.refresh),
                    )
                    try:
                        with told_to_workers(local), ProgressLine(shown=local):
                            is_complete = run(config, options, target, previous, label)
                    finally:
                        close_engines()
                        fold_when_ended(config.ledger, target.run_id)
                    if is_complete:
                        tell_missing(config)
                if config.push_to_hub:
                    address = push(config.output, config.push_to_hub)
                    _LOG.info("pushed to %s", address)
        except OptionError as error:
            return _refused(error, prog)
        except LaunchFailed as error:
            terminal.tell(f"{prog}: {error}")
            return 128 + signals[0] if signals else 1
        except PushFailed as error:
            terminal.tell(f"{prog}: the data is in {config.typed['output']}, but was not pushed: {error}")
            return 1
        except (Exception, KeyboardInterrupt) as error:
            if signals or isinstance(error, KeyboardInterrupt):
                return _ended_by(signals, prog)
            if reason := reason_in(f"{type(error).__name__}: {error}"):
                terminal.tell(f"{prog}: the run failed: {reason}")
            else:
                terminal.tell_lines(workers_said())
                terminal.tell_lines(traceback.format_exc())
                terminal.tell(f"{prog}: the run failed; {_AFTERWARDS}")
            return 1
        finally:
            close_engines()
    if is_complete:
        _sum_up(config, target, prog, argv)
    return 0


def _refused(error: OptionError, prog: str) -> int:
    for problem in error.problems:
        terminal.tell(f"{prog}: {problem}")
    return 2


def _ended_by(signals: Sequence[int], prog: str) -> int:
    ended_by = signal.Signals(signals[0]) if signals else signal.SIGINT
    terminal.tell(f"{prog}: ended by {ended_by.name}; {_AFTERWARDS}")
    return 128 + ended_by


def _sum_up(config: Config, target: Target, prog: str, argv: Sequence[str]) -> None:
    """Tells what a finished run has brought. That it cannot be told is no failure of the run."""
    try:
        for line in warnings_of(read_manifest(config.output)["refreshes"][config.refresh]["steps"]):
            _LOG.warning("%s", line)
        text = summary(config, target, prog, argv)
    except Exception as error:  # somebody has taken the folder away, or changes it at this moment
        reason = "it is not what the run has left" if isinstance(error, KeyError) else reason_of(error)
        terminal.tell(f"{prog}: the run is complete, but {config.typed['output']} cannot be looked at: {reason}")
        return
    if problem := terminal.show(text):
        terminal.tell(f"{prog}: the data is in {config.typed['output']}; its summary cannot be printed: {problem}")


def dry_run(config: Config, options: PipelineOptions, target: Target, prog: str) -> int:
    """A checked Config -> the exit code, after its graph was translated for Dataflow and nothing else was done."""
    from textmint.pipelines.runners import dataflow

    _set_up_logging(local=True)
    try:
        with capture_worker_output(True):
            told = dataflow.dry_run(config, options, target)
        return terminal.shown(told, prog)
    except (OptionError, LaunchFailed) as error:
        terminal.tell(f"{prog}: {error}")
        return 2 if isinstance(error, OptionError) else 1


def reason_in(text: str) -> str | None:
    """The text of an error, in whatever an engine has wrapped it -> the reason that it holds for a person."""
    for pattern in _REASONS:
        if found := pattern.search(text):
            return found[1] if pattern is _REASONS[0] else f"{found[1]}; {_AFTERWARDS}"
    for found in _OS_ERROR.finditer(text):
        if remedy := _DISK_REMEDIES.get(int(found[1])):
            path = f"{found[3]}: " if found[3] else ""
            return f"{path}{found[2]}; {remedy}; {_AFTERWARDS}"
    return None


_OS_ERROR: Final = re.compile(r"Error: \[Errno (\d+)\] ([^\n\[:]+?)(?= \[|[\n:]|$)(?:: '([^'\n]*)')?")
_MAKE_ROOM: Final = "make room"
_MAKE_WRITABLE: Final = "see that it can be read and written"
_DISK_REMEDIES: Final[Mapping[int, str]] = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: _MAKE_ROOM,
    errno.EROFS: _MAKE_WRITABLE,
    errno.EACCES: _MAKE_WRITABLE,
    errno.EPERM: _MAKE_WRITABLE,
    errno.EIO: "see whether the disk is well",
}
"""What is wrong with a disk or a folder, and no fault of ours that a traceback would help with."""


@contextlib.contextmanager
def held(target: Target) -> Iterator[lease.Held]:
    """While its `with` block runs, no other run writes the label, and nobody merges files of the ledger.

    Raises:
      OptionError: somebody does, or the leases cannot be written.
    """
    try:
        with lease.hold(target.output, target.partition, target.run_id) as label:
            if COMPACTING in lease.holders(target.output):
                raise OptionError(
                    f"--output={target.output}: its ledger is being compacted at this moment; run the same command "
                    "again when that has ended"
                )
            yield label
    except lease.LeaseTakenError as error:
        raise OptionError(
            f"--refresh={target.refresh}: another run of this label is writing to {target.output} ({error}); "
            "wait for its end, or choose another label or folder"
        ) from None
    except OSError as error:
        if lease.FOLDER not in str(error.filename):  # of what the block does
            raise
        raise OptionError(f"{error.filename}: {error.strerror}; no run can begin before that is mended") from None


@contextlib.contextmanager
def told_to_workers(local: bool) -> Iterator[None]:
    """While its `with` block runs, worker processes on this machine find out when this one is killed."""
    if local:
        os.environ[LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(LAUNCHER, None)


def fold_when_ended(folder: str, run_id: str) -> None:
    """The ledger's folder -> its journals turned into Parquet, on a local disk. Worker processes of the run may take a
    moment to end; what they still hold after it is folded by the next run."""
    if not files.is_local(folder):
        return
    try:
        for _ in range(_FOLD_TRIES):
            if not any(name.startswith(run_id) for name in merge_journals(folder, mend=False).busy):
                return
            time.sleep(_FOLD_SECONDS)
    except OSError as error:
        _LOG.warning("the ledger's journals are kept as they are (%s); the next run turns them into Parquet", error)


def tell_missing(config: Config) -> None:
    """Tells where replies that were paid for were deleted while the run was under way."""
    try:
        if problem := missing_replies(config):
            _LOG.warning("%s; the data is complete, but who needs them again will pay for them", problem)
    except (OSError, ValueError) as error:
        _LOG.warning("the ledger was not looked at once more: %s", error)


def run(config: Config, options: PipelineOptions, target: Target, previous: PreviousRun, label: lease.Held) -> bool:
    """A checked Config, and what earlier runs left -> the dataset folder, when it returns True; False where a job goes
    on by itself.

    Args:
      label: the lease of the run's label.

    Raises:
      RuntimeError: the run failed; the message holds `RunFailed: ` and the reason where the result was refused.
    """
    previous = prepare_to_ask(config, previous, target.staging)
    if is_dataflow(options):
        from textmint.pipelines.runners import dataflow  # only now: its client takes a moment to import

        return dataflow.launch(config, options, target, previous, label)
    is_ours = options.view_as(StandardOptions).runner == LOCAL_RUNNER
    pipeline = beam.Pipeline(runner=local_runner(config) if is_ours else None, options=options)
    # A row makes hundreds of short-lived objects and no cycles; looking for cycles every 700 took 7 % of its CPU.
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 50)
    try:
        build(pipeline, config, target, previous)
        result = pipeline.run()
        if result is not None:
            result.wait_until_finish()
        return True
    finally:
        gc.set_threshold(*before)
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam does it where a run has begun, and not always


def local_runner(config: Config) -> LocalRunner:
    """-> the engine of a run on this machine. What it puts aside is put beside the data, where that is on a disk of
    this machine: the system's folder for temporary files often lies in memory."""
    return LocalRunner(config.output if files.is_local(config.output) else None)


def before_paying(config: Config, entry: Mapping[str, Any] | None) -> None:
    """Tells what a run is going to ask anew.

    Args:
      config: of the run.
      entry: what the manifest says of its label.

    Raises:
      OptionError: the run cannot but have fewer examples than the label.
      RunFailed: the dataset folder cannot be read.
    """
    refuse_shrinking(config, entry)
    for line in cost_notices(config, entry):
        _LOG.info("%s", line)


def published_entry(config: Config) -> Mapping[str, Any] | None:
    """-> what the manifest says of the label; None where it says nothing, or cannot be read."""
    try:
        entry: Mapping[str, Any] = read_manifest(config.output)["refreshes"][config.refresh]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry


def target_of(config: Config) -> Target:
    """-> where this run publishes, with what its manifest says of it."""
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
    """-> the versions of what made the rows."""
    packages = ("textmint", "apache-beam", "pyarrow", "jinja2", "json_repair", "numpy", "py3langid")
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return {"python": platform.python_version(), **found}


def _set_up_logging(local: bool) -> None:
    root = logging.getLogger()
    ours = terminal.log_to_stderr()
    root.setLevel(logging.WARNING)
    _LOG.setLevel(logging.INFO)
    # Beam's local engine logs a traceback for every failure, and we say ourselves what failed. What the embedded job
    # server logs comes once more, under no name.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL if local else logging.INFO)
    if local:
        ours.addFilter(lambda record: record.name != root.name)


def summary(config: Config, target: Target, prog: str, argv: Sequence[str] = ()) -> str:
    """Tells what the user of a finished run wants to know: where the data is, how much, what it looks like, what next.

    Args:
      config: of the run.
      target: where it has published.
      prog: how the user called the program.
      argv: the options as given.

    Returns:
      the text.
    """
    entry = read_manifest(config.output)["refreshes"][config.refresh]
    counts = entry["counts"]
    folder = config.typed["output"]
    lines = [
        "",
        f"{folder}: {counts['examples']:,} examples of {counts['tasks']:,} tasks, {counts['rejects']:,} rejects",
    ]
    if reasons := reject_reasons(entry["steps"]):
        lines.append("  rejected: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
    if entry.get("started") == target.description["started"]:  # else there was nothing to do
        lines.append(f"  {_asked(entry['steps'])}")
    for row in _first_rows(config.output, entry, 3):
        lines += ["", *(_field(name, row[name]) for name in ("task", "input_text", "label", "misleading_label"))]
    # a shell would take ~ in an option as it stands, and Textmint does not
    shown = config.output if folder.startswith("~") else folder
    lines += ["", f"Look at it:  {_look_command(shown)}", *_hints(config, command_of(prog), argv)]
    return "\n".join(lines)


def warnings_of(steps: Mapping[str, Any]) -> list[str]:
    """Says what a run has paid for in vain.

    Args:
      steps: the manifest's table of steps.

    Returns:
      a line for each kind of prompt of whose replies more than `_TOO_MANY` brought nothing; with the reasons.
    """
    lines = []
    for asked_for, names in _PAID_FOR.items():
        of_kind = {name: steps[name] for name in names if name in steps}
        asked = of_kind[names[0]]["in"] if names[0] in of_kind else 0
        reasons = reject_reasons(of_kind)
        reasons.pop("over_max_tasks", None)  # which the user has asked for
        refused = sum(reasons.values())
        if refused > _TOO_MANY * asked:
            listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            share = f"{refused:,} of {asked:,} {asked_for} ({refused / asked:.0%})" if asked else f"{refused:,}"
            lines.append(f"{share} were refused: {listed}; rejects/ holds each, with its reply if one came")
    return lines


_TOO_MANY: Final = 0.3  # of what was asked for
_PAID_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "lists of tasks": ("TaskGenerate",),
    "tasks": ("Flatten",),
    "label sets": ("PlanLabels",),
    "examples": ("LLMCall", *STEPS[STEPS.index("LLMCall") + 1 :]),
}
"""What is asked for, and the steps that it passes from there on; the first is the one that it goes into."""


def _asked(steps: Mapping[str, Any]) -> str:
    told = [step["requests"] for step in steps.values() if "requests" in step]
    paid = sum(int(requests["sent"]) - int(requests["retries"]) for requests in told)
    return f"asked for: {paid:,} replies; from the ledger: {sum(int(requests['from_ledger']) for requests in told):,}"


def reject_reasons(steps: Mapping[str, Any]) -> dict[str, int]:
    """The manifest's table of steps -> reason -> how many, most first."""
    reasons: dict[str, int] = {}
    for line in steps.values():
        for reason, count in line["rejected"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _first_rows(output: str, entry: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    first = next((file for file in entry["files"]["examples"] if file["rows"]), None)
    if first is None:
        return []
    with files.open_file(files.join(output, first["path"])) as file:
        batches = pq.ParquetFile(file).iter_batches(batch_size=count)
        rows: list[dict[str, Any]] = next(batches).to_pylist()
    return rows


def _field(name: str, value: str) -> str:
    line = printable_line(value)  # cut by characters: not every script puts spaces between words
    return f"  {name:<17} {line if len(line) <= _WIDTH - 20 else line[: _WIDTH - 24].rstrip() + ' ...'}"


def _look_command(folder: str) -> str:
    """A command that works as it stands, whatever the folder's name holds: with the Python that runs this, which has
    pyarrow. It prints a line a row, with nothing in it that a terminal would obey."""
    columns = ["task", "input_text", "label", "misleading_label"]
    if ":" in folder and files.is_local(folder) and not os.path.isabs(folder):
        folder = f"./{folder}"  # pyarrow would take it for a URI
    code = (
        f'import pyarrow.dataset as d; t = d.dataset({_double_quoted(folder + "/examples")}, partitioning="hive")'
        f".head(5, columns=[{', '.join(map(_double_quoted, columns))}]); "
        'print(*(" | ".join(f"{v!r:<34.34}" for v in r) for r in [t.column_names, *zip(*t.to_pydict().values())]), '
        'sep="\\n")'
    )
    return f"{_python()} -c {shlex.quote(code)}"


def _double_quoted(text: str) -> str:
    """Writes a text in Python, in double quotes where it can be: a shell takes them as they are between single ones."""
    told = repr(text)
    return f'"{told[1:-1]}"' if told[0] == "'" and '"' not in told else told


def _python() -> str:
    """-> the Python that runs this, as a shell takes it from the same folder."""
    here = os.path.relpath(sys.executable)
    return shlex.quote(sys.executable if here.startswith(os.pardir) or os.sep not in here else here)


def command_of(prog: str) -> str:
    """Says how the program is called once more from the same folder.

    Args:
      prog: its name, or how the user called it.

    Returns:
      what a shell takes as it stands.
    """
    called = sys.argv[0]
    if "TEXTMINT_PROG" in os.environ:
        return shlex.quote(prog)
    if os.path.basename(called) == "__main__.py":
        return f"{_python()} -m textmint.pipelines"
    return prog if shutil.which(prog) or not os.path.exists(called) else shlex.quote(called)


def _hints(config: Config, command: str, argv: Sequence[str]) -> Iterator[str]:
    """Commands that work as they stand and fit what was run: something to try after the embedded model, and after
    another one what goes on with its data.

    Args:
      config: of the run.
      command: as `command_of` gives it.
      argv: the options as given.
    """
    typed = config.typed
    if typed["llm"] == "offline":
        is_first = typed["refresh"] == "base" and config.tasks is None and not typed["keep_raw"]
        if is_first:
            yield f"Next:        {command} generate --task_requests=20 --examples_per_task=10 --keep_raw --output=more"
        elif not typed["offline_fault_rate"]:
            yield f"Next:        {command} generate --offline_fault_rate=0.3 --output=faults"
        real = f"{command} generate --llm=gemini --model=gemini-2.5-flash --output=real"
        yield f"To train on: {real}  (and GEMINI_API_KEY; README has other models)"
        return
    if "@" not in (typed["base_url"] or "") and config.own_tasks < config.expected_tasks:  # a password is not repeated
        label = [] if config.refresh == "base" else [f"--refresh={config.refresh}"]  # today is another one tomorrow
        larger = [*_without(argv, _ONCE), *label, f"--examples_per_task={2 * config.examples_per_task}"]
        yield f"More of it:  {command} generate {shlex.join(larger)}  (pays for the difference)"
    yield f"Paid for:    {command} ledger --output={shlex.quote(typed['output'])}"


_ONCE: Final = frozenset(("--examples_per_task", "--refresh", "--replace", "--recompute", "--rebuy", "--retry_rejects"))
"""Options that another run of more examples is given anew, or has no need of."""


def _without(argv: Sequence[str], options: Container[str]) -> Iterator[str]:
    """-> a command line without some options and their values."""
    is_kept = True
    for given in argv:
        if given.startswith("--"):
            is_kept = given.partition("=")[0] not in options
        if is_kept:
            yield given
