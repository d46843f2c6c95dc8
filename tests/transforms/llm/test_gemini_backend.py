"""Gemini as a back end: the SDK's real client over real sockets, against the endpoint for tests and canned replies."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import google.auth
import google.auth.credentials
import google.auth.exceptions
import pytest
from textmint.transforms.core.elements import Kind
from textmint.transforms.llm import gemini
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
from textmint.transforms.llm.gemini import GeminiBackend, GeminiSession

from tests.support.llm_server import LlmServer

KEY = "AbCdEf-secret-key-of-the-test-0123456789"
TOKEN = "ya29x-secret-token-of-the-test-0123456789"
PROMPT = "Write a JSON object with input_text, label and misleading_label"
MODEL = "gemini-2.5-flash"

SDK_VARIABLES = (
    "GOOGLE_API_KEY",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_USE_ENTERPRISE",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
    "GOOGLE_GENAI_CLIENT_MODE",
    "http_proxy",
    "HTTP_PROXY",
)


@pytest.fixture(scope="module")
def running() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def server(running: LlmServer, monkeypatch: pytest.MonkeyPatch) -> LlmServer:
    for name in SDK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    running.reset()
    return running


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> google.auth.credentials.AnonymousCredentials:
    credentials = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    credentials.token = TOKEN
    monkeypatch.setattr(google.auth, "default", lambda **_: (credentials, None))
    return credentials


def request(number: int = 0, kind: Kind = "example", text: str = PROMPT) -> Request:
    return Request(request_id=f"r{number}", kind=kind, text=f"{text} {number}", seed=1000 + number, variables={})


@contextlib.asynccontextmanager
async def opened(backend: GeminiBackend) -> AsyncIterator[GeminiSession]:
    session = await backend.open()
    try:
        yield session
    finally:
        await session.aclose()


def ask(backend: GeminiBackend, *requests: Request) -> list[Answer | BaseException]:
    async def run() -> list[Answer | BaseException]:
        async with opened(backend) as session:
            return list(
                await asyncio.gather(
                    *(session.generate(each) for each in requests or [request()]), return_exceptions=True
                )
            )

    return asyncio.run(run())


def answered(backend: GeminiBackend, *requests: Request) -> Answer:
    (answer,) = ask(backend, *requests)
    assert isinstance(answer, Answer), answer
    return answer


def refused(backend: GeminiBackend) -> RequestError:
    (error,) = ask(backend)
    assert isinstance(error, RequestError), repr(error)
    # what the client raised, and may quote a key, is not reachable from it
    assert error.__cause__ is None and error.__context__ is None
    assert "\n" not in error.detail and len(error.detail) < 400
    return error


def backend_of(server: LlmServer, **fields: Any) -> GeminiBackend:
    return GeminiBackend(**{"model": MODEL, "base_url": server.base_url, **fields})


@contextlib.asynccontextmanager
async def canned(*replies: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that sends the replies in turn, the last one for ever; b"" hangs up."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        seen.append(head + await reader.readexactly(length))
        writer.write(replies[min(len(seen), len(replies)) - 1])
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", seen


def http(status: str, body: object, *headers: str, kind: str = "application/json") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(raw)}", *headers, "", "")
    return "\r\n".join(lines).encode() + raw


def canned_error(*replies: bytes, count: int = 1) -> RequestError:
    async def run() -> RequestError:
        async with canned(*replies) as (url, seen):
            async with opened(GeminiBackend(model=MODEL, base_url=url)) as session:
                with pytest.raises(RequestError) as caught:
                    await session.generate(request())
            assert len(seen) == count, "the client sent again by itself"
        return caught.value

    return asyncio.run(run())


# ------------------------------------------------------------------------------------------------------- what is sent


def test_the_protocol_and_the_pickle(server: LlmServer) -> None:
    backend = backend_of(server)
    assert isinstance(backend, Backend)
    assert pickle.loads(pickle.dumps(backend)) == backend and len({backend, backend}) == 1
    assert KEY not in repr(backend) and KEY.encode() not in pickle.dumps(backend)

    async def run() -> None:
        async with opened(backend) as session:
            assert isinstance(session, Session)
            assert KEY not in repr(session)

    asyncio.run(run())


def test_an_answer_of_the_developer_api(server: LlmServer) -> None:
    server.reset(require_key=KEY, served_model="gemini-2.5-flash-001")
    answer = answered(backend_of(server))
    assert set(json.loads(answer.text)) == {"input_text", "label", "misleading_label"}
    assert (answer.finish_reason, answer.model) == ("stop", "gemini-2.5-flash-001")
    assert answer.prompt_tokens == -(-len(request().text) // 4)
    assert answer.output_tokens == -(-len(answer.text) // 4)
    (sent,) = server.recent()
    assert sent["line"] == f"POST /v1beta/models/{MODEL}:generateContent HTTP/1.1"
    assert sent["body"] == {
        "contents": [{"role": "user", "parts": [{"text": request().text}]}],
        "generationConfig": {
            "temperature": 1.0,
            "topP": 1.0,
            "seed": 1000,
            "responseMimeType": "application/json",
            "responseSchema": {
                "type": "OBJECT",
                "properties": {name: {"type": "STRING"} for name in ("input_text", "label", "misleading_label")},
                "required": ["input_text", "label", "misleading_label"],
                "propertyOrdering": ["input_text", "label", "misleading_label"],
            },
        },
    }
    assert "authorization" not in sent["headers"]
    assert server.stats()["key_in_url"] is False


def test_every_option_is_sent_and_nothing_is_shared_between_requests(server: LlmServer) -> None:
    backend = backend_of(
        server,
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=77,
        thinking_budget=0,
        safety_threshold="BLOCK_NONE",
        service_tier="flex",
        structured_output=False,
    )
    requests = [request(number) for number in range(8)]
    assert all(isinstance(each, Answer) for each in ask(backend, *requests))
    sent = {each["body"]["contents"][0]["parts"][0]["text"]: each["body"] for each in server.recent()}
    for each in requests:
        assert sent[each.text]["generationConfig"] == {
            "temperature": 0.5,
            "topP": 0.9,
            "maxOutputTokens": 77,
            "thinkingConfig": {"thinkingBudget": 0},
            "seed": each.seed,
        }
        assert sent[each.text]["safetySettings"] == [
            {"category": category, "threshold": "BLOCK_NONE"} for category in gemini.HARM_CATEGORIES
        ]
        assert sent[each.text]["serviceTier"] == "flex"


def test_a_list_of_tasks_is_a_list(server: LlmServer) -> None:
    asked = request(kind="task_list", text="Brainstorm a python list of tasks")
    answer = answered(backend_of(server), asked)
    assert len(json.loads(answer.text)) == 20
    (sent,) = server.recent()
    config = sent["body"]["generationConfig"]
    assert config["responseSchema"] == {"type": "ARRAY", "items": {"type": "STRING"}}
    assert config["responseMimeType"] == "application/json"


def test_a_set_of_labels_is_a_list_and_a_choice_an_object(server: LlmServer) -> None:
    assert gemini.response_schema("label_set") == gemini.response_schema("task_list")
    label = {"type": "STRING"}
    assert gemini.response_schema("choice")["properties"] == {"label": label}
    asked = request(kind="label_set", text="Your mission is to list the labels that texts are given in this task.")
    assert 2 <= len(json.loads(answered(backend_of(server), asked).text)) <= 16


@pytest.mark.parametrize("tier", [None, "standard", "flex", "priority"])
def test_vertex(server: LlmServer, stand_in: google.auth.credentials.AnonymousCredentials, tier: str | None) -> None:
    server.reset(require_key=TOKEN)
    backend = backend_of(server, project="p-1", location="europe-west4", service_tier=tier)
    assert answered(backend).finish_reason == "stop"
    (sent,) = server.recent()
    place = "/v1beta1/projects/p-1/locations/europe-west4"
    assert sent["line"] == f"POST {place}/publishers/google/models/{MODEL}:generateContent HTTP/1.1"
    assert sent["headers"]["authorization"] == f"Bearer {TOKEN}"
    assert "x-goog-api-key" not in sent["headers"]
    # in the body Vertex AI would refuse or ignore it
    assert "serviceTier" not in sent["body"] and sent["body"]["generationConfig"]["seed"] == 1000
    wanted = tier if tier in ("flex", "priority") else None
    assert sent["headers"].get("x-vertex-ai-llm-shared-request-type") == wanted


def test_vertex_is_asked_at_global_where_no_location_is_given(
    server: LlmServer, stand_in: google.auth.credentials.AnonymousCredentials
) -> None:
    answered(backend_of(server, project="p-1"))
    assert "/projects/p-1/locations/global/" in server.recent()[0]["line"]


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://generativelanguage.googleapis.com/"),
        ({"project": "p"}, "https://aiplatform.googleapis.com/"),
        ({"project": "p", "location": "global"}, "https://aiplatform.googleapis.com/"),
        ({"project": "p", "location": "eu"}, "https://aiplatform.eu.rep.googleapis.com/"),
        ({"project": "p", "location": "us-central1"}, "https://us-central1-aiplatform.googleapis.com/"),
        ({"project": "p", "base_url": "http://gateway/x"}, "http://gateway/x"),
    ],
)
def test_where_it_is_asked(fields: dict[str, str], url: str) -> None:
    assert GeminiBackend(model=MODEL, **fields).root_url() == url  # type: ignore[arg-type]


def test_what_the_constructor_says_wins_over_the_sdks_own_variables(
    server: LlmServer,
    monkeypatch: pytest.MonkeyPatch,
    stand_in: google.auth.credentials.AnonymousCredentials,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "another-key")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GENAI_USE_ENTERPRISE", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "env-project")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "env-location")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_GENAI_CLIENT_MODE", "replay")
    answered(backend_of(server))
    answered(backend_of(server, project="p-1"))
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "false")
    monkeypatch.setenv("GOOGLE_GENAI_USE_ENTERPRISE", "false")
    answered(backend_of(server, project="p-1"))
    developer, *vertex = server.recent()
    assert developer["line"].startswith("POST /v1beta/models/") and developer["headers"]["x-goog-api-key"] == KEY
    for each in vertex:
        assert each["line"].startswith("POST /v1beta1/projects/p-1/locations/global/")
        assert "x-goog-api-key" not in each["headers"]
    assert not caplog.records
    # without a base_url, Google's own host is asked, not the one of the environment
    session_url = GeminiBackend(model=MODEL).root_url()
    assert session_url == "https://generativelanguage.googleapis.com/"


def test_the_second_name_of_the_key(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("GOOGLE_API_KEY", f" {KEY}\n")
    answered(backend_of(server))
    assert server.recent()[0]["headers"]["x-goog-api-key"] == KEY


@pytest.mark.parametrize("value", [None, "", "two words", "schlüssel"])
def test_no_key_is_doomed_with_a_remedy(server: LlmServer, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    if value is not None:
        monkeypatch.setenv("GEMINI_API_KEY", value)
    with pytest.raises(FatalError) as caught:
        ask(backend_of(server))
    assert "GEMINI_API_KEY" in caught.value.remedy
    assert not value or value not in caught.value.detail


def test_no_credentials_are_doomed_wherever_vertex_is(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> None:
        raise google.auth.exceptions.DefaultCredentialsError("in /home/me/key.json: " + KEY)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(FatalError) as caught:
        ask(backend_of(server, project="p"))
    assert "gcloud auth application-default login" in caught.value.remedy and KEY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("retryable", [False, True])
def test_credentials_that_cannot_be_renewed(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch, retryable: bool
) -> None:
    class Expired(google.auth.credentials.AnonymousCredentials):
        expired = True

        def refresh(self, _: object) -> None:
            raise google.auth.exceptions.RefreshError("invalid_grant", retryable=retryable)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.auth, "default", lambda **_: (Expired(), None))  # type: ignore[no-untyped-call]
    error = refused(backend_of(server, project="p"))
    assert isinstance(error, Transient if retryable else FatalError) and "invalid_grant" in error.detail


@pytest.mark.parametrize(
    "fields",
    [
        {"model": ""},
        {"model": "a?b"},
        {"model": "../x"},
        {"project": "p/q"},
        {"project": "p", "location": "evil.example/"},
        {"base_url": "gateway"},
        {"base_url": "ftp://gateway"},
        {"base_url": "http://gateway:port"},
        {"base_url": "http://me:secret@gateway"},
        {"temperature": -1},
        {"top_p": 2},
        {"max_output_tokens": 0},
        {"thinking_budget": -2},
        {"safety_threshold": "NONE"},
        {"service_tier": "slow"},
    ],
)
def test_values_that_are_none(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        GeminiBackend(**{"model": MODEL, **fields})
    assert "secret" not in str(caught.value)


def test_the_fingerprint_holds_what_changes_answers() -> None:
    plain = GeminiBackend(model=MODEL)
    for change in (
        {"model": "gemini-2.5-pro"},
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"max_output_tokens": 5},
        {"thinking_budget": 0},
        {"safety_threshold": "OFF"},
        {"structured_output": False},
    ):
        assert GeminiBackend(**{"model": MODEL, **change}).fingerprint() != plain.fingerprint(), change
    same = GeminiBackend(
        model=MODEL, project="p", location="eu", base_url="http://x", service_tier="flex", temperature=1
    )
    assert same.fingerprint() == plain.fingerprint()


# -------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("vertex", [False, True])
@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        ({"status_always": 400}, Refused, "INVALID_ARGUMENT"),
        ({"status_always": 401}, FatalError, "UNAUTHENTICATED"),
        ({"status_always": 402}, FatalError, "402"),
        ({"status_always": 403}, FatalError, "PERMISSION_DENIED"),
        ({"status_always": 404}, FatalError, "NOT_FOUND"),
        ({"status_always": 408}, Transient, "408"),
        ({"status_always": 409}, Transient, "409"),
        ({"status_always": 413}, Refused, "413"),
        ({"status_always": 422}, Refused, "422"),
        ({"status_always": 429}, Throttled, "429"),
        ({"status_always": 499}, Transient, "499"),
        ({"status_always": 500}, Transient, "INTERNAL"),
        ({"status_always": 502}, Transient, "502"),
        ({"status_always": 503}, Throttled, "overloaded"),
        ({"status_always": 504}, Transient, "504"),
        ({"status_always": 529}, Throttled, "529"),
        ({"model_known": "other"}, FatalError, "404"),
        ({"quota_zero": True}, FatalError, "429"),
        ({"require_key": "other", "echo_key": True}, FatalError, "[key]"),
        ({"rate_html": 1}, Transient, "HTML, not JSON"),
        ({"rate_malformed": 1}, Transient, "JSON that is broken"),
        ({"rate_half": 1}, Transient, "broke off"),
        ({"rate_reset": 1}, Transient, ""),
    ],
)
def test_refusals(
    server: LlmServer,
    stand_in: google.auth.credentials.AnonymousCredentials,
    vertex: bool,
    options: dict[str, Any],
    kind: type[RequestError],
    word: str,
) -> None:
    server.reset(**options)
    error = refused(backend_of(server, project="p" if vertex else None))
    assert type(error) is kind and word in error.detail
    assert KEY not in repr(error) and TOKEN not in repr(error)
    assert server.stats()["requests"] == 1, "one call, one request: the engine retries"
    if isinstance(error, FatalError):
        assert error.remedy and KEY not in error.remedy
    if isinstance(error, Transient):
        assert error.dooms_probe is ("rate_html" in options)


def test_remedies_name_the_option(server: LlmServer, stand_in: google.auth.credentials.AnonymousCredentials) -> None:
    def remedy(project: str | None = None, **options: Any) -> str:
        server.reset(**options)
        error = refused(backend_of(server, project=project))
        assert isinstance(error, FatalError)
        return error.remedy

    assert "GEMINI_API_KEY" in remedy(require_key="other")
    assert "--vertex_project" in remedy("p", require_key="other")
    assert "--model" in remedy(model_known="other")
    assert "--vertex_location" in remedy("p", model_known="other")
    assert "quota" in remedy(quota_zero=True) and "project" in remedy("p", quota_zero=True)


def test_retry_after_of_retry_info(server: LlmServer) -> None:
    server.reset(rate_429=1, retry_after=7.5)
    error = refused(backend_of(server))
    assert isinstance(error, Throttled) and error.retry_after == 7.5
    server.reset(rate_429=1)
    error = refused(backend_of(server))
    assert isinstance(error, Throttled) and error.retry_after is None


@pytest.mark.parametrize(
    ("reply", "kind", "dooms", "word"),
    [
        (b"", Transient, False, "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Transient, True, "does not speak HTTP"),
        (http("200 OK", b"hello", kind="text/plain"), Transient, True, "something else than JSON"),
        (http("200 OK", b""), Transient, True, "nothing"),
        (http("200 OK", b'{"candidates": \xff}'), Transient, False, "cannot be read"),
        (http("200 OK", [1, 2]), Transient, True, "no Gemini endpoint"),
        (http("200 OK", {"choices": []}), Transient, True, "no Gemini endpoint"),
        (http("200 OK", {"candidates": 7}), Transient, True, "no Gemini endpoint"),
        (http("200 OK", {"usageMetadata": {"promptTokenCount": 4}}), Transient, False, "without a candidate"),
        (http("204 No Content", b""), Transient, True, "204"),
        (http("302 Found", b"", "Location: http://127.0.0.1:1/steal"), Transient, True, "302"),
        (http("307 Moved", b"", "Location: http://127.0.0.1:1/steal"), Transient, True, "307"),
        (http("502 Bad Gateway", b"<html>nginx</html>", kind="text/html"), Transient, False, "HTML"),
        (http("404 Not Found", b"<!DOCTYPE html><p>", kind="text/html"), FatalError, False, "HTML"),
        (http("500 Oops", b"{", kind="application/json"), Transient, False, "500: {"),
        (http("500 Oops", [1, 2, 3]), Transient, False, "500"),
        (http("500 Oops", "text"), Transient, False, "500"),
        (http("503 Busy", {"error": {"message": "This model is experiencing high demand"}}), Throttled, False, "high"),
        (http("503 Down", {"error": {"message": "gone fishing"}}), Transient, False, "fishing"),
        (http("400 Bad", {"error": "User location is not supported for the API use."}), FatalError, False, "location"),
    ],
)
def test_what_a_strange_endpoint_answers(
    server: LlmServer, reply: bytes, kind: type[RequestError], dooms: bool, word: str
) -> None:
    error = canned_error(reply)
    assert type(error) is kind and word in error.detail, error.detail
    assert getattr(error, "dooms_probe", False) is dooms


def test_keys_of_others_that_an_endpoint_quotes(server: LlmServer) -> None:
    for quoted in (KEY, "AIzaSy" + "x" * 33, "ya29.a0AfH6-x"):
        error = canned_error(http("400 Bad", {"error": {"message": f"bad\n key {quoted}. Sorry."}}))
        assert quoted not in error.detail and "[key]" in error.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://no-such-host.invalid"])
def test_nobody_listens(server: LlmServer, url: str) -> None:
    error = refused(GeminiBackend(model=MODEL, base_url=url))
    assert isinstance(error, Transient) and error.dooms_probe and "cannot connect" in error.detail


def test_tls_fails(server: LlmServer) -> None:
    accepted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read(1)
        writer.write(http("400 Bad", b"plain HTTP only"))
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            async with opened(GeminiBackend(model=MODEL, base_url=url)) as session:
                with pytest.raises(Transient) as caught:
                    await session.generate(request())
        assert caught.value.dooms_probe and "no secure connection" in caught.value.detail

    asyncio.run(run())
    assert accepted == 1


def test_an_exception_of_the_client_that_nobody_foresaw(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError(KEY)

    monkeypatch.setattr(gemini, "read_reply", fail)
    error = refused(backend_of(server))
    assert type(error) is Transient and "KeyError" in error.detail and KEY not in error.detail


# ------------------------------------------------------------------------------------------------- how an answer ends


@pytest.mark.parametrize("form", ["safety", "recitation", "prompt"])
def test_blocked_is_an_answer(server: LlmServer, form: str) -> None:
    server.reset(rate_blocked=1, blocked_as=form)
    for number in range(4):
        answer = answered(backend_of(server), request(number))
        finish = "content_filter" if form == "prompt" else "reply_filter"
        assert (answer.text, answer.finish_reason, answer.output_tokens) == ("", finish, 0)
        assert answer.prompt_tokens > 0


def test_truncated_is_an_answer_with_or_without_text(server: LlmServer) -> None:
    server.reset(rate_truncated=1)
    answers = ask(backend_of(server), *(request(number) for number in range(12)))
    lengths = set()
    for answer in answers:
        assert isinstance(answer, Answer) and answer.finish_reason == "length"
        lengths.add(bool(answer.text))
        assert answer.output_tokens == (-(-len(answer.text) // 4) if answer.text else 1024)
    assert lengths == {True, False}


def said(finish: str, parts: object, **more: object) -> Answer:
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish}

    async def run() -> Answer:
        body = http("200 OK", {"candidates": [candidate], **more})
        async with canned(body) as (url, _), opened(GeminiBackend(model=MODEL, base_url=url)) as session:
            return await session.generate(request())

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("finish", "parts", "more", "text", "output_tokens"),
    [
        (  # parts are joined, thoughts left out
            "STOP",
            [{"text": "hm", "thought": True}, {"text": '{"a"'}, {"inlineData": {}}, 7, {"text": ': "ü"}'}],
            {"usageMetadata": {"candidatesTokenCount": 5, "thoughtsTokenCount": 30}},
            '{"a": "ü"}',
            35,
        ),
        *(
            ("MAX_TOKENS", parts, {"usageMetadata": {"thoughtsTokenCount": 9}}, "", 9)
            for parts in (None, [], [{"text": ""}])
        ),
        ("STOP", [{"text": "abcde"}], {}, "abcde", 2),  # estimated
    ],
)
def test_parts_and_tokens(
    server: LlmServer, finish: str, parts: object, more: dict[str, Any], text: str, output_tokens: int
) -> None:
    answer = said(finish, parts, **more)
    assert (answer.text, answer.output_tokens) == (text, output_tokens)
    assert (answer.model, answer.prompt_tokens) == (MODEL, -(-len(request().text) // 4))
    counted = said(finish, parts, usageMetadata={"promptTokenCount": 11}, modelVersion="m-1")
    assert (counted.model, counted.prompt_tokens) == ("m-1", 11)


# ---------------------------------------------------------------------------------------- structured output, refused


def test_falls_back_once_and_with_one_warning(server: LlmServer, caplog: pytest.LogCaptureFixture) -> None:
    server.reset(refuse_structured=True)
    backend = backend_of(server)

    async def run() -> None:
        async with opened(backend) as session:
            first = await asyncio.gather(*(session.generate(request(number)) for number in range(8)))
            assert server.stats()["requests"] == 16  # all were in flight when it showed
            later = [await session.generate(request(number)) for number in range(8, 12)]
            assert server.stats()["requests"] == 20
            assert all(answer.finish_reason == "stop" for answer in [*first, *later])

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    (warning,) = caplog.records
    assert warning.name == "textmint" and "--structured_output=never" in warning.getMessage()
    assert KEY not in warning.getMessage()
    assert backend.fingerprint()["structured_output"] is True


def test_what_only_looks_like_a_refusal_of_structure_changes_nothing(
    server: LlmServer, caplog: pytest.LogCaptureFixture
) -> None:
    say = {"error": {"code": 400, "message": "Thinking level is not supported", "status": "INVALID_ARGUMENT"}}
    error = canned_error(http("400 Bad", say), count=2)
    assert type(error) is Refused and not caplog.records


def test_another_refusal_is_not_sent_again(server: LlmServer) -> None:
    error = canned_error(http("400 Bad", {"error": {"message": "The input token count exceeds the maximum"}}))
    assert type(error) is Refused


# ------------------------------------------------------------------------------------------------------- connections


def test_connections_are_kept_and_not_limited(server: LlmServer) -> None:
    server.reset(latency_median_ms=300)

    async def run() -> None:
        async with opened(backend_of(server)) as session:
            for _ in range(2):
                await asyncio.gather(*(session.generate(request(number)) for number in range(256)))

    asyncio.run(run())
    stats = server.stats()
    assert stats["max_in_flight"] == 256 and stats["connections_opened"] <= 256 + 2  # two of this test's own


def test_a_cancelled_request_leaves_a_usable_session(server: LlmServer) -> None:
    server.reset(rate_hang=1)

    async def run() -> None:
        async with opened(backend_of(server)) as session:
            tasks = [asyncio.ensure_future(session.generate(request(number))) for number in range(5)]
            while server.stats()["in_flight"] < 5:
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            await asyncio.sleep(0.05)
            stats = server.stats()
            assert stats["in_flight"] == 0 and stats["gave_up"] == 5
            server.reset()
            assert (await session.generate(request())).finish_reason == "stop"

    asyncio.run(run())


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_closing_lets_go_of_every_connection(server: LlmServer) -> None:
    async def run() -> None:
        session = await backend_of(server).open()
        await asyncio.gather(*(session.generate(request(number)) for number in range(5)))
        await session.generate(request(kind="task_list"))
        await session.aclose()
        await session.aclose()

    asyncio.run(run())
    gc.collect()
    assert server.stats()["connections"] <= 1  # the one that asks
