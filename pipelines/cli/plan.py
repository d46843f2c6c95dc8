"""The command `plan`: what a run will ask, what that costs and how long it takes. Nothing is asked or written."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, WorkerOptions
from textmint.pipelines.cli import terminal
from textmint.pipelines.cli.run import failed
from textmint.pipelines.cli.signals import ending_on_signals
from textmint.pipelines.graph.plan import CapLeft, Line, Output, Plan
from textmint.pipelines.graph.plan_inputs import make_plan
from textmint.pipelines.graph.replies_seen import replies_seen
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.parse import OptionParser, parse
from textmint.pipelines.runners.choose import has_worker_processes
from textmint.pipelines.runners.dataflow_options import is_dataflow, is_dry_run
from textmint.transforms.core.errors import RunFailed, StoreError
from textmint.transforms.core.texts import counted, printable_line
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.dataset.spending import price_as_json
from textmint.transforms.ledger.compact import tokens_paid
from textmint.transforms.llm.prices import format_usd, usd
from textmint.transforms.storage import files

_DESCRIPTION: Final = (
    "Tells what generate with the same options will ask, what that costs and how long it takes. Nothing is asked, "
    "written or paid for, and no key is needed."
)
_COLUMNS: Final = ("", "prompts", "in the ledger", "requests", "prompt tokens", "output tokens", "cost")
_WIDTH: Final = 120
_MOST_COUNTED: Final = 20_000  # examples of the user's own tasks whose prompts are counted one by one without a ledger
_LOG: Final = logging.getLogger("textmint")


def main(argv: Sequence[str], prog: str) -> int:
    """Prints the plan of a run; returns the exit code: 0 done, 1 it failed, 2 the options are wrong."""
    parser = OptionParser(
        prog=f"{prog} plan",
        usage="%(prog)s [options of generate] [--json]",
        description=_DESCRIPTION,
        epilog=f"All options of generate are taken too: {prog} generate --help lists them.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object; docs/cost.md describes its keys")
    if "--help" in argv or "-h" in argv:
        return terminal.shown(parser.format_help().removesuffix("\n"), prog)
    with ending_on_signals() as signals:
        try:
            return _plan(parser, argv, prog)
        except (RunFailed, StoreError) as error:
            terminal.tell(f"{prog}: no plan can be made: {error}")
            return 1
        except (Exception, KeyboardInterrupt) as error:
            return failed(error, prog, signals)


def _plan(parser: argparse.ArgumentParser, argv: Sequence[str], prog: str) -> int:
    terminal.set_up_logging(local=True)
    own, others = parser.parse_known_args(argv)
    config, options = parse(others, asks=False)
    for warning in config.warnings:
        _LOG.warning(warning)
    if own.json:
        return terminal.shown(as_json(plan_of(config, options), config), prog)
    return terminal.shown(plan_text(config, options), prog)


def plan_text(config: Config, options: PipelineOptions) -> str:
    """Makes the plan of a run, and draws it in plain text."""
    return as_text(plan_of(config, options), config)


def plan_of(config: Config, options: PipelineOptions) -> Plan:
    """Makes the plan of a run. With --dry_run for Dataflow the dataset folder is not read: that needs no network."""
    processes = processes_of(options)
    if is_dataflow(options) and is_dry_run(options):
        return make_plan(config, processes=processes, notes=_not_read(config))
    seen = replies_seen(config)
    settled = None
    notes = []
    if config.tasks and not seen and config.expected_examples > _MOST_COUNTED:
        notes.append(f"the {config.expected_tasks:,} tasks of --tasks are taken as they are: repeats are not taken off")
    elif seen or config.tasks:
        if sum(of_kind.replies for of_kind in seen.values()) > _MOST_COUNTED:
            _LOG.info("counting what the ledger answers, which may take as long as a run that finds all of it there")
        from textmint.pipelines.ledger_pass import settled_by_ledger  # only now: arithmetic needs no graph

        settled = settled_by_ledger(config)
    entries = read_entries(config.output)
    last = max(entries.values(), key=lambda entry: str(entry.get("finished")), default=None)
    entry = entries.get(config.refresh, last)  # a new refresh will fare as the one before
    has_cap = config.max_cost is not None or config.max_tokens is not None
    paid = tokens_paid(config.ledger, config.refresh) if has_cap else None
    return make_plan(config, processes=processes, seen=seen, settled=settled, entry=entry, paid=paid, notes=notes)


def _not_read(config: Config) -> list[str]:
    """Says what a plan does not know that may not use the network."""
    notes = ["--output was not read, so what its ledger answers is not taken off; ./run.sh plan reads it"]
    if config.tasks and not files.is_local(config.tasks):
        notes.append(f"--tasks was not read: {config.expected_tasks:,} tasks are a guess")
    return notes


def processes_of(options: PipelineOptions) -> int:
    """Returns how many processes ask at once, as far as the options say."""
    if has_worker_processes(options):
        return int(options.view_as(DirectOptions).direct_num_workers) or os.cpu_count() or 1
    if is_dataflow(options):
        workers = options.view_as(WorkerOptions)
        cores = re.search(r"-(\d+)$", workers.machine_type or "")  # Dataflow starts a process for each
        return int(workers.max_num_workers or workers.num_workers or 1) * (int(cores[1]) if cores else 1)
    return 1


# --- for a program


def as_json(plan: Plan, config: Config) -> str:
    """Writes a plan as one JSON object, in ASCII."""
    found = {
        "output": config.output,
        "refresh": config.refresh,
        "requests": [_line_as_json(line) for line in plan.lines],
        "total": {
            "requests": plan.requests,
            "prompt_tokens": plan.prompt_tokens,
            "output_tokens": plan.output_tokens,
            "cost_usd": None if plan.cost is None else usd(plan.cost),
            "hours": plan.seconds / 3_600,
        },
        "pace": dataclasses.asdict(plan.pace),
        "written": dataclasses.asdict(plan.output),
        "target": plan.target,
        "caps": [_cap_as_json(cap) for cap in plan.caps],
        "notes": list(plan.notes),
    }
    return json.dumps(found, indent=1)


def _cap_as_json(cap: CapLeft) -> dict[str, Any]:
    in_unit = usd if cap.unit == "usd" else int
    amounts = {name: in_unit(getattr(cap, name)) for name in ("most", "spent", "planned")}
    return {"option": cap.option, "unit": cap.unit, **amounts, "share": cap.share}


def _line_as_json(line: Line) -> dict[str, Any]:
    return {
        "kind": line.what,
        "prompts": line.prompts,
        "prompts_are_exact": line.prompts_are_exact,
        "from_ledger": line.answered,
        "requests": line.requests,
        "prompt_tokens": line.prompt_tokens,
        "output_tokens": line.output_tokens,
        "tokens_measured_on": line.measured_on,
        "cost_usd": None if line.cost is None else usd(line.cost),
        "price": price_as_json(line.price),
        "latency_seconds": line.latency,
        "latency_is": line.latency_is,
        "hours": line.seconds / 3_600,
        "limited_by": line.limit,
    }


# --- for a person


def as_text(plan: Plan, config: Config) -> str:
    """Draws a plan, in plain text."""
    from rich import box  # only now: rich takes a moment to import
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_footer=len(plan.lines) > 1)
    footers = ("all", "", "", f"{plan.requests:,}", f"{plan.prompt_tokens:,}", f"{plan.output_tokens:,}", _cost(plan))
    for at, (name, footer) in enumerate(zip(_COLUMNS, footers, strict=True)):
        table.add_column(name, Text(footer), justify="right" if at else "left", no_wrap=True)
    for line in plan.lines:
        numbers = (line.prompt_tokens, line.output_tokens)
        prompts = f"{'' if line.prompts_are_exact else '~'}{line.prompts:,}"
        cells = (line.what, prompts, f"{line.answered:,}", f"{line.requests:,}", *(f"{number:,}" for number in numbers))
        table.add_row(*map(Text, (*cells, _cost(line))))
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    drawn = (line.rstrip() for line in capture.get().splitlines())
    head = f"Plan of refresh={config.refresh} in {config.typed['output']}. Nothing was asked, written or paid for."
    below = (f"{name:<8}  {printable_line(text)}" for name, text in _lines(plan))
    return "\n".join([printable_line(head), "", *drawn, "", *below])


def _cost(of: Plan | Line) -> str:
    return "unknown" if of.cost is None else format_usd(of.cost)


def _lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yields what the figures rest on, and what follows of them: a word for each line, and its text."""
    asked = [line for line in plan.lines if line.requests]
    if estimated := [line.what for line in plan.lines if not line.prompts_are_exact]:
        yield "prompts", f"~ {', '.join(estimated)}: estimated, since they depend on replies that are still to come"
    for how, lines in _grouped(asked, _on_tokens).items():
        yield "tokens", f"{lines}: {how}"
    for how, lines in _grouped(asked, _on_price).items():
        yield "price", f"{lines}: {how}"
    for how, lines in _grouped(asked, _on_latency).items():
        yield "latency", f"{lines}: {how}"
    if asked:
        processes = counted(plan.pace.processes, "process", "processes")
        limits = dict.fromkeys(f"--{line.limit}={getattr(plan.pace, line.limit):g}" for line in asked)
        yield "time", f"about {_time(plan.seconds)} in {processes} with {' and '.join(limits)}"
    yield "output", _on_output(plan.output)
    if plan.target is not None:
        yield "target", _on_target(plan)
    for cap in plan.caps:
        yield "cap", _on_cap(cap)
    for note in plan.notes:
        yield "note", note


def _grouped(lines: Sequence[Line], tell: Callable[[Line], str]) -> dict[str, str]:
    """Returns of which kinds of requests the same is told."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(tell(line), []).append(line.what)
    return {told: ", ".join(kinds) for told, kinds in found.items()}


def _on_tokens(line: Line) -> str:
    if line.measured_on:
        return f"measured on {counted(line.measured_on, 'reply', 'replies')} of the model in the ledger"
    return "estimated from the templates and num_words, at four characters a token"


def _on_price(line: Line) -> str:
    if line.price is None:
        option = "--verify_price" if line.what == "verifications" else "--price"
        return f"unknown: {option}=IN,OUT names it, in USD per million tokens of prompts and of replies"
    numbers = (format_usd(number * 10**6) for number in (line.price.prompt, line.price.output))
    return "{} and {} per million tokens of prompts and of replies ({})".format(*numbers, line.price.source)


def _on_latency(line: Line) -> str:
    if line.latency_is == "known":
        return "none: the embedded model answers at once, and a run takes what its rows take of the CPU"
    how = "measured in the ledger" if line.latency_is == "measured" else "an assumption, for none was seen yet"
    return f"{line.latency:.2f} s a reply, {how}"


def _on_output(output: Output) -> str:
    how = "if all that is asked for is kept"
    if output.acceptance_is_measured:
        how = f"{output.acceptance:.1%} of what is asked for, as in the last run"
    return (
        f"about {counted(output.examples, 'example')} ({how}): {counted(output.files, 'file')} of data with "
        f"{_size(output.bytes)}, and {_size(output.ledger_bytes)} more in the ledger"
    )


def _on_target(plan: Plan) -> str:
    (drafts,) = (line for line in plan.lines if line.what == "examples")
    how = f"{plan.output.acceptance:.1%} are kept, as in the last run"
    if not plan.output.acceptance_is_measured:
        how = "all are kept; preview shows how many are"
    return f"{plan.target:,} examples take {drafts.prompts:,} prompts if {how}"


def _on_cap(cap: CapLeft) -> str:
    written = format_usd if cap.unit == "usd" else "{:,} tokens".format
    takes = f"{cap.option}: {written(cap.spent)} of it is spent, and the plan takes {written(cap.planned)} more"
    if cap.share == 1:
        return f"{takes}, which fits"
    return f"{takes}: about {cap.share:.0%} of it fits, and what there is then is published"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5_400 else f"{seconds / 3_600:.1f} hours"


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
