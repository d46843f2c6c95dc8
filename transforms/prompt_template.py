"""Prompt templates: Jinja text that travels inside the graph and is filled on the workers, in Jinja's sandbox.

A user's template is untrusted: it cannot reach Python's internals, change what it is given, or loop without end.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final, TypeAlias

import jinja2
import jinja2.meta
import jinja2.sandbox

from transforms.identity import text_digest

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


class TemplateError(ValueError):
    """A template that cannot be used; the message says why, and where in it."""


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    del environment.globals["lipsum"], environment.filters["random"]  # chance
    return environment


@functools.lru_cache(maxsize=64)
def _compile(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@dataclasses.dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A template's name and its whole text.

    Args:
      stem: the file's name without its endings, for people.
      text: the Jinja source.
    """

    stem: str
    text: str

    @property
    def name(self) -> str:
        """-> `stem@digest`, which names the exact text; it stands in every row."""
        return f"{self.stem}@{text_digest(self.text)}"

    def render(self, variables: Variables) -> str:
        """Variables -> the prompt.

        Raises:
          jinja2.TemplateError: a variable that is not given, or a forbidden access.
        """
        return _compile(self.text).render(variables)

    def uses(self, variable: str) -> bool:
        """Tells whether the text uses a variable; it must be one that `check` accepts."""
        return variable in jinja2.meta.find_undeclared_variables(_environment().parse(self.text))

    def check(self, variables: Variables) -> None:
        """Tries the template on sample variables, before anything is paid for.

        Raises:
          TemplateError: it cannot be parsed, uses a variable that there is not (with the nearest one), fails when it
            is filled, or comes out empty.
        """
        unknown = self._unknown_variables(variables)
        if unknown:
            raise TemplateError(_unknown_message(unknown, variables))
        try:
            prompt = self.render(variables)
        except jinja2.TemplateError as error:
            raise TemplateError(str(error) or type(error).__name__) from None
        except Exception as error:  # a template may call anything on a string, wrongly
            raise TemplateError(f"{type(error).__name__}: {error}") from None
        if not prompt.strip():
            raise TemplateError("the prompt comes out empty")

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
    """The name of a template that comes with textmint -> the template: brainstorm, label_set, classify,
    classify_labels, classify_planned or verify.

    Raises:
      FileNotFoundError: there is none of that name.
    """
    return PromptTemplate(stem, (resources.files("templates") / f"{stem}.jinja2").read_text("utf-8"))


def _unknown_message(unknown: Iterable[str], variables: Variables) -> str:
    parts = []
    for name in unknown:
        near = difflib.get_close_matches(name, variables, n=1, cutoff=0.4)
        parts.append(f"unknown variable {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return f"{'; '.join(parts)}. There are {', '.join(variables)}."
