"""Inspects what earlier runs left in the dataset folder, and puts it in order before a new run starts."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from textmint.pipelines.options.config import Config
from textmint.transforms.core.errors import RunFailed, system_reason
from textmint.transforms.dataset.manifest import MANIFEST, examples_asked, lower_recorded_replies, recorded_replies
from textmint.transforms.dataset.publish import STAGING, finish_publishing
from textmint.transforms.dataset.published_files import published_files, refreshes_lacking_files
from textmint.transforms.ledger.files import CheckedFiles, check_files, sound_files
from textmint.transforms.ledger.journal import JOURNAL, waiting_replies
from textmint.transforms.ledger.mend import Damage
from textmint.transforms.ledger.merge_journals import MergedJournals, merge_journals, paid_in_journals
from textmint.transforms.ledger.read_ledger import groups_of
from textmint.transforms.ledger.table import Paid, write_replies
from textmint.transforms.storage import files, lease
from textmint.transforms.storage.listing import Listing, Row, write_listing

_LOG = logging.getLogger("textmint")
_LEASE: Final = "refresh="
_MOST_LISTED: Final = 4  # problems in one line
_THEN: Final = "then run the same command again. Nothing was paid for"
_MANIFEST_GONE: Final = (
    "%s is gone: nothing tells whether all replies that were paid for are there, and how other refreshes number their "
    "examples; if you have a copy, end this run and bring it back"
)
_FILES_GONE: Final = (
    "refresh=%s: files of its tasks or examples are gone, so this run may repeat what was in them; run that refresh "
    "again, which pays for nothing twice"
)
NAMED_FILES: Final = 1_000
"""The most files that a graph names itself: about 10 kB of it for each step that reads them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRun:
    """What a run builds on.

    Args:
      ledger: the files with the replies that were paid for.
      ledger_replies: how many replies they hold.
      paid: how many there are with those that wait in journals, by refresh and kind.
      tasks: published files of all refreshes: path, refresh, and how many examples were asked for of each task.
      examples: published files: path and refresh, without the run's own refresh if no later one has any.
      published_examples: how many examples they hold.
      is_alone: whether no other refresh that is being written may take plain ids for examples; see the function.
      was_mended: whether something was found that a run had left half done, or that could not be read.
      listings: the lists of ledger, tasks or examples that stand in a file (`with_listings`).
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
        """Returns the files of one kind as the step that reads them takes them: a listing, or the files themselves."""
        return self.listings.get(which) or getattr(self, which)

    def paid_by(self, refresh: str) -> dict[str, int]:
        """Returns how many replies the ledger holds that runs of a refresh paid for, by kind."""
        return {kind: count for (payer, kind), count in self.paid.items() if payer == refresh}


NOTHING: Final = PreviousRun()
"""The content of a folder that no run has written to."""


def inspect_output(config: Config) -> PreviousRun:
    """Finds what a run builds on. On a local disk it completes what a killed run left half done: its publication, and
    its journals of replies. No other run may write to the refresh.

    Raises:
      RunFailed: the folder cannot be read or written; or replies that were paid for are missing, and `--rebuy` was not
        given.
    """
    try:
        return _inspect(config)
    except OSError as error:
        raise _failed(error.filename or config.output, error) from None


def _failed(where: str, error: OSError) -> RunFailed:
    return RunFailed(f"{where}: {system_reason(error)}; mend that, {_THEN}")


def _inspect(config: Config) -> PreviousRun:
    finish_publishing(config.output, leased=config.refresh)
    try:
        recorded = recorded_replies(config.output)  # before they are counted, for other refreshes may be under way
    except ValueError as error:
        raise RunFailed(f"{error}; {_THEN}") from None
    merged = _merge_journals(config) if files.is_local(config.ledger) else MergedJournals()
    if merged.replies:
        _LOG.info("%s replies of a run that was cut short are in the ledger", f"{merged.replies:,}")
    if merged.damaged:
        _LOG.warning(
            "%s lines of its journals could not be read; whole ones are kept in _set_aside", f"{merged.damaged:,}"
        )
    checked, paid = _count(config.ledger, mend=config.rebuy)
    for name, reason in checked.set_aside.items():
        _LOG.warning("%s is set aside: %s", files.join(config.ledger, name), reason)
    if problem := _missing(config.ledger, recorded - paid, checked.damaged, merged.left):
        if not config.rebuy:
            raise RunFailed(
                f"{problem}; bring them back from where you have a copy, or add --rebuy to go on without them and pay "
                "again for those that are needed. Nothing was paid for"
            )
        _LOG.warning("%s; those that are needed are paid for again (--rebuy)", problem)
        lower_recorded_replies(config.output, paid)
    alone = is_alone(config)
    tasks = published_files(config.output, "tasks")
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
        tasks=_with_numbers(tasks, config.output),
        examples=tuple((path, label) for path, label, _ in examples),
        published_examples=sum(rows for _, _, rows in examples),
        is_alone=alone,
        was_mended=bool(merged.replies or merged.damaged or checked.set_aside or problem),
    )


def look_at_output(config: Config, folder: str) -> PreviousRun:
    """Finds what the prompts of a run depend on, and writes to `folder` alone, a local one. Files of the ledger that
    cannot be used are left out.

    Raises:
      RunFailed: the dataset folder cannot be read.
    """
    try:
        waiting = waiting_replies(config.ledger) if files.is_local(config.ledger) else ()
        copied = [write_replies(folder, table) for table in waiting if table.num_rows]
        previous = PreviousRun(
            ledger=(*sound_files(config.ledger), *copied),
            tasks=_with_numbers(published_files(config.output, "tasks"), config.output),
            is_alone=is_alone(config),
        )
    except OSError as error:
        raise _failed(error.filename or config.output, error) from None
    return with_listings(previous, folder)


def _with_numbers(found: Sequence[tuple[str, str, int]], output: str) -> tuple[Row, ...]:
    """Says of each file of tasks how many examples its refresh asked for of each."""
    asked = examples_asked(output) if found else {}
    return tuple((path, label, str(asked.get(label, 1))) for path, label, _ in found)


def _count(ledger: str, *, mend: bool, thorough: bool | None = None) -> tuple[CheckedFiles, Paid]:
    """Finds the files of a ledger, and counts its replies: those in journals first, since they may become files."""
    waiting = paid_in_journals(ledger) if files.is_local(ledger) else Paid()
    checked = check_files(ledger, mend=mend, thorough=True if mend else thorough)
    return checked, checked.paid + waiting


def _missing(ledger: str, lost: Paid, damaged: Mapping[str, Damage], left: Mapping[str, int]) -> str:
    """Says in one line what is missing in a ledger; "" if nothing is."""
    problems = []
    if lost:
        by_label: dict[str, list[str]] = {}
        for (label, kind), count in sorted(lost.items()):
            by_label.setdefault(label, []).append(f"{count:,} {kind}")
        labels = "; ".join(f"refresh={label}: {', '.join(kinds)}" for label, kinds in by_label.items())
        problems.append(f"{lost.total():,} replies that were paid for are missing in {ledger} ({labels})")
    problems += [f"{files.join(ledger, name)}: {of}" for name, of in sorted(damaged.items()) if of.lost != 0]
    problems += [
        f"{files.join(ledger, JOURNAL, name)}: {count:,} of its lines are damaged" for name, count in left.items()
    ]
    if (more := len(problems) - _MOST_LISTED) > 0:
        problems = [*problems[:_MOST_LISTED], f"and {more:,} more files"]
    return "; ".join(problems)


def missing_replies(config: Config) -> str:
    """Says in one line which replies were deleted from the ledger while a run was under way; "" if none was.

    Raises:
      OSError: the folder cannot be read.
    """
    recorded = recorded_replies(config.output)
    checked, paid = _count(config.ledger, mend=False, thorough=False)
    return _missing(config.ledger, recorded - paid, checked.damaged, {})


def prepare_to_ask(config: Config, previous: PreviousRun, folder: str) -> PreviousRun:
    """Marks the run in its folder if it is not alone, and moves long lists into files of its staging folder.

    Raises:
      RunFailed: the folder cannot be read or written.
    """
    if not previous.is_alone:
        mark = _not_alone(config.output, config.refresh)
        try:
            files.write_file(mark, b"")
        except OSError as error:
            raise _failed(error.filename or mark, error) from None
    return with_listings(previous, folder)


def is_alone(config: Config) -> bool:
    """Returns whether the examples of the user's own tasks may have plain ids, whatever other refreshes are being
    written. For brainstormed tasks, which yield in any case, it is True.

    Another run with the same tasks takes the plain ids, unless it has left a mark that it leaves them to others
    (`prepare_to_ask`). The mark stays until its refresh is published, so that a run that is started again asks for what
    the first one has paid for. Of two runs that begin at the same moment at least one leaves the ids, since each has
    its lease before it looks.

    Call this before the published files are listed: then a run that ends in between is seen by one of the two.

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
    return files.join(output, STAGING, f"{_LEASE}{label}", "not-alone")


def with_listings(previous: PreviousRun, folder: str, *, most: int = NAMED_FILES) -> PreviousRun:
    """Moves lists of more than `most` files, too long for a graph, into files of the staging folder.

    Raises:
      RunFailed: a file cannot be written.
    """
    rows: dict[str, Sequence[Row]] = {"tasks": previous.tasks, "examples": previous.examples}
    if len(previous.ledger) > most:
        rows["ledger"] = groups_of(previous.ledger)
    try:
        listings = {
            which: write_listing(files.join(folder, "listings", f"{which}.jsonl"), found)
            for which, found in rows.items()
            if which == "ledger" or len(found) > most
        }
    except OSError as error:
        raise _failed(folder, error) from None
    return dataclasses.replace(previous, listings=listings)


def _merge_journals(config: Config) -> MergedJournals:
    """Turns the journals of a killed run into files. Waits for its worker processes, which may outlive it for a moment,
    but not for runs of other refreshes."""
    total = MergedJournals()
    for _ in range(25):
        merged = merge_journals(config.ledger, mend=config.rebuy)
        total = MergedJournals(
            journals=total.journals + merged.journals,
            replies=total.replies + merged.replies,
            damaged=total.damaged + merged.damaged,
            busy=merged.busy,
            left=merged.left,
        )
        if not merged.busy or len(lease.holders(config.output)) > 1:
            break
        time.sleep(0.2)
    return total
