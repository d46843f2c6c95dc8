"""Publishing: the files of a run take the place of those of its refresh, all at once or not at all.

    OUTPUT/{examples,tasks,...}/refresh=NAME/part-00000-of-00001-DIGEST.parquet    OUTPUT/manifest.json
    OUTPUT/_staging/refresh=NAME/RUN_ID/...    what a run has written and not yet published

Names of files hold a digest of the content, so a bundle that an engine retries writes the same file again.

On a local disk each folder is exchanged in one atomic step. The plan of the exchange is written first, and the next run
completes what a killed run has begun (`finish_publishing`). Object stores cannot exchange folders: there the new files
are written, then the manifest, which lists the files that count, then the old files are deleted.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from textmint.transforms.core.elements import Kind
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.accounting import Counts, as_sent, discrepancies, step_table, with_earlier
from textmint.transforms.dataset.card import write_card
from textmint.transforms.dataset.exchange import can_move, exchange_folders
from textmint.transforms.dataset.manifest import (
    DIGEST,
    MANIFEST,
    digest_of,
    format_manifest,
    is_as_written,
    locked,
    read_entries,
    with_entry,
)
from textmint.transforms.dataset.pages import NO_REPORT
from textmint.transforms.dataset.publish_checks import explain_no_examples, refuse_fewer
from textmint.transforms.dataset.published_files import PARTITION, published_examples
from textmint.transforms.dataset.schema import KINDS, DatasetKind, content_digest
from textmint.transforms.dataset.spending import Rates, Spending, describe, with_costs
from textmint.transforms.dataset.statistics_file import write_statistics
from textmint.transforms.ledger.files import files_set_aside
from textmint.transforms.ledger.table import FOLDER
from textmint.transforms.storage import lease
from textmint.transforms.storage.files import (
    delete_files,
    is_local,
    join,
    list_below,
    list_files,
    move_files,
    read_file,
    update_file,
    write_file,
)

STAGING: Final = "_staging"
ACCEPTED: Final = "Examples/accepted"
"""The counts of a run that publishes nothing hold here how many examples passed everything."""
Figures = Mapping[str, Any] | None
"""What `statistics.json` says of a refresh; None: nothing."""
_PLAN: Final = "publish.json"
_LOG = logging.getLogger("textmint")
_ASKS_FOR: Final[Mapping[str, Kind]] = {
    "TaskGenerate": "task_list",
    "PlanLabels": "label_set",
    "VerifyLabels": "choice",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file that is written but not yet published."""

    kind: DatasetKind
    name: str
    rows: int
    bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a run publishes, and what its entry in the manifest says.

    Args:
      output: the dataset folder, an absolute path or URL.
      refresh: the name of the refresh that the run replaces.
      run_id: names the staging folder; no row depends on it.
      task_requests: brainstorm prompts sent; None where tasks came from files.
      examples_per_task: drafts made of each task.
      description: what else the manifest holds of this run: options, versions, when it was started.
      optional: which of `accounting.OPTIONAL` the graph has.
      held_by_job: whether the job holds the lease of the refresh; otherwise the launcher does.
      example_kind: what the prompts of examples ask for.
      paid: how many replies in the ledger earlier runs of the refresh paid for, by kind.
      replace: whether the run may publish fewer examples than the refresh has.
      prices: of the model that each step asks, by step; None, or no such step: it is not known.
      spent: what earlier passes of the same run have paid.
      earlier: what those have counted.
      publish_from: with fewer examples nothing is published, but the counts are written to `report`.
      report: a file in the staging folder.
    """

    output: str
    refresh: str
    run_id: str
    task_requests: int | None
    examples_per_task: int
    description: Mapping[str, Any]
    optional: tuple[str, ...] = ()
    held_by_job: bool = False
    example_kind: Kind = "example"
    paid: Mapping[str, int] = dataclasses.field(default_factory=dict)
    replace: bool = False
    prices: Mapping[str, Rates | None] = dataclasses.field(default_factory=dict)
    spent: Spending = dataclasses.field(default_factory=Spending)
    earlier: Counts = dataclasses.field(default_factory=dict)
    publish_from: int = 0
    report: str = ""

    def table(self, counts: Counts) -> dict[str, dict[str, Any]]:
        """Makes the table of the steps of the run, see `accounting.step_table`."""
        asked, per_task = self.task_requests, self.examples_per_task
        return step_table(counts, task_requests=asked, examples_per_task=per_task, optional=self.optional)

    @property
    def job_lease(self) -> lease.JobLease | None:
        """Returns the lease of the refresh, where the job holds it."""
        if not self.held_by_job:
            return None
        return lease.JobLease(output=self.output, name=self.partition, owner=self.run_id)

    @property
    def partition(self) -> str:
        """Returns the folder name of the refresh, in Hive's form."""
        return f"{PARTITION}{self.refresh}"

    @property
    def staging(self) -> str:
        """Returns the folder that the run writes to before it publishes."""
        return str(join(self.output, STAGING, self.partition, self.run_id))


def publish(
    target: Target, files: Iterable[StagedFile], counts: Mapping[str, int], figures: Figures = None
) -> dict[str, Any]:
    """Publishes the staged files of a run, and returns its entry in the manifest, or the counts of a run that has less
    than is to be published. Doing it again changes nothing.

    Args:
      target: where to.
      files: what the run has staged.
      counts: see `accounting.Counts`.
      figures: of the rows, for `statistics.json`; None: there are none.

    Raises:
      RunFailed: the counts do not add up, no example was kept, or fewer than the refresh has; then it keeps its data.
        (A run without examples publishes its rejects where there was no data, so that they can be looked at.)
    """
    ordered = sorted(files, key=lambda file: file.name)
    staged: dict[str, list[StagedFile]] = {kind: [file for file in ordered if file.kind == kind] for kind in KINDS}
    rows: dict[str, int] = {kind: sum(file.rows for file in staged[kind]) for kind in KINDS}
    table = target.table(counts)
    if problems := discrepancies(table, rows):
        raise RunFailed(
            f"the counts do not add up, so nothing was published: {'; '.join(problems)}. "
            f"What was written is in {target.staging}"
        )
    if rows["examples"] < target.publish_from:
        found = {**counts, ACCEPTED: rows["examples"]}
        write_file(target.report, json.dumps(found, sort_keys=True).encode())
        return found
    published = published_examples(target.output, target.refresh)
    if published and not rows["examples"]:
        raise RunFailed(
            f"{explain_no_examples(table)} The refresh keeps the data it had; the rejects are in {target.staging}"
        )
    if rows["examples"] < published and not target.replace:
        refuse_fewer(
            target.output,
            target.refresh,
            published,
            examples=[join(target.staging, "examples", file.name) for file in staged["examples"]],
            rejects=[join(target.staging, "rejects", file.name) for file in staged["rejects"]],
            staging=target.staging,
        )
    whole = target.table(with_earlier(counts, target.earlier))
    entry = _entry_of(target, staged, rows, table, whole)
    format_manifest({target.refresh: entry})  # what cannot be formatted is found before any folder is exchanged
    _require_lease(target)
    if is_local(target.output):
        _publish_local(target, staged, entry, figures)
    else:
        _publish_remote(target, staged, entry, figures)
    if not rows["examples"]:
        raise RunFailed(f"{explain_no_examples(table)} The rejects are in {join(target.output, 'rejects')}")
    return entry


def _entry_of(
    target: Target,
    staged: Mapping[str, list[StagedFile]],
    rows: Mapping[str, int],
    table: Mapping[str, Mapping[str, Any]],
    whole: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Makes the entry of the manifest, of the tables of the pass that publishes and of all passes of the run."""
    kinds = [kind for kind in reversed(KINDS) if staged[kind]]
    entries = read_entries(target.output).values()
    backends = [entry["backend"] for entry in entries if isinstance(entry.get("backend"), Mapping)]
    _, spent = with_costs(table, target.prices)
    priced, _ = with_costs(whole, target.prices)
    entry: dict[str, Any] = {
        **target.description,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "backend": as_sent(target.description.get("backend", {}), whole, backends),
        "counts": {kind: rows[kind] for kind in kinds},
        "steps": priced,
        "spending": describe(target.spent + spent, target.prices),
        "ledger": {"replies": _paid_after(target, table), "set_aside": files_set_aside(join(target.output, FOLDER))},
        "files": {
            kind: [
                {"path": f"{kind}/{target.partition}/{file.name}", "rows": file.rows, "bytes": file.bytes}
                for file in staged[kind]
            ]
            for kind in kinds
        },
    }
    return {**entry, DIGEST: digest_of(target.refresh, entry)}


def _paid_after(target: Target, table: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Returns how many replies, by kind, the ledger now holds at least that runs of the refresh have paid for."""
    kinds = {**_ASKS_FOR, "LLMCall": target.example_kind}
    paid = collections.Counter(target.paid)
    for step, line in table.items():
        if "requests" in line:
            asked = int(line["requests"]["sent"]) - int(line["requests"]["retries"])
            paid[kinds[step]] += max(0, asked - int(line["rejected"].get("request_failed", 0)))
    return {kind: count for kind, count in sorted(paid.items()) if count}


def _require_lease(target: Target) -> None:
    try:
        lease.require(target.output, target.partition, target.run_id)
    except lease.LeaseTakenError as error:
        raise RunFailed(f"another run of refresh={target.refresh} took this one's place: {error}") from None


def _publish_remote(
    target: Target, staged: Mapping[str, list[StagedFile]], entry: Mapping[str, Any], figures: Figures
) -> None:
    stale: list[str] = []
    moves: list[tuple[str, str]] = []
    for kind in KINDS:
        final = join(target.output, kind, target.partition)
        old = {file.path: file.bytes for file in list_files(final, "*.parquet")}
        for file in staged[kind]:
            path = join(final, file.name)
            if old.pop(path, None) != file.bytes:
                moves.append((join(target.staging, kind, file.name), path))
        stale += old
    move_files(moves)
    _require_lease(target)  # moving files may have taken a while
    update_file(join(target.output, MANIFEST), lambda old: with_entry(old, target.refresh, entry))
    _write_pages(target, entry, figures)
    left = list_below(join(target.output, STAGING, target.partition))
    delete_files(stale + [file.path for file in left])


def _write_pages(target: Target, entry: Mapping[str, Any], figures: Figures) -> None:
    from textmint.transforms.dataset.report.page import write_report  # only now: what draws its pictures takes 40 ms

    write_statistics(target.output, target.refresh, figures)
    write_card(target.output, target.refresh)
    if figures is not None and not entry.get("options", {}).get(NO_REPORT):
        write_report(target.output, target.refresh)


def _publish_local(
    target: Target, staged: Mapping[str, list[StagedFile]], entry: Mapping[str, Any], figures: Figures
) -> None:
    names: dict[str, list[str]] = {kind: [file.name for file in staged[kind]] for kind in KINDS}
    plan = json.dumps({"refresh": target.refresh, "names": names, "entry": entry, "statistics": figures})
    write_file(join(target.staging, _PLAN), plan.encode())
    _exchange_all(target, names, entry, figures)


def finish_publishing(output: str, *, leased: str = "") -> None:
    """Completes what killed runs had begun to publish on a local disk. What cannot be completed is logged, and stops no
    run.

    Args:
      output: the dataset folder.
      leased: the refresh whose lease the caller holds. Another refresh is left alone while somebody else has its lease:
        two that exchange the same folders would undo each other's work.
    """
    if not is_local(output):
        return
    for plan in sorted(Path(output, STAGING).glob(f"{PARTITION}*/*/{_PLAN}")):
        refresh = plan.parent.parent.name.removeprefix(PARTITION)
        try:
            with contextlib.ExitStack() as stack:
                if refresh != leased:
                    stack.enter_context(lease.hold(output, f"{PARTITION}{refresh}", f"completing-{os.getpid()}"))
                _finish(output, refresh, plan)
        except lease.LeaseTakenError:
            continue
        except OSError as error:  # a full disk, a missing permission: the next run tries again
            _LOG.warning("refresh=%s was left half published, and cannot be completed now: %s", refresh, error)
        except Exception as error:
            aside = plan.with_suffix(".set_aside")
            _LOG.warning(
                "refresh=%s was left half published and cannot be completed (%s: %s): run that refresh again. "
                "Its plan is kept in %s",
                *(refresh, type(error).__name__, error, aside),
            )
            with contextlib.suppress(OSError):
                plan.replace(aside)


def _finish(output: str, refresh: str, plan: Path) -> None:
    target = Target(
        output=output, refresh=refresh, run_id=plan.parent.name, task_requests=None, examples_per_task=1, description={}
    )
    try:
        names, entry, figures = _read_plan(plan, refresh)
    except FileNotFoundError:
        return  # its own run has published it meanwhile
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        _LOG.warning("%s is left alone: it is no plan of what is to be published (%s)", plan, reason)
        return
    if all(_is_complete(target, kind, set(names[kind])) for kind in KINDS):
        _exchange_all(target, names, entry, figures)


def _read_plan(plan: Path, refresh: str) -> tuple[dict[str, list[str]], dict[str, Any], Figures]:
    if not stat.S_ISREG(os.lstat(plan).st_mode):
        raise ValueError("no regular file")
    begun = json.loads(plan.read_text(encoding="utf-8"))
    listed = {"label_sets": [], **begun["names"]}  # an earlier version listed these with planned labels only
    entry = dict(begun["entry"])
    if not is_as_written(refresh, entry):
        raise ValueError("it is damaged")
    figures = begun.get("statistics")  # which an earlier version did not make
    return {kind: [str(name) for name in listed[kind]] for kind in KINDS}, entry, figures and dict(figures)


def _is_complete(target: Target, kind: str, names: set[str]) -> bool:
    """Says whether nobody has deleted the files of a dataset: they are in their place, or ready to be put there."""
    if names <= {file.name for file in list_files(join(target.staging, kind), "*.parquet")}:
        return True
    return _holds(join(target.output, kind, target.partition), names)


def _holds(folder: str, names: set[str]) -> bool:
    """Says whether a local folder holds exactly these files, each with the content whose digest is in its name."""
    found = list_files(folder, "*.parquet")
    return {file.name for file in found} == names and all(
        file.name.endswith(f"-{content_digest(read_file(file.path))}.parquet") for file in found
    )


def _exchange_all(target: Target, names: Mapping[str, list[str]], entry: Mapping[str, Any], figures: Figures) -> None:
    """Puts the new folders in their place, then writes the manifest, then clears up. Everything that can fail for lack
    of space or permission comes before the first exchange."""
    ready: dict[str, Path] = {}
    copies: list[Path] = []
    for kind in KINDS:
        staged, final = Path(target.staging, kind), Path(target.output, kind, target.partition)
        if not names[kind] or _holds(str(final), set(names[kind])):
            continue  # the same content is there already, of an earlier run or an earlier try at this bundle
        for left_over in set(staged.iterdir()) - {staged / name for name in names[kind]}:
            left_over.unlink()
        final.parent.mkdir(parents=True, exist_ok=True)
        ready[kind] = staged
        if not can_move(staged, final.parent):
            ready[kind] = final.with_name(f"_{final.name}-{target.run_id}")  # which readers skip
            copies.append(ready[kind])
            shutil.rmtree(ready[kind], ignore_errors=True)  # half a copy, of a run that was killed
            shutil.copytree(staged, ready[kind])
    for kind in KINDS:
        final = Path(target.output, kind, target.partition)
        if not names[kind]:  # the run before had files of this kind
            shutil.rmtree(final, ignore_errors=True)
        elif kind in ready and final.exists():
            exchange_folders(ready[kind], final)
        elif kind in ready:
            ready[kind].rename(final)
    with locked(target.output):
        manifest = Path(target.output, MANIFEST)
        old = manifest.read_bytes() if manifest.exists() else None
        write_file(str(manifest), with_entry(old, target.refresh, entry), durable=True)
        _write_pages(target, entry, figures)
    for folder in (*copies, Path(target.output, STAGING, target.partition)):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # another refresh is being written at this moment
        Path(target.output, STAGING).rmdir()
