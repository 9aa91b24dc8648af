"""A calculator that a model may be trusted with: it knows arithmetic and nothing else."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from agentkit import ToolError, tool

__all__ = ["calculate", "evaluate"]

Number = int | float

_MAX_LENGTH = 200
# A power can make a number of any size out of a few characters.
_MAX_POWER_BITS = 1024

_BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
# How people, and models after them, write what Python writes otherwise.
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "^": "**"})


@tool
def calculate(expression: str) -> Number:
    """Work out an arithmetic expression.

    Args:
        expression: Numbers, + - * / and brackets, such as "2 * (3 + 4)"
    """
    return evaluate(expression)


def evaluate(expression: str) -> Number:
    """The value of an arithmetic expression; a whole number as an ``int``.

    Raises:
        ToolError: It is something else, or has no value. The message is for the model.
    """
    if len(expression) > _MAX_LENGTH:
        raise ToolError(f"the expression is longer than {_MAX_LENGTH} characters")
    try:
        tree = ast.parse(expression.strip().translate(_SIGNS), mode="eval")
        value = _value(tree.body)
    except ZeroDivisionError:
        raise ToolError("the expression divides by zero") from None
    except (SyntaxError, ValueError, OverflowError, RecursionError):
        raise ToolError(f"{expression!r} is not arithmetic such as 2 * (3 + 4)") from None
    if not math.isfinite(value):
        raise ToolError("the result is too large to work out")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(node: ast.expr) -> Number:
    """Only these kinds of nodes have a value, so names, calls and attributes have none."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_value(left), _value(right))
    raise ValueError("not arithmetic")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and base.bit_length() * abs(exponent) > _MAX_POWER_BITS:
        raise ToolError("the result is too large to work out")
    result = base**exponent
    if not isinstance(result, int | float):
        raise ToolError("the root of a negative number is not a real number")
    return result
