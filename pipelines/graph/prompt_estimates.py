"""How long prompts and replies will be, before any reply: prompts are made as they will be sent, of some tasks, and
replies are as long as num_words asks for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from textmint.pipelines.graph.plan import CHARACTERS_A_TOKEN, TASKS_A_REQUEST, Stratum, text_tokens
from textmint.pipelines.options.config import Config
from textmint.transforms.build_prompt import example_prompt
from textmint.transforms.core.attributes import Attributes
from textmint.transforms.core.elements import Kind, LabelSet, Task, TaskSettings
from textmint.transforms.core.labels import label_id
from textmint.transforms.core.prompt_template import VERIFY_VARIABLES, PromptTemplate, TemplateError, Variables
from textmint.transforms.core.tasks import task_id, topics_of_rounds
from textmint.transforms.sample_attributes import drafts_of

_SAMPLES: Final = 64  # prompts of each kind that are made to see how long they are
_TYPICAL_TASK: Final = "Classify a customer e-mail by the department that should answer it, or say that none should"
"""As long as tasks are that models brainstorm, on average."""
_TYPICAL_LABELS: Final = ("invoices", "deliveries", "returns", "complaints", "praise")
_LIST_TOKENS: Final = TASKS_A_REQUEST * (len(_TYPICAL_TASK) + 8) / CHARACTERS_A_TOKEN  # with the marks of JSON
_LABEL_SET_TOKENS: Final = 20.0
_CHOICE_TOKENS: Final = 8.0
_EXAMPLE_TOKENS: Final[Mapping[str, float]] = {"example": 25.0, "planned_example": 7.0}  # beside the text


def _mean(characters: Iterable[int]) -> float:
    lengths = list(characters)
    return sum(lengths) / max(1, len(lengths)) / CHARACTERS_A_TOKEN


def _length(template: PromptTemplate, variables: Variables) -> Iterator[int]:
    try:
        yield len(template.render(variables))
    except TemplateError:  # of some tasks; they become rejects
        return


def _brainstorm_lengths(config: Config) -> Iterator[int]:
    rounds = min(config.task_requests, _SAMPLES)
    for topic in topics_of_rounds(config.topics, rounds, refresh=config.refresh, seed=config.seed):
        yield from _length(config.brainstorm_template, {"topic": topic})


def _sampled_tasks(config: Config) -> Sequence[Task]:
    entries = [(entry.text, entry.settings) for entry in config.own_sample] or [(_TYPICAL_TASK, None)]
    return [Task(task_id=task_id(text), task=text, settings=settings) for text, settings in entries]


def _label_set_lengths(config: Config) -> Iterator[int]:
    for task in _sampled_tasks(config):
        if not (task.settings and task.settings.labels):
            yield from _length(config.label_set_template, {"task": task.task})


def _example_lengths(config: Config) -> Iterator[int]:
    tasks = _sampled_tasks(config)
    for task in tasks:
        settings = task.settings or TaskSettings()
        asks_for = _with_labels(task, config.seed) if config.plans_labels else task
        drafts = drafts_of(
            asks_for,
            examples_per_task=-(-_SAMPLES // len(tasks)),
            attributes=config.attributes,
            seed=config.seed,
            refresh=config.refresh,
        )
        template = config.labelled_template if settings.labels and not config.plans_labels else config.example_template
        for draft in itertools.islice(drafts, _SAMPLES):
            try:
                yield len(example_prompt(draft, template).text)
            except TemplateError:
                continue


def _with_labels(task: Task, seed: int) -> LabelSet:
    labels = (task.settings.labels if task.settings else ()) or _TYPICAL_LABELS
    return LabelSet(
        task_id=task.task_id,
        task=task.task,
        labels=labels,
        label_ids=tuple(label_id(task.task_id, label) for label in labels),
        model="",
        template="",
        prompt_tokens=0,
        output_tokens=0,
        seed=seed,
        settings=task.settings,
    )


def _choice_lengths(config: Config) -> Iterator[int]:
    for task in _sampled_tasks(config):
        yield from _length(config.verify_template, {**VERIFY_VARIABLES, "task": task.task, "input_text": "-"})


def _task_list_strata(config: Config) -> Mapping[str, Stratum]:
    return _one(_brainstorm_lengths(config), _LIST_TOKENS)


def _label_set_strata(config: Config) -> Mapping[str, Stratum]:
    return _one(_label_set_lengths(config), _LABEL_SET_TOKENS)


def _one(characters: Iterable[int], output: float) -> Mapping[str, Stratum]:
    return {"": Stratum(share=1.0, prompt=_mean(characters), output=output)}


def _example_strata(config: Config) -> Mapping[str, Stratum]:
    """Divides the requests for examples by the language and the length of the texts that they ask for."""
    prompt, beside = _mean(_example_lengths(config)), _EXAMPLE_TOKENS[config.example_kind]
    texts = _texts(config.attributes)
    return {name: Stratum(share=share, prompt=prompt, output=beside + text) for name, (share, text) in texts.items()}


def _choice_strata(config: Config) -> Mapping[str, Stratum]:
    """Divides verifications by the texts that they show."""
    prompt, texts = _mean(_choice_lengths(config)), _texts(config.attributes)
    return {
        name: Stratum(share=share, prompt=prompt + text, output=_CHOICE_TOKENS) for name, (share, text) in texts.items()
    }


def _texts(attributes: Attributes) -> dict[str, tuple[float, float]]:
    """Returns the share and the estimated tokens of texts of each language and length."""
    return {
        stratum_of(language, num_words): (float(of_language * of_length), text_tokens(num_words, language))
        for language, of_language in attributes.language.values
        for num_words, of_length in attributes.num_words.values
    }


def stratum_of(language: str, num_words: str) -> str:
    """Names the texts of a language and a length."""
    return f"{language}, {num_words}"


STRATA: Final[Mapping[Kind, Callable[[Config], Mapping[str, Stratum]]]] = {
    "task_list": _task_list_strata,
    "label_set": _label_set_strata,
    "example": _example_strata,
    "planned_example": _example_strata,
    "choice": _choice_strata,
}
"""How the requests of each kind are divided, and what each is estimated to take."""
