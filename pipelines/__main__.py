"""Textmint's command line: `python -m textmint.pipelines COMMAND --option=value ...`. Dispatch only."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from textmint.pipelines.cli.signals import end_at_once_on_signals

COMMANDS = {
    "generate": "run the pipeline and write the dataset folder (see generate --help)",
    "preview": "ask for ten examples, and show what every check says of each",
    "plan": "what generate will ask, what that costs and how long it takes; asks nothing",
    "ledger": "what was paid for, by refresh and model; --compact merges small files",
    "rejects": "what was refused, why, and the reply",
    "report": "make OUTPUT/report.html anew, to be looked at in a browser",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line, which is without the program's name; returns the exit code."""
    return _imported(sys.argv[1:] if argv is None else argv)()


def _imported(argv: Sequence[str]) -> Callable[[], int]:
    """Imports what a command line needs, and nothing else; returns what runs it."""
    from textmint.pipelines.cli import terminal  # only now: `program` sees to signals before anything else

    arguments = list(argv)
    prog = os.environ.get("TEXTMINT_PROG", "textmint")
    command = arguments[0] if arguments else "generate"
    terminal.log_to_stderr()
    if command in ("--help", "-h", "help"):
        listed = (f"  {name:<10} {text}" for name, text in COMMANDS.items())
        text = "\n".join([f"usage: {prog} COMMAND [--option=value ...]\n", *listed])
        return partial(terminal.shown, text, prog)
    if command == "--version" or arguments[1:] == ["--version"]:
        return partial(terminal.shown, f"textmint {version()}", prog)
    if command not in COMMANDS:
        from textmint.pipelines.options.nearest import hint

        proposal = hint(command, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        return partial(terminal.refused, [f"unknown command {command!r}{proposal}"], prog)
    if command == "preview":
        from textmint.pipelines.cli import preview  # only now: importing Beam takes a second

        return partial(preview.main, arguments[1:], prog)
    if command == "plan":
        from textmint.pipelines.cli import plan

        return partial(plan.main, arguments[1:], prog)
    if command == "ledger":
        from textmint.pipelines.cli import ledger

        return partial(ledger.main, arguments[1:], prog)
    if command == "rejects":
        from textmint.pipelines.cli import rejects

        return partial(rejects.main, arguments[1:], prog)
    if command == "report":
        from textmint.pipelines.cli import report

        return partial(report.main, arguments[1:], prog)
    from textmint.pipelines.cli.run import generate

    return partial(generate, arguments[1:], prog)


def version() -> str:
    """Returns the version of what is installed; `unknown` if it is not."""
    from importlib import metadata  # only now: a start is to be quick

    try:
        return metadata.version("textmint")
    except metadata.PackageNotFoundError:
        return "unknown"


def program() -> NoReturn:
    """Runs the command line and ends the process with its exit code.

    A thread that Beam left running would keep a process alive for ever (its sampler of states, if a signal comes while
    it starts: statesampler_fast.pyx, 2.77). So a run that failed has some seconds to end.
    """
    gc.disable()
    codes: list[int] = []
    atexit.register(_end, codes)  # the first one that is registered runs last
    end_at_once_on_signals()
    from textmint.pipelines.cli import terminal

    terminal.take_over()
    run = _imported(sys.argv[1:])
    gc.freeze()  # imports make half a million objects that all stay: looking for garbage among them took 0.1 s
    gc.enable()
    codes.append(run())
    if codes[0]:
        last = threading.Timer(LAST_SECONDS, os._exit, codes)
        last.daemon = True
        last.start()
    sys.exit(codes[0])


def _end(codes: list[int]) -> None:
    """Ends the process before Python frees its memory.

    At that moment a daemon thread that returns from C++ is ended within it, and C++ then aborts the process ("terminate
    called without an active exception", https://github.com/python/cpython/issues/87135): exit code 134 after a run
    that had ended well.
    """
    if codes:
        from textmint.pipelines.cli import terminal

        terminal.flush()
        os._exit(codes[0])


LAST_SECONDS = 20.0

if __name__ == "__main__":
    program()
