"""Packing: whatever an element holds comes back as it was, and nothing else goes in."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core import elements
from textmint.transforms.core.elements import Draft, TaskSeed, Usage
from textmint.transforms.core.packing import ELEMENTS, pack, unpack

from tests.support.helpers import make_draft, make_example, make_list, make_prompt, make_reject, make_seed, make_task

# Any code point, lone surrogates among them: a reply in JSON can hold them.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(
    ["", "\x00", "\ud83d", "\ude00", "\ud83d\ude00", '"}\\', "\u2028", "null", '{"class": 0, "values": []}', "x" * 5000]
)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Everything that may stand in a field with this annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, arguments))
    if origin is tuple:
        if arguments[1] is not Ellipsis:
            return st.tuples(*map(values_of, arguments))
        return st.lists(values_of(arguments[0]), max_size=4).map(tuple)
    if hint in ELEMENTS:
        return st.deferred(lambda: elements_of(hint))  # it is not spelled out where a strategy is shown
    return {str: TEXTS, int: st.integers(), bool: st.booleans(), types.NoneType: st.none()}[hint]


def elements_of(cls: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls, vars(elements))
    return st.builds(cls, **{name: values_of(hints[name]) for name in cls.__struct_fields__})


@pytest.mark.parametrize("cls", ELEMENTS)
def test_every_element_comes_back_as_it_was(cls: type) -> None:
    @given(elements_of(cls))
    def check(element: Any) -> None:
        packed = pack(element)
        assert type(packed) is bytes
        back = unpack(packed)
        assert type(back) is cls
        assert back == element
        assert hash(back) == hash(element)  # a list in the place of a tuple has none
        assert pack(back) == packed

    check()


def test_equal_elements_are_equal_bytes_and_others_are_not() -> None:
    assert pack(make_draft("Sort bees", 3)) == pack(make_draft("Sort bees", 3))
    packed = [
        pack(element)
        for element in (
            make_seed(),
            make_seed(topic=None),
            make_seed(topic=""),
            make_seed(topic="None"),
            make_task(),
            make_draft(),
            make_prompt(),
            make_example(),
            make_example(repairs=("quotes",)),
            make_reject(),
        )
    ]
    assert len(set(packed)) == len(packed)


def test_a_bool_stays_a_bool_and_an_int_an_int() -> None:
    for can_retry in (True, False):
        back = unpack(pack(replace(make_reject(), can_retry=can_retry, replica=1)))
        assert back.can_retry is can_retry
        assert type(back.replica) is int


def test_what_is_nested_keeps_its_class() -> None:
    prompt = make_prompt()
    assert type(unpack(pack(prompt)).subject) is Draft
    assert type(unpack(pack(replace(prompt, subject=make_seed()))).subject) is TaskSeed
    usage = Usage(requests=2, latencies_ms=(20, 30))
    assert unpack(pack(replace(make_reject(), usage=usage))).usage == usage
    assert unpack(pack(replace(make_reject(), usage=None))).usage is None


def test_text_that_repeats_takes_less_room() -> None:
    example = make_example(prompt="You are asked to write one example. " * 50)
    assert len(pack(example)) < len(example.prompt) / 2


@dataclasses.dataclass(frozen=True)
class LooksLikeOne:
    seed_id: str = "s"


class ASubclass(TaskSeed):
    pass


@pytest.mark.parametrize(
    "stranger",
    [
        LooksLikeOne(),
        ASubclass(seed_id="s", round=0, topic=None, seed=1),
        object(),
        b"bytes",
        "text",
        17,
        None,
        ["a list"],
        {"class": 0, "values": ["s", 0, None, 1]},
        TaskSeed,
    ],
    ids=lambda stranger: f"{type(stranger).__name__}",
)
def test_another_class_is_refused(stranger: Any) -> None:
    with pytest.raises(TypeError, match="is no element"):
        pack(stranger)


@pytest.mark.parametrize(
    "stranger", [make_list("Sort bees"), b"bytes", {1, 2}, object()], ids=lambda thing: type(thing).__name__
)
def test_another_class_inside_is_refused(stranger: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        unpack(pack(replace(make_prompt(), subject=stranger)))


def test_bytes_that_were_cut_or_made_up_are_no_element() -> None:
    packed = pack(make_example())
    for broken in (b"", packed[:3], packed[:-1], packed[:40], b"\x00\x00\x00\x02[]", b"not packed at all"):
        with pytest.raises((OSError, ValueError, KeyError, TypeError, IndexError)):
            unpack(broken)
