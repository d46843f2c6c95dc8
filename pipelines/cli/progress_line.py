"""The progress of a local run: a live line on a terminal, plain log lines otherwise."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from textmint.pipelines.options.config import Config
from textmint.transforms.core import progress
from textmint.transforms.core.temporary import temporary_folder
from textmint.transforms.llm.prices import format_usd
from tqdm import tqdm

_LOG = logging.getLogger("textmint")
_INTERVAL: Final = 0.5  # seconds between two looks
_LOG_INTERVAL: Final = 10.0
_PACE_SECONDS: Final = 60.0  # in which replies are counted for the pace: those of the ledger come at another one
_ASKING: Final[Mapping[str, str]] = {
    "TaskGenerate": "finding tasks",
    "PlanLabels": "asking for labels",
    "LLMCall": "asking for examples",
    "VerifyLabels": "verifying labels",
}
"""The steps that ask a model, in the order of the graph, and what a run does there."""
_MANY_TOKENS: Final = 100_000


def step_of(counts: Mapping[str, int]) -> str | None:
    """Names the first step that has not had all of its replies; None where each has had what is known of."""
    return next((step for step in _ASKING if _answered(counts, step) < counts.get(f"{step}.in", 0)), None)


def stage_of(counts: Mapping[str, int]) -> str:
    """Names what the run is doing, by the counts so far."""
    if step := step_of(counts):
        return _ASKING[step]
    if not counts.get("LLMCall.in"):
        return _ASKING["TaskGenerate"]
    stages = f", stage {counts['stages.begun']} of {counts['stages']}" if counts.get("stages.begun") else ""
    return f"finishing{stages}"


def _answered(counts: Mapping[str, int], step: str) -> int:
    return counts.get(f"{step}.replies", 0) + counts.get(f"{step}.failed", 0)


def replies(counts: Mapping[str, int]) -> int:
    """Counts the replies to all steps, whatever came of them."""
    return sum(_answered(counts, step) for step in _ASKING)


def left(counts: Mapping[str, int], guess: Mapping[str, int]) -> int:
    """Estimates how many replies are still to come, over all steps that ask.

    A step gets its prompts while the one before it is answered: what it has had so far is taken to grow as far as that
    one still has to go.

    Args:
      counts: so far.
      guess: for each step that the graph has, in its order, how many prompts were expected before the run; it holds
        until the step, or a later one, has some.
    """
    total, growth = 0.0, 1.0
    steps = list(guess)
    for place, step in enumerate(steps):
        known, done = counts.get(f"{step}.in", 0), _answered(counts, step)
        expected = known * growth
        if not any(counts.get(f"{other}.in") for other in steps[place:]):
            expected = guess[step]
        total += max(0.0, expected - done)
        growth = expected / done if 0 < done < expected else 1.0
    return round(total)


def expected_prompts(config: Config) -> dict[str, int]:
    """Guesses how many prompts each step that asks will have, for `left`."""
    brainstorms = {} if config.tasks else {"TaskGenerate": config.task_requests}
    plans = {"PlanLabels": config.expected_tasks} if config.plans_labels else {}
    verifies = {"VerifyLabels": config.expected_examples} if config.verify_backend else {}
    return {**brainstorms, **plans, "LLMCall": config.expected_examples, **verifies}


def _outcomes(counts: Mapping[str, int]) -> tuple[int, int]:
    """Counts the replies that bring something, and those that do not: of tasks and labels while these are asked for,
    then of rows."""
    step = step_of(counts)
    steps = (step,) if step in ("TaskGenerate", "PlanLabels") else ("LLMCall", "VerifyLabels")
    refused = sum(counts.get(f"{each}.{how}", 0) for each in steps for how in ("failed", "refused"))
    return max(0, _answered(counts, steps[0]) - refused), refused


def figures(counts: Mapping[str, int], rate: float, guess: Mapping[str, int]) -> Iterator[str]:
    """Yields what a person wants to know, the most wanted first: a terminal may be narrow.

    Args:
      counts: so far.
      rate: replies a second.
      guess: as of `left`.
    """
    kept, refused = _outcomes(counts)
    if step_of(counts) and rate:
        yield f"{tqdm.format_interval(int(left(counts, guess) / rate))} left"
    yield f"{kept:,} kept"
    if tokens := counts.get(progress.TOKENS, 0):
        if not counts.get(progress.UNPRICED):
            yield format_usd(counts.get(progress.PICODOLLARS, 0))
        yield f"{f'{tokens:,}' if tokens < _MANY_TOKENS else tqdm.format_sizeof(tokens)} tokens"
    yield f"{refused:,} refused"
    if step_of(counts):
        yield f"{rate:.0f}/s"


def log_line(counts: Mapping[str, int], rate: float, guess: Mapping[str, int]) -> str:
    """Returns a line for a log; the arguments are those of `figures`."""
    step = step_of(counts)
    if step is None and not counts.get("LLMCall.in"):
        return stage_of(counts)
    shown = step or "LLMCall"
    of = f" of {counts.get(f'{step}.in', 0):,}" if step else ""
    return ", ".join([f"{stage_of(counts)}: {_answered(counts, shown):,}{of} replies", *figures(counts, rate, guess)])


class Pace:
    """How fast replies have come of late."""

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def per_second(self, now: float, answered: int) -> float:
        """Takes note of how many there are now; returns how many came a second."""
        if self._seen and answered < self._seen[-1][1]:  # another pass
            self._seen.clear()
        self._seen.append((now, answered))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _PACE_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (answered - before) / (now - since) if now > since else 0.0


class ProgressLine:
    """Shows how far the run is while its `with` block runs.

    Args:
      shown: whether there is anything to show; not where the workers are elsewhere.
      guess: as of `left`.
    """

    def __init__(self, shown: bool = True, guess: Mapping[str, int] | None = None) -> None:
        self._shown = shown
        self._guess = guess or dict.fromkeys(_ASKING, 0)
        self._stop = threading.Event()
        self._made = contextlib.ExitStack()

    def __enter__(self) -> ProgressLine:
        if self._shown:
            self._folder = self._made.enter_context(temporary_folder("progress"))
            progress.begin(self._folder)
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
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:  # nobody looks any more
            show = self._bar(stack) if sys.stderr.isatty() else self._log()
            pace = Pace()
            while not self._stop.wait(_INTERVAL):
                counts = progress.read(self._folder)
                is_asking = any(counts[f"{step}.in"] for step in _ASKING)
                show(counts, pace.per_second(time.monotonic(), replies(counts)) if is_asking else 0.0)

    def _bar(self, stack: contextlib.ExitStack) -> Callable[[Mapping[str, int], float], None]:
        width, height = shutil.get_terminal_size()  # tqdm itself draws nothing on a terminal that tells no size
        bar: Any = stack.enter_context(
            tqdm(
                total=0, bar_format="{desc} {elapsed}", unit="", leave=False, file=sys.stderr, ncols=width, nrows=height
            )
        )

        def show(counts: Mapping[str, int], rate: float) -> None:
            bar.set_description_str(stage_of(counts), refresh=False)
            step = step_of(counts)
            if step or counts.get("LLMCall.in"):
                bar.total = counts.get(f"{step or 'LLMCall'}.in", 0)
                bar.n = _answered(counts, step or "LLMCall")
                bar.bar_format = "{desc}: {n:,} of {total:,} |{bar}| " + ", ".join(figures(counts, rate, self._guess))
            bar.refresh()

        return show

    def _log(self) -> Callable[[Mapping[str, int], float], None]:
        due = time.monotonic() + _LOG_INTERVAL

        def show(counts: Mapping[str, int], rate: float) -> None:
            nonlocal due
            if (now := time.monotonic()) >= due:
                due = now + _LOG_INTERVAL
                _LOG.info(log_line(counts, rate, self._guess))

        return show
