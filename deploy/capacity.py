"""Plans what a run of so many examples takes: engine, workers, requests in flight, hours, tokens, files, memory.

    python -m deploy.capacity                              writes deploy/CAPACITY.md
    python -m deploy.capacity --check                      says whether that page is what this would write
    python -m deploy.capacity --requests_per_minute=600    prints the page for figures of your own

Only the standard library is needed. Everything is computed from the figures below: measured ones say where they were
measured, limits say whose they are, and assumptions are options.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textmint.pipelines.cli.terminal import shown, tell, tell_lines

PAGE = Path(__file__).with_name("CAPACITY.md")
SIZES = tuple(10**power for power in range(4, 10))

# --- measured, on two cores of 2026, Python 3.11, Beam 2.77

# One machine; README, "Real models" and "Rows that are worth training on" (./run.sh bench, benchmarks.quality,
# benchmarks.near_duplicates).
CPU_MS_ASKING = 0.46  # a row, from its draft to its file: 16,000 rows, openai, no latency, start-up included
CPU_MS_CHECKING = 0.04 + 0.14  # a row: checks of an example by itself, its language
CPU_MS_COMPARING = 0.30  # a row: with all others
EFFICIENCY = {64: 0.96, 256: 0.89}  # by requests in flight in one process, the share that really is

# `python -m benchmarks.scale --rows=10000,100000,1000000`: the embedded model, all checks, one process.
LOCAL_PEAK_MB = {10_000: 460, 100_000: 830, 1_000_000: 1_320}  # by examples asked for, the peak of memory
LOCAL_DISK_KB_A_ROW = 4  # of what is put aside while it runs, beside the ledger and the data
LOCAL_MOST_ROWS = max(LOCAL_PEAK_MB)  # more was not measured

# `python -m benchmarks.volumes --rows=16000`
LEDGER_BYTES = 39  # a reply, beside its text
EXAMPLE_BYTES = 86  # a row of examples, beside its text
TRIPLET_BYTES = 62  # a row of triplets, beside its text
PROSE_BYTES = 0.56  # a character of prose in Parquet with zstd
SHUFFLE_BYTES = 2_830  # a row, over all groupings of the graph, beside its text
SHUFFLE_BYTES_A_CHARACTER = 1.0  # of its reply

# The graph translated for Dataflow (`generate --dry_run`), with planned labels, verification, exclusions, and 20,000
# ledger files and 10,000 published ones of earlier runs: neither these nor brainstorm requests make it larger.
JOB_BYTES = 370_000

# The templates that come with textmint, 1,110 characters filled in, and the embedded author's replies, 600 at the
# lengths of the paper's num_words; at four characters a token (OpenAI's rule of thumb for English).
PROMPT_TOKENS = 280
OUTPUT_TOKENS = 150
CHARACTERS_A_TOKEN = 4

# --- set in the code; tests/deploy/test_capacity.py holds that they are the same there

BATCH_REPLIES = 256  # transforms/ledger/writer.py: of one file on an object store, at most ...
BATCH_SECONDS = 30  # ... and so long it is waited for
FOLDED_BYTES = 64 << 20  # transforms/ledger/merge_journals.py: replies unpacked in one file, on a disk or compacted
FOOTER_READERS = 16  # transforms/ledger/files.py: ledger files that are looked at at once when a run is launched
SHARD_BYTES = 128 << 20  # transforms/dataset/write_dataset.py: of a data file
BUCKET_ROWS = 2_000  # transforms/dataset/write_dataset.py: rows that are sorted together
MOST_GROUPS = 65_536  # transforms/ledger/join_ledger.py: in which drafts are handed to workers ...
GROUP_ROWS = 1_000  # ... of so many rows, while that is enough
TASKS_A_REQUEST = 20  # pipelines/options/parse.py

# --- limits of others

JOB_LIMIT_BYTES = 10_000_000  # https://cloud.google.com/dataflow/quotas, "maximum size for a job creation request"

# --- assumed, beside what options say

DATAFLOW_CPU = 2.0  # what Dataflow's own work, shuffling for the most part, makes of a row's CPU
BUSY = 0.8  # of a core, before requests begin to wait for it
MOST_IN_FLIGHT = max(EFFICIENCY)  # in one process; more was not measured
MEMORY_SHARE = 0.6  # of a machine's memory that a run should plan with
PATIENCE_SECONDS = 600  # that a launch may look at the ledger before that is worth a word
SECONDS_A_READ = 0.05  # of a small object, and of a page of 1,000 names
PROCESS_MB = 400  # of a worker process, before it holds data
ROW_KB = 4  # of a row that a worker holds as an element, with its prompt and its reply


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What is assumed of the model and the machines; each is an option."""

    requests_per_minute: float = 6_000  # the quota of the endpoint, of all workers together
    latency: float = 2.0  # seconds that a reply takes, median
    sigma: float = 0.6  # of the latencies' logarithms; what ./run.sh bench plays
    prompt_tokens: float = PROMPT_TOKENS  # of an example, mean
    output_tokens: float = OUTPUT_TOKENS
    examples_per_task: int = 20  # as the option of generate
    asked_again: float = 0.02  # share of replies that cannot be read
    max_concurrency: int = 64  # as the option of generate: requests in flight in one process
    cores: int = 4  # of the machine, or of a worker; Dataflow starts a process for each
    memory_gb: float = 16  # of the machine, or of a worker
    hours: float = 24  # in which the second table is to be done
    prompt_price: float | None = None  # of a million tokens, in any currency
    output_price: float | None = None

    def __post_init__(self) -> None:
        above_zero = (
            "requests_per_minute",
            "latency",
            "output_tokens",
            "examples_per_task",
            "max_concurrency",
            "cores",
        )
        for name in above_zero:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"--{name} is {getattr(self, name)}; it must be above 0")
        for name in ("sigma", "prompt_tokens", "prompt_price", "output_price"):
            if (value := getattr(self, name)) is not None and not 0 <= value < math.inf:
                raise ValueError(f"--{name} is {value}; it must be 0 or more")
        if not 0 <= self.asked_again < 1:
            raise ValueError(f"--asked_again is {self.asked_again}; it must be from 0 to below 1")

    @property
    def mean_latency(self) -> float:
        """Seconds; of a lognormal distribution."""
        return self.latency * math.exp(self.sigma**2 / 2)

    @property
    def characters(self) -> float:
        """Characters of a reply."""
        return self.output_tokens * CHARACTERS_A_TOKEN


CPU_MS = CPU_MS_ASKING + CPU_MS_CHECKING + CPU_MS_COMPARING


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes."""

    rows: int  # examples asked for
    engine: str  # LOCAL or DATAFLOW
    requests: int  # that are answered: of examples, of those asked again, of lists of tasks
    rate: float  # answers a second
    in_flight: int  # requests
    workers: int  # machines
    concurrency: int  # in flight in one process, `--max_concurrency`
    processes: int  # on all machines together
    limit: str  # what holds the rate where it is

    @property
    def hours(self) -> float:
        """Until the last reply."""
        return self.requests / self.rate / 3600


LOCAL = "one machine"
DATAFLOW = "Dataflow"


def efficiency(in_flight: int) -> float:
    """Returns the share of the requests in flight in one process that really is, in steps of what was measured."""
    return next((share for most, share in sorted(EFFICIENCY.items()) if in_flight <= most), EFFICIENCY[MOST_IN_FLIGHT])


def list_requests(rows: int, given: Given) -> int:
    """Computes the brainstorm requests that bring the tasks of so many examples."""
    return math.ceil(rows / given.examples_per_task / TASKS_A_REQUEST)


def requests_for(rows: int, given: Given) -> int:
    """Computes the requests that are answered, and so paid for."""
    return math.ceil(rows * (1 + given.asked_again)) + list_requests(rows, given)


def local_rate(given: Given, concurrency: int) -> float:
    """Computes the answers a second that one machine can take in, with a process for each core, whatever the quota."""
    by_flight = given.cores * concurrency * efficiency(concurrency) / given.mean_latency
    return min(by_flight, given.cores * BUSY * 1000 / CPU_MS)


def local_mb(rows: int) -> float:
    """Returns the peak of memory of a run on one machine, in MB, in steps of what was measured."""
    return next((peak for most, peak in sorted(LOCAL_PEAK_MB.items()) if rows <= most), LOCAL_PEAK_MB[LOCAL_MOST_ROWS])


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
        while concurrency < most and concurrency * efficiency(concurrency) < in_flight:
            concurrency = min(most, 2 * concurrency)  # more of it first, then more processes
        workers = 1
        processes = math.ceil(in_flight / (concurrency * efficiency(concurrency)))
        processes = min(given.cores, max(processes, math.ceil(reached * CPU_MS / 1000 / BUSY)))
    else:
        by_flight = math.ceil(in_flight / (concurrency * efficiency(concurrency)) / given.cores)
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


def to_mind(planned: Plan, given: Given) -> list[str]:
    """Names the bottlenecks below the table of plans that concern a plan."""
    found = ["disk"] if planned.engine == LOCAL and disk_gb(planned) >= 1 else []
    if peak_gb(planned, given) > MEMORY_SHARE * given.memory_gb:
        found.append("memory")
    if planned.engine == DATAFLOW and launch_seconds(ledger_files(planned, given)) > PATIENCE_SECONDS:
        found.append("a look at the ledger")
    return found


# --- volumes


def ledger_bytes(requests: int, given: Given) -> float:
    """Computes the bytes of the ledger in Parquet."""
    return requests * (LEDGER_BYTES + PROSE_BYTES * given.characters)


def ledger_files(planned: Plan, given: Given) -> int:
    """Computes the files of the ledger when the run ends. On a local disk journals are merged into large ones; on an
    object store each process writes what came in half a minute, and no more than 256 replies."""
    if planned.engine != DATAFLOW:
        return compacted_files(planned.requests, given)
    of_one_process = planned.rate / planned.processes
    return math.ceil(planned.requests / min(BATCH_REPLIES, max(1.0, of_one_process * BATCH_SECONDS)))


def compacted_files(requests: int, given: Given) -> int:
    """Computes the files of the ledger after `ledger --compact`."""
    return math.ceil(requests * (given.characters + 250) / FOLDED_BYTES)


def launch_seconds(files: int) -> float:
    """Computes the seconds in which the next run looks at so many files on an object store: their names by thousands,
    then the end of each."""
    return (files / 1000 + files / FOOTER_READERS) * SECONDS_A_READ


def compacting_seconds(files: int) -> float:
    """Computes the seconds in which `ledger --compact` merges so many files on an object store, one after the other."""
    return launch_seconds(files) + files * SECONDS_A_READ


def data_bytes(rows: int, given: Given) -> float:
    """Computes the bytes of examples and triplets."""
    return rows * (EXAMPLE_BYTES + TRIPLET_BYTES + 2 * PROSE_BYTES * given.characters)


def data_files(rows: int, given: Given) -> int:
    """Computes the files of examples and triplets."""
    text = PROSE_BYTES * given.characters
    return sum(math.ceil(rows * (fixed + text) / SHARD_BYTES) for fixed in (EXAMPLE_BYTES, TRIPLET_BYTES))


def shuffle_bytes(rows: int, given: Given) -> float:
    """Computes the bytes that go through groupings."""
    return rows * (SHUFFLE_BYTES + SHUFFLE_BYTES_A_CHARACTER * given.characters)


def disk_gb(planned: Plan) -> float:
    """Computes the disk that a run on one machine needs while it goes on, beside the ledger and the data."""
    return planned.rows * LOCAL_DISK_KB_A_ROW / 1e6 if planned.engine == LOCAL else 0.0


def peak_gb(planned: Plan, given: Given) -> float:
    """Computes the memory on a machine: of all processes of a local run, or of a worker with its processes."""
    if planned.engine == LOCAL:
        return (local_mb(planned.rows) + (planned.processes - 1) * PROCESS_MB) / 1000
    group = max(GROUP_ROWS, planned.rows / MOST_GROUPS) * ROW_KB / 1000
    sizes = planned.rows / BUCKET_ROWS * 2 * 0.2 / 1000  # of each chunk of examples and triplets, 200 bytes in Python
    return given.cores * (PROCESS_MB + group + sizes + 3 * SHARD_BYTES / 1e6) / 1000


def cpu_hours(planned: Plan) -> float:
    """Computes the CPU hours of all machines together."""
    return planned.rows * CPU_MS * (DATAFLOW_CPU if planned.engine == DATAFLOW else 1) / 3.6e6


def tokens(rows: int, given: Given) -> tuple[float, float]:
    """Computes the tokens of prompts and of replies. A list of tasks takes about what an example does."""
    requests = requests_for(rows, given)
    return requests * given.prompt_tokens, requests * given.output_tokens


# --- the page


def page(given: Given) -> str:
    """Renders the page, in Markdown."""
    by_quota = [plan(rows, given) for rows in SIZES]
    in_hours = [plan(rows, given, requests_for(rows, given) / given.hours / 3600) for rows in SIZES]
    parts = [
        "# Capacity",
        "What a run of 10,000 to 1,000,000,000 examples takes. Written by `python -m deploy.capacity`: measured "
        "figures, and where they were measured, stand at the head of that script. Every assumption is an option: "
        "`python -m deploy.capacity --requests_per_minute=600 --latency=5` prints this page for your own. No price "
        "is told here, since they change: `--prompt_price=P --output_price=O`, of a million tokens, adds the sum.",
        f"Assumed: a quota of {_count(given.requests_per_minute)} requests a minute; replies of "
        f"{given.output_tokens:g} tokens to prompts of {given.prompt_tokens:g}, after {given.latency:g} s (the median; "
        f"lognormal with sigma {given.sigma:g}, so {given.mean_latency:.2f} s in the mean); {given.examples_per_task} "
        f"examples a task; {given.asked_again:.0%} of the replies asked for again; machines of {given.cores} cores and "
        f"{given.memory_gb:g} GB. Examples are those that are asked for: how many of them checks refuse depends on the "
        "model.",
        "## At this quota",
        _plans(by_quota, given),
        f"## Within {given.hours:g} hours",
        "What the quota would have to be, and what could use it.",
        _plans(in_hours, given, needs_quota=True),
        "## What it moves and leaves behind",
        _volumes(by_quota, given),
        "Tokens are those that are paid for; a list of tasks is counted like an example. The last columns are how long "
        "the next run looks at the ledger on an object store before it starts, and how long `ledger --compact` takes, "
        "after which that is a matter of seconds.",
        "## What becomes the bottleneck, and what to change",
        _bottlenecks(given),
        f"On Dataflow a row is taken to cost {DATAFLOW_CPU:g} times the CPU of one machine. That was not measured.",
    ]
    return "\n\n".join(parts) + "\n"


def _plans(plans: Sequence[Plan], given: Given, *, needs_quota: bool = False) -> str:
    head = ["examples", "engine", "machines", "processes", "max_concurrency", "in flight", "requests a minute", "hours"]
    rows = [
        [
            _count(one.rows),
            one.engine,
            _count(one.workers),
            _count(one.processes),
            _count(one.concurrency),
            _count(one.in_flight),
            _count(one.rate * 60),
            _hours(one.hours),
        ]
        for one in plans
    ]
    if not needs_quota:
        head += ["CPU hours", "held by", "to mind"]
        more = [[_hours(cpu_hours(one)), one.limit, ", ".join(to_mind(one, given)) or "-"] for one in plans]
        rows = [row + cells for row, cells in zip(rows, more, strict=True)]
    return _table(head, rows)


def _volumes(plans: Sequence[Plan], given: Given) -> str:
    prices = given.prompt_price, given.output_price
    priced = prices[0] is not None and prices[1] is not None
    head = ["examples", "prompt tokens", "output tokens", *(["price"] if priced else []), "ledger", "its files"]
    head += ["compacted", "data", "its files", "shuffled", "peak memory of a machine", "disk, put aside"]
    head += ["next launch", "compacting"]
    rows = []
    for one in plans:
        prompt, output = tokens(one.rows, given)
        price = [_count((prompt * (prices[0] or 0) + output * (prices[1] or 0)) / 1e6)] if priced else []
        files = ledger_files(one, given)
        then = ["-", "-"]
        if one.engine == DATAFLOW:
            then = [_seconds(launch_seconds(files)), _seconds(compacting_seconds(files))]
        rows.append(
            [
                _count(one.rows),
                _short(prompt),
                _short(output),
                *price,
                _bytes(ledger_bytes(one.requests, given)),
                _count(files),
                _count(min(files, compacted_files(one.requests, given))),
                _bytes(data_bytes(one.rows, given)),
                _count(data_files(one.rows, given)),
                _bytes(shuffle_bytes(one.rows, given)),
                f"{peak_gb(one, given):.1f} GB",
                f"{disk_gb(one):.1f} GB" if one.engine == LOCAL else "-",
                *then,
            ]
        )
    return _table(head, rows)


def _bottlenecks(given: Given) -> str:
    one = given.max_concurrency * efficiency(given.max_concurrency) / given.mean_latency
    wide = MOST_IN_FLIGHT * efficiency(MOST_IN_FLIGHT) / given.mean_latency
    rows = {
        "requests in flight": (
            f"{_count(one * 60)} requests a minute, all that {given.max_concurrency} in flight get from a model of "
            f"{given.mean_latency:.2f} s",
            f"`--max_concurrency={MOST_IN_FLIGHT}` ({_count(wide * 60)} a minute; more was not measured), then more "
            "processes (`--direct_num_workers`), then workers",
        ),
        "quota": (
            "the rate of the first table; no engine is faster",
            "a higher quota, another region or model. `--requests_per_minute` caps each of the processes that share it",
        ),
        "CPU": (
            f"{_count(BUSY * 60_000 / CPU_MS)} requests a minute and core: {CPU_MS:.2f} ms a row, "
            f"{CPU_MS_COMPARING:.2f} of them to compare it with all others",
            "more processes; `--checks` without near_duplicate",
        ),
        "memory": (
            f"a machine with less than {peak_gb(plan(LOCAL_MOST_ROWS, given), given) / MEMORY_SHARE:.0f} GB for "
            f"{_count(LOCAL_MOST_ROWS)} rows; on Dataflow a worker with less than "
            f"{peak_gb(plan(SIZES[-1], given), given) / MEMORY_SHARE:.0f} GB for {_count(SIZES[-1])}",
            "`--direct_num_workers=1`; workers with more memory a core",
        ),
        "disk": (
            f"{LOCAL_DISK_KB_A_ROW} KB a row while a run on one machine goes on, beside the data: what is shuffled and "
            f"does not fit into memory. So memory stays at {LOCAL_PEAK_MB[LOCAL_MOST_ROWS] / 1000:.1f} GB for "
            f"{_count(LOCAL_MOST_ROWS)} rows",
            "a disk with room; `--checks` without near_duplicate takes less than half",
        ),
        "one machine": (
            f"{_count(LOCAL_MOST_ROWS)} rows, the most that was measured, or "
            f"{_count(local_rate(given, MOST_IN_FLIGHT) * 60)} requests a minute on {given.cores} cores",
            "Dataflow",
        ),
        "a look at the ledger": (
            f"{_seconds(launch_seconds(100_000))} at each launch for 100,000 files at {SECONDS_A_READ * 1000:.0f} ms a "
            f"read ({_count(100_000 * BATCH_REPLIES)} replies at {BATCH_REPLIES} a file, fewer where a process "
            f"gets less in {BATCH_SECONDS} s); compacting them, one after the other, "
            f"{_seconds(compacting_seconds(100_000))}",
            "`./run.sh ledger --compact` after each run of some ten million, not after the last; fewer processes with "
            "more requests each",
        ),
        "the job's graph": (
            f"never: {JOB_BYTES / 1e6:.1f} MB at most, of the {JOB_LIMIT_BYTES / 1e6:.0f} MB that Dataflow takes, "
            "however many brainstorm requests, tasks, ledger files and refreshes there are",
            "-",
        ),
    }
    return _table(["what", "from where on", "what to change"], [[name, *cells] for name, cells in rows.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    right = [all(not cell[:1].isalpha() and cell[:1] != "`" for cell in column) for column in zip(*rows, strict=True)]
    lines = [head, ["---:" if is_number else "---" for is_number in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _count(number: float) -> str:
    return f"{round(number):,}"


def _short(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return _count(number)


def _bytes(number: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.3g} MB"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 10 else _count(hours)


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"


# --- the command

_WHOLE = ("examples_per_task", "max_concurrency", "cores")


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            shown(message.removesuffix("\n"), self.prog)
        else:
            tell_lines(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes, checks or prints the page.

    Args:
      argv: arguments of the command line.

    Returns:
      The exit code: 0 done, 1 the page is not what it should be. Wrong options exit with 2.
    """
    parser = _Parser(
        prog="python -m deploy.capacity", description="Writes deploy/CAPACITY.md; with assumptions, prints such a page."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page differs")
    for field in dataclasses.fields(Given):
        kind = int if field.name in _WHOLE else float
        parser.add_argument(f"--{field.name}", type=kind, metavar="X", help=f"(default: {field.default})")
    options = vars(parser.parse_args(argv))
    check = options.pop("check")
    typed = {name: value for name, value in options.items() if value is not None}
    try:
        text = page(Given(**typed))
    except ValueError as error:
        parser.error(str(error))
    if typed:
        return shown(text.removesuffix("\n"), parser.prog)
    if not check:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        tell(f"{PAGE} is not what its script writes; run python -m deploy.capacity")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
