"""How long an endpoint asks to be left alone: Retry-After (RFC 9110), and what servers send in its place."""

from __future__ import annotations

import datetime
import email.utils
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

_LONGEST: Final = 7 * 86_400.0  # seconds; no rate limit lasts longer, so a greater number is of another unit
_FIRST_MOMENT: Final = 1e9  # seconds since 1970: September 2001
_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE_LIMIT_HEADERS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)


def wait_of(headers: Mapping[str, str], delays: Iterable[float] = ()) -> float | None:
    """Reads for how long an endpoint asks to be left alone.

    Retry-After is seconds, an HTTP date, or what servers also write there: seconds or milliseconds since 1970, and
    milliseconds. `delays` are the seconds of google.rpc.RetryInfo in the body. None: it says nothing that can be.
    """
    lower = {name.lower(): str(value).strip() for name, value in headers.items()}
    sent = _moment(lower.get("date", ""))
    now = time.time() if sent is None else sent  # by the server's clock, which may differ
    asked = [_number(lower.get("retry-after-ms", ""), 1e-3), _wait(lower.get("retry-after", ""), now), *delays]
    for seconds in asked:
        if seconds is not None and (plausible := _plausible(seconds, now)) is not None:
            return plausible
    resets = [
        _plausible(seconds, now)
        for remaining, reset in _RATE_LIMIT_HEADERS
        if _number(lower.get(remaining, "")) == 0 and (seconds := _wait(lower.get(reset, ""), now)) is not None
    ]
    return max((each for each in resets if each is not None), default=None)


def duration(value: object) -> float | None:
    """Reads a google.protobuf.Duration in JSON, such as "25.5s"."""
    return _number(value[:-1]) if isinstance(value, str) and value.endswith("s") else None


def _wait(text: str, now: float) -> float | None:
    """Reads a number of seconds, a span such as 1m30.5s or 250ms, or a date."""
    seconds = _number(text)
    if seconds is None:
        seconds = _span(text)
    if seconds is None and (moment := _moment(text)) is not None:
        seconds = max(0.0, moment - now)
    return seconds


def _plausible(seconds: float, now: float) -> float | None:
    """Turns moments and milliseconds, which are too large to be seconds, into seconds from now."""
    for moment in (seconds, seconds / 1000):
        if _FIRST_MOMENT <= moment < 10 * _FIRST_MOMENT:
            seconds = max(0.0, moment - now)
            break
    if seconds > _LONGEST:
        seconds /= 1000
    return seconds if seconds <= _LONGEST else None


def _number(text: str, unit: float = 1.0) -> float | None:
    try:
        value = float(text) * unit
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _span(text: str) -> float | None:
    if not re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text))


def _moment(text: str) -> float | None:
    """Reads an HTTP date as seconds since 1970."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
