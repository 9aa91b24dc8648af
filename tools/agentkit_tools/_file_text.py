"""Parts of files as text for a model, however large the file and whatever is in it."""

from __future__ import annotations

import codecs
import fnmatch
import os
import re
from collections.abc import Iterator

from agentkit.errors import ToolError
from agentkit.tools import ToolContext
from agentkit_tools._confined import ConfinedFolder

__all__ = ["FileReader", "matches_name", "name_pattern"]

_CHUNK = 1 << 16
_MAX_GREP_LINE = 1 << 20
_MAX_SCANNED = 1 << 30
_KINDS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
)
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class FileReader:
    """Reads parts of the text files below a folder.

    Args:
        folder: Which.
        max_bytes: How much one call gives.
    """

    def __init__(self, folder: ConfinedFolder, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def read_lines(self, path: str, start: int, end: int | None) -> str:
        """Lines ``start`` to ``end``, counted from 1, as many as are allowed.

        Raises:
            ToolError: There are no such lines, or the file is no text.
        """
        if start < 1 or (end is not None and end < start):
            raise ToolError("start_line begins at 1, and end_line must not be less than start_line")
        with self._folder.open_file(path) as (descriptor, status):
            encoding = _text_encoding(descriptor, path, status.st_size)
            if encoding != "utf-8":
                return self._wide(descriptor, path, status.st_size, encoding, start, end)
            taken, size, number, position, line_start = [], 0, 1, 0, 0
            with os.fdopen(os.dup(descriptor), "rb") as file:
                while number < start:
                    if position > _MAX_SCANNED:
                        raise ToolError(
                            f"line {start} of {path!r} is too far into the file to be counted to; "
                            "pass start_byte"
                        )
                    line = file.readline(_CHUNK)
                    if not line:
                        raise ToolError(
                            f"{path!r} has {number - 1} lines; pass a start_line up to that"
                        )
                    position += len(line)
                    number += line.endswith(b"\n")
                while size < self._max_bytes and (end is None or number <= end):
                    line_start = position + size
                    line = file.readline(self._max_bytes - size)
                    if not line:
                        break
                    taken.append(line)
                    size += len(line)
                    number += line.endswith(b"\n")
                more = bool(file.read(1))
        if not taken and start > 1:
            raise ToolError(f"{path!r} has {start - 1} lines; pass a start_line up to that")
        text, note = _decode(b"".join(taken))
        if not text and not more:
            return f"{path} is empty"
        if not more:
            return text + note
        if taken[-1].endswith(b"\n"):
            return f"{text}{note}[lines {start} to {number - 1}; start_line={number} for more]"
        if len(taken) > 1:  # The last line is not whole: leave it for the next call.
            text, note = _decode(b"".join(taken[:-1]))
            return f"{text}{note}[lines {start} to {number - 1}; start_line={number} for more]"
        return (
            f"{text}{note}\n[line {start} is longer than this; start_byte={line_start + size} for "
            f"more, the file has {status.st_size} bytes]"
        )

    def read_bytes(self, path: str, start: int) -> str:
        """Text from a byte on.

        Raises:
            ToolError: The file is shorter, or no text.
        """
        with self._folder.open_file(path) as (descriptor, status):
            if _text_encoding(descriptor, path, status.st_size) != "utf-8":
                raise ToolError(f"{path!r} is UTF-16 text; pass start_line instead of start_byte")
            data = os.pread(descriptor, self._max_bytes, start) if start >= 0 else b""
        if not data:
            raise ToolError(f"start_byte must be from 0 to {max(0, status.st_size - 1)}")
        end = start + len(data)
        if start and (skipped := _continuation(data)):
            data = data[skipped:]
        if end < status.st_size and (cut := _incomplete(data)):
            data, end = data[:-cut], end - cut
        text, note = _decode(data)
        if end >= status.st_size:
            return text + note
        return f"{text}{note}\n[bytes {start} to {end - 1}; start_byte={end} for more]"

    def grep(self, path: str, text: str, context: ToolContext) -> Iterator[tuple[int, str]]:
        """Numbers and texts of the lines that contain a text; none for what is no text."""
        wanted = text.lower()
        try:
            with self._folder.open_file(path) as (descriptor, status):
                encoding = _text_encoding(descriptor, path, status.st_size)
                with os.fdopen(os.dup(descriptor), encoding=encoding, errors="replace") as file:
                    number = 1
                    while line := file.readline(_MAX_GREP_LINE):
                        if wanted in line.lower():
                            yield number, line.strip("\ufeff \t\r\n")
                        number += line.endswith("\n")
                        if context.cancelled.is_set():
                            return
        except ToolError:
            return

    def _wide(
        self, descriptor: int, path: str, size: int, encoding: str, start: int, end: int | None
    ) -> str:
        limit = 32 * 1024 * 1024
        if size > limit:
            raise ToolError(f"{path!r} is UTF-16 text of {size} bytes, which is too large to read")
        text = os.pread(descriptor, limit, 0).decode(encoding, "replace").lstrip("\ufeff")
        lines = text.splitlines(keepends=True)
        if start > max(1, len(lines)):
            raise ToolError(f"{path!r} has {len(lines)} lines; pass a start_line up to that")
        chosen = "".join(lines[start - 1 : end])
        if len(chosen) <= self._max_bytes:
            return chosen
        return f"{chosen[: self._max_bytes]}\n[cut; pass a later start_line for more]"


def name_pattern(name: str) -> list[re.Pattern[str] | None]:
    """A glob as one pattern for each part of a path, ``None`` for ``**``.

    A word without ``*``, ``?`` or ``[`` is to be found anywhere in the name.
    """
    text = name.strip().removeprefix("./")
    if not text or len(text) > 300:
        raise ToolError("pass a part of the file's name, or a pattern such as *.txt")
    if not re.search(r"[*?\[]", text):
        text = f"*{text}*" if "/" not in text else text
    parts = [part for part in text.split("/") if part]
    patterns = [
        None if part == "**" else re.compile(fnmatch.translate(part), re.IGNORECASE)
        for part in parts
    ]
    return patterns if "/" in text else [None, *patterns]


def matches_name(path: str, pattern: list[re.Pattern[str] | None]) -> bool:
    """Whether a path matches, part by part; ``**`` stands for any number of folders."""
    reached = {0}
    for name in path.split("/"):
        reached = _closure(reached, pattern)
        following = {i for i in reached if i < len(pattern) and pattern[i] is None}
        following |= {
            i + 1
            for i in reached
            if i < len(pattern) and (part := pattern[i]) is not None and part.match(name)
        }
        reached = following
    return len(pattern) in _closure(reached, pattern)


def _closure(reached: set[int], pattern: list[re.Pattern[str] | None]) -> set[int]:
    result = set(reached)
    for index in sorted(reached):
        while index < len(pattern) and pattern[index] is None:
            index += 1
            result.add(index)
    return result


def _text_encoding(descriptor: int, path: str, size: int) -> str:
    head = os.pread(descriptor, _CHUNK, 0)
    for mark, encoding in _WIDE.items():
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        kind = next((kind for magic, kind in _KINDS if head.startswith(magic)), "a binary file")
        raise ToolError(f"{path!r} is {kind} of {size} bytes and no text; it cannot be read")
    for magic, kind in _KINDS[:5]:
        if head.startswith(magic):
            raise ToolError(f"{path!r} is {kind} of {size} bytes and no text; it cannot be read")
    return "utf-8"


def _decode(data: bytes) -> tuple[str, str]:
    """The text, and a note if not all of it could be read."""
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 3 and error.reason == "unexpected end of data":
            return data[: error.start].decode("utf-8"), ""
        return data.decode("utf-8", "replace"), "\n[not UTF-8: characters shown as � are lost]\n"


def _continuation(data: bytes) -> int:
    """How many bytes at the start belong to a character that began before."""
    return next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)


def _incomplete(data: bytes) -> int:
    """How many bytes at the end begin a character that goes on."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return back if length > back else 0
    return 0
