"""Endpoints of the OpenAI chat protocol: vLLM, Ollama, llama.cpp, TGI, LiteLLM, OpenRouter, OpenAI and many more.

It is spoken over plain aiohttp, because a request is one JSON object and the vendor's package costs several times the
CPU: 0.17 ms a request here, 0.18 in a bare aiohttp loop, 1.49 with openai 3.54 over its aiohttp client (1.25 with its
raw responses) and 2.03 over its default one (64 in flight, latency 0, medians of 3, one run on 2 shared cores).

The protocol itself is in `chat_protocol`, what errors mean in `error_meaning`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import yarl
from textmint.transforms.core.identity import Part
from textmint.transforms.llm.base import FatalError, Request
from textmint.transforms.llm.chat_protocol import chat_body, read_chat
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import FatalCause
from textmint.transforms.llm.http import HttpSession, Reading
from textmint.transforms.llm.sampling import Sampling
from textmint.transforms.llm.secrets import check_secret_version, fetch_key
from textmint.transforms.llm.urls import holds_secret, is_http_url, shown_url

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIBackend(Sampling):
    """A chat endpoint that speaks OpenAI's protocol, as a back end.

    The key is OPENAI_API_KEY in the environment of the process that opens the session, or what that process reads from
    Secret Manager. api.openai.com wants one; other endpoints are sent it where it is set.

    Raises:
      ValueError: a URL or a number that cannot be; the message says which and why.
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
        return {
            "backend": "openai",
            "model": self.model,
            **self.parameters(),
            "send_seed": self.send_seed,
        }

    async def open(self) -> OpenAISession:
        """Opens a session on the running event loop. It reads the key and the proxy from the environment, and sends
        nothing; or fetches the key from Secret Manager.

        Raises:
          FatalError: the key is missing where one is needed, or cannot be one; a proxy of a kind that is not supported.
          Transient: Secret Manager cannot be reached.
        """
        if self.api_key_secret is None:
            return OpenAISession(self)
        return OpenAISession(self, await asyncio.to_thread(fetch_key, self.api_key_secret))


class OpenAISession(HttpSession):
    """An open back end. It is made by `OpenAIBackend.open`, on the event loop that it is to live on.

    Args:
      backend: what is asked, and where.
      key: None: the one in the environment, if any.

    Raises:
      FatalError: as of `OpenAIBackend.open`.
    """

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
        super().__init__(backend, str(url), backend.model, headers=headers)

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        return [self._key]

    def _sent(self, left_out: frozenset[str]) -> frozenset[str]:
        backend = self._backend
        sent = {"temperature", "top_p"}
        if backend.structured_output:
            sent.add("structured_output")
        if backend.send_seed:
            sent.add("send_seed")
        if backend.max_output_tokens is not None:
            sent.add("max_output_tokens")
        return frozenset(sent) - left_out

    async def _send(self, request: Request, sent: frozenset[str]) -> tuple[int, Mapping[str, str], bytes]:
        # OpenAI's reasoning models take only the newer name of the limit, many other servers only the older one.
        is_newer = self._is_openai is ("max_output_tokens" in sent)
        limit = "max_completion_tokens" if is_newer else "max_tokens"
        return await self._post(self._url, chat_body(self._backend, self._backend.model, request, sent, limit))

    def _read(self, value: Mapping[str, Any], headers: Mapping[str, str], request: Request) -> Reading | Fault | None:
        return read_chat(value, headers, self._place)

    def _remedies(self, fault: Fault) -> Mapping[FatalCause, str]:
        secret = self._backend.api_key_secret
        key_place = KEY_VARIABLE if secret is None else f"the secret {secret}"
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
    """Makes the URL of the chat route, with the query kept (Azure wants its api-version there).

    Raises:
      ValueError: the base URL is no http or https URL, or holds a secret.
    """
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
