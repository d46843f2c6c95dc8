"""Prompt templates: untrusted Jinja text that travels inside the graph and is filled on the workers, in a sandbox."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import traceback
from collections.abc import Mapping
from importlib import resources
from typing import Final, TypeAlias

import jinja2
import jinja2.meta
from textmint.transforms.core.bounded_jinja import BoundedEnvironment, fill
from textmint.transforms.core.identity import text_digest

Variables: TypeAlias = Mapping[str, str | tuple[str, ...] | None]

BRAINSTORM_VARIABLES: Final[Mapping[str, str | None]] = {"topic": "school canteens"}
EXAMPLE_VARIABLES: Final[Mapping[str, str]] = {
    "task": "Classify a customer e-mail by the department that should answer it",
    "language": "English",
    "difficulty": "college",
    "clarity": "clear",
    "num_words": "at least 50",
}
LABEL_SET_VARIABLES: Final[Mapping[str, str]] = {"task": EXAMPLE_VARIABLES["task"]}
LABELLED_VARIABLES: Final[Variables] = {**EXAMPLE_VARIABLES, "labels": ("invoices", "deliveries", "returns")}
PLANNED_VARIABLES: Final[Variables] = {**LABELLED_VARIABLES, "label": "deliveries", "misleading_label": "returns"}
VERIFY_VARIABLES: Final[Mapping[str, str]] = {
    "task": EXAMPLE_VARIABLES["task"],
    "input_text": "The parcel has been at the depot for nine days now, and nobody there picks up the phone.",
    "first": "returns",
    "second": "deliveries",
}
"""What a template may use, each with a value to try it on."""

MADE_UP_TASKS: Final = (
    "Sort bees",
    "Отнеси отзыв о поликлинике к положительным или отрицательным",
    "判断评论的情感",
    'Tell whether "50 % off" in {braces}, 3 <b>times</b>, means spam; or not\\n?',
    "Classify a customer e-mail by the department that should answer it, " * 29,
)
"""Tasks to try a template on: short and long, of other scripts, with marks that mean something to code."""

MAX_TEMPLATE_CHARS: Final = 100_000
MAX_PROMPT_CHARS: Final = 1_000_000
"""Some 250,000 tokens, as much as large models read."""
_REASON_CHARS: Final = 300


class TemplateError(ValueError):
    """A template that cannot be used; the message says why, and where in it."""


@functools.lru_cache(maxsize=1)
def _environment() -> BoundedEnvironment:
    return BoundedEnvironment()


@functools.lru_cache(maxsize=64)
def _compile(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@dataclasses.dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A template's name and its whole text."""

    stem: str  # the file's name without its endings
    text: str  # the Jinja source

    @property
    def name(self) -> str:
        """`stem@digest`, which names the exact text; it stands in every row."""
        return f"{self.stem}@{text_digest(self.text)}"

    def render(self, variables: Variables) -> str:
        """Fills the template.

        Raises:
          TemplateError: that is not possible with these variables.
        """
        template = _compile(self.text)
        try:
            prompt = fill(template, variables)
        except MemoryError:  # says nothing of the template
            raise
        except Exception as error:  # a template may call anything on a string, wrongly
            raise TemplateError(_failure(error)) from None
        if len(prompt) > MAX_PROMPT_CHARS:
            raise TemplateError(f"the prompt has {len(prompt):,} characters, at most {MAX_PROMPT_CHARS:,} may be sent")
        if not prompt.strip():
            raise TemplateError("the prompt comes out empty")
        return prompt

    def uses(self, variable: str) -> bool:
        """Tells whether the text, which `check` accepts, uses a variable."""
        return variable in jinja2.meta.find_undeclared_variables(_environment().parse(self.text))

    def check(self, variables: Variables, *others: Variables) -> str:
        """Tries the template on samples of variables, before anything is paid for.

        Returns:
          What is wrong with some of the samples; "" where nothing is.

        Raises:
          TemplateError: it cannot be parsed, uses an unknown variable, or can be filled for none of the samples.
        """
        if len(self.text) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"has {len(self.text):,} characters, at most {MAX_TEMPLATE_CHARS:,} may be")
        unknown = self._unknown_variables(variables)
        if unknown:
            near = {name: difflib.get_close_matches(name, variables, n=1, cutoff=0.4) for name in unknown}
            hints = {name: f" (did you mean {found[0]!r}?)" if found else "" for name, found in near.items()}
            parts = "; ".join(f"unknown variable {name!r}{hints[name]}" for name in unknown)
            raise TemplateError(f"{parts}. There are {', '.join(variables)}.")
        try:
            _compile(self.text)
        except Exception as error:  # Python has limits of its own, as for blocks in blocks
            raise TemplateError(_failure(error)) from None
        samples = (variables, *others)
        problems = []
        for sample in samples:
            try:
                self.render(sample)
            except TemplateError as error:
                problems.append(str(error))
        if len(problems) == len(samples):
            raise TemplateError(problems[0])
        return problems[0] if problems else ""

    def _unknown_variables(self, variables: Variables) -> list[str]:
        environment = _environment()
        try:
            used = jinja2.meta.find_undeclared_variables(environment.parse(self.text))
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"line {error.lineno}: {error.message}") from None
        except RecursionError:
            raise TemplateError("is nested too deeply") from None
        return sorted(used - variables.keys() - environment.globals.keys())


def shipped_template(stem: str) -> PromptTemplate:
    """Returns a template of textmint: brainstorm, label_set, classify, classify_labels, classify_planned or verify."""
    return PromptTemplate(stem, (resources.files("textmint.templates") / f"{stem}.jinja2").read_text("utf-8"))


def _failure(error: Exception) -> str:
    """Says in one line what went wrong in a template, and where."""
    reason = " ".join(str(error).split())
    if not isinstance(error, jinja2.TemplateError):
        reason = f"{type(error).__name__}: {reason}"
    lines = [
        line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == _FILENAME
    ]  # Jinja gives the lines of the template for those of what it made of it
    return f"line {lines[-1]}: {reason[:_REASON_CHARS]}" if lines else reason[:_REASON_CHARS]


_FILENAME: Final = "<template>"  # of a template that comes from no file
