"""A model that is deployed to a Vertex AI endpoint: one of the Model Garden's containers (vLLM, TGI), or a user's own.

The endpoint is looked up through google-cloud-aiplatform (its domain, which dedicated endpoints require, and what is
deployed to it); the requests themselves go over aiohttp with application default credentials: 0.17 ms of CPU a request
(64 in flight), against 0.36 to 1.8 ms through the library's clients, whose REST transports also send `HttpBody` as
base64 inside JSON, which no container understands (google-cloud-aiplatform 1.165.1).

Prompts go to the chat route where the container has one, else to `predict` as Model Garden's vLLM containers take them,
else to `predict` as TGI takes them. The first answer settles it for the session.

Sources: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints,
https://cloud.google.com/vertex-ai/docs/predictions/get-online-predictions,
https://cloud.google.com/vertex-ai/generative-ai/docs/open-models/vllm/use-vllm, and replies that users quote in
https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/2799,
https://github.com/langchain-ai/langchain-google/pull/406 and https://github.com/BerriAI/litellm/issues/10436.
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
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import meaning_of
from textmint.transforms.llm.google_credentials import Tokens, default_credentials
from textmint.transforms.llm.http import HttpSession, Reading, Response, count_of
from textmint.transforms.llm.openai import chat_body, read_chat
from textmint.transforms.llm.reply_text import choice_text, content_text, finish_of
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

_TEXTS: Final = (
    "generated_text", "text", "content", "output", "output_text", "response", "completion", "prediction", "answer",
)  # fmt: skip
"""Where containers put the text of a prediction, the first that is there."""

_ELSEWHERE: Final = ("reasoning_content", "reasoning", "reasoning_details", "tool_calls", "function_call")
"""Where a text stands that is not in its place, see `reply_text`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VertexEndpointBackend(Sampling):
    """A model that is deployed to a Vertex AI endpoint. A value that cannot be raises ValueError.

    Where `max_output_tokens` is None, a container writes as many tokens as it allows in chat, and 2,048 through
    `predict`, which knows no structured output.
    """

    endpoint: str  # its ID, or its full name projects/…/locations/…/endpoints/…, which goes before project and location
    project: str = ""  # ID or number of its project
    location: str = ""  # its region
    # where requests go instead of to Google (a gateway, the endpoint's own domain, a test); nothing is looked up then.
    # The path may end in /v1 or /v1beta1, which then serves both routes.
    base_url: str | None = None
    # the name that the container serves, where it serves several; also what rows say where a reply does not.
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

    def fingerprint(self) -> Mapping[str, Part]:
        """Tells the endpoint, the model and every parameter that changes the answer, as configured: which route answers
        and whether the container takes a schema do not change it."""
        endpoint = self.name.resource
        return {"backend": "vertex-endpoint", "endpoint": endpoint, "model": self.model, **self.parameters()}

    async def open(self) -> VertexEndpointSession:
        """Opens a session on the running event loop, with credentials and the endpoint's address."""
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
    """An open endpoint, made by `VertexEndpointBackend.open`.

    The routes are options like those of sampling: `chat` is left out where the container does not serve it, and then
    `prompt`, the instances of vLLM, so that what is left are those of TGI. Most predictions say neither how many tokens
    they have nor why they end: that counts as `stop`.
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
        root, version, resource = address.root, address.version, self._name.resource
        # aiplatform_v1 has no chat_completions, aiplatform_v1beta1 does
        self._chat_url = yarl.URL(f"{root}/{version or 'v1beta1'}/{resource}/chat/completions", encoded=True)
        self._predict_url = yarl.URL(f"{root}/{version or 'v1'}/{resource}:predict", encoded=True)
        model = backend.model or address.model or f"endpoints/{self._name.endpoint}"
        # No seed: vLLM on TPU refuses requests that name one.
        super().__init__(backend, root, model, ["chat", "prompt"], headers={"User-Agent": "textmint"})

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        return self._tokens.known

    async def aclose(self) -> None:
        """Closes all connections; calls in flight fail. A second call does nothing."""
        self._tokens.close()
        await super().aclose()

    def _sent(self, left_out: frozenset[str]) -> frozenset[str]:
        return super()._sent(left_out) - {"structured_output" if "chat" in left_out else "prompt"}

    async def _attempt(self, request: Request, sent: frozenset[str]) -> Reading | Fault:
        token = await self._tokens.current()  # the one that `_send` gets
        found = await super()._attempt(request, sent)
        if isinstance(found, Reading):
            self._tokens.accepted.add(token)
        elif found.status == 401 and token in self._tokens.accepted:  # a gateway may say so under status 200
            # It was good a moment ago, so it has run out or was withdrawn. The next try fetches another.
            self._tokens.drop(token)
            raise Transient(f"{self._place} answered 401: the access token ran out")
        return found

    async def _send(self, request: Request, sent: frozenset[str]) -> Response:
        token = await self._tokens.current()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        payer = getattr(self._tokens.credentials, "quota_project_id", None)
        if payer:
            headers["x-goog-user-project"] = payer
        if "chat" in sent:
            # An empty model is the only one there is.
            body = chat_body(self._backend, self._backend.model or "", request, sent)
            return await self._post(self._chat_url, body, headers)
        body = json.dumps({"instances": [self._instance(request, sent)]}).encode()
        return await self._post(self._predict_url, body, headers)

    def _instance(self, request: Request, sent: frozenset[str]) -> dict[str, Any]:
        backend = self._backend
        sampling: dict[str, Any] = {name: getattr(backend, name) for name in ("temperature", "top_p") if name in sent}
        limit = backend.max_output_tokens or _PREDICT_MAX_TOKENS
        if "prompt" in sent:
            # Not `raw_response`: containers of before 2024 fail on it, and the echo is taken off anyway.
            return {"prompt": request.text, "max_tokens": limit, **sampling}
        parameters: dict[str, Any] = {"max_new_tokens": limit, "return_full_text": False}
        # TGI wants a temperature strictly above 0, and samples after all where it gets a top_p.
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


def read_prediction(value: Any, prompt: str, headers: Mapping[str, str], place: str) -> Reading | Fault | None:
    """Reads the prediction for one instance: a string, an object, or a list of one of them, or an error in its place;
    None: no text can be found. Raises Throttled or Transient where the reply was broken off."""
    for _ in range(3):  # TGI and pipelines of transformers nest their lists
        if isinstance(value, list) and value:
            value = value[0]
    if isinstance(value, str):
        return Reading(without_echo(value, prompt), "stop")
    if not isinstance(value, dict):
        return None
    if "choices" in value:
        return read_chat(value, headers, place)
    candidates = value.get("candidates")
    inner = value
    if isinstance(candidates, list) and candidates:
        inner = candidates[0] if isinstance(candidates[0], dict) else {"content": candidates[0]}
    details = inner.get("details")
    details = details if isinstance(details, dict) else {}
    reasons = (inner.get("finish_reason"), inner.get("finishReason"), details.get("finish_reason"))
    finish = finish_of(next((each for each in reasons if isinstance(each, str)), None), place)
    attributes = value.get("safetyAttributes")
    if isinstance(attributes, list) and attributes:
        attributes = attributes[0]
    if isinstance(attributes, dict) and attributes.get("blocked") is True:
        finish = "reply_filter"
    text = next((found for name in _TEXTS if (found := content_text(inner.get(name))) is not None), None)
    if not (text or "").strip() and any(inner.get(name) for name in _ELSEWHERE):
        text = choice_text({"message": inner}, finish)
    if text is None:
        outputs = inner.get("outputs")
        if isinstance(outputs, (list, str)) and outputs:
            return read_prediction(outputs, prompt, headers, place)
        if finish == "stop":
            return None
    tokens = count_of(details.get("generated_tokens"))
    return Reading(without_echo(text or "", prompt), finish, output_tokens=tokens)


def without_echo(text: str, prompt: str) -> str:
    """Takes off the prompt that containers repeat before what the model wrote: between lines "Prompt:" and "Output:"
    (vLLM), or as it is (pipelines of transformers)."""
    asked = prompt.strip()
    if text[:8].lower() == "prompt:\n":
        mark = "\noutput:\n"
        start = 8 + len(asked)
        if text[8:start] == asked and text[start : start + len(mark)].lower() == mark:
            return text[start + len(mark) :]
        # The container rewrote the prompt; its own mark comes after all those that are a part of the prompt.
        marks = 1 + len(re.findall(mark, f"\n{asked}", flags=re.I))
        pieces = re.split(mark, text, maxsplit=marks, flags=re.I)
        return pieces[marks] if len(pieces) > marks else text
    return text.removeprefix(prompt)
