"""Jinja with a bound on steps and characters, never seconds, so that a template fails alike on every machine.

Jinja's own sandbox bounds `range` alone. Here what takes or makes text, lists and numbers passes through a budget;
where Jinja has no hook, its syntax tree is changed before it is compiled. Functions need the context, so that Jinja
does not evaluate them while it compiles.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from typing import Any, Final

import jinja2
import jinja2.sandbox
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.utils import _PassArg, pass_context
from jinja2.visitor import NodeTransformer

MAX_STEPS: Final = 100_000
"""Rounds of loops, calls, filters, tests and calculations in one filling: a second or so."""
MAX_CHARS: Final = 10_000_000
"""Characters, and items of lists, that they may take and make together."""
_MAX_BITS: Final = 256  # of a whole number
_MAX_DEPTH: Final = 50  # of macros and blocks that call each other, and of lists in lists; far below Python's own limit
_QUADRATIC: Final = frozenset({"decode", "encode", "pprint", "round", "striptags", "sum", "urlize", "wordwrap"})
"""Filters and methods whose work grows with the square of their input (`round`: of its precision)."""
_FORMATS: Final = frozenset({"format", "format_map"})  # in whose text numbers stand for widths
_NO_COUNTS: Final = frozenset(
    {"d", "default", "float", "int", "map", "reject", "rejectattr", "select", "selectattr", "sum"}
)
"""Filters for which a number is neither width nor count; `map` hands it on to another filter."""
_ITEM: Final = 20  # characters that an item of a list counts for, by the time it takes
_DIGITS: Final = re.compile(r"[0-9]+")
_FREE: Final = frozenset({"_loop_vars", "_block_vars", "caller"})  # arguments that Jinja adds
_CONTAINERS: Final = (list, tuple, Mapping, Set, ValuesView)
_PRINTABLE: Final = (str, bytes, int, float, type(None), range, jinja2.Undefined, Iterator, *_CONTAINERS)
_METHODS_OF: Final = (str, bytes, int, float, *_CONTAINERS)


class TooMuch(jinja2.TemplateRuntimeError):
    """A template that does more than it may."""


class _Budget:
    """What one filling may still do."""

    __slots__ = ("chars", "depth", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.chars = MAX_CHARS
        self.depth = 0

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise TooMuch(f"takes more than {MAX_STEPS:,} steps (rounds of loops, calls, filters, calculations)")

    def spend(self, chars: int) -> None:
        self.chars -= chars
        if self.chars < 0:
            raise TooMuch(f"handles more than {MAX_CHARS:,} characters or items")

    def weigh(self, value: Any) -> Any:
        """Spends what a value weighs, and returns it; an iterator is made a list first."""
        if type(value) is str:  # nearly always
            self.spend(len(value))
            return value
        if isinstance(value, Iterator):
            made = []
            for item in value:
                self.step()
                self.spend(size_of(item))
                made.append(item)
            return made
        self.spend(size_of(value))
        return value


class _Current(threading.local):
    budget = _Budget()


_current: Final = _Current()


def size_of(value: Any, *, by_value: bool = False, depth: int = 0) -> int:
    """Counts the characters, and the items of lists with all in them, of a value: at least 1.

    `by_value` counts a whole number as its value, since it may be a width or a count, not as its digits.

    Raises:
      TooMuch: the value is far too large.
    """
    if isinstance(value, (str, bytes)):
        return len(value) or 1
    if isinstance(value, range):
        return _ITEM * len(value) or 1
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise TooMuch(f"makes a whole number of more than {_MAX_BITS} bits")
        return max(1, abs(value)) if by_value else 1 + value.bit_length() // 3
    if not isinstance(value, _CONTAINERS):
        return 1
    if depth > _MAX_DEPTH:
        raise TooMuch(f"puts more than {_MAX_DEPTH} lists into each other")
    total = 1
    for item in value.items() if isinstance(value, Mapping) else value:
        total += _ITEM + size_of(item, by_value=by_value, depth=depth + 1)
        if total > MAX_CHARS:
            raise TooMuch(f"makes a list of more than {MAX_CHARS:,} characters or items")
    return total


def _check_product(budget: _Budget, name: str, value: Any, arguments: Iterable[Any]) -> None:
    """Checks the product of a value and arguments, more than which no built-in operation makes."""
    is_format = name in _FORMATS
    widths = max(map(int, _DIGITS.findall(value)), default=0) if is_format and isinstance(value, str) else 0
    size = size_of(value)
    others = widths + sum(
        size_of(each, by_value=is_format or (isinstance(each, int) and name not in _NO_COUNTS)) for each in arguments
    )
    work = size * (others + 1)
    if name in _QUADRATIC:
        work = max(work, (size + others) ** 2)
        budget.spend(work // 100)
    if work > MAX_CHARS:
        raise TooMuch(f"could make more than {MAX_CHARS:,} characters or items with {name!r}")
    budget.spend(size)


def _guarded(name: str, function: Callable[..., Any], is_test: bool) -> Callable[..., Any]:
    """Wraps a filter or a test."""
    first = _PassArg.from_obj(function)

    @pass_context
    def guarded(context: Context, value: Any = None, /, *args: Any, **kwargs: Any) -> Any:
        budget = _current.budget
        budget.step()
        if isinstance(value, Iterator):
            value = budget.weigh(value)
        if is_test:  # makes nothing
            budget.spend(sum(map(size_of, (value, *args))))
        elif args or kwargs or type(value) is not str or name in _QUADRATIC:
            _check_product(budget, name, value, (*args, *kwargs.values()))
        else:
            budget.spend(len(value))
        if first is None:
            return budget.weigh(function(value, *args, **kwargs))
        given: Any = context
        if first is not _PassArg.context:
            given = context.eval_ctx if first is _PassArg.eval_context else context.environment
        return budget.weigh(function(given, value, *args, **kwargs))

    return guarded


@pass_context
def _each(context: Context, value: Any, /) -> Iterator[Any]:
    """Counts the rounds of a loop."""
    for item in value:
        _current.budget.step()
        yield item


@pass_context
def _weighed(context: Context, value: Any, /) -> Any:
    return _current.budget.weigh(value)


@pass_context
def _shown(context: Context, value: Any, /) -> Any:
    """Weighs what goes into the text. The name of a function holds an address, which differs by process."""
    if not isinstance(value, _PRINTABLE):
        raise jinja2.TemplateRuntimeError(f"a {type(value).__name__} is no text")
    return _current.budget.weigh(value)


@pass_context
def _joined(context: Context, parts: Sequence[Any], /) -> str:
    """Does what `~` does."""
    budget = _current.budget
    budget.step()
    return "".join(str(_shown(context, part)) for part in parts)


class _Rewriter(NodeTransformer):
    """Puts what Jinja has no hook for through the budget."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment
        self._repeated = 0

    def _filter(self, node: nodes.Node, name: str) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=self._environment)

    def _visit_repeated(self, node: nodes.Node) -> Any:
        self._repeated += 1
        try:
            return self.generic_visit(node)
        finally:
            self._repeated -= 1

    visit_Macro = visit_CallBlock = visit_Block = _visit_repeated

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise jinja2.TemplateSyntaxError("a loop cannot be `recursive` here", node.lineno)
        self._visit_repeated(node)
        node.iter = self._filter(node.iter, _EACH)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        # Text that stands in the template once weighs what the template weighs; in a loop it goes where values go.
        if not self._repeated:
            return node
        return nodes.Const(node.data, lineno=node.lineno, environment=self._environment)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno, environment=self._environment)
        return self._filter(parts, _JOINED)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        operands: list[nodes.Compare | nodes.Operand] = [node, *node.ops]
        for operand in operands:
            if not isinstance(operand.expr, (nodes.Const, nodes.TemplateData)):
                operand.expr = self._filter(operand.expr, _WEIGHED)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return self._filter(node, _WEIGHED) if isinstance(node.arg, nodes.Slice) else node

    def _visit_weighed(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return self._filter(node, _WEIGHED)

    visit_List = visit_Dict = _visit_weighed

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return self._filter(node, _WEIGHED) if node.ctx == "load" else node


# Names that no template can say.
_EACH: Final = "textmint.each"
_WEIGHED: Final = "textmint.weighed"
_JOINED: Final = "textmint.joined"


class BoundedEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja's sandbox without chance, in which every filling has a budget; `fill` gives it one."""

    intercepted_binops = frozenset(jinja2.sandbox.SandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, finalize=_shown)
        del self.globals["lipsum"], self.filters["random"]  # chance
        tables: tuple[tuple[dict[str, Any], bool], ...] = ((self.filters, False), (self.tests, True))
        for table, is_test in tables:
            table.update({name: _guarded(name, function, is_test) for name, function in table.items()})
        self.filters.update({_EACH: _each, _WEIGHED: _weighed, _JOINED: _joined})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Rewriter(self).visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculates, where the result is foreseeably small enough."""
        budget = _current.budget
        budget.step()
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * right > _MAX_BITS:
                raise TooMuch(f"makes a whole number of more than {_MAX_BITS} bits")
        elif operator == "%" and isinstance(left, (str, bytes)):
            _check_product(budget, "format", left, (right,))
        elif operator == "*":
            text, times = (right, left) if isinstance(left, int) else (left, right)
            if not isinstance(text, (int, float)):
                _check_product(budget, "*", text, (times,))
        return budget.weigh(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a macro, a method or another function."""
        budget = _current.budget
        budget.step()
        method = getattr(function, "__wrapped__", function)  # of `str.format`, which the sandbox wraps
        owner = getattr(method, "__self__", None)
        if isinstance(owner, _METHODS_OF):
            given = (*args, *(value for name, value in kwargs.items() if name not in _FREE))
            _check_product(budget, method.__name__, owner, given)
        budget.depth += 1
        if budget.depth > _MAX_DEPTH:
            raise TooMuch(f"calls macros or blocks more than {_MAX_DEPTH} deep")
        try:
            return budget.weigh(super().call(context, function, *args, **kwargs))
        finally:
            budget.depth -= 1


def fill(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """Fills a template of a `BoundedEnvironment`, with a budget of its own.

    Raises:
      TooMuch: it does more than it may.
      Exception: whatever the template's expressions raise.
    """
    _current.budget = _Budget()
    return template.render(variables)
