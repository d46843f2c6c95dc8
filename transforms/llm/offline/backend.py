"""The embedded model: answers like a chat model, from a grammar in plain Python, without a key or a network.

It is for trying the pipeline; its rows are not for training. It writes English, and answers no request for another
language.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.core.identity import UNIT, Part, fraction
from textmint.transforms.core.languages import UnknownLanguage, find_language
from textmint.transforms.llm.base import Answer, FatalError, Request
from textmint.transforms.llm.offline import author
from textmint.transforms.llm.offline.tasks import brainstorm

MODEL: Final = "offline-2"
"""The name that rows carry. It changes whenever the same request would be answered otherwise."""
LANGUAGE: Final = "English"
"""The one that it writes."""

_CHARACTERS_PER_TOKEN: Final = 4  # rule of thumb of OpenAI's tokenizer guide for English


@dataclasses.dataclass(frozen=True, slots=True)
class OfflineBackend:
    """The embedded model as a back end, and its session.

    Args:
      fault_rate: share of replies that are bad, and of the good ones that need mending.

    Raises:
      ValueError: `fault_rate` is not a number in [0, 1].
    """

    fault_rate: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.fault_rate <= 1.0:
            raise ValueError(f"fault_rate is a share, a number from 0 to 1, not {self.fault_rate!r}")

    def fingerprint(self) -> Mapping[str, Part]:
        """Names the model, and the rate of bad replies, which changes answers."""
        return {"backend": "offline", "model": MODEL, "fault_rate": float(self.fault_rate)}

    async def open(self) -> OfflineBackend:
        """Returns itself; nothing needs opening."""
        return self

    async def generate(self, request: Request) -> Answer:
        """Answers at once.

        Raises:
          FatalError: another language is asked for; its rows would say that they are written in it.
        """
        language = request.variables.get("language", LANGUAGE)
        if language != LANGUAGE and not writes(language):
            remedy = f"ask for {LANGUAGE}, or choose a real model with --llm"
            raise FatalError(f"the embedded model writes {LANGUAGE} only, and was asked for {language}", remedy)
        return answer(request, self.fault_rate)

    async def aclose(self) -> None:
        """Does nothing; nothing is open."""


def writes(language: str) -> bool:
    """Tells whether it writes a language, which is given by name, code or alias."""
    try:
        return find_language(language).name == LANGUAGE
    except UnknownLanguage:
        return False


def answer(request: Request, fault_rate: float = 0.0) -> Answer:
    """Answers a request, by nothing but its id and its variables.

    Args:
      request: absent variables are blank.
      fault_rate: share in [0, 1] of bad replies; the same share of the others has a form that has to be mended.
    """
    value = _good_value(request)
    fault = fault_of(request, fault_rate)
    if fault:
        text = FAULTS[request.kind][fault](value, fraction("offline-fault-place", request.request_id))
    elif form := form_of(request, fault_rate):
        text = FORMS[request.kind][form](value)
    else:
        text = _json(value)
    return Answer(
        text=text,
        finish_reason=_FINISH_REASONS.get(fault or "", "stop"),
        model=MODEL,
        prompt_tokens=_count_tokens(request.text),
        output_tokens=_count_tokens(text),
    )


def _count_tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def fault_of(request: Request, fault_rate: float) -> str | None:
    """Names the fault that the reply to a request has, one of `FAULTS`; None: it is good."""
    return _drawn("offline-fault", request, fault_rate, tuple(FAULTS[request.kind]))


def form_of(request: Request, fault_rate: float) -> str | None:
    """Names the form that the good reply to a request has, one of `FORMS`; None: plain JSON."""
    return _drawn("offline-form", request, fault_rate, tuple(FORMS[request.kind]))


def _drawn(what: str, request: Request, rate: float, names: tuple[str, ...]) -> str | None:
    if fraction(what, request.request_id) >= rate * UNIT:
        return None
    return names[fraction(f"{what}-kind", request.request_id) % len(names)]


def _good_value(request: Request) -> Any:
    """Makes what a good reply holds."""
    given, key = request.variables, request.request_id
    if request.kind == "task_list":
        return brainstorm(given.get("topic") or "", key)
    task = given.get("task", "")
    if request.kind == "label_set":
        return author.label_set(task)
    if request.kind == "choice":
        # The author cannot judge texts, so it is given the true label.
        labels = [given.get("first", ""), given.get("second", "")]
        return _Choice({"label": labels[labels.index(given["label"]) if given.get("label") in labels else 0]}, labels)
    style = (given.get("difficulty", ""), given.get("clarity", ""), given.get("num_words", ""))
    if request.kind == "planned_example":
        planned = (given.get("label", ""), given.get("misleading_label", ""))
        return {"input_text": author.write_planned(task, *planned, *style, key)}
    labels = given.get("labels", "").splitlines() or author.label_set(task)
    return author.write_example(task, labels, *style, key)


class _Choice(dict[str, str]):
    """The right choice, and the two labels that it was made from."""

    def __init__(self, right: Mapping[str, str], labels: list[str]) -> None:
        super().__init__(right)
        self.labels = labels

    @property
    def place(self) -> int:
        return self.labels.index(self["label"])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _with_raw_newline(example: Mapping[str, str]) -> str:
    # Models forget to escape the line breaks of a letter; a text without any gets one after its first word.
    broken = {**example, "input_text": example["input_text"].replace(" ", "\n", 1)}
    return _json(broken).replace("\\n", "\n")


_Form: TypeAlias = Callable[[Any], str]
_Fault: TypeAlias = Callable[[Any, int], str]

_OBJECT_FORMS: Final[Mapping[str, _Form]] = {
    "fenced": lambda value: f"```json\n{_json(value)}\n```",
    "in_prose": lambda value: f"Here is what you asked for:\n\n{_json(value)}\n\nLet me know if you need more.",
    "python_dict": lambda value: repr(dict(value)),
}
_EXAMPLE_FORMS: Final[Mapping[str, _Form]] = {
    **_OBJECT_FORMS,
    "trailing_comma": lambda example: _json(example)[:-2] + ",\n}",
    "raw_newline": _with_raw_newline,
    "one_element_list": lambda example: _json([example]),
    "extra_key": lambda example: _json({**example, "explanation": "The label follows from what the text describes."}),
}
_LIST_FORMS: Final[Mapping[str, _Form]] = {
    "fenced": lambda items: f"```json\n{_json(items)}\n```",
    "numbered": lambda items: "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1)),
    "bulleted": lambda items: "\n".join(f"- {item}" for item in items),
    "python_list": repr,
}
FORMS: Final[Mapping[Kind, Mapping[str, _Form]]] = {
    "task_list": _LIST_FORMS,
    "label_set": _LIST_FORMS,
    "example": _EXAMPLE_FORMS,
    "planned_example": _EXAMPLE_FORMS,
    "choice": {
        **_OBJECT_FORMS,
        "bare": lambda choice: choice["label"],
        "place": lambda choice: _json({"label": f"Label {'AB'[choice.place]}"}),
        "number": lambda choice: _json({"label": choice.place + 1}),
    },
}
"""What a good reply may look like where it is not plain JSON, by the kind of request."""


def _name_at(example: Mapping[str, str], place: int) -> str:
    return tuple(example)[place % len(example)]


def _truncated_example(example: Mapping[str, str], place: int) -> str:
    text = _json(example)
    start = text.index(": ") + 3
    return text[: start + 1 + place % (len(json.dumps(example["input_text"])) - 3)]


def _without_a_field(example: Mapping[str, str], place: int) -> str:
    gone = _name_at(example, place)
    left = {name: value for name, value in example.items() if name != gone}
    return _json(left or {"text": example[gone]})


_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {"blocked": "content_filter", "truncated": "length"}
_NO_TEXT: Final[Mapping[str, _Fault]] = {"empty": lambda value, place: "", "blocked": lambda value, place: ""}
_EXAMPLE_FAULTS: Final[Mapping[str, _Fault]] = {
    **_NO_TEXT,
    "truncated": _truncated_example,
    "prose": lambda example, place: f"Sure! Here is a text for this task. {example['input_text']} I hope it is of use.",
    "wrong_shape": lambda example, place: _json([*example.values()]) if place % 2 else str(len(example["input_text"])),
    "missing_field": _without_a_field,
    "wrong_type": lambda example, place: _json({**example, _name_at(example, place): None if place % 2 else 7}),
    "blank_field": lambda example, place: _json({**example, _name_at(example, place): " " * (place % 3)}),
}
_LIST_FAULTS: Final[Mapping[str, _Fault]] = {
    **_NO_TEXT,
    "prose": lambda items, place: "I am sorry, but I cannot help with a request of this kind.",
    "wrong_shape": lambda items, place: "{}" if place % 2 else str(place % 100),
    "bad_items": lambda items, place: _json([None, *items, "  ", place % 100]),
}
FAULTS: Final[Mapping[Kind, Mapping[str, _Fault]]] = {
    "task_list": _LIST_FAULTS,
    "label_set": {**_LIST_FAULTS, "too_few_labels": lambda items, place: _json([items[place % len(items)]])},
    "example": _EXAMPLE_FAULTS,
    "planned_example": _EXAMPLE_FAULTS,
    "choice": {
        **_NO_TEXT,
        "truncated": lambda choice, place: '{"label": "',
        "prose": lambda choice, place: "Both labels could be argued for; it depends on how one reads them.",
        "wrong_shape": lambda choice, place: _json(choice.labels),
        "wrong_label": lambda choice, place: _json({"label": choice.labels[1 - choice.place]}),
        "no_label": lambda choice, place: _json({"label": "neither of the two"}),
    },
}
"""What a bad reply may look like, by the kind of request."""
