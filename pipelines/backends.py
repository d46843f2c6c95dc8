"""Which model answers: options -> a back end."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pipelines.option_error import OptionError
from transforms.llm.base import Backend

SAFETY_THRESHOLDS: Final = ("BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE", "OFF")
SERVICE_TIERS: Final = ("flex", "standard", "priority")
_STRUCTURED: Final = ("auto", "never")

_GEMINI_ONLY: Final = ("thinking_budget", "safety_threshold", "service_tier")


def backend_of(typed: Mapping[str, Any], cloud: Any) -> Backend:
    """The options as typed, and Beam's GoogleCloudOptions -> the back end that --llm names.

    Raises:
      OptionError: a model, key, project or URL is missing or malformed, or an option is not of this back end.
    """
    name = typed["llm"]
    if name not in _BUILDERS:
        raise OptionError(_not_one_of("--llm", name, tuple(_BUILDERS)))
    problems = []
    for option, values in (
        ("structured_output", _STRUCTURED),
        ("safety_threshold", SAFETY_THRESHOLDS),
        ("service_tier", SERVICE_TIERS),
    ):
        if typed[option] is not None and typed[option] not in values:
            problems.append(_not_one_of(f"--{option}", typed[option], values))
    if not 0 <= typed["offline_fault_rate"] <= 1:
        problems.append(f"--offline_fault_rate is {typed['offline_fault_rate']}; it must be from 0 to 1")
    if typed["thinking_budget"] is not None and typed["thinking_budget"] < -1:
        problems.append(f"--thinking_budget is {typed['thinking_budget']}; it must be -1 or more")
    foreign = [option for option in _GEMINI_ONLY if typed[option] is not None and name != "gemini"]
    problems += [f"--{option} is an option of --llm=gemini, not of --llm={name}" for option in foreign]
    if typed["vertex_endpoint"] and name != "vertex-endpoint":
        problems.append(f"--vertex_endpoint is an option of --llm=vertex-endpoint, not of --llm={name}")
    if typed["base_url"] is not None and (problem := _url_problem(typed["base_url"])):
        problems.append(f"--base_url is {_without_secrets(typed['base_url'])!r}: {problem}")
    if problems:
        raise OptionError(*problems)
    try:
        return _BUILDERS[name](typed, cloud)
    except ValueError as error:  # each back end knows best which names and numbers it can take
        raise OptionError(f"--llm={name}: {error}") from None


def _not_one_of(option: str, value: str, values: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(value, values, n=1)
    hint = f": did you mean {near[0]}?" if near else "."
    return f"{option}={value} is not known{hint} There are {', '.join(values)}."


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises where it is no number
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or re.search(r"\s", url):
        return "not a URL such as http://127.0.0.1:8000/v1"
    if parts.username or parts.password:
        return "holds a user name or password, which would stand in the manifest; keys come from the environment"
    if parts.fragment or (parts.query and not re.fullmatch(r"api-version=[\w.-]+", parts.query)):
        return "holds a query or fragment that is not api-version=...; it is only the part before the route"
    return None


def _without_secrets(url: str) -> str:
    """What was typed as a URL -> the same without what may be a password or a key."""
    return re.sub(r"//[^/]*@", "//...@", url.partition("?")[0].partition("#")[0])


def _shared(typed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "base_url": typed["base_url"].rstrip("/") if typed["base_url"] else None,
        "temperature": typed["temperature"],
        "top_p": typed["top_p"],
        "max_output_tokens": typed["max_output_tokens"],
        "structured_output": typed["structured_output"] == "auto",
    }


def _model(typed: Mapping[str, Any], example: str) -> str:
    if not (typed["model"] or "").strip():
        raise OptionError(f"--model is missing: name the model that --llm={typed['llm']} shall ask, such as {example}")
    return str(typed["model"]).strip()


def _offline(typed: Mapping[str, Any], cloud: Any) -> Backend:
    from transforms.llm.offline import MODEL, OfflineBackend

    if typed["model"] not in (None, MODEL):
        raise OptionError(f"--model={typed['model']}: --llm=offline has one model only, {MODEL}")
    if typed["base_url"]:
        raise OptionError("--base_url is for real models; --llm=offline sends nothing anywhere")
    return OfflineBackend(fault_rate=typed["offline_fault_rate"])


def _openai(typed: Mapping[str, Any], cloud: Any) -> Backend:
    from transforms.llm.openai import OpenAIBackend

    model = _model(typed, "gpt-4.1-mini")
    base_url = typed["base_url"] or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    if problem := _url_problem(base_url):
        raise OptionError(
            f"OPENAI_BASE_URL is {_without_secrets(base_url)!r}: {problem}; export another, or set --base_url"
        )
    if urlsplit(base_url).hostname == "api.openai.com" and not os.environ.get("OPENAI_API_KEY"):
        raise OptionError(
            "OPENAI_API_KEY is not set: export it, or name another endpoint with --base_url=http://host:port/v1"
        )
    return OpenAIBackend(model=model, **{**_shared(typed), "base_url": base_url.rstrip("/")})


def _gemini(typed: Mapping[str, Any], cloud: Any) -> Backend:
    from transforms.llm.gemini import GeminiBackend

    model = _model(typed, "gemini-2.5-flash")
    has_key = bool(os.environ.get("GEMINI_API_KEY") or os.environ.get("GOOGLE_API_KEY"))
    project = typed["vertex_project"] or cloud.project
    if project is None and typed["vertex_location"]:
        raise OptionError("--vertex_location without a project: set --vertex_project, or Beam's --project")
    if project is None and not has_key:
        raise OptionError(
            "Gemini needs a project or a key: set --vertex_project (or Beam's --project) for Vertex AI, "
            "or export GEMINI_API_KEY for the Gemini API"
        )
    location = typed["vertex_location"] or (cloud.region if project else None) or "global"
    return GeminiBackend(
        model=model,
        project=project,
        location=location if project else None,
        **{option: typed[option] for option in _GEMINI_ONLY},
        **_shared(typed),
    )


def _vertex_endpoint(typed: Mapping[str, Any], cloud: Any) -> Backend:
    from transforms.llm.vertex_endpoint import VertexEndpointBackend

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


_BUILDERS: Final[Mapping[str, Callable[[Mapping[str, Any], Any], Backend]]] = {
    "gemini": _gemini,
    "openai": _openai,
    "vertex-endpoint": _vertex_endpoint,
    "offline": _offline,
}
