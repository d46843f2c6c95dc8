"""The embedded model: answers like a chat model, from a grammar in plain Python, without a key or a network.

It is for trying the pipeline. Its rows are not for training: they hold what `offline_author` was given to say. It
writes English, and answers no request for another language.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Final

from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.core.identity import UNIT, Part, fraction
from textmint.transforms.core.languages import UnknownLanguage, find_language
from textmint.transforms.llm.base import Answer, FatalError, Request
from textmint.transforms.llm.offline import author as offline_author

MODEL: Final = "offline-1"
"""The name that rows carry. It changes whenever the same request would be answered otherwise."""
LANGUAGE: Final = "English"
"""The one that it writes."""

EXAMPLE_FAULTS: Final = (
    "empty",
    "blocked",
    "truncated",
    "prose",
    "wrong_shape",
    "missing_field",
    "wrong_type",
    "blank_field",
)
LIST_FAULTS: Final = ("empty", "blocked", "prose", "wrong_shape", "bad_items")
LABEL_SET_FAULTS: Final = (*LIST_FAULTS, "too_few_labels")
CHOICE_FAULTS: Final = ("empty", "blocked", "truncated", "prose", "wrong_shape", "wrong_label", "no_label")
EXAMPLE_FORMS: Final = (
    "fenced",
    "in_prose",
    "python_dict",
    "trailing_comma",
    "raw_newline",
    "one_element_list",
    "extra_key",
)
LIST_FORMS: Final = ("fenced", "numbered", "bulleted", "python_list")
CHOICE_FORMS: Final = ("fenced", "in_prose", "python_dict", "bare", "place", "number")

_FAULTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "task_list": LIST_FAULTS,
    "label_set": LABEL_SET_FAULTS,
    "example": EXAMPLE_FAULTS,
    "planned_example": EXAMPLE_FAULTS,
    "choice": CHOICE_FAULTS,
}
_FORMS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "task_list": LIST_FORMS,
    "label_set": LIST_FORMS,
    "example": EXAMPLE_FORMS,
    "planned_example": EXAMPLE_FORMS,
    "choice": CHOICE_FORMS,
}

_CHARACTERS_PER_TOKEN: Final = 4  # rule of thumb of OpenAI's tokenizer guide for English


@dataclasses.dataclass(frozen=True, slots=True)
class OfflineBackend:
    """The embedded model as a back end.

    Raises:
      ValueError: `fault_rate` is not a number in [0, 1].
    """

    fault_rate: float = 0.0  # share of replies that are bad, and of the good ones that need mending

    def __post_init__(self) -> None:
        if not 0.0 <= self.fault_rate <= 1.0:
            raise ValueError(f"fault_rate is a share, a number from 0 to 1, not {self.fault_rate!r}")

    def fingerprint(self) -> Mapping[str, Part]:
        """-> the model's name and the rate of bad replies, which changes answers."""
        return {"backend": "offline", "model": MODEL, "fault_rate": float(self.fault_rate)}

    async def open(self) -> OfflineSession:
        """-> a session; nothing needs opening."""
        return OfflineSession(self.fault_rate)


@dataclasses.dataclass(frozen=True, slots=True)
class OfflineSession:
    """The embedded model, open."""

    fault_rate: float

    async def generate(self, request: Request) -> Answer:
        """Answers at once.

        Args:
          request: as for `answer`.

        Returns:
          The answer.

        Raises:
          FatalError: another language is asked for; its rows would say that they are written in it.
        """
        language = request.variables.get("language", LANGUAGE)
        if language != LANGUAGE and not writes(language):
            remedy = f"ask for {LANGUAGE}, or choose a real model with --llm"
            raise FatalError(f"the embedded model writes {LANGUAGE} only, and was asked for {language}", remedy)
        return answer(request, self.fault_rate)

    async def aclose(self) -> None:
        """Nothing is open."""


def writes(language: str) -> bool:
    """Whether it writes a language.

    Args:
      language: its name, code or alias.

    Returns:
      True for English.
    """
    try:
        return find_language(language).name == LANGUAGE
    except UnknownLanguage:
        return False


def answer(request: Request, fault_rate: float = 0.0) -> Answer:
    """Request -> Answer, a pure function of the request's id and variables.

    Args:
      request: its variables are `topic`, or `task`, or `task`, `difficulty`, `clarity`, `num_words` and, where they are
        planned, `label` and `misleading_label`, or where the user gives them `labels`, one a line; or `first`, `second`
        and the true `label`; absent ones are blank.
      fault_rate: share in [0, 1] of bad replies; the same share of the others is written in a form that has to be
        mended.
    """
    if request.kind in ("task_list", "label_set"):
        text, finish = _list_reply(request, fault_rate)
    elif request.kind == "choice":
        text, finish = _choice_reply(request, fault_rate)
    else:
        text, finish = _example_reply(request, fault_rate)
    return Answer(
        text=text,
        finish_reason=finish,
        model=MODEL,
        prompt_tokens=count_tokens(request.text),
        output_tokens=count_tokens(text),
    )


def count_tokens(text: str) -> int:
    """A text -> its tokens by rule of thumb: one for every four characters, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def fault_of(request: Request, fault_rate: float) -> str | None:
    """Request, rate -> the fault its reply has, one of those of its kind such as EXAMPLE_FAULTS, or None."""
    if fraction("offline-fault", request.request_id) >= fault_rate * UNIT:
        return None
    faults = _FAULTS[request.kind]
    return faults[fraction("offline-fault-kind", request.request_id) % len(faults)]


def form_of(request: Request, fault_rate: float) -> str | None:
    """Request, rate -> the form its good reply has, one of those of its kind such as EXAMPLE_FORMS, or None for plain
    JSON."""
    if fraction("offline-form", request.request_id) >= fault_rate * UNIT:
        return None
    forms = _FORMS[request.kind]
    return forms[fraction("offline-form-kind", request.request_id) % len(forms)]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _example_reply(request: Request, fault_rate: float) -> tuple[str, FinishReason]:
    fault = fault_of(request, fault_rate)
    if fault == "empty":
        return "", "stop"
    if fault == "blocked":
        return "", "content_filter"
    given = request.variables
    task = given.get("task", "")
    style = (given.get("difficulty", ""), given.get("clarity", ""), given.get("num_words", ""))
    if request.kind == "planned_example":
        wanted = given.get("label", ""), given.get("misleading_label", "")
        example = {"input_text": offline_author.write_planned(task, *wanted, *style, request.request_id)}
    elif labels := given.get("labels", "").splitlines():
        at = fraction("offline-label", request.request_id) % len(labels)
        further = 1 + fraction("offline-misleading-label", request.request_id) % (len(labels) - 1)
        right, wrong = labels[at], labels[(at + further) % len(labels)]
        text = offline_author.write_planned(task, right, wrong, *style, request.request_id)
        example = {"input_text": text, "label": right, "misleading_label": wrong}
    else:
        example = offline_author.write_example(task, *style, request.request_id)
    place = fraction("offline-fault-place", request.request_id)
    field = tuple(example)[place % len(example)]
    if fault is None:
        return _dressed_example(example, form_of(request, fault_rate)), "stop"
    if fault == "truncated":
        text = _json(example)
        start = text.index(": ") + 3
        return text[: start + 1 + place % (len(json.dumps(example["input_text"])) - 3)], "length"
    if fault == "prose":
        return f"Sure! Here is a text for this task. {example['input_text']} I hope that this is of use.", "stop"
    if fault == "wrong_shape":
        return (_json(list(example.values())) if place % 2 else str(len(example["input_text"]))), "stop"
    if fault == "missing_field" and len(example) == 1:
        return _json({"text": example[field]}), "stop"
    if fault == "missing_field":
        return _json({name: value for name, value in example.items() if name != field}), "stop"
    if fault == "wrong_type":
        return _json({**example, field: None if place % 2 else place % 100}), "stop"
    return _json({**example, field: " " * (place % 3)}), "stop"  # blank_field


def _dressed_example(example: Mapping[str, str], form: str | None) -> str:
    plain = _json(dict(example))
    if form == "fenced":
        return f"```json\n{plain}\n```"
    if form == "in_prose":
        return f"Here is the example you asked for:\n\n{plain}\n\nLet me know if you need another one."
    if form == "python_dict":
        return repr(dict(example))
    if form == "trailing_comma":
        return plain[:-2] + ",\n}"
    if form == "raw_newline":
        # Models forget to escape the line breaks of a letter; a text without any gets one after its first word.
        broken = {**example, "input_text": example["input_text"].replace(" ", "\n", 1)}
        return _json(broken).replace("\\n", "\n")
    if form == "one_element_list":
        return _json([dict(example)])
    if form == "extra_key":
        return _json({**example, "explanation": "The label follows from what the text describes."})
    return plain


def _list_reply(request: Request, fault_rate: float) -> tuple[str, FinishReason]:
    fault = fault_of(request, fault_rate)
    if fault == "empty":
        return "", "stop"
    if fault == "blocked":
        return "", "content_filter"
    if fault == "prose":
        return "I am sorry, but I cannot help with a request of this kind.", "stop"
    place = fraction("offline-fault-place", request.request_id)
    if fault == "wrong_shape":
        return ("{}" if place % 2 else str(place % 100)), "stop"
    if request.kind == "label_set":
        items = offline_author.label_set(request.variables.get("task", ""))
    else:
        items = offline_author.brainstorm(request.variables.get("topic") or "", request.request_id)
    if fault == "too_few_labels":
        return _json([items[place % len(items)]]), "stop"
    if fault == "bad_items":
        at = place % len(items)
        return _json([*items[:at], None, "  ", place % 100, *items[at:]]), "stop"
    return _dressed_list(items, form_of(request, fault_rate)), "stop"


def _dressed_list(items: list[str], form: str | None) -> str:
    if form == "fenced":
        return f"```python\n{_json(items)}\n```"
    if form == "numbered":
        return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    if form == "bulleted":
        return "\n".join(f"- {item}" for item in items)
    if form == "python_list":
        return repr(items)
    return _json(items)


def _choice_reply(request: Request, fault_rate: float) -> tuple[str, FinishReason]:
    """It cannot judge texts, so it is told the truth, and says it unless it is to play a fault."""
    fault = fault_of(request, fault_rate)
    if fault == "empty":
        return "", "stop"
    if fault == "blocked":
        return "", "content_filter"
    labels = [request.variables.get("first", ""), request.variables.get("second", "")]
    right = labels.index(request.variables["label"]) if request.variables.get("label") in labels else 0
    if fault == "truncated":
        return '{"label": "', "length"
    if fault == "prose":
        return "Both labels could be argued for, and it depends on how the task is understood.", "stop"
    if fault == "wrong_shape":
        return _json(labels), "stop"
    if fault == "no_label":
        return _json({"label": "neither of the two"}), "stop"
    at = 1 - right if fault == "wrong_label" else right
    form = form_of(request, fault_rate)
    if form == "bare":
        return labels[at], "stop"
    if form == "place":
        return _json({"label": f"Label {'AB'[at]}"}), "stop"
    if form == "number":
        return _json({"label": at + 1}), "stop"
    return _dressed_example({"label": labels[at]}, form), "stop"
