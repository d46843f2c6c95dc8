"""Identity: pinned values, one encoding for each value, the same in every process."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.identity import UNIT, choices, encode, fraction, stable_hash, text_digest

ROOT = Path(__file__).parents[3]

# Different Python values that a careless encoding would make one. No two of them may share an identity. Among them are
# text in NFC and NFD, which is normalised before it is hashed where that is wanted, and a surrogate pair that was not
# joined.
UNALIKE: list[tuple[Any, ...]] = [
    (), ("",), ("", ""), (None,), (None, None), ([],), ([[]],), ([], []), ({},), (b"",), ("ab", "c"), ("a", "bc"),
    ("abc",), (["ab", "c"],), (["a", "bc"],), (b"abc",), (1,), ("1",), (True,), (1.0,), (b"1",), ([1],), (0,),
    (False,), (0.0,), (-0.0,), (float("nan"),), (float("inf"),), (-1,), (1, 2), (12,), (0.1,), (0.1 + 0.2,), (0.3,),
    ("n0:",), ("s1:a",), ("a",), ("None",), ({"a": 1},), ({"a": "1"},), (["a", 1],), ({"a": {"b": 1}},),
    ({"a": {}, "b": 1},), ("é",), ("e\u0301",), ("\ud800",), ("\ufffd",), ("\ud83d\ude00",), ("\U0001f600",),
    ("a\0",), ("a", "\0"),
]  # fmt: skip

PARTS: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=6)
    | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same, of the same type; floats are compared bit for bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        # all NaN are one value here
        return left.hex() == right.hex()
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@pytest.mark.parametrize(
    ("part", "encoded"),
    [
        (None, b"n0:"),
        (True, b"b1:1"),
        (False, b"b1:0"),
        ("", b"s0:"),
        ("abc", b"s3:abc"),
        ("ä", b"s2:\xc3\xa4"),  # the length is that of the bytes
        ("\ud800", b"s3:\xed\xa0\x80"),  # a JSON reply may hold a lone surrogate
        (0, b"i1:0"),
        (-17, b"i3:-17"),
        (1.0, b"f20:0x1.0000000000000p+0"),  # exact, unlike any number of decimals
        (b"a:b", b"y3:a:b"),
        ([], b"l0:"),
        (("a", 1), b"l8:s1:ai1:1"),
        (["a", 1], b"l8:s1:ai1:1"),  # JSON knows one kind of list
        ({"b": 1, "a": None}, b"m15:s1:an0:s1:bi1:1"),  # keys in order
    ],
)
def test_encoding_is_pinned(part: Any, encoded: bytes) -> None:
    # A change here changes every id of every dataset: a breaking change, to be told in CHANGELOG.md.
    assert encode(part) == encoded


def test_ids_are_pinned() -> None:
    # The id of a task: what makes a task the same task in every refresh.
    assert stable_hash("task", "x") == "33e8a9413e26683eeb8d09bc7e909818"
    # The id of a draft (task, replica, seed): it becomes the id of the example's row.
    assert stable_hash("draft", "abc", 0, 42) == "42eebf1131502ef3f309578b5c080206"
    # A lone surrogate has an id like any other text.
    assert stable_hash("task", "\ud800") == "a89e63977d312a0cb5544f1403b98109"
    # Where an attribute's hash points decides its value.
    assert fraction("attribute", "abc", "language") == 6144077741800102816
    # The digest of a template's text stands in every row.
    assert text_digest("abc") == "13c9497c2425"
    # The offline author writes with this stream.
    assert list(itertools.islice(choices("k"), 3)) == [6225536550298400338, 7248720869237807595, 9288098907063535224]


def test_ids_are_blake2b_of_the_encoding() -> None:
    # Written out a second time, so that a reader of the data can compute an id without this project.
    encoded = b"l22:" + b"s5:draft" + b"s3:abc" + b"i1:0" + b"i2:42"
    encoded = b"l%d:" % (len(encoded) - 4) + encoded[4:]
    assert stable_hash("draft", "abc", 0, 42) == hashlib.blake2b(encoded, digest_size=16).hexdigest()
    assert fraction("draft", "abc", 0, 42) == struct.unpack(">Q", hashlib.blake2b(encoded, digest_size=8).digest())[0]


def test_unalike_parts_have_unalike_ids() -> None:
    encodings = {encode(parts): parts for parts in UNALIKE}
    assert len(encodings) == len(UNALIKE)
    assert len({stable_hash("test", *parts) for parts in UNALIKE}) == len(UNALIKE)
    assert len({fraction("test", *parts) for parts in UNALIKE}) == len(UNALIKE)


def test_domains_keep_ids_apart() -> None:
    assert stable_hash("task", "a") != stable_hash("draft", "a")
    assert stable_hash("task", "a") != stable_hash("taska")


@settings(max_examples=40)
@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=4))
def test_equal_encodings_mean_equal_parts(left: list[Any], right: list[Any]) -> None:
    assert (encode(left) == encode(right)) == same(left, right)


@given(st.lists(st.text("ab1:s", max_size=4), max_size=4), st.lists(st.text("ab1:s", max_size=4), max_size=4))
def test_text_that_looks_like_an_encoding_deceives_nobody(left: list[str], right: list[str]) -> None:
    assert (stable_hash("test", *left) == stable_hash("test", *right)) == (left == right)


@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2, max_size=5))
def test_order_of_keys_changes_nothing(mapping: dict[str, int]) -> None:
    assert encode(mapping) == encode(dict(reversed(mapping.items())))


@pytest.mark.parametrize("part", [object(), {1, 2}, 1j, [object()], {"a": {1}}, iter("a")])
def test_other_types_are_refused(part: Any) -> None:
    with pytest.raises(TypeError, match="is not defined"):
        encode(part)


def test_every_process_agrees() -> None:
    # A set's order, and so the order in which it is hashed, differs between processes; ids must not.
    code = (
        "import itertools, json\n"
        "from textmint.transforms.core.identity import *\n"
        "names = {'a', 'b', 'c', 'd', 'e', 'f'}\n"
        "print(json.dumps([stable_hash('t', dict.fromkeys(names, 1), 1.5, None), fraction('t', 'ä'),"
        " list(itertools.islice(choices('k'), 20)), text_digest('x'), hash('a')]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1234", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    *there, salted = json.loads(done.stdout)
    here = [
        stable_hash("t", dict.fromkeys(("f", "e", "d", "c", "b", "a"), 1), 1.5, None),
        fraction("t", "ä"),
        list(itertools.islice(choices("k"), 20)),
        text_digest("x"),
    ]
    assert there == here
    assert salted != hash("a")  # the two processes do salt differently


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_string_has_an_id(text: str) -> None:
    assert len(stable_hash("test", text)) == 32
    assert 0 <= fraction("test", text) < UNIT
    assert len(text_digest(text)) == 12
    assert 0 <= next(choices(text)) < UNIT


def test_text_digest_of_text_is_that_of_its_bytes() -> None:
    assert text_digest("äöü\n") == text_digest("äöü\n".encode())
    assert text_digest("a") != text_digest("a\n")


def chi_square_of_16_bins(points: list[int]) -> float:
    expected = len(points) / 16
    bins = [0] * 16
    for point in points:
        bins[point * 16 // UNIT] += 1
    return sum((count - expected) ** 2 / expected for count in bins)


CRITICAL_15 = 37.697  # chi-square, 15 degrees of freedom, upper tail 0.001 (NIST/SEMATECH e-Handbook, 1.3.6.7.4)


def test_fractions_are_spread_evenly() -> None:
    assert chi_square_of_16_bins([fraction("test", number) for number in range(20_000)]) < CRITICAL_15
    assert chi_square_of_16_bins([fraction("test", number) // 2 for number in range(20_000)]) > CRITICAL_15


def test_choices_are_spread_evenly() -> None:
    assert chi_square_of_16_bins(list(itertools.islice(choices("test"), 20_000))) < CRITICAL_15


def test_choices_are_a_pure_function_of_key_and_place() -> None:
    stream = list(itertools.islice(choices("test"), 100))
    assert list(itertools.islice(choices("test"), 50)) == stream[:50]
    assert len(set(stream)) == 100  # across the borders of blocks of 8 too
    assert set(stream).isdisjoint(itertools.islice(choices("tesu"), 100))
