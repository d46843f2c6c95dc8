"""How much is asked for."""

from __future__ import annotations

import dataclasses
from typing import Final

from benchmarks.measuring import Protocol


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Rows of each measurement, multiples of 20, and what goes with them."""

    loads: tuple[tuple[int, int], ...]  # of efficiency: rows, and requests in flight
    cpu_rows: tuple[int, ...]  # from the least, which tells the start-up, to the largest; two or three
    cpu_protocols: tuple[Protocol, ...]
    naive_rows: tuple[int, int]
    faulty_rows: int
    throttled_rows: int
    limited_seconds: int  # how long an endpoint with a cap on its rate is asked
    hanging_rows: int
    request_timeout: int  # seconds, for the hanging ones
    ledger_rows: int
    ledger_replies: int  # of the ledger that is read
    ledger_runs: int
    efficiency_runs: int
    cpu_runs: int
    fault_runs: int

    @property
    def beside(self) -> set[int]:
        """The numbers of rows that a program beside the pipeline asks for."""
        return {*(rows for rows, _ in self.loads), *self.cpu_rows, *self.naive_rows, self.faulty_rows, self.ledger_rows}


FULL: Final = Sizes(
    loads=((4_000, 64), (12_000, 256)),
    cpu_rows=(20, 4_000, 16_000),
    cpu_protocols=("openai", "gemini"),
    naive_rows=(100, 400),
    faulty_rows=2_000,
    throttled_rows=8_000,
    limited_seconds=60,
    hanging_rows=500,
    request_timeout=3,
    ledger_rows=16_000,
    ledger_replies=1_000_000,
    ledger_runs=5,
    efficiency_runs=3,
    cpu_runs=2,
    fault_runs=3,
)
"""About a quarter of an hour."""

QUICK: Final = Sizes(
    loads=((200, 64),),
    cpu_rows=(20, 400),
    cpu_protocols=("openai",),
    naive_rows=(20, 40),
    faulty_rows=100,
    throttled_rows=100,
    limited_seconds=2,
    hanging_rows=100,
    request_timeout=1,
    ledger_rows=400,
    ledger_replies=20_000,
    ledger_runs=1,
    efficiency_runs=1,
    cpu_runs=1,
    fault_runs=1,
)
"""Shows that everything runs; the tail of the latencies and the noise of the machine are most of the figures."""
