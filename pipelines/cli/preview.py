"""The command `preview`: a few examples, what every check says of each, and what they cost."""

from __future__ import annotations

import dataclasses
import json
import logging
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import Final

from textmint.pipelines.cli import terminal
from textmint.pipelines.cli.progress_line import ProgressLine, expected_prompts
from textmint.pipelines.cli.run import failed
from textmint.pipelines.cli.signals import ending_on_signals
from textmint.pipelines.cli.summary import command_of, without
from textmint.pipelines.options.parse import OptionParser
from textmint.pipelines.preview import Preview, PreviewOptions, add_options, parse_preview, run_preview

_OWN: Final = frozenset(("--rows", "--show_prompt", "--json"))
_WIDEST: Final = 120  # longer lines are hard to read
_NARROWEST: Final = 40
_LOG: Final = logging.getLogger("textmint")


def main(argv: Sequence[str], prog: str) -> int:
    """Shows a few examples; returns the exit code: 0 done, 1 none was kept or the run failed, 2 the options are
    wrong."""
    if "--help" in argv or "-h" in argv:
        return terminal.shown(_help_text(prog), prog)
    with ending_on_signals() as signals:
        try:
            return _preview(argv, prog)
        except (Exception, KeyboardInterrupt) as error:
            return failed(error, prog, signals)


def _help_text(prog: str) -> str:
    parser = OptionParser(
        prog=f"{prog} preview",
        usage="%(prog)s [options of generate] [--rows=N] [--show_prompt] [--json]",
        description="Asks for a few examples of as many tasks, and shows each with the verdict of every check. Nothing "
        "is published; generate with the same options does not pay for their replies again.",
        epilog=f"All options of generate are taken too: {prog} generate --help lists them.",
        add_help=False,
    )
    add_options(parser)
    return parser.format_help().removesuffix("\n")


def _preview(argv: Sequence[str], prog: str) -> int:
    terminal.set_up_logging(local=True)
    options = parse_preview(argv)
    for warning in options.config.warnings:
        _LOG.warning(warning)
    guess = {step: min(count, options.rows) for step, count in expected_prompts(options.config).items()}
    with ProgressLine(guess=guess):
        found = run_preview(options)
    styled = not options.json and terminal.is_terminal()
    text = as_json(found) if options.json else _drawn(found, options, styled, argv, prog)
    return terminal.shown(text, prog, styled=styled) or (0 if found.examples else 1)


def as_json(preview: Preview) -> str:
    """Writes a preview as one JSON object, in ASCII."""
    names = [field.name for field in dataclasses.fields(preview) if field.name != "show_prompt"]
    return json.dumps({name: getattr(preview, name) for name in names}, indent=1)


def _drawn(found: Preview, options: PreviewOptions, styled: bool, argv: Sequence[str], prog: str) -> str:
    from textmint.pipelines.preview_views import WIDTH, as_text  # only now: rich takes a moment to import

    columns = shutil.get_terminal_size((WIDTH, 24)).columns
    text = as_text(found, width=max(_NARROWEST, min(columns, _WIDEST)), styled=styled)
    return "\n".join([text, *_next_commands(options, argv, command_of(prog))])


def _next_commands(options: PreviewOptions, argv: Sequence[str], command: str) -> Iterator[str]:
    """Yields the commands that take the same options."""
    typed = options.config.typed
    if "@" in (typed["base_url"] or ""):
        return  # a password is not repeated
    flags = list(without(argv, _OWN))
    if typed["refresh"] != "base":
        flags = [*without(flags, ("--refresh",)), f"--refresh={typed['refresh']}"]  # today is another one tomorrow
    line = shlex.join(flags)
    yield f"the whole run costs:  {command} plan {line}".rstrip()
    yield f"to start it:          {command} generate {line}".rstrip()
