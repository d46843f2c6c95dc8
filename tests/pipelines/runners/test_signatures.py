"""Signatures that Beam looks up once give what they gave before."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.runners.common import DoFnSignature
from apache_beam.transforms import core, userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer
from textmint.pipelines.runners.signatures import remembering_signatures
from textmint.transforms.dataset.count_elements import CountElements


class Parent(beam.DoFn):
    def process(self, element: Any, window: Any = beam.DoFn.WindowParam, *, only: int = 3) -> None: ...

    @classmethod
    def made(cls, one: int = 1) -> None: ...


class Child(Parent):
    def process(self, element: Any, key: Any = beam.DoFn.KeyParam) -> None: ...  # type: ignore[override]

    def setup(self, more: str = "x") -> None: ...

    def wrapped(self, one: int = 1) -> None: ...

    filled = functools.partialmethod(wrapped, one=2)


def twice(one: int, two: str = "b") -> None: ...


FUNCTIONS = [
    *(
        getattr(fn(), name)
        for fn in (Parent, Child)
        for name in ("process", "setup", "made", "teardown", "display_data")
    ),
    Child().filled,
    twice,
    functools.partial(twice, 1),
    functools.partial(twice, two="c"),
    str.upper,
    len,
    int,
    CountElements().expand,
]


def test_they_are_the_same_each_time() -> None:
    before = [core.get_function_args_defaults(function) for function in FUNCTIONS]
    with remembering_signatures():
        for _ in range(2):
            found = [core.get_function_args_defaults(function) for function in FUNCTIONS]
            assert found == before
            for names, defaults in found:  # a caller may change its answer
                names.append("more")
                defaults.append("more")
        assert core.get_function_arguments(Child(), "process") == (["element", "key"], [beam.DoFn.KeyParam])
    assert [core.get_function_args_defaults(function) for function in FUNCTIONS] == before


def test_a_function_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def counted(function: Any, **more: Any) -> Any:
        looked_at.append(getattr(function, "__qualname__", ""))
        return original(function, **more)

    original = inspect.signature
    monkeypatch.setattr(inspect, "signature", counted)
    with remembering_signatures():
        DoFnSignature(Parent())
        assert "Parent.process" in looked_at and "DoFn.setup" in looked_at
        looked_at.clear()
        DoFnSignature(Parent())
        DoFnSignature(Child())
    assert not {"Parent.process", "DoFn.setup", "DoFn.teardown"} & set(looked_at)
    assert {"Child.process", "Child.setup"} <= set(looked_at)


STATE, TIMER = BagStateSpec("bag", VarIntCoder()), TimerSpec("timer", TimeDomain.REAL_TIME)
BAG, RING = beam.DoFn.StateParam(STATE), beam.DoFn.TimerParam(TIMER)


class Stateful(beam.DoFn):
    def __init__(self, looked_at: list[object]) -> None:
        self.looked_at = looked_at

    def process(self, pair: Any, bag: Any = BAG, timer: Any = RING) -> None: ...

    @on_timer(TIMER)
    def ring(self, bag: Any = BAG) -> None: ...

    def __dir__(self) -> list[str]:
        self.looked_at.append(self)
        return list(super().__dir__())


class WithoutHash(Stateful):
    __hash__ = None  # type: ignore[assignment]


def test_the_state_of_a_do_fn_is_looked_up_once_for_each() -> None:
    looked_at: list[object] = []
    one, other = Stateful(looked_at), Stateful(looked_at)
    with remembering_signatures():
        for do_fn in (one, other, one, other):
            states, timers = userstate.get_dofn_specs(do_fn)
            assert (states, timers) == ({STATE}, {TIMER})
            states.clear()  # a caller may change its answer
            assert userstate.is_stateful_dofn(do_fn) and not userstate.is_stateful_dofn(Parent())
            userstate.validate_stateful_dofn(do_fn)
        assert looked_at == [one, other]
        assert userstate.get_dofn_specs(WithoutHash([])) == ({STATE}, {TIMER})
        for _ in range(100):  # each at the place of the one before, in memory
            assert userstate.get_dofn_specs(Parent()) == (set(), set())
            assert userstate.get_dofn_specs(Stateful(looked_at)) == ({STATE}, {TIMER})


def test_beam_is_as_it_was_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(core, "get_function_args_defaults"), (userstate, "get_dofn_specs")]
    before = [getattr(*place) for place in places]
    with pytest.raises(KeyError), remembering_signatures():
        assert all(getattr(*place) is not original for place, original in zip(places, before, strict=True))
        raise KeyError
    assert [getattr(*place) for place in places] == before
    for place in places:
        monkeypatch.delattr(*place)
    with remembering_signatures():
        assert not any(hasattr(*place) for place in places)
