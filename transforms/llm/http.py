"""A session with an endpoint over HTTP: what all back ends that ask one share."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import aiohttp
import yarl
from textmint.transforms.core.elements import FinishReason
from textmint.transforms.llm.base import Answer, Refused, Request, RequestError, Transient
from textmint.transforms.llm.error_body import Fault, fault_of
from textmint.transforms.llm.error_meaning import FatalCause, error_of, fault_under_200, filter_of
from textmint.transforms.llm.redaction import one_line
from textmint.transforms.llm.sampling import OPTIONS, Sampling, refused_option
from textmint.transforms.llm.urls import PROXY_REMEDY, proxy_for

_LOG: Final = logging.getLogger("textmint")

_CONNECT_SECONDS: Final = 10.0
"""For making a connection only, so that a firewall that drops packets is named within seconds. The time that a reply
takes is the engine's to limit."""
_CHARACTERS_PER_TOKEN: Final = 4  # rule of thumb of OpenAI's tokenizer guide for English
_NO_JSON: Final = object()
_TLS_REMEDY: Final = "begin --base_url with http:// where the endpoint, such as one of this machine, has no TLS"
_FAILURES: Final[tuple[tuple[Any, str, bool, str], ...]] = (
    (aiohttp.ConnectionTimeoutError, f"no connection to {{place}} within {_CONNECT_SECONDS:g} s", True, ""),
    (aiohttp.ClientProxyConnectionError, "cannot connect to the proxy: {reason}", True, PROXY_REMEDY),
    (aiohttp.ClientConnectorCertificateError, "no secure connection to {place}: {reason}", True, ""),
    (
        (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch),
        "no secure connection to {place}: {reason}",
        True,
        _TLS_REMEDY,
    ),
    (aiohttp.ClientConnectorError, "cannot connect to {place}: {reason}", True, ""),
    (aiohttp.ClientHttpProxyError, "the proxy refused with {status} {said}", True, ""),
    (aiohttp.ClientResponseError, "{place} does not speak HTTP: {said}", True, ""),
    (aiohttp.InvalidURL, "{place} is a URL that cannot be asked ({name})", True, ""),
    (aiohttp.ClientPayloadError, "{place} broke off its answer ({name})", False, ""),
    (
        (aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError),
        "{place} closed the connection ({name})",
        False,
        "",
    ),
    (asyncio.TimeoutError, "{place} took too long ({name})", False, ""),
    (Exception, "{name}: {text}", False, ""),
)
"""What the client raises, what is said of it, whether the first request of a run failing so ends the run, and the
remedy. The first kind that fits counts."""

Response = tuple[int, Mapping[str, str], bytes]  # status, headers, body


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says."""

    text: str  # what the model wrote
    finish_reason: FinishReason  # why it ended
    model: object = None  # the one that wrote it, as the endpoint names it; what is no name counts as unknown
    prompt_tokens: int | None = None  # None: the endpoint does not count them
    output_tokens: int | None = None  # reasoning included, for it is paid for; None: the endpoint does not count them


class HttpSession:
    """An open back end: one client with as many connections as there are calls at once, on one event loop.

    An option that the endpoint refuses is left out for the rest of the session, with one warning. It is first tried
    without, and not given up before that helps: an error may blame the wrong thing.

    A back end names its endpoint's URL, the model that answers are from where the endpoint names none, the options that
    an endpoint may refuse beside those of every back end, and more arguments of aiohttp's session.
    """

    _KIND: ClassVar[str] = "chat endpoint"
    _REPLY_FIELDS: ClassVar[tuple[str, ...]] = ("choices",)  # of a body that holds a reply
    _GIVEN_UP: ClassVar[Mapping[str, str]] = {name: option.warning for name, option in OPTIONS.items()}

    def __init__(self, settings: Sampling, url: str, model: str, options: Iterable[str] = (), **client: Any) -> None:
        proxy = proxy_for(url)
        self._settings = settings
        self._model = model
        self._place = str(yarl.URL(url).origin())
        self._proxy_password = (urlsplit(proxy).password or "") if proxy else ""
        self._options = frozenset(("temperature", "top_p", *options))
        if settings.structured_output:
            self._options |= {"structured_output"}
        self._left_out: frozenset[str] = frozenset()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the engine limits
            response_class=bounded(settings.max_reply_bytes),
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            **client,
        )

    async def generate(self, request: Request) -> Answer:
        """Answers a request, by one POST; by one more for each option that the endpoint turns out to refuse.

        What a filter refuses is an answer too, so that the ledger keeps it and nobody asks for it again. Tokens that
        the endpoint does not count are estimated at four characters each, rounded up.
        """
        left_out = self._left_out
        refusals: dict[str, str] = {}
        while True:
            sent = self._sent(left_out)
            found = await self._attempt(request, sent)
            if isinstance(found, Reading):
                self._succeeded(sent, refusals)
                return self._answer(request, found, self._lacks(sent) if left_out else ())
            if finish := filter_of(found):
                return self._answer(request, Reading(self._clean(found.message), finish, output_tokens=0))
            option = self._refused(found, sent)
            if option is None:
                raise self._error(found)
            refusals[option] = self._clean(found.message)
            left_out = left_out | self._left_out | {option}

    async def aclose(self) -> None:
        """Closes all connections; calls in flight fail. A second call does nothing."""
        await self._http.close()

    # ---------------------------------------------------------------------------------------- what a back end says

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        raise NotImplementedError

    def _sent(self, left_out: frozenset[str]) -> frozenset[str]:
        """Names the options that a request has, of those that the endpoint may refuse."""
        return self._options - left_out if left_out else self._options

    async def _send(self, request: Request, sent: frozenset[str]) -> Response:
        raise NotImplementedError

    def _read(self, value: Mapping[str, Any], headers: Mapping[str, str], request: Request) -> Reading | Fault | None:
        """Reads the body of status 200; None: it is none of this protocol."""
        raise NotImplementedError

    def _remedies(self, fault: Fault) -> Mapping[FatalCause, str]:
        """Says what the user can do, one line each."""
        raise NotImplementedError

    def _foreign_remedy(self) -> str:
        """Says what the user can do where something else listens; "": look at all options that name the endpoint."""
        return ""

    def _refused(self, fault: Fault, sent: frozenset[str]) -> str | None:
        """Names the option that the endpoint refuses, if that is what it says."""
        return refused_option(fault, sent, self._settings.neutral())

    # --------------------------------------------------------------------------------------------------- one request

    async def _attempt(self, request: Request, sent: frozenset[str]) -> Reading | Fault:
        problem: RequestError
        try:
            return self._found(request, *await self._send(request, sent))
        except RequestError as error:
            problem = error
        except Exception as error:
            problem = self._failure(error)
        # Outside of `except`, or the client's exception, which holds the headers, would travel along.
        raise problem

    def _found(self, request: Request, status: int, headers: Mapping[str, str], raw: bytes) -> Reading | Fault:
        if 300 <= status < 400:
            goal = urlsplit(headers.get("Location", ""))
            shown = f" to {goal.scheme}://{goal.hostname}" if goal.hostname else ""
            raise Transient(f"{self._place} redirects{shown} ({status}): see --base_url", dooms_probe=True)
        if status != 200:
            return fault_of(status, headers, raw)
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = _NO_JSON
        if value is _NO_JSON:
            raise self._not_json(headers, raw)
        is_object = isinstance(value, dict)
        if not is_object or not any(value.get(name) for name in self._REPLY_FIELDS):
            fault = fault_under_200(headers, value)
            if fault is not None:
                return fault
        found = self._read(value, headers, request) if is_object else None
        if found is None:
            keys = ", ".join(list(value)[:8]) if is_object else type(value).__name__
            raise self._foreign(f"JSON of another form ({self._clean(keys)})")
        return found

    async def _post(self, url: yarl.URL, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        # A redirect of a POST becomes a GET of some page; it is named instead.
        async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    def _answer(self, request: Request, found: Reading, left_out: tuple[str, ...] = ()) -> Answer:
        # Not printable is also what no column could hold.
        is_named = isinstance(found.model, str) and found.model and found.model.isprintable()
        prompt, output = found.prompt_tokens, found.output_tokens
        return Answer(
            text=found.text,
            finish_reason=found.finish_reason,
            model=str(found.model) if is_named else self._model,
            prompt_tokens=estimate_tokens(request.text) if prompt is None else prompt,
            output_tokens=estimate_tokens(found.text) if output is None else output,
            left_out=left_out,
        )

    def _lacks(self, sent: frozenset[str]) -> tuple[str, ...]:
        """Names the options that the user asked for and a request had not. The limit of tokens is no such option: it is
        sent all the same, by its other name."""
        lacks = self._sent(frozenset()) - sent
        return tuple(sorted(option for option in lacks if option in OPTIONS and option != "max_output_tokens"))

    def _succeeded(self, sent: frozenset[str], refusals: Mapping[str, str]) -> None:
        """Leaves refused options out from now on, since a request without them was answered."""
        for option, message in refusals.items():
            if option not in self._left_out:
                self._left_out |= {option}
                if warning := self._GIVEN_UP[option]:
                    _LOG.warning("%s %s (%s)", self._place, warning, message)

    # ---------------------------------------------------------------------------------------------------- what failed

    def _clean(self, text: str) -> str:
        """Shortens a text of the endpoint or the client to one line without a key."""
        return one_line(text, *self.secrets(), self._proxy_password)

    def _detail(self, fault: Fault) -> str:
        said = self._clean(fault.message)
        return f"{self._place} answered {fault.status} {fault.state}".rstrip() + (f": {said}" if said else "")

    def _error(self, fault: Fault) -> RequestError:
        if fault.status < 300:
            return self._foreign(f"{fault.status} and no text")
        return error_of(fault, self._detail(fault), self._remedies, self._model)

    def _foreign(self, what: str) -> Transient:
        detail = f"{self._place} answered {what}: it is no {self._KIND}"
        return Transient(detail, dooms_probe=True, remedy=self._foreign_remedy())

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

    def _failure(self, error: Exception) -> RequestError:
        """Says in our words what the client raised."""
        _, detail, dooms_probe, remedy = next(row for row in _FAILURES if isinstance(error, row[0]))
        known = {
            "place": self._place,
            "name": type(error).__name__,
            "reason": self._clean(_reason(error)),
            "status": getattr(error, "status", ""),
            "said": self._clean(str(getattr(error, "message", ""))),
            "text": self._clean(str(error)),
        }
        return Transient(detail.format_map(known), dooms_probe=dooms_probe, remedy=remedy)


def bounded(most_bytes: int) -> type[aiohttp.ClientResponse]:
    """Makes the `response_class` of an aiohttp session that reads at most so many bytes of a body, decompressed.

    A body of 2 MB can decompress to many GB. aiohttp decompresses piece by piece, as far as it is read, so that memory
    holds what was allowed and one piece. A larger body raises Refused.
    """

    class Bounded(aiohttp.ClientResponse):
        async def read(self) -> bytes:
            if self._body is not None:
                return await super().read()
            body = bytearray()
            try:
                async for piece in self.content.iter_any():
                    body += piece
                    if len(body) > most_bytes:
                        raise Refused(f"the reply is larger than max_reply_bytes ({most_bytes})")
            except BaseException:
                self.close()  # what is still to come is not wanted
                raise
            self._body = bytes(body)
            return self._body

    return Bounded


def count_of(value: object) -> int | None:
    """Takes a number of tokens for what it is; None: it is no such number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def estimate_tokens(text: str) -> int:
    """Estimates how many tokens a text has, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _reason(error: Exception) -> str:
    """Finds what the system said below an error of the client that could not connect."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if not isinstance(cause, ssl.SSLError) and isinstance(number, int) and number > 0:
        return os.strerror(number)
    return getattr(cause, "strerror", None) or str(cause)
