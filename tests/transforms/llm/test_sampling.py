"""The options that an endpoint may refuse: what is sent, what is left out, and what the manifest and the card say then.
The same for every back end and every form of request that it has."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.dataset.accounting import REFUSED, as_sent
from textmint.transforms.dataset.card import dataset_card
from textmint.transforms.dataset.public_manifest import public_manifest
from textmint.transforms.llm.base import Answer, Backend, Refused, fingerprint_of
from textmint.transforms.llm.error_body import fault_of
from textmint.transforms.llm.gemini import GeminiBackend
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.sampling import OPTIONS, Sampling, refused_option
from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend

from tests.support import backends
from tests.support.backends import ENDPOINT, backend_of, credentials_of
from tests.support.helpers import Script, entry_of, rows_of, run_main

ROUTES = ("openai", "gemini", "vertex", "chat", "prompt", "inputs")
REPLY = '{"input_text": "It rains.", "label": "weather", "misleading_label": "sport"}'
Taken = tuple[int, dict[str, str], bytes]


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    with credentials_of():
        yield


def options_in(body: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the body of a request of any route, by their names in OPTIONS."""
    instance = body.get("instances", [{}])[0]
    found = body.get("generationConfig") or instance.get("parameters") or instance or body
    names = {
        "topP": "top_p",
        "maxOutputTokens": "max_output_tokens",
        "seed": "send_seed",
        "max_tokens": "max_output_tokens",
    }
    names |= {"responseSchema": "structured_output", "response_format": "structured_output"}
    told = {names.get(name, name): value for name, value in found.items()}
    return {name: told[name] for name in OPTIONS if name in told}


def endpoint(route: str, reject: Callable[[Mapping[str, Any]], str | None], text: str = REPLY) -> Script:
    """An endpoint that answers on one route, and refuses by 400 what `reject` has words for."""

    def reply(_: str, path: str, __: Mapping[str, str], raw: bytes) -> Taken:
        body = json.loads(raw)
        if route in ("prompt", "inputs"):
            if not path.endswith(":predict"):
                return 404, {}, b"{}"
            if route == "inputs" and "inputs" not in body["instances"][0]:
                return 422, {}, b'{"error": "data did not match any variant of untagged enum VertexInstance"}'
        if words := reject(options_in(body)):
            return 400, {}, json.dumps({"error": {"code": 400, "message": words}}).encode()
        if route in ("gemini", "vertex"):
            candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}
            return 200, {}, json.dumps({"candidates": [candidate]}).encode()
        if route in ("openai", "chat"):
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return 200, {}, json.dumps({"choices": [choice]}).encode()
        return 200, {}, json.dumps({"predictions": [text]}).encode()

    return Script(reply)


def ask(backend: Backend, count: int = 1) -> list[Any]:
    return backends.ask(backend, *map(backends.request, range(count)))


def texts(found: list[Any]) -> list[object]:
    return [getattr(each, "text", each) for each in found]


def nothing(_: Mapping[str, Any]) -> None:
    return None


# --- what is sent


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (2.0, 1.0)])
def test_sampling_is_always_sent(route: str, temperature: float, top_p: float) -> None:
    """llama.cpp takes 0.8 and 0.95 where it is told nothing, vLLM what the model's authors wrote beside it."""
    with endpoint(route, nothing) as script:
        found = ask(backend_of(route, script.url, temperature=temperature, top_p=top_p), 2)
        assert texts(found) == [REPLY] * 2
        sent = [options_in(json.loads(raw)) for _, _, _, raw in script.seen]
    assert all((each["temperature"], each["top_p"]) == (temperature, top_p) for each in sent)


@pytest.mark.parametrize("route", ROUTES)
def test_the_most_likely_words(route: str) -> None:
    """TGI wants a temperature above 0, and to be told in other words."""
    with endpoint(route, nothing) as script:
        assert texts(ask(backend_of(route, script.url, temperature=0.0))) == [REPLY]
        body = json.loads(script.seen[-1][3])
    if route == "inputs":
        parameters = body["instances"][0]["parameters"]
        assert parameters["do_sample"] is False and not {"temperature", "top_p"} & set(parameters)
    else:
        assert options_in(body)["temperature"] == 0.0


# --- what is refused


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("option", ["temperature", "top_p"])
@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: '{}' is not supported with this model.",
        'Invalid JSON payload received. Unknown name "{}": Cannot find field.',
        "body.{}: Extra inputs are not permitted",
        "Input validation error: `{}` must be > 0.0 and < 1.0",  # TGI, which means 1 where it is told none
    ],
)
def test_an_option_that_is_refused_is_left_out_once_for_all(
    route: str, option: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with endpoint(route, lambda sent: words.format(option) if option in sent else None) as script:
        with caplog.at_level(logging.WARNING, "textmint"):
            found = ask(backend_of(route, script.url, structured_output=False), 3)
        assert texts(found) == [REPLY] * 3
        sent = [options_in(json.loads(raw)) for _, _, _, raw in script.seen][-4:]
    assert [option in each for each in sent] == [True, False, False, False]
    other = "top_p" if option == "temperature" else "temperature"
    assert all(other in each for each in sent)
    assert [each.left_out for each in found if isinstance(each, Answer)] == [(option,)] * 3
    warnings = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
    assert len(warnings) == 1 and option in warnings[0]


@pytest.mark.parametrize("route", ROUTES)
def test_of_two_that_exclude_each_other_the_one_that_was_not_set_goes(route: str) -> None:
    words = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    for settings, gone in (({"top_p": 0.5}, "temperature"), ({"temperature": 0.5}, "top_p"), ({}, "top_p")):
        with endpoint(route, lambda sent: words if {"temperature", "top_p"} <= set(sent) else None) as script:
            (answer,) = ask(backend_of(route, script.url, structured_output=False, **settings))
        assert isinstance(answer, Answer) and answer.left_out == (gone,)


@pytest.mark.parametrize("route", ROUTES)
def test_a_value_that_cannot_be_is_not_left_out(route: str) -> None:
    """Somebody has set it, and should hear of it."""
    words = "temperature must be at most 1"
    with endpoint(route, lambda sent: words if sent.get("temperature", 0) > 1 else None) as script:
        (found,) = ask(backend_of(route, script.url, temperature=1.5, structured_output=False))
    assert isinstance(found, Refused) and words in found.detail


@pytest.mark.parametrize("route", ROUTES)
def test_what_does_not_help_is_not_given_up(route: str, caplog: pytest.LogCaptureFixture) -> None:
    with endpoint(route, lambda _: "temperature and top_p are not supported") as script:
        (found,) = ask(backend_of(route, script.url, structured_output=False))
    assert isinstance(found, Refused)
    assert not [record for record in caplog.records if "refuses" in record.getMessage()]


@pytest.mark.parametrize("route", ("openai", "gemini", "vertex"))
def test_a_seed_that_is_refused(route: str) -> None:
    with endpoint(route, lambda sent: "Unknown name: seed" if "send_seed" in sent else None) as script:
        found = ask(backend_of(route, script.url), 2)
    assert [each.left_out for each in found if isinstance(each, Answer)] == [("send_seed",)] * 2


@pytest.mark.parametrize("route", ("openai", "gemini", "vertex", "chat"))
def test_structure_that_is_refused(route: str) -> None:
    words = "response_format / response_schema is not supported"
    with endpoint(route, lambda sent: words if "structured_output" in sent else None) as script:
        found = ask(backend_of(route, script.url), 2)
    assert [each.left_out for each in found if isinstance(each, Answer)] == [("structured_output",)] * 2


@pytest.mark.parametrize("route", ("prompt", "inputs"))
def test_structure_that_a_route_does_not_know(route: str) -> None:
    with endpoint(route, nothing) as script:
        (answer,) = ask(backend_of(route, script.url))
    assert isinstance(answer, Answer) and answer.left_out == ("structured_output",)


@given(st.text(), st.sets(st.sampled_from(list(OPTIONS))))
def test_only_what_was_sent_is_refused(text: str, sent: set[str]) -> None:
    assert refused_option(fault_of(400, {}, text.encode("utf-8", "surrogatepass")), sent, sent) in {*sent, None}


# --- numbers, once for all back ends


@pytest.mark.parametrize("route", ("openai", "gemini", "chat"))
@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 2.1}, {"temperature": -0.1}, {"temperature": float("nan")},
        {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": float("nan")}, {"max_output_tokens": 0},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be(route: str, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        backend_of(route, "http://h", **bad)
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)


@pytest.mark.parametrize(
    ("backend", "golden"),
    [
        (OpenAIBackend(model="m"), "4db75e923b5f3e253c4d065d7471056a"),
        (
            OpenAIBackend(model="m", temperature=0.5, top_p=0.9, max_output_tokens=5, structured_output=False),
            "f8a1b22d3bd12c736143623534958858",
        ),
        (GeminiBackend(model="gemini-2.5-flash"), "57ea3e84b84bc4cc663b9020ff79b32e"),
        (
            GeminiBackend(model="g", temperature=0, thinking_budget=0, safety_threshold="OFF", max_output_tokens=7),
            "0a92c66c83375b25ae38e68601e01350",
        ),
        (VertexEndpointBackend(endpoint=ENDPOINT), "5e4fc8ca59e70735e711e5c554006edc"),
        (
            VertexEndpointBackend(endpoint="7", project="p", location="l", model="m", temperature=0.3),
            "14e6e9e0c7c8e0fdee88b29ef0ea33e9",
        ),
    ],
)
def test_what_was_paid_for_is_found_again(backend: Backend, golden: str) -> None:
    """Fingerprints of the releases in which 1.0 was not sent. Other ones would buy every reply again."""
    assert fingerprint_of(backend) == golden


# --- what is told


ASKED = {"backend": "openai", "model": "m", "temperature": 1.0, "top_p": 1.0, "base_url": "http://a"}


@pytest.mark.parametrize(
    ("lines", "earlier", "refused"),
    [
        ({"LLMCall": {}}, [], set()),
        ({"LLMCall": {"left_out": {"seed": 3}}, "TaskGenerate": {"left_out": {"top_p": 1}}}, [], {"seed", "top_p"}),
        ({"VerifyLabels": {"left_out": {"temperature": 3}}}, [], set()),
        # replies of the ledger lacked what the run lacked that paid for them
        ({"LLMCall": {"requests": {"from_ledger": 9}}}, [{**ASKED, "top_p": REFUSED, "base_url": "b"}], {"top_p"}),
        ({"LLMCall": {"requests": {"from_ledger": 9}}}, [{**ASKED, "top_p": REFUSED, "model": "n"}], set()),
        ({"LLMCall": {"requests": {"from_ledger": 9}}}, [{**ASKED, "top_p": REFUSED, "temperature": 0.5}], set()),
        ({"LLMCall": {"requests": {"from_ledger": 0}}}, [{**ASKED, "top_p": REFUSED}], set()),
    ],
)  # fmt: skip
def test_as_sent(lines: dict[str, Any], earlier: list[Any], refused: set[str]) -> None:
    assert as_sent(ASKED, lines, earlier) == {**ASKED, **dict.fromkeys(refused, REFUSED)}


def test_the_card_and_the_pushed_manifest_say_what_was_sent() -> None:
    entry = {
        "options": {"temperature": 1.0, "top_p": 0.5, "structured_output": "auto"},
        "backend": {"model": "m", "temperature": REFUSED, "top_p": 0.5, "send_seed": REFUSED},
    }
    card = dataset_card({"refreshes": {"base": entry}})
    for line in (f"`--temperature` | {REFUSED}", "`--top_p` | 0.5", f"`send_seed` | {REFUSED}"):
        assert f"| {line} |" in card.replace("\\", "")
    public = public_manifest({"refreshes": {"base": entry}})["refreshes"]["base"]
    assert public["options"]["temperature"] == public["backend"]["temperature"] == REFUSED


def test_a_run_tells_what_was_refused_and_so_does_the_next_one_that_asks_nothing(tmp_path: Path) -> None:
    words = "Unsupported parameter: 'temperature' is not supported with this model."
    tasks = tmp_path / "tasks.txt"
    tasks.write_text("Tell a complaint from a question\nClassify mail by department\n")
    flags = ["--llm=openai", "--model=m", f"--tasks={tasks}", "--checks=none", f"--output={tmp_path / 'out'}"]
    with endpoint("openai", lambda sent: words if "temperature" in sent else None) as script:
        flags.append(f"--base_url={script.url}/v1")
        assert run_main("generate", *flags).code == 0
        first = entry_of(tmp_path / "out")
        # the probe finds it out, so every reply lacks it
        assert first["steps"]["LLMCall"]["left_out"] == {"temperature": 6}
        assert (first["backend"]["temperature"], first["backend"]["top_p"]) == (REFUSED, 1.0)
        asked = len(script.seen)
        assert run_main("generate", *flags, "--recompute", "--keep_raw").code == 0
        assert len(script.seen) == asked
    second = entry_of(tmp_path / "out")
    assert second["backend"]["temperature"] == REFUSED and "left_out" not in second["steps"]["LLMCall"]
    assert f"| `--temperature` | {REFUSED} |" in (tmp_path / "out" / "README.md").read_text()
    assert len(rows_of(tmp_path / "out", "examples")) > 0
