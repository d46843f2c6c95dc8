"""Gemini as a back end: what the SDK's real client sends, and what is read. What all back ends do is in
test_backend_contract and test_http_contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import google.auth
import google.auth.credentials
import google.auth.exceptions
import pytest
from textmint.transforms.core.elements import Kind
from textmint.transforms.llm import gemini
from textmint.transforms.llm.base import Answer, FatalError, Request, RequestError, Throttled, Transient
from textmint.transforms.llm.gemini import GeminiBackend, response_schema

from tests.support import backends
from tests.support.backends import Canned, ask
from tests.support.llm_server import LlmServer

KEY = "AbCdEf-secret-key-of-the-test-0123456789"


TOKEN = "ya29x-secret-token-of-the-test-0123456789"


PROMPT = "Write a JSON object with input_text, label and misleading_label"


MODEL = "gemini-2.5-flash"


@pytest.fixture(autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    with backends.credentials_of(KEY) as patch:
        yield patch


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> google.auth.credentials.AnonymousCredentials:
    credentials = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    credentials.token = TOKEN
    monkeypatch.setattr(google.auth, "default", lambda **_: (credentials, None))
    return credentials


def request(number: int = 0, kind: Kind = "example", text: str = PROMPT) -> Request:
    return Request(request_id=f"r{number}", kind=kind, text=f"{text} {number}", seed=1000 + number, variables={})


def answered(backend: GeminiBackend, asked: Request | None = None) -> Answer:
    (answer,) = ask(backend, asked or request())
    assert isinstance(answer, Answer), answer
    return answer


def refused(backend: GeminiBackend) -> RequestError:
    (error,) = ask(backend, request())
    assert isinstance(error, RequestError), repr(error)
    return error


def backend_of(server: LlmServer, **fields: Any) -> GeminiBackend:
    return GeminiBackend(**{"model": MODEL, "base_url": server.base_url, **fields})


# ------------------------------------------------------------------------------------------------------- what is sent


def test_an_answer_of_the_developer_api(server: LlmServer) -> None:
    server.reset(require_key=KEY)
    answered(backend_of(server))
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
    assert all(isinstance(each, Answer) for each in ask(backend, *requests, at_once=True))
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
    answered(backend_of(server), asked)
    (sent,) = server.recent()
    config = sent["body"]["generationConfig"]
    assert config["responseSchema"] == {"type": "ARRAY", "items": {"type": "STRING"}}
    assert config["responseMimeType"] == "application/json"


def test_a_set_of_labels_is_a_list_and_a_choice_an_object(server: LlmServer) -> None:
    assert response_schema("label_set") == response_schema("task_list")
    label = {"type": "STRING"}
    assert response_schema("choice")["properties"] == {"label": label}
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
        {"thinking_budget": -2},
        {"safety_threshold": "NONE"},
        {"service_tier": "slow"},
    ],
)
def test_values_that_are_none(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        GeminiBackend(**{"model": MODEL, **fields})
    assert "secret" not in str(caught.value)


# -------------------------------------------------------------------------------------------------- what is refused


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


def test_retry_info_that_also_stands_in_a_quota_of_zero(server: LlmServer) -> None:
    server.reset(quota_zero=True)
    assert isinstance(refused(backend_of(server)), FatalError)


@pytest.mark.parametrize(
    ("status", "body", "kind", "dooms", "word"),
    [
        (200, b"hello", Transient, True, "something else than JSON"),
        (200, b"", Transient, True, "nothing"),
        (200, b'{"candidates": \xff}', Transient, False, "cannot be read"),
        (200, [1, 2], Transient, True, "no Gemini endpoint"),
        (200, {"choices": []}, Transient, True, "no Gemini endpoint"),
        (200, {"candidates": 7}, Transient, True, "no Gemini endpoint"),
        (200, {"usageMetadata": {"promptTokenCount": 4}}, Transient, False, "without a candidate"),
        (204, b"", Transient, True, "204"),
        (502, b"<html>nginx</html>", Transient, False, "HTML"),
        (404, b"<!DOCTYPE html><p>", FatalError, False, "HTML"),
        (500, b"{", Transient, False, "500: {"),
        (500, [1, 2, 3], Transient, False, "500"),
        (500, "text", Transient, False, "500"),
        (503, {"error": {"message": "This model is experiencing high demand"}}, Throttled, False, "high"),
        (503, {"error": {"message": "gone fishing"}}, Transient, False, "fishing"),
        (400, {"error": "User location is not supported for the API use."}, FatalError, False, "location"),
    ],
)
def test_what_a_strange_endpoint_answers(
    status: int, body: object, kind: type[RequestError], dooms: bool, word: str
) -> None:
    error = Canned((status, body), route="gemini").one()
    assert type(error) is kind and word in error.detail, error.detail
    assert getattr(error, "dooms_probe", False) is dooms


def test_keys_of_others_that_an_endpoint_quotes() -> None:
    for quoted in (KEY, "AIzaSy" + "x" * 33, "ya29.a0AfH6-x"):
        error = Canned((400, {"error": {"message": f"bad\n key {quoted}. Sorry."}}), route="gemini").one()
        assert quoted not in error.detail and "[key]" in error.detail


# ------------------------------------------------------------------------------------------------------- what is read


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
def test_parts_and_tokens(finish: str, parts: object, more: dict[str, Any], text: str, output_tokens: int) -> None:
    def said(**more: object) -> Any:
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish}
        return Canned((200, {"candidates": [candidate], **more}), route="gemini").one(request())

    answer = said(**more)
    assert (answer.text, answer.output_tokens) == (text, output_tokens)
    assert (answer.model, answer.prompt_tokens) == ("m", -(-len(request().text) // 4))
    counted = said(usageMetadata={"promptTokenCount": 11}, modelVersion="m-1")
    assert (counted.model, counted.prompt_tokens) == ("m-1", 11)
