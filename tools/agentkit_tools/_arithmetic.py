"""Arithmetic as people and models write it: from text to a value, without ``eval``.

Values stay exact (:class:`fractions.Fraction`) until a function such as ``sin`` makes that
impossible, and every size is checked before a number of that size is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from agentkit.errors import ToolError
from agentkit_tools._arithmetic_functions import (
    CONSTANTS,
    FUNCTIONS,
    Value,
    add,
    divide,
    factorial,
    floor_divide,
    modulo,
    multiply,
    power,
    square_root,
    subtract,
)

__all__ = ["evaluate", "format_number"]

MAX_LENGTH = 500
"""Characters of an expression."""
MAX_DEPTH = 40
"""Brackets, signs and powers within each other."""
_MAX_EXPONENT = 1200
_EXACT_DIGITS = 20
_ROUNDED_DIGITS = 15

_SPELLINGS = {
    "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "−": "-", "–": "-", "^": "**",
    "π": "pi", "[": "(", "]": ")", "{": "(", "}": ")", "²": "**2", "³": "**3",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<number>(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|//|[-+*/%(),!√°]))"
)
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_UNCLEAR = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})*,0[0-9]{2}(?![0-9])")
_CURRENCY = re.compile(r"[$€£¥](?=\s*[0-9.])")
_OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "//": floor_divide,
    "%": modulo,
}
# "8 x 3" and "15% of 80" are read as multiplications, "7 mod 2" as what it says.
_WORDS = {"x": "*", "of": "*", "times": "*", "mod": "%"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def evaluate(expression: str) -> int | Decimal:
    """The value of an arithmetic expression.

    Args:
        expression: At most 500 characters of numbers, operators, brackets and functions.

    Returns:
        A whole number as an ``int``; any other as a ``Decimal``, exact if it has no more than
        20 digits and rounded to 15 otherwise.

    Raises:
        ToolError: It is no arithmetic, has no value or is too large. Written for the model.
    """
    if len(expression) > MAX_LENGTH:
        raise ToolError(
            f"the expression has {len(expression)} characters, the limit is {MAX_LENGTH}; "
            "calculate it in parts"
        )
    return _finish(_Parser(_normal(expression)).parse())


def format_number(value: int | Decimal) -> str:
    """Digits that a model reads well: no exponent unless the number is very large or small."""
    if isinstance(value, int):
        return str(value)
    return f"{value:f}" if -7 <= value.adjusted() < 21 else str(value)


def _normal(expression: str) -> str:
    text = expression.strip().removesuffix("=").strip()
    for spelling, plain in _SPELLINGS.items():
        text = text.replace(spelling, plain)
    return _CURRENCY.sub("", text)


class _Parser:
    """Reads by descent, calculating as it goes: there is no tree to keep."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        # Commas are thousands separators, but not between a function's arguments.
        self._tokens = _tokens(text, _spans_of_arguments(text))
        self._next = 0

    def parse(self) -> Value:
        if not self._tokens:
            raise ToolError("the expression is empty; pass one such as 2 * (3 + 4)")
        value, _ = self._sum()
        if self._peek():
            self._fail()
        return value

    def _sum(self) -> tuple[Value, bool]:
        """A sum, and whether it is nothing but a percentage."""
        value, percent = self._product()
        while sign := self._accept("+", "-"):
            start = self._next
            right, bare = self._product()
            # "200 + 10%" is 220 on a pocket calculator and 200.1 elsewhere; 1 + 10% is 1.1 in both.
            if bare and not percent and value != 1:
                part = self._text[self._tokens[start].start : self._tokens[self._next - 1].end]
                raise ToolError(
                    f"'{sign} {part}' is not clear: write * (1 {sign} {part}) to change a number "
                    f"by a percentage of itself, or {part.rstrip(' %')} / 100 for the bare "
                    "number"
                )
            value, percent = _OPERATORS[sign](value, right), percent and bare
        return value, percent

    def _product(self) -> tuple[Value, bool]:
        value, percent = self._signed()
        while True:
            token = self._peek()
            word = _WORDS.get(token.text.lower(), "") if token and token.kind == "name" else ""
            if word:
                self._next += 1
                value, percent = _OPERATORS[word](value, self._signed()[0]), False
            elif sign := self._accept("*", "/", "//", "%"):
                value, percent = _OPERATORS[sign](value, self._signed()[0]), False
            elif token and (token.kind == "name" or token.text in ("(", "√")):
                value, percent = multiply(value, self._signed()[0]), False  # 2(3 + 4), 2pi
            else:
                return value, percent

    def _signed(self) -> tuple[Value, bool]:
        self._enter()
        if sign := self._accept("-", "+"):
            value, percent = self._signed()
            value = -value if sign == "-" else value
        else:
            value, percent = self._postfix()
            if self._accept("**"):
                value, percent = power(value, self._signed()[0]), False
        self._depth -= 1
        return value, percent

    def _postfix(self) -> tuple[Value, bool]:
        value, percent = self._primary(), False
        while True:
            if self._accept("!"):
                value, percent = factorial(value), False
            elif self._accept("°"):
                value, percent = multiply(value, CONSTANTS["pi"] / 180), False
            elif self._is_percent():
                self._next += 1
                value, percent = divide(value, Fraction(100)), True
            else:
                return value, percent

    def _primary(self) -> Value:
        token = self._take()
        if token.kind == "number":
            return self._number(token.text)
        if token.text == "√":
            self._enter()
            value = square_root(self._postfix()[0])
            self._depth -= 1
            return value
        if token.text == "(":
            self._enter()
            value, _ = self._sum()
            self._expect(")")
            self._depth -= 1
            return value
        if token.kind == "name":
            return self._named(token)
        self._next -= 1
        self._fail()
        raise AssertionError("unreachable")

    def _named(self, token: _Token) -> Value:
        name = token.text.lower()
        if name in FUNCTIONS:
            function = FUNCTIONS[name]
            self._expect("(", hint=f"; a function needs brackets: {name}(...)")
            self._enter()
            arguments = [self._sum()[0]] if not self._at(")") else []
            while self._accept(","):
                arguments.append(self._sum()[0])
            self._expect(")")
            self._depth -= 1
            if not function.fewest <= len(arguments) <= function.most:
                raise ToolError(f"{name} takes {function.arity()}, not {len(arguments)}")
            return function.apply(*arguments)
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise ToolError(
            f"{token.text!r} is not known here; use numbers, + - * / // % **, brackets, "
            f"{', '.join(sorted(CONSTANTS))} and these functions: {', '.join(sorted(FUNCTIONS))}"
        )

    def _number(self, text: str) -> Fraction:
        digits, _, exponent = text.replace("_", "").lower().partition("e")
        if len(exponent) > 6 or abs(int(exponent or 0)) > _MAX_EXPONENT:
            raise ToolError(f"the number {text} is too large or too small to calculate with")
        return Fraction(digits.rstrip(".") + (f"e{exponent}" if exponent else ""))

    def _is_percent(self) -> bool:
        """Whether a ``%`` comes that stands for hundredths: no operand follows that it could
        divide. In ``5% - 2`` the spaces decide; ``5 % -2`` is a remainder."""
        token = self._peek()
        if token is None or token.text != "%":
            return False
        after = self._tokens[self._next + 1] if self._next + 1 < len(self._tokens) else None
        if after is None or after.text in (")", ",", "*", "/", "//", "**", "%", "!"):
            return True
        if after.kind == "name" and after.text.lower() in _WORDS:
            return True
        if after.text in ("+", "-"):
            return (
                token.start == self._tokens[self._next - 1].end
                or self._text[after.end : after.end + 1].isspace()
            )
        return False

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _at(self, text: str) -> bool:
        token = self._peek()
        return token is not None and token.text == text

    def _take(self) -> _Token:
        token = self._peek()
        if token is None:
            raise ToolError(f"the expression {self._text!r} is not complete: it ends too early")
        self._next += 1
        return token

    def _accept(self, *texts: str) -> str:
        token = self._peek()
        if token is None or token.text not in texts:
            return ""
        self._next += 1
        return token.text

    def _expect(self, text: str, *, hint: str = "") -> None:
        if not self._accept(text):
            self._fail(f"'{text}' is missing", hint)

    def _fail(self, problem: str = "not arithmetic", hint: str = "") -> None:
        token = self._peek()
        where = f"at '{self._text[token.start :][:20]}'" if token else "at its end"
        raise ToolError(f"{self._text!r} cannot be calculated: {problem} {where}{hint}")

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ToolError(
                f"the expression is nested more than {MAX_DEPTH} deep; calculate it in parts"
            )


def _spans_of_arguments(text: str) -> list[tuple[int, int]]:
    """Where the arguments of functions stand."""
    spans, opened = [], []
    for match in re.finditer(r"([A-Za-z_0-9]*)\s*\(|\)", text):
        if match.group() != ")":
            opened.append(match.end() if match.group(1).lower() in FUNCTIONS else -1)
        elif opened and (start := opened.pop()) >= 0:
            spans.append((start, match.start()))
    return spans


def _tokens(text: str, arguments: list[tuple[int, int]]) -> list[_Token]:
    grouped = {
        match.start(): match.end()
        for match in _THOUSANDS.finditer(text)
        if not any(start <= match.start() < end for start, end in arguments)
    }
    for start, end in arguments:
        # max(100,200) has two arguments, but what has max(1,000)?
        if unclear := _UNCLEAR.search(text, start, end):
            number = unclear.group()
            raise ToolError(
                f"{number!r} is not clear between a function's brackets; write "
                f"{number.replace(',', '')} for one number"
            )
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].strip()
            if not rest:
                break
            raise ToolError(
                f"{text!r} cannot be calculated: {rest[0]!r} is not arithmetic; pass only the "
                "expression, such as 2 * (3 + 4)"
            )
        kind = match.lastgroup or ""
        start, position = match.start(kind), match.end()
        if kind == "number" and start in grouped:
            end = grouped[start]
            if fraction := re.compile(r"\.[0-9]+").match(text, end):
                end = fraction.end()
            tokens.append(_Token(kind, text[start:end].replace(",", ""), start, end))
            position = end
        else:
            tokens.append(_Token(kind, match[kind], start, position))
    return tokens


def _finish(value: Value) -> int | Decimal:
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return value.numerator
        exact = _decimal(value)
        if exact is not None:
            return exact
        # Fifteen digits of what may be far below the smallest float.
        context = Context(prec=_ROUNDED_DIGITS)
        rounded = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    else:
        rounded = Decimal(f"{value:.{_ROUNDED_DIGITS}g}")
    whole = rounded.to_integral_value()
    if rounded == whole and rounded.adjusted() < _ROUNDED_DIGITS:
        return int(whole)
    return rounded.normalize()


def _decimal(value: Fraction) -> Decimal | None:
    """The number in full, if it has an end and few digits."""
    denominator, twos, fives = value.denominator, 0, 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    places = max(twos, fives)
    if denominator != 1 or places > _EXACT_DIGITS:
        return None
    digits = value.numerator * 10**places // value.denominator
    if len(str(abs(digits))) > _EXACT_DIGITS:
        return None
    return Decimal(digits).scaleb(-places)
