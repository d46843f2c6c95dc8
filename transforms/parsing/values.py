"""JSON values: what models do with keys, and helpers to look through a value."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textmint.transforms.core.texts import clean_text


class RepeatedKeys(dict[str, Any]):
    """An object whose keys may come twice: it has the last value of each; `earlier` has the others."""

    __slots__ = ("earlier",)

    def __init__(self, pairs: Sequence[tuple[str, Any]] = ()) -> None:
        super().__init__()
        self.earlier: list[tuple[str, Any]] = []
        for key, value in pairs:
            self.put(key, value)

    def put(self, key: str, value: object) -> None:
        """Sets a key, and remembers the value that it had."""
        if key in self:
            self.earlier.append((key, self[key]))
        self[key] = value


def pairs_of(candidate: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Lists all keys and values of an object, with those of keys that come twice."""
    return [*getattr(candidate, "earlier", ()), *candidate.items()]


@functools.lru_cache(maxsize=256)
def key_form(key: str) -> str:
    """Returns what is left of a key without case, spaces, hyphens, escapes and other marks."""
    if len(key) > 100:  # no field's
        return ""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", key).casefold()))


def is_same_text(one: object, other: object) -> bool:
    """Tells whether two values are strings that differ in white space around them at most."""
    return isinstance(one, str) and isinstance(other, str) and one.strip() == other.strip()


def kind_of(value: object) -> str:
    """Names the type of a JSON value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    return "a number"


def as_json(value: object) -> str:
    """Writes a value as JSON that can be stored."""
    try:
        return clean_text(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:  # the exact reader may go deeper than the writer
        return json.dumps("(nested too deeply to be shown)")


def parts_of(value: object) -> Iterator[Any]:
    """Lists a JSON value and everything in it: containers, keys and scalars, in no particular order."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def strings_of(value: object) -> str:
    """Joins all keys and strings of a JSON value."""
    return "".join(part for part in parts_of(value) if isinstance(part, str))


def dicts_of(value: object) -> Iterator[dict[str, Any]]:
    """Lists a value if it is an object, or the objects in it if it is a list, in order."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
        elif isinstance(item, list):
            waiting.extend(reversed(item))
