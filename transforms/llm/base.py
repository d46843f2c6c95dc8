"""What every model is to LLMCall: a protocol, its request, its answer, and the ways in which it can fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.core.identity import Part, stable_hash
from textmint.transforms.core.texts import printable_line


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt for one answer: what a back end may look at."""

    request_id: str
    kind: Kind  # which structure is asked for
    text: str  # the prompt, exactly as it is to be sent
    seed: int  # derived from request_id, in [0, 2**31); for endpoints that take a seed
    variables: Mapping[str, str]  # what the template was filled with; only the embedded model looks at it
    prompt_id: str = ""  # of what is asked for; for the ledger
    attempt: int = 0  # 1 more for each time that the reply before could not be read; for the ledger


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model answered to one request."""

    text: str  # "" where the provider withheld it
    finish_reason: FinishReason
    model: str  # as served, which may be more exact than what was asked for
    prompt_tokens: int
    output_tokens: int
    left_out: tuple[str, ...] = ()  # options that the request lacked because the endpoint refuses them, in order


class RequestError(Exception):
    """A request that was not answered. The detail is one short line for a person, on the terminal and in rejects: it
    never holds a key or a token, and of what an endpoint says only what can be printed stays."""

    def __init__(self, detail: str) -> None:
        self.detail = printable_line(detail)
        super().__init__(self.detail)


class Throttled(RequestError):
    """The endpoint has no room now (429, or overload in the provider's own words): send it again later, and fewer.
    `retry_after` is how many seconds the endpoint asks to wait; None: it did not say."""

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Transient(RequestError):
    """It went wrong, and may go right the next time: 408, 5xx, a broken connection, a time-out, half a body.

    Args:
      detail: as of RequestError.
      retry_after: as of Throttled.
      dooms_probe: whether the options are wrong where the first request of a run fails so: nobody listens there, or it
        is no such endpoint. Later in a run the same is a passing fault.
      remedy: what the user should do where it dooms the probe; "": look at all that names the endpoint.
    """

    def __init__(
        self, detail: str, retry_after: float | None = None, *, dooms_probe: bool = False, remedy: str = ""
    ) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.dooms_probe = dooms_probe
        self.remedy = remedy


class Refused(RequestError):
    """The endpoint will never answer this request (400, 413, 422), but others perhaps."""


class FatalError(RequestError):
    """No request of this run can be answered: a wrong key, model, project or URL, a quota of zero.

    Args:
      detail: as of RequestError.
      remedy: what the user should do, one line.
      may_be_prompt: whether it may be about this prompt alone, which only the answers to others can tell: with a 403
        some endpoints refuse a key, and others what a filter of theirs dislikes.
      may_pass: whether an endpoint that answered others may say so in passing: one of the keys behind a gateway was
        revoked, or one of its servers has not loaded the model yet.
    """

    def __init__(self, detail: str, remedy: str, *, may_be_prompt: bool = False, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.remedy = remedy
        self.may_be_prompt = may_be_prompt
        self.may_pass = may_pass


@runtime_checkable
class Session(Protocol):
    """An open back end: one client with its connections, living on one event loop. Where it holds keys or tokens, a
    method `secrets` lists them, and they are masked in whatever comes."""

    async def generate(self, request: Request) -> Answer:
        """Answers a request. Called many times at once on one event loop. It does not retry and sets no total
        time-out: the engine does both, and cancels a call that takes too long.

        Raises:
          RequestError: one of its subclasses.
        """

    async def aclose(self) -> None:
        """Lets go of connections."""


@runtime_checkable
class Backend(Protocol):
    """A model behind an endpoint, or an embedded one: a frozen, hashable, picklable description that travels inside the
    graph. It holds no key: `open` reads keys from the environment of the process that it runs in, or fetches them from
    where they are kept."""

    def fingerprint(self) -> Mapping[str, Part]:
        """Tells the model and every parameter that changes the answer; it enters the identity of each request."""

    async def open(self) -> Session:
        """Opens a session on the running event loop.

        Raises:
          FatalError: a key or credential is missing.
          Transient: where keys are kept does not answer; it may be called again.
        """


def fingerprint_of(backend: Backend) -> str:
    """Makes one word of a back end's model and every parameter that changes the answer."""
    return stable_hash("backend", dict(backend.fingerprint()))
