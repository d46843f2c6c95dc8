"""Accounting: all that went into a step came out of it, kept or rejected, and each rejection has a known reason."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from textmint.transforms.core.admission import Admission
from textmint.transforms.core.elements import (
    HELD_BACK,
    REASONS,
    Draft,
    Example,
    LabelSet,
    Prompt,
    Reject,
    Reply,
    Task,
    TaskList,
    Usage,
)

Counts = Mapping[str, int]
"""How many, by `Step/name`, where the name is `in`, `kept`, `rejected.<reason>`, `repaired.<repair>`, ..."""

COMPARISONS: Final = ("FindDuplicates", "FindNearDuplicates", "SelectExamples")
"""The steps whose verdicts are applied, and counted, where rows are written; in the order of the graph."""

STEPS: Final = (
    *("TaskGenerate", "Flatten", "PlanLabels", "SampleAttributes", "BuildPrompt", "LLMCall", "ParseJSON"),
    *("CheckQuality", "VerifyLabels", *COMPARISONS),
)

OPTIONAL: Final = ("PlanLabels", "VerifyLabels", "SelectExamples")
"""The steps that a run may do without."""

SURPLUS: Final = frozenset(("over_max_tasks", "over_target"))
"""The reasons of what is refused since there is more than the user asks for; nothing is wrong with it."""

REFUSED: Final = "refused by the endpoint"
"""What a manifest says of an option that was not sent because the endpoint does not take it."""

_STREAMS: Final[Mapping[str, tuple[str, type]]] = {
    "lists": ("TaskGenerate", TaskList),
    "tasks": ("Flatten", Task),
    "label_sets": ("PlanLabels", LabelSet),
    "prompts": ("BuildPrompt", Prompt),
    "replies": ("LLMCall", Reply),
    "parsed": ("ParseJSON", Example),
    "checked": ("CheckQuality", Example),
    "examples": ("VerifyLabels", Example),
}
"""Each stream of the graph: the step at whose end it is counted, and what it holds beside rejects."""
_USED_BY: Final = ("lists", "label_sets", "replies", "examples")
"""The streams at the end of a step that asks the model."""

_REQUESTS: Final = ("sent", "retries", "throttled", "asked_again", "from_ledger")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What a cap is on: a sum of tokens, each with a weight."""

    name: str
    weights: Mapping[str, tuple[int, int]]  # of a token of a prompt, and of a reply, by the step that asks

    def spent(self, step: str, usage: Usage) -> int:
        """Returns what all replies to a prompt took, those that the ledger had among them."""
        prompt, output = self.weights[step]
        tokens = usage.prompt_tokens + usage.ledger_prompt_tokens, usage.output_tokens + usage.ledger_output_tokens
        return prompt * tokens[0] + output * tokens[1]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is counted beside the rest where a cap decides how far a run goes."""

    admission: Admission
    meters: tuple[Meter, ...] = ()


def increments(stream: str, element: object, watch: Watch | None = None) -> Iterator[tuple[str, int]]:
    """Yields what one element of a stream of _STREAMS adds to the counts.

    A reject rides along to the end of the graph, so it is counted there only, in the stream `examples`.

    Raises:
      TypeError: the stream may not hold such an element.
    """
    step, kind = _STREAMS.get(stream, ("", Reject))
    if isinstance(element, Reject):
        if stream == "examples":
            is_held_back = element.reason == HELD_BACK
            yield f"{element.stage}/{HELD_BACK if is_held_back else f'rejected.{element.reason}'}", 1
        if element.usage and element.stage == step and stream in _USED_BY:
            yield from _used(step, element.usage, watch)
        return
    if not isinstance(element, kind):
        raise TypeError(f"a {type(element).__name__} in the stream {stream!r}")
    usage: Usage | None = None
    if isinstance(element, Example):
        if stream == "examples":
            usage = element.verified
            if usage is None:  # nobody was asked
                return
        elif stream == "parsed":
            for repair in element.repairs:
                yield f"{step}/repaired.{repair}", 1
    elif isinstance(element, (TaskList, Reply, LabelSet)):
        usage = element.usage
    yield f"{step}/kept", 1
    if usage:
        yield from _used(step, usage, watch)
    if isinstance(element, TaskList):
        yield "Flatten/in", len(element.items) + len(element.refused)
    if isinstance(element, (Task, LabelSet)) and element.settings is not None and element.settings.examples is not None:
        yield f"{step}/own.tasks", 1  # tasks that say themselves how many examples they want
        yield f"{step}/own.examples", element.settings.examples
    if watch is not None:
        yield from _watched(step, element, watch.admission)


def _watched(step: str, element: object, admission: Admission) -> Iterator[tuple[str, int]]:
    if isinstance(element, (Task, LabelSet)):
        buckets = list(admission.buckets(element))
        if beyond := sum(not admission.makes(bucket) for bucket in buckets):
            yield f"{step}/{HELD_BACK}.drafts", beyond
        if isinstance(element, Task):
            if element.settings is None or not element.settings.labels:
                yield f"{step}/first.{buckets[0]}", 1
            for bucket in buckets:
                yield f"{step}/drafts.{bucket}", 1
    elif isinstance(element, Reply) and isinstance(element.prompt.subject, Draft):
        yield f"{step}/settled.{element.prompt.subject.bucket}", 1


def _used(step: str, usage: Usage, watch: Watch | None) -> Iterator[tuple[str, int]]:
    for name, amount in (
        ("requests.sent", usage.requests),
        ("requests.retries", usage.retries),
        ("requests.throttled", usage.throttled),
        ("requests.asked_again", usage.asked_again),
        ("requests.from_ledger", usage.from_ledger),
        ("tokens.prompt", usage.prompt_tokens),
        ("tokens.output", usage.output_tokens),
        ("ledger_tokens.prompt", usage.ledger_prompt_tokens),
        ("ledger_tokens.output", usage.ledger_output_tokens),
        ("throttled_ms", usage.throttled_ms),
    ):
        if amount:
            yield f"{step}/{name}", amount
    for latency in usage.latencies_ms:
        yield f"{step}/latency_ms.{_bucket(latency)}", 1
    for option in usage.left_out:
        yield f"{step}/left_out.{option}", 1
    for meter in watch.meters if watch else ():
        if spent := meter.spent(step, usage):
            yield f"{step}/spent.{meter.name}.{rounded_up(spent)}", 1


_OF_REQUESTS: Final = ("requests.", "tokens.", "latency_ms.", "throttled_ms", "left_out.")
"""How the names of counts begin that `_used` makes."""
_FOUND: Final = "requests.from_ledger"
_LOST: Final = "rejected.request_failed"

_BUCKET_RATIO: Final = 1.05  # so percentiles are exact to 5 %


def _bucket(milliseconds: int) -> int:
    return round(_BUCKET_RATIO ** math.ceil(math.log(max(1, milliseconds), _BUCKET_RATIO)))


_BITS: Final = 5


def rounded_up(amount: int) -> int:
    """Rounds a number up to one of 5 bits and zeros, which is at most a sixteenth more, so that few differ."""
    shift = max(0, amount.bit_length() - _BITS)
    return -(-amount >> shift) << shift


def percentiles(buckets: Mapping[str, int]) -> dict[str, int]:
    """Estimates percentiles as {"p50": edge of its bucket, ...} from the sizes of buckets by their upper edge."""
    edges = sorted((int(edge), count) for edge, count in buckets.items())
    passed = list(itertools.accumulate(count for _, count in edges))
    found = {}
    for percent in (50, 90, 99) if edges else ():
        place = bisect.bisect_left(passed, percent * passed[-1] / 100)
        found[f"p{percent}"] = edges[place][0]
    return found


def steps_with(optional: Collection[str]) -> list[str]:
    """Returns the steps of a run that has these of OPTIONAL, in the order of the graph."""
    return [step for step in STEPS if step not in OPTIONAL or step in optional]


def step_table(
    counts: Counts, *, task_requests: int | None, examples_per_task: int, optional: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Makes the table of the steps, in the order of the graph: what went in, was kept and was rejected.

    Args:
      counts: as counted over the graph's streams.
      task_requests: brainstorm prompts that were to be sent; None where tasks came from files.
      examples_per_task: drafts made of each task that does not say itself how many.
      optional: which of OPTIONAL there were.
    """
    steps = steps_with(optional)
    kept = {step: counts.get(f"{step}/kept", 0) for step in steps}
    beyond = 0
    entering = {
        "TaskGenerate": kept["TaskGenerate"] if task_requests is None else task_requests,
        "Flatten": counts.get("Flatten/in", 0),
    }
    for before, step in itertools.pairwise(steps[1:]):
        entering[step] = kept[before]
        if step == "SampleAttributes":
            own = named(counts, f"{before}/own.")
            others = kept[before] - own.get("tasks", 0)
            beyond = counts.get(f"{before}/{HELD_BACK}.drafts", 0)
            kept[step] = others * examples_per_task + own.get("examples", 0) - beyond
        elif step in COMPARISONS:
            # Counted where rows are written, and the rows written must be what is left; see `discrepancies`.
            kept[step] = kept[before] - sum(named(counts, f"{step}/rejected.").values())
    table: dict[str, dict[str, Any]] = {}
    for step in steps:
        table[step] = {"in": entering[step], "kept": kept[step], "rejected": named(counts, f"{step}/rejected.")}
        if held_back := counts.get(f"{step}/{HELD_BACK}", 0) + (beyond if step == "SampleAttributes" else 0):
            table[step][HELD_BACK] = held_back
        if repaired := named(counts, f"{step}/repaired."):
            table[step]["repaired"] = repaired
        if requests := named(counts, f"{step}/requests."):
            table[step]["requests"] = {**dict.fromkeys(_REQUESTS, 0), **requests}
            table[step]["tokens"] = {"prompt": 0, "output": 0, **named(counts, f"{step}/tokens.")}
            table[step]["latency_ms"] = percentiles(named(counts, f"{step}/latency_ms."))
            table[step]["throttled_seconds"] = counts.get(f"{step}/throttled_ms", 0) / 1000
        if left_out := named(counts, f"{step}/left_out."):
            table[step]["left_out"] = left_out
    return table


def of_requests(counts: Counts) -> dict[str, int]:
    """Returns those of the counts of a pass that `with_earlier` adds to those of a later one."""
    names = (*_OF_REQUESTS, _LOST)
    return {name: count for name, count in counts.items() if name.partition("/")[2].startswith(names)}


def with_earlier(counts: Counts, earlier: Counts) -> Counts:
    """Adds what the requests of earlier passes of a run took to the counts of its last pass, which had the replies that
    those paid for from the ledger."""
    total = collections.Counter(counts)
    for name, count in earlier.items():
        what = name.partition("/")[2]
        if what.startswith(_OF_REQUESTS) and what != _FOUND:
            total[name] += count
    for step in STEPS:
        sent, retries, lost = (
            earlier.get(f"{step}/{name}", 0) for name in ("requests.sent", "requests.retries", _LOST)
        )
        if had := total.get(f"{step}/{_FOUND}"):
            total[f"{step}/{_FOUND}"] = max(0, had - (sent - retries - lost))
    return total


def as_sent(
    backend: Mapping[str, Any], table: Mapping[str, Mapping[str, Any]], earlier: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Corrects what a manifest says of the model: REFUSED for each option that its endpoint does not take.

    Args:
      backend: the model and its options, as configured.
      table: see `step_table`.
      earlier: what other entries say of the model. Replies from the ledger were paid for by such a run, so what was
        refused to the same model and options then holds for them.
    """
    mine = {step: line for step, line in table.items() if step != "VerifyLabels"}  # which may ask another model
    refused = {option for line in mine.values() for option in line.get("left_out", ())}
    if any(line.get("requests", {}).get("from_ledger") for line in mine.values()):
        for other in earlier:
            missing = {option for option, value in other.items() if value == REFUSED}
            if all(other.get(name) == value or name in {*missing, "base_url"} for name, value in backend.items()):
                refused |= missing
    return {**backend, **dict.fromkeys(sorted(refused), REFUSED)}


def named(counts: Counts, prefix: str) -> dict[str, int]:
    """Returns the counts whose name begins with a prefix, sorted, under the rest of the name."""
    return {name[len(prefix) :]: counts[name] for name in sorted(counts) if name.startswith(prefix)}


def discrepancies(table: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int]) -> list[str]:
    """Lists what does not add up between the table of steps and the rows written by dataset, a line each."""
    problems = []
    last = list(table.values())[-1]
    for step, line in table.items():
        rejected, held_back = sum(line["rejected"].values()), line.get(HELD_BACK, 0)
        expected = line["in"]
        if step == "SampleAttributes":  # the step that makes many of one
            expected, held_back = line["kept"], 0
        if expected != line["kept"] + rejected + held_back:
            also = f" + {held_back} held back" if held_back else ""
            problems.append(f"{step}: {line['in']} in, but {line['kept']} kept + {rejected} rejected{also}")
        problems += [f"{step}: unknown reason {reason!r}" for reason in line["rejected"] if reason not in REASONS]
    for kind, counted in {
        "examples": last["kept"],
        "triplets": last["kept"],
        "tasks": table["Flatten"]["kept"],
        "label_sets": table.get("PlanLabels", {}).get("kept", 0),
        "rejects": sum(sum(line["rejected"].values()) for line in table.values()),
    }.items():
        if rows.get(kind, 0) != counted:
            problems.append(f"{kind}: {rows.get(kind, 0)} rows written, but {counted} counted")
    return problems
