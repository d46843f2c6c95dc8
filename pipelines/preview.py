"""The preview of a run: a few of its examples, what every check says of each, and what was paid for them.

It runs the graph of `generate` on this machine, with the same ledger, and publishes nothing. Its tasks are those of the
first rounds, of which `Flatten` keeps the same ones whatever later rounds bring. So the whole run asks for each of
these examples too, and finds its reply in the ledger.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from textmint.pipelines.cli.run import hold_refresh, merge_when_ended, run_graph, target_of
from textmint.pipelines.cli.summary import reason_in
from textmint.pipelines.generate import build
from textmint.pipelines.graph.caps import braked, caps_of, spent
from textmint.pipelines.graph.plan import STEPS
from textmint.pipelines.graph.preview import Collected, PreviewTarget, read_preview
from textmint.pipelines.graph.previous_run import inspect_output, prepare_to_ask
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.config_file import flags_of
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import OptionParser, parse
from textmint.pipelines.runners.choose import LOCAL_RUNNER
from textmint.pipelines.runners.dataflow_options import is_dry_run
from textmint.pipelines.runners.local import LocalRunner
from textmint.transforms.core.elements import Example, Reject, Verdict
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.temporary import temporary_folder
from textmint.transforms.dataset.accounting import COMPARISONS, discrepancies, step_table
from textmint.transforms.dataset.publish import Target
from textmint.transforms.dataset.schema import to_record
from textmint.transforms.dataset.spending import Spending, describe, with_costs
from textmint.transforms.dataset.write_dataset import apply_verdicts
from textmint.transforms.dedup.verdicts import CONTAMINATED
from textmint.transforms.ledger.compact import tokens_paid
from textmint.transforms.llm.engine import close_engines
from textmint.transforms.quality.checks import faults_in

MOST_ROWS: Final = 1_000
_TASKS_PER_ROUND: Final = 10  # that are left, by and large, of the 20 that a brainstorm prompt asks for
_PASSES: Final = 3  # each with twice the rounds of the one before, where those brought too few tasks
_TEXTS: Final = ("input_text", "label", "misleading_label")
DISPUTED: Final = "label_disputed"
"""The reason of what VerifyLabels refuses."""
_OVER: Final = "over_max_tasks"  # tasks that a preview leaves for the whole run
_LOG: Final = logging.getLogger("textmint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preview:
    """What a preview has brought. In a notebook it is shown as a table; `str` gives what the command prints.

    Args:
      rows: how many examples were asked for at most.
      examples: those that were kept, each a dict of the columns of the dataset and "checks": by the name of each check
        that was made, None where the example passes, else what is wrong.
      rejects: what was refused, each a dict of the columns of rejects. Where the reply could be read, it also has
        "checks", and the text and its labels as they were read.
      asked: by what was asked for ("examples", ...): how many "requests" were sent, also those that failed; how many
        "replies" came; and how many were there "from_ledger", which were paid for before.
      spending: what the replies cost that came: "prompt_tokens", "output_tokens", "cost_usd" and "price", as in a
        manifest.
      show_prompt: whether the prompts are shown.
    """

    rows: int
    examples: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    asked: Mapping[str, Mapping[str, int]]
    spending: Mapping[str, Any]
    show_prompt: bool = False

    @property
    def requests(self) -> int:
        """How many requests were sent, also those that failed."""
        return sum(asked["requests"] for asked in self.asked.values())

    @property
    def from_ledger(self) -> int:
        """How many replies were paid for before."""
        return sum(asked["from_ledger"] for asked in self.asked.values())

    @property
    def cost_usd(self) -> float | None:
        """What the replies cost that came, in US dollars; None: the price of the model is not known."""
        cost: float | None = self.spending["cost_usd"]
        return cost

    def __str__(self) -> str:
        from textmint.pipelines.preview_views import as_text  # only now: rich takes a moment to import

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from textmint.pipelines.preview_views import as_html

        return as_html(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """The options of a preview, checked."""

    rows: int
    show_prompt: bool
    json: bool
    config: Config  # of the whole run
    beam: PipelineOptions


def preview(rows: int = 10, *, show_prompt: bool = False, **options: Any) -> Preview:
    """Asks for a few examples of as many tasks, as the command `preview` does.

    Args:
      rows: how many, at most.
      show_prompt: whether the prompts are shown with them.
      options: those of `generate`, by their names: `preview(tasks="my.txt", llm="openai", model="gpt-4.1-mini")`. A
        switch is True or False; what takes a list takes a list, or a mapping of weights.

    Raises:
      OptionError: with everything that is wrong with the options, a line each; nothing was paid for.
      RunFailed: no reply could be had, or the dataset folder cannot be used.
    """
    flags = [f"--rows={rows}", *["--show_prompt"] * show_prompt]
    for name, value in options.items():
        flags += flags_of(name, name, _as_text(value))
    return run_preview(parse_preview(flags))


def _as_text(value: Any) -> Any:
    """Writes the numbers and paths in a value as a file of --config has them."""
    if isinstance(value, Mapping):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_text(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only a preview has."""
    parser.add_argument(
        "--rows", type=int, default=10, metavar="N", help=f"examples to ask for, 1 to {MOST_ROWS:,} (default: 10)"
    )
    parser.add_argument("--show_prompt", action="store_true", help="show the prompt of each")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every column and all prompts")


def parse_preview(argv: Sequence[str]) -> PreviewOptions:
    """Reads and checks the options of a preview and those of the run.

    Raises:
      OptionError: with everything that is wrong, a line each.
    """
    parser = OptionParser(add_help=False, allow_abbrev=False)
    add_options(parser)
    own, others = parser.parse_known_args(argv)
    if not 1 <= own.rows <= MOST_ROWS:
        raise OptionError(f"--rows={own.rows}: it must be from 1 to {MOST_ROWS:,}")
    config, options = parse(others)
    if is_dry_run(options):
        raise OptionError("--dry_run: a preview asks the model; leave one of the two out")
    standard, direct = options.view_as(StandardOptions), options.view_as(DirectOptions)
    if standard.runner != LOCAL_RUNNER:
        _LOG.info("the preview runs on this machine, not on %s", standard.runner)
    standard.runner, direct.direct_num_workers, direct.direct_running_mode = LOCAL_RUNNER, 1, "in_memory"
    return PreviewOptions(config=config, beam=options, **vars(own))


def run_preview(options: PreviewOptions) -> Preview:
    """Asks for the examples of a preview.

    Raises:
      OptionError: another run writes the refresh.
      RunFailed: no reply could be had, or the dataset folder cannot be used.
    """
    config, rows = options.config, options.rows
    target = target_of(config)
    asked: dict[str, Mapping[str, int]] = {}
    spending = Spending()
    with hold_refresh(target), temporary_folder("preview") as folder:
        for rounds in rounds_of(config, rows):
            few = few_of(config, rows, rounds)
            found = _ask(few, options, target, folder)
            examples, rejects = outcomes(found, few)
            table = table_of(found, few, examples, rejects)
            asked = asked_after(asked, table)
            spending += with_costs(table, config.prices)[1]
            if table["SampleAttributes"]["kept"] >= rows or table["Flatten"]["kept"] == few.max_tasks:
                break
    return Preview(
        rows=rows,
        examples=examples,
        rejects=[reject for reject in rejects if reject["reason"] != _OVER],
        asked=asked,
        spending=describe(spending, config.prices),
        show_prompt=options.show_prompt,
    )


def few_of(config: Config, rows: int, rounds: int) -> Config:
    """Returns what a preview asks for: `rows` tasks of the first brainstorm rounds, of whose examples all are shown."""
    most = min(rows, config.max_tasks or rows)
    return dataclasses.replace(config, task_requests=rounds, max_tasks=most, target_examples=None)


def rounds_of(config: Config, rows: int) -> Iterator[int]:
    """Yields how many brainstorm rounds to ask for: first as many as surely bring a task for each row, then more."""
    if config.tasks:
        yield config.task_requests  # which nobody asks for
        return
    wanted = math.ceil(rows / _TASKS_PER_ROUND)
    for number in range(_PASSES):
        yield min(wanted << number, config.task_requests)
        if wanted << number >= config.task_requests:
            return


def _ask(config: Config, options: PreviewOptions, target: Target, folder: str) -> Collected:
    """Runs the graph."""
    previous = prepare_to_ask(config, inspect_output(config), folder)
    config = within_caps(config)
    path = os.path.join(folder, "collected")
    pipeline = beam.Pipeline(runner=LocalRunner(), options=options.beam)
    beams_log = logging.getLogger("apache_beam")
    level = beams_log.level
    beams_log.setLevel(logging.CRITICAL)  # it logs a traceback for each failure that is told in one line
    try:
        to = PreviewTarget(options.rows, path)
        run_graph(pipeline, functools.partial(build, pipeline, config, target, previous, to))
    except RuntimeError as error:
        if reason := reason_in(f"{type(error).__name__}: {error}"):
            raise RunFailed(reason) from error
        raise
    finally:
        beams_log.setLevel(level)
        close_engines()
        merge_when_ended(config.ledger, target.run_id)
    return read_preview(path)


def within_caps(config: Config) -> Config:
    """Returns the config with a brake that ends the preview where the caps of the run do.

    Raises:
      OptionError: nothing is left of a cap.
    """
    if not (caps := caps_of(config)):
        return config
    paid = tokens_paid(config.ledger, config.refresh)
    taken = [spent(cap, config, paid) for cap in caps]
    for cap, amount in zip(caps, taken, strict=True):
        if amount >= cap.most:
            raise OptionError(f"{cap.option}: {cap.shown(amount)} is spent; choose a higher cap. Nothing was paid for")
    return braked(config, caps, [cap.most - amount for cap, amount in zip(caps, taken, strict=True)], {}, {})


def outcomes(found: Collected, config: Config) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns what became of each example and of what was refused before: the kept, and the rejects, as `Preview` has
    them; those of a task together."""
    streams = found.elements
    parsed = {element.id: element for element in streams.get("parsed", ()) if isinstance(element, Example)}
    verdicts: dict[str, list[Verdict]] = {}
    for element in streams.get("verdicts", ()):
        if isinstance(element, Verdict):
            verdicts.setdefault(element.id, []).append(element)
    rows, refused = apply_verdicts(itertools.chain.from_iterable(map(streams.get, ("examples", "verdicts"), ((), ()))))
    kept = []
    rejects = []
    for row in sorted([*rows, *refused], key=_place):
        if isinstance(row, Example):
            checks = checks_made(row, config, None, ())
            kept.append({**to_record(row, keep_raw=config.keep_raw), "checks": checks})
        elif isinstance(row, Reject):
            record = to_record(row)
            if example := parsed.get(row.id):
                record |= {name: getattr(example, name) for name in _TEXTS}
                record["checks"] = checks_made(example, config, row, verdicts.get(row.id, ()))
            rejects.append(record)
    return kept, rejects


def _place(row: Any) -> tuple[str, int, str]:
    return row.task or "", getattr(row, "replica", 0) or 0, row.id


def checks_made(
    example: Example, config: Config, reject: Reject | None, verdicts: Iterable[Verdict]
) -> dict[str, str | None]:
    """Says of each check and comparison that was made whether an example passes it.

    Args:
      example: as it was read.
      config: of the run.
      reject: of the example; None where it was kept.
      verdicts: of the comparisons that refuse it.

    Returns:
      By the reason of its rejects: None where the example passes, else what is wrong.
    """
    made: dict[str, str | None] = dict.fromkeys(config.checks.names)
    made |= {fault.reason: fault.detail for fault in faults_in(example, config.checks)}
    if any(made.values()):
        return made  # what fails a check is neither verified nor compared
    if reject is not None and reject.stage == "VerifyLabels":
        return {**made, **({DISPUTED: reject.detail} if reject.reason == DISPUTED else {})}
    if config.verify_backend is not None:
        made[DISPUTED] = None
    compared = [name for name in config.duplicate_checks if name != CONTAMINATED or config.exclude]
    return {**made, "duplicate": None, **dict.fromkeys(compared), **{each.reason: each.detail for each in verdicts}}


def table_of(
    found: Collected, config: Config, examples: Sequence[Any], rejects: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Makes the table of the steps, as the manifest of a run has it.

    Raises:
      RunFailed: the counts do not add up.
    """
    counts = collections.Counter(found.counts)
    counts.update(f"{row['stage']}/rejected.{row['reason']}" for row in rejects if row["stage"] in COMPARISONS)
    table = step_table(
        counts,
        task_requests=None if config.tasks else config.task_requests,
        examples_per_task=config.examples_per_task,
        optional=config.optional_steps,
    )
    rows = {"examples": len(examples), "triplets": len(examples), "rejects": len(rejects)}
    not_collected = {"tasks": "Flatten", "label_sets": "PlanLabels"}
    rows |= {kind: table[step]["kept"] for kind, step in not_collected.items() if step in table}
    if problems := discrepancies(table, rows):
        raise RunFailed(f"the counts do not add up: {'; '.join(problems)}")
    return table


def asked_after(
    before: Mapping[str, Mapping[str, int]], table: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, int]]:
    """Adds what a pass has asked for to what passes before it had; as `Preview` has it."""
    asked = dict(before)
    for step, name in STEPS.items():
        if step not in table or "requests" not in table[step]:
            continue
        line, past = table[step], collections.Counter(before.get(name))
        sent = line["requests"]
        asked[name] = {
            "requests": past["requests"] + sent["sent"],
            "replies": past["replies"] + sent["sent"] - sent["retries"] - line["rejected"].get("request_failed", 0),
            "from_ledger": sent["from_ledger"] - past["replies"],  # what passes before paid for is there by now
        }
    return asked
