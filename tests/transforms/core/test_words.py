"""Words: folding, counting and whole words, in scripts with spaces and without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.words import count_words, fold, holds, is_telling, is_unspaced, spaced

ANY_TEXT = st.text(
    st.characters(codec=None, categories=None) | st.sampled_from("\ud800\udfff\u200b\u0e33\u17d2\u1039 '-")
)


def found(text: str, needle: str) -> bool:
    return holds(spaced(fold(text)), spaced(fold(needle)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("STRASSE", "straße"),
        ("ＡＢＣ", "abc"),
        ("İYİ", "iyi"),  # Turkish capitals, dotted and dotless
        ("KIZ", "kız"),
        ("ﾊﾞｸﾞ", "バグ"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),  # the final sigma
        ("e\u0301", "é"),
        ("so\u00adft\u200b", "soft"),  # soft hyphen, zero-width space
        ("❤️", "❤"),  # with and without a variation selector
    ],
)
def test_spellings_that_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_line_breaks_survive_folding_and_gaps_do_not() -> None:
    assert fold("A\nB") == "a\nb"
    assert spaced("a\n b-c_d/e’f\u200cg") == "a b c d e f g"
    assert spaced("a. b, c") == "a. b, c"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", (0, 0)),
        ("one two  three\nfour", (4, 4)),
        ("well-known, don't - … !", (2, 2)),  # marks alone are no words
        ("Да, конечно.", (2, 2)),
        ("मुझे यह पसंद है।", (4, 4)),
        ("今天天气很好", (3, 6)),  # six characters
        ("我用 iPhone 拍照", (3, 5)),  # four characters and a word
        ("カメラを買った", (3, 7)),
        ("ฉันชอบกินข้าว", (3, 3)),  # 11 letters, of which 4 words were made
        ("ខ្ញុំ", (0, 0)),  # two letters, a stacked one among them
        ("안녕하세요 여러분", (2, 2)),
    ],
)
def test_words_are_counted(text: str, words: tuple[int, int]) -> None:
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("A sport for all", "sport"),
        ("SPORT!", "Sport"),
        ("a non-profit", "non profit"),
        ("a non profit", "non-profit"),
        ("not_spam", "spam"),
        ("l'économie", "économie"),
        ("the cat’s tail", "cat"),
        ("« tarif »", "tarif"),
        ("这个app很好用", "app"),  # where scripts meet
        ("体育馆", "体育"),
        ("国内のスポーツ人口", "スポーツ"),
        ("ด้านกีฬาเพื่อ", "กีฬา"),
        ("ที่กีฬา", "กีฬา"),  # the tone mark before belongs to another syllable
        ("វិស័យកីឡាដើម្បី", "កីឡា"),
        ("အားကစားသည်", "အားကစား"),
        ("환불을 받고", "환불"),
        ("스포츠는", "스포츠"),
        ("تعود الرياضة", "رياضة"),
        ("وبالرياضة", "رياضة"),
        ("اقتصاد\u200cها", "اقتصاد"),
        ("खेल को", "खेल"),
        ("c++11", "c++"),
        ("a 🎂!", "🎂"),
    ],
)
def test_whole_words_are_found(text: str, needle: str) -> None:
    assert found(text, needle)


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("transportation", "sport"),
        ("covid19", "covid"),
        ("the customer. Service", "customer service"),
        ("コンテスト", "テスト"),  # a run of katakana is one word
        ("ケーキ", "ケ"),
        ("ดนตรี", "ดนตร"),  # a vowel sign above its last letter
        ("เมฆ", "มฆ"),  # a vowel before it
        ("กีฬาา", "กีฬ"),  # a vowel behind it
        ("ទម្ងន់", "ងន"),  # stacked under the letter before
        ("မင်း", "မ"),  # the next consonant closes the syllable
        ("부정확하다", "부정"),
        ("교통사고", "사고"),
        ("की", "क"),  # a vowel sign behind it
        ("सकारात्मक", "कारात्मक"),
        ("مرياضة", "رياضة"),
        ("$$$", "$$"),
        ("", "a"),
        ("a", ""),
    ],
)
def test_parts_of_words_are_not(text: str, needle: str) -> None:
    assert not found(text, needle)


@pytest.mark.parametrize("text", ["abc", "123", "体育", "긍정", "บวก", "กีฬา", "កីឡា", "खेल", "нет", "うれしい"])
def test_what_is_long_enough_to_tell(text: str) -> None:
    assert is_telling(fold(text))


@pytest.mark.parametrize("text", ["", "a", "no", "10", "да", "是", "예", "ดี", "ลบ", "はい", "हा"])
def test_what_is_too_short_to_tell(text: str) -> None:
    assert not is_telling(fold(text))


def test_scripts_without_spaces() -> None:
    assert all(map(is_unspaced, ("中", "あ", "ア", "ไทย", "ລາວ", "ខ្មែរ", "မြန်မာ", "𠀀")))
    assert not any(map(is_unspaced, ("abc", "한국어", "العربية", "हिन्दी", "")))


@given(ANY_TEXT, ANY_TEXT)
def test_no_text_raises(text: str, needle: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    folded.encode()  # no lone surrogate is left
    fewest, most = count_words(text)
    assert 0 <= fewest <= most <= len(text)
    holds(spaced(folded), spaced(fold(needle)))


@given(st.text("ab ก体ア한ل", min_size=1, max_size=6))
def test_a_text_holds_itself(text: str) -> None:
    needle = spaced(fold(text)).strip()
    assert holds(f" {needle} ", needle) == bool(needle)
