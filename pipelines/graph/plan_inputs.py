"""What a plan rests on: how many prompts there are, how long they are, and what the last run of the refresh kept. It
writes nothing, asks nothing, and holds no lease."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from textmint.pipelines.graph.caps import caps_of, spent
from textmint.pipelines.graph.plan import (
    ASSUMED_LATENCY,
    ENOUGH,
    STEPS,
    TASKS_A_REQUEST,
    WHAT,
    Asked,
    CapLeft,
    Line,
    Pace,
    Plan,
    Seen,
    line_of,
    output_of,
)
from textmint.pipelines.graph.prompt_estimates import STRATA
from textmint.pipelines.graph.waves import Cap
from textmint.pipelines.options.config import Config
from textmint.transforms.core.elements import Kind
from textmint.transforms.dataset.write_dataset import SHARD_BYTES
from textmint.transforms.ledger.compact import TokensPaid

_ENOUGH_ROWS: Final = 1_000  # whose size is not that of the files' schema


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a pass over the graph met that asks nothing.

    Args:
      tasks: how many the ledger, or the user's files, lead to.
      met: how many prompts of each kind, by what they ask for.
      held_back: how many of these the ledger cannot settle.
      to_label: how many examples there will be of tasks whose labels are held back.
      by_rank: how many examples have each rank (see core.admission), and how many of them the ledger answers.
    """

    tasks: int = 0
    met: Mapping[str, int] = dataclasses.field(default_factory=dict)
    held_back: Mapping[str, int] = dataclasses.field(default_factory=dict)
    to_label: int = 0
    by_rank: tuple[tuple[int, int], ...] = ()

    def answered_first(self, wanted: int) -> int:
        """Returns how many of the first so many examples the ledger answers; a target asks for these."""
        answered = 0
        for drafts, settled in self.by_rank:
            if wanted <= 0:
                break
            answered += min(settled, wanted)
            wanted -= drafts
        return answered

    @property
    def share_verified(self) -> float:
        """The share of answered examples that led to a verification; where few are answered, all are thought to."""
        answered = self.met.get("examples", 0) - self.held_back.get("examples", 0)
        return min(1.0, self.met.get("verifications", 0) / answered) if answered >= ENOUGH else 1.0


def make_plan(
    config: Config,
    *,
    processes: int = 1,
    seen: Mapping[str, Seen] | None = None,
    settled: Settled | None = None,
    entry: Mapping[str, Any] | None = None,
    paid: TokensPaid | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Works out what a run will ask, and what that takes.

    Args:
      config: of the run.
      processes: that ask at once.
      seen: what the ledger holds, by kind of prompt.
      settled: what it answers; None: nothing.
      entry: of the last run in the manifest; None: there is none.
      paid: tokens that the refresh has paid for.
      notes: on these.
    """
    entry = entry or {}
    kept = share_kept(entry)
    tasks, asked = what_is_asked(config, seen or {}, settled, kept)
    limits = config.settings.limits
    pace = Pace(
        max_concurrency=limits.max_concurrency,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        processes=processes,
    )
    lines = tuple(line_of(each, pace) for each in asked)
    output = output_of(
        lines,
        tasks,
        kept,
        target=config.target_examples,
        bytes_a_row=bytes_a_row(entry),
        shard_bytes=SHARD_BYTES,
        plans_labels=config.plans_labels,
    )
    return Plan(
        lines=lines,
        pace=pace,
        output=output,
        target=config.target_examples,
        caps=tuple(_cap_left(cap, config, lines, paid or {}) for cap in caps_of(config)),
        notes=(*notes, *_notes(config, lines)),
    )


def _cap_left(cap: Cap, config: Config, lines: Sequence[Line], paid: TokensPaid) -> CapLeft:
    by_kind = {STEPS[step]: weights for step, weights in cap.meter.weights.items()}
    planned = sum(
        prompt * line.prompt_tokens + output * line.output_tokens
        for line in lines
        for prompt, output in [by_kind.get(line.what, (0, 0))]
    )
    unit = "usd" if cap.meter.name == "cost" else cap.meter.name
    return CapLeft(option=cap.option, unit=unit, most=cap.most, spent=spent(cap, config, paid), planned=planned)


def _notes(config: Config, lines: Sequence[Line]) -> Iterator[str]:
    estimated = [line.what for line in lines if line.requests and not line.measured_on]
    if estimated and config.typed["llm"] != "offline":
        yield (
            "what a model thinks before it answers is paid for as output, and is in no estimate: preview, with the "
            "same options, has it measured"
        )
    if any(language != "English" for language, _ in config.attributes.language.values) and "examples" in estimated:
        yield "tokens of other languages than English are estimated roughly; preview has them measured"


def share_kept(entry: Mapping[str, Any]) -> float | None:
    """Returns the share of replies to prompts of examples that became rows in a run; None where its entry in the
    manifest does not say. Rows over a target were good ones."""
    try:
        steps = entry["steps"]
        kept = steps["SelectExamples"]["in"] if "SelectExamples" in steps else entry["counts"]["examples"]
        return min(1.0, float(kept / steps["LLMCall"]["kept"]))
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def bytes_a_row(entry: Mapping[str, Any]) -> dict[str, float]:
    """Returns the size of a row of each dataset that a run published, where it has enough of them."""
    sizes = {}
    for kind, listed in entry.get("files", {}).items():
        rows = sum(file["rows"] for file in listed)
        if rows >= _ENOUGH_ROWS:
            sizes[kind] = sum(file["bytes"] for file in listed) / rows
    return sizes


def what_is_asked(
    config: Config, seen: Mapping[str, Seen], settled: Settled | None, kept: float | None = None
) -> tuple[int, list[Asked]]:
    """Works out how many prompts a run has.

    Args:
      config: of the run.
      seen: what the ledger holds, by kind of prompt.
      settled: what it answers; None: nothing.
      kept: the share of examples that become rows; None: not known, so all do.

    Returns:
      The number of tasks, and each kind of prompt, in the order in which they are asked.
    """
    is_offline = config.typed["llm"] == "offline"  # it answers at once, in the process that asks
    known = settled or Settled()
    met, held_back = collections.Counter(known.met), collections.Counter(known.held_back)
    answered = {what: number - held_back[what] for what, number in met.items()}
    a_task = ((config.expected_tasks - config.own_tasks) * config.examples_per_task + config.own_examples) / (
        config.expected_tasks
    )
    wanted = math.ceil(config.target_examples / (kept or 1.0)) if config.target_examples is not None else None
    found: list[Asked] = []

    def add(kind: Kind, total: int, *, is_exact: bool) -> int:
        """Adds a kind of prompt; returns how many are to be asked."""
        is_answered = min(answered.get(WHAT[kind], 0), total)
        found.append(
            Asked(
                what=WHAT[kind],
                prompts=total,
                is_exact=is_exact,
                answered=is_answered,
                strata=STRATA[kind](config),
                seen=seen.get(kind, Seen()),
                price=config.verify_price if kind == "choice" else config.price,
                latency=0.0 if is_offline else ASSUMED_LATENCY,
                latency_is_known=is_offline,
            )
        )
        return total - is_answered

    new_tasks = 0 if settled else config.expected_tasks
    is_exact = settled is not None
    if not config.tasks:
        lists, listed = config.task_requests, answered.get("task lists", 0)
        a_list = known.tasks / listed if listed >= ENOUGH and known.tasks else TASKS_A_REQUEST
        new_tasks = round((lists - listed) * a_list)
        if wanted is not None and config.max_tasks is None:  # where tasks run out, more are brainstormed
            missing = max(0, math.ceil(wanted / a_task) - known.tasks - new_tasks)
            lists, new_tasks = lists + math.ceil(missing / a_list), new_tasks + missing
        is_exact = not add("task_list", lists, is_exact=lists == config.task_requests) and is_exact
    if config.max_tasks is not None:
        new_tasks = min(new_tasks, max(0, config.max_tasks - known.tasks))
    tasks = known.tasks + new_tasks
    if wanted is not None:
        tasks, is_exact = min(tasks, wanted), False  # the first examples of all tasks come before the second ones
    if config.plans_labels:
        more = round(new_tasks * (1 - config.own_labelled / config.expected_tasks))
        total = met["label sets"] + more
        add("label_set", total if wanted is None else min(total, tasks), is_exact=is_exact)
    examples = met["examples"] + known.to_label + round(new_tasks * a_task)
    if wanted is not None:
        examples, answered["examples"] = wanted, known.answered_first(wanted)
    to_come = add(config.example_kind, examples, is_exact=is_exact and not held_back["label sets"])
    if config.verify_backend is not None:
        total = met["verifications"] + round(to_come * known.share_verified)
        add("choice", min(total, examples), is_exact=is_exact and not to_come)
    return tasks, found
