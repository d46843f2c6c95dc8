"""Every back end that asks an endpoint, on each route that it knows, for tests of what all of them do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import google.auth
import google.oauth2.credentials
import pytest
from textmint.transforms.core.elements import Kind
from textmint.transforms.llm.base import Answer, Backend, Request, RequestError, Session
from textmint.transforms.llm.gemini import GeminiBackend
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend

from tests.support.helpers import Script

KEY = "sk-of-the-user-0123456789"  # an access token too
ENDPOINT = "projects/p/locations/us-central1/endpoints/7"
EXAMPLE = 'Write one example as a JSON object with the keys "input_text", "label", "misleading_label". Round '
VARIABLES = (
    *("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "OPENAI_API_KEY"),
    *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"),
    *("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"),
    "GOOGLE_GENAI_CLIENT_MODE",
)


@contextlib.contextmanager
def credentials_of(key: str = KEY) -> Iterator[pytest.MonkeyPatch]:
    """An environment with this key for all back ends, and nothing else that they look at."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("OPENAI_API_KEY", key)
        patch.setenv("GEMINI_API_KEY", key)
        credentials = google.oauth2.credentials.Credentials(key)  # type: ignore[no-untyped-call]
        patch.setattr(google.auth, "default", lambda **_: (credentials, "p"))
        yield patch


def backend_of(route: str, url: str, **settings: Any) -> Backend:
    """Makes the back end of a route.

    Args:
      route: openai, gemini (the Developer API), vertex (Gemini on Vertex AI), or a Vertex endpoint's: chat, prompt (of
        `predict`), inputs (of `predict`).
      url: of the server, without a version.
      **settings: of the back end.
    """
    if route == "openai":
        return OpenAIBackend(**{"model": "m", "base_url": f"{url}/v1", **settings})
    if route in ("gemini", "vertex"):
        project = "p" if route == "vertex" else None
        return GeminiBackend(**{"model": "m", "base_url": url, "project": project, **settings})
    return VertexEndpointBackend(**{"endpoint": ENDPOINT, "base_url": url, "model": "m", **settings})


def request(number: int = 0, kind: Kind = "example", text: str = EXAMPLE) -> Request:
    return Request(request_id=f"r{number}", kind=kind, text=f"{text}{number}", seed=number, variables={})


@contextlib.asynccontextmanager
async def opened(backend: Backend) -> AsyncIterator[Session]:
    session = await backend.open()
    try:
        yield session
    finally:
        await session.aclose()


def ask(backend: Backend, *requests: Request, at_once: bool = False) -> list[Answer | RequestError]:
    """Asks requests through one session; the answer or the error of each, in order."""

    async def one(session: Session, each: Request) -> Answer | RequestError:
        try:
            return await session.generate(each)
        except RequestError as error:
            return error

    async def run() -> list[Answer | RequestError]:
        async with opened(backend) as session:
            if at_once:
                return list(await asyncio.gather(*(one(session, each) for each in requests)))
            return [await one(session, each) for each in requests or (request(),)]

    return asyncio.run(run())


Reply = tuple[int, object]  # a status, and what is JSON, or bytes


class Canned:
    """An endpoint with replies in turn, the last one for ever: each given, or a function of the request's body."""

    def __init__(self, *replies: Reply | Callable[[Any], Reply], route: str = "openai") -> None:
        self.replies = replies
        self.route = route
        self.bodies: list[Any] = []

    def ask(self, *requests: Request, **settings: Any) -> list[Any]:
        with Script(self._reply) as script:
            return ask(backend_of(self.route, script.url, **settings), *requests)

    def one(self, asked: Request | None = None, **settings: Any) -> Any:
        return self.ask(*([asked] if asked else []), **settings)[0]

    def _reply(self, _: str, path: str, headers: Mapping[str, str], raw: bytes) -> tuple[int, dict[str, str], bytes]:
        self.bodies.append(json.loads(raw))
        reply = self.replies[min(len(self.bodies), len(self.replies)) - 1]
        status, value = reply(self.bodies[-1]) if callable(reply) else reply
        return status, {}, value if isinstance(value, bytes) else json.dumps(value).encode()
