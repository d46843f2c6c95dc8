"""Which model answers: a back end is made of the options."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.nearest import hint
from textmint.pipelines.options.table import BY_NAME, OPTIONS
from textmint.transforms.llm.base import Backend, RequestError
from textmint.transforms.llm.prices import Price, known_price, parse_price
from textmint.transforms.llm.secrets import SecretUnreadable, check_secret_version, fetch_key
from textmint.transforms.llm.urls import holds_secret, is_http_url, shown_url

_GEMINI_ONLY: Final = ("thinking_budget", "safety_threshold", "service_tier")
_LOG: Final = logging.getLogger("textmint")

Workers = Literal["here", "containers", "elsewhere"]
"""Where requests are sent from: processes with the environment and the credentials of this one; containers that an
engine starts, which have neither; or processes that somebody started somewhere, who knows with what."""


def backend_of(typed: Mapping[str, Any], cloud: Any, workers: Workers | None = "here") -> Backend:
    """Makes the back end that --llm names.

    Args:
      typed: the options by name; their numbers are in range.
      cloud: Beam's GoogleCloudOptions.
      workers: where it will be opened; None: nowhere, so that no key is needed.

    Raises:
      OptionError: a model, key, project or URL is missing or malformed, or an option is not of this back end.
    """
    name = typed["llm"]
    if problem := choice_problem("llm", typed):
        raise OptionError(problem)
    choices = [option.name for option in OPTIONS if option.group == "model" and option.choices]
    problems = [problem for option in choices if (problem := choice_problem(option, typed))]
    foreign = [option for option in _GEMINI_ONLY if typed[option] is not None and name != "gemini"]
    problems += [f"--{option} is an option of --llm=gemini, not of --llm={name}" for option in foreign]
    if typed["api_key_secret"] is not None:
        problems += _secret_problems(typed)
    if typed["vertex_endpoint"] and name != "vertex-endpoint":
        problems.append(f"--vertex_endpoint is an option of --llm=vertex-endpoint, not of --llm={name}")
    if typed["base_url"] is not None and (problem := _url_problem(typed["base_url"])):
        problems.append(f"--base_url is {shown_url(typed['base_url'])!r}: {problem}")
    if problems:
        raise OptionError(*problems)
    try:
        return _BUILDERS[name](typed, cloud, workers)
    except ValueError as error:  # each back end knows best which names and numbers it can take
        raise OptionError(f"--llm={name}: {error}") from None


def choice_problem(name: str, typed: Mapping[str, Any]) -> str | None:
    """Says what is wrong with an option that is one of several words."""
    value, choices = typed[name], BY_NAME[name].choices
    if value is None or value in choices:
        return None
    written = f"{name}: {value} in --config" if BY_NAME[name].config_only else f"--{name}={value}"
    return f"{written} is not known{hint(value, choices) or '.'} There are {', '.join(choices)}."


def price_of(typed: Mapping[str, Any], backend: Backend, option: str) -> Price | None:
    """Returns what the tokens of a back end cost: what an option says, else the table; None if neither does."""
    if typed[option] is not None:
        return parse_price(typed[option])
    model = backend.fingerprint()["model"]
    base_url = getattr(backend, "base_url", None)
    return known_price(typed["llm"], str(model) if model else None, base_url, typed["service_tier"])


def price_problems(typed: Mapping[str, Any]) -> Iterator[str]:
    """Finds what is wrong with the prices that the user names."""
    for option in ("price", "verify_price"):
        try:
            if typed[option] is not None:
                parse_price(typed[option])
        except ValueError as error:
            yield f"--{option}: {error}"
    if typed["verify_price"] is not None and typed["verify_model"] is None:
        yield "--verify_price without --verify_model: add it; --price is of --model, and of --verify without a model"


def _secret_problems(typed: Mapping[str, Any]) -> list[str]:
    """Lists what is wrong with --api_key_secret, without reading it. Its value is never quoted: it may be the key
    itself, typed in the wrong place."""
    if typed["llm"] not in ("openai", "gemini"):
        return [f"--api_key_secret is an option of --llm=openai and --llm=gemini, not of --llm={typed['llm']}"]
    if typed["llm"] == "gemini" and (typed["vertex_project"] or typed["vertex_location"]):
        return [
            "--api_key_secret is for the Gemini API, and Vertex AI takes the workers' service account instead of a "
            "key: leave it out, or --vertex_project and --vertex_location"
        ]
    try:
        check_secret_version(typed["api_key_secret"])
    except ValueError as error:
        return [f"--api_key_secret: {error}"]
    return []


def check_secret(name: str, workers: Workers) -> None:
    """Checks that a secret can be read, and forgets it. If only the workers' service account has to read it, a caller
    who may not is only warned.

    Raises:
      OptionError: it cannot be read.
    """
    try:
        fetch_key(name)
    except SecretUnreadable as error:
        if not error.is_forbidden or workers == "here":
            raise OptionError(f"--api_key_secret={name}: {error.detail}; {error.remedy}") from None
        _LOG.warning(
            "--api_key_secret=%s cannot be read from here (%s); that does no harm if the workers' service account may",
            name,
            error.detail,
        )
    except RequestError as error:
        raise OptionError(f"--api_key_secret={name}: {error.detail}; see whether the network lets it through") from None


def _url_problem(url: str) -> str | None:
    if holds_secret(url):
        return (
            "holds a user name, a password or a key, which would stand in the manifest; keys come from the environment"
        )
    if not is_http_url(url):
        return "not a URL such as http://127.0.0.1:8000/v1"
    parts = urlsplit(url)
    if parts.fragment or (parts.query and not re.fullmatch(r"api-version=[\w.-]+", parts.query)):
        return "holds a query or fragment that is not api-version=...; it is only the part before the route"
    return None


def _shared(typed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "base_url": typed["base_url"].rstrip("/") if typed["base_url"] else None,
        "temperature": typed["temperature"],
        "top_p": typed["top_p"],
        "max_output_tokens": typed["max_output_tokens"],
        "max_reply_bytes": typed["max_reply_bytes"],
        "structured_output": typed["structured_output"] == "auto",
    }


def _model(typed: Mapping[str, Any], example: str) -> str:
    if not (typed["model"] or "").strip():
        raise OptionError(f"--model is missing: name the model that --llm={typed['llm']} shall ask, such as {example}")
    return str(typed["model"]).strip()


def _offline(typed: Mapping[str, Any], cloud: Any, workers: Workers | None) -> Backend:
    from textmint.transforms.llm.offline.backend import MODEL, OfflineBackend

    if typed["model"] not in (None, MODEL):
        raise OptionError(f"--model={typed['model']}: --llm=offline has one model only, {MODEL}")
    if typed["base_url"]:
        raise OptionError("--base_url is for real models; --llm=offline sends nothing anywhere")
    return OfflineBackend(fault_rate=typed["offline_fault_rate"])


_NO_ENVIRONMENT: Final = "workers of this --runner do not have this machine's environment, so not"
_TO_WORKERS: Final = (
    "keep the key in Secret Manager and name it by --api_key_secret=projects/PROJECT/secrets/NAME/versions/NUMBER"
)


def _openai(typed: Mapping[str, Any], cloud: Any, workers: Workers | None) -> Backend:
    from textmint.transforms.llm.openai import OpenAIBackend

    model = _model(typed, "gpt-4.1-mini")
    base_url = typed["base_url"] or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    if problem := _url_problem(base_url):
        raise OptionError(f"OPENAI_BASE_URL is {shown_url(base_url)!r}: {problem}; export another, or set --base_url")
    secret, has_key = typed["api_key_secret"], bool(os.environ.get("OPENAI_API_KEY"))
    wants_key = urlsplit(base_url).hostname == "api.openai.com"
    if secret is None and workers == "containers" and (wants_key or has_key):
        or_unset = "" if wants_key else "; or unset it, if this endpoint wants none"
        raise OptionError(f"--llm=openai: {_NO_ENVIRONMENT} OPENAI_API_KEY: {_TO_WORKERS}{or_unset}")
    if secret is None and wants_key and not has_key and workers is not None:
        raise OptionError(
            "OPENAI_API_KEY is not set: export it, or name another endpoint with --base_url=http://host:port/v1"
        )
    return OpenAIBackend(model=model, api_key_secret=secret, **{**_shared(typed), "base_url": base_url.rstrip("/")})


def _gemini(typed: Mapping[str, Any], cloud: Any, workers: Workers | None) -> Backend:
    from textmint.transforms.llm.gemini import GeminiBackend

    model = _model(typed, "gemini-2.5-flash")
    has_key = bool(os.environ.get("GEMINI_API_KEY") or os.environ.get("GOOGLE_API_KEY"))
    secret = typed["api_key_secret"]
    # Beam's --project is there for Dataflow too; who names a key means the API that takes keys.
    project = None if secret else typed["vertex_project"] or cloud.project
    if project is None and typed["vertex_location"]:
        raise OptionError("--vertex_location without a project: set --vertex_project, or Beam's --project")
    if project is None and not secret and workers == "containers" and has_key:
        raise OptionError(f"--llm=gemini: {_NO_ENVIRONMENT} GEMINI_API_KEY: {_TO_WORKERS}; or set --vertex_project")
    if project is None and not secret and not has_key and workers is not None:
        raise OptionError(
            "Gemini needs a project or a key: set --vertex_project (or Beam's --project) for Vertex AI, "
            "or export GEMINI_API_KEY for the Gemini API"
        )
    location = typed["vertex_location"] or (cloud.region if project else None) or "global"
    return GeminiBackend(
        model=model,
        project=project,
        location=location if project else None,
        api_key_secret=secret,
        **{option: typed[option] for option in _GEMINI_ONLY},
        **_shared(typed),
    )


def _vertex_endpoint(typed: Mapping[str, Any], cloud: Any, workers: Workers | None) -> Backend:
    from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend

    endpoint = typed["vertex_endpoint"]
    problems = []
    if not endpoint:
        problems.append("--vertex_endpoint is missing: the number of the endpoint that the model is deployed to")
    full = (endpoint or "").startswith("projects/")
    project, location = typed["vertex_project"] or cloud.project, typed["vertex_location"] or cloud.region
    if not project and not full:
        problems.append("--vertex_project is missing (Beam's --project would do)")
    if not location and not full:
        problems.append("--vertex_location is missing (Beam's --region would do)")
    if problems:
        raise OptionError(*problems)
    return VertexEndpointBackend(
        endpoint=endpoint, project=project, location=location, model=typed["model"], **_shared(typed)
    )


_BUILDERS: Final[Mapping[str, Callable[[Mapping[str, Any], Any, Workers | None], Backend]]] = {
    "gemini": _gemini,
    "openai": _openai,
    "vertex-endpoint": _vertex_endpoint,
    "offline": _offline,
}
