"""The benchmark of near-duplicates: that its texts are what it says, and that its arithmetic is right. No time is
judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import near_duplicates as bench
from tests.support.near_copies import SHARES, changed, planted, words_of


def test_texts_are_the_same_each_time() -> None:
    assert list(bench.corpus(0, 30, "mixed"))[10:] == list(bench.corpus(10, 30, "mixed"))
    assert words_of(0)[:3] == ["w1001", "w12576", "w640"]  # random.Random of a text is the same everywhere
    assert all(80 <= len(words_of(number)) <= 120 for number in range(50))


@pytest.mark.parametrize("in_one_run", [True, False])
@pytest.mark.parametrize("share", SHARES)
def test_as_many_words_are_changed_as_said(share: float, in_one_run: bool) -> None:
    words = [f"w{number}" for number in range(100)]
    new = changed(words, share, in_one_run, 7)
    places = [place for place in range(100) if words[place] != new[place]]
    assert len(places) == round(100 * share)
    assert (places[-1] - places[0] == len(places) - 1) is in_one_run


def test_growth() -> None:
    assert bench.exponent(10, 10.0, 100, 200.0) == pytest.approx(1.0)  # 10 log 10 and 100 log 100 are as 1 to 20
    assert bench.exponent(10, 10.0, 100, 4_000.0) == pytest.approx(2.0)


def test_a_run_is_measured(tmp_path: Path) -> None:
    measured = bench.measure(200, "alike", tmp_path)
    assert measured["found"] == 199
    assert measured["seconds"] > 0 and measured["peak_bytes"] > 10_000_000
    assert "199" in bench.render_sizes([measured, {**measured, "rows": 400}])


def test_quality_counts_what_was_found() -> None:
    kinds = planted(3)
    texts = [text for kind in kinds for pair in kind.pairs for text in (pair[:2], pair[2:])]
    lines = {(line.share, line.in_one_run): line for line in bench.quality(kinds, 0.8, bench.find(texts, 0.8))}
    light, heavy = lines[0.02, True], lines[0.4, False]
    assert (light.alike, light.alike_found, light.clear, light.dropped, light.rightly) == (3, 3, 3, 3, 3)
    assert (heavy.alike, heavy.clear, heavy.dropped) == (0, 0, 0)
    nothing = bench.quality(kinds, 0.8, {})
    assert sum(line.alike_found + line.clear_found + line.dropped for line in nothing) == 0
    first = kinds[0].pairs[0]
    wrong = bench.quality(kinds, 0.8, {first[0]: (kinds[9].pairs[0][0], 0.9)})
    assert (wrong[0].dropped, wrong[0].rightly) == (1, 0)
    assert "1.000" in bench.render_quality(list(lines.values()))
