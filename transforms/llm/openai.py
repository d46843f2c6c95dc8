"""The OpenAI chat protocol: vLLM, Ollama, llama.cpp, TGI, LiteLLM, OpenRouter, OpenAI itself and a hundred others.

It is spoken over plain aiohttp, because a request is one JSON object and the vendor's package costs several times the
CPU: 0.17 ms a request here, 0.18 in a bare aiohttp loop, 1.49 with openai 3.54 over its aiohttp client (1.25 with its
raw responses) and 2.03 over its default one (64 in flight, latency 0, medians of 3, one run on 2 shared cores).

Endpoints differ in what they take. An optional part of the request that one of them refuses by a 400 (structured
output, the seed, the name of the token limit, the sampling) is left out for the rest of the session, with one warning.

Source: https://platform.openai.com/docs/api-reference/chat. What errors mean is in `textmint.transforms.llm.http`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import yarl
from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.core.identity import Part
from textmint.transforms.llm import http
from textmint.transforms.llm.base import Answer, FatalError, Request, RequestError, Transient
from textmint.transforms.llm.reply_text import choice_text
from textmint.transforms.llm.sampling import Concessions, Sampling, refused_option
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema
from textmint.transforms.llm.secrets import check_secret_version, fetch_key
from textmint.transforms.llm.urls import PROXY_REMEDY, holds_secret, is_http_url, proxy_for, shown_url

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"

_CONNECT_SECONDS: Final = 10.0
"""For making a connection only, so that a firewall that drops packets is named within seconds. The time that an answer
takes is the engine's to limit."""
_CHARACTERS_PER_TOKEN: Final = 4  # rule of thumb of OpenAI's tokenizer guide for English


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
        """-> the model and every parameter that changes the answer, as configured, whatever an endpoint refuses later.

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
        """-> a session on the running event loop. It reads the key and the proxy from the environment, and sends
        nothing; or fetches the key from Secret Manager.

        Raises:
          FatalError: the key is missing where one is needed, or cannot be one; a proxy of a kind that is not supported.
          Transient: Secret Manager cannot be reached.
        """
        if self.api_key_secret is None:
            return OpenAISession(self)
        return OpenAISession(self, await asyncio.to_thread(fetch_key, self.api_key_secret))


class OpenAISession:
    """An open back end: one client, whose connections are kept alive, as many as there are calls at once."""

    __slots__ = (
        "_concessions",
        "_frames",
        "_has_key",
        "_http",
        "_key",
        "_key_place",
        "_place",
        "_secrets",
        "_settings",
        "_url",
    )

    def __init__(self, backend: OpenAIBackend, key: str | None = None) -> None:
        """Called on the event loop that the session is to live on, by `OpenAIBackend.open`.

        Args:
          key: None: the one in the environment, if any.
        """
        url = _chat_url(backend.base_url or DEFAULT_BASE_URL)
        if key is None:
            key = os.environ.get(KEY_VARIABLE, "").strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise FatalError(
                f"{KEY_VARIABLE} holds characters that cannot be part of a key",
                f"set {KEY_VARIABLE} to the key alone, without quotation marks or comments",
            )
        host = url.host or ""
        if not key and (host == "api.openai.com" or host.endswith(".api.openai.com")):
            raise FatalError(
                f"{host} wants a key, and {KEY_VARIABLE} is not set",
                f"set {KEY_VARIABLE} in the environment, or --base_url to another endpoint",
            )
        proxy = proxy_for(str(url))
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "textmint"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._settings = backend
        self._url = url
        self._place = str(url.origin())
        self._has_key = bool(key)
        self._key_place = KEY_VARIABLE if backend.api_key_secret is None else f"the secret {backend.api_key_secret}"
        self._key = key
        hidden = [key, (urlsplit(proxy).password or "") if proxy else ""]
        self._secrets = http.secret_pattern(form for secret in hidden for form in http.forms_of(secret))
        self._concessions = Concessions(self._place)
        self._frames: dict[tuple[Kind, frozenset[str]], tuple[bytes, bytes]] = {}
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the engine limits
            response_class=http.bounded(backend.max_reply_bytes),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
        )

    async def generate(self, request: Request) -> Answer:
        """Request -> Answer, by one POST; by one more for each optional part that the endpoint turns out to refuse.

        Where the endpoint does not count tokens, they are estimated at four characters each, rounded up. Tokens of
        reasoning count as output: they are paid for.

        Raises:
          Throttled, Transient, Refused, FatalError: see `textmint.transforms.llm.base`.
        """
        left_out = self._concessions.left_out
        refusals: dict[str, str] = {}
        while True:
            status, headers, raw = await self._post(self._body(request, left_out))
            found = self._read(request, headers, raw) if status == 200 else http.fault_of(status, headers, raw)
            if isinstance(found, Answer):
                self._concessions.add(refusals)
                # The limit of tokens is sent all the same, by its other name.
                lacks = left_out - {"max_output_tokens"}
                return dataclasses.replace(found, left_out=tuple(sorted(lacks))) if lacks else found
            option = refused_option(found, self._sent(left_out), self._settings.neutral())
            if option:
                refusals[option] = self._clean(found.message)
                left_out = left_out | self._concessions.left_out | {option}
                continue
            if finish := http.filter_of(found):
                return self._withheld(request, finish, found)
            raise self._error(found, headers)

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        return [self._key]

    async def aclose(self) -> None:
        """Closes all connections; calls in flight fail."""
        await self._http.close()

    async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        try:
            # A redirect of a POST becomes a GET of some page; it is named instead.
            async with self._http.post(self._url, data=body, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()
        except Exception as error:
            failure = self._failure(error)
        # Outside the except clause, or the client's exception, which holds the headers, would travel along.
        raise failure

    # ------------------------------------------------------------------------------------------------ the request

    def _sent(self, left_out: frozenset[str]) -> frozenset[str]:
        """Names the options that a request has, of those that an endpoint may refuse."""
        settings = self._settings
        sent = {
            "structured_output": settings.structured_output,
            "send_seed": settings.send_seed,
            "temperature": True,
            "top_p": True,
            "max_output_tokens": settings.max_output_tokens is not None,
        }
        return frozenset(option for option, is_sent in sent.items() if is_sent) - left_out

    def _frame(self, kind: Kind, left_out: frozenset[str]) -> tuple[bytes, bytes]:
        """What comes before the prompt in a body and what comes between the prompt and the seed."""
        settings, sent = self._settings, self._sent(left_out)
        fields: dict[str, Any] = {"model": settings.model}
        if "temperature" in sent:
            fields["temperature"] = settings.temperature
        if "top_p" in sent:
            fields["top_p"] = settings.top_p
        if settings.max_output_tokens is not None:
            # OpenAI's reasoning models take only the newer name, many other servers only the older one.
            names = ("max_tokens", "max_completion_tokens")
            newer = (self._url.host or "").endswith("api.openai.com") != ("max_output_tokens" in left_out)
            fields[names[newer]] = settings.max_output_tokens
        if "structured_output" in sent:
            schema = {"name": STRUCTURE_NAMES[kind], "strict": True, "schema": json_schema(kind)}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        head = json.dumps(fields)[:-1] + ', "messages": [{"role": "user", "content": '
        return head.encode(), b'}], "seed": %d}' if "send_seed" in sent else b"}]}"

    def _body(self, request: Request, left_out: frozenset[str]) -> bytes:
        place = (request.kind, left_out)
        frame = self._frames.get(place)
        if frame is None:
            frame = self._frames[place] = self._frame(*place)
        head, tail = frame
        # ASCII, so that a lone surrogate in a prompt is an escape and not an error
        text = json.dumps(request.text).encode("ascii")
        return head + text + (tail % request.seed if len(tail) > 3 else tail)

    # ------------------------------------------------------------------------------------------------- the answer

    def _read(self, request: Request, headers: Mapping[str, str], raw: bytes) -> Answer | http.Fault:
        """What came with status 200 -> the answer, or the error that stands in its place."""
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise self._not_json(headers, raw) from None
        choices = body.get("choices") if isinstance(body, dict) else None
        if not choices or not isinstance(choices, list):
            fault = http.fault_under_200(headers, body)
            if fault is not None:
                return fault
            if choices == [] or (isinstance(body, dict) and "choices" in body and "usage" in body):
                raise Transient(f"{self._place} answered without a choice")
            raise self._foreign("JSON without `choices`" if isinstance(body, dict) else "JSON that is no object")
        choice = choices[0]
        if isinstance(choice, dict) and choice.get("error"):
            return http.fault_in(200, headers, {"error": choice["error"]})
        if not isinstance(choice, dict):
            raise self._foreign("a choice without `message`")
        finish = http.finish_of(choice.get("finish_reason"), self._place)
        message = choice.get("message")
        if isinstance(message, dict) and message.get("refusal"):
            finish = "reply_filter"
        text = choice_text(choice, finish)
        if text is None:
            raise self._foreign("a choice without `message`")
        return self._answer(request, text, finish, body.get("model"), body.get("usage"))

    def _withheld(self, request: Request, finish: FinishReason, fault: http.Fault) -> Answer:
        """What a filter refused -> an answer, so that the ledger keeps it and nobody asks for it again."""
        answer = self._answer(request, "", finish, None, None)
        return dataclasses.replace(answer, text=self._clean(fault.message))

    def _answer(self, request: Request, text: str, finish: FinishReason, model: object, usage: object) -> Answer:
        counts = usage if isinstance(usage, dict) else {}
        prompt, output = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
        total = _count(counts.get("total_tokens"))
        if prompt is None:
            prompt = _estimate(request.text)
        elif total is not None and total >= prompt:
            # Some (Gemini, xAI) leave the tokens of reasoning out of completion_tokens, and none out of the total.
            output = max(output or 0, total - prompt)
        return Answer(
            text=text,
            finish_reason=finish,
            # Not printable is also what no column could hold.
            model=model if isinstance(model, str) and model and model.isprintable() else self._settings.model,
            prompt_tokens=prompt,
            output_tokens=_estimate(text) if output is None else output,
        )

    # -------------------------------------------------------------------------------------------------- the errors

    def _not_json(self, headers: Mapping[str, str], raw: bytes) -> Transient:
        start = raw.lstrip()[:16].lower()
        if start[:1] in (b"{", b"["):
            return Transient(f"{self._place} answered JSON that is broken")
        what = "something else than JSON"
        if not start:
            what = "nothing"
        elif start[:1] == b"<" or "html" in headers.get("Content-Type", "").lower():
            what = "HTML, not JSON"
        elif start.startswith((b"data:", b"event:")):
            what = "a stream of events, not JSON"
        return self._foreign(what)

    def _clean(self, text: str) -> str:
        """A text of the endpoint or the client -> one short line of it, without a key."""
        return http.one_line(text, self._secrets)

    def _foreign(self, what: str) -> Transient:
        detail = f"{self._place} answered {what}: it is no chat endpoint"
        return Transient(detail, dooms_probe=True, remedy=self._other_url())

    def _failure(self, error: Exception) -> RequestError:
        """What the client raised -> the same in our words."""
        if isinstance(error, RequestError):
            return error
        name = type(error).__name__
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return Transient(f"no connection to {self._place} within {_CONNECT_SECONDS:g} s", dooms_probe=True)
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            detail = f"cannot connect to the proxy: {self._clean(_reason(error))}"
            return Transient(detail, dooms_probe=True, remedy=PROXY_REMEDY)
        if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
            detail = f"no secure connection to {self._place}: {self._clean(_reason(error))}"
            remedy = ""
            if not isinstance(error, aiohttp.ClientConnectorCertificateError):
                remedy = "begin --base_url with http:// where the endpoint, such as one of this machine, has no TLS"
            return Transient(detail, dooms_probe=True, remedy=remedy)
        if isinstance(error, aiohttp.ClientConnectorError):
            return Transient(f"cannot connect to {self._place}: {self._clean(_reason(error))}", dooms_probe=True)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return Transient(f"the proxy refused with {error.status} {self._clean(error.message)}", dooms_probe=True)
        if isinstance(error, aiohttp.ClientResponseError):
            return Transient(f"{self._place} does not speak HTTP: {self._clean(error.message)}", dooms_probe=True)
        if isinstance(error, aiohttp.InvalidURL):
            return Transient(f"{self._place} is a URL that cannot be asked ({name})", dooms_probe=True)
        if isinstance(error, aiohttp.ClientPayloadError):
            return Transient(f"{self._place} broke off its answer ({name})")
        if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError)):
            return Transient(f"{self._place} closed the connection ({name})")
        if isinstance(error, asyncio.TimeoutError):
            return Transient(f"{self._place} took too long ({name})")
        return Transient(f"{name}: {self._clean(str(error))}")

    def _error(self, fault: http.Fault, headers: Mapping[str, str]) -> RequestError:
        """An answer that is none -> what it means for the run."""
        said = self._clean(fault.message)
        detail = f"{self._place} answered {fault.status}" + (f": {said}" if said else "")
        if 200 <= fault.status < 300:
            return self._foreign(f"{fault.status} and no text")
        if 300 <= fault.status < 400:
            goal = urlsplit(headers.get("Location", ""))
            shown = f" to {goal.scheme}://{goal.hostname}" if goal.hostname else ""
            return Transient(f"{self._place} redirects{shown} ({fault.status}): see --base_url", dooms_probe=True)
        return http.error_of(fault, detail, self._remedy, self._settings.model)

    def _remedy(self, doom: http.Doom, fault: http.Fault) -> str:
        if doom in ("key", "forbidden") and not self._has_key:
            return f"set {KEY_VARIABLE} in the environment"
        return {
            "key": f"check {self._key_place}: {self._place} does not accept the key that it holds",
            "forbidden": f"check that the key in {self._key_place} may use this --model at this --base_url",
            "unpaid": f"raise the quota or credit there, or set {self._key_place} to another account's key",
            "quota": f"raise the quota or credit there, or set {self._key_place} to another account's key",
            "model": f"set --model to a model of {self._place}; it has no {self._settings.model!r}",
            "route": "begin --base_url with https://" if "https" in fault.words else self._other_url(),
            "proxy": "set HTTPS_PROXY or HTTP_PROXY to a proxy that lets you in, with user and password",
            "place": "use an endpoint that serves the country you are in, by --base_url",
        }[doom]

    def _other_url(self) -> str:
        path = self._url.path.removesuffix("/chat/completions")
        told = f"check --base_url (most end in /v1): no chat route is at {self._url.path}"
        if not re.search(r"/v\d|/openai\b", path):
            return f"{told}; try {self._place}{path.rstrip('/')}/v1"
        shorter = re.sub(r"(/(chat|completions|models|responses|messages|embeddings))+$", "", path)
        return told if shorter == path else f"{told}; try {self._place}{shorter}"


# ------------------------------------------------------------------------------------------- reading what was answered


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _estimate(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _reason(error: Exception) -> str:
    """What the client raised when it could not connect -> what the system said below it."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if not isinstance(cause, ssl.SSLError) and isinstance(number, int) and number > 0:
        return os.strerror(number)
    return getattr(cause, "strerror", None) or str(cause)


# ------------------------------------------------------------------------------------------------------ URLs and keys


def _chat_url(base_url: str) -> yarl.URL:
    """The base URL -> the URL of its chat route, with the query kept (Azure wants its api-version there).

    Raises:
      ValueError: it is no http or https URL, or holds a secret.
    """
    shape = f"base_url is a URL such as http://localhost:8000/v1 or {DEFAULT_BASE_URL}"
    try:
        if holds_secret(base_url):
            raise PermissionError
        if not is_http_url(base_url):
            raise ValueError
        parts = urlsplit(base_url)
        path = parts.path.rstrip("/")
        path = path.removesuffix("/chat/completions") + "/chat/completions"
        return yarl.URL(urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")))
    except PermissionError:
        # not quoted: it would be the secret that is printed
        raise ValueError(f"base_url holds a key or a password; give it as {KEY_VARIABLE} in the environment") from None
    except ValueError:
        raise ValueError(f"{shape}, not {shown_url(base_url)!r}") from None
