"""The pipeline with a ledger that keeps nothing, to see what keeping costs: `python -m benchmarks.without_ledger
generate --option=value ...`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from textmint.pipelines.__main__ import main as textmint
from textmint.transforms.ledger.writer import Ledger, LedgerWriter
from textmint.transforms.llm import engine


class Nothing:
    """Keeps no reply."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Forgets it."""

    def is_behind(self) -> bool:
        """-> False: nothing waits to be written."""
        return False

    def flush(self) -> None:
        """Has nothing to wait for."""

    def close(self) -> None:
        """Holds nothing."""


def open_nothing(ledger: Ledger) -> LedgerWriter:
    """-> what stands in for `ledger_writer.open_writer`."""
    return Nothing()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `textmint` with a ledger that keeps nothing.

    Args:
      argv: its arguments; None: those of the command line.

    Returns:
      Its exit code.
    """
    kept = engine.open_writer
    engine.open_writer = open_nothing
    try:
        return textmint(sys.argv[1:] if argv is None else argv)
    finally:
        engine.open_writer = kept


if __name__ == "__main__":
    sys.exit(main())
