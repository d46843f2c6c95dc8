"""What a run that is killed leaves behind, what a full disk is told as, and signals at any moment."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.cli import signals
from textmint.pipelines.cli.summary import reason_in
from textmint.pipelines.runners import local_worker
from textmint.transforms.core import progress
from textmint.transforms.core.temporary import part_name, remove_left_folders, remove_left_parts, temporary_folder
from textmint.transforms.llm.engine import LAUNCHER
from textmint.transforms.storage import files

from tests.support.helpers import ROOT, TWO_WORKERS, entry_of, run_main, start


@pytest.fixture
def gone() -> int:
    """The id of a process that is no more."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


# --- files and folders


def test_what_dead_processes_left_goes_and_what_others_have_stays(gone: int, tmp_path: Path) -> None:
    here, old = socket.gethostname(), time.time() - 100_000
    left = [f"_part-{gone}-1-{here}", f"_part-{gone}-1", "_part-1-1-old.example"]
    stays = [part_name(), f"_part-{os.getpid()}-1", f"_part-{gone}-1-another.example", f"_part-x-{gone}", "part-1-1"]
    for name in (*left, *stays):
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / left[2], (old, old))
    (tmp_path / f"_part-{gone}-2").mkdir()
    (tmp_path / f"_part-{gone}-3").symlink_to(tmp_path / stays[0])
    remove_left_parts(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {*stays, f"_part-{gone}-2", f"_part-{gone}-3"}
    remove_left_parts(str(tmp_path / "nowhere"))


def test_temporary_folders_of_dead_processes(gone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [f"textmint-progress-{gone}-abc", f"textmint-push-{gone}-x_1"]
    stays = [f"textmint-progress-{os.getpid()}-abc", "textmint-progress-abcdefgh", f"textmint-other-{gone}-abc"]
    for name in (*left, *stays):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.json").write_text("{}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("progress") as folder:
        assert {path.name for path in tmp_path.iterdir()} == {*stays, Path(folder).name}
    old = time.time() - 100_000
    os.utime(tmp_path / stays[1], (old, old))  # of an older version, whose process nobody knows
    remove_left_folders(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {stays[0], stays[2]}


def test_the_next_run_clears_up(gone: int, tmp_path: Path) -> None:
    left = [tmp_path / folder / f"_part-{gone}-1" for folder in (".", "ledger", "ledger/_set_aside")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    assert run_main("generate", "--task_requests=1", f"--output={tmp_path}").code == 0
    assert not [path for path in left if path.exists()]


# --- workers


def alive(mark: str) -> list[int]:
    """The processes in whose environment a mark stands; there is /proc on Linux only."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def workers_of(launcher: int) -> str:
    """Waits until a run has started worker processes, which have not yet imported Beam. Returns their mark."""
    mark = f"{LAUNCHER}={launcher}\0"
    deadline = time.monotonic() + 60
    while not alive(mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive(mark)
    return mark


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")


@needs_proc
def test_workers_of_a_launcher_that_is_killed_at_its_start_end_in_seconds(tmp_path: Path) -> None:
    run = start("generate", *TWO_WORKERS, f"--output={tmp_path / 'out'}", cwd=tmp_path)
    mark = workers_of(run.pid)
    run.kill()
    killed = time.monotonic()
    while alive(mark) and time.monotonic() < killed + 60:  # though nobody has taken note of the launcher's end
        time.sleep(0.1)
    assert time.monotonic() - killed < 20  # a second and a half, on a machine with nothing else to do
    run.communicate()


def test_the_worker_knows_what_the_launcher_tells() -> None:
    assert (local_worker._LAUNCHER, local_worker._PROGRESS) == (LAUNCHER, progress.VARIABLE)
    assert local_worker._ENDING == signals.ENDING


# --- disks


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), "/x/y: No space left on device; make room; "),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "Disk quota exceeded; make room; "),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), "/x: Read-only file system; see that it can be "),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x"), "/x: Permission denied; see that it can be "),
    ],
)
def test_a_disk_that_takes_nothing_is_told_in_one_line(error: OSError, told: str) -> None:
    name = type(error).__name__
    for text in (f"{name}: {error}", f"RuntimeError: Traceback\n  x\n{name}: {error} [while running 'Write']\n"):
        reason = reason_in(text)
        assert reason is not None and reason.startswith(told) and "\n" not in reason


def test_ctrl_c_while_the_graph_is_built_leaves_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam makes one with the pipeline, and takes it away at the end of the run that has not begun yet."""

    def interrupted(*_: object, **__: object) -> None:
        assert list(temporary.iterdir())
        raise KeyboardInterrupt

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("textmint.pipelines.cli.run.build", interrupted)
    done = run_main("generate", f"--output={tmp_path / 'out'}")
    assert done.code == 128 + signal.SIGINT
    assert "ended by SIGINT" in done.err and "Traceback" not in done.err
    assert not list(temporary.iterdir())


def test_other_errors_keep_their_traceback() -> None:
    assert reason_in(f"OSError: {OSError(errno.EINVAL, os.strerror(errno.EINVAL))}") is None
    assert reason_in("ValueError: no") is None


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/one'"):
        files.write_file(str(tmp_path / "one"), b"x", durable=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "where", ["textmint.transforms.dataset.write_dataset.write_file", "textmint.transforms.ledger.writer.os.write"]
)
def test_a_full_disk_ends_a_run_in_one_line(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **_: Any) -> Any:
        if where.endswith("os.write") and given[0] == 2:
            return real(*given)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *given[:1] * (not where.endswith("os.write")))

    real = os.write
    monkeypatch.setattr(where, full)
    done = run_main("generate", "--task_requests=1", f"--output={tmp_path / 'out'}")
    monkeypatch.undo()
    assert done.code == 1
    assert "No space left on device" in done.err and "make room" in done.err
    assert "Traceback" not in done.err and len(done.err.splitlines()) == 1
    assert run_main("generate", "--task_requests=1", f"--output={tmp_path / 'out'}").code == 0
    assert entry_of(tmp_path / "out")["counts"]["examples"]


# --- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.15, 0.6, 1.5])
def test_a_signal_during_the_start(number: signal.Signals, seconds: float, tmp_path: Path) -> None:
    """While modules are imported, options are read, leases are taken."""
    code = "import time; from textmint.pipelines import __main__; print('x', flush=True); __main__.program()"
    run = start("generate", "--task_requests=400", f"--output={tmp_path / 'out'}", cwd=tmp_path, script=code)
    assert run.stdout is not None and run.stdout.read(1) == "x"
    time.sleep(seconds)
    run.send_signal(number)
    _, told = run.communicate(timeout=60)
    assert (run.returncode, "Traceback" in told) == (128 + number, False), told


@pytest.mark.parametrize("pause", [0.0, 0.8])
def test_a_second_signal(pause: float, tmp_path: Path) -> None:
    code = """
import os, signal, time
from textmint.pipelines.cli import run as module
from textmint.pipelines.__main__ import program
def ended(*given):  # what is done in order takes a while
    print("ending", flush=True)
    time.sleep(2)
module.merge_when_ended = ended
def interrupted(*given):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
module.run = interrupted
program()
"""
    run = start("generate", f"--output={tmp_path / 'out'}", cwd=tmp_path, script=code)
    assert run.stdout is not None and run.stdout.readline() == "ending\n"
    time.sleep(pause)
    run.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = run.communicate(timeout=60)
    assert (run.returncode, "Traceback" in told) == (130, False), told
    assert "ended by SIGINT" in told
    assert pause or time.monotonic() - began > 1  # the same request, told twice


@needs_proc
@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 0.2), (signal.SIGTERM, 2)])
def test_a_signal_while_worker_processes_start(number: signal.Signals, seconds: float, tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to all processes of a command; others ask the launcher alone, which must not wait for
    ever for workers that Beam was just starting."""
    run = start("generate", *TWO_WORKERS, "--task_requests=400", f"--output={tmp_path / 'out'}", cwd=tmp_path)
    mark = workers_of(run.pid)
    time.sleep(seconds)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    _, told = run.communicate(timeout=60)
    assert (run.returncode, "Traceback" in told) == (128 + number, False), told
    assert not alive(mark)


def test_signals_of_the_ledger_command(tmp_path: Path) -> None:
    code = """
import os, signal
from textmint.pipelines.cli import ledger
from textmint.pipelines.__main__ import program
ledger.contents = lambda folder: os.kill(os.getpid(), signal.SIGTERM)
program()
"""
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "x.parquet").write_text("")
    run = start("ledger", f"--output={tmp_path}", cwd=tmp_path, script=code)
    _, told = run.communicate(timeout=60)
    assert (run.returncode, "Traceback" in told) == (143, False), told


def test_the_ends_of_run_sh_during_its_set_up(tmp_path: Path) -> None:
    """With a Python whose pip takes for ever."""
    (tmp_path / "run.sh").write_bytes((ROOT / "run.sh").read_bytes())
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "requirements-test.lock").write_text("")
    (tmp_path / "setup.py").write_text("")
    python = tmp_path / "python3.12"
    python.write_text(
        f"#!/bin/sh\ncase \"$*\" in *'-m venv'*) echo asked >{tmp_path}/asked; exec sleep 100 ;; esac\n"
        f'exec {sys.base_prefix}/bin/python3 "$@"\n'
    )
    python.chmod(0o755)
    for number in (signal.SIGINT, signal.SIGTERM):
        (tmp_path / "asked").unlink(missing_ok=True)
        run = subprocess.Popen(
            ["bash", str(tmp_path / "run.sh"), "generate"],
            env={**os.environ, "PYTHON": str(python)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 30
        while not (tmp_path / "asked").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        _, told = run.communicate(timeout=30)
        assert run.returncode == 128 + number, told
        assert f"run.sh: ended by {number.name}" in told and "failed" not in told
