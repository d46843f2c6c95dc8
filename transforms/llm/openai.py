"""Endpoints of the OpenAI chat protocol: vLLM, Ollama, llama.cpp, TGI, LiteLLM, OpenRouter, OpenAI and many more.

It is spoken over plain aiohttp, because a request is one JSON object and the vendor's package costs several times the
CPU: 0.17 ms a request here, 0.18 in a bare aiohttp loop, 1.49 with openai 3.54 over its aiohttp client, 2.03 over its
default one (64 in flight, latency 0, medians of 3, one run on 2 shared cores).

Source of the protocol: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import yarl
from textmint.transforms.core.elements import Kind
from textmint.transforms.core.identity import Part
from textmint.transforms.llm.base import FatalError, Request, Transient
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import FatalCause, fault_under_200
from textmint.transforms.llm.http import HttpSession, Reading, Response, count_of
from textmint.transforms.llm.reply_text import choice_text, finish_of
from textmint.transforms.llm.sampling import Sampling
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema
from textmint.transforms.llm.secrets import check_secret_version, fetch_key
from textmint.transforms.llm.urls import holds_secret, is_http_url, shown_url

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIBackend(Sampling):
    """A chat endpoint that speaks OpenAI's protocol, as a back end.

    The key is OPENAI_API_KEY in the environment of the process that opens the session, or what that process reads from
    Secret Manager. api.openai.com wants one; other endpoints are sent it where it is set. A URL or a number that
    cannot be raises ValueError.
    """

    model: str  # as the endpoint names it
    base_url: str | None = None  # up to and without /chat/completions; None: DEFAULT_BASE_URL
    send_seed: bool = True  # send the seed of the request, so that an endpoint that can may repeat itself
    api_key_secret: str | None = None  # projects/…/secrets/…/versions/… of the key; None: from the environment

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("a model is needed: the name by which the endpoint knows it")
        _chat_url(self.base_url or DEFAULT_BASE_URL)
        Sampling.__post_init__(self)
        if self.api_key_secret is not None:
            check_secret_version(self.api_key_secret)

    def fingerprint(self) -> Mapping[str, Part]:
        """Tells the model and every parameter that changes the answer, as configured, whatever an endpoint refuses.

        The URL is not among them: a run that goes on after its server came back on another port, or behind a gateway,
        is the same run, and does not pay again. Nor is where the key comes from.
        """
        return {"backend": "openai", "model": self.model, **self.parameters(), "send_seed": self.send_seed}

    async def open(self) -> OpenAISession:
        """Opens a session on the running event loop. Only a key in Secret Manager needs the network."""
        secret = self.api_key_secret
        return OpenAISession(self, await asyncio.to_thread(fetch_key, secret) if secret else None)


class OpenAISession(HttpSession):
    """An open back end, made by `OpenAIBackend.open`. Without a key it takes the one in the environment, if any."""

    def __init__(self, backend: OpenAIBackend, key: str | None = None) -> None:
        url = _chat_url(backend.base_url or DEFAULT_BASE_URL)
        if key is None:
            key = os.environ.get(KEY_VARIABLE, "").strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise FatalError(
                f"{KEY_VARIABLE} holds characters that cannot be part of a key",
                f"set {KEY_VARIABLE} to the key alone, without quotation marks or comments",
            )
        host = url.host or ""
        self._is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
        if not key and self._is_openai:
            raise FatalError(
                f"{host} wants a key, and {KEY_VARIABLE} is not set",
                f"set {KEY_VARIABLE} in the environment, or --base_url to another endpoint",
            )
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "textmint"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._backend = backend
        self._url = url
        self._key = key
        options = []
        if backend.send_seed:
            options.append("send_seed")
        if backend.max_output_tokens is not None:
            options.append("max_output_tokens")
        super().__init__(backend, str(url), backend.model, options, headers=headers)

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        return [self._key]

    async def _send(self, request: Request, sent: frozenset[str]) -> Response:
        # OpenAI's reasoning models take only the newer name of the limit, many other servers only the older one.
        is_newer = self._is_openai is ("max_output_tokens" in sent)
        limit = "max_completion_tokens" if is_newer else "max_tokens"
        return await self._post(self._url, chat_body(self._backend, self._backend.model, request, sent, limit))

    def _read(self, value: Mapping[str, Any], headers: Mapping[str, str], request: Request) -> Reading | Fault | None:
        return read_chat(value, headers, self._place)

    def _remedies(self, fault: Fault) -> Mapping[FatalCause, str]:
        secret = self._backend.api_key_secret
        key_place = f"the secret {secret}" if secret else KEY_VARIABLE
        key = f"check {key_place}: {self._place} does not accept the key that it holds"
        forbidden = f"check that the key in {key_place} may use this --model at this --base_url"
        if not self._key:
            key = forbidden = f"set {KEY_VARIABLE} in the environment"
        unpaid = f"raise the quota or credit there, or set {key_place} to another account's key"
        return {
            "key": key,
            "forbidden": forbidden,
            "unpaid": unpaid,
            "quota": unpaid,
            "model": f"set --model to a model of {self._place}; it has no {self._backend.model!r}",
            "route": "begin --base_url with https://" if "https" in fault.words else self._foreign_remedy(),
            "place": "use an endpoint that serves the country you are in, by --base_url",
        }

    def _foreign_remedy(self) -> str:
        path = self._url.path.removesuffix("/chat/completions")
        remedy = f"check --base_url (most end in /v1): no chat route is at {self._url.path}"
        if not re.search(r"/v\d|/openai\b", path):
            return f"{remedy}; try {self._place}{path.rstrip('/')}/v1"
        shorter = re.sub(r"(/(chat|completions|models|responses|messages|embeddings))+$", "", path)
        return remedy if shorter == path else f"{remedy}; try {self._place}{shorter}"


def _chat_url(base_url: str) -> yarl.URL:
    """Makes the URL of the chat route, with the query kept (Azure wants its api-version there)."""
    if holds_secret(base_url):  # it is not quoted
        raise ValueError(f"base_url holds a key or a password; give it as {KEY_VARIABLE} in the environment")
    problem = f"base_url is a URL such as http://localhost:8000/v1 or {DEFAULT_BASE_URL}, not {shown_url(base_url)!r}"
    if not is_http_url(base_url):
        raise ValueError(problem)
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
    try:
        return yarl.URL(urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")))
    except ValueError:
        raise ValueError(problem) from None


@functools.lru_cache(maxsize=256)
def _around_prompt(settings: Sampling, model: str, kind: Kind, sent: frozenset[str], limit: str) -> tuple[bytes, bytes]:
    fields: dict[str, Any] = {"model": model}
    for option in ("temperature", "top_p"):
        if option in sent:
            fields[option] = getattr(settings, option)
    if settings.max_output_tokens is not None:
        fields[limit] = settings.max_output_tokens
    if "structured_output" in sent:
        schema = {"name": STRUCTURE_NAMES[kind], "strict": True, "schema": json_schema(kind)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    head = json.dumps(fields)[:-1] + ', "messages": [{"role": "user", "content": '
    return head.encode(), b'}], "seed": %d}' if "send_seed" in sent else b"}]}"


def chat_body(
    settings: Sampling, model: str, request: Request, sent: frozenset[str], limit: str = "max_tokens"
) -> bytes:
    """Writes the body of a chat request with the options of `sent`; `limit` names that of output tokens."""
    head, tail = _around_prompt(settings, model, request.kind, sent, limit)
    # ASCII, so that a lone surrogate in a prompt is an escape and not an error
    text = json.dumps(request.text).encode("ascii")
    return head + text + (tail % request.seed if "send_seed" in sent else tail)


def read_chat(value: Mapping[str, Any], headers: Mapping[str, str], place: str) -> Reading | Fault | None:
    """Reads a chat or text completion, or the error that stands in its place; None: the body is neither. Raises
    Throttled or Transient where the reply was broken off, or is missing."""
    choices = value.get("choices")
    if choices == [] or (not choices and "choices" in value and "usage" in value):
        raise Transient(f"{place} answered without a choice")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    if choice.get("error"):
        return fault_under_200(headers, {"error": choice["error"]})
    finish = finish_of(choice.get("finish_reason"), place)
    message = choice.get("message")
    if isinstance(message, dict) and message.get("refusal"):
        finish = "reply_filter"
    text = choice_text(choice, finish)
    if text is None:
        return None
    usage = value.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt = count_of(counts.get("prompt_tokens"))
    output = count_of(counts.get("completion_tokens"))
    total = count_of(counts.get("total_tokens"))
    if prompt is not None and total is not None and total >= prompt:
        # Some (Gemini, xAI) leave the tokens of reasoning out of completion_tokens, and none out of the total.
        output = max(output or 0, total - prompt)
    return Reading(text, finish, value.get("model"), prompt, output)
