"""The command line of `generate`: what the user typed becomes a checked Config, or help."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from textmint.pipelines.options.backends import Workers
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.config_file import flags_of_file
from textmint.pipelines.options.errors import OptionError, Problems
from textmint.pipelines.options.input_files import check_name
from textmint.pipelines.options.nearest import hint, nearest
from textmint.pipelines.options.refresh_label import label_of
from textmint.pipelines.options.table import BY_NAME, GROUPS, OPTIONS, GenerateOptions, Option
from textmint.pipelines.options.validate import check_schemes, language_problems, validated
from textmint.pipelines.runners import dataflow_options
from textmint.pipelines.runners.choose import settle_runner
from textmint.transforms.llm.urls import shown_url

_WIDTH: Final = 100
_HELP_COLUMN: Final = 33
_DESCRIPTION: Final = "Mints text classification data: brainstorms tasks, asks for examples of each, writes Parquet."


class OptionParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without 300 lines of usage before it."""

    def error(self, message: str) -> Any:
        """Raises an OptionError with the message."""
        raise OptionError(message)


class _FullParser(OptionParser, _BeamArgumentParser):
    pass


def full_parser(prog: str | None = None, *, with_ours: bool = True) -> argparse.ArgumentParser:
    """Makes a parser of all of Beam's options, which come from the subclasses of PipelineOptions, and of ours."""
    parser = _FullParser(prog=prog, usage="%(prog)s [--option=value ...]", allow_abbrev=False, add_help=False)
    for options in {str(cls): cls for cls in PipelineOptions.__subclasses__()}.values():
        if with_ours or options is not GenerateOptions:
            options._add_argparse_args(parser)
    return parser


def parse(argv: Sequence[str], *, of_a_run: bool = True, asks: bool = True) -> tuple[Config, PipelineOptions]:
    """Reads and checks the command line.

    Args:
      argv: without the program's name.
      of_a_run: False if these are the options of a single step.
      asks: False if no model is asked, and nothing is written; with --dry_run that is so on any engine.

    Returns:
      The run's Config, and Beam's options for the runner.

    Raises:
      OptionError: with everything that is wrong, a line each.
    """
    _check_config_only(argv)
    parser = full_parser()
    flags = [*flags_of_file(argv, parser), *argv]
    _check_words(flags)
    flags = list(dataflow_options.plain_flags(flags, parser._actions))
    known, unknown = parser.parse_known_args(flags)
    options = GenerateOptions(flags)
    if unknown and not dataflow_options.is_template(options):  # whose launcher has flags of its own
        raise OptionError(*(_unknown(argument, parser) for argument in unknown))
    typed = {option.name: getattr(known, option.name) for option in OPTIONS if option.name != "config"}
    typed["refresh"] = label_of(typed["refresh"])
    check_schemes(typed)
    settle_runner(options)
    found = [*dataflow_options.problems_of(typed, options), *_job_label_problems(options)]
    is_dry, is_dataflow = dataflow_options.is_dry_run(options), dataflow_options.is_dataflow(options)
    is_offline = (is_dry and is_dataflow) or bool(found)
    asks = asks and (is_dataflow or not is_dry)
    FileSystems.set_options(options)  # whose credentials they name, also before there is a pipeline
    if of_a_run:
        found += language_problems(typed)
    cloud = options.view_as(GoogleCloudOptions)
    config = validated(typed, cloud, _workers(options), found, offline=is_offline, asks=asks)
    return config, options


def _check_config_only(argv: Sequence[str]) -> None:
    problems = Problems()
    for flag in argv:
        option = BY_NAME.get(flag.partition("=")[0].removeprefix("--"))
        if option is not None and option.config_only and flag.startswith("--"):
            example = f"{option.name}: {option.default}"
            problems.append(f"--{option.name} is no flag: put a line such as `{example}` into a file for --config=FILE")
    problems.raise_any()


def _check_words(flags: Sequence[str]) -> None:
    """Checks that every word is UTF-8, and that none is `--name=--`, which argparse takes for no value."""
    for option, flag in zip(["", *flags], flags, strict=False):
        name, equals, value = flag.partition("=")
        is_named = flag.startswith("--")
        check_name((name if is_named else option) or "argument", value if is_named and equals else flag)
    if empty := [flag for flag in flags if re.fullmatch("--[^=]+=--", flag)]:
        raise OptionError(*(f"argument {flag.removesuffix('=--')}: expected one argument" for flag in empty))


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {shown_url(argument)!r}: options are written --name=value"
    name = " ".join(argument.split("=", 1)[0].split())
    ours = [f"--{option.name}" for option in OPTIONS]
    every = [known for action in parser._actions for known in action.option_strings]
    return f"unknown option {name}" + (hint(name, [*ours, *every]) or "; see --help")


def _job_label_problems(options: PipelineOptions) -> Iterator[str]:
    """Finds labels of a Dataflow job that are none, such as `--labels=planned`."""
    for label in options.view_as(GoogleCloudOptions).labels or ():
        if "=" not in label and not label.startswith("{"):
            plan = nearest(label, BY_NAME["label_plan"].choices) or "planned"
            yield (
                f"--labels={label}: Dataflow takes key=value here; how examples get their labels is --label_plan={plan}"
            )


def _workers(options: PipelineOptions) -> Workers:
    """Says where the engine runs our steps, by the rules of Beam's portable runners."""
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
    """Returns our options, in their groups."""
    lines = [f"usage: {prog} [--option=value ...]", "", _DESCRIPTION]
    for group in GROUPS:
        lines += ["", f"{group}:"]
        for option in OPTIONS:
            if option.group == group and not option.config_only:
                lines += _help_lines(option)
    rare = ", ".join(option.name for option in OPTIONS if option.config_only)
    lines += ["", *textwrap.wrap(f"Only in the file of --config: {rare}.", _WIDTH)]
    lines += [f"Apache Beam's options, such as --runner, pass through: {prog} --help_beam lists them."]
    lines += ["--dry_run prints the plan of the run, and does nothing else."]
    return "\n".join(lines)


def _help_lines(option: Option) -> list[str]:
    head = f"  --{option.name}" + (f"={option.metavar}" if option.metavar else "")
    indent = " " * _HELP_COLUMN
    lines = textwrap.wrap(
        option.help_with_default,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    if len(head) >= _HELP_COLUMN:
        return [head, *lines]
    return [head + lines[0][len(head) :], *lines[1:]]


def beam_help_text(prog: str) -> str:
    """Returns Beam's options, as Beam tells of them."""
    return full_parser(prog, with_ours=False).format_help().removesuffix("\n")
