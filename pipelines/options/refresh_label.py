"""The name of a refresh, where it is the day of its launch."""

from __future__ import annotations

import time
from typing import Final

TODAY: Final = "today"
"""As a name: the day of the launch. A scheduler that sends the same request every night cannot write a date."""


def label_of(refresh: str, now: float | None = None) -> str:
    """Returns the name of a refresh as typed; for `today` the day in UTC, such as 2026-11-23, at `now` in seconds since
    1970."""
    return time.strftime("%Y-%m-%d", time.gmtime(now)) if refresh == TODAY else refresh
