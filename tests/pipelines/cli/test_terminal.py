"""What a person is shown: nothing that others wrote rules the terminal, and what cannot be shown fails no run."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import textmint.pipelines.cli.run as run_module
from hypothesis import given
from hypothesis import strategies as st
from textmint.pipelines.cli import summary, terminal
from textmint.transforms.core.texts import clean_name, printable_line, printable_text
from textmint.transforms.llm.base import Answer, FatalError, Transient
from textmint.transforms.llm.reply_keeper import storable

from tests.support.helpers import ROOT, entry_of, run_main

EVIL = "\x1b]0;owned\x07\x00\r\x9b31m\u202eevil\u2066\u2028\udc80\ud800"
FORBIDDEN = frozenset([*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202a\u202b\u202c\u202d\u202e"]) | {
    *"\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029"
}


def check_shown(text: str) -> None:
    assert not (set(text) - {"\n", "\t"}) & FORBIDDEN


# --- the functions


@given(st.text(st.characters(), max_size=60))
def test_whatever_is_shown_is_harmless(text: str) -> None:
    check_shown(printable_text(text))
    printable_text(text).encode()
    assert set(printable_line(text)) & FORBIDDEN == set()
    assert clean_name(text).isprintable()
    assert len(printable_line(text, 10)) <= 10


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines\tand a tab", "ข้อความ", "نمی\u200cدانم", "👩\u200d🚀", "a\u3000b\xa0c", "e\u0301", ""]
)
def test_what_people_write_stays(text: str) -> None:
    assert printable_text(text) == text


def test_names_and_errors_of_endpoints_are_cleaned_where_they_come_in() -> None:
    answer = Answer(text="t", finish_reason="stop", model=f"m-1{EVIL}", prompt_tokens=1, output_tokens=1)
    assert storable(answer).model.isprintable() and storable(answer).model.startswith("m-1\ufffd]0;owned")
    for error in (Transient(f"said{EVIL}\nmore"), FatalError(f"said{EVIL}\nmore", "mend it")):
        assert error.detail.isprintable() and error.detail.endswith(" more")
        assert set(str(error)) & FORBIDDEN == set()


# --- one place


ALLOWED = {
    ("pipelines/cli/terminal.py", "*"),
    ("pipelines/cli/progress_line.py", "sys.stderr"),  # tqdm draws a line of our own words and numbers
    ("pipelines/runners/worker_output.py", "sys.stderr"),  # which it exchanges
    ("pipelines/runners/worker_output.py", "logging.StreamHandler"),  # of somebody else, exchanged too
}
PRINTS = {
    "print", "pprint", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "logging.StreamHandler",
    "traceback.print_exc", "traceback.print_exception", "traceback.print_stack", "logging.basicConfig",
    "warnings.warn", "sys.stdout.write", "sys.stderr.write", "logging.lastResort",
}  # fmt: skip


def printed_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Name, ast.Attribute)) and (name := ast.unparse(node)) in PRINTS:
            yield name


def test_nothing_else_prints() -> None:
    modules = [path for folder in ("pipelines", "transforms", "deploy") for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 80
    found = {(str(path.relative_to(ROOT)), name) for path in modules for name in printed_by(path)}
    assert ("pipelines/cli/terminal.py", "sys.stdout") in found  # the search finds what there is
    assert {(path, name) for path, name in found if (path, "*") not in ALLOWED} <= ALLOWED


# --- what it writes


@contextlib.contextmanager
def streams(encoding: str = "utf-8") -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    out, err = io.BytesIO(), io.BytesIO()
    one, other = io.TextIOWrapper(out, encoding), io.TextIOWrapper(err, encoding)
    with contextlib.redirect_stdout(one), contextlib.redirect_stderr(other):
        yield out, err
    one.detach(), other.detach()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_any_text_on_any_terminal(encoding: str) -> None:
    with streams(encoding) as (out, err):
        assert terminal.show(f"{EVIL} ข้อ …") == ""
        terminal.tell(f"{EVIL}\nfaked line")
        terminal.tell_lines("one\ntwo\n")
    check_shown(out.getvalue().decode(encoding))
    told = err.getvalue().decode(encoding)
    check_shown(told)
    assert len(told.splitlines()) == 3 and told.endswith("faked line\none\ntwo\n")


def test_logs_and_their_tracebacks() -> None:
    handler = terminal.log_to_stderr()
    logging.getLogger().removeHandler(handler)  # pytest's own cannot bear what is logged here
    records = [("textmint", "the endpoint said %s", (f"no\n{EVIL}",)), ("textmint", "wrong arguments %d", (EVIL,))]
    with streams() as (_, err):
        for name, message, given in records:
            handler.emit(logging.LogRecord(name, logging.INFO, "", 1, message, given, None))
        try:
            raise ValueError(EVIL)
        except ValueError:
            handler.emit(logging.LogRecord("a.library", logging.ERROR, "", 1, "of %s", (EVIL,), sys.exc_info()))
    told = err.getvalue().decode()
    check_shown(told)
    assert "Traceback" in told and "the endpoint said no \ufffd]0;owned" in told and "wrong arguments" in told


def test_what_worker_processes_wrote_is_cleaned() -> None:
    code = """
import subprocess
from textmint.pipelines.cli import summary, terminal
from textmint.pipelines.runners.worker_output import capture_worker_output
with capture_worker_output(True) as said:
    subprocess.run(["printf", "worker \\\\033]0;owned\\\\007 \\\\342\\\\200\\\\256 \\\\377"])
    subprocess.run(["sh", "-c", "printf 'worker \\\\033]0;owned\\\\007 \\\\342\\\\200\\\\256 \\\\377' >&2"])
    terminal.tell_lines(said())
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    told = run.stderr.decode()
    assert "worker \ufffd]0;owned" in told
    check_shown(told)


def test_hostile_options_and_files(tmp_path: Path) -> None:
    for flags in (
        [f"--tasks={tmp_path}/{EVIL.replace(chr(0), '')}.txt"],
        [f"--refresh={EVIL}"],
        [f"--{EVIL}"],
        [f"--base_url={EVIL}", "--llm=openai", "--model=m"],
    ):
        done = run_main("generate", *flags, f"--output={tmp_path / 'out'}")
        assert done.code == 2
        check_shown(done.err)
        assert done.err
    done = run_main(EVIL)
    assert done.code == 2
    check_shown(done.err)


# --- what cannot be shown


def command(*flags: str, shell: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a shell, which leads its output somewhere."""
    line = shlex.join([sys.executable, "-m", "textmint.pipelines", *flags])
    return subprocess.run(
        ["bash", "-c", f"{line} {shell}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize(
    ("shell", "told"),
    [
        (">/dev/full", "; its summary cannot be printed: No space left on device"),
        (">&-", ""),
        (">&- 2>&-", ""),
        ("2>/dev/full", ""),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", ""),
    ],
)
def test_a_summary_that_cannot_be_printed_fails_no_run(shell: str, told: str, tmp_path: Path) -> None:
    run = command("generate", "--task_requests=1", f"--output={tmp_path / 'out'}", shell=shell, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert told in run.stderr and "Traceback" not in run.stderr and "Exception" not in run.stderr
    assert entry_of(tmp_path / "out")["counts"]["examples"]


def test_an_ascii_terminal_shows_what_it_can(tmp_path: Path) -> None:
    """Also with worker processes, whose output is kept aside."""
    tasks = tmp_path / "tasks.txt"
    tasks.write_text("จัดประเภทข้อความ\nSortiere Briefe nach Gefühl\n", "utf-8")
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_processing", f"--tasks={tasks}")
    run = command("generate", *flags, f"--output={tmp_path / 'fälle'}", shell="", folder=tmp_path, **ASCII)
    assert run.returncode == 0 and "Traceback" not in run.stderr and run.stderr.isascii()
    assert "/f\\xe4lle: 6 examples of 2 tasks" in run.stdout and "\\u0e08" in run.stdout
    assert entry_of(tmp_path / "fälle")["counts"]["examples"] == 6


@pytest.mark.parametrize(
    ("flags", "shell", "code"),
    [
        (("generate", "--help"), "", 0),
        (("generate", "--help"), "| head -1; exit ${PIPESTATUS[0]}", 0),
        (("generate", "--help"), ">/dev/full", 1),
        (("--help",), ">/dev/full", 1),
        (("ledger", "--help"), "", 0),
        (("ledger", "--output=fälle"), "", 2),
        (("generate", "--refresh=fälle"), "", 2),
        (("fälle",), "", 2),
    ],
)
def test_other_commands(flags: tuple[str, ...], shell: str, code: int, tmp_path: Path) -> None:
    run = command(*flags, shell=shell, folder=tmp_path, **ASCII)
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr and "Exception" not in run.stderr
    assert run.stdout.isascii() and run.stderr.isascii()
    assert bool(run.stderr) == (code != 0)


def test_a_folder_that_is_gone_before_the_summary_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(folder: str, run_id: str) -> None:
        shutil.rmtree(tmp_path / "out")

    monkeypatch.setattr(run_module, "merge_when_ended", remove)
    done = run_main("generate", "--task_requests=1", f"--output={tmp_path / 'out'}")
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        f"textmint: the run is complete, but {tmp_path / 'out'} cannot be looked at: it is not what the run has left\n"
    )


def test_replies_in_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows hold what models write; only what is shown of them is another."""
    rows = [dict.fromkeys(("task", "input_text", "label", "misleading_label"), f"row {EVIL}")]
    monkeypatch.setattr(summary, "_first_rows", lambda *_: rows)
    done = run_main("generate", "--task_requests=1", f"--output={tmp_path / 'out'}")
    assert done.code == 0 and "row \ufffd]0;owned" in done.out
    check_shown(done.out)
