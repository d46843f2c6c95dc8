"""URLs as they are typed: what of them is shown, and through which proxy they are asked."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.llm.base import FatalError
from textmint.transforms.llm.gemini import GeminiBackend
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.urls import holds_secret, is_exempt, proxy_for, shown_url
from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend

from tests.support.helpers import run_main

WORD = "hunter-2-Zq"
SECRETS = [
    f"user:{WORD}@host/v1",
    f"http:/user:{WORD}@host/v1",
    f"http:///user:{WORD}@host/v1",
    f"http:user:{WORD}@host/v1",
    f"https:user:{WORD}@host",
    f"http://user:a/{WORD}@host/v1",
    f"http://user:80/{WORD}@host/v1",
    f"http://user:{WORD}?x@host/v1",
    f"http://user:{WORD}#x@host/v1",
    f"http://user:x@{WORD}@host/v1",
    f"http://{WORD}@host/v1",
    f"//user:{WORD}@host/v1",
    f"ftp://user:{WORD}@host/v1",
    f"http:\\\\user:{WORD}@host/v1",
    f"http://user%3A{WORD}%40host/v1",
    f" http://user:{WORD}@host/v1",
    f"http://user:{WORD}@ho st/v1",
    f"http://host/v1?key={WORD}",
    f"http://host/v1?key={WORD}&api-version=1",
    f"http://host/v1&api-key={WORD}",
    f"http://host/v1;access_token={WORD}",
    f"host/v1?api_key={WORD}",
    f"http://host/v1#{WORD}",
    f"http://host:{WORD}/v1",
    f"http://host/sk-0123456789abcdef{WORD}/v1",
]


@pytest.mark.parametrize("url", SECRETS)
def test_no_secret_is_shown_wherever_it_was_typed(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert WORD not in shown_url(url)
    for build in (
        lambda: OpenAIBackend(model="m", base_url=url),
        lambda: GeminiBackend(model="m", base_url=url),
        lambda: VertexEndpointBackend(endpoint="projects/p/locations/l/endpoints/7", base_url=url),
    ):
        try:
            build()
        except ValueError as error:
            assert WORD not in "".join(traceback.format_exception(error))
        else:
            assert url == f"http://host/v1#{WORD}", "a fragment is left out"


@pytest.mark.parametrize("llm", ["openai", "gemini", "vertex-endpoint"])
@pytest.mark.parametrize("url", [SECRETS[0], SECRETS[5], SECRETS[6], SECRETS[18], SECRETS[23]])
def test_the_command_shows_none(url: str, llm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    done = run_main("generate", f"--llm={llm}", "--model=m", f"--base_url={url}", "--output=/nonexistent/out")
    assert done.code == 2 and "--base_url" in done.err and WORD not in done.out + done.err
    done = run_main("generate", "--llm=openai", "--model=m", "--base-ur", url)
    assert done.code == 2 and WORD not in done.out + done.err
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    done = run_main("generate", "--llm=openai", "--model=m")
    assert done.code == 2 and "OPENAI_BASE_URL" in done.err and WORD not in done.out + done.err


@pytest.mark.parametrize(
    "url",
    [
        "http://host:8000/v1",
        "https://host/v1",
        "host:8000/v1",
        "http://[::1]:80/v1",
        "http://h/projects/p/key/1",
        "nix",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(url: str) -> None:
    assert shown_url(url) == url and not holds_secret(url)


@given(st.text(alphabet="abc:/@?#%40[]\\.=&;- 1"), st.text(alphabet="ab:/@?#=&", max_size=5))
def test_what_stands_before_an_at_is_never_shown(before: str, after: str) -> None:
    shown = shown_url(f"http://u:QQQ{before}@{after}")
    assert "QQQ" not in shown
    assert "QQQ" not in shown_url(f"QQQ{before}@{after}")


# --- proxies

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://model.example/v1", {"http_proxy": PROXY}, PROXY),
        ("http://model.example/v1", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://model.example/v1", {"HTTP_PROXY": "http://other:1", "http_proxy": PROXY}, PROXY),
        ("http://model.example/v1", {"HTTPS_PROXY": PROXY}, None),
        ("https://model.example/v1", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://model.example/v1", {"ALL_PROXY": PROXY}, PROXY),
        ("https://model.example/v1", {"all_proxy": "socks5://p:1", "https_proxy": PROXY}, PROXY),
        ("https://model.example/v1", {"https_proxy": "proxy:3128"}, PROXY),
        ("https://model.example/v1", {"https_proxy": " "}, None),
        ("https://model.example/v1", {"https_proxy": "http://me:pw@proxy:1"}, "http://me:pw@proxy:1"),
        ("https://model.example/v1", {"https_proxy": PROXY, "NO_PROXY": "a.example, .example"}, None),
        ("https://model.example/v1", {"https_proxy": PROXY, "no_proxy": "other.example"}, PROXY),
        # this machine is never asked through one, whose owner would see the key
        ("http://127.0.0.1:8000/v1", {"http_proxy": PROXY}, None),
        ("http://127.1.2.3:8000/v1", {"http_proxy": PROXY}, None),
        ("http://localhost:8000/v1", {"all_proxy": PROXY}, None),
        ("http://LOCALHOST.:8000/v1", {"http_proxy": PROXY}, None),
        ("http://model.localhost:8000/v1", {"http_proxy": PROXY}, None),
        ("http://[::1]:8000/v1", {"http_proxy": PROXY}, None),
        ("http://[::ffff:127.0.0.1]:8000/v1", {"http_proxy": PROXY}, None),
        ("http://0.0.0.0:8000/v1", {"http_proxy": PROXY}, None),
        ("http://10.0.0.1:8000/v1", {"http_proxy": PROXY}, PROXY),
    ],
)
def test_the_proxy_of_a_url(
    url: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", environment)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "exempt"),
    [
        ("model.example", 443, "*", True),
        ("model.example", 443, "", False),
        ("model.example", 443, "model.example", True),
        ("model.example", 443, "Model.Example", True),
        ("model.example", 443, ".example", True),
        ("model.example", 443, "*.example", True),
        ("model.example", 443, "example", True),
        ("mymodel.example", 443, "model.example", False),
        ("model.example", 443, "x, model.example", True),
        ("model.example", 443, "x model.example", True),
        ("model.example", 443, "model.example:443", True),
        ("model.example", 8000, "model.example:443", False),
        ("10.1.2.3", 80, "10.0.0.0/8", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3:80", True),
        ("10.1.2.3", 80, "10.1.2.3:81", False),
        ("10.1.2.3", 80, "10.1.2.0/24:80", True),
        ("fd00::1", 80, "fd00::/8", True),
        ("fd00::1", 80, "[fd00::1]:80", True),
        ("fd00::1", 80, "[fd00::1]", True),
        ("fd00::1", 80, "10.0.0.0/8", False),
        ("model.example", 443, "/8,:,[,]:x,//", False),
    ],
)
def test_what_is_exempt(host: str, port: int, no_proxy: str, exempt: bool) -> None:
    assert is_exempt(host, port, no_proxy) is exempt


@given(st.text())
def test_any_list_of_exemptions(no_proxy: str) -> None:
    assert is_exempt("10.1.2.3", 80, no_proxy) in (True, False)


@pytest.mark.parametrize("proxy", ["socks5://me:pw-word@h:1", "http://", "http://me:pw-word@h:x", "ftp://h"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_that_is_none_is_named_and_not_quoted(
    proxy: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {variable: proxy})
    with pytest.raises(FatalError, match=variable) as caught:
        proxy_for("https://model.example")
    assert "pw-word" not in str(caught.value) + caught.value.remedy and json.dumps(caught.value.detail)
