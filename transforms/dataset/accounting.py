"""Accounting: what went into each step came out of it, kept or rejected, and every rejection has a known reason."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from textmint.transforms.core.elements import (
    REASONS,
    Example,
    LabelSet,
    Prompt,
    Reject,
    Reply,
    Task,
    TaskList,
    TaskSettings,
    Usage,
)

Counts = Mapping[str, int]
"""`Step/name` -> how many, where the name is `in`, `kept`, `rejected.<reason>`, `repaired.<repair>`, ..."""

COMPARISONS: Final = ("FindDuplicates", "FindNearDuplicates")
"""The steps whose verdicts are applied, and counted, where rows are written; in the order of the graph."""

STEPS: Final = (
    *("TaskGenerate", "Flatten", "PlanLabels", "SampleAttributes", "BuildPrompt", "LLMCall", "ParseJSON"),
    *("CheckQuality", "VerifyLabels", *COMPARISONS),
)

OPTIONAL: Final = ("PlanLabels", "VerifyLabels")
"""The steps that a run may do without."""

REFUSED: Final = "refused by the endpoint"
"""What a manifest says of an option that was not sent because the endpoint does not take it."""

_ASKS: Final[Mapping[str, str]] = {
    "lists": "TaskGenerate",
    "label_sets": "PlanLabels",
    "replies": "LLMCall",
    "examples": "VerifyLabels",
}
"""Stream -> the step that asks the model at its end."""

_REQUESTS: Final = ("sent", "retries", "asked_again", "from_ledger")
_TOKENS: Final = ("prompt", "output")


def increments(stream: str, element: object) -> Iterator[tuple[str, int]]:
    """One element of a stream of the graph -> what it adds to the counts. A reject rides along to the end of the
    graph, so it is counted there only, in the stream `examples`.

    Args:
      stream: the name that the graph gives the stream: lists, tasks, label_sets, prompts, replies, parsed, checked or
        examples.
      element: an element of it.

    Raises:
      TypeError: an element that the stream may not hold.
    """
    if isinstance(element, Reject):
        if stream == "examples":
            yield f"{element.stage}/rejected.{element.reason}", 1
        if element.usage and _ASKS.get(stream) == element.stage:
            yield from _used(element.stage, element.usage)
        return
    if stream == "lists" and isinstance(element, TaskList):
        yield "TaskGenerate/kept", 1
        if element.usage:
            yield from _used("TaskGenerate", element.usage)
        yield "Flatten/in", len(element.items) + len(element.refused)
    elif stream == "tasks" and isinstance(element, Task):
        yield "Flatten/kept", 1
        yield from _own_examples("Flatten", element.settings)
    elif stream == "prompts" and isinstance(element, Prompt):
        yield "BuildPrompt/kept", 1
    elif stream == "replies" and isinstance(element, Reply):
        yield "LLMCall/kept", 1
        yield from _used("LLMCall", element.usage)
    elif stream == "label_sets" and isinstance(element, LabelSet):
        yield "PlanLabels/kept", 1
        yield from _own_examples("PlanLabels", element.settings)
        if element.usage:
            yield from _used("PlanLabels", element.usage)
    elif stream == "checked" and isinstance(element, Example):
        yield "CheckQuality/kept", 1
    elif stream == "examples" and isinstance(element, Example):
        if element.verified is not None:
            yield "VerifyLabels/kept", 1
            yield from _used("VerifyLabels", element.verified)
    elif stream == "parsed" and isinstance(element, Example):
        yield "ParseJSON/kept", 1
        for repair in element.repairs:
            yield f"ParseJSON/repaired.{repair}", 1
    else:
        raise TypeError(f"a {type(element).__name__} in the stream {stream!r}")


def _own_examples(step: str, settings: TaskSettings | None) -> Iterator[tuple[str, int]]:
    """Counts the tasks that leave a step and say themselves how many examples they want, and how many those are."""
    if settings is not None and settings.examples is not None:
        yield f"{step}/own.tasks", 1
        yield f"{step}/own.examples", settings.examples


def _used(step: str, usage: Usage) -> Iterator[tuple[str, int]]:
    for name, amount in (
        ("requests.sent", usage.requests),
        ("requests.retries", usage.retries),
        ("requests.asked_again", usage.asked_again),
        ("requests.from_ledger", usage.from_ledger),
        ("tokens.prompt", usage.prompt_tokens),
        ("tokens.output", usage.output_tokens),
        ("throttled_ms", usage.throttled_ms),
    ):
        if amount:
            yield f"{step}/{name}", amount
    for latency in usage.latencies_ms:
        yield f"{step}/latency_ms.{_bucket(latency)}", 1
    for option in usage.left_out:
        yield f"{step}/left_out.{option}", 1


_BUCKET_RATIO: Final = 1.05  # percentiles are so exact to 5 %


def _bucket(milliseconds: int) -> int:
    """A latency -> the upper edge of its bucket, milliseconds."""
    return round(_BUCKET_RATIO ** math.ceil(math.log(max(1, milliseconds), _BUCKET_RATIO)))


def percentiles(buckets: Mapping[str, int], which: tuple[int, ...] = (50, 90, 99)) -> dict[str, int]:
    """Upper edge of each bucket -> how many are in it, and which percentiles -> {`p50`: the edge it lies at, ...}."""
    edges = sorted((int(edge), count) for edge, count in buckets.items())
    total = sum(buckets.values())
    found = {}
    for percent in which:
        passed = 0
        for edge, count in edges:
            passed += count
            if passed * 100 >= percent * total:
                found[f"p{percent}"] = edge
                break
    return found


def step_table(
    counts: Counts, *, task_requests: int | None, examples_per_task: int, optional: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Counts -> for each step, in the order of the graph, what went in, was kept and was rejected.

    Args:
      counts: as counted over the graph's streams.
      task_requests: brainstorm prompts that were to be sent; None where tasks came from files.
      examples_per_task: drafts made of each task that does not say itself how many.
      optional: which of OPTIONAL there were.
    """
    steps = [step for step in STEPS if step not in OPTIONAL or step in optional]
    kept = {step: counts.get(f"{step}/kept", 0) for step in steps}
    entering = {
        "TaskGenerate": kept["TaskGenerate"] if task_requests is None else task_requests,
        "Flatten": counts.get("Flatten/in", 0),
    }
    for before, step in itertools.pairwise(steps[1:]):
        entering[step] = kept[before]
        if step == "SampleAttributes":
            own = named(counts, f"{before}/own.")
            others = kept[before] - own.get("tasks", 0)
            kept[step] = others * examples_per_task + own.get("examples", 0)
        elif step in COMPARISONS:
            # Counted where rows are written, and the rows written must be what is left; see `discrepancies`.
            kept[step] = kept[before] - sum(named(counts, f"{step}/rejected.").values())
    table: dict[str, dict[str, Any]] = {}
    for step in steps:
        table[step] = {"in": entering[step], "kept": kept[step], "rejected": named(counts, f"{step}/rejected.")}
        if repaired := named(counts, f"{step}/repaired."):
            table[step]["repaired"] = repaired
        if requests := named(counts, f"{step}/requests."):
            table[step]["requests"] = {**dict.fromkeys(_REQUESTS, 0), **requests}
            table[step]["tokens"] = {**dict.fromkeys(_TOKENS, 0), **named(counts, f"{step}/tokens.")}
            table[step]["latency_ms"] = percentiles(named(counts, f"{step}/latency_ms."))
            table[step]["throttled_seconds"] = counts.get(f"{step}/throttled_ms", 0) / 1000
        if left_out := named(counts, f"{step}/left_out."):
            table[step]["left_out"] = left_out
    return table


def as_sent(
    backend: Mapping[str, Any], table: Mapping[str, Mapping[str, Any]], earlier: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Corrects what a manifest says of the model by what its endpoint refused, which only a run that asks finds out.

    Args:
      backend: the model and its options, as configured.
      table: see `step_table`.
      earlier: what the manifest says of the model in other entries. Replies that came from the ledger were paid for by
        such a run, so what was refused to the same model and options then holds for them.

    Returns:
      The same, with REFUSED for each option that some reply was asked without. How many lack it stands in the table.
    """
    mine = {step: line for step, line in table.items() if step != "VerifyLabels"}  # which may ask another model
    refused = {option for line in mine.values() for option in line.get("left_out", ())}
    if any(line.get("requests", {}).get("from_ledger") for line in mine.values()):
        for other in earlier:
            told = {option for option, value in other.items() if value == REFUSED}
            if all(other.get(name) == value or name in {*told, "base_url"} for name, value in backend.items()):
                refused |= told
    return {**backend, **dict.fromkeys(sorted(refused), REFUSED)}


def named(counts: Counts, prefix: str) -> dict[str, int]:
    """Counts and a prefix -> those whose name begins with it, under the rest of the name, in order."""
    return {name[len(prefix) :]: counts[name] for name in sorted(counts) if name.startswith(prefix)}


def discrepancies(table: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int]) -> list[str]:
    """The table of steps and the rows in the files -> what does not add up, a line each; [] when all does.

    Args:
      table: see `step_table`.
      rows: dataset -> rows written.
    """
    problems = []
    for step, line in table.items():
        rejected = sum(line["rejected"].values())
        expected = line["in"] if step != "SampleAttributes" else line["kept"]  # the step that makes many of one
        if expected != line["kept"] + rejected:
            problems.append(f"{step}: {line['in']} in, but {line['kept']} kept + {rejected} rejected")
        problems += [f"{step}: unknown reason {reason!r}" for reason in line["rejected"] if reason not in REASONS]
    all_rejected = sum(sum(line["rejected"].values()) for line in table.values())
    for kind, counted in {
        "examples": table[STEPS[-1]]["kept"],
        "triplets": table[STEPS[-1]]["kept"],
        "tasks": table["Flatten"]["kept"],
        "label_sets": table.get("PlanLabels", {}).get("kept", 0),
        "rejects": all_rejected,
    }.items():
        if rows.get(kind, 0) != counted:
            problems.append(f"{kind}: {rows.get(kind, 0)} rows written, but {counted} counted")
    return problems
