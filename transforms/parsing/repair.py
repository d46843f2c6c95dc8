"""Repair of broken JSON by json_repair, and which of its guesses can be trusted.

json_repair guesses where strings end, and drops what it cannot place. So nothing is taken unless all letters came back,
and no string unless it stands in the text between quotation marks and before a delimiter. A value that comes back with
the mark that is put at the end of the text was cut off.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import Any, Final

import json_repair
from textmint.transforms.parsing.reader import unescape
from textmint.transforms.parsing.values import parts_of, strings_of

REPAIR_MAX_CHARS: Final = 32_000
REPAIR_MAX_WORK: Final = 4_000_000
"""Limits of what json_repair gets: characters, and characters times quotation marks, with which its time grows: 0.3 s
at this limit with json_repair 0.64 on a core of 2026. A list of 20 tasks has 120,000."""

_MAX_REPAIRS: Final = 4  # calls of json_repair for one reply
_DATA: Final = re.compile(r"""\{\s*(?:["'“”„‘]|\\"|\w+\s*:)|\[\s*(?:["'“”„‘{]|\\"|\[\s*["'“”„‘{])""")


def may_be_data(text: str, start: int) -> bool:
    """Tells whether an opening bracket looks like one of data, and not of prose."""
    return _DATA.match(text, start) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Repaired:
    """What json_repair made of a broken value."""

    value: Any
    end: int  # where the broken value was taken to end
    source: str  # the broken value, with its escapes read
    keeps_all: bool  # whether all letters of the source came back
    mark: str

    def is_cut(self, part: object) -> bool:
        """Tells whether a part of the value ran into the end of the text."""
        return self.mark in strings_of(part)

    def stands(self, part: object) -> bool:
        """Tells whether a string, or all strings of an object, stand whole in the source."""
        if isinstance(part, dict):
            return all(
                self._stands(key, ":") and (not isinstance(value, str) or self._stands(value))
                for key, value in part.items()
            )
        return isinstance(part, str) and self._stands(part)

    def _stands(self, string: str, then: str = r",\]}\"'“”‘’#/") -> bool:
        quoted = rf"[\"'“”‘’]\s*{re.escape(string.strip())}\s*[\"'“”‘’]\s*(?:[{then}]|\Z)"
        return re.search(quoted, self.source) is not None


class Repairer:
    """Hands what is broken in one text to json_repair, a few times at most."""

    def __init__(self, text: str) -> None:
        self.too_large = False  # whether anything was
        self._text = text
        self._calls = 0

    def repairs(self, start: int, closer: str, first_end: re.Pattern[str]) -> Iterator[Repaired]:
        """Repairs the broken value at `start`, once for each place where it may end.

        These are where `first_end` finds a closing bracket, and the last `closer`, since json_repair would draw prose
        behind it into the value, or else the end of the text.
        """
        first = first_end.search(self._text, start)
        last = self._text.rfind(closer, start) + 1
        ends = [first.start() + 1] if first else []
        ends.append(last if last > start else len(self._text))
        for end in dict.fromkeys(ends):
            if self._calls == _MAX_REPAIRS:
                return
            self._calls += 1
            broken = self._text[start:end]
            quotes = sum(map(broken.count, "\"'“”"))
            if len(broken) > REPAIR_MAX_CHARS or len(broken) * quotes > REPAIR_MAX_WORK:
                self.too_large = True
                continue
            present = set(broken)
            mark = next(char for char in map(chr, itertools.count(0xFDD0)) if char not in present)  # a noncharacter
            try:
                value: object = json_repair.repair_json(broken + mark, return_objects=True, skip_json_loads=True)
            except Exception:  # it is made of heuristics: whatever it raises, the text could not be mended
                value = None
            source = unescape(broken)
            yield Repaired(value, end, source, _letters(value) >= _letters(source), mark)


def _letters(value: object) -> int:
    """Counts the letters and digits of a value, or of a text."""
    scalars = (str(part) for part in parts_of(value) if not isinstance(part, (dict, list)))
    return sum(map(str.isalnum, "".join(scalars)))
