"""The engine and the ledger: a reply is kept before anybody sees it; no request is sent whose reply could not be."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.core.elements import Prompt, Reply
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger import writer as ledger_writer
from textmint.transforms.ledger.table import SCHEMA
from textmint.transforms.ledger.writer import Journal, Ledger
from textmint.transforms.llm.attempts import request_for
from textmint.transforms.llm.base import Answer, FatalError, Transient, fingerprint_of
from textmint.transforms.llm.engine import Settings, close_engines, engine_for
from textmint.transforms.llm.jobs import Done
from textmint.transforms.llm_call import LLMCall
from textmint.transforms.storage import files

from tests.support import scripted_engine
from tests.support.helpers import make_prompt, run_step
from tests.support.ledger_rows import REMOTE, lines_in, rows_of_ledger
from tests.support.mem_store import MemFileSystem
from tests.support.scripted_engine import Play, Running, Scripted, all_doomed, ask_for, names, seen_by, texts


def running(
    folder: Path | str, play: Play | None = None, concurrency: int = 4
) -> contextlib.AbstractContextManager[Running]:
    ledger = Ledger(folder=str(folder), refresh="label", run_id="run")
    return scripted_engine.running(play, ledger=ledger, max_attempts=1, max_concurrency=concurrency)


# --- what is kept


def test_a_reply_is_in_the_journal_before_it_is_handed_out(tmp_path: Path) -> None:
    class Looking(queue.SimpleQueue[Any]):
        """Looks at the disk at the moment when an answer arrives."""

        def put(self, done: Done[str], *args: Any) -> None:
            super().put((done, [row["text"] for row in lines_in(tmp_path)]))

    found = Looking()
    with running(tmp_path) as run:
        for text in texts(20):
            run.engine.submit(ask_for(text), text, found)
        for _ in range(20):
            done, on_disk = found.get(timeout=10)
            assert done.answer.text in on_disk


def test_all_that_is_known_of_a_reply_is_kept(tmp_path: Path) -> None:
    answer = Answer(text="yes", finish_reason="length", model="m-1-0613", prompt_tokens=7, output_tokens=3)
    before = ledger_writer.now_ms()
    with running(tmp_path, lambda request, visit: answer) as run:
        run.engine.submit(ask_for("a", attempt=2), "a", run.done)
        run.take(1)
    (path,) = (tmp_path / "_journal").iterdir()
    assert list(json.loads(path.read_bytes())) == [*SCHEMA.names, "crc32"]
    (row,) = lines_in(tmp_path)
    assert before <= row.pop("time") <= ledger_writer.now_ms()
    assert 0 <= row.pop("latency_ms") < 5_000
    assert row == {
        "request_id": stable_hash("request", "a", 2),
        "draft_id": stable_hash("draft", "a"),
        "kind": "example",
        "refresh": "label",
        "model": "m-1-0613",
        "fingerprint": fingerprint_of(Scripted("any")),
        "attempt": 2,
        "text": "yes",
        "finish_reason": "length",
        "prompt_tokens": 7,
        "output_tokens": 3,
    }


def test_what_was_not_answered_is_not_in_it(tmp_path: Path) -> None:
    with running(tmp_path, lambda request, visit: Transient("500") if request.text == "prompt 3" else None) as run:
        run.answers(texts(6))
    assert sorted(row["text"] for row in lines_in(tmp_path)) == [t for t in texts(6) if t != "prompt 3"]


@pytest.mark.parametrize("folder", ["disk", REMOTE])
def test_whatever_an_endpoint_says_can_be_kept(folder: str, tmp_path: Path, store: dict[str, bytes]) -> None:
    where = str(tmp_path) if folder == "disk" else folder
    answer = Answer(
        text="a\ud800\x00\udc00\n", finish_reason="stop", model="m\udfff", prompt_tokens=10**400, output_tokens=1 << 63
    )
    with running(where, lambda request, visit: answer if request.text == "odd" else None) as run:
        found = run.answers(["first", "odd", "last"])
        run.engine.flush_ledger()
        kept = rows_of_ledger(where) if folder == REMOTE else lines_in(tmp_path)
        assert not run.engine.is_doomed
    handed = found["odd"].answer
    assert handed is not None
    assert (handed.text, handed.model) == ("a\ufffd\x00\ufffd\n", "m\ufffd")
    (row,) = (row for row in kept if row["draft_id"] == stable_hash("draft", "odd"))
    for name in ("text", "model", "prompt_tokens", "output_tokens"):
        assert row[name] == getattr(handed, name)
    assert len(kept) == 3


@pytest.mark.parametrize("fault", [{"text": None}, {"model": 7}, {"prompt_tokens": "many"}, {"output_tokens": None}])
def test_an_answer_that_is_none_is_a_failure_of_its_own_request(tmp_path: Path, fault: dict[str, Any]) -> None:
    """A back end's fault must not lose the element: whoever waits for it would wait for ever."""
    good = Answer(text="yes", finish_reason="stop", model="m-1", prompt_tokens=7, output_tokens=3)
    odd = dataclasses.replace(good, **fault)
    with running(tmp_path, lambda request, visit: odd if request.text == "odd" else None) as run:
        found = run.answers(["first", "odd", "last"])
    assert isinstance(found["odd"].error, Transient)
    assert found["first"].answer
    assert found["last"].answer
    assert len(lines_in(tmp_path)) == 2


# --- a ledger that cannot be written


def no_room(descriptor: int, data: bytes) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["a file in its place", "a full disk", "a store that refuses", "a store's own error"])
def test_nothing_is_sent_where_nothing_can_be_kept(
    what: str, tmp_path: Path, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "ledger") if "store" not in what else REMOTE
    if what == "a file in its place":
        (tmp_path / "ledger").touch()
    elif what == "a full disk":
        monkeypatch.setattr("os.write", no_room)
    else:
        error = PermissionError(13, "denied") if what == "a store that refuses" else RuntimeError("403 denied")

        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise error

        monkeypatch.setattr(MemFileSystem, "create", refuse)
    with running(folder) as run:
        assert run.engine.is_doomed
        error_ = all_doomed(run.answers(texts(9)))
        run.engine.flush_ledger()
    assert f"the ledger {folder} cannot be written: " in error_.detail
    assert "run the same command again" in error_.remedy
    assert (run.seen.opened, run.seen.visits.total()) == (0, 0)


def fail_after(monkeypatch: pytest.MonkeyPatch, count: int, error: Exception) -> None:
    """So many replies can be kept."""
    real = Journal.append
    kept = itertools.count()

    def append(self: Journal, row: Any) -> None:
        if next(kept) >= count:
            raise error
        real(self, row)

    monkeypatch.setattr(Journal, "append", append)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no such thing")])
def test_a_disk_that_gets_full_ends_the_run_and_what_fitted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_after(monkeypatch, 10, error)
    with running(tmp_path, lambda request, visit: 0.002, concurrency=4) as run:
        found = run.answers(texts(100))
        assert run.engine.is_doomed
        later = run.answers(["later"])
    answered = [token for token, done in found.items() if done.answer]
    doomed = {token: done for token, done in found.items() if not done.answer}
    assert "cannot be written: no" in all_doomed({**doomed, **later}).detail.lower()
    assert 11 <= len(answered) <= 10 + 4  # those in flight were paid for, and are handed out
    assert run.seen.visits.total() == len(answered)  # and none was sent after that
    kept = [row["text"] for row in lines_in(tmp_path)]
    assert len(kept) == 10
    assert set(kept) <= set(answered)


def test_small_replies_may_still_fit_after_a_large_one_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is in flight then is paid for, and kept where it can be."""
    real = Journal.append

    def append(self: Journal, row: Any) -> None:
        if row["text"] == "prompt 1":
            raise OSError(28, "No space left on device")
        real(self, row)

    monkeypatch.setattr(Journal, "append", append)
    # The first is alone; then four are in flight, of which one comes first and does not fit.
    slow = {"prompt 1": 0.02}
    with running(tmp_path, lambda request, visit: slow.get(request.text, 0.1), concurrency=4) as run:
        run.answers(texts(9))
    assert sorted(row["text"] for row in lines_in(tmp_path)) == ["prompt 0", "prompt 2", "prompt 3", "prompt 4"]


def test_a_store_that_fails_later_is_told_at_the_flush(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_writer, "_TRY_AGAIN_SECONDS", (0.001, 0.001, 0.001))
    with running(REMOTE) as run:
        run.answers(["a"])
        run.engine.flush_ledger()
        assert [row["text"] for row in rows_of_ledger(REMOTE)] == ["a"]

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("503")

        monkeypatch.setattr(files, "write_file", fail)
        run.answers(["b"])
        with pytest.raises(FatalError, match="RuntimeError: 503"):
            run.engine.flush_ledger()
        assert all_doomed(run.answers(["c"]))  # and is not paid for
        assert run.engine.is_doomed
        assert all_doomed(run.answers(["d"]))
        with caplog.at_level(logging.WARNING, "textmint"):
            run.engine.close()
    assert "could not be kept in the ledger: RuntimeError: 503" in caplog.text
    assert run.seen.visits.total() == 2
    assert [row["text"] for row in rows_of_ledger(REMOTE)] == ["a"]


def test_closing_keeps_what_came(tmp_path: Path, store: dict[str, bytes]) -> None:
    for folder in (str(tmp_path), REMOTE):
        with running(folder, lambda request, visit: "hang" if request.text == "hangs" else None) as run:
            run.answers(["a", "b"])
            run.ask(["hangs"])
            time.sleep(0.01)
        assert run.take(1)["hangs"].answer is None
    assert sorted(row["text"] for row in lines_in(tmp_path)) == ["a", "b"]
    assert sorted(row["text"] for row in rows_of_ledger(REMOTE)) == ["a", "b"]


# --- the engines of a process


def test_an_engine_belongs_to_its_ledger(tmp_path: Path) -> None:
    backend, settings = Scripted("own"), Settings()
    one = Ledger(folder=str(tmp_path), refresh="a", run_id="run")
    other = dataclasses.replace(one, refresh="b")
    try:
        assert engine_for(backend, settings, one) is engine_for(backend, settings, one)
        assert engine_for(backend, settings, one) is not engine_for(backend, settings, other)
        assert engine_for(backend, settings, one) is not engine_for(backend, settings)
        assert len(list((tmp_path / "_journal").iterdir())) == 2
    finally:
        close_engines()
    assert list((tmp_path / "_journal").iterdir()) == []


# --- the step


@pytest.fixture
def engines() -> Iterator[None]:
    yield
    close_engines()


def call(folder: Path | str) -> LLMCall:
    backend = Scripted(next(names))
    return LLMCall(backend, ledger=Ledger(folder=str(folder), refresh="label", run_id="run"))


@pytest.mark.usefixtures("engines")
def test_when_a_bundle_is_done_its_replies_are_in_the_ledger(store: dict[str, bytes]) -> None:
    """An engine that starts anew does not compute it again, so its replies would never be kept."""
    prompts = [make_prompt(replica=replica) for replica in range(5)]
    step = call(REMOTE)
    ran = run_step(step, prompts, Prompt)
    kept = rows_of_ledger(REMOTE)
    assert {reply.request_id for reply in ran.of(Reply)} == {row["request_id"] for row in kept}
    assert {row["request_id"] for row in kept} == {
        request_for(prompt, fingerprint_of(step.backend)).request_id for prompt in prompts
    }
    assert {row["draft_id"] for row in kept} == {prompt.prompt_id for prompt in prompts}


@pytest.mark.usefixtures("engines")
def test_a_run_whose_ledger_cannot_be_written_fails_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "ledger").touch()
    step = call(tmp_path / "ledger")
    with pytest.raises(RunFailed) as raised:
        run_step(step, [make_prompt()], Prompt)
    assert f"the ledger {tmp_path / 'ledger'} cannot be written" in str(raised.value)
    assert isinstance(step.backend, Scripted)
    assert seen_by[step.backend.name].visits.total() == 0
