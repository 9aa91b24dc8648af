"""A folder that cannot be left: files below it, opened step by step from its own descriptor.

A path is never checked first and opened later, as it may change in between. Each step is opened
relative to the folder before it and refuses symbolic links, so that what is open is below the
root whatever happens to names meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agentkit.errors import ToolError, UserError

__all__ = ["ConfinedFolder", "Entry"]

_SUPPORTED = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
_FILE_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder below the root."""

    path: str
    """Relative to the root, with ``/`` between the parts."""
    is_folder: bool
    """Whether it is a folder."""
    size: int
    """Of a file, in bytes."""
    modified: float
    """When it was last changed, in seconds since 1970."""


class ConfinedFolder:
    """A root folder, and the files below it.

    Args:
        root: The folder. Symbolic links in its own path are followed, once.
        hidden: Whether names that begin with a dot exist at all.

    Raises:
        UserError: There is no such folder, or the system lacks what confinement needs.
    """

    def __init__(self, root: str | os.PathLike[str], *, hidden: bool = False) -> None:
        if not _SUPPORTED:
            raise UserError(
                "file tools need openat() and O_NOFOLLOW, which this operating system does not "
                "have; run the agent on Linux or macOS"
            )
        self.root = Path(root).resolve()
        """Where the folder is."""
        self._hidden = hidden
        if not self.root.is_dir():
            raise UserError(f"the root {str(root)!r} is not a folder; create it or name another")

    def parts(self, path: str) -> list[str]:
        """The names that lead from the root to ``path``.

        Raises:
            ToolError: It is absolute, leads upwards, or names what is hidden.
        """
        if "\0" in path or len(path) > 4096 or not _is_unicode(path):
            raise ToolError("the path holds characters that no path has, or more than 4096")
        text = path.strip()
        if re.match(r"[/\\~]|[A-Za-z]:[\\/]", text):
            raise ToolError(
                f"{path!r} is an absolute path; pass one relative to the root, such as "
                "notes/todo.txt, or . for the root"
            )
        names = [name for name in text.split("/") if name not in ("", ".")]
        if ".." in names:
            raise ToolError(f"{path!r} contains '..', which is not allowed; begin at the root")
        for name in names:
            if name.startswith(".") and not self._hidden:
                raise ToolError(f"{path!r}: {name!r} is hidden, and hidden files cannot be used")
        return names

    @contextmanager
    def open_folder(self, path: str) -> Iterator[int]:
        """A descriptor of the folder at ``path``."""
        names = self.parts(path)
        with _translated(path):
            current = os.open(self.root, _FOLDER_FLAGS)
        try:
            for name in names:
                with _translated(path):
                    inner = os.open(name, _FOLDER_FLAGS, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)

    @contextmanager
    def open_file(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        """A descriptor of the regular file at ``path``, for reading, and its status."""
        names = self.parts(path)
        if not names:
            raise ToolError(f"{path!r} is a folder, not a file; list it instead")
        with self.open_folder("/".join(names[:-1])) as folder:
            with _translated(path):
                descriptor = os.open(names[-1], _FILE_FLAGS, dir_fd=folder)
            try:
                status = os.fstat(descriptor)
                if stat.S_ISDIR(status.st_mode):
                    raise ToolError(f"{path!r} is a folder, not a file; list it instead")
                if not stat.S_ISREG(status.st_mode):
                    raise ToolError(f"{path!r} is a device, pipe or socket, which is not read")
                yield descriptor, status
            finally:
                os.close(descriptor)

    def scan(self, path: str) -> list[Entry]:
        """The files and folders in a folder, by name; links and special files left out."""
        prefix = "/".join(self.parts(path))
        entries = []
        with self.open_folder(path) as folder, _translated(path):
            with os.scandir(folder) as found:
                names = [entry.name for entry in found]
            for name in sorted(names):
                if not _is_unicode(name) or (name.startswith(".") and not self._hidden):
                    continue
                try:
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except OSError:
                    continue  # Gone since.
                if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                    continue
                entries.append(
                    Entry(
                        path=f"{prefix}/{name}" if prefix else name,
                        is_folder=stat.S_ISDIR(status.st_mode),
                        size=status.st_size,
                        modified=status.st_mtime,
                    )
                )
        return entries

    def walk(self, path: str) -> Iterator[Entry]:
        """Everything below a folder, folders before what is in them.

        A folder that cannot be read is passed over.
        """
        stack = [iter(self.scan(path))]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            yield entry
            if entry.is_folder and len(stack) < 64:
                with suppress(ToolError):
                    stack.append(iter(self.scan(entry.path)))

    def write(self, path: str, data: bytes, *, overwrite: bool) -> bool:
        """Write a file whole or not at all, and make the folders that lead to it.

        Args:
            path: Of the file.
            data: Its content.
            overwrite: Whether a file of that name may be replaced.

        Returns:
            Whether a file was replaced.

        Raises:
            ToolError: The path cannot be used, or the file exists and may not be replaced.
        """
        names = self.parts(path)
        if not names:
            raise ToolError(f"{path!r} is the root folder; pass the name of a file")
        for depth in range(1, len(names)):
            parent = "/".join(names[: depth - 1])
            with self.open_folder(parent) as folder, suppress(FileExistsError), _translated(path):
                os.mkdir(names[depth - 1], dir_fd=folder)
        with self.open_folder("/".join(names[:-1])) as folder, _translated(path):
            return _replace(folder, names[-1], data, path, overwrite=overwrite)


def _replace(folder: int, name: str, data: bytes, path: str, *, overwrite: bool) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise ToolError(f"{path!r} is a folder, link or special file; pass the name of a file")
    if status is not None and not overwrite:
        raise ToolError(f"{path!r} exists already; pass overwrite=true to replace it")
    # A new file is made under its own name, which fails if the name has appeared since.
    target = f".{secrets.token_hex(8)}.tmp" if overwrite else name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(target, flags, 0o666, dir_fd=folder)
    except FileExistsError:
        raise ToolError(f"{path!r} exists already; pass overwrite=true to replace it") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            if status is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target != name:
            os.replace(target, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(target, dir_fd=folder)
        raise
    return status is not None


def _is_unicode(name: str) -> bool:
    """Whether a name can be shown: others hold bytes that are not UTF-8."""
    return not re.search("[\ud800-\udfff]", name)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """The system's errors in words for a model."""
    try:
        yield
    except FileExistsError:
        raise
    except FileNotFoundError:
        raise ToolError(
            f"there is no {path!r}; list the folder or find files by name to see what there is"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ToolError(
                f"{path!r} is or passes a symbolic link, which is not followed"
            ) from None
        if error.errno == errno.ENOTDIR:
            raise ToolError(
                f"{path!r} is not a folder, or passes a file or link as if it were one"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ToolError(f"{path!r} cannot be used: permission denied") from None
        if error.errno == errno.ENXIO:
            raise ToolError(f"{path!r} is a device, pipe or socket, which is not read") from None
        raise ToolError(f"{path!r} cannot be used: {error.strerror}") from None
