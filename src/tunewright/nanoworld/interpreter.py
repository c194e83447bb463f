"""A tiny Python: runs untrusted one-function programs by walking their syntax tree, and nothing else.

There is no `eval`, no import, no attribute access beyond a short list of string and list methods, and every run has
a budget of steps and of size, so that no text a model writes can touch the machine or keep it busy.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any

MAX_STEPS = 5_000
MAX_SIZE = 1_000
MAX_NUMBER = 10**12
MAX_SOURCE = 4_000

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, box: item in box,
    ast.NotIn: lambda item, box: item not in box,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: operator.not_}
BUILTINS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (abs, all, any, int, len, list, max, min, range, reversed, sorted, str, sum)
}
METHODS: dict[type, frozenset[str]] = {
    str: frozenset({"upper", "lower", "strip", "split", "join", "startswith", "endswith", "count"}),
    list: frozenset({"append", "count", "index", "reverse", "sort"}),
}


class Refused(Exception):
    """The program uses something that this Python does not have, fails, or exceeds its budget."""


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


def passes(source: str, tests: list[str]) -> bool:
    """Whether `source` defines functions for which every test expression, such as `f(2) == 5`, is True."""
    try:
        return all(run(source, test) is True for test in tests)
    except Refused:
        return False


def run(source: str, expression: str) -> Any:
    """The value of the expression after the source's functions are defined. Raises only `Refused`."""
    if len(source) > MAX_SOURCE:
        raise Refused("the source is too long")
    try:
        program = ast.parse(source)
        wanted = ast.parse(expression, mode="eval").body
        machine = _Machine()
        for statement in program.body:
            if not isinstance(statement, ast.FunctionDef):
                raise Refused("only function definitions are allowed")
            machine.functions[statement.name] = statement
        return machine.value(wanted, {})
    except Refused:
        raise
    # A faulty program may fail in any way that Python code can; each is the same verdict here.
    except Exception as fault:
        raise Refused(str(fault)) from fault


class _Machine:
    """The functions of one program and what is left of its budget."""

    def __init__(self) -> None:
        self.functions: dict[str, ast.FunctionDef] = {}
        self.steps = MAX_STEPS

    def spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Refused("too many steps")

    def checked(self, value: Any) -> Any:
        """The value, unless it is too large to be handled cheaply."""
        if isinstance(value, (str, list, range, tuple)) and len(value) > MAX_SIZE:
            raise Refused("a value is too long")
        if isinstance(value, (int, float)) and abs(value) > MAX_NUMBER:
            raise Refused("a number is too large")
        return value

    def run(self, statements: list[ast.stmt], names: dict[str, Any]) -> None:
        for statement in statements:
            self.spend()
            match statement:
                case ast.Return(value=value):
                    raise _Return(None if value is None else self.value(value, names))
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    names[name] = self.value(value, names)
                case ast.AugAssign(target=ast.Name(id=name), op=sign, value=value):
                    names[name] = self.binary(sign, names[name], self.value(value, names))
                case ast.If(test=test, body=body, orelse=orelse):
                    self.run(body if self.value(test, names) else orelse, names)
                case ast.For(target=ast.Name(id=name), iter=items, body=body, orelse=[]):
                    for item in self.items(items, names):
                        names[name] = item
                        self.run(body, names)
                case ast.Expr(value=value):
                    self.value(value, names)
                case _:
                    raise Refused(f"{type(statement).__name__} is not allowed")

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        self.spend()
        match node:
            case ast.Constant(value=int() | float() | str() | bool() | None as value):
                return self.checked(value)
            case ast.Name(id=name):
                return names[name]
            case ast.BinOp(left=left, op=sign, right=right):
                return self.binary(sign, self.value(left, names), self.value(right, names))
            case ast.UnaryOp(op=sign, operand=operand):
                return UNARY[type(sign)](self.value(operand, names))
            case ast.BoolOp(op=sign, values=values):
                return self.boolean(isinstance(sign, ast.And), values, names)
            case ast.Compare(left=left, ops=signs, comparators=others):
                return self.compare(self.value(left, names), signs, [self.value(one, names) for one in others])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test, names) else orelse, names)
            case ast.List(elts=parts):
                return [self.value(part, names) for part in parts]
            case ast.ListComp() | ast.GeneratorExp():
                return self.checked(list(self.comprehension(node, names)))
            case ast.Subscript(value=box, slice=place):
                return self.value(box, names)[self.place(place, names)]
            case ast.Call(func=function, args=parts, keywords=[]):
                return self.checked(self.call(function, [self.value(part, names) for part in parts], names))
        raise Refused(f"{type(node).__name__} is not allowed")

    def binary(self, sign: ast.operator, left: Any, right: Any) -> Any:
        # A product of a text and a number must be measured before it is made.
        if isinstance(sign, ast.Mult):
            for box, times in ((left, right), (right, left)):
                if isinstance(box, (str, list)) and isinstance(times, int) and len(box) * times > MAX_SIZE:
                    raise Refused("a value is too long")
        if isinstance(sign, ast.Mod) and isinstance(left, str):
            raise Refused("text formatting is not allowed")
        return self.checked(BINARY[type(sign)](left, right))

    def boolean(self, all_of: bool, values: list[ast.expr], names: dict[str, Any]) -> Any:
        result: Any = all_of
        for value in values:
            result = self.value(value, names)
            if bool(result) != all_of:
                break
        return result

    def compare(self, left: Any, signs: list[ast.cmpop], others: list[Any]) -> bool:
        for sign, right in zip(signs, others, strict=True):
            if not COMPARE[type(sign)](left, right):
                return False
            left = right
        return True

    def items(self, node: ast.expr, names: dict[str, Any]) -> Iterator[Any]:
        for item in self.checked(self.value(node, names)):
            self.spend()
            yield item

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp, names: dict[str, Any]) -> Iterator[Any]:
        match node.generators:
            case [ast.comprehension(target=ast.Name(id=name), iter=items, ifs=tests)]:
                for item in self.items(items, names):
                    inner = {**names, name: item}
                    if all(self.value(test, inner) for test in tests):
                        yield self.value(node.elt, inner)
            case _:
                raise Refused("nested comprehensions are not allowed")

    def place(self, node: ast.expr, names: dict[str, Any]) -> Any:
        match node:
            case ast.Slice(lower=lower, upper=upper, step=step):
                return slice(*(None if end is None else self.value(end, names) for end in (lower, upper, step)))
        return self.value(node, names)

    def call(self, function: ast.expr, arguments: list[Any], names: dict[str, Any]) -> Any:
        match function:
            case ast.Attribute(value=box, attr=method):
                owner = self.value(box, names)
                if method not in METHODS.get(type(owner), frozenset()):
                    raise Refused(f"the method {method} is not allowed")
                return getattr(owner, method)(*arguments)
            case ast.Name(id=name) if name in self.functions:
                return self.called(self.functions[name], arguments)
            case ast.Name(id=name) if name in BUILTINS:
                result = BUILTINS[name](*arguments)
                return list(result) if name == "reversed" else result
        raise Refused("this call is not allowed")

    def called(self, function: ast.FunctionDef, arguments: list[Any]) -> Any:
        parameters = [one.arg for one in function.args.args]
        if len(parameters) != len(arguments):
            raise Refused("a wrong number of arguments")
        try:
            self.run(function.body, dict(zip(parameters, arguments, strict=True)))
        except _Return as returned:
            return returned.value
        return None
