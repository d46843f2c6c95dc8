"""Texts: made fit to be stored or to be shown, and their normal form, by which a text is known again."""

from __future__ import annotations

import unicodedata

import wcwidth
from textmint.transforms.core.identity import stable_hash

_UNSHOWN = "\N{REPLACEMENT CHARACTER}"
_LAYOUT = "\n\t"
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # Persian, Hindi and emoji are spelled with them


def columns_of(text: str) -> int:
    """Measures how many columns of a terminal a text takes; four characters count as one at least, seen or not."""
    columns = wcwidth.wcswidth(text)
    return len(text) if columns < 0 else max(columns, len(text) // 4)  # below 0 where it holds control characters


def clean_text(text: str) -> str:
    """Makes a text fit to be stored: surrogate pairs are joined, lone surrogates become U+FFFD.

    Python strings, and JSON escapes, can hold lone surrogates; UTF-8, hence Parquet, cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def printable_text(text: str) -> str:
    """Makes any text safe to be shown on a terminal.

    A terminal obeys control characters (C0 and C1, such as ESC), and characters such as the bidirectional overrides
    show a text as another than it is (CVE-2021-42574). U+FFFD takes the place of each; line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) else _UNSHOWN for char in clean_text(text))


def _is_shown(char: str) -> bool:
    return char.isprintable() or char in _LAYOUT or char in _JOINERS or unicodedata.category(char) == "Zs"


def printable_line(text: str, limit: int | None = None) -> str:
    """Makes any text one line that is safe to be shown; all white space becomes a single space.

    Args:
      text: as for `printable_text`.
      limit: how many characters it may have; None: any number.
    """
    line = " ".join(printable_text(text if limit is None else text[: 4 * limit]).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def clean_name(name: str) -> str:
    """Makes a name that an endpoint gives itself, such as a model's version, fit to be stored and to be shown."""
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else _UNSHOWN for char in clean_text(name))


def fold_case(text: str) -> str:
    """Folds case and compatibility forms: the caseless matching of the Unicode Standard (D146) with NFKC
    (https://unicode.org/reports/tr15/)."""
    if text.isascii():  # nothing to compose, and case folding is lower case
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_text(text)).casefold())


def normalise_text(text: str) -> str:
    """Returns the normal form of a text, equal for texts that differ only in case, white space or Unicode form."""
    return " ".join(fold_case(text).split())


def text_id(text: str) -> str:
    """Returns the hash of the normal form of a text."""
    return stable_hash("text", normalise_text(text))
