"""Runs `textmint` with a ledger that keeps nothing, to measure what keeping costs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

from textmint.pipelines.__main__ import main as textmint


class _KeepsNothing:
    """Stands in for a ledger's writer."""

    def append(self, row: Mapping[str, Any]) -> None:
        pass

    def is_behind(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `textmint` without keeping its replies; returns its exit code."""
    with mock.patch("textmint.transforms.llm.reply_keeper.open_writer", lambda ledger: _KeepsNothing()):
        return textmint(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
