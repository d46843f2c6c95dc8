"""The pass over the graph that asks nothing: it tells how many prompts of a run the ledger answers."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.cli.summary import reason_in
from textmint.pipelines.generate import build
from textmint.pipelines.graph.plan import STEPS
from textmint.pipelines.graph.plan_inputs import Settled
from textmint.pipelines.graph.previous_run import look_at_output
from textmint.pipelines.options.config import Config
from textmint.pipelines.runners.local import LocalRunner
from textmint.pipelines.runners.signatures import remembering_signatures
from textmint.transforms.core.admission import PAYS_NOTHING
from textmint.transforms.core.elements import HELD_BACK
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.temporary import temporary_folder
from textmint.transforms.dataset.accounting import Watch, named, step_table
from textmint.transforms.dataset.write_counts import read_counts

_NONE: Final[Mapping[str, Mapping[str, int]]] = {"rejected": {}}


def settled_by_ledger(config: Config) -> Settled:
    """Runs the graph of `generate` on this machine up to its last prompt, and asks nothing. It writes into a temporary
    folder only, and holds no lease: what a run does meanwhile is seen or not.

    Raises:
      RunFailed: the ledger or the published files cannot be read.
    """
    with temporary_folder("plan") as folder:
        previous = look_at_output(config, folder)
        admission = dataclasses.replace(PAYS_NOTHING, examples_per_task=config.examples_per_task)
        elsewhere = dataclasses.replace(config, output=os.path.join(folder, "output"), watch=Watch(admission=admission))
        report = os.path.join(folder, "counts.json")
        pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([]))
        try:
            with remembering_signatures():
                build(pipeline, elsewhere, target_of(elsewhere), previous, report=report)
                pipeline.run().wait_until_finish()
        except RuntimeError as error:
            if reason := reason_in(f"{type(error).__name__}: {error}"):
                raise RunFailed(reason) from error
            raise
        finally:
            shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
        counts = read_counts(report)
    table = step_table(
        counts,
        task_requests=None if config.tasks else config.task_requests,
        examples_per_task=config.examples_per_task,
        optional=config.optional_steps,
    )
    met = {what: table[step]["in"] for step, what in STEPS.items() if step in table}
    met["label sets"] = sum(named(counts, "Flatten/first.").values())  # others have labels of the user's
    held_back = {what: table[step].get(HELD_BACK, 0) for step, what in STEPS.items() if step in table}
    drafts = sum(named(counts, "Flatten/drafts.").values()) - table["SampleAttributes"]["kept"]
    unlabelled, refused = held_back.get("label sets", 0), sum(table.get("PlanLabels", _NONE)["rejected"].values())
    by_rank = (named(counts, name) for name in ("Flatten/drafts.", "LLMCall/settled."))
    of_rank, settled = ({int(rank): number for rank, number in found.items()} for found in by_rank)
    return Settled(
        tasks=table["Flatten"]["kept"],
        met=met,
        held_back=held_back,
        by_rank=tuple((of_rank[rank], settled.get(rank, 0)) for rank in sorted(of_rank)),
        to_label=round(drafts * unlabelled / (unlabelled + refused)) if unlabelled else 0,
    )
