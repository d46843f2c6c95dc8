"""The benchmark of the checks: that it measures every one of them, on rows that pass them all. No time is judged."""

from __future__ import annotations

import pytest
from textmint.transforms.quality.checks import CHECKS, Checks, find_fault

from benchmarks import quality as benchmark


@pytest.mark.parametrize("language", benchmark.LANGUAGES)
def test_its_rows_are_good_and_as_long_as_it_says(language: str) -> None:
    rows = benchmark.rows_of(language, 3)
    assert len({row.label for row in rows}) == 3
    assert all(find_fault(row, Checks()) is None for row in rows)
    assert all(80 <= len(row.input_text) <= 600 for row in rows)


def test_it_measures_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(rows=2, passes=1)
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[3:-2]] == ["parse", *CHECKS]
    assert said.splitlines()[-1].strip().startswith("all but wrong_language / parse")
