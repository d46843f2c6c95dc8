"""Results of parsing: what was read from a reply, or why it was refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

T = TypeVar("T")

REPAIRS: Final[Mapping[str, str]] = {
    # around the value
    "bom": "a byte order mark stood before the reply",
    "fence": "the value stood in a fenced code block",
    "prose": "other text stood before or after the value",
    "reasoning": "the model's reasoning stood before the answer",
    # notation
    "quotes": "strings were quoted with ' or with typographic or triple quotes",
    "escapes": "a string held escapes that JSON does not know, such as \\' or \\x41",
    "inner_quotes": "quotation marks inside a string were not escaped",
    "raw_newline": "a string held raw line breaks, tabs or other control characters",
    "joined_strings": "a value was written as several strings in a row, as Python allows",
    "literals": "True, False, None and the like were not spelled as in JSON",
    "bare_keys": "keys were not quoted",
    "trailing_comma": "a comma stood before a closing bracket",
    "comments": "the value held comments",
    "missing_close": "closing brackets were missing at the end of the reply",
    "punctuation": "commas, colons or brackets between values were those of another script",
    "syntax": "the syntax was broken and mended by json_repair",
    "surrogates": "lone surrogates were replaced by U+FFFD",
    # structure
    "one_element_list": "the value stood in a list of its own",
    "several_objects": "there were several objects; the first complete one was taken",
    "wrapped_object": "the object stood in another one",
    "json_string": "the JSON stood in a JSON string",
    "key_spelling": "keys were spelled in another case, or with spaces, hyphens or escapes",
    "repeated_keys": "keys came twice with the same value",
    "extra_keys": "keys that were not asked for were left out",
    "wrapped_list": "the list stood in an object",
    "object_items": "items of the list were objects that hold one string",
    "several_lists": "there were several lists; they were joined",
    "line_list": "the list was written as numbered or bulleted lines",
    "cut_list": "the list was cut off; its complete items were kept",
}
"""The closed set of what can be mended in a reply, each with its meaning."""

_DETAIL_CHARS = 200


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """What was read from a reply."""

    value: T
    repairs: tuple[str, ...]  # names in REPAIRS, sorted; () for exact JSON of exactly the structure asked for
    refused: tuple[tuple[str, str, str], ...] = ()  # items of a list: (reason, detail, the item as JSON)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a reply was not taken."""

    reason: str  # one of elements.REASONS
    detail: str  # one printable line for a person, at most 200 characters


def detail_line(text: str) -> str:
    """Makes a text one printable line that fits into a detail."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _DETAIL_CHARS else line[: _DETAIL_CHARS - 1] + "…"
