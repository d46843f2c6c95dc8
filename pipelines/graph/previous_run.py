"""What earlier runs left in the dataset folder, brought into order before a new one starts."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from textmint.pipelines.options.config import Config
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.manifest import MANIFEST, examples_asked, lower_recorded_replies, recorded_replies
from textmint.transforms.dataset.publish import STAGING, finish_publishing
from textmint.transforms.dataset.published_files import published_files, refreshes_lacking_files
from textmint.transforms.ledger.files import CheckedFiles, check_files
from textmint.transforms.ledger.journal import JOURNAL
from textmint.transforms.ledger.mend import Damage
from textmint.transforms.ledger.merge_journals import MergedJournals, merge_journals, paid_in_journals
from textmint.transforms.ledger.read_ledger import groups_of
from textmint.transforms.ledger.table import Paid
from textmint.transforms.storage import files, lease
from textmint.transforms.storage.listing import Listing, Row, write_listing

_LOG = logging.getLogger("textmint")
_NOT_ALONE: Final = "not-alone"
_LEASE: Final = "refresh="
_FOLD_TRIES: Final = 25
_FOLD_SECONDS: Final = 0.2
_MOST_TOLD: Final = 4  # of what is wrong, in one line
_MANIFEST_GONE: Final = (
    "%s is gone: nothing tells whether all replies that were paid for are there, and how other labels number their "
    "examples; if you have a copy, end this run and bring it back"
)
_FILES_GONE: Final = (
    "refresh=%s: files of its tasks or examples are gone, so this run may repeat what was in them; run that label "
    "again, which pays for nothing twice"
)
NAMED_FILES: Final = 1_000
"""That a graph may name itself: about 10 kB of it for each step that reads them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRun:
    """What a run builds on.

    Args:
      ledger: the files with what was paid for.
      ledger_replies: rows of these.
      paid: the same, with what waits in journals, by label and kind.
      tasks: published files: path, label, and how many examples were asked for of each task. The label of the run is
        among them.
      examples: the same: path and label, without those of the run's label where no later one has any.
      published_examples: rows of these.
      is_alone: whether no other label that is being written may take plain ids for examples; see the function.
      was_mended: whether something was found that a run had left half done, or that could not be read.
      listings: of which of ledger, tasks and examples the names stand in a file (`with_listings`).
    """

    ledger: tuple[files.FoundFile, ...] = ()
    ledger_replies: int = 0
    paid: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    tasks: tuple[Row, ...] = ()
    examples: tuple[Row, ...] = ()
    published_examples: int = 0
    is_alone: bool = True
    was_mended: bool = False
    listings: Mapping[str, Listing] = dataclasses.field(default_factory=dict)

    def named(self, which: Literal["ledger", "tasks", "examples"]) -> Any:
        """-> the files of one kind as the step that reads them takes them: a listing of them, or they themselves."""
        return self.listings.get(which) or getattr(self, which)

    def paid_by(self, label: str) -> dict[str, int]:
        """-> how many replies the ledger holds that runs of a label paid for, by kind."""
        return {kind: count for (refresh, kind), count in self.paid.items() if refresh == label}


NOTHING: Final = PreviousRun()
"""What a folder holds that no run has written to."""


def inspect_output(config: Config) -> PreviousRun:
    """A checked Config, whose label no other run writes to -> what its run builds on. On a local disk, what a run that
    was killed left half done is completed: its publication, and its journals of replies.

    Raises:
      RunFailed: the folder cannot be read or written; or replies that were paid for are missing, and `--rebuy` does not
        say that it may go on without them.
    """
    try:
        return _look(config)
    except OSError as error:
        raise _failed(error.filename or config.output, error) from None


def _failed(where: str, error: OSError) -> RunFailed:
    reason = " ".join((error.strerror or str(error)).split())
    return RunFailed(f"{where}: {reason}; mend that, then run the same command again. Nothing was paid for")


def _look(config: Config) -> PreviousRun:
    finish_publishing(config.output, leased=config.refresh)
    try:
        told = recorded_replies(config.output)  # before what is there is counted, for other labels may be under way
    except ValueError as error:
        raise RunFailed(f"{error}; then run the same command again. Nothing was paid for") from None
    folded = _fold(config) if files.is_local(config.ledger) else MergedJournals()
    if folded.replies:
        _LOG.info("%s replies of a run that was cut short are in the ledger", f"{folded.replies:,}")
    if folded.damaged:
        _LOG.warning(
            "%s lines of its journals could not be read; whole ones are kept in _set_aside", f"{folded.damaged:,}"
        )
    checked, paid = _count(config.ledger, mend=config.rebuy)
    for name, reason in checked.set_aside.items():
        _LOG.warning("%s is set aside: %s", files.join(config.ledger, name), reason)
    if problem := _missing(config.ledger, told - paid, checked.damaged, folded.left):
        if not config.rebuy:
            raise RunFailed(
                f"{problem}; bring them back from where you have a copy, or add --rebuy to go on without them and pay "
                "again for those that are needed. Nothing was paid for"
            )
        _LOG.warning("%s; those that are needed are paid for again (--rebuy)", problem)
        lower_recorded_replies(config.output, paid)
    alone = is_alone(config)
    tasks = published_files(config.output, "tasks")
    asked = examples_asked(config.output) if tasks else {}
    examples = published_files(config.output, "examples")
    if (tasks or examples) and not files.exists(files.join(config.output, MANIFEST)):
        _LOG.warning(_MANIFEST_GONE, files.join(config.output, MANIFEST))
    for label in sorted(refreshes_lacking_files(config.output, (*tasks, *examples)) - {config.refresh}):
        _LOG.warning(_FILES_GONE, label)
    if not any(label > config.refresh for _, label, _ in examples):
        examples = [found for found in examples if found[1] != config.refresh]
    return PreviousRun(
        ledger=checked.found,
        ledger_replies=checked.replies,
        paid=paid,
        tasks=tuple((path, label, str(asked.get(label, 1))) for path, label, _ in tasks),
        examples=tuple((path, label) for path, label, _ in examples),
        published_examples=sum(rows for _, _, rows in examples),
        is_alone=alone,
        was_mended=bool(folded.replies or folded.damaged or checked.set_aside or problem),
    )


def _count(ledger: str, *, mend: bool, thorough: bool | None = None) -> tuple[CheckedFiles, Paid]:
    """-> the files of a ledger, and how many replies are in it: first those in journals, which may become files."""
    waiting = paid_in_journals(ledger) if files.is_local(ledger) else Paid()
    checked = check_files(ledger, mend=mend, thorough=True if mend else thorough)
    return checked, checked.paid + waiting


def _missing(ledger: str, lost: Paid, damaged: Mapping[str, Damage], left: Mapping[str, int]) -> str:
    """What is missing in a ledger -> one line for a person; "" where nothing is."""
    told = []
    if lost:
        by_label: dict[str, list[str]] = {}
        for (label, kind), count in sorted(lost.items()):
            by_label.setdefault(label, []).append(f"{count:,} {kind}")
        labels = "; ".join(f"refresh={label}: {', '.join(kinds)}" for label, kinds in by_label.items())
        told.append(f"{lost.total():,} replies that were paid for are missing in {ledger} ({labels})")
    told += [f"{files.join(ledger, name)}: {of}" for name, of in sorted(damaged.items()) if of.lost != 0]
    told += [f"{files.join(ledger, JOURNAL, name)}: {count:,} of its lines are damaged" for name, count in left.items()]
    more = len(told) - _MOST_TOLD
    return "; ".join(told if more <= 0 else [*told[:_MOST_TOLD], f"and {more:,} more files"])


def missing_replies(config: Config) -> str:
    """A run that has published -> one line that tells which replies that were paid for are missing by now; "" where
    none is. They may have been deleted while it ran.

    Raises:
      OSError: the folder cannot be read.
    """
    told = recorded_replies(config.output)
    checked, paid = _count(config.ledger, mend=False, thorough=False)
    return _missing(config.ledger, told - paid, checked.damaged, {})


def prepare_to_ask(config: Config, previous: PreviousRun, folder: str) -> PreviousRun:
    """Makes what earlier runs left ready for a run that is going to ask.

    Args:
      config: of the run.
      previous: as `look` found it.
      folder: the run's staging folder.

    Returns:
      the same, with long lists in files.

    Raises:
      RunFailed: the folder cannot be read or written.
    """
    if not previous.is_alone:
        told = _not_alone(config.output, config.refresh)
        try:
            files.write_file(told, b"")
        except OSError as error:
            raise _failed(error.filename or told, error) from None
    return with_listings(previous, folder)


def is_alone(config: Config) -> bool:
    """May the examples of the user's own tasks have plain ids in this run, as far as other labels are concerned that
    are being written?

    What another run will publish is not known before it has; if it has the same tasks of the user's, it has taken the
    plain ids of their examples, unless it has written down that it leaves them to others (`prepare_to_ask`). That stays
    until its label is published, so that a run that is started again asks for what the first one has paid for. Of two
    runs that begin at the same moment at least one leaves them, since each has its own lease before it looks.

    Ask this before the published files are listed: a run that ends in between is seen by them, or here.

    Args:
      config: of a run whose label no other run writes to.

    Returns:
      whether that is so, or no matter: brainstormed tasks yield in any case.

    Raises:
      OSError: the folder cannot be read.
    """
    if not config.tasks:
        return True
    if files.exists(_not_alone(config.output, config.refresh)):
        return False
    labels = (name.removeprefix(_LEASE) for name in lease.holders(config.output) if name.startswith(_LEASE))
    return all(label == config.refresh or files.exists(_not_alone(config.output, label)) for label in labels)


def _not_alone(output: str, label: str) -> str:
    return files.join(output, STAGING, f"{_LEASE}{label}", _NOT_ALONE)


def with_listings(previous: PreviousRun, folder: str, *, most: int = NAMED_FILES) -> PreviousRun:
    """What earlier runs left, and the run's staging folder -> the same, with lists of files that are too long for a
    graph in files of that folder.

    Args:
      most: so many files may the graph name itself.

    Raises:
      RunFailed: a file cannot be written.
    """
    rows: dict[str, Sequence[Row]] = {}
    if len(previous.ledger) > most:
        rows["ledger"] = groups_of(previous.ledger)
    if len(previous.tasks) > most:
        rows["tasks"] = previous.tasks
    if len(previous.examples) > most:
        rows["examples"] = previous.examples
    try:
        listings = {
            which: write_listing(files.join(folder, "listings", f"{which}.jsonl"), found)
            for which, found in rows.items()
        }
    except OSError as error:
        raise _failed(folder, error) from None
    return dataclasses.replace(previous, listings=listings)


def _fold(config: Config) -> MergedJournals:
    """Turns the journals of a run that was cut short into files. Its worker processes may outlive it for a moment, so
    they are waited for; the journals of other labels' runs, which are under way, are not."""
    total = MergedJournals()
    for _ in range(_FOLD_TRIES):
        folded = merge_journals(config.ledger, mend=config.rebuy)
        total = MergedJournals(
            journals=total.journals + folded.journals,
            replies=total.replies + folded.replies,
            damaged=total.damaged + folded.damaged,
            busy=folded.busy,
            left=folded.left,
        )
        if not folded.busy or len(lease.holders(config.output)) > 1:
            break
        time.sleep(_FOLD_SECONDS)
    return total
