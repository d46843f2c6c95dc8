"""Languages: the list against its sources, look-ups and their errors, weights that sum to one."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from textmint.transforms.core.languages import NAMES, XLM_R, Language, UnknownLanguage, find_language, xlm_r_weights

# arXiv 1911.02116, Appendix A, Table 6: the names in the order printed, left half, then right half. The second
# "Burmese" of the table is Zawgyi (fairseq, examples/xlmr/README.md).
TABLE_6 = """
Afrikaans, Amharic, Arabic, Assamese, Azerbaijani, Belarusian, Bulgarian, Bengali, Bengali Romanized, Breton, Bosnian,
Catalan, Czech, Welsh, Danish, German, Greek, English, Esperanto, Spanish, Estonian, Basque, Persian, Finnish, French,
Western Frisian, Irish, Scottish Gaelic, Galician, Gujarati, Hausa, Hebrew, Hindi, Hindi Romanized, Croatian,
Hungarian, Armenian, Indonesian, Icelandic, Italian, Japanese, Javanese, Georgian, Kazakh, Khmer, Kannada, Korean,
Kurdish (Kurmanji), Kyrgyz, Latin,
Lao, Lithuanian, Latvian, Malagasy, Macedonian, Malayalam, Mongolian, Marathi, Malay, Burmese, Burmese (Zawgyi),
Nepali, Dutch, Norwegian, Oromo, Oriya, Punjabi, Polish, Pashto, Portuguese, Romanian, Russian, Sanskrit, Sindhi,
Sinhala, Slovak, Slovenian, Somali, Albanian, Serbian, Sundanese, Swedish, Swahili, Tamil, Tamil Romanized, Telugu,
Telugu Romanized, Thai, Filipino, Turkish, Uyghur, Ukrainian, Urdu, Urdu Romanized, Uzbek, Vietnamese, Xhosa, Yiddish,
Chinese (Simplified), Chinese (Traditional)
"""

# The codes of https://data.statmt.org/cc-100/ without the 16 that Table 6 does not have
# (ff gn ht ig lg li ln ns qu rm sc ss tn wo yo zu).
CC_100 = """
af am ar as az be bg bn bn_rom br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hi_rom hr hu hy
id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my my_zaw ne nl no om or pa pl ps pt ro ru sa sd si
sk sl so sq sr su sv sw ta ta_rom te te_rom th tl tr ug uk ur ur_rom uz vi xh yi zh-Hans zh-Hant
"""


def test_the_list_is_table_6_in_its_order() -> None:
    expected = tuple(" ".join(name.split()) for name in TABLE_6.split(","))
    assert expected == NAMES
    assert len(XLM_R) == 100
    assert len(set(NAMES)) == 100


def test_the_list_is_cc_100_too() -> None:
    # CC-100 lists its files by code, as Table 6 does
    assert [find_language(code).name for code in CC_100.split()] == list(NAMES)


def test_codes_are_bcp_47_and_distinct() -> None:
    codes = [language.code for language in XLM_R]
    assert len(set(codes)) == 100
    # language, then an optional script, then an optional private use part (RFC 5646, section 2.1)
    assert [code for code in codes if not re.fullmatch(r"[a-z]{2}(-[A-Z][a-z]{3})?(-x-[a-z0-9]{1,8})?", code)] == []
    # arXiv 2401.00368, section 4.1: "a total of 93 languages"
    assert len({code.split("-")[0] for code in codes}) == 93


def test_romanized_variants_are_those_of_the_caption() -> None:
    # Table 6, caption: "romanized variants of some non latin languages such as Bengali, Hindi, Tamil, Telugu and Urdu"
    romanized = [language for language in XLM_R if language.romanized]
    assert [language.name.split()[0] for language in romanized] == ["Bengali", "Hindi", "Tamil", "Telugu", "Urdu"]
    assert all(language.code.endswith("-Latn") for language in romanized)
    assert not any("Romanized" in language.name or "Latn" in language.code for language in set(XLM_R) - set(romanized))


@pytest.mark.parametrize(
    "change", [str, str.lower, str.upper, "  {}\n".format], ids=["same", "lower", "upper", "space"]
)
def test_every_spelling_finds_its_own_language(change: Callable[[str], str]) -> None:
    for language in XLM_R:
        for spelling in (language.name, language.code, *language.aliases):
            assert find_language(change(spelling)) is language, spelling


def test_spellings_fit_into_a_weighted_list() -> None:
    # --language takes `English:0.5,German`
    spellings = [spelling for row in XLM_R for spelling in (row.name, row.code, *row.aliases)]
    assert [spelling for spelling in spellings if set(spelling) & set(",:;=")] == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Chinese", "Chinese (Simplified)"),
        ("zh", "Chinese (Simplified)"),
        ("ZH_hant", "Chinese (Traditional)"),
        ("traditional  chinese", "Chinese (Traditional)"),
        ("farsi", "Persian"),
        ("Tagalog", "Filipino"),
        ("kurdish", "Kurdish (Kurmanji)"),
        ("Panjabi", "Punjabi"),
        ("Odia", "Oriya"),
        ("bokmal", "Norwegian"),
        ("FRANÇAIS", "French"),
        ("francais", "French"),
        ("hi-latn", "Hindi Romanized"),
        ("burmese", "Burmese"),
        ("my_zaw", "Burmese (Zawgyi)"),
    ],
)
def test_look_up(text: str, name: str) -> None:
    assert find_language(text).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Germn", "unknown language 'Germn': did you mean 'German'?"),
        ("SPANSIH", "unknown language 'SPANSIH': did you mean 'Spanish'?"),
        ("Tagalogg", "unknown language 'Tagalogg': did you mean 'Tagalog'?"),
        ("Chinese (Simplifed)", "unknown language 'Chinese (Simplifed)': did you mean 'Chinese (Simplified)'?"),
        (
            "",
            "unknown language '': give the name or code of one of the 100 languages of XLM-R, "
            "such as 'German', 'th' or 'hi-Latn'",
        ),
    ],
)
def test_unknown_language_names_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UnknownLanguage) as error:
        find_language(text)
    assert str(error.value) == message
    assert isinstance(error.value, ValueError)


@given(
    st.text(max_size=20)
    | st.text(alphabet="abcdefghinorsu -_()\n\ud800", max_size=12)
    | st.text(min_size=50, max_size=100)
)
def test_find_language_raises_nothing_but_unknown_language(text: str) -> None:
    try:
        found = find_language(text)
    except UnknownLanguage as error:
        assert "\n" not in str(error)
        assert str(error).startswith("unknown language ")
    else:
        assert found in XLM_R


@given(st.sampled_from(XLM_R), st.integers(0, 30), st.sampled_from("qxz#"))
def test_one_wrong_letter_never_finds_another_name(language: Language, place: int, letter: str) -> None:
    wrong = language.name[:place] + letter + language.name[place + 1 :]
    assume(wrong.casefold() != language.name.casefold())  # "Uzbek" has its z in the second place
    with pytest.raises(UnknownLanguage, match=r"did you mean|give the name"):
        find_language(wrong)


def test_weights_sum_to_one_exactly() -> None:
    weights = xlm_r_weights()
    assert tuple(weights) == NAMES
    assert sum(weights.values()) == 1
    assert all(isinstance(weight, Fraction) and weight > 0 for weight in weights.values())


def test_weights_are_those_of_the_paper() -> None:
    # arXiv 2401.00368, Figure 2
    weights = xlm_r_weights()
    high = {"Arabic", "Dutch", "French", "German", "Indonesian", "Italian", "Japanese"}
    high |= {"Persian", "Polish", "Portuguese", "Russian", "Spanish"}
    assert weights["English"] == Fraction(431, 1000)
    assert {weights[name] for name in high} == {Fraction(29, 1000)}
    assert weights["Chinese (Simplified)"] == weights["Chinese (Traditional)"] == Fraction(29, 2000)
    # 1000 - 431 - 13 * 29 = 192 thousandths for the other 85 rows
    others = set(NAMES) - {"English", *high, "Chinese (Simplified)", "Chinese (Traditional)"}
    assert len(others) == 85
    assert {weights[name] for name in others} == {Fraction(192, 85_000)}
