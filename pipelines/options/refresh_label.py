"""The label of a run, where it is named by the day of its launch."""

from __future__ import annotations

import time
from typing import Final

TODAY: Final = "today"
"""As a label: the day of the launch. A scheduler that sends the same request every night cannot write a date."""


def label_of(refresh: str, now: float | None = None) -> str:
    """What was typed as `--refresh` -> the label: `today` is the day in UTC, such as 2026-11-23.

    Args:
      now: seconds since 1970; None: this moment.
    """
    return time.strftime("%Y-%m-%d", time.gmtime(now)) if refresh == TODAY else refresh
