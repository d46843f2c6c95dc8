"""What is wrong with the options."""

from __future__ import annotations

from typing import Final

from apache_beam.io.filesystem import BeamIOError
from textmint.transforms.core.errors import StoreError
from textmint.transforms.storage.gcs import REQUEST


class OptionError(Exception):
    """Options that cannot be used.

    Args:
      problems: what is wrong, where, and how to mend it; a line each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def reason_of(error: BaseException) -> str:
    """An exception -> what a person needs of it, in one line."""
    for _ in range(_MOST_WRAPPINGS):
        details = error.exception_details if isinstance(error, BeamIOError) else None
        error = next((inner for inner in (details or {}).values() if isinstance(inner, BaseException)), error)
    if isinstance(error, StoreError):
        return error.reason
    if isinstance(error, FileNotFoundError) and not error.strerror:
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    line = " ".join(REQUEST.sub("", f"{error}").split())
    return line[:300] or type(error).__name__


_MOST_WRAPPINGS: Final = 3  # a matching of files wraps a listing, which wraps what the client raised
