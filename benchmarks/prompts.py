"""Writes the prompts that the pipeline sends for a file of tasks, in the order in which it sends them.

The bare loop sends the same, so that each prompt meets the same latency in both. A program of its own, because it
imports Beam, which the process that measures must not do: see `measuring`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from textmint.pipelines.options.parse import parse
from textmint.transforms.build_prompt import BuildPrompt
from textmint.transforms.core.elements import Prompt
from textmint.transforms.flatten import Flatten
from textmint.transforms.ledger.join_ledger import JoinLedger, shards_for
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema
from textmint.transforms.sample_attributes import SampleAttributes
from textmint.transforms.task_generate import ReadTasks


class _Append(beam.DoFn):
    """Appends prompts to a file, one a line. The engine of local runs gives it all of them in one bundle."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = None

    def start_bundle(self) -> None:
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  # closed by finish_bundle

    def process(self, prompt: Prompt) -> None:
        self._file.write(json.dumps(prompt.text) + "\n")

    def finish_bundle(self) -> None:
        self._file.close()


def append_prompts(tasks: Path, examples_per_task: int, path: Path) -> None:
    """Appends the prompts of a file of tasks, with the pipeline's default options, to another file."""
    config, options = parse([f"--tasks={tasks}", f"--examples_per_task={examples_per_task}"])
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | ReadTasks(str(tasks))
            | Flatten(None, config.seed)
            | SampleAttributes(examples_per_task, config.attributes, config.seed)
            | JoinLedger(shards=shards_for(config.expected_examples))
            | BuildPrompt(config.example_template)
            | beam.ParDo(_Append(str(path)))
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Writes, for each file of tasks, a file beside it that ends in .jsonl: the constant part of an OpenAI body, then a
    prompt a line, all in JSON."""
    parser = argparse.ArgumentParser(description="Writes the prompts of tasks.", allow_abbrev=False)
    parser.add_argument("--examples_per_task", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("tasks", type=Path, nargs="+", help="files of tasks")
    options = parser.parse_args(argv)
    schema = {"name": STRUCTURE_NAMES["example"], "strict": True, "schema": json_schema("example")}
    frame = {"model": options.model, "response_format": {"type": "json_schema", "json_schema": schema}}
    for tasks in options.tasks:
        path = tasks.with_suffix(".jsonl")
        path.write_text(json.dumps(frame) + "\n", "utf-8")
        append_prompts(tasks, options.examples_per_task, path)


if __name__ == "__main__":
    main()
