"""Label choice: which of two labels a model named.

It is asked for `{"label": "..."}`, but may answer with the bare label or its place ("A", "2", "the second"). A label
that is itself such a word wins: of the labels "B" and "A", the answer "A" names the second.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from textmint.transforms.core.elements import FinishReason
from textmint.transforms.core.labels import normal_form
from textmint.transforms.parsing.answers import answer_text
from textmint.transforms.parsing.objects import parse_object
from textmint.transforms.parsing.results import Parsed, Refusal

_NUMBER: Final = re.compile(r"""((?:["']label["']|\blabel)\s*:\s*)([12])(?=\s*[,}\]]|\s*$)""")
_PLACES: Final = (frozenset(("first", "a", "1", "1st", "one")), frozenset(("second", "b", "2", "2nd", "two")))
_AROUND: Final = " \t\r\n\"'`*.:()[]\u201c\u201d\u2018\u2019"
_FILLING: Final = re.compile(r"^(?:the\s+)?(?:label|option|choice|answer)?\s*|\s+(?:label|one|option|choice)$")
_LEAD: Final = re.compile(r"^\(?(first|second|[ab12])\s*[).:\-\u2013]+\s*(.+)$", re.IGNORECASE | re.DOTALL)
_ANNOUNCED: Final = re.compile(
    r"(?:the\s+)?(?:(?:correct|best|chosen|more appropriate)\s+)?(?:label|answer)\s*(?::|\bis\b)\s*(.+)$", re.IGNORECASE
)
_MAX_BARE: Final = 400  # characters of a reply that is no more than a label: the widest one, quoted and announced


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """What a reply names."""

    text: str  # as it stands in the reply
    label: str | None  # which of the two labels is meant; None: neither of them


def read_choice(text: str, finish_reason: FinishReason, first: str, second: str) -> Named | Refusal:
    """Reads a reply to a choice between two labels in the order shown, or says why it cannot be read.

    A reply that is not JSON must be nothing but a label or its place, and the model must have stopped by itself.
    """
    found = parse_object(_NUMBER.sub(r'\1"\2"', text), finish_reason, ("label",))
    if isinstance(found, Parsed):
        named = found.value["label"]
        return Named(named, which_label(named, first, second))
    bare = answer_text(text, finish_reason) if finish_reason == "stop" else None
    if bare is not None and len(bare) <= _MAX_BARE:
        label = which_label(bare, first, second)
        if label is not None:
            return Named(bare.strip(), label)
    return found


def which_label(named: str, first: str, second: str) -> str | None:
    """Finds which of two labels a text means, by the label's text, its normal form, or its place; None for neither."""
    labels = (first, second)
    stripped = named.strip(_AROUND)
    announced = _ANNOUNCED.match(stripped)
    spellings = [named, stripped, *([announced[1].strip(_AROUND)] if announced else [])]
    for same in (lambda spelling, label: spelling == label, lambda spelling, label: _form(spelling) == _form(label)):
        for spelling in spellings:
            for label in labels:
                if same(spelling, label):
                    return label
    for spelling in spellings:
        by_place = _by_place(_FILLING.sub("", spelling.casefold()), labels)
        if by_place is not None:
            return by_place
    lead = _LEAD.match(stripped)
    if lead:  # "A: positive"; the letter and the label must agree
        by_place = _by_place(lead[1], labels)
        return by_place if by_place is not None and _form(lead[2]) == _form(by_place) else None
    return None


def _form(text: str) -> str:
    return normal_form(text) or text


def _by_place(word: str, labels: tuple[str, str]) -> str | None:
    folded = word.casefold().strip(_AROUND)
    return next((label for label, words in zip(labels, _PLACES, strict=True) if folded in words), None)
