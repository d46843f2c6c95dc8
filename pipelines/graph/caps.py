"""The caps of a run: what it may spend of, and what the ledger says its refresh has spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from textmint.pipelines.graph.waves import PILOT_SHARE, Cap, Seen
from textmint.pipelines.options.config import Config
from textmint.transforms.core.prompt_template import (
    BRAINSTORM_VARIABLES,
    LABEL_SET_VARIABLES,
    PLANNED_VARIABLES,
    VERIFY_VARIABLES,
)
from textmint.transforms.dataset.accounting import Counts, Meter
from textmint.transforms.dataset.spending import Spending, spending_of
from textmint.transforms.ledger.compact import TokensPaid
from textmint.transforms.llm.base import fingerprint_of
from textmint.transforms.llm.brake import Brake, Limit, planned_by_kind
from textmint.transforms.llm.prices import Price, usd

_PICODOLLARS: Final = 10**12
_BYTES_PER_TOKEN: Final = 3
_OUTPUT_TOKENS: Final = {"TaskGenerate": 600, "PlanLabels": 200, "LLMCall": 1_000, "VerifyLabels": 200}
"""What a reply is thought to take before any came: some three times what usual models write."""


def caps_of(config: Config) -> list[Cap]:
    """Makes the caps of a run. One on the cost of what costs nothing is none."""
    steps = ["LLMCall"]
    steps += ["TaskGenerate"] * (config.tasks is None) + ["PlanLabels"] * config.plans_labels
    steps += ["VerifyLabels"] * (config.verify_backend is not None)
    estimates = {step: _estimate(config, step) for step in steps}
    caps = []
    if config.max_cost is not None:
        most = int(Decimal(repr(config.max_cost)) * _PICODOLLARS)
        prices = {step: config.verify_price if step == "VerifyLabels" else config.price for step in steps}
        weights = {step: _weights(price) for step, price in prices.items() if price}
        caps.append(Cap(f"--max_cost={config.max_cost:.12g}", most, Meter(name="cost", weights=weights), estimates))
    if config.max_tokens is not None:
        meter = Meter(name="tokens", weights=dict.fromkeys(steps, (1, 1)))
        caps.append(Cap(f"--max_tokens={config.max_tokens}", config.max_tokens, meter, estimates))
    return [cap for cap in caps if any(map(sum, cap.meter.weights.values()))]


def _weights(price: Price) -> tuple[int, int]:
    return price.prompt, price.output


def _estimate(config: Config, step: str) -> tuple[int, int]:
    """Estimates the tokens of a prompt of a step and of its reply, before any was asked."""
    template, variables = {
        "TaskGenerate": (config.brainstorm_template, BRAINSTORM_VARIABLES),
        "PlanLabels": (config.label_set_template, LABEL_SET_VARIABLES),
        "LLMCall": (config.example_template, PLANNED_VARIABLES),
        "VerifyLabels": (config.verify_template, VERIFY_VARIABLES),
    }[step]
    output = config.typed["max_output_tokens"] or _OUTPUT_TOKENS[step]
    return len(template.render(variables).encode()) // _BYTES_PER_TOKEN + 1, min(output, 4 * _OUTPUT_TOKENS[step])


def describe_caps(caps: Sequence[Cap], config: Config, paid: TokensPaid) -> dict[str, Any]:
    """Describes the caps of a run, and what its refresh has spent of them, for the manifest."""
    described = {}
    for cap in caps:
        taken = spent(cap, config, paid)
        is_money = cap.meter.name == "cost"
        described[f"max_{cap.meter.name}"] = {
            "cap": usd(cap.most) if is_money else cap.most,
            "spent": usd(taken) if is_money else taken,
        }
    return described


def spent(cap: Cap, config: Config, paid: TokensPaid) -> int:
    """Returns what the refresh has spent of a cap by its ledger. Replies of other models count as those of the dearest
    that the run asks, since nobody may know what they cost."""
    of_model: dict[str, tuple[int, int]] = {}
    if config.verify_backend is not None:
        of_model[fingerprint_of(config.verify_backend)] = cap.meter.weights["VerifyLabels"]
    of_model[fingerprint_of(config.backend)] = cap.meter.weights["LLMCall"]
    dearest = tuple(map(max, zip(*of_model.values(), strict=True)))
    return sum(
        weights[0] * prompt + weights[1] * output
        for fingerprint, (_, prompt, output) in paid.items()
        for weights in [of_model.get(fingerprint, dearest)]
    )


def spending_between(before: TokensPaid, after: TokensPaid, config: Config) -> Spending:
    """Returns what a run has paid between two looks at the ledger of its refresh."""
    prices = {fingerprint_of(config.backend): config.price}
    if config.verify_backend is not None:
        prices.setdefault(fingerprint_of(config.verify_backend), config.verify_price)
    total = Spending()
    for fingerprint, (_, prompt, output) in after.items():
        _, had_prompt, had_output = before.get(fingerprint, (0, 0, 0))
        tokens = {"prompt": prompt - had_prompt, "output": output - had_output}
        total += spending_of({"tokens": tokens}, prices.get(fingerprint))
    return total


def braked(
    config: Config, caps: Sequence[Cap], left: Sequence[int], counts: Counts, units: Mapping[str, int]
) -> Config:
    """Gives each process of a pass the limits at which it asks no more.

    Args:
      config: of the pass.
      caps: of the run.
      left: of each cap.
      counts: of the pass before.
      units: how many prompts of a step the pass is to ask.
    """
    in_flight = config.settings.limits.max_concurrency
    limits = []
    for cap, most in zip(caps, left, strict=True):
        by_step, largest = {}, 0
        for step, weights in cap.meter.weights.items():
            seen, more = Seen.of(counts, step, cap.meter), units.get(step, 0)
            planned = PILOT_SHARE * cap.estimate(step)
            if seen.units and step != "TaskGenerate":
                planned = -(-seen.bound(more, 0) // more) if more else seen.largest
            by_step[step] = (*weights, planned)
            largest = max(largest, seen.largest or planned)
        limits.append(
            Limit(option=cap.option, weights=planned_by_kind(by_step), slack=in_flight * largest, most=max(0, most))
        )
    return dataclasses.replace(config, settings=dataclasses.replace(config.settings, brake=Brake(limits=tuple(limits))))
