"""Prices: what --price says and what the table of genai-prices knows; never a guess, and nothing fetched."""

from __future__ import annotations

import importlib.util
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.llm.prices import FREE, Price, format_usd, known_price, parse_price, usd

HAS_TABLE = importlib.util.find_spec("genai_prices") is not None
needs_table = pytest.mark.skipif(not HAS_TABLE, reason="genai-prices needs Python 3.11")
OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a price was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.mark.parametrize(
    ("text", "prompt", "output"),
    [
        ("0.40,1.60", 400_000, 1_600_000),
        (" 1 , 2 ", 1_000_000, 2_000_000),
        ("0,0", 0, 0),
        ("0.0375,10.", 37_500, 10**7),
    ],
)
def test_a_price_is_two_numbers(text: str, prompt: int, output: int) -> None:
    assert parse_price(text) == Price(prompt, output, "--price")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1,2,3",
        "a,b",
        "1,",
        ",2",
        "-1,2",
        "1,-0.5",
        "nan,1",
        "inf,1",
        "1,1e30",
        "1000000,1",
        "$1,$2",
        "1;2",
        "x\n" * 99,
    ],
)
def test_what_is_no_price_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="write two numbers") as error:
        parse_price(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_a_cost_is_exact() -> None:
    price = parse_price("0.40,1.60")
    assert price.cost(1_000_000, 1_000_000) == 2 * 10**12
    assert usd(price.cost(1_000_000, 0)) == 0.4
    assert FREE.cost(10**9, 10**9) == 0


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), max_size=20))
def test_costs_add_up_in_any_order(tokens: list[tuple[int, int]]) -> None:
    price = parse_price("0.1,0.7")
    total = price.cost(sum(prompt for prompt, _ in tokens), sum(output for _, output in tokens))
    assert sum(price.cost(*each) for each in tokens) == total == sum(price.cost(*each) for each in reversed(tokens))


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [
        (0, "$0.00"),
        (1_234_500_000_000, "$1.23"),
        (4_200_000_000, "$0.0042"),
        (4_219_000_000, "$0.0042"),
        (50_000_000_000, "$0.05"),
        (5_000_000_000, "$0.005"),
        (1, "$0.000000000001"),
        (1_234_567_890 * 10**12, "$1,234,567,890.00"),
    ],
)
def test_amounts_for_a_person(picodollars: int, text: str) -> None:
    assert format_usd(picodollars) == text


def test_the_embedded_model_costs_nothing() -> None:
    assert known_price("offline", "offline-2", None) == FREE


@needs_table
@pytest.mark.parametrize("base_url", [None, OPENAI, "https://api.openai.com", "https://api.openai.com:443/v1"])
def test_a_model_of_the_table(base_url: str | None) -> None:
    price = known_price("openai", "gpt-4.1-mini", base_url)
    assert price is not None
    assert (price.prompt, price.output) == (400_000, 1_600_000)
    assert price.source.startswith("genai-prices ")
    assert "openai/gpt-4.1-mini, prices of 20" in price.source


@needs_table
def test_the_price_of_short_prompts_is_taken_and_said() -> None:
    price = known_price("gemini", "gemini-2.5-pro", None)
    assert price is not None
    assert (price.prompt, price.output) == (1_250_000, 10_000_000)
    assert price.source.endswith(", for prompts up to 200,000 tokens")


@needs_table
def test_other_providers_are_known_by_their_url() -> None:
    assert known_price("openai", "gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta/openai")
    price = known_price("openai", "deepseek/deepseek-chat", "https://openrouter.ai/api/v1")
    assert price is not None
    assert "openrouter/deepseek/deepseek-chat" in price.source


@pytest.mark.parametrize(
    ("llm", "model", "base_url", "tier"),
    [
        ("openai", "gpt-4.1-mini", "http://127.0.0.1:8000/v1", None),  # a server of one's own under a vendor's name
        ("openai", "gpt-4.1-mini", "https://gateway.example/v1", None),
        ("openai", "gpt-4.1-mini", "https://api.openai.com.gateway.example/v1", None),
        ("openai", "gpt-4.1-mini", "https://mine.openai.azure.com/openai/v1", None),  # the name of a deployment
        ("openai", "Qwen/Qwen3.8-2.4T-A95B", "https://me--vllm.modal.run/v1", None),
        ("openai", "ft:gpt-4.1-mini:mine", OPENAI, None),
        ("openai", "no-such-model", OPENAI, None),
        ("openai", "text-embedding-3-small", OPENAI, None),  # which has no replies
        ("gemini", "gemini-2.5-flash", "http://127.0.0.1:8000", None),
        ("gemini", "gemini-2.5-flash", None, "flex"),  # half the price, but the table does not say so
        ("vertex-endpoint", "gpt-4.1-mini", None, None),  # billed by the hour
        ("openai", "", None, None),
        ("openai", None, None, None),
    ],
)
def test_what_is_not_known_is_not_guessed(llm: str, model: str | None, base_url: str | None, tier: str | None) -> None:
    assert known_price(llm, model, base_url, tier) is None


@needs_table
def test_the_standard_tier_has_the_standard_price() -> None:
    standard = known_price("gemini", "gemini-2.5-flash", None)
    assert standard is not None
    assert known_price("gemini", "gemini-2.5-flash", None, "standard") == standard


def test_without_the_table_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # as on Python 3.10, where it cannot be installed
    assert known_price("openai", "gpt-4.1-mini", OPENAI) is None
    assert known_price("offline", "offline-2", None) == FREE
