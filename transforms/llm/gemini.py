"""Gemini, on Vertex AI or by the Gemini Developer API, through google-genai.

A bare `generate_content` with a configuration and a schema costs 1.72 ms of CPU (64 in flight), a `GeminiSession` 0.48.
It has its own aiohttp session (the SDK's looks for a proxy and for ~/.netrc on two threads at each request) and builds
the constant part of a body once (`extra_body`); it takes the reply as text (`should_return_http_response`), calls no
functions, and its subclasses of the SDK's models answer `in` at once.

The Developer API reads the service tier in the body, Vertex AI in a header
(https://github.com/googleapis/python-genai/issues/2847, https://docs.cloud.google.com/vertex-ai/generative-ai/docs/flex-paygo).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

import aiohttp
import google.auth.exceptions
from google import genai
from google.genai import types
from google.genai.client import DebugConfig
from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.core.identity import Part
from textmint.transforms.llm.base import FatalError, Request, RequestError, Transient
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import FatalCause
from textmint.transforms.llm.google_credentials import LOG_IN, credentials_error, default_credentials
from textmint.transforms.llm.http import HttpSession, Reading, Response, count_of, estimate_tokens
from textmint.transforms.llm.reply_text import content_text, finish_of, text_of_reply
from textmint.transforms.llm.sampling import Sampling
from textmint.transforms.llm.schemas import LISTS, json_schema
from textmint.transforms.llm.secrets import check_secret_version, fetch_key
from textmint.transforms.llm.urls import holds_secret, is_http_url, shown_url

SAFETY_THRESHOLDS: Final = ("BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF")
"""https://ai.google.dev/api/generate-content#HarmBlockThreshold"""

SERVICE_TIERS: Final = ("standard", "flex", "priority")
"""https://ai.google.dev/gemini-api/docs/optimization: flex costs half and may wait minutes, priority costs more."""

HARM_CATEGORIES: Final = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)
"""Those of text that both APIs let a user set; https://ai.google.dev/api/generate-content#HarmCategory"""

_DEVELOPER_URL: Final = "https://generativelanguage.googleapis.com/"
_NO_CREDENTIALS: Final = f"{LOG_IN}; or leave --vertex_project out and set GEMINI_API_KEY"
_TIER_HEADER: Final = "X-Vertex-AI-LLM-Shared-Request-Type"


# The SDK asks `name in model` for each of some 60 fields of a request. A pydantic model has no `__contains__`, so
# Python walks all fields as pairs each time, and never finds a name among pairs. Saying so at once halves the cost.


class _Config(types.GenerateContentConfig):
    def __contains__(self, name: object) -> bool:
        return False

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> _Config:
        return self  # the SDK copies a configuration only to put tools into the copy, and there are none here

    def seeded(self, seed: int) -> _Config:
        return super().model_copy(update={"seed": seed})


class _Part(types.Part):
    def __contains__(self, name: object) -> bool:
        return False


class _Content(types.Content):
    def __contains__(self, name: object) -> bool:
        return False


_CONFIG: Final = _Config(
    should_return_http_response=True,
    automatic_continuation=False,
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)
_EMPTY_PART: Final = _Part(text="")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GeminiBackend(Sampling):
    """Gemini as a back end. With `project` it is Vertex AI with application default credentials, otherwise the Gemini
    Developer API with the key in GEMINI_API_KEY, or else in GOOGLE_API_KEY, or with the one that Secret Manager keeps.
    No other variable that the SDK knows (GOOGLE_GENAI_USE_VERTEXAI, GOOGLE_CLOUD_PROJECT, GOOGLE_CLOUD_LOCATION,
    GOOGLE_GEMINI_BASE_URL, ...) is heeded. A value that cannot be raises ValueError."""

    model: str  # such as "gemini-2.5-flash"
    project: str | None = None  # Google Cloud project; None: the Developer API
    location: str | None = None  # of Vertex AI, such as "europe-west4"; None: "global". The Developer API has none
    base_url: str | None = None  # root of a gateway or a stand-in, without a version; None: Google's
    thinking_budget: int | None = None  # tokens; 0: none, -1: as the model sees fit, None: the model's default
    # one of SAFETY_THRESHOLDS, for each of HARM_CATEGORIES; None: Google's defaults.
    safety_threshold: str | None = None
    # one of SERVICE_TIERS; None: standard. On Vertex AI, flex is served at location "global" only.
    service_tier: str | None = None
    # projects/…/secrets/…/versions/… of the Developer API's key; None: it is in the environment.
    api_key_secret: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.@:/-]+", self.model) or ".." in self.model:
            raise ValueError(f"model is a name such as gemini-2.5-flash, not {self.model!r}")
        if self.project is not None and not re.fullmatch(r"[\w.:-]+", self.project):
            raise ValueError(f"project is the id of a Google Cloud project, not {self.project!r}")
        # it becomes a part of a host's name, to which a token is sent
        if self.location is not None and not re.fullmatch(r"[a-z0-9-]+", self.location):
            raise ValueError(f"location is a region such as europe-west4, or global, not {self.location!r}")
        if self.base_url is not None:
            if not is_http_url(self.base_url):
                raise ValueError(f"base_url is a URL such as https://gateway.example, not {shown_url(self.base_url)!r}")
            if holds_secret(self.base_url) or re.search("[?#]", self.base_url):
                raise ValueError(f"base_url has no password, key, query or fragment: {shown_url(self.base_url)!r}")
        Sampling.__post_init__(self)
        if self.thinking_budget is not None and self.thinking_budget < -1:
            raise ValueError(f"thinking_budget is a number from -1 upwards, not {self.thinking_budget!r}")
        for name, known in (("safety_threshold", SAFETY_THRESHOLDS), ("service_tier", SERVICE_TIERS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {value}")
        if self.api_key_secret is not None:
            check_secret_version(self.api_key_secret)
            if self.project is not None:
                raise ValueError("a key is for the Developer API, which has no project")

    def fingerprint(self) -> Mapping[str, Part]:
        """Tells the model and what changes its answers. Where it is served, and at what price, does not."""
        return {
            "backend": "gemini",
            "model": self.model,
            **self.parameters(),
            "thinking_budget": self.thinking_budget,
            "safety_threshold": self.safety_threshold,
        }

    async def open(self) -> GeminiSession:
        """Opens a session on the running event loop, with the key or the credentials that it needs."""
        # It warns of variables that do not count here, such as the second of two keys.
        logging.getLogger("google_genai").setLevel(logging.ERROR)
        if self.project is not None:
            return GeminiSession(self, credentials=await default_credentials(_NO_CREDENTIALS))
        if self.api_key_secret is not None:
            return GeminiSession(self, key=await asyncio.to_thread(fetch_key, self.api_key_secret))
        return GeminiSession(self, key=_key_from_environment())

    def root_url(self) -> str:
        """Finds the URL that the version and the path are appended to."""
        if self.base_url is not None:
            return self.base_url
        if self.project is None:
            return _DEVELOPER_URL
        location = self.location or "global"
        if location == "global":
            return "https://aiplatform.googleapis.com/"
        if location in ("us", "eu"):  # multi-regions
            return f"https://aiplatform.{location}.rep.googleapis.com/"
        return f"https://{location}-aiplatform.googleapis.com/"

    def body(self, kind: Kind, sent: Collection[str]) -> dict[str, Any]:
        """Builds the constant part of a request's body, with those options that may be refused that are in `sent`."""
        config: dict[str, Any] = {}
        if "temperature" in sent:
            config["temperature"] = self.temperature
        if "top_p" in sent:
            config["topP"] = self.top_p
        if self.max_output_tokens is not None:
            config["maxOutputTokens"] = self.max_output_tokens
        if self.thinking_budget is not None:
            config["thinkingConfig"] = {"thinkingBudget": self.thinking_budget}
        if "structured_output" in sent:
            config |= {"responseMimeType": "application/json", "responseSchema": response_schema(kind)}
        body: dict[str, Any] = {"generationConfig": config}
        if self.safety_threshold is not None:
            body["safetySettings"] = [
                {"category": category, "threshold": self.safety_threshold} for category in HARM_CATEGORIES
            ]
        if self.service_tier is not None and self.project is None:
            body["serviceTier"] = self.service_tier
        return body


def _key_from_environment() -> str:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        key = os.environ.get(name, "").strip()
        if key and re.fullmatch(r"[!-~]+", key):
            return key
        if key:
            raise FatalError(f"the key in {name} holds characters that no key has", f"set {name} to the key alone")
    raise FatalError(
        "no key for the Gemini Developer API, and no project for Vertex AI",
        "set GEMINI_API_KEY (https://aistudio.google.com/apikey), or give --vertex_project",
    )


class GeminiSession(HttpSession):
    """An open Gemini, made by `GeminiBackend.open`: with a key for the Developer API, or credentials for Vertex AI."""

    _KIND: ClassVar[str] = "Gemini endpoint"
    _REPLY_FIELDS: ClassVar[tuple[str, ...]] = ("candidates",)

    def __init__(self, backend: GeminiBackend, *, key: str | None = None, credentials: Any = None) -> None:
        self._backend = backend
        self._key = key
        self._credentials = credentials
        self._clients: dict[tuple[Kind, frozenset[str]], genai.Client] = {}
        raise_for_status = _raise_other_statuses
        super().__init__(backend, backend.root_url(), backend.model, ["send_seed"], raise_for_status=raise_for_status)

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        token = self._key or getattr(self._credentials, "token", None)
        return [token] if isinstance(token, str) else []

    async def aclose(self) -> None:
        """Closes all connections; calls in flight fail. A second call does nothing."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aio.aclose()
            client.close()
        await super().aclose()

    async def _send(self, request: Request, sent: frozenset[str]) -> Response:
        client = self._clients.get((request.kind, sent))
        if client is None:
            client = self._clients[request.kind, sent] = self._open_client(request.kind, sent)
        part = _EMPTY_PART.model_copy(update={"text": request.text})
        try:
            response = await client.aio.models.generate_content(
                model=self._backend.model,
                contents=_Content.model_construct(role="user", parts=[part]),
                config=_CONFIG.seeded(request.seed) if "send_seed" in sent else _CONFIG,
            )
        except _OtherStatus as other:
            return other.status, other.headers, other.body
        raw = response.sdk_http_response
        return 200, (raw and raw.headers) or {}, ((raw and raw.body) or "").encode()

    def _open_client(self, kind: Kind, sent: frozenset[str]) -> genai.Client:
        backend = self._backend
        is_vertex, tier = backend.project is not None, backend.service_tier
        options = types.HttpOptions(
            base_url=backend.root_url(),
            headers={_TIER_HEADER: tier} if is_vertex and tier in ("flex", "priority") else {},
            extra_body=backend.body(kind, sent),
            # One attempt. Without this the SDK also sends again, once and after 1 to 10 s, where a connection broke.
            retry_options=types.HttpRetryOptions(attempts=1),
            # A redirect would carry the key, in a header of its own, to wherever it leads.
            async_client_args={"allow_redirects": False},
            aiohttp_client=self._http,
        )
        return genai.Client(
            vertexai=is_vertex,
            api_key=self._key,
            project=backend.project,
            location=(backend.location or "global") if is_vertex else None,
            credentials=self._credentials,
            http_options=options,
            debug_config=DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
        )

    def _read(self, value: Mapping[str, Any], headers: Mapping[str, str], request: Request) -> Reading | None:
        return read_reply(value, self._place)

    def _remedies(self, fault: Fault) -> Mapping[FatalCause, str]:
        backend = self._backend
        secret = backend.api_key_secret and f"the secret {backend.api_key_secret}"
        key = f"set {secret or 'GEMINI_API_KEY'} to a valid key (https://aistudio.google.com/apikey)"
        where, account = "check --model", "key"
        if backend.project is not None:
            where, account = "check --model, --vertex_location", "project"
            key = (
                "check --vertex_project, that Vertex AI is enabled in it, and that the application default credentials "
                "may use it (role Vertex AI User)"
            )
        where += " and --base_url" if backend.base_url else ""
        return {
            "key": key,
            "forbidden": key,
            "unpaid": "enable billing or add credit for this key or project, or choose another endpoint by --base_url",
            "quota": f"this {account} has no quota for {backend.model}: choose another --model, or enable billing or "
            "ask for quota in the Google Cloud console",
            "model": where,
            "route": where,
            "place": "use Vertex AI with --vertex_project, or enable billing for this key",
        }

    def _failure(self, error: Exception) -> RequestError:
        if isinstance(error, google.auth.exceptions.GoogleAuthError):
            return credentials_error(error)
        if isinstance(error, UnicodeDecodeError):
            return Transient(f"{self._place} answered what cannot be read as text")
        return super()._failure(error)


class _OtherStatus(Exception):
    """An answer of another status than 200, read before the SDK does: that takes what is no JSON for a broken one, and
    loses the status of the answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


async def _raise_other_statuses(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise _OtherStatus(response.status, response.headers, await response.read())


def response_schema(kind: Kind) -> dict[str, Any]:
    """Makes the schema of a reply in Gemini's form, which orders the properties
    (https://ai.google.dev/api/caching#Schema). A list is a list here, as the prompt has it."""
    schema = json_schema(kind)
    return _gemini_form(schema["properties"][LISTS[kind]] if kind in LISTS else schema)


def _gemini_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {"type": schema["type"].upper()}
    if "items" in schema:
        form["items"] = _gemini_form(schema["items"])
    if "properties" in schema:
        form["properties"] = {name: _gemini_form(each) for name, each in schema["properties"].items()}
        form["required"] = list(schema["required"])
        form["propertyOrdering"] = list(schema["properties"])
    return form


def read_reply(value: Mapping[str, Any], place: str) -> Reading | None:
    """Reads a GenerateContentResponse (https://ai.google.dev/api/generate-content#generatecontentresponse).

    A prompt that is blocked is a reply without text. Parts are joined, thoughts left out; thinking counts as output,
    because it is paid for. None: it is no such body. Raises Throttled or Transient where the reply is broken off
    or missing.
    """
    candidates, feedback = value.get("candidates"), value.get("promptFeedback")
    text = ""
    finish: FinishReason
    if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
        finish = finish_of(candidates[0].get("finishReason"), place)
        text = _text_of(candidates[0], finish)
    elif isinstance(feedback, dict) and feedback.get("blockReason"):
        finish = "content_filter"
    elif "usageMetadata" in value or "modelVersion" in value:
        raise Transient(f"{place} answered without a candidate")
    else:
        return None
    usage = value.get("usageMetadata")
    counts = usage if isinstance(usage, dict) else {}
    # A count of 0 is left out of the JSON: it is missing only where there is something to count.
    output = (count_of(counts.get("candidatesTokenCount")) or estimate_tokens(text)) + (
        count_of(counts.get("thoughtsTokenCount")) or 0
    )
    return Reading(text, finish, value.get("modelVersion"), count_of(counts.get("promptTokenCount")) or None, output)


def _text_of(candidate: Mapping[str, Any], finish: FinishReason) -> str:
    content = candidate.get("content")
    listed = content.get("parts") if isinstance(content, dict) else None
    parts = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    calls = [part["functionCall"] for part in parts if isinstance(part.get("functionCall"), dict)]
    message = candidate.get("finishMessage")  # such as the call that was malformed
    return text_of_reply(
        content_text(parts) or "",
        finish,
        arguments=[call.get("args") for call in calls],
        reasoning=[part.get("text") for part in parts if part.get("thought")],
        other=message if isinstance(message, str) else "",
        whole=content,
    )
