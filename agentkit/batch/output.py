"""The file of a batch's results: appended to as they come, put in order at the end.

A result counts once its line is on the disk. While a batch is at work the lines are in the order
in which they were finished; a process that is killed leaves at most one torn line at the end, which
the next one cuts off. When all is done, the file is replaced by one in the input's order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentkit.errors import UserError

__all__ = ["Entry", "OutputFile"]

_KEY = "agentkit"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the result of a line is, and of which line it is."""

    offset: int
    """Of its first byte in the file."""
    size: int
    """In bytes, newline included."""
    fingerprint: str
    """Of the input's line."""
    line_id: str
    """The line's id."""
    ok: bool
    """Whether it is a result, not an error."""


class OutputFile:
    """Results, by the numbers of their lines. Held by one process at a time.

    Args:
        path: The file; made if it is not there.
        restart: Throw away what it holds.

    Raises:
        UserError: It cannot be written, is held by another process, or holds something else.
    """

    def __init__(self, path: str | Path, *, restart: bool = False) -> None:
        self.path = Path(path)
        self.entries: dict[int, Entry] = {}
        """The last result of each line."""
        try:
            self._handle = _open_locked(self.path)
            try:
                if restart:
                    os.ftruncate(self._handle, 0)
                    os.fsync(self._handle)
                _sync_folder(self.path)
                self._size = self._read()
            except BaseException:
                os.close(self._handle)
                raise
        except OSError as error:
            raise UserError(
                f"the results {self.path} cannot be written: {error.strerror or error}"
            ) from error

    def append(self, records: Iterable[tuple[int, str, str, bool, Mapping[str, Any]]]) -> None:
        """Write results; they are on the disk when this returns.

        Args:
            records: For each the line's number, its fingerprint and id, whether it is a result,
                and the record.

        Raises:
            UserError: They could not be written; none of them counts.
        """
        data = bytearray()
        entries: dict[int, Entry] = {}
        for number, print_, line_id, ok, record in records:
            own = {"line": number, "input": print_, "ok": ok}
            line = _dump({**record, _KEY: own}) + b"\n"
            entries[number] = Entry(self._size + len(data), len(line), print_, line_id, ok)
            data += line
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, self._size)
            raise UserError(
                f"results cannot be written to {self.path}: {error.strerror or error}; what was "
                "written before is kept, and the same command goes on from there"
            ) from error
        self._size += len(data)
        self.entries |= entries

    def put_in_order(self) -> None:
        """Replace the file by one with each line's last result, in the order of the lines."""
        # Always of one name: what a killed process left is overwritten, or removed.
        new = self.path.with_name(f".{self.path.name}.ordered")
        new.unlink(missing_ok=True)
        wanted = [self.entries[number] for number in sorted(self.entries)]
        place = 0
        for entry in wanted:
            if entry.offset != place:
                break
            place += entry.size
        else:
            if place == self._size:
                return
        try:
            with new.open("xb") as file:
                for entry in wanted:
                    file.write(os.pread(self._handle, entry.size, entry.offset))
                file.flush()
                os.fchmod(file.fileno(), os.fstat(self._handle).st_mode & 0o777)
                os.fsync(file.fileno())
            new.replace(self.path)
            _sync_folder(self.path)
        except OSError as error:
            raise UserError(
                f"the results in {self.path} are complete, but cannot be put in order: "
                f"{error.strerror or error}"
            ) from error
        finally:
            new.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._handle)

    def _read(self) -> int:
        """Find the results; cut off a torn last line. The size that is left."""
        offset = 0
        with os.fdopen(os.dup(self._handle), "rb") as file:
            file.seek(0)
            for row, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._handle, offset)
                    os.fsync(self._handle)
                    break
                self._take(line, offset, row)
                offset += len(line)
        return offset

    def _take(self, line: bytes, offset: int, row: int) -> None:
        try:
            data = json.loads(line)
            own = data[_KEY]
            line_id = data["custom_id"] if "custom_id" in data else data["id"]
            entry = Entry(offset, len(line), str(own["input"]), str(line_id), own["ok"] is True)
            self.entries[int(own["line"])] = entry
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{self.path}, line {row}: not a result of a batch; give another file for the "
                "results, or have this one overwritten (restart)"
            ) from error


def _dump(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates, which only JSON's escapes can write down.
        return json.dumps(record, default=str).encode("ascii")


def _open_locked(path: Path) -> int:
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags, 0o644)
        try:
            import fcntl
        except ImportError:  # Windows: it is left to the user that nobody else writes
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UserError(
                f"another process is writing results to {path}; wait for it, or give another file"
            ) from None
        except BaseException:
            os.close(handle)
            raise
        # The one who held it may have put another file in its place meanwhile.
        try:
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Make sure that the file's name is on the disk, too."""
    if os.name != "posix":
        return
    handle = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
