"""What a run has paid between two looks at the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from textmint.pipelines.graph.caps import spending_between
from textmint.pipelines.options.parse import parse
from textmint.transforms.dataset.spending import Spending
from textmint.transforms.llm.base import fingerprint_of


def test_each_model_has_its_price_and_what_was_there_before_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    url = "http://127.0.0.1:9/v1"
    flags = [f"--output={tmp_path}", "--llm=openai", "--model=m", f"--base_url={url}", "--price=1,2", "--verify"]
    config, _ = parse([*flags, "--verify_model=judge", "--verify_price=10,20"])
    assert config.verify_backend is not None
    examples, choices = fingerprint_of(config.backend), fingerprint_of(config.verify_backend)
    before = {examples: (9, 100, 50), "another": (1, 7, 7)}
    after = {examples: (10, 110, 55), choices: (1, 3, 1), "another": (1, 7, 7)}
    assert spending_between(before, after, config) == Spending(13, 6, 10**6 * (10 + 2 * 5 + 30 + 20))
    assert spending_between(after, after, config) == Spending()
    assert spending_between(before, {**after, "another": (2, 8, 7)}, config) == Spending(14, 6, None)
