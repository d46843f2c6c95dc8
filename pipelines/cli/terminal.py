"""The one place that writes to standard output and standard error.

Replies, endpoints, files and options are hostile, and a terminal obeys control characters; so everything, also logs and
tracebacks, is printed through here. Nothing here raises: a run does not fail because something cannot be shown."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable
from typing import IO, Any, TextIO

from textmint.transforms.core.errors import system_reason
from textmint.transforms.core.texts import printable_text

_OURS = "textmint"
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
"""Select Graphic Rendition (ECMA-48, 8.3.117): colours and weights."""


def show(text: str, *, styled: bool = False) -> str:
    """Prints to standard output; returns why that failed, "" if it did not, or if the reader has gone, such as `|
    head`. Of a `styled` text, colours and weights reach the terminal, and no other escape sequence does."""
    return _write(sys.stdout, text, styled)


def shown(text: str, prog: str, *, styled: bool = False) -> int:
    """Prints the result of a command; returns the exit code: 1, after a message, if it could not be printed."""
    problem = show(text, styled=styled)
    if problem:
        tell(f"{prog}: cannot print: {problem}")
    return 1 if problem else 0


def is_terminal() -> bool:
    """Returns whether a person sees standard output as it comes."""
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # closed
        return False


def tell(text: str) -> None:
    """Prints a message to standard error, as one line whatever it holds."""
    _write(sys.stderr, _one_line(text))


def tell_lines(text: str) -> None:
    """Prints lines to standard error, such as those of a traceback."""
    if text:
        _write(sys.stderr, text.removesuffix("\n"))


def refused(problems: Iterable[str], prog: str) -> int:
    """Prints what is wrong with the options; returns the exit code."""
    for problem in problems:
        tell(f"{prog}: {problem}")
    return 2


def set_up_logging(local: bool) -> None:
    """Shows our logs, and of others what a person needs. With `local`, this process runs the pipeline itself: Beam's
    engine would log a traceback for each failure that we report ourselves, and its job server logs everything twice."""
    ours = log_to_stderr()
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL if local else logging.INFO)
    if local:
        ours.addFilter(lambda record: record.name != root.name)


def flush() -> None:
    """Writes what standard output and standard error still hold."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def log_to_stderr() -> logging.Handler:
    """Sends all logs to standard error through a handler of ours, in place of any that Python, Beam or an earlier call
    added."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler or isinstance(handler, _Handler):
            root.removeHandler(handler)
    ours = _Handler()
    ours.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    root.addHandler(ours)
    return ours


def take_over() -> None:
    """Sends what Python itself prints through here: tracebacks of any thread, and warnings."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by the caller; the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the process)
    sys.excepthook = lambda kind, error, at: tell_lines("".join(traceback.format_exception(kind, error, at)))
    threading.excepthook = _tell_of_thread
    sys.unraisablehook = lambda found: tell(f"{found.err_msg or 'ignored'}: {found.exc_value!r} in {found.object!r}")
    warnings.showwarning = _tell_of_warning


def _tell_of_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is not SystemExit:
        tell_lines("".join(traceback.format_exception(found.exc_type, found.exc_value, found.exc_traceback)))


def _tell_of_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    tell(f"{filename}:{lineno}: {category.__name__}: {message}")


class _Handler(logging.Handler):
    """Writes to standard error as it is at that moment: `capture_worker_output` exchanges it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # arguments that do not fit the message
            text = f"{record.msg} {record.args!r}"
        tell_lines(text)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        message = super().formatMessage(record)
        return _one_line(message) if record.name.partition(".")[0] == _OURS else message


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _write(stream: IO[str] | Any, text: str, styled: bool = False) -> str:
    if stream is None:
        return "it is closed"
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        parts = _STYLE.split(text) if styled else [text]  # every second one is a style
        safe = "".join(part if number % 2 else printable_text(part) for number, part in enumerate(parts))
        shown = safe.encode(encoding, "backslashreplace").decode(encoding)  # ASCII, where it must be
        stream.write(f"{shown}\n")
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
    except (OSError, ValueError, LookupError) as error:  # a full disk; closed meanwhile; an encoding that is none
        _silence(stream)
        return system_reason(error)
    return ""


def _silence(stream: Any) -> None:
    """Discards what could not be written: Python would try once more at its end, and fail loudly."""
    with contextlib.suppress(Exception):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
