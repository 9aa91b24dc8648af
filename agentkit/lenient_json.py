"""JSON as small models write it: read strictly where it is right, mended where its faults are
plain.

One reader does both, so that whatever is mended is named and whatever is not can be reported
with its place. It also reads Python literals, which ``ast.literal_eval`` would only do at the
price of its warnings and its limits. It never recurses deeper than :data:`MAX_DEPTH`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_DEPTH", "JSONFaultError", "JSONReading", "read_json"]

MAX_DEPTH = 100
"""Objects and lists nested deeper than this are refused."""

_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_WORDS = {"true": True, "false": False, "null": None}
_PYTHON_WORDS = {"True": True, "False": False, "None": None}
_ESCAPES = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))

_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"-?[A-Za-z_$][A-Za-z0-9_$]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = {'"': re.compile(r'[^"\\\x00-\x1f]*'), "'": re.compile(r"[^'\\\x00-\x1f]*")}
_UNICODE = re.compile(r"u([0-9a-fA-F]{4})")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PYTHON_CODE = re.compile(r"x([0-9a-fA-F]{2})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FENCE = re.compile(r"\s*`{1,3}(?:[A-Za-z]+(?=[\s{\[(\"']))?")


class JSONFaultError(ValueError):
    """The text is not JSON, nor can it be mended; the message says where and why."""


@dataclass(frozen=True, slots=True)
class JSONReading:
    """What a text holds."""

    values: tuple[Any, ...]
    """The values, in their order. Strict JSON holds exactly one."""
    repairs: tuple[str, ...] = ()
    """What was mended, each kind of fault once."""


def read_json(text: str, *, close_brackets: bool = True) -> JSONReading:
    """Read every value of a text.

    Args:
        text: What to read. A Markdown code fence around it is taken off.
        close_brackets: Add the brackets that are missing at the end. Wrong for a text that was
            cut off, where more could have followed.

    Raises:
        JSONFaultError: A fault that cannot be mended without guessing.
    """
    return _Reader(text, close_brackets).read()


class _Reader:
    def __init__(self, text: str, close_brackets: bool) -> None:
        self._text = text
        self._position = 0
        self._close_brackets = close_brackets
        self._closers: list[str] = []
        # A dictionary for its order: each kind of repair is named once.
        self._repairs: dict[str, None] = {}

    def read(self) -> JSONReading:
        self._take_off_fence()
        values: list[Any] = []
        while char := self._peek():
            if values and char == ",":
                self._position += 1
            elif values and char in "}])":
                self._position += 1
                self._mend("extra closing brackets were dropped")
            else:
                values.append(self._value())
        return JSONReading(tuple(values), tuple(self._repairs))

    def _take_off_fence(self) -> None:
        fence = _FENCE.match(self._text)
        if fence is None:
            return
        # The text in front stays, so that places in messages remain those of the whole text.
        self._position = fence.end()
        self._text = self._text.rstrip().rstrip("`")
        self._mend("a code fence was taken off")

    def _value(self) -> Any:
        char = self._peek()
        if char == "{":
            return self._object()
        if char in ("[", "("):
            return self._list()
        if char in ('"', "'"):
            return self._string()
        if number := _NUMBER.match(self._text, self._position):
            return self._number(number)
        if word := _WORD.match(self._text, self._position):
            return self._word(word)
        raise self._fault("expected a value")

    def _object(self) -> dict[str, Any]:
        closer = self._open()
        result: dict[str, Any] = {}
        while self._peek() != closer:
            key = self._key()
            if self._peek() != ":":
                raise self._fault("expected ':'")
            self._position += 1
            result[key] = self._value()
            if not self._continues(closer):
                break
        self._close()
        return result

    def _list(self) -> list[Any]:
        closer = self._open()
        if closer == ")":
            self._mend("a list was written as a Python tuple")
        result: list[Any] = []
        while self._peek() != closer:
            result.append(self._value())
            if not self._continues(closer):
                break
        self._close()
        return result

    def _open(self) -> str:
        if len(self._closers) == MAX_DEPTH:
            raise self._fault(f"objects and lists are nested more than {MAX_DEPTH} deep")
        closer = _CLOSERS[self._text[self._position]]
        self._closers.append(closer)
        self._position += 1
        return closer

    def _close(self) -> None:
        """Leave an object or list; step over its bracket unless that had to be imagined."""
        if self._peek() == self._closers.pop():
            self._position += 1
        else:
            self._mend("missing closing brackets were added")

    def _continues(self, closer: str) -> bool:
        """Whether another item follows the one just read."""
        char = self._peek()
        if char == ",":
            self._position += 1
            if self._peek() != closer:
                return True
            self._mend("a comma before a closing bracket was dropped")
            return False
        if char == closer:
            return False
        # A bracket that closes something further out closes what lies inside it, too.
        if char in self._closers if char else self._close_brackets:
            return False
        raise self._fault(f"expected ',' or '{closer}'")

    def _key(self) -> str:
        if self._peek() in ('"', "'"):
            return self._string()
        word = _WORD.match(self._text, self._position)
        if word is None:
            raise self._fault("expected a key in double quotes")
        self._position = word.end()
        self._mend("keys were not in quotes")
        return word[0]

    def _number(self, number: re.Match[str]) -> int | float:
        whole, fraction, exponent = number.groups()
        try:
            value = float(number[0]) if fraction or exponent else int(whole)
        except ValueError:  # Python reads no more than some thousand digits.
            raise self._fault("a number has too many digits") from None
        if isinstance(value, float) and math.isinf(value):
            raise self._fault("a number is too large")
        self._position = number.end()
        return value

    def _word(self, word: re.Match[str]) -> bool | None:
        text = word[0]
        if text not in _WORDS and text not in _PYTHON_WORDS:
            if text.lstrip("-") in ("NaN", "nan", "Infinity", "inf"):
                raise self._fault(f"{text} is not a JSON value (use a number or null)")
            raise self._fault("expected a value")
        self._position = word.end()
        if text in _WORDS:
            return _WORDS[text]
        self._mend("True, False or None was written as in Python")
        return _PYTHON_WORDS[text]

    def _string(self) -> str:
        start = self._position
        quote = self._text[start]
        if quote == "'":
            self._mend("strings were in single quotes")
        self._position += 1
        pieces: list[str] = []
        while True:
            plain = _PLAIN[quote].match(self._text, self._position)
            assert plain is not None  # It matches the empty string.
            pieces.append(plain[0])
            self._position = plain.end()
            char = self._text[self._position : self._position + 1]
            self._position += 1
            if char == quote:
                break
            if char == "\\" and self._position < len(self._text):
                pieces.append(self._escape())
            elif char and char != "\\":
                self._mend("line breaks or control characters stood in a string")
                pieces.append(char)
            else:
                self._position = start
                raise self._fault("a string has no closing quote: it begins")
        return self._whole_characters("".join(pieces))

    def _escape(self) -> str:
        """The character that an escape stands for; the position is that after the backslash."""
        char = self._text[self._position]
        if code := _UNICODE.match(self._text, self._position):
            self._position = code.end()
            return self._code_unit(int(code[1], 16))
        self._position += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        self._mend("an escape that JSON does not know was read as in Python")
        if char == "'":
            return char
        if code := _PYTHON_CODE.match(self._text, self._position - 1):
            self._position = code.end()
            return chr(int(code[1] or code[2], 16))
        return "\\" + char

    def _code_unit(self, unit: int) -> str:
        low = _LOW_SURROGATE.match(self._text, self._position)
        if not 0xD800 <= unit < 0xDC00 or low is None:
            return chr(unit)
        self._position = low.end()
        return chr(0x10000 + ((unit - 0xD800) << 10) + (int(low[1], 16) - 0xDC00))

    def _whole_characters(self, text: str) -> str:
        # Half of a surrogate pair cannot be encoded, so it would fail far from here.
        text, count = _LONE_SURROGATE.subn("\ufffd", text)
        if count:
            self._mend("half of a surrogate pair was replaced")
        return text

    def _peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        space = _SPACE.match(self._text, self._position)
        assert space is not None  # It matches the empty string.
        self._position = space.end()
        return self._text[self._position : self._position + 1]

    def _mend(self, repair: str) -> None:
        self._repairs[repair] = None

    def _fault(self, what: str) -> JSONFaultError:
        if self._position >= len(self._text):
            return JSONFaultError(f"{what} at its end")
        return JSONFaultError(f"{what} at character {self._position + 1}")
