"""The lease of a job: handed over by its launcher, renewed by its workers, given back by whoever publishes."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.storage import files, lease
from textmint.transforms.storage.lease import JobLease, LeaseTakenError, hold, holders, keep, path_of, release, require

from tests.support.mem_store import MemFileSystem
from tests.support.waiting import wait_until

OUTPUT = "mem://bucket/out"
NAME = "refresh=base"
JOB = JobLease(output=OUTPUT, name=NAME, owner="run 1")


@pytest.fixture(autouse=True)
def nothing_is_left(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    yield
    for job in list(lease._renewers):
        release(job)
    assert [thread for thread in threading.enumerate() if "lease" in thread.name] == []


def told() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files.read_file(path_of(OUTPUT, NAME)))
    return found


def left() -> float:
    return float(told()["expires"]) - time.time()


def put(seconds: float, owner: str = "run 1") -> None:
    content = {"owner": owner, "host": "Dataflow job j", "process": 0, "expires": time.time() + seconds}
    files.write_file(path_of(OUTPUT, NAME), json.dumps(content).encode())


def is_refused() -> str:
    with pytest.raises(LeaseTakenError) as caught, hold(OUTPUT, NAME, "run 2"):
        pass
    return str(caught.value)


def kept(seconds: float) -> bool:
    """Is the lease good for about so long?"""
    return seconds - 60 < left() <= seconds


# --- the launcher


def test_it_outlives_its_launcher() -> None:
    with hold(OUTPUT, NAME, "run 1") as held:
        held.hand_over("Dataflow job j", 4_500)
    assert kept(4_500)
    assert (told()["owner"], told()["host"], told()["process"]) == ("run 1", "Dataflow job j", 0)
    assert is_refused().startswith("Dataflow job j, lease until 2")
    assert list(holders(OUTPUT)) == [NAME]  # so nobody merges the ledger's files either
    require(OUTPUT, NAME, "run 1")


def test_it_outlives_a_launcher_that_is_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt), hold(OUTPUT, NAME, "run 1") as held:
        held.hand_over("Dataflow job j", 4_500)
        raise KeyboardInterrupt
    assert is_refused()


def test_it_is_taken_back_where_the_job_never_began() -> None:
    with pytest.raises(ZeroDivisionError), hold(OUTPUT, NAME, "run 1") as held:
        held.hand_over("Dataflow job j", 4_500)
        held.take_back()
        raise ZeroDivisionError
    assert holders(OUTPUT) == {}


def test_the_launcher_renews_it_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be good for three minutes only, and its launcher is about to end."""
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.001)
    with hold(OUTPUT, NAME, "run 1") as held:
        held.hand_over("Dataflow job j", 4_500)
        written = len(MemFileSystem.log)
        time.sleep(0.05)
        assert len(MemFileSystem.log) == written
        held.take_back()
        wait_until(lambda: kept(180))


def test_it_is_not_handed_over_when_somebody_else_has_it() -> None:
    with pytest.raises(LeaseTakenError), hold(OUTPUT, NAME, "run 1") as held:
        put(100, owner="run 2")
        held.hand_over("Dataflow job j", 4_500)
    assert told()["owner"] == "run 2"


def test_on_a_local_disk_it_goes_with_its_process(tmp_path: Path) -> None:
    with pytest.raises(ValueError), hold(str(tmp_path), NAME, "run 1") as held:
        held.hand_over("Dataflow job j", 4_500)
    assert holders(str(tmp_path)) == {}


def test_that_of_a_job_that_died_expires() -> None:
    put(-1)
    with hold(OUTPUT, NAME, "run 2"):
        assert told()["owner"] == "run 2"


# --- its workers


def test_the_first_worker_makes_it_as_short_as_workers_need_it() -> None:
    put(4_500)
    keep(JOB)
    wait_until(lambda: kept(1_800))
    assert (told()["owner"], told()["host"]) == ("run 1", "Dataflow job j")


def test_it_is_renewed_when_half_of_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.002)
    put(1_000)
    keep(JOB)
    time.sleep(0.05)
    assert kept(1_000), "another process wrote it not long ago"
    put(800)
    wait_until(lambda: kept(1_800))


def test_many_steps_of_a_process_keep_it_with_one_thread() -> None:
    put(1_000)
    for _ in range(5):
        keep(pickle.loads(pickle.dumps(JOB)))
    assert len([thread for thread in threading.enumerate() if thread.name == "job-lease"]) == 1


def test_it_is_left_alone_when_it_was_given_back() -> None:
    keep(JOB)
    wait_until(lambda: not lease._renewers[JOB].is_running())
    assert not files.exists(path_of(OUTPUT, NAME))


def test_it_is_left_alone_when_somebody_else_has_it(caplog: pytest.LogCaptureFixture) -> None:
    put(10, owner="run 2")
    keep(JOB)
    wait_until(lambda: not lease._renewers[JOB].is_running())
    assert told()["owner"] == "run 2"
    assert "another run took this job's lease over" in caplog.text


def test_a_store_that_fails_for_a_moment_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.002)
    put(100)
    MemFileSystem.broken.add("create refresh=base.json")
    keep(JOB)
    wait_until(lambda: "could not be renewed" in caplog.text)
    MemFileSystem.broken.clear()
    wait_until(lambda: kept(1_800))


def test_one_that_cannot_be_read_is_written_anew() -> None:
    files.write_file(path_of(OUTPUT, NAME), b"{")
    keep(JOB)
    wait_until(lambda: files.read_file(path_of(OUTPUT, NAME)) != b"{")
    assert told()["owner"] == "run 1"


def test_whoever_publishes_gives_it_back() -> None:
    put(1_000)
    keep(JOB)
    release(JOB)
    assert holders(OUTPUT) == {}
    assert not lease._renewers
    release(JOB)  # a bundle that is tried again


def test_what_somebody_else_has_is_not_given_back() -> None:
    put(1_000, owner="run 2")
    release(JOB)
    assert told()["owner"] == "run 2"
