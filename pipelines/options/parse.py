"""Options: what the user typed -> a frozen, validated Config. Whatever is wrong is said here, before anything is
paid for or written."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import glob
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any, Final

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from textmint.pipelines.hub import check_push
from textmint.pipelines.options.backends import Workers, backend_of, check_secret
from textmint.pipelines.options.config import ConfigFileError, read_config
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.nearest import hint, nearest
from textmint.pipelines.options.output_folder import check_input, check_name, check_scheme, checked_output, read_input
from textmint.pipelines.options.refresh_label import label_of
from textmint.pipelines.options.table import GROUPS, LABEL_PLAN, LABELS, GenerateOptions, is_switch, own_actions
from textmint.pipelines.runners import dataflow_options
from textmint.pipelines.runners.choose import settle_runner
from textmint.transforms.core.attributes import ATTRIBUTES, Attributes, ChoiceError, parse_attributes
from textmint.transforms.core.elements import Kind
from textmint.transforms.core.prompt_template import (
    BRAINSTORM_VARIABLES,
    LABELLED_VARIABLES,
    MADE_UP_TASKS,
    PLANNED_VARIABLES,
    PromptTemplate,
    TemplateError,
    Variables,
    shipped_template,
)
from textmint.transforms.core.tasks import SETTINGS, TASK_SUFFIXES, TaskFileError, TaskSurvey, read_topics
from textmint.transforms.dataset.card import LICENSE
from textmint.transforms.dedup.exclusions import EXCLUSION_SUFFIXES, ExclusionFileError, read_exclusions
from textmint.transforms.dedup.minhash import LEAST_THRESHOLD
from textmint.transforms.dedup.verdicts import CONTAMINATED, DUPLICATE_CHECKS
from textmint.transforms.ledger import table as ledger
from textmint.transforms.llm.base import Backend
from textmint.transforms.llm.descriptors import most_connections
from textmint.transforms.llm.engine import Settings
from textmint.transforms.llm.limiter import Limits
from textmint.transforms.llm.urls import shown_url
from textmint.transforms.quality.checks import CHECKS, Checks, parse_checks
from textmint.transforms.storage import files

REFRESH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a label of --refresh looks like."""
LABEL_PLANS: Final = ("free", "planned")
"""What --labels may be."""
_CHECKS: Final = Checks()
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What a run is to do, checked.

    Args:
      output: an absolute local path, or a URL.
      tasks: pattern of the user's files; None: tasks are brainstormed.
      topics: of the brainstorm rounds, in the order of their file; () for none.
      labelled_template: of examples whose label the model is to choose from those that the user gives the task.
      expected_tasks: a guess where tasks are brainstormed, else how many the files hold.
      own_tasks: how many of these say themselves how many examples they want.
      own_examples: how many examples those want.
      warnings: what the user should know and need not change, a line each.
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
    labelled_template: PromptTemplate
    seed: int
    backend: Backend
    settings: Settings
    parse_attempts: int
    retry_rejects: bool
    recompute: bool
    rebuy: bool
    replace: bool
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
    own_tasks: int
    own_examples: int
    warnings: tuple[str, ...]
    typed: Mapping[str, Any]

    @property
    def expected_examples(self) -> int:
        """-> a guess at the number of examples; it decides how work is divided, and nothing in a row."""
        tasks = min(self.expected_tasks, self.max_tasks or self.expected_tasks)
        all_examples = (self.expected_tasks - self.own_tasks) * self.examples_per_task + self.own_examples
        return math.ceil(all_examples * tasks / self.expected_tasks)

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


_LOG: Final = logging.getLogger("textmint")
_TASKS_PER_REQUEST: Final = 20  # that the brainstorm prompt asks for


def parse(argv: Sequence[str], *, of_a_run: bool = True) -> tuple[Config, PipelineOptions]:
    """Reads and checks the command line.

    Args:
      argv: it, without the program's name.
      of_a_run: False where they are those of one step, which says nothing of what other steps are given.

    Returns:
      The run's Config, and Beam's options for the runner.

    Raises:
      OptionError: with everything that is wrong, a line each.
    """
    flags = list(_own_labels([*_config_flags(argv), *argv]))
    for option, flag in zip(["", *flags], flags, strict=False):
        name, equals, value = flag.partition("=")
        is_named = flag.startswith("--")
        named = (name if is_named else option).replace(LABEL_PLAN, LABELS)
        check_name(named or "argument", value if is_named and equals else flag)
    if empty := [flag for flag in flags if re.fullmatch("--[^=]+=--", flag)]:  # which argparse takes for no value
        names = (flag.removesuffix("=--").replace(LABEL_PLAN, LABELS) for flag in empty)
        raise OptionError(*(f"argument {name}: expected one argument" for name in names))
    parser = _full_parser(OptionParser)
    flags = list(dataflow_options.plain_flags(flags, parser._actions))
    known, unknown = parser.parse_known_args(flags)
    options = GenerateOptions(flags)
    if unknown and not dataflow_options.is_template(options):  # whose launcher has flags of its own
        raise OptionError(*(_unknown(argument, parser) for argument in unknown))
    typed = {action.dest: getattr(known, action.dest) for action in own_actions() if action.dest != "config"}
    typed["refresh"] = label_of(typed["refresh"])
    _check_paths(typed)
    settle_runner(options)
    found = dataflow_options.problems_of(typed, options)
    is_offline = dataflow_options.is_dry_run(options) or bool(found)
    FileSystems.set_options(options)  # whose credentials they name, also before there is a pipeline
    if of_a_run:
        found += _language_problems(typed)
    config = _validated(typed, options.view_as(GoogleCloudOptions), _workers(options), found, offline=is_offline)
    return config, options


_PATHS: Final = ("tasks", "topics", "brainstorm_template", "example_template", "exclude", "output")


def _check_paths(typed: Mapping[str, Any]) -> None:
    """Checks that each path is on a file system that can be used at all."""
    problems: list[str] = []
    for name in _PATHS:
        try:
            check_scheme(f"--{name}", typed[name] or "")
        except OptionError as error:
            problems += error.problems
    if problems:
        raise OptionError(*problems)


def _workers(options: PipelineOptions) -> Workers:
    """Beam's options -> where its engine runs our steps: the rules of its portable runners."""
    name = options.view_as(StandardOptions).runner.rpartition(".")[2].lower().removesuffix("runner")
    environment = (options.view_as(PortableOptions).environment_type or "").lower()
    if name in ("fnapi", "bundlebaseddirect"):
        return "here"
    if name == "dataflow":
        return "containers"
    if not environment and (
        name == "prism"
        or (name == "flink" and options.view_as(FlinkRunnerOptions).flink_master in ("[auto]", "[local]"))
        or (name == "spark" and options.view_as(SparkRunnerOptions).spark_master_url.startswith("local"))
    ):
        environment = "loopback"
    if environment in ("", "docker", "beam:env:docker:v1"):
        return "containers"
    return "here" if environment == "loopback" else "elsewhere"


def help_text(prog: str) -> str:
    """-> every option, ours in their groups, then Beam's."""
    parser = _full_parser(OptionParser, prog=prog, description=_DESCRIPTION, add_help=False)
    ours: list[Any] = []
    beam: list[Any] = []
    for group in parser._action_groups:
        (ours if group.title in GROUPS else beam).append(group)
    formatter = parser._get_formatter()
    formatter.add_text(parser.description)
    for group in [*ours, *beam]:
        if group._group_actions:
            formatter.start_section(
                group.title if group in ours else "Beam (every option of Apache Beam passes through)"
            )
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
    text = formatter.format_help().replace(LABEL_PLAN, LABELS.ljust(len(LABEL_PLAN)), 1)
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


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {shown_url(argument)!r}: options are written --name=value"
    name = " ".join(argument.split("=", 1)[0].split())
    own = [option for action in own_actions() for option in action.option_strings]
    every = [option for action in parser._actions for option in action.option_strings]
    return f"unknown option {name}" + (hint(name, [*own, *every]) or "; see --help")


def _config_flags(argv: Sequence[str]) -> Iterator[str]:
    """The flags that the file of --config stands for; none where there is no --config."""
    finder = OptionParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append", default=[])
    paths = finder.parse_known_args(argv)[0].config
    if not paths:
        return
    if len(paths) > 1:
        raise OptionError("--config is given more than once; put all options into one file")
    (path,) = paths
    check_name("--config", path)
    check_scheme("--config", path)
    try:
        values = read_config(_read_text("--config", path))
    except ConfigFileError as error:
        raise OptionError(f"--config {path}: {error}") from None
    dests = {name: action.dest for action in _full_parser(OptionParser)._actions for name in action.option_strings}
    seen: dict[str, str] = {}
    for name, value in values.items():
        if name in ("config", "help"):
            what = "name another one" if name == "config" else "ask for help"
            raise OptionError(f"--config {path}: a config file cannot {what}")
        flag = f"--{name.replace('-', '_')}"
        option = dests.get(LABEL_PLAN if flag == LABELS else flag, flag)
        if option in seen:
            raise OptionError(f"--config {path}: {seen[option]} and {name} are one option; leave one of them out")
        seen[option] = name
        yield from _flags_of(f"--config {path}: {name}", f"--{name}", value)


def _flags_of(where: str, flag: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    elif isinstance(value, bool):
        if any(flag in action.option_strings and not is_switch(action) for action in own_actions()):
            raise _bare_word(where, value)
        if value:  # no option of ours is on by default
            yield flag
    elif isinstance(value, (dict, list)):
        yield f"{flag}={','.join(_choices_of(where, value))}"
    elif isinstance(value, str):
        yield f"{flag}={value}"
    else:
        raise OptionError(f"{where}: a {type(value).__name__} is no value for an option")


def _choices_of(where: str, value: dict[Any, Any] | list[Any]) -> Iterator[str]:
    """`{English: 0.5, German: 0.5}`, `[English, German]` or `[English: 0.5, German]` -> what a flag would list."""
    for item in value.items() if isinstance(value, dict) else value:
        parts = item if isinstance(item, tuple) else (item,)
        if isinstance(item, dict):
            yield from _choices_of(where, item)
        elif all(isinstance(part, str) for part in parts):
            yield ":".join(parts)
        elif bools := [part for part in parts if isinstance(part, bool)]:
            raise _bare_word(where, bools[0])
        else:
            raise OptionError(f"{where}: expected names, each with an optional weight, not {item!r:.80}")


def _bare_word(where: str, value: bool) -> OptionError:
    word = "true" if value else "false"
    return OptionError(f"{where}: is {word}, which is no value for it; put quotes around words such as `no`")


def _read_text(option: str, path: str) -> str:
    try:
        return read_input(option, path).decode("utf-8-sig")
    except OptionError:
        raise
    except UnicodeDecodeError as error:
        raise OptionError(f"{option} {path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise _unreadable(option, path, error) from None


def _unreadable(option: str, path: str, error: BaseException) -> OptionError:
    reason = reason_of(error)
    if "://" in path:
        reason = f"{reason.rstrip('.')}; check the path, and that the credentials here may read it"
    return OptionError(f"{option} {path}: cannot be read: {reason}")


def _is_remote(pattern: str | None) -> bool:
    return pattern is not None and not files.is_local(pattern)


def _validated(
    typed: Mapping[str, Any],
    cloud: GoogleCloudOptions,
    workers: Workers,
    found: Sequence[str] = (),
    *,
    offline: bool = False,
) -> Config:
    """Checks all that can be checked without a run. Problems are collected; the key is looked for only when there are
    none, and the output folder is tried last, so that nothing is written when anything else is wrong.

    Args:
      found: problems that there are already.
      offline: touches nothing on an object store.
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
    choices = {name: [value for value, _ in getattr(attributes, name).values] for name in ATTRIBUTES if attributes}
    brainstorm = check(lambda: _template(typed, "brainstorm_template", "brainstorm", BRAINSTORM_VARIABLES))
    plans = bool(check(lambda: _plans_labels(typed)))
    stem, variables = ("classify_planned", PLANNED_VARIABLES) if plans else ("classify", LABELLED_VARIABLES)
    example = check(lambda: _template(typed, "example_template", stem, variables, choices))
    topics = check(lambda: _topics(typed["topics"]))
    survey = TaskSurvey()
    if not (offline and _is_remote(typed["tasks"])):
        check(lambda: _check_tasks(typed["tasks"], survey))
    checks = check(lambda: _checks(typed))
    check(lambda: _check_languages(typed, survey))
    if survey.labelled and example and checks:
        check(lambda: _check_labels(typed, survey, example, checks[0]))
    if not (offline and _is_remote(typed["exclude"])):
        check(lambda: _check_exclusions(typed))
    check(lambda: _check_push(typed))
    # Where sampling is wrong, a back end would say the same again.
    backend: Any = check(lambda: backend_of(typed, cloud, workers)) if can_sample else None
    verify_backend: Any = check(lambda: _verify_backend(typed, cloud, workers, backend)) if backend else None
    if backend is not None and workers == "here":
        check(lambda: _check_descriptors(typed, backend, verify_backend))
    if problems:
        raise OptionError(*problems)
    if typed["api_key_secret"] is not None and not offline:
        check_secret(typed["api_key_secret"], workers)
    output = typed["output"].rstrip("/") if offline else checked_output(typed["output"])
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
            max_reject_rate=typed["max_reject_rate"],
        ),
        plans_labels=plans,
        label_set_template=shipped_template("label_set"),
        verify_backend=verify_backend,
        verify_template=shipped_template("verify"),
        checks=checks[0],
        duplicate_checks=checks[1],
        exclude=as_pattern(typed["exclude"]) if typed["exclude"] else None,
        labelled_template=example if typed["example_template"] else shipped_template("classify_labels"),
        expected_tasks=survey.tasks or typed["task_requests"] * _TASKS_PER_REQUEST,
        own_tasks=survey.own_tasks,
        own_examples=survey.own_examples,
        warnings=tuple(_warnings(typed, survey)),
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
                "rebuy",
                "replace",
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
    if typed["max_reply_bytes"] < 1:
        problems.append(f"--max_reply_bytes is {typed['max_reply_bytes']}; it must be at least 1")
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
    if not 0 <= typed["max_reject_rate"] <= 1:
        problems.append(f"--max_reject_rate is {typed['max_reject_rate']}; it must be from 0 to 1")
    if not -_INT64 <= typed["seed"] < _INT64:
        problems.append(f"--seed is {typed['seed']}; it must fit 64 bits")
    if not REFRESH.fullmatch(typed["refresh"]):
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
    return checks, tuple(name for name in names if name in DUPLICATE_CHECKS)


def _check_exclusions(typed: Mapping[str, Any]) -> None:
    pattern = typed["exclude"]
    if pattern is None:
        return
    with contextlib.suppress(ValueError):  # which is told with the other checks
        if CONTAMINATED not in parse_checks(typed["checks"], known=(*CHECKS, *DUPLICATE_CHECKS)):
            raise OptionError(f"--exclude {pattern}: --checks={typed['checks']} leaves {CONTAMINATED} out; add it")
    if not _count_once("--exclude", pattern, read_exclusions, ExclusionFileError, EXCLUSION_SUFFIXES):
        raise OptionError(f"--exclude {pattern}: holds no text, so it would guard nothing; write one a line")


def _check_push(typed: Mapping[str, Any]) -> None:
    if typed["push_to_hub"] is not None:
        check_push(typed["push_to_hub"], os.environ)
    if typed["license"] is not None and not LICENSE.fullmatch(typed["license"]):
        raise OptionError(
            f"--license is {typed['license']!r}; name one by its identifier in small letters, such as cc-by-4.0"
        )


def _attributes(typed: Mapping[str, Any]) -> Attributes:
    names = ("language", "difficulty", "clarity", "num_words")
    try:
        return parse_attributes(**{name: typed[name] for name in names})
    except ChoiceError as error:
        raise OptionError(str(error)) from None


def _language_problems(typed: Mapping[str, Any]) -> Iterator[str]:
    """Tells of languages that the model cannot write."""
    if typed["llm"] != "offline":
        return
    from textmint.transforms.llm.offline.backend import LANGUAGE, writes

    with contextlib.suppress(OptionError):  # which is told with the other attributes
        foreign = [name for name, _ in _attributes(typed).language.values if not writes(name)]
        if foreign:
            yield (
                f"--language={typed['language']}: the embedded model (--llm=offline) writes {LANGUAGE} only, not "
                f"{foreign[0]}; leave --language out, or choose a real model with --llm"
            )


def _own_labels(flags: Sequence[str]) -> Iterator[str]:
    """Flags -> the same with our `--labels` under the name that the parser has for it. Beam has an option of that name
    too, for the labels of a Dataflow job: `--labels=key=value`, `--labels={...}`, or `--label`."""
    words = iter(flags)
    for flag in words:
        name, equals, value = flag.partition("=")
        if name == LABELS and not equals:
            value = next(words, "")
        if name == LABELS and "=" not in value and not value.startswith("{"):
            yield f"{LABEL_PLAN}={value}"
        elif name == LABELS:
            yield f"{name}={value}"
        else:
            yield flag


def _plans_labels(typed: Mapping[str, Any]) -> bool:
    how = typed["label_plan"]
    if how not in LABEL_PLANS:
        proposal = hint(how, LABEL_PLANS) or ";"
        raise OptionError(f"{LABELS}={how} is not known{proposal} There are free, planned, and key=value for Dataflow.")
    return bool(how == "planned")


def _check_descriptors(typed: Mapping[str, Any], backend: Backend, verify_backend: Backend | None) -> None:
    """Each worker process keeps a connection for each request in flight, and so for each of its models; the limit of
    open files is a process's own."""
    models = {each for each in (backend, verify_backend) if hasattr(each, "base_url")}
    most = most_connections()
    if models and most is not None and typed["max_concurrency"] * len(models) > most:
        raise OptionError(
            f"--max_concurrency={typed['max_concurrency']}: a process may not have so many connections open; choose "
            f"{most // len(models)} or less, or raise the hard limit of open files (ulimit -Hn)"
        )


def _verify_backend(
    typed: Mapping[str, Any], cloud: GoogleCloudOptions, workers: Workers, backend: Backend
) -> Backend | None:
    if typed["verify_model"] is None:
        return backend if typed["verify"] else None
    if not typed["verify"]:
        raise OptionError("--verify_model without --verify: add it, or leave both out")
    return backend_of({**typed, "model": typed["verify_model"]}, cloud, workers)


def _template(
    typed: Mapping[str, Any],
    option: str,
    shipped: str,
    variables: Variables,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> PromptTemplate:
    """Reads a template, and tries it on made-up tasks.

    Args:
      typed: the options.
      option: that names the file.
      shipped: the one to take where it names none.
      variables: that the template may use.
      choices: values that some of them may have.

    Raises:
      OptionError: it can be filled for none of the tasks, or for none where a variable has one of its values.
    """
    path = typed[option]
    if path is None:
        return shipped_template(shipped)
    template = PromptTemplate(Path(path).name.split(".")[0], _read_text(f"--{option}", path))
    subject = next(iter(variables))  # the task, or the topic
    settings: list[Variables] = [{}]
    if variables is LABELLED_VARIABLES:
        settings.append({"labels": ()})
    if option == "brainstorm_template" and typed["topics"] == "none":
        settings = [dict.fromkeys(variables)]
    settings += [{name: value} for name, values in (choices or {}).items() for value in values]
    problem = ""
    for number, setting in enumerate(settings):
        texts = MADE_UP_TASKS[:1] if number else MADE_UP_TASKS  # there may be a hundred languages
        samples = [{**variables, subject: text, **setting} for text in texts]
        try:
            problem = template.check({**variables, **setting}, *samples) or problem
        except TemplateError as error:
            where = "".join(f" (where {name} is {value!r})" for name, value in setting.items() if value is not None)
            raise OptionError(f"--{option} {path}: {error}{where}") from None
    if problem:
        _LOG.warning("--%s %s: some %ss will be rejected, for it cannot be filled: %s", option, path, subject, problem)
    return template


def _topics(path: str | None) -> tuple[str, ...]:
    if path == "none":
        return ()
    if path is None:
        return read_topics((resources.files("textmint.templates") / "topics.txt").read_text("utf-8").splitlines())
    topics = read_topics(_read_text("--topics", path).splitlines())
    if not topics:
        raise OptionError(f"--topics {path}: holds no topic; write one a line, or --topics=none")
    return topics


def as_pattern(path: str) -> str:
    """What was typed -> a pattern: a file that has just this name is meant, though the name holds wildcards."""
    if "://" in path or glob.escape(path) == path:
        return path
    if os.path.isfile(path):
        return glob.escape(os.path.abspath(path))
    # Beam looks for wildcards in the first part of a path only where there is a folder before it.
    is_placed = path.partition(os.sep)[0] in ("", os.curdir, os.pardir)
    return path if is_placed else os.path.join(os.curdir, path)


def _check_tasks(pattern: str | None, survey: TaskSurvey) -> None:
    """Looks through the files of the user's tasks, if there are any.

    Args:
      pattern: of --tasks.
      survey: knows afterwards what they hold.
    """
    if pattern is None:
        return
    if not _count_once("--tasks", pattern, survey.read, TaskFileError, TASK_SUFFIXES):
        raise OptionError(f"--tasks {pattern}: holds no task; write one a line")


def _check_languages(typed: Mapping[str, Any], survey: TaskSurvey) -> None:
    """Checks that the model can write what single tasks want, as `_language_problems` does for all tasks."""
    if typed["llm"] != "offline":
        return
    from textmint.transforms.llm.offline.backend import LANGUAGE, writes

    for language, where in survey.languages.items():
        if not writes(language):
            raise OptionError(
                f"--tasks {where}: language: the embedded model (--llm=offline) writes {LANGUAGE} only, not {language}"
                "; leave it out, or choose a real model with --llm"
            )


def _check_labels(typed: Mapping[str, Any], survey: TaskSurvey, example: PromptTemplate, checks: Checks) -> None:
    """Checks that tasks with labels of the user's own can give rows at all."""
    problems = []
    if "label_too_long" in checks.names and survey.widest > checks.max_label_columns:
        problems.append(
            f"--tasks {typed['tasks']}: a label is {survey.widest} columns wide, so all its rows would be refused; "
            f"give --max_label_columns={survey.widest}"
        )
    if typed["example_template"] is not None and not (example.uses("labels") or example.uses("label")):
        problems.append(
            f"--example_template {typed['example_template']}: tells the model no labels, but tasks of --tasks have "
            "some; add {{ labels | join(', ') }}"
        )
    if problems:
        raise OptionError(*problems)


def _warnings(typed: Mapping[str, Any], survey: TaskSurvey) -> Iterator[str]:
    if survey.unknown:
        slips = {name for name in survey.unknown if nearest(name, SETTINGS)}
        names = [*sorted(slips), *sorted(survey.unknown - slips)]
        shown = ", ".join(f"{name!r:.60}" for name in names[:_MOST_NAMES])
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        yield (
            f"--tasks {typed['tasks']}: {shown}{more} mean nothing here and are left out; "
            f"beside `task` there are {', '.join(SETTINGS)}"
        )


_MOST_NAMES: Final = 5


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
    check_input(option, pattern)
    try:
        found_files = files.match_files(as_pattern(pattern))
    except Exception as error:
        raise _unreadable(option, pattern, error) from None
    if not found_files:
        raise OptionError(f"{option} {pattern}: there is no such file")
    found = 0
    for path in (file.path for file in found_files):
        check_name(option, path)
        if not path.lower().endswith(suffixes):
            raise OptionError(f"{option} {path}: is not one of {', '.join(suffixes)}")
        if files.is_local(path) and not os.path.isfile(path):
            raise OptionError(f"{option} {path}: is no regular file")
        try:
            with files.open_text(path) as file:
                found += sum(1 for _ in read(file, path))
        except refusal as error:
            raise OptionError(f"{option} {path}: {error}") from None
        except Exception as error:
            raise _unreadable(option, path, error) from None
    return found
