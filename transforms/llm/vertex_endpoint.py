"""A model that is deployed to a Vertex AI endpoint: one of the Model Garden's containers (vLLM, TGI), or a user's own.

The endpoint is looked up through google-cloud-aiplatform (its domain, which dedicated endpoints require, and what is
deployed to it); the requests themselves go over aiohttp with application default credentials, because a request costs
0.17 ms of CPU that way (64 in flight, against a server in another process), 0.63 ms through the library's `predict`
over `rest_asyncio`, 0.36 ms through its gRPC client (which takes no http:// URL) and 1.8 ms through its blocking client
on threads, and because its REST transports send the `HttpBody` of `chat_completions` and `raw_predict` as base64 inside
JSON, which no container understands (google-cloud-aiplatform 1.165.1). The look-up needs `aiplatform_v1` alone: 1.3 s
and 121 MB for a process, against 3.2 s and 218 MB for all of `google.cloud.aiplatform`; with a `base_url` nothing is
looked up, and it is not imported.

Prompts go to the chat route where the container has one, else to `predict` as Model Garden's vLLM containers take them,
else to `predict` as TGI takes them. The first answer settles it for the session.

Sources of the formats: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints,
https://cloud.google.com/vertex-ai/generative-ai/docs/open-models/vllm/use-vllm,
https://cloud.google.com/vertex-ai/docs/predictions/get-online-predictions, and replies that users quote in
https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/2799,
https://github.com/langchain-ai/langchain-google/pull/406 and https://github.com/BerriAI/litellm/issues/10436.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport.requests
import yarl
from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.core.identity import Part
from textmint.transforms.llm import http
from textmint.transforms.llm.base import Answer, FatalError, Refused, Request, RequestError, Transient
from textmint.transforms.llm.reply_text import choice_text, content_text
from textmint.transforms.llm.sampling import Concessions, Sampling, refused_option
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema
from textmint.transforms.llm.urls import PROXY_REMEDY, holds_secret, is_http_url, proxy_for, shown_url

_LOG: Final = logging.getLogger("textmint")

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"  # what Vertex AI's REST reference asks for
_CHAT_VERSION: Final = "v1beta1"  # aiplatform_v1 has no chat_completions, aiplatform_v1beta1 does
_PREDICT_VERSION: Final = "v1"
_PREDICT_MAX_TOKENS: Final = 2048
"""Tokens of a prediction where the user named no limit: vLLM's own default is 16 (SamplingParams), TGI's was 100."""
_CONNECT_SECONDS: Final = 10.0  # a firewall that drops packets must be told within seconds
_LOOK_UP_SECONDS: Final = 10.0
_REFRESH_PAUSE: Final = 30.0  # seconds between tries to renew a token that still serves
_CHARACTERS_PER_TOKEN: Final = 4  # rule of thumb of OpenAI's tokenizer guide for English

_NAME = re.compile(r"/?projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/endpoints/(?P<endpoint>[^/]+)")
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,126}[A-Za-z0-9])?")  # a number, or mg-endpoint-UUID
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]*")  # an ID, a number, or example.com:id
_LOCATION = re.compile(r"[a-z][a-z0-9-]*")
_BASE_URL = re.compile(
    r"(?P<root>https?://[^/?#@\s]+(?:/[^?#@\s]*?)??)/*(?:/(?P<version>v1(?:beta1)?))?"
    r"(?:/projects/[^/]+/locations/[^/]+/endpoints/[^/]+)?/*"
)


def parse_endpoint(endpoint: str, project: str = "", location: str = "") -> tuple[str, str, str]:
    """What names an endpoint -> (project, location, ID).

    Args:
      endpoint: an ID (`1234567890`, `mg-endpoint-…`), or projects/…/locations/…/endpoints/…, which goes before
        the other two.
      project: its ID or number.
      location: a region, such as us-central1.

    Raises:
      ValueError: it is neither, or an ID alone without project or location.
    """
    wanted = "--vertex_endpoint is an endpoint's ID or projects/PROJECT/locations/REGION/endpoints/ID"
    found = _NAME.fullmatch(endpoint)
    if found:
        project, location, endpoint = found["project"], found["location"], found["endpoint"]
    if not _ID.fullmatch(endpoint):
        raise ValueError(f"{wanted}, not {endpoint!r}")
    for value, pattern, option in (
        (project, _PROJECT, "--vertex_project"),
        (location, _LOCATION, "--vertex_location"),
    ):
        if not value:
            raise ValueError(f"{option} is needed, or {wanted}")
        if not pattern.fullmatch(value):
            raise ValueError(f"{option} is no name that Google Cloud gives: {value!r}")
    return project, location, endpoint


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
    def resource(self) -> str:
        """The endpoint's full name, projects/…/locations/…/endpoints/…"""
        project, location, endpoint = parse_endpoint(self.endpoint, self.project, self.location)
        return f"projects/{project}/locations/{location}/endpoints/{endpoint}"

    def fingerprint(self) -> Mapping[str, Part]:
        """-> the endpoint, the model and every parameter that changes the answer, as configured: which route answers
        and whether the container takes a schema do not change it."""
        return {
            "backend": "vertex-endpoint",
            "endpoint": self.resource,
            "model": self.model,
            **self.parameters(),
        }

    async def open(self) -> VertexEndpointSession:
        """-> a session on the running event loop, with credentials and the endpoint's address found out.

        Raises:
          FatalError: no credentials, no such endpoint, nothing deployed to it, no permission.
          Throttled, Transient: the look-up went wrong, and may go right the next time.
        """
        tokens = _Tokens(await _credentials())
        try:
            await tokens.headers()
            if self.base_url is not None:
                found = _BASE_URL.fullmatch(self.base_url)
                assert found is not None  # __post_init__ has seen to it
                place = _Place(root=found["root"], version=found["version"] or "")
            else:
                place = await _look_up(self, tokens.credentials)
        except BaseException as error:
            tokens.close()
            if isinstance(error, RequestError):
                raise _safe(error, tokens.known) from None
            raise
        return VertexEndpointSession(self, tokens, place)


# --------------------------------------------------------------------------------------------------------- credentials


async def _credentials() -> google.auth.credentials.Credentials:
    """-> application default credentials, found on a thread: it may ask the metadata server."""
    try:
        found, _ = await asyncio.to_thread(google.auth.default, scopes=[_SCOPE])
    except google.auth.exceptions.TransportError as error:
        raise Transient(f"no credentials yet: {type(error).__name__}", dooms_probe=True) from None
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        # Not the error's words: those of a broken key file may quote it.
        raise FatalError(f"no application default credentials ({type(error).__name__})", _LOG_IN) from None
    return found


_LOG_IN: Final = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file"
)


class _Tokens:
    """Access tokens, renewed on a thread, once for all requests that wait."""

    def __init__(self, credentials: google.auth.credentials.Credentials) -> None:
        self.credentials = credentials
        self.known: list[str] = []  # every token there was, to be struck out of texts
        self.accepted: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._not_before = 0.0  # of the loop's clock, in seconds

    async def headers(self) -> dict[str, str]:
        """-> the headers of a request.

        Raises:
          FatalError: the credentials are not valid any more.
          Transient: the token server cannot be reached.
        """
        state = self.credentials.token_state
        if state is not google.auth.credentials.TokenState.FRESH:
            if state is google.auth.credentials.TokenState.INVALID:
                # Shielded, so that the cancelling of one request does not take the token from the others.
                await asyncio.shield(self._renewal())
            else:  # it serves for some minutes yet
                now = asyncio.get_running_loop().time()
                if now >= self._not_before:
                    self._not_before = now + _REFRESH_PAUSE
                    self._renewal()
        token = self.credentials.token or ""
        if token not in self.known:
            self.known.append(token)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        payer = getattr(self.credentials, "quota_project_id", None)
        if payer:
            headers["x-goog-user-project"] = payer
        return headers

    def drop(self, token: str) -> None:
        """A token that is not accepted any more: the next request fetches another."""
        if self.credentials.token == token:
            self.credentials.token = None

    def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()

    def _renewal(self) -> asyncio.Task[None]:
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
            self._renewing.add_done_callback(self._renewed)
        return self._renewing

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled():
            task.exception()  # seen by those who wait; if nobody does, the old token still serves

    async def _renew(self) -> None:
        try:
            await asyncio.to_thread(self.credentials.refresh, google.auth.transport.requests.Request())
        except google.auth.exceptions.TransportError as error:
            raise Transient(f"the token server cannot be reached: {type(error).__name__}", dooms_probe=True) from None
        except google.auth.exceptions.GoogleAuthError as error:
            if getattr(error, "retryable", False):
                raise Transient(f"the token server failed: {type(error).__name__}") from None
            raise FatalError(f"the credentials give no token ({type(error).__name__})", _LOG_IN) from None
        except Exception as error:
            raise Transient(f"no token: {type(error).__name__}") from None


# --------------------------------------------------------------------------------------------------------- the look-up


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where requests go."""

    root: str  # scheme and host, without the version
    version: str = ""  # where the URL names one
    model: str = ""  # display name of what is deployed there


def _api_root(location: str) -> str:
    """A region -> where its Vertex AI API listens."""
    return f"https://{'' if location == 'global' else location + '-'}aiplatform.googleapis.com"


async def _look_up(backend: VertexEndpointBackend, credentials: google.auth.credentials.Credentials) -> _Place:
    _, location, _ = parse_endpoint(backend.endpoint, backend.project, backend.location)
    root = _api_root(location)
    try:
        found = await asyncio.to_thread(_get_endpoint, backend.resource, root, credentials)
    except RequestError:
        raise
    except google.auth.exceptions.RefreshError:
        # What google-auth makes of a 401: it renews the token, and asks once more, before it gives up.
        raise FatalError(f"{root} does not accept the credentials", _LOG_IN) from None
    except google.auth.exceptions.GoogleAuthError as error:
        raise Transient(f"no token for the look-up: {type(error).__name__}", dooms_probe=True) from None
    except Exception as error:
        code = getattr(error, "code", None)
        if isinstance(code, int) and 400 <= code <= 599:
            reply = getattr(error, "response", None)
            message = str(getattr(error, "message", "")) or str(error)
            wait = http.wait_of(getattr(reply, "headers", {}))
            fault = http.Fault(status=int(code), message=message, retry_after=wait)
            raise _look_up_failure(fault, backend) from None
        detail = f"{root} did not answer the look-up of the endpoint: {type(error).__name__}"
        raise Transient(detail, dooms_probe=True) from None
    if not found.deployed_models:
        raise FatalError(f"nothing is deployed to {backend.resource}", _deploy(backend))
    split = dict(found.traffic_split)
    # the one that answers most; among equals the first by ID, the same in every process
    models = sorted(found.deployed_models, key=lambda each: (-split.get(each.id, 0), each.id))
    name = models[0].display_name or models[0].model
    if found.dedicated_endpoint_dns:
        domain = found.dedicated_endpoint_dns
        return _Place(root=domain.rstrip("/") if "://" in domain else f"https://{domain}", model=name)
    if found.network or found.private_service_connect_config.enable_private_service_connect:
        raise FatalError(
            f"{backend.resource} is a private endpoint, without a public address",
            "set --base_url to its address inside your network",
        )
    return _Place(root=root, model=name)


def _get_endpoint(resource: str, root: str, credentials: google.auth.credentials.Credentials) -> Any:
    # Here, not above: it is large, and of use only where something has to be looked up.
    from google.cloud import aiplatform_v1

    client = aiplatform_v1.EndpointServiceClient(
        credentials=credentials, transport="rest", client_options={"api_endpoint": root}
    )
    with client:
        return client.get_endpoint(name=resource, retry=None, timeout=_LOOK_UP_SECONDS)


def _look_up_failure(fault: http.Fault, backend: VertexEndpointBackend) -> RequestError:
    if fault.status == 404:
        return _no_endpoint(fault, backend)
    error = _failure(fault, backend)
    if isinstance(error, Refused):
        return FatalError(error.detail, _check(backend))
    return error


# ------------------------------------------------------------------------------------------------------- what is wrong


class _Gap(enum.Enum):
    """What a container turns out not to have."""

    STRUCTURE = "structured output"
    CHAT = "a chat route"
    PROMPT = "instances with a `prompt`"


class _NotServed(Exception):
    """The container lacks something that there is a substitute for."""

    def __init__(self, gap: _Gap) -> None:
        super().__init__(gap.value)
        self.gap = gap


class _NotTaken(Exception):
    """The container refuses an option, and is asked without it."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(option)
        self.option = option
        self.message = message


_NO_CHAT = re.compile(
    r"not support(?:ed)?\b.{0,40}\bchat|chat.?completions?\b.{0,60}not (?:supported|found|implemented|available)"
    r"|(?:route|method|operation|path|url) (?:is )?not (?:supported|found|implemented|allowed)"
    r"|not support(?:ed)? (?:on )?this (?:route|method|operation|path)|\binstances\b",
    re.I | re.S,
)
_NO_STRUCTURE = re.compile(f"{http.STRUCTURE.pattern}|not support", re.I)
_NO_PROMPT = re.compile(r"\binputs\b|VertexInstance|untagged enum", re.I)
_NOT_DEPLOYED = re.compile(
    r"(?:does ?n.t|does not) have (?:a |any )?(?:traffic.?split|deployed)|no (?:models? (?:is |are )?)?deployed"
    r"|not (?:been )?deployed|without (?:a |any )?deployed",
    re.I,
)
_OWN_DOMAIN = re.compile(r"([\w.-]+\.prediction\.vertexai\.goog)")
_OTHER_PLACE = re.compile(r"(?:does ?n.t|does not) match the endpoint|location id", re.I)


def _check(backend: VertexEndpointBackend) -> str:
    project, location, _ = parse_endpoint(backend.endpoint, backend.project, backend.location)
    return (
        "check --vertex_endpoint, --vertex_project and --vertex_location; "
        f"`gcloud ai endpoints list --project={project} --region={location}` lists what there is"
    )


def _deploy(backend: VertexEndpointBackend) -> str:
    return f"deploy a model to the endpoint, or name another one by --vertex_endpoint (now {backend.endpoint})"


def _detail(fault: http.Fault) -> str:
    return f"HTTP {fault.status}" + (f": {fault.message}" if fault.message else "")


def _no_endpoint(fault: http.Fault, backend: VertexEndpointBackend) -> FatalError:
    return FatalError(f"no endpoint {backend.resource} answers ({_detail(fault)})", _check(backend))


def _failure(fault: http.Fault, backend: VertexEndpointBackend) -> RequestError:
    """An error reply -> the error it is, whatever the route."""
    status, detail = fault.status, _detail(fault)
    if status < 400:
        return Transient(f"{detail}: a redirection, not an answer", dooms_probe=True)
    own = _OWN_DOMAIN.search(fault.message)
    if status < 500 and own and "dedicated" in fault.message.lower():
        return FatalError(detail, f"leave --base_url out, or set it to https://{own[1]}")
    if status < 500 and status != 403 and _NOT_DEPLOYED.search(fault.message):
        return FatalError(detail, _deploy(backend))
    if status in (400, 404) and _OTHER_PLACE.search(fault.message):
        return FatalError(detail, _check(backend))
    if http.meaning_of(fault) == "quota":
        detail = f"the quota is zero: {detail}"
    return http.error_of(fault, detail, functools.partial(_remedy, backend))


def _remedy(backend: VertexEndpointBackend, doom: http.Doom, fault: http.Fault) -> str:
    project, _, _ = parse_endpoint(backend.endpoint, backend.project, backend.location)
    forbidden = (
        f"grant roles/aiplatform.user in project {project} to the account of the credentials, and {_check(backend)}"
    )
    if "SERVICE_DISABLED" in fault.reasons or "has not been used in project" in fault.message:
        forbidden = f"run `gcloud services enable aiplatform.googleapis.com --project={project}`"
    elif "ACCESS_TOKEN_SCOPE_INSUFFICIENT" in fault.reasons:
        forbidden = f"the credentials need the scope {_SCOPE}: {_LOG_IN}"
    model = f"now {backend.model!r}" if backend.model else "now none is named"
    return {
        "key": _LOG_IN,
        "forbidden": forbidden,
        "unpaid": f"enable billing for project {project}, or use another --vertex_project",
        "quota": f"ask for quota at https://console.cloud.google.com/iam-admin/quotas?project={project}, or use "
        "another --vertex_project or --vertex_location",
        "model": f"set --model to a name that the container serves ({model})",
        "route": _check(backend),
        "proxy": "set HTTPS_PROXY or HTTP_PROXY to a proxy that lets you in, with user and password",
        "place": "use another --vertex_location, or an endpoint in another project",
    }[doom]


def _safe_text(text: str, tokens: Sequence[str]) -> str:
    """A text of anybody's -> one short line without any token in it."""
    return http.one_line(text, http.secret_pattern(form for token in tokens for form in http.forms_of(token)))


def _safe(error: RequestError, tokens: Sequence[str]) -> RequestError:
    error.detail = _safe_text(error.detail, tokens)
    error.args = (error.detail,)
    if isinstance(error, FatalError):
        error.remedy = _safe_text(error.remedy, tokens)
    return error


# --------------------------------------------------------------------------------------------------- what was answered

_TEXTS: Final = (
    "generated_text", "text", "content", "output", "output_text", "response", "completion", "prediction", "answer",
)  # fmt: skip
"""Where containers put the text of a prediction, the first that is there."""


_ELSEWHERE: Final = ("reasoning_content", "reasoning", "reasoning_details", "tool_calls", "function_call")
"""Where a text stands that is not in its place, see `reply_text`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A reply, read."""

    text: str
    finish_reason: FinishReason = "stop"
    model: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None


def _finish(value: object) -> FinishReason:
    return http.finish_of(value, "the container")


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if type(usage.get(name)) is int and usage[name] >= 0), None)


def _read_choices(value: Mapping[str, Any]) -> _Read | None:
    """A chat or text completion -> what it says; None: it is none."""
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    finish = _finish(choice.get("finish_reason"))
    message = choice.get("message")
    if isinstance(message, dict) and message.get("refusal"):
        finish = "reply_filter"
    text = choice_text(choice, finish)
    if text is None:
        return None
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    model = value.get("model")
    return _Read(
        text=text,
        finish_reason=finish,
        model=model if isinstance(model, str) else "",
        prompt_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
    )


def _read_prediction(value: Any, prompt: str) -> _Read | None:
    """What stands under `predictions` -> what it says; None: no text can be found. A container answers one instance by
    a string, an object, or a list of one of them."""
    for _ in range(3):  # TGI and pipelines of transformers nest their lists
        if isinstance(value, list) and value:
            value = value[0]
    if isinstance(value, str):
        return _Read(text=without_echo(value, prompt))
    if not isinstance(value, dict):
        return None
    if "choices" in value:
        return _read_choices(value)
    candidates = value.get("candidates")
    if isinstance(candidates, list) and candidates:
        inner = candidates[0] if isinstance(candidates[0], dict) else {"content": candidates[0]}
    else:
        inner = value
    details = inner.get("details")
    details = details if isinstance(details, dict) else {}
    reasons = (inner.get("finish_reason"), inner.get("finishReason"), details.get("finish_reason"))
    finish = _finish(next((each for each in reasons if isinstance(each, str)), None))
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
            return _read_prediction(outputs, prompt)
        if finish == "stop":
            return None
    return _Read(
        text=without_echo(text or "", prompt),
        finish_reason=finish,
        output_tokens=_count(details, "generated_tokens"),
    )


def without_echo(text: str, prompt: str) -> str:
    """A prediction -> what the model wrote, without the prompt that Model Garden's containers repeat before it:
    "Prompt:\\n…\\nOutput:\\n…" (vLLM), or the prompt as it is (pipelines of transformers)."""
    said = prompt.strip()
    if text[:8].lower() == "prompt:\n":
        mark = "\noutput:\n"
        start = 8 + len(said)
        if text[8:start] == said and text[start : start + len(mark)].lower() == mark:
            return text[start + len(mark) :]
        # The container rewrote the prompt; its own marks come after all those that are a part of the prompt.
        pieces = re.split(r"\noutput:\n", text, flags=re.I)
        within = len(re.findall(r"\noutput:\n", "\n" + said, flags=re.I))
        if len(pieces) > within + 1:
            return text[len("".join(pieces[: within + 1])) + (within + 1) * len(mark) :]
        return text
    return text[len(prompt) :] if prompt and text.startswith(prompt) else text


def _is_html(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body[:64].lstrip()[:1] == b"<"


# --------------------------------------------------------------------------------------------------------- the session


class _Way(enum.IntEnum):
    """How a prompt is sent. A session only ever goes down this list."""

    CHAT_BY_SCHEMA = 0
    CHAT = 1
    PROMPT = 2  # predict, as Model Garden's vLLM containers take it
    INPUTS = 3  # predict, as TGI and transformers take it


_SUBSTITUTES: Final = {_Gap.STRUCTURE: _Way.CHAT, _Gap.CHAT: _Way.PROMPT, _Gap.PROMPT: _Way.INPUTS}


@functools.cache
def _response_format(kind: Kind) -> dict[str, Any]:
    schema = {"name": STRUCTURE_NAMES[kind], "strict": True, "schema": json_schema(kind)}
    return {"type": "json_schema", "json_schema": schema}


class VertexEndpointSession:
    """An open endpoint. It is made by `VertexEndpointBackend.open`.

    Tokens are counted by the container; where it does not say (most predictions do not), they are estimated as one for
    every four characters. Most predictions do not say why they end either: those count as `stop`.
    """

    def __init__(self, backend: VertexEndpointBackend, tokens: _Tokens, place: _Place) -> None:
        self._backend = backend
        self._tokens = tokens
        self._model = backend.model or place.model or "endpoints/" + backend.resource.rpartition("/")[2]
        chat, predict = place.version or _CHAT_VERSION, place.version or _PREDICT_VERSION
        self._chat_url = yarl.URL(f"{place.root}/{chat}/{backend.resource}/chat/completions", encoded=True)
        self._predict_url = yarl.URL(f"{place.root}/{predict}/{backend.resource}:predict", encoded=True)
        self._way = _Way.CHAT_BY_SCHEMA if backend.structured_output else _Way.CHAT
        self._proven: set[_Way] = set()  # ways that were answered
        self._told = False
        self._concessions = Concessions(backend.resource)
        self._http = aiohttp.ClientSession(
            # The engine limits what is in flight; a connection is kept for each.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "textmint"},
            response_class=http.bounded(backend.max_reply_bytes),
            proxy=proxy_for(place.root),
        )

    async def generate(self, request: Request) -> Answer:
        """Request -> Answer, one HTTP request; more only while it is being found out what the container takes.

        Raises:
          RequestError: one of its subclasses.
        """
        try:
            way, left_out = self._way, self._concessions.left_out
            refusals: dict[str, str] = {}
            while True:
                try:
                    answer = await self._ask(request, way, left_out)
                except _NotServed as lack:
                    way = self._fall_back(lack.gap)
                except _NotTaken as lack:
                    refusals[lack.option] = _safe_text(lack.message, self._tokens.known)
                    left_out = left_out | self._concessions.left_out | {lack.option}
                else:
                    self._proven.add(way)
                    self._concessions.add(refusals)
                    if way >= _Way.PROMPT and not self._told:
                        self._told = True
                        lost = ", without structured output" if self._backend.structured_output else ""
                        _LOG.warning("%s has no chat route: asked by predict%s", self._backend.resource, lost)
                    lacks = left_out
                    if self._backend.structured_output and way is not _Way.CHAT_BY_SCHEMA:
                        lacks |= {"structured_output"}
                    return dataclasses.replace(answer, left_out=tuple(sorted(lacks))) if lacks else answer
        except RequestError as error:
            raise _safe(error, self._tokens.known) from None
        except Exception as error:
            words = _safe_text(f"{type(error).__name__}: {error}", self._tokens.known)
            raise Transient(words) from None

    def secrets(self) -> list[str]:
        """Lists what no text that is kept may hold."""
        return self._tokens.known

    async def aclose(self) -> None:
        """Lets go of connections."""
        self._tokens.close()
        await self._http.close()

    def _fall_back(self, gap: _Gap) -> _Way:
        to = _SUBSTITUTES[gap]
        if self._way < to:
            self._way = to
            if gap is _Gap.STRUCTURE:
                _LOG.warning("%s takes no schema: asked without structured output", self._backend.resource)
        return self._way

    def _body(self, request: Request, way: _Way, left_out: frozenset[str]) -> dict[str, Any]:
        backend = self._backend
        limit = backend.max_output_tokens
        sampling = {name: getattr(backend, name) for name in ("temperature", "top_p") if name not in left_out}
        if way <= _Way.CHAT:
            # No seed: vLLM on TPU refuses requests that name one. An empty model is the only one there is.
            messages = [{"role": "user", "content": request.text}]
            body: dict[str, Any] = {"model": backend.model or "", "messages": messages, **sampling}
            if limit is not None:
                body["max_tokens"] = limit
            if way is _Way.CHAT_BY_SCHEMA:
                body["response_format"] = _response_format(request.kind)
            return body
        limit = limit or _PREDICT_MAX_TOKENS
        if way is _Way.PROMPT:
            # Not `raw_response`: containers of before 2024 fail on it, and the echo is taken off anyway.
            return {"instances": [{"prompt": request.text, "max_tokens": limit, **sampling}]}
        parameters: dict[str, Any] = {"max_new_tokens": limit, "return_full_text": False}
        # TGI wants a temperature strictly above 0, and samples after all where it is told a top_p.
        parameters |= {"do_sample": True, **sampling} if backend.temperature > 0 else {"do_sample": False}
        return {"instances": [{"inputs": request.text, "parameters": parameters}]}

    async def _ask(self, request: Request, way: _Way, left_out: frozenset[str]) -> Answer:
        headers = await self._tokens.headers()
        url = self._chat_url if way <= _Way.CHAT else self._predict_url
        data = json.dumps(self._body(request, way, left_out)).encode()
        try:
            async with self._http.post(url, data=data, headers=headers, allow_redirects=False) as reply:
                body = await reply.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            # nobody listens, no such name, no trusted certificate
            remedy = PROXY_REMEDY if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
            raise Transient(f"no connection to {url.host}: {error}", dooms_probe=True, remedy=remedy) from None
        except (aiohttp.ClientError, OSError) as error:  # OSError: resets, and time-outs of sockets
            raise Transient(f"the connection broke: {type(error).__name__}: {error}") from None
        if reply.status != 200:
            return self._fail(http.fault_of(reply.status, reply.headers, body), headers, request, way, left_out)
        try:
            value = json.loads(body)
        except ValueError:
            if _is_html(reply.headers, body):
                raise Transient(f"{url.host} answered HTML, not JSON", dooms_probe=True) from None
            kind = reply.headers.get("content-type", "")
            # what claims to be JSON was JSON once
            raise Transient(f"the answer ({kind}) is not JSON", dooms_probe="json" not in kind.lower()) from None
        answer = self._read(value, reply.headers, headers, request, way, left_out)
        self._tokens.accepted.add(headers["Authorization"][7:])
        return answer

    def _read(
        self,
        value: Any,
        headers: Mapping[str, str],
        sent: Mapping[str, str],
        request: Request,
        way: _Way,
        left_out: frozenset[str],
    ) -> Answer:
        found: _Read | None = None
        name = ""
        if isinstance(value, dict) and value.get("choices"):
            choice = value["choices"][0] if isinstance(value["choices"], list) else None
            if isinstance(choice, dict) and choice.get("error"):
                return self._fail(http.fault_in(200, headers, {"error": choice["error"]}), sent, request, way, left_out)
            found = _read_choices(value)
        elif isinstance(value, dict) and value.get("predictions"):
            found = _read_prediction(value["predictions"], request.text)
            shown = value.get("modelDisplayName")
            name = shown if isinstance(shown, str) else ""
        elif (fault := http.fault_under_200(headers, value)) is not None:
            return self._fail(fault, sent, request, way, left_out)
        elif isinstance(value, dict) and value.get("choices") == []:
            raise Transient("the container answered without a choice")
        if found is None:
            keys = ", ".join(map(str, list(value)[:8])) if isinstance(value, dict) else type(value).__name__
            raise Transient(f"answered JSON of another shape ({keys})", dooms_probe=True)
        spent, made = found.prompt_tokens, found.output_tokens
        return Answer(
            text=found.text,
            finish_reason=found.finish_reason,
            model=found.model or name or self._model,
            prompt_tokens=_estimate(request.text) if spent is None else spent,
            output_tokens=_estimate(found.text) if made is None else made,
        )

    def _fail(
        self, fault: http.Fault, sent: Mapping[str, str], request: Request, way: _Way, left_out: frozenset[str]
    ) -> Answer:
        """An error reply -> what it means for the session. What a filter refused is an answer, so that the ledger
        keeps it.

        Raises:
          _NotServed: it can be asked in another way.
          _NotTaken: it can be asked without an option.
          RequestError: it cannot.
        """
        status = fault.status
        unproven = way not in self._proven
        bad_request = status in (400, 422)
        if finish := http.filter_of(fault):
            return Answer(
                text=_safe_text(fault.message, self._tokens.known),
                finish_reason=finish,
                model=self._model,
                prompt_tokens=_estimate(request.text),
                output_tokens=0,
            )
        is_greedy = way is _Way.INPUTS and self._backend.temperature == 0  # told in other words
        options = frozenset() if is_greedy else frozenset({"temperature", "top_p"}) - left_out
        options |= {"structured_output"} if way is _Way.CHAT_BY_SCHEMA else set()
        option = refused_option(fault, options, self._backend.neutral())
        if way <= _Way.CHAT:
            asked = bool(self._proven & {_Way.CHAT, _Way.CHAT_BY_SCHEMA})
            if status == 404 and http.meaning_of(fault) == "model":
                raise FatalError(_detail(fault), _remedy(self._backend, "model", fault))
            if not asked and (status in (404, 405, 501) or (bad_request and _NO_CHAT.search(fault.message))):
                raise _NotServed(_Gap.CHAT)
            if option in ("temperature", "top_p"):
                raise _NotTaken(option, fault.message)
            if bad_request and way is _Way.CHAT_BY_SCHEMA and _NO_STRUCTURE.search(fault.message):
                raise _NotServed(_Gap.STRUCTURE)
        elif way is _Way.PROMPT and unproven and (bad_request or status == 500) and _NO_PROMPT.search(fault.message):
            raise _NotServed(_Gap.PROMPT)
        elif option:
            raise _NotTaken(option, fault.message)
        if status == 404 or (unproven and status in (405, 501)):
            raise _no_endpoint(fault, self._backend)
        token = sent["Authorization"][7:]
        if status == 401 and token in self._tokens.accepted:
            # It was good a moment ago, so it has run out or was withdrawn. The next try fetches another.
            self._tokens.drop(token)
            raise Transient(f"the access token ran out: {_detail(fault)}")
        raise _failure(fault, self._backend)


def _estimate(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)
