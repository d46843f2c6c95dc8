"""Attributes: what an example shall be like, picked by hash(draft_id, attribute).

The values are those of "Improving Text Embeddings with Large Language Models" (arXiv 2401.00368), Appendix C, the
prompt for long-short matching.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

from textmint.transforms.core.identity import UNIT, fraction
from textmint.transforms.core.languages import UnknownLanguage, find_language, xlm_r_weights

DIFFICULTIES: Final = ("high school", "college", "PhD")
CLARITIES: Final = ("clear", "understandable with some effort", "ambiguous")
NUM_WORDS: Final = ("less than 10", "at least 10", "at least 50", "at least 100", "at least 200")
_MAX_EXPONENT: Final = 12  # an exact fraction of 1e999999999 would take all memory
ANY: Final = "any"  # of num_words: the prompt says nothing of length


class ChoiceError(ValueError):
    """A choice that cannot be understood; the message says which and what is possible."""


@dataclasses.dataclass(frozen=True, slots=True)
class Weighted:
    """Values with their weights, from which one is picked by hash."""

    values: tuple[tuple[str, Fraction], ...]  # in the order of the values; weights are positive and sum to 1 exactly
    _bounds: tuple[int, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        total, bounds = Fraction(0), []
        for _, weight in self.values:
            total += weight
            bounds.append(int(total * UNIT))
        if total != 1:
            raise ValueError(f"weights sum to {total}, not to 1")
        object.__setattr__(self, "_bounds", tuple(bounds))

    @classmethod
    def of(cls, weights: Mapping[str, Fraction]) -> Weighted:
        """Takes weights of any positive sum, ordered by value; those of weight 0 are left out."""
        total = sum(weights.values(), Fraction(0))
        return cls(tuple((value, weights[value] / total) for value in sorted(weights) if weights[value]))

    @classmethod
    def even(cls, values: Iterable[str]) -> Weighted:
        """Gives all values the same weight."""
        return cls.of({value: Fraction(1) for value in values})

    def pick(self, draft_id: str, attribute: str) -> str:
        """Picks the value in whose share of [0, 1) the hash of the draft lies. Shares are exact to 2**-64."""
        if len(self.values) == 1:
            return self.values[0][0]
        point = fraction("attribute", draft_id, attribute)
        for (value, _), bound in zip(self.values, self._bounds, strict=True):
            if point < bound:
                return value
        return self.values[-1][0]

    def describe(self) -> dict[str, float]:
        """Returns the weight of each value, for people and the manifest."""
        return {value: float(weight) for value, weight in self.values}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What each attribute of an example is picked from."""

    language: Weighted
    difficulty: Weighted
    clarity: Weighted
    num_words: Weighted

    def pick(self, draft_id: str) -> dict[str, str]:
        """Picks a value of each attribute for a draft."""
        return {name: getattr(self, name).pick(draft_id, name) for name in ATTRIBUTES}

    def describe(self) -> dict[str, dict[str, float]]:
        """Returns the weights of each attribute, for people and the manifest."""
        return {name: getattr(self, name).describe() for name in ATTRIBUTES}


ATTRIBUTES: Final = ("language", "difficulty", "clarity", "num_words")


def _known(values: tuple[str, ...], what: str) -> Callable[[str], str]:
    folded = {value.casefold(): value for value in values}

    def find(text: str) -> str:
        found = folded.get(" ".join(text.split()).casefold())
        if found is None:
            near = difflib.get_close_matches(text.casefold(), folded, n=1, cutoff=0.4)
            hint = f": did you mean {folded[near[0]]!r}?" if near else "."
            raise ChoiceError(f"unknown {what} {text!r}{hint} Known are {', '.join(map(repr, values))}.")
        return found

    return find


def _language(text: str) -> str:
    try:
        return find_language(text).name
    except UnknownLanguage as error:
        raise ChoiceError(str(error)) from None


_FIND: Final[Mapping[str, Callable[[str], str]]] = {
    "language": _language,
    "difficulty": _known(DIFFICULTIES, "difficulty"),
    "clarity": _known(CLARITIES, "clarity"),
    "num_words": _known((*NUM_WORDS, ANY), "num_words"),
}


def _weight(text: str, value: str) -> Fraction:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ChoiceError(f"the weight of {value!r} is {text.strip()!r}, which is not a number") from None
    if not number.is_finite() or (number and abs(number.adjusted()) > _MAX_EXPONENT):
        raise ChoiceError(f"the weight of {value!r} is {text.strip()!r}; weights lie between 1e-12 and 1e12, or are 0")
    if number < 0:
        raise ChoiceError(f"the weight of {value!r} is negative ({text.strip()}); weights are 0 or more")
    return Fraction(number)


def parse_choice(attribute: str, text: str) -> Weighted:
    """Reads one value of an attribute, or several with commas and optional weights (`English:0.5,German:0.3,Thai`).

    Values without a weight share evenly what the given weights leave of 1. For `language`, `xlm-r` stands for
    XLM-R's languages, weighted as in Figure 2 of arXiv 2401.00368.

    Raises:
      ChoiceError: an unknown or repeated value, a bad weight, or nothing left for the values without a weight.
    """
    if attribute == "language" and text.strip().casefold() == "xlm-r":
        return Weighted.of(xlm_r_weights())
    weights: dict[str, Fraction | None] = {}
    for item in text.split(","):
        if not item.strip():
            raise ChoiceError(f"{text!r} holds an empty value")
        name, colon, weight = item.rpartition(":")
        value = _FIND[attribute](name.strip() if colon else item.strip())
        if value in weights:
            raise ChoiceError(f"{value!r} is given twice")
        weights[value] = _weight(weight, value) if colon else None
    given = sum((weight for weight in weights.values() if weight is not None), Fraction(0))
    unweighted = [value for value, weight in weights.items() if weight is None]
    if len(unweighted) == len(weights):
        return Weighted.even(weights)
    if not unweighted:
        if given == 0:
            raise ChoiceError(f"the weights in {text!r} are all zero; at least one must be positive")
        return Weighted.of({value: weight for value, weight in weights.items() if weight is not None})
    if given >= 1:
        raise ChoiceError(
            f"the weights in {text!r} sum to {float(given):g}, which leaves nothing for {', '.join(unweighted)}; "
            "give every value a weight, or weights that sum to less than 1"
        )
    rest = (1 - given) / len(unweighted)
    return Weighted.of({value: rest if weight is None else weight for value, weight in weights.items()})


def parse_attributes(
    *,
    language: str | None = None,
    difficulty: str | None = None,
    clarity: str | None = None,
    num_words: str | None = None,
) -> Attributes:
    """Reads each attribute with `parse_choice`. The defaults are the paper's values, evenly, and English.

    Raises:
      ChoiceError: the message begins with the option's name.
    """
    chosen: dict[str, Weighted] = {
        "language": Weighted.even(("English",)),
        "difficulty": Weighted.even(DIFFICULTIES),
        "clarity": Weighted.even(CLARITIES),
        "num_words": Weighted.even(NUM_WORDS),
    }
    given = {"language": language, "difficulty": difficulty, "clarity": clarity, "num_words": num_words}
    for name, text in given.items():
        if text is not None:
            try:
                chosen[name] = parse_choice(name, text)
            except ChoiceError as error:
                raise ChoiceError(f"--{name}: {error}") from None
    return Attributes(**chosen)
