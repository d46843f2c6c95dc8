"""The back end for models on Vertex AI endpoints: its routes, its tokens and its look-up, which runs through
google-cloud-aiplatform itself. What all back ends do is in test_backend_contract and test_http_contract."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import pickle
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import google.auth
import google.auth.exceptions
import google.oauth2.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.llm import vertex_lookup
from textmint.transforms.llm.base import Answer, FatalError, Request, RequestError, Session, Throttled, Transient
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema
from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend, without_echo
from textmint.transforms.llm.vertex_lookup import parse_endpoint

from tests.support import backends
from tests.support.backends import ENDPOINT as NAME
from tests.support.backends import EXAMPLE, opened
from tests.support.helpers import Script
from tests.support.llm_server import LlmServer

TOKEN = "tok-3fA9.secret_ABCDEFGHIJKL"
PROMPT = "What is a car?"


@pytest.fixture(autouse=True)
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-in credentials, except for the tests that bring their own."""
    if "real_credentials" not in request.fixturenames:
        use(monkeypatch, google.oauth2.credentials.Credentials(TOKEN))


@pytest.fixture
def real_credentials() -> None:
    """google.auth.default as it is."""


def use(monkeypatch: pytest.MonkeyPatch, credentials: object) -> None:
    monkeypatch.setattr(google.auth, "default", lambda **_: (credentials, "p"))


def saying(status: int, value: object, **headers: str) -> Script:
    """The same reply to everything."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Script(lambda *_: (status, named, raw))


def routes(chat: tuple[int, object], predict: tuple[int, object]) -> Script:
    """One reply for each of the two routes."""

    def reply(_: str, path: str, __: Mapping[str, str], ___: bytes) -> tuple[int, dict[str, str], bytes]:
        status, value = chat if path.endswith("/chat/completions") else predict
        return status, {}, json.dumps(value).encode()

    return Script(reply)


NO_CHAT = (404, {"detail": "Not Found"})


def request(text: str = PROMPT) -> Request:
    return Request(request_id=text, kind="example", text=text, seed=1, variables={})


def backend(base_url: str | None, **options: Any) -> VertexEndpointBackend:
    return VertexEndpointBackend(**{"endpoint": NAME, "base_url": base_url, **options})


def run(back: VertexEndpointBackend, use_it: Callable[[Session], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with opened(back) as session:
            return await use_it(session)

    return asyncio.run(main())


def ask(back: VertexEndpointBackend, *texts: str) -> list[Answer | RequestError]:
    return backends.ask(back, *map(request, texts or (PROMPT,)))


def one(back: VertexEndpointBackend, text: str = PROMPT) -> Any:
    return ask(back, text)[0]


# --------------------------------------------------------------------------------------------------- the description


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        (("123", "p", "us-central1"), ("p", "us-central1", "123")),
        (("mg-endpoint-00bad2fe-e062-4caf", "p", "eu-west4"), ("p", "eu-west4", "mg-endpoint-00bad2fe-e062-4caf")),
        ((NAME, "", ""), ("p", "us-central1", "7")),
        (("projects/9/locations/l/endpoints/7", "p", "m"), ("9", "l", "7")),
        (("7", "example.com:p", "l"), ("example.com:p", "l", "7")),
    ],
)
def test_what_names_an_endpoint(given_: tuple[str, str, str], found: tuple[str, str, str]) -> None:
    assert parse_endpoint(*given_) == found


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (("", "p", "l"), "--vertex_endpoint is"),
        (("a b", "p", "l"), "--vertex_endpoint is"),
        (("projects/p/locations/l/models/7", "p", "l"), "--vertex_endpoint is"),
        (("7:predict", "p", "l"), "--vertex_endpoint is"),
        (("../7", "p", "l"), "--vertex_endpoint is"),
        (("7", "", "l"), "--vertex_project is needed"),
        (("7", "p", ""), "--vertex_location is needed"),
        (("7", "p q", "l"), "--vertex_project is no name"),
        (("7", "p", "evil.example/x"), "--vertex_location is no name"),
    ],
)
def test_what_names_none(given_: tuple[str, str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_endpoint(*given_)
    with pytest.raises(ValueError, match=words):
        VertexEndpointBackend(endpoint=given_[0], project=given_[1], location=given_[2])


@pytest.mark.parametrize("url", ["", "127.0.0.1:1", "ftp://h", "http://", "http://h?x=1", "http://user:hush@h/v1"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="--base_url is") as caught:
        backend(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("tail", "chat", "predict"),
    [
        ("", "/v1beta1/", "/v1/"),
        ("/", "/v1beta1/", "/v1/"),
        ("/v1", "/v1/", "/v1/"),
        ("/v1beta1/", "/v1beta1/", "/v1beta1/"),
        ("/gate/way/v1", "/gate/way/v1/", "/gate/way/v1/"),
        ("/gate/way", "/gate/way/v1beta1/", "/gate/way/v1/"),
        (f"/v1/{NAME}", "/v1/", "/v1/"),
    ],
)
def test_where_requests_go(tail: str, chat: str, predict: str) -> None:
    with routes(NO_CHAT, (200, {"predictions": ["x"]})) as script:
        assert one(backend(script.url + tail)).text == "x"
        assert [each[1] for each in script.seen] == [f"{chat}{NAME}/chat/completions", f"{predict}{NAME}:predict"]


# ------------------------------------------------------------------------------------------------- the chat route


def test_chat(server: LlmServer) -> None:
    server.reset(require_key=TOKEN, served_model="gemma-3-12b-it")
    answers = ask(backend(server.base_url, max_output_tokens=300, temperature=0.7, top_p=0.9), EXAMPLE, EXAMPLE + "2")
    for answer in answers:
        assert isinstance(answer, Answer)
        assert set(json.loads(answer.text)) == {"input_text", "label", "misleading_label"}
        assert (answer.finish_reason, answer.model) == ("stop", "gemma-3-12b-it")
        assert answer.output_tokens == -(-len(answer.text) // 4)
    stats, sent = server.stats(), server.recent()[-1]
    assert (stats["requests"], stats["by_protocol"], stats["connections_opened"]) == (2, {"chat": 2}, 2)  # one: /reset
    assert not stats["key_in_url"]
    assert sent["body"] == {
        "model": "",
        "messages": [{"role": "user", "content": EXAMPLE + "2"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 300,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": STRUCTURE_NAMES["example"], "strict": True, "schema": json_schema("example")},
        },
    }


def test_no_structured_output_where_none_is_wanted(server: LlmServer) -> None:
    server.reset(refuse_structured=True)
    assert isinstance(one(backend(server.base_url, structured_output=False)), Answer)
    assert server.stats()["requests"] == 1


def chat_reply(content: object, **fields: object) -> dict[str, object]:
    return {"choices": [{"message": {"role": "assistant", "content": content, **fields}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("value", "text", "finish"),
    [
        (chat_reply("hi"), "hi", "stop"),
        (chat_reply(None), "", "stop"),
        (chat_reply("", refusal="I cannot"), "I cannot", "reply_filter"),
        (chat_reply([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", "stop"),
        (chat_reply([{"type": "thinking", "text": "hm"}, {"type": "text", "text": "b"}]), "b", "stop"),
        (chat_reply("x", reasoning_content="hm"), "x", "stop"),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": "eos_token"}]}, "x", "stop"),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]}, "x", "length"),
        ({"choices": [{"text": "x", "finish_reason": "stop_sequence"}]}, "x", "stop"),
        ({"predictions": ["x"]}, "x", "stop"),  # containers that serve every path alike
    ],
)
def test_forms_of_a_chat_reply(value: object, text: str, finish: str) -> None:
    with saying(200, value) as script:
        answer = one(backend(script.url))
    assert (answer.text, answer.finish_reason) == (text, finish)
    assert (answer.model, answer.prompt_tokens, answer.output_tokens) == ("endpoints/7", 4, -(-len(text) // 4))


# ------------------------------------------------------------------------------------------------------- predict


@pytest.mark.parametrize("route", ["404", "400"])
@pytest.mark.parametrize("echo", [False, True])
def test_predict_where_there_is_no_chat(
    server: LlmServer, route: str, echo: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.reset(chat_route=route, predict_echo=echo, served_model="gemma-7b-it", require_key=TOKEN)
    prompts = [f"{EXAMPLE}{n}" for n in range(5)]
    with caplog.at_level(logging.INFO, "textmint"):
        answers = ask(backend(server.base_url, temperature=0.5), *prompts)
    for answer in answers:
        assert isinstance(answer, Answer)
        assert set(json.loads(answer.text)) == {"input_text", "label", "misleading_label"}
        assert (answer.model, answer.finish_reason) == ("gemma-7b-it", "stop")
        assert answer.output_tokens == -(-len(answer.text) // 4)
    assert len({answer.text for answer in answers if isinstance(answer, Answer)}) == 5
    assert server.stats()["by_protocol"] == {"chat": 1, "predict": 5}
    assert len(caplog.records) == 1
    assert "asked by predict, without structured output" in caplog.text
    assert server.recent()[-1]["body"] == {
        "instances": [{"prompt": prompts[-1], "max_tokens": 2048, "temperature": 0.5, "top_p": 1.0}]
    }


@pytest.mark.parametrize(
    "refusal",
    [
        (404, {"detail": "Not Found"}),
        (404, [{"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}]),
        (405, {"detail": "Method Not Allowed"}),
        (501, {"error": {"code": 501, "message": "Operation is not implemented", "status": "UNIMPLEMENTED"}}),
        (400, {"error": {"message": "This route is not supported by the container."}}),
        (422, {"detail": [{"type": "missing", "loc": ["body", "instances"], "msg": "Field required"}]}),
    ],
)
def test_ways_to_have_no_chat_route(refusal: tuple[int, object]) -> None:
    with routes(refusal, (200, {"predictions": ["x"]})) as script:
        assert [getattr(each, "text", each) for each in ask(backend(script.url), "a", "b")] == ["x", "x"]
        assert len(script.seen) == 3


def test_many_at_once_find_it_out_together(server: LlmServer, caplog: pytest.LogCaptureFixture) -> None:
    server.reset(chat_route="404", latency_median_ms=5)

    async def many(session: Session) -> list[Answer]:
        return await asyncio.gather(*(session.generate(request(f"{EXAMPLE}{n}")) for n in range(64)))

    with caplog.at_level(logging.INFO, "textmint"):
        assert len({answer.text for answer in run(backend(server.base_url), many)}) == 64
    assert len(caplog.records) == 1


def test_a_route_that_served_is_not_given_up() -> None:
    replies = [(200, chat_reply("x")), (501, {}), (200, chat_reply("y"))]

    def reply(*_: object) -> tuple[int, dict[str, str], bytes]:
        status, value = replies.pop(0)
        return status, {}, json.dumps(value).encode()

    with Script(reply) as script:
        found = ask(backend(script.url), "a", "b", "c")
        assert all(each[1].endswith("/chat/completions") for each in script.seen)
    assert [type(each) for each in found] == [Answer, Transient, Answer]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_instances_as_tgi_takes_them(temperature: float) -> None:
    def reply(_: str, path: str, __: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if not path.endswith(":predict"):
            return 404, {}, b"{}"
        if "inputs" in json.loads(body)["instances"][0]:
            return 200, {}, json.dumps({"predictions": ["x"]}).encode()
        message = "Failed to deserialize: instances[0]: data did not match any variant of untagged enum VertexInstance"
        return 422, {}, json.dumps({"error": message}).encode()

    with Script(reply) as script:
        back = backend(script.url, temperature=temperature, max_output_tokens=50)
        assert [getattr(each, "text", each) for each in ask(back, "a", "b")] == ["x", "x"]
        sent = [json.loads(each[3]) for each in script.seen]
    sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0} if temperature else {"do_sample": False}
    assert len(sent) == 4
    assert sent[-1] == {
        "instances": [{"inputs": "b", "parameters": {"max_new_tokens": 50, "return_full_text": False, **sampling}}]
    }


CHOICE = {"message": {"role": "assistant", "content": "Cars."}, "finish_reason": "length", "index": 0}


@pytest.mark.parametrize(
    ("predictions", "text", "finish"),
    [
        (["Cars."], "Cars.", "stop"),
        ([f"Prompt:\n{PROMPT}\nOutput:\nCars."], "Cars.", "stop"),
        ([f"prompt:\n{PROMPT}\noutput:\nCars."], "Cars.", "stop"),
        ("Cars.", "Cars.", "stop"),
        ([["Cars."]], "Cars.", "stop"),
        ([{"generated_text": f"{PROMPT} Cars."}], " Cars.", "stop"),
        ([[{"generated_text": "Cars."}]], "Cars.", "stop"),
        ([{"generated_text": "Cars.", "details": {"finish_reason": "length"}}], "Cars.", "length"),
        ([{"text": "Cars."}], "Cars.", "stop"),
        ([{"output": f"Prompt:\n{PROMPT}\nOutput:\nCars."}], "Cars.", "stop"),
        ([{"outputs": ["Cars."]}], "Cars.", "stop"),
        ([{"content": "Cars.", "safetyAttributes": {"blocked": False}}], "Cars.", "stop"),
        ([{"content": "", "safetyAttributes": {"blocked": True}}], "", "reply_filter"),
        ([{"candidates": [{"content": "Cars.", "author": "1"}]}], "Cars.", "stop"),
        ([{"candidates": ["Cars."]}], "Cars.", "stop"),
        (
            [{"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "Cars."}]}}]}],
            "Cars.",
            "stop",
        ),
        ([{"candidates": [{"finishReason": "SAFETY"}]}], "", "reply_filter"),
        ([{"candidates": [{"finishReason": "MAX_TOKENS", "content": {"role": "model"}}]}], "", "length"),
        ({"choices": [CHOICE]}, "Cars.", "length"),
        ([{"choices": [CHOICE]}], "Cars.", "length"),
        ([{"choices": [{"text": "Cars."}]}], "Cars.", "stop"),
        ([""], "", "stop"),
    ],
)
def test_forms_of_a_prediction(predictions: object, text: str, finish: str) -> None:
    with routes(NO_CHAT, (200, {"predictions": predictions, "modelDisplayName": "gemma"})) as script:
        answer = one(backend(script.url))
    assert (answer.text, answer.finish_reason, answer.model) == (text, finish, "gemma")


@pytest.mark.parametrize(
    "value",
    [{"predictions": []}, {"predictions": [[0.1, 0.2]]}, {"predictions": [{"embedding": [0.1]}]}, {"x": 1}, [], 7, "s",
     {"choices": 7}, {"choices": [{"message": 7}]}, {"predictions": [{"choices": [{}]}]}, None],
)  # fmt: skip
def test_json_of_another_shape(value: object) -> None:
    with saying(200, value) as script:
        error = one(backend(script.url))
    assert isinstance(error, Transient)
    assert error.dooms_probe
    assert "another form" in error.detail


texts = st.text(st.sampled_from("ab \nOo:") | st.characters(), max_size=40) | st.sampled_from(
    ["Output:\nx", "a\nOutput:\nb", "Prompt:\na\nOutput:\nb", " a ", "\n"]
)


@given(prompt=texts, output=texts)
def test_an_echo_is_taken_off_whatever_it_holds(prompt: str, output: str) -> None:
    assert without_echo(f"Prompt:\n{prompt.strip()}\nOutput:\n{output}", prompt) == output


@given(output=texts)
def test_what_is_no_echo_stays(output: str) -> None:
    assert without_echo(output, "a prompt of its own") == output or output.lower().startswith("prompt:\n")


def test_an_echo_of_a_prompt_that_was_rewritten() -> None:
    assert without_echo("Prompt:\n<s> a\nOutput:\nb </s>\nOutput:\nmodel's", "a\nOutput:\nb") == "model's"


# --------------------------------------------------------------------------------------------------------- errors


def test_both_routes_404() -> None:
    with saying(
        404, {"error": {"code": 404, "message": f"Endpoint `{NAME}` not found.", "status": "NOT_FOUND"}}
    ) as script:
        error = one(backend(script.url))
        assert [each[1].rpartition("/")[2] for each in script.seen] == ["completions", "7:predict"]
    assert isinstance(error, FatalError)
    assert f"Endpoint `{NAME}` not found." in error.detail
    assert "--vertex_endpoint" in error.remedy
    assert "gcloud ai endpoints list --project=p --region=us-central1" in error.remedy


def test_the_model_is_wrong(server: LlmServer) -> None:
    server.reset(model_known="gemma")
    error = one(backend(server.base_url, model="gema"))
    assert isinstance(error, FatalError)
    assert "--model" in error.remedy
    assert server.stats()["requests"] == 1
    assert isinstance(one(backend(server.base_url, model="gemma")), Answer)


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (400, {"message": f"Endpoint {NAME} doesn't have traffic_split.", "status": "FAILED_PRECONDITION"}, "deploy a"),
        (400, {"message": "The endpoint does not have any deployed models."}, "deploy a"),
        (
            400,
            {
                "message": "Dedicated Endpoint cannot be accessed through the shared Vertex AI domain "
                "aiplatform.googleapis.com. Please access the endpoint using its dedicated domain name "
                "'7.us-central1-545001441318.prediction.vertexai.goog'"
            },
            "--base_url out, or set it to https://7.us-central1-545001441318.prediction.vertexai.goog",
        ),
        (
            403,
            {
                "message": f"Permission 'aiplatform.endpoints.predict' denied on '{NAME}' (or it may not exist).",
                "details": [{"reason": "IAM_PERMISSION_DENIED"}],
            },
            "roles/aiplatform.user in project p",
        ),
        (
            403,
            {
                "message": "Vertex AI API has not been used in project p before",
                "details": [{"reason": "SERVICE_DISABLED"}],
            },
            "gcloud services enable aiplatform.googleapis.com --project=p",
        ),
        (403, {"message": "x", "details": [{"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}, "cloud-platform"),
        (429, {"message": "x", "details": [{"metadata": {"quota_limit_value": "0"}}]}, "iam-admin/quotas?project=p"),
        (429, {"message": "Quota exceeded, limit: 0, model: m"}, "iam-admin/quotas"),
    ],
)
def test_remedies(status: int, error: dict[str, Any], remedy: str) -> None:
    with saying(status, [{"error": {"code": status, **error}}]) as script:
        found = one(backend(script.url))
        assert len(script.seen) == 1
    assert isinstance(found, FatalError), found
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (b"<!DOCTYPE html><html></html>", "text/html", "answered HTML, not JSON"),
        (b"<html>", "application/json", "answered HTML, not JSON"),
        (b"pong", "text/plain", "something else than JSON"),
    ],
)
def test_no_such_endpoint_there(value: bytes, kind: str, words: str) -> None:
    with saying(200, value, Content_Type=kind) as script:
        error = one(backend(script.url))
    assert isinstance(error, Transient)
    assert error.dooms_probe
    assert words in error.detail


# ---------------------------------------------------------------------------------------------------- credentials


class Renewable(google.oauth2.credentials.Credentials):  # type: ignore[misc, unused-ignore]
    """Credentials whose tokens are numbered, and which are slow to give them."""

    def __init__(self, error: Exception | None = None, lifetime: float = 3600) -> None:
        super().__init__(None)
        self.renewals = 0
        self.error = error
        self.lifetime = lifetime

    def refresh(self, request: object) -> None:
        time.sleep(0.05)
        self.renewals += 1
        if self.error is not None:
            raise self.error
        self.token = f"{TOKEN}-{self.renewals}"
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        self.expiry = now + datetime.timedelta(seconds=self.lifetime)


def test_one_renewal_for_all_that_wait(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Renewable()
    use(monkeypatch, credentials)
    server.reset()

    async def many(session: Session) -> int:
        await session.generate(request(EXAMPLE))
        credentials.expiry = datetime.datetime(2020, 1, 1)
        tasks = [asyncio.create_task(session.generate(request(f"{EXAMPLE}{n}"))) for n in range(30)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()  # which must not take the token from the others
        ticks = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.001)
            ticks += 1
        assert sum(isinstance(each, Answer) for each in await asyncio.gather(*tasks, return_exceptions=True)) == 29
        return ticks

    assert run(backend(server.base_url), many) > 5  # the loop went on meanwhile
    assert credentials.renewals == 2
    assert server.recent()[-1]["headers"]["authorization"] == f"Bearer {TOKEN}-2"


def test_a_token_near_its_end_is_renewed_while_it_serves(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Renewable(lifetime=60)  # seconds; google-auth calls the last 225 stale
    use(monkeypatch, credentials)
    server.reset()

    async def main(session: Session) -> None:
        credentials.lifetime = 3600
        await session.generate(request("a"))
        await asyncio.sleep(0.2)
        await session.generate(request("b"))

    run(backend(server.base_url), main)
    tokens = [each["headers"]["authorization"][-2:] for each in server.recent()]
    assert tokens == ["-1", "-2"]


def test_a_token_that_runs_out_early_is_renewed(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Renewable()
    use(monkeypatch, credentials)
    server.reset()
    found: list[Any] = []

    async def main(session: Session) -> None:
        await session.generate(request("a"))
        for key in (f"{TOKEN}-2", f"{TOKEN}-2", "none of them", "none of them"):
            server.reset(require_key=key)
            try:
                found.append(await session.generate(request("b")))
            except RequestError as error:
                found.append(error)

    run(backend(server.base_url), main)
    assert [type(each) for each in found] == [Transient, Answer, Transient, FatalError]


def test_a_token_that_a_gateway_refuses_under_status_200_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Renewable())
    refused = {"error": {"code": 401, "message": "token expired"}}
    good = {"choices": [{"message": {"content": EXAMPLE}}]}
    used: list[str] = []

    def reply(_: str, __: str, headers: Mapping[str, str], ___: bytes) -> tuple[int, dict[str, str], bytes]:
        used.append(headers["authorization"])
        is_served = len(used) == 1 or used[-1] != used[0]
        return 200, {}, json.dumps(good if is_served else refused).encode()

    with Script(reply) as script:
        found = ask(backend(script.url), "a", "b", "c")
    assert [type(each) for each in found] == [Answer, Transient, Answer]
    assert used[0] == used[1] != used[2]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (google.auth.exceptions.RefreshError(f"invalid_grant {TOKEN}"), FatalError),
        (google.auth.exceptions.RefreshError("internal_failure", retryable=True), Transient),
        (google.auth.exceptions.TransportError("no route"), Transient),
        (OSError("odd"), Transient),
    ],
)
def test_no_token(error: Exception, kind: type[RequestError], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Renewable(error))
    with pytest.raises(RequestError) as caught:
        asyncio.run(backend("http://127.0.0.1:9").open())
    assert type(caught.value) is kind
    assert TOKEN not in caught.value.detail


def test_who_pays(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, google.oauth2.credentials.Credentials(TOKEN, quota_project_id="payer"))
    server.reset()
    one(backend(server.base_url))
    assert server.recent()[-1]["headers"]["x-goog-user-project"] == "payer"


def key_file(token_uri: str) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "robot@p.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }


@pytest.mark.usefixtures("real_credentials")
def test_application_default_credentials(server: LlmServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    server.reset(require_key=TOKEN)
    with saying(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}) as script:
        path = tmp_path / "key.json"
        path.write_text(json.dumps(key_file(script.url)))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        assert isinstance(one(backend(server.base_url)), Answer)
        assert len(script.seen) == 1


@pytest.mark.usefixtures("real_credentials")
def test_no_application_default_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    path = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for content in (None, "{", json.dumps({"type": "service_account", "private_key": "hush"})):
        if content is not None:
            path.write_text(content)
        with pytest.raises(FatalError) as caught:
            asyncio.run(backend("http://127.0.0.1:9").open())
        assert "gcloud auth application-default login" in caught.value.remedy
        assert "hush" not in caught.value.detail


def test_tokens_stay_out_of_everything(server: LlmServer, caplog: pytest.LogCaptureFixture) -> None:
    server.reset(require_key="another", echo_key=True)
    sessions: list[Session] = []

    async def main(session: Session) -> None:
        sessions.append(session)
        with pytest.raises(FatalError) as caught:
            await session.generate(request())
        said = repr(caught.value) + str(caught.value.args) + caught.value.detail + caught.value.remedy
        assert "[key]" in caught.value.detail
        assert TOKEN not in said
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    with caplog.at_level(logging.DEBUG):
        run(backend(server.base_url), main)
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(sessions)
    assert TOKEN.encode() not in pickle.dumps(backend(server.base_url))


def test_a_token_at_the_cut_is_struck_out_whole() -> None:
    message = "x" * 285 + f" {TOKEN} Bearer abc.def ya29.zzz eyJhbGciOi.eyJzdWIi.c2ln"
    with saying(500, {"error": {"message": message}}) as script:
        error = one(backend(script.url))
    assert "tok-3" not in error.detail
    assert len(error.detail) <= 350
    with saying(500, {"error": {"message": message[280:]}}) as script:
        error = one(backend(script.url))
    assert error.detail.endswith("[key] [key] [key] [key]")


# ---------------------------------------------------------------------------------------------------- the look-up


def google_at(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    """Lets the look-up of google-cloud-aiplatform reach a server of ours."""
    monkeypatch.setattr(vertex_lookup, "_api_root", lambda location: script.url)


def an_endpoint(**fields: object) -> dict[str, object]:
    return {
        "name": "projects/1/locations/us-central1/endpoints/7",
        "displayName": "my endpoint",
        "createTime": "2026-01-01T00:00:00Z",
        "deployedModels": [
            {"id": "2", "model": "projects/1/locations/us-central1/models/5", "displayName": "gemma-1"},
            {"id": "1", "model": "projects/1/locations/us-central1/models/6", "displayName": "gemma-2"},
        ],
        "trafficSplit": {"2": 90, "1": 10},
        "aFieldOfNextYear": {"x": 1},
        **fields,
    }


def test_where_google_is() -> None:
    assert vertex_lookup._api_root("us-central1") == "https://us-central1-aiplatform.googleapis.com"
    assert vertex_lookup._api_root("global") == "https://aiplatform.googleapis.com"


def test_a_dedicated_endpoint_is_asked_at_its_own_domain(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reset(chat_route="404", require_key=TOKEN)
    found = an_endpoint(dedicatedEndpointEnabled=True, dedicatedEndpointDns=server.base_url)
    with saying(200, found) as script:
        google_at(monkeypatch, script)
        answers = ask(backend(None), "a", "b")
        (method, path, headers, _) = script.seen[0]
        assert len(script.seen) == 1
    assert all(isinstance(each, Answer) for each in answers)
    assert (method, path.partition("?")[0]) == ("GET", f"/v1/{NAME}")
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert "gapic" in headers["x-goog-api-client"]  # the library's own client asked
    assert server.stats()["requests"] == 3


def test_a_dedicated_domain_is_reached_by_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = "7.us-central1-1.prediction.vertexai.invalid"
    with saying(200, an_endpoint(dedicatedEndpointDns=domain)) as script:
        google_at(monkeypatch, script)

        async def urls(session: Any) -> list[str]:
            return [str(session._chat_url), str(session._predict_url)]

        assert run(backend(None), urls) == [
            f"https://{domain}/v1beta1/{NAME}/chat/completions",
            f"https://{domain}/v1/{NAME}:predict",
        ]


def test_a_shared_endpoint_is_asked_at_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(method: str, *_: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps(an_endpoint() if method == "GET" else chat_reply("hi")).encode()

    with Script(reply) as script:
        google_at(monkeypatch, script)
        answer = one(backend(None))
    assert (answer.text, answer.model) == ("hi", "gemma-1")  # named by what is deployed


@pytest.mark.parametrize(
    ("status", "value", "kind", "words"),
    [
        (200, an_endpoint(deployedModels=[]), FatalError, "deploy a model"),
        (200, an_endpoint(network="projects/1/global/networks/n"), FatalError, "--base_url"),
        (200, an_endpoint(privateServiceConnectConfig={"enablePrivateServiceConnect": True}), FatalError, "--base_url"),
        (404, {"error": {"code": 404, "message": "The Endpoint does not exist."}}, FatalError, "--vertex_endpoint"),
        (403, {"error": {"code": 403, "message": "Permission denied"}}, FatalError, "roles/aiplatform.user"),
        (
            403,
            {"error": {"code": 403, "message": "Vertex AI API has not been used in project p before"}},
            FatalError,
            "gcloud services enable",
        ),
        (401, {"error": {"code": 401, "message": f"Bad token {TOKEN}"}}, FatalError, "gcloud auth"),
        (
            400,
            {"error": {"code": 400, "message": "Request contains an invalid argument."}},
            FatalError,
            "--vertex_endpoint",
        ),
        (429, {"error": {"code": 429, "message": "Quota exceeded"}}, Throttled, ""),
        (503, {"error": {"code": 503, "message": "unavailable"}}, Transient, ""),
        (200, b"<html>", Transient, ""),
    ],
)
def test_a_look_up_that_fails(
    status: int, value: object, kind: type[RequestError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saying(status, value) as script:
        google_at(monkeypatch, script)
        with pytest.raises(RequestError) as caught:
            asyncio.run(backend(None).open())
        assert len(script.seen) == 1, "a hidden retry"
    assert type(caught.value) is kind, caught.value
    assert words in getattr(caught.value, "remedy", "")
    assert TOKEN not in caught.value.detail


def test_a_look_up_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertex_lookup, "_api_root", lambda location: "http://127.0.0.1:9")
    with pytest.raises(Transient) as caught:
        asyncio.run(backend(None).open())
    assert caught.value.dooms_probe


def test_the_large_library_is_left_alone_until_it_is_needed() -> None:
    code = (
        "import sys; from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend;"
        "VertexEndpointBackend(endpoint='7', project='p', location='l');"
        "sys.exit('google.cloud.aiplatform_v1' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
