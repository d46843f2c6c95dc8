"""The files of a ledger as a whole: small ones merged into larger ones, and what is in them all."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from textmint.transforms.ledger.files import check_files, files_set_aside, ledger_files, mend_file
from textmint.transforms.ledger.journal import waiting_replies
from textmint.transforms.ledger.merge_journals import FILE_BYTES
from textmint.transforms.ledger.table import (
    FIRST_BY,
    LedgerFileError,
    Paid,
    name_for,
    paid_in,
    read_replies,
    write_replies,
)
from textmint.transforms.storage import files

_SMALL_BYTES: Final = 8 << 20  # of a file: compacting leaves larger ones as they are


@dataclasses.dataclass(frozen=True, slots=True)
class Compacted:
    """What merging did.

    Args:
      before: number of files.
      after: number of files.
      left_out: how many rows, by refresh and kind, since an earlier row has their request.
    """

    before: int
    after: int
    left_out: Paid

    @property
    def duplicates(self) -> int:
        """How many rows were left out."""
        return self.left_out.total()


def compact(folder: str) -> Compacted:
    """Merges the small files of a ledger into larger ones. A kill at any moment leaves some rows twice, which is
    harmless, and loses none. No run may be under way: it would look for files that are gone.
    """
    found = check_files(folder).found
    left_out: Paid = collections.Counter()
    group: list[tuple[str, pa.Table]] = []
    size = 0
    for file in found:
        if file.bytes >= _SMALL_BYTES:
            continue
        try:
            table = read_replies(files.read_file(file.path), name=file.name)
        except LedgerFileError as error:
            mend_file(file, str(error))
            continue
        if group and size + table.nbytes > FILE_BYTES:
            left_out += _merge(folder, group)
            group, size = [], 0
        group.append((file.path, table))
        size += table.nbytes
    left_out += _merge(folder, group)
    return Compacted(len(found), len(ledger_files(folder)), left_out)


def _merge(folder: str, group: Sequence[tuple[str, pa.Table]]) -> Paid:
    if len(group) < 2:
        return collections.Counter()
    table = pa.concat_tables([table for _, table in group])
    kept = first_of_each(table)
    written = write_replies(folder, kept)
    if name_for(files.read_file(written.path)) != written.name:
        raise OSError(f"{written.path} does not hold what was written to it")
    files.delete_files(old for old, _ in group if old.rpartition("/")[2] != written.name)
    return paid_in(table) - paid_in(kept)


def first_of_each(table: pa.Table) -> pa.Table:
    """Keeps of the replies to each request the earliest: the one that a run takes, see `join.paid_replies`."""
    ordered = table.sort_by([(name, "ascending") for name in ("request_id", "time", *FIRST_BY)])
    if ordered.num_rows < 2:
        return ordered
    ids = pa.concat_arrays(ordered["request_id"].chunks)
    is_other = pc.not_equal(ids[1:], ids[:-1])
    return ordered.filter(pa.concat_arrays([pa.array([True]), is_other]))


@dataclasses.dataclass(slots=True)
class ModelReplies:
    """What a ledger holds of one model and refresh: rows, tokens, and how many files hold some of these rows."""

    replies: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    files: int = 0


@dataclasses.dataclass(slots=True)
class Contents:
    """What a ledger holds.

    Args:
      by_model: by refresh and model.
      files: Parquet files.
      bytes: of these.
      journals: replies that are only in journals yet.
      set_aside: files that could not be read, and why.
    """

    by_model: dict[tuple[str, str], ModelReplies]
    files: int
    bytes: int
    journals: int
    set_aside: dict[str, str]


def contents(folder: str) -> Contents:
    """Counts what a ledger holds, one file at a time, and sets files aside that are not of a ledger."""
    columns = ["refresh", "model", "prompt_tokens", "output_tokens"]
    by_model: dict[tuple[str, str], ModelReplies] = collections.defaultdict(ModelReplies)
    found = []
    for file in check_files(folder).found:
        try:
            table = read_replies(files.read_file(file.path), columns, name=file.name)
        except FileNotFoundError:
            continue
        except LedgerFileError as error:
            mended = mend_file(file, str(error)).found
            if not mended:
                continue
            file = mended[0]
            table = read_replies(files.read_file(file.path), columns, name=file.name)
        found.append(file)
        _count(by_model, table, files=1)
    waiting = 0
    for table in waiting_replies(folder) if files.is_local(folder) else ():
        waiting += table.num_rows
        _count(by_model, table, files=0)
    return Contents(dict(by_model), len(found), sum(file.bytes for file in found), waiting, files_set_aside(folder))


TokensPaid = Mapping[str, tuple[int, int, int]]
"""How many replies, and their tokens, of prompts and of replies, by the fingerprint of the model."""


def tokens_paid(folder: str, refresh: str) -> TokensPaid:
    """Sums up the tokens of all replies that runs of a refresh paid for, one file at a time. The files are sound: a run
    has checked them. Of a row that stands twice, as a kill while files are merged can leave it, one counts."""
    columns = ["refresh", "fingerprint", "request_id", "time", "prompt_tokens", "output_tokens"]
    tables = [
        read_replies(files.read_file(file.path), columns, name=file.name, refresh=refresh)
        for file in ledger_files(folder)
    ]
    for table in waiting_replies(folder) if files.is_local(folder) else ():
        tables.append(table.select(columns).filter(pc.equal(table["refresh"], refresh)))
    if not tables:
        return {}
    tokens = [("prompt_tokens", "max"), ("output_tokens", "max")]
    once = pa.concat_tables(tables).group_by(["fingerprint", "request_id", "time"]).aggregate(tokens)
    sums = [([], "count_all"), *((f"{name}_max", "sum") for name, _ in tokens)]
    return {
        row["fingerprint"]: (row["count_all"], row["prompt_tokens_max_sum"], row["output_tokens_max_sum"])
        for row in once.group_by("fingerprint").aggregate(sums).to_pylist()
    }


def _count(by_model: dict[tuple[str, str], ModelReplies], table: pa.Table, *, files: int) -> None:
    sums = [("prompt_tokens", "sum"), ("output_tokens", "sum"), ([], "count_all")]
    for row in table.group_by(["refresh", "model"]).aggregate(sums).to_pylist():
        of_model = by_model[row["refresh"], row["model"]]
        of_model.replies += row["count_all"]
        of_model.prompt_tokens += row["prompt_tokens_sum"]
        of_model.output_tokens += row["output_tokens_sum"]
        of_model.files += files
