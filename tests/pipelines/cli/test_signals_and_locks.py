"""What a run does when it is told to end, and when another run of its label is under way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.cli.ledger import COMPACTING
from textmint.pipelines.cli.run import hold_refresh
from textmint.pipelines.options.errors import OptionError
from textmint.transforms.dataset.publish import STAGING, Target, finish_publishing
from textmint.transforms.storage import lease

from tests.support.helpers import ROOT, files_of, run_main
from tests.support.llm_server import LlmServer


def target_in(folder: Path, refresh: str = "base") -> Target:
    return Target(
        output=str(folder), refresh=refresh, run_id="run", task_requests=1, examples_per_task=1, description={}
    )


def test_one_run_at_a_time_for_a_label(tmp_path: Path) -> None:
    with hold_refresh(target_in(tmp_path)):
        told = r"another run of this refresh is writing to .*\(process [0-9]+ on "
        with pytest.raises(OptionError, match=told), hold_refresh(target_in(tmp_path)):
            pass
        with hold_refresh(target_in(tmp_path, "other")):
            pass
    with hold_refresh(target_in(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_of_a_label_is_refused_before_it_asks_anything(tmp_path: Path) -> None:
    with LlmServer() as server, hold_refresh(target_in(tmp_path)):
        done = run_main(
            "generate", "--llm=openai", "--model=m", f"--base_url={server.base_url}/v1", f"--output={tmp_path}"
        )
        assert server.stats()["requests"] == 0
    assert done.code == 2
    assert "--refresh=base: another run of this refresh is writing to" in done.err
    assert len(done.err.splitlines()) == 1


def test_no_run_starts_while_the_ledger_is_compacted(tmp_path: Path) -> None:
    with lease.hold(str(tmp_path), COMPACTING, "somebody"):
        done = run_main("generate", f"--output={tmp_path}")
    assert done.code == 2
    assert "its ledger is being compacted at this moment" in done.err


def test_a_lease_goes_with_its_process(tmp_path: Path) -> None:
    code = f"""
import os, signal
from tests.pipelines.cli.test_signals_and_locks import hold_refresh, target_in
from pathlib import Path
with hold_refresh(target_in(Path({str(tmp_path)!r}))):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == -signal.SIGKILL
    assert (tmp_path / lease.FOLDER / "refresh=base.json").exists()
    with hold_refresh(target_in(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_a_run_in_order(number: signal.Signals, processes: bool, tmp_path: Path) -> None:
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"] if processes else []
    with LlmServer(latency_median_ms=600) as server:
        run = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "textmint.pipelines",
                    "generate",
                    "--llm=openai",
                    "--model=m",
                    "--task_requests=400",
                ),
                *(f"--base_url={server.base_url}/v1", "--max_concurrency=2", f"--output={tmp_path / 'out'}", *flags),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 30
        while not server.stats()["requests"] and time.monotonic() < deadline:
            time.sleep(0.1)
        run.send_signal(number)
        _, told = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert "Traceback" not in told
    assert f"ended by {number.name}; what was published before is there" in told
    assert not list(tmp_path.glob("textmint-progress-*"))


def test_a_thread_that_was_left_running_does_not_keep_a_failed_run_alive() -> None:
    code = """
import threading
from textmint.pipelines import __main__ as command
command.LAST_SECONDS = 0.3
command._imported = lambda argv: lambda: threading.Thread(target=threading.Event().wait).start() or 143
command.program()
"""
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30)
    assert run.returncode == 143


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_ends_before_python_frees_its_memory(code: int) -> None:
    program = f"""
import atexit
from textmint.pipelines import __main__ as command
class AtTheEnd:
    def __del__(self):
        print("freed", flush=True)
left = AtTheEnd()
command._imported = lambda argv: lambda: atexit.register(print, "cleaned up") and {code}
command.program()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, "cleaned up\n", "")


def test_a_plan_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for number, content in enumerate(["", "[]", "{}", json.dumps({"refresh": 1, "names": {}, "entry": {}})]):
        plan = tmp_path / STAGING / "refresh=base" / f"run-{number}" / "publish.json"
        plan.parent.mkdir(parents=True)
        plan.write_text(content)
    before: Any = files_of(tmp_path)
    finish_publishing(str(tmp_path))
    assert files_of(tmp_path) == before
