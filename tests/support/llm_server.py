"""A model endpoint on loopback, for tests and benchmarks: it speaks the wire formats of OpenAI, Gemini and Vertex AI,
and plays slow, throttled, failing and misbehaving ones.

As a process of its own (it prints one JSON line, `{"port": N}`, when it listens, and ends on SIGTERM or when the
process that started it is gone):

    python tests/support/llm_server.py --port 0 --latency_median_ms 200 --latency_sigma 0.6

From Python (the same process, started and ended by a context manager):

    with LlmServer(rate_429=0.1, retry_after=1) as server:
        ...  # talk to f"{server.base_url}/v1/chat/completions"
        print(server.stats()["by_status"])

What is served:

    POST /v1/chat/completions                                            OpenAI chat
    POST /v1beta/models/MODEL:generateContent                            Gemini Developer API
    POST PLACE/publishers/google/models/MODEL:generateContent            Gemini on Vertex AI
    POST PLACE/endpoints/ID/chat/completions                             Vertex AI endpoint, in chat form
    POST PLACE/endpoints/ID:predict                                      Vertex AI endpoint
    GET /stats, GET /recent, POST /reset                                 for the test, not counted

where PLACE is /v1/projects/P/locations/L, or the same under /v1beta1.

What happens to a request is drawn from the hash of its prompt, of how many times that prompt came before, and of
`seed`: a repeated run meets the same faults, in whatever order its requests come. Only `limit_rps` depends on load.

The HTTP server is a plain asyncio protocol, because it shares two cores with the client that is measured.

Sources of the formats: https://platform.openai.com/docs/api-reference/chat, https://ai.google.dev/api/generate-content,
https://cloud.google.com/vertex-ai/docs/reference/rest, https://cloud.google.com/apis/design/errors, and error bodies
that users quote in public issue threads.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import email.utils
import gc
import hashlib
import http
import http.client
import json
import math
import os
import re
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

FAULTS: Final = ("429", "500", "503", "reset", "hang", "half", "html", "malformed", "blocked", "truncated", "bad_reply")
"""What can be played, in the order in which the rates are laid out on [0, 1)."""

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "retry_after_form": ("seconds", "date"),
    "dialect": ("openai", "vllm", "vllm_old", "plain"),
    "chat_route": ("serve", "404", "400"),
    "blocked_as": ("mixed", "safety", "recitation", "prompt"),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the endpoint plays. Each field is a flag of the command line and a key of `POST /reset`.

    Raises:
      ValueError: a rate outside [0, 1], rates that sum to more than 1, an unknown choice, a pattern that is none.
    """

    latency_median_ms: float = 0.0  # 0: answered at once
    latency_sigma: float = 0.0  # of the logarithm; the mean is median * exp(sigma ** 2 / 2)
    rate_429: float = 0.0  # answered without latency, as a real gate does
    rate_500: float = 0.0
    rate_503: float = 0.0
    rate_reset: float = 0.0  # RST, half of the time before the first byte and half in the middle of the body
    rate_hang: float = 0.0  # never answered; the connection stays open
    rate_half: float = 0.0  # the headers and half of the body they announce, then FIN
    rate_html: float = 0.0  # status 200 and a page
    rate_malformed: float = 0.0  # status 200 and a body that is no JSON
    rate_blocked: float = 0.0
    rate_truncated: float = 0.0
    rate_bad_reply: float = 0.0  # status 200 and a text that is not what the prompt asked for
    retry_after: float | None = (
        None  # seconds; told with each 429: header (OpenAI), RetryInfo (Google), both (endpoint)
    )
    retry_after_form: str = "seconds"  # of the header: a number of seconds, or the HTTP date that RFC 9110 also allows
    fail_always: str = ""  # a pattern (re.search); a prompt that it matches always fails
    fail_always_status: int = 500
    limit_rps: float = 0.0  # a token bucket; 429 where it is empty
    limit_burst: float = 5.0  # tokens that the bucket holds
    model_known: str = ""  # any other model is answered 404
    served_model: str = ""  # what replies name as the model; the one asked for when empty
    quota_zero: bool = False  # 429 for good: the quota of this account is 0
    status_always: int = 0  # every request is answered with this status
    require_key: str = ""  # the one key (or access token) that is let in
    echo_key: bool = False  # the refusal of a wrong key quotes the whole key, as careless servers do
    refuse_structured: bool = False  # 400 where structured output is asked for
    dialect: str = "openai"  # whose words errors of the OpenAI protocol take; plain: {"error": "a string"}
    chat_route: str = "serve"  # of the Vertex endpoint: served, or refused as 404 or 400
    predict_echo: bool = False  # predictions repeat the prompt, as the Model Garden's containers do
    blocked_as: str = "mixed"  # what a blocked reply looks like; mixed: each of the three in turn, by hash
    token_factor: int = 1  # of the OpenAI protocol: replies count as so many times their tokens, like thinking models'
    token_factor_after: int = 0  # only after so many paid replies
    repeats: bool = False  # a prompt is answered alike however often it comes
    seed: int = 0  # other numbers draw other faults and latencies

    def __post_init__(self) -> None:
        rates = [getattr(self, f"rate_{fault}") for fault in FAULTS]
        if any(not 0 <= rate <= 1 for rate in rates) or sum(rates) > 1 + 1e-9:
            raise ValueError("each rate lies in [0, 1], and all of them sum to at most 1")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        re.compile(self.fail_always)


# ------------------------------------------------------------------------------------------------------- what is drawn


@dataclasses.dataclass(frozen=True, slots=True)
class Draw:
    """What is to happen to one request."""

    fault: str  # one of FAULTS, or "" for a good reply
    latency_s: float
    variant: int  # decides among forms of the same fault


def prompt_digest(prompt: str) -> bytes:
    """Makes the 32 bytes of a prompt from which all is drawn that happens to it."""
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=32).digest()


_NORMAL = statistics.NormalDist()


def draw(options: Options, digest: bytes, visit: int) -> Draw:
    """Draws what is to happen to a request whose prompt was let in so many times before."""
    raw = hashlib.blake2b(b"%b%d %d" % (digest, visit, options.seed), digest_size=24).digest()
    place = (int.from_bytes(raw[:8], "big") >> 11) / (1 << 53)
    fault, edge = "", 0.0
    for name in FAULTS:
        edge += getattr(options, f"rate_{name}")
        if place < edge:
            fault = name
            break
    latency = options.latency_median_ms / 1000
    if latency and options.latency_sigma:
        # odd, so that neither 0 nor 1 is ever asked of the inverse
        unit = (int.from_bytes(raw[8:16], "big") >> 11 | 1) / (1 << 53)
        latency *= math.exp(options.latency_sigma * _NORMAL.inv_cdf(unit))
    return Draw(fault, latency, int.from_bytes(raw[16:], "big"))


# -------------------------------------------------------------------------------------------------------- what is said

_SUBJECTS = (
    "the parcel", "the landlord", "our teacher", "this kettle", "the late train", "a neighbour's dog",
    "the night nurse", "the new router", "my grandmother", "the café on the corner", "the harbour pilot",
    "an old cellist", "the beekeeper", "a 2-litre bottle", "the town council", 'the "smart" lock',
)  # fmt: skip
_VERBS = (
    "arrived", "complained", "broke down", "sang softly", "refused to move", "answered at last", "lost its way",
    "was sold", "came back", "fell silent", "asked for more", "was mended twice", "surprised us", "kept its word",
    "changed colour", "left",
)  # fmt: skip
_PLACES = (
    "near the river", "in the third week of May", "before the meeting", "under a leaking roof", "at the fence",
    "after supper", "on platform nine", "in Zürich", "behind the library", "with no hurry at all",
    "during the storm", "on the top floor", "in front of everyone", "at 5 a.m.", "next to the oven",
    "far from home",
)  # fmt: skip
_FEELINGS = (
    "and nobody minded", "which pleased me", "so we wrote it down", "although it rained", "and I would do it again",
    "but the bill was wrong", "and that was that", "while the radio played", "as the manual says",
    "which cost us a day", "and the children laughed", "though the price had doubled",
    "because the key was missing", "until the lights went out", "and the doctor agreed", "for reasons of its own",
)  # fmt: skip
# none of them is a part of any text above
_LABELS = (
    "praise", "complaint", "question", "request", "report", "warning", "invitation", "apology", "order", "refund",
    "outage", "feedback", "thanks", "reminder", "notice", "rumour",
)  # fmt: skip
_THINGS = (
    "customer e-mails", "court rulings", "recipes", "film reviews", "tweets about football", "hospital letters",
    "bug reports", "job adverts", "poems", "bank transfers", "news headlines", "chat logs of a help desk",
    "patents", "hotel reviews", "school essays", "radio transcripts", "tenders", "song lyrics", "shipping notes",
    "grant proposals", "museum labels", "travel diaries", "error messages", "podcast summaries", "insurance claims",
    "lab notes", "speeches", "game dialogues", "street interviews", "seed catalogues", "weather warnings",
    "meeting minutes",
)  # fmt: skip
_ASPECTS = (
    "the feeling of the writer", "the urgency", "the department concerned", "the region", "the season",
    "the intended reader", "the product it is about", "the level of politeness", "whether it is ironic",
    "the legal field", "the skill it calls for", "the stage of the process", "the kind of mistake",
    "the time it speaks of", "the main argument", "the style",
)  # fmt: skip
# what tells this project's prompts apart; each stands in the template of its name, and in no other
_ASKS_FOR_LABELS = "ist the labels that texts are given"
_ASKS_FOR_PLANNED = "Right label of your text:"
_ASKS_FOR_CHOICE = "Which of the two labels"
_WANTED = re.compile(_ASKS_FOR_PLANNED + r"\n> (.*)\n")
_OFFERED = re.compile(r"\n> (.*)\n> (.*)\n\n" + _ASKS_FOR_CHOICE)
_SIGNED = re.compile(r"\(no\. (\d+)\)")
_WRONG_CHOICES = 16  # of 256 choices, so many are wrong
LIST_LENGTH: Final = 20


_WANTED_WORDS = re.compile(r"must have (less than|at least) (\d+) words")
_WORDS_OF_SENTENCE: Final = 8  # at least; "At 5 a.m." and the like make some longer


def _sentences(prompt: str, digest: bytes) -> list[str]:
    """Writes sentences of about as many words as a prompt asks for; three where it does not say."""
    wanted = _WANTED_WORDS.search(prompt)
    drawn = digest[:6]
    if wanted is None:
        count = 3
    elif wanted[1] == "less than":
        return [f"{_SUBJECTS[digest[0] & 15]} {_VERBS[digest[0] >> 4]}"]
    else:
        count = -(-int(wanted[2]) // _WORDS_OF_SENTENCE)
        drawn = hashlib.shake_128(digest).digest(2 * count)
    return [
        f"{_SUBJECTS[drawn[at] & 15]} {_VERBS[drawn[at] >> 4]} "
        f"{_PLACES[drawn[at + 1] & 15]} {_FEELINGS[drawn[at + 1] >> 4]}"
        for at in range(0, 2 * count, 2)
    ]


def _example(prompt: str, digest: bytes, wanted: str | None = None) -> str:
    right = digest[12] & 15
    wrong = (right + 1 + digest[13] % 15) & 15
    label = _LABELS[right] if wanted is None else wanted
    # The number keeps texts of different prompts apart even where all the words agree. It ends in the mark of the
    # label, for `_choice`.
    text = f"{'. '.join(_sentences(prompt, digest))} (no. {int.from_bytes(digest[6:12], 'big') << 16 | _mark(label)})."
    fields = {"input_text": text}
    if wanted is None:
        fields |= {"label": label, "misleading_label": _LABELS[wrong]}
    return json.dumps(fields, ensure_ascii=False)


def _mark(label: str) -> int:
    """Makes the 16 bits that the number of a text of a label ends in."""
    folded = "".join(filter(str.isalnum, label.casefold()))
    return int.from_bytes(hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=2).digest(), "big")


def _label_set(digest: bytes, wrapper: str) -> str:
    """2 to 16 labels, in an order that the digest decides."""
    first, step = digest[12] & 15, 2 * digest[13] + 1
    labels = [_LABELS[(first + step * turn) & 15] for turn in range(2 + digest[14] % 15)]
    return json.dumps({wrapper: labels} if wrapper else labels)


def _choice(prompt: str, digest: bytes) -> str:
    """One of the two labels that the prompt offers: of a text that this endpoint wrote the one whose mark its number
    ends in, but for one choice in 16, which is wrong; of other texts, one by hash."""
    found = _OFFERED.search(prompt)
    if found is None:
        return json.dumps({"label": "none"})
    signed = _SIGNED.search(prompt)
    marks = [_mark(label) for label in found.groups()]
    mark = int(signed[1]) & 0xFFFF if signed else -1
    at = marks.index(mark) ^ (digest[15] < _WRONG_CHOICES) if mark in marks else digest[14] & 1
    return json.dumps({"label": found[1 + at]}, ensure_ascii=False)


def _task_list(digest: bytes, wrapper: str) -> str:
    first = int.from_bytes(digest[:6], "big")
    pairs = len(_THINGS) * len(_ASPECTS)
    tasks = []
    for step in range(LIST_LENGTH):
        # an odd stride walks over all pairs of a power of two before any comes twice
        place = (first + step * (2 * digest[6] + 1)) % pairs
        thing, aspect = _THINGS[place % len(_THINGS)], _ASPECTS[place // len(_THINGS)]
        tasks.append(f"Classify {thing} of collection {first // pairs % 100_000} by {aspect}.")
    return json.dumps({wrapper: tasks} if wrapper else tasks)


def reply_text(prompt: str, digest: bytes, wrapper: str = "") -> str:
    """Writes a good reply to one of this project's prompts, which a phrase of each template tells apart.

    Args:
      wrapper: the property that is to hold a list, where a response schema asks for an object.
    """
    if _ASKS_FOR_CHOICE in prompt:
        return _choice(prompt, digest)
    if _ASKS_FOR_LABELS in prompt:
        return _label_set(digest, wrapper)
    if _ASKS_FOR_PLANNED in prompt and (wanted := _WANTED.search(prompt)):
        return _example(prompt, digest, wanted[1])
    if "input_text" in prompt:
        return _example(prompt, digest)
    if "JSON array" in prompt or "python list" in prompt or "rainstorm" in prompt:
        return _task_list(digest, wrapper)
    return f"I have read your {len(prompt)} characters; their sign is {digest[:8].hex()}."


_BAD_REPLIES = (
    "I am sorry, but I would need to know more about what you have in mind.",
    '{"input_text": "A text that nobody labelled."}',
    "[1, 2, 3]",
)

# -------------------------------------------------------------------------------------------------------- who is asked

Protocol = Literal["openai", "gemini", "vertex", "chat", "predict", "stats", "recent", "reset", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """Where a request line leads."""

    protocol: Protocol
    line: str
    model: str = ""  # of the path; the body names it where this is empty
    resource: str = ""  # projects/…/endpoints/ID, projects/…/models/MODEL or models/MODEL
    query_key: str = ""  # a key that was given in the URL

    @property
    def google(self) -> bool:
        return self.protocol in ("gemini", "vertex", "chat", "predict")


_ROUTES: Final[Sequence[tuple[str, str, Protocol]]] = (
    ("POST", r"/v1/chat/completions", "openai"),
    ("POST", r"/v1(?:beta|alpha)?/(?P<resource>models/(?P<model>[^/:]+)):generateContent", "gemini"),
    (
        "POST",
        r"/v1(?:beta1)?/(?P<resource>projects/[^/]+/locations/[^/]+/"
        r"publishers/google/models/(?P<model>[^/:]+)):generateContent",
        "vertex",
    ),
    ("POST", r"/v1(?:beta1)?/(?P<resource>projects/[^/]+/locations/[^/]+/endpoints/[^/:]+)/chat/completions", "chat"),
    ("POST", r"/v1(?:beta1)?/(?P<resource>projects/[^/]+/locations/[^/]+/endpoints/[^/:]+):predict", "predict"),
    ("GET", r"/stats", "stats"),
    ("GET", r"/recent", "recent"),
    ("POST", r"/reset", "reset"),
)
_COMPILED: Final = tuple((method, re.compile(pattern), protocol) for method, pattern, protocol in _ROUTES)


def find_route(line: str) -> Route:
    """Finds where the first line of a request leads, such as `GET /stats HTTP/1.1`."""
    method, _, rest = line.partition(" ")
    target = urlsplit(rest.rpartition(" ")[0])
    query = parse_qs(target.query)
    key = next((query[name][0] for name in ("key", "api_key", "apikey", "access_token") if name in query), "")
    for wanted, pattern, protocol in _COMPILED:
        found = pattern.fullmatch(unquote(target.path)) if method == wanted else None
        if found:
            parts = found.groupdict()
            return Route(protocol, line, parts.get("model") or "", parts.get("resource") or "", key)
    return Route("unknown", line, query_key=key)


# ----------------------------------------------------------------------------------------------------- HTTP, going out

_JSON = "application/json; charset=UTF-8"
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}


def _http(status: int, body: bytes, content_type: str = _JSON, headers: str = "") -> bytes:
    phrase = _PHRASES.get(status, "Unknown")
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _http_json(status: int, value: object, headers: str = "") -> bytes:
    return _http(status, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"), headers=headers)


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_HTML = _http(
    200,
    b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n",
    "text/html; charset=utf-8",
)
_MALFORMED = _http(200, b'{"choices": [{"message": {"role": "assistant", "content": "{')
_MALFORMED_GOOGLE = _http(200, b'{"candidates": [{"content": {"parts": [{"text": "{')

# ------------------------------------------------------------------------------------------------ errors, per protocol

Refusal = Literal[
    "status", "rate_limit", "key_missing", "key_wrong", "model", "structured", "chat_route", "quota_zero", "prompt",
    "body", "stream", "url",
]  # fmt: skip

_Words = tuple[int, str, str | None, str | None, str]  # status, type, code, parameter, message
_INVALID: Final = "invalid_request_error"
_OPENAI_WORDS: Final[Mapping[int, tuple[str, str, str | None]]] = {
    400: ("The request could not be understood.", _INVALID, None),
    401: ("Your authentication token has been invalidated.", _INVALID, "invalid_api_key"),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: ("Not found.", _INVALID, None),
    408: ("Request timed out.", "timeout", None),
    429: (
        "Rate limit reached for {model} in organization org-local on requests per min (RPM): Limit 500, Used 500, "
        "Requested 1. Please try again in 120ms.",
        "requests",
        "rate_limit_exceeded",
    ),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "service_unavailable_error", None),
}
_OPENAI_REFUSALS: Final[Mapping[Refusal, _Words]] = {
    "key_missing": (401, _INVALID, None, None, "You didn't provide an API key."),
    "key_wrong": (401, _INVALID, "invalid_api_key", None, "Incorrect API key provided: {key}."),
    "model": (404, _INVALID, "model_not_found", None, "The model `{model}` does not exist or you do not have access."),
    "structured": (
        *(400, _INVALID, None, None),
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
    ),
    "quota_zero": (
        *(429, "insufficient_quota", "insufficient_quota", None),
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "prompt": (
        *(400, _INVALID, "content_filter", "prompt"),
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    ),
    "body": (400, _INVALID, None, None, "We could not find 'messages', a list of texts, in the JSON body."),
    "stream": (400, _INVALID, "unsupported_value", "stream", "Unsupported value: 'stream' does not support true."),
    "url": (404, _INVALID, None, None, "Invalid URL ({line})"),
}
_VLLM_STRUCTURED: Final = (
    "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), "
    "'msg': \"Input should be 'text' or 'json_object'\", 'input': 'json_schema', "
    "'ctx': {'expected': \"'text' or 'json_object'\"}}]"
)
_VLLM_TYPES: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    404: "NotFoundError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


def _masked(key: str) -> str:
    return key[:3] + "*" * max(len(key) - 7, 4) + key[-4:] if len(key) > 8 else "*" * 8


def _openai_error(
    options: Options, refusal: Refusal, status: int, route: Route, model: str, key: str
) -> tuple[int, object]:
    dialect = options.dialect
    vllm = dialect.startswith("vllm")
    shown = key if options.echo_key else _masked(key)
    if refusal in _OPENAI_REFUSALS:
        status, kind, code, param, message = _OPENAI_REFUSALS[refusal]
    else:
        unknown = (f"The request failed with status {status}.", "api_error", None)
        message, kind, code = _OPENAI_WORDS.get(status, unknown)
        param = None
    message = message.format(model=model, key=shown, line=route.line.rpartition(" ")[0])
    if refusal == "model" and vllm:
        message, param = f"The model `{model}` does not exist.", "model"
    elif refusal == "structured" and vllm:
        message = _VLLM_STRUCTURED
    elif refusal == "structured" and dialect == "plain":
        message = "'response_format.type' must be 'text'"
    if dialect == "plain":
        return status, {"error": message}
    if vllm and status == 401:
        return status, {"error": "Unauthorized"}
    if vllm and refusal == "url":
        return status, {"detail": "Not Found"}
    if vllm:
        error = {"message": message, "type": _VLLM_TYPES.get(status, "Error"), "param": param, "code": status}
        return status, {"object": "error", **error} if dialect == "vllm_old" else {"error": error}
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}


_GOOGLE_WORDS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request is missing required authentication credential."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    408: ("DEADLINE_EXCEEDED", "The request took too long."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "The request timed out. Please try again."),
}
_RPC = "type.googleapis.com/google.rpc."
_FREE_METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
_PAID_METRIC = "generativelanguage.googleapis.com/generate_content_paid_tier_requests"
_VERTEX_METRIC = "aiplatform.googleapis.com/generate_content_requests_per_minute_per_project_per_base_model"


def _seconds(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def _violation(metric: str, quota_id: str, model: str, limit: int | None) -> dict[str, object]:
    dimensions = {"location": "global", "model": model}
    found: dict[str, object] = {"quotaMetric": metric, "quotaId": quota_id, "quotaDimensions": dimensions}
    # proto3 leaves a limit of 0 out of the JSON; only the message says it
    return {**found, "quotaValue": str(limit)} if limit else found


_SEE_QUOTA: Final = "You exceeded your current quota, please check your plan and billing details."
_NO_LOGIN: Final = (
    401,
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential.",
)
_GOOGLE_REFUSALS: Final[Mapping[tuple[Refusal, str], tuple[int, str]]] = {
    ("key_missing", "gemini"): (403, "Method doesn't allow unregistered callers. Please use API Key to call this API."),
    ("key_wrong", "gemini"): (400, "API key not valid. Please pass a valid API key."),
    ("key_missing", ""): _NO_LOGIN,
    ("key_wrong", ""): _NO_LOGIN,
    ("model", "gemini"): (404, "models/{model} is not found for API version v1beta. Call ListModels to see the list."),
    ("model", "vertex"): (
        404,
        "Publisher Model `{resource}` was not found or your project does not have access to it. Please ensure you are "
        "using a valid model version.",
    ),
    ("model", ""): (404, "The endpoint `{resource}` serves no model `{model}`."),
    ("structured", ""): (400, "JSON mode is not enabled for models/{model}"),
    ("chat_route", ""): (400, "The deployed model does not support ChatCompletions. endpoint_id: {endpoint}"),
    ("body", "predict"): (400, "* Request.instances: instances is not specified\n"),
    ("body", ""): (400, "* Request.contents: contents is not specified\n"),
    ("stream", ""): (400, "stream: true is not supported on this route."),
    ("quota_zero", "gemini"): (
        429,
        f"{_SEE_QUOTA} \n* Quota exceeded for metric: {_FREE_METRIC}, limit: 0, model: {{model}}\n"
        "Please retry in 25.465784708s.",
    ),
    ("quota_zero", ""): (429, f"Quota exceeded for {_VERTEX_METRIC} with base model: {{model}}."),
    ("url", ""): (404, "Requested entity was not found."),
    ("rate_limit", "gemini"): (
        429,
        f"{_SEE_QUOTA}\n* Quota exceeded for metric: {_PAID_METRIC}, limit: 1000, model: {{model}}",
    ),
    ("rate_limit", ""): (429, "Resource exhausted. Please try again later."),
}
"""Status and message, by what is wrong and the protocol; "": of all others."""


def _google_error(
    options: Options, refusal: Refusal, status: int, route: Route, model: str, key: str
) -> tuple[int, object]:
    wrong: Refusal = "rate_limit" if refusal == "status" and status == 429 else refusal
    name, message = _GOOGLE_WORDS.get(status, ("UNKNOWN", f"The request failed with status {status}."))
    words = _GOOGLE_REFUSALS.get((wrong, route.protocol)) or _GOOGLE_REFUSALS.get((wrong, ""))
    if words is not None:
        status, message = words
        name = "FAILED_PRECONDITION" if wrong == "chat_route" else _GOOGLE_WORDS[status][0]
        endpoint = route.resource.rpartition("/")[2]
        message = message.format(model=model, resource=route.resource, endpoint=endpoint)
    if wrong in ("key_missing", "key_wrong") and options.echo_key and key:
        message += f" Got: {key}"
    error: dict[str, object] = {"code": status, "message": message, "status": name}
    if details := _google_details(options, wrong, route, model, key, message):
        error["details"] = details
    body: object = {"error": error}
    # Google wraps the errors of its chat route in a list of one
    return status, [body] if route.protocol == "chat" else body


def _google_details(
    options: Options, wrong: Refusal, route: Route, model: str, key: str, message: str
) -> list[dict[str, object]]:
    developer = route.protocol == "gemini"
    service = "generativelanguage.googleapis.com" if developer else "aiplatform.googleapis.com"
    info: dict[str, object] = {"@type": _RPC + "ErrorInfo", "domain": "googleapis.com"}
    if wrong in ("key_missing", "key_wrong") and not developer:
        reason = "ACCESS_TOKEN_TYPE_UNSUPPORTED" if key else "CREDENTIALS_MISSING"
        return [{**info, "reason": reason, "metadata": {"service": service}}]
    if wrong == "key_wrong":
        return [
            {**info, "reason": "API_KEY_INVALID", "metadata": {"service": service}},
            {"@type": _RPC + "LocalizedMessage", "locale": "en-US", "message": message},
        ]
    if wrong == "quota_zero" and developer:
        ids = [f"GenerateRequestsPer{span}PerProjectPerModel-FreeTier" for span in ("Day", "Minute")]
        violations = [_violation(_FREE_METRIC, each, model, 0) for each in ids]
        return [
            {"@type": _RPC + "QuotaFailure", "violations": violations},
            # Google sends it here too, though waiting does not help
            {"@type": _RPC + "RetryInfo", "retryDelay": "25s"},
        ]
    if wrong == "quota_zero":
        metadata = {
            "service": service,
            "quota_metric": _VERTEX_METRIC,
            "quota_limit": "GenerateContentRequestsPerMinutePerProjectPerBaseModel",
            "quota_limit_value": "0",
            "consumer": "projects/" + [*route.resource.split("/"), ""][1],
        }
        return [{**info, "reason": "RATE_LIMIT_EXCEEDED", "metadata": metadata}]
    details: list[dict[str, object]] = []
    if wrong == "rate_limit" and developer:
        found = _violation(_PAID_METRIC, "GenerateRequestsPerMinutePerProjectPerModel-PaidTier", model, 1000)
        details.append({"@type": _RPC + "QuotaFailure", "violations": [found]})
    if wrong == "rate_limit" and options.retry_after is not None:
        details.append({"@type": _RPC + "RetryInfo", "retryDelay": _seconds(options.retry_after)})
    return details


def error_reply(
    options: Options, refusal: Refusal, route: Route, *, status: int = 500, model: str = "", key: str = ""
) -> tuple[int, bytes]:
    """Writes an error in the words of its protocol: the status, and the whole HTTP reply.

    Args:
      status: the HTTP status, where `refusal` does not decide it.
    """
    headers = ""
    from_container = route.protocol in ("chat", "predict") and refusal in ("structured", "prompt")
    if refusal == "chat_route" and options.chat_route == "404":
        return 404, _http_json(404, {"detail": "Not Found"})
    form = _google_error if route.google and not from_container else _openai_error
    status, body = form(options, refusal, status, route, model, key)
    waits = status == 429 and refusal == "status" and options.retry_after is not None
    if waits and route.protocol not in ("gemini", "vertex"):
        after = options.retry_after or 0.0
        # a fraction of a second is no RFC 9110, but is what several servers send
        headers = f"Retry-After: {after:g}\r\n"
        if options.retry_after_form == "date":
            headers = f"Retry-After: {email.utils.formatdate(time.time() + after, usegmt=True)}\r\n"
    return status, _http_json(status, body, headers)


# ----------------------------------------------------------------------------------------------- replies, per protocol


@dataclasses.dataclass(slots=True)
class Asked:
    """What a body asks for."""

    prompts: list[str]
    model: str
    structured: bool = False
    wrapper: str = ""  # the property of the response schema that is to hold a list
    stream: bool = False
    form: Literal["chat", "predictions", "gemini"] = "chat"
    seed: object = None  # as asked for; it changes what is written, as a model's seed does, and nothing else


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _wrapper_of(schema: object) -> str:
    if (
        isinstance(schema, dict)
        and str(schema.get("type")).lower() == "object"
        and isinstance(schema.get("properties"), dict)
    ):
        return str(next(iter(schema["properties"]), ""))
    return ""


def _read_chat(body: Mapping[str, Any], model: str) -> Asked:
    asked = Asked(["\n".join(_text_of(message["content"]) for message in body["messages"])], model)
    wanted = body.get("response_format")
    if wanted and wanted.get("type") not in (None, "text"):
        asked.structured = True
        asked.wrapper = _wrapper_of((wanted.get("json_schema") or {}).get("schema"))
    asked.stream = bool(body.get("stream"))
    asked.seed = body.get("seed")
    return asked


def _read_instances(body: Mapping[str, Any], model: str) -> Asked:
    asked = Asked([], model, form="predictions")
    for instance in body["instances"]:
        if isinstance(instance, dict):
            found = next(str(instance[name]) for name in ("prompt", "inputs", "text", "content") if name in instance)
            asked.prompts.append(found)
        else:
            asked.prompts.append(str(instance))
    return asked


def read_body(route: Route, raw: bytes) -> Asked:
    """Reads what a body asks for; raises one of many errors where it is not of the protocol's form."""
    body = json.loads(raw)
    model = route.model or str(body.get("model", ""))
    if route.protocol in ("openai", "chat"):
        return _read_chat(body, model)
    if route.protocol == "predict":
        return _read_instances(body, model)
    texts = [_text_of(content["parts"]) for content in body["contents"]]
    system = body.get("systemInstruction")
    if system:
        texts.insert(0, _text_of(system["parts"]))
    asked = Asked(["\n".join(texts)], model, form="gemini")
    config = body.get("generationConfig") or {}
    asked.seed = config.get("seed")
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    if schema or config.get("responseMimeType", "text/plain") != "text/plain":
        asked.structured = True
        asked.wrapper = _wrapper_of(schema)
    return asked


_CREATED = 1767225600  # a fixed moment, so that equal requests get equal bytes
_CHAT = (
    b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,'
    b'"message":{"role":"assistant",'
    b'"content":%b,"refusal":%b},"logprobs":null,"finish_reason":"%b"}],"usage":{"prompt_tokens":%d,'
    b'"completion_tokens":%d,'
    b'"total_tokens":%d}}'
)
_USAGE = re.compile(rb'"usage":{"prompt_tokens":(\d+),"completion_tokens":(\d+),')
_GEMINI = (
    b'{"candidates":[{%b"finishReason":"%b","index":0%b}],"usageMetadata":{"promptTokenCount":%d,'
    b'%b"totalTokenCount":%d,'
    b'"promptTokensDetails":[{"modality":"TEXT","tokenCount":%d}]%b},"modelVersion":%b,"responseId":"%b"}'
)
_BLOCKED_PROMPT = (
    b'{"promptFeedback":{"blockReason":"%b"},"usageMetadata":{"promptTokenCount":%d,"totalTokenCount":%d},'
    b'"modelVersion":%b,'
    b'"responseId":"%b"}'
)
_RATINGS = b',"safetyRatings":[{"category":"HARM_CATEGORY_DANGEROUS_CONTENT","probability":"HIGH","blocked":true}]'


def _quote(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")


def count_tokens(text: str) -> int:
    """Counts this server's tokens, which are four characters each."""
    return (len(text) + 3) // 4


def _chat_body(
    model: bytes,
    name: bytes,
    prompt: str,
    text: str | None,
    finish: bytes = b"stop",
    refusal: str | None = None,
    token_factor: int = 1,
) -> bytes:
    spent, made = count_tokens(prompt), token_factor * count_tokens(text or refusal or "")
    content = b"null" if text is None else _quote(text)
    declined = b"null" if refusal is None else _quote(refusal)
    return _CHAT % (name, _CREATED, model, content, declined, finish, spent, made, spent + made)


def _gemini_body(
    route: Route,
    model: bytes,
    name: bytes,
    prompt: str,
    text: str | None,
    finish: bytes,
    thoughts: int = 0,
    extra: bytes = b"",
) -> bytes:
    spent, made = count_tokens(prompt), count_tokens(text or "")
    content = b""
    if text is not None:
        content = b'"content":{"parts":[{"text":%b}],"role":"model"},' % _quote(text)
    elif thoughts:
        content = b'"content":{"role":"model"},'
    counts = (b'"candidatesTokenCount":%d,' % made) if made else b""
    more = b',"thoughtsTokenCount":%d' % thoughts if thoughts else b""
    if route.protocol == "vertex":
        more = b',"trafficType":"ON_DEMAND"' + more
    return _GEMINI % (content, finish, extra, spent, counts, spent + made + thoughts, spent, more, model, name)


def answer(options: Options, route: Route, asked: Asked, digest: bytes, drawn: Draw) -> tuple[int, bytes]:
    """Writes the reply of a model that was reached, be it good, blocked, truncated or beside the point: the status, and
    the whole HTTP reply."""
    model = _quote(options.served_model or asked.model or "default")
    name = digest[:12].hex().encode()
    prompt = asked.prompts[0] if asked.prompts else ""
    fault, variant = drawn.fault, drawn.variant
    thoughts = 0
    gemini = asked.form == "gemini"
    finish = b"STOP" if gemini else b"stop"
    if fault == "blocked":
        form = options.blocked_as
        if form == "mixed":
            form = ("safety", "recitation", "prompt")[variant % 3]
        if gemini and form == "prompt":
            spent = count_tokens(prompt)
            reason = (b"PROHIBITED_CONTENT", b"SAFETY", b"OTHER")[variant // 3 % 3]
            body = _BLOCKED_PROMPT % (reason, spent, spent, model, name)
        elif gemini and form == "safety":
            body = _gemini_body(route, model, name, prompt, None, b"SAFETY", extra=_RATINGS)
        elif gemini:
            body = _gemini_body(route, model, name, prompt, None, b"RECITATION")
        elif form == "prompt" or asked.form != "chat":
            return error_reply(options, "prompt", route, model=asked.model)
        elif form == "safety":
            body = _chat_body(model, name, prompt, "", b"content_filter")
        else:
            body = _chat_body(model, name, prompt, None, refusal="I'm sorry, I can't assist with that request.")
        return 200, _OK % (len(body), body)
    texts: list[str] = []
    for each in asked.prompts:
        own = digest if len(asked.prompts) == 1 else prompt_digest(each)
        if asked.seed is not None:
            own = hashlib.blake2b(b"%b%b" % (own, str(asked.seed).encode()), digest_size=32).digest()
        text = _BAD_REPLIES[variant % 3] if fault == "bad_reply" else reply_text(each, own, asked.wrapper)
        if fault == "truncated":
            finish = b"MAX_TOKENS" if gemini else b"length"
            text = text.rstrip()[: max(len(text.rstrip()) // 2, 1)]
        texts.append(text)
    if gemini:
        spoken: str | None = texts[0]
        if fault == "truncated" and variant % 2:
            # thinking may use up the whole budget: then there is no text at all
            spoken, thoughts = None, 1024
        body = _gemini_body(route, model, name, prompt, spoken, finish, thoughts)
    elif asked.form == "chat":
        body = _chat_body(model, name, prompt, texts[0], finish, token_factor=options.token_factor)
    else:
        if options.predict_echo:
            texts = [f"Prompt:\n{each}\nOutput:\n{text}" for each, text in zip(asked.prompts, texts, strict=True)]
        predictions = b"[%b]" % b",".join(map(_quote, texts))
        place = _quote("/".join(route.resource.split("/")[:4]) + "/models/1")
        body = b'{"predictions":%b,"deployedModelId":"1","model":%b,"modelDisplayName":%b,"modelVersionId":"1"}' % (
            predictions,
            place,
            model,
        )
    return 200, _OK % (len(body), body)


# ---------------------------------------------------------------------------------------------------------- the server


@dataclasses.dataclass(slots=True)
class Pending:
    """A request that was let in and waits for its reply."""

    outcome: str
    status: int
    reply: bytes
    digest: bytes
    latency_s: float
    paid: bool
    route: Route


class Play:
    """What is played and what was seen: everything that `POST /reset` starts anew."""

    def __init__(self, options: Options) -> None:
        self.connections: set[Connection] = set()
        self.routes: dict[bytes, Route] = {}
        self.reset(options)

    def reset(self, options: Options) -> None:
        for connection in list(self.connections):
            connection.drop()
        self.options = options
        self.fail_always = re.compile(options.fail_always) if options.fail_always else None
        self.quiet = not options.latency_median_ms and not any(getattr(options, f"rate_{fault}") for fault in FAULTS)
        self.tokens = float(options.limit_burst)
        self.filled_at = time.monotonic()
        self.requests = 0
        self.structured = 0
        self.gave_up = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.first_three: list[int] = []
        self.first_at = 0.0
        self.last_reply_at = 0.0
        self.by_status: collections.Counter[int] = collections.Counter()
        self.by_outcome: collections.Counter[str] = collections.Counter()
        self.by_protocol: collections.Counter[str] = collections.Counter()
        self.by_second: dict[int, dict[str, int]] = {}
        self.visits: dict[bytes, int] = {}
        self.paid: dict[bytes, int] = {}
        self.good: dict[bytes, int] = {}
        self.paid_latency_s = 0.0
        self.prompt_tokens = self.output_tokens = 0
        self.key_in_url = False
        self.keys_wrong = 0
        self.opened = 0
        self.recent: collections.deque[tuple[bytes, bytes]] = collections.deque(maxlen=50)
        self.cpu_from = time.process_time()

    def stats(self) -> dict[str, Any]:
        paid = sum(self.paid.values())
        return {
            "requests": self.requests,
            "by_status": {str(key): self.by_status[key] for key in sorted(self.by_status)},
            "by_outcome": dict(self.by_outcome),
            "by_protocol": dict(self.by_protocol),
            "by_second": {str(key): value for key, value in self.by_second.items()},
            "answered": paid,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "paid_twice": sum(count > 1 for count in self.paid.values()),
            "good_twice": sum(count > 1 for count in self.good.values()),
            "good_prompts": len(self.good),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "first_three_in_flight": self.first_three,
            "gave_up": self.gave_up,
            "latency_sum_s": self.paid_latency_s,
            "first_request_monotonic": self.first_at,
            "last_reply_monotonic": self.last_reply_at,
            "structured": self.structured,
            "key_in_url": self.key_in_url,
            "keys_wrong": self.keys_wrong,
            "connections": len(self.connections),
            "connections_opened": self.opened,
            "cpu_s": time.process_time() - self.cpu_from,
        }

    # -- one request

    def arrive(self, connection: Connection, head: bytes, lowered: bytes, body: bytes) -> None:
        line = head[: head.find(b"\r\n")] if b"\r\n" in head else head
        route = self.routes.get(line)
        if route is None:
            route = find_route(line.decode("latin-1"))
            if len(self.routes) > 1000:
                self.routes.clear()
            self.routes[line] = route
        if route.protocol in ("stats", "recent", "reset"):
            connection.send(self._control(route, body))
            return
        key = _header(head, lowered, b"\r\nx-goog-api-key:") or _header(head, lowered, b"\r\nauthorization:")
        key = key[7:].strip() if key[:7].lower() == "bearer " else key
        if route.query_key or (key and len(key) > 7 and key.encode("latin-1") in line):
            self.key_in_url = True
        key = key or route.query_key
        options = self.options
        now = time.monotonic()
        if not self.requests:
            self.first_at = now
        self.requests += 1
        second = int(now - self.first_at)
        counts = self.by_second.get(second)
        if counts is None:
            counts = self.by_second[second] = {"requests": 0}
        counts["requests"] += 1
        if len(self.first_three) < 3:
            self.first_three.append(self.in_flight)
        self.recent.append((head, body))
        self.by_protocol[route.protocol] += 1

        if route.protocol == "unknown":
            self.refuse(connection, "url", route)
            return
        if options.require_key and key != options.require_key:
            self.keys_wrong += 1
            self.refuse(connection, "key_wrong" if key else "key_missing", route, key=key)
            return
        try:
            asked = read_body(route, body)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
            self.refuse(connection, "body", route)
            return
        model = asked.model
        prompts = asked.prompts
        # the NUL keeps the joined prompts of one request apart from any single one
        digest = prompt_digest(prompts[0] if len(prompts) == 1 else "\0".join(prompts))
        visit = self.visits.setdefault(digest, 0)
        self.structured += asked.structured
        if options.status_always:
            self.refuse(connection, "status", route, model, status=options.status_always)
        elif options.chat_route != "serve" and route.protocol == "chat":
            self.refuse(connection, "chat_route", route, model)
        elif options.model_known and model != options.model_known and (model or route.protocol == "openai"):
            self.refuse(connection, "model", route, model)
        elif asked.stream:
            self.refuse(connection, "stream", route, model)
        elif options.refuse_structured and asked.structured:
            self.refuse(connection, "structured", route, model)
        elif options.quota_zero:
            self.refuse(connection, "quota_zero", route, model)
        elif options.limit_rps and not self._take_token(now):
            self.refuse(connection, "status", route, model, status=429, outcome="limit_rps")
        elif self.fail_always and any(map(self.fail_always.search, prompts)):
            self.refuse(connection, "status", route, model, status=options.fail_always_status, outcome="fail_always")
        else:
            self.visits[digest] = visit + 1
            self._admit(connection, route, asked, digest, visit)

    def _admit(self, connection: Connection, route: Route, asked: Asked, digest: bytes, visit: int) -> None:
        options = self.options
        drawn = Draw("", 0.0, 0) if self.quiet else draw(options, digest, 0 if options.repeats else visit)
        fault = drawn.fault
        if fault == "429":
            self.refuse(connection, "status", route, asked.model, status=429, outcome="429")
            return
        self.in_flight += 1
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight
        paid = False
        if fault in ("500", "503"):
            status, reply = error_reply(options, "status", route, status=int(fault), model=asked.model)
        elif fault == "html":
            status, reply = 200, _HTML
        elif fault == "malformed":
            status, reply = 200, _MALFORMED_GOOGLE if asked.form == "gemini" else _MALFORMED
        elif fault == "reset" and drawn.variant % 2:
            status, reply = 0, b""
        else:
            if options.token_factor != 1 and self.in_flight + sum(self.paid.values()) <= options.token_factor_after:
                options = dataclasses.replace(options, token_factor=1)
            status, reply = answer(options, route, asked, digest, drawn)
            paid = status == 200 and fault not in ("reset", "half", "hang")
        connection.pending = Pending(fault or "ok", status, reply, digest, drawn.latency_s, paid, route)
        if fault == "hang":
            self.by_outcome["hang"] += 1
        elif drawn.latency_s:
            connection.timer = connection.loop.call_later(drawn.latency_s, connection.deliver)
        else:
            connection.deliver()

    def refuse(
        self,
        connection: Connection,
        refusal: Refusal,
        route: Route,
        model: str = "",
        *,
        status: int = 500,
        outcome: str = "",
        key: str = "",
    ) -> None:
        status, reply = error_reply(self.options, refusal, route, status=status, model=model, key=key)
        self.count(outcome or (f"always_{status}" if refusal == "status" else refusal), status)
        connection.send(reply)

    def count(self, outcome: str, status: int) -> None:
        now = time.monotonic()
        self.last_reply_at = now
        self.by_outcome[outcome] += 1
        if outcome in ("reset", "half"):
            return
        self.by_status[status] += 1
        counts = self.by_second.setdefault(int(now - self.first_at), {"requests": 0})
        counts[str(status)] = counts.get(str(status), 0) + 1

    def delivered(self, pending: Pending) -> None:
        self.in_flight -= 1
        self.count(pending.outcome, pending.status)
        if pending.paid:
            digest = pending.digest
            self.paid[digest] = self.paid.get(digest, 0) + 1
            if found := _USAGE.search(pending.reply):
                self.prompt_tokens += int(found[1])
                self.output_tokens += int(found[2])
            self.paid_latency_s += pending.latency_s
            if pending.outcome == "ok":
                self.good[digest] = self.good.get(digest, 0) + 1

    def _take_token(self, now: float) -> bool:
        options = self.options
        self.tokens = min(options.limit_burst, self.tokens + (now - self.filled_at) * options.limit_rps)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def _control(self, route: Route, body: bytes) -> bytes:
        if route.protocol == "stats":
            return _http_json(200, self.stats())
        if route.protocol == "recent":
            return _http_json(200, [_as_json(head, sent) for head, sent in self.recent])
        try:
            options = Options(**json.loads(body or b"{}"))
        except (TypeError, ValueError, re.error) as error:
            return _http_json(400, {"error": str(error)})
        self.reset(options)
        return _http_json(200, {})


def _header(head: bytes, lowered: bytes, name: bytes) -> str:
    at = lowered.find(name)
    if at < 0:
        return ""
    at += len(name)
    end = head.find(b"\r\n", at)
    return head[at : end if end >= 0 else len(head)].strip().decode("latin-1")


def _as_json(head: bytes, body: bytes) -> dict[str, Any]:
    line, *rest = head.decode("latin-1").split("\r\n")
    pairs = (each.partition(":") for each in rest)
    try:
        sent: object = json.loads(body)
    except ValueError:
        sent = body.decode("utf-8", "replace")
    return {"line": line, "headers": {name.lower(): value.strip() for name, _, value in pairs}, "body": sent}


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: kept alive, one request at a time, what is sent ahead waits."""

    __slots__ = ("buffer", "closing", "loop", "need", "pending", "play", "timer", "transport")

    def __init__(self, play: Play, loop: asyncio.AbstractEventLoop) -> None:
        self.play = play
        self.loop = loop
        self.buffer = b""
        self.need = 0  # bytes of the request that is coming in, once its headers tell
        self.closing = False
        self.pending: Pending | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.play.opened += 1
        self.play.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.play.connections.discard(self)
        if self.pending is not None:
            self.play.in_flight -= 1
            self.play.gave_up += 1
            self.pending = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def drop(self) -> None:
        if self.pending is not None:
            self.pending = None
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        self.advance()

    def advance(self) -> None:
        while self.pending is None and self.buffer and not self.transport.is_closing():
            data = self.buffer
            if len(data) < self.need:
                return
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = data[:end]
            lowered = head.lower()
            start = end + 4
            total = start + int(_header(head, lowered, b"\r\ncontent-length:") or 0)
            if len(data) < total:
                self.need = total
                return
            body = data[start:total]
            self.need = 0
            self.buffer = data[total:]
            self.closing = lowered.find(b"\r\nconnection: close") >= 0
            self.play.arrive(self, head, lowered, body)

    def send(self, reply: bytes) -> None:
        self.transport.write(reply)
        if self.closing:
            self.transport.close()

    def deliver(self) -> None:
        pending, self.pending, self.timer = self.pending, None, None
        assert pending is not None
        self.play.delivered(pending)
        if pending.outcome == "reset":
            if pending.reply:
                self.transport.write(pending.reply[: len(pending.reply) - 40])
            linger = struct.pack("ii", 1, 0)  # closing with a linger of 0 seconds sends RST instead of FIN
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        elif pending.outcome == "half":
            body_at = pending.reply.find(b"\r\n\r\n") + 4
            self.transport.write(pending.reply[: body_at + (len(pending.reply) - body_at) // 2])
            self.transport.close()
        else:
            self.send(pending.reply)
            if self.buffer:
                # not at once: a client that sends ahead must not deepen the stack
                self.loop.call_soon(self.advance)


async def _serve(options: Options, port: int, parent: int) -> None:
    loop = asyncio.get_running_loop()
    play = Play(options)
    server = await loop.create_server(lambda: Connection(play, loop), "127.0.0.1", port, backlog=4096)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    gc.freeze()
    while not ended.is_set() and os.getppid() == parent:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.5)
    server.close()
    for connection in list(play.connections):
        connection.transport.abort()


_FIELDS: Final = {field.name: field for field in dataclasses.fields(Options)}


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until a signal ends it, or its parent is gone."""
    parser = argparse.ArgumentParser(
        description="A model endpoint on loopback, for tests and benchmarks.", allow_abbrev=False
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="the process whose end ends this one")
    for name, field in _FIELDS.items():
        if field.default is False:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            kind = float if field.default is None else type(field.default)
            parser.add_argument(f"--{name}", type=kind, default=field.default, choices=_CHOICES.get(name))
    given = vars(parser.parse_args(argv))
    port, parent = given.pop("port"), given.pop("parent")
    try:
        options = Options(**given)
    except (ValueError, re.error) as error:
        parser.error(str(error))
    asyncio.run(_serve(options, port, parent))


# ----------------------------------------------------------------------------------------------------------- for tests


class LlmServer:
    """The server, in a process of its own that ends with the `with` block, `stop()` or this process.

    Args:
      **options: fields of `Options`.
    """

    def __init__(self, **options: Any) -> None:
        Options(**options)
        arguments = [sys.executable, os.path.abspath(__file__), "--port=0", f"--parent={os.getpid()}"]
        for name, value in options.items():
            if value is True:
                arguments.append(f"--{name}")
            elif value is not False and value is not None:
                arguments.append(f"--{name}={value}")
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise RuntimeError("the endpoint for tests did not start")
        self.port: int = json.loads(line)["port"]
        self.base_url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LlmServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            value = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError(value["error"])
        return value

    def stats(self) -> dict[str, Any]:
        """Returns what was seen since the start or the last reset; seconds, and moments of time.monotonic()."""
        found: dict[str, Any] = self._ask("GET", "/stats")
        return found

    def recent(self) -> list[dict[str, Any]]:
        """Returns the last 50 requests, oldest first: `line`, `headers` (names in lower case) and `body` of each."""
        found: list[dict[str, Any]] = self._ask("GET", "/recent")
        return found

    def reset(self, **options: Any) -> None:
        """Plays other options, and the defaults of those not named; forgets all it saw, drops what still waits."""
        self._ask("POST", "/reset", options)

    def stop(self) -> None:
        """Ends the process; a second call does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


if __name__ == "__main__":
    main()
