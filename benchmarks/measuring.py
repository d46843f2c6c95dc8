"""Runs a program against the endpoint, and measures what it took and what the endpoint saw.

Only the standard library is imported here and by whoever imports this: Linux counts the memory of the process that
starts a program as the peak of that program until it has grown beyond it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from tests.support.llm_server import LlmServer

Protocol = Literal["openai", "gemini"]
System = Literal["bare", "pipeline", "without_ledger"]

ROOT: Final = Path(__file__).resolve().parents[1]
EXAMPLES_PER_TASK: Final = 20
_MODEL: Final = "m"
_IN_FLIGHT: Final = 64  # the pipeline's default
_POLL_SECONDS: Final = 0.01
_TAIL_LINES: Final = 15
_FOREIGN_PREFIXES: Final = ("OPENAI_", "GEMINI_", "GOOGLE_", "GENAI_", "VERTEX", "AIOHTTP_", "PYTHON", "TEXTMINT_")


class ProgramFailed(Exception):
    """A measured program ended with an error; the message holds the end of its log."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one program.

    Args:
      rows: how many were asked for.
      kept: how many it had in the end.
      cpu_s: user and system time of its process and of all that it started, seconds.
      stats: what the endpoint saw.
      opened: the moment (time.monotonic) from which requests count: the first of all, or the reply to the probe.
      probed_latency_s: the sum of the latencies of answers before that moment.
    """

    rows: int
    kept: int
    cpu_s: float
    stats: Mapping[str, Any]
    opened: float
    probed_latency_s: float = 0.0

    @property
    def cpu_ms_per_row(self) -> float:
        """CPU milliseconds a row, start-up included."""
        return 1000 * self.cpu_s / self.rows

    def efficiency(self, in_flight: int) -> float:
        """Computes which share of the places for requests was filled: answers times their mean latency, over places
        times seconds. 1 is an endpoint that never waits for its client."""
        seconds = float(self.stats["last_reply_monotonic"]) - self.opened
        return (float(self.stats["latency_sum_s"]) - self.probed_latency_s) / in_flight / seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A program that succeeded: what it printed, its CPU seconds, its peak memory in bytes."""

    out: str
    cpu_s: float
    peak_bytes: int


def run_program(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    watch: Callable[[], object] = lambda: None,
    longest_s: float = 900.0,
) -> Ended:
    """Runs a command to its end, in the environment that `environment` makes.

    The costs are the rusage that the kernel reports at its exit: its own and that of all descendants that were
    waited for, as in RUSAGE_CHILDREN, but with a peak of memory that is its own.

    Args:
      command: the program and its arguments.
      cwd: the folder that it runs in.
      log: a file for its standard error.
      watch: is called every 10 ms while it runs.
      longest_s: seconds after which it is killed.

    Raises:
      ProgramFailed: it ended with another code than 0, or was killed.
    """
    out = log.with_suffix(".out")
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(os.environ), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        deadline = time.monotonic() + longest_s
        try:
            while True:
                found, status, usage = os.wait4(process.pid, os.WNOHANG)
                if found:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    break
                if time.monotonic() > deadline:
                    raise ProgramFailed(f"{' '.join(command)}\nhas not ended within {longest_s:g} s")
                watch()
                time.sleep(_POLL_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        said = log.read_text("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:]
        raise ProgramFailed("\n".join([" ".join(command), f"ended with code {process.returncode}:", *said]))
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return Ended(out.read_text("utf-8", "replace"), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Makes the environment of the programs: stand-in keys, and no proxy or other setting of a client or of Python that
    would change what is measured."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.upper().startswith(_FOREIGN_PREFIXES) and not name.upper().endswith("_PROXY")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "stand-in", "GEMINI_API_KEY": "stand-in"}


def write_tasks(path: Path, rows: int) -> None:
    """Writes a file of tasks, one a line, for EXAMPLES_PER_TASK rows a task."""
    things = ("customer e-mail", "court ruling", "hotel review", "bug report", "school essay", "news headline")
    lines = (
        f"Classify a {things[number % len(things)]} of collection {number} by the department that should read it"
        for number in range(rows // EXAMPLES_PER_TASK)
    )
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


class _Opening:
    """Watches the endpoint until it has sent its first answer: that was the probe, which a pipeline sends alone."""

    def __init__(self, server: LlmServer) -> None:
        self._server = server
        self.at: float | None = None
        self.latency_s = 0.0

    def poll(self) -> None:
        if self.at is not None:
            return
        stats = self._server.stats()
        if stats["answered"]:
            # Exact if no other reply followed; else late by one poll, and the replies until then do not count.
            self.at = stats["last_reply_monotonic"] if stats["answered"] == 1 else time.monotonic()
            self.latency_s = stats["latency_sum_s"]


class Bench:
    """An endpoint, an empty folder for files, and the programs that can be run against them."""

    def __init__(self, server: LlmServer, folder: Path, say: Callable[[str], object]) -> None:
        self.server = server
        self.folder = folder
        self.say = say

    def prepare(self, sizes: Iterable[int]) -> None:
        """Writes the prompts for each number of rows. It also brings what is imported into the machine's cache."""
        tasks = [str(self._tasks(rows)) for rows in sorted(sizes)]
        self.run("benchmarks.prompts", f"--examples_per_task={EXAMPLES_PER_TASK}", f"--model={_MODEL}", *tasks)

    def measure(
        self,
        system: System,
        protocol: Protocol,
        rows: int,
        *flags: str,
        in_flight: int = _IN_FLIGHT,
        resumes: bool = False,
        **played: Any,
    ) -> Measured:
        """Runs a program against the endpoint.

        Args:
          system: which program.
          protocol: which of the endpoint's protocols it speaks.
          rows: how many; for the bare loop a number that was prepared.
          *flags: more options of the pipeline.
          in_flight: the most requests at once.
          resumes: whether the pipeline finds what it left the last time.
          **played: options of the endpoint.

        Raises:
          ProgramFailed: it ended with an error.
        """
        self.server.reset(**played)
        url = f"{self.server.base_url}/v1" if protocol == "openai" else self.server.base_url
        output = self.folder / "output"
        opening = _Opening(self.server)
        if system == "bare":
            ended = self.run(
                "benchmarks.bare",
                f"--protocol={protocol}",
                f"--base_url={url}",
                f"--prompts={self._tasks(rows).with_suffix('.jsonl')}",
                f"--rows={rows}",
                f"--concurrency={in_flight}",
            )
            kept = json.loads(ended.out)["kept"]
        else:
            if not resumes:
                shutil.rmtree(output, ignore_errors=True)  # its ledger would answer
            ended = self.run(
                "textmint.pipelines" if system == "pipeline" else "benchmarks.without_ledger",
                "generate",
                f"--llm={protocol}",
                f"--base_url={url}",
                f"--model={_MODEL}",
                f"--tasks={self._tasks(rows)}",
                f"--examples_per_task={EXAMPLES_PER_TASK}",
                f"--max_concurrency={in_flight}",
                f"--output={output}",
                "--checks=none",  # benchmarks.quality and benchmarks.near_duplicates measure what they cost
                *flags,
                watch=opening.poll,
            )
            manifest = json.loads((output / "manifest.json").read_text("utf-8"))
            kept = manifest["refreshes"]["base"]["counts"]["examples"]
        stats = self.server.stats()
        return Measured(
            rows=rows,
            kept=kept,
            cpu_s=ended.cpu_s,
            stats=stats,
            opened=opening.at or stats["first_request_monotonic"],
            probed_latency_s=opening.latency_s,
        )

    def _tasks(self, rows: int) -> Path:
        path = self.folder / f"tasks-{rows}.txt"
        if not path.exists():
            write_tasks(path, rows)
        return path

    def run(self, module: str, *arguments: str, watch: Callable[[], object] = lambda: None) -> Ended:
        """Runs a module as a program, as `run_program` does."""
        command = [sys.executable, "-m", module, *arguments]
        return run_program(command, cwd=self.folder, log=self.folder / "log.txt", watch=watch)
