"""ReadLedger: the replies that a run can use come out, and no file of the ledger ends the run."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.ledger.files import files_set_aside, ledger_files
from textmint.transforms.ledger.join import paid_replies
from textmint.transforms.ledger.read_ledger import ReadLedger, groups_of
from textmint.transforms.ledger.table import replies_file
from textmint.transforms.storage import files
from textmint.transforms.storage.files import FoundFile

from tests.support.helpers import Ran, make_draft, run_graph
from tests.support.ledger_rows import paid, table_of

DRAFTS = [make_draft("Sort bees", n).draft_id for n in range(40)]


def content_of(drafts: Sequence[str], kind: str = "example", fingerprint: str = "f", text: str = "yes") -> bytes:
    fields = {"kind": kind, "fingerprint": fingerprint, "text": text}
    rows = [paid(number, draft_id=id_, request_id=id_[::-1], **fields) for number, id_ in enumerate(drafts)]
    return replies_file(table_of(rows))[1]


def put(folder: str | Path, name: str, content: bytes) -> str:
    files.write_file(files.join(str(folder), name), content)
    return name


def damaged(content: bytes) -> bytes:
    """A file with a good footer, and a page of texts that cannot be unpacked."""
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "text")
    start, size = column.data_page_offset, column.total_compressed_size
    return content[:start] + b"\xff" * size + content[start + size :]


def read(folder: str | Path, found: Sequence[FoundFile] | None = None, **wanted: str) -> Ran:
    asked = {"kind": "example", "fingerprint": "f", **wanted}
    there = ledger_files(str(folder)) if found is None else found
    return run_graph(lambda pipeline: pipeline | ReadLedger(there, **asked))


def drafts_in(ran: Ran) -> list[str]:
    return sorted(id_ for table in ran.elements for id_ in table["draft_id"].to_pylist())


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, bytes]) -> str:
    return str(tmp_path) if request.param == "disk" else "mem://bucket/data/ledger"


# --- groups


def found_files(*sizes: int) -> list[FoundFile]:
    return [FoundFile(f"/ledger/{number:04d}", size) for number, size in enumerate(sizes)]


MB = 1 << 20


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([0], [1]),
        ([100 * MB], [1]),
        ([16 * MB, 1], [1, 1]),
        ([8 * MB, 8 * MB, 1], [2, 1]),
        ([1, 100 * MB, 1], [1, 1, 1]),
        ([1] * 600, [256, 256, 88]),
        ([MB] * 40, [16, 16, 8]),
    ],
)
def test_small_files_are_read_together(sizes: list[int], groups: list[int]) -> None:
    found = found_files(*sizes)
    made = groups_of(found)
    assert [len(group) for group in made] == groups
    assert [path for group in made for path in group] == [file.path for file in found]


# --- what comes out


def test_every_reply_comes_out_once(folder: str) -> None:
    for part in range(4):
        put(folder, f"replies-{part}.parquet", content_of(DRAFTS[part::4]))
    ran = read(folder)
    assert drafts_in(ran) == sorted(DRAFTS)
    assert ran.counters == {"ReadLedger/replies": 40}
    paid = paid_replies(ran.elements, set(DRAFTS))
    assert {id_: [(one.request_id, one.text) for one in replies] for id_, replies in paid.items()} == {
        id_: [(id_[::-1], "yes")] for id_ in DRAFTS
    }


def test_replies_of_another_kind_or_model_do_not(folder: str) -> None:
    put(folder, "a.parquet", content_of(DRAFTS[:3]))
    put(folder, "b.parquet", content_of(DRAFTS[3:6], kind="task_list"))
    put(folder, "c.parquet", content_of(DRAFTS[6:9], fingerprint="g"))
    assert drafts_in(read(folder)) == sorted(DRAFTS[:3])
    assert drafts_in(read(folder, kind="task_list")) == sorted(DRAFTS[3:6])
    assert drafts_in(read(folder, fingerprint="g")) == sorted(DRAFTS[6:9])
    assert read(folder, fingerprint="g", kind="task_list") == Ran([], {}, {})


def test_no_files_no_replies() -> None:
    assert read("", found=[]) == Ran([], {}, {})


# --- files that cannot be read


BAD = {
    "damaged.parquet": damaged(content_of(DRAFTS)),
    "cut.parquet": content_of(DRAFTS[:3])[:-40],
    "empty.parquet": b"",
    "foreign.parquet": b"hello, this is no ledger",
}


def test_the_page_is_the_only_thing_that_is_damaged() -> None:
    """Else the look at the footers, before a run, would have found it."""
    assert pq.ParquetFile(io.BytesIO(BAD["damaged.parquet"])).metadata.num_rows == 40


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_what_was_written_ends_the_run_and_stays(name: str, folder: str) -> None:
    put(folder, "before.parquet", content_of(DRAFTS[:3]))
    put(folder, name, BAD[name])
    with pytest.raises(RunFailed, match=rf"^{re.escape(files.join(folder, name))}, which holds .* --rebuy"):
        read(folder)
    assert files.read_file(files.join(folder, name)) == BAD[name]
    assert files_set_aside(folder) == {}


def test_a_file_that_is_gone_meanwhile_ends_the_run(folder: str) -> None:
    put(folder, "a.parquet", content_of(DRAFTS[:3]))
    gone = FoundFile(files.join(folder, "gone.parquet"), 100)
    with pytest.raises(RunFailed, match=r".*gone\.parquet, which holds .* is gone since the run began"):
        read(folder, [gone, *ledger_files(folder)])
