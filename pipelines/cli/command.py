"""What the commands that look at a dataset folder share: their options, their errors, their exit codes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence

from textmint.pipelines.cli.signals import ended_by, ending_on_signals
from textmint.pipelines.cli.terminal import refused, shown, tell
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.input_files import check_listing
from textmint.pipelines.options.parse import OptionParser


def new_parser(prog: str, name: str, description: str) -> OptionParser:
    """Makes the parser of a command, with `--output` as its first option."""
    parser = OptionParser(prog=f"{prog} {name}", description=description, add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--output", default="output", metavar="DIR", help="the dataset folder, as for generate (default: output)"
    )
    return parser


def run_command(
    parser: OptionParser, argv: Sequence[str], prog: str, act: Callable[[argparse.Namespace], str], what: str
) -> int:
    """Prints what a command returns, or why it cannot.

    Args:
      parser: of its options.
      argv: what the user typed after the command's name.
      prog: the name of the program in messages.
      act: returns what is printed.
      what: what of the dataset folder the command shows, for messages.

    Returns:
      The exit code: 0 done, 1 it failed, 2 the options are wrong, 130 or 143 it was ended.
    """
    if "--help" in argv or "-h" in argv:
        return shown(parser.format_help().removesuffix("\n"), prog)
    with ending_on_signals() as signals:
        output = "--output"
        try:
            options = parser.parse_args(list(argv))
            output = options.output
            return shown(act(options), prog)
        except OptionError as error:
            return refused(error.problems, prog)
        except (Exception, KeyboardInterrupt) as error:  # each file system raises its own
            if signals or isinstance(error, KeyboardInterrupt):
                tell(f"{prog}: ended by {ended_by(signals).name}; the {what} is as it was")
                return 128 + ended_by(signals)
            tell(f"{prog}: the {what} of {output}: {reason_of(error)}")
            return 1


def dataset_folder(path: str, is_there: Callable[[str], bool], what: str) -> str:
    """Returns the absolute path of the folder that `--output` names.

    Args:
      path: as typed.
      is_there: whether the folder holds what the command needs.
      what: what that is, for the message.

    Raises:
      OptionError: it is empty, cannot be read, or does not hold it.
    """
    if not path.strip():
        raise OptionError("--output is empty; name a folder")
    output = path.rstrip("/") if "://" in path else os.path.abspath(os.path.expanduser(path))
    check_listing("--output", output)
    try:
        found = is_there(output)
    except Exception as error:
        raise OptionError(f"--output {path}: cannot be read: {reason_of(error)}") from None
    if not found:
        raise OptionError(f"--output {path}: there is no {what} in it; name the folder that a run wrote to")
    return output
