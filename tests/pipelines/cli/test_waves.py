"""The launcher of a capped run, with a made-up graph in place of Beam's: it ends, stays below its cap and asks the same
drafts, whatever was paid for before, fails, or grows."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.pipelines.cli import waves as under_test
from textmint.pipelines.cli.waves import Waves
from textmint.pipelines.graph.caps import caps_of
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.admission import BUCKETS, Admission, bucket_of
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.accounting import rounded_up
from textmint.transforms.ledger.compact import TokensPaid
from textmint.transforms.llm.base import fingerprint_of
from textmint.transforms.llm.brake import BRAKED

IN_FLIGHT = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("waves")
    (folder / "tasks.txt").write_text("Sort mail\n")
    flags = [f"--output={folder / 'out'}", f"--tasks={folder / 'tasks.txt'}", f"--max_concurrency={IN_FLIGHT}"]
    return parse([*flags, "--max_tokens=1000000"])[0]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


class FakeGraph:
    """What the graph and the endpoint do together.

    Args:
      sizes: tokens of the reply to each draft.
      fails: drafts that never get one.
      grow_after: replies after which each is ten times as large.
    """

    def __init__(
        self, config: Config, sizes: list[int], fails: frozenset[int] = frozenset(), grow_after: int | None = None
    ) -> None:
        self.fingerprint = fingerprint_of(config.backend)
        self.sizes, self.fails, self.grow_after = sizes, fails, grow_after
        self.buckets = [bucket_of(f"task {number // 3}", number % 3, 3) for number in range(len(sizes))]
        self.paid: dict[int, int] = {}
        self.published: set[int] | None = None
        self.passes = 0
        self.dies_at: int | None = None

    @property
    def spent(self) -> int:
        return sum(self.paid.values())

    def tokens_paid(self, folder: str, refresh: str) -> TokensPaid:
        return {self.fingerprint: (len(self.paid), 0, self.spent)} if self.paid else {}

    def ask(self, config: Config, order: int) -> tuple[dict[str, int], set[int]]:
        self.passes += 1
        assert self.passes < 60, "it does not end"
        assert config.admission is not None and config.settings.brake is not None
        admission: Admission = config.admission
        new: dict[int, int] = {}
        missing = [n for n, bucket in enumerate(self.buckets) if bucket < admission.level and n not in self.paid]
        random.Random(order).shuffle(missing)
        [limit] = config.settings.brake.limits
        planned = dict(limit.weights)["example"][2]
        for draft in missing:
            if len(self.paid) == self.dies_at:
                self.dies_at = None
                raise KeyboardInterrupt
            if draft in self.fails:
                continue
            growth = 10 if self.grow_after is not None and len(self.paid) >= self.grow_after else 1
            self.paid[draft] = new[draft] = growth * self.sizes[draft]
            taken = sum(new.values())
            if taken >= limit.most or taken > planned * len(new) + limit.slack:
                raise RunFailed(f"{limit.option}: {BRAKED}")
        made = [n for n, bucket in enumerate(self.buckets) if admission.makes(bucket)]
        settled = {n for n in made if n in self.paid}
        counts = Counter(f"Flatten/drafts.{bucket}" for bucket in self.buckets)
        counts.update(f"LLMCall/settled.{self.buckets[n]}" for n in settled)
        counts.update(f"LLMCall/spent.tokens.{rounded_up(self.paid[n])}" for n in settled)
        counts["LLMCall/tokens.output"] = sum(new.values())
        counts["LLMCall/ledger_tokens.output"] = sum(self.paid[n] for n in settled) - sum(new.values())
        counts["LLMCall/rejected.request_failed"] = len(self.fails.intersection(missing))
        counts["LLMCall/requests.sent"] = len(new)
        return dict(counts), settled


def run(config: Config, graph: FakeGraph, most: int, order: int = 0, dies_in: int | None = None) -> Config:
    """Runs a capped run to its end, or until it is killed in a pass; returns what it was published with."""
    [cap] = caps_of(config)
    cap = dataclasses.replace(cap, most=most, estimates={"LLMCall": (0, 150)})
    left = [dies_in]

    def run_pass(of_pass: Config) -> dict[str, int]:
        if left[0] is not None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        return graph.ask(of_pass, order)[0]

    def publish(last: Config) -> None:
        graph.published = graph.ask(last, order)[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test, "tokens_paid", graph.tokens_paid)
        return Waves([cap], run_pass).finish(config, publish)


SIZES = st.builds(
    lambda seed, count, sigma: [
        max(1, round(100 * random.Random(f"{seed}{n}").lognormvariate(0, sigma))) for n in range(count)
    ],
    st.integers(0, 1 << 32),
    st.integers(3, 600),
    st.sampled_from([0.0, 0.4]),
)


@settings(max_examples=50, deadline=None)
@given(SIZES, st.floats(0.1, 1.3), st.integers(0, 600), st.integers(0, 99))
def test_whatever_was_paid_for_before(config: Config, sizes: list[int], share: float, before: int, order: int) -> None:
    """A run without a cap was killed: what it paid for stands anywhere. All of that is published."""
    most = int(sum(sizes) * share) + 200
    graph = FakeGraph(config, sizes)
    first = random.Random(order).sample(range(len(sizes)), min(before, len(sizes)))
    graph.paid = {draft: sizes[draft] for draft in first}
    had = graph.spent
    run(config, graph, most, order)
    assert graph.published == set(graph.paid)
    assert graph.spent <= max(had, most + max(sizes))
    if had > most:
        assert graph.spent == had
    if share > 1.2 and len(sizes) >= 30:  # of a few, nobody knows what the next one takes
        assert len(graph.paid) == len(sizes)
    once = set(graph.paid)
    run(config, graph, most, order + 1)
    assert graph.published == set(graph.paid) >= once  # more is known of what a draft takes, so more may fit
    assert graph.spent <= max(had, most + max(sizes))


@settings(max_examples=30, deadline=None)
@given(SIZES, st.floats(0.1, 0.9), st.integers(1, 6), st.integers(0, 99))
def test_a_kill_between_any_passes(config: Config, sizes: list[int], share: float, dies_in: int, order: int) -> None:
    most = int(sum(sizes) * share) + 200
    at_once, killed = FakeGraph(config, sizes), FakeGraph(config, sizes)
    run(config, at_once, most)
    try:
        run(config, killed, most, order, dies_in)
    except KeyboardInterrupt:
        run(config, killed, most, order + 1)
    assert killed.published == at_once.published == set(at_once.paid)
    run(config, killed, most * 100)
    assert killed.published == set(range(len(sizes)))


@pytest.mark.parametrize("seed", [11, 23, 26])
def test_a_kill_in_a_pass_where_replies_are_very_uneven(config: Config, seed: int) -> None:
    """The brake may end a pass by chance: by the order in which the large ones come, or after a kill only these."""
    sizes = [max(1, round(100 * random.Random(f"{seed}{n}").lognormvariate(0, 1.0))) for n in range(600)]
    most = sum(sizes) // 2
    at_once, killed = FakeGraph(config, sizes), FakeGraph(config, sizes)
    run(config, at_once, most)
    killed.dies_at = 250
    with contextlib.suppress(KeyboardInterrupt):
        run(config, killed, most, order=7)
    run(config, killed, most, order=7)
    assert killed.published == at_once.published == set(at_once.paid)
    assert killed.spent <= most


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 400), st.integers(0, 99))
def test_replies_that_grow_in_the_middle(config: Config, sizes: list[int], grow_after: int, order: int) -> None:
    """The cap holds but for what is in flight, and what was paid for is published."""
    most = sum(sizes) // 2 + 2_000
    graph = FakeGraph(config, sizes, grow_after=grow_after)
    run(config, graph, most, order)
    assert graph.spent <= most + 10 * max(sizes)
    assert graph.published == set(graph.paid)


@pytest.mark.parametrize("fails", [frozenset(), frozenset(range(0, 300, 7))])
def test_a_cap_far_above_replies_that_take_more_than_was_estimated(config: Config, fails: frozenset[int]) -> None:
    """It holds nothing back, and so does not end a target."""
    graph = FakeGraph(config, [20_000] * 300, fails)
    last = run(config, graph, 100_000_000)
    assert graph.published == set(range(300)) - fails
    assert last.admission is not None and last.admission.level == BUCKETS


def test_what_always_fails_ends_no_run_in_circles(config: Config) -> None:
    sizes = [100] * 300
    for paid in ({}, dict.fromkeys(range(150, 200), 100)):
        graph = FakeGraph(config, sizes, frozenset(range(0, 300, 7)))
        graph.paid = dict(paid)
        run(config, graph, 9_000)
        assert 6_000 <= graph.spent <= 9_000 and graph.published == set(graph.paid)


@pytest.mark.parametrize(("paid", "error"), [({}, OptionError), ({0: 90}, RunFailed)])
def test_not_one_example_fits(config: Config, paid: dict[int, int], error: type[Exception]) -> None:
    graph = FakeGraph(config, [100] * 30)
    if paid:  # by another prompt of the refresh
        graph.tokens_paid = lambda folder, refresh: {graph.fingerprint: (1, 0, 90)}  # type: ignore[method-assign]
    with pytest.raises(error, match=r"an example may take 150 tokens, which does not fit; choose a higher cap"):
        run(config, graph, 140)
    assert graph.published is None and not graph.paid


def test_brainstorming_that_may_take_more_than_half(tmp_path: Path) -> None:
    brainstorms, _ = parse([f"--output={tmp_path}", "--task_requests=50", "--max_tokens=60000"])
    asked: list[Config] = []
    pay: Callable[[Config], Config] = Waves(caps_of(brainstorms), lambda each: asked.append(each) or {}).pay  # type: ignore[func-returns-value]
    with pytest.raises(OptionError, match=r"^--max_tokens=60000: brainstorming with --task_requests=50 may take more"):
        pay(brainstorms)
    assert not asked
