"""Language identification: tells whether a text is in the language that it should be in.

The verdict is right, wrong or unknown. "Wrong" is said only where it is as good as certain. It is "unknown" where
  - the text is short (`min_bytes`), or the identifier is not sure (`min_confidence`): names, code, numbers, slang;
  - the identifier does not know the language asked for (Sindhi, Sundanese, Yiddish), or the language is written
    otherwise than it learnt it (the five romanized rows of XLM-R, Burmese in the Zawgyi encoding);
  - the language found is so near to the one asked for that one is easily taken for the other (RELATED). Hindi and
    Urdu need no such entry, for their scripts differ.
Nothing is said of Chinese in one script where the other was asked for.

The identifier is py3langid 0.4: a BSD licence, and a model of 139 languages that travels in its wheel (4.6 MB, pure
Python). Others that need no download were measured beside it, on 12,657 texts in 90 rows of XLM-R (the Universal
Declaration of Human Rights, and messages of Django's user interface) on one core of 2026. How often they are right
is of all texts. How often they are sure, with a confidence of 0.95, and how often wrong then, is of the 9,120 that are
one sentence or one message; languages they do not know, RELATED ones, and messages that nobody had translated from
English are left out of the latter.

                           of 94 languages  right   sure  wrong   ms a text    memory
    py3langid 0.4          91               96.3 %  81 %   0      0.05 - 0.15  105 MB
    pycld2 0.42            94               96.2 %  94 %  34      0.01 - 0.02    3 MB  no wheel for Macs with Intel
    cld3-py 3.1            88               93.7 %  90 %   8      0.03 - 0.11    3 MB
    fastText lid.176.ftz   91               92.1 %  53 %   2      0.02 - 0.07    6 MB  its package brings a downloader
    lingua 2.1             67               76.9 %  71 %   5      0.7  - 0.9     1 GB  2.2 needs Python 3.12

All the texts are public, so each of them may have seen some in training.

It takes half a second to load, once a process. A text gets the same answer in every process and order. On another kind
of processor its confidence may differ in the sixth digit, as sums of floating-point numbers do: by 5e-6 at most
in these texts, and never the language.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Final, Literal

from textmint.transforms.core.languages import XLM_R, find_language

Verdict = Literal["right", "wrong", "unknown"]

READ_CHARS: Final = 2_000
"""How much of a text is read, from its beginning. It is far more than the identifier needs, and bounds what a huge one
costs: 1 ms at the most, in Chinese."""

MIN_BYTES: Final = 40
"""Of UTF-8, so some 40 Latin, 20 Cyrillic or 13 Chinese or Thai letters. Shorter texts are judged too rarely to be
worth the risk: a dish, a name or a loan word decides."""

MIN_CONFIDENCE: Final = 0.99
"""Of the identifier, which calibrates it to the length of the text. At 0.99, 71 % of the texts of under 100 characters
in the measurement above are judged, 92 % of the longer ones, and as many are refused when another language is asked
for. None was refused wrongly at 0.7 either; the distance is for mixtures, such as a menu in English, full of Italian,
which is Italian with 0.98."""

_NOT_A_LANGUAGE: Final = "zxx"  # what the identifier says of numbers, markup, code

_FAMILIES: Final = (
    "da no nb nn sv",
    "is fo",
    "sr hr bs sl",
    "mk bg sr",
    "cs sk",
    "be ru uk",
    "es gl pt ca an ext oc",
    "it vec lij la",
    "fr gcf gcr wa ht",
    "nl af fy lb de",
    "en pcm",
    "ga gd",
    "lv ltg",
    "ro vec",
    "el grc",
    "he hbo",
    "ar ary arz",
    "fa ps sdh ku",
    "tr az crh tk",
    "kk ky tt ba",
    "uz uzs ug",
    "hi mr ne sa gom",
    "bn as",
    "id ms jv su ace",
    "tl bcl",
    "zh yue wuu",
    "xh zu nso st sn",
    "so om",
)
RELATED: Final = frozenset(
    (one, other) for family in _FAMILIES for one in family.split() for other in family.split() if one != other
)
"""Pairs of codes, in both orders: one of them found where the other was asked for is no proof. Some are told apart well
in longer texts (Swedish and Danish, Dutch and German), but a writer of dialect, of quotations or of loan words
comes near to them."""

_TWINS: Final = ("zh wuu yue", "da no nn", "sr hr bs", "id ms", "ar arz ary")
_TWINS_OF: Final = {code: frozenset(twins.split()) for twins in _TWINS for code in twins.split()}
"""Languages that are so alike in writing that the identifier shares its confidence out among them. Asked for another
language, it is their sum that counts."""

_CODES: Final = {"fil": "tl", "zh-Hans": "zh", "zh-Hant": "zh"}  # by our code the identifier's, where they differ
_NAMES: Final = {language.code: language.name for language in XLM_R} | {"zh": "Chinese"}


@dataclasses.dataclass(frozen=True, slots=True)
class LanguageCheck:
    """What is said of a text's language, and the identifier's reasons."""

    verdict: Verdict
    found: str | None = None  # a name of XLM-R, or the code of another language; None where it was not asked
    confidence: float | None = None  # 0 to 1


_UNASKED: Final = LanguageCheck("unknown")


@functools.cache
def _identifier() -> Any:
    from py3langid import langid  # here, for it takes a moment, and not every process needs it

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@functools.cache
def identifier_code(language: str) -> str | None:
    """Finds the code by which the identifier knows a language; None where it cannot tell it.

    Raises:
      languages.UnknownLanguage: it is none of XLM-R's.
    """
    known = find_language(language)
    code = _CODES.get(known.code, known.code)
    return code if not known.romanized and code in _identifier().labels else None


def check_language(
    text: str, language: str, *, min_bytes: int = MIN_BYTES, min_confidence: float = MIN_CONFIDENCE
) -> LanguageCheck:
    """Checks whether a text is in a language.

    Args:
      text: any; its beginning is read.
      language: a name of XLM-R's.
      min_bytes: of UTF-8; nothing is said of a shorter text.
      min_confidence: between 0 and 1; nothing is said where the identifier is less sure.

    Raises:
      languages.UnknownLanguage: the language is none of XLM-R's.
    """
    asked = identifier_code(language)
    read = " ".join(text[:READ_CHARS].split())
    if asked is None or len(read.encode("utf-8", "replace")) < min_bytes:
        return _UNASKED
    found, confidence = _identifier().classify(read)
    if confidence < min_confidence and found in _TWINS_OF:
        confidence = sum(share for code, share in _identifier().rank(read) if code in _TWINS_OF[found])
    verdict: Verdict = "unknown"
    if confidence >= min_confidence and found != _NOT_A_LANGUAGE:
        if asked == found or asked in _TWINS_OF.get(found, ()):
            verdict = "right"
        elif (asked, found) not in RELATED:
            verdict = "wrong"
    return LanguageCheck(verdict, _NAMES.get(found, found), confidence)
