"""The OpenAI chat protocol, by its real client over real sockets: what is sent, what is read, and what each failure
means. Forms that the endpoint for tests does not play come from one that answers with given bytes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import logging
import pickle
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import Kind
from textmint.transforms.llm import openai as ours
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
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema

from tests.support.llm_server import LlmServer

KEY = "sk-secret-abcdefghijklmnop-1234"
EXAMPLE = 'Write one example as a JSON object with the keys "input_text", "label", "misleading_label". Round '


def request(number: int = 0, kind: Any = "example", text: str = "") -> Request:
    text = text or (EXAMPLE + str(number) if kind == "example" else f"Output a python list of tasks. Round {number}")
    return Request(request_id=f"r{number}", kind=kind, text=text, seed=number, variables={})


@pytest.fixture(scope="module")
def running() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def server(running: LlmServer) -> LlmServer:
    running.reset()
    return running


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def opened(base: str, **settings: Any) -> AsyncIterator[Session]:
    session = await OpenAIBackend(**{"model": "m", "base_url": base, **settings}).open()
    try:
        yield session
    finally:
        await session.aclose()


def ask(base: str, what: Request | None = None, **settings: Any) -> Answer:
    async def run() -> Answer:
        async with opened(base, **settings) as session:
            return await session.generate(what or request())

    return asyncio.run(run())


def fail(base: str, what: Request | None = None, **settings: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(base, what, **settings)
    return caught.value


def v1(server: LlmServer) -> str:
    return server.base_url + "/v1"


class Canned:
    """An endpoint that answers with given bytes: a reply for each request, or a function of its body."""

    def __init__(self, reply: bytes | list[bytes] | Callable[[Any], bytes]) -> None:
        self.reply = reply
        self.heads: list[str] = []
        self.bodies: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
                raw = await reader.readexactly(int(lengths[0]) if lengths else 0)
                self.heads.append(head)
                self.bodies.append(json.loads(raw) if raw else None)
                if callable(self.reply):
                    out = self.reply(self.bodies[-1])
                else:
                    out = self.reply if isinstance(self.reply, bytes) else self.reply[len(self.bodies) - 1]
                writer.write(out)
                await writer.drain()
                if b"Content-Length" not in out:
                    break
        writer.close()

    def run(self, work: Callable[[str], Any]) -> Any:
        async def inside() -> Any:
            listening = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            try:
                return await work(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1")
            finally:
                listening.close()

        return asyncio.run(inside())

    def ask(self, what: Request | None = None, **settings: Any) -> Answer:
        async def work(base: str) -> Answer:
            async with opened(base, **settings) as session:
                return await session.generate(what or request())

        answer = self.run(work)
        assert isinstance(answer, Answer)
        return answer

    def fail(self, what: Request | None = None, **settings: Any) -> RequestError:
        with pytest.raises(RequestError) as caught:
            self.ask(what, **settings)
        return caught.value


def http(status: int, body: object, **headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Any\r\n{lines}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def chat(content: object = "hi", finish: object = "stop", usage: object = None, **more: object) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"model": "served-1", "choices": [choice], "usage": usage, **more}


def error(message: str, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


# --------------------------------------------------------------------------------------------------------- what is sent


def test_a_good_answer(server: LlmServer) -> None:
    server.reset(served_model="m-2026-01-01")
    answer = ask(v1(server))
    assert set(json.loads(answer.text)) == {"input_text", "label", "misleading_label"}
    assert (answer.finish_reason, answer.model) == ("stop", "m-2026-01-01")
    assert answer.prompt_tokens == (len(request().text) + 3) // 4
    assert answer.output_tokens == (len(answer.text) + 3) // 4


def test_what_is_sent_by_default(server: LlmServer) -> None:
    ask(v1(server), request(7))
    sent = server.recent()[0]
    assert sent["line"] == "POST /v1/chat/completions HTTP/1.1"
    assert sent["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": request(7).text}],
        "temperature": 1.0,  # at its default too: llama.cpp would take 0.8, vLLM the model's own
        "top_p": 1.0,
        "seed": 7,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "classification_example", "strict": True, "schema": json_schema("example")},
        },
    }
    assert "authorization" not in sent["headers"]
    assert sent["headers"]["content-type"] == "application/json"


def test_what_is_sent_when_set(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    server.reset(require_key=KEY)
    settings: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 800}
    ask(v1(server) + "/", structured_output=False, send_seed=False, **settings)
    sent = server.recent()[0]
    sampling = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 800}
    assert sent["body"] == {"model": "m", "messages": [{"role": "user", "content": request().text}], **sampling}
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert not server.stats()["key_in_url"]


@pytest.mark.parametrize("text", ['"quoted" \\ back\nline\ttab\x00', "ภาษาไทย 🙂 café", "\ud800 alone", "%d %s {}"])
def test_the_prompt_arrives_exactly(text: str) -> None:
    endpoint = Canned(http(200, chat()))
    endpoint.ask(request(text=text))
    assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": text}]


def test_a_list_is_asked_for_as_an_object(server: LlmServer) -> None:
    answer = ask(v1(server), request(kind="task_list"))
    assert len(json.loads(answer.text)["tasks"]) == 20
    schema = server.recent()[0]["body"]["response_format"]["json_schema"]
    assert (schema["name"], schema["schema"]) == ("task_list", json_schema("task_list"))


def test_the_newer_name_of_the_limit_is_for_openai_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    sent: list[bytes] = []

    async def post(_: object, url: object, body: bytes) -> tuple[int, dict[str, str], bytes]:
        sent.append(body)
        return 200, {}, json.dumps(chat()).encode()

    monkeypatch.setattr(ours.OpenAISession, "_post", post)
    for base in ("https://api.openai.com/v1", "http://localhost:8000/v1"):
        ask(base, max_output_tokens=9)
    assert ["max_completion_tokens" in json.loads(body) for body in sent] == [True, False]


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h:8000/v1", "http://h:8000/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1/chat/completions"),
        ("https://h/openai?api-version=2", "https://h/openai/chat/completions?api-version=2"),
    ],
)
def test_base_urls(base: str, url: str) -> None:
    # by its parts: yarl leaves a default port out
    assert str(ours._chat_url(base)) == url.replace("]:80/", "]/")


@pytest.mark.parametrize(
    "base", ["localhost:8000/v1", "h", "ftp://h", "http://", "http://h:0", "http://h:x", "http:// h"]
)
def test_what_is_no_base_url(base: str) -> None:
    with pytest.raises(ValueError, match=r"^base_url is a URL such as "):
        OpenAIBackend(model="m", base_url=base)


@pytest.mark.parametrize(
    "base", [f"http://u:{KEY}@h/v1", f"http://h/v1?key={KEY}", f"//u:{KEY}@h", f"h?api_key={KEY}", f"http://{KEY}@h:x"]
)
def test_a_base_url_holds_no_secret_and_no_error_quotes_it(base: str) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        OpenAIBackend(model="m", base_url=base)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "bad",
    [
        {"model": " "},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"max_output_tokens": 0},
    ],
)
def test_numbers_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        OpenAIBackend(**{"model": "m", **bad})


def test_it_is_a_backend() -> None:
    backend = OpenAIBackend(model="m")
    assert isinstance(backend, Backend)
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert hash(backend) == hash(OpenAIBackend(model="m"))


def test_the_fingerprint_holds_what_changes_the_answer_and_not_the_place() -> None:
    base = OpenAIBackend(model="m")
    changes: list[dict[str, Any]] = [
        {"model": "n"},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"max_output_tokens": 5},
        {"structured_output": False},
        {"send_seed": False},
    ]
    prints = [json.dumps(dataclasses.replace(base, **change).fingerprint()) for change in changes]
    assert len({json.dumps(base.fingerprint()), *prints}) == 7
    assert dataclasses.replace(base, base_url="http://h/v1").fingerprint() == base.fingerprint()


def test_the_vendors_package_is_not_shadowed() -> None:
    openai = pytest.importorskip("openai")

    assert openai is not ours
    assert hasattr(openai, "AsyncOpenAI")


def test_structures() -> None:
    assert list(json_schema("example")["properties"]) == ["input_text", "label", "misleading_label"]
    assert list(json_schema("planned_example")["properties"]) == ["input_text"]
    assert list(json_schema("choice")["properties"]) == ["label"]
    assert json_schema("label_set")["properties"] == {"labels": {"type": "array", "items": {"type": "string"}}}
    assert set(STRUCTURE_NAMES) == set(get_args(Kind))
    for kind, name in STRUCTURE_NAMES.items():
        schema = json_schema(kind)
        assert schema["required"] == list(schema["properties"]) and schema["additionalProperties"] is False
        assert name.isidentifier() and len(name) <= 64
        assert json_schema(kind) is not schema


# ------------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("form", ["safety", "recitation", "prompt"])
def test_blocked(server: LlmServer, form: str) -> None:
    server.reset(rate_blocked=1, blocked_as=form)
    answer = ask(v1(server))
    assert answer.finish_reason == ("content_filter" if form == "prompt" else "reply_filter")
    said = {"safety": "", "recitation": "I'm sorry, I can't assist", "prompt": "The response was filtered due to the"}
    assert answer.text.startswith(said[form]) and bool(answer.text) is (form != "safety")
    assert answer.prompt_tokens > 0
    assert server.stats()["requests"] == 1


def test_truncated(server: LlmServer) -> None:
    server.reset(rate_truncated=1)
    answer = ask(v1(server))
    assert answer.finish_reason == "length"
    assert answer.text


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        (None, "stop"),
        (7, "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("content_filter", "reply_filter"),
        ("SAFETY", "reply_filter"),
        ("RECITATION", "reply_filter"),
    ],
)
def test_finish_reasons(said: object, means: str) -> None:
    assert Canned(http(200, chat(finish=said))).ask().finish_reason == means


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ""),
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "b"}], "b"),
        ([{"type": "reasoning", "text": "hm"}, "b", 7, {"type": "text", "text": None}], "b"),
        (7, "7"),
    ],
)
def test_contents(content: object, text: str) -> None:
    assert Canned(http(200, chat(content, "length"))).ask().text == text


@pytest.mark.parametrize(
    ("usage", "prompt", "output"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}, 5, 3),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 108}, 5, 103),  # reasoning, in the total only
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 0}, 5, 3),
        ({"prompt_tokens": 5, "total_tokens": 9}, 5, 4),
        ({"prompt_tokens": 5, "total_tokens": 0}, 5, 2),
        ({"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}, 5, 0),
        (None, 3, 2),
        ([], 3, 2),
        ({"prompt_tokens": -5, "completion_tokens": 1.5}, 3, 2),
        ({"prompt_tokens": True, "completion_tokens": "7"}, 3, 2),
    ],
)
def test_tokens_are_counted_or_estimated(usage: object, prompt: int, output: int) -> None:
    answer = Canned(http(200, chat("12345", usage=usage))).ask(request(text="123456789"))
    assert (answer.prompt_tokens, answer.output_tokens) == (prompt, output)


@pytest.mark.parametrize(("model", "name"), [("x-1", "x-1"), (None, "m"), ("", "m"), (7, "m"), ("a\ud800", "m")])
def test_the_model_as_served(model: object, name: str) -> None:
    assert Canned(http(200, chat(model=model))).ask().model == name


def test_cookies_are_not_kept() -> None:
    endpoint = Canned(http(200, chat(), Set_Cookie="a=b"))

    async def work(base: str) -> None:
        async with opened(base.replace("127.0.0.1", "localhost")) as session:
            await session.generate(request(0))
            await session.generate(request(1))

    endpoint.run(work)
    assert len(endpoint.heads) == 2
    assert "cookie" not in endpoint.heads[1].lower()


FOREIGN = "it is no chat endpoint"


@pytest.mark.parametrize(
    ("body", "detail", "dooms"),
    [
        (b"<!DOCTYPE html><html></html>", "answered HTML, not JSON", True),
        (b"Ollama is running", "something else than JSON", True),
        (b"", "answered nothing", True),
        (b'data: {"choices": []}\n\n', "a stream of events", True),
        (b"[]", FOREIGN, True),
        (b"7", FOREIGN, True),
        (b"{}", "another form", True),
        (b'{"choices": {}}', "another form", True),
        (b'{"choices": [7]}', "another form", True),
        (b'{"choices": [{"index": 0}]}', "another form", True),
        (b'{"choices": []}', "without a choice", False),
        (b'{"choices": [{"message"', "broken", False),
        (b'{"choices": "\xff"}', "broken", False),
        (b"[" * 100_000, "broken", False),
        (b'{"a": ' + b"9" * 5000 + b"}", FOREIGN, True),
    ],
)
def test_what_is_no_answer(body: bytes, detail: str, dooms: bool) -> None:
    found = Canned(http(200, body)).fail()
    if body.startswith(b'{"a"'):  # some versions of Python refuse to read such a number, others do not
        assert isinstance(found, Transient)
        return
    assert isinstance(found, Transient)
    assert detail in found.detail
    assert found.dooms_probe is dooms


_NAMES = st.sampled_from(
    ["error", "message", "choices", "code", "type", "param", "status", "details", "detail", "innererror", "metadata",
     "@type", "retryDelay", "loc", "msg", "content", "refusal", "finish_reason", "usage", "prompt_tokens",
     "total_tokens", "model", "text"]
)  # fmt: skip
_ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "429", "RetryInfo", "stop", "x"])
)
_VALUES = st.recursive(
    _ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=20
)
_CHOICES = st.builds(lambda choice, rest: {**rest, "choices": [choice]}, _VALUES, st.dictionaries(_NAMES, _VALUES))


@settings(deadline=None)
@given(body=_VALUES | _CHOICES, status=st.sampled_from([200, 204, 302, 400, 401, 403, 404, 418, 422, 429, 500, 503]))
def test_no_body_whatever_breaks_the_reader(body: object, status: int) -> None:
    async def run() -> Answer:
        async with opened("http://localhost/v1") as session:
            assert isinstance(session, ours.OpenAISession)

            async def post(*_: object) -> tuple[int, dict[str, str], bytes]:
                return status, {}, json.dumps(body).encode()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ours.OpenAISession, "_post", post)
                return await session.generate(request())

    with contextlib.suppress(RequestError):
        assert isinstance(asyncio.run(run()).text, str)


# --------------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize("dialect", ["openai", "vllm", "vllm_old", "plain"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, FatalError),
        (403, FatalError),
        (404, FatalError),
        (405, FatalError),
        (408, Transient),
        (409, Transient),
        (413, Refused),
        (422, Refused),
        (429, Throttled),
        (500, Transient),
        (501, Transient),
        (502, Transient),
        (504, Transient),
        (529, Throttled),
    ],
)
def test_statuses(server: LlmServer, status: int, kind: type[RequestError], dialect: str) -> None:
    server.reset(status_always=status, dialect=dialect)
    found = fail(v1(server))
    assert type(found) is kind
    assert str(status) in found.detail and "\n" not in found.detail
    assert server.stats()["requests"] == 1, "it tried again by itself"
    if isinstance(found, Transient):
        assert found.dooms_probe is (status == 501)
    if isinstance(found, FatalError):
        assert "OPENAI_API_KEY" in found.remedy or "--base_url" in found.remedy
        assert "\n" not in found.remedy


def test_remedies(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def remedy(base: str) -> str:
        found = fail(base)
        assert isinstance(found, FatalError)
        return found.remedy

    for dialect in ("openai", "vllm"):
        server.reset(model_known="other", dialect=dialect)
        assert remedy(v1(server)) == f"set --model to a model of {server.base_url}; it has no 'm'"
        server.reset(dialect=dialect)
        assert remedy(server.base_url).startswith("check --base_url (most end in /v1)")
        server.reset(require_key=KEY, dialect=dialect)
        assert remedy(v1(server)) == "set OPENAI_API_KEY in the environment"
        server.reset(quota_zero=True)
        assert "quota" in remedy(v1(server))
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    server.reset(require_key=KEY)
    assert remedy(v1(server)).startswith("check OPENAI_API_KEY")
    server.reset(status_always=403)
    assert remedy(v1(server)).startswith("use an endpoint that serves the country")


def test_a_redirect_is_named_and_not_followed() -> None:
    endpoint = Canned(http(308, b"", Location="https://other.example/v1/x?token=abc"))
    found = endpoint.fail()
    assert isinstance(found, Transient) and found.dooms_probe
    assert "redirects to https://other.example (308)" in found.detail and "abc" not in found.detail
    assert len(endpoint.heads) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_over_the_wire(server: LlmServer, form: str) -> None:
    server.reset(rate_429=1, retry_after=7, retry_after_form=form)
    found = fail(v1(server))
    assert isinstance(found, Throttled) and found.retry_after is not None
    assert 5 < found.retry_after <= 7
    server.reset(rate_429=1)
    found = fail(v1(server))
    assert isinstance(found, Throttled) and found.retry_after is None


_SENT = "Mon, 23 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(("rate", "dooms"), [("reset", False), ("half", False), ("malformed", False), ("html", True)])
def test_broken_answers(server: LlmServer, rate: str, dooms: bool) -> None:
    server.reset(**{f"rate_{rate}": 1})

    async def run() -> list[Transient]:
        found = []
        async with opened(v1(server)) as session:
            for number in range(6):
                with pytest.raises(Transient) as caught:
                    await session.generate(request(number))
                found.append(caught.value)
            server.reset()
            assert (await session.generate(request())).text
        return found

    failures = asyncio.run(run())
    assert {failure.dooms_probe for failure in failures if isinstance(failure, Transient)} == {dooms}
    assert server.stats()["requests"] == 1


@pytest.mark.parametrize("rate", ["reset", "half", "500", "503", "429"])
def test_nothing_is_tried_again_here(server: LlmServer, rate: str) -> None:
    server.reset(**{f"rate_{rate}": 1})

    async def run() -> None:
        async with opened(v1(server)) as session:
            # one after the other, so that each but the first finds a connection that was used before
            for number in range(12):
                with pytest.raises((Transient, Throttled)):
                    await session.generate(request(number))

    asyncio.run(run())
    assert server.stats()["requests"] == 12


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    assert isinstance(port, int)
    return port


def test_nobody_there() -> None:
    found = fail(f"http://127.0.0.1:{free_port()}/v1")
    assert isinstance(found, Transient) and found.dooms_probe
    assert found.detail.startswith("cannot connect to http://127.0.0.1:") and "refused" in found.detail
    found = fail("http://nobody.invalid/v1")
    assert isinstance(found, Transient) and found.dooms_probe
    assert found.detail.startswith("cannot connect to http://nobody.invalid: ")


def test_https_where_none_is_spoken() -> None:
    async def work(base: str) -> Transient:
        async with opened(base.replace("http:", "https:")) as session:
            with pytest.raises(Transient) as caught:
                await session.generate(request())
            return caught.value

    async def inside() -> Transient:
        def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(http(400, b""))
            writer.close()

        listening = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
        try:
            return await work(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1")
        finally:
            listening.close()

    found = asyncio.run(inside())
    assert found.dooms_probe
    assert found.detail.startswith("no secure connection to https://127.0.0.1:")
    assert "http://" in found.remedy


def test_another_protocol() -> None:
    found = Canned(b"SSH-2.0-OpenSSH_9.6\r\n").fail()
    assert isinstance(found, Transient) and found.dooms_probe
    assert "does not speak HTTP" in found.detail


def test_a_host_that_drops_packets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmint.transforms.llm.http._CONNECT_SECONDS", 0.05)
    with socket.socket() as deaf:
        # a full queue of connections that nobody takes
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = []
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(address)
            waiting.append(other)
        time.sleep(0.05)
        found = fail(f"http://127.0.0.1:{address[1]}/v1")
        for other in waiting:
            other.close()
    assert isinstance(found, Transient) and found.dooms_probe
    assert "no connection to" in found.detail


def test_a_closed_session_and_unknown_exceptions_are_transient(server: LlmServer) -> None:
    async def run() -> Transient:
        async with opened(v1(server)) as session:
            pass
        with pytest.raises(Transient) as caught:
            await session.generate(request())
        return caught.value

    assert asyncio.run(run()).detail.startswith("RuntimeError: ")


# ---------------------------------------------------------------------------------------------- parts that are refused


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "textmint"]


@pytest.mark.parametrize("dialect", ["openai", "vllm", "vllm_old", "plain"])
def test_structured_output_falls_back_once(server: LlmServer, dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    server.reset(refuse_structured=True, dialect=dialect)
    backend = OpenAIBackend(model="m", base_url=v1(server))
    before = dict(backend.fingerprint())

    async def run() -> list[Answer]:
        session = await backend.open()
        first = [await session.generate(request())]
        rest = await asyncio.gather(*(session.generate(request(number)) for number in range(1, 20)))
        await session.aclose()
        return first + list(rest)

    assert all(json.loads(answer.text)["label"] for answer in asyncio.run(run()))
    stats = server.stats()
    assert (stats["requests"], stats["structured"]) == (21, 1)
    assert len(warnings_of(caplog)) == 1
    assert "refuses structured output: going on without it" in warnings_of(caplog)[0]
    assert backend.fingerprint() == before


def test_requests_in_flight_fall_back_without_another_warning(
    server: LlmServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.reset(refuse_structured=True, latency_median_ms=20)

    async def run() -> list[Answer]:
        async with opened(v1(server)) as session:
            return list(await asyncio.gather(*(session.generate(request(number)) for number in range(64))))

    assert len(asyncio.run(run())) == 64
    assert server.stats()["structured"] <= 64
    assert len(warnings_of(caplog)) == 1


def picky(refuses: str, message: str, status: int = 400, param: str | None = None) -> Callable[[Any], bytes]:
    def reply(body: Any) -> bytes:
        if refuses in body:
            return http(status, error(message, param=param))
        return http(200, chat())

    return reply


@pytest.mark.parametrize(
    ("refuses", "message", "status", "after"),
    [
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
            400,
            {"max_completion_tokens": 9},
        ),
        ("max_tokens", "body.max_tokens: Extra inputs are not permitted", 422, {"max_completion_tokens": 9}),
        ("seed", "Unsupported parameter: 'seed' is not supported with this model.", 400, {}),
        ("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', 400, {}),
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is "
            "supported.",
            400,
            {},
        ),
        ("top_p", "`temperature` and `top_p` cannot both be specified for this model.", 400, {"temperature": 0.5}),
        ("response_format", "This model does not support response format `json_schema`.", 400, {}),
        ("response_format", "Grammars are not supported", 422, {}),
        ("response_format", "That feature is not supported.", 400, {}),
        ("response_format", "Invalid schema for response_format 'x'", 400, {}),
    ],
)
def test_a_part_that_is_refused_is_left_out(
    refuses: str, message: str, status: int, after: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Canned(picky(refuses, message, status))

    async def work(base: str) -> None:
        async with opened(base, temperature=0.5, top_p=0.5, max_output_tokens=9) as session:
            for number in range(3):
                assert (await session.generate(request(number))).text == "hi"

    endpoint.run(work)
    assert [refuses in body for body in endpoint.bodies] == [True, False, False, False]
    first, second = endpoint.bodies[:2]
    assert set(first) - set(second) == {refuses}
    assert {name: second[name] for name in after} == after
    assert len(warnings_of(caplog)) == 1


def test_several_parts_are_left_out_one_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    def reply(body: Any) -> bytes:
        for part in ("temperature", "seed", "max_tokens", "response_format"):
            if part in body:
                return http(400, error(f"Unsupported parameter: '{part}'", param=part, code="unsupported_parameter"))
        return http(200, chat())

    endpoint = Canned(reply)
    endpoint.ask(temperature=0.5, max_output_tokens=9)
    assert len(endpoint.bodies) == 5
    assert len(warnings_of(caplog)) == 4


@pytest.mark.parametrize(
    ("message", "tries"),
    [
        ("max_tokens is too large: 9. This model supports at most 4 completion tokens.", 1),
        ("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3.", 1),
        ("This model's maximum context length is 4 tokens. However, you asked for 9. Please reduce max_tokens.", 1),
        ("Unsupported parameter: 'stop'", 2),  # might be structured output, and is not
        ("Unsupported parameters: max_tokens and max_completion_tokens", 2),
    ],
)
def test_other_refusals_are_passed_on_and_cost_the_session_nothing(
    message: str, tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Canned(http(400, error(message)))
    assert isinstance(endpoint.fail(temperature=0.5, max_output_tokens=9), Refused)
    assert len(endpoint.bodies) == tries
    assert not warnings_of(caplog)


def test_what_did_not_help_is_not_given_up(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Canned(
        lambda body: http(400, error("That is not supported.")) if body["seed"] == 0 else http(200, chat())
    )

    async def work(base: str) -> None:
        async with opened(base) as session:
            with pytest.raises(Refused):
                await session.generate(request(0))
            await session.generate(request(1))

    endpoint.run(work)
    assert ["response_format" in body for body in endpoint.bodies] == [True, False, True]
    assert not warnings_of(caplog)


# --------------------------------------------------------------------------------------------------------------- keys


def test_openai_itself_wants_a_key() -> None:
    for base in (None, "https://api.openai.com/v1", "https://eu.api.openai.com/v1"):
        with pytest.raises(FatalError) as caught:
            asyncio.run(OpenAIBackend(model="m", base_url=base).open())
        assert caught.value.remedy.startswith("set OPENAI_API_KEY")


@pytest.mark.parametrize("key", ["sk-a b", "sk-a\nb", "sk-ключ", "sk-\x00"])
def test_what_cannot_be_a_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
    with pytest.raises(FatalError) as caught:
        asyncio.run(OpenAIBackend(model="m", base_url="http://h/v1").open())
    assert key not in str(caught.value) + caught.value.remedy


@pytest.mark.parametrize("dialect", ["openai", "plain"])
def test_an_endpoint_that_echoes_the_key(
    server: LlmServer, dialect: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "wrong-key-with-no-usual-form"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.reset(require_key=KEY, echo_key=True, dialect=dialect)
    with pytest.raises(FatalError) as caught:
        ask(v1(server))
    assert "[key]" in caught.value.detail
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.remedy + caplog.text
    assert key not in shown
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert key.encode() not in pickle.dumps(OpenAIBackend(model="m", base_url=v1(server)))


@pytest.mark.parametrize(
    "message",
    ["Key {key} may not", "a" * 290 + " {key}", "{key}{key}", "Bearer {key}", "not supported: response_format {key}"],
)
@pytest.mark.parametrize("key", [KEY, "x", "a+b/c=d&e~0123"])
def test_the_key_is_hidden_wherever_it_stands(
    message: str, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    message = message.format(key=key) if key != "x" else message.format(key=f"{key} or max")
    found = Canned(http(400, error(message))).fail()
    endpoint = Canned([http(400, error(message + " response_format")), http(200, chat())])
    endpoint.ask()
    for shown in (found.detail, *warnings_of(caplog)):
        assert key not in shown.split() if key == "x" else key not in shown
        assert key[:12] not in shown or len(key) < 12
    assert any("[key]" in text for text in warnings_of(caplog))


def test_the_session_does_not_show_the_key(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def run() -> str:
        async with opened(v1(server)) as session:
            return repr(session) + str(session)

    assert KEY not in asyncio.run(run())


def test_a_failure_does_not_carry_the_clients_exception(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for found in (fail(f"http://127.0.0.1:{free_port()}/v1"), Canned(b"SSH-2.0\r\n").fail()):
        assert found.__cause__ is None and found.__context__ is None
        assert KEY not in "".join(traceback.format_exception(found))


# -------------------------------------------------------------------------------------------------------------- proxies


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, server: LlmServer) -> None:
    endpoint = Canned(http(200, chat()))

    async def work(base: str) -> None:
        monkeypatch.setenv("http_proxy", base.removesuffix("/v1").replace("//", "//user:pass@"))
        async with opened("http://model.example/v1") as session:
            assert (await session.generate(request())).text == "hi"
        async with opened(v1(server)) as session:  # this machine is asked without
            assert (await session.generate(request())).text
        monkeypatch.setenv("no_proxy", "model.invalid")
        async with opened("http://model.invalid/v1") as session:
            with pytest.raises(Transient, match=r"cannot connect to http://model\.invalid"):
                await session.generate(request())

    endpoint.run(work)
    assert len(endpoint.heads) == 1
    assert endpoint.heads[0].startswith("POST http://model.example/v1/chat/completions HTTP/1.1")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:pass').decode()}" in endpoint.heads[0]


def test_proxies_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:pass-word@127.0.0.1:{free_port()}")
    found = fail("https://model.example/v1")
    assert isinstance(found, Transient) and found.dooms_probe
    assert "the proxy" in found.detail and "pass-word" not in found.detail
    refusing = Canned(http(407, b""))

    async def work(base: str) -> None:
        monkeypatch.setenv("https_proxy", base.removesuffix("/v1"))
        async with opened("https://model.example/v1") as session:
            with pytest.raises(Transient, match="the proxy refused with 407"):
                await session.generate(request())

    refusing.run(work)
    monkeypatch.setenv("https_proxy", "socks5://user:pass-word@h:1")
    with pytest.raises(FatalError, match="HTTPS_PROXY") as caught:
        asyncio.run(OpenAIBackend(model="m", base_url="https://model.example/v1").open())
    assert "pass-word" not in str(caught.value) + caught.value.remedy


# --------------------------------------------------------------------------------------------------------- many at once


def test_as_many_at_once_as_are_asked_for_and_connections_kept_alive(server: LlmServer) -> None:
    server.reset(latency_median_ms=300)

    async def run() -> None:
        async with opened(v1(server)) as session:
            for turn in range(2):
                await asyncio.gather(*(session.generate(request(turn * 300 + number)) for number in range(300)))

    asyncio.run(run())
    stats = server.stats()
    assert stats["max_in_flight"] == 300
    # those of this test's own look at the server count too
    assert stats["connections_opened"] <= 303
    assert stats["good_prompts"] == 600


def test_cancelling_leaves_the_session_usable_and_leaks_nothing(server: LlmServer) -> None:
    server.reset(rate_hang=1)

    async def run() -> None:
        async with opened(v1(server)) as session:
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
            assert server.stats()["connections"] == 1
            assert server.stats()["gave_up"] == 50
            server.reset()
            assert (await session.generate(request())).text
            with pytest.raises(asyncio.TimeoutError):
                server.reset(rate_hang=1)
                await asyncio.wait_for(session.generate(request()), 0.05)
            server.reset()
            assert (await session.generate(request())).text

    asyncio.run(run())


def test_a_session_lives_on_the_loop_of_a_thread(server: LlmServer) -> None:
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(v1(server))))
    thread.start()
    thread.join(10)
    assert len(answers) == 1
    assert isinstance(answers[0], Answer)


def test_faults_of_all_kinds_never_escape_raw(server: LlmServer) -> None:
    kinds = ("429", "500", "503", "reset", "half", "html", "malformed", "blocked", "truncated", "bad_reply")
    server.reset(**{f"rate_{kind}": 0.09 for kind in kinds})

    async def run() -> list[Answer | BaseException]:
        async with opened(v1(server)) as session:
            calls = (session.generate(request(number)) for number in range(300))
            return list(await asyncio.gather(*calls, return_exceptions=True))

    found = asyncio.run(run())
    assert {type(each) for each in found} == {Answer, Throttled, Transient}
    assert server.stats()["requests"] == 300
