"""Signatures that Beam looks up once give what they gave before."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.common import DoFnSignature
from apache_beam.transforms import core
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


def test_beam_is_as_it_was_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = core.get_function_args_defaults
    with pytest.raises(KeyError), remembering_signatures():
        assert core.get_function_args_defaults is not before
        raise KeyError
    assert core.get_function_args_defaults is before
    monkeypatch.delattr(core, "get_function_args_defaults")
    with remembering_signatures():
        assert not hasattr(core, "get_function_args_defaults")
