"""Tools that find and read the files below one folder, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from agentkit.errors import ToolError, UserError
from agentkit.tools import Tool, ToolContext
from agentkit_tools._confined import ConfinedFolder, Entry
from agentkit_tools._file_text import FileReader, matches_name, name_pattern
from agentkit_tools._toolkit import Toolkit
from agentkit_tools.function import FunctionTool

__all__ = ["FileTools"]

_MAX_SEARCHED_BYTES = 256 * 1024 * 1024
_MAX_VISITED = 100_000
_MAX_LINE_CHARS = 200


class FileTools(Toolkit):
    """``list_files``, ``find_files``, ``search_files`` and ``read_file`` below a root folder.

    Paths are relative to the root. ``..``, absolute paths and symbolic links are refused, also
    if a link takes a file's place between two steps: each folder is opened from the one before
    it. Devices, pipes and sockets are not read. What this cannot tell is a hard link or a mount
    that somebody with access to the folder has put there.

    Args:
        root: The folder.
        hidden: Show files and folders whose names begin with a dot.
        max_bytes: How much of a file one call reads; the model may ask for the next part.
        max_results: Files or lines that one call names.
        write: Add ``write_file``, whose ``approval`` is ``"ask"``: a run waits for somebody's
            consent before it writes.
        max_write_bytes: Size of the largest file that is written.

    Raises:
        UserError: The root is not a folder, or an option is out of range.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        hidden: bool = False,
        max_bytes: int = 16_000,
        max_results: int = 50,
        write: bool = False,
        max_write_bytes: int = 1_000_000,
    ) -> None:
        for name, value in {
            "max_bytes": max_bytes,
            "max_results": max_results,
            "max_write_bytes": max_write_bytes,
        }.items():
            if value < 1:
                raise UserError(f"FileTools: {name} must be at least 1, not {value!r}")
        self._folder = ConfinedFolder(root, hidden=hidden)
        self._reader = FileReader(self._folder, max_bytes=max_bytes)
        self._max_results = max_results
        self._max_write_bytes = max_write_bytes
        tools: list[Tool] = [
            FunctionTool(function)
            for function in (self.list_files, self.find_files, self.search_files, self.read_file)
        ]
        if write:
            tools.append(_AskingTool(self.write_file))
        super().__init__(tools)

    def list_files(self, path: str = ".") -> str:
        """List the files and folders in a folder.

        Args:
            path: The folder, such as "notes"; "." for the root
        """
        entries = self._folder.scan(path)
        if not entries:
            return f"{path} is empty"
        lines = [_describe(entry) for entry in entries[: self._max_results]]
        return "\n".join([*lines, *self._more(len(entries), "find_files")])

    def find_files(self, name: str, path: str = ".", *, context: ToolContext) -> str:
        """Find files by name, also in the folders below.

        Args:
            name: A part of the name, or a pattern such as "*.py" or "notes/**/*.md"
            path: The folder to look in
        """
        pattern = name_pattern(name)
        found: list[Entry] = []
        for entry in self._files(path, context):
            if matches_name(entry.path, pattern):
                found.append(entry)
                if len(found) > self._max_results:
                    break
        if not found:
            return f"no file below {path} has a name like {name!r}"
        lines = [_describe(entry) for entry in found[: self._max_results]]
        if len(found) > self._max_results:
            lines.append(f"[only the first {self._max_results}; pass a narrower name or path]")
        return "\n".join(lines)

    def search_files(
        self, text: str, path: str = ".", name: str = "*", *, context: ToolContext
    ) -> str:
        """Find the lines that contain a text, in all files of a folder and below.

        Args:
            text: Words as they stand in the file; capitals do not matter
            path: The folder or file to search
            name: Search only files with such names, as in "*.md"
        """
        if not text.strip() or "\n" in text:
            raise ToolError("text must be a word or a part of one line")
        pattern, lines, searched, skipped = name_pattern(name), [], 0, 0
        for entry in self._files(path, context):
            if not matches_name(entry.path, pattern):
                continue
            searched += entry.size
            if searched > _MAX_SEARCHED_BYTES:
                skipped = 1
                break
            for number, line in self._reader.grep(entry.path, text, context):
                lines.append(f"{entry.path}:{number}: {_shorten(line, text)}")
                if len(lines) > self._max_results:
                    break
            if len(lines) > self._max_results:
                break
        notes = []
        if len(lines) > self._max_results:
            lines = lines[: self._max_results]
            notes.append(f"[only the first {len(lines)} lines; pass a longer text or another path]")
        if skipped:
            notes.append("[not all files were searched: there are too many; pass a narrower path]")
        return "\n".join([*(lines or [f"no line contains {text!r}"]), *notes])

    def read_file(
        self,
        path: str,
        start_line: int = 1,
        end_line: int | None = None,
        start_byte: int | None = None,
    ) -> str:
        """Read a text file, or a part of it.

        Args:
            path: The file, such as "notes/todo.txt"
            start_line: The first line to read
            end_line: The last line to read
            start_byte: Where to begin instead of start_line, for files with very long lines
        """
        if start_byte is not None:
            return self._reader.read_bytes(path, start_byte)
        return self._reader.read_lines(path, start_line, end_line)

    def write_file(self, path: str, content: str, overwrite: bool = False) -> str:
        """Write a text file.

        Args:
            path: The file, such as "notes/todo.txt"
            content: Its whole text
            overwrite: Replace the file if there is one
        """
        data = content.encode("utf-8", "replace")
        if len(data) > self._max_write_bytes:
            raise ToolError(
                f"the content has {len(data)} bytes, the limit is {self._max_write_bytes}; write "
                "several smaller files"
            )
        replaced = self._folder.write(path, data, overwrite=overwrite)
        return f"{'replaced' if replaced else 'wrote'} {path} ({len(data)} bytes)"

    def _files(self, path: str, context: ToolContext) -> Iterator[Entry]:
        """The file at a path, or the files below the folder there."""
        if self._is_file(path):
            name = "/".join(self._folder.parts(path))
            yield Entry(path=name, is_folder=False, size=0, modified=0.0)
            return
        for count, entry in enumerate(self._folder.walk(path)):
            if context.cancelled.is_set():
                return  # Nobody waits for the result any more.
            if count >= _MAX_VISITED:
                raise ToolError(f"there are more than {_MAX_VISITED} files; pass a narrower path")
            if not entry.is_folder:
                yield entry

    def _is_file(self, path: str) -> bool:
        try:
            with self._folder.open_file(path):
                return True
        except ToolError:
            return False

    def _more(self, count: int, other: str) -> list[str]:
        left = count - self._max_results
        return [f"[{left} more; use {other} with a part of the name]"] if left > 0 else []


class _AskingTool(FunctionTool[..., str]):
    """A tool whose calls need somebody's consent."""

    def __init__(self, function: Callable[..., str]) -> None:
        super().__init__(function)
        self.approval = "ask"


def _describe(entry: Entry) -> str:
    if entry.is_folder:
        return f"{entry.path}/"
    changed = datetime.fromtimestamp(entry.modified, UTC)
    return f"{entry.path} ({entry.size} bytes, {changed:%Y-%m-%d})"


def _shorten(line: str, text: str) -> str:
    """The part of a long line that has the text in it."""
    line = " ".join(line.split())
    if len(line) <= _MAX_LINE_CHARS:
        return line
    start = max(0, line.lower().find(" ".join(text.lower().split())) - _MAX_LINE_CHARS // 3)
    end = start + _MAX_LINE_CHARS
    return ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")
