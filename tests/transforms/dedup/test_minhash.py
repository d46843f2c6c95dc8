"""Near-duplicates as text: what two texts have in common, and that no pair worth comparing is missed."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.tasks import read_topics
from textmint.transforms.dedup import minhash
from textmint.transforms.dedup.minhash import (
    HASHES,
    MANY,
    MOST_PAIRS,
    TARGET_RECALL,
    TASK_THRESHOLD,
    THRESHOLD,
    Banding,
    NearDuplicate,
    Text,
    banding_for,
    digest_of,
    first_near_copy,
    is_own,
    jaccard,
    near_duplicate_of,
    node_of,
    normal_form,
    pairs_of,
    shingles_of,
    similarity,
    sketch_of,
)
from textmint.transforms.llm.offline.tasks import brainstorm

from tests.support.helpers import ROOT, shuffled
from tests.support.near_copies import planted

TOPICS = read_topics((ROOT / "templates" / "topics.txt").read_text("utf-8").splitlines())[::40]


# --- the normal form


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  quick\tbrown\nfox.", "the quick brown fox"),
        ("\u201cThe quick\u201d -- (brown) fox\u2026", "the quick brown fox"),
        ("C++ or C#, $5 or 5%? @me -5", "c++ or c# $5 or 5% @me -5"),  # what tells words apart stays
        ("rock'n'roll, e-mail", "rock'n'roll e-mail"),
        ("Stra\u00dfe \ufb01n \u0130", "strasse fin i\u0307"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u200bb\u00adc \ufeffd", "abc d"),  # zero-width space, soft hyphen, byte order mark
        ("天气很好\u3002", "天 气 很 好"),
        ("天 气", "天 气"),  # spaces between characters say nothing
        ("我爱Python和C++\uff01", "我 爱 python 和 c++"),
        ("プロ・セス \uff76\uff9e", "プ ロ セ ス ガ"),  # middle dot; half-width
        ("สวัสดี ๒๕", "ส ว ั ส ด ี ๒๕"),
        ("안녕 세상", "안녕 세상"),  # Hangul has spaces
        ("नमस्ते दुनिया\u0964", None),
        ("?!", "?!"),
        ("great \U0001f642", "great \U0001f642"),
        ("\ud800 a", "\ufffd a"),
        ("", ""),
        (" \u3000\n", ""),
    ],
)
def test_normal_form(text: str, normal: str | None) -> None:
    assert normal_form(text) == (normal if normal is not None else text.rstrip("\u0964"))


@given(st.text(max_size=60))
def test_the_normal_form_is_its_own(text: str) -> None:
    normal = normal_form(text)
    assert normal_form(normal) == normal
    normal.encode()
    assert normal == " ".join(normal.split())


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), min_size=1, max_size=8))
def test_case_spacing_and_punctuation_say_nothing(words: list[str]) -> None:
    assert normal_form(" ".join(words)) == normal_form("\u201c" + ",\u00a0 ".join(map(str.upper, words)) + "!?\u201d")


# --- shingles


def naive_shingles(text: str) -> set[tuple[str, ...]]:
    """Word 3-grams of a text of plain words: what the real ones are held against."""
    words = text.split()
    return set(zip(words, words[1:], words[2:], strict=False))


def naive_jaccard(one: str, other: str) -> float:
    a, b = naive_shingles(one), naive_shingles(other)
    return len(a & b) / len(a | b) if a | b else 0.0


@pytest.mark.parametrize(
    ("normal", "shingles"),
    [
        ("a b c d", {"a b c", "b c d"}),
        ("a b c", {"a b c"}),
        ("a a a a", {"a a a"}),
        ("a b", set()),
        ("", set()),
        ("天 气 很 好 啊 吧", {"天 气 很 好 啊", "气 很 好 啊 吧"}),
        ("天 气 很 好", set()),
        # mixed: a word begins a window of three, a character one of five
        ("我 爱 python 和 c++", {"我 爱 python 和 c++", "python 和 c++"}),
    ],
)  # fmt: skip
def test_shingles(normal: str, shingles: set[str]) -> None:
    assert normal_form(normal) == normal
    assert shingles_of(normal) == shingles


WORDS = st.lists(st.sampled_from("abcdef"), max_size=25).map(" ".join)


@given(WORDS, WORDS)
def test_similarity_is_the_plain_jaccard_of_words(one: str, other: str) -> None:
    value = jaccard(shingles_of(one), shingles_of(other))
    assert value == naive_jaccard(one, other) == jaccard(shingles_of(other), shingles_of(one))
    assert similarity(one, other) == (1.0 if one == other else value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_two_texts_can_be_compared(one: str, other: str) -> None:
    a, b = normal_form(one), normal_form(other)
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, a) == 1


def test_a_mixed_text_keeps_what_it_shares_whatever_it_is_mostly() -> None:
    """A rule by majority would compare nothing of a text of 49 % Latin words with one of 51 %."""
    han = "今天天气很好我们去公园散步吧"
    latin = " the weather is nice today so we take a walk in the park"
    assert similarity(normal_form(han + latin), normal_form(han + latin + " and talk")) > 0.9


# --- sketches


@pytest.mark.parametrize(
    ("threshold", "bands", "rows"),
    [(0.3, 30, 2), (0.5, 22, 3), (0.7, 20, 6), (0.8, 13, 8), (0.9, 7, 16), (1.0, 1, 128)],
)
def test_bands_of_thresholds(threshold: float, bands: int, rows: int) -> None:
    banding = banding_for(threshold)
    assert banding == Banding(bands, rows)
    assert bands * rows <= HASHES
    assert banding.recall(min(1.0, threshold + 0.05)) >= TARGET_RECALL >= 0.95


@given(st.floats(0.3, 1.0))
def test_every_threshold_has_bands(threshold: float) -> None:
    banding = banding_for(threshold)
    assert 1 <= banding.bands * banding.rows <= HASHES
    assert banding.recall(min(threshold + 0.05, (threshold + 1) / 2)) >= TARGET_RECALL


@pytest.mark.parametrize("threshold", [0.0, 0.29, 1.01, -1.0, float("nan")])
def test_other_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"must be from 0\.3 to 1"):
        banding_for(threshold)


FOX = shingles_of("the quick brown fox jumps over the lazy dog")


def test_sketches_are_pinned() -> None:
    """Which pairs are found hangs on these values; they must be equal on every machine and after every upgrade."""
    sketch = sketch_of(FOX, banding_for(THRESHOLD))
    assert [band.hex() for band in sketch.bands[:2]] == ["5f239c839a7d6bc3", "df3b925395509fb2"]
    assert sketch.marks[:8].hex() == "86dd15d5fdb7e635"
    assert len(sketch.bands) == 13
    assert len(sketch.marks) == HASHES


@pytest.mark.parametrize(
    ("count", "digest", "first"),
    [
        (0, "e3c0dca537dae614", [4294967295, 4294967295, 4294967295]),
        (1, "882abd67fa390268", [35621907, 2485874809, 1313229177]),
        (3, "b82e4370f4628c18", [35621907, 995910408, 1313229177]),
        (100, "8af4450979ab4ef0", [35621907, 12443910, 1373222]),
        (4_097, "f15193bca304fa95", [98720, 650617, 87360]),
        (9_000, "de22a6b01ee286c6", [98720, 97503, 87360]),
    ],
)
def test_sketches_are_those_that_datasketch_made(count: int, digest: str, first: list[int]) -> None:
    """Version 2.0, scheme affine32, of which they were taken: pairs that it found are still found."""
    values = minhash._hash_values(stable_hash("shingle", number) for number in range(count))
    assert hashlib.blake2b(values.astype("<u4").tobytes(), digest_size=8).hexdigest() == digest
    assert values[:3].tolist() == first


def test_sketches_do_not_hang_on_the_salt_of_a_process() -> None:
    code = (
        "from textmint.transforms.dedup.minhash import *\n"
        "s = sketch_of(shingles_of('the quick brown fox jumps over the lazy dog'), banding_for(0.8))\n"
        "print(s.marks.hex(), *[b.hex() for b in s.bands])"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    sketch = sketch_of(FOX, banding_for(0.8))
    assert done.stdout.split() == [sketch.marks.hex(), *[band.hex() for band in sketch.bands]]


def test_the_order_of_shingles_changes_nothing_of_long_texts_too() -> None:
    shingles = [f"s{number}" for number in range(9_000)]  # over two tables of 4,096
    banding = banding_for(THRESHOLD)
    assert sketch_of(shingles, banding) == sketch_of(shuffled(shingles), banding)
    assert sketch_of(shingles, banding) != sketch_of(shingles[:-4_000], banding)


def test_bands_of_different_places_never_meet() -> None:
    """A text of one shingle could have equal hashes in two bands only by chance; equal rows must still not meet."""
    sketch = sketch_of(["one"], Banding(64, 1))
    assert len(set(sketch.bands)) == 64


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_bands_bring_together_what_is_alike(threshold: float) -> None:
    banding = banding_for(threshold)
    clear = met = unlike = met_unlike = 0
    for kind in planted(40):
        for _, one, _, other in kind.pairs:
            a, b = sketch_of(shingles_of(one), banding), sketch_of(shingles_of(other), banding)
            meet = bool(set(a.bands) & set(b.bands))
            value = naive_jaccard(one, other)
            if value >= threshold + 0.05:
                clear += 1
                met += meet and bool(pairs_of([a.marks, b.marks], 0, threshold).pairs)
            elif value < threshold - 0.3:
                unlike += 1
                met_unlike += meet and bool(pairs_of([a.marks, b.marks], 0, threshold).pairs)
    assert clear > 100
    assert met >= 0.95 * clear
    assert met_unlike <= 0.01 * unlike


# --- pairs of a bucket


def marks_of(*values: int) -> list[bytes]:
    return [bytes([value]) * HASHES for value in values]


def test_only_later_texts_of_this_run_are_in_question() -> None:
    assert pairs_of(marks_of(1, 1, 1), 0, 0.8).pairs == [(0, 1), (0, 2)]
    assert pairs_of(marks_of(1, 1, 1), 1, 0.8).pairs == [(0, 1), (0, 2)]
    assert pairs_of(marks_of(1, 1, 1), 2, 0.8).pairs == [(0, 2)]
    assert pairs_of(marks_of(1, 2, 1, 2), 0, 0.8).pairs == [(0, 2), (1, 3)]
    assert pairs_of(marks_of(1), 0, 0.8).pairs == []


def test_doubtful_ones_before_a_sure_one_are_compared_too() -> None:
    mark = bytearray(marks_of(1)[0])
    doubtful = bytes([*([9] * 30), *mark[30:]])  # 98 of 128 alike, 0.77
    unlike = bytes([*([8] * 60), *mark[60:]])
    assert pairs_of([doubtful, unlike, bytes(mark), bytes(mark)], 3, 0.8).pairs == [(0, 3), (2, 3)]


def test_of_many_doubtful_ones_the_most_alike_are_compared() -> None:
    others = [bytes([*([2 + place] * (20 + place)), *([1] * (HASHES - 20 - place))]) for place in range(11)]
    found = pairs_of([*reversed(others), marks_of(1)[0]], 11, 0.8).pairs
    assert found == [(place, 11) for place in range(11 - MOST_PAIRS, 11)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 12))
def test_each_like_text_has_a_pair(values: list[int], first_own: int) -> None:
    found = pairs_of(marks_of(*values), first_own, 0.8)
    assert all(earlier < later and later >= first_own for earlier, later in found.pairs)
    assert {later for _, later in found.pairs} == {
        place for place in range(first_own, len(values)) if values[place] in values[:place]
    }
    assert found.compared == sum(range(max(1, first_own), len(values)))


def test_a_large_bucket_of_like_texts_takes_a_comparison_a_text() -> None:
    found = pairs_of(marks_of(*[1] * 5_000), 0, 0.8)
    assert found.compared == 4_999
    assert found.pairs == [(0, later) for later in range(1, 5_000)]


def test_a_large_bucket_of_unlike_texts_takes_a_thousand_comparisons_a_text_at_most() -> None:
    marks = [number.to_bytes(2, "little") * (HASHES // 2) for number in range(MANY + 500)]
    found = pairs_of([*marks, marks[7], marks[-1]], 0, 0.8)
    assert found.compared == MANY * (MANY - 1) // 2 + MANY * 502
    assert (7, MANY + 500) in found.pairs
    assert all(later != MANY + 501 for _, later in found.pairs)  # its like is beyond the first thousand


# --- names and twins


def test_those_from_elsewhere_come_first() -> None:
    texts = [Text(id="b", text=""), Text(id="a", text=""), Text(id="z", text="", source="file"),
             Text(id="y", text="", source="file"), Text(id="x", text="", source="a file")]  # fmt: skip
    assert sorted(map(node_of, texts)) == ["0a file\0x", "0file\0y", "0file\0z", "1a", "1b"]
    for text in texts:
        assert near_duplicate_of(node_of(text), 0.9) == NearDuplicate(id=text.id, source=text.source, similarity=0.9)
        assert is_own(node_of(text)) is (text.source == "")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "\0"])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="valid Unicode without NUL"):
        Text(id=name, text="")
    with pytest.raises(ValueError, match="valid Unicode without NUL"):
        Text(id="a", text="", source=name)


@pytest.mark.parametrize(
    "element",
    [Text(id="a", text="\ud800", source="s"), NearDuplicate(id="a", source="", similarity=0.5)],
    ids=["Text", "NearDuplicate"],
)
def test_elements_survive_pickling(element: object) -> None:
    assert pickle.loads(pickle.dumps(element)) == element


def test_the_first_near_copy_is_named() -> None:
    text = " ".join(f"w{number}" for number in range(30))
    near = f"{text} more"  # 28 of 29 shingles
    others = [("1b", text), ("1a", near), ("0f\0line 1", "something else altogether")]
    for order in itertools.permutations(others):
        assert first_near_copy(near, order, 0.8) == (NearDuplicate(id="a", source="", similarity=1.0), 2)
    assert first_near_copy(near, [("1b", text)], 28 / 29) == (NearDuplicate(id="b", source="", similarity=28 / 29), 1)
    assert first_near_copy(near, [("1b", text)], 0.97) == (None, 1)
    assert first_near_copy(near, [], 0.8) == (None, 0)


def test_digests_are_pinned() -> None:
    assert digest_of("the quick brown fox") == "c26a74a7819e217da9abd838f9cca307"


# --- tasks


def test_tasks_at_their_threshold() -> None:
    """What the docstring of TASK_THRESHOLD says, in sentences of n different words."""

    def task(words: int) -> list[str]:
        return [f"w{number}" for number in range(words)]

    def alike(one: list[str], other: list[str]) -> bool:
        return similarity(" ".join(one), " ".join(other)) >= TASK_THRESHOLD

    assert [n for n in range(8, 33) if alike(task(n), [*task(n - 1), "x"])] == list(range(21, 33))
    assert [n for n in range(8, 33) if alike(task(n), [*task(n), "x"])] == list(range(11, 33))
    assert not any(
        alike(task(n), [*task(n)[:p], "x", *task(n)[p + 1 :]]) for n in range(8, 33) for p in range(2, n - 2)
    )


def test_no_two_tasks_of_the_embedded_author_are_near_copies() -> None:
    tasks = {task for topic in TOPICS for task in brainstorm(topic, f"key of {topic}")}
    sets = [shingles_of(normal_form(task)) for task in sorted(tasks)]
    assert len(sets) > 600
    holders: dict[str, list[int]] = {}
    for place, shingles in enumerate(sets):
        for shingle in shingles:
            holders.setdefault(shingle, []).append(place)
    pairs = {pair for places in holders.values() for pair in itertools.combinations(places, 2)}
    likeness = [jaccard(sets[one], sets[other]) for one, other in pairs]
    assert max(likeness) > 0.6  # so there is something to tell apart
    assert max(likeness) < TASK_THRESHOLD - 0.05
