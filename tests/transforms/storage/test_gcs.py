"""gs:// against a store in a process of its own, with Google's client: output, ledger, tasks and exclusions; and a
store that is killed, out of order, or not ours to use."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from google.cloud.storage import Blob
from textmint.transforms.core.errors import FileChangedError, StoreError
from textmint.transforms.ledger.files import ledger_files
from textmint.transforms.ledger.table import read_replies
from textmint.transforms.storage import files, gcs, lease
from textmint.transforms.storage.lease import LeaseTakenError, hold, holders, path_of, require

from tests.support import waiting
from tests.support.gcs_server import GcsServer
from tests.support.helpers import ROOT, Done, files_of, run_main, write_tasks
from tests.support.llm_server import LlmServer

OUT = "gs://data/out"
IN_FLIGHT = 16
ROWS = 600
BATCH = 64  # instead of 256 replies, so that fewer rows will do
MOST_LOST = 2 * BATCH + IN_FLIGHT
"""Replies that SIGKILL may cost: two batches, as README says, and what is in flight."""
TWO = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    buckets = ("data", "readable:get+list", "writable:create", "nothing:", "private:login")
    with GcsServer(tmp_path_factory.mktemp("gcs") / "objects", buckets) as started:
        yield started


@pytest.fixture
def cloud(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> GcsServer:
    """The store, empty and up, where this process and its children find it."""
    server.clear()
    monkeypatch.setenv(gcs.EMULATOR, server.url)
    return server


@pytest.fixture(scope="module")
def llm() -> Iterator[LlmServer]:
    with LlmServer() as started:
        yield started


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks.txt", ROWS)


def objects_of(cloud: GcsServer, folder: str = "out") -> dict[str, bytes]:
    """Returns the objects below a folder, by their path in it."""
    return {
        name.removeprefix(f"{folder}/"): content
        for name, content in cloud.objects().items()
        if name.startswith(f"{folder}/")
    }


def data_of(cloud: GcsServer, folder: str = "out") -> dict[str, bytes]:
    """Returns what `files_of` does of a local folder."""
    found = objects_of(cloud, folder).items()
    return {name: content for name, content in found if re.fullmatch(r"[a-z]\w*/refresh=[^/]+/[^/]+", name)}


def generate(*flags: str) -> Done:
    done = run_main("generate", *flags)
    assert done.code == 0, done.err
    return done


# --- a run


@pytest.mark.parametrize("option", ["tasks", "exclude"])
def test_a_cut_off_object_is_refused_before_anything_is_paid_for(cloud: GcsServer, option: str) -> None:
    whole = gzip.compress("".join(f"Sort letters of drawer {n} by tone\n" for n in range(400)).encode())
    files.write_file("gs://data/in/a.txt.gz", whole[:-9])
    done = run_main("generate", f"--{option}=gs://data/in/*", f"--output={OUT}")
    assert done.code == 2
    assert f"--{option} gs://data/in/a.txt.gz: line " in done.err and "is cut off" in done.err
    assert objects_of(cloud) == {}


def test_rows_are_those_of_a_local_disk(cloud: GcsServer, tmp_path: Path) -> None:
    """Two labels; tasks and exclusions lie in the bucket as well, some of them compressed."""
    local = tmp_path / "in"
    local.mkdir()
    for number in range(2):
        lines = "".join(f"Sort letters of drawer {number}{letter} by tone\n" for letter in "abcdef").encode()
        name, content = (f"{number}.txt.gz", gzip.compress(lines)) if number == 1 else (f"{number}.txt", lines)
        (local / name).write_bytes(content)
        files.write_file(f"gs://data/in/{name}", content)
    first = ["--tasks={}/*.txt*", "--examples_per_task=3"]
    # What the run would make anyhow is excluded: so it is seen to be read.
    generate(f"--output={tmp_path / 'all'}", *(flag.format(local) for flag in first))
    examples = pq.read_table(next((tmp_path / "all/examples/refresh=base").glob("*.parquet"))).to_pylist()
    excluded = "".join(f"{' '.join(row['input_text'].split())}\n" for row in examples[:2]).encode()
    (local / "no").mkdir()
    (local / "no" / "texts.txt").write_bytes(excluded)
    files.write_file("gs://data/in/no/texts.txt", excluded)
    for label in ("a", "b"):
        for folder, output in ((str(local), str(tmp_path / "out")), ("gs://data/in", OUT)):
            more = [f"--exclude={folder}/no/*.txt", f"--refresh={label}", f"--output={output}"]
            flags = ["--task_requests=1"] if label == "b" else [flag.format(folder) for flag in first]
            flags += TWO if label == "b" and output == OUT else []
            generate(*flags, *more)
    found = objects_of(cloud)
    # A reject names the file of the text that it is like, which is another here than there.
    there = {name: content for name, content in data_of(cloud).items() if "rejects/refresh=a" not in name}
    assert there == {name: content for name, content in files_of(tmp_path / "out").items() if name in there}
    assert len(there) == len(files_of(tmp_path / "out")) - 1 == 7
    kept = sum(row["rows"] for row in json.loads(found["manifest.json"])["refreshes"]["a"]["files"]["examples"])
    assert kept <= len(examples) - 2
    assert set(json.loads(found["manifest.json"])["refreshes"]) == {"a", "b"}
    assert found["README.md"] == (tmp_path / "out" / "README.md").read_bytes()
    pages = {"README.md", "report.html", "manifest.json", "statistics.json"}
    tops = {"examples", "triplets", "tasks", "rejects", "ledger", *pages}
    assert {name.split("/")[0] for name in found} == tops  # neither leases nor anything staged
    assert not [name for name in found if name.startswith("ledger/_")]


def test_what_a_run_asks_of_the_store(cloud: GcsServer) -> None:
    """Some sixty requests, whatever the number of rows, and two for each 256 replies; no permission on the bucket
    itself; and a second run, which finds nothing to do, writes nothing but its lease."""
    flags = [f"--output={OUT}", "--task_requests=2", "--examples_per_task=2"]
    generate(*flags)
    asked = cloud.stats()["counts"]
    assert sum(asked.values()) < 75, asked
    assert set(asked) <= {"list", "get", "download", "upload", "copy", "delete"}
    before = objects_of(cloud)
    cloud.play()
    assert "there is nothing to do" in generate(*flags).err
    assert objects_of(cloud) == before
    written = [line for line in cloud.stats()["log"] if line.startswith("upload")]
    assert ["_staging/write-test" in line or "_leases/" in line for line in written] == [True, True]
    done = run_main("ledger", f"--output={OUT}", "--compact")
    assert done.code == 0, done.err
    assert "2 files before, 1 file now" in done.out
    assert "there is nothing to do" in generate(*flags).err


FAULTS: list[dict[str, Any]] = [
    {"status": 503},
    {"status": "reset", "done": True},  # the answer is lost
    {"status": 429},
    {"status": "reset"},
]


@pytest.mark.parametrize("first", [0, 1])
def test_a_store_that_fails_now_and_then(
    cloud: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """At each kind of request; nothing is lost, nor there twice."""
    monkeypatch.setattr(gcs, "_RETRY", gcs._RETRY.with_delay(initial=0.05, maximum=0.1))
    flags = ["--task_requests=1", "--num_words=less than 10"]
    generate(*flags, f"--output={tmp_path}")
    places = ["list .*ledger", "upload .*ledger/r", "copy .*examples", "upload .*manifest", "upload .*_leases"]
    places += ["delete .*_staging/refresh", "upload .*README", "download .*_leases", "download .*manifest"]
    played = [{"match": place, **FAULTS[(first + at) % 4]} for at, place in enumerate(places)]
    cloud.play(*played, *({**rule, **FAULTS[(first + at) % 2]} for at, rule in enumerate(played)))
    generate(*flags, f"--output={OUT}")
    assert data_of(cloud) == files_of(tmp_path)
    assert list(json.loads(objects_of(cloud)["manifest.json"])["refreshes"]) == ["base"]
    assert not [name for name in objects_of(cloud) if name.startswith("_")]


# --- killed, and a store that is gone for a while or for good


def flags_of(llm: LlmServer, tasks: Path, output: str | Path, *more: str) -> list[str]:
    url = f"--base_url={llm.base_url}/v1"
    shared = ["--llm=openai", "--model=m", url, f"--max_concurrency={IN_FLIGHT}", "--examples_per_task=1"]
    return ["generate", *shared, f"--tasks={tasks}", f"--output={output}", *more]


@contextlib.contextmanager
def started(*arguments: str, script: str = "") -> Iterator[subprocess.Popen[str]]:
    """While the `with` block runs, a process of its own does, with smaller batches."""
    program = f"""
from textmint.transforms.storage import gcs, lease
from textmint.transforms.ledger import writer as ledger_writer
ledger_writer._BATCH_REPLIES, ledger_writer._MOST_WAITING = {BATCH}, {2 * BATCH}
{script}
from textmint.pipelines.__main__ import program
program()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield run
    finally:
        run.kill()
        run.wait()
        assert run.stderr is not None
        run.stderr.close()


wait_until = functools.partial(waiting.wait_until, seconds=40)  # for whole programs


@pytest.fixture(scope="module")
def whole(llm: LlmServer, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Returns the files of a run that nobody disturbed, on a local disk."""
    folder = tmp_path_factory.mktemp("whole")
    llm.reset()
    done = run_main(*flags_of(llm, tasks, folder))
    assert done.code == 0, done.err
    return files_of(folder)


def kept_in(output: str) -> int:
    """Counts the replies in the ledger."""
    found = ledger_files(f"{output}/ledger")
    return sum(read_replies(files.read_file(file.path), name=file.name).num_rows for file in found)


def has_kept_some(cloud: GcsServer) -> bool:
    return any("ledger/replies" in name for name in cloud.objects())


def test_killed_it_pays_again_for_what_was_not_written(
    cloud: GcsServer, llm: LlmServer, tasks: Path, whole: dict[str, bytes]
) -> None:
    llm.reset(latency_median_ms=20)
    with started(*flags_of(llm, tasks, OUT)) as run:
        wait_until(lambda: llm.stats()["answered"] >= ROWS // 2, run)
        run.kill()
        assert run.wait() == -signal.SIGKILL
    kept, paid = kept_in(OUT), llm.stats()["answered"]
    assert 0 < paid - kept <= MOST_LOST
    assert data_of(cloud) == {}  # nothing under the dataset's names
    llm.reset()
    done = run_main(*flags_of(llm, tasks, OUT))  # the lease of the killed one is no hindrance
    assert done.code == 0, done.err
    assert llm.stats()["answered"] == ROWS - kept
    assert data_of(cloud) == whole
    assert not [name for name in objects_of(cloud) if name.startswith("_")]


def test_a_store_that_is_killed_and_started_again_in_the_middle_of_a_run(
    cloud: GcsServer, llm: LlmServer, tasks: Path, whole: dict[str, bytes]
) -> None:
    """While it is gone no more is paid for than what a kill may cost; then all goes on, and nothing is lost."""
    llm.reset(latency_median_ms=20)
    with started(*flags_of(llm, tasks, OUT)) as run:
        wait_until(lambda: has_kept_some(cloud), run)
        before = llm.stats()["answered"]
        cloud.kill()
        paid = -1
        while (now := llm.stats()["answered"]) > paid:  # until it waits
            paid = now
            time.sleep(1.5)
        assert paid - before <= MOST_LOST and paid < ROWS
        cloud.start()
        _, err = run.communicate(timeout=40)
        assert run.returncode == 0, err
    assert llm.stats()["answered"] == ROWS
    assert llm.stats()["paid_twice"] == 0
    assert kept_in(OUT) == ROWS
    assert data_of(cloud) == whole


IMPATIENT = """
gcs.PATIENCE_SECONDS = 0.5
lease._PATIENCE_AT_END_SECONDS = 0.1
ledger_writer._TRY_AGAIN_SECONDS = (0.1, 0.1, 0.1)
"""


def test_a_store_that_is_gone_for_good(cloud: GcsServer, llm: LlmServer, tasks: Path, whole: dict[str, bytes]) -> None:
    llm.reset(latency_median_ms=20)
    with started(*flags_of(llm, tasks, OUT), script=IMPATIENT) as run:
        wait_until(lambda: has_kept_some(cloud), run)
        cloud.kill()
        _, err = run.communicate(timeout=40)
        assert run.returncode == 1, err
    told = [line for line in err.splitlines() if "the run failed" in line]
    assert len(told) == 1
    assert f"{OUT}/ledger cannot be written" in told[0]
    assert "does not answer (Connection refused)" in told[0]
    assert "replies that were paid for are not kept" in told[0]
    assert "Traceback" not in err
    paid = llm.stats()["answered"]
    cloud.start()
    kept = kept_in(OUT)
    assert 0 < paid - kept <= MOST_LOST
    llm.reset()
    done = run_main(*flags_of(llm, tasks, OUT))
    assert done.code == 0, done.err
    assert llm.stats()["answered"] == ROWS - kept
    assert data_of(cloud) == whole


def test_a_publication_that_fails_is_told_and_done_by_the_next_run(cloud: GcsServer, llm: LlmServer) -> None:
    llm.reset()
    flags = ["generate", "--llm=openai", "--model=m", f"--base_url={llm.base_url}/v1", "--task_requests=1"]
    cloud.play({"match": "upload .*manifest.json", "times": -1, "status": 403, "message": "Retention policy"})
    done = run_main(*flags, f"--output={OUT}")
    assert done.code == 1
    told = [line for line in done.err.splitlines() if "the run failed" in line]
    assert len(told) == 1
    assert f"{OUT}/manifest.json cannot be written: 403 Retention policy; what was published before" in told[0]
    assert "Traceback" not in done.err
    paid = llm.stats()["answered"]
    cloud.play()
    done = run_main(*flags, f"--output={OUT}")
    assert done.code == 0, done.err
    assert llm.stats()["answered"] == paid
    assert not [name for name in objects_of(cloud) if name.startswith("_")]


# --- two at the same time


def test_no_change_of_a_file_is_lost(cloud: GcsServer) -> None:
    """As the entries of two labels that are published at the same moment."""
    path, writers, rounds = f"{OUT}/manifest.json", 4, 8

    def add(name: str) -> None:
        for number in range(rounds):
            line = f"{name}{number}\n".encode()
            files.update_file(path, lambda old, line=line: (old or b"") + line)

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    lines = files.read_file(path).decode().split()
    assert sorted(lines) == sorted(f"{name}{number}" for name in "abcd" for number in range(rounds))
    assert cloud.stats()["counts"]["upload"] > writers * rounds  # some had to look again


def test_a_label_that_is_published_meanwhile_keeps_its_entry(cloud: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's manifest is written between this one's look at it and its own."""
    generate(f"--output={OUT}", "--task_requests=1", "--refresh=a")
    content = json.loads(files.read_file(f"{OUT}/manifest.json"))
    content["refreshes"]["other"] = content["refreshes"]["a"]
    real, came = gcs.write, []

    def write(path: str, *args: Any, **kwargs: Any) -> None:
        if path.endswith("manifest.json") and not came:
            came.append(path)
            real(path, json.dumps(content).encode())
        real(path, *args, **kwargs)

    monkeypatch.setattr(gcs, "write", write)
    generate(f"--output={OUT}", "--task_requests=1", "--refresh=b")
    assert set(json.loads(files.read_file(f"{OUT}/manifest.json"))["refreshes"]) == {"a", "b", "other"}


def test_a_second_run_of_a_label_is_refused(cloud: GcsServer, llm: LlmServer, tasks: Path) -> None:
    llm.reset()
    put_lease(expires=time.time() + 100)
    done = run_main(*flags_of(llm, tasks, OUT))
    assert done.code == 2
    assert f"another run of this refresh is writing to {OUT} (process 1 on elsewhere" in done.err
    done = run_main("ledger", f"--output={OUT}", "--compact")
    assert done.code == 2  # there is none yet
    assert llm.stats()["requests"] == 0


def put_lease(name: str = "refresh=base", **fields: Any) -> None:
    content = {"owner": "other", "host": "elsewhere", "process": 1, "expires": time.time() + 100, **fields}
    files.write_file(path_of(OUT, name), json.dumps(content).encode())


def test_of_many_one_gets_the_lease_at_once(cloud: GcsServer) -> None:
    with waiting.contenders(OUT, "base", 8, seconds=40) as (inside, _):
        assert len(inside) == 1
        assert {name: holder.owner for name, holder in holders(OUT).items()} == {"base": inside[0]}
    assert objects_of(cloud) == {}


@pytest.mark.parametrize("stale", [{"expires": 1.0}, {"host": socket.gethostname(), "process": 2**22 + 1}])
def test_a_stale_lease_is_taken_over(cloud: GcsServer, stale: dict[str, Any]) -> None:
    put_lease("base", **stale)
    with hold(OUT, "base", "me"):
        assert holders(OUT)["base"].owner == "me"
    assert objects_of(cloud) == {}


def test_a_lease_whose_answer_was_lost_is_ours(cloud: GcsServer) -> None:
    cloud.play({"match": "upload .*base.json", "status": "reset", "done": True})
    with hold(OUT, "base", "me"):
        assert holders(OUT)["base"].owner == "me"
    assert objects_of(cloud) == {}


def test_a_lease_outlives_a_store_that_is_gone_for_a_while(
    cloud: GcsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is renewed when the store is back; and whoever has lost it meanwhile is told before it publishes."""
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(lease, "_SECONDS", 50.0)
    with hold(OUT, "base", "me"):
        cloud.kill()
        wait_until(lambda: "lease could not be renewed" in caplog.text)
        cloud.start()
        seen = holders(OUT)["base"].expires
        wait_until(lambda: holders(OUT)["base"].expires > seen)
        require(OUT, "base", "me")
        put_lease("base")
        wait_until(lambda: "took this run's lease over" in caplog.text)
        with pytest.raises(LeaseTakenError, match="elsewhere"):
            require(OUT, "base", "me")
    assert json.loads(objects_of(cloud)["_leases/base.json"])["owner"] == "other"


def test_a_lease_is_not_waited_for_at_the_end(cloud: GcsServer) -> None:
    with hold(OUT, "base", "me"):
        cloud.kill()
        begun = time.monotonic()
    assert time.monotonic() - begun < 6
    cloud.start()


# --- what cannot be used


REMEDIES = {
    "missing": "404 The specified bucket does not exist",
    "nothing": "storage.objects.list' denied on resource",
    "private": "there are no credentials; log in: `gcloud auth application-default login`",
    "no": "'no' is no name of a bucket",
    "Big_Bucket": "'Big_Bucket' is no name of a bucket",
    "": "'' is no name of a bucket",
}


@pytest.mark.parametrize("bucket", REMEDIES)
@pytest.mark.parametrize("option", ["output", "tasks", "exclude"])
def test_a_bucket_that_cannot_be_used_is_told_in_one_line(
    cloud: GcsServer, tmp_path: Path, option: str, bucket: str
) -> None:
    path = f"gs://{bucket}/x.txt"
    begun = time.monotonic()
    given = {"output": str(tmp_path / "out"), option: path}
    done = run_main("generate", "--task_requests=1", *(f"--{name}={value}" for name, value in given.items()))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert f"--{option} {path}: " in line
    assert REMEDIES[bucket] in line
    assert "; " in line
    assert time.monotonic() - begun < 5
    assert list(tmp_path.iterdir()) == []
    assert cloud.objects() == {}


def test_an_output_needs_all_that_a_run_does_and_nothing_of_the_bucket_itself(cloud: GcsServer) -> None:
    for bucket, wanted in (("readable", "create"), ("writable", "list")):
        done = run_main("generate", f"--output=gs://{bucket}/x")
        assert done.code == 2
        (line,) = done.err.splitlines()
        assert f"storage.objects.{wanted}' denied on resource" in line
        assert f"grant whoever runs this roles/storage.objectUser on gs://{bucket}" in line
    assert "bucket" not in cloud.stats()["counts"]


def test_files_that_are_not_there_are_told(cloud: GcsServer, tmp_path: Path) -> None:
    for option in ("tasks", "exclude"):
        done = run_main("generate", f"--output={tmp_path / 'out'}", f"--{option}=gs://readable/none/*.txt")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"--{option} gs://readable/none/*.txt: there is no such file" in done.err
    done = run_main("ledger", "--output=gs://missing/x")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "404 The specified bucket does not exist" in done.err


def test_a_store_that_does_not_answer_is_told_within_seconds(cloud: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmint.pipelines.options.output_folder.PATIENCE_SECONDS", 0.5)
    cloud.kill()
    done = run_main("generate", f"--output={OUT}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{cloud.url} does not answer (Connection refused); STORAGE_EMULATOR_HOST is set: see whether" in done.err
    cloud.start()


# --- the client


def test_nobody_waits_for_credentials(cloud: GcsServer) -> None:
    """A process that finds none asks once; one with an emulator does not ask at all. Beam alone takes 23 s and more."""
    script = """
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import PipelineOptions
from textmint.transforms.storage import files, gcs

asked = []


def default(**_):
    asked.append(1)
    raise gcs.DefaultCredentialsError


gcs.google.auth.default = default
{}
print(auth.get_service_credentials(PipelineOptions([])), len(asked))
"""
    for emulated, act, told in (
        (True, "files.match_files('gs://data/*')", "None 0"),
        (False, "gcs.settle_credentials(once=True)", "None 1"),
    ):
        environment = {name: value for name, value in os.environ.items() if emulated or name != gcs.EMULATOR}
        run = subprocess.run(
            [sys.executable, "-c", script.format(act)],
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=15,
        )
        assert run.stdout.strip() == told, run.stderr


def test_large_objects_go_up_in_parts_and_the_rest_after_a_break(cloud: GcsServer) -> None:
    content = os.urandom(9 << 20)  # from 8 MB on
    cloud.play({"match": "continue", "status": "reset", "done": True}, {"match": "continue", "status": 503})
    files.write_file(f"{OUT}/large", content)
    assert files.read_file(f"{OUT}/large") == content
    assert files.read_end(f"{OUT}/large", 1_000) == content[-1_000:]
    with files.open_file(f"{OUT}/large") as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]


def test_listings_come_in_pages_and_names_are_no_patterns(cloud: GcsServer) -> None:
    names = [f"{number:04}" for number in range(1_003)]  # a page holds 1,000
    gcs._at_once(gcs.write, [(f"{OUT}/many/{name}", b"1") for name in names])  # type: ignore[list-item]
    assert [file.name for file in files.list_files(f"{OUT}/many")] == names
    for name in ("a*", "a[b]", "ab", "deep/ab"):
        files.write_file(f"{OUT}/odd/{name}", name.encode())
    files.write_file(f"{OUT}/odd/", b"")  # as the console makes for a folder
    assert [file.name for file in files.list_files(f"{OUT}/odd")] == ["a*", "a[b]", "ab"]
    assert files.list_folders(f"{OUT}/odd", "de") == ["deep"]
    assert len(files.list_below(f"{OUT}/odd")) == 5
    files.delete_files([f"{OUT}/odd/a*", f"{OUT}/odd/a[b]", f"{OUT}/odd/none"])
    assert sorted(name for name in objects_of(cloud) if name.startswith("odd/")) == ["odd/", "odd/ab", "odd/deep/ab"]
    files.move_file(f"{OUT}/odd/ab", f"{OUT}/new/a?")
    assert files.read_file(f"{OUT}/new/a?") == b"ab"
    assert not files.exists(f"{OUT}/odd/ab")


@pytest.mark.parametrize(
    "act",
    [
        files.read_file,
        files.open_file,
        lambda path: files.read_end(path, 8),
        lambda path: files.move_file(path, f"{OUT}/b"),
    ],
)
def test_what_is_absent_and_a_bucket_that_is_none_are_two_things(cloud: GcsServer, act: Callable[[str], Any]) -> None:
    """A manifest that is not there yet is empty; one in a bucket that was deleted is a failure."""
    with pytest.raises(FileNotFoundError):
        act(f"{OUT}/none")
    with pytest.raises(StoreError, match="specified bucket does not exist") as raised:
        act("gs://missing/none")
    assert not isinstance(raised.value, FileNotFoundError)


def test_a_generation_is_demanded(cloud: GcsServer) -> None:
    path = f"{OUT}/a"
    gcs.write(path, b"1", generation=gcs.ABSENT)
    with pytest.raises(FileChangedError):
        gcs.write(path, b"2", generation=gcs.ABSENT)
    content, generation = gcs.read_version(path)
    gcs.write(path, b"2", generation=generation)
    for act in (lambda: gcs.write(path, b"3", generation=generation), lambda: gcs.delete(path, generation=generation)):
        with pytest.raises(FileChangedError):
            act()
    assert (content, files.read_file(path)) == (b"1", b"2")


def test_empty_objects_have_an_end(cloud: GcsServer) -> None:
    files.write_file(f"{OUT}/empty", b"")
    assert files.read_end(f"{OUT}/empty", 8) == b"" == files.read_file(f"{OUT}/empty")
    files.write_file(f"{OUT}/short", b"123")
    assert files.read_end(f"{OUT}/short", 8) == b"123"
    assert files.read_end(f"{OUT}/short", 0) == b""


def test_an_emulator_that_counts_no_generations(cloud: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """gcp-storage-emulator does not: nothing can be compared there, and all else goes on."""
    monkeypatch.setattr(Blob, "generation", property(lambda _: None, lambda *_: None))
    path = "gs://data/out/x.json"
    for number in range(3):
        files.update_file(path, lambda old, number=number: (old or b"") + b"%d" % number)  # type: ignore[misc]
    assert files.read_file(path) == b"012"
    with hold("gs://data/out", "refresh=base", "mine") as held:
        held.renew()
        assert holders("gs://data/out")["refresh=base"].owner == "mine"
    assert holders("gs://data/out") == {}
    generate("--output=gs://data/out", "--task_requests=1", "--examples_per_task=1")
