"""What is checked of the options, and the Config that is made of them. Whatever is wrong is said here, before anything
is paid for or written."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from apache_beam.options.pipeline_options import GoogleCloudOptions
from textmint.pipelines.graph.plan import TASKS_A_REQUEST
from textmint.pipelines.hub import check_push
from textmint.pipelines.options.backends import (
    Workers,
    backend_of,
    check_secret,
    choice_problem,
    price_of,
    price_problems,
)
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError, Problems
from textmint.pipelines.options.input_files import as_pattern, count_items, read_text
from textmint.pipelines.options.nearest import nearest
from textmint.pipelines.options.output_folder import checked_output
from textmint.pipelines.options.stores import check_scheme
from textmint.pipelines.options.table import BY_NAME
from textmint.transforms.core.attributes import ATTRIBUTES, Attributes, ChoiceError, parse_attributes
from textmint.transforms.core.prompt_template import (
    BRAINSTORM_VARIABLES,
    LABELLED_VARIABLES,
    MADE_UP_TASKS,
    PLANNED_VARIABLES,
    PromptTemplate,
    TemplateError,
    Variables,
    shipped_template,
)
from textmint.transforms.core.tasks import SETTINGS, TASK_SUFFIXES, TaskFileError, TaskSurvey, read_topics
from textmint.transforms.dataset.card import LICENSE
from textmint.transforms.dedup.exclusions import EXCLUSION_SUFFIXES, ExclusionFileError, read_exclusions
from textmint.transforms.dedup.verdicts import CONTAMINATED, DUPLICATE_CHECKS
from textmint.transforms.llm.base import Backend
from textmint.transforms.llm.descriptors import most_connections
from textmint.transforms.llm.engine import Settings
from textmint.transforms.llm.limiter import Limits
from textmint.transforms.quality.checks import CHECKS, Checks, parse_checks
from textmint.transforms.storage import files

REFRESH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What the name of a refresh looks like."""
_PATHS: Final = ("tasks", "topics", "brainstorm_template", "example_template", "exclude", "output")
_OF_BACKENDS: Final = frozenset(
    ("temperature", "top_p", "max_reply_bytes", "max_output_tokens", "thinking_budget", "offline_fault_rate")
)
_MOST_NAMES: Final = 5
CAPS: Final = ("max_cost", "max_tokens")
"""The options that limit what a refresh may spend."""
_LOG: Final = logging.getLogger("textmint")


def validated(
    typed: Mapping[str, Any],
    cloud: GoogleCloudOptions,
    workers: Workers,
    found: Sequence[str] = (),
    *,
    offline: bool = False,
    asks: bool = True,
) -> Config:
    """Checks all that can be checked without a run, and makes the Config; `found` are problems found before. The key is
    looked for only if nothing else is wrong, and the output folder is tried last, so that nothing is written if
    anything is wrong. With `offline`, no object store is touched. Unless it `asks`, it needs no key and writes nothing.

    Raises:
      OptionError: with everything that is wrong, a line each.
    """
    problems = Problems(found)
    wrong_numbers = {name: problem for name in BY_NAME if (problem := _number_problem(name, typed))}
    problems += wrong_numbers.values()
    problems.of(lambda: _check_refresh(typed["refresh"]))
    attributes = problems.of(lambda: _attributes(typed))
    templates = _templates(typed, attributes, problems)
    topics = problems.of(lambda: _topics(typed["topics"]))
    survey = TaskSurvey()
    if not (offline and _is_remote(typed["tasks"])):
        problems.of(lambda: _survey_tasks(typed["tasks"], survey))
    checks, duplicate_checks = problems.of(lambda: _checks(typed)) or (None, ())
    problems.of(lambda: _check_languages(typed, survey))
    example = templates["example_template"]
    if survey.labelled and example and checks:
        problems.of(lambda: _check_labels(typed, survey, example, checks))
    if not (offline and _is_remote(typed["exclude"])):
        problems.of(lambda: _check_exclusions(typed))
    problems.of(lambda: _check_push(typed))
    problems += price_problems(typed)
    backend = verify_backend = None
    if not _OF_BACKENDS & wrong_numbers.keys():  # a back end would say the same again
        backend, verify_backend = _backends(typed, cloud, workers, problems, asks=asks)
    problems += _wave_problems(typed, backend, verify_backend)
    problems.raise_any()
    if typed["api_key_secret"] is not None and asks and not offline:
        check_secret(typed["api_key_secret"], workers)
    given: dict[str, Any] = {
        **templates,
        "output": typed["output"].rstrip("/") if offline else checked_output(typed["output"], writes=asks),
        "attributes": attributes,
        "topics": topics,
        "backend": backend,
        "verify_backend": verify_backend,
        "settings": _settings(typed),
        "plans_labels": typed["label_plan"] == "planned",
        "checks": checks,
        "duplicate_checks": duplicate_checks,
        "tasks": as_pattern(typed["tasks"]) if typed["tasks"] else None,
        "exclude": as_pattern(typed["exclude"]) if typed["exclude"] else None,
        "expected_tasks": survey.tasks or typed["task_requests"] * TASKS_A_REQUEST,
        "own_tasks": survey.own_tasks,
        "own_examples": survey.own_examples,
        "own_labelled": survey.labelled,
        "own_sample": tuple(survey.sample),
        "warnings": tuple(_warnings(typed, survey)),
        "typed": typed,
    }
    as_typed = {field.name: typed[field.name] for field in dataclasses.fields(Config) if field.name in typed}
    return Config(**{**as_typed, **given})


def _wave_problems(typed: Mapping[str, Any], backend: Backend | None, verify_backend: Backend | None) -> Iterator[str]:
    """Finds what does not go together with a cap on what is spent, or with a target."""
    in_waves = [BY_NAME[name].shown for name in (*CAPS, "target_examples") if typed[name] is not None]
    if in_waves and typed["retry_rejects"]:
        yield (
            f"{in_waves[0]} with --retry_rejects: such a run goes over its prompts several times, and each would ask "
            "again; leave one of them out"
        )
    if typed["max_waves"] is not None and typed["target_examples"] is None:
        yield "--max_waves without --target_examples: add it, or leave both out"
    if typed["max_cost"] is None or any(price_problems(typed)):
        return
    asked = {"price": backend, **({"verify_price": verify_backend} if typed["verify_model"] else {})}
    for option, model in asked.items():
        if model is not None and price_of(typed, model, option) is None:
            yield (
                f"--max_cost={typed['max_cost']:.12g}: nobody knows what {model.fingerprint()['model']!r} costs; say "
                f"it in USD per million tokens of prompts and of replies: --{option}=IN,OUT"
            )


def _templates(
    typed: Mapping[str, Any], attributes: Attributes | None, problems: Problems
) -> dict[str, PromptTemplate | None]:
    brainstorm = problems.of(lambda: _template(typed, "brainstorm_template", "brainstorm", BRAINSTORM_VARIABLES))
    if problem := choice_problem("label_plan", typed):
        problems.append(problem)
    plans = typed["label_plan"] == "planned"
    stem, variables = ("classify_planned", PLANNED_VARIABLES) if plans else ("classify", LABELLED_VARIABLES)
    choices = {name: [value for value, _ in getattr(attributes, name).values] for name in ATTRIBUTES if attributes}
    example = problems.of(lambda: _template(typed, "example_template", stem, variables, choices))
    return {
        "brainstorm_template": brainstorm,
        "example_template": example,
        "labelled_template": example if typed["example_template"] else shipped_template("classify_labels"),
        "label_set_template": shipped_template("label_set"),
        "verify_template": shipped_template("verify"),
    }


def _backends(
    typed: Mapping[str, Any], cloud: GoogleCloudOptions, workers: Workers, problems: Problems, *, asks: bool
) -> tuple[Backend | None, Backend | None]:
    """Returns what answers, and what verifies labels."""
    place = workers if asks else None
    backend = problems.of(lambda: backend_of(typed, cloud, place))
    if backend is None:
        return None, None
    verify_backend = problems.of(lambda: _verify_backend(typed, cloud, place, backend))
    if workers == "here":
        problems.of(lambda: _check_descriptors(typed, backend, verify_backend))
    return backend, verify_backend


def check_schemes(typed: Mapping[str, Any]) -> None:
    """Checks that each path is on a file system that can be used at all.

    Raises:
      OptionError: one is not.
    """
    problems = Problems()
    for name in _PATHS:
        problems.of(functools.partial(check_scheme, f"--{name}", typed[name] or ""))
    problems.raise_any()


def language_problems(typed: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line if the model cannot write a language of --language."""
    with contextlib.suppress(OptionError):  # which is reported with the other attributes
        problems = (_language_problem(typed, name, "--language") for name, _ in _attributes(typed).language.values)
        if problem := next(filter(None, problems), ""):
            yield f"--language={typed['language']}: {problem}"


def _language_problem(typed: Mapping[str, Any], language: str, setting: str) -> str:
    """Says why the model cannot write a language; "" if it can."""
    if typed["llm"] != "offline":
        return ""
    from textmint.transforms.llm.offline.backend import LANGUAGE, writes

    if writes(language):
        return ""
    return (
        f"the embedded model (--llm=offline) writes {LANGUAGE} only, not {language}; leave {setting} out, "
        "or choose a real model with --llm"
    )


def _settings(typed: Mapping[str, Any]) -> Settings:
    limits = {name: typed[name] for name in ("max_concurrency", "requests_per_minute", "tokens_per_minute")}
    others = {name: typed[name] for name in ("request_timeout", "max_attempts", "max_reject_rate")}
    return Settings(limits=Limits(**limits), **others)


def _is_remote(pattern: str | None) -> bool:
    return pattern is not None and not files.is_local(pattern)


def _number_problem(name: str, typed: Mapping[str, Any]) -> str | None:
    allowed = BY_NAME[name].range
    if allowed is None or typed[name] is None or allowed.holds(typed[name]):
        return None
    return f"{BY_NAME[name].shown} is {typed[name]}; it must {allowed.text}"


def _check_refresh(refresh: str) -> None:
    if not REFRESH.fullmatch(refresh):
        raise OptionError(
            f"--refresh is {refresh!r}; a name has 1 to 64 letters, digits, dots, dashes and underscores, and begins "
            "with a letter or digit"
        )


def _checks(typed: Mapping[str, Any]) -> tuple[Checks, tuple[str, ...]]:
    """Returns the checks of one example by itself, and the names of those that compare examples."""
    problems = Problems()
    names: tuple[str, ...] = ()
    checks = Checks()
    try:
        names = parse_checks(typed["checks"], known=(*CHECKS, *DUPLICATE_CHECKS))
    except ValueError as error:
        problems.append(f"--checks: {error}")
    try:
        settings = {name: typed[name] for name in ("length_slack", "max_label_columns", "language_min_confidence")}
        checks = Checks(names=tuple(name for name in names if name in CHECKS), **settings)
    except ValueError as error:
        problems.append(f"{error}; set it in the file of --config")
    problems.raise_any()
    return checks, tuple(name for name in names if name in DUPLICATE_CHECKS)


def _check_exclusions(typed: Mapping[str, Any]) -> None:
    pattern = typed["exclude"]
    if pattern is None:
        return
    with contextlib.suppress(ValueError):  # which is reported with the other checks
        if CONTAMINATED not in parse_checks(typed["checks"], known=(*CHECKS, *DUPLICATE_CHECKS)):
            raise OptionError(f"--exclude {pattern}: --checks={typed['checks']} leaves {CONTAMINATED} out; add it")
    if not count_items("--exclude", pattern, read_exclusions, ExclusionFileError, EXCLUSION_SUFFIXES):
        raise OptionError(f"--exclude {pattern}: holds no text, so it would guard nothing; write one a line")


def _check_push(typed: Mapping[str, Any]) -> None:
    if typed["push_to_hub"] is not None:
        check_push(typed["push_to_hub"], os.environ)
    if typed["license"] is not None and not LICENSE.fullmatch(typed["license"]):
        raise OptionError(
            f"--license is {typed['license']!r}; name one by its identifier in small letters, such as cc-by-4.0"
        )


def _attributes(typed: Mapping[str, Any]) -> Attributes:
    try:
        return parse_attributes(**{name: typed[name] for name in ATTRIBUTES})
    except ChoiceError as error:
        raise OptionError(str(error)) from None


def _check_descriptors(typed: Mapping[str, Any], backend: Backend, verify_backend: Backend | None) -> None:
    """Checks the limit of open files. It is a process's own, and each worker process keeps a connection for each
    request in flight to each of its models."""
    models = {each for each in (backend, verify_backend) if hasattr(each, "base_url")}
    most = most_connections()
    if models and most is not None and typed["max_concurrency"] * len(models) > most:
        raise OptionError(
            f"--max_concurrency={typed['max_concurrency']}: a process may not have so many connections open; choose "
            f"{most // len(models)} or less, or raise the hard limit of open files (ulimit -Hn)"
        )


def _verify_backend(
    typed: Mapping[str, Any], cloud: GoogleCloudOptions, workers: Workers | None, backend: Backend
) -> Backend | None:
    if typed["verify_model"] is None:
        return backend if typed["verify"] else None
    if not typed["verify"]:
        raise OptionError("--verify_model without --verify: add it, or leave both out")
    return backend_of({**typed, "model": typed["verify_model"]}, cloud, workers)


def _template(
    typed: Mapping[str, Any],
    option: str,
    shipped: str,
    variables: Variables,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> PromptTemplate:
    """Reads a template, and tries it on made-up tasks.

    Raises:
      OptionError: it can be filled for none of the tasks, or for none if a variable has one of its `choices`.
    """
    path = typed[option]
    if path is None:
        return shipped_template(shipped)
    template = PromptTemplate(Path(path).name.split(".")[0], read_text(f"--{option}", path))
    subject = next(iter(variables))  # the task, or the topic
    settings: list[Variables] = [{}]
    if variables is LABELLED_VARIABLES:
        settings.append({"labels": ()})
    if option == "brainstorm_template" and typed["topics"] == "none":
        settings = [dict.fromkeys(variables)]
    settings += [{name: value} for name, values in (choices or {}).items() for value in values]
    problem = ""
    for number, setting in enumerate(settings):
        texts = MADE_UP_TASKS[:1] if number else MADE_UP_TASKS  # there may be a hundred languages
        samples = [{**variables, subject: text, **setting} for text in texts]
        try:
            problem = template.check({**variables, **setting}, *samples) or problem
        except TemplateError as error:
            where = "".join(f" (where {name} is {value!r})" for name, value in setting.items() if value is not None)
            raise OptionError(f"--{option} {path}: {error}{where}") from None
    if problem:
        _LOG.warning("--%s %s: some %ss will be rejected, for it cannot be filled: %s", option, path, subject, problem)
    return template


def _topics(path: str | None) -> tuple[str, ...]:
    if path == "none":
        return ()
    if path is None:
        return read_topics((resources.files("textmint.templates") / "topics.txt").read_text("utf-8").splitlines())
    topics = read_topics(read_text("--topics", path).splitlines())
    if not topics:
        raise OptionError(f"--topics {path}: holds no topic; write one a line, or --topics=none")
    return topics


def _survey_tasks(pattern: str | None, survey: TaskSurvey) -> None:
    if pattern is not None and not count_items("--tasks", pattern, survey.read, TaskFileError, TASK_SUFFIXES):
        raise OptionError(f"--tasks {pattern}: holds no task; write one a line")


def _check_languages(typed: Mapping[str, Any], survey: TaskSurvey) -> None:
    for language, where in survey.languages.items():
        if problem := _language_problem(typed, language, "it"):
            raise OptionError(f"--tasks {where}: language: {problem}")


def _check_labels(typed: Mapping[str, Any], survey: TaskSurvey, example: PromptTemplate, checks: Checks) -> None:
    """Checks that tasks with labels of the user's own can give rows at all."""
    problems = Problems()
    if "label_too_long" in checks.names and survey.widest > checks.max_label_columns:
        problems.append(
            f"--tasks {typed['tasks']}: a label is {survey.widest} columns wide, so all its rows would be refused; "
            f"put `max_label_columns: {survey.widest}` into a file for --config=FILE"
        )
    if typed["example_template"] is not None and not (example.uses("labels") or example.uses("label")):
        problems.append(
            f"--example_template {typed['example_template']}: tells the model no labels, but tasks of --tasks have "
            "some; add {{ labels | join(', ') }}"
        )
    problems.raise_any()


def _warnings(typed: Mapping[str, Any], survey: TaskSurvey) -> Iterator[str]:
    if survey.unknown:
        slips = {name for name in survey.unknown if nearest(name, SETTINGS)}
        names = [*sorted(slips), *sorted(survey.unknown - slips)]
        shown = ", ".join(f"{name!r:.60}" for name in names[:_MOST_NAMES])
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        yield (
            f"--tasks {typed['tasks']}: {shown}{more} mean nothing here and are left out; "
            f"beside `task` there are {', '.join(SETTINGS)}"
        )
