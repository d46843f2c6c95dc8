"""What a run has paid: tokens, and their cost where the price is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Protocol

_PICODOLLARS: Final = 10**12  # in a dollar
_A_TOKEN: Final = 10**6  # picodollars a token that are a dollar a million tokens


class Rates(Protocol):
    """The price of a model, as `llm.prices.Price`: picodollars a token, which add up exactly in any order."""

    @property
    def prompt(self) -> int:
        """Of a prompt token."""

    @property
    def output(self) -> int:
        """Of an output token."""

    @property
    def source(self) -> str:
        """Who says so."""

    def cost(self, prompt_tokens: int, output_tokens: int) -> int:
        """Returns what these tokens cost, in picodollars."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spending:
    """What was paid. `+` adds what several passes have paid.

    Args:
      picodollars: None: tokens are among them whose price is not known.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    picodollars: int | None = 0

    def __add__(self, other: Spending) -> Spending:
        costs = (self.picodollars, other.picodollars)
        return Spending(
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
        )

    @property
    def cost_usd(self) -> float | None:
        """The cost in US dollars; None: it is not known."""
        return None if self.picodollars is None else self.picodollars / _PICODOLLARS


def spending_of(line: Mapping[str, Any], rates: Rates | None) -> Spending:
    """Returns what a step has paid, of its line in the table of steps."""
    prompt, output = (int(line.get("tokens", {}).get(kind, 0)) for kind in ("prompt", "output"))
    if rates is None:
        return Spending(prompt, output, None if prompt or output else 0)
    return Spending(prompt, output, rates.cost(prompt, output))


def with_costs(
    table: Mapping[str, Mapping[str, Any]], prices: Mapping[str, Rates | None]
) -> tuple[dict[str, dict[str, Any]], Spending]:
    """Adds to each step of a table that asks a model what it has cost.

    Returns:
      The table, and what all steps have paid.
    """
    total = Spending()
    priced = {}
    for step, line in table.items():
        priced[step] = dict(line)
        if "tokens" in line:
            spent = spending_of(line, prices.get(step))
            priced[step]["cost_usd"] = spent.cost_usd
            total += spent
    return priced, total


def describe(spent: Spending, prices: Mapping[str, Rates | None]) -> dict[str, Any]:
    """Says what a run has paid, for its manifest. `prices` are by step, those of examples and of verification."""
    rates, verify = prices.get("LLMCall"), prices.get("VerifyLabels")
    other = {"verify_price": price_as_json(verify)} if "VerifyLabels" in prices and verify != rates else {}
    return {
        "prompt_tokens": spent.prompt_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": spent.cost_usd,
        "price": price_as_json(rates),
        **other,
    }


def price_as_json(rates: Rates | None) -> dict[str, Any] | None:
    """Writes a price in USD per million tokens, with its source; None: nobody knows it."""
    if rates is None:
        return None
    return {
        "prompt_usd_per_million": rates.prompt / _A_TOKEN,
        "output_usd_per_million": rates.output / _A_TOKEN,
        "source": rates.source,
    }
