"""What a run is to do: the options, checked and made into what the steps take."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

from textmint.pipelines.options.backends import price_of
from textmint.transforms.core.admission import Admission
from textmint.transforms.core.attributes import Attributes
from textmint.transforms.core.elements import Kind
from textmint.transforms.core.prompt_template import PromptTemplate
from textmint.transforms.core.tasks import TaskEntry
from textmint.transforms.dataset.accounting import Watch
from textmint.transforms.ledger import table as ledger
from textmint.transforms.llm.base import Backend
from textmint.transforms.llm.engine import Settings
from textmint.transforms.llm.prices import Price
from textmint.transforms.quality.checks import Checks
from textmint.transforms.storage import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What a run is to do, checked.

    Args:
      output: an absolute local path, or a URL.
      tasks: the pattern of the user's files; None: tasks are brainstormed.
      topics: of the brainstorm rounds, in the order of their file; () for none.
      labelled_template: for examples whose label the model chooses from those that the user gives the task.
      expected_tasks: a guess where tasks are brainstormed, else how many the files hold.
      own_tasks: how many of these say how many examples they want.
      own_examples: how many examples those want.
      own_labelled: how many of the user's tasks have labels.
      own_sample: some of the user's tasks, evenly from all of them.
      warnings: what the user should know and need not change, a line each.
      plans_labels: whether each task is asked for its labels.
      verify_backend: verifies labels; None: nobody does.
      checks: of one example by itself.
      duplicate_checks: those that compare examples, of `verdicts.DUPLICATE_CHECKS`.
      target_examples: how many examples are published, of all that are kept; None: all.
      max_waves: in which they are asked for, at most; None: as many as is usual.
      exclude: the pattern of the files of excluded texts; None: there are none.
      typed: the options as given or defaulted, for the manifest.
      watch: which prompts a pass of a capped run may ask, and what is counted for the next one; None: all, and nothing.
    """

    output: str
    refresh: str
    keep_raw: bool
    tasks: str | None
    task_requests: int
    max_tasks: int | None
    examples_per_task: int
    attributes: Attributes
    topics: tuple[str, ...]
    brainstorm_template: PromptTemplate
    example_template: PromptTemplate
    labelled_template: PromptTemplate
    seed: int
    backend: Backend
    settings: Settings
    parse_attempts: int
    retry_rejects: bool
    recompute: bool
    rebuy: bool
    replace: bool
    plans_labels: bool
    label_set_template: PromptTemplate
    verify_backend: Backend | None
    verify_template: PromptTemplate
    checks: Checks
    duplicate_checks: tuple[str, ...]
    near_duplicate_threshold: float
    task_near_duplicate_threshold: float
    exclude: str | None
    target_examples: int | None
    max_waves: int | None
    push_to_hub: str | None
    max_cost: float | None
    max_tokens: int | None
    expected_tasks: int
    own_tasks: int
    own_examples: int
    own_labelled: int
    own_sample: tuple[TaskEntry, ...]
    warnings: tuple[str, ...]
    typed: Mapping[str, Any]
    watch: Watch | None = None

    @property
    def admission(self) -> Admission | None:
        """Which prompts may be asked; None: all."""
        return self.watch.admission if self.watch else None

    @property
    def expected_examples(self) -> int:
        """A guess at the number of examples. It decides how work is divided, and nothing in a row."""
        if self.target_examples is not None:
            return self.target_examples
        tasks = min(self.expected_tasks, self.max_tasks or self.expected_tasks)
        all_examples = (self.expected_tasks - self.own_tasks) * self.examples_per_task + self.own_examples
        return math.ceil(all_examples * tasks / self.expected_tasks)

    @property
    def example_kind(self) -> Kind:
        """What the prompts of examples ask for."""
        return "planned_example" if self.plans_labels else "example"

    @property
    def optional_steps(self) -> tuple[str, ...]:
        """Which of `accounting.OPTIONAL` the graph has."""
        given = {
            "PlanLabels": self.plans_labels,
            "VerifyLabels": self.verify_backend is not None,
            "SelectExamples": self.target_examples is not None,
        }
        return tuple(step for step, is_given in given.items() if is_given)

    @functools.cached_property
    def price(self) -> Price | None:
        """What the tokens of `backend` cost; None: nobody knows. The table of prices is read when this is asked."""
        return price_of(self.typed, self.backend, "price")

    @functools.cached_property
    def verify_price(self) -> Price | None:
        """What the tokens of `verify_backend` cost; None: nobody knows, or nobody verifies."""
        if self.verify_backend is None or self.verify_backend == self.backend:
            return self.price if self.verify_backend else None
        return price_of(self.typed, self.verify_backend, "verify_price")

    @property
    def prices(self) -> dict[str, Price | None]:
        """The price of the model that each step asks, by step; None: it is not known."""
        verified = {"VerifyLabels": self.verify_price} if self.verify_backend else {}
        return {**dict.fromkeys(("TaskGenerate", "PlanLabels", "LLMCall"), self.price), **verified}

    @property
    def ledger(self) -> str:
        """The folder of the replies that were paid for."""
        return files.join(self.output, ledger.FOLDER)
