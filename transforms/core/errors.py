"""What ends a run, and the reason in one line."""

from __future__ import annotations


def system_reason(error: BaseException) -> str:
    """Says in one line why something failed: in the system's words, or else in those of the error."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


class RunFailed(RuntimeError):
    """The run cannot go on, or its result cannot be published; the message says why and how to mend it, in one line.

    Engines hand on a worker's errors as text; the launcher finds the names of this class and of StoreError in it.
    """


class StoreError(OSError):
    """A file in a store cannot be read or written; the message says which and why, in one line.

    Args:
      message: the file, what cannot be done to it, and the reason.
      reason: the reason alone.
      status: the store's answer as an HTTP status; None where there was none.
    """

    def __init__(self, message: str, reason: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.status = status


class FileChangedError(OSError):
    """Somebody else has written the file since it was read."""


class DamagedFileError(OSError):
    """A compressed file cannot be read to its end; the message says why and what to do."""
