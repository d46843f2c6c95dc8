"""The capacity page: that it is what its script writes, that its figures are those of the code, and its arithmetic."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.prompt_template import EXAMPLE_VARIABLES, shipped_template
from textmint.transforms.dataset import write_dataset
from textmint.transforms.ledger import files as ledger_files
from textmint.transforms.ledger import join_ledger
from textmint.transforms.ledger import writer as ledger_writer
from textmint.transforms.ledger.merge_journals import FILE_BYTES

from benchmarks import volumes
from deploy import capacity
from deploy.capacity import DATAFLOW, LOCAL, Given, page, plan

GIVEN = Given()

# --- the page


def test_the_page_is_what_the_script_writes() -> None:
    assert capacity.main(["--check"]) == 0, "run python -m deploy.capacity"
    sizes = re.findall(r"^\| (1[0,]+) \|", capacity.PAGE.read_text("utf-8"), flags=re.M)
    assert sizes == 3 * [f"{10**power:,}" for power in range(4, 10)]


def test_it_says_so_where_the_page_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capacity, "PAGE", tmp_path / "CAPACITY.md")
    assert capacity.main(["--check"]) == 1 and "run python -m deploy.capacity" in capsys.readouterr().err
    assert capacity.main([]) == 0 and capacity.main(["--check"]) == 0
    capacity.PAGE.write_text("other", "utf-8")
    assert capacity.main(["--check"]) == 1


def test_ones_own_figures_are_printed_and_written_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    before = capacity.PAGE.read_bytes()
    flags = ["--requests_per_minute=600", "--latency=5", "--prompt_price=0.5", "--output_price=2"]
    assert capacity.main(flags) == 0
    printed = capsys.readouterr().out
    assert "a quota of 600 requests a minute" in printed and "after 5 s (the median" in printed
    # 10,225 requests: 10,000, 2 % again, and 25 lists; 2.321075 M tokens at 0.5 and 1.53375 M at 2 make 4.228;
    # a reply of 600 characters takes 39 + 0.56 * 600 bytes in the ledger
    assert "| 10,000 | 2.32 M | 1.53 M | 4 | 3.83 MB | 1 |" in printed
    assert capacity.PAGE.read_bytes() == before
    assert "price |" not in before.decode(), "the page names no price"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--latency=0", "--latency is 0.0; it must be above 0"),
        ("--requests_per_minute=inf", "--requests_per_minute is inf"),
        ("--sigma=nan", "--sigma is nan"),
        ("--asked_again=1", "--asked_again is 1.0; it must be below 1"),
        ("--prompt_price=-1", "--prompt_price is -1.0; it must be a number from 0 upwards"),
        ("--cores=0", "--cores is 0; it must be above 0"),
        ("--cores=1.5", "invalid int value"),
        ("--wrkers=3", "unrecognized arguments"),
    ],
)
def test_impossible_figures_are_refused(flag: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main([flag]) == 2 and message in capsys.readouterr().err


# --- the figures are those of the code


def test_what_is_set_in_the_code_is_the_same_here() -> None:
    assert ledger_writer._BATCH_REPLIES == capacity.BATCH_REPLIES
    assert ledger_writer._BATCH_SECONDS == capacity.BATCH_SECONDS
    assert FILE_BYTES == capacity.MERGED_BYTES
    assert ledger_files._READERS == capacity.FOOTER_READERS
    assert write_dataset.SHARD_BYTES == capacity.SHARD_BYTES
    assert write_dataset.BUCKET_ROWS == capacity.BUCKET_ROWS
    assert join_ledger.shards_for(10**9) == capacity.MOST_GROUPS
    assert join_ledger.shards_for(10**6) * capacity.GROUP_ROWS == 10**6


def test_a_prompt_is_as_long_as_the_template_makes_it() -> None:
    prompt = shipped_template("classify").render(EXAMPLE_VARIABLES)
    assert len(prompt) / capacity.CHARACTERS_A_TOKEN == pytest.approx(capacity.PROMPT_TOKENS, rel=0.05)


def test_what_a_row_weighs_is_about_what_is_said() -> None:
    assert volumes.prose_ratio() == pytest.approx(capacity.PROSE_BYTES, abs=0.02)
    weighed = volumes.weigh(40, "at least 50")
    assert weighed.fixed["ledger"] == pytest.approx(capacity.LEDGER_BYTES, rel=2), "few rows compress badly"
    assert 2_000 < weighed.shuffled - weighed.chars < 6_000
    assert 150 < weighed.chars < 1_000


def test_all_columns_but_the_text_are_weighed(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 10_000] * 10, "id": [stable_hash("id", number) for number in range(10)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    assert 32 <= volumes.beside([tmp_path / "a.parquet"], ("text",)) < 60
    assert volumes.beside([tmp_path / "a.parquet"], ()) > 10_000


# --- its arithmetic


def test_latencies_and_littles_law() -> None:
    assert Given(latency=2, sigma=0).mean_latency == 2
    assert GIVEN.mean_latency == pytest.approx(2.394, abs=0.001)  # 2 exp(0.18)
    planned = plan(10_000, Given(latency=2, sigma=0))
    assert planned.rate == 100 and planned.in_flight == 200
    assert planned.requests == 10_000 + 200 + 25  # 2 % again; 500 tasks in lists of 20
    assert planned.hours == pytest.approx(10_225 / 6_000 / 60)


@pytest.mark.parametrize(
    ("rows", "given", "engine", "limit"),
    [
        (10_000, GIVEN, LOCAL, "quota"),
        (1_000_000, GIVEN, LOCAL, "quota"),
        (10_000_000, GIVEN, DATAFLOW, "quota"),
        (10_000, Given(requests_per_minute=60_000), LOCAL, "requests in flight"),
        (10_000, Given(requests_per_minute=600_000, latency=0.02), LOCAL, "CPU"),
    ],
)
def test_engines(rows: int, given: Given, engine: str, limit: str) -> None:
    planned = plan(rows, given)
    assert (planned.engine, planned.limit) == (engine, limit)


def test_what_is_too_fast_for_one_machine_goes_to_dataflow() -> None:
    planned = plan(1_000_000, GIVEN, rate=1_000)
    assert planned.engine == DATAFLOW
    # 2,395 in flight: 61.4 in each process that has 64, four of them a worker
    assert planned.workers == 10 and planned.limit == "hours"
    by_cpu = plan(1_000_000, Given(latency=0.01), rate=10_000)
    assert by_cpu.workers == math.ceil(10_000 * capacity.CPU_MS * 2 / 1000 / 0.8 / 4)


@examples(
    st.integers(1, 10**9),
    st.builds(
        Given,
        requests_per_minute=st.floats(1, 10**6),
        latency=st.floats(0.01, 100),
        sigma=st.floats(0, 1.5),
        max_concurrency=st.integers(1, 512),
        cores=st.integers(1, 64),
        memory_gb=st.floats(1, 512),
        examples_per_task=st.integers(1, 1000),
    ),
    st.one_of(st.none(), st.floats(0.01, 20_000)),
)
def test_a_plan_holds_what_it_says(rows: int, given: Given, rate: float | None) -> None:
    planned = plan(rows, given, rate)
    wanted = given.requests_per_minute / 60 if rate is None else rate
    assert 0 < planned.rate <= wanted
    assert planned.requests >= rows
    room = planned.processes * capacity.per_process(planned.concurrency)
    assert planned.in_flight <= math.ceil(room) and planned.in_flight >= planned.rate * given.mean_latency - 1e-6
    assert 1 <= planned.processes <= planned.workers * given.cores
    assert planned.engine == DATAFLOW or planned.workers == 1
    assert planned.rate == wanted or planned.engine != DATAFLOW
    assert 1 <= capacity.ledger_files(planned, given) <= 4 * planned.requests
    assert capacity.peak_gb(planned, given) > 0
    assert page(given)


def test_ledger_files_and_the_next_launch() -> None:
    fast, slow = plan(10**7, GIVEN), plan(10**7, Given(requests_per_minute=600))
    assert capacity.ledger_files(fast, GIVEN) == math.ceil(fast.requests / 256)
    assert capacity.ledger_files(slow, GIVEN) == math.ceil(slow.requests / 75)  # 2.5 a second and process, 30 s
    assert capacity.launch_seconds(16_000) == pytest.approx(50.8)  # 16 pages, and 1,000 reads of each of 16 readers


def test_memory_is_that_of_the_next_size_that_was_measured() -> None:
    peaks = [capacity.measured(capacity.LOCAL_PEAK_MB, rows) for rows in (1, 10_001, 100_000, 100_001, 10**9)]
    assert peaks == [460, 830, 830, 1_320, 1_320]
