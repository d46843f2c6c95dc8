"""What the ledger holds of the replies of a run's models, by what they were asked for. It changes nothing there."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from textmint.pipelines.graph.plan import Seen
from textmint.pipelines.graph.prompt_estimates import stratum_of
from textmint.pipelines.options.config import Config
from textmint.transforms.core.attributes import Attributes
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.ledger.files import sound_files
from textmint.transforms.ledger.journal import waiting_replies
from textmint.transforms.ledger.table import LedgerFileError, read_replies
from textmint.transforms.llm.base import fingerprint_of
from textmint.transforms.storage import files

_PICKED: Final = 20_000  # replies whose attributes are looked up
_COLUMNS: Final = ("kind", "fingerprint", "draft_id", "attempt", "prompt_tokens", "output_tokens", "latency_ms")


def replies_seen(config: Config) -> dict[str, Seen]:
    """Reads what the ledger holds of the replies of the run's models, by kind of prompt.

    Replies of all refreshes count. Those to prompts of examples, and to verifications of these, are divided by what
    the drafts asked for, which their ids tell.

    Raises:
      RunFailed: a file is damaged.
    """
    wanted = {fingerprint_of(config.backend): ("task_list", "label_set", config.example_kind)}
    if config.verify_backend is not None:
        verifier = fingerprint_of(config.verify_backend)
        wanted[verifier] = (*wanted.get(verifier, ()), "choice")
    tables: dict[str, list[pa.Table]] = {}
    for table in _tables(config.ledger):
        for fingerprint, kinds in wanted.items():
            of_model = table.filter(pc.equal(table["fingerprint"], fingerprint))
            for kind in kinds:
                found = of_model.filter(pc.equal(of_model["kind"], kind))
                if found.num_rows:
                    tables.setdefault(kind, []).append(found.select(_COLUMNS[2:]))
    joined = {kind: pa.concat_tables(found) for kind, found in tables.items()}
    drafts = _picked(joined[config.example_kind], config.attributes) if config.example_kind in joined else {}
    choices = {stable_hash("choice", draft_id): stratum for draft_id, stratum in drafts.items()}
    of_kind: Mapping[str, Mapping[str, str]] = {config.example_kind: drafts, "choice": choices}
    return {kind: _seen(table, of_kind.get(kind)) for kind, table in joined.items()}


def _picked(table: pa.Table, attributes: Attributes) -> dict[str, str]:
    """Returns the stratum of drafts, some of them where there are many."""
    ids = table["draft_id"].to_pylist()
    return {
        draft_id: stratum_of(
            attributes.language.pick(draft_id, "language"), attributes.num_words.pick(draft_id, "num_words")
        )
        for draft_id in ids[:: -(-len(ids) // _PICKED)]
    }


def _tables(ledger: str) -> Iterator[pa.Table]:
    for file in sound_files(ledger):
        try:
            yield read_replies(files.read_file(file.path), _COLUMNS, name=file.name)
        except FileNotFoundError:  # merged by somebody at this moment
            continue
        except LedgerFileError as error:
            raise RunFailed(
                f"{file.path}, which holds replies that were paid for: {error}; bring it back from where you have a "
                "copy, or run generate with --rebuy, which keeps what is whole in it"
            ) from None
    if files.is_local(ledger):
        for table in waiting_replies(ledger):
            yield table.select(_COLUMNS)


def _seen(table: pa.Table, strata: Mapping[str, str] | None) -> Seen:
    """Sums up replies to prompts of one kind; `strata` has the stratum by draft, None where there is one alone."""

    def total(column: str) -> int:
        return int(pc.sum(table[column]).as_py())

    tokens = {"": (table.num_rows, total("prompt_tokens"), total("output_tokens"))}
    if strata is not None:
        sums: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
        columns = (table[name].to_pylist() for name in ("draft_id", "prompt_tokens", "output_tokens"))
        for draft_id, prompt, output in zip(*columns, strict=True):
            if (stratum := strata.get(draft_id)) is not None:
                sums[stratum] = [so_far + more for so_far, more in zip(sums[stratum], (1, prompt, output), strict=True)]
        tokens = {name: (number, prompt, output) for name, (number, prompt, output) in sums.items()} or tokens
    return Seen(
        replies=table.num_rows,
        firsts=int(pc.sum(pc.equal(table["attempt"], 0)).as_py()),
        latency_ms=total("latency_ms"),
        tokens=tokens,
    )
