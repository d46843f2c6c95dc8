"""What somebody meant who typed a word that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """Returns the known word that was most likely meant: one that begins with what was typed, else one that holds it,
    else one that is spelled much like it, whatever the case."""
    words: dict[str, str] = {}
    for one in known:
        words.setdefault(one.casefold(), one)
    word = typed.casefold()[:100]
    if len(word.strip("-")) >= 2:  # nearly every word holds a single letter
        for is_near in (str.startswith, str.__contains__):
            if found := next((one for one in words if is_near(one, word)), None):
                return words[found]
    close = difflib.get_close_matches(word, words, n=1)
    return words[close[0]] if close else None


def hint(typed: str, known: Iterable[str]) -> str:
    """Returns `: did you mean that?` with what `nearest` finds, to follow a message; "" if nothing is near."""
    near = nearest(typed, known)
    return f": did you mean {near}?" if near else ""
