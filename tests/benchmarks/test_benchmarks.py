"""The benchmarks: that what they run is what they say, and that their arithmetic is right. No time is judged here."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.quality.checks import CHECKS, Checks, find_fault

from benchmarks import __main__ as bench_command
from benchmarks import cpu, efficiency, measuring, near_duplicates, quality, scale, start, statistics, volumes
from benchmarks.measuring import ROOT, Bench, Ended, Measured, ProgramFailed, environment, run_program
from benchmarks.sizes import FULL, QUICK
from benchmarks.table import table
from tests.support.llm_server import LlmServer

TINY = dataclasses.replace(QUICK, loads=((20, 8),), cpu_rows=(20, 40), ledger_rows=20, ledger_replies=1_000)


def test_benchmarks_need_no_package_that_only_tests_need() -> None:
    """`./run.sh bench` installs what a run needs."""
    program = """
import importlib, pathlib, sys
for name in ("hypothesis", "pytest", "datasets", "openai", "huggingface_hub"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
for path in pathlib.Path("benchmarks").glob("*.py"):
    importlib.import_module(f"benchmarks.{path.stem}")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with LlmServer() as server:
        made = Bench(server, tmp_path_factory.mktemp("bench"), lambda line: None)
        made.prepare([40])
        yield made


@contextlib.contextmanager
def watching(watch: Callable[[], object]) -> Iterator[None]:
    """Calls it every 10 ms."""
    ended = threading.Event()

    def call() -> None:
        while not ended.wait(0.01):
            watch()

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def programs_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lists the modules that benchmarks run as programs. They run in this process instead, one after the other: a start
    of Python and Beam costs seconds."""
    ran: list[str] = []

    def run_here(command: Sequence[str], *, log: Path, watch: Callable[[], object] = lambda: None, **_: Any) -> Ended:
        assert list(command[:2]) == [sys.executable, "-m"]
        module, arguments = command[2], list(command[3:])
        ran.append(module.removeprefix("benchmarks."))
        name = f"{module}.__main__" if module == "textmint.pipelines" else module
        errors = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(errors), watching(watch):
            code = importlib.import_module(name).main(arguments)
        if code:
            raise ProgramFailed(f"{module} ended with code {code}: {errors.getvalue()}")
        return Ended(out.getvalue(), 0.1 + len(ran) / 1000, 100_000_000)  # no cost is 0, nor another's

    for module in (measuring, near_duplicates, scale, statistics):
        monkeypatch.setattr(module, "run_program", run_here)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "stand-in")
    return ran


def measured(rows: int = 100, seconds: float = 10, **fields: Any) -> Measured:
    stats = {"latency_sum_s": 0.2 * rows, "last_reply_monotonic": 50.0 + seconds, **fields.pop("stats", {})}
    known: dict[str, Any] = {"kept": rows, "cpu_s": 1.0, "opened": 50.0, **fields}
    return Measured(rows=rows, stats=stats, **known)


# --- arithmetic


def test_efficiency_is_the_share_of_the_places_that_answers_filled() -> None:
    assert measured(100).efficiency(2) == pytest.approx(1.0)  # 100 times 0.2 s, in 2 places for 10 s
    # The probe counts neither as work nor as time. It took the first second; then 90 requests in 9 s, 2 at a time.
    run = measured(91, stats={"latency_sum_s": 90 * 0.2 + 1.0}, opened=51.0, probed_latency_s=1.0)
    assert run.efficiency(2) == pytest.approx(1.0)


def test_the_cost_of_a_row_beside_the_bare_loop() -> None:
    def cost(system: Any, start: float, row: float) -> cpu.Cost:
        runs = {n: [measured(n, cpu_s=start + row * n)] * 2 for n in (20, 4_000, 16_000)}
        return cpu.Cost(system=system, protocol="openai", runs=runs)

    bare, ours = cpu.render([cost("bare", 0.2, 0.0005), cost("pipeline", 2.0, 0.001)]).splitlines()[-2:]
    assert bare.split() == ["openai", "bare", "0.21", "0.55", "0.51", "1.00"]
    assert ours.split() == ["openai", "pipeline", "2.02", "1.50", "1.12", "2.20"]


def test_a_start_is_shown_beside_importing_beam_in_the_same_turn() -> None:
    cpu_s = {name: [0.5, 1.0, 0.8] if name.startswith("import") else [1.0, 1.5, 2.0] for name in start.COMMANDS}
    lines = start.render([start.Start(*each) for each in cpu_s.items()]).splitlines()[-4:]
    assert lines[0].split()[2:] == ["0.80", "1.00", "-"]
    assert lines[-1].split()[-3:] == ["1.50", "2.00", f"{start.MOST['generate, 3 rows']:.1f}"]
    assert set(start.MOST) < set(start.COMMANDS)


def test_efficiency_shows_the_median_of_the_ratios_of_each_run() -> None:
    pairs = (
        (measured(seconds=10), measured(seconds=20)),
        (measured(seconds=10), measured(seconds=12.5)),
        (measured(seconds=20), measured(seconds=20, kept=99)),
    )
    text = efficiency.render([efficiency.Load(protocol="openai", rows=100, in_flight=2, pairs=pairs)])
    assert text.splitlines()[-1].split() == ["openai", "100", "2", "1.000", "0.500", "0.800", "99"]


def test_tables_stand_in_columns() -> None:
    text = table(("name", "n"), [("a", "1"), ("long", "12")])
    assert text == "  name   n\n  a      1\n  long  12"
    with pytest.raises(ValueError):
        table(("name", "n"), [("a",)])


# --- what is run


def test_the_sizes_are_those_that_the_docs_name() -> None:
    assert FULL.loads == ((4_000, 64), (12_000, 256)) and FULL.cpu_rows[-1] == 16_000
    for sizes in (FULL, QUICK):
        assert all(rows % measuring.EXAMPLES_PER_TASK == 0 for rows in {*sizes.for_bare_loop, sizes.ledger_rows})


def test_programs_get_stand_in_keys_and_nothing_of_the_users() -> None:
    theirs = {"HTTPS_PROXY": "http://p", "no_proxy": "x", "OPENAI_BASE_URL": "u", "GOOGLE_API_KEY": "k", "HOME": "/h"}
    found = environment({**theirs, "OPENAI_API_KEY": "secret", "PYTHONPATH": "/else"})
    assert found == {
        "HOME": "/h",
        "PYTHONPATH": str(ROOT),
        "OPENAI_API_KEY": "stand-in",
        "GEMINI_API_KEY": "stand-in",
    }


def test_a_program_that_fails_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    script = "import sys; [print(n, file=sys.stderr) for n in range(99)]; sys.exit(3)"
    with pytest.raises(ProgramFailed, match=r"ended with code 3:\n84\n(.*\n)+98$"):
        run_program([sys.executable, "-c", script], cwd=tmp_path, log=tmp_path / "log")


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(ProgramFailed, match=r"within 0\.5 s"):
        run_program([sys.executable, "-S", "-c", script], cwd=tmp_path, log=tmp_path / "log", longest_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "log.out").read_text()), 0)


def test_cpu_and_memory_are_those_of_the_program_and_its_children(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    script = f"import subprocess, sys; held = b'x' * 150_000_000; subprocess.run([sys.executable, '-c', {busy!r}])"
    ended = run_program([sys.executable, "-c", script], cwd=tmp_path, log=tmp_path / "log")
    assert ended.cpu_s >= 0.3
    assert ended.peak_bytes >= 150_000_000


def prompts_prepared(bench: Bench) -> list[str]:
    _, *lines = (bench.folder / "tasks-40.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_pipeline_sends_what_was_prepared_in_that_order(bench: Bench) -> None:
    """So the bare loop meets the same latencies at the same places."""
    ours = bench.measure("pipeline", "openai", 40, in_flight=1, latency_median_ms=20.0, latency_sigma=0.1)
    sent = [asked["body"]["messages"][0]["content"] for asked in bench.server.recent()]
    assert sent == prompts_prepared(bench)
    assert ours.kept == ours.stats["answered"] == 40 and ours.stats["max_in_flight"] == 1
    assert ours.probed_latency_s > 0 and ours.opened > ours.stats["first_request_monotonic"]
    assert ours.cpu_s > 0.1


@pytest.mark.parametrize("protocol", ["openai", "gemini"])
def test_a_bare_loop_sends_the_same_prompts_many_at_once(bench: Bench, protocol: Any) -> None:
    bare = bench.measure("bare", protocol, 40, in_flight=8, latency_median_ms=20.0, latency_sigma=0.1)
    bodies = [asked["body"] for asked in bench.server.recent()]
    if protocol == "openai":
        sent = [body["messages"][0]["content"] for body in bodies]
        assert set(bodies[0]) == {"model", "messages", "response_format", "seed"}
    else:
        sent = [body["contents"][0]["parts"][0]["text"] for body in bodies]
    assert sorted(sent) == sorted(prompts_prepared(bench))  # google-genai itself changes their order a little
    assert bare.kept == 40 and bare.stats["max_in_flight"] == 8
    assert bare.opened == bare.stats["first_request_monotonic"] and bare.probed_latency_s == 0


@pytest.mark.parametrize("language", quality.LETTERS)
def test_rows_to_check_are_good_and_as_long_as_they_say(language: str) -> None:
    rows = quality.rows_of(language, 3)
    assert len({row.label for row in rows}) == 3
    assert all(find_fault(row, Checks()) is None for row in rows)
    assert all(80 <= len(row.input_text) <= 600 for row in rows)


# --- the command


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--fast", "--fast"), ("--only=speed", "'speed'"), ("--runs=0", "'0'"), ("--quic", "--quic"), ("cpu", "cpu")],
)
def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str], argument: str, message: str) -> None:
    with pytest.raises(SystemExit) as raised:
        bench_command.main([argument])
    out, err = capsys.readouterr()
    assert raised.value.code == 2 and out == "" and message in err and "./run.sh bench" in err


def test_the_head_names_the_machine_and_warns_if_it_is_busy() -> None:
    calm, busy = bench_command.head((0.0, 9.0, 9.0)), bench_command.head((99.0, 0.0, 0.0))
    assert "apache-beam 2." in calm and "cores" in calm and "99.00 0.00 0.00" in busy
    assert "WARNING" in busy and "WARNING" not in calm


def test_bare_loop_and_pipeline_take_turns_under_the_same_conditions() -> None:
    asked: list[tuple[Any, ...]] = []

    class Recorded(Bench):
        def measure(self, system: Any, protocol: Any, rows: int, *flags: str, **played: Any) -> Measured:
            asked.append((system, protocol, rows, flags, played))
            return measured(rows)

    efficiency.measure(Recorded(None, Path(), lambda line: None), FULL)  # type: ignore[arg-type]
    assert len(asked) == 2 * 2 * 2 * FULL.runs
    for bare, ours in zip(asked[::2], asked[1::2], strict=True):
        assert (bare[0], ours[0]) == ("bare", "pipeline")
        assert bare[1:] == ours[1:] and ours[4]["latency_median_ms"] == 200 and ours[4]["latency_sigma"] == 0.6
    assert {each[4]["seed"] for each in asked} == set(range(FULL.runs))


# --- all of it for real, so that no benchmark stops working unnoticed


OF_THE_BENCH: dict[str, tuple[set[str], str]] = {
    "start": (
        {"import_beam", "textmint.pipelines"},
        r"apache_beam +0\.\d+ +1\.00 +-\n(.*\n)*  generate, 3 rows .* 1\.7\n",
    ),
    "efficiency": ({"bare", "textmint.pipelines"}, r"gemini +20 +8 .* 20\n"),
    "cpu": ({"bare", "textmint.pipelines"}, r"ms/row 40 .*\n(.*\n)* +openai +pipeline "),
    "ledger": (
        {"textmint.pipelines", "read_ledger", "without_ledger"},
        r"keeping nothing +20 .*\n  first run +20 .*\n  the same again +0 .*\n  the same, recomputed +0 .*\n"
        r"(.*\n)* +1,000 +1,000 +1,000 ",
    ),
}
"""Sections of `./run.sh bench`, the programs that each runs beside `prompts`, and what it prints in the end."""


@pytest.mark.parametrize("section", OF_THE_BENCH)
def test_each_section_of_the_command_runs(
    section: str, programs_run: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_command, "QUICK", TINY)
    monkeypatch.setattr(efficiency, "LATENCY", {"latency_median_ms": 20.0, "latency_sigma": 0.1})
    assert bench_command.main(["--quick", f"--only={section}"]) == 0, capsys.readouterr().err
    programs, printed = OF_THE_BENCH[section]
    assert set(programs_run) == {"prompts", *programs}
    out = capsys.readouterr().out
    assert re.search(printed, out) and max(map(len, out.splitlines())) <= 120
    assert [name for name in bench_command.SECTIONS if f"\n{name.upper()}: " in out] == [section]


def _near_duplicates(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(near_duplicates, "QUICK_SIZES", (20,))
    monkeypatch.setattr(near_duplicates, "QUICK_PAIRS", 1)
    return near_duplicates.main(["--quick"])


ALONE: dict[str, tuple[Callable[[pytest.MonkeyPatch], object], str]] = {
    "near_duplicates": (_near_duplicates, r"\n +20 .* [12] "),
    "quality": (lambda monkeypatch: quality.main(rows=2, passes=1), r"parse(.|\n)*" + r"(.|\n)*".join(CHECKS)),
    "scale": (lambda monkeypatch: scale.main(["--rows=70"]), r" +70 +70 "),
    "statistics": (lambda monkeypatch: statistics.main(["--rows=40", "--runs=1"]), r"\n +40 +[0-9.]+ +[0-9.]+ "),
    "volumes": (lambda monkeypatch: volumes.main(["--rows=20"]), r"shuffled bytes a row: [1-9]"),
}
"""The others: how each is run in the least form, and what it prints then."""


@pytest.mark.parametrize("module", ALONE)
def test_each_other_benchmark_runs(
    module: str, programs_run: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, printed = ALONE[module]
    assert not run(monkeypatch), capsys.readouterr().err
    assert re.search(printed, capsys.readouterr().out)


def test_no_benchmark_is_left_out() -> None:
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__name__ ==" in path.read_text("utf-8")}
    assert tuple(OF_THE_BENCH) == bench_command.SECTIONS
    of_the_bench = set().union(*(programs for programs, _ in OF_THE_BENCH.values()))
    assert programs == {"__main__", "prompts", *(of_the_bench - {"textmint.pipelines"}), *ALONE}
