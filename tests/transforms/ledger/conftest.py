"""Folders for ledgers, on a disk and in a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import open_under
from tests.support.ledger_rows import REMOTE


@pytest.fixture(autouse=True)
def no_descriptor_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert open_under(tmp_path) == []


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, bytes]) -> str:
    return str(tmp_path / "ledger") if request.param == "disk" else REMOTE
