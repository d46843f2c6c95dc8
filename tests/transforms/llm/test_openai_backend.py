"""The OpenAI chat protocol: what is sent, what is read, and what its endpoints refuse. What all back ends do is in
test_backend_contract and test_http_contract."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import Kind
from textmint.transforms.llm import openai as ours
from textmint.transforms.llm.base import Answer, FatalError, Refused, Request, RequestError, Transient
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema

from tests.support import backends
from tests.support.backends import Canned, Reply, opened
from tests.support.helpers import Script
from tests.support.llm_server import LlmServer

KEY = "sk-secret-abcdefghijklmnop-1234"


def request(number: int = 0, kind: Any = "example", text: str = "") -> Request:
    text = text or (backends.EXAMPLE if kind == "example" else "Output a python list of tasks. ") + str(number)
    return Request(request_id=f"r{number}", kind=kind, text=text, seed=number, variables={})


@pytest.fixture(autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    with backends.credentials_of() as patch:
        patch.delenv("OPENAI_API_KEY")
        yield patch


def ask(base: str, what: Request | None = None, **settings: Any) -> Any:
    backend = OpenAIBackend(**{"model": "m", "base_url": base, **settings})
    return backends.ask(backend, what or request())[0]


def v1(server: LlmServer) -> str:
    return server.base_url + "/v1"


def chat(content: object = "hi", finish: object = "stop", usage: object = None, **more: object) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"model": "served-1", "choices": [choice], "usage": usage, **more}


def error(message: str, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


# --------------------------------------------------------------------------------------------------------- what is sent


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


def test_a_model_is_needed() -> None:
    with pytest.raises(ValueError, match="model"):
        OpenAIBackend(model=" ")


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
    assert Canned((200, chat(content, "length"))).one().text == text


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
    answer = Canned((200, chat("12345", usage=usage))).one(request(text="123456789"))
    assert (answer.prompt_tokens, answer.output_tokens) == (prompt, output)


@pytest.mark.parametrize(("model", "name"), [("x-1", "x-1"), (None, "m"), ("", "m"), (7, "m"), ("a\ud800", "m")])
def test_the_model_as_served(model: object, name: str) -> None:
    assert Canned((200, chat(model=model))).one().model == name


@pytest.mark.parametrize(
    ("body", "detail", "dooms"),
    [
        (b"<!DOCTYPE html><html></html>", "answered HTML, not JSON", True),
        (b"Ollama is running", "something else than JSON", True),
        (b"", "answered nothing", True),
        (b'data: {"choices": []}\n\n', "a stream of events", True),
        (b"[]", "it is no chat endpoint", True),
        (b"7", "it is no chat endpoint", True),
        (b"{}", "another form", True),
        (b'{"choices": {}}', "another form", True),
        (b'{"choices": [7]}', "another form", True),
        (b'{"choices": [{"index": 0}]}', "another form", True),
        (b'{"choices": []}', "without a choice", False),
        (b'{"choices": [{"message"', "broken", False),
        (b'{"choices": "\xff"}', "broken", False),
        (b"[" * 100_000, "broken", False),
        (b'{"a": ' + b"9" * 5000 + b"}", "it is no chat endpoint", True),
    ],
)
def test_what_is_no_answer(body: bytes, detail: str, dooms: bool) -> None:
    found = Canned((200, body)).one()
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
        async with opened(OpenAIBackend(model="m", base_url="http://localhost/v1")) as session:
            assert isinstance(session, ours.OpenAISession)

            async def post(*_: object) -> tuple[int, dict[str, str], bytes]:
                return status, {}, json.dumps(body).encode()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ours.OpenAISession, "_post", post)
                return await session.generate(request())

    with contextlib.suppress(RequestError):
        assert isinstance(asyncio.run(run()).text, str)


# --------------------------------------------------------------------------------------------------------- what fails


def test_remedies(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def remedy(base: str) -> str:
        found = ask(base)
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


# ---------------------------------------------------------------------------------------------- parts that are refused


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "textmint"]


def picky(refuses: str, message: str, status: int = 400, param: str | None = None) -> Callable[[Any], Reply]:
    def reply(body: Any) -> Reply:
        if refuses in body:
            return status, error(message, param=param)
        return 200, chat()

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
    found = endpoint.ask(*map(request, range(3)), temperature=0.5, top_p=0.5, max_output_tokens=9)
    assert [each.text for each in found] == ["hi"] * 3
    assert [refuses in body for body in endpoint.bodies] == [True, False, False, False]
    first, second = endpoint.bodies[:2]
    assert set(first) - set(second) == {refuses}
    assert {name: second[name] for name in after} == after
    assert len(warnings_of(caplog)) == 1


def test_several_parts_are_left_out_one_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    def reply(body: Any) -> Reply:
        for part in ("temperature", "seed", "max_tokens", "response_format"):
            if part in body:
                return 400, error(f"Unsupported parameter: '{part}'", param=part, code="unsupported_parameter")
        return 200, chat()

    endpoint = Canned(reply)
    endpoint.one(temperature=0.5, max_output_tokens=9)
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
    endpoint = Canned((400, error(message)))
    assert isinstance(endpoint.one(temperature=0.5, max_output_tokens=9), Refused)
    assert len(endpoint.bodies) == tries
    assert not warnings_of(caplog)


def test_what_did_not_help_is_not_given_up(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Canned(lambda body: (200, chat()) if body["seed"] else (400, error("That is not supported.")))
    found = endpoint.ask(request(0), request(1))
    assert [type(each) for each in found] == [Refused, Answer]
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
    found = ask(v1(server))
    assert isinstance(found, FatalError) and "[key]" in found.detail
    shown = "".join(traceback.format_exception(found)) + repr(found) + found.remedy + caplog.text
    assert key not in shown
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
    found = Canned((400, error(message))).one()
    endpoint = Canned((400, error(message + " response_format")), (200, chat()))
    endpoint.one()
    for shown in (found.detail, *warnings_of(caplog)):
        assert key not in shown.split() if key == "x" else key not in shown
        assert key[:12] not in shown or len(key) < 12
    assert any("[key]" in text for text in warnings_of(caplog))


# -------------------------------------------------------------------------------------------------------------- proxies


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Script(lambda *_: (407, {}, b"")) as script:
        monkeypatch.setenv("https_proxy", script.url)
        found = ask("https://model.example/v1")
    assert isinstance(found, Transient) and "the proxy refused with 407" in found.detail
    monkeypatch.setenv("https_proxy", "socks5://user:pass-word@h:1")
    with pytest.raises(FatalError, match="HTTPS_PROXY") as caught:
        asyncio.run(OpenAIBackend(model="m", base_url="https://model.example/v1").open())
    assert "pass-word" not in str(caught.value) + caught.value.remedy
