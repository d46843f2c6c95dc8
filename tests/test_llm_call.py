"""LLMCall: each prompt gets exactly one reply or reject, and no more requests are in flight than allowed."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import threading
from collections.abc import Mapping

from tests.helpers import Ran, make_brainstorm_prompt, make_draft, make_prompt, make_reject, run_step, shuffled
from transforms.elements import Prompt, Reject, Reply, Usage
from transforms.identity import Part
from transforms.llm.base import Answer, Refused, Request
from transforms.llm.engine import Settings
from transforms.llm.limiter import Limits
from transforms.llm_call import LLMCall, fingerprint_of, request_for

THREADS = ("--direct_num_workers=4", "--direct_running_mode=multi_threading")
PROMPTS = [make_prompt("Sort bees", n) for n in range(60)]


@dataclasses.dataclass
class Seen:
    """What a back end has seen, under its name; back ends themselves are pickled on their way to the bundles."""

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    requests: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    in_flight: int = 0
    most: int = 0


_seen: dict[str, Seen] = collections.defaultdict(Seen)


@dataclasses.dataclass(frozen=True)
class Echo:
    """Answers with the prompt's text, later ones sooner, and fails on what a text names."""

    name: str
    wait: float = 0.0  # seconds
    temperature: float = 1.0

    def fingerprint(self) -> Mapping[str, Part]:
        return {"backend": "echo", "temperature": self.temperature}

    async def generate(self, request: Request) -> Answer:
        seen = _seen[self.name]
        with seen.lock:
            seen.requests[request.request_id] += 1
            seen.in_flight += 1
            seen.most = max(seen.most, seen.in_flight)
        try:
            await asyncio.sleep(self.wait * (1 + request.seed % 3))
            if "refuse" in request.text:
                raise Refused("connection reset")
            if "confuse" in request.text:
                raise KeyError("choices\nof many")
        finally:
            with seen.lock:
                seen.in_flight -= 1
        return Answer(
            text=f"echo: {request.text}",
            finish_reason="length" if "cut" in request.text else "stop",
            model="echo-1",
            prompt_tokens=len(request.text),
            output_tokens=3,
        )

    async def open(self) -> Echo:
        return self

    async def aclose(self) -> None:
        pass


def call(prompts: list[Prompt | Reject], name: str, *flags: str, limit: int = 8, wait: float = 0.0) -> Ran:
    return run_step(
        LLMCall(Echo(name, wait), settings=Settings(limits=Limits(max_concurrency=limit), max_attempts=1)),
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
    assert set(_seen["once"].requests.values()) == {1}
    assert len(_seen["once"].requests) == len(PROMPTS)


def test_a_reply_says_how_it_came_about() -> None:
    (reply,) = call([make_prompt("cut bees")], "about").elements
    assert isinstance(reply, Reply)
    assert (reply.finish_reason, reply.model, reply.usage.requests) == ("length", "echo-1", 1)
    assert (reply.prompt_tokens, reply.output_tokens) == (len(reply.prompt.text), 3)
    assert reply.request_id == request_for(reply.prompt, fingerprint_of(Echo("about"))).request_id


def test_rejects_pass_through_unasked() -> None:
    rejects = [make_reject("Other", n) for n in range(5)]
    ran = call([*rejects, PROMPTS[0]], "pass")
    assert sorted(map(repr, ran.of(Reject))) == sorted(map(repr, rejects))
    assert len(_seen["pass"].requests) == 1
    assert call([*rejects], "unasked").counters == {}
    assert not _seen["unasked"].requests


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
    assert "KeyError" in rejects[bad[1].prompt_id].detail


def test_the_detail_is_one_line() -> None:
    (reject,) = call([*PROMPTS[:3], make_prompt("confuse bees")], "line").of(Reject)
    assert "KeyError" in reject.detail
    assert "\n" not in reject.detail


def test_counters() -> None:
    ran = call([*PROMPTS[:7], make_prompt("refuse bees"), make_reject("Other")], "count")
    assert {
        name: ran.counters[f"LLMCall/{name}"] for name in ("in", "kept", "rejected.request_failed", "tokens.output")
    } == {"in": 8, "kept": 7, "rejected.request_failed": 1, "tokens.output": 21}
    assert ran.counters["LLMCall/tokens.prompt"] == sum(len(prompt.text) for prompt in PROMPTS[:7])


def test_the_stage_names_rejects_and_counters() -> None:
    step = LLMCall(Echo("stage"), stage="Elsewhere")
    ran = run_step(step, [make_prompt("refuse bees"), make_prompt("Sort bees")], Prompt)
    assert [reject.stage for reject in ran.of(Reject)] == ["Elsewhere"]
    assert ran.counters["Elsewhere/tokens.prompt"] == len(make_prompt("Sort bees").text)
    assert "Elsewhere/in" not in ran.counters  # the step around it counts what went in and came out
    assert not any(name.startswith("LLMCall/") for name in ran.counters)


def test_the_window_is_filled_and_never_exceeded() -> None:
    ran = call([*PROMPTS], "window", limit=8, wait=0.003)
    assert len(ran.of(Reply)) == len(PROMPTS)
    assert _seen["window"].most == 8


def test_all_threads_of_a_process_share_the_window() -> None:
    ran = call([*PROMPTS, make_prompt("refuse bees"), make_reject("Other")], "threads", *THREADS, limit=5, wait=0.003)
    assert len(ran.of(Reply)) == len(PROMPTS)
    assert len(ran.of(Reject)) == 2
    assert ran.counters["LLMCall/in"] == len(PROMPTS) + 1
    assert ran.counters["LLMCall/kept"] == len(PROMPTS)
    assert 2 <= _seen["threads"].most <= 5
    assert set(_seen["threads"].requests.values()) == {1}


def test_order_changes_no_reply() -> None:
    first = call([*PROMPTS, make_prompt("refuse bees")], "order").elements
    again = call(shuffled([make_prompt("refuse bees"), *PROMPTS]), "order", limit=3).elements

    def without_usage(element: Reply | Reject) -> str:
        return repr(dataclasses.replace(element, usage=Usage()))  # latencies differ

    assert sorted(map(without_usage, first)) == sorted(map(without_usage, again))


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_all_of_it_is_counted() -> None:
    step = LLMCall(Echo("again"), is_readable=says_bees, parse_attempts=3)
    ran = run_step(step, [make_prompt("Sort bees"), make_prompt("Sort ants")], Prompt)
    usage = {reply.prompt.text: reply.usage for reply in ran.of(Reply)}
    assert (usage["Do: Sort bees #0"].requests, usage["Do: Sort bees #0"].asked_again) == (1, 0)
    ants = usage["Do: Sort ants #0"]
    assert (ants.requests, ants.asked_again, ants.output_tokens, len(ants.latencies_ms)) == (3, 2, 9, 3)
    assert set(_seen["again"].requests.values()) == {1}, "each attempt has an identity of its own"


def says_bees(prompt: Prompt, answer: Answer) -> bool:
    return "bees" in answer.text


def test_no_prompts_no_requests() -> None:
    assert call([], "none") == Ran([], {})
    assert not _seen["none"].requests


def test_the_identity_of_a_request_holds_all_that_changes_the_answer() -> None:
    backend = fingerprint_of(Echo("id"))
    prompt = PROMPTS[0]
    requests = [
        request_for(prompt, backend),
        request_for(prompt, backend, attempt=1),
        request_for(PROMPTS[1], backend),
        request_for(dataclasses.replace(prompt, text="Other words"), backend),
        request_for(prompt, fingerprint_of(Echo("id", temperature=0.5))),
    ]
    assert len({request.request_id for request in requests}) == 5
    assert len({request.seed for request in requests}) == 5
    assert all(0 <= request.seed < 2**31 for request in requests)
    assert request_for(prompt, fingerprint_of(Echo("another name", wait=9.0))) == requests[0]


def test_what_a_request_shows_the_back_end() -> None:
    request = request_for(make_prompt("Sort bees"), fingerprint_of(Echo("shows")))
    assert (request.kind, request.text) == ("example", "Do: Sort bees #0")
    assert request.variables == {
        "task": "Sort bees",
        "language": "English",
        "difficulty": "college",
        "clarity": "clear",
        "num_words": "at least 10",
    }
    assert make_draft("Sort bees").task == request.variables["task"]
    listed = request_for(make_brainstorm_prompt(), fingerprint_of(Echo("shows")))
    assert (listed.kind, dict(listed.variables)) == ("task_list", {"topic": "bees"})
