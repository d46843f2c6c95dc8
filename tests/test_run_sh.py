"""run.sh: what it says, what it refuses, and when it sets .venv up.

The set-up runs in a copied folder with a stand-in for Python, which notes what it is asked for and installs nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.helpers import run_main

ROOT = Path(__file__).resolve().parents[1]
PYTEST = "-m pytest -n auto --dist worksteal"
BASH = shutil.which("bash") or "bash"

# As a virtual environment's base: answers `-m venv` and `-m pip` itself, leaves `-c` to the real interpreter.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    "-m venv "*)
        printf 'venv\\n' >>"$CALLS"
        mkdir -p "$3/bin"
        cp "$0" "$3/bin/python"
        cp "$FAKE_JOB" "$3/bin/textmint" ;;
    "-m pip "*)
        for last; do :; done
        printf 'pip %s\\n' "$last" >>"$CALLS"
        if [ -n "${PIP_FAILS:-}" ]; then seq -f 'pip line %g' 1 30; exit 1; fi
        sleep "${PIP_SECONDS:-0}" ;;
    "-m "*)
        printf '%s\\n' "$*" >>"$CALLS"
        case "$2" in "${TOOL_FAILS:-none}") exit 1 ;; esac ;;
    */lint-imports*)
        printf 'lint-imports\\n' >>"$CALLS"
        if [ "${TOOL_FAILS:-none}" = lint-imports ]; then exit 1; fi ;;
    *) exec REAL "$@" ;;
esac
"""
# As the program that the set-up installs.
FAKE_JOB = """#!/bin/sh
printf 'textmint|%s\\n' "$(pwd)" "$@" >>"$CALLS"
exit "${JOB_EXIT:-0}"
"""


class Tree:
    """A copy of what run.sh needs, in a folder whose name has a space."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a tree"
        self.root.mkdir()
        for name in ("run.sh", "requirements.lock", "requirements-test.lock", "setup.py"):
            shutil.copy(ROOT / name, self.root)
        self.caller = folder / "the caller"
        self.caller.mkdir()
        self.calls_file = folder / "calls"
        self.python = self.program("python3", FAKE_PYTHON.replace("REAL", shlex.quote(base_python())))
        job = self.program("job", FAKE_JOB)
        self.env = {
            **os.environ,
            "CALLS": str(self.calls_file),
            "PYTHON": str(self.python),
            "FAKE_JOB": str(job),
            "PIP_NO_INDEX": "1",  # whatever goes wrong, nothing is downloaded
            "PIP_FIND_LINKS": "",
        }

    def program(self, name: str, text: str) -> Path:
        path = self.root.parent / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def command(self, *arguments: str) -> list[str]:
        return [BASH, str(self.root / "run.sh"), *arguments]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run(*self.command(*arguments), env={**self.env, **env}, cwd=self.caller)

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.env, **env},
            cwd=self.caller,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def calls(self) -> list[str]:
        """What was asked of the stand-in since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines

    def job(self, *arguments: str) -> list[str]:
        return [f"textmint|{line}" for line in (str(self.caller.resolve()), *arguments)]

    def installed(self, lock: str = "requirements.lock") -> list[str]:
        unpacked = "-m textmint.transforms.quality.language_model"
        return [f"pip {self.root.resolve()}/{lock}", f"pip {self.root.resolve()}", unpacked]

    def set_up(self, lock: str = "requirements.lock") -> list[str]:
        return ["venv", *self.installed(lock)]


def base_python() -> str:
    """The interpreter below a virtual environment. (`sys._base_executable` is it from Python 3.11 on only.)"""
    if sys.prefix == sys.base_prefix:
        return sys.executable
    return f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_lists_every_command_with_an_example_and_sets_nothing_up(tree: Tree, word: str) -> None:
    done = tree.run(word)
    assert done.returncode == 0 and done.stderr == ""
    for name in ("generate", "test", "bench", "help"):
        assert re.search(rf"^  {name} +\S", done.stdout, re.M), name
    assert "./run.sh generate --examples_per_task=10" in done.stdout and "./run.sh test" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert tree.calls() == [] and not (tree.root / ".venv").exists()


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("gen", "generate"),
        ("led", "ledger"),
        ("genrate", "generate"),
        ("Generate", "generate"),
        ("tets", "test"),
        ("bnech", "bench"),
        ("hepl", "help"),
        ("xylophone", None),
    ],
)
def test_an_unknown_command_is_refused_by_name_with_the_nearest(tree: Tree, typed: str, near: str | None) -> None:
    done = tree.run(typed, "--output=x")
    assert done.returncode == 2 and done.stdout == ""
    assert f"'{typed}'" in done.stderr and "--help" in done.stderr and len(done.stderr.splitlines()) == 1
    assert (f"did you mean {near}." in done.stderr) if near else ("did you mean" not in done.stderr)
    assert tree.calls() == []


def test_the_version_is_told_before_anything_is_set_up(tree: Tree) -> None:
    done = tree.run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"textmint {metadata.version('textmint')}\n" == run_main("--version").out
    assert tree.calls() == []


@pytest.mark.parametrize("name", ["run.sh", ".ci/run"])
def test_scripts_are_executable_and_parse(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert run(BASH, "-n", str(ROOT / name)).returncode == 0


def test_nothing_is_used_that_bash_3_2_lacks() -> None:
    code = "\n".join(line for line in (ROOT / "run.sh").read_text().splitlines() if not line.lstrip().startswith("#"))
    newer = (
        r"\$\{\w+(\[[^]]*\])?(\^|,|@[A-Z])|\b(mapfile|readarray|coproc)\b|\b(declare|local) -[Agn]"
        r"|\|&|&>>|;;?&|-v \w+ \]"
    )
    found = re.search(newer, code)
    assert not found, found


def test_the_first_call_sets_up_and_runs_generate_where_the_caller_stands(tree: Tree) -> None:
    done = tree.run()
    assert done.returncode == 0, done.stderr
    assert tree.calls() == tree.set_up() + tree.job("generate")
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and "Setting up .venv" in done.stderr


def test_later_calls_go_straight_to_the_job_with_its_options_and_exit_code(tree: Tree) -> None:
    tree.run()
    tree.calls()
    done = tree.run("generate", "--language=English, Thai", "--x=*", JOB_EXIT="7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert tree.calls() == tree.job("generate", "--language=English, Thai", "--x=*")
    assert tree.run("--seed=3").returncode == 0
    assert tree.calls() == tree.job("generate", "--seed=3")


def test_a_symbolic_link_to_the_script_finds_the_folder(tree: Tree) -> None:
    link = tree.caller / "textmint here"
    link.symlink_to(os.path.relpath(tree.root / "run.sh", tree.caller))
    done = run(BASH, str(link), env=tree.env, cwd=tree.caller)
    assert done.returncode == 0 and tree.calls() == tree.set_up() + tree.job("generate")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock", "setup.py"])
def test_a_changed_lock_or_setup_makes_the_environment_anew(tree: Tree, name: str) -> None:
    tree.run()
    tree.calls()
    left = tree.root / ".venv" / "left from before"
    left.touch()
    with (tree.root / name).open("a") as file:
        file.write("# changed\n")
    assert tree.run().returncode == 0
    assert tree.calls() == tree.set_up() + tree.job("generate")
    assert not left.exists()


def test_a_moved_folder_makes_the_environment_anew(tree: Tree) -> None:
    tree.run()
    tree.calls()
    tree.root = tree.root.rename(tree.root.with_name("moved"))
    assert tree.run().returncode == 0
    assert tree.calls() == tree.set_up() + tree.job("generate")


def test_test_adds_to_the_environment_then_lints_and_tests(tree: Tree) -> None:
    tree.run()
    tree.calls()
    checks = [
        "-m ruff check .",
        "-m ruff format --check .",
        "lint-imports",
        "-m mypy",
        PYTEST,
    ]
    assert tree.run("test").returncode == 0
    assert tree.calls() == [*tree.installed("requirements-test.lock"), *checks]
    assert tree.run("test", "-k", "a or b").returncode == 0
    assert tree.calls() == ["-m pytest -k a or b"]
    assert tree.run("generate").returncode == 0
    assert tree.calls() == tree.job("generate")


def test_bench_needs_no_more_than_a_run_and_passes_its_options_on(tree: Tree) -> None:
    assert tree.run("bench", "--only=cpu", "--runs", "2").returncode == 0
    assert tree.calls() == [*tree.set_up(), "-m benchmarks --only=cpu --runs 2"]


@pytest.mark.parametrize("tool", ["ruff", "lint-imports", "mypy", "pytest"])
def test_ci_installs_what_the_tests_need_and_fails_with_any_check(tree: Tree, tool: str) -> None:
    (tree.root / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tree.root / ".ci")
    done = run(BASH, str(tree.root / ".ci" / "run"), env={**tree.env, "TOOL_FAILS": tool}, cwd=tree.caller)
    calls = tree.calls()
    assert done.returncode == 1
    set_up = tree.set_up("requirements-test.lock")
    assert calls[: len(set_up)] == set_up
    assert calls[-1] == PYTEST, "the tests run also when a linter complains"


def test_a_failed_set_up_shows_the_end_of_the_log_and_the_next_call_repairs_it(tree: Tree) -> None:
    done = tree.run(PIP_FAILS="yes")
    assert done.returncode == 1 and done.stdout == ""
    assert str(tree.root.resolve() / ".venv" / "setup.log") in done.stderr
    assert "pip line 30" in done.stderr and "pip line 11" in done.stderr and "pip line 10\n" not in done.stderr
    assert tree.calls() == tree.set_up()[:2]
    assert tree.run().returncode == 0
    assert tree.calls() == tree.set_up() + tree.job("generate")


@pytest.mark.parametrize("earlier", [(), ("generate",)])
def test_a_killed_set_up_is_done_again(tree: Tree, earlier: tuple[str, ...]) -> None:
    """Also one that was only adding to an environment which had been complete."""
    if earlier:
        tree.run(*earlier)
        tree.calls()
    process = tree.start("test", PIP_SECONDS="30")
    deadline = time.monotonic() + 10
    while not (tree.calls_file.exists() and "pip" in tree.calls_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert "pip" in "".join(tree.calls())
    assert tree.run().returncode == 0
    assert tree.calls() == tree.set_up() + tree.job("generate")


def test_of_two_calls_at_once_one_sets_up_and_the_other_waits(tree: Tree) -> None:
    both = [tree.start(PIP_SECONDS="0.4") for _ in range(2)]
    said = [process.communicate(timeout=20)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    calls = tree.calls()
    assert [call for call in calls if "textmint|" not in call] == tree.set_up()
    assert calls.count("textmint|generate") == 2
    assert sorted(["waiting" in text for text in said]) == [False, True]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("printf 3.9; exit 1", "is 3.9"),
        ("printf '3.12 novenv'; exit 1", "install python3-venv or python3.12-venv"),
        ("exit 127", "not a working Python 3.10 to 3.13"),
    ],
)
def test_an_unusable_python_is_named_with_the_remedy(tree: Tree, answer: str, said: str) -> None:
    tree.program("python3", f"#!/bin/sh\n{answer}\n")
    done = tree.run()
    assert done.returncode == 1 and said in done.stderr and "apt install" in done.stderr
    assert len(done.stderr.splitlines()) <= 10 and not (tree.root / ".venv").exists()


def test_the_active_environment_itself_can_be_replaced(tree: Tree) -> None:
    """`python3` is .venv's own there. What replaces it is made by the interpreter beneath, which stays."""
    own = tree.root / ".venv"
    subprocess.run([base_python(), "-m", "venv", "--without-pip", str(own)], check=True)
    done = tree.run(PYTHON=str(own / "bin" / "python"))
    assert done.returncode == 1 and "No matching distribution" in done.stderr, "made, up to pip without an index"
    assert (own / "bin" / "pip").exists()


def test_without_PYTHON_the_first_that_works_on_the_path_is_taken(tree: Tree, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "cat", "cp", "dirname", "mkdir", "readlink", "rm", "sleep"):
        (tools / name).symlink_to(str(shutil.which(name)))
    old = tools / "python3.13"
    old.write_text("#!/bin/sh\nprintf 3.9; exit 1\n")
    old.chmod(0o755)
    del tree.env["PYTHON"]
    done = tree.run(PATH=str(tools))
    assert done.returncode == 1 and "none was found. python3.13 is 3.9." in done.stderr
    assert "apt install python3 python3-venv" in done.stderr and "brew install" in done.stderr
    (tools / "python3").symlink_to(tree.python)
    assert tree.run(PATH=str(tools)).returncode == 0
    assert tree.calls() == tree.set_up() + tree.job("generate")
