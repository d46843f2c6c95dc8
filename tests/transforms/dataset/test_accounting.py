"""Accounting: what was counted adds up, and every way in which it may not is said."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import REASONS, Reject, Usage
from textmint.transforms.dataset.accounting import (
    OPTIONAL,
    STEPS,
    Counts,
    discrepancies,
    increments,
    named,
    of_requests,
    percentiles,
    step_table,
    with_earlier,
)

from tests.support.helpers import make_draft, make_example, make_list, make_prompt, make_reject, make_reply, make_task

USAGE = Usage(
    requests=3,
    retries=1,
    asked_again=1,
    prompt_tokens=22,
    output_tokens=14,
    latencies_ms=(207, 40),
    throttled_ms=1_000,
    throttled=2,
)
TASK, DRAFT, PROMPT = make_task(), make_draft(), make_prompt()
REPLY = replace(make_reply(PROMPT), usage=USAGE)
EXAMPLE = make_example(repairs=("fenced", "trailing_comma"))
USED = {
    "LLMCall/requests.sent": 3,
    "LLMCall/requests.retries": 1,
    "LLMCall/requests.throttled": 2,
    "LLMCall/requests.asked_again": 1,
    "LLMCall/tokens.prompt": 22,
    "LLMCall/tokens.output": 14,
    "LLMCall/throttled_ms": 1_000,
    "LLMCall/latency_ms.214": 1,  # the upper edge of its bucket, 1.05 ** 110
    "LLMCall/latency_ms.41": 1,
}
FAILED = Reject(id="d", stage="LLMCall", reason="request_failed", detail="", can_retry=True, raw_reply="", usage=USAGE)
LIST = make_list("a", "b", "c", refused=(("wrong_type", "int", "7"),))
REJECT = make_reject(reason="not_json")

# Five brainstorm prompts, one reply no list; 4 lists of 20 items, of which 10 are no new task; 2 examples a task.
COUNTS: Counts = {
    "TaskGenerate/kept": 4,
    "TaskGenerate/rejected.not_json": 1,
    "Flatten/in": 80,
    "Flatten/kept": 70,
    "Flatten/rejected.duplicate": 8,
    "Flatten/rejected.too_long": 2,
    "BuildPrompt/kept": 140,
    "LLMCall/kept": 137,
    "LLMCall/rejected.request_failed": 3,
    "LLMCall/tokens.prompt": 1_370,
    "LLMCall/tokens.output": 2_740,
    "LLMCall/requests.sent": 145,
    "LLMCall/requests.retries": 4,
    "LLMCall/requests.throttled": 3,
    "LLMCall/requests.asked_again": 1,
    "LLMCall/throttled_ms": 2_500,
    "LLMCall/latency_ms.100": 120,
    "LLMCall/latency_ms.200": 15,
    "LLMCall/latency_ms.900": 3,
    "ParseJSON/kept": 130,
    "CheckQuality/kept": 130,
    "ParseJSON/rejected.blocked": 2,
    "ParseJSON/rejected.empty": 5,
    "ParseJSON/repaired.fenced": 12,
}
RUN_STEPS = tuple(step for step in STEPS if step not in OPTIONAL)
ROWS = {"examples": 130, "triplets": 130, "tasks": 70, "rejects": 21}


def test_earlier_passes_of_a_run_add_what_their_requests_took() -> None:
    """Of ten replies that the last pass had from the ledger an earlier one has paid for six."""
    last = {"LLMCall/kept": 10, "LLMCall/requests.from_ledger": 10, "LLMCall/latency_ms.41": 1}
    taken = {"requests.sent": 9, "requests.retries": 2, "requests.from_ledger": 3, "rejected.request_failed": 1}
    taken |= {"tokens.prompt": 70, "latency_ms.41": 6, "throttled_ms": 5}
    earlier = of_requests({f"LLMCall/{name}": count for name, count in {**taken, "kept": 4, "settled.7": 1}.items()})
    assert earlier == {f"LLMCall/{name}": count for name, count in taken.items()}
    assert with_earlier(last, earlier) == {
        "LLMCall/kept": 10,
        "LLMCall/requests.sent": 9,
        "LLMCall/requests.retries": 2,
        "LLMCall/requests.from_ledger": 4,
        "LLMCall/tokens.prompt": 70,
        "LLMCall/latency_ms.41": 7,
        "LLMCall/throttled_ms": 5,
    }
    assert with_earlier(last, {}) == last


def table_of(counts: Counts) -> dict[str, dict[str, Any]]:
    return step_table(counts, task_requests=5, examples_per_task=2)


# --- one element


@pytest.mark.parametrize(
    ("stream", "element", "counted"),
    [
        ("lists", LIST, {"TaskGenerate/kept": 1, "Flatten/in": 4}),
        ("tasks", TASK, {"Flatten/kept": 1}),
        ("prompts", PROMPT, {"BuildPrompt/kept": 1}),
        ("replies", REPLY, {"LLMCall/kept": 1, **USED}),
        # what was paid for counts, whatever came of it; once, where the step that asked ends
        ("replies", FAILED, USED),
        ("lists", FAILED, {}),
        ("replies", replace(FAILED, stage="TaskGenerate"), {}),
        (
            "lists",
            replace(LIST, usage=USAGE),
            {
                "TaskGenerate/kept": 1,
                "Flatten/in": 4,
                **{name.replace("LLMCall", "TaskGenerate"): n for name, n in USED.items()},
            },
        ),
        ("checked", EXAMPLE, {"CheckQuality/kept": 1}),
        ("examples", EXAMPLE, {}),
        (
            "examples",
            replace(EXAMPLE, verified=USAGE),
            {"VerifyLabels/kept": 1, **{name.replace("LLMCall", "VerifyLabels"): n for name, n in USED.items()}},
        ),
        (
            "parsed",
            EXAMPLE,
            {"ParseJSON/kept": 1, "ParseJSON/repaired.fenced": 1, "ParseJSON/repaired.trailing_comma": 1},
        ),
        ("examples", REJECT, {"ParseJSON/rejected.not_json": 1}),
        # a reject rides along through all streams, and is counted at their end only
        ("lists", REJECT, {}),
        ("tasks", REJECT, {}),
        ("prompts", REJECT, {}),
        ("replies", REJECT, {}),
        ("parsed", REJECT, {}),
    ],
)
def test_increments(stream: str, element: object, counted: dict[str, int]) -> None:
    pairs = list(increments(stream, element))
    assert dict(pairs) == counted
    assert len(pairs) == len(counted)


HOLDS: dict[str, object] = {"lists": LIST, "tasks": TASK, "prompts": PROMPT, "replies": REPLY, "examples": EXAMPLE}
WRONG = [
    (stream, element)
    for stream in (*HOLDS, "drafts")
    for element in (*HOLDS.values(), DRAFT, None, "text", ("d", EXAMPLE))
    if HOLDS.get(stream) is not element
]


@pytest.mark.parametrize(("stream", "element"), WRONG)
def test_a_stream_holds_nothing_else(stream: str, element: object) -> None:
    with pytest.raises(TypeError, match=f"a {type(element).__name__} in the stream '{stream}'"):
        list(increments(stream, element))


# --- the table


def test_table() -> None:
    assert table_of(COUNTS) == {
        "TaskGenerate": {"in": 5, "kept": 4, "rejected": {"not_json": 1}},
        "Flatten": {"in": 80, "kept": 70, "rejected": {"duplicate": 8, "too_long": 2}},
        "SampleAttributes": {"in": 70, "kept": 140, "rejected": {}},
        "BuildPrompt": {"in": 140, "kept": 140, "rejected": {}},
        "LLMCall": {
            "in": 140,
            "kept": 137,
            "rejected": {"request_failed": 3},
            "requests": {"asked_again": 1, "from_ledger": 0, "retries": 4, "sent": 145, "throttled": 3},
            "tokens": {"output": 2_740, "prompt": 1_370},
            "latency_ms": {"p50": 100, "p90": 200, "p99": 900},
            "throttled_seconds": 2.5,
        },
        "ParseJSON": {"in": 137, "kept": 130, "rejected": {"blocked": 2, "empty": 5}, "repaired": {"fenced": 12}},
        "CheckQuality": {"in": 130, "kept": 130, "rejected": {}},
        "FindDuplicates": {"in": 130, "kept": 130, "rejected": {}},
        "FindNearDuplicates": {"in": 130, "kept": 130, "rejected": {}},
    }
    assert tuple(table_of(COUNTS)) == RUN_STEPS


def test_verdicts_leave_fewer_rows() -> None:
    counts = {**COUNTS, "FindDuplicates/rejected.duplicate": 4}
    table = table_of(counts)
    assert table["FindDuplicates"] == {"in": 130, "kept": 126, "rejected": {"duplicate": 4}}
    assert discrepancies(table, {**ROWS, "examples": 126, "triplets": 126, "rejects": ROWS["rejects"] + 4}) == []
    assert discrepancies(table, ROWS) == [
        "examples: 130 rows written, but 126 counted",
        "triplets: 130 rows written, but 126 counted",
        f"rejects: {ROWS['rejects']} rows written, but {ROWS['rejects'] + 4} counted",
    ]


def test_table_of_the_users_own_tasks() -> None:
    counts = {name: count for name, count in COUNTS.items() if name != "TaskGenerate/rejected.not_json"}
    table = step_table(counts, task_requests=None, examples_per_task=2)
    assert table["TaskGenerate"] == {"in": 4, "kept": 4, "rejected": {}}
    assert discrepancies(table, {**ROWS, "rejects": 20}) == []


def test_table_of_nothing() -> None:
    table = step_table({}, task_requests=None, examples_per_task=3)
    assert all(line == {"in": 0, "kept": 0, "rejected": {}} for line in table.values())
    assert discrepancies(table, {}) == []


def test_named() -> None:
    counts = {"A/rejected.b": 2, "A/rejected.a": 1, "AB/rejected.c": 3, "A/kept": 4}
    assert list(named(counts, "A/rejected.").items()) == [("a", 1), ("b", 2)]
    assert named(counts, "C/") == {}


# --- what does not add up


def test_a_right_table_has_no_discrepancies() -> None:
    assert discrepancies(table_of(COUNTS), ROWS) == []


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize(
    ("step", "key", "number"),
    [(step, key, table_of(COUNTS)[step][key]) for step in RUN_STEPS if step != "SampleAttributes" for key in ("in",)]
    + [("TaskGenerate", "kept", 4), ("BuildPrompt", "kept", 140), ("LLMCall", "kept", 137)],
)
def test_one_number_of_a_step_is_off(step: str, key: str, number: int, off: int) -> None:
    table = table_of(COUNTS)
    table[step][key] = number + off
    line = table[step]
    rejected = sum(line["rejected"].values())
    assert discrepancies(table, ROWS) == [f"{step}: {line['in']} in, but {line['kept']} kept + {rejected} rejected"]


@pytest.mark.parametrize(("step", "reason"), [(s, r) for s in RUN_STEPS for r in table_of(COUNTS)[s]["rejected"]])
def test_one_reject_too_many(step: str, reason: str) -> None:
    table = copy.deepcopy(table_of(COUNTS))
    table[step]["rejected"][reason] += 1
    line = table[step]
    assert discrepancies(table, ROWS) == [
        f"{step}: {line['in']} in, but {line['kept']} kept + {sum(line['rejected'].values())} rejected",
        "rejects: 21 rows written, but 22 counted",
    ]


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_not_what_was_counted(kind: str, off: int) -> None:
    rows = {**ROWS, kind: ROWS[kind] + off}
    assert discrepancies(table_of(COUNTS), rows) == [f"{kind}: {rows[kind]} rows written, but {ROWS[kind]} counted"]


@pytest.mark.parametrize("kind", ROWS)
def test_a_dataset_is_missing(kind: str) -> None:
    rows = {name: count for name, count in ROWS.items() if name != kind}
    assert discrepancies(table_of(COUNTS), rows) == [f"{kind}: 0 rows written, but {ROWS[kind]} counted"]


def test_an_unknown_reason_is_named() -> None:
    counts = {**COUNTS, "ParseJSON/rejected.blocked": 1, "ParseJSON/rejected.bad_mood": 1}
    assert discrepancies(table_of(counts), ROWS) == ["ParseJSON: unknown reason 'bad_mood'"]


@pytest.mark.parametrize("reason", REASONS)
def test_every_known_reason_is_known(reason: str) -> None:
    counts = {**COUNTS, "ParseJSON/rejected.blocked": 1, f"ParseJSON/rejected.{reason}": 1}
    counts["CheckQuality/kept"] = counts["ParseJSON/kept"] = 137 - sum(named(counts, "ParseJSON/rejected.").values())
    rejects = sum(count for name, count in counts.items() if "/rejected." in name)
    rows = {"tasks": 70, "examples": counts["ParseJSON/kept"], "triplets": counts["ParseJSON/kept"], "rejects": rejects}
    assert discrepancies(table_of(counts), rows) == []


# repairs and what replies cost are told, not part of the balance
TOLD = ("/repaired.", "/tokens.", "/requests.", "/latency_ms.", "/throttled_ms")
BALANCED = [name for name in COUNTS if not any(part in name for part in TOLD)]


@given(st.sampled_from(BALANCED), st.integers(1, 500) | st.integers(-500, -1))
def test_no_count_can_be_off_unseen(name: str, off: int) -> None:
    assert discrepancies(table_of({**COUNTS, name: COUNTS[name] + off}), ROWS)


def test_a_reject_of_an_unknown_step_is_seen() -> None:
    # its row is written, but no line of the table holds it
    counts = {**COUNTS, "Elsewhere/rejected.empty": 1}
    assert discrepancies(table_of(counts), {**ROWS, "rejects": 22}) == ["rejects: 22 rows written, but 21 counted"]


def test_percentiles() -> None:
    assert percentiles({}) == {}
    assert percentiles({"7": 1}) == {"p50": 7, "p90": 7, "p99": 7}
    # 100 answers, ordered by number and not by text: the 50th is 9, the 90th 10, the 99th 1,000
    assert percentiles({"9": 50, "10": 40, "1000": 10}) == {"p50": 9, "p90": 10, "p99": 1_000}


@given(st.integers(0, 600_000))
def test_latencies_are_told_to_five_per_cent(milliseconds: int) -> None:
    usage = Usage(latencies_ms=(milliseconds,))
    reply = replace(REPLY, usage=usage)
    (edge,) = named(dict(increments("replies", reply)), "LLMCall/latency_ms.")
    assert milliseconds - 1 <= int(edge) <= milliseconds * 1.05 + 1
