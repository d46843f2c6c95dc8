"""The main job: the whole graph, top to bottom."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from pipelines.earlier import NOTHING, Earlier
from pipelines.options import Config
from transforms.build_prompt import BuildPrompt
from transforms.count_elements import CountElements
from transforms.elements import Kind
from transforms.find_duplicates import FindDuplicates
from transforms.flatten import Flatten
from transforms.join_ledger import JoinLedger, shards_for
from transforms.ledger_writer import Ledger
from transforms.llm.base import fingerprint_of
from transforms.llm_call import IsReadable, LLMCall
from transforms.parse_json import ParseJSON, is_example
from transforms.read_ledger import ReadLedger
from transforms.read_published import ReadPublished
from transforms.sample_attributes import SampleAttributes
from transforms.schema import DatasetKind
from transforms.task_generate import ReadTasks, TaskGenerate, is_task_list, task_seeds
from transforms.write_dataset import Target, WriteDataset


def build(pipeline: beam.Pipeline, config: Config, target: Target, earlier: Earlier = NOTHING) -> beam.PCollection[Any]:
    """An empty pipeline, and what earlier runs left -> the graph on it; its one element is the run's entry in the
    manifest.

    Rejects ride along: what a step refuses passes all later steps untouched, and is written at the end.
    """
    lists = pipeline | ReadTasks(config.tasks) if config.tasks else brainstorm(pipeline, config, target, earlier)
    tasks = lists | Flatten(config.max_tasks, config.seed, published(earlier, "tasks"))
    prompts = (
        tasks
        | SampleAttributes(config.examples_per_task, config.attributes, config.seed)
        | JoinLedger(paid_for(config, earlier, "example"), shards_for(config.expected_examples))
        | BuildPrompt(config.example_template)
    )
    replies = prompts | llm_call(config, target, is_example)
    examples = replies | ParseJSON(config.keep_raw)
    verdicts = examples | FindDuplicates(
        published(earlier, "examples"), config.expected_examples + earlier.published_examples
    )

    streams = {"lists": lists, "tasks": tasks, "prompts": prompts, "replies": replies, "examples": examples}
    counts = streams | CountElements()
    return {"examples": examples, "verdicts": verdicts, "tasks": tasks, "counts": counts} | WriteDataset(
        target, config.keep_raw, expected_rows=config.expected_examples
    )


def brainstorm(pipeline: beam.Pipeline, config: Config, target: Target, earlier: Earlier) -> beam.PCollection[Any]:
    """An empty pipeline -> lists of tasks from the model, a round for each of `--task_requests`."""
    seeds = task_seeds(config.task_requests, topics=config.topics, refresh=config.refresh, seed=config.seed)
    return (
        pipeline
        | "Seeds" >> beam.Create(seeds)
        | "JoinSeeds" >> JoinLedger(paid_for(config, earlier, "task_list"))
        | TaskGenerate(config.brainstorm_template, llm_call(config, target, is_task_list, stage="TaskGenerate"))
    )


def published(earlier: Earlier, kind: DatasetKind) -> ReadPublished | None:
    """-> what reads the tasks or the examples that other refreshes have, if there are any."""
    found = earlier.tasks if kind == "tasks" else earlier.examples
    return ReadPublished(kind, found) if found else None


def paid_for(config: Config, earlier: Earlier, kind: Kind) -> ReadLedger | None:
    """-> what reads the replies that this run can use, to prompts of one kind, if there is a ledger."""
    return ReadLedger(earlier.ledger, kind, fingerprint_of(config.backend)) if earlier.ledger else None


def llm_call(config: Config, target: Target, is_readable: IsReadable, stage: str = "LLMCall") -> LLMCall:
    """-> the step that asks the model, the same for every kind of prompt."""
    ledger = Ledger(folder=config.ledger, refresh=config.refresh, run_id=target.run_id)
    return LLMCall(
        config.backend, is_readable, stage, config.settings, config.parse_attempts, ledger, config.retry_rejects
    )
