"""The last words of a run."""

from __future__ import annotations

from typing import Any

import pytest
from textmint.pipelines.cli.summary import tokens_paid_for

KNOWN = {"prompt_usd_per_million": 1.0, "output_usd_per_million": 2.0, "source": "--price"}


@pytest.mark.parametrize(
    ("prices", "told_by"),
    [
        ({"price": None}, "--price=IN,OUT"),
        ({"price": KNOWN, "verify_price": None}, "--verify_price=IN,OUT"),
        ({"price": None, "verify_price": KNOWN}, "--price=IN,OUT"),
        ({"price": None, "verify_price": None}, "--price=IN,OUT, --verify_price=IN,OUT"),
    ],
)
def test_it_names_the_option_that_tells_a_missing_price(prices: dict[str, Any], told_by: str) -> None:
    spent = {"prompt_tokens": 1_200, "output_tokens": 34, "cost_usd": None, **prices}
    text = f"1,234 tokens (1,200 of prompts, 34 of replies), at a price that is not known (tell it: {told_by})"
    assert tokens_paid_for(spent) == text
