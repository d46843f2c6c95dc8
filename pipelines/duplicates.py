"""The part of the graph that compares examples, and tasks, with each other and with what was there before."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import apache_beam as beam

from pipelines.earlier import Earlier
from pipelines.options import Config
from transforms.agree_labels import AgreeLabels
from transforms.find_duplicates import FindDuplicates
from transforms.find_near_duplicates import FindNearDuplicates
from transforms.judging import CONTAMINATED, NEAR_DUPLICATE, texts_of, verdicts_of
from transforms.near_duplicates import Text
from transforms.read_exclusions import ReadExclusions
from transforms.read_published import ReadPublished
from transforms.schema import DatasetKind


def verdicts_on(examples: beam.PCollection[Any], config: Config, earlier: Earlier) -> beam.PCollection[Any]:
    """Examples that passed their checks -> what comparing them says of some: Verdict and Relabel, by id."""
    texts = config.expected_examples + earlier.published_examples
    found = [
        examples | FindDuplicates(published(earlier, "examples"), texts),
        examples | AgreeLabels(),
    ]
    checks = config.duplicate_checks
    if NEAR_DUPLICATE in checks or (CONTAMINATED in checks and config.exclude):
        others = {}
        if CONTAMINATED in checks and config.exclude:
            others["ExcludedTexts"] = ReadExclusions(config.exclude)
        if NEAR_DUPLICATE in checks and earlier.examples:
            others["PublishedTexts"] = ReadPublished("examples", earlier.named("examples"), as_texts=True)
        found.append(
            examples
            | "TextsOfExamples" >> beam.FlatMap(texts_of).with_output_types(Text)
            | "NearCopies" >> NearCopies(config.near_duplicate_threshold, others)
            | "Judge" >> beam.FlatMap(verdicts_of, checks)
        )
    return found | "Verdicts" >> beam.Flatten()


def near_tasks(config: Config, earlier: Earlier) -> NearCopies | None:
    """-> what finds tasks that are near copies of others, if that is asked for."""
    if NEAR_DUPLICATE not in config.duplicate_checks:
        return None
    others = {}
    if earlier.tasks:
        others["PublishedTasks"] = ReadPublished("tasks", earlier.named("tasks"), as_texts=True)
    return NearCopies(config.task_near_duplicate_threshold, others)


def published(earlier: Earlier, kind: DatasetKind) -> ReadPublished | None:
    """-> what reads the tasks or the examples that other refreshes have, if there are any."""
    which: Literal["tasks", "examples"] = "tasks" if kind == "tasks" else "examples"
    return ReadPublished(kind, earlier.named(which)) if getattr(earlier, which) else None


@dataclasses.dataclass(eq=False)
class NearCopies(beam.PTransform):
    """Text -> (id, Twin), as `FindNearDuplicates`, with other texts beside those of the run.

    Args:
      threshold: two texts this alike, or more, are near copies.
      others: label -> a `PTransform` from the pipeline to texts that have a source.
    """

    threshold: float
    others: dict[str, beam.PTransform]

    def expand(self, texts: beam.PCollection[Text]) -> beam.PCollection[Any]:
        others = [texts.pipeline | label >> read for label, read in self.others.items()]
        together = (texts, *others) | "AllTexts" >> beam.Flatten() if others else texts
        together.element_type = Text
        return together | FindNearDuplicates(self.threshold)
