"""The progress of a local run: a live line on a terminal, plain log lines otherwise."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final

from textmint.transforms.core import progress
from textmint.transforms.core.temporary import temporary_folder
from tqdm import tqdm

_LOG = logging.getLogger("textmint")
_TERMINAL_INTERVAL: Final = 0.5  # seconds
_LOG_INTERVAL: Final = 10.0


def stage_of(counts: Mapping[str, int]) -> str:
    """Names what the run is doing, by the counts so far."""
    if not counts.get("drafts"):
        return "finding tasks"
    if _answered(counts) < counts["drafts"]:
        return "asking for examples"
    stages = f", stage {counts['stages.begun']} of {counts['stages']}" if counts.get("stages.begun") else ""
    return f"finishing{stages}"


def _answered(counts: Mapping[str, int]) -> int:
    return counts.get("LLMCall.replies", 0) + counts.get("LLMCall.failed", 0)


def _rows(counts: Mapping[str, int]) -> str:
    """Counts the replies that bring a row, and those that do not."""
    names = (f"{step}.{how}" for step in ("LLMCall", "VerifyLabels") for how in ("failed", "refused"))
    refused = sum(counts.get(name, 0) for name in names)
    return f"{max(0, _answered(counts) - refused):,} kept, {refused:,} refused"


def log_line(counts: Mapping[str, int], seconds: float) -> str:
    """Returns a line for a log, of the counts so far and the seconds since the first."""
    if not counts.get("drafts"):
        return f"{stage_of(counts)}: {counts.get('TaskGenerate.replies', 0):,} replies"
    answered, total = _answered(counts), counts["drafts"]
    if answered >= total:
        return f"{stage_of(counts)}: {answered:,} replies, {_rows(counts)}"
    rate = answered / seconds if seconds > 0 else 0.0
    left = f", {tqdm.format_interval(int((total - answered) / rate))} left" if rate else ""
    return f"{stage_of(counts)}: {answered:,} of {total:,} replies, {_rows(counts)}, {rate:.0f}/s{left}"


class ProgressLine:
    """Shows how far the run is while its `with` block runs; nothing if `shown` is False, as the workers are
    elsewhere."""

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._stop = threading.Event()
        self._made = contextlib.ExitStack()

    def __enter__(self) -> ProgressLine:
        if self._shown:
            self._folder = self._made.enter_context(temporary_folder("progress"))
            os.environ[progress.VARIABLE] = self._folder
            progress.flush()  # a run before, in this process, may have ended amid a bundle
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown:
            self._stop.set()
            self._thread.join()
            del os.environ[progress.VARIABLE]
            self._made.close()

    def _watch(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody looks any more; a run needs no looking at
            if sys.stderr.isatty():
                self._draw()
            else:
                self._log()

    def _draw(self) -> None:
        form = "{desc}: {n:,} of {total:,} replies |{bar}| {rate_fmt}, {remaining} left{postfix}"
        width, height = shutil.get_terminal_size()  # tqdm itself draws nothing on a terminal that tells no size
        with tqdm(
            total=0, bar_format="{desc} {elapsed}", unit="", leave=False, file=sys.stderr, ncols=width, nrows=height
        ) as bar:
            while not self._stop.wait(_TERMINAL_INTERVAL):
                counts = progress.read(self._folder)
                bar.set_description_str(stage_of(counts), refresh=False)
                if counts["drafts"] and not bar.total:
                    bar.bar_format = form
                    bar.reset(total=counts["drafts"])
                if counts["drafts"]:
                    bar.total = counts["drafts"]
                    bar.set_postfix_str(_rows(counts), refresh=False)
                    bar.update(_answered(counts) - bar.n)
                bar.refresh()

    def _log(self) -> None:
        since: float | None = None
        while not self._stop.wait(_LOG_INTERVAL):
            counts = progress.read(self._folder)
            if since is None and counts["drafts"]:
                since = time.monotonic() - _LOG_INTERVAL / 2
            _LOG.info(log_line(counts, time.monotonic() - since if since else 0.0))
