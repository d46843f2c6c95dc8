"""Languages: the 100 of XLM-R, how a person may name them, and how often the paper drew each.

They are the rows of "Unsupervised Cross-lingual Representation Learning at Scale" (arXiv 1911.02116), Appendix A, Table
6, with 93 languages: five rows are romanized, Chinese has a row for each script, and Burmese has two. The table prints
"Burmese" twice; the second is Burmese in the Zawgyi encoding, as the codes of CC-100 (https://data.statmt.org/cc-100/)
say.
"""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from fractions import Fraction
from typing import Final


@dataclasses.dataclass(frozen=True, slots=True)
class Language:
    """One row of Table 6."""

    name: str  # as in the table; it is what prompts and rows say
    code: str  # a BCP 47 tag; the table gives only the primary subtag, and "-" for romanized variants
    aliases: tuple[str, ...] = ()  # other names and codes that mean this row
    romanized: bool = False  # written in Latin letters although the language has another script


XLM_R: Final[tuple[Language, ...]] = (
    Language("Afrikaans", "af"),
    Language("Amharic", "am"),
    Language("Arabic", "ar", ("Modern Standard Arabic",)),
    Language("Assamese", "as"),
    Language("Azerbaijani", "az", ("Azeri",)),
    Language("Belarusian", "be", ("Byelorussian",)),
    Language("Bulgarian", "bg"),
    Language("Bengali", "bn", ("Bangla",)),
    Language("Bengali Romanized", "bn-Latn", ("Romanized Bengali", "bn_rom"), romanized=True),
    Language("Breton", "br"),
    Language("Bosnian", "bs"),
    Language("Catalan", "ca", ("Valencian",)),
    Language("Czech", "cs"),
    Language("Welsh", "cy"),
    Language("Danish", "da"),
    Language("German", "de", ("Deutsch",)),
    Language("Greek", "el", ("Modern Greek",)),
    Language("English", "en"),
    Language("Esperanto", "eo"),
    Language("Spanish", "es", ("Castilian", "Español")),
    Language("Estonian", "et"),
    Language("Basque", "eu", ("Euskara",)),
    Language("Persian", "fa", ("Farsi",)),
    Language("Finnish", "fi"),
    Language("French", "fr", ("Français",)),
    Language("Western Frisian", "fy", ("Frisian", "West Frisian")),
    Language("Irish", "ga", ("Irish Gaelic", "Gaeilge")),
    Language("Scottish Gaelic", "gd", ("Scots Gaelic",)),
    Language("Galician", "gl"),
    Language("Gujarati", "gu"),
    Language("Hausa", "ha"),
    Language("Hebrew", "he", ("iw",)),
    Language("Hindi", "hi"),
    Language("Hindi Romanized", "hi-Latn", ("Romanized Hindi", "hi_rom"), romanized=True),
    Language("Croatian", "hr"),
    Language("Hungarian", "hu", ("Magyar",)),
    Language("Armenian", "hy"),
    Language("Indonesian", "id", ("Bahasa Indonesia",)),
    Language("Icelandic", "is"),
    Language("Italian", "it", ("Italiano",)),
    Language("Japanese", "ja"),
    Language("Javanese", "jv"),
    Language("Georgian", "ka"),
    Language("Kazakh", "kk"),
    Language("Khmer", "km", ("Cambodian",)),
    Language("Kannada", "kn"),
    Language("Korean", "ko"),
    Language("Kurdish (Kurmanji)", "ku", ("Kurdish", "Kurmanji", "Northern Kurdish", "kmr")),
    Language("Kyrgyz", "ky", ("Kirghiz",)),
    Language("Latin", "la"),
    Language("Lao", "lo", ("Laotian",)),
    Language("Lithuanian", "lt"),
    Language("Latvian", "lv"),
    Language("Malagasy", "mg"),
    Language("Macedonian", "mk"),
    Language("Malayalam", "ml"),
    Language("Mongolian", "mn"),
    Language("Marathi", "mr"),
    Language("Malay", "ms", ("Bahasa Melayu", "Bahasa Malaysia")),
    Language("Burmese", "my", ("Myanmar",)),
    Language("Burmese (Zawgyi)", "my-x-zawgyi", ("Burmese zawgyi font", "Zawgyi", "my_zaw")),
    Language("Nepali", "ne"),
    Language("Dutch", "nl", ("Flemish", "Nederlands")),
    Language("Norwegian", "no", ("Norwegian Bokmål", "Bokmål", "nb")),
    Language("Oromo", "om", ("Afaan Oromo",)),
    Language("Oriya", "or", ("Odia",)),
    Language("Punjabi", "pa", ("Panjabi",)),
    Language("Polish", "pl", ("Polski",)),
    Language("Pashto", "ps", ("Pushto",)),
    Language("Portuguese", "pt", ("Português",)),
    Language("Romanian", "ro", ("Moldovan",)),
    Language("Russian", "ru"),
    Language("Sanskrit", "sa"),
    Language("Sindhi", "sd"),
    Language("Sinhala", "si", ("Sinhalese",)),
    Language("Slovak", "sk"),
    Language("Slovenian", "sl", ("Slovene",)),
    Language("Somali", "so"),
    Language("Albanian", "sq"),
    Language("Serbian", "sr"),
    Language("Sundanese", "su"),
    Language("Swedish", "sv"),
    Language("Swahili", "sw", ("Kiswahili",)),
    Language("Tamil", "ta"),
    Language("Tamil Romanized", "ta-Latn", ("Romanized Tamil", "ta_rom"), romanized=True),
    Language("Telugu", "te"),
    Language("Telugu Romanized", "te-Latn", ("Romanized Telugu", "te_rom"), romanized=True),
    Language("Thai", "th"),
    Language("Filipino", "tl", ("Tagalog", "Pilipino", "fil")),
    Language("Turkish", "tr"),
    Language("Uyghur", "ug", ("Uighur",)),
    Language("Ukrainian", "uk"),
    Language("Urdu", "ur"),
    Language("Urdu Romanized", "ur-Latn", ("Romanized Urdu", "ur_rom"), romanized=True),
    Language("Uzbek", "uz"),
    Language("Vietnamese", "vi"),
    Language("Xhosa", "xh", ("isiXhosa",)),
    Language("Yiddish", "yi"),
    Language("Chinese (Simplified)", "zh-Hans", ("Chinese", "Simplified Chinese", "Mandarin", "zh", "zh-CN")),
    Language("Chinese (Traditional)", "zh-Hant", ("Traditional Chinese", "zh-TW", "zh-HK")),
)
"""The 100 rows of Table 6, in its order."""

NAMES: Final[tuple[str, ...]] = tuple(language.name for language in XLM_R)


class UnknownLanguage(ValueError):
    """A text that names none of the 100 languages; the message names the nearest one."""


_SHOWN = 60  # characters of a wrong text that a message repeats and that are compared; a real name has at most 22


def _key(text: str) -> str:
    """Removes case, accents, double spaces and underscores."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(bare.replace("_", "-").casefold().split())


_SPELLINGS: Final[dict[str, tuple[str, Language]]] = {
    _key(spelling): (spelling, language)
    for language in XLM_R
    for spelling in (language.name, language.code, *language.aliases)
}


def find_language(text: str) -> Language:
    """Returns the language of a name, code or alias, in any case, or raises UnknownLanguage."""
    key = _key(text)
    if key in _SPELLINGS:
        return _SPELLINGS[key][1]
    near = difflib.get_close_matches(key[:_SHOWN], _SPELLINGS, n=1)
    hint = "give the name or code of one of the 100 languages of XLM-R, such as 'German', 'th' or 'hi-Latn'"
    if near:
        hint = f"did you mean {_SPELLINGS[near[0]][0]!r}?"
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    raise UnknownLanguage(f"unknown language {shown!r}: {hint}")


_FIXED: Final = {
    "English": Fraction(431, 1000),
    **dict.fromkeys(("Arabic", "Dutch", "French", "German", "Indonesian", "Italian"), Fraction(29, 1000)),
    **dict.fromkeys(("Japanese", "Persian", "Polish", "Portuguese", "Russian", "Spanish"), Fraction(29, 1000)),
    **dict.fromkeys(("Chinese (Simplified)", "Chinese (Traditional)"), Fraction(29, 2000)),
}


def xlm_r_weights() -> dict[str, Fraction]:
    """Returns the share of each of the 100 languages, in the order of the table; the shares sum to 1.

    English has 43.1 %, thirteen high-resource languages 2.9 % each, the rest is even, after Figure 2 of arXiv
    2401.00368.
    """
    rest = (1 - sum(_FIXED.values(), Fraction())) / (len(NAMES) - len(_FIXED))
    return {name: _FIXED.get(name, rest) for name in NAMES}
