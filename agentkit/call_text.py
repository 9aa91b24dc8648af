"""The text of a call that is being written: where its arguments begin, and where they end."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["CALL_HEAD", "ObjectText"]

CALL_HEAD = re.compile(r'\s*\{"name": "(?P<name>[^"\\]+)", "arguments": (?=\{)')
"""How the grammar lays a call out before its arguments."""


class ObjectText:
    """JSON text of an object as it grows; knows where the object ends."""

    def __init__(self) -> None:
        self._text = ""
        self._open: list[str] = []  # the brackets that will close what is open
        self._in_string = self._escaped = False

    def take(self, text: str) -> str:
        """The part of the next piece that still belongs to the object."""
        for i, char in enumerate(text):
            if self._text and not self._open:
                return text[:i]
            self._text += char
            self._read(char)
        return text

    def value(self) -> Any:
        """What the text says, or None while it is not complete."""
        try:
            return json.loads(self._text)
        except ValueError:
            return None

    def spoiler(self) -> str:
        """Text after which this can no longer be read as an object."""
        wrong = "}" if self._open and self._open[-1] == "]" else "]"
        quote = ("\\" if self._escaped else "") + '"'
        return (quote if self._in_string else "") + wrong

    def _read(self, char: str) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._in_string = False
        elif char == '"':
            self._in_string = True
        elif char in "{[":
            self._open.append("}" if char == "{" else "]")
        elif char in "}]":
            self._open.pop()
