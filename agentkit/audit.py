"""A record of every tool call, for those who must know later what was done and who allowed it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentkit.errors import AuditError, UserError

__all__ = ["AuditLog", "AuditRecord", "AuditSink", "AuditWarning", "write_audit"]

logger = logging.getLogger(__name__)


class AuditWarning(UserWarning):
    """A record could not be written to the audit log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One tool call, from the model's wish to what came of it. Secrets are blotted out."""

    time: str
    """When the call was over: ISO 8601, UTC."""
    run_id: str
    """The run; :attr:`agentkit.RunResult.run_id` has the same."""
    agent: str
    """The agent's name."""
    step: int
    """Index of the step, from 0."""
    call_id: str
    """Links to the call in the conversation."""
    tool: str
    """Name of the tool, as the model wrote it."""
    arguments: Mapping[str, Any] | str
    """Its arguments; text where they could not be read."""
    decision: str
    """``allow``, ``deny`` or ``ask`` (it waits); empty where the call was never decided on."""
    decided_by: str
    """Whose rule or answer that was: ``tool``, ``agent``, ``approvals callback``, ``approver``,
    ``resume``, ``default``, or what an :class:`~agentkit.Approval` says in ``by``."""
    outcome: str
    """A :data:`~agentkit.result.CallStatus`, or ``rewound`` for a call that the model was made
    to write anew."""
    error: str = ""
    """Kind of the failure, such as an exception's class; empty if there was none."""
    seconds: float = 0.0
    """Time that the tool took."""
    repairs: tuple[str, ...] = ()
    """What was mended in the call."""
    sources: tuple[str, ...] = ()
    """Sources or ids of the documents in the result."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


AuditSink: TypeAlias = "AuditLog | Callable[[AuditRecord], Awaitable[None] | None]"
"""Where records go: a log, or a function. A plain function runs in the event loop, so it
should be quick; what it raises ends the run."""


class AuditLog:
    """Appends records to a file, one JSON object a line.

    Each record is with the operating system before the run goes on, and is written in a thread,
    so the event loop never waits for a disk. Several processes may append to one file. Nothing
    is ever rewritten.

    Args:
        path: The file; made if it is not there, readable by its owner only.
        on_error: What happens if a record cannot be written: ``raise`` ends the run with
            :class:`~agentkit.AuditError`; ``warn`` logs an error and warns.
        fsync: Also wait until each record is on the disk.

    Raises:
        UserError: The file cannot be appended to.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        on_error: Literal["raise", "warn"] = "raise",
        fsync: bool = False,
    ) -> None:
        if on_error not in ("raise", "warn"):
            raise UserError(f"AuditLog.on_error is {on_error!r}; it must be 'raise' or 'warn'")
        self.path = Path(path)
        self._on_error = on_error
        self._fsync = fsync
        # One thread, so that the records of this process keep their order.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="agentkit-audit")
        try:
            self._append(b"")
        except OSError as error:
            raise UserError(
                f"the audit log {self.path} cannot be written: {error.strerror or error}"
            ) from error

    async def write(self, record: AuditRecord) -> None:
        """Append a record; returns when it is written.

        Raises:
            AuditError: It could not be, and ``on_error`` is ``raise``.
        """
        line = json.dumps(record.to_dict(), ensure_ascii=False, default=str) + "\n"
        data = line.encode("utf-8", "backslashreplace")
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._append, data)
        except OSError as error:
            message = (
                f"the call {record.call_id} of {record.tool} could not be written to the audit "
                f"log {self.path}: {error.strerror or error}"
            )
            if self._on_error == "raise":
                raise AuditError(message) from error
            logger.error("%s", message)
            warnings.warn(message, AuditWarning, stacklevel=2)

    def _append(self, data: bytes) -> None:
        # Opened anew each time: a log that was rotated away does not swallow what follows.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(self.path, flags, 0o600)
        try:
            with _locked(handle):
                size = os.fstat(handle).st_size
                try:
                    while data:
                        data = data[os.write(handle, data) :]
                except OSError:
                    # Half a line would spoil the next one, too.
                    with suppress(OSError):
                        os.ftruncate(handle, size)
                    raise
            if self._fsync:
                os.fsync(handle)
        finally:
            os.close(handle)

    @staticmethod
    def read(path: str | Path) -> Iterable[dict[str, Any]]:
        """The records of a log, oldest first.

        Raises:
            UserError: The file is missing, or a line is not a record.
        """
        try:
            with Path(path).open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield json.loads(line)
                    except ValueError as error:
                        raise UserError(f"{path}, line {number}: not an audit record") from error
        except OSError as error:
            raise UserError(f"the audit log {path} cannot be read: {error.strerror}") from error


class _locked:
    """Keeps other processes from appending in the middle of a long line, where locks exist."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __enter__(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: O_APPEND alone has to do
            return
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        """Closing the file ends the lock."""


async def write_audit(sink: AuditSink | None, record: AuditRecord) -> None:
    """Hand a record to wherever records go."""
    if sink is None:
        return
    if isinstance(sink, AuditLog):
        await sink.write(record)
        return
    answer = sink(record)
    if inspect.isawaitable(answer):
        await answer
