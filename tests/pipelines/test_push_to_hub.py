"""PushToHub: what the Hub holds after a push, by the real client against a Hub on loopback."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.localfilesystem import LocalFileSystem
from hypothesis import example, given
from hypothesis import strategies as st
from textmint.pipelines.hub import PushFailed, check_push, push
from textmint.pipelines.options.errors import OptionError
from textmint.transforms.dataset.report.page import report
from textmint.transforms.dataset.statistics_file import format_statistics

from tests.support.hub_server import HubServer
from tests.support.reports import PLANTED, entry_of

TOKEN = "hf_right"
CARD = b"---\nlicense: unknown\n---\n# Card\n"


def put(folder: Path, path: str, content: bytes = b"PAR1") -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def make_output(folder: Path, **files: list[str]) -> Path:
    """Makes a dataset folder of files that its manifest lists, by refresh, and of much else."""
    refreshes: dict[str, Any] = {}
    for label, paths in files.items():
        entry: dict[str, Any] = {
            "options": {"seed": 42, "output": str(folder), "base_url": "http://inside.example/v1"},
            "backend": {"model": "m-1", "base_url": "http://inside.example/v1"},
            "files": {},
        }
        for path in paths:
            entry["files"].setdefault(path.split("/")[0], []).append({"path": path, "rows": 3, "bytes": 4})
            put(folder, path, path.encode())
        refreshes[label] = entry
    put(folder, "manifest.json", json.dumps({"refreshes": refreshes}).encode())
    put(folder, "README.md", CARD)
    put(folder, "ledger/refresh=base/paid-replies.jsonl")
    put(folder, "_staging/refresh=base/run/examples/part.parquet")
    put(folder, "examples/refresh=base/stray.parquet")  # not listed
    put(folder, ".env", b"KEY=secret")
    return folder


FIRST = "examples/refresh=base/part-00000-of-00001-aa.parquet"
SECOND = "triplets/refresh=base/part-00000-of-00001-bb.parquet"
NEWER = "examples/refresh=base/part-00000-of-00001-cc.parquet"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(TOKEN) as server:
        yield server


def to(hub: HubServer, token: str = TOKEN) -> dict[str, str]:
    return {"HF_TOKEN": f"{token}\n", "HF_ENDPOINT": hub.url}


def test_the_hub_holds_what_the_manifest_lists_and_nothing_else(tmp_path: Path, hub: HubServer) -> None:
    output = make_output(tmp_path, base=[FIRST, SECOND])
    assert push(str(output), "mint/texts", to(hub)) == f"{hub.url}/datasets/mint/texts"
    repository = hub.repositories["mint/texts"]
    assert set(repository.files) == {".gitattributes", "README.md", "manifest.json", FIRST, SECOND}
    assert repository.files["README.md"] == CARD
    assert repository.files[FIRST] == FIRST.encode()
    assert repository.commits == ["3 examples in 1 refresh"]
    assert repository.private  # its owner decides when the world may see it
    manifest = json.loads(repository.files["manifest.json"])
    assert manifest["refreshes"]["base"]["options"] == {"seed": 42}
    assert manifest["refreshes"]["base"]["backend"] == {"model": "m-1"}
    assert str(tmp_path) not in str(repository.files) and "inside.example" not in str(repository.files)
    # the folder is as it was
    assert json.loads((output / "manifest.json").read_text())["refreshes"]["base"]["options"]["output"] == str(tmp_path)


def test_the_report_on_the_hub_is_made_without_costs(tmp_path: Path, hub: HubServer) -> None:
    entry = entry_of(PLANTED)
    put(tmp_path, "manifest.json", json.dumps({"refreshes": {"base": entry}}).encode())
    put(tmp_path, "statistics.json", format_statistics({"base": PLANTED}))
    put(tmp_path, "README.md", CARD)
    for files in entry["files"].values():
        put(tmp_path, files[0]["path"])
    push(str(tmp_path), "mint/none", to(hub))
    assert "report.html" not in hub.repositories["mint/none"].files  # there is none
    put(tmp_path, "report.html", b"mine")
    push(str(tmp_path), "mint/mine", to(hub))
    assert "report.html" not in hub.repositories["mint/mine"].files
    put(tmp_path, "report.html", report({"base": entry}, {"base": PLANTED}, "base").encode())
    push(str(tmp_path), "mint/ours", to(hub))
    page = hub.repositories["mint/ours"].files["report.html"].decode()
    assert "<h1>Refresh base</h1>" in page
    for hidden in ("$1.23", "cost</dt>", "unknown", "--price", "inside.example", "/secret/folder"):
        assert hidden not in page, hidden


def test_the_figures_of_the_data_are_pushed_with_it(tmp_path: Path, hub: HubServer) -> None:
    output = make_output(tmp_path, base=[FIRST])
    rows = {"examples": 3, "rejects": 0, "tasks": 0}
    fitting, gone = {"base": {"format": 1, "rows": rows}}, {"other": {"format": 1, "rows": rows}}
    put(output, "statistics.json", json.dumps({"refreshes": {**fitting, **gone}}).encode())
    push(str(output), "mint/texts", to(hub))
    pushed = json.loads(hub.repositories["mint/texts"].files["statistics.json"])
    assert pushed == {"refreshes": fitting}


def test_a_later_push_replaces_what_is_listed_no_more(tmp_path: Path, hub: HubServer) -> None:
    push(str(make_output(tmp_path / "1", base=[FIRST, SECOND])), "mint/texts", to(hub))
    repository = hub.repositories["mint/texts"]
    repository.files["assets/picture.png"] = b"mine"
    later = "examples/refresh=2027-01/part-00000-of-00001-dd.parquet"
    push(str(make_output(tmp_path / "2", base=[NEWER, SECOND], **{"2027-01": [later]})), "mint/texts", to(hub))
    data = {path for path in repository.files if path.endswith(".parquet")}
    assert data == {NEWER, SECOND, later}
    assert "assets/picture.png" in repository.files
    assert repository.commits == ["3 examples in 1 refresh", "6 examples in 2 refreshes"]  # a push is one commit


def test_the_same_again_changes_nothing(tmp_path: Path, hub: HubServer) -> None:
    output = str(make_output(tmp_path, base=[FIRST]))
    push(output, "mint/texts", to(hub))
    before = dict(hub.repositories["mint/texts"].files)
    push(output, "mint/texts", to(hub))
    assert hub.repositories["mint/texts"].files == before
    assert len(hub.repositories["mint/texts"].commits) == 1
    assert sum(request.startswith("PUT ") for request in hub.requests) == 1  # each content is sent once


@pytest.mark.parametrize(
    ("prefix", "status", "says"),
    [
        ("/api/repos/create", 403, "may not write to mint/texts"),
        ("/api/datasets/mint/texts/commit", 500, r"answered 500 \(out of order\): try again later"),
        ("/api/datasets/mint/texts/commit", 400, r"answered 400 \(out of order\): nothing was pushed"),
        ("/api/datasets/mint/texts/tree", 404, "has no mint, or hides it from this token"),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_line(
    tmp_path: Path, hub: HubServer, prefix: str, status: int, says: str
) -> None:
    hub.answers[prefix] = (status, "out of order")
    with pytest.raises(PushFailed, match=says) as raised:
        push(str(make_output(tmp_path, base=[FIRST])), "mint/texts", to(hub))
    assert "\n" not in str(raised.value) and TOKEN not in str(raised.value)
    assert not any(repository.commits for repository in hub.repositories.values())


def test_a_wrong_token(tmp_path: Path, hub: HubServer) -> None:
    with pytest.raises(PushFailed, match="does not take the token in HF_TOKEN: make") as raised:
        push(str(make_output(tmp_path, base=[FIRST])), "mint/texts", to(hub, "hf_wrong"))
    assert "hf_wrong" not in str(raised.value)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(PushFailed, match=rf"{endpoint} was not reached \(.*\): check the network"):
            push(str(make_output(tmp_path, base=[FIRST])), "mint/texts", {"HF_TOKEN": TOKEN, "HF_ENDPOINT": endpoint})


@pytest.mark.parametrize(
    "path",
    ["../outside.parquet", "/etc/passwd", "ledger/a.jsonl", "examples/refresh=../../x.parquet", "examples/a.parquet"],
)
def test_a_path_that_no_run_writes_is_refused(tmp_path: Path, hub: HubServer, path: str) -> None:
    manifest = {"refreshes": {"base": {"files": {"examples": [{"path": path, "rows": 1}]}}}}
    put(tmp_path, "manifest.json", json.dumps(manifest).encode())
    with pytest.raises(PushFailed, match="which no run writes: nothing was pushed"):
        push(str(tmp_path), "mint/texts", to(hub))
    assert not hub.requests


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / FIRST).unlink(), f"{FIRST} is not there: run `generate`"),
        (lambda folder: (folder / "README.md").unlink(), "README.md is not there: run `generate`"),
        (lambda folder: (folder / "manifest.json").unlink(), "holds no published data: run `generate` first"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is not Textmint's"),
        (lambda folder: (folder / "manifest.json").write_text("cut sho"), "manifest.json is not Textmint's"),
    ],
)
def test_a_folder_that_is_not_whole_is_not_pushed(tmp_path: Path, hub: HubServer, spoil: Any, says: str) -> None:
    spoil(make_output(tmp_path, base=[FIRST]))
    with pytest.raises(PushFailed, match=says):
        push(str(tmp_path), "mint/texts", to(hub))
    assert not hub.requests


@given(st.text("aZ9-._/ä \n", max_size=12).map(lambda text: f"a/{text}") | st.text("a9-._/", max_size=8))
@example("o/" + "n" * 96)
@example("o/" + "n" * 97)
@example("o/n.git")
@example("o/n__n")
def test_a_name_is_taken_where_the_client_takes_it(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    def taken(check: Callable[[str], Any], error: type[Exception]) -> bool:
        try:
            check(name)
        except error:
            return False
        return True

    ours = taken(lambda name: check_push(name, {"HF_TOKEN": TOKEN}), OptionError)
    assert ours == (name.count("/") == 1 and taken(validate_repo_id, HFValidationError))


def test_all_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OptionError) as raised:
        check_push("no name", {"HF_TOKEN": " "})
    name, extra, token = raised.value.problems
    assert "OWNER/NAME" in name
    assert "pip install 'huggingface_hub>=2,<3'" in extra
    assert "export HF_TOKEN" in token


def test_a_token_that_the_client_keeps_on_disk_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(OptionError, match="export HF_TOKEN"):
        check_push("mint/texts", os.environ)


class RemoteFileSystem(LocalFileSystem):
    """Local folders under addresses of another kind: what Beam's file systems do for gs:// and the like."""

    @classmethod
    def scheme(cls) -> str:
        return "remote"

    def open(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> Any:
        return super().open(path.removeprefix("remote:/"), mime_type, compression_type)

    def exists(self, path: str) -> bool:
        return bool(super().exists(path.removeprefix("remote:/")))


def test_a_folder_on_an_object_store(hub: HubServer, tmp_path: Path) -> None:
    output = f"remote:/{make_output(tmp_path, base=[FIRST, SECOND])}"
    push(output, "mint/texts", to(hub))
    files = hub.repositories["mint/texts"].files
    assert set(files) == {".gitattributes", "README.md", "manifest.json", FIRST, SECOND}
    assert files[SECOND] == SECOND.encode() and files["README.md"] == CARD
    (tmp_path / FIRST).unlink()
    with pytest.raises(PushFailed, match=f"{output}/{FIRST} cannot be read .*: run `generate`"):
        push(output, "mint/texts", to(hub))
