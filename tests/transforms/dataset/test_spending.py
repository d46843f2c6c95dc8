"""What a run has paid: sums are exact, and a price that is not known makes no cost."""

from __future__ import annotations

import pytest
from textmint.transforms.dataset.spending import Spending, describe, spending_of, with_costs
from textmint.transforms.llm.prices import Price

MINI, NANO = Price(400_000, 1_600_000, "a table"), Price(100_000, 400_000, "--price")
TABLE = {
    "TaskGenerate": {"in": 5, "tokens": {"prompt": 1_000, "output": 2_000}},
    "Flatten": {"in": 80},
    "LLMCall": {"in": 140, "tokens": {"prompt": 70_000, "output": 30_000}},
    "VerifyLabels": {"in": 130, "tokens": {"prompt": 20_000, "output": 500}},
}


def test_each_step_costs_what_its_model_costs() -> None:
    table, total = with_costs(TABLE, {"TaskGenerate": MINI, "LLMCall": MINI, "VerifyLabels": NANO})
    assert {step: line.get("cost_usd") for step, line in table.items()} == {
        "TaskGenerate": 0.0036,
        "Flatten": None,
        "LLMCall": 0.076,
        "VerifyLabels": 0.0022,
    }
    assert "cost_usd" not in table["Flatten"]
    assert total == Spending(91_000, 32_500, 81_800_000_000)
    assert "cost_usd" not in TABLE["LLMCall"]


@pytest.mark.parametrize("prices", [{}, {"TaskGenerate": MINI, "LLMCall": MINI, "VerifyLabels": None}])
def test_where_a_price_is_not_known_neither_is_the_cost(prices: dict[str, Price | None]) -> None:
    table, total = with_costs(TABLE, prices)
    assert total == Spending(91_000, 32_500, None)
    assert table["VerifyLabels"]["cost_usd"] is None


def test_what_asked_for_nothing_costs_nothing() -> None:
    assert spending_of({"tokens": {"prompt": 0, "output": 0}}, None) == Spending()


def test_passes_add_up() -> None:
    passes = [Spending(10, 5, 10**12 // 3), Spending(1, 2, 7), Spending()]
    assert sum(passes, Spending()) == sum(reversed(passes), Spending()) == Spending(11, 7, 333_333_333_340)
    assert (passes[0] + Spending(1, 1, None)).cost_usd is None


SHOWN = {"prompt_usd_per_million": 0.4, "output_usd_per_million": 1.6, "source": "a table"}


@pytest.mark.parametrize(
    ("prices", "shown"),
    [
        ({}, {"price": None}),
        ({"LLMCall": MINI}, {"price": SHOWN}),
        ({"LLMCall": MINI, "VerifyLabels": MINI}, {"price": SHOWN}),
        ({"LLMCall": MINI, "VerifyLabels": None}, {"price": SHOWN, "verify_price": None}),
        ({"LLMCall": None, "VerifyLabels": MINI}, {"price": None, "verify_price": SHOWN}),
    ],
)
def test_description(prices: dict[str, Price | None], shown: dict[str, object]) -> None:
    told = describe(Spending(10, 5, 420_000_000_000), prices)
    assert told == {"prompt_tokens": 10, "output_tokens": 5, "cost_usd": 0.42, **shown}
