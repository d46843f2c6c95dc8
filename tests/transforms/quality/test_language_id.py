"""Language identification: sure or silent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.languages import NAMES, XLM_R, UnknownLanguage, find_language
from textmint.transforms.quality.language_id import MIN_BYTES, READ_CHARS, RELATED, check_language, identifier_code

ENGLISH = "The parcel has been waiting at your warehouse for three weeks, and nobody answers the phone."
GERMAN = "Das Paket wartet seit drei Wochen in Ihrem Lager, und niemand geht ans Telefon."
HINDI = "पैकेट तीन हफ्ते से आपके गोदाम में पड़ा है और कोई फोन नहीं उठाता।"
URDU = "پارسل تین ہفتے سے آپ کے گودام میں پڑا ہے اور کوئی فون نہیں اٹھاتا۔"
CHINESE = "包裹已经在你们的仓库里放了三个星期，打电话也没有人接。"
DANISH = "Pakken har ligget på jeres lager i tre uger, og der er ingen, der tager telefonen."
SERBIAN = "Već tri dana nemam signal u stanu, a račun ste mi poslali kao da je sve u redu."
CROATIAN = "Paket već tri tjedna čeka u vašem skladištu, a nitko se ne javlja na telefon."
INDONESIAN = "Paketnya sudah tiga minggu menunggu di gudang Anda, dan tidak ada yang mengangkat telepon."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "English"),
        (GERMAN, "German"),
        (HINDI, "Hindi"),
        (URDU, "Urdu"),
        (CHINESE, "Chinese (Simplified)"),
        (CHINESE, "Chinese (Traditional)"),  # nothing is said of the script
        (DANISH, "Danish"),
        (DANISH, "Norwegian"),
        (SERBIAN, "Serbian"),
        (CROATIAN, "Serbian"),
        (SERBIAN, "Bosnian"),
        (INDONESIAN, "Indonesian"),
        (INDONESIAN, "Malay"),
    ],
)
def test_right(text: str, language: str) -> None:
    assert check_language(text, language).verdict == "right"


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        (ENGLISH, "Thai", "English"),
        (ENGLISH, "German", "English"),
        (GERMAN, "Spanish", "German"),
        (HINDI, "Urdu", "Hindi"),
        (URDU, "Hindi", "Urdu"),
        (CHINESE, "Japanese", "Chinese"),
        (SERBIAN, "English", None),  # which of its twins, is of no matter
        (INDONESIAN, "English", None),
    ],
)
def test_wrong(text: str, language: str, found: str | None) -> None:
    checked = check_language(text, language)
    assert checked.verdict == "wrong"
    assert found in (None, checked.found)
    assert checked.confidence is not None
    assert checked.confidence >= 0.99


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "English"),
        ("Guten Morgen!", "English"),  # short
        ("x" * MIN_BYTES, "English"),
        ("12.5 % of 3,400 = 425; 7/8 > 0.87; (a+b)^2 = a^2 + 2ab + b^2; 100 km/h", "German"),
        ("Kya haal hai yaar, aaj toh bahut garmi hai aur bijli bhi nahi aa rahi subah se", "Hindi Romanized"),
        (ENGLISH, "Hindi Romanized"),
        (HINDI, "Sindhi"),
        (GERMAN, "Yiddish"),
        (INDONESIAN, "Sundanese"),
        (CHINESE, "Burmese (Zawgyi)"),
        (GERMAN, "Dutch"),  # related
        ("El paquete lleva tres semanas esperando en su almacén y nadie contesta al teléfono.", "Galician"),
    ],
)
def test_unknown(text: str, language: str) -> None:
    assert check_language(text, language).verdict == "unknown"


def test_thresholds() -> None:
    assert check_language(GERMAN, "Spanish", min_bytes=len(GERMAN.encode()) + 1).verdict == "unknown"
    assert check_language(GERMAN, "Spanish", min_bytes=len(GERMAN.encode())).verdict == "wrong"
    confidence = check_language("Guten Morgen!", "Spanish", min_bytes=1, min_confidence=0.0).confidence
    assert confidence is not None
    assert check_language("Guten Morgen!", "Spanish", min_bytes=1, min_confidence=confidence).verdict == "wrong"
    assert (
        check_language("Guten Morgen!", "Spanish", min_bytes=1, min_confidence=confidence + 0.01).verdict == "unknown"
    )


def test_only_the_beginning_of_a_huge_text_is_read() -> None:
    assert check_language(ENGLISH * 50_000, "German") == check_language((ENGLISH * 50_000)[:READ_CHARS], "German")


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(UnknownLanguage):
        check_language(ENGLISH, "Klingon")


def test_which_languages_can_be_judged() -> None:
    # of 100 rows: five romanized, one in another encoding, three that the identifier's model does not know
    assert [name for name in NAMES if identifier_code(name) is None] == [
        "Bengali Romanized",
        "Hindi Romanized",
        "Burmese (Zawgyi)",
        "Sindhi",
        "Sundanese",
        "Tamil Romanized",
        "Telugu Romanized",
        "Urdu Romanized",
        "Yiddish",
    ]


def test_related_languages_are_pairs_of_codes_that_the_identifier_knows() -> None:
    known = {identifier_code(language.name) for language in XLM_R}
    assert all((other, one) in RELATED and one != other for one, other in RELATED)
    # each pair is of use: one of the two can be asked for, or both are in a family with one that can
    families = {one for pair in RELATED for one in pair}
    assert len(families & known) > 50
    assert identifier_code(find_language("fil").name) == "tl"


@given(st.text(st.characters(codec=None, categories=None), max_size=300), st.sampled_from(NAMES))
@settings(max_examples=150)
def test_no_text_raises_and_the_verdict_stays(text: str, language: str) -> None:
    checked = check_language(text, language)
    assert checked.verdict in ("right", "wrong", "unknown")
    assert check_language(text, language) == checked
