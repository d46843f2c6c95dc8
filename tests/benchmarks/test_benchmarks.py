"""The benchmarks: that what they run is what they say, and that their arithmetic is right. No time is judged here."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench_command
from benchmarks import cpu, efficiency, faults, measuring, near_duplicates, quality, scale, volumes
from benchmarks.measuring import ROOT, Bench, Ended, Measured, ProgramFailed, environment, run_program, write_tasks
from benchmarks.sizes import FULL, QUICK
from benchmarks.table import spread, table
from tests.support.llm_server import LlmServer

TINY = dataclasses.replace(
    QUICK,
    loads=((20, 8),),
    cpu_rows=(20, 40),
    faulty_rows=20,
    throttled_rows=20,
    limited_seconds=1,
    hanging_rows=20,
    ledger_rows=20,
    ledger_replies=1_000,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


@pytest.fixture(scope="module")
def bench(server: LlmServer, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(server, tmp_path_factory.mktemp("bench"), lambda line: None)
    made.prepare([20, 40])
    return made


@contextlib.contextmanager
def watching(watch: Callable[[], object]) -> Iterator[None]:
    """Calls it every 10 ms."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.01):
            watch()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def programs_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """-> the modules that benchmarks run as programs, which run in this process instead, one after the other: a start
    of Python and Beam costs seconds."""
    ran: list[str] = []

    def run_here(command: Sequence[str], *, log: Path, watch: Callable[[], object] = lambda: None, **_: Any) -> Ended:
        assert list(command[:2]) == [sys.executable, "-m"]
        module, arguments = command[2], list(command[3:])
        ran.append(module.removeprefix("benchmarks."))
        name = f"{module}.__main__" if module == "textmint.pipelines" else module
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(said), watching(watch):
            code = importlib.import_module(name).main(arguments)
        if code:
            raise ProgramFailed(f"{module} ended with code {code}: {said.getvalue()}")
        return Ended(out.getvalue(), 0.1 + len(ran) / 1000, 100_000_000)  # no cost is 0, nor another's

    for module in (measuring, near_duplicates, scale):
        monkeypatch.setattr(module, "run_program", run_here)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "stand-in")
    return ran


def measured(rows: int = 100, **fields: Any) -> Measured:
    stats = {
        "requests": rows,
        "answered": rows,
        "latency_sum_s": 0.2 * rows,
        "first_request_monotonic": 50.0,
        "last_reply_monotonic": 60.0,
        "max_in_flight": 7,
        "by_second": {},
        "by_outcome": {"ok": rows},
        **fields.pop("stats", {}),
    }
    known: dict[str, Any] = {"kept": rows, "cpu_s": 1.0, "peak_bytes": 10_000_000, "opened": 50.0, **fields}
    return Measured(rows=rows, stats=stats, **known)


# --- arithmetic


def test_efficiency_is_the_share_of_the_places_that_answers_filled() -> None:
    assert measured(100).efficiency(2) == pytest.approx(1.0)  # 100 times 0.2 s, in 2 places for 10 s
    assert measured(100).rate == pytest.approx(10)


def test_the_probe_counts_neither_as_work_nor_as_time() -> None:
    """It took the first second; then 90 requests of 0.2 s in 9 s, 2 at a time."""
    stats = {"answered": 91, "latency_sum_s": 90 * 0.2 + 1.0}
    run = measured(91, stats=stats, opened=51.0, probed=1, probed_latency_s=1.0)
    assert run.efficiency(2) == pytest.approx(1.0)
    assert run.rate == pytest.approx(10)


def test_refusals_are_counted_from_the_second_on_that_is_asked_for() -> None:
    by_second = {"0": {"requests": 30, "429": 20}, "1": {"requests": 20, "200": 15, "429": 5}, "2": {"200": 3}}
    assert faults.refused_share(by_second, 0) == 0.5
    assert faults.refused_share(by_second, 1) == 0.25
    assert faults.refused_share(by_second, 2) == 0.0


def costs() -> list[cpu.Cost]:
    """Start-up and cost of a row: bare 0.2 s and 0.5 ms, pipeline 2 s and 1 ms, naive 2 s and 5 ms; twice the same."""

    def cost(system: Any, start: float, row: float, sizes: tuple[int, ...], memory: int) -> cpu.Cost:
        run = {n: measured(n, cpu_s=start + row * n, peak_bytes=100_000_000 + memory * n) for n in sizes}
        return cpu.Cost(system=system, protocol="openai", runs=(run, run))

    return [
        cost("bare", 0.2, 0.0005, (20, 4_000, 16_000), 0),
        cost("pipeline", 2.0, 0.001, (20, 4_000, 16_000), 5_000),
        cost("naive", 2.0, 0.005, (100, 400), 0),
    ]


def cells(text: str, program: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"  openai    {program}"))
    return line.split(program)[1].split()


def test_the_cost_of_a_row_with_and_without_start_up_beside_the_bare_loop() -> None:
    text = cpu.render_cpu(costs())
    assert cells(text, "bare loop, aiohttp") == ["0.21", "0.55", "0.51", "1.00", "0.93", "0.50", "1.00", "1.00"]
    assert cells(text, "pipeline") == ["2.02", "1.50", "1.12", "2.20", "0.75", "1.00", "2.00", "1.00"]
    assert cells(text, "naive Beam, openai") == ["2.50", "-", "-", "-", "-", "5.00", "10.00", "-"]


def test_memory_of_a_further_row() -> None:
    text = cpu.render_memory(costs())
    assert cells(text, "pipeline") == ["4,000", "120", "16,000", "180", "5,000"]
    assert cells(text, "bare loop, aiohttp") == ["4,000", "100", "16,000", "100", "0"]


def test_efficiency_shows_the_median_of_the_ratios_of_each_run() -> None:
    def lasting(seconds: float, kept: int = 100) -> Measured:
        return measured(stats={"last_reply_monotonic": 50 + seconds}, kept=kept)

    pairs = ((lasting(10), lasting(20)), (lasting(10), lasting(12.5)), (lasting(20), lasting(20, kept=99)))
    text = efficiency.render([efficiency.Load(protocol="openai", rows=100, in_flight=2, pairs=pairs)])
    line = text.splitlines()[-1].split()
    assert line == ["openai", "100", "2", "1.000", "0.500", "0.800", "0.500-1.000", "7", "99"]


def test_faults_show_rows_kept_and_what_they_cost() -> None:
    by_second = {"0": {"requests": 80, "429": 40}, "9": {"requests": 20, "429": 1}}
    text = faults.render(
        faults.Faults(
            failing=((measured(stats={"last_reply_monotonic": 90.0}), measured(kept=98)),),
            free=measured(),
            throttled=measured(stats={"last_reply_monotonic": 62.5, "requests": 110}),
            limited=measured(stats={"by_second": by_second}),
            limited_seconds=10,
            hanging=measured(stats={"by_outcome": {"ok": 100, "hang": 2}, "requests": 102}),
            request_timeout=3,
        )
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "pipeline 98 of 100 0.031 4.000 -" in lines
    assert "10 % refused 100 of 100 8.0 110 0.800" in lines
    assert "100 of 100 10.0 100 41.0 5.0" in lines
    assert "100 of 100 2 102 10.0" in lines


def test_tables_stand_in_columns() -> None:
    text = table(("name", "n"), [("a", "1"), ("long", "12")])
    assert text == "  name   n\n  a      1\n  long  12"
    with pytest.raises(ValueError):
        table(("name", "n"), [("a",)])
    assert spread([1.0]) == "-" and spread([2.0, 1.0, 1.5]) == "1.00-2.00"


# --- what is run


def test_the_sizes_are_those_that_are_promised() -> None:
    assert FULL.loads == ((4_000, 64), (12_000, 256)) and FULL.cpu_rows[-2:] == (4_000, 16_000)
    for sizes in (FULL, QUICK):
        assert all(rows % 20 == 0 for rows in sizes.beside)
    assert QUICK.efficiency_runs == QUICK.cpu_runs == QUICK.fault_runs == 1


def test_programs_get_stand_in_keys_and_nothing_of_the_users() -> None:
    theirs = {"HTTPS_PROXY": "http://p", "no_proxy": "x", "OPENAI_BASE_URL": "u", "GOOGLE_API_KEY": "k", "HOME": "/h"}
    found = environment({**theirs, "OPENAI_API_KEY": "secret", "PYTHONPATH": "/else"})
    assert found == {
        "HOME": "/h",
        "PYTHONPATH": str(ROOT),
        "OPENAI_API_KEY": "stand-in",
        "GEMINI_API_KEY": "stand-in",
    }


def test_a_program_that_fails_is_named_with_the_end_of_what_it_said(tmp_path: Path) -> None:
    script = "import sys; [print(n, file=sys.stderr) for n in range(99)]; sys.exit(3)"
    with pytest.raises(ProgramFailed, match=r"ended with code 3:\n84\n(.*\n)+98$"):
        run_program([sys.executable, "-c", script], cwd=tmp_path, env=os.environ, log=tmp_path / "log")


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = [sys.executable, "-S", "-c", script]
    with pytest.raises(ProgramFailed, match=r"within 0\.5 s"):
        run_program(command, cwd=tmp_path, env=os.environ, log=tmp_path / "log", longest_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "log.out").read_text()), 0)


def test_cpu_and_memory_are_those_of_the_program_and_its_children(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    script = f"import subprocess, sys; held = b'x' * 150_000_000; subprocess.run([sys.executable, '-c', {busy!r}])"
    ended = run_program([sys.executable, "-c", script], cwd=tmp_path, env=os.environ, log=tmp_path / "log")
    assert ended.cpu_s >= 0.3
    assert ended.peak_bytes >= 150_000_000


def test_tasks_are_written_for_whole_tasks_only(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.txt", 60)
    assert len(set((tmp_path / "tasks.txt").read_text().splitlines())) == 3
    with pytest.raises(ValueError, match="30"):
        write_tasks(tmp_path / "tasks.txt", 30)


def prompts_prepared(bench: Bench, rows: int) -> list[str]:
    _, *lines = bench.prompts(rows).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_pipeline_sends_what_was_prepared_in_that_order(bench: Bench, server: LlmServer) -> None:
    """So the loops beside it meet the same latencies at the same places. The first one is told apart."""
    ours = bench.measure("pipeline", "openai", 40, in_flight=1, latency_median_ms=20.0, latency_sigma=0.1)
    sent = [asked["body"]["messages"][0]["content"] for asked in server.recent()]
    assert sent == prompts_prepared(bench, 40)
    assert ours.kept == ours.stats["answered"] == 40 and ours.stats["max_in_flight"] == 1
    assert ours.probed >= 1 and ours.opened > ours.stats["first_request_monotonic"]
    assert ours.cpu_s > 0.1 and ours.peak_bytes > 50_000_000


@pytest.mark.parametrize("protocol", ["openai", "gemini"])
def test_a_bare_loop_sends_the_same_prompts_many_at_once(bench: Bench, server: LlmServer, protocol: Any) -> None:
    bare = bench.measure("bare", protocol, 40, in_flight=8, latency_median_ms=20.0, latency_sigma=0.1)
    bodies = [asked["body"] for asked in server.recent()]
    if protocol == "openai":
        sent = [body["messages"][0]["content"] for body in bodies]
        assert set(bodies[0]) == {"model", "messages", "response_format", "seed"}
    else:
        sent = [body["contents"][0]["parts"][0]["text"] for body in bodies]
    assert sorted(sent) == sorted(prompts_prepared(bench, 40))  # google-genai itself changes their order a little
    assert bare.kept == 40 and bare.stats["max_in_flight"] == 8
    assert bare.opened == bare.stats["first_request_monotonic"] and bare.probed == 0


def test_a_bare_loop_backs_off_only_where_it_is_told_to(bench: Bench) -> None:
    bare = bench.measure("bare", "openai", 20, "--backoff", rate_500=0.1, seed=1)
    assert bare.kept == 20 and bare.stats["requests"] > 20
    with pytest.raises(ProgramFailed, match="status 500"):
        bench.measure("bare", "openai", 20, rate_500=1.0)


@pytest.mark.usefixtures("programs_run")
def test_the_naive_pipeline_asks_for_one_row_after_another(bench: Bench) -> None:
    naive = bench.measure("naive", "openai", 20)
    assert naive.kept == naive.stats["answered"] == 20 and naive.stats["max_in_flight"] == 1


# --- the command


@pytest.mark.parametrize(
    ("argument", "said"),
    [("--fast", "--fast"), ("--only=speed", "'speed'"), ("--runs=0", "'0'"), ("--quic", "--quic"), ("cpu", "cpu")],
)
def test_options_that_are_none_are_refused(capsys: pytest.CaptureFixture[str], argument: str, said: str) -> None:
    with pytest.raises(SystemExit) as raised:
        bench_command.main([argument])
    out, err = capsys.readouterr()
    assert raised.value.code == 2 and out == "" and said in err and "./run.sh bench" in err


def test_the_head_tells_the_machine_and_warns_where_it_is_busy() -> None:
    calm, busy = bench_command.head((0.0, 9.0, 9.0)), bench_command.head((99.0, 0.0, 0.0))
    assert "apache-beam 2." in calm and "cores" in calm and "99.00 0.00 0.00" in busy
    assert "WARNING" in busy and "WARNING" not in calm


class Recorded(Bench):
    """A bench whose programs cost nothing; it keeps what was asked of it."""

    asked: list[tuple[Any, ...]]

    def prepare(self, sizes: Any) -> None:
        self.asked = []

    def run(self, module: str, *arguments: str, watch: Any = None) -> Any:
        told = {"replies": 2_000, "met": 2, "seconds": 0.1, "rate": 20_000.0}
        return Ended(json.dumps(told), 0.1, 100_000_000)

    def measure(
        self,
        system: Any,
        protocol: Any,
        rows: int,
        *flags: str,
        in_flight: int = 64,
        resumes: bool = False,
        **played: Any,
    ) -> Any:
        self.asked.append((system, protocol, rows, flags, in_flight, played))
        bare = system == "bare"
        return measured(rows, cpu_s=rows / 1000 * (1 if bare else 2), stats={"last_reply_monotonic": 51.0 + rows})


@pytest.mark.parametrize("only", [*((name,) for name in bench_command.SECTIONS), bench_command.SECTIONS])
def test_only_what_is_asked_for_is_measured_and_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, only: tuple[str, ...]
) -> None:
    monkeypatch.setattr(bench_command, "Bench", Recorded)
    bench_command.run(only, TINY, lambda line: None)
    out = capsys.readouterr().out
    words = {name: name.upper() for name in bench_command.SECTIONS} | {"cpu": "CPU of a row"}
    assert {name for name, word in words.items() if word in out} == set(only)
    assert max(map(len, out.splitlines())) <= 120


def test_bare_loop_and_pipeline_take_turns_under_the_same_conditions() -> None:
    recorded = Recorded(None, Path(), lambda line: None)  # type: ignore[arg-type]
    recorded.prepare(())
    efficiency.measure(recorded, FULL)
    assert len(recorded.asked) == 2 * 2 * 2 * FULL.efficiency_runs
    for bare, ours in zip(recorded.asked[::2], recorded.asked[1::2], strict=True):
        assert (bare[0], ours[0]) == ("bare", "pipeline")
        assert bare[1:] == ours[1:] and ours[5]["latency_median_ms"] == 200 and ours[5]["latency_sigma"] == 0.6
    assert {asked[5]["seed"] for asked in recorded.asked} == set(range(FULL.efficiency_runs))


# --- all of it for real, so that none can rot


OF_THE_BENCH: dict[str, tuple[set[str], str]] = {
    "efficiency": ({"bare", "textmint.pipelines"}, r"gemini +20 +8 .* 20\n"),
    "cpu,memory": ({"bare", "naive_beam", "textmint.pipelines"}, r"naive Beam, openai +20 +100 +40 "),
    "ledger": (
        {"textmint.pipelines", "read_ledger", "without_ledger"},
        r"keeping nothing +20 .*\n  first run +20 .*\n  the same again +0 .*\n  the same, recomputed +0 .*\n"
        r"(.*\n)* +1,000 +1,000 +1,000 ",
    ),
    "faults": ({"bare", "textmint.pipelines"}, r"(20 of 20(.|\n)*){6}"),
}
"""Sections of `./run.sh bench`, the programs that each runs beside `prompts`, and what it says in the end."""


@pytest.mark.parametrize("sections", OF_THE_BENCH)
def test_each_section_of_the_command_runs(
    sections: str, programs_run: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_command, "QUICK", TINY)
    for module in (efficiency, faults):
        monkeypatch.setattr(module, "LATENCY", {"latency_median_ms": 20.0, "latency_sigma": 0.1})
    assert bench_command.main(["--quick", f"--only={sections}"]) == 0, capsys.readouterr().err
    programs, said = OF_THE_BENCH[sections]
    assert set(programs_run) == {"prompts", *programs}
    assert re.search(said, capsys.readouterr().out)


def _near_duplicates(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(near_duplicates, "QUICK_SIZES", (20,))
    monkeypatch.setattr(near_duplicates, "QUICK_PAIRS", 1)
    return near_duplicates.main(["--quick"])


ALONE: dict[str, tuple[Callable[[pytest.MonkeyPatch], object], str]] = {
    "near_duplicates": (_near_duplicates, r"20 +alike .* 19 "),
    "quality": (lambda monkeypatch: quality.main(rows=2, passes=1), "wrong_language"),
    "scale": (lambda monkeypatch: scale.main(["--rows=70"]), r"local +70 +70 "),
    "volumes": (lambda monkeypatch: volumes.main(["--rows=20"]), r"shuffled bytes a row: [1-9]"),
}
"""The others: how each is run in the least form, and what it says then."""


@pytest.mark.parametrize("module", ALONE)
def test_each_other_benchmark_runs(
    module: str, programs_run: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, said = ALONE[module]
    assert not run(monkeypatch), capsys.readouterr().err
    assert re.search(said, capsys.readouterr().out)


def test_no_benchmark_is_left_out() -> None:
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__name__ ==" in path.read_text("utf-8")}
    assert ",".join(OF_THE_BENCH).split(",") == list(bench_command.SECTIONS)
    of_the_bench = set().union(*(programs for programs, _ in OF_THE_BENCH.values()))
    assert programs == {"__main__", "prompts", *(of_the_bench - {"textmint.pipelines"}), *ALONE}
