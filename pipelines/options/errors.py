"""What is wrong with the options, and with what they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from apache_beam.io.filesystem import BeamIOError
from textmint.transforms.core.errors import StoreError, system_reason
from textmint.transforms.storage.gcs import REQUEST

_T = TypeVar("_T")


class OptionError(Exception):
    """Options that cannot be used.

    Args:
      problems: what is wrong, where, and how to mend it; a line each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems(list[str]):
    """Collects what is wrong, so that a user is told all of it at once."""

    def of(self, check: Callable[[], _T]) -> _T | None:
        """Calls a check; returns what it returns, or None after its OptionError was added to the list."""
        try:
            return check()
        except OptionError as error:
            self.extend(error.problems)
            return None

    def raise_any(self) -> None:
        """Raises an OptionError where there are problems."""
        if self:
            raise OptionError(*self)


def reason_of(error: BaseException) -> str:
    """Says in one line what a person needs to know of an exception."""
    for _ in range(3):  # a matching of files wraps a listing, which wraps what the client raised
        details = error.exception_details if isinstance(error, BeamIOError) else None
        error = next((inner for inner in (details or {}).values() if isinstance(inner, BaseException)), error)
    if isinstance(error, StoreError):
        return error.reason
    if isinstance(error, FileNotFoundError) and not error.strerror:
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return system_reason(error)
    line = " ".join(REQUEST.sub("", f"{error}").split())
    return line[:300] or type(error).__name__
