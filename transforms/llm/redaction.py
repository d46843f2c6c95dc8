"""Keys and tokens, found in whatever form a text quotes them, and taken out."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

DETAIL_CHARS: Final = 300
_MASK: Final = "[key]"
_KEYS: Final = (
    r"\bsk-[\w-]{12,}",
    r"\bAIza[\w-]{20,}",  # Google's API keys, old and new, and its access tokens
    r"\bAQ\.[\w-]{20,}",
    r"\bya29\.[\w.-]+",
    r"\beyJ[\w-]+\.[\w-]+\.[\w-]+",  # JSON Web Tokens
    r"(?i:\bbearer\s+)[\w.~+/=-]{6,}",
)


@functools.lru_cache(maxsize=64)
def _forms(secret: str) -> tuple[str, ...]:
    """Lists the forms in which a secret can be quoted, the longest first: as it is, as a part of a URL, in base64; each
    also as JSON writes it in a string, or in a string of a string."""
    coded = base64.b64encode(secret.encode()).decode()
    safe = coded.replace("+", "-").replace("/", "_")
    forms = {secret, quote(secret, safe=""), unquote(secret), coded, safe, coded.rstrip("="), safe.rstrip("=")}
    for _ in range(2):
        forms |= {escaped for form in forms for escaped in _in_json(form)}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _in_json(text: str) -> set[str]:
    """Writes a text as in a JSON string; PHP also escapes slashes, and Go the marks of HTML."""
    plain = json.dumps(text)[1:-1]
    for_html = plain.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&"})
    return {plain, plain.replace("/", "\\/"), for_html}


def masked(text: str, secrets: Iterable[str]) -> str:
    """Takes secrets out of a text that is kept.

    A word that stands in the place of a key ("EMPTY", "ollama", "not-needed") is no secret, and may be a word of the
    text: what is masked has 12 characters and a digit at least, or 20.
    """
    for secret in secrets:
        if len(secret) >= 20 or (len(secret) >= 12 and any(map(str.isdigit, secret))):
            for form in _forms(secret):
                text = text.replace(form, _MASK)
    return text


@functools.lru_cache(maxsize=16)
def secret_pattern(*secrets: str) -> re.Pattern[str]:
    """Makes a pattern that finds what must not be shown: whatever looks like a key, and known secrets in any form."""
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    # A word of a few letters is hidden only where it stands alone; it may be a part of others.
    exact = [
        re.escape(form) if len(form) >= 8 else rf"(?<![\w-]){re.escape(form)}(?![\w-])"
        for form in sorted(forms, key=len, reverse=True)
    ]
    return re.compile("|".join([*exact, *_KEYS]))


def one_line(text: str, *secrets: str) -> str:
    """Shortens a text of an endpoint or a client to one printable line of at most 300 characters, without keys."""
    line = secret_pattern(*secrets).sub(_MASK, text)  # before it is cut: half a key would not be found
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())
    return line if len(line) <= DETAIL_CHARS else line[: DETAIL_CHARS - 1] + "…"
