"""The back end that options choose; and what is wrong with them, in a line that names the option."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from textmint.pipelines.options.backends import _BUILDERS, backend_of
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.table import BY_NAME, OPTIONS
from textmint.transforms.llm import gemini
from textmint.transforms.llm.base import Backend
from textmint.transforms.llm.gemini import GeminiBackend
from textmint.transforms.llm.offline.backend import OfflineBackend
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.urls import shown_url
from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend

DEFAULTS = {option.name: option.default for option in OPTIONS}
LOCAL = "http://127.0.0.1:8000/v1"
ENDPOINT = "projects/p/locations/us-central1/endpoints/17"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def chosen(*beam: str, **typed: Any) -> Backend:
    cloud = PipelineOptions(list(beam)).view_as(GoogleCloudOptions)
    return backend_of({**DEFAULTS, **typed}, cloud)


def problems(*beam: str, **typed: Any) -> tuple[str, ...]:
    with pytest.raises(OptionError) as caught:
        chosen(*beam, **typed)
    for problem in caught.value.problems:
        assert "\n" not in problem
        assert "--" in problem or "export" in problem  # where to look
    return caught.value.problems


def problem(*beam: str, **typed: Any) -> str:
    (only,) = problems(*beam, **typed)
    return only


# --- what is built


def test_without_a_word_the_embedded_model_answers() -> None:
    assert chosen() == OfflineBackend(fault_rate=0.0)
    assert chosen(offline_fault_rate=0.25) == OfflineBackend(fault_rate=0.25)


def test_openai() -> None:
    same: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 100}
    backend = chosen(llm="openai", model=" m/7b ", base_url=f"{LOCAL}/", structured_output="never", **same)
    assert backend == OpenAIBackend(model="m/7b", base_url=LOCAL, structured_output=False, **same)


def test_openai_is_openais_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OPENAI_API_KEY" in problem(llm="openai", model="m")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert chosen(llm="openai", model="m") == OpenAIBackend(model="m", base_url="https://api.openai.com/v1")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{LOCAL}/")
    assert chosen(llm="openai", model="m") == OpenAIBackend(model="m", base_url=LOCAL)
    other = chosen(llm="openai", model="m", base_url="http://other/v1")
    assert other == OpenAIBackend(model="m", base_url="http://other/v1")


def test_gemini_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    same: dict[str, Any] = {"model": "gemini-2.5-flash", "thinking_budget": 0, "safety_threshold": "BLOCK_NONE"}
    same |= {"service_tier": "flex", "max_output_tokens": 9}
    backend = chosen(llm="gemini", base_url="http://127.0.0.1:8000/", **same)
    assert backend == GeminiBackend(base_url="http://127.0.0.1:8000", **same)
    assert isinstance(backend, GeminiBackend)
    assert (backend.project, backend.location) == (None, None)


@pytest.mark.parametrize("key", [False, True])
@pytest.mark.parametrize(
    ("beam", "typed", "place"),
    [
        ((), {"vertex_project": "p"}, ("p", "global")),
        ((), {"vertex_project": "p", "vertex_location": "europe-west4"}, ("p", "europe-west4")),
        (("--region=us-east1",), {"vertex_project": "p"}, ("p", "us-east1")),
        (("--project=q", "--region=us-east1"), {"vertex_project": "p", "vertex_location": "global"}, ("p", "global")),
        (("--project=q",), {"vertex_location": "global"}, ("q", "global")),
        (("--project=q", "--region=us-east1"), {"vertex_location": "us-west1"}, ("q", "us-west1")),
        (("--project=q", "--region=us-east1"), {}, ("q", "us-east1")),
    ],
)
def test_gemini_on_vertex(
    beam: tuple[str, ...], typed: dict[str, str], place: tuple[str, str], key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key:  # a project that was named for the model goes before it
        monkeypatch.setenv("GEMINI_API_KEY", "x")
    backend = chosen(*beam, llm="gemini", model="g", **typed)
    assert isinstance(backend, GeminiBackend)
    assert (backend.project, backend.location) == place


@pytest.mark.parametrize(
    ("beam", "typed", "resource"),
    [
        ((), {"vertex_endpoint": ENDPOINT}, ENDPOINT),
        (("--project=q", "--region=r1"), {"vertex_endpoint": ENDPOINT}, ENDPOINT),
        ((), {"vertex_endpoint": "17", "vertex_project": "p", "vertex_location": "us-central1"}, ENDPOINT),
        (("--project=p", "--region=us-central1"), {"vertex_endpoint": "17"}, ENDPOINT),
        (("--project=q", "--region=us-central1"), {"vertex_endpoint": "17", "vertex_project": "p"}, ENDPOINT),
    ],
)
def test_vertex_endpoint(beam: tuple[str, ...], typed: dict[str, str], resource: str) -> None:
    backend = chosen(*beam, llm="vertex-endpoint", **typed)
    assert isinstance(backend, VertexEndpointBackend)
    assert backend.name.resource == resource
    assert backend.model is None
    assert backend.structured_output


BACKENDS: list[dict[str, Any]] = [
    {},
    {"llm": "openai", "model": "m", "base_url": LOCAL},
    {"llm": "gemini", "model": "g", "vertex_project": "p"},
    {"llm": "vertex-endpoint", "vertex_endpoint": ENDPOINT},
]


@pytest.mark.parametrize("typed", BACKENDS, ids=lambda typed: str(typed.get("llm", "offline")))
def test_a_back_end_is_a_description_that_travels(typed: dict[str, Any]) -> None:
    backend = chosen(**typed)
    assert isinstance(backend, Backend)
    assert hash(backend) == hash(pickle.loads(pickle.dumps(backend)))
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert backend.fingerprint() == chosen(**typed).fingerprint()
    field: Any = dataclasses.fields(backend)[0]  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(backend, field.name, "other")


@pytest.mark.parametrize("typed", BACKENDS[1:], ids=lambda typed: str(typed["llm"]))
@pytest.mark.parametrize(
    ("option", "value"),
    {
        "model": "another",
        "temperature": 0.5,
        "top_p": 0.5,
        "max_output_tokens": 50,
        "structured_output": "never",
    }.items(),
)
def test_what_changes_the_answer_changes_the_fingerprint(typed: dict[str, Any], option: str, value: Any) -> None:
    assert chosen(**typed).fingerprint() != chosen(**{**typed, option: value}).fingerprint()


@pytest.mark.parametrize("typed", BACKENDS[1:], ids=lambda typed: str(typed["llm"]))
def test_where_it_is_served_does_not(typed: dict[str, Any]) -> None:
    there = chosen(**{**typed, "base_url": "http://gateway.example/v1"})
    assert chosen(**typed).fingerprint() == there.fingerprint()


def test_the_choices_offered_are_those_of_the_back_end() -> None:
    assert sorted(BY_NAME["safety_threshold"].choices) == sorted(gemini.SAFETY_THRESHOLDS)
    assert sorted(BY_NAME["service_tier"].choices) == sorted(gemini.SERVICE_TIERS)
    assert list(BY_NAME["llm"].choices) == list(_BUILDERS)


# --- what is wrong


@pytest.mark.parametrize("llm", ["openai", "gemini"])
@pytest.mark.parametrize("model", [None, "", "  "])
def test_a_missing_model(llm: str, model: str | None) -> None:
    said = problem(llm=llm, model=model, base_url=LOCAL, vertex_project=None)
    assert said.startswith("--model is missing")
    assert f"--llm={llm}" in said
    assert "such as" in said


def test_no_project_and_no_key() -> None:
    said = problem(llm="gemini", model="g")
    assert "--vertex_project" in said
    assert "GEMINI_API_KEY" in said
    assert "--vertex_project" in problem(llm="gemini", model="g", vertex_location="global")


@pytest.mark.parametrize(
    ("beam", "typed", "missing"),
    [
        ((), {}, ["--vertex_endpoint", "--vertex_project", "--vertex_location"]),
        ((), {"vertex_endpoint": "17"}, ["--vertex_project", "--vertex_location"]),
        (("--project=p",), {"vertex_endpoint": "17"}, ["--vertex_location"]),
        (("--region=r",), {"vertex_endpoint": "17"}, ["--vertex_project"]),
        (("--region=r", "--project=p"), {}, ["--vertex_endpoint"]),
    ],
)
def test_what_a_vertex_endpoint_misses(beam: tuple[str, ...], typed: dict[str, Any], missing: list[str]) -> None:
    assert [said.split()[0] for said in problems(*beam, llm="vertex-endpoint", **typed)] == missing


URLS = ["nix", "", "127.0.0.1:8000", "ftp://host/v1", "http://", "http:///v1", "http://host:99999999/v1"]
URLS += ["http://host:port/v1", "http://[::1/v1", "http://host:0/v1", "http://ho st/v1", "http://host/v 1", "//host/v1"]


@pytest.mark.parametrize("typed", BACKENDS[1:], ids=lambda typed: str(typed["llm"]))
@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_none(typed: dict[str, Any], url: str) -> None:
    assert problem(**{**typed, "base_url": url}).startswith(f"--base_url is {shown_url(url)!r}: ")


@pytest.mark.parametrize("typed", BACKENDS[1:], ids=lambda typed: str(typed["llm"]))
@pytest.mark.parametrize(
    "url",
    [f"http://{rest}" for rest in ("me:hunter2@host/v1", "hunter2@host/v1", "host/v1?key=hunter2", "host/v1#hunter2")]
    + ["http://me:hun@ter2@host:x/v1?hunter2"],
)
def test_a_url_with_a_secret_is_refused_and_the_secret_not_shown(typed: dict[str, Any], url: str) -> None:
    said = problem(**{**typed, "base_url": url})
    assert said.startswith("--base_url is 'http://")
    assert "hunter2" not in said
    assert "ter2" not in said


def test_a_malformed_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("nix", "http://[::1", "http://me:hunter2@host/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert "hunter2" not in problem(llm="openai", model="m")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"llm": "openia"}, "--llm=openia is not known: did you mean openai? There are "),
        ({"llm": ""}, "--llm= is not known"),
        ({"structured_output": "nevr"}, "structured_output: nevr in --config is not known: did you mean never?"),
        ({"llm": "gemini", "model": "g", "safety_threshold": "NONE"}, "--safety_threshold=NONE is not known"),
        (
            {"llm": "gemini", "model": "g", "service_tier": "flexx"},
            "--service_tier=flexx is not known: did you mean flex?",
        ),
        ({"model": "other"}, "--model=other: --llm=offline has one model only"),
        ({"base_url": LOCAL}, "--base_url is for real models"),
        ({"vertex_endpoint": "17"}, "--vertex_endpoint is an option of --llm=vertex-endpoint, not of --llm=offline"),
        ({"llm": "gemini", "model": "two words"}, "--llm=gemini: model is a name such as gemini-2.5-flash"),
        ({"llm": "gemini", "model": "../m"}, "--llm=gemini: model is a name"),
        ({"llm": "gemini", "model": "g", "vertex_location": "US"}, "--llm=gemini: location is a region"),
        ({"llm": "gemini", "model": "g", "vertex_location": "x.evil/"}, "--llm=gemini: location is a region"),
        ({"llm": "gemini", "model": "g", "vertex_project": "a b"}, "--llm=gemini: project is the id"),
        ({"llm": "vertex-endpoint", "vertex_endpoint": "a b"}, "--llm=vertex-endpoint: --vertex_endpoint is"),
        ({"llm": "vertex-endpoint", "vertex_endpoint": "projects/p"}, "--llm=vertex-endpoint: --vertex_endpoint is"),
        ({"llm": "openai", "model": "m", "temperature": 3.0}, "--llm=openai: temperature is a number from 0 to 2"),
        ({"llm": "gemini", "model": "m", "top_p": -1.0}, "--llm=gemini: top_p is a number above 0 and up to 1"),
        ({"llm": "openai", "model": "m", "max_output_tokens": 0}, "--llm=openai: max_output_tokens is"),
    ],
)
def test_what_cannot_be(typed: dict[str, Any], said: str) -> None:
    given = {**typed}
    if given.get("llm") == "openai":
        given["base_url"] = LOCAL
    if given.get("llm") in ("gemini", "vertex-endpoint"):
        given.setdefault("vertex_project", "p")
        given.setdefault("vertex_location", "global")
    found = problems(**given)
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize("llm", ["offline", "openai", "vertex-endpoint"])
@pytest.mark.parametrize(
    ("option", "value"), [("thinking_budget", 0), ("safety_threshold", "OFF"), ("service_tier", "flex")]
)
def test_an_option_of_gemini_is_not_ignored_elsewhere(llm: str, option: str, value: Any) -> None:
    typed = next(each for each in BACKENDS if each.get("llm", "offline") == llm)
    assert problem(**typed, **{option: value}) == f"--{option} is an option of --llm=gemini, not of --llm={llm}"


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = problems(llm="openai", base_url="nix", structured_output="x", service_tier="flex", vertex_endpoint="1")
    expected = "--service_tier structured_output: --vertex_endpoint --base_url"
    assert sorted(said.split()[0].split("=")[0] for said in found) == sorted(expected.split())
