"""The option table: every option of `generate` as data. The parser, `--help`, the checks of single values and the
parameters of the Flex Template are made of it."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions
from textmint.transforms.core.attributes import CLARITIES, DIFFICULTIES, NUM_WORDS
from textmint.transforms.core.prompt_template import BRAINSTORM_VARIABLES, EXAMPLE_VARIABLES
from textmint.transforms.dataset.pages import NO_REPORT
from textmint.transforms.dedup.minhash import LEAST_THRESHOLD, TASK_THRESHOLD, THRESHOLD
from textmint.transforms.dedup.verdicts import DUPLICATE_CHECKS
from textmint.transforms.llm.reject_rate import MOST
from textmint.transforms.llm.sampling import MAX_REPLY_BYTES
from textmint.transforms.quality.checks import CHECKS, Checks


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that an option may be; `text` says which, after "it must"."""

    text: str
    holds: Callable[[float], bool]


AT_LEAST_ONE: Final = Range("be at least 1", lambda number: number >= 1)
ABOVE_ZERO: Final = Range("be above 0", lambda number: 0 < number < math.inf)
SHARE: Final = Range("be from 0 to 1", lambda number: 0 <= number <= 1)
TEMPERATURES: Final = Range("be from 0 to 2", lambda number: 0 <= number <= 2)
TOP_P: Final = Range("be above 0 and at most 1", lambda number: 0 < number <= 1)
SIMILARITY: Final = Range(f"be from {LEAST_THRESHOLD} to 1", lambda number: LEAST_THRESHOLD <= number <= 1)
THINKING: Final = Range("be -1 or more", lambda number: number >= -1)
INT64: Final = Range("fit 64 bits", lambda number: -(1 << 63) <= number < 1 << 63)


_Kind: TypeAlias = type[str] | type[int] | type[float] | type[bool]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of `generate`.

    Args:
      name: without dashes.
      help: what it does, in a sentence; "(default: ...)" only where `default` does not say it.
      type: str, int, float or bool. A bool is a switch: it may stand without a value, and is off by default.
      default: the value when nobody sets it.
      metavar: what help shows in place of the value.
      choices: the values that it may be; () where it takes others.
      range: of a number.
      config_only: whether it is read from the file of --config only; --help does not list it.
      group: one of GROUPS.
    """

    name: str
    help: str
    type: _Kind = str
    default: Any = None
    metavar: str = ""
    choices: tuple[str, ...] = ()
    range: Range | None = None
    config_only: bool = False
    group: str = ""

    @property
    def shown(self) -> str:
        """How a message names it: the flag, or the key where only a file of --config may set it."""
        return f"{self.name} in --config" if self.config_only else f"--{self.name}"

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return self.type is bool

    @property
    def help_with_default(self) -> str:
        """The help, with the default where there is one."""
        shown = not self.is_switch and self.default is not None and "(default: " not in self.help
        return f"{self.help} (default: {self.default})" if shown else self.help


def _text(name: str, metavar: str, help: str, default: str | None = None, **more: Any) -> Option:
    return Option(name, help, str, default, metavar, **more)


def _whole(name: str, help: str, default: int | None = None, range: Range | None = AT_LEAST_ONE, **more: Any) -> Option:
    return Option(name, help, int, default, "N", range=range, **more)


def _number(name: str, help: str, default: float | None, range: Range | None, **more: Any) -> Option:
    return Option(name, help, float, default, "X", range=range, **more)


def _switch(name: str, help: str) -> Option:
    return Option(name, help, bool, False)


_CHECKS: Final = Checks()
_OWN_TEMPLATE: Final = "(default: textmint's own)"

_TABLE: Final[Mapping[str, tuple[Option, ...]]] = {
    "data": (
        _text(
            "tasks",
            "PATTERN",
            "your own tasks instead of brainstormed ones: .txt (a task a line), .jsonl or .parquet (`task`, and if "
            "you like `labels`, `language`, `examples`), also .txt.gz and .jsonl.gz",
        ),
        _whole("task_requests", "brainstorm prompts; each brings about 20 tasks", 5),
        _whole("max_tasks", "keep at most N tasks (default: all)"),
        _whole("examples_per_task", "examples for each task whose file does not say how many", 3),
        _text(
            "language",
            "CHOICE",
            "a language, or several with optional weights: English:0.5,German:0.3,Thai; or xlm-r: the 100 of XLM-R, "
            "weighted as in arXiv 2401.00368 (default: English)",
        ),
        _text("difficulty", "CHOICE", f"one or several of: {', '.join(DIFFICULTIES)} (default: all, evenly)"),
        _text("clarity", "CHOICE", f"one or several of: {', '.join(CLARITIES)} (default: all, evenly)"),
        _text(
            "num_words",
            "CHOICE",
            f"one or several of: {', '.join(NUM_WORDS)}; or any: say nothing of length (default: all, evenly)",
        ),
        _text(
            "topics", "FILE", f"topics to brainstorm about, one a line; none: the paper's bare prompt {_OWN_TEMPLATE}"
        ),
        _text(
            "brainstorm_template",
            "FILE",
            f"a Jinja template for tasks; variables: {', '.join(BRAINSTORM_VARIABLES)} {_OWN_TEMPLATE}",
        ),
        _text(
            "example_template",
            "FILE",
            f"a Jinja template for examples; variables: {', '.join(EXAMPLE_VARIABLES)} {_OWN_TEMPLATE}",
        ),
        _text(
            "label_plan",
            "HOW",
            "free: the model chooses the labels of each text, as in the paper; planned: it is asked once a task for 2 "
            "to 20 labels, which are spread evenly. Labels in --tasks are used as they are",
            "free",
            choices=("free", "planned"),
        ),
        _whole("seed", "another seed gives other data", 42, INT64),
        _text("config", "FILE", "read options from a YAML file; flags win over it"),
    ),
    "quality": (
        _text(
            "checks",
            "LIST",
            "what an example must pass: all, none, or names joined by commas: "
            f"{', '.join((*CHECKS, *DUPLICATE_CHECKS))}. What fails becomes a reject with that name as its reason",
            "all",
        ),
        _number(
            "length_slack",
            "refuse a text this many times shorter or longer than num_words asks for; models count badly",
            _CHECKS.length_slack,
            None,
            config_only=True,
        ),
        _whole(
            "max_label_columns",
            "columns of the widest label; an East Asian character counts two",
            _CHECKS.max_label_columns,
            None,
            config_only=True,
        ),
        _number(
            "language_min_confidence",
            "how sure the language identifier must be to refuse a text",
            _CHECKS.language_min_confidence,
            None,
            config_only=True,
        ),
        _number(
            "near_duplicate_threshold",
            "two texts this alike are near duplicates: Jaccard similarity of their runs of three words, or of five "
            "characters where words are not spaced",
            THRESHOLD,
            SIMILARITY,
            config_only=True,
        ),
        _number(
            "task_near_duplicate_threshold",
            "the same for tasks, where one word can make another task",
            TASK_THRESHOLD,
            SIMILARITY,
            config_only=True,
        ),
        _switch(
            "verify",
            "ask which of its two labels fits each text; a row whose label loses is rejected as label_disputed. One "
            "more request an example",
        ),
        _text("verify_model", "NAME", "the model that --verify asks (default: --model)"),
        _text(
            "exclude",
            "PATTERN",
            "texts that no example may share, such as test splits of a benchmark: .txt (a text a line), .jsonl or "
            ".parquet (column `text`, or all that hold strings), also .gz of these",
        ),
    ),
    "model": (
        _text(
            "llm",
            "NAME",
            "who answers. gemini: Vertex AI, or the Gemini API with GEMINI_API_KEY; openai: any OpenAI-compatible "
            "endpoint, with OPENAI_API_KEY where it wants one; vertex-endpoint: a model deployed to a Vertex AI "
            "endpoint; offline: an embedded model to try the pipeline with, whose rows are not for training",
            "offline",
            choices=("gemini", "openai", "vertex-endpoint", "offline"),
        ),
        _text("model", "NAME", "the model's name, as the endpoint knows it"),
        _text("base_url", "URL", "the endpoint, such as http://127.0.0.1:8000/v1 for vLLM"),
        _text(
            "api_key_secret",
            "VERSION",
            "the key of openai or the Gemini API in Secret Manager, where each worker process fetches it: "
            "projects/PROJECT/secrets/NAME/versions/NUMBER. Vertex AI needs none",
        ),
        _text("vertex_project", "ID", "the Google Cloud project of the model (default: Beam's --project)"),
        _text("vertex_location", "REGION", "where the model is (default: Beam's --region, else global for Gemini)"),
        _text("vertex_endpoint", "ID", "of --llm=vertex-endpoint: a number, or projects/.../endpoints/..."),
        _number("temperature", "0 to 2", 1.0, TEMPERATURES),
        _number("top_p", "above 0, up to 1", 1.0, TOP_P),
        _whole("max_output_tokens", "tokens of a reply at most (default: the model's own limit)"),
        _whole(
            "max_reply_bytes",
            "a reply that is larger, decompressed, is rejected unread",
            MAX_REPLY_BYTES,
            config_only=True,
        ),
        _whole("thinking_budget", "of Gemini: tokens for thinking; 0: none, -1: it decides", None, THINKING),
        _text(
            "safety_threshold",
            "NAME",
            "of Gemini: when a harmful text is blocked, such as BLOCK_NONE (default: the model's own)",
            choices=("BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE", "OFF"),
        ),
        _text(
            "service_tier",
            "NAME",
            "of Gemini: flex (slower, cheaper), standard or priority (default: the account's own)",
            choices=("flex", "standard", "priority"),
        ),
        _text(
            "structured_output",
            "WHEN",
            "auto: ask for JSON of the right structure where the endpoint has that; never: the prompt alone",
            "auto",
            choices=("auto", "never"),
            config_only=True,
        ),
        _whole("max_concurrency", "requests in flight in one worker process", 64),
        _number("requests_per_minute", "of one worker process at most (default: no cap)", None, ABOVE_ZERO),
        _number("tokens_per_minute", "the same for tokens of prompts and replies (default: no cap)", None, ABOVE_ZERO),
        _number("request_timeout", "seconds that one try may take", 120.0, ABOVE_ZERO, config_only=True),
        _whole("max_attempts", "tries of a request that fails or times out", 5, config_only=True),
        _whole("parse_attempts", "how often a prompt is asked at most when its reply cannot be read", 2),
        _number(
            "max_reject_rate",
            "end the run, and keep what was paid for, when more than this share of the last 500 replies of a worker "
            "process was refused; 1: never",
            MOST,
            SHARE,
        ),
        _switch(
            "retry_rejects",
            "ask again where an earlier run of the refresh could not read the reply. Requests that failed without a "
            "reply are sent again in any case",
        ),
        _number("offline_fault_rate", "share of bad replies that the embedded model plays, to see rejects", 0.0, SHARE),
    ),
    "spending": (
        _whole(
            "target_examples",
            "publish exactly N examples that have passed everything: more are asked for, in waves, until there are so "
            "many; what is over stays in the ledger",
        ),
        _whole("max_waves", "waves of --target_examples at most (default: 8)"),
        _text(
            "price",
            "IN,OUT",
            "USD per million tokens of prompts and of replies, such as 0.40,1.60 (default: what genai-prices knows of "
            "the model, with the extra `prices`)",
        ),
        _text("verify_price", "IN,OUT", "the same of --verify_model"),
        _number(
            "max_cost",
            "spend no more than X USD on the refresh, by what the ledger says, over all its runs and workers; what "
            "there is then is published",
            None,
            ABOVE_ZERO,
        ),
        _whole("max_tokens", "the same in tokens of prompts and replies"),
    ),
    "output": (
        _text("output", "DIR", "the dataset folder: a local path, gs://, s3://, ...", "output"),
        _text(
            "refresh",
            "NAME",
            "the name that this run's data stands under, such as 2026-11-23, or today: the day of the launch in UTC. "
            "A run of the same name replaces it; another name adds what the dataset does not have yet",
            "base",
        ),
        _switch("recompute", "run even where the data is complete and nothing has changed; no reply is paid for twice"),
        _switch("rebuy", "go on where replies that were paid for are missing in the ledger, and pay for them again"),
        _switch("replace", "publish the run even where it has fewer examples than the last one of the refresh"),
        _text("license", "ID", "the license on the dataset card, such as cc-by-4.0 (default: unknown)"),
        _text(
            "push_to_hub",
            "OWNER/NAME",
            "upload the complete dataset to Hugging Face, with HF_TOKEN from the environment; needs the extra `hub`",
        ),
        _switch("keep_raw", "keep each reply as it came, in column raw_reply"),
        _switch(NO_REPORT, "write no report.html"),
    ),
}

GROUPS: Final = tuple(_TABLE)
"""The groups of the table, in its order."""
OPTIONS: Final = tuple(dataclasses.replace(each, group=group) for group, each_of in _TABLE.items() for each in each_of)
"""Every option, in the order of the table."""
BY_NAME: Final = {each.name: each for each in OPTIONS}
"""The same by name."""


_View = TypeVar("_View", bound=PipelineOptions)


class GenerateOptions(PipelineOptions):
    """The options of `generate` as Beam's parser takes them.

    Each view is made once. Views share their values, and Beam, which asks for one several times for each transform,
    would build and run a parser for each (`PipelineOptions.view_as`, 2.77).
    """

    def view_as(self, cls: type[_View]) -> _View:
        """Returns these options as another class of options shows them."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        view: _View = views[cls]
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_views"}

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        for each in OPTIONS:
            settings: Mapping[str, Any] = {"type": each.type, "default": each.default, "metavar": each.metavar}
            parser.add_argument(f"--{each.name}", help=each.help, **(_SWITCH if each.is_switch else settings))


def _true_or_false(text: str) -> bool:
    word = text.casefold()
    if word not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return word == "true"


_SWITCH: Final[Mapping[str, Any]] = {
    "nargs": "?",  # a template gives every option a value
    "const": True,
    "default": False,
    "type": _true_or_false,
}
