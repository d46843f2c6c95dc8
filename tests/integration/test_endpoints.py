"""The whole pipeline over a real socket: each back end's own client, against an endpoint in another process that is
slow, full, broken or not what it should be. What is asked for is what is kept, or it is said why not."""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import google.auth
import google.oauth2.credentials
import pytest
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import build, llm_call
from textmint.pipelines.graph.passes_checks import PassesChecks
from textmint.pipelines.options.parse import parse
from textmint.transforms.build_prompt import BuildPrompt
from textmint.transforms.flatten import Flatten
from textmint.transforms.ledger.join_ledger import JoinLedger
from textmint.transforms.parse_json import is_example
from textmint.transforms.sample_attributes import SampleAttributes
from textmint.transforms.task_generate import ReadTasks

from tests.support.helpers import Done, config_flag, entry_of, files_of, finish, rows_of, run_main, start
from tests.support.layers import holds, layers
from tests.support.llm_server import LlmServer

KEY = "sk-textmint-0123456789abcdefghij"
TOKEN = "ya29.textmint-token-0123456789abcdef"
ENDPOINT = "projects/p1/locations/us-central1/endpoints/17"
THREADS = ("--direct_num_workers=4", "--direct_running_mode=multi_threading")
PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
BACKENDS = ("openai", "gemini", "vertex", "vertex-endpoint")
PROTOCOLS = {"openai": "openai", "gemini": "gemini", "vertex": "vertex", "vertex-endpoint": "chat"}


@pytest.fixture(scope="module")
def one_server() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def server(one_server: LlmServer) -> LlmServer:
    one_server.reset()
    return one_server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of each back end, and of no other."""
    for name in ("OPENAI_BASE_URL", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    credentials = google.oauth2.credentials.Credentials(TOKEN)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (credentials, "p1"))


def _up_to_the_model(pipeline: beam.Pipeline, config: Any, target: Any, *_: Any, **__: Any) -> Any:
    return (
        pipeline
        | ReadTasks(config.tasks)
        | Flatten(config.max_tasks, config.seed)
        | SampleAttributes(config.examples_per_task, config.attributes, config.seed)
        | JoinLedger()
        | BuildPrompt(config.example_template)
        | llm_call(config, target, is_example, PassesChecks(config.checks).fault_of)
    )


@pytest.fixture
def short_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph ends after LLMCall, and nothing is written: a third of the time, for tests that look no further."""
    monkeypatch.setattr("textmint.pipelines.cli.run.build", _up_to_the_model)
    monkeypatch.setattr("textmint.pipelines.cli.summary.summary", lambda *_: "done")


def options_of(llm: str, url: str, model: str = "m-1") -> list[str]:
    return {
        "openai": ["--llm=openai", f"--base_url={url}/v1", f"--model={model}"],
        "gemini": ["--llm=gemini", f"--base_url={url}", f"--model={model}"],
        "vertex": ["--llm=gemini", f"--base_url={url}", f"--model={model}", "--vertex_project=p1"],
        "vertex-endpoint": [
            "--llm=vertex-endpoint",
            f"--base_url={url}",
            f"--model={model}",
            f"--vertex_endpoint={ENDPOINT}",
        ],
    }[llm]


class Play:
    """Runs of the command against the endpoint."""

    def __init__(self, server: LlmServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def __call__(self, *flags: str, llm: str = "openai", tasks: int = 40, name: str = "out") -> Done:
        """One example is asked for each task, so that all prompts differ."""
        return run_main("generate", *options_of(llm, self.server.base_url), *self.more(tasks, name), *flags)

    def more(self, tasks: int, name: str = "out") -> list[str]:
        path = self.folder / f"tasks-{tasks}.txt"
        path.write_text("".join(f"Classify letter {number} by its tone\n" for number in range(tasks)), "utf-8")
        # Nothing is compared, which is a third of a graph, and of no account here.
        return [f"--tasks={path}", "--examples_per_task=1", "--checks=none", f"--output={self.folder / name}"]

    def rows(self, kind: str = "examples", name: str = "out") -> list[dict[str, Any]]:
        return rows_of(self.folder / name, kind)

    def step(self, step: str = "LLMCall", name: str = "out") -> dict[str, Any]:
        found: dict[str, Any] = entry_of(self.folder / name)["steps"][step]
        return found


@pytest.fixture
def play(server: LlmServer, tmp_path: Path) -> Play:
    return Play(server, tmp_path)


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done


# --- what is asked for is what is kept


@pytest.mark.parametrize("llm", BACKENDS)
def test_a_whole_run(play: Play, llm: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    secret = TOKEN if llm.startswith("vertex") else KEY
    play.server.reset(latency_median_ms=20, require_key=secret, served_model="m-1-2026-05-01")
    with caplog.at_level(logging.DEBUG):
        done = run_main(
            "generate",
            *options_of(llm, play.server.base_url),
            "--task_requests=2",
            "--examples_per_task=2",
            "--max_concurrency=16",
            "--keep_raw",
            f"--output={play.folder / 'out'}",
        )
    stats = play.server.stats()
    ok(done)
    check_for_secrets(play, done.out, done.err, caplog.text, *capfd.readouterr())
    rows, tasks = play.rows(), play.rows("tasks")
    assert len(tasks) == 40
    assert len(rows) == 80
    assert play.rows("rejects") == []
    assert {row["model"] for row in rows} == {"m-1-2026-05-01"}
    assert {row["finish_reason"] for row in rows} == {"stop"}
    assert all(row["input_text"] and row["label"] != row["misleading_label"] for row in rows)
    # one request a prompt, in the protocol that was asked for, with structure, and no key in a URL
    assert stats["by_protocol"] == {PROTOCOLS[llm]: 82}
    assert stats["by_status"] == {"200": 82}
    assert stats["structured"] == 82
    assert stats["key_in_url"] is False
    assert stats["first_three_in_flight"][:2] == [0, 0]  # the first is alone until it is answered
    assert 4 <= stats["max_in_flight"] <= 16
    # and the manifest says the same
    asked, listed = play.step(), play.step("TaskGenerate")
    assert asked["requests"] == {"sent": 80, "retries": 0, "throttled": 0, "asked_again": 0, "from_ledger": 0}
    assert listed["requests"] == {"sent": 2, "retries": 0, "throttled": 0, "asked_again": 0, "from_ledger": 0}
    assert asked["tokens"] == {name: sum(row[f"{name}_tokens"] for row in rows) for name in ("prompt", "output")}
    assert min(asked["tokens"].values()) > 80
    for step in (asked, listed):
        assert step["throttled_seconds"] == 0
        assert 20 <= step["latency_ms"]["p50"] <= step["latency_ms"]["p90"] <= step["latency_ms"]["p99"] < 2000


@pytest.mark.usefixtures("short_graph")
def test_a_key_is_not_needed_where_none_is_wanted(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ok(play(tasks=5))
    assert play.server.stats()["by_status"] == {"200": 5}
    assert all("authorization" not in sent["headers"] for sent in play.server.recent())


# --- what goes wrong on the way


@pytest.mark.parametrize(
    ("llm", "faults", "tasks"),
    [
        ("openai", {"rate_429": 0.025, "rate_500": 0.025}, 100),
        ("gemini", {"rate_429": 0.1, "rate_500": 0.02, "retry_after": 0.2}, 100),
        ("vertex-endpoint", {"rate_429": 0.1, "rate_503": 0.05, "retry_after": 1, "retry_after_form": "date"}, 20),
        ("openai", {"rate_reset": 0.05, "rate_half": 0.05, "rate_malformed": 0.05, "rate_html": 0.02}, 100),
    ],
)
def test_what_passes_is_tried_again_and_no_row_is_lost(
    play: Play, llm: str, faults: dict[str, Any], tasks: int
) -> None:
    play.server.reset(latency_median_ms=5, seed=3, **faults)
    ok(play(llm=llm, tasks=tasks))
    stats = play.server.stats()
    assert len(play.rows()) == tasks
    assert play.rows("rejects") == []
    assert len({row["id"] for row in play.rows()}) == tasks
    requests = play.step()["requests"]
    assert requests["sent"] == stats["requests"] == tasks + requests["retries"]
    assert requests["retries"] >= tasks * 0.01
    assert requests["asked_again"] == 0
    assert stats["good_prompts"] == tasks
    assert stats["good_twice"] == 0  # nothing is paid for twice
    assert sum(stats["by_outcome"].values()) == stats["requests"]


def test_a_connection_that_hangs_is_cut_and_its_row_kept(play: Play) -> None:
    play.server.reset(rate_hang=0.01, seed=3)
    ok(play(config_flag(request_timeout=1), tasks=200))
    stats = play.server.stats()
    assert len(play.rows()) == 200
    assert stats["by_outcome"]["hang"] >= 1
    assert stats["gave_up"] == stats["by_outcome"]["hang"] == play.step()["requests"]["retries"]
    assert stats["in_flight"] == 0


def test_an_endpoint_with_a_quota_is_waited_for_and_the_wait_is_told(play: Play) -> None:
    play.server.reset(latency_median_ms=20, limit_rps=20, limit_burst=5)
    started = time.monotonic()
    ok(play(tasks=45))
    seconds = time.monotonic() - started
    assert len(play.rows()) == 45
    stats = play.server.stats()
    assert stats["by_outcome"]["limit_rps"] == play.step()["requests"]["retries"] > 0
    # 2 s would do; the last ones do not wait long for a turn of their own
    assert stats["last_reply_monotonic"] - stats["first_request_monotonic"] < 8
    assert 1 <= play.step()["throttled_seconds"] <= seconds


@pytest.mark.usefixtures("short_graph")
def test_a_cap_of_ones_own(play: Play) -> None:
    ok(play("--requests_per_minute=1200", tasks=50))
    by_second = play.server.stats()["by_second"]
    assert by_second["0"]["requests"] <= 41  # 20 a second, and 20 at once
    assert sum(counts["requests"] for counts in by_second.values()) == 50


@pytest.mark.parametrize("llm", ["openai", "gemini"])
def test_what_is_withheld_or_cut_short_is_a_named_reason(play: Play, llm: str) -> None:
    play.server.reset(rate_blocked=0.2, rate_truncated=0.2, seed=5)
    ok(play("--parse_attempts=1", llm=llm, tasks=60))
    outcomes = play.server.stats()["by_outcome"]
    reasons = collections.Counter(row["reason"] for row in play.rows("rejects"))
    assert set(reasons) <= {"blocked", "truncated"}
    # where the prompt itself is blocked, OpenAI answers 400, and the server calls it by that
    assert reasons["blocked"] == outcomes.get("blocked", 0) + outcomes.get("prompt", 0) > 3
    assert reasons["truncated"] == outcomes["truncated"] > 3
    assert len(play.rows()) == outcomes["ok"]
    finished = {(row["reason"], row["finish_reason"], row["can_retry"]) for row in play.rows("rejects")}
    assert finished == {
        ("blocked", "content_filter", False),
        ("blocked", "reply_filter", True),
        ("truncated", "length", True),
    }
    assert len(play.rows()) + reasons.total() == 60


@pytest.mark.usefixtures("short_graph")
@pytest.mark.parametrize(("form", "requests"), [("prompt", 10), ("safety", 20)])
def test_a_prompt_that_a_filter_refuses_is_not_asked_again_and_a_reply_that_it_stopped_is(
    play: Play, form: str, requests: int
) -> None:
    play.server.reset(rate_blocked=1.0, blocked_as=form)
    ok(play(tasks=10))
    assert play.server.stats()["requests"] == requests


def test_a_reply_that_cannot_be_read_is_asked_for_again(play: Play) -> None:
    play.server.reset(rate_bad_reply=0.2, seed=2)
    ok(play(tasks=60))
    stats = play.server.stats()
    requests = play.step()["requests"]
    assert requests["sent"] == stats["requests"] == 60 + requests["asked_again"]
    assert requests["asked_again"] >= 5
    assert requests["retries"] == 0
    rows, rejects = play.rows(), play.rows("rejects")
    assert len(rows) + len(rejects) == 60
    assert len(rows) == stats["good_prompts"] > 60 * 0.85
    # every reply was paid for, those that were thrown away too
    assert play.step()["tokens"]["prompt"] > sum(row["prompt_tokens"] for row in rows + rejects)


@pytest.mark.usefixtures("short_graph")
@pytest.mark.parametrize(("llm", "flags"), [("openai", THREADS), ("gemini", ()), ("vertex-endpoint", ())])
def test_structured_output_that_is_refused_is_left_out_with_one_warning(
    play: Play, llm: str, flags: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    play.server.reset(refuse_structured=True, latency_median_ms=3)
    with caplog.at_level(logging.WARNING, logger="textmint"):
        ok(play(*flags, llm=llm))
    stats = play.server.stats()
    assert stats["good_prompts"] == 40
    assert stats["structured"] == 1  # the probe's; it settles it for all
    assert stats["requests"] == 41
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "textmint"]
    assert "structured output" in warning


@pytest.mark.usefixtures("short_graph")
def test_structured_output_can_be_switched_off_and_the_prompt_stays_the_same(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    ok(play(tasks=3))
    plain = sorted(map(prompt_of, play.server.recent()))
    play.server.reset(refuse_structured=True)
    ok(play(config_flag(structured_output="never"), tasks=3))
    assert sorted(map(prompt_of, play.server.recent())) == plain
    assert all("input_text" in prompt for prompt in plain)
    assert (play.server.stats()["structured"], play.server.stats()["requests"]) == (0, 3)
    assert not [record for record in caplog.records if record.name == "textmint"]


def prompt_of(sent: dict[str, Any]) -> str:
    return str(sent["body"]["messages"][0]["content"])


# --- many at once


def test_threads_share_one_window(play: Play) -> None:
    play.server.reset(latency_median_ms=15)
    ok(play(*THREADS, "--max_concurrency=6", tasks=80))
    stats = play.server.stats()
    assert stats["max_in_flight"] == 6
    assert stats["requests"] == 80
    assert stats["first_three_in_flight"][:2] == [0, 0]
    assert len(play.rows()) == 80


def test_processes_have_a_window_each_and_write_the_same_bytes(play: Play) -> None:
    play.server.reset(latency_median_ms=100, rate_500=0.05)  # long enough for both processes to ask at the same time
    ok(play(*PROCESSES, "--max_concurrency=4", tasks=80, name="processes"))
    assert 4 < play.server.stats()["max_in_flight"] <= 8
    play.server.reset(latency_median_ms=1)
    ok(play(tasks=80, name="one"))
    for kind in ("examples", "tasks", "rejects"):
        assert play.rows(kind, "one") == play.rows(kind, "processes")
    assert files_of(play.folder / "one") == files_of(play.folder / "processes")
    assert len(play.rows(name="one")) == 80
    requests = play.step(name="processes")["requests"]
    assert requests["sent"] == 80 + requests["retries"]
    assert requests["retries"] > 0


# --- what cannot work


def one_line(done: Done, code: int) -> str:
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("textmint: ")
    assert done.out == ""
    return lines[0]


def doomed(play: Play, *flags: str, llm: str = "openai") -> str:
    started = time.monotonic()
    line = one_line(play(*flags, llm=llm, tasks=30), 1)
    assert time.monotonic() - started < 15
    assert line.startswith("textmint: the run failed: ")
    assert ";" in line  # what is wrong; what to do
    assert not files_of(play.folder / "out")
    return line


@pytest.mark.usefixtures("short_graph")
@pytest.mark.parametrize(
    ("llm", "plays", "words"),
    [
        ("openai", {"model_known": "another"}, "404 --model"),
        ("vertex", {"model_known": "another"}, "404 --model"),
        ("vertex-endpoint", {"model_known": "another"}, "404 --model"),
        ("openai", {"quota_zero": True}, "429 quota"),
        ("gemini", {"rate_html": 1.0}, "HTML --base_url"),
        ("openai", {"status_always": 404}, "404 --base_url"),
        ("openai", {"path": "/somewhere"}, "404 --base_url"),
    ],
)
def test_a_fatal_answer_stops_the_run_after_one_request(
    play: Play, llm: str, plays: dict[str, Any], words: str
) -> None:
    path = plays.get("path")
    play.server.reset(**{name: value for name, value in plays.items() if name != "path"})
    line = doomed(play, *([f"--base_url={play.server.base_url}{path}"] if path else []), llm=llm)
    assert all(word.lower() in line.lower() for word in words.split()), line
    assert play.server.stats()["requests"] == 1


def test_a_doomed_run_leaves_nothing_behind(play: Play) -> None:
    play.server.reset(require_key="another")
    assert "OPENAI_API_KEY" in doomed(play)
    assert [path.name for path in play.folder.iterdir()] in (
        ["tasks-30.txt"],
        ["tasks-30.txt", "out"],
        ["out", "tasks-30.txt"],
    )
    assert not [path for path in (play.folder / "out").rglob("*") if path.is_file()]


def unused_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.usefixtures("short_graph")
@pytest.mark.parametrize(("llm", "host"), [*((llm, "") for llm in BACKENDS), ("openai", "no-such-host.invalid")])
def test_nobody_listens(play: Play, llm: str, host: str) -> None:
    assert "--base_url" in doomed(play, f"--base_url=http://{host or f'127.0.0.1:{unused_port()}'}/v1", llm=llm)


@pytest.mark.usefixtures("short_graph")
def test_no_credentials(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def default(*_: Any, **__: Any) -> Any:
        raise google.auth.exceptions.DefaultCredentialsError(f"the file with {TOKEN} is none")

    monkeypatch.setattr(google.auth, "default", default)
    for llm in ("vertex", "vertex-endpoint"):
        line = doomed(play, llm=llm)
        assert "gcloud auth application-default login" in line
        assert TOKEN not in line
    assert play.server.stats()["requests"] == 0


@pytest.mark.usefixtures("short_graph")
def test_an_endpoint_that_refuses_every_prompt_gets_three(play: Play) -> None:
    play.server.reset(status_always=422)
    doomed(play)
    assert play.server.stats()["requests"] == 3


@pytest.mark.usefixtures("short_graph")
def test_an_endpoint_that_begins_to_fail_stops_the_run(play: Play) -> None:
    """More than half of the last 200 failed for good: no further request is sent, and nothing is published."""
    play.server.reset(fail_always=r"letter \d*[13579]\b|letter \d*[02468]5?\d\b", fail_always_status=422)
    started = time.monotonic()
    line = one_line(play(config_flag(max_attempts=1), tasks=600), 1)
    assert time.monotonic() - started < 15
    assert "more than half of the last 200" in line
    assert play.server.stats()["requests"] < 500


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--llm=openai", "--base_url=http://127.0.0.1:1/v1"], "--model"),
        (["--llm=openai", "--model=m", "--base_url=nix"], "--base_url"),
        (["--llm=openai", "--model=m", "--base_url=http://host:port/v1"], "--base_url"),
        (["--llm=openai", "--model=m", f"--base_url=http://u:{KEY}@127.0.0.1:1/v1"], "--base_url"),
        (["--llm=openai", "--model=m"], "OPENAI_API_KEY"),
        (["--llm=gemini", "--model=m"], "GEMINI_API_KEY"),
        (["--llm=gemini", "--model=a b", "--vertex_project=p"], "model"),
        (["--llm=vertex-endpoint", f"--vertex_endpoint={ENDPOINT}x/y"], "--vertex_endpoint"),
        (["--llm=offline", "--max_concurrency=0"], "--max_concurrency"),
        (["--llm=offline", "--requests_per_minute=0"], "--requests_per_minute"),
        (["--llm=offline", config_flag(request_timeout="nan")], "request_timeout in --config"),
        (["--llm=offline", config_flag(max_attempts=0)], "max_attempts in --config"),
    ],
)
def test_options_that_cannot_work_are_said_in_one_line(
    flags: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("GEMINI_API_KEY")
    line = one_line(run_main("generate", *flags, f"--output={tmp_path / 'out'}"), 2)
    assert word in line
    assert KEY not in line
    assert not (tmp_path / "out").exists()


def test_as_a_user_starts_it(play: Play) -> None:
    play.server.reset(require_key="another")
    processes = [
        start("generate", *options_of("openai", play.server.base_url), *play.more(30, "wrong"), cwd=play.folder),
        start("generate", *options_of("gemini", "http://127.0.0.1:9"), *play.more(30, "deaf"), cwd=play.folder),
    ]
    started = time.monotonic()
    for process, word in zip(processes, ("OPENAI_API_KEY", "--base_url"), strict=True):
        done = finish(process)
        assert done.code == 1
        assert "Traceback" not in done.err + done.out
        (line,) = [line for line in done.err.splitlines() if line.startswith("textmint: ")]
        assert word in line
        assert KEY not in done.err + done.out
    assert time.monotonic() - started < 15
    assert play.server.stats()["requests"] == 1


# --- keys stay where they are


def holds_a_secret(blob: bytes) -> bool:
    return holds(blob, KEY, TOKEN)


def test_a_secret_would_be_found() -> None:
    from apache_beam.internal import pickler

    for secret in (KEY, TOKEN):
        assert holds_a_secret(f"a {secret} b".encode())
        assert holds_a_secret(b"x" + base64.b64encode(f"  {secret}  ".encode()))
        assert holds_a_secret(b"\x0a\x03" + pickler.dumps({"deep": [pickler.dumps(secret)]}) + b"\x12")
    assert not holds_a_secret(b"nothing of the kind" + pickler.dumps({"deep": 1}))


@pytest.mark.parametrize("llm", ["openai", "gemini", "vertex-endpoint"])
def test_no_key_travels_with_the_graph(llm: str, tmp_path: Path) -> None:
    canary = "canary-model-7"
    flags = [*options_of(llm, "http://127.0.0.1:9", canary), f"--output={tmp_path / 'out'}"]
    config, options = parse(flags)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, target_of(config))
    proto = pipeline.to_runner_api().SerializeToString()
    assert any(canary.encode() in layer for layer in layers(proto))  # what the graph holds is found
    assert not holds_a_secret(proto)
    told = [options.get_all_options(), options.display_data(), vars(options), target_of(config).description]
    told += [config, config.backend.fingerprint(), str(config.backend), config.backend]
    for each in told:
        assert not holds_a_secret(repr(each).encode())


def check_for_secrets(play: Play, *said: str) -> None:
    """Checks that a key was sent, and that nothing that the run said or left holds one."""
    assert any(KEY in str(sent["headers"]) or TOKEN in str(sent["headers"]) for sent in play.server.recent())
    assert not any(holds_a_secret(text.encode()) for text in said)
    for kind in ("examples", "tasks", "rejects"):  # what is in the files is compressed
        assert not holds_a_secret(json.dumps(play.rows(kind)).encode())
    files = [path for path in play.folder.rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files)
    assert not any(holds_a_secret(path.read_bytes()) for path in files)


def test_no_key_in_what_a_run_leaves_that_met_faults(
    play: Play, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    play.server.reset(rate_500=0.2, rate_bad_reply=0.2, rate_blocked=0.2, refuse_structured=True)
    with caplog.at_level(logging.DEBUG):
        done = ok(play("--keep_raw", config_flag(max_attempts=2), tasks=20))
    assert play.rows("rejects")
    check_for_secrets(play, done.out, done.err, caplog.text, *capfd.readouterr())


@pytest.mark.usefixtures("short_graph")
@pytest.mark.parametrize(
    ("llm", "words"),
    [
        ("openai", "401 OPENAI_API_KEY"),
        ("gemini", "400 GEMINI_API_KEY"),
        ("vertex", "401 credentials"),
        ("vertex-endpoint", "401 gcloud"),
    ],
)
def test_a_refused_key_is_named_and_not_shown_though_the_endpoint_quotes_it(
    play: Play, llm: str, words: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    play.server.reset(require_key="another", echo_key=True)
    with caplog.at_level(logging.DEBUG):
        line = doomed(play, llm=llm)
    assert all(word.lower() in line.lower() for word in words.split()), line
    for text in (line, caplog.text, *capfd.readouterr()):
        assert not holds_a_secret(text.encode())
    assert play.server.stats()["keys_wrong"] == play.server.stats()["requests"] == 1
