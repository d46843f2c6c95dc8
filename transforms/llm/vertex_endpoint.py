"""A model that is deployed to a Vertex AI endpoint: one of the Model Garden's containers (vLLM, TGI), or a user's own.

The endpoint is looked up through google-cloud-aiplatform (its domain, which dedicated endpoints require, and what is
deployed to it); the requests themselves go over aiohttp with application default credentials, because a request costs
0.17 ms of CPU that way (64 in flight, against a server in another process), 0.63 ms through the library's `predict`
over `rest_asyncio`, 0.36 ms through its gRPC client (which takes no http:// URL) and 1.8 ms through its blocking client
on threads, and because its REST transports send the `HttpBody` of `chat_completions` and `raw_predict` as base64 inside
JSON, which no container understands (google-cloud-aiplatform 1.165.1). With a `base_url` nothing is looked up.

Prompts go to the chat route where the container has one, else to `predict` as Model Garden's vLLM containers take them,
else to `predict` as TGI takes them. The first answer settles it for the session.

Sources of the formats: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints,
https://cloud.google.com/vertex-ai/generative-ai/docs/open-models/vllm/use-vllm and those of `predictions`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import yarl
from textmint.transforms.core.identity import Part
from textmint.transforms.llm.base import Request, RequestError, Transient
from textmint.transforms.llm.chat_protocol import chat_body, read_chat
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import meaning_of
from textmint.transforms.llm.google_credentials import Tokens, default_credentials
from textmint.transforms.llm.http import HttpSession, Reading
from textmint.transforms.llm.predictions import read_prediction
from textmint.transforms.llm.sampling import Sampling
from textmint.transforms.llm.urls import holds_secret, is_http_url, shown_url
from textmint.transforms.llm.vertex_lookup import (
    Address,
    EndpointName,
    endpoint_error,
    look_up,
    no_endpoint,
    parse_endpoint,
)

_CHAT_VERSION: Final = "v1beta1"  # aiplatform_v1 has no chat_completions, aiplatform_v1beta1 does
_PREDICT_VERSION: Final = "v1"
_PREDICT_MAX_TOKENS: Final = 2048
"""Tokens of a prediction where the user named no limit: vLLM's own default is 16 (SamplingParams), TGI's was 100."""
_BASE_URL: Final = re.compile(
    r"(?P<root>https?://[^/?#@\s]+(?:/[^?#@\s]*?)??)/*(?:/(?P<version>v1(?:beta1)?))?"
    r"(?:/projects/[^/]+/locations/[^/]+/endpoints/[^/]+)?/*"
)
_NO_CHAT: Final = re.compile(
    r"not support(?:ed)?\b.{0,40}\bchat|chat.?completions?\b.{0,60}not (?:supported|found|implemented|available)"
    r"|(?:route|method|operation|path|url) (?:is )?not (?:supported|found|implemented|allowed)"
    r"|not support(?:ed)? (?:on )?this (?:route|method|operation|path)|\binstances\b",
    re.I | re.S,
)
_NO_PROMPT: Final = re.compile(r"\binputs\b|VertexInstance|untagged enum", re.I)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VertexEndpointBackend(Sampling):
    """A model that is deployed to a Vertex AI endpoint.

    Args:
      endpoint: its ID, or its full name projects/…/locations/…/endpoints/…, which goes before project and location.
      project: ID or number of its project.
      location: its region.
      base_url: where requests go instead of to Google (a gateway, the endpoint's own domain, a test); nothing is looked
        up then. The path may end in /v1 or /v1beta1, which then serves both routes.
      model: the name that the container serves, where it serves several; also what rows say where a reply does not.
      max_output_tokens: None: as many as the container allows in chat, 2,048 through `predict`.
      structured_output: ask for JSON by schema on the chat route. `predict` has no such thing. See `Sampling` for the
        rest of it.

    Raises:
      ValueError: a value is not what is said here.
    """

    endpoint: str
    project: str = ""
    location: str = ""
    base_url: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        parse_endpoint(self.endpoint, self.project, self.location)
        url = self.base_url
        if url is not None and (holds_secret(url) or not is_http_url(url) or not _BASE_URL.fullmatch(url)):
            raise ValueError(f"--base_url is http(s)://HOST[:PORT][/PATH] without a user name, not {shown_url(url)!r}")
        Sampling.__post_init__(self)

    @property
    def name(self) -> EndpointName:
        """The endpoint's project, location and ID."""
        return parse_endpoint(self.endpoint, self.project, self.location)

    @property
    def resource(self) -> str:
        """The endpoint's full name, projects/…/locations/…/endpoints/…"""
        return self.name.resource

    def fingerprint(self) -> Mapping[str, Part]:
        """Tells the endpoint, the model and every parameter that changes the answer, as configured: which route answers
        and whether the container takes a schema do not change it."""
        return {
            "backend": "vertex-endpoint",
            "endpoint": self.resource,
            "model": self.model,
            **self.parameters(),
        }

    async def open(self) -> VertexEndpointSession:
        """Opens a session on the running event loop, with credentials and the endpoint's address found out.

        Raises:
          FatalError: no credentials, no such endpoint, nothing deployed to it, no permission.
          Throttled, Transient: the look-up went wrong, and may go right the next time.
        """
        tokens = Tokens(await default_credentials())
        try:
            await tokens.current()
            if self.base_url is None:
                address = await look_up(self.name, tokens.credentials)
            else:
                found = _BASE_URL.fullmatch(self.base_url)
                assert found is not None  # __post_init__ has seen to it
                address = Address(root=found["root"], version=found["version"] or "")
            return VertexEndpointSession(self, tokens, address)
        except BaseException:
            tokens.close()
            raise


class VertexEndpointSession(HttpSession):
    """An open endpoint. It is made by `VertexEndpointBackend.open`.

    The routes are options like those of sampling: `chat` is left out where the container does not serve it, and then
    `prompt`, the instances of vLLM, so that what is left are those of TGI. Most predictions say neither how many tokens
    they have nor why they end: that counts as `stop`.

    Args:
      backend: what is asked.
      tokens: that requests carry.
      address: where it listens.
    """

    _KIND: ClassVar[str] = "Vertex AI endpoint"
    _REPLY_FIELDS: ClassVar[tuple[str, ...]] = ("choices", "predictions")
    _GIVEN_UP: ClassVar[Mapping[str, str]] = {
        **HttpSession._GIVEN_UP,
        "chat": "has no chat route: asked by predict, without structured output",
        "prompt": "",
    }

    def __init__(self, backend: VertexEndpointBackend, tokens: Tokens, address: Address) -> None:
        self._backend = backend
        self._name = backend.name
        self._tokens = tokens
        self._answered_by: set[str] = set()  # routes
        chat, predict = address.version or _CHAT_VERSION, address.version or _PREDICT_VERSION
        resource = backend.resource
        self._chat_url = yarl.URL(f"{address.root}/{chat}/{resource}/chat/completions", encoded=True)
        self._predict_url = yarl.URL(f"{address.root}/{predict}/{resource}:predict", encoded=True)
        model = backend.model or address.model or f"endpoints/{self._name.endpoint}"
        super().__init__(backend, address.root, model, headers={"User-Agent": "textmint"})

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        return self._tokens.known

    async def aclose(self) -> None:
        """Closes all connections; calls in flight fail. A second call does nothing."""
        self._tokens.close()
        await super().aclose()

    def _sent(self, left_out: frozenset[str]) -> frozenset[str]:
        sent = {"temperature", "top_p"}
        if "chat" not in left_out:
            # No seed: vLLM on TPU refuses requests that name one.
            sent.add("chat")
            if self._backend.structured_output:
                sent.add("structured_output")
        elif "prompt" not in left_out:
            sent.add("prompt")
        return frozenset(sent) - left_out

    async def _send(self, request: Request, sent: frozenset[str]) -> tuple[int, Mapping[str, str], bytes]:
        token = await self._tokens.current()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        payer = getattr(self._tokens.credentials, "quota_project_id", None)
        if payer:
            headers["x-goog-user-project"] = payer
        if "chat" in sent:
            # An empty model is the only one there is.
            body = chat_body(self._backend, self._backend.model or "", request, sent)
            status, headers_back, raw = await self._post(self._chat_url, body, headers)
        else:
            instance = self._instance(request, sent)
            body = json.dumps({"instances": [instance]}).encode()
            status, headers_back, raw = await self._post(self._predict_url, body, headers)
        if status == 200:
            self._tokens.accepted.add(token)
        elif status == 401 and token in self._tokens.accepted:
            # It was good a moment ago, so it has run out or was withdrawn. The next try fetches another.
            self._tokens.drop(token)
            raise Transient(f"{self._place} answered 401: the access token ran out")
        return status, headers_back, raw

    def _instance(self, request: Request, sent: frozenset[str]) -> dict[str, Any]:
        backend = self._backend
        sampling: dict[str, Any] = {"temperature": backend.temperature, "top_p": backend.top_p}
        sampling = {option: value for option, value in sampling.items() if option in sent}
        limit = backend.max_output_tokens or _PREDICT_MAX_TOKENS
        if "prompt" in sent:
            # Not `raw_response`: containers of before 2024 fail on it, and the echo is taken off anyway.
            return {"prompt": request.text, "max_tokens": limit, **sampling}
        parameters: dict[str, Any] = {"max_new_tokens": limit, "return_full_text": False}
        # TGI wants a temperature strictly above 0, and samples after all where it is told a top_p.
        parameters |= {"do_sample": True, **sampling} if backend.temperature > 0 else {"do_sample": False}
        return {"inputs": request.text, "parameters": parameters}

    def _read(self, value: Mapping[str, Any], headers: Mapping[str, str], request: Request) -> Reading | Fault | None:
        if value.get("choices") or not value.get("predictions"):
            return read_chat(value, headers, self._place)
        found = read_prediction(value["predictions"], request.text, headers, self._place)
        if isinstance(found, Reading) and not found.model:
            return dataclasses.replace(found, model=value.get("modelDisplayName"))
        return found

    def _refused(self, fault: Fault, sent: frozenset[str]) -> str | None:
        status, message = fault.status, fault.message
        is_bad_request = status in (400, 422)
        if "chat" in sent:
            is_new = "chat" not in self._answered_by
            if status == 404 and meaning_of(fault) == "model":
                return None
            if is_new and (status in (404, 405, 501) or (is_bad_request and _NO_CHAT.search(message))):
                return "chat"
        elif "prompt" in sent:
            if "prompt" not in self._answered_by and (is_bad_request or status == 500) and _NO_PROMPT.search(message):
                return "prompt"
        elif self._backend.temperature == 0:
            sent -= {"temperature", "top_p"}  # which are said in other words
        return super()._refused(fault, sent)

    def _succeeded(self, sent: frozenset[str], refusals: Mapping[str, str]) -> None:
        self._answered_by |= sent
        super()._succeeded(sent, refusals)

    def _error(self, fault: Fault) -> RequestError:
        detail = self._detail(fault)
        if fault.status in (405, 501) and not self._answered_by:
            return no_endpoint(self._name, detail)
        if fault.status < 300:
            return super()._error(fault)
        return endpoint_error(fault, self._name, detail, self._backend.model)
