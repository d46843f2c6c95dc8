"""Texts: made fit to be stored, and their normal form, by which a text is known again."""

from __future__ import annotations

import unicodedata

from transforms.identity import stable_hash


def clean_text(text: str) -> str:
    """Any text -> the text as it can be stored: surrogate pairs joined, lone surrogates replaced by U+FFFD.

    Python strings, and JSON escapes, can hold lone surrogates; UTF-8, hence Parquet, cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


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
