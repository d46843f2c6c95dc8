"""The endpoint for tests, one for each module and reset for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.llm_server import LlmServer


@pytest.fixture(scope="module")
def running() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def server(running: LlmServer) -> LlmServer:
    running.reset()
    return running
