"""Texts: one normal form for all spellings of a text that a reader would take for the same."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from textmint.transforms.core.labels import clean_labels
from textmint.transforms.core.texts import clean_text, columns_of, normalise_text, text_id
from textmint.transforms.quality.checks import Checks, find_fault

from tests.support.helpers import make_example

ANY = st.text(st.characters(exclude_categories=()), max_size=30)  # lone surrogates too
WHOLE = st.text(max_size=30)
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)


def general(text: str) -> str:
    """What Unicode asks for, without a fast path: caseless matching of compatibility forms (D146 of the Core
    Specification, in its form with NFKC), then single spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_text(text)).casefold())
    return " ".join(folded.split())


@given(ASCII)
@example("".join(map(chr, range(128))))
def test_the_fast_path_of_ascii_is_no_other_path(text: str) -> None:
    assert normalise_text(text) == general(text)


@given(ANY)
def test_any_text_has_a_normal_form_that_is_its_own(text: str) -> None:
    normal = normalise_text(text)
    assert normalise_text(normal) == normal == general(text)
    normal.encode()  # it can be stored
    assert normal == " ".join(normal.split())
    assert text_id(text) == text_id(normal)
    int(text_id(text), 16)


@given(WHOLE)
@example("\u1fb3, \u0390 and \u1e9e")
def test_case_makes_no_difference(text: str) -> None:
    # Beside an iota below the letter, other marks of the letter change places when it becomes a letter of its own.
    text = text if "\u0345" not in unicodedata.normalize("NFD", text) or text.startswith("\u1fb3,") else ""
    assert normalise_text(text.lower()) == normalise_text(text.casefold()) == normalise_text(text)
    if "\u0131" not in text:  # a dotless i, the one letter whose capital belongs to another
        assert normalise_text(text.upper()) == normalise_text(text)


FORMS: list[Literal["NFC", "NFD", "NFKC", "NFKD"]] = ["NFC", "NFD", "NFKC", "NFKD"]


@given(WHOLE, st.sampled_from(FORMS))
def test_the_form_of_unicode_makes_no_difference(text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> None:
    assert normalise_text(unicodedata.normalize(form, text)) == normalise_text(text)


SPACES = st.text(st.sampled_from(" \t\n\r\x0b\x1c\x85\xa0\u2003\u2028\u3000"), min_size=1, max_size=4)


@given(st.lists(st.text(max_size=6), max_size=6), st.data())
def test_white_space_makes_no_difference(words: list[str], data: st.DataObject) -> None:
    spread = "".join(data.draw(SPACES) + word for word in words) + data.draw(SPACES)
    assert normalise_text(spread) == normalise_text(" ".join(words))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ""),
        (" \n\u3000", ""),
        ("It  RAINS.\n", "it rains."),
        ("Stra\u00dfe, STRASSE", "strasse, strasse"),
        ("caf\u00e9 CAFE\u0301", "caf\u00e9 caf\u00e9"),
        ("\uff26\uff35\uff2c\uff2c \ufb01sh", "full fish"),
        ("\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3"),  # no final sigma
        ("\ud83d\ude00 \ud800", "\U0001f600 \ufffd"),  # a pair is a character, half of one is none
        ("It rains!", "it rains!"),  # punctuation counts: "Really?" and "Really!" may have other labels
    ],
)
def test_normal_forms(text: str, normal: str) -> None:
    assert normalise_text(text) == normal


def test_the_hash_is_pinned() -> None:
    """Another value would make every text that other refreshes hold a new one."""
    assert text_id("It rains.") == text_id(" IT\trains.") == "49364569cc81eb2b52b2395a96d84f8f"
    assert text_id("") == "8950f0bed05f18a5bca5cb413f10b7b2"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("refund", 6),
        ("名前", 4),
        ("Ｒ", 2),
        ("e\u0301te\u0301", 3),
        ("ばば", 4),
        ("は" + "\u3099", 2),
        ("名前\x07", 5),  # a control character makes no other character narrower
        ("\x1b[31mred", 8),
    ],
)
def test_columns(text: str, columns: int) -> None:
    assert columns_of(text) == columns


@pytest.mark.parametrize("width", [100, 101])
def test_label_sets_and_checks_measure_alike(width: int) -> None:
    """A set would else be planned whose rows are all refused, or a label be left out that rows may have."""
    label = "e\u0301" * width
    example = make_example(label=label, misleading_label="other")
    fault = find_fault(example, Checks(names=("label_too_long",), max_label_columns=100))
    assert (fault is None) == (label in clean_labels([label])) == (width == 100)
