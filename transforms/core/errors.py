"""What ends a run."""

from __future__ import annotations


class RunFailed(RuntimeError):
    """The run cannot go on, or its result cannot be published; the message says why, and how to mend it, in one line.

    Engines wrap what a worker raises into errors of their own, as text; the launcher finds this class's name in it.
    """


class StoreError(OSError):
    """A file that is not on a disk of this machine cannot be read or written; the message says which and why, in one
    line. The launcher finds this class's name as well.

    Args:
      message: the file, what cannot be done to it, and the reason.
      reason: the reason alone.
      status: what the store has answered, in the terms of HTTP; None where it has not answered.
    """

    def __init__(self, message: str, reason: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.status = status


class FileChangedError(OSError):
    """Somebody else has written the file since it was read."""


class DamagedFileError(OSError):
    """What a compressed file holds cannot be read to its end; the message says why and what to do."""
