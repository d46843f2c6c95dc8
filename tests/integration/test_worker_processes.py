"""The graph in one process, the workers in others that have the wheel and nothing of the repository: what they write is
what the local engine writes, byte for byte."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.portability import python_urns

from tests.support.helpers import entry_of, files_of, generate
from tests.support.llm_server import LlmServer
from tests.support.wheel import WATCHED, imports_in, python_script, python_with

EMBED = ("--runner=PortableRunner", "--job_endpoint=embed")
HARNESS = ("-m", "apache_beam.runners.worker.sdk_worker_main")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers inherit an empty folder to be in, and no way to the repository."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in ("PYTHONPATH", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "tasks.txt"
    path.write_text("".join(f"Classify letter {number} by its tone\n" for number in range(60)))
    return path


def same(*folders: Path) -> dict[str, bytes]:
    """Returns the files of dataset folders, which must be the same in all."""
    first, *others = (files_of(folder) for folder in folders)
    assert {name.split("/")[0] for name in first} >= {"examples", "rejects", "tasks", "triplets"}
    for other in others:
        assert other == first
    return first


def check_imports(here: Path, installed: Path, processes: int) -> None:
    """So many processes worked, and whatever could be of the repository came out of the wheel."""
    found = imports_in(here)
    working = [modules for modules in found.values() if "textmint.transforms.core.elements" in modules]
    assert len(working) == processes
    for modules in found.values():
        for name, place in modules.items():
            assert name.partition(".")[0] in WATCHED
            assert Path(place).is_relative_to(installed), (name, place)
    # each step runs somewhere
    every = {name for modules in working for name in modules}
    assert {
        "textmint.transforms.llm_call",
        "textmint.transforms.parse_json",
        "textmint.transforms.dataset.write_dataset",
        "textmint.pipelines.graph.passes_checks",
    } <= every


# Faults, so that there are rejects; labels, so that two more steps ask.
ASKING = ("--label_plan=planned", "--verify", "--offline_fault_rate=0.2", "--examples_per_task=2")


def test_a_worker_process_of_a_portable_engine(installed_wheel: Path, tmp_path: Path) -> None:
    command = shlex.join([*python_with(installed_wheel, tmp_path), *HARNESS])
    worker = (f"--environment_type={python_urns.SUBPROCESS_SDK}", f"--environment_config={command}")
    flags = ("--task_requests=2", "--offline_fault_rate=0.2", "--keep_raw")
    there = generate(*flags, *EMBED, *worker, f"--output={tmp_path / 'out'}")
    check_imports(tmp_path, installed_wheel, 1)
    (tmp_path / "out").rename(tmp_path / "there")
    here = generate(*flags, f"--output={tmp_path / 'out'}")
    assert len(same(tmp_path / "there", tmp_path / "out")) == 4
    assert there.out == here.out  # the summary, though the engine returns at once and gives no metrics
    one, other = (entry_of(tmp_path / name) for name in ("there", "out"))
    assert one["counts"] == other["counts"] and one["counts"]["rejects"] > 0
    for step, line in one["steps"].items():
        assert {name: line[name] for name in ("in", "kept", "rejected")} == {
            name: other["steps"][step][name] for name in ("in", "kept", "rejected")
        }


def test_three_worker_processes_with_all_that_asks(
    installed_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam starts the workers of its own engine with the Python that it runs in; here that is one with the wheel."""
    flags = ("--task_requests=2", *ASKING)
    generate(*flags, f"--output={tmp_path / 'here'}")
    monkeypatch.setattr(sys, "executable", str(python_script(installed_wheel, tmp_path)))
    workers = ("--direct_num_workers=3", "--direct_running_mode=multi_processing")
    generate(*flags, *workers, f"--output={tmp_path / 'there'}")
    check_imports(tmp_path, installed_wheel, 3)
    files = same(tmp_path / "here", tmp_path / "there")
    assert "label_sets" in {name.split("/")[0] for name in files}


@contextlib.contextmanager
def worker_pool(installed: Path, folder: Path, **environment: str) -> Iterator[int]:
    """While the `with` block runs, a process that the user started waits at the port to start workers. It starts the
    `python` that it finds on its path (apache_beam/runners/worker/worker_pool_main.py, 2.77)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    python = python_script(installed, folder)
    pool = subprocess.Popen(
        [str(python), "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"],
        env={**os.environ, **environment, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert pool.poll() is None
            time.sleep(0.1)
        yield port
    finally:
        pool.terminate()
        try:
            pool.wait(10)
        except subprocess.TimeoutExpired:
            pool.kill()
            pool.wait()


def test_a_worker_pool_that_outlives_the_run(installed_wheel: Path, tmp_path: Path, tasks: Path) -> None:
    """It asks an endpoint with the key of its own environment, which the launching process does not have. What it has
    paid for is there for the next run, though it still lives."""
    key = "sk-of-the-worker-0123456789"
    with LlmServer() as server, worker_pool(installed_wheel, tmp_path, OPENAI_API_KEY=key) as port:
        workers = (*EMBED, "--environment_type=EXTERNAL", f"--environment_config=localhost:{port}")
        model = ("--llm=openai", "--model=m-1", f"--base_url={server.base_url}/v1", f"--tasks={tasks}")
        generate(*model, *workers, "--examples_per_task=1", f"--output={tmp_path / 'there'}")
        asked = server.recent()
        assert asked and all(key[-4:] in one["headers"]["authorization"] for one in asked)
        check_imports(tmp_path, installed_wheel, 1)  # the pool itself has no need of ours
        before = server.stats()["requests"]

        generate(*model, *workers, "--examples_per_task=2", f"--output={tmp_path / 'there'}")
        assert server.stats()["requests"] - before == 60
        generate(*model, "--examples_per_task=2", f"--output={tmp_path / 'here'}")
        same(tmp_path / "there", tmp_path / "here")
