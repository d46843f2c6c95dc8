"""Words: a text folded for comparison, how many words it has, and whether another stands in it as whole words.

Scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, ...; SA and ID of
https://unicode.org/reports/tr14/) would need dictionaries; here rules on characters must do.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from textmint.transforms.core.texts import fold_case

# Ranges are written as code points, since some of their first letters have a twin in another block.
_HAN: Final = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HIRAGANA: Final = "\u3041-\u309f"
_KATAKANA: Final = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # without the middle dot, which parts words
_BOPOMOFO: Final = "\u3105-\u312f\u31a0-\u31bf"
# Thai, Lao, Tibetan, Burmese, Khmer, Tai Le, New Tai Lue, Tai Tham, Balinese, Javanese, Burmese extended
_SOUTH_EAST: Final = (
    "\u0e01-\u0e5b\u0e81-\u0edf\u0f00-\u0fda\u1000-\u109f\u1780-\u17f9\u1950-\u1974\u1980-\u19df\u1a20-\u1aad"
    "\u1b00-\u1b7c\ua980-\ua9df\ua9e0-\ua9fe\uaa60-\uaa7f"
)


_SOUTH_EAST_CHARS: Final = [
    chr(code)
    for first, last in zip(_SOUTH_EAST[::3], _SOUTH_EAST[2::3], strict=True)
    for code in range(ord(first), ord(last) + 1)
]
_UNSPACED: Final = re.compile(f"[{_HAN}{_HIRAGANA}{_KATAKANA}{_BOPOMOFO}{_SOUTH_EAST}]")
_IDEOGRAPHIC: Final = re.compile(f"[{_HAN}{_HIRAGANA}{_KATAKANA}{_BOPOMOFO}]")
_IS_HAN: Final = re.compile(f"[{_HAN}]")
_IS_KATAKANA: Final = re.compile(f"[{_KATAKANA}]")
_IS_SOUTH_EAST: Final = re.compile(f"[{_SOUTH_EAST}]")
# A letter of these scripts with the signs, digits and marks behind it.
_SOUTH_EAST_CLUSTER: Final = re.compile(
    f"[{''.join(filter(str.isalpha, _SOUTH_EAST_CHARS))}]"
    f"[{''.join(char for char in _SOUTH_EAST_CHARS if not char.isalpha())}]*"
)
_IS_HANGUL: Final = re.compile("[\uac00-\ud7a3]")
_IS_ARABIC: Final = re.compile("[\u0620-\u06ff]")

# What parts words inside a compound or a line, but does not end a clause: "the customer. Service was slow" does not
# hold "customer service".
_GAP: Final = re.compile(r"[\s\-_/'’ʼ‐‑–·・\u200c]+")

# Soft hyphen, zero-width space and joiner, direction marks, variation selectors, byte order mark. The zero-width
# non-joiner parts Persian words, and is a gap.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b\u200d-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]"
)

_LEADING_VOWELS: Final = "เแโใไເແໂໃໄ"  # written before the consonant they belong to
_TRAILING_VOWELS: Final = "ะาำๅະາຳ"  # letters, but never the first of a word
_STACKERS: Final = "\u1039\u17d2"  # Burmese and Khmer: the next consonant belongs to this one
_BURMESE_CLOSERS: Final = "\u1039\u103a"  # the consonant before ends a syllable, hence is no first letter
_ARABIC_ARTICLE: Final = re.compile(r"(?<![^\W_])[وف]?(?:[بك]?ال|لل)$")
_KOREAN_PARTICLE: Final = re.compile(
    "(?:은|는|이|가|을|를|의|에|에서|에게|께서|으로|로|와|과|도|만|까지|부터|보다|처럼|이나|나|이라는|라는|이라고|라고"
    "|이다|이며|이고|입니다|이에요|예요|이었다|였다)(?![\uac00-\ud7a3])"
)

THAI_LETTERS_PER_WORD: Final = 3
"""Letters, without vowel signs and tones, of a word in South-East Asian scripts without spaces: a rule of thumb, which
`quality.Checks` uses with a wide slack."""


def fold(text: str) -> str:
    """Removes case, compatibility forms, invisible characters and the dots of Turkish i; line breaks stay."""
    folded = fold_case(text)
    if folded.isascii():
        return folded
    return _INVISIBLE.sub("", folded).replace("i\u0307", "i").replace("ı", "i")


def spaced(folded: str) -> str:
    """Puts one space for all that parts words: "non-profit" and "non_profit" become "non profit"."""
    return _GAP.sub(" ", folded)


def is_unspaced(text: str) -> bool:
    """Says whether a text holds letters of a script that puts no spaces between words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def count_words(text: str) -> tuple[int, int]:
    """Counts the fewest and the most words of a text, which are equal in scripts with spaces.

    Chinese characters, kana and bopomofo count as half a word at the fewest, as a word at the most. In South-East Asian
    scripts THAI_LETTERS_PER_WORD letters are a word.
    """
    ideographs = letters = 0
    if not text.isascii() and _UNSPACED.search(text):
        text, ideographs = _IDEOGRAPHIC.subn(" ", text)
        text, letters = _SOUTH_EAST_CLUSTER.subn(" ", text)
    tokens = text.split()
    mixed = [token for token in tokens if not token.isalnum()]  # few
    words = len(tokens) - sum(not any(map(str.isalnum, token)) for token in mixed)
    words += letters // THAI_LETTERS_PER_WORD
    return words + ideographs // 2, words + ideographs


def holds(text: str, needle: str) -> bool:
    """Says whether a text holds another as whole words; both are folded and spaced.

    A word ends where a letter, a digit or a combining mark meets something else. In scripts without spaces it may end
    between any two characters that are not written as one, and where another script begins; a run of katakana is one
    word. Korean particles may follow a noun, and the Arabic article may stand before three letters or more.
    """
    at = text.find(needle) if needle else -1
    while at >= 0:
        end = at + len(needle)
        if _starts_word(text, at, needle) and _ends_word(text, end, needle):
            return True
        at = text.find(needle, at + 1)
    return False


def _is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def _one_word(left: str, right: str) -> bool:
    """Says whether two neighbours are parts of one word, by what they are alone."""
    if not _is_word(left) or not _is_word(right):
        return left == right and not left.isspace() and unicodedata.category(left)[0] != "P"  # "$$" is not in "$$$"
    if _UNSPACED.match(left) or _UNSPACED.match(right):
        return _IS_KATAKANA.match(left) is not None and _IS_KATAKANA.match(right) is not None
    return True


def _starts_word(text: str, at: int, needle: str) -> bool:
    if at == 0:
        return True
    before = text[at - 1]
    if not _one_word(before, text[at]):
        return before not in _LEADING_VOWELS and before not in _STACKERS
    if len(needle) > 2 and _IS_ARABIC.match(needle):
        return _ARABIC_ARTICLE.search(text, max(0, at - 5), at) is not None
    return False


def _ends_word(text: str, end: int, needle: str) -> bool:
    if end == len(text):
        return True
    after = text[end]
    if unicodedata.category(after)[0] == "M" and _is_word(needle[-1]):
        return False
    if not _one_word(needle[-1], after):
        closed = text[end + 1 : end + 2]
        return after not in _TRAILING_VOWELS and not (closed and closed in _BURMESE_CLOSERS)
    return _IS_HANGUL.match(after) is not None and _KOREAN_PARTICLE.match(text, end) is not None


def is_telling(text: str) -> bool:
    """Says whether a folded text, such as a label, is too long to stand in another by chance.

    That is three letters, digits or vowel signs; two Chinese characters or Korean syllables; in South-East Asian
    scripts three letters, or four with their signs.
    """
    letters = sum(map(str.isalnum, text))
    if text.isascii():
        return letters >= 3
    signs = sum(unicodedata.category(char)[0] == "M" for char in text)
    if _IS_SOUTH_EAST.search(text):
        return letters >= 3 or letters + signs >= 4
    return letters + signs >= (2 if _IS_HAN.search(text) or _IS_HANGUL.search(text) else 3)
