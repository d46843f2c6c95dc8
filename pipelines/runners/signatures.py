"""What Beam finds out about functions and DoFns, found out once.

Between building a graph and running it Beam looks at the parameters of each method of each DoFn some eight times
(`userstate.get_dofn_specs`, 2.77): 15,000 signatures in a run of three rows, of 100 functions, an eighth of its CPU.
"""

from __future__ import annotations

import contextlib
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.transforms import core, userstate

Parameters = tuple[list[str], list[Any]]
Specs = tuple[set[Any], set[Any]]


@contextlib.contextmanager
def remembering_signatures() -> Iterator[None]:
    """While its `with` block runs, Beam looks up the parameters of a method once, and once which state a DoFn has. The
    answers are the same."""
    with (
        _replaced(core, "get_function_args_defaults", _remembering_parameters),
        _replaced(userstate, "get_dofn_specs", _remembering_specs),
    ):
        yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, remembering: Callable[[Callable[[Any], Any]], Any]) -> Iterator[None]:
    look_up = getattr(module, name, None)
    if look_up is None:  # another Beam, which may have no need of it
        yield
        return
    setattr(module, name, remembering(look_up))
    try:
        yield
    finally:
        setattr(module, name, look_up)


def _remembering_parameters(look_up: Callable[[Any], Parameters]) -> Callable[[Any], Parameters]:
    found: dict[types.FunctionType, Parameters] = {}

    def remembered(function: Any) -> Parameters:
        # What a method takes depends on its function alone; of what is called otherwise this is not known.
        if not (isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType)):
            return look_up(function)
        if function.__func__ not in found:
            found[function.__func__] = look_up(function)
        names, defaults = found[function.__func__]
        return [*names], [*defaults]

    return remembered


def _remembering_specs(look_up: Callable[[Any], Specs]) -> Callable[[Any], Specs]:
    found: weakref.WeakKeyDictionary[Any, Specs] = weakref.WeakKeyDictionary()

    def remembered(do_fn: Any) -> Specs:
        try:
            known = found.get(do_fn)
        except TypeError:  # it has no hash
            return look_up(do_fn)
        states, timers = known or found.setdefault(do_fn, look_up(do_fn))
        return {*states}, {*timers}

    return remembered
