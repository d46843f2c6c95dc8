"""The main job: the whole graph, top to bottom."""

from __future__ import annotations

from functools import partial
from typing import Any

import apache_beam as beam
from textmint.pipelines.graph.comparisons import compare, near_copies_of_tasks, read_published
from textmint.pipelines.graph.passes_checks import PassesChecks
from textmint.pipelines.graph.preview import FewExamples, PreviewTarget, WritePreview
from textmint.pipelines.graph.previous_run import NOTHING, PreviousRun
from textmint.pipelines.options.config import Config
from textmint.transforms.build_prompt import BuildPrompt
from textmint.transforms.core.elements import Kind, TaskSeed
from textmint.transforms.dataset.count_elements import CountElements
from textmint.transforms.dataset.publish import Target
from textmint.transforms.dataset.select_examples import SelectExamples
from textmint.transforms.dataset.write_counts import WriteCounts
from textmint.transforms.dataset.write_dataset import WriteDataset
from textmint.transforms.flatten import Flatten, Numbering
from textmint.transforms.labels.plan_labels import PlanLabels, is_label_set, label_set_fault
from textmint.transforms.labels.verify_labels import VerifyLabels, choice_fault, is_choice
from textmint.transforms.ledger.join_ledger import JoinLedger, shards_for
from textmint.transforms.ledger.read_ledger import ReadLedger
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm.attempts import IsReadable
from textmint.transforms.llm.base import Backend, fingerprint_of
from textmint.transforms.llm_call import FaultOf, LLMCall
from textmint.transforms.parse_json import ParseJSON, is_example
from textmint.transforms.quality.check_quality import CheckQuality
from textmint.transforms.sample_attributes import SampleAttributes
from textmint.transforms.statistics.describe_rows import DescribeRows
from textmint.transforms.task_generate import ReadTasks, SeedsOf, TaskGenerate, is_task_list, spans_of, task_list_fault


def build(
    pipeline: beam.Pipeline,
    config: Config,
    target: Target,
    previous: PreviousRun = NOTHING,
    preview: PreviewTarget | None = None,
    report: str = "",
) -> beam.PCollection[Any]:
    """Builds the graph; returns one element, the run's entry in the manifest. What a step refuses, a reject, passes all
    later steps untouched and is written at the end. A preview asks for a few examples, and publishes nothing. With
    `report`, the name of a file, the graph ends with what it has counted, and publishes nothing either."""
    lists = pipeline | ReadTasks(config.tasks) if config.tasks else brainstorm(pipeline, config, target, previous)
    numbering = Numbering(config.refresh, config.examples_per_task, previous.is_alone)
    near = near_copies_of_tasks(config, previous)
    tasks = lists | Flatten(config.max_tasks, config.seed, read_published(config, previous, "tasks"), near, numbering)
    if preview:
        tasks = tasks | FewExamples(preview.rows, config.examples_per_task)
    planned = tasks | plan_labels(config, target, previous) if config.plans_labels else tasks
    prompts = (
        planned
        | SampleAttributes(config.examples_per_task, config.attributes, config.seed, config.refresh, config.admission)
        | JoinLedger(paid_for(config, previous, config.example_kind), shards_for(largest(config, previous)))
        | BuildPrompt(config.example_template, config.labelled_template)
    )
    wanted = PassesChecks(config.checks)
    replies = prompts | llm_call(config, target, is_example, wanted.fault_of, is_wanted=wanted)
    parsed = replies | ParseJSON(config.keep_raw)
    checked = parsed | CheckQuality(config.checks)
    examples = checked | verify_labels(config, target, previous) if config.verify_backend else checked
    streams = {"lists": lists, "tasks": tasks, "prompts": prompts, "replies": replies, "parsed": parsed}
    rows = {"examples": examples, **({"label_sets": planned} if config.plans_labels else {})}
    counts = {**streams, "checked": checked, **rows} | CountElements(config.watch)
    if report:
        return counts | WriteCounts(report)
    verdicts = compare(examples, config, previous)
    if config.target_examples is not None:
        select = SelectExamples(config.target_examples, config.expected_examples)
        verdicts = {"examples": examples, "verdicts": verdicts} | select

    if preview:
        return {"parsed": parsed, "examples": examples, "verdicts": verdicts, "counts": counts} | WritePreview(
            preview.path
        )
    return {**rows, "verdicts": verdicts, "tasks": tasks, "counts": counts} | WriteDataset(
        target,
        config.keep_raw,
        expected_rows=config.expected_examples,
        describe=DescribeRows(config.expected_examples, config.near_duplicate_threshold),
    )


def brainstorm(pipeline: beam.Pipeline, config: Config, target: Target, previous: PreviousRun) -> beam.PCollection[Any]:
    """Asks the model for lists of tasks, in a round for each of `--task_requests`."""
    seeds = beam.FlatMap(SeedsOf(config.topics, config.refresh, config.seed))
    return (
        pipeline
        | "Rounds" >> beam.Create(spans_of(config.task_requests))
        | "Seeds" >> seeds.with_output_types(TaskSeed)
        | "JoinSeeds" >> JoinLedger(paid_for(config, previous, "task_list"))
        | TaskGenerate(
            config.brainstorm_template, llm_call(config, target, is_task_list, task_list_fault, "TaskGenerate")
        )
    )


def plan_labels(config: Config, target: Target, previous: PreviousRun) -> PlanLabels:
    """Makes the step that asks for the labels of each task."""
    widest = config.checks.max_label_columns  # a row with a wider label would be refused
    is_readable = partial(is_label_set, max_label_columns=widest)
    fault_of = partial(label_set_fault, max_label_columns=widest)
    return PlanLabels(
        config.label_set_template,
        JoinLedger(paid_for(config, previous, "label_set"), shards_for(config.expected_tasks)),
        llm_call(config, target, is_readable, fault_of, "PlanLabels"),
        config.seed,
        widest,
    )


def verify_labels(config: Config, target: Target, previous: PreviousRun) -> VerifyLabels:
    """Makes the step that asks which of its labels fits an example."""
    backend = config.verify_backend
    return VerifyLabels(
        config.verify_template,
        JoinLedger(paid_for(config, previous, "choice", backend), shards_for(largest(config, previous))),
        llm_call(config, target, is_choice, choice_fault, "VerifyLabels", backend=backend),
    )


def largest(config: Config, previous: PreviousRun) -> int:
    """Estimates the largest number of elements: examples, or replies that they are joined to."""
    return max(config.expected_examples, previous.ledger_replies)


def paid_for(config: Config, previous: PreviousRun, kind: Kind, backend: Backend | None = None) -> ReadLedger | None:
    """Makes what reads the replies that this run can use, to prompts of one kind, if there is a ledger."""
    if not previous.ledger:
        return None
    return ReadLedger(previous.named("ledger"), kind, fingerprint_of(backend or config.backend))


def llm_call(
    config: Config,
    target: Target,
    is_readable: IsReadable,
    fault_of: FaultOf,
    stage: str = "LLMCall",
    is_wanted: IsReadable | None = None,
    backend: Backend | None = None,
) -> LLMCall:
    """Makes the step that asks a model, the same for every kind of prompt."""
    return LLMCall(
        backend or config.backend,
        is_readable,
        stage,
        config.settings,
        config.parse_attempts,
        Ledger(folder=config.ledger, refresh=config.refresh, run_id=target.run_id, lease=target.job_lease),
        config.retry_rejects,
        is_wanted,
        fault_of,
        config.prices[stage],
        config.admission,
    )
