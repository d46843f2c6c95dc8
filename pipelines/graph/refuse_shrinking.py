"""Refuses, before anything is paid for, a run whose options alone tell that it leaves its refresh with fewer examples;
`publish` refuses the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from textmint.pipelines.graph.up_to_date import IRRELEVANT_OPTIONS
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.dataset.published_files import UNREADABLE, open_published, published_examples, published_files

_AMOUNTS: Final = frozenset(("task_requests", "max_tasks", "examples_per_task"))


def refuse_shrinking(config: Config, entry: Mapping[str, Any] | None) -> None:
    """Refuses a run that is bound to have fewer examples than its refresh has.

    Raises:
      OptionError: it is such a run, and --replace was not given.
      RunFailed: the dataset folder cannot be read.
    """
    if config.replace:
        return
    try:
        there = published_examples(config.output, config.refresh)
        most = max_examples(config, entry) if there else None
    except OSError as error:
        raise RunFailed(f"{config.output}: {error}; mend that, then run the same command again") from None
    if most is not None and most < there:
        raise OptionError(
            f"--refresh={config.refresh}: it has {there:,} examples, and this run would have {most:,} at most, so "
            f"{there - most:,} or more would go; ask for as many as before, choose another refresh or folder, or say "
            "--replace. Nothing was paid for"
        )


def max_examples(config: Config, entry: Mapping[str, Any] | None) -> int | None:
    """Computes how many examples a run can have at most; None if unknown. The user's tasks can be counted; how many
    tasks a model brainstorms is known of rounds that the refresh has had before with the same options."""
    if config.target_examples is not None:  # tasks and examples of each are added where they do not do
        return config.target_examples
    if config.tasks:
        # if tasks say themselves how many they want, nobody knows yet which of them --max_tasks takes
        return (dataclasses.replace(config, max_tasks=None) if config.own_tasks else config).expected_examples
    tasks = _tasks_of_rounds(config) if _is_same_but_for_amounts(config, entry) else None
    if config.max_tasks is not None:
        tasks = config.max_tasks if tasks is None else min(tasks, config.max_tasks)
    return None if tasks is None else tasks * config.examples_per_task


def _is_same_but_for_amounts(config: Config, entry: Mapping[str, Any] | None) -> bool:
    """Returns whether the rounds would bring the same tasks: the options are the same, no round was refused, and no
    more rounds are asked for."""
    try:
        assert entry is not None
        options, line = entry["options"], entry["steps"]["TaskGenerate"]
        return (
            options["max_tasks"] is None
            and config.task_requests <= options["task_requests"]
            and not line["rejected"]
            and all(
                options.get(name) == value
                for name, value in config.typed.items()
                if name not in IRRELEVANT_OPTIONS and name not in _AMOUNTS
            )
        )
    except (AssertionError, KeyError, TypeError, AttributeError):
        return False  # of another version, or mended by hand


def _tasks_of_rounds(config: Config) -> int | None:
    """Counts the refresh's tasks of the rounds that the run asks for; None if a file cannot be read."""
    found = 0
    for path, label, _ in published_files(config.output, "tasks"):
        if label == config.refresh:
            try:
                rounds = open_published(path).read(columns=["round"])["round"].to_pylist()
            except UNREADABLE:
                return None
            found += sum(1 for round_ in rounds if type(round_) is int and round_ < config.task_requests)
    return found
