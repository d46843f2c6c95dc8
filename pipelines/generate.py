"""The main job: the whole graph, top to bottom."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from pipelines.options import Config
from transforms.build_prompt import BuildPrompt
from transforms.count_elements import CountElements
from transforms.flatten import Flatten
from transforms.llm_call import IsReadable, LLMCall
from transforms.parse_json import ParseJSON, is_example
from transforms.sample_attributes import SampleAttributes
from transforms.shard_elements import ShardElements, shards_for
from transforms.task_generate import ReadTasks, TaskGenerate, is_task_list, task_seeds
from transforms.write_dataset import Target, WriteDataset


def build(pipeline: beam.Pipeline, config: Config, target: Target) -> beam.PCollection[dict[str, Any]]:
    """An empty pipeline -> the graph on it; its one element is the run's entry in the manifest.

    Rejects ride along: what a step refuses passes all later steps untouched, and is written at the end.
    """
    lists = pipeline | ReadTasks(config.tasks) if config.tasks else brainstorm(pipeline, config)
    tasks = lists | Flatten(config.max_tasks, config.seed)
    prompts = (
        tasks
        | SampleAttributes(config.examples_per_task, config.attributes, config.seed)
        | ShardElements(shards_for(config.expected_examples))
        | BuildPrompt(config.example_template)
    )
    replies = prompts | llm_call(config, is_example)
    examples = replies | ParseJSON(config.keep_raw)

    streams = {"lists": lists, "tasks": tasks, "prompts": prompts, "replies": replies, "examples": examples}
    counts = streams | CountElements()
    return {"examples": examples, "tasks": tasks, "counts": counts} | WriteDataset(
        target, config.keep_raw, expected_rows=config.expected_examples
    )


def brainstorm(pipeline: beam.Pipeline, config: Config) -> beam.PCollection[Any]:
    """An empty pipeline -> lists of tasks from the model, a round for each of `--task_requests`."""
    seeds = task_seeds(config.task_requests, topics=config.topics, refresh=config.refresh, seed=config.seed)
    return (
        pipeline
        | "Seeds" >> beam.Create(seeds)
        | "ShardSeeds" >> ShardElements()
        | TaskGenerate(config.brainstorm_template, llm_call(config, is_task_list, stage="TaskGenerate"))
    )


def llm_call(config: Config, is_readable: IsReadable, stage: str = "LLMCall") -> LLMCall:
    """-> the step that asks the model, the same for every kind of prompt."""
    return LLMCall(config.backend, is_readable, stage, config.settings, config.parse_attempts)
