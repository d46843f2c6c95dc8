"""Texts: made fit to be stored or to be shown, and their normal form, by which a text is known again."""

from __future__ import annotations

import unicodedata

from textmint.transforms.core.identity import stable_hash

_UNSHOWN = "\N{REPLACEMENT CHARACTER}"
_SHOWN = "\n\t\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # the joiners are part of Persian, Hindi and emoji


def columns_of(text: str) -> int:
    """Measures the columns of a text on a terminal; four characters count as one at least, visible or not."""
    if text.isascii() and text.isprintable():
        return len(text)
    import wcwidth  # only now: it takes 20 ms, and commands that only show texts need it not

    columns = wcwidth.wcswidth(text)
    if columns < 0:  # it holds control characters, each of which is -1 wide and counts as one
        columns = sum(abs(wcwidth.wcwidth(char)) for char in text)
    return max(columns, len(text) // 4)


def clean_text(text: str) -> str:
    """Makes a text fit to be stored as UTF-8: surrogate pairs are joined, lone surrogates become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def printable_text(text: str) -> str:
    """Makes any text safe to be shown on a terminal.

    U+FFFD replaces control characters (such as ESC) and those that misrepresent a text, such as the bidirectional
    overrides (CVE-2021-42574); line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _SHOWN or unicodedata.category(char) == "Zs" else _UNSHOWN
        for char in clean_text(text)
    )


def printable_line(text: str, limit: int | None = None) -> str:
    """Makes any text one line that is safe to be shown, of at most `limit` characters."""
    line = " ".join(printable_text(text if limit is None else text[: 4 * limit]).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def counted(number: int, singular: str, plural: str = "") -> str:
    """Writes a number with its noun, whose plural has an s where none is given."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def clean_name(name: str) -> str:
    """Makes a name from an endpoint, such as a model's version, fit to be stored and shown."""
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else _UNSHOWN for char in clean_text(name))


def fold_case(text: str) -> str:
    """Folds case and compatibility forms: caseless matching of the Unicode Standard (D146) with NFKC."""
    if text.isascii():  # nothing to compose, and case folding is lower case
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_text(text)).casefold())


def normalise_text(text: str) -> str:
    """Returns the normal form of a text, equal for texts that differ only in case, white space or Unicode form."""
    return " ".join(fold_case(text).split())


def text_id(text: str) -> str:
    """Returns the hash of the normal form of a text."""
    return stable_hash("text", normalise_text(text))
