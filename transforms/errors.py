"""What ends a run."""

from __future__ import annotations


class RunFailed(RuntimeError):
    """The run cannot go on, or its result cannot be published; the message says why, and how to mend it, in one line.

    Engines wrap what a worker raises into errors of their own, as text; the launcher finds this class's name in it.
    """
