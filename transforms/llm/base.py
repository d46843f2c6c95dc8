"""What every model is to LLMCall: a protocol, its request and its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from transforms.elements import FinishReason, Kind
from transforms.identity import Part


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt for one answer: what a back end may look at."""

    request_id: str
    kind: Kind  # which structure is asked for
    text: str  # the prompt, exactly as it is to be sent
    seed: int  # derived from request_id, in [0, 2**31); for endpoints that take a seed
    variables: Mapping[str, str]  # what the template was filled with; only the embedded model looks at it


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model answered to one request."""

    text: str  # "" where the provider withheld it
    finish_reason: FinishReason
    model: str  # as served, which may be more exact than what was asked for
    prompt_tokens: int
    output_tokens: int


@runtime_checkable
class Backend(Protocol):
    """A model behind an endpoint, or an embedded one. It is pickled to the workers, so it opens nothing before
    the first call."""

    def fingerprint(self) -> Mapping[str, Part]:
        """-> the model and every parameter that changes the answer; it enters the identity of each request."""

    async def generate(self, request: Request) -> Answer:
        """Request -> Answer. Called from one event loop, many at a time."""

    async def aclose(self) -> None:
        """Lets go of connections."""
