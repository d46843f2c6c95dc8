"""As many connections as requests in flight, on systems that allow few open files. Limits are a process's own, so each
case is a process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.transforms.llm import descriptors

from tests.support.helpers import ROOT
from tests.support.llm_server import LlmServer

ASK = """
import queue, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from textmint.transforms.llm.base import Request
from textmint.transforms.llm.engine import Engine, Settings
from textmint.transforms.llm.limiter import Limits
from textmint.transforms.llm.openai import OpenAIBackend
engine = Engine(OpenAIBackend(model="m", base_url="{url}/v1"), Settings(limits=Limits(max_concurrency=300)))
done = queue.SimpleQueue()
for n in range(400):
    engine.submit(Request(request_id=f"r{{n}}", kind="example", text=f"Write {{n}}", seed=n, variables={{}}), n, done)
ended = [done.get(timeout=60) for _ in range(400)]
engine.close()
print(sum(each.answer is not None for each in ended), {{each.error and each.error.detail for each in ended}})
"""


def ask(url: str, soft: int, hard: int) -> str:
    script = ASK.format(url=url, soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


def test_a_low_soft_limit_is_raised_and_a_low_hard_limit_is_not_the_endpoints_fault() -> None:
    with LlmServer(latency_median_ms=200) as server:
        assert ask(server.base_url, 256, 4096) == "400 {None}"  # macOS
        assert server.stats()["max_in_flight"] == 300
        server.reset()
        said = ask(server.base_url, 256, 300)
        assert said.startswith("0 ") and "--max_concurrency=300 needs more open files" in said
        assert server.stats()["requests"] == 0


@pytest.mark.parametrize("flags", [[], ["--verify", "--verify_model=other"], ["--verify"]])
def test_what_cannot_fit_is_refused_before_anything_is_paid(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr("textmint.pipelines.options.validate.most_connections", lambda: 500)
    base = ["--llm=openai", "--model=m", "--base_url=http://127.0.0.1:9/v1", f"--output={tmp_path}/out", *flags]
    fits = 250 if "--verify_model=other" in flags else 500  # two models in one process
    parse([*base, f"--max_concurrency={fits}"])
    with pytest.raises(OptionError, match=f"choose {fits} or less, or raise the hard limit"):
        parse([*base, f"--max_concurrency={fits + 1}"])
    parse([f"--output={tmp_path}/out", "--max_concurrency=5000"])  # the embedded model has no connections


def test_what_is_claimed_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(256, 1000)]
    monkeypatch.setattr(descriptors, "_claimed", 0)
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert descriptors.most_connections() == 1000 - descriptors.RESERVED
    assert descriptors.claim(64) and len(limits) == 1  # they fit as it is
    assert descriptors.claim(300) and limits[-1] == (64 + 300 + descriptors.RESERVED, 1000)
    assert not descriptors.claim(800)
    descriptors.give_back(300)
    assert descriptors.claim(800)
