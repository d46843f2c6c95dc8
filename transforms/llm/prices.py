"""What tokens cost: a price that the user names, or one of the table of genai-prices; never a guess."""

from __future__ import annotations

import dataclasses
import datetime
import re
from decimal import Decimal
from importlib import metadata
from typing import Any, Final

_PER_USD: Final = 10**12  # picodollars
_NUMBER: Final = " *([0-9]{1,6}([.][0-9]*)?|[.][0-9]+) *"
PRICE: Final = re.compile(f"{_NUMBER},{_NUMBER}")
"""What the value of --price looks like."""
_OWN_NAMES: Final = frozenset(("azure", "databricks", "modal"))
"""Providers where customers name what they deploy: a name there does not tell the model, nor how it is billed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """What the tokens of a model cost. As whole picodollars a token (10**-12 USD), sums are exact and independent of
    their order; 1 USD per million tokens is 1,000,000 of them.

    Args:
      prompt: picodollars per token of a prompt.
      output: picodollars per token of a reply.
      source: who says so, with the version and the day of a table.
    """

    prompt: int
    output: int
    source: str

    def cost(self, prompt_tokens: int, output_tokens: int) -> int:
        """Returns what these tokens cost, in picodollars."""
        return self.prompt * prompt_tokens + self.output * output_tokens


FREE: Final = Price(0, 0, "embedded model")
"""Of the embedded model."""


def usd(picodollars: int) -> float:
    """Returns an amount in USD."""
    return picodollars / _PER_USD


def format_usd(picodollars: int) -> str:
    """Writes an amount for a person: to the cent, or below ten cents to two digits that say something."""
    places = 2
    while 0 < picodollars < 10 ** (13 - places) and picodollars % 10 ** (12 - places):
        places += 1
    return f"${picodollars / Decimal(_PER_USD):,.{places}f}"


def parse_price(text: str) -> Price:
    """Reads the value of --price: USD per million tokens of prompts and of replies, such as `0.40,1.60`.

    Raises:
      ValueError: it is none; the message says what one looks like, in one line.
    """
    if not PRICE.fullmatch(text):
        raise ValueError(
            f"{text!r:.60} is no price; write two numbers below 1,000,000, USD per million tokens of prompts and of "
            "replies, such as 0.40,1.60"
        )
    prompt, output = (_picodollars(Decimal(number.strip())) for number in text.split(","))
    return Price(prompt, output, "--price")


def _picodollars(per_million: Decimal) -> int:
    """Turns USD per million tokens into picodollars a token, rounded up."""
    return int((per_million * 10**6).to_integral_value("ROUND_CEILING"))


def known_price(llm: str, model: str | None, base_url: str | None, service_tier: str | None = None) -> Price | None:
    """Looks a model up in the table of genai-prices (the extra `prices`), as it was released: nothing is fetched.

    A price belongs to who serves the model: what another endpoint serves under the same name costs something else. So
    an endpoint counts only where the table knows its URL, and a tier of service only where it prices that tier.

    Args:
      llm: as --llm.
      model: as --model.
      base_url: the endpoint; None: that of the vendor.
      service_tier: as --service_tier.

    Returns:
      The price on this day, of short prompts where it depends on their length; None where it is not known.
    """
    if llm == "offline":
        return FREE
    if llm not in ("gemini", "openai") or not model:
        return None
    try:
        from genai_prices import Usage, calc_price  # only now: it takes 0.1 s, and most commands ask for no price
    except ImportError:  # not installed, or Python 3.10
        return None

    vendor = {"provider_id": "google" if llm == "gemini" else "openai"}
    day = datetime.datetime.now(datetime.timezone.utc)
    tier = service_tier if service_tier not in (None, "standard") else None
    try:
        found = calc_price(
            Usage(),
            model,
            **(vendor if base_url is None else {"provider_api_url": base_url}),
            genai_request_timestamp=day,
            price_context={"service_tier": tier} if tier else None,
        )
    except (LookupError, ValueError):  # a model that is not there, or is not billed by tokens
        return None
    if found.provider.id in _OWN_NAMES or (base_url and not _is_whole_host(found.provider.api_pattern, base_url)):
        return None
    if tier and not any(variant.when == {"service_tier": tier} for variant in found.model.price_variants or ()):
        return None
    if _depends_on_the_hour(found.model.prices):
        return None
    prompt, prompt_rises = _base(found.model_price.input_mtok)
    output, output_rises = _base(found.model_price.output_mtok)
    if prompt is None or output is None:
        return None
    source = f"genai-prices {metadata.version('genai-prices')}, {found.provider.id}/{found.model.id}"
    source += f", {tier} tier" if tier else ""
    source += f", prices of {day:%Y-%m-%d}"
    if rises := min(filter(None, (prompt_rises, output_rises)), default=None):
        source += f", for prompts up to {rises:,} tokens"
    return Price(_picodollars(prompt), _picodollars(output), source)


def _is_whole_host(pattern: str, url: str) -> bool:
    """Tells whether a URL matches up to the end of its host, or further: api.openai.com.example.org is another."""
    match = re.match(pattern, url)
    return match is not None and (match[0].endswith("/") or url[match.end() : match.end() + 1] in ("", "/", ":"))


def _depends_on_the_hour(prices: Any) -> bool:
    return isinstance(prices, list) and any(hasattr(each.constraint, "start_time") for each in prices)


def _base(price: Any) -> tuple[Decimal | None, int | None]:
    """Returns the price of short prompts, and above how many tokens another holds."""
    tiers = getattr(price, "tiers", None)
    return (price.base, tiers[0].start) if tiers else (price, None)
