"""Plans what a run of so many examples takes: engine, workers, requests in flight, hours, tokens, files, memory.

    python -m deploy.capacity                              writes deploy/CAPACITY.md
    python -m deploy.capacity --check                      says whether that page is what this would write
    python -m deploy.capacity --requests_per_minute=600    prints the page for figures of your own

Everything is computed from the figures below: measured ones say where they were measured, limits say whose they are,
and assumptions are options.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textmint.pipelines.cli.terminal import refused, shown, tell
from textmint.pipelines.graph.plan import (
    CHARACTERS_A_TOKEN,
    EXAMPLE_BYTES,
    LEDGER_BYTES,
    PROSE_BYTES,
    TASKS_A_REQUEST,
    TRIPLET_BYTES,
)

PAGE = Path(__file__).with_name("CAPACITY.md")
SIZES = tuple(10**power for power in range(4, 10))

# --- measured, on two cores of 2026, Python 3.11, Beam 2.77

# docs/performance.md and docs/quality.md (./run.sh bench, benchmarks.quality, benchmarks.near_duplicates).
CPU_MS_ASKING = 0.46  # a row, from its draft to its file: 16,000 rows, openai, no latency, start-up included
CPU_MS_CHECKING = 0.04 + 0.14  # a row: checks of an example by itself, its language
CPU_MS_COMPARING = 0.30  # a row: with all others
CPU_MS = CPU_MS_ASKING + CPU_MS_CHECKING + CPU_MS_COMPARING
EFFICIENCY = {64: 0.96, 256: 0.89}  # by `--max_concurrency`, the share of it that is in flight on average

# `python -m benchmarks.scale --rows=10000,100000,1000000`: the embedded model, all checks, one process.
LOCAL_PEAK_MB = {10_000: 460, 100_000: 830, 1_000_000: 1_320}  # by examples asked for, the peak of memory
LOCAL_DISK_KB_A_ROW = 4  # of what is put aside during the run, beside the ledger and the data
LOCAL_MOST_ROWS = max(LOCAL_PEAK_MB)  # more was not measured

# `python -m benchmarks.volumes --rows=16000`, as are those of pipelines/graph/plan.py
SHUFFLE_BYTES = 2_830  # a row, over all groupings of the graph, beside the characters of its reply

# The graph translated for Dataflow (`generate --dry_run`), with planned labels, verification, exclusions, and 20,000
# ledger files and 10,000 published ones of earlier runs: neither these nor brainstorm requests make it larger.
JOB_MB = 0.4

# The templates that come with textmint, 910 characters filled in, and the embedded model's replies, 600 at the lengths
# of the paper's num_words; at four characters a token (OpenAI's rule of thumb for English).
PROMPT_TOKENS = 227
OUTPUT_TOKENS = 150

# --- set in the code; tests/deploy/test_capacity.py compares them with it

BATCH_REPLIES = 256  # transforms/ledger/writer.py: of one file on an object store, at most ...
BATCH_SECONDS = 30  # ... and so long it is waited for
MERGED_BYTES = 64 << 20  # transforms/ledger/merge_journals.py: replies unpacked in one file, on a disk or compacted
FOOTER_READERS = 16  # transforms/ledger/files.py: ledger files that are read at once when a run is launched
SHARD_BYTES = 128 << 20  # transforms/dataset/write_dataset.py: of a data file
BUCKET_ROWS = 2_000  # transforms/dataset/write_dataset.py: rows that are sorted together
MOST_GROUPS = 65_536  # transforms/ledger/join_ledger.py: in which drafts are given to workers ...
GROUP_ROWS = 1_000  # ... of so many rows, while that is enough

# --- limits of others

JOB_LIMIT_MB = 10  # https://cloud.google.com/dataflow/quotas, "maximum size for a job creation request"

# --- assumed, beside what options say

DATAFLOW_CPU = 2.0  # how many times the CPU of a row Dataflow takes, mostly for shuffling
BUSY = 0.8  # of a core, before requests begin to wait for it
MOST_IN_FLIGHT = max(EFFICIENCY)  # in one process; more was not measured
MEMORY_SHARE = 0.6  # of a machine's memory that a run should plan with
SECONDS_A_READ = 0.05  # of a small object, and of a page of 1,000 names
PROCESS_MB = 400  # of a worker process, before it holds data
ROW_KB = 4  # of a row that a worker holds as an element, with its prompt and its reply

LOCAL = "one machine"
DATAFLOW = "Dataflow"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What is assumed of the model and the machines; each is an option."""

    requests_per_minute: float = 6_000  # the quota of the endpoint, of all workers together
    latency: float = 2.0  # seconds that a reply takes, median
    sigma: float = 0.6  # of the latencies' logarithms; as in ./run.sh bench
    prompt_tokens: float = PROMPT_TOKENS  # of an example, mean
    output_tokens: float = OUTPUT_TOKENS
    examples_per_task: int = 20  # as the option of generate
    asked_again: float = 0.02  # share of replies that cannot be read
    max_concurrency: int = 64  # as the option of generate: requests in flight in one process
    cores: int = 4  # of the machine, or of a worker; Dataflow starts a process for each
    memory_gb: float = 16  # of the machine, or of a worker
    hours: float = 24  # in which the second table is to be done
    prompt_price: float = 0  # of a million tokens, in any currency
    output_price: float = 0

    def __post_init__(self) -> None:
        may_be_zero = ("sigma", "prompt_tokens", "asked_again", "prompt_price", "output_price")
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"--{name} is {value}; it must be a number from 0 upwards")
            if value == 0 and name not in may_be_zero:
                raise ValueError(f"--{name} is {value}; it must be above 0")
        if self.asked_again >= 1:
            raise ValueError(f"--asked_again is {self.asked_again}; it must be below 1")

    @property
    def mean_latency(self) -> float:
        """Seconds; of a lognormal distribution."""
        return self.latency * math.exp(self.sigma**2 / 2)

    @property
    def characters(self) -> float:
        """Characters of a reply."""
        return self.output_tokens * CHARACTERS_A_TOKEN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes."""

    rows: int  # examples asked for
    engine: str  # LOCAL or DATAFLOW
    requests: int  # that are answered, and so paid for: of examples, of those asked again, of lists of tasks
    rate: float  # answers a second
    in_flight: int  # requests
    workers: int  # machines
    concurrency: int  # in flight in one process, `--max_concurrency`
    processes: int  # on all machines together
    limit: str  # what limits the rate

    @property
    def hours(self) -> float:
        """Hours until the last reply."""
        return self.requests / self.rate / 3600


def measured(figures: Mapping[int, float], at: int) -> float:
    """Looks up a figure, in steps of what was measured."""
    return next((figure for most, figure in figures.items() if at <= most), figures[max(figures)])


def per_process(concurrency: int) -> float:
    """Computes the requests that are in flight on average in one process."""
    return concurrency * measured(EFFICIENCY, concurrency)


def requests_for(rows: int, given: Given) -> int:
    """Computes the requests that are answered for so many examples."""
    lists_of_tasks = math.ceil(rows / given.examples_per_task / TASKS_A_REQUEST)
    return math.ceil(rows * (1 + given.asked_again)) + lists_of_tasks


def local_rate(given: Given, concurrency: int) -> float:
    """Computes the answers a second that one machine can take in, with a process for each core, whatever the quota."""
    by_flight = given.cores * per_process(concurrency) / given.mean_latency
    return min(by_flight, given.cores * BUSY * 1000 / CPU_MS)


def plan(rows: int, given: Given, rate: float | None = None) -> Plan:
    """Plans the smallest set-up that asks as fast as it may.

    Args:
      rows: examples.
      given: what is assumed.
      rate: requests a second to aim at; None: those of the quota.
    """
    wanted = given.requests_per_minute / 60 if rate is None else rate
    limit = "quota" if rate is None else "hours"
    most = max(MOST_IN_FLIGHT, given.max_concurrency)
    is_local = rows <= LOCAL_MOST_ROWS and (rate is None or local_rate(given, most) >= wanted)
    reached = min(wanted, local_rate(given, most)) if is_local else wanted
    if reached < wanted:
        limit = "CPU" if reached * CPU_MS >= given.cores * BUSY * 999 else "requests in flight"
    in_flight = math.ceil(reached * given.mean_latency)
    concurrency = given.max_concurrency
    if is_local:
        while concurrency < most and per_process(concurrency) < in_flight:
            concurrency = min(most, 2 * concurrency)  # more of it first, then more processes
        workers = 1
        by_cpu = math.ceil(reached * CPU_MS / 1000 / BUSY)
        processes = min(given.cores, max(math.ceil(in_flight / per_process(concurrency)), by_cpu))
    else:
        by_flight = math.ceil(in_flight / per_process(concurrency) / given.cores)
        by_cpu = math.ceil(wanted * CPU_MS * DATAFLOW_CPU / 1000 / BUSY / given.cores)
        workers = max(by_flight, by_cpu)
        processes = workers * given.cores
    return Plan(
        rows=rows,
        engine=LOCAL if is_local else DATAFLOW,
        requests=requests_for(rows, given),
        rate=reached,
        in_flight=in_flight,
        workers=workers,
        concurrency=concurrency,
        processes=processes,
        limit=limit,
    )


def ledger_files(planned: Plan, given: Given) -> int:
    """Computes the files of the ledger when the run ends. On a local disk journals are merged into large ones; on an
    object store each process writes what came in half a minute, and no more than 256 replies."""
    if planned.engine == LOCAL:
        return math.ceil(planned.requests * (given.characters + 250) / MERGED_BYTES)
    of_one_process = planned.rate / planned.processes
    return math.ceil(planned.requests / min(BATCH_REPLIES, max(1.0, of_one_process * BATCH_SECONDS)))


def launch_seconds(files: int) -> float:
    """Computes how long the next run reads so many ledger files on an object store before it starts: their names by
    thousands, then the end of each."""
    return (files / 1000 + files / FOOTER_READERS) * SECONDS_A_READ


def peak_gb(planned: Plan, given: Given) -> float:
    """Computes the memory on a machine: of all processes of a local run, or of a worker with its processes."""
    if planned.engine == LOCAL:
        return (measured(LOCAL_PEAK_MB, planned.rows) + (planned.processes - 1) * PROCESS_MB) / 1000
    group = max(GROUP_ROWS, planned.rows / MOST_GROUPS) * ROW_KB / 1000
    sizes = planned.rows / BUCKET_ROWS * 2 * 0.2 / 1000  # of each chunk of examples and triplets, 200 bytes in Python
    return given.cores * (PROCESS_MB + group + sizes + 3 * SHARD_BYTES / 1e6) / 1000


# --- the page


def page(given: Given) -> str:
    """Renders the page, in Markdown."""
    by_quota = [plan(rows, given) for rows in SIZES]
    in_hours = [plan(rows, given, requests_for(rows, given) / given.hours / 3600) for rows in SIZES]
    parts = [
        "# Capacity",
        "What a run of 10,000 to 1,000,000,000 examples takes. Written by `python -m deploy.capacity`; the beginning "
        "of that script lists the measured figures, and where they were measured. Every assumption is an option: "
        "`python -m deploy.capacity --requests_per_minute=600 --latency=5` prints this page for your own. It names no "
        "price, since prices change: `--prompt_price=P --output_price=O`, of a million tokens, adds the sum.",
        f"Assumed: a quota of {given.requests_per_minute:,.0f} requests a minute; replies of "
        f"{given.output_tokens:g} tokens to prompts of {given.prompt_tokens:g}, after {given.latency:g} s (the median; "
        f"lognormal with sigma {given.sigma:g}, so {given.mean_latency:.2f} s in the mean); {given.examples_per_task} "
        f"examples a task; {given.asked_again:.0%} of the replies asked for again; machines of {given.cores} cores and "
        f"{given.memory_gb:g} GB. Examples are those that are asked for: how many of them checks refuse depends on the "
        "model.",
        "## At this quota",
        _plans(by_quota),
        f"## Within {given.hours:g} hours",
        "What the quota would have to be, and what could use it.",
        _plans(in_hours),
        "## What it moves and leaves behind",
        _volumes(by_quota, given),
        "Tokens are those that are paid for; a list of tasks is counted like an example. The last column is how long "
        "the next run reads the ledger on an object store before it starts; after `ledger --compact` it takes seconds.",
        "## What becomes the bottleneck, and what to change",
        _bottlenecks(given),
        f"On Dataflow a row is assumed to cost {DATAFLOW_CPU:g} times the CPU of one machine. That was not measured.",
    ]
    return "\n\n".join(parts) + "\n"


def _plans(plans: Sequence[Plan]) -> str:
    head = ["examples", "engine", "machines", "processes", "max_concurrency", "in flight", "requests a minute", "hours"]
    rows = []
    for one in plans:
        counts = [one.workers, one.processes, one.concurrency, one.in_flight, one.rate * 60]
        hours = f"{one.hours:.2f}" if one.hours < 10 else f"{one.hours:,.0f}"
        rows.append([f"{one.rows:,}", one.engine, *(f"{number:,.0f}" for number in counts), hours, one.limit])
    return _table([*head, "limited by"], rows)


def _volumes(plans: Sequence[Plan], given: Given) -> str:
    is_priced = bool(given.prompt_price or given.output_price)
    head = ["examples", "prompt tokens", "output tokens", *(["price"] if is_priced else []), "ledger", "its files"]
    head += ["data", "its files", "shuffled", "peak memory of a machine", "next launch"]
    text = PROSE_BYTES * given.characters
    rows = []
    for one in plans:
        prompt, output = one.requests * given.prompt_tokens, one.requests * given.output_tokens
        price = f"{(prompt * given.prompt_price + output * given.output_price) / 1e6:,.0f}"
        data = [one.rows * (fixed + text) for fixed in (EXAMPLE_BYTES, TRIPLET_BYTES)]
        files = ledger_files(one, given)
        rows.append(
            [
                f"{one.rows:,}",
                _short(prompt),
                _short(output),
                *([price] if is_priced else []),
                f"{_short(one.requests * (LEDGER_BYTES + text))}B",
                f"{files:,}",
                f"{_short(sum(data))}B",
                f"{sum(math.ceil(each / SHARD_BYTES) for each in data):,}",
                f"{_short(one.rows * (SHUFFLE_BYTES + given.characters))}B",
                f"{peak_gb(one, given):.1f} GB",
                _duration(launch_seconds(files)) if one.engine == DATAFLOW else "-",
            ]
        )
    return _table(head, rows)


def _bottlenecks(given: Given) -> str:
    one, wide = (60 * per_process(most) / given.mean_latency for most in (given.max_concurrency, MOST_IN_FLIGHT))
    local_gb, dataflow_gb = (peak_gb(plan(rows, given), given) / MEMORY_SHARE for rows in (LOCAL_MOST_ROWS, SIZES[-1]))
    rows = [
        (
            "requests in flight",
            f"{one:,.0f} requests a minute, all that {given.max_concurrency} in flight get from a model of "
            f"{given.mean_latency:.2f} s",
            f"`--max_concurrency={MOST_IN_FLIGHT}` ({wide:,.0f} a minute; more was not measured), then more processes "
            "(`--direct_num_workers`), then workers",
        ),
        (
            "quota",
            "the rate of the first table; no engine is faster",
            "a higher quota, another region or model. `--requests_per_minute` limits each of the processes that share "
            "it",
        ),
        (
            "CPU",
            f"{BUSY * 60_000 / CPU_MS:,.0f} requests a minute and core: {CPU_MS:.2f} ms a row, {CPU_MS_COMPARING:.2f} "
            "of them to compare it with all others",
            "more processes; `--checks` without near_duplicate",
        ),
        (
            "memory",
            f"a machine with less than {local_gb:.0f} GB for {LOCAL_MOST_ROWS:,} rows; on Dataflow a worker with less "
            f"than {dataflow_gb:.0f} GB for {SIZES[-1]:,}",
            "`--direct_num_workers=1`; workers with more memory a core",
        ),
        (
            "disk",
            f"{LOCAL_DISK_KB_A_ROW} KB a row during a run on one machine, beside the data: what is shuffled and does "
            "not fit into memory",
            "a disk with room; `--checks` without near_duplicate takes less than half",
        ),
        (
            "one machine",
            f"{LOCAL_MOST_ROWS:,} rows, the most that was measured, or {local_rate(given, MOST_IN_FLIGHT) * 60:,.0f} "
            f"requests a minute on {given.cores} cores",
            "Dataflow",
        ),
        (
            "reading the ledger",
            f"{_duration(launch_seconds(100_000))} at each launch for 100,000 files at {SECONDS_A_READ * 1000:.0f} ms "
            f"a read ({100_000 * BATCH_REPLIES:,} replies at {BATCH_REPLIES} a file, fewer where a process gets less "
            f"in {BATCH_SECONDS} s); compacting reads them one after the other, and takes "
            f"{_duration(launch_seconds(100_000) + 100_000 * SECONDS_A_READ)}",
            "`./run.sh ledger --compact` after each run of some ten million, not after the last; fewer processes with "
            "more requests each",
        ),
        (
            "the job's graph",
            f"never: {JOB_MB} MB at most, of the {JOB_LIMIT_MB} MB that Dataflow takes, however many brainstorm "
            "requests, tasks, ledger files and refreshes there are",
            "-",
        ),
    ]
    return _table(["what", "from where on", "what to change"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    right = [all(not cell[:1].isalpha() and cell[:1] != "`" for cell in column) for column in zip(*rows, strict=True)]
    lines = [head, ["---:" if is_number else "---" for is_number in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.3g} M"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"


# --- the command


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ValueError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes, checks or prints the page.

    Returns:
      The exit code: 0 done, 1 the page is not what it should be, 2 wrong options.
    """
    parser = _Parser(
        prog="python -m deploy.capacity", description="Writes deploy/CAPACITY.md; with assumptions, prints such a page."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page differs")
    for field in dataclasses.fields(Given):
        kind = int if field.type == "int" else float
        parser.add_argument(
            f"--{field.name}", type=kind, default=argparse.SUPPRESS, metavar="X", help=f"(default: {field.default})"
        )
    try:
        options = vars(parser.parse_args(argv))
        check = options.pop("check")
        text = page(Given(**options))
    except ValueError as error:
        return refused([str(error)], parser.prog)
    if options:
        return shown(text.removesuffix("\n"), parser.prog)
    if not check:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        tell(f"{PAGE} is not what its script writes; run python -m deploy.capacity")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
