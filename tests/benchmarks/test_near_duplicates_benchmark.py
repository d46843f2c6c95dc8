"""The benchmark of near-duplicates: that its texts are what it says, and that its arithmetic is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import near_duplicates as bench
from tests.support.near_copies import SHARES, changed, planted, words_of


def test_texts_are_the_same_each_time() -> None:
    assert list(bench.corpus(0, 30))[10:] == list(bench.corpus(10, 30))
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


def test_a_run_is_measured(tmp_path: Path) -> None:
    measured = bench.measure(200, tmp_path)
    assert 4 <= measured["found"] <= 20  # a tenth are near copies, most of them with too many words changed
    assert measured["peak_bytes"] > 10_000_000
    assert f" {measured['found']} " in bench.render_sizes([measured])


def test_quality_counts_what_was_found() -> None:
    kinds = planted(3)
    lines = bench.quality(kinds, 0.8, bench.find(kinds, 0.8))
    light, heavy = (
        next(line for line in lines if (line.kind.share, line.kind.in_one_run) == kind)
        for kind in ((0.02, True), (0.4, False))
    )
    assert (light.similar, light.similar_found, light.dropped, light.rightly) == (3, 3, 3, 3)
    assert (heavy.similar, heavy.dropped) == (0, 0)
    assert "1.000" in bench.render_quality(lines)
    nothing = bench.quality(kinds, 0.8, {})
    assert sum(line.similar_found + line.dropped for line in nothing) == 0
    wrong = bench.quality(kinds, 0.8, {kinds[0].pairs[0][0]: kinds[9].pairs[0][0]})
    assert (wrong[0].dropped, wrong[0].rightly) == (1, 0)
