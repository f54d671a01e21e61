"""Which documents does a filter expression select?

    lang == $lang and year >= 2020 and tag in ["a", "b"] and not exists(draft)

Comparisons ``== != < <= > >=``, ``in``, ``not in``, ``exists(field)``, joined by ``and``, ``or``, ``not`` and
parentheses. A value is a quoted string, a number, ``true``, ``false`` or a bound parameter ``$name``. A field is a bare
name or `` `any key` ``. On a list-valued field a comparison holds if any item satisfies it. ``!=`` and ``not in`` are the
negations of ``==`` and ``in``, so they also select documents without the field. Values of different types are never equal,
and never ordered.

The text is parsed by Lark into a tree of `Node`, which is bound to parameters and evaluated on the columns of each segment.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lark
import numpy as np

from engine.columns import Column, Columns
from engine.errors import InvalidFilter
from engine.values import Scalar

MAX_LENGTH = 65_536
MAX_CLAUSES = 256
MAX_DEPTH = 32

Operator = Literal["==", "<", "<=", ">", ">=", "in"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A bound parameter, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    """``field operator value``."""

    field: str
    operator: Operator
    value: Scalar | Parameter | tuple[Scalar | Parameter, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The document has the field."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a node."""

    node: Node


@dataclass(frozen=True, slots=True)
class Both:
    """Every node, or (``any_of``) any node."""

    nodes: tuple[Node, ...]
    any_of: bool


Node = Compare | Exists | Not | Both


class _ToNodes(lark.Transformer[lark.Token, Node]):
    """Turns Lark's tree into nodes; the method names are the grammar's rules."""

    def name(self, items: list[lark.Token]) -> str:
        text = str(items[0])
        return text[1:-1] if text.startswith("`") else text

    def string(self, items: list[lark.Token]) -> str:
        return str(ast.literal_eval(str(items[0])))

    def integer(self, items: list[lark.Token]) -> int:
        return int(items[0])

    def decimal(self, items: list[lark.Token]) -> float:
        return float(items[0])

    def true(self, _: list[lark.Token]) -> bool:
        return True

    def false(self, _: list[lark.Token]) -> bool:
        return False

    def parameter(self, items: list[lark.Token]) -> Parameter:
        return Parameter(str(items[0])[1:])

    def values(self, items: list[Scalar | Parameter]) -> tuple[Scalar | Parameter, ...]:
        return tuple(items)

    def compare(self, items: list[object]) -> Node:
        field, operator, value = items
        if str(operator) == "!=":
            return Not(Compare(str(field), "==", value))  # type: ignore[arg-type]
        return Compare(str(field), str(operator), value)  # type: ignore[arg-type]

    def member(self, items: list[object]) -> Node:
        return Compare(str(items[0]), "in", items[1])  # type: ignore[arg-type]

    def not_member(self, items: list[object]) -> Node:
        return Not(self.member(items))

    def exists(self, items: list[str]) -> Node:
        return Exists(items[0])

    def negation(self, items: list[Node]) -> Node:
        return Not(items[0])

    def all_of(self, items: list[Node]) -> Node:
        return items[0] if len(items) == 1 else Both(tuple(items), any_of=False)

    def any_of(self, items: list[Node]) -> Node:
        return items[0] if len(items) == 1 else Both(tuple(items), any_of=True)


@functools.cache
def _parser() -> lark.Lark:
    grammar = Path(__file__).with_name("filters.lark").read_text()
    return lark.Lark(grammar, parser="lalr", start="any_of", maybe_placeholders=False)


@functools.lru_cache(maxsize=1024)
def _parse(expression: str) -> Node:
    if len(expression) > MAX_LENGTH:
        raise InvalidFilter(expression[:80] + "…", f"more than {MAX_LENGTH:,} characters")
    # The transformer recurses; the nesting of the text bounds the nesting of the tree.
    nesting = depth = 0
    for character in expression:
        depth += (character == "(") - (character == ")")
        nesting = max(nesting, depth)
    if nesting + expression.count("not ") > MAX_DEPTH:
        raise InvalidFilter(expression[:80], f"nested deeper than {MAX_DEPTH}")
    try:
        tree = _parser().parse(expression)
    except lark.UnexpectedInput as error:
        raise InvalidFilter(expression, _syntax_problem(error, expression)) from error
    node: Node = _ToNodes().transform(tree)
    if _clauses(node) > MAX_CLAUSES:
        raise InvalidFilter(expression[:80] + "…", f"more than {MAX_CLAUSES} comparisons")
    return node


def _syntax_problem(error: lark.UnexpectedInput, expression: str) -> str:
    if isinstance(error, lark.UnexpectedToken) and error.token.type == "$END":
        return "the expression ends too early"
    position = error.pos_in_stream or 0
    return f"unexpected {expression[position : position + 12]!r} at character {position + 1}"


def _clauses(node: Node) -> int:
    match node:
        case Not(inner):
            return _clauses(inner)
        case Both(nodes):
            return sum(map(_clauses, nodes))
        case Compare(value=tuple(values)):
            return max(1, len(values) // 64)
        case _:
            return 1


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression with its parameters bound."""

    expression: str
    node: Node
    params: Mapping[str, Scalar | Sequence[Scalar]]

    @staticmethod
    def parse(expression: str, params: Mapping[str, Scalar | Sequence[Scalar]] | None = None) -> Filter:
        """The filter of a text.

        Raises:
            InvalidFilter: a syntax error with its position, a parameter that is not bound, or one that is bound but unused.
        """
        if not isinstance(expression, str) or not expression.strip():
            raise InvalidFilter(str(expression), "empty expression")
        node = _parse(expression)
        params = dict(params or {})
        used = _parameters(node)
        if used - params.keys():
            raise InvalidFilter(
                expression, f"no value for {', '.join(f'${name}' for name in sorted(used - params.keys()))}"
            )
        if params.keys() - used:
            raise InvalidFilter(expression, f"{', '.join(sorted(params.keys() - used))} bound but not used")
        return Filter(expression, node, params)

    @property
    def key(self) -> str:
        """The same text for the same filter: its expression and its parameters with their types."""
        return f"{self.expression}\0{sorted(self.params.items())!r}"

    def evaluate(self, columns: Columns) -> np.ndarray:
        """The documents of a segment that match, as bool[n_docs], read-only."""
        return columns.mask(self.key, lambda: self._evaluate(self.node, columns))

    def _evaluate(self, node: Node, columns: Columns) -> np.ndarray:
        match node:
            case Not(inner):
                return ~self._evaluate(inner, columns)
            case Both(nodes, any_of):
                masks = [self._evaluate(inner, columns) for inner in nodes]
                return np.logical_or.reduce(masks) if any_of else np.logical_and.reduce(masks)
            case Exists(field):
                column = columns.get(field)
                return _mask(columns.n_docs, [] if column is None else [column.present])
            case Compare(field, operator, value):
                column = columns.get(field)
                found = [] if column is None else self._compare(column, operator, value)
                return _mask(columns.n_docs, found)

    def _compare(self, column: Column, operator: Operator, value: object) -> list[np.ndarray]:
        if operator == "in":
            items = self._bound(value) if isinstance(value, Parameter) else value
            if not isinstance(items, list | tuple):
                raise InvalidFilter(self.expression, "`in` needs a list")
            return [column.equal(self._scalar(item)) for item in items]
        scalar = self._scalar(value)
        if operator == "==":
            return [column.equal(scalar)]
        if isinstance(scalar, bool):
            raise InvalidFilter(self.expression, f"`{operator}` cannot order booleans")
        is_open = operator in ("<", ">")
        if isinstance(scalar, str):
            low, high = (scalar, None) if operator in (">", ">=") else (None, scalar)
            return [column.compare_strings(low, high, open_end=is_open)]
        number = float(scalar)
        if operator in (">", ">="):
            return [column.between(number, np.inf, low_open=is_open)]
        return [column.between(-np.inf, number, high_open=is_open)]

    def _bound(self, value: object) -> object:
        return self.params[value.name] if isinstance(value, Parameter) else value

    def _scalar(self, value: object) -> Scalar:
        bound = self._bound(value)
        if isinstance(bound, list | tuple):
            raise InvalidFilter(self.expression, "a list where a single value is needed; use `in`")
        return bound  # type: ignore[return-value]


def _parameters(node: Node) -> set[str]:
    match node:
        case Not(inner):
            return _parameters(inner)
        case Both(nodes):
            return set().union(*map(_parameters, nodes))
        case Compare(value=value):
            values = value if isinstance(value, tuple) else (value,)
            return {item.name for item in values if isinstance(item, Parameter)}
        case _:
            return set()


def _mask(n_docs: int, found: list[np.ndarray]) -> np.ndarray:
    mask = np.zeros(n_docs, bool)
    for docs in found:
        mask[docs] = True
    return mask
