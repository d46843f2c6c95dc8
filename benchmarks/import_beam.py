"""Imports Apache Beam, and does nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Sequence


def main(_: Sequence[str] = ()) -> int:
    """Imports it; returns the exit code."""
    importlib.import_module("apache_beam")
    return 0


if __name__ == "__main__":
    main()
