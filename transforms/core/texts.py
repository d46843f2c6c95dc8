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
    """Any text -> the text as it can be stored: surrogate pairs joined, lone surrogates replaced by U+FFFD.

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

    Args:
      text: what somebody else wrote: a reply, an error of an endpoint, the name of a file.

    Returns:
      the text, where it is all printable the same.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) else _UNSHOWN for char in clean_text(text))


def _is_shown(char: str) -> bool:
    return char.isprintable() or char in _LAYOUT or char in _JOINERS or unicodedata.category(char) == "Zs"


def printable_line(text: str, limit: int | None = None) -> str:
    """Makes any text safe to be shown in the middle of a line.

    Args:
      text: as for `printable_text`.
      limit: how many characters it may have; None: any number.

    Returns:
      one line, in which all white space is a single space.
    """
    line = " ".join(printable_text(text if limit is None else text[: 4 * limit]).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def clean_name(name: str) -> str:
    """Makes a name that an endpoint gives itself fit to be stored, and to be shown wherever it comes to.

    Args:
      name: such as the version of the model that has answered.

    Returns:
      the name, with U+FFFD in the place of whatever cannot be seen.
    """
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else _UNSHOWN for char in clean_text(name))


def normalise_text(text: str) -> str:
    """A text -> its normal form, equal for texts that differ only in case, white space or Unicode form (NFKC;
    https://unicode.org/reports/tr15/)."""
    if text.isascii():  # nothing to compose, and case folding is lower case
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_text(text)).casefold())
    return " ".join(folded.split())


def text_id(text: str) -> str:
    """A text -> the hash of its normal form."""
    return stable_hash("text", normalise_text(text))
