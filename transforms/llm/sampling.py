"""The options that change how a model picks its words, and what an endpoint says that does not take one of them.

All of them are always sent: an endpoint that gets none takes its own (llama.cpp 0.8 for the temperature, vLLM what the
model's authors chose). One that an endpoint refuses is left out for the rest of the session, and each answer lists what
was left out, so that the manifest does not claim what was never sent.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Final

from textmint.transforms.core.identity import Part
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import STRUCTURE, filter_of, meaning_of

MAX_REPLY_BYTES: Final = 16_000_000
"""Of a reply, unless the user says otherwise: some hundred times what the longest models write at once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What a back end is asked to sample with. Back ends inherit it. A number that cannot be raises ValueError."""

    temperature: float = 1.0  # from 0 to 2
    top_p: float = 1.0  # share of the probability mass, above 0 and up to 1
    max_output_tokens: int | None = None  # of one reply; None: the endpoint's own limit
    structured_output: bool = True  # hold the reply to a JSON Schema where the endpoint can
    # of the body of one reply, decompressed; a larger one is refused. It changes no answer.
    max_reply_bytes: int = MAX_REPLY_BYTES

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature is a number from 0 to 2, not {self.temperature!r}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is a number above 0 and up to 1, not {self.top_p!r}")
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise ValueError(f"max_output_tokens is a number from 1 upwards, not {self.max_output_tokens!r}")
        if self.max_reply_bytes < 1:
            raise ValueError(f"max_reply_bytes is a number from 1 upwards, not {self.max_reply_bytes!r}")

    def parameters(self) -> dict[str, Part]:
        """Tells the options as they enter a fingerprint: as configured, whatever an endpoint refuses later."""
        return {
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "max_output_tokens": self.max_output_tokens,
            "structured_output": self.structured_output,
        }

    def neutral(self) -> frozenset[str]:
        """Names the options at a value that samples from the whole of what the model predicts."""
        return frozenset(name for name in ("temperature", "top_p") if getattr(self, name) == 1.0)


@dataclasses.dataclass(frozen=True, slots=True)
class _Option:
    """How errors name an option, in lower case, and what is said when it is left out."""

    names: re.Pattern[str]
    warning: str


OPTIONS: Final[Mapping[str, _Option]] = {
    "structured_output": _Option(
        STRUCTURE,
        "refuses structured output: going on without it, as with `structured_output: never` in --config",
    ),
    "max_output_tokens": _Option(
        re.compile(r"max_tokens|max_completion_tokens|max_?output_?tokens|max_new_tokens"),
        "knows the limit of output tokens by its other name only: going on with that",
    ),
    "send_seed": _Option(re.compile(r"\bseed\b"), "refuses a seed: going on without it"),
    "top_p": _Option(re.compile(r"\btop_?p\b"), "refuses top_p: going on at the model's own"),
    "temperature": _Option(re.compile(r"\btemperature\b"), "refuses the temperature: going on at the model's own"),
}
"""The options that an endpoint may refuse, in the order in which they are looked for. `send_seed` is the seed that each
request carries."""

_UNSUPPORTED: Final = re.compile(
    r"unsupported|(not|n't) (\w+ )?support|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|extra_forbidden|"
    r"not permitted|not allowed|not enabled|deprecated|no longer|only the default|"
    r"cannot (both|be (set|used|specified|combined))"
)
"""How it is said that an option itself is not wanted, and not merely its value ("this model supports at most 4096")."""


_OF_REQUEST: Final = frozenset({400, 404, 422, 500, 501, 502})
"""Statuses that may be about a part of the request; gateways give the 400 of those behind them as one of the others."""


def refused_option(fault: Fault, sent: Collection[str], neutral: Collection[str] = ()) -> str | None:
    """Finds which of the options that were sent an endpoint refuses; None: the fault is another one.

    A neutral option asks for nothing special. It is left out for any complaint that names it: TGI, for one, wants a
    top_p below 1, and means 1 where it gets none.
    """
    if fault.status not in _OF_REQUEST or filter_of(fault):
        return None
    meaning = meaning_of(fault)
    text = f"{fault.parameter} {fault.message.lower()} {fault.code.replace(fault.state.lower(), '')}"
    if meaning in ("key", "unpaid", "quota") or "json_validate_failed" in text:
        return None
    refuses = bool(_UNSUPPORTED.search(text))
    named = [option for option in OPTIONS if OPTIONS[option].names.search(text)]
    # "temperature and top_p cannot both be specified": what stands at its neutral value goes first.
    named.sort(key=lambda option: (option in ("temperature", "top_p"), option not in neutral))
    is_plain = fault.status in (400, 422)
    for option in named:
        if option in sent and (refuses or (is_plain and (option in neutral or option == "structured_output"))):
            return option
    if is_plain and refuses and not named and meaning == "refused" and "structured_output" in sent:
        return "structured_output"  # "not supported", and no word of what
    return None
