"""Markdown of hostile values: texts that a user or a model wrote, shown as they are and without any effect."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from markupsafe import Markup
from textmint.transforms.core.texts import clean_text

CELL: Final = 120  # characters of a value in a table
_JOINERS: Final = "\u200c\u200d"  # invisible, and part of how Persian, Hindi and some emoji are written
_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,80}")
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()<>#+|~$&@!])")
_ADDRESS: Final = re.compile(r"(?i)(https?|ftp|mailto|www)([:.])")  # Markdown makes links of bare addresses


def inline(value: object, limit: int = CELL) -> str:
    """Escapes a text, or what JSON can hold, as one line of Markdown that shows `limit` of its characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    text = _cut(clean_text(text), limit)
    text = " ".join("".join(_visible(char) for char in text).split())
    return _ADDRESS.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text)) or '""'


def name(value: object) -> Markup:
    """Formats a name as Markdown code, if all its letters are those of a name; anything else is escaped."""
    is_name = isinstance(value, str) and _NAME.fullmatch(value)
    return Markup(f"`{value}`" if is_name else inline(value))


def _visible(char: str) -> str:
    """Replaces a control character by a space, and drops one that reorders or hides others."""
    if char.isprintable() or char in _JOINERS:
        return char
    return "" if unicodedata.category(char) == "Cf" else " "


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …"


def json_block(texts: Mapping[str, object], limit: int) -> Markup:
    """Formats texts, by harmless names, as JSON for a fenced block, `limit` characters of each. No value can end the
    block, since none has a line of its own."""
    cut = {key: _cut(clean_text(str(text)), limit) for key, text in texts.items()}
    shown = json.dumps(cut, ensure_ascii=False, indent=2)
    return Markup("".join(char if _is_harmless(char) else json.dumps(char)[1:-1] for char in shown))


def _is_harmless(char: str) -> bool:
    """Says whether a character of JSON may stand as it is; the line breaks are those of the layout."""
    return char == "\n" or char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"
