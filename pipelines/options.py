"""Options: what the user typed -> a frozen, validated Config. Whatever is wrong is said here, before anything is
paid for or written."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import glob
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any, Final

import yaml
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import create_runner

from pipelines import dataflow_options
from pipelines.backends import SAFETY_THRESHOLDS, SERVICE_TIERS, backend_of
from pipelines.option_error import OptionError
from pipelines.push_to_hub import check_push
from pipelines.refresh_label import label_of
from transforms import files, lease, ledger
from transforms.attributes import CLARITIES, DIFFICULTIES, NUM_WORDS, Attributes, ChoiceError, parse_attributes
from transforms.elements import Kind
from transforms.exclusions import EXCLUSION_SUFFIXES, ExclusionFileError, read_exclusions
from transforms.judging import CONTAMINATED, DUPLICATE_CHECKS
from transforms.llm.base import Backend
from transforms.llm.engine import Settings
from transforms.llm.limiter import Limits
from transforms.near_duplicates import LEAST_THRESHOLD, TASK_THRESHOLD, THRESHOLD
from transforms.prompt_template import (
    BRAINSTORM_VARIABLES,
    EXAMPLE_VARIABLES,
    PLANNED_VARIABLES,
    PromptTemplate,
    TemplateError,
    Variables,
)
from transforms.quality import CHECKS, Checks, parse_checks
from transforms.schema import KINDS
from transforms.tasks import TASK_SUFFIXES, TaskFileError, read_tasks, read_topics
from transforms.write_dataset import MANIFEST, STAGING

LOCAL_RUNNER: Final = "FnApiRunner"
"""Beam's in-process engine. `DirectRunner` stands for three of them, and tries Prism first, a binary that it downloads
without a timeout; a laptop behind a firewall would hang."""

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABELS: Final = "--labels"
_LABEL_PLAN: Final = "--label_plan"  # what it is called inside, see `_own_labels`
_CHECKS: Final = Checks()
_LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,39}")
_INT64: Final = 1 << 63
_AT_LEAST_ONE: Final = (
    "task_requests",
    "max_tasks",
    "examples_per_task",
    "max_concurrency",
    "max_attempts",
    "parse_attempts",
)


class OptionParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without 300 lines of usage before it."""

    def error(self, message: str) -> Any:
        """Raises an OptionError with the message."""
        raise OptionError(message)


class GenerateOptions(PipelineOptions):
    """The options of the main job, in Beam's flag style."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        data = parser.add_argument_group("data")
        data.add_argument(
            "--tasks",
            metavar="PATTERN",
            help="your own tasks, instead of brainstormed ones: a file or pattern; .txt (a task a line), .jsonl or "
            ".parquet (with a column `task`), .txt.gz, .jsonl.gz",
        )
        data.add_argument(
            "--task_requests", type=int, default=5, metavar="N", help="brainstorm prompts; each brings about 20 tasks"
        )
        data.add_argument("--max_tasks", type=int, metavar="N", help="keep at most N tasks (default: all)")
        data.add_argument("--examples_per_task", type=int, default=3, metavar="N", help="examples asked for a task")
        data.add_argument(
            "--language",
            metavar="CHOICE",
            help="a language, or several with optional weights: English:0.5,German:0.3,Thai; or xlm-r: the 100 of "
            "XLM-R, weighted as in arXiv 2401.00368 (default: English)",
        )
        data.add_argument(
            "--difficulty",
            metavar="CHOICE",
            help=f"one or several of: {', '.join(DIFFICULTIES)} (default: all, evenly)",
        )
        data.add_argument(
            "--clarity", metavar="CHOICE", help=f"one or several of: {', '.join(CLARITIES)} (default: all, evenly)"
        )
        data.add_argument(
            "--num_words",
            metavar="CHOICE",
            help=f"one or several of: {', '.join(NUM_WORDS)} (default: all, evenly); or any: say nothing of length",
        )
        data.add_argument(
            "--topics",
            metavar="FILE",
            help="fields of life, a line each, that brainstorm rounds are steered to; none: the paper's bare prompt "
            "(default: the list that comes with textmint)",
        )
        data.add_argument(
            "--brainstorm_template",
            metavar="FILE",
            help=f"your own Jinja template; variables: {', '.join(BRAINSTORM_VARIABLES)}",
        )
        data.add_argument(
            "--example_template",
            metavar="FILE",
            help=f"your own Jinja template; variables: {', '.join(EXAMPLE_VARIABLES)}",
        )
        data.add_argument(
            _LABEL_PLAN,
            default="free",
            metavar="HOW",
            help="free: the model chooses the labels of each text, as in the paper; planned: it is asked once a task "
            "for 2 to 20 labels, which are spread evenly over the task's examples",
        )
        data.add_argument("--seed", type=int, default=42, metavar="N", help="another seed, other data")
        data.add_argument("--config", metavar="FILE", help="read options from a YAML file; flags win over it")

        quality = parser.add_argument_group("quality")
        quality.add_argument(
            "--checks",
            default="all",
            metavar="LIST",
            help="what an example must pass: all, none, or names joined by commas: "
            f"{', '.join((*CHECKS, *DUPLICATE_CHECKS))}. What is refused becomes a reject whose reason is the check's "
            "name",
        )
        quality.add_argument(
            "--length_slack",
            type=float,
            default=_CHECKS.length_slack,
            metavar="X",
            help="refuse a text this many times shorter or longer than num_words asks for; models count badly",
        )
        quality.add_argument(
            "--max_label_columns",
            type=int,
            default=_CHECKS.max_label_columns,
            metavar="N",
            help="widest label; an East Asian character counts two",
        )
        quality.add_argument(
            "--language_min_confidence",
            type=float,
            default=_CHECKS.language_min_confidence,
            metavar="X",
            help="how sure the identifier must be to refuse a text for its language; below it nothing is said",
        )
        quality.add_argument(
            "--near_duplicate_threshold",
            type=float,
            default=THRESHOLD,
            metavar="X",
            help="two texts this alike, or more, are near copies: Jaccard similarity of their runs of three words, or "
            "of five characters where words are not spaced",
        )
        quality.add_argument(
            "--task_near_duplicate_threshold",
            type=float,
            default=TASK_THRESHOLD,
            metavar="X",
            help="the same for tasks, where one word can make another task",
        )
        quality.add_argument(
            "--verify",
            action="store_true",
            help="ask which of its two labels fits each text; where the answer is not the label, the row is rejected "
            "as label_disputed. One more request an example",
        )
        quality.add_argument(
            "--verify_model",
            metavar="NAME",
            help="the model that --verify asks, of the same --llm and endpoint (default: --model)",
        )
        quality.add_argument(
            "--exclude",
            metavar="PATTERN",
            help="texts that no example may share, such as the test splits of a benchmark: a file or pattern; .txt (a "
            "text a line), .jsonl or .parquet (column `text`, or all that hold strings), or .gz of these",
        )

        model = parser.add_argument_group("model")
        model.add_argument(
            "--llm",
            default="offline",
            metavar="NAME",
            help="who answers. gemini: Gemini on Vertex AI, or the Gemini API with GEMINI_API_KEY; openai: any "
            "OpenAI-compatible chat endpoint, with OPENAI_API_KEY where it wants one; vertex-endpoint: a model "
            "deployed to a Vertex AI endpoint; offline: an embedded author for trying the pipeline, whose rows are not "
            "for training",
        )
        model.add_argument("--model", metavar="NAME", help="the model's name, as the endpoint knows it")
        model.add_argument("--base_url", metavar="URL", help="the endpoint, such as http://127.0.0.1:8000/v1 for vLLM")
        model.add_argument(
            "--vertex_project", metavar="ID", help="Google Cloud project of the model (default: Beam's --project)"
        )
        model.add_argument(
            "--vertex_location",
            metavar="REGION",
            help="region of the model, or global (default: Beam's --region, else global for Gemini)",
        )
        model.add_argument(
            "--vertex_endpoint", metavar="ID", help="of --llm=vertex-endpoint: a number or projects/.../endpoints/..."
        )
        model.add_argument("--temperature", type=float, default=1.0, metavar="X", help="0 to 2")
        model.add_argument("--top_p", type=float, default=1.0, metavar="X", help="above 0, up to 1")
        model.add_argument(
            "--max_output_tokens",
            type=int,
            metavar="N",
            help="tokens of a reply at most (default: the model's own limit)",
        )
        model.add_argument(
            "--thinking_budget", type=int, metavar="N", help="of Gemini: tokens for thinking; 0: none, -1: it decides"
        )
        model.add_argument(
            "--safety_threshold",
            metavar="NAME",
            help=f"of Gemini, for every kind of harm: {', '.join(SAFETY_THRESHOLDS)} (default: the model's own)",
        )
        model.add_argument(
            "--service_tier",
            metavar="NAME",
            help=f"of Gemini: {', '.join(SERVICE_TIERS)} (default: the account's own); flex is slower and cheaper",
        )
        model.add_argument(
            "--structured_output",
            default="auto",
            metavar="WHEN",
            help="auto: ask for JSON of the right structure where the endpoint has that; never: the prompt alone",
        )
        model.add_argument(
            "--max_concurrency", type=int, default=64, metavar="N", help="requests in flight in one worker process"
        )
        model.add_argument(
            "--requests_per_minute", type=float, metavar="X", help="of one worker process at most (default: no cap)"
        )
        model.add_argument(
            "--tokens_per_minute",
            type=float,
            metavar="X",
            help="of one worker process at most, prompts and replies together (default: no cap)",
        )
        model.add_argument(
            "--request_timeout", type=float, default=120.0, metavar="SECONDS", help="that one try may take"
        )
        model.add_argument(
            "--max_attempts", type=int, default=5, metavar="N", help="tries of a request that fails or times out"
        )
        model.add_argument(
            "--parse_attempts",
            type=int,
            default=2,
            metavar="N",
            help="times that a prompt is asked at most because its reply could not be read",
        )
        model.add_argument(
            "--retry_rejects",
            action="store_true",
            help="ask again for examples and tasks whose replies could not be read in an earlier run of the label; "
            "without it their paid replies stay rejected. What failed without a reply is asked for again in any case",
        )
        model.add_argument(
            "--offline_fault_rate",
            type=float,
            default=0.0,
            metavar="X",
            help="share of bad replies that the embedded author plays, 0 to 1, to see what becomes of them",
        )

        output = parser.add_argument_group("output")
        output.add_argument(
            "--output", default="output", metavar="DIR", help="the dataset folder: a local path, gs://, s3://, ..."
        )
        output.add_argument(
            "--refresh",
            default="base",
            metavar="LABEL",
            help="the label that this run's data stands under, such as 2026-11-23, or today: the day of the launch in "
            "UTC; a run of the same label replaces it, another label adds to the dataset what it does not have yet",
        )
        output.add_argument(
            "--recompute",
            action="store_true",
            help="run even where the label's data is complete and nothing has changed that decides a row; it pays for "
            "nothing twice all the same",
        )
        output.add_argument(
            "--license",
            metavar="ID",
            help="the license that the dataset card names, such as cc-by-4.0 (default: unknown)",
        )
        output.add_argument(
            "--push_to_hub",
            metavar="OWNER/NAME",
            help="upload the dataset when it is complete, with HF_TOKEN from the environment; needs the extra `hub`",
        )
        output.add_argument("--keep_raw", action="store_true", help="keep each reply as it came, in column raw_reply")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What a run is to do, checked.

    Args:
      output: an absolute local path, or a URL.
      tasks: pattern of the user's files; None: tasks are brainstormed.
      topics: of the brainstorm rounds, in the order of their file; () for none.
      expected_tasks: a guess where tasks are brainstormed, else how many the files hold.
      plans_labels: whether each task is asked for its labels.
      verify_backend: who verifies labels; None: nobody.
      checks: of one example by itself.
      duplicate_checks: those that compare examples, of `judging.DUPLICATE_CHECKS`.
      exclude: pattern of the files of excluded texts; None: there are none.
      typed: the options as given and defaulted, for the manifest.
    """

    output: str
    refresh: str
    keep_raw: bool
    tasks: str | None
    task_requests: int
    max_tasks: int | None
    examples_per_task: int
    attributes: Attributes
    topics: tuple[str, ...]
    brainstorm_template: PromptTemplate
    example_template: PromptTemplate
    seed: int
    backend: Backend
    settings: Settings
    parse_attempts: int
    retry_rejects: bool
    recompute: bool
    plans_labels: bool
    label_set_template: PromptTemplate
    verify_backend: Backend | None
    verify_template: PromptTemplate
    checks: Checks
    duplicate_checks: tuple[str, ...]
    near_duplicate_threshold: float
    task_near_duplicate_threshold: float
    exclude: str | None
    push_to_hub: str | None
    expected_tasks: int
    typed: Mapping[str, Any]

    @property
    def expected_examples(self) -> int:
        """-> a guess at the number of examples; it decides how work is divided, and nothing in a row."""
        return min(self.expected_tasks, self.max_tasks or self.expected_tasks) * self.examples_per_task

    @property
    def example_kind(self) -> Kind:
        """-> what the prompts of examples ask for."""
        return "planned_example" if self.plans_labels else "example"

    @property
    def optional_steps(self) -> tuple[str, ...]:
        """-> which of `accounting.OPTIONAL` the graph has."""
        return ("PlanLabels",) * self.plans_labels + ("VerifyLabels",) * (self.verify_backend is not None)

    @property
    def ledger(self) -> str:
        """-> the folder of the replies that were paid for."""
        return files.join(self.output, ledger.FOLDER)


_TASKS_PER_REQUEST: Final = 20  # that the brainstorm prompt asks for


def parse(argv: Sequence[str]) -> tuple[Config, PipelineOptions]:
    """The command line, without the program's name -> the run's Config, and Beam's options for the runner.

    Raises:
      OptionError: with everything that is wrong, a line each.
    """
    parser = _full_parser(OptionParser)
    flags = list(dataflow_options.plain_flags(_own_labels([*_config_flags(argv), *argv]), parser._actions))
    known, unknown = parser.parse_known_args(flags)
    options = GenerateOptions(flags)
    if unknown and not dataflow_options.is_template(options):  # whose launcher has flags of its own
        raise OptionError(*(_unknown(argument, parser) for argument in unknown))
    typed = {action.dest: getattr(known, action.dest) for action in _own_actions() if action.dest != "config"}
    typed["refresh"] = label_of(typed["refresh"])
    standard = options.view_as(StandardOptions)
    if (standard.runner or "direct").rpartition(".")[2].lower() in ("direct", "directrunner", "switchingdirectrunner"):
        standard.runner = LOCAL_RUNNER
    _check_runner(standard.runner)
    found = dataflow_options.problems_of(typed, options)
    is_offline = dataflow_options.is_dry_run(options) or bool(found)
    config = _validated(typed, options.view_as(GoogleCloudOptions), found, offline=is_offline)
    return config, options


def help_text(prog: str) -> str:
    """-> every option, ours in their groups, then Beam's."""
    parser = _full_parser(OptionParser, prog=prog, description=_DESCRIPTION, add_help=False)
    ours: list[Any] = []
    beam: list[Any] = []
    for group in parser._action_groups:
        (ours if group.title in ("data", "quality", "model", "output") else beam).append(group)
    formatter = parser._get_formatter()
    formatter.add_text(parser.description)
    for group in [*ours, *beam]:
        if group._group_actions:
            formatter.start_section(
                group.title if group in ours else "Beam (every option of Apache Beam passes through)"
            )
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
    text = formatter.format_help().replace(_LABEL_PLAN, _LABELS.ljust(len(_LABEL_PLAN)), 1)
    return f"usage: {prog} [--option=value ...]\n\n{text}"


_DESCRIPTION: Final = (
    "Mints text classification data: brainstorms tasks, asks the model for examples of each, and writes Parquet."
)


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        silent = action.default is None or action.default == argparse.SUPPRESS or isinstance(action.default, bool)
        shown = not silent and "default" not in text.lower()
        return f"{text} (default: %(default)s)" if shown else text


def _full_parser(base: type[argparse.ArgumentParser], **settings: Any) -> argparse.ArgumentParser:
    """A parser that knows our options and all of Beam's, which come from the subclasses of PipelineOptions."""
    from apache_beam.options.pipeline_options import _BeamArgumentParser

    class Parser(base, _BeamArgumentParser):  # type: ignore[misc, valid-type]
        pass

    parser = Parser(allow_abbrev=False, formatter_class=_HelpFormatter, **{"add_help": False, **settings})
    for options in {str(cls): cls for cls in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    return parser


def _own_actions() -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    GenerateOptions._add_argparse_args(parser)
    return parser._actions


def _check_runner(name: str) -> None:
    try:
        create_runner(name)
    except Exception as error:  # an unknown name, or one whose packages are not installed
        raise OptionError(f"--runner={name}: {reason_of(error)}") from None


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {argument!r}: options are written --name=value"
    name = " ".join(argument.split("=", 1)[0].split())
    own = [option for action in _own_actions() for option in action.option_strings]
    every = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(name, [*own, *every], n=1)
    return f"unknown option {name}" + (f": did you mean {near[0]}?" if near else "; see --help")


def _config_flags(argv: Sequence[str]) -> Iterator[str]:
    """The flags that the file of --config stands for; none where there is no --config."""
    finder = OptionParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(argv)[0].config
    if path is None:
        return
    try:
        values = yaml.safe_load(_read_text("--config", path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise OptionError(f"--config {path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise OptionError(f"--config {path}: expected `option: value` lines")
    for name, value in values.items():
        if name == "config":
            raise OptionError(f"--config {path}: a config file cannot name another one")
        yield from _flags_of(f"--config {path}: {name}", f"--{name}", value)


def _flags_of(where: str, flag: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    elif isinstance(value, bool):
        if any(flag in action.option_strings and action.nargs != 0 for action in _own_actions()):
            word = "true" if value else "false"
            raise OptionError(f"{where}: is {word}, which is no value for it; put quotes around words such as `no`")
        if value:  # no option of ours is on by default
            yield flag
    elif isinstance(value, (dict, list)):
        yield f"{flag}={','.join(_choices_of(where, value))}"
    elif isinstance(value, (str, int, float)) or hasattr(value, "isoformat"):  # a bare YAML date is a date
        yield f"{flag}={value}"
    else:
        raise OptionError(f"{where}: a {type(value).__name__} is no value for an option")


def _choices_of(where: str, value: dict[Any, Any] | list[Any]) -> Iterator[str]:
    """`{English: 0.5, German: 0.5}`, `[English, German]` or `[English: 0.5, German]` -> what a flag would list."""
    for item in value.items() if isinstance(value, dict) else value:
        if isinstance(item, dict):
            yield from _choices_of(where, item)
        elif isinstance(item, tuple) and isinstance(item[1], (str, int, float)):
            yield f"{item[0]}:{item[1]}"
        elif isinstance(item, (str, int, float)):
            yield str(item)
        else:
            raise OptionError(f"{where}: expected names, each with an optional weight, not {item!r:.80}")


def _read_text(option: str, path: str) -> str:
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return str(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise OptionError(f"{option} {path}: not UTF-8 (byte {error.start})") from None
    except Exception as error:  # each file system raises its own
        raise OptionError(f"{option} {path}: cannot be read: {reason_of(error)}") from None


def reason_of(error: BaseException) -> str:
    """An exception -> what a person needs of it, in one line."""
    if isinstance(error, BeamIOError) and error.exception_details:
        error = next((e for e in error.exception_details.values() if isinstance(e, BaseException)), error)
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    return " ".join(f"{error}".split())[:300] or type(error).__name__


def _validated(
    typed: Mapping[str, Any], cloud: GoogleCloudOptions, found: Sequence[str] = (), *, offline: bool = False
) -> Config:
    """Checks all that can be checked without a run. Problems are collected; the output folder is tried last, so that
    nothing is written when anything else is wrong.

    Args:
      found: problems that there are already.
      offline: touches no file of a run, all of which lie on an object store.
    """
    problems = list(found)

    def check(build: Callable[[], Any]) -> Any:
        try:
            return build()
        except OptionError as error:
            problems.extend(error.problems)
            return None

    check(lambda: _check_numbers(typed))
    can_sample = check(lambda: _check_sampling(typed))
    attributes = check(lambda: _attributes(typed))
    brainstorm = check(lambda: _template(typed, "brainstorm_template", "brainstorm", BRAINSTORM_VARIABLES))
    plans = bool(check(lambda: _plans_labels(typed)))
    stem, variables = ("classify_planned", PLANNED_VARIABLES) if plans else ("classify", EXAMPLE_VARIABLES)
    example = check(lambda: _template(typed, "example_template", stem, variables))
    topics = check(lambda: _topics(typed["topics"]))
    given_tasks = 0 if offline else check(lambda: _check_tasks(typed["tasks"]))
    checks = check(lambda: _checks(typed))
    if not offline:
        check(lambda: _check_exclusions(typed))
    check(lambda: _check_push(typed))
    backend: Any = check(lambda: backend_of(typed, cloud)) if can_sample else None  # it would say the same again
    verify_backend: Any = check(lambda: _verify_backend(typed, cloud, backend)) if backend else None
    if problems:
        raise OptionError(*problems)
    output = typed["output"].rstrip("/") if offline else _output(typed["output"])
    return Config(
        output=output,
        attributes=attributes,
        brainstorm_template=brainstorm,
        example_template=example,
        topics=topics,
        backend=backend,
        settings=Settings(
            limits=Limits(
                max_concurrency=typed["max_concurrency"],
                requests_per_minute=typed["requests_per_minute"],
                tokens_per_minute=typed["tokens_per_minute"],
            ),
            request_timeout=typed["request_timeout"],
            max_attempts=typed["max_attempts"],
        ),
        plans_labels=plans,
        label_set_template=_shipped_template("label_set"),
        verify_backend=verify_backend,
        verify_template=_shipped_template("verify"),
        checks=checks[0],
        duplicate_checks=checks[1],
        exclude=as_pattern(typed["exclude"]) if typed["exclude"] else None,
        expected_tasks=given_tasks or typed["task_requests"] * _TASKS_PER_REQUEST,
        typed=typed,
        tasks=as_pattern(typed["tasks"]) if typed["tasks"] else None,
        **{
            name: typed[name]
            for name in (
                "refresh",
                "keep_raw",
                "task_requests",
                "max_tasks",
                "examples_per_task",
                "seed",
                "parse_attempts",
                "retry_rejects",
                "recompute",
                "near_duplicate_threshold",
                "task_near_duplicate_threshold",
                "push_to_hub",
            )
        },
    )


def _check_sampling(typed: Mapping[str, Any]) -> bool:
    problems = []
    if not 0 <= typed["temperature"] <= 2:
        problems.append(f"--temperature is {typed['temperature']}; it must be from 0 to 2")
    if not 0 < typed["top_p"] <= 1:
        problems.append(f"--top_p is {typed['top_p']}; it must be above 0 and at most 1")
    if typed["max_output_tokens"] is not None and typed["max_output_tokens"] < 1:
        problems.append(f"--max_output_tokens is {typed['max_output_tokens']}; it must be at least 1")
    if problems:
        raise OptionError(*problems)
    return True


def _check_numbers(typed: Mapping[str, Any]) -> None:
    problems = [
        f"--{name} is {typed[name]}; it must be at least 1"
        for name in _AT_LEAST_ONE
        if typed[name] is not None and typed[name] < 1
    ]
    problems += [
        f"--{name} is {typed[name]:g}; it must be above 0"
        for name in ("requests_per_minute", "tokens_per_minute", "request_timeout")
        if typed[name] is not None and not 0 < typed[name] < math.inf
    ]
    if not -_INT64 <= typed["seed"] < _INT64:
        problems.append(f"--seed is {typed['seed']}; it must fit 64 bits")
    if not _LABEL.fullmatch(typed["refresh"]):
        problems.append(
            f"--refresh is {typed['refresh']!r}; a label has 1 to 64 letters, digits, dots, dashes and underscores, "
            "and begins with a letter or digit"
        )
    if problems:
        raise OptionError(*problems)


def _checks(typed: Mapping[str, Any]) -> tuple[Checks, tuple[str, ...]]:
    problems = []
    for name in ("near_duplicate_threshold", "task_near_duplicate_threshold"):
        if not LEAST_THRESHOLD <= typed[name] <= 1:
            problems.append(f"--{name} is {typed[name]}; it must be from {LEAST_THRESHOLD} to 1")
    names: tuple[str, ...] = ()
    checks = _CHECKS
    try:
        names = parse_checks(typed["checks"], known=(*CHECKS, *DUPLICATE_CHECKS))
    except ValueError as error:
        problems.append(f"--checks: {error}")
    try:
        settings = {name: typed[name] for name in ("length_slack", "max_label_columns", "language_min_confidence")}
        checks = Checks(names=tuple(name for name in names if name in CHECKS), **settings)
    except ValueError as error:
        problems.append(f"--{error}")
    if problems:
        raise OptionError(*problems)
    if typed["llm"] == "offline":  # its author writes English, whatever language is asked for
        checks = checks.without("wrong_language")
    return checks, tuple(name for name in names if name in DUPLICATE_CHECKS)


def _check_exclusions(typed: Mapping[str, Any]) -> None:
    pattern = typed["exclude"]
    if pattern is None:
        return
    with contextlib.suppress(ValueError):  # which is told with the other checks
        if CONTAMINATED not in parse_checks(typed["checks"], known=(*CHECKS, *DUPLICATE_CHECKS)):
            raise OptionError(f"--exclude {pattern}: --checks={typed['checks']} leaves {CONTAMINATED} out; add it")
    _count_once("--exclude", pattern, read_exclusions, ExclusionFileError, EXCLUSION_SUFFIXES)


def _check_push(typed: Mapping[str, Any]) -> None:
    if typed["push_to_hub"] is not None:
        check_push(typed["push_to_hub"], os.environ)
    if typed["license"] is not None and not _LICENSE.fullmatch(typed["license"]):
        raise OptionError(f"--license is {typed['license']!r}; name one by its identifier, such as cc-by-4.0")


def _attributes(typed: Mapping[str, Any]) -> Attributes:
    names = ("language", "difficulty", "clarity", "num_words")
    try:
        return parse_attributes(**{name: typed[name] for name in names})
    except ChoiceError as error:
        raise OptionError(str(error)) from None


def _own_labels(flags: Sequence[str]) -> Iterator[str]:
    """Flags -> the same with our `--labels` under the name that the parser has for it. Beam has an option of that name
    too, for the labels of a Dataflow job: `--labels=key=value`, `--labels={...}`, or `--label`."""
    words = iter(flags)
    for flag in words:
        name, equals, value = flag.partition("=")
        if name == _LABELS and not equals:
            value = next(words, "")
        if name == _LABELS and "=" not in value and not value.startswith("{"):
            yield f"{_LABEL_PLAN}={value}"
        elif name == _LABELS:
            yield f"{name}={value}"
        else:
            yield flag


def _plans_labels(typed: Mapping[str, Any]) -> bool:
    how = typed["label_plan"]
    if how not in ("free", "planned"):
        near = difflib.get_close_matches(how, ("free", "planned"), n=1)
        hint = f": did you mean {near[0]}?" if near else ";"
        raise OptionError(f"{_LABELS}={how} is not known{hint} There are free, planned, and key=value for Dataflow.")
    return bool(how == "planned")


def _verify_backend(typed: Mapping[str, Any], cloud: GoogleCloudOptions, backend: Backend) -> Backend | None:
    if typed["verify_model"] is None:
        return backend if typed["verify"] else None
    if not typed["verify"]:
        raise OptionError("--verify_model without --verify: add it, or leave both out")
    return backend_of({**typed, "model": typed["verify_model"]}, cloud)


def _shipped_template(stem: str) -> PromptTemplate:
    return PromptTemplate(stem, (resources.files("templates") / f"{stem}.jinja2").read_text("utf-8"))


def _template(typed: Mapping[str, Any], option: str, shipped: str, variables: Variables) -> PromptTemplate:
    path = typed[option]
    if path is None:
        return _shipped_template(shipped)
    template = PromptTemplate(Path(path).name.split(".")[0], _read_text(f"--{option}", path))
    samples = [variables]
    if option == "brainstorm_template" and typed["topics"] == "none":
        samples.append(dict.fromkeys(variables))
    try:
        for sample in samples:
            template.check(sample)
    except TemplateError as error:
        raise OptionError(f"--{option} {path}: {error}") from None
    return template


def _topics(path: str | None) -> tuple[str, ...]:
    if path == "none":
        return ()
    if path is None:
        return read_topics((resources.files("templates") / "topics.txt").read_text("utf-8").splitlines())
    topics = read_topics(_read_text("--topics", path).splitlines())
    if not topics:
        raise OptionError(f"--topics {path}: holds no topic; write one a line, or --topics=none")
    return topics


def as_pattern(path: str) -> str:
    """What was typed -> a pattern: a file that has just this name is meant, though the name holds wildcards."""
    if "://" in path or not os.path.isfile(path) or glob.escape(path) == path:
        return path
    return glob.escape(os.path.abspath(path))  # Beam looks for wildcards in absolute paths only


def _check_tasks(pattern: str | None) -> int:
    """A pattern of the user's tasks -> how many there are; 0 without a pattern."""
    if pattern is None:
        return 0
    found = _count_once("--tasks", pattern, read_tasks, TaskFileError, TASK_SUFFIXES)
    if not found:
        raise OptionError(f"--tasks {pattern}: holds no task; write one a line")
    return found


def _count_once(
    option: str,
    pattern: str,
    read: Callable[[IO[bytes], str], Iterator[object]],
    refusal: type[ValueError],
    suffixes: tuple[str, ...],
) -> int:
    """Reads the files of a pattern once from end to end, holding one item at a time -> how many items there are.

    Args:
      option: that names the pattern, for messages.
      read: an open file and its path -> the items.
      refusal: what `read` raises where a file cannot be used.
      suffixes: the endings that a file may have.
    """
    try:
        found_files = FileSystems.match([as_pattern(pattern)])[0].metadata_list
    except Exception as error:
        raise OptionError(f"{option} {pattern}: cannot be read: {reason_of(error)}") from None
    if not found_files:
        raise OptionError(f"{option} {pattern}: there is no such file")
    found = 0
    for metadata in found_files:
        path = metadata.path
        if not path.lower().endswith(suffixes):
            raise OptionError(f"{option} {path}: is not one of {', '.join(suffixes)}")
        try:
            with FileSystems.open(path) as file:
                found += sum(1 for _ in read(file, path))
        except refusal as error:
            raise OptionError(f"{option} {path}: {error}") from None
        except Exception as error:
            raise OptionError(f"{option} {path}: cannot be read: {reason_of(error)}") from None
    return found


def _output(path: str) -> str:
    """The folder as typed -> an absolute path or URL that can be written to. It is tried, and left as it was."""
    if not path.strip():
        raise OptionError("--output is empty; name a folder")
    return _remote_output(path) if "://" in path else _local_output(path)


def _local_output(path: str) -> str:
    made: list[Path] = []
    try:
        folder = Path(path).expanduser().absolute()
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for inside in (folder, *(folder / name for name in (STAGING, ledger.FOLDER, lease.FOLDER, *KINDS))):
            if inside is folder or inside.exists():
                probe = inside / f".write-test-{os.getpid()}"
                probe.touch()
                probe.unlink()
        if (folder / MANIFEST).is_dir():
            raise OSError(f"{MANIFEST} is a folder")
    except (OSError, ValueError, RuntimeError) as error:
        for parent in made:
            if parent.is_dir():
                parent.rmdir()
        raise OptionError(f"--output {path}: cannot be written: {reason_of(error)}; name a folder that can") from None
    return str(folder)


def _remote_output(path: str) -> str:
    """Writes a small file and deletes it. Clients of object stores wait for minutes where they find no credentials, so
    it has so many seconds."""
    output = path.rstrip("/")
    if found := re.search(r"[*?\[\]]", output):
        raise OptionError(f"--output {path}: Beam takes {found[0]!r} for a wildcard; name a folder without one")
    failure: list[BaseException | None] = []

    def attempt() -> None:
        try:
            probe = files.join(output, STAGING, f"write-test-{os.getpid()}")
            files.write_file(probe, b"textmint")
            files.delete_files([probe])
            failure.append(None)
        except BaseException as error:  # each file system raises its own
            failure.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_REMOTE_SECONDS)
    if not failure:
        problem = f"no answer within {_REMOTE_SECONDS:.0f} s"
    elif failure[0] is not None:
        problem = reason_of(failure[0])
    else:
        return output
    raise OptionError(f"--output {path}: cannot be written: {problem}; check the path and your credentials for it")


_REMOTE_SECONDS: Final = 45.0
