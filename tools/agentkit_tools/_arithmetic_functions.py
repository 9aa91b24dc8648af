"""The operations that arithmetic knows, each within bounds of size and time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from agentkit.errors import ToolError

__all__ = [
    "CONSTANTS",
    "FUNCTIONS",
    "Function",
    "Value",
    "add",
    "divide",
    "factorial",
    "floor_divide",
    "modulo",
    "multiply",
    "power",
    "square_root",
    "subtract",
]

Value = Fraction | float
"""Exact as long as that is possible, then a float; never infinite and never NaN."""

MAX_BITS = 4096
"""Of a whole number; about 1230 digits."""
_TOO_LARGE = "the result is too large to calculate; use smaller numbers"


def add(left: Value, right: Value) -> Value:
    """``left + right``."""
    return _combined(lambda: left + right)


def subtract(left: Value, right: Value) -> Value:
    """``left - right``."""
    return _combined(lambda: left - right)


def multiply(left: Value, right: Value) -> Value:
    """``left * right``."""
    return _combined(lambda: left * right)


def divide(left: Value, right: Value) -> Value:
    """``left / right``."""
    divisor = _divisor(right)
    return _combined(lambda: left / divisor)


def floor_divide(left: Value, right: Value) -> Value:
    """The whole part of the quotient, rounded down."""
    divisor = _divisor(right)
    return _combined(lambda: Fraction(left // divisor))


def modulo(left: Value, right: Value) -> Value:
    """The remainder, with the sign of the divisor."""
    divisor = _divisor(right)
    return _combined(lambda: left % divisor)


def power(base: Value, exponent: Value) -> Value:
    """``base ** exponent``, exact for whole exponents."""
    if base == 0 and exponent < 0:
        raise ToolError("this divides by zero: 0 has no negative power")
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            size = max(abs(base.numerator).bit_length(), base.denominator.bit_length())
            # 0, 1 and -1 stay small whatever the exponent.
            if abs(base) in (0, 1) or size * abs(exponent) <= 2 * MAX_BITS:
                return _bounded(base ** (int(exponent) if abs(base) != 1 else int(exponent) % 2))
            if base.denominator == 1 and exponent > 0:
                raise ToolError(_TOO_LARGE)
        elif exponent.denominator == 2 and base >= 0 and exponent.numerator == 1:
            return square_root(base)
    return _float(lambda: _real(float(base), float(exponent)))


def square_root(value: Value) -> Value:
    """The square root, exact where there is one."""
    if value < 0:
        raise ToolError(f"the square root of {_show(value)} is not a real number")
    if isinstance(value, Fraction):
        over, under = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if over * over == value.numerator and under * under == value.denominator:
            return Fraction(over, under)
    return _float(lambda: math.sqrt(value))


def factorial(value: Value) -> Value:
    """``value!``."""
    number = _whole("factorial", value, least=0)
    if number > 1 and math.lgamma(min(number, 10**9) + 1) / math.log(2) > MAX_BITS:
        raise ToolError(f"{number}! is too large to calculate")
    return Fraction(math.factorial(number))


def _real(base: float, exponent: float) -> float:
    result = base**exponent
    if isinstance(result, complex):
        raise ToolError(f"{_show(base)} to the power of {_show(exponent)} is not a real number")
    return float(result)


def _divisor(value: Value) -> Value:
    if value == 0:
        raise ToolError("this divides by zero, which has no result")
    return value


def _combined(operation: Callable[[], Value]) -> Value:
    try:
        return _bounded(operation())
    except (OverflowError, ValueError):  # a fraction beyond the floats met a float
        raise ToolError(_TOO_LARGE) from None


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction):
        if value.denominator == 1:
            if value.numerator.bit_length() > MAX_BITS:
                raise ToolError(_TOO_LARGE)
        elif max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            return _float(lambda: value.numerator / value.denominator)
        return value
    return _float(lambda: value)


def _float(calculate: Callable[[], float]) -> float:
    try:
        value = calculate()
    except OverflowError:
        raise ToolError(_TOO_LARGE) from None
    except ValueError:
        raise ToolError("a function is not defined for this number") from None
    if math.isnan(value):
        raise ToolError("this has no result")
    if math.isinf(value):
        raise ToolError(_TOO_LARGE)
    return value


def _whole(name: str, value: Value, *, least: int | None = None) -> int:
    if value != int(value) or (least is not None and value < least):
        kind = "a whole number" if least is None else f"a whole number from {least} on"
        raise ToolError(f"{name} needs {kind}, not {_show(value)}")
    return int(value)


def _show(value: Value) -> str:
    if isinstance(value, Fraction) and value.denominator == 1:
        return str(value.numerator) if abs(value) < 10**20 else "so large a number"
    return f"{float(value):.15g}"


def _round(value: Value, places: Value = Fraction(0)) -> Value:
    count = _whole("round", places)
    if abs(count) > 100:
        raise ToolError(f"round takes at most 100 places, not {count}")
    # As people do and not as computers do: halves away from zero.
    shift = Fraction(10) ** count
    scaled = abs(Fraction(value) if isinstance(value, Fraction) else Fraction(repr(value))) * shift
    rounded = Fraction(math.floor(scaled + Fraction(1, 2))) / shift
    return _bounded(rounded if value >= 0 else -rounded)


def _log(value: Value, base: Value | None = None) -> Value:
    if value <= 0:
        raise ToolError(f"a logarithm needs a positive number, not {_show(value)}")
    if base is None:
        return math.log(value) if isinstance(value, float) else _log_exact(value)
    if base <= 0 or base == 1:
        raise ToolError(f"a logarithm's base must be positive and not 1, not {_show(base)}")
    if base in (2, 10):
        return _log2(value) if base == 2 else _log10(value)
    return divide(_log(value), _log(base))


def _log_exact(value: Fraction) -> float:
    # math.log takes whole numbers of any size, but no fraction beyond the floats.
    return math.log(value.numerator) - math.log(value.denominator)


def _log2(value: Value) -> Value:
    return _log_by(math.log2, value)


def _log10(value: Value) -> Value:
    return _log_by(math.log10, value)


def _log_by(function: Callable[[float], float], value: Value) -> Value:
    if value <= 0:
        raise ToolError(f"a logarithm needs a positive number, not {_show(value)}")
    if isinstance(value, float):
        return function(value)
    if value.denominator == 1:
        return function(value.numerator)
    return function(value.numerator) - function(value.denominator)


def _trigonometric(function: Callable[[float], float]) -> Callable[[Value], Value]:
    def apply(value: Value) -> Value:
        # sin(pi) is 1.2e-16 to a float and 0 to everybody else.
        return _float(lambda: round(function(float(value)), 15))

    return apply


def _tangent(value: Value) -> Value:
    angle = _float(lambda: float(value))
    if abs(math.cos(angle)) < 1e-15:
        raise ToolError("tan is not defined for this angle")
    return round(math.tan(angle), 15)


def _plain(function: Callable[[float], float]) -> Callable[[Value], Value]:
    return lambda value: _float(lambda: function(float(value)))


def _root(value: Value, degree: Value = Fraction(3)) -> Value:
    number = _whole("root", degree, least=1)
    if value < 0 and number % 2 == 0:
        raise ToolError(f"an even root of {_show(value)} is not a real number")
    root = _float(lambda: math.copysign(abs(float(value)) ** (1 / number), value))
    nearest = Fraction(round(root))
    if isinstance(value, Fraction) and number <= 64 and nearest**number == value:
        return nearest
    return root


def _gcd(*values: Value) -> Value:
    return Fraction(math.gcd(*(_whole("gcd", value) for value in values)))


def _lcm(*values: Value) -> Value:
    total: Value = Fraction(1)
    for value in values:
        total = _bounded(Fraction(math.lcm(int(total), _whole("lcm", value))))
    return total


def _choose(name: str, function: Callable[[int, int], int]) -> Callable[[Value, Value], Value]:
    def apply(all_: Value, chosen: Value) -> Value:
        count, part = _whole(name, all_, least=0), _whole(name, chosen, least=0)
        factors = min(part, count - part) if name == "comb" else min(part, count)
        if part <= count and factors * max(1, count.bit_length()) > 2 * MAX_BITS:
            raise ToolError(_TOO_LARGE)
        return _bounded(Fraction(function(count, part)))

    return apply


def _sum(*values: Value) -> Value:
    total: Value = Fraction(0)
    for value in values:
        total = add(total, value)
    return total


def _mean(*values: Value) -> Value:
    return divide(_sum(*values), Fraction(len(values)))


@dataclass(frozen=True, slots=True)
class Function:
    """A function that expressions may call."""

    apply: Callable[..., Value]
    """Works it out."""
    fewest: int = 1
    """How many arguments it needs."""
    most: int = 1
    """How many it takes."""

    def arity(self) -> str:
        """How many arguments, in words."""
        if self.fewest == self.most:
            return f"{self.fewest} argument{'s' * (self.fewest > 1)}"
        return f"{self.fewest} to {self.most} arguments"


CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}
"""Numbers with a name."""

FUNCTIONS: dict[str, Function] = {
    "sqrt": Function(square_root),
    "cbrt": Function(_root),
    "root": Function(_root, 2, 2),
    "abs": Function(abs),
    "round": Function(_round, 1, 2),
    "floor": Function(lambda value: Fraction(math.floor(value))),
    "ceil": Function(lambda value: Fraction(math.ceil(value))),
    "trunc": Function(lambda value: Fraction(math.trunc(value))),
    "min": Function(min, 1, 100),
    "max": Function(max, 1, 100),
    "sum": Function(_sum, 1, 100),
    "mean": Function(_mean, 1, 100),
    "avg": Function(_mean, 1, 100),
    "pow": Function(power, 2, 2),
    "mod": Function(modulo, 2, 2),
    "exp": Function(_plain(math.exp)),
    "log": Function(_log, 1, 2),
    "ln": Function(_log),
    "log10": Function(_log10),
    "log2": Function(_log2),
    "sin": Function(_trigonometric(math.sin)),
    "cos": Function(_trigonometric(math.cos)),
    "tan": Function(_tangent),
    "asin": Function(_plain(math.asin)),
    "acos": Function(_plain(math.acos)),
    "atan": Function(_plain(math.atan)),
    "sinh": Function(_plain(math.sinh)),
    "cosh": Function(_plain(math.cosh)),
    "tanh": Function(_plain(math.tanh)),
    "degrees": Function(_plain(math.degrees)),
    "radians": Function(_plain(math.radians)),
    "factorial": Function(factorial),
    "gcd": Function(_gcd, 1, 100),
    "lcm": Function(_lcm, 1, 100),
    "comb": Function(_choose("comb", math.comb), 2, 2),
    "perm": Function(_choose("perm", math.perm), 2, 2),
}
"""By name. Angles are in radians; ``log`` is natural, as in most programming languages."""
