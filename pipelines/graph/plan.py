"""The plan of a run: what it will ask, and what that takes, by arithmetic on what is known before it asks.

Figures that the ledger holds go before estimates, and each says which it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from textmint.transforms.core.elements import Kind
from textmint.transforms.llm.prices import Price

WHAT: Final[Mapping[Kind, str]] = {
    "task_list": "task lists",
    "label_set": "label sets",
    "example": "examples",
    "planned_example": "examples",
    "choice": "verifications",
}
"""What prompts of each kind ask for."""
STEPS: Final[Mapping[str, str]] = {
    "TaskGenerate": "task lists",
    "PlanLabels": "label sets",
    "LLMCall": "examples",
    "VerifyLabels": "verifications",
}
"""What each step that asks a model asks for."""
CHARACTERS_A_TOKEN: Final = 4
"""OpenAI's rule of thumb for English: help.openai.com/en/articles/4936856."""
TASKS_A_REQUEST: Final = 20
"""That the brainstorm prompt asks for."""
ASSUMED_LATENCY: Final = 2.0
"""Seconds that a reply is assumed to take where none was seen."""
ENOUGH: Final = 5
"""Replies that a measured figure rests on at least."""
PROSE_BYTES: Final = 0.56
"""Of a character of prose in Parquet with zstd: `python -m benchmarks.volumes --rows=16000`; so are the next three."""
LEDGER_BYTES: Final = 39
EXAMPLE_BYTES: Final = 86
TRIPLET_BYTES: Final = 62
FILE_BYTES: Final = 4_000
"""Of a file beside its rows: schema and footer."""

_WORDS: Final[Mapping[str, int]] = {
    "less than 10": 8,
    "at least 10": 18,
    "at least 50": 60,
    "at least 100": 120,
    "at least 200": 240,
    "any": 60,
}
"""The length of the texts that models write when they are asked for `num_words`: of a lower bound a fifth more."""
_TOKENS_A_WORD: Final = 1.5  # of English: 6 characters with the space
_FOREIGN_TOKENS_A_WORD: Final = 2.5  # of other languages, by and large
_TRUST: Final = 2  # how many replies of its own a stratum needs to count as much as what the others lead to expect


def text_tokens(num_words: str, language: str) -> float:
    """Estimates the tokens of a text of this length."""
    return _WORDS[num_words] * (_TOKENS_A_WORD if language == "English" else _FOREIGN_TOKENS_A_WORD)


# --- what is known


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the ledger holds of a model's replies to prompts of one kind.

    Args:
      replies: how many.
      firsts: of these, to first attempts.
      latency_ms: of all.
      tokens: of each stratum, such as texts of one length, the number of replies and the tokens of prompts and replies.
    """

    replies: int = 0
    firsts: int = 0
    latency_ms: int = 0
    tokens: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)

    @property
    def is_enough(self) -> bool:
        """Whether figures may rest on them."""
        return self.replies >= ENOUGH


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Requests whose texts have one length.

    Args:
      share: of all requests of the kind.
      prompt: tokens that a prompt is estimated to have.
      output: tokens that a reply is estimated to have.
    """

    share: float
    prompt: float
    output: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One kind of request, and what is known of it.

    Args:
      what: what is asked for, such as "examples".
      prompts: how many there are in all.
      is_exact: whether that is known, not estimated.
      answered: how many of them the ledger answers.
      strata: by name; their shares add up to 1.
      seen: what the ledger holds of such replies.
      price: of the model that is asked; None: nobody knows.
      latency: seconds that a reply takes where the ledger says nothing.
      latency_is_known: whether it is that without the ledger.
    """

    what: str
    prompts: int
    is_exact: bool
    answered: int = 0
    strata: Mapping[str, Stratum]
    seen: Seen = dataclasses.field(default_factory=Seen)
    price: Price | None = None
    latency: float = ASSUMED_LATENCY
    latency_is_known: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a run may ask; the caps are those of one process."""

    max_concurrency: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    processes: int = 1


# --- what follows


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one kind of request takes.

    Args:
      what: what is asked for.
      prompts: how many there are.
      prompts_are_exact: whether that is known, not estimated.
      answered: how many of them the ledger answers.
      requests: how many are sent, with those that are asked again since a reply cannot be read.
      prompt_tokens: of all requests.
      output_tokens: of their replies.
      reply_tokens: of one reply.
      measured_on: how many replies of the ledger the tokens rest on; 0: they are estimated.
      cost: picodollars; None: the price is unknown.
      price: of the model that is asked.
      latency: seconds that a reply takes.
      latency_is: "measured", "known" or "assumed".
      seconds: that it takes.
      limit: what keeps it from being faster.
    """

    what: str
    prompts: int
    prompts_are_exact: bool
    answered: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    reply_tokens: float
    measured_on: int
    cost: int | None
    price: Price | None
    latency: float
    latency_is: str
    seconds: float
    limit: str


def line_of(asked: Asked, pace: Pace) -> Line:
    """Works out what one kind of request takes."""
    seen = asked.seen
    to_ask = max(0, asked.prompts - asked.answered)
    again = seen.replies / seen.firsts if seen.is_enough and seen.firsts else 1.0
    requests = math.ceil(to_ask * again)
    prompt, output = tokens_of(asked)
    prompt_tokens, output_tokens = round(requests * prompt), round(requests * output)
    latency, latency_is = asked.latency, "known" if asked.latency_is_known else "assumed"
    if seen.is_enough:
        latency, latency_is = seen.latency_ms / seen.replies / 1_000, "measured"
    seconds, limit = duration(requests, prompt + output, latency, pace)
    return Line(
        what=asked.what,
        prompts=asked.prompts,
        prompts_are_exact=asked.is_exact,
        answered=asked.answered,
        requests=requests,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        reply_tokens=output,
        measured_on=seen.replies if seen.is_enough else 0,
        cost=asked.price.cost(prompt_tokens, output_tokens) if asked.price else (None if requests else 0),
        price=asked.price,
        latency=latency,
        latency_is=latency_is,
        seconds=seconds,
        limit=limit,
    )


def tokens_of(asked: Asked) -> tuple[float, float]:
    """Returns the tokens of one prompt and of its reply: measured where there are enough replies, else estimated."""
    tokens = asked.seen.tokens if asked.seen.is_enough else {}
    strata = asked.strata
    return (
        _mean({name: (number, prompt) for name, (number, prompt, _) in tokens.items()}, strata, lambda of: of.prompt),
        _mean({name: (number, output) for name, (number, _, output) in tokens.items()}, strata, lambda of: of.output),
    )


def _mean(
    measured: Mapping[str, tuple[int, int]], strata: Mapping[str, Stratum], estimate: Callable[[Stratum], float]
) -> float:
    """Estimates the mean from replies that need not have the strata's shares: ten replies may by chance hold twice as
    many long texts as short ones (post-stratification, with a ratio estimate for strata of which few were seen).

    Args:
      measured: of each stratum, how many were seen, and their tokens.
      strata: by name.
      estimate: of one in a stratum.
    """
    known = {name: counted for name, counted in measured.items() if name in strata}
    expected = sum(number * estimate(strata[name]) for name, (number, _) in known.items())
    if measured and not expected:
        return sum(tokens for _, tokens in measured.values()) / sum(number for number, _ in measured.values())
    ratio = sum(tokens for _, tokens in known.values()) / expected if known else 1.0
    total = 0.0
    for name, stratum in strata.items():
        number, tokens = known.get(name, (0, 0))
        total += stratum.share * (tokens + _TRUST * ratio * estimate(stratum)) / (number + _TRUST)
    return total


def duration(requests: int, tokens: float, latency: float, pace: Pace) -> tuple[float, str]:
    """Returns how many seconds requests take, and the option that keeps them from being faster.

    Args:
      requests: how many.
      tokens: of one, with its reply.
      latency: seconds that a reply takes.
      pace: the caps.
    """
    rates = {"max_concurrency": pace.max_concurrency / latency if latency else math.inf}  # requests a second
    if pace.requests_per_minute is not None:
        rates["requests_per_minute"] = pace.requests_per_minute / 60
    if pace.tokens_per_minute is not None and tokens:
        rates["tokens_per_minute"] = pace.tokens_per_minute / 60 / tokens
    limit = min(rates, key=lambda name: rates[name])
    # The last request begins when all others have been sent, and takes its time all the same.
    return (max(latency, requests / (rates[limit] * pace.processes)) if requests else 0.0), limit


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a run writes.

    Args:
      examples: rows that are kept, by the acceptance.
      acceptance: the share of drafts that become rows.
      acceptance_is_measured: whether the refresh's last run says so; otherwise all are assumed to.
      files: of the dataset.
      bytes: of these.
      ledger_bytes: of the replies that are paid for.
    """

    examples: int
    acceptance: float
    acceptance_is_measured: bool
    files: int
    bytes: int
    ledger_bytes: int


def output_of(
    lines: Sequence[Line],
    tasks: int,
    acceptance: float | None,
    *,
    target: int | None = None,
    bytes_a_row: Mapping[str, float],
    shard_bytes: int,
    plans_labels: bool,
) -> Output:
    """Works out what a run writes.

    Args:
      lines: of the plan; one is of examples.
      tasks: how many there are.
      acceptance: the share of drafts that become rows; None: not known.
      target: how many rows are published at most; None: all.
      bytes_a_row: by dataset, where it is known.
      shard_bytes: of a data file, at most.
      plans_labels: whether label sets are written too.
    """
    (drafts,) = (line for line in lines if line.what == "examples")
    kept = round(drafts.prompts * (1.0 if acceptance is None else acceptance))
    kept = min(kept, target) if target is not None else kept
    prose = drafts.reply_tokens * CHARACTERS_A_TOKEN * PROSE_BYTES
    estimates = {"examples": EXAMPLE_BYTES + prose, "triplets": TRIPLET_BYTES + prose, "rejects": EXAMPLE_BYTES + prose}
    rows = {"examples": kept, "triplets": kept, "rejects": drafts.prompts - kept, "tasks": tasks}
    if plans_labels:
        rows["label_sets"] = tasks
    sizes = {kind: number * bytes_a_row.get(kind, estimates.get(kind, EXAMPLE_BYTES)) for kind, number in rows.items()}
    files = sum(max(1, math.ceil(size / shard_bytes)) for size in sizes.values())
    replies = sum(line.requests for line in lines)
    characters = sum(line.output_tokens for line in lines) * CHARACTERS_A_TOKEN
    return Output(
        examples=kept,
        acceptance=1.0 if acceptance is None else acceptance,
        acceptance_is_measured=acceptance is not None,
        files=files,
        bytes=round(sum(sizes.values()) + FILE_BYTES * files),
        ledger_bytes=round(replies * LEDGER_BYTES + characters * PROSE_BYTES),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CapLeft:
    """What a cap lets a run spend.

    Args:
      option: as the user gave it.
      unit: "usd" or "tokens".
      most: that the refresh may spend; like the next two in picodollars, or in tokens.
      spent: that the refresh has spent, by the ledger.
      planned: that the plan takes.
    """

    option: str
    unit: str
    most: int
    spent: int
    planned: int

    @property
    def share(self) -> float:
        """The share of what is planned that the cap pays for, by and large: a run keeps clear of its cap."""
        return min(1.0, max(0, self.most - self.spent) / self.planned) if self.planned else 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will ask, and what that takes.

    Args:
      lines: by kind of request, in the order in which they are asked.
      pace: how fast it may ask.
      output: what it writes.
      target: how many examples are wanted; None: all that are kept.
      caps: on what may be spent.
      notes: what a person should know of the figures, a sentence each.
    """

    lines: tuple[Line, ...]
    pace: Pace
    output: Output
    target: int | None = None
    caps: tuple[CapLeft, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """Requests that are sent."""
        return sum(line.requests for line in self.lines)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts that are sent."""
        return sum(line.prompt_tokens for line in self.lines)

    @property
    def output_tokens(self) -> int:
        """Tokens of the replies."""
        return sum(line.output_tokens for line in self.lines)

    @property
    def cost(self) -> int | None:
        """Picodollars; None: the price of a model that is asked is unknown."""
        costs = [line.cost for line in self.lines]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def seconds(self) -> float:
        """That it takes to ask for all of it, one kind after the other."""
        return sum(line.seconds for line in self.lines)
