"""How much each benchmark asks for."""

from __future__ import annotations

import dataclasses
from typing import Final

from benchmarks.measuring import Protocol


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of rows (multiples of 20), and how often each measurement is repeated."""

    runs: int
    loads: tuple[tuple[int, int], ...]  # of efficiency: rows, and requests in flight
    cpu_rows: tuple[int, ...]  # the least tells what the start costs
    cpu_protocols: tuple[Protocol, ...]
    ledger_rows: int
    ledger_replies: int  # of the ledger that is read

    @property
    def for_bare_loop(self) -> set[int]:
        """The numbers of rows that the bare loop asks for."""
        return {*(rows for rows, _ in self.loads), *self.cpu_rows}


FULL: Final = Sizes(
    runs=3,
    loads=((4_000, 64), (12_000, 256)),
    cpu_rows=(20, 4_000, 16_000),
    cpu_protocols=("openai", "gemini"),
    ledger_rows=16_000,
    ledger_replies=1_000_000,
)
"""Takes about a quarter of an hour."""

QUICK: Final = Sizes(
    runs=1,
    loads=((200, 64),),
    cpu_rows=(20, 400),
    cpu_protocols=("openai",),
    ledger_rows=400,
    ledger_replies=20_000,
)
"""Shows that everything runs; most of its figures is noise."""
