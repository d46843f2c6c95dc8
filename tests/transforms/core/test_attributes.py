"""Attributes: weights honoured exactly, the order of a list without effect, each wrong choice refused by name."""

from __future__ import annotations

import collections
import functools
import itertools
from fractions import Fraction

import pytest
import textmint.transforms.core.attributes
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.attributes import (
    ATTRIBUTES,
    CLARITIES,
    DIFFICULTIES,
    NUM_WORDS,
    Attributes,
    ChoiceError,
    Weighted,
    parse_attributes,
    parse_choice,
)
from textmint.transforms.core.identity import UNIT, stable_hash
from textmint.transforms.core.languages import xlm_r_weights

DRAFTS = 100_000
# Chi-square, upper tail 0.001 (NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.4), by the degrees of
# freedom. Drafts are hashed, so the statistic is the same number in every run.
CRITICAL = {2: 13.816, 4: 18.467, 99: 148.230}


@functools.lru_cache(maxsize=1)
def draft_ids() -> tuple[str, ...]:
    tasks = [stable_hash("task", f"task {number}") for number in range(DRAFTS // 10)]
    return tuple(stable_hash("draft", task, replica, 42) for task in tasks for replica in range(10))


@functools.lru_cache(maxsize=8)
def picked(weighted: Weighted, attribute: str) -> collections.Counter[str]:
    return collections.Counter(weighted.pick(draft_id, attribute) for draft_id in draft_ids())


def chi_square(counts: collections.Counter[str], weights: dict[str, Fraction]) -> float:
    assert set(counts) <= set(weights)
    expected = {value: float(weight * DRAFTS) for value, weight in weights.items()}
    return sum((counts[value] - expected[value]) ** 2 / expected[value] for value in weights)


def defaults() -> Attributes:
    return parse_attributes(language=None, difficulty=None, clarity=None, num_words=None)


# --- weights


def test_weights_of_a_list_are_honoured() -> None:
    weighted = parse_choice("language", "English:0.5,German:0.3,Thai")
    half, third, rest = Fraction(5, 10), Fraction(3, 10), Fraction(2, 10)
    assert dict(weighted.values) == {"English": half, "German": third, "Thai": rest}
    counts = picked(weighted, "language")
    assert chi_square(counts, {"English": half, "German": third, "Thai": rest}) < CRITICAL[2]
    # one hundredth off would be seen
    off = Fraction(1, 100)
    assert chi_square(counts, {"English": half - off, "German": third + off, "Thai": rest}) > CRITICAL[2]


@pytest.mark.parametrize(
    ("attribute", "values"), [("difficulty", DIFFICULTIES), ("clarity", CLARITIES), ("num_words", NUM_WORDS)]
)
def test_defaults_are_even(attribute: str, values: tuple[str, ...]) -> None:
    weighted = getattr(defaults(), attribute)
    weights = {value: Fraction(1, len(values)) for value in values}
    assert dict(weighted.values) == weights
    assert chi_square(picked(weighted, attribute), weights) < CRITICAL[len(values) - 1]


def test_weights_of_xlm_r_are_honoured() -> None:
    counts = picked(parse_choice("language", "xlm-r"), "language")
    assert chi_square(counts, xlm_r_weights()) < CRITICAL[99]
    # arXiv 2401.00368, Figure 2; a binomial share of 43.1 % strays 0.5 points with a chance of 0.0014
    assert abs(counts["English"] / DRAFTS - 0.431) < 0.005
    assert abs(counts["German"] / DRAFTS - 0.029) < 0.002
    assert abs((counts["Chinese (Simplified)"] + counts["Chinese (Traditional)"]) / DRAFTS - 0.029) < 0.002
    assert len(counts) == 100


def test_attributes_are_independent() -> None:
    # 9 cells of 1/9 each; 8 degrees of freedom, upper tail 0.001: 26.124 (same table)
    chosen = defaults()
    cells = collections.Counter(
        (chosen.difficulty.pick(draft_id, "difficulty"), chosen.clarity.pick(draft_id, "clarity"))
        for draft_id in itertools.islice(draft_ids(), 20_000)
    )
    expected = 20_000 / 9
    assert len(cells) == 9
    assert sum((count - expected) ** 2 / expected for count in cells.values()) < 26.124


@pytest.mark.parametrize(
    ("point", "value"),
    [(0, "a"), (UNIT // 4 - 1, "a"), (UNIT // 4, "b"), (UNIT * 3 // 4 - 1, "b"), (UNIT * 3 // 4, "c"), (UNIT - 1, "c")],
)
def test_shares_are_exact_at_their_borders(monkeypatch: pytest.MonkeyPatch, point: int, value: str) -> None:
    monkeypatch.setattr(textmint.transforms.core.attributes, "fraction", lambda *_: point)
    weighted = Weighted.of({"c": Fraction(1), "a": Fraction(1), "b": Fraction(2)})
    assert weighted.pick("any", "any") == value


def test_thirds_leave_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1/3 is no multiple of 2**-64: the last point belongs to the last value all the same
    monkeypatch.setattr(textmint.transforms.core.attributes, "fraction", lambda *_: UNIT - 1)
    assert Weighted.even(("a", "b", "c")).pick("any", "any") == "c"


@pytest.mark.parametrize("total", [Fraction(1, 2), Fraction(2)])
def test_weights_that_do_not_sum_to_one_are_refused(total: Fraction) -> None:
    with pytest.raises(ValueError, match="weights sum to"):
        Weighted((("a", total),))


# --- what changes a pick, and what does not


def test_order_of_the_list_changes_nothing() -> None:
    texts = {",".join(order) for order in itertools.permutations(("English:0.5", "German:0.3", "Thai"))}
    assert len(texts) == 6
    assert len({parse_choice("language", text) for text in texts}) == 1
    orders = {",".join(order) for order in itertools.permutations(DIFFICULTIES)}
    assert {parse_choice("difficulty", text) for text in orders} == {Weighted.even(DIFFICULTIES)}


def test_other_drafts_change_nothing() -> None:
    chosen = defaults()
    forward = [chosen.pick(draft_id) for draft_id in draft_ids()[:50]]
    backward = [chosen.pick(draft_id) for draft_id in reversed(draft_ids()[:50])]
    assert forward == backward[::-1]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("language", "Thai"), ("difficulty", "PhD"), ("clarity", "ambiguous"), ("num_words", "any")],
)
def test_a_value_given_leaves_the_other_attributes_as_they_were(attribute: str, value: str) -> None:
    options: dict[str, str | None] = {**dict.fromkeys(ATTRIBUTES), "language": "English,German,Thai"}
    before = parse_attributes(**options)
    after = parse_attributes(**{**options, attribute: value})
    for draft_id in draft_ids()[:200]:
        assert after.pick(draft_id) == {**before.pick(draft_id), attribute: value}
    assert len({before.pick(draft_id)[attribute] for draft_id in draft_ids()[:200]}) >= 3


def test_picks_are_pinned() -> None:
    # Another value here means that every dataset changes: a breaking change, to be told in CHANGELOG.md.
    chosen = parse_attributes(language="xlm-r", difficulty=None, clarity=None, num_words=None)
    assert [tuple(chosen.pick(f"draft-{number}").values()) for number in range(3)] == [
        ("Russian", "high school", "ambiguous", "at least 100"),
        ("Telugu Romanized", "high school", "understandable with some effort", "at least 10"),
        ("English", "PhD", "ambiguous", "at least 10"),
    ]


def test_defaults_are_the_papers() -> None:
    # arXiv 2401.00368, Appendix C, prompt for the long-short matching subgroup
    assert DIFFICULTIES == ("high school", "college", "PhD")
    assert CLARITIES == ("clear", "understandable with some effort", "ambiguous")
    assert NUM_WORDS == ("less than 10", "at least 10", "at least 50", "at least 100", "at least 200")
    assert defaults().describe() == {
        "language": {"English": 1.0},
        "difficulty": dict.fromkeys(DIFFICULTIES, 1 / 3),
        "clarity": dict.fromkeys(CLARITIES, 1 / 3),
        "num_words": dict.fromkeys(NUM_WORDS, 0.2),
    }


# --- what a user may write


@pytest.mark.parametrize(
    ("attribute", "text", "weights"),
    [
        ("language", "English", {"English": 1}),
        ("language", " en ", {"English": 1}),
        ("language", "English,German", {"English": Fraction(1, 2), "German": Fraction(1, 2)}),
        ("language", "English:5, German:3", {"English": Fraction(5, 8), "German": Fraction(3, 8)}),
        ("language", "English:0,German", {"German": 1}),
        ("language", "English:-0,German", {"German": 1}),
        ("language", "English:0e999999999,German", {"German": 1}),
        ("language", "English:.1,German:.2,Thai:.7", {"English": Fraction(1, 10), "German": Fraction(1, 5)}),
        ("language", "English:1e-1,German", {"English": Fraction(1, 10), "German": Fraction(9, 10)}),
        ("language", "Chinese (Simplified) : 1", {"Chinese (Simplified)": 1}),
        ("language", "English:1e-12,German:1e12", {"English": Fraction(1, 10**24 + 1)}),
        ("difficulty", "HIGH   school", {"high school": 1}),
        ("difficulty", "phd:1,college:2", {"PhD": Fraction(1, 3), "college": Fraction(2, 3)}),
        ("clarity", "Understandable With Some Effort", {"understandable with some effort": 1}),
        ("num_words", "Any", {"any": 1}),
        ("num_words", "any,less than 10", {"any": Fraction(1, 2)}),
    ],
)
def test_choices_that_are_understood(attribute: str, text: str, weights: dict[str, Fraction | int]) -> None:
    found = dict(parse_choice(attribute, text).values)
    assert {value: found[value] for value in weights} == weights
    assert sum(found.values()) == 1
    assert all(weight > 0 for weight in found.values())


@pytest.mark.parametrize("text", ["xlm-r", " XLM-R\n", "Xlm-R"])
def test_xlm_r_in_any_case(text: str) -> None:
    assert dict(parse_choice("language", text).values) == xlm_r_weights()


@pytest.mark.parametrize(
    ("attribute", "text", "message"),
    [
        ("language", "", "'' holds an empty value"),
        ("language", "English,", "'English,' holds an empty value"),
        ("language", "Germn", "unknown language 'Germn': did you mean 'German'?"),
        ("language", "Germn:0.5,Thai", "unknown language 'Germn': did you mean 'German'?"),
        ("language", "English:0.5:0.5", "unknown language 'English:0.5': did you mean 'English'?"),
        ("language", "en,English", "'English' is given twice"),
        ("language", "English:", "the weight of 'English' is '', which is not a number"),
        ("language", "English:1/2", "the weight of 'English' is '1/2', which is not a number"),
        ("language", "English:half", "the weight of 'English' is 'half', which is not a number"),
        ("language", "English:-1", "the weight of 'English' is negative (-1); weights are 0 or more"),
        ("language", "English:0", "the weights in 'English:0' are all zero; at least one must be positive"),
        ("language", "English:0,en-:0", "unknown language 'en-'"),
        (
            "language",
            "English:0,German:-0",
            "the weights in 'English:0,German:-0' are all zero; at least one must be positive",
        ),
        (
            "language",
            "English:0.5,German:0.5,Thai",
            "the weights in 'English:0.5,German:0.5,Thai' sum to 1, which leaves nothing for Thai; give every value a "
            "weight, or weights that sum to less than 1",
        ),
        (
            "difficulty",
            "colege",
            "unknown difficulty 'colege': did you mean 'college'? Known are 'high school', 'college', 'PhD'.",
        ),
        ("difficulty", "zzz", "unknown difficulty 'zzz'. Known are 'high school', 'college', 'PhD'."),
        (
            "clarity",
            "understandable",
            "unknown clarity 'understandable': did you mean 'understandable with some effort'? Known are 'clear', "
            "'understandable with some effort', 'ambiguous'.",
        ),
        (
            "num_words",
            "at least 5",
            "unknown num_words 'at least 5': did you mean 'at least 50'? Known are 'less than 10', 'at least 10', "
            "'at least 50', 'at least 100', 'at least 200', 'any'.",
        ),
        ("difficulty", "any", "unknown difficulty 'any'"),  # of num_words only
        ("difficulty", "xlm-r", "unknown difficulty 'xlm-r'"),
    ],
)
def test_choices_that_are_refused(attribute: str, text: str, message: str) -> None:
    with pytest.raises(ChoiceError) as error:
        parse_choice(attribute, text)
    shown = str(error.value)
    assert shown.startswith(message)
    assert shown == message or not message.endswith((".", "?", "number", "more", "positive", "twice", "than 1"))


@pytest.mark.parametrize("weight", ["nan", "sNaN", "inf", "-inf", "Infinity", "1e13", "1e-13", "1e999999999"])
@pytest.mark.parametrize("others", ["", ",German", ",German:1"])
def test_hostile_weights_are_refused_at_once(weight: str, others: str) -> None:
    # 1e999999999 as an exact fraction would fill all memory
    with pytest.raises(ChoiceError, match=r"weights lie between 1e-12 and 1e12, or are 0"):
        parse_choice("language", f"English:{weight}{others}")


@pytest.mark.parametrize("weight", ["1e9999999999999999999999", "--1", "1,5.", "0x10", "½", "1 2", "\0"])
def test_weights_that_are_no_numbers(weight: str) -> None:
    with pytest.raises(ChoiceError):
        parse_choice("difficulty", f"college:{weight}")


ITEMS = st.sampled_from(["English", "de", "PhD", "college", "clear", "any", "at least 50", "xlm-r", "Germn", ""])
WEIGHTS = st.sampled_from(["", ":", ":0", ":-0", ":0.3", ":1", ":-2", ":nan", ":inf", ":1e999", ":1/2", "::"])
LISTS = st.lists(st.tuples(ITEMS, WEIGHTS).map("".join), max_size=4).map(",".join)


@given(st.sampled_from(ATTRIBUTES), LISTS | st.text(st.characters(exclude_categories=()), max_size=15))
def test_nothing_but_a_choice_error_is_raised(attribute: str, text: str) -> None:
    try:
        weighted = parse_choice(attribute, text)
    except ChoiceError as error:
        assert "\n" not in str(error)
    else:
        assert sum(weight for _, weight in weighted.values) == 1
        assert list(weighted.values) == sorted(weighted.values)


@given(
    st.lists(st.sampled_from(DIFFICULTIES), min_size=1, unique=True),
    st.lists(st.decimals(0, 1000, places=3), min_size=3, max_size=3),
)
def test_weights_are_taken_exactly(values: list[str], numbers: list[object]) -> None:
    weights = {value: Fraction(str(number)) for value, number in zip(values, numbers, strict=False)}
    text = ",".join(f"{value}:{number}" for value, number in zip(values, numbers, strict=False))
    total = sum(weights.values())
    if not total:
        with pytest.raises(ChoiceError, match="all zero"):
            parse_choice("difficulty", text)
    else:
        expected = {value: weight / total for value, weight in weights.items() if weight}
        assert dict(parse_choice("difficulty", text).values) == expected


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_message_names_the_option(name: str) -> None:
    options: dict[str, str | None] = {**dict.fromkeys(ATTRIBUTES), name: "qqqq"}
    with pytest.raises(ChoiceError, match=f"^--{name}: unknown {name} 'qqqq'"):
        parse_attributes(**options)
