"""Textmint's command line: `python -m pipelines COMMAND --option=value ...`. Dispatch only."""

from __future__ import annotations

import difflib
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

COMMANDS = {
    "generate": "run the pipeline and write the dataset folder (see generate --help)",
    "ledger": "what was paid for, by label and model; --compact merges small files",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line, without the program's name -> the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prog = os.environ.get("TEXTMINT_PROG", "textmint")
    command = arguments[0] if arguments else "generate"
    if command in ("--help", "-h", "help"):
        print(f"usage: {prog} COMMAND [--option=value ...]\n")
        for name, text in COMMANDS.items():
            print(f"  {name:<10} {text}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f": did you mean {near[0]}?" if near else f"; there are {', '.join(COMMANDS)}"
        print(f"{prog}: unknown command {command!r}{hint}", file=sys.stderr)
        return 2
    if command == "ledger":
        from pipelines import ledger  # only now: importing Beam takes a second

        return ledger.main(arguments[1:], prog)
    from pipelines.run import generate

    return generate(arguments[1:], prog)


def program() -> NoReturn:
    """Runs the command line and ends the process with its exit code.

    A thread that Beam has left running keeps a process alive for ever: its sampler of states does so when a signal
    comes at the moment that it is started (apache_beam/runners/worker/statesampler_fast.pyx, 2.77). So a run that did
    not end well is given some seconds to end, and no more.
    """
    try:
        code = main()
    except BrokenPipeError:  # whoever read what is printed has seen enough, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code:
        last = threading.Timer(LAST_SECONDS, _end, (code,))
        last.daemon = True
        last.start()
    sys.exit(code)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


LAST_SECONDS = 20.0

if __name__ == "__main__":
    program()
