"""The main job: the whole graph, top to bottom."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from pipelines.options import Config
from transforms.build_prompt import BuildPrompt
from transforms.count_elements import CountElements
from transforms.flatten import Flatten
from transforms.llm_call import LLMCall
from transforms.parse_json import ParseJSON
from transforms.sample_attributes import SampleAttributes
from transforms.task_generate import ReadTasks, TaskGenerate, task_seeds
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
        | BuildPrompt(config.example_template)
    )
    replies = prompts | LLMCall(config.backend)
    examples = replies | ParseJSON(config.keep_raw)

    streams = {"lists": lists, "tasks": tasks, "prompts": prompts, "replies": replies, "examples": examples}
    counts = streams | CountElements()
    return {"examples": examples, "tasks": tasks, "counts": counts} | WriteDataset(target, config.keep_raw)


def brainstorm(pipeline: beam.Pipeline, config: Config) -> beam.PCollection[Any]:
    """An empty pipeline -> lists of tasks from the model, a round for each of `--task_requests`."""
    seeds = task_seeds(config.task_requests, topics=config.topics, refresh=config.refresh, seed=config.seed)
    return (
        pipeline
        | "Seeds" >> beam.Create(seeds)
        | TaskGenerate(config.brainstorm_template, LLMCall(config.backend, stage="TaskGenerate"))
    )
