"""What every back end that asks an endpoint does on each of its routes: the real clients over real sockets, against the
endpoint for tests."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import socket
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from textmint.transforms.llm.base import (
    Answer,
    Backend,
    FatalError,
    Refused,
    Request,
    RequestError,
    Session,
    Throttled,
    Transient,
)

from tests.support.backends import KEY, ask, backend_of, credentials_of, opened, request
from tests.support.helpers import Script
from tests.support.llm_server import LlmServer

ROUTES = ("openai", "gemini", "vertex", "chat", "prompt")
ONE_OF_EACH = ("openai", "gemini", "chat")
each_route = pytest.mark.parametrize("route", ROUTES)
each_back_end = pytest.mark.parametrize("route", ONE_OF_EACH)


@pytest.fixture(autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    with credentials_of() as patch:
        yield patch


def play(server: LlmServer, route: str, **options: Any) -> None:
    server.reset(chat_route="404" if route == "prompt" else "serve", **options)


def one(server: LlmServer, route: str, asked: Request | None = None, **settings: Any) -> Any:
    """The answer or the error of one request."""
    return ask(backend_of(route, server.base_url, **settings), *([asked] if asked else []))[0]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "textmint"]


# ----------------------------------------------------------------------------------------------------- a description


@each_back_end
def test_a_back_end_travels_and_shows_no_key(route: str, server: LlmServer) -> None:
    backend = backend_of(route, server.base_url)
    assert isinstance(backend, Backend)
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert len({backend, backend_of(route, server.base_url)}) == 1
    assert KEY.encode() not in pickle.dumps(backend) and KEY not in repr(backend)

    async def run() -> str:
        async with opened(backend) as session:
            assert isinstance(session, Session)
            return repr(session) + str(session)

    assert KEY not in asyncio.run(run())


@each_back_end
def test_the_fingerprint_holds_what_changes_the_answer_and_not_the_place(route: str) -> None:
    changes: list[dict[str, Any]] = [
        *({"model": "n"}, {"temperature": 0.5}, {"top_p": 0.5}, {"max_output_tokens": 5}, {"structured_output": False})
    ]
    changes += {
        "openai": [{"send_seed": False}],
        "gemini": [{"thinking_budget": 0}, {"safety_threshold": "OFF"}],
        "chat": [{"endpoint": "projects/p/locations/us-central1/endpoints/78"}],
    }[route]
    prints = [json.dumps(backend_of(route, "http://h", **change).fingerprint()) for change in changes]
    plain = backend_of(route, "http://h").fingerprint()
    assert len({json.dumps(plain), *prints}) == len(changes) + 1
    same: dict[str, Any] = {"gemini": {"project": "p", "location": "eu", "service_tier": "flex", "temperature": 1}}
    assert backend_of(route, "http://gateway", **same.get(route, {})).fingerprint() == plain


# --------------------------------------------------------------------------------------------------------- an answer


@each_route
def test_a_good_answer(route: str, server: LlmServer) -> None:
    play(server, route, served_model="m-2026-01-01", require_key=KEY)
    answer = one(server, route)
    assert set(json.loads(answer.text)) == {"input_text", "label", "misleading_label"}
    assert (answer.finish_reason, answer.model) == ("stop", "m-2026-01-01")
    assert answer.prompt_tokens == -(-len(request().text) // 4)
    assert answer.output_tokens == -(-len(answer.text) // 4)
    assert server.stats()["key_in_url"] is False


@each_route
def test_a_list_of_tasks(route: str, server: LlmServer) -> None:
    play(server, route)
    answer = one(server, route, request(kind="task_list", text="Brainstorm a python list of tasks"))
    found = json.loads(answer.text)
    assert len(found["tasks"] if route in ("openai", "chat") else found) == 20


TEXTS = ('"quoted" \\ back\nline\ttab\x00', "ภาษาไทย 🙂 café", "%d %s {}", "half \ud83d of a pair")


@each_route
@pytest.mark.parametrize("text", TEXTS)
def test_the_prompt_arrives_exactly(route: str, text: str, server: LlmServer) -> None:
    if "\ud83d" in text and route in ("gemini", "vertex"):
        pytest.skip("the vendor's package refuses it; the engine sends none")
    play(server, route)
    asked = request(text=text)
    assert one(server, route, asked).text
    assert asked.text in list(_texts_in(server.recent()[-1]["body"]))


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts_in(each)


@each_route
@pytest.mark.parametrize("form", ["safety", "recitation", "prompt"])
def test_what_is_blocked_is_an_answer(route: str, form: str, server: LlmServer) -> None:
    play(server, route, rate_blocked=1, blocked_as=form)
    answer = one(server, route)
    is_prompt = form == "prompt" or route == "prompt"
    assert answer.finish_reason == ("content_filter" if is_prompt else "reply_filter")
    assert answer.prompt_tokens > 0
    assert server.stats()["requests"] == (2 if route == "prompt" else 1)
    if route in ("openai", "chat"):  # what came is kept
        said = {"safety": "", "recitation": "I'm sorry, I can't assist", "prompt": "The response was filtered due to"}
        assert answer.text.startswith(said[form]) and bool(answer.text) is (form != "safety")
    elif route != "prompt":
        assert (answer.text, answer.output_tokens) == ("", 0)


@each_route
def test_what_is_truncated_is_an_answer(route: str, server: LlmServer) -> None:
    play(server, route, rate_truncated=1)
    answers: list[Any] = ask(backend_of(route, server.base_url), *map(request, range(12)))
    if route != "prompt":  # which does not say so
        assert {answer.finish_reason for answer in answers} == {"length"}
    with_text = {bool(answer.text) for answer in answers}
    assert with_text == ({True, False} if route in ("gemini", "vertex") else {True})
    for answer in answers:
        assert answer.output_tokens == (-(-len(answer.text) // 4) if answer.text else 1024)


# ---------------------------------------------------------------------------------------------------------- an error

STATUSES: dict[int, type[RequestError]] = {
    **dict.fromkeys((400, 413, 422), Refused),
    **dict.fromkeys((401, 402, 403, 404, 405), FatalError),
    **dict.fromkeys((408, 409, 499, 500, 501, 502, 504), Transient),
    **dict.fromkeys((429, 503, 529), Throttled),
}
ERRORS: list[tuple[dict[str, Any], type[RequestError], str]] = [
    *(({"status_always": status}, kind, str(status)) for status, kind in STATUSES.items()),
    ({"status_always": 503}, Throttled, "overloaded"),
    ({"model_known": "other"}, FatalError, "404"),
    ({"quota_zero": True}, FatalError, "429"),
    ({"require_key": "other", "echo_key": True}, FatalError, "[key]"),
    ({"rate_html": 1}, Transient, "HTML, not JSON"),
    ({"rate_malformed": 1}, Transient, "JSON that is broken"),
    ({"rate_half": 1}, Transient, "broke off"),
    ({"rate_reset": 1}, Transient, ""),
]


@each_route
@pytest.mark.parametrize(("options", "kind", "word"), ERRORS)
def test_errors(route: str, options: dict[str, Any], kind: type[RequestError], word: str, server: LlmServer) -> None:
    """One call is one request, whatever goes wrong: the engine is what tries again."""
    if route == "prompt" and "model_known" in options:
        pytest.skip("predict names no model")
    is_settled = "require_key" not in options and options.get("status_always") != 401
    play(server, route)

    async def run() -> Any:
        async with opened(backend_of(route, server.base_url)) as session:
            if is_settled:  # a new session may try another route first; a token that served is renewed, see below
                await session.generate(request())
            play(server, route, **options)
            return await session.generate(request())

    with pytest.raises(RequestError) as caught:
        asyncio.run(run())
    error = caught.value
    assert type(error) is kind and word in error.detail, error
    assert server.stats()["requests"] == 1 or not is_settled
    assert "\n" not in error.detail and len(error.detail) < 500
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error)
    assert error.__cause__ is None and error.__context__ is None  # what the client raised, and may quote a key
    if isinstance(error, FatalError):
        assert error.remedy and "\n" not in error.remedy and KEY not in error.remedy
    if isinstance(error, Transient):
        assert error.dooms_probe is ("rate_html" in options or options.get("status_always") == 501)


@pytest.mark.parametrize("dialect", ["openai", "vllm", "vllm_old", "plain"])
def test_statuses_in_each_dialect(dialect: str, server: LlmServer) -> None:
    for status, kind in STATUSES.items():
        server.reset(status_always=status, dialect=dialect)
        error = one(server, "openai")
        assert type(error) is kind and str(status) in error.detail and "\n" not in error.detail
        assert server.stats()["requests"] == 1
        if isinstance(error, FatalError):
            assert "OPENAI_API_KEY" in error.remedy or "--base_url" in error.remedy


@each_route
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_how_long_to_wait(route: str, form: str, server: LlmServer) -> None:
    play(server, route, rate_429=1, retry_after=7.5, retry_after_form=form)
    error = one(server, route)
    assert isinstance(error, Throttled) and error.retry_after is not None
    assert error.retry_after == 7.5 if form == "seconds" else 5 < error.retry_after <= 7.5
    play(server, route, rate_429=1)
    error = one(server, route)
    assert isinstance(error, Throttled) and error.retry_after is None


@each_back_end
@pytest.mark.parametrize("fault", ["reset", "half", "malformed", "html", "500", "503", "429"])
def test_nothing_is_tried_again_and_the_session_stays_usable(route: str, fault: str, server: LlmServer) -> None:
    play(server, route)

    async def run() -> None:
        async with opened(backend_of(route, server.base_url)) as session:
            play(server, route, **{f"rate_{fault}": 1})
            # one after the other, so that each but the first finds a connection that was used before
            for number in range(12):
                with pytest.raises((Transient, Throttled)):
                    await session.generate(request(number))
            assert server.stats()["requests"] == 12
            play(server, route)
            assert (await session.generate(request())).text

    asyncio.run(run())


@each_back_end
def test_faults_of_all_kinds_never_escape_raw(route: str, server: LlmServer) -> None:
    kinds = ("429", "500", "503", "reset", "half", "html", "malformed", "blocked", "truncated", "bad_reply")
    play(server, route, **{f"rate_{kind}": 0.09 for kind in kinds})
    found = ask(backend_of(route, server.base_url), *map(request, range(300)), at_once=True)
    assert {type(each) for each in found} == {Answer, Throttled, Transient}
    assert server.stats()["requests"] == 300


@each_back_end
@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_is_named_and_not_followed(route: str, status: int) -> None:
    headers = {"Location": "https://other.example/v1/x?token=abc"}
    with Script(lambda *_: (status, headers, b"")) as script:
        error = ask(backend_of(route, script.url))[0]
        assert len(script.seen) == 1
    assert isinstance(error, Transient) and error.dooms_probe
    assert f"redirects to https://other.example ({status})" in error.detail and "abc" not in error.detail


@each_back_end
def test_cookies_are_not_kept(route: str, server: LlmServer) -> None:
    with Script(lambda *_: (500, {"Set-Cookie": "a=b"}, b"{}")) as script:
        ask(backend_of(route, script.url.replace("127.0.0.1", "localhost")), request(0), request(1))
        assert ["Cookie" in headers for _, _, headers, _ in script.seen] == [False, False]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@each_back_end
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nobody_there(route: str, scheme: str) -> None:
    for place in (f"127.0.0.1:{free_port()}", "nobody.invalid"):
        error = ask(backend_of(route, f"{scheme}://{place}"))[0]
        assert isinstance(error, Transient) and error.dooms_probe
        assert error.detail.startswith(f"cannot connect to {scheme}://{place.split(':')[0]}")
        assert error.__context__ is None


def failure_at(route: str, scheme: str, end: bytes, said: bytes) -> tuple[Any, list[bytes]]:
    """The error of a request to a server that reads up to some bytes, says something and hangs up; and what it read."""
    read: list[bytes] = []

    async def run() -> Any:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            read.append(await (reader.readuntil(end) if end else reader.read(1)))
            writer.write(said)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
            url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            async with opened(backend_of(route, url)) as session:
                with pytest.raises(Transient) as caught:
                    await session.generate(request())
        return caught.value

    return asyncio.run(run()), read


@each_back_end
def test_https_where_none_is_spoken(route: str) -> None:
    error, read = failure_at(route, "https", b"", b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
    assert error.dooms_probe and len(read) == 1
    assert error.detail.startswith("no secure connection to https://127.0.0.1:")
    assert "http://" in error.remedy


@each_back_end
def test_another_protocol(route: str) -> None:
    error, _ = failure_at(route, "http", b"\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    assert error.dooms_probe and "does not speak HTTP" in error.detail
    assert error.__context__ is None and KEY not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("route", ["openai", "chat"])  # the SDK of Gemini sets its own limits
def test_a_host_that_drops_packets_is_named(route: str, environment: pytest.MonkeyPatch) -> None:
    environment.setattr("textmint.transforms.llm.http._CONNECT_SECONDS", 0.05)
    with socket.socket() as deaf:
        # a full queue of connections that nobody takes
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for other in waiting:
            other.setblocking(False)
            other.connect_ex(address)
        time.sleep(0.05)
        error = ask(backend_of(route, f"http://127.0.0.1:{address[1]}"))[0]
        for other in waiting:
            other.close()
    assert isinstance(error, Transient) and error.dooms_probe
    assert "no connection to" in error.detail


@each_back_end
def test_what_nobody_foresaw_is_transient_and_shows_no_key(
    route: str, server: LlmServer, environment: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError(f"oh {KEY}")

    module, name = {
        "openai": ("openai", "read_chat"),
        "gemini": ("gemini", "read_reply"),
        "chat": ("vertex_endpoint", "read_chat"),
    }[route]
    environment.setattr(f"textmint.transforms.llm.{module}.{name}", fail)
    play(server, route)
    error = one(server, route)
    assert type(error) is Transient and error.detail.startswith("KeyError: ") and KEY not in error.detail


# ------------------------------------------------------------------------------------------------- structured output


@pytest.mark.parametrize(
    ("route", "dialect"), [*((r, d) for r in ("openai", "chat") for d in ("openai", "vllm", "vllm_old", "plain")),
                           ("gemini", "openai"), ("vertex", "openai")]
)  # fmt: skip
def test_structured_output_falls_back_once(
    route: str, dialect: str, server: LlmServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.reset(refuse_structured=True, dialect=dialect)
    backend = backend_of(route, server.base_url)
    before = dict(backend.fingerprint())

    async def run() -> list[Answer]:
        async with opened(backend) as session:
            found = []
            for first in (0, 20):
                asked = (session.generate(request(number)) for number in range(first, first + 20))
                found += await asyncio.gather(*asked)
            return found

    with caplog.at_level(logging.WARNING):
        answers = asyncio.run(run())
    assert len({answer.text for answer in answers}) == 40
    assert all(json.loads(answer.text)["label"] for answer in answers)
    stats = server.stats()
    assert (stats["by_status"], stats["structured"]) == ({"200": 40, "400": 20}, 20)  # in flight when it showed
    (warning,) = warnings_of(caplog)
    assert "refuses structured output: going on without it, as with `structured_output: never` in --config" in warning
    assert KEY not in warning
    assert backend.fingerprint() == before


@each_back_end
@pytest.mark.parametrize(
    ("message", "requests"),
    [
        ("Thinking level is not supported", 2),  # might be structured output, and is not
        ("The input token count exceeds the maximum", 1),
    ],
)
def test_another_refusal_changes_nothing(
    route: str, message: str, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}).encode()
    with Script(lambda *_: (400, {}, body)) as script:
        error = ask(backend_of(route, script.url))[0]
        assert len(script.seen) == requests
    assert type(error) is Refused and not warnings_of(caplog)


# --------------------------------------------------------------------------------------------- many, and connections


@each_back_end
def test_as_many_at_once_as_are_asked_for_and_connections_kept_alive(route: str, server: LlmServer) -> None:
    play(server, route, latency_median_ms=300)

    async def run() -> None:
        async with opened(backend_of(route, server.base_url)) as session:
            for turn in range(2):
                await asyncio.gather(*(session.generate(request(turn * 300 + number)) for number in range(300)))

    asyncio.run(run())
    stats = server.stats()
    assert stats["max_in_flight"] == 300 and stats["good_prompts"] == 600
    assert stats["connections_opened"] <= 303  # those of this test's own look at the server count too


def test_a_thousand_in_flight(server: LlmServer) -> None:
    server.reset(latency_median_ms=1500)
    answers = ask(backend_of("chat", server.base_url), *map(request, range(1024)), at_once=True)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert server.stats()["max_in_flight"] == 1024


@each_back_end
def test_cancelling_leaves_the_session_usable_and_leaks_nothing(route: str, server: LlmServer) -> None:
    play(server, route, rate_hang=1)

    async def run() -> None:
        async with opened(backend_of(route, server.base_url)) as session:
            calls = [asyncio.create_task(session.generate(request(number))) for number in range(50)]
            while server.stats()["in_flight"] < 50:
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            for _ in range(200):
                if server.stats()["connections"] == 1:  # the one that asks
                    break
                await asyncio.sleep(0.01)
            stats = server.stats()
            assert (stats["connections"], stats["in_flight"], stats["gave_up"]) == (1, 0, 50)
            play(server, route)
            assert (await session.generate(request())).text
            play(server, route, rate_hang=1)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(session.generate(request()), 0.05)
            play(server, route)
            assert (await session.generate(request())).text

    asyncio.run(run())


@each_route
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_closing_lets_go_of_connections_and_a_closed_session_is_transient(route: str, server: LlmServer) -> None:
    play(server, route)

    async def run() -> None:
        async with opened(backend_of(route, server.base_url)) as session:
            await asyncio.gather(*(session.generate(request(number)) for number in range(5)))
            await session.generate(request(kind="task_list"))
        await session.aclose()
        if route not in ("gemini", "vertex"):  # whose SDK opens another
            with pytest.raises(Transient, match=r"^RuntimeError: "):
                await session.generate(request())

    asyncio.run(run())
    deadline = time.monotonic() + 5
    while server.stats()["connections"] > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.stats()["connections"] == 1
