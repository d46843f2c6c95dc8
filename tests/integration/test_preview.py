"""The command `preview`, and what it leaves for `generate`: whole runs, by the endpoint's own count, on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest
from textmint.transforms.storage import lease

from tests.pipelines.cli.test_terminal import EVIL, check_shown
from tests.support.helpers import ROOT, Done, Script, files_of, generate, rows_of, run_main, write_tasks
from tests.support.llm_server import LlmServer
from tests.support.wheel import python_with

STYLE = re.compile(r"\x1b\[[0-9;]*m")


def preview(*flags: str) -> Done:
    done = run_main("preview", *flags)
    assert "Traceback" not in done.err
    return done


@pytest.mark.parametrize("more", [[], ["--label_plan=planned", "--verify"]], ids=["free", "planned"])
def test_generate_pays_for_nothing_again_by_the_endpoints_own_count(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with LlmServer(rate_bad_reply=0.05, rate_500=0.05) as server:
        model = ["--llm=openai", f"--base_url={server.base_url}/v1", "--model=m-1", "--price=1,2"]
        flags = [*model, "--task_requests=2", "--examples_per_task=2", *more]
        shown = preview(*flags, "--rows=8", "--json", f"--output={tmp_path / 'out'}")
        found = json.loads(shown.out)
        first = server.stats()
        assert shown.code == 0 and len(found["examples"]) + len(found["rejects"]) >= 8
        assert sum(asked["requests"] for asked in found["asked"].values()) == first["requests"]
        assert found["asked"]["examples"]["from_ledger"] == 0 and found["spending"]["cost_usd"] > 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ledger"]

        again = json.loads(preview(*flags, "--rows=8", "--json", f"--output={tmp_path / 'out'}").out)
        assert again["spending"]["cost_usd"] == 0 and again["examples"] == found["examples"]
        assert server.stats()["requests"] == first["requests"]

        generate(*flags, f"--output={tmp_path / 'out'}")
        both = server.stats()
        assert both["good_twice"] == 0
        server.reset(rate_bad_reply=0.05, rate_500=0.05)
        generate(*flags, f"--output={tmp_path / 'alone'}")
        assert both["requests"] == server.stats()["requests"]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")
    rows = {row["id"]: row for row in rows_of(tmp_path / "out", "examples")}
    seen = {row["id"]: {name: value for name, value in row.items() if name != "checks"} for row in found["examples"]}
    assert seen and seen.items() <= rows.items()  # what was seen is what was minted


def test_rows_are_shown_with_their_verdicts_and_rejects_with_their_replies(tmp_path: Path) -> None:
    flags = [f"--tasks={write_tasks(tmp_path / 'tasks.txt', 3)}", f"--output={tmp_path / 'out'}"]
    flags += ["--offline_fault_rate=0.5", "--rows=8"]
    done = preview(*flags, "--show_prompt")
    assert done.code == 0
    found = json.loads(preview(*flags, "--json").out)
    assert found["asked"]["examples"]["requests"] == 0
    total = len(found["examples"]) + len(found["rejects"])
    assert total == 8 and {row["replica"] for row in found["examples"] + found["rejects"]} == {0, 1, 2}
    words = " ".join(done.out.split())
    for number in range(1, 9):
        assert re.search(f"{number} of 8: (kept|rejected, [a-z_]+) -", words)
    for row in found["examples"] + found["rejects"]:
        assert " ".join(row["prompt"].split()) in words and row["num_words"] in words
        for name, detail in row.get("checks", {}).items():
            assert detail is None or f"{name}: {' '.join(detail.split())}" in words
    for reject in found["rejects"]:
        help = "can help" if reject["can_retry"] else "cannot help"
        assert f"refused by {reject['stage']}: {' '.join(reject['detail'].split())}; asking again {help}" in words
        assert " ".join(reject["raw_reply"][:900].split()) in words
    assert f"{len(found['examples'])} of 8 examples kept" in words
    assert re.search(
        r"asked for: \d+ examples; from the ledger: 0 replies paid for: .* \$0.00 by embedded model", words
    )
    command = f"generate --tasks={tmp_path / 'tasks.txt'} --output={tmp_path / 'out'} --offline_fault_rate=0.5"
    assert done.out.endswith(f"{command}\n")


def test_a_preview_that_keeps_nothing_is_no_success(tmp_path: Path) -> None:
    flags = ["--offline_fault_rate=1", f"--output={tmp_path / 'out'}"]
    done = preview(*flags, f"--tasks={write_tasks(tmp_path / 'tasks.txt', 2)}", "--rows=2")
    assert done.code == 1 and "0 of 2 examples kept" in done.out and "reply" in done.out


def test_where_rounds_bring_too_few_tasks_more_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with LlmServer(rate_bad_reply=1) as server:
        model = ["--llm=openai", f"--base_url={server.base_url}/v1", "--model=m-1"]
        done = preview(*model, "--task_requests=9", f"--output={tmp_path / 'out'}")
        rounds = 4  # 1, then 2, then 4: each asked for twice, since its reply cannot be read
        said = " ".join(done.out.split())  # lines are as wide as the terminal
        assert f"asked for: {2 * rounds} task lists" in said and "a price that is not known" in said
        assert server.stats()["answered"] == 2 * rounds
    assert done.code == 1 and "0 of 0 examples kept; 10 were wanted" in done.out
    assert done.out.count("TaskGenerate: rejected") == rounds


def test_a_refresh_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with lease.hold(str(out), "refresh=base", "somebody"):
        done = preview(f"--output={out}")
    assert (done.code, done.out) == (2, "") and not (out / "ledger").exists()
    assert len(done.err.splitlines()) == 1 and "--refresh=base: another run of this refresh is writing" in done.err


def test_a_cap_holds_for_previews_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with LlmServer() as server:
        flags = ["--llm=openai", f"--base_url={server.base_url}/v1", "--model=m-1", f"--output={tmp_path / 'out'}"]
        flags += [f"--tasks={write_tasks(tmp_path / 'tasks.txt', 9)}", "--rows=3", "--json"]
        spending = json.loads(preview(*flags).out)["spending"]
        spent = spending["prompt_tokens"] + spending["output_tokens"]
        done = preview(*flags, f"--max_tokens={spent}", "--rows=9")
        assert (done.code, done.out) == (2, "") and server.stats()["requests"] == 3
        assert done.err == (
            f"textmint: --max_tokens={spent}: {spent:,} tokens is spent; choose a higher cap. Nothing was paid for\n"
        )
        assert preview(*flags, f"--max_tokens={100 * spent}", "--rows=9").code == 0
        assert server.stats()["requests"] == 9


def evil_reply(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """A model whose name and words would rule a terminal; every second text is no JSON."""
    nasty = f"[red]{EVIL}[/] \x1b[2J\x1b[8mhidden \x1b]8;;http://x\x1b\\link".encode("utf-8", "replace").decode()
    text = json.dumps({"input_text": f"text {nasty}", "label": f"label {nasty}", "misleading_label": "[/]"})
    text = nasty if b"drawer 1" in body else text
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    reply = {"id": "1", "object": "chat.completion", "created": 1, "model": f"m {nasty}", "choices": [choice]}
    return 200, {}, json.dumps({**reply, "usage": usage}).encode()


def on_a_terminal(command: list[str], columns: int, **environment: str) -> tuple[int, str]:
    """Runs a command on a terminal of its own; returns its exit code and what the terminal was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    names = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**names, "TERM": "xterm-256color", **environment},
        close_fds=True,
    )
    os.close(theirs)
    sent = b""
    try:
        while block := os.read(ours, 1 << 16):
            sent += block
    except OSError:  # Linux says so that nobody is at the other end any more
        pass
    finally:
        os.close(ours)
    return process.wait(60), sent.decode().replace("\r\n", "\n")


def test_nothing_of_a_reply_rules_a_terminal_or_a_pipe(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks.txt", 2)
    tasks.write_text(f"{tasks.read_text()}Sort \x1b[31m[bold]drawer\x1b[0m [/bold]\u202e by date\n", "utf-8")
    with Script(evil_reply) as script:
        flags = [f"--tasks={tasks}", "--llm=openai", "--model=m", f"--base_url={script.url}/v1", "--show_prompt"]
        command = [sys.executable, "-m", "textmint.pipelines", "preview", *flags, f"--output={tmp_path / 'out'}"]
        keys = {"OPENAI_API_KEY": "test", "PYTHONPATH": str(ROOT)}
        code, sent = on_a_terminal(command, 60, **keys)
        assert code == 0 and STYLE.search(sent)
        plain = STYLE.sub("", sent)
        check_shown(plain)
        assert "[red]\ufffd]0;owned" in plain and "[bold]drawer" in plain and "rejected, not_json" in plain
        assert "\x1b[8m" not in sent and "\x1b[31m[bold]" not in sent
        asked = len(script.seen)
        assert max(map(len, plain.split("the whole run costs")[0].splitlines())) <= 60
        piped = subprocess.run(
            command, capture_output=True, env={**os.environ, **keys, "FORCE_COLOR": "1", "COLUMNS": "0"}, timeout=60
        )
        out = piped.stdout.decode()
        assert piped.returncode == 0 and "rejected, not_json" in out
        check_shown(out)
        assert 90 < max(map(len, out.split("the whole run costs")[0].splitlines())) <= 100
        assert len(script.seen) == asked  # the second one found all in the ledger


IN_PYTHON = """
import sys, textmint
assert "apache_beam" not in sys.modules and {"preview", "OptionError", "RunFailed"} <= set(dir(textmint))
found = textmint.preview(rows=2, output="out", difficulty={"college": 0.5, "PhD": 1}, examples_per_task=1)
assert len(found.examples) == 2 and found.requests == 3 and found.cost_usd == 0 and found.from_ledger == 0
assert found._repr_html_().startswith("<table") and str(found).startswith("1 of 2: kept -")
for flags, error in (({"seed": "x"}, textmint.OptionError), ({"tasks": "t.txt", **MODEL}, textmint.RunFailed)):
    try:
        textmint.preview(output="out", **flags)
    except error as found:
        print(found)
"""


def test_in_python_from_the_wheel(installed_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tasks(tmp_path / "t.txt", 2)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with LlmServer(require_key="right") as server:
        model = {"llm": "openai", "base_url": f"{server.base_url}/v1", "model": "m"}
        command = [*python_with(installed_wheel, tmp_path), "-c", f"MODEL = {model!r}\n{IN_PYTHON}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "argument --seed: invalid int value: 'x'" and "OPENAI_API_KEY" in second
