"""LLMCall: each prompt gets exactly one reply or reject, and no more requests are in flight than allowed."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace
from textmint.transforms import llm_call
from textmint.transforms.core.elements import FinishReason, PaidReply, Prompt, Reject, Reply, Usage
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.join import paid_replies, read_for_join
from textmint.transforms.ledger.merge_journals import merge_journals
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm import retry
from textmint.transforms.llm.attempts import AttemptRules, NextStep, request_for, request_id_of
from textmint.transforms.llm.base import Answer, FatalError, Refused, Request, Throttled, Transient, fingerprint_of
from textmint.transforms.llm.engine import Engine, Settings, close_engines
from textmint.transforms.llm.limiter import Limits
from textmint.transforms.llm.prices import Price
from textmint.transforms.llm_call import LLMCall

from tests.support.helpers import Ran, make_brainstorm_prompt, make_draft, make_prompt, make_reject, run_step, shuffled
from tests.support.scripted_engine import ANSWER, Play, Scripted, Seen, names, seen_by

THREADS = ("--direct_num_workers=4", "--direct_running_mode=multi_threading")
PROMPTS = [make_prompt("Sort bees", n) for n in range(60)]


def echo(request: Request, visit: int) -> Answer | Exception:
    """Answers with the prompt's text, and fails on what it names."""
    if "refuse" in request.text:
        return Refused("connection reset")
    if "confuse" in request.text:
        return KeyError("choices\nof many")
    return Answer(
        text=f"echo: {request.text}",
        finish_reason="length" if "cut" in request.text else "stop",
        model="echo-1",
        prompt_tokens=len(request.text),
        output_tokens=3,
    )


def echoing(name: str, wait: float = 0.0) -> Scripted:
    """What it has seen is `seen_by[name]`: back ends themselves are pickled on their way to the bundles."""
    seen_by[name].play, seen_by[name].wait = echo, wait
    return Scripted(name)


def call(prompts: list[Prompt | Reject], name: str, *flags: str, limit: int = 8, wait: float = 0.0) -> Ran:
    return run_step(
        LLMCall(echoing(name, wait), settings=Settings(limits=Limits(max_concurrency=limit), max_attempts=1)),
        prompts,
        Prompt,
        *flags,
    )


def test_every_prompt_gets_its_own_reply_once() -> None:
    ran = call([*PROMPTS], "once")
    assert {reply.prompt.prompt_id: reply.text for reply in ran.of(Reply)} == {
        prompt.prompt_id: f"echo: {prompt.text}" for prompt in PROMPTS
    }
    assert len(ran.elements) == len(PROMPTS)
    assert set(seen_by["once"].ids.values()) == {1}
    assert len(seen_by["once"].ids) == len(PROMPTS)


def test_a_reply_says_how_it_came_about() -> None:
    (reply,) = call([make_prompt("cut bees")], "about").elements
    assert isinstance(reply, Reply)
    assert (reply.finish_reason, reply.model, reply.usage.requests) == ("length", "echo-1", 1)
    assert (reply.prompt_tokens, reply.output_tokens) == (len(reply.prompt.text), 3)
    assert reply.request_id == request_for(reply.prompt, fingerprint_of(Scripted("about"))).request_id


def test_rejects_pass_through_unasked() -> None:
    rejects = [make_reject("Other", n) for n in range(5)]
    ran = call([*rejects, PROMPTS[0]], "pass")
    assert sorted(map(repr, ran.of(Reject))) == sorted(map(repr, rejects))
    assert len(seen_by["pass"].ids) == 1
    assert call([*rejects], "unasked").counters == call([], "unasked").counters == {}
    assert not seen_by["unasked"].ids


def test_whatever_a_back_end_raises_becomes_a_reject_and_harms_no_neighbour() -> None:
    bad = [make_prompt("refuse bees"), make_prompt("confuse bees")]
    ran = call([*PROMPTS[:9], *bad], "raise", limit=3)
    rejects = {reject.id: reject for reject in ran.of(Reject)}
    assert len(ran.of(Reply)) == 9
    assert set(rejects) == {prompt.prompt_id for prompt in bad}
    for prompt in bad:
        reject = rejects[prompt.prompt_id]
        assert (reject.stage, reject.reason) == ("LLMCall", "request_failed")
        assert reject.attempts == 1
        assert (reject.raw_reply, reject.prompt, reject.model) == ("", prompt.text, None)
    assert rejects[bad[0].prompt_id].detail == "connection reset"
    assert not rejects[bad[0].prompt_id].can_retry  # the endpoint will never answer it
    assert rejects[bad[1].prompt_id].can_retry
    assert "KeyError" in rejects[bad[1].prompt_id].detail and "\n" not in rejects[bad[1].prompt_id].detail


def test_metrics() -> None:
    """What OpenTelemetry has a name for has it; the price is 3 and 7 micro-dollars a token."""
    step = LLMCall(echoing("count"), settings=Settings(max_attempts=1), price=Price(3_000_000, 7_000_000, "a test"))
    ran = run_step(step, [*PROMPTS[:7], make_prompt("refuse bees"), make_reject("Other")], Prompt)
    lengths = [len(prompt.text) for prompt in PROMPTS[:7]]
    assert ran.counters == {
        "LLMCall/in": 8,
        "LLMCall/kept": 7,
        "LLMCall/rejected.request_failed": 1,
        "LLMCall/requests.sent": 8,
        "LLMCall/requests.retries": 0,
        "LLMCall/requests.throttled": 0,
        "LLMCall/gen_ai.client.inference.usage.input_tokens": sum(lengths),
        "LLMCall/gen_ai.client.inference.usage.output_tokens": 21,
        "LLMCall/cost.micro_usd": 3 * sum(lengths) + 7 * 21,
    }
    found = {name: (each.count, each.sum, each.min, each.max) for name, each in ran.distributions.items()}
    duration = found.pop("LLMCall/gen_ai.client.inference.duration")
    assert found == {
        "LLMCall/gen_ai.client.inference.operation.input_tokens": (7, sum(lengths), min(lengths), max(lengths)),
        "LLMCall/gen_ai.client.inference.operation.output_tokens": (7, 21, 3, 3),
    }
    assert duration[:2] == (7, sum(sum(reply.usage.latencies_ms) for reply in ran.of(Reply)))


def test_costs_below_a_micro_dollar_add_up() -> None:
    step = LLMCall(echoing("cheap"), price=Price(1, 250_000, "a test"))  # 3 tokens are three quarters of one
    ran = run_step(step, [*PROMPTS[:8]], Prompt)
    assert ran.counters["LLMCall/cost.micro_usd"] == 6


def test_without_a_price_no_cost_is_counted() -> None:
    assert "LLMCall/cost.micro_usd" not in call([*PROMPTS[:2]], "priceless").counters


def test_requests_that_the_endpoint_had_no_room_for_are_counted() -> None:
    def play(request: Request, visit: int) -> Answer | Exception:
        return Throttled("slow down", retry_after=0.01) if visit < 2 else spoken("sound")

    ran, _ = asked(play, make_prompt("Sort bees"))
    assert [reply.usage.throttled for reply in ran.of(Reply)] == [2]
    names = ("requests.sent", "requests.retries", "requests.throttled")
    assert [ran.counters[f"LLMCall/{name}"] for name in names] == [3, 2, 2]


def test_the_stage_names_rejects_and_counters() -> None:
    step = LLMCall(echoing("stage"), stage="Elsewhere")
    ran = run_step(step, [make_prompt("refuse bees"), make_prompt("Sort bees")], Prompt)
    assert [reject.stage for reject in ran.of(Reject)] == ["Elsewhere"]
    assert ran.counters["Elsewhere/gen_ai.client.inference.usage.input_tokens"] == len(make_prompt("Sort bees").text)
    assert "Elsewhere/in" not in ran.counters  # the step around it counts what went in and came out
    assert not any(name.startswith("LLMCall/") for name in ran.counters)


def test_all_threads_of_a_process_share_the_window() -> None:
    ran = call([*PROMPTS, make_prompt("refuse bees"), make_reject("Other")], "threads", *THREADS, limit=5, wait=0.003)
    assert len(ran.of(Reply)) == len(PROMPTS)
    assert len(ran.of(Reject)) == 2
    assert ran.counters["LLMCall/in"] == len(PROMPTS) + 1
    assert ran.counters["LLMCall/kept"] == len(PROMPTS)
    assert 2 <= seen_by["threads"].most <= 5
    assert set(seen_by["threads"].ids.values()) == {1}


def test_order_changes_no_reply() -> None:
    first = call([*PROMPTS, make_prompt("refuse bees")], "order").elements
    again = call(shuffled([make_prompt("refuse bees"), *PROMPTS]), "order", limit=3).elements

    def without_usage(element: Reply | Reject) -> str:
        return repr(replace(element, usage=Usage()))  # latencies differ

    assert sorted(map(without_usage, first)) == sorted(map(without_usage, again))


def says_bees(prompt: Prompt, answer: Answer) -> bool:
    return "bees" in answer.text


def test_the_identity_of_a_request_holds_all_that_changes_the_answer() -> None:
    backend = fingerprint_of(Scripted("id"))
    prompt = PROMPTS[0]
    requests = [
        request_for(prompt, backend),
        request_for(prompt, backend, attempt=1),
        request_for(PROMPTS[1], backend),
        request_for(replace(prompt, text="Other words"), backend),
        request_for(prompt, fingerprint_of(Scripted("id", temperature=0.5))),
    ]
    assert len({request.request_id for request in requests}) == 5
    assert len({request.seed for request in requests}) == 5
    assert all(0 <= request.seed < 2**31 for request in requests)
    assert request_for(prompt, fingerprint_of(Scripted("another name"))) == requests[0]


def test_what_a_request_shows_the_back_end() -> None:
    request = request_for(make_prompt("Sort bees"), fingerprint_of(Scripted("shows")))
    assert (request.kind, request.text) == ("example", "Do: Sort bees #0")
    assert request.variables == {
        "task": "Sort bees",
        "language": "English",
        "difficulty": "college",
        "clarity": "clear",
        "num_words": "at least 10",
    }
    assert make_draft("Sort bees").task == request.variables["task"]
    listed = request_for(make_brainstorm_prompt(), fingerprint_of(Scripted("shows")))
    assert (listed.kind, dict(listed.variables)) == ("task_list", {"topic": "bees"})


# --- a reply that cannot be read


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_BACKOFF", (0.001, 4.0, 60.0))


def is_sound(prompt: Prompt, answer: Answer) -> bool:
    return answer.text == "sound"


def asked(play: Play, *prompts: Prompt, **chosen: Any) -> tuple[Any, Seen]:
    name = next(names)
    seen_by[name].play = play
    try:
        return run_step(LLMCall(Scripted(name), is_sound, **chosen), prompts, Prompt), seen_by.pop(name)
    finally:
        close_engines()


def spoken(text: str, **fields: Any) -> Answer:
    return dataclasses.replace(ANSWER, text=text, **fields)


def test_a_reply_that_cannot_be_read_is_asked_for_again_under_another_id() -> None:
    prompt = make_prompt()
    ran, seen = asked(lambda r, visit: spoken("sound") if visit else spoken("odd"), prompt)
    (reply,) = ran.of(Reply)
    assert reply.text == "sound"
    ids = [request_for(prompt, fingerprint_of(Scripted("any")), attempt).request_id for attempt in (0, 1)]
    assert seen.ids == collections.Counter(ids)
    assert reply.request_id == ids[1]
    assert (reply.prompt_tokens, reply.output_tokens) == (7, 3)  # of this reply
    usage = reply.usage
    assert (usage.requests, usage.retries, usage.asked_again) == (2, 0, 1)
    assert (usage.prompt_tokens, usage.output_tokens) == (14, 6)  # of both, for both are paid for
    assert len(usage.latencies_ms) == 2
    assert ran.counters["LLMCall/gen_ai.client.inference.usage.input_tokens"] == 14
    assert ran.counters["LLMCall/requests.sent"] == 2
    assert ran.counters["LLMCall/in"] == ran.counters["LLMCall/kept"] == 1


@pytest.mark.parametrize("parse_attempts", [1, 3])
def test_it_is_asked_for_so_many_times_at_most(parse_attempts: int) -> None:
    ran, seen = asked(lambda r, visit: spoken(f"odd {visit}"), make_prompt(), parse_attempts=parse_attempts)
    (reply,) = ran.of(Reply)
    assert reply.text == f"odd {parse_attempts - 1}"  # the last one, for ParseJSON to say what is wrong with it
    assert len(seen.ids) == seen.ids.total() == parse_attempts
    assert reply.usage.requests == parse_attempts
    assert reply.usage.asked_again == parse_attempts - 1


def test_what_a_filter_withheld_is_not_asked_for_again() -> None:
    ran, seen = asked(lambda r, visit: spoken("", finish_reason="content_filter"), make_prompt())
    assert ran.of(Reply)[0].usage.requests == seen.ids.total() == 1


@pytest.mark.usefixtures("short_waits")
def test_retries_and_second_askings_add_up() -> None:
    plan = [None, Transient("500"), spoken("odd"), Throttled("busy"), spoken("sound")]

    def play(request: Request, visit: int) -> Any:
        return spoken("sound") if "other" in request.text else plan[visit + 1]

    ran, _ = asked(play, make_prompt("other bees"), make_prompt("these bees"))
    usage = next(reply.usage for reply in ran.of(Reply) if "these" in reply.prompt.text)
    assert (usage.requests, usage.retries, usage.asked_again) == (4, 2, 1)
    assert (usage.prompt_tokens, usage.output_tokens, len(usage.latencies_ms)) == (14, 6, 2)


def test_asked_again_and_failed_for_good_keeps_what_was_paid() -> None:
    def play(request: Request, visit: int) -> Any:
        if "other" in request.text:
            return spoken("sound")
        return Refused("too long") if visit else spoken("odd")

    ran, _ = asked(play, make_prompt("other bees"), make_prompt("these bees"))
    (reject,) = ran.of(Reject)
    found = reject.reason, reject.detail, reject.can_retry, reject.attempts
    assert found == ("request_failed", "too long", False, 2)
    assert reject.usage is not None
    assert (reject.usage.requests, reject.usage.prompt_tokens, reject.usage.asked_again) == (2, 7, 1)


def test_usage_adds_up() -> None:
    one = Usage(requests=2, retries=1, prompt_tokens=7, output_tokens=3, latencies_ms=(5,), throttled_ms=10)
    two = Usage(requests=1, asked_again=1, prompt_tokens=1, latencies_ms=(9, 8))
    counts = {"requests": 3, "retries": 1, "asked_again": 1, "prompt_tokens": 8, "output_tokens": 3}
    assert one + two == Usage(latencies_ms=(5, 9, 8), throttled_ms=10, **counts)
    assert one + Usage() == one


def test_a_doomed_run_fails_with_the_remedy_in_one_line() -> None:
    with pytest.raises(RunFailed, match=r"^no key; set the key( \[while running|$)"):
        asked(lambda r, visit: FatalError("no key", "set the key"), make_prompt())


def test_throttled_time_is_counted_under_the_name_that_the_autoscaler_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "take_throttled_seconds", lambda self: 0.75)
    ran, _ = asked(lambda r, visit: spoken("sound"), *(make_prompt("Sort bees", number) for number in range(4)))
    assert ran.counters["LLMCall/cumulativeThrottlingSeconds"] == 3
    assert sum(reply.usage.throttled_ms for reply in ran.of(Reply)) == 3000


# --- what the ledger has is not asked for again


PRINT = fingerprint_of(Scripted("any"))
GOOD, BAD = "bees", "ants"  # to `says_bees`


FINISHES: dict[str, FinishReason] = {"filtered": "content_filter", "stopped": "reply_filter"}


def with_replies(prompt: Prompt, replies: Mapping[int, str], fingerprint: str = PRINT) -> Prompt:
    """Adds to a prompt, by attempt, what was replied to it: "filtered" where a filter refused the prompt, "stopped"
    where it stopped the reply."""
    paid = []
    for attempt, text in replies.items():
        finish = FINISHES.get(text, "stop")
        paid.append(
            PaidReply(
                request_id=request_id_of(prompt, fingerprint, attempt),
                text=text,
                finish_reason=finish,
                model="echo-0",
                prompt_tokens=1,
                output_tokens=2,
                time=attempt,
            )
        )
    return replace(prompt, subject=replace(prompt.subject, paid=tuple(paid)))


ASK, TAKE = "ask", "take"


def next_step(prompt: Prompt, fingerprint: str, *rules: Any) -> NextStep:
    return AttemptRules(fingerprint, *rules).next_step(prompt)


@pytest.mark.parametrize(
    ("paid", "parse_attempts", "retry_rejects", "what", "attempt", "attempts"),
    [
        # nothing is paid for
        ({}, 2, False, ASK, 0, 2),
        ({}, 2, True, ASK, 0, 2),
        # the first can be read
        ({0: GOOD}, 2, False, TAKE, 0, 1),
        ({0: GOOD}, 2, True, TAKE, 0, 1),
        ({0: GOOD, 1: GOOD}, 2, False, TAKE, 0, 2),
        ({0: GOOD, 1: BAD}, 2, True, TAKE, 0, 2),
        # the first cannot, and the second is missing
        ({0: BAD}, 2, False, ASK, 1, 2),
        ({0: BAD}, 2, True, ASK, 1, 2),
        # the second can be read
        ({0: BAD, 1: GOOD}, 2, False, TAKE, 1, 2),
        ({0: BAD, 1: GOOD}, 2, True, TAKE, 1, 2),
        # neither can: the last one is for the reject, unless rejects are to be retried
        ({0: BAD, 1: BAD}, 2, False, TAKE, 1, 2),
        ({0: BAD, 1: BAD}, 2, True, ASK, 2, 4),
        ({0: BAD, 1: BAD, 2: BAD}, 2, True, ASK, 3, 5),
        ({0: BAD, 1: BAD, 2: BAD, 3: BAD}, 2, True, ASK, 4, 6),
        # what a retry brought counts afterwards without the flag
        ({0: BAD, 1: BAD, 2: BAD}, 2, False, TAKE, 2, 3),
        ({0: BAD, 1: BAD, 2: BAD, 3: GOOD}, 2, False, TAKE, 3, 4),
        ({0: BAD, 1: BAD, 2: BAD, 3: GOOD}, 2, True, TAKE, 3, 4),
        # a reply that a filter stopped is one that cannot be read
        ({0: "stopped"}, 2, False, ASK, 1, 2),
        ({0: "stopped", 1: GOOD}, 2, False, TAKE, 1, 2),
        ({0: "stopped", 1: "stopped"}, 2, False, TAKE, 1, 2),
        ({0: "stopped", 1: "stopped"}, 2, True, ASK, 2, 4),
        ({0: "stopped", 1: "filtered"}, 2, True, TAKE, 1, 2),
        # a prompt that a filter refuses is never asked again
        ({0: "filtered"}, 2, False, TAKE, 0, 1),
        ({0: "filtered"}, 2, True, TAKE, 0, 1),
        ({0: BAD, 1: "filtered"}, 2, True, TAKE, 1, 2),
        ({0: BAD, 1: "filtered", 2: GOOD}, 2, True, TAKE, 1, 3),
        # another number of attempts: more pays for the difference, fewer takes what there is
        ({0: BAD, 1: BAD}, 3, False, ASK, 2, 3),
        ({0: BAD, 1: BAD}, 3, True, ASK, 2, 3),
        ({0: BAD, 1: BAD}, 1, False, TAKE, 1, 2),
        ({0: BAD, 1: GOOD}, 1, False, TAKE, 1, 2),
        ({0: BAD, 1: BAD}, 1, True, ASK, 2, 3),
        ({0: BAD}, 1, False, TAKE, 0, 1),
        # one before is missing: it comes first, as it would have without a ledger
        ({1: GOOD}, 2, False, ASK, 0, 2),
        ({0: BAD, 2: GOOD}, 2, False, ASK, 1, 2),
    ],
)
def test_what_becomes_of_a_prompt_by_what_was_paid_for_it(
    paid: dict[int, str], parse_attempts: int, retry_rejects: bool, what: str, attempt: int, attempts: int
) -> None:
    prompt = with_replies(PROMPTS[0], paid)
    step = next_step(prompt, PRINT, says_bees, parse_attempts, retry_rejects)
    assert (step.attempt, step.attempts) == (attempt, attempts)
    if what == ASK:
        assert (step.answer, step.request_id, step.from_ledger) == (None, "", attempt)
    else:
        assert step.answer is not None
        assert (step.answer.text, step.answer.model) == (paid[attempt], "echo-0")
        assert step.request_id == request_id_of(prompt, PRINT, attempt)
        assert step.from_ledger == len(paid)


def says_so_twice(prompt: Prompt, answer: Answer) -> bool:
    return answer.text.count("bees") > 1


BEST = "bees, bees"


@pytest.mark.parametrize(
    ("paid", "retry_rejects", "what", "attempt", "attempts"),
    [
        # what can be read is enough, unless what is not wanted is to be retried
        ({0: GOOD}, False, TAKE, 0, 1),
        ({0: GOOD}, True, ASK, 1, 2),
        ({0: BAD, 1: GOOD}, False, TAKE, 1, 2),
        ({0: BAD, 1: GOOD}, True, ASK, 2, 4),
        ({0: BEST}, True, TAKE, 0, 1),
        ({0: "filtered"}, True, TAKE, 0, 1),
        # what a retry brought counts afterwards, and what it did not bring changes nothing
        ({0: GOOD, 1: BEST}, False, TAKE, 1, 2),
        ({0: GOOD, 1: BEST}, True, TAKE, 1, 2),
        ({0: GOOD, 1: BAD}, False, TAKE, 0, 2),
        ({0: GOOD, 1: GOOD, 2: BAD}, False, TAKE, 0, 3),
    ],
)
def test_what_is_wanted_is_more_than_what_can_be_read(
    paid: dict[int, str], retry_rejects: bool, what: str, attempt: int, attempts: int
) -> None:
    prompt = with_replies(PROMPTS[0], paid)
    step = next_step(prompt, PRINT, says_bees, 2, retry_rejects, says_so_twice)
    assert (step.attempt, step.attempts, step.answer is None) == (attempt, attempts, what == ASK)
    if step.answer is not None:
        assert step.answer.text == paid[attempt]


def test_a_retry_that_brings_nothing_better_gives_what_a_run_without_it_gives() -> None:
    """Else its rejects would change back with the next run."""
    backend, bees = echoing("nothing better"), make_prompt("Sort ants")
    paid = with_replies(bees, {0: GOOD})
    (retried,) = run_step(LLMCall(backend, says_bees, retry_rejects=True, is_wanted=says_so_twice), [paid], Prompt).of(
        Reply
    )
    assert list(seen_by["nothing better"].ids) == [request_id_of(bees, PRINT, 1)]
    plain = with_replies(bees, {0: GOOD, 1: "echo: Do: Sort ants #0"})
    (again,) = run_step(LLMCall(backend, says_bees, is_wanted=says_so_twice), [plain], Prompt).of(Reply)
    assert (retried.text, retried.attempts, retried.request_id) == (again.text, again.attempts, again.request_id)


def test_another_model_prompt_or_draft_pays_anew() -> None:
    nothing = NextStep(None, "", 0, 2, 0)
    paid = with_replies(PROMPTS[0], {0: GOOD, 1: GOOD})
    assert next_step(paid, PRINT, says_bees, 2) != nothing
    assert next_step(paid, fingerprint_of(Scripted("any", temperature=0.5)), says_bees, 2, True) == nothing
    assert next_step(replace(paid, text="Other words"), PRINT, says_bees, 2) == nothing
    other = replace(PROMPTS[1], subject=replace(PROMPTS[1].subject, paid=paid.subject.paid))
    assert next_step(other, PRINT, says_bees, 2) == nothing


def test_the_order_of_what_was_paid_decides_nothing() -> None:
    prompt = with_replies(PROMPTS[0], {0: BAD, 1: BAD, 2: GOOD})
    steps = set()
    for paid in (prompt.subject.paid, prompt.subject.paid[::-1]):
        again = replace(prompt, subject=replace(prompt.subject, paid=paid))
        steps.add(next_step(again, PRINT, says_bees, 2))
    assert len(steps) == 1


def call_again(name: str, *prompts: Prompt, retry_rejects: bool = False, parse_attempts: int = 2) -> Ran:
    step = LLMCall(echoing(name), says_bees, parse_attempts=parse_attempts, retry_rejects=retry_rejects)
    return run_step(step, prompts, Prompt)


def test_a_paid_prompt_makes_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, a run that has nothing to ask would open a client, and fail where there is no key any more."""

    def no_engine(*_: object) -> None:
        raise AssertionError("an engine was made")

    monkeypatch.setattr(llm_call, "engine_for", no_engine)
    paid = [with_replies(PROMPTS[0], {0: GOOD}), with_replies(PROMPTS[1], {0: BAD, 1: BAD})]
    ran = call_again("no engine", *paid)
    assert sorted((reply.text, reply.attempts, reply.usage) for reply in ran.of(Reply)) == [
        (BAD, 2, Usage(from_ledger=2, ledger_prompt_tokens=2, ledger_output_tokens=4)),
        (GOOD, 1, Usage(from_ledger=1, ledger_prompt_tokens=1, ledger_output_tokens=2)),
    ]
    assert ran.counters == {"LLMCall/in": 2, "LLMCall/kept": 2, "LLMCall/requests.from_ledger": 3}
    assert not seen_by["no engine"].ids


def test_a_paid_reply_is_as_it_was_the_first_time(tmp_path: Path) -> None:
    """All but what it took. So a run that asks nothing gives the rows of the one that paid."""
    ledger = Ledger(folder=str(tmp_path / "ledger"), refresh="base", run_id="r")
    prompts = [*PROMPTS[:5], make_prompt("cut bees"), make_prompt("Sort ants"), make_brainstorm_prompt()]
    settings = Settings(max_attempts=1)
    first = run_step(LLMCall(echoing("kept"), says_bees, settings=settings, ledger=ledger), prompts, Prompt)
    close_engines()
    merge_journals(ledger.folder)
    contents = [Path(file.path).read_bytes() for file in ledger_files(ledger.folder)]
    paid: dict[str, tuple[PaidReply, ...]] = {}
    for kind in ("example", "task_list"):
        tables: list[pa.Table] = [read_for_join(content, kind=kind, fingerprint=PRINT) for content in contents]
        paid.update(paid_replies(tables, {prompt.prompt_id for prompt in prompts}))
    again = call_again(
        "asks nothing",
        *(replace(prompt, subject=replace(prompt.subject, paid=paid[prompt.prompt_id])) for prompt in prompts),
    )
    assert not seen_by["asks nothing"].ids
    assert again.counters["LLMCall/requests.from_ledger"] == sum(seen_by["kept"].ids.values()) == 10

    def without_usage(ran: Ran) -> list[str]:
        found = []
        for element in ran.elements:
            if isinstance(element, Reply):
                bare = replace(element.prompt.subject, paid=())
                element = replace(element, prompt=replace(element.prompt, subject=bare))
            found.append(repr(replace(element, usage=Usage())))
        return sorted(found)

    assert without_usage(again) == without_usage(first)


def test_what_is_missing_is_asked_for_and_counted_apart() -> None:
    ants = make_prompt("Sort ants")
    ran = call_again("partly", with_replies(ants, {0: BAD}), PROMPTS[0])
    replies = {reply.prompt.text: reply for reply in ran.of(Reply)}
    reply = replies[ants.text]
    assert (reply.attempts, reply.request_id) == (2, request_id_of(ants, PRINT, 1))
    assert (reply.usage.from_ledger, reply.usage.requests, reply.usage.asked_again) == (1, 1, 0)
    assert reply.usage.output_tokens == 3  # of the reply that this run paid for
    assert replies[PROMPTS[0].text].usage.from_ledger == 0
    assert ran.counters["LLMCall/requests.from_ledger"] == 1
    assert set(seen_by["partly"].ids) == {request_id_of(ants, PRINT, 1), request_id_of(PROMPTS[0], PRINT, 0)}


def test_rejects_that_are_retried_are_asked_as_often_again() -> None:
    ants = make_prompt("Sort ants")
    (reply,) = call_again("retried", with_replies(ants, {0: BAD, 1: BAD}), retry_rejects=True).of(Reply)
    assert (reply.attempts, reply.usage.from_ledger, reply.usage.requests) == (4, 2, 2)
    assert set(seen_by["retried"].ids) == {request_id_of(ants, PRINT, attempt) for attempt in (2, 3)}
    bees = with_replies(PROMPTS[0], {0: BAD, 1: BAD})
    (reply,) = call_again("retried well", bees, retry_rejects=True).of(Reply)
    assert (reply.attempts, reply.usage.requests) == (3, 1)
    (reply,) = call_again("not retried", bees).of(Reply)
    assert (reply.text, reply.attempts, reply.usage.requests) == (BAD, 2, 0)
    assert not seen_by["not retried"].ids


@pytest.mark.parametrize(
    ("paid", "text", "attempts", "asked"),
    [
        ({1: GOOD}, GOOD, 2, [0]),
        ({1: BAD}, BAD, 2, [0]),
        ({1: "filtered", 2: GOOD}, "filtered", 2, [0]),
        ({1: BAD, 2: GOOD}, GOOD, 3, [0]),
        ({0: BAD, 2: GOOD}, GOOD, 3, [1]),
        ({2: GOOD}, GOOD, 3, [0, 1]),
    ],
)
def test_a_reply_whose_forerunner_was_lost_is_not_paid_for_twice(
    paid: dict[int, str], text: str, attempts: int, asked: list[int]
) -> None:
    """Files of the ledger can be damaged and set aside; then a first reply is gone and the second is still there."""
    ants = make_prompt("Sort ants")
    name = f"forerunner {paid}"
    (reply,) = call_again(name, with_replies(ants, paid)).of(Reply)
    assert sorted(seen_by[name].ids) == sorted(request_id_of(ants, PRINT, attempt) for attempt in asked)
    assert (reply.text, reply.attempts) == (text, attempts)
    assert reply.request_id == request_id_of(ants, PRINT, attempts - 1)
    assert reply.usage.requests == len(asked)
    assert reply.usage.from_ledger == len(paid)
