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
from textmint.pipelines.cli.progress_line import Pace, ProgressLine, left, log_line, stage_of
from textmint.transforms.core import progress

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.VARIABLE, raising=False)


# --- words


DONE = {"LLMCall.in": 1_000, "LLMCall.replies": 1_000, "LLMCall.refused": 2}
PAID = {"tokens": 1_234_000, "picodollars": 420_000_000_000}


@pytest.mark.parametrize(
    ("counts", "rate", "expected"),
    [
        ({}, 0.0, "finding tasks"),
        (
            {"TaskGenerate.in": 50, "TaskGenerate.replies": 12, "TaskGenerate.refused": 2, "tokens": 9_999},
            2.0,
            "finding tasks: 12 of 50 replies, 00:19 left, 10 kept, $0.00, 9,999 tokens, 2 refused, 2/s",
        ),
        # comparing tasks with each other
        ({"TaskGenerate.in": 50, "TaskGenerate.replies": 50}, 0.0, "finding tasks"),
        (  # drafts are made of each label set as it comes: ten of 250 labels' 500 replies for examples
            {"PlanLabels.in": 40, "PlanLabels.replies": 18, "PlanLabels.failed": 2, "LLMCall.in": 90, **PAID},
            2.0,
            # 20 label sets, and 180 examples
            "asking for labels: 20 of 40 replies, 01:40 left, 18 kept, $0.42, 1.23M tokens, 2 refused, 2/s",
        ),
        (
            {"LLMCall.in": 1_000, "LLMCall.replies": 240, "LLMCall.failed": 10, "LLMCall.refused": 5},
            5.0,
            "asking for examples: 250 of 1,000 replies, 02:30 left, 235 kept, 15 refused, 5/s",
        ),
        ({"LLMCall.in": 10}, 0.0, "asking for examples: 0 of 10 replies, 0 kept, 0 refused, 0/s"),
        (  # 90 % pass the checks, and are to be verified
            {"LLMCall.in": 100, "LLMCall.replies": 50, "LLMCall.refused": 5, "VerifyLabels.in": 45},
            10.0,
            "asking for examples: 50 of 100 replies, 00:14 left, 45 kept, 5 refused, 10/s",
        ),
        (
            {**DONE, **PAID, "VerifyLabels.in": 998, "VerifyLabels.replies": 98, "VerifyLabels.refused": 8},
            9.0,
            "verifying labels: 98 of 998 replies, 01:40 left, 990 kept, $0.42, 1.23M tokens, 10 refused, 9/s",
        ),
        (  # of a model whose price nobody knows
            {"LLMCall.in": 10, "LLMCall.replies": 8, "LLMCall.failed": 2, **PAID, "tokens.unpriced": 7},
            2.0,
            "finishing: 10 replies, 8 kept, 1.23M tokens, 2 refused",
        ),
        (  # which takes minutes where there are a million
            {**DONE, "VerifyLabels.in": 1, "VerifyLabels.replies": 1, "VerifyLabels.refused": 1}
            | {"stages": 21, "stages.begun": 14},
            2.0,
            "finishing, stage 14 of 21: 1,000 replies, 997 kept, 3 refused",
        ),
        (
            {"LLMCall.in": 1_000_000, "LLMCall.replies": 1},
            1.0,
            "asking for examples: 1 of 1,000,000 replies, 277:46:39 left, 1 kept, 0 refused, 1/s",
        ),
    ],
)
def test_words(counts: dict[str, int], rate: float, expected: str) -> None:
    assert log_line(counts, rate, {"TaskGenerate": 0, "PlanLabels": 0, "LLMCall": 0, "VerifyLabels": 0}) == expected
    assert expected.startswith(stage_of(counts))


GUESS = {"TaskGenerate": 20, "PlanLabels": 100, "LLMCall": 500, "VerifyLabels": 500}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, 1_120),
        ({"TaskGenerate.in": 20, "TaskGenerate.replies": 5}, 15 + 100 + 500 + 500),
        # 80 tasks were found; then each brings four drafts, and of those one in ten is refused
        ({"TaskGenerate.in": 20, "TaskGenerate.replies": 20, "PlanLabels.in": 80}, 80 + 500 + 500),
        ({"PlanLabels.in": 80, "PlanLabels.replies": 20, "LLMCall.in": 80}, 60 + 320 + 500),
        ({"PlanLabels.in": 80, "PlanLabels.failed": 80, "LLMCall.in": 320}, 320 + 500),
        ({"LLMCall.in": 320, "LLMCall.replies": 100, "VerifyLabels.in": 90}, 220 + 288),
        ({"LLMCall.in": 320, "LLMCall.replies": 320, "VerifyLabels.in": 288, "VerifyLabels.replies": 8}, 280),
        # labels that the user gives are not asked for
        ({"LLMCall.in": 320, "LLMCall.replies": 320, "VerifyLabels.in": 288, "VerifyLabels.replies": 288}, 0),
    ],
)
def test_what_is_left_is_of_all_steps_that_ask(counts: dict[str, int], expected: int) -> None:
    assert left(counts, GUESS) == expected


def test_the_pace_is_that_of_the_last_minute() -> None:
    pace = Pace()
    assert pace.per_second(0.0, 0) == 0.0
    assert pace.per_second(1.0, 10_000) == 10_000  # from the ledger
    assert [pace.per_second(float(now), 10_000 + 5 * now) for now in range(2, 100)][-1] == 5.0
    assert [pace.per_second(float(now), 2 * (now - 100)) for now in range(100, 105)][-1] == 2.0  # another pass


# --- the line


def test_environment_is_clean_afterwards() -> None:
    with ProgressLine():
        folder = os.environ[progress.VARIABLE]
        assert Path(folder).is_dir()
        progress.add("drafts")
        progress.flush()
        assert progress.read(str(Path(folder).parent)) == {"drafts": 1}
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
    progress.add("LLMCall.in", 10)
    progress.add("LLMCall.replies", 3)
    progress.add("LLMCall.refused", 2)
    progress.flush()


def test_a_terminal_shows_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(line, "_INTERVAL", 0.005)
    with ProgressLine():
        wait_for(lambda: "finding tasks" in terminal.getvalue())
        some_progress()
        wait_for(lambda: "asking for examples: 3 of 10 " in terminal.getvalue())
        wait_for(lambda: "1 kept, 2 refused" in terminal.getvalue())


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(line, "_INTERVAL", 0.005)
    monkeypatch.setattr(line, "_LOG_INTERVAL", 0.005)
    caplog.set_level(logging.INFO, logger="textmint")
    with ProgressLine():
        some_progress()
        wait_for(
            lambda: any(
                m.startswith("asking for examples: 3 of 10 replies, ") and "1 kept, 2 refused" in m
                for m in caplog.messages
            )
        )
    assert "\r" not in caplog.text


TELLS = """
import time
from textmint.pipelines.cli.progress_line import ProgressLine
from textmint.transforms.core import progress
with ProgressLine():
    time.sleep(0.6)
    progress.add("LLMCall.in", 100)
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
    assert "asking for examples: 25 of 100 " in shown.decode()
