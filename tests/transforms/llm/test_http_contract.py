"""What an answer over HTTP means for a run is the same for every back end that asks an endpoint.

Each row of the tables is what a real endpoint sends, or a user quotes from one. It goes over loopback through a session
of each back end.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import json
import queue
import socket
import time
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.llm.base import Answer, FatalError, Refused, RequestError, Throttled, Transient
from textmint.transforms.llm.engine import Engine, Settings
from textmint.transforms.llm.error_body import fault_of
from textmint.transforms.llm.error_meaning import filter_of, meaning_of
from textmint.transforms.llm.jobs import Done
from textmint.transforms.llm.redaction import DETAIL_CHARS, masked, one_line
from textmint.transforms.llm.reply_text import finish_of
from textmint.transforms.llm.retry_after import wait_of

from tests.support.backends import KEY, ask, backend_of, credentials_of, request
from tests.support.helpers import Script

BACKENDS = ("openai", "gemini", "chat")


class Endpoint:
    """What it says is what every request gets."""

    def __init__(self) -> None:
        self.says: tuple[int, Mapping[str, str], bytes] = (200, {}, b"")
        self.script = Script(self._reply)

    def _reply(self, *_: object) -> tuple[int, dict[str, str], bytes]:
        status, headers, raw = self.says
        return status, dict(headers), raw

    def ask(
        self, name: str, status: int, body: object, headers: Mapping[str, str] | None = None, **settings: Any
    ) -> Any:
        """The answer, or the error, of one request to an endpoint that says this."""
        self.says = (status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())
        self.script.seen.clear()
        return answer(name, self.script.url, **settings)


def answer(name: str, url: str, **settings: Any) -> Any:
    """The answer, or the error, of one request to a URL."""
    (found,) = ask(backend_of(name, url, **settings), request())
    if isinstance(found, RequestError):
        assert KEY not in found.detail + repr(found) and "\n" not in found.detail
    return found


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    with made.script:
        yield made


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    with credentials_of():
        yield


def named(found: Any) -> str:
    """One word for what an answer or an error is."""
    if isinstance(found, Answer):
        return found.finish_reason
    if isinstance(found, Transient) and found.dooms_probe:
        return "foreign"
    if isinstance(found, FatalError):
        return "forbidden" if found.may_be_prompt else "doomed"
    return type(found).__name__.lower()


def error(message: str, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def raw(inner: object, code: int = 400) -> dict[str, Any]:
    """OpenRouter's wrapping of what a provider answered."""
    metadata = {"raw": inner if isinstance(inner, str) else json.dumps(inner), "provider_name": "P"}
    return error("Provider returned error", code=code, metadata=metadata)


# --------------------------------------------------------------------------------------------- a filter and a prompt

XAI = (
    "Content violates usage guidelines. Team: 1f2, API key ID: 9a8, Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO"
)
NOT_THE_REPLY = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
ZHIPU = "系统检测到输入或生成内容可能包含不安全或敏感内容，请您避免输入易产生敏感内容的提示语，感谢您的配合。"
OPENAI = "Invalid prompt: your prompt was flagged as potentially violating our usage policy."

BLOCKS: list[tuple[int, object, str]] = [
    (403, {"code": "The caller does not have permission to execute the specified operation", "error": XAI}, "prompt"),
    (403, {"code": "permission-denied", "error": "Content violates usage guidelines. "}, "prompt"),
    (400, error("Content Exists Risk", type="invalid_request_error", code="invalid_request_error"), "prompt"),
    (400, {"detail": "Content Exists Risk"}, "prompt"),
    (400, error(OPENAI, type="invalid_request_error", code="invalid_prompt"), "prompt"),
    (400, error("Rejected.", code="content_policy_violation"), "prompt"),
    (400, error("Your request was rejected as a result of our safety system."), "prompt"),
    (400, error(NOT_THE_REPLY, code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), "prompt"),
    (400, error("No.", innererror={"code": "ResponsibleAIPolicyViolation"}), "prompt"),
    (400, error("Input data may contain inappropriate content.", code="data_inspection_failed"), "prompt"),
    (400, error("<400> InternalError.Algo.DataInspectionFailed: Input text data may be bad."), "prompt"),
    (400, error("Output data may contain inappropriate content.", code="data_inspection_failed"), "reply"),
    (400, error("The request was rejected because it was considered high risk", code=400), "prompt"),
    (400, error("Rejected", type="content_filter", code=400, param="prompt"), "prompt"),
    (400, error(ZHIPU, code="1301"), "prompt"),
    (400, {"contentFilter": [{"level": 1, "role": "user"}], **error(ZHIPU, code="1301")}, "prompt"),
    (400, {"contentFilter": [{"level": 1, "role": "assistant"}], **error(ZHIPU, code="1301")}, "reply"),
    (
        403,
        error(
            'x/y requires moderation on P. Your input was flagged for "violence". No credits were charged.',
            code=403,
            metadata={"reasons": ["violence"], "flagged_input": "how to", "provider_name": "P", "model_slug": "x/y"},
        ),
        "prompt",
    ),
    (403, error("Forbidden", code=403, metadata={"reasons": ["violence"], "flagged_input": "how to"}), "prompt"),
    (400, {"type": "error", **error("Output blocked by content filtering policy")}, "reply"),
    (400, error("The request contains sensitive content.", code="InputTextSensitiveContentDetected"), "prompt"),
    (400, error("The reply may contain sensitive information.", code="OutputTextSensitiveContentDetected"), "reply"),
    (451, error("The content you provided or machine outputted is blocked.", type="censorship_blocked"), "prompt"),
    (403, {"object": "error", "message": "The input is not allowed", "type": "guardrail_violation"}, "prompt"),
    (422, error("Prompt was flagged by moderation"), "prompt"),
    (422, {"message": "blocked output: prompt contains unsafe content"}, "prompt"),
    (400, error("litellm.ContentPolicyViolationError: P - the prompt breaks its rules", code="400"), "prompt"),
    (400, error("Violated guardrail policy", type="None", code="400"), "prompt"),
    (502, error("Content violates usage guidelines."), "prompt"),
    (502, raw(error("Content Exists Risk"), 502), "prompt"),
    (500, error("Input data may contain inappropriate content."), "prompt"),
    (200, raw({"code": 403, "error": XAI}, 403), "prompt"),
    (200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}, "choices": None}, "prompt"),
    (200, {"base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}, "choices": []}, "reply"),
    (200, {"error": "Content Exists Risk"}, "prompt"),
]  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("status", "body", "of"), BLOCKS)
def test_what_a_filter_dislikes_is_an_answer_to_this_prompt_alone(
    endpoint: Endpoint, name: str, status: int, body: object, of: str
) -> None:
    found = endpoint.ask(name, status, body)
    assert named(found) == {"prompt": "content_filter", "reply": "reply_filter"}[of], found
    assert found.output_tokens == 0 and found.model == "m"
    assert found.text and found.text.isprintable() and len(found.text) <= DETAIL_CHARS  # the provider's words
    assert len(endpoint.script.seen) == 1


# ---------------------------------------------------------------------------------------------------- all other faults

FAULTS: list[tuple[int, object, str]] = [
    # by status alone
    *((status, {}, "transient") for status in (408, 409, 424, 425, 499, 500, 502, 503, 504)),
    *((status, b"error code: 520", "transient") for status in (520, 521, 522, 523, 524, 525, 526, 527, 530)),
    (429, {}, "throttled"),
    (529, {}, "throttled"),
    (400, {}, "refused"),
    (413, {}, "refused"),
    (401, {}, "doomed"),
    (402, {}, "doomed"),
    (403, {}, "forbidden"),
    (404, {}, "doomed"),
    # by words
    (424, {"error": "Request failed during generation: Server error: CUDA", "error_type": "generation"}, "transient"),
    (503, error("The engine is currently overloaded, please try again later."), "throttled"),
    (500, error("The model is overloaded"), "throttled"),
    (503, error("Loading model", type="unavailable_error", code=503), "transient"),
    (429, error("You exceeded your current quota, please check your plan and billing details."), "throttled"),
    (403, error("Quota", status="RESOURCE_EXHAUSTED", details=[{"reason": "RATE_LIMIT_EXCEEDED"}]), "throttled"),
    (400, error("This model's maximum context length is 4096 tokens. However, you requested 5000."), "refused"),
    (400, error("Failed to generate JSON", code="json_validate_failed"), "transient"),
    (503, error("Slow down"), "throttled"),
    (503, {"error": "Model is loading"}, "transient"),
    (429, error("Request too large for m on tokens per min (TPM): Limit 300, Requested 400."), "refused"),
    (400, error("m is not a valid model ID"), "doomed"),
    (400, {"message": "Model Not Exist"}, "doomed"),
    (407, b"", "doomed"),
    (400, b"Client sent an HTTP request to an HTTPS server.", "doomed"),
    (400, b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>", "doomed"),
    # a quota of zero
    (429, error("Rate limit reached: Limit 0, Used 0, Requested 12"), "doomed"),
    (429, error("Rate limit reached: Limit 500, Used 500, Requested 1"), "throttled"),
    (429, error("Quota exceeded for metric: x, limit: 0, model: y"), "doomed"),
    (429, error("Quota exceeded for metric: x, limit: 0.5"), "throttled"),
    (429, error("Quota exceeded for metric: x, limit: 05"), "throttled"),
    (429, [error("no", details=[{"violations": [{"quotaValue": "0"}]}])], "doomed"),
    (429, error("no", details=[{"metadata": {"quota_limit_value": "10"}}, 7]), "throttled"),
    (429, error("no", details="details"), "throttled"),
    # nobody pays: never tried again
    (429, error("Your prepayment credits are depleted."), "doomed"),
    (429, error("Check your plan.", type="insufficient_quota", code="insufficient_quota"), "doomed"),
    (429, error("insufficient balance (1008)", type="insufficient_balance_error", http_code="429"), "doomed"),
    (500, {"type": "error", **error("insufficient balance (1008)", type="api_error")}, "doomed"),
    (429, error("Quota exceeded", details=[{"metadata": {"quota_limit_value": "0"}}]), "doomed"),
    (429, error("Your account has exceeded its quota", type="exceeded_current_quota_error"), "doomed"),
    (400, error("Access denied, please make sure your account is in good standing.", code="Arrearage"), "doomed"),
    (400, error("Your credit balance is too low to access the API.", type="invalid_request_error"), "doomed"),
    (403, {"code": "INSUFFICIENT_BALANCE", "message": "Insufficient account balance"}, "doomed"),
    (429, error("余额不足或无可用资源包,请充值。", code="1113"), "doomed"),
    (402, error("Insufficient Balance"), "doomed"),
    # the key, the account, the country
    (400, error("Incorrect API key provided"), "doomed"),
    (400, error("API key not valid.", status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]), "doomed"),
    (403, error("Your account was suspended for violating our usage policies."), "forbidden"),
    (403, b"<html><title>Attention Required!</title>", "forbidden"),
    (403, error("Country, region, or territory not supported", code="unsupported_country_region_territory"), "doomed"),
    (200, {"error": {"code": 401, "message": "No auth credentials found"}}, "doomed"),
    (403, error("Request violates constraint constraints/x of the organization policy"), "forbidden"),
    # under status 200, in any form
    (200, {"Response": {"Error": {"Code": "AuthFailure.SecretIdNotFound", "Message": "No such SecretId"}}}, "doomed"),
    (200, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "result": None}, "doomed"),
    (200, {"header": {"code": 11200, "message": "AppIdNoAuthError: licc limit"}}, "doomed"),
    (200, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, "throttled"),
    (200, {"detail": [{"loc": ["body", "n"], "msg": "field required", "type": "missing"}]}, "refused"),
    (200, error("slow down", code=429), "throttled"),
    (200, error("Rate limit exceeded: free-models-per-min"), "throttled"),
    (200, error("upstream", code=502), "transient"),
    (200, {"error": "no backend"}, "transient"),
    (200, {"choices": [], "error": {"code": 502, "message": "upstream"}}, "transient"),
    (200, {"choices": [], "error": {"code": 402, "message": "Insufficient credits"}}, "doomed"),
    (200, {"choices": [], "usage": {}}, "transient"),
    (200, {"object": "error", "message": "The model `q.1` does not exist.", "code": 404}, "doomed"),
    (200, {"object": "error", "message": "internal", "code": 50001}, "transient"),
    (200, {"detail": "Internal Server Error"}, "transient"),
    (200, {"errors": [{"message": "capacity temporarily exceeded", "code": 3040}]}, "throttled"),
    (200, {"success": False, "message": "something"}, "transient"),
    (200, {"code": 20012, "message": "Model does not exist. Please check it carefully.", "data": None}, "doomed"),
    (200, {"code": 500, "msg": "busy", "success": False}, "transient"),
    (200, {"error_code": 17, "error_msg": "Open api daily request limit: insufficient quota"}, "doomed"),
    (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "doomed"),
    (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail: Please carry the API secret key"}}, "doomed"),
    (200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, "throttled"),
    (200, {"base_resp": {"status_code": 1000, "status_msg": "unknown error"}, "choices": None}, "transient"),
    (200, {"type": "error", **error("Overloaded", type="overloaded_error")}, "throttled"),
    (200, {"type": "error", **error("x", type="authentication_error")}, "doomed"),
    (200, [error("Resource has been exhausted", status="RESOURCE_EXHAUSTED")], "throttled"),
    (200, {"error": "You have insufficient_quota: add credits"}, "doomed"),
    (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, "doomed"),
    (200, raw("x is temporarily rate-limited upstream. Please retry shortly.", 429), "throttled"),
    (200, raw(error("This model's maximum context length is 10", type="invalid_request_error")), "refused"),
    (200, raw(error("Your credit balance is too low"), 400), "doomed"),
    # of another kind altogether
    (200, {"status": "ok"}, "foreign"),
    (200, b"<!doctype html><html>", "foreign"),
    (501, {}, "foreign"),
    (204, b"", "foreign"),
    (302, b"", "foreign"),
]  # fmt: skip
ITS_OWN = {
    # It looks for another route before it gives up, and what it finds is a server that knows no POST.
    ("chat", 501, "{}"): "doomed",
    # A chat endpoint's answer is none of Gemini's.
    ("gemini", 200, '{"choices": [], "usage": {}}'): "foreign",
}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("status", "body", "means"), FAULTS)
def test_a_fault_means_the_same_to_every_back_end(
    endpoint: Endpoint, name: str, status: int, body: object, means: str
) -> None:
    found = endpoint.ask(name, status, body)
    shown = body if isinstance(body, bytes) else json.dumps(body)
    assert named(found) == ITS_OWN.get((name, status, shown), means), found
    if isinstance(found, FatalError):
        assert found.remedy and "\n" not in found.remedy
    if isinstance(body, dict) and means in ("transient", "throttled", "doomed") and isinstance(body.get("error"), dict):
        assert body["error"]["message"] in found.detail, "the provider's words are lost"


def test_the_words_of_the_provider_behind_reach_the_user(endpoint: Endpoint) -> None:
    body = raw(error("Quantum flux too high", type="invalid_request_error"))
    for name in BACKENDS:
        assert "Quantum flux too high" in endpoint.ask(name, 400, body).detail
        assert "Quantum flux too high" in endpoint.ask(name, 200, body).detail


@pytest.mark.parametrize("status", [400, 200, 502])
@pytest.mark.parametrize("name", BACKENDS)
def test_structured_output_that_the_provider_behind_refuses_is_left_out(
    endpoint: Endpoint, name: str, status: int
) -> None:
    body = raw(error("'response_format' of type 'json_schema' is not supported with this model"), 400)
    found = endpoint.ask(name, status, body)
    assert isinstance(found, Refused | Transient | FatalError)
    sent = [json.loads(seen[3]) for seen in endpoint.script.seen]
    held = ["response_format" in each or "responseSchema" in each.get("generationConfig", {}) for each in sent]
    assert held[0] and not held[1], "it was not tried without"


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        *(("", "/v1"), ("/api", "/api/v1"), ("/v1", None), ("/v1beta/openai", None)),
        *(("/v1/models", "/v1"), ("/api/v1/chat", "/api/v1"), ("/v1/completions", "/v1")),
    ],
)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (404, b"404 page not found"),
        (405, {"detail": "Method Not Allowed"}),
        (404, error("Invalid URL (POST /chat/completions)", type="invalid_request_error")),
        (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
        (200, b"<!doctype html><html><title>Chat</title>"),
    ],
)
def test_a_base_url_without_its_version_is_told_at_once(
    endpoint: Endpoint, status: int, body: object, path: str, remedy: str | None
) -> None:
    found = endpoint.ask("openai", status, body, base_url=endpoint.script.url + path)
    assert isinstance(found, FatalError) or (isinstance(found, Transient) and found.dooms_probe)
    assert "--base_url (most end in /v1)" in found.remedy
    assert found.remedy.endswith(f"try {endpoint.script.url}{remedy}") is (remedy is not None)


# --------------------------------------------------------------------------------------------------- why a reply ended


def replies(name: str, finish: object, text: str = "{}") -> dict[str, Any]:
    if name == "gemini":
        return {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": finish}], "modelVersion": "m"}
    return {"model": "m", "choices": [{"message": {"content": text}, "finish_reason": finish}]}


FINISHES: dict[str, str] = {
    **dict.fromkeys(("stop", "STOP", "eos_token", "stop_sequence", "OTHER", "MALFORMED_FUNCTION_CALL", ""), "stop"),
    **dict.fromkeys(("length", "MAX_TOKENS", "model_length", "max_length"), "length"),
    **dict.fromkeys(
        ("content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "LANGUAGE", "sensitive",
         "MODEL_ARMOR", "IMAGE_SAFETY", "guardrail_intervened", "refusal"),
        "reply_filter",
    ),
    **dict.fromkeys(("abort", "error", "ABORT", "network_error", "cancelled"), "transient"),
    "insufficient_system_resource": "throttled",
}  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("finish", FINISHES)
def test_a_reply_that_was_broken_off_is_none_and_one_that_a_filter_stopped_may_be_asked_for_again(
    endpoint: Endpoint, name: str, finish: str
) -> None:
    assert named(endpoint.ask(name, 200, replies(name, finish))) == FINISHES[finish]


@pytest.mark.parametrize("finish", ["abort", "error"])
def test_a_prediction_that_was_broken_off_is_none(endpoint: Endpoint, finish: str) -> None:
    for prediction in (
        {"generated_text": "{}", "details": {"finish_reason": finish}},
        {"text": "{}", "finish_reason": finish},
        {"choices": [{"text": "{}", "finish_reason": finish}]},
    ):
        assert named(endpoint.ask("chat", 200, {"predictions": [prediction]})) == "transient"


@pytest.mark.parametrize("name", ["openai", "chat"])
def test_an_error_within_a_choice(endpoint: Endpoint, name: str) -> None:
    reply = replies(name, "error", "half of it")
    reply["choices"][0]["error"] = {"code": 402, "message": "Insufficient credits"}
    found = endpoint.ask(name, 200, reply)
    assert named(found) == "doomed" and "Insufficient credits" in found.detail
    reply["choices"][0]["error"] = {"code": 502, "message": "behind us"}
    found = endpoint.ask(name, 200, reply)
    assert named(found) == "transient" and "behind us" in found.detail


# ---------------------------------------------------------------------------------------------------- how long to wait

SENT = "Mon, 23 Nov 2026 10:00:00 GMT"
NOW = email.utils.parsedate_to_datetime(SENT).timestamp()

WAITS: list[tuple[Mapping[str, str], float | None]] = [
    ({"Retry-After": "3"}, 3.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"Retry-After": "-3"}, 0.0),
    ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
    ({"Retry-After": "2m59.5s"}, 179.5),
    ({"Retry-After": "250ms"}, 0.25),
    *(({"Retry-After": text}, None) for text in ("nan", "inf", "1e999", "soon", "", "1e300", "\x00", "٣ء")),
    ({"Retry-After": "Mon, 23 Nov 2026 10:00:30 GMT", "Date": SENT}, 30.0),
    ({"Retry-After": "Mon, 23 Nov 2026 09:00:00 GMT", "Date": SENT}, 0.0),
    ({"Retry-After": "Fri, 23 Nov 9999 09:00:00 GMT", "Date": SENT}, None),
    ({"Retry-After": f"{NOW + 20:.0f}", "Date": SENT}, 20.0),  # a moment
    ({"Retry-After": f"{(NOW + 20) * 1000:.0f}", "Date": SENT}, 20.0),  # the same in milliseconds
    ({"Retry-After": f"{NOW - 20:.0f}", "Date": SENT}, 0.0),
    ({"Retry-After": "3600"}, 3600.0),  # the engine bounds it
    ({"Retry-After": "1800000"}, 1800.0),  # no limit lasts for three weeks: milliseconds
    ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
    ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6m0s"}, None),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "40ms"}, 0.04),
    ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{(NOW + 7) * 1000:.0f}", "Date": SENT}, 7.0),
    ({"Retry-After": "2", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "50"}, 2.0),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
def test_how_long_an_endpoint_asks_to_wait(headers: Mapping[str, str], seconds: float | None) -> None:
    found = wait_of(headers)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=0.01))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("status", [429, 529, 503])
def test_every_back_end_reads_it(endpoint: Endpoint, name: str, status: int) -> None:
    moment = f"{time.time() + 20:.0f}"
    for headers in ({"Retry-After": "20"}, {"Retry-After": moment}, {"retry-after-ms": "20000"}):
        found = endpoint.ask(name, status, error("no"), headers)
        assert isinstance(found, Throttled | Transient) and found.retry_after == pytest.approx(20, abs=2)
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "20s"}]
    assert endpoint.ask(name, status, error("no", details=details)).retry_after == 20
    assert endpoint.ask(name, 200, error("no", code=429, details=details)).retry_after == 20
    assert named(endpoint.ask(name, 402, error("in flight"), {"Retry-After": "20"})) == "throttled"


def test_a_date_without_the_endpoints_clock_is_read_by_ours() -> None:
    found = wait_of({"Retry-After": email.utils.formatdate(time.time() + 60, usegmt=True)})
    assert found is not None and 50 < found <= 60


# ------------------------------------------------------------------------------------------------- nothing breaks it

_NAMES = st.sampled_from(
    ["error", "errors", "detail", "message", "code", "type", "status", "details", "metadata", "raw", "reason", "msg",
     "reasons", "retryDelay", "violations", "base_resp", "status_msg", "status_code", "loc", "innererror", "param",
     "contentFilter", "role", "Response", "Error", "header", "quotaValue", "quota_limit_value", "success", "object"]
)  # fmt: skip
_ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["429", "0"])
_VALUES = st.recursive(
    _ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=20
)


@settings(deadline=None)
@given(_VALUES, st.sampled_from([200, 204, 302, 400, 402, 403, 404, 418, 429, 500, 529]), st.text(max_size=30))
def test_no_body_and_no_header_whatever_breaks_the_reader(body: object, status: int, header: str) -> None:
    headers = {"Retry-After": header, "Date": header, "x-ratelimit-reset": header}
    fault = fault_of(status, headers, json.dumps(body).encode())
    assert fault.retry_after is None or 0 <= fault.retry_after <= 7 * 86_400
    assert filter_of(fault) in (None, "content_filter", "reply_filter")
    assert isinstance(meaning_of(fault), str)
    line = one_line(fault.message)
    assert len(line) <= DETAIL_CHARS and line.isprintable()


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"error":' * 5_000, json.dumps({"error": "[" * 100_000}), "\x00\x1b[2J"]
)
def test_bombs(body: str) -> None:
    assert one_line(fault_of(400, {}, body.encode()).message).isprintable()


@given(st.text(max_size=20) | st.integers() | st.none() | st.lists(st.text(), max_size=2))
def test_any_reason_to_end_is_one_of_ours(reason: object) -> None:
    with contextlib.suppress(RequestError):
        assert finish_of(reason, "it") in ("stop", "length", "reply_filter")


@pytest.mark.parametrize(
    "secret",
    ["sk-0123456789abcdef", "AIza" + "x" * 35, "AQ." + "x" * 30, "ya29.a0", "Bearer abc.def", "eyJhb.eyJz.c2ln"],
)
def test_what_looks_like_a_key_is_never_shown(secret: str) -> None:
    assert one_line(f"got {secret} there") == "got [key] there"


# ------------------------------------------------------------------------------------------------ the size of a reply


def bomb(encoding: str, size: int) -> bytes:
    """A body of a few kB that is said to be a reply of `size` bytes."""
    whole = json.dumps({"choices": [{"message": {"content": "x" * size}}]}).encode()
    if encoding == "deflate":
        return zlib.compress(whole, 9)
    return gzip.compress(whole, 9) if encoding == "gzip" else whole


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_reply_that_is_too_large_is_refused_before_it_is_held(
    endpoint: Endpoint, name: str, encoding: str, status: int
) -> None:
    """2 MB became 8 GB of memory."""
    body = bomb(encoding, 40_000_000)
    tracemalloc.start()
    try:
        found = endpoint.ask(name, status, body, {"Content-Encoding": encoding})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, Refused) and "max_reply_bytes (16000000)" in found.detail
    assert most < 16_000_000 * 3 + (len(body) if encoding == "identity" else 0)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("encoding", ["br", "zstd", "x-unknown"])
def test_an_encoding_that_nobody_asked_for_is_not_opened(endpoint: Endpoint, name: str, encoding: str) -> None:
    found = endpoint.ask(name, 200, b"\x28\xb5\x2f\xfd" * 100, {"Content-Encoding": encoding})
    assert isinstance(found, Transient)


# ------------------------------------------------------------------------------------------------------------ proxies


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_every_back_end_goes_through_the_proxy_of_the_environment(
    endpoint: Endpoint, name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = endpoint.script.url.replace("//", "//me:pw@")
    monkeypatch.setenv(variable, place)
    endpoint.says = (200, {}, b"{}")
    endpoint.script.seen.clear()
    answer(name, "http://model.example")
    (sent,) = endpoint.script.seen
    assert sent[1].startswith("http://model.example/")
    assert sent[2]["Proxy-Authorization"] == "Basic bWU6cHc="
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, model.example:80")
    answer(name, "http://model.example")
    assert len(endpoint.script.seen) == 1


@pytest.mark.parametrize("name", BACKENDS)
def test_a_proxy_that_does_not_listen_is_what_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens there
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pw-1234567@127.0.0.1:{held.getsockname()[1]}")
        found = answer(name, "http://model.example")
    assert isinstance(found, Transient) and found.dooms_probe and "HTTP_PROXY" in found.remedy
    assert "pw-1234567" not in found.detail


@pytest.mark.parametrize("name", BACKENDS)
def test_no_key_for_this_machine_goes_through_a_proxy(
    endpoint: Endpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    found = endpoint.ask(name, 500, {})
    assert isinstance(found, Transient) and "500" in found.detail and len(endpoint.script.seen) == 1


# --------------------------------------------------------------------------------------------------- keys in replies


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("form", [KEY, base64.b64encode(KEY.encode()).decode(), quote(KEY.replace("-", "/"), safe="")])
def test_a_reply_that_quotes_the_key_is_kept_without_it(endpoint: Endpoint, name: str, form: str) -> None:
    """Whatever is written stems from what the engine hands on: the ledger, rows, rejects, the card."""
    key = KEY.replace("-", "/") if "%2F" in form else KEY
    assert masked(f"It says {form}.", [key]) == "It says [key]."
    chat = {"choices": [{"message": {"content": f"It says {KEY}."}}], "model": f"m-{KEY}"}
    google_ = {"candidates": [{"content": {"parts": [{"text": f"It says {KEY}."}]}}], "modelVersion": f"m-{KEY}"}
    endpoint.says = (200, {}, json.dumps(google_ if name == "gemini" else chat).encode())
    engine = Engine(backend_of(name, endpoint.script.url), Settings())
    done: queue.SimpleQueue[Done[str]] = queue.SimpleQueue()
    try:
        engine.submit(request(), "t", done)
        found = done.get(timeout=10).answer
    finally:
        engine.close()
    assert found is not None and (found.text, found.model) == ("It says [key].", "m-[key]")


@pytest.mark.parametrize("key", [KEY, 'sk-se/cret+test"key\\123', "sk-se/cret&<test>-123"])
def test_a_key_is_found_in_json_and_in_json_in_json(key: str) -> None:
    plain = json.dumps(key)
    for written in (plain, plain.replace("/", "\\/"), plain.replace("&", "\\u0026").replace("<", "\\u003c")):
        written = written.replace(">", "\\u003e") if "u003c" in written else written
        assert masked(f"[{written}]", [key]) == '["[key]"]'
        assert masked(json.dumps([written]), [key]) == json.dumps(['"[key]"'])


@pytest.mark.parametrize("word", ["EMPTY", "ollama", "not-needed", "lm-studio", "x", ""])
def test_a_word_in_the_place_of_a_key_stays_in_texts(word: str) -> None:
    assert masked(f"The set is {word}.", [word]) == f"The set is {word}."
