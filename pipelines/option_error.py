"""What is wrong with the options."""

from __future__ import annotations

from apache_beam.io.filesystem import BeamIOError

from transforms.errors import StoreError


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
    if isinstance(error, BeamIOError) and error.exception_details:
        error = next((e for e in error.exception_details.values() if isinstance(e, BaseException)), error)
    if isinstance(error, StoreError):
        return error.reason
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    return " ".join(f"{error}".split())[:300] or type(error).__name__
