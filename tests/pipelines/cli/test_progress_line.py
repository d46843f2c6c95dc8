"""The line of progress: what a person is shown of the counts of worker processes."""

from __future__ import annotations

import io
import logging
import os
import pty
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import textmint.pipelines.cli.progress_line as line
from textmint.pipelines.cli.progress_line import ProgressLine, log_line, stage_of
from textmint.transforms.core import progress

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.VARIABLE, raising=False)


# --- words


@pytest.mark.parametrize(
    ("counts", "seconds", "stage", "expected"),
    [
        ({}, 0.0, "finding tasks", "finding tasks: 0 replies"),
        ({"TaskGenerate.replies": 1_234}, 5.0, "finding tasks", "finding tasks: 1,234 replies"),
        (
            {"drafts": 1_000, "LLMCall.replies": 240, "LLMCall.failed": 10, "LLMCall.refused": 5},
            50.0,
            "asking for examples",
            # 250 in 50 s; 750 are left, at 5/s
            "asking for examples: 250 of 1,000 replies, 235 kept, 15 refused, 5/s, 02:30 left",
        ),
        ({"drafts": 10}, 0.0, "asking for examples", "asking for examples: 0 of 10 replies, 0 kept, 0 refused, 0/s"),
        ({"drafts": 10}, 9.0, "asking for examples", "asking for examples: 0 of 10 replies, 0 kept, 0 refused, 0/s"),
        (
            {"drafts": 10, "LLMCall.replies": 8, "LLMCall.failed": 2},
            2.0,
            "finishing",
            "finishing: 10 replies, 8 kept, 2 refused",
        ),
        (  # which takes minutes where there are a million
            {
                "drafts": 1_000,
                "LLMCall.replies": 1_000,
                "LLMCall.refused": 2,
                "VerifyLabels.refused": 1,
                "stages": 21,
                "stages.begun": 14,
            },
            2.0,
            "finishing, stage 14 of 21",
            "finishing, stage 14 of 21: 1,000 replies, 997 kept, 3 refused",
        ),
        (
            {"drafts": 1_000_000, "LLMCall.replies": 1},
            1.0,
            "asking for examples",
            "asking for examples: 1 of 1,000,000 replies, 1 kept, 0 refused, 1/s, 277:46:39 left",
        ),
    ],
)
def test_words(counts: dict[str, int], seconds: float, stage: str, expected: str) -> None:
    assert stage_of(counts) == stage
    assert log_line(counts, seconds) == expected


# --- the line


def test_environment_is_clean_afterwards() -> None:
    with ProgressLine():
        folder = os.environ[progress.VARIABLE]
        assert Path(folder).is_dir()
        progress.add("drafts")
        progress.flush()
        assert progress.read(folder) == {"drafts": 1}
    assert progress.VARIABLE not in os.environ
    assert not Path(folder).exists()


def test_environment_is_clean_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), ProgressLine():
        folder = os.environ[progress.VARIABLE]
        raise KeyboardInterrupt
    assert progress.VARIABLE not in os.environ
    assert not Path(folder).exists()


def test_workers_elsewhere_are_not_watched() -> None:
    with ProgressLine(shown=False):
        assert progress.VARIABLE not in os.environ
    assert progress.VARIABLE not in os.environ


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "nothing was shown"
        time.sleep(0.005)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def some_progress() -> None:
    progress.add("drafts", 10)
    progress.add("LLMCall.replies", 3)
    progress.add("LLMCall.refused", 2)
    progress.flush()


def test_a_terminal_shows_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(line, "_TERMINAL_INTERVAL", 0.005)
    with ProgressLine():
        wait_for(lambda: "finding tasks" in terminal.getvalue())
        some_progress()
        wait_for(lambda: "asking for examples: 3 of 10 replies" in terminal.getvalue())
        wait_for(lambda: "1 kept, 2 refused" in terminal.getvalue())


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(line, "_LOG_INTERVAL", 0.005)
    caplog.set_level(logging.INFO, logger="textmint")
    with ProgressLine():
        some_progress()
        wait_for(
            lambda: any(
                m.startswith("asking for examples: 3 of 10 replies, 1 kept, 2 refused") for m in caplog.messages
            )
        )
    assert "\r" not in caplog.text


TELLS = """
import time
from textmint.pipelines.cli.progress_line import ProgressLine
from textmint.transforms.core import progress
with ProgressLine():
    time.sleep(0.6)
    progress.add("drafts", 100)
    progress.add("LLMCall.replies", 25)
    progress.flush()
    time.sleep(1.2)
"""


def test_a_terminal_shows_a_line_though_it_tells_no_size() -> None:
    pid, terminal = pty.fork()  # a new pseudo-terminal has 0 columns and 0 lines
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", TELLS], {**os.environ, "PYTHONPATH": str(ROOT)})
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # Linux says so that the other side has gone
        pass
    finally:
        os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0
    assert "finding tasks" in shown.decode()
    assert "asking for examples: 25 of 100 replies" in shown.decode()
