"""The part of the graph that compares examples, and tasks, with each other and with what was there before."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import apache_beam as beam
from textmint.pipelines.graph.previous_run import PreviousRun
from textmint.pipelines.options.config import Config
from textmint.transforms.dedup.find_duplicates import FindDuplicates
from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
from textmint.transforms.dedup.minhash import Text
from textmint.transforms.dedup.read_exclusions import ReadExclusions
from textmint.transforms.dedup.read_published import ReadPublished
from textmint.transforms.dedup.verdicts import CONTAMINATED, NEAR_DUPLICATE, source_of, texts_of, verdicts_of
from textmint.transforms.labels.agree_labels import AgreeLabels
from textmint.transforms.storage.listing import Row


def compare(examples: beam.PCollection[Any], config: Config, previous: PreviousRun) -> beam.PCollection[Any]:
    """Compares the examples that passed their checks; gives a Verdict or Relabel, by id, for some of them."""
    texts = config.expected_examples + previous.published_examples
    found = [
        examples | FindDuplicates(read_published(config, previous, "examples"), texts, config.refresh),
        examples | AgreeLabels(),
    ]
    checks = config.duplicate_checks
    if NEAR_DUPLICATE in checks or (CONTAMINATED in checks and config.exclude):
        others = {}
        if CONTAMINATED in checks and config.exclude:
            others["ExcludedTexts"] = ReadExclusions(config.exclude)
        if NEAR_DUPLICATE in checks and previous.examples:
            others["PublishedTexts"] = ReadPublished("examples", previous.named("examples"), True, config.refresh)
        found.append(
            examples
            | "TextsOfExamples" >> beam.FlatMap(texts_of).with_output_types(Text)
            | "NearCopies" >> NearCopies(config.near_duplicate_threshold, others, source_of(config.refresh))
            | "Judge" >> beam.FlatMap(verdicts_of, checks)
        )
    return found | "Verdicts" >> beam.Flatten()


def near_copies_of_tasks(config: Config, previous: PreviousRun) -> NearCopies | None:
    """Makes what finds tasks that are near copies of others, if asked for. The user's own tasks are kept in every
    refresh, so they are compared with each other only."""
    if NEAR_DUPLICATE not in config.duplicate_checks:
        return None
    others = {}
    if not config.tasks and _has_others(config, previous.tasks):
        others["PublishedTasks"] = ReadPublished("tasks", previous.named("tasks"), True, config.refresh)
    return NearCopies(config.task_near_duplicate_threshold, others, source_of(config.refresh))


def read_published(config: Config, previous: PreviousRun, kind: Literal["tasks", "examples"]) -> ReadPublished | None:
    """Makes what reads the tasks or the examples that refreshes have published, if there are any."""
    found = getattr(previous, kind)
    # Of the run's own refresh only the numbers of the user's tasks matter by themselves.
    if not found or (not config.tasks and not _has_others(config, found)):
        return None
    return ReadPublished(kind, previous.named(kind), refresh=config.refresh)


def _has_others(config: Config, found: Iterable[Row]) -> bool:
    return any(row[1] != config.refresh for row in found)


@dataclasses.dataclass(eq=False)
class NearCopies(beam.PTransform):
    """Finds near copies among Text elements as `FindNearDuplicates` does, also of texts from elsewhere.

    Args:
      threshold: two texts of this similarity, or more, are near copies.
      others: transforms that read texts that have a source, by the label of their step.
      refresh: the source of texts that the run's own refresh has published.
    """

    threshold: float
    others: dict[str, beam.PTransform]
    refresh: str

    def expand(self, texts: beam.PCollection[Text]) -> beam.PCollection[Any]:
        """Gives pairs of an id and its NearDuplicate."""
        others = [texts.pipeline | label >> read for label, read in self.others.items()]
        together = (texts, *others) | "AllTexts" >> beam.Flatten() if others else texts
        together.element_type = Text
        return together | FindNearDuplicates(self.threshold, self.refresh if self.others else "")
