"""Leases: one holder at a time, on a disk and on an object store, and none for longer than it lives."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import threading
import time
import types
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.storage import files, lease
from textmint.transforms.storage.lease import Lease, LeaseTakenError, hold, holders, path_of, require

from tests.support.children import child, open_under
from tests.support.mem_store import MemFileSystem
from tests.support.waiting import contenders, wait_until

REMOTE = "mem://bucket/out"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread and no descriptor; and nobody waits for two seconds."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "run-lease"] == []
    assert open_under(tmp_path) == []


@pytest.fixture(params=["disk", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, bytes]) -> str:
    return str(tmp_path / "out") if request.param == "disk" else REMOTE


def put(output: str, name: str = "base", **fields: Any) -> None:
    """Writes a lease as somebody else would have it."""
    content = {"owner": "other", "host": "elsewhere", "process": 1, "expires": time.time() + 100, **fields}
    files.write_file(path_of(output, name), json.dumps(content).encode())


def told(output: str, name: str = "base") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files.read_file(path_of(output, name)))
    return found


def is_taken(output: str, name: str = "base", owner: str = "second") -> str | None:
    """Returns who holds it, as somebody who wants it is told; None if nobody does."""
    try:
        with hold(output, name, owner):
            return None
    except LeaseTakenError as error:
        return str(error)


# --- one holder at a time


def test_it_is_held_and_released(output: str) -> None:
    for owner in ("first", "second"):
        with hold(output, "base", owner):
            found = told(output)
            assert (found["owner"], found["host"]) == (owner, socket.gethostname())
            assert found["process"] == os.getpid()
            assert 170 < found["expires"] - time.time() <= 180
            require(output, "base", owner)
        assert not files.exists(path_of(output, "base"))
    assert files.list_folders(output, "") == []  # nothing is left behind


def test_the_second_is_refused_and_told_who_and_until_when(output: str) -> None:
    with hold(output, "base", "first"):
        message = is_taken(output)
        assert message is not None
        assert message.startswith(f"process {os.getpid()} on {socket.gethostname()}, lease until 2")
        assert message.endswith(" UTC unless renewed")
        assert told(output)["owner"] == "first"
        require(output, "base", "first")
    assert is_taken(output) is None


def test_it_is_released_when_the_block_fails(output: str) -> None:
    with pytest.raises(ZeroDivisionError), hold(output, "base", "first"):
        raise ZeroDivisionError
    assert is_taken(output) is None


def test_names_do_not_meet(output: str) -> None:
    with hold(output, "base", "a"), hold(output, "refresh=2026-11-23", "b"):
        assert {name: found.owner for name, found in holders(output).items()} == {
            "base": "a",
            "refresh=2026-11-23": "b",
        }
        assert is_taken(output, "base") is not None
        assert is_taken(output, "third") is None
    assert holders(output) == {}


def test_of_many_one_gets_it(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a store the last of those that come at the same time: so each waits longer than all take to write."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.3)
    with contenders(output, "base", 6) as (inside, refused):
        assert (len(inside), len(refused)) == (1, 5)


def hold_and_wait(pipe: Connection, output: str) -> None:
    with hold(output, "base", "child"):
        pipe.send(os.getpid())
        time.sleep(60)


def test_that_of_a_process_which_was_killed_is_taken_over_at_once(tmp_path: Path) -> None:
    with child(hold_and_wait, str(tmp_path)) as process:
        pid = process.told()
        assert f"process {pid} on" in (is_taken(str(tmp_path)) or "")
        assert holders(str(tmp_path))["base"].process == pid
        process.kill()
    assert told(str(tmp_path))["owner"] == "child"  # it had no time to take it away
    assert holders(str(tmp_path)) == {}
    assert is_taken(str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_dead_process_of_this_machine_is_taken_over_on_a_store_too(store: dict[str, bytes]) -> None:
    with child(hold_and_wait, "unused") as process:
        process.kill()
    put(REMOTE, host=socket.gethostname(), process=process.pid)
    assert is_taken(REMOTE) is None
    put(REMOTE, host=socket.gethostname(), process=os.getpid())
    assert is_taken(REMOTE) is not None


# --- those of other machines


def test_that_of_another_machine_holds_until_it_expires(output: str) -> None:
    """On a disk as well: it may be one that several machines share, whose locks do not reach all of them."""
    put(output, process=1 << 30)
    assert (is_taken(output) or "").startswith("process 1073741824 on elsewhere, lease until")
    assert told(output)["owner"] == "other"
    assert holders(output)["base"].owner == "other"
    put(output, expires=time.time() - 1)
    assert holders(output) == {}
    assert is_taken(output) is None
    assert not files.exists(path_of(output, "base"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"what?",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"\x00" * 600,
        b"[" * 100_000,
        b"x" * 1_000_000,
        b'{"owner": "o", "host": "h", "process": 1}',
        b'{"owner": "o", "host": "h", "process": 1, "expires": "soon"}',
        b'{"owner": "o", "host": "h", "process": 1, "expires": null}',
        b'{"owner": "o", "host": "h", "process": [], "expires": 99999999999}',
        b'{"owner": "o", "host": "h", "process": 1e999, "expires": 99999999999}',
        b'{"owner": "o", "host": "h", "process": 1, "expires": NaN}',
        b'{"owner": "o", "host": "h", "process": 1, "expires": Infinity}',
        b'{"owner": "o", "host": "h", "process": 1, "expires": 1e300}',
        b'{"owner": "o", "host": "h", "process": 1, "expires": 1' + b"0" * 400 + b"}",
    ],
    ids=lambda content: content[-40:].decode("latin-1"),
)
def test_what_is_no_lease_holds_nobody_back(output: str, content: bytes) -> None:
    path = path_of(output, "base")
    files.write_file(path, content)
    assert holders(output) == {}
    require(output, "base", "me")
    with hold(output, "base", "me"):
        assert told(output)["owner"] == "me"
        assert len(files.read_file(path)) < 1_000
    assert not files.exists(path)


def test_a_process_that_is_none_is_dead(store: dict[str, bytes]) -> None:
    put(REMOTE, host=socket.gethostname(), process=10**30)
    assert is_taken(REMOTE) is None


@given(st.text(max_size=9), st.text(max_size=9), st.integers(-10, 1 << 40), st.floats(0, 2e11))
@settings(max_examples=40)
def test_a_lease_can_always_be_told(owner: str, host: str, process: int, expires: float) -> None:
    content = {"owner": owner, "host": host, "process": process, "expires": expires}
    found = lease._parse(json.dumps(content).encode())
    assert found == Lease(**content)
    assert str(process) in str(found)


# --- renewing


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_it_is_renewed(output: str) -> None:
    with hold(output, "base", "me"):
        first = told(output)["expires"]
        wait_until(lambda: told(output)["expires"] > first)
        second = told(output)["expires"]
        wait_until(lambda: told(output)["expires"] > second)
        assert is_taken(output) is not None
    time.sleep(0.03)
    assert not files.exists(path_of(output, "base"))  # nobody renews what was released


def test_without_renewing_it_expires(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_SECONDS", 0.3)
    with contextlib.suppress(LeaseTakenError), hold(REMOTE, "base", "me"):
        assert is_taken(REMOTE) is not None
        time.sleep(0.31)
        assert holders(REMOTE) == {}
        with hold(REMOTE, "base", "other"), pytest.raises(LeaseTakenError):
            require(REMOTE, "base", "me")


@pytest.mark.usefixtures("quick")
def test_whoever_reads_while_it_is_renewed_sees_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a file of the ledger could be merged away under a run. A time may have fewer digits than the one before."""
    me = {"owner": "me", "host": socket.gethostname(), "process": os.getpid()}
    contents = [json.dumps({**me, "expires": expires}).encode() for expires in (4e9 + 0.123456, 4e9 + 0.5)]
    turns = itertools.cycle(contents)
    monkeypatch.setattr(lease, "_content", lambda owner: next(turns))
    seen: list[bytes] = []
    truncate, write = os.ftruncate, os.pwrite

    def look(act: Callable[..., Any]) -> Callable[..., Any]:
        def looking(*args: Any) -> Any:
            result = act(*args)
            seen.append((tmp_path / "_leases" / "base.json").read_bytes())
            return result

        return looking

    with hold(str(tmp_path), "base", "me"):
        monkeypatch.setattr(os, "ftruncate", look(truncate))
        monkeypatch.setattr(os, "pwrite", look(write))
        wait_until(lambda: len(seen) > 4)
        monkeypatch.setattr(os, "ftruncate", truncate)
        monkeypatch.setattr(os, "pwrite", write)
    assert all(json.loads(content)["owner"] == "me" for content in seen)


@pytest.mark.usefixtures("quick")
def test_a_renewal_that_fails_is_tried_again(
    output: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(5, "out of order"), RuntimeError("503")]

    def fail(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    with hold(output, "base", "me"):
        first = told(output)["expires"]
        where: Any = files if output == REMOTE else os
        name = "write_file" if output == REMOTE else "pwrite"
        real = getattr(where, name)
        monkeypatch.setattr(where, name, fail)
        wait_until(lambda: told(output)["expires"] > first)
    assert failures == []
    assert caplog.text.count("could not be renewed") == 2


@pytest.mark.usefixtures("quick")
def test_one_that_was_stolen_is_not_renewed_and_not_taken_away(output: str, caplog: pytest.LogCaptureFixture) -> None:
    """A holder that stood still for too long finds another in its place, and must not publish."""
    with hold(output, "base", "me"):
        put(output, owner="thief")
        stolen = files.read_file(path_of(output, "base"))
        with pytest.raises(LeaseTakenError, match="on elsewhere"):
            require(output, "base", "me")
        wait_until(lambda: "took this run's lease over" in caplog.text)
        time.sleep(0.03)
        assert files.read_file(path_of(output, "base")) == stolen
    assert files.read_file(path_of(output, "base")) == stolen
    assert caplog.text.count("took this run's lease over") == 1


def test_one_that_is_gone_was_taken_by_nobody(output: str) -> None:
    require(output, "base", "me")
    with hold(output, "base", "me"):
        files.delete_files([path_of(output, "base")])
        require(output, "base", "me")
    assert holders(output) == {}


# --- a store that fails


def sleep_instead(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], Any]) -> None:
    """Gives the module a clock whose sleep is this."""
    clock = types.SimpleNamespace(time=time.time, gmtime=time.gmtime, strftime=time.strftime, sleep=sleep)
    monkeypatch.setattr(lease, "time", clock)


def test_whoever_writes_last_stays(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another has written its lease while this one waited for the second look."""
    sleep_instead(monkeypatch, lambda seconds: put(REMOTE, owner="last"))
    with pytest.raises(LeaseTakenError, match="elsewhere"), hold(REMOTE, "base", "me"):
        raise AssertionError("it is not ours")
    assert told(REMOTE)["owner"] == "last"


def test_it_waits_before_the_second_look(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sleep_instead(monkeypatch, waited.append)
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 2.0)
    with hold(REMOTE, "base", "me"):
        pass
    assert waited == [2.0]


@pytest.mark.parametrize("fault", [OSError(5, "reset"), KeyboardInterrupt()])
def test_who_fails_while_waiting_leaves_no_lease(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(seconds: float) -> None:
        raise fault

    sleep_instead(monkeypatch, fail)
    with pytest.raises(type(fault)), hold(REMOTE, "base", "me"):
        raise AssertionError("not reached")
    assert store == {}


def test_a_lease_that_cannot_be_written_is_an_error(
    store: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MemFileSystem.broken.add("create base.json")
    with pytest.raises(OSError), hold(REMOTE, "base", "me"):
        raise AssertionError("not reached")

    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"), hold(str(tmp_path), "base", "me"):
            raise AssertionError("not reached")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", full)
        with pytest.raises(OSError, match="No space"), hold(str(tmp_path), "base", "me"):
            raise AssertionError("not reached")
    assert is_taken(str(tmp_path)) is None


@pytest.mark.parametrize("error", [OSError(5, "reset"), RuntimeError("503")])
def test_a_store_that_fails_at_the_end_does_not_hide_what_the_block_did(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any) -> Any:
        raise error

    with pytest.raises(ZeroDivisionError), hold(REMOTE, "base", "me"):
        monkeypatch.setattr(MemFileSystem, "open", fail)
        raise ZeroDivisionError
    monkeypatch.undo()
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    store.clear()
    with hold(REMOTE, "base", "me"):
        monkeypatch.setattr(MemFileSystem, "delete", fail)


def test_a_lease_that_nobody_has_written_yet_is_absent_whatever_the_client_raises(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On gs:// that is google.api_core.exceptions.NotFound."""
    real = MemFileSystem.open

    def google(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        if path not in store:
            raise LookupError("404 GET https://storage.googleapis.com")
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(MemFileSystem, "open", google)
    require(REMOTE, "base", "me")
    with hold(REMOTE, "base", "me"):
        pass


# --- races on a disk


def test_one_that_is_taken_away_between_opening_and_locking_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder ended just then; whoever comes third must not get a lease of its own beside ours."""
    path = tmp_path / "_leases" / "base.json"
    real = fcntl.flock
    taken: list[int] = []

    def late(descriptor: int, how: int) -> None:
        if not taken:
            taken.append(descriptor)
            path.unlink()
            path.parent.rmdir()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with hold(str(tmp_path), "base", "me"):
        assert told(str(tmp_path))["owner"] == "me"
        assert is_taken(str(tmp_path)) is not None


def test_one_that_is_locked_and_not_yet_written_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "_leases" / "base.json"
    path.parent.mkdir()
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_taken(str(tmp_path)) == "a process of this machine"
    assert is_taken(str(tmp_path)) is None


def test_a_refusal_takes_nothing_away(tmp_path: Path) -> None:
    put(str(tmp_path))
    before = (tmp_path / "_leases" / "base.json").read_bytes()
    assert is_taken(str(tmp_path)) is not None
    assert (tmp_path / "_leases" / "base.json").read_bytes() == before


def test_holders_of_a_folder_that_is_not_there(output: str) -> None:
    assert holders(output) == {}


def test_a_lease_dated_9999_is_told_with_its_file_and_the_remedy(tmp_path: Path) -> None:
    path = Path(lease.path_of(str(tmp_path), "label"))
    path.parent.mkdir()
    told = {"owner": "x", "host": "elsewhere", "process": 1, "expires": 253_402_300_000}
    path.write_text(json.dumps(told))
    with (
        pytest.raises(lease.LeaseTakenError, match=f"lease until 9999-12-31 .*: if it is none's, delete {path}"),
        lease.hold(str(tmp_path), "label", "me"),
    ):
        pass
    for worthless in ({"expires": float("nan")}, {"expires": -1}, {"expires": 1e300}):
        path.write_text(json.dumps({**told, **worthless}))
        with lease.hold(str(tmp_path), "label", "me"):
            pass
        path.parent.mkdir(exist_ok=True)
