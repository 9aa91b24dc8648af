"""What sessions tell of themselves, and the JSON forms in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from agentkit.errors import SessionError
from agentkit.messages import Message, SystemMessage, messages_from_dicts
from agentkit.result import RunResult

__all__ = [
    "Kept",
    "RunInfo",
    "RunStatus",
    "SessionInfo",
    "SessionStatus",
    "dump",
    "dump_result",
    "load_messages",
    "load_result",
    "plain",
]

RunStatus: TypeAlias = Literal["running", "waiting", "interrupted", "done", "failed", "abandoned"]
"""At work; waiting for approval; stopped in its midst, by a kill or a cancellation; ended with a
result; ended with an error; given up by :meth:`agentkit.sessions.Session.abandon`."""

SessionStatus: TypeAlias = Literal["idle", "running", "waiting", "interrupted"]
"""Ready for the next prompt; else as the last run. Waiting and interrupted ones are to be resumed
or abandoned first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session, as lists show it."""

    id: str
    """Identifies the session."""
    title: str
    """The beginning of the first prompt, unless renamed."""
    agent: str
    """Name of the agent that it was made for."""
    status: SessionStatus
    """What is going on in it."""
    runs: int
    """How many runs it has."""
    created: float
    """Seconds since 1970."""
    updated: float
    """When something was last written, likewise."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the program keeps with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run of a session."""

    id: str
    """As :attr:`agentkit.RunResult.run_id`."""
    number: int
    """Place in the session, from 1."""
    status: RunStatus
    """How it is, or ended."""
    prompt: tuple[Message, ...]
    """What it was asked."""
    result: RunResult | None
    """What it gave, without earlier messages; the run so far where it waits; ``None`` where
    there is nothing yet."""
    error: str
    """Why it failed."""
    created: float
    """Seconds since 1970."""
    updated: float
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A run that was stopped, as the database has it."""

    run_id: str
    """Identifies the run."""
    status: RunStatus
    """What it was before."""
    state: RunResult
    """The run at its last snapshot, with the session's earlier messages."""
    searched: bool
    """Whether documents had been searched for."""
    events: tuple[tuple[str, int, Any], ...]
    """What happened since the snapshot: kind, step and data."""


def dump(value: Any) -> str:
    """JSON in ASCII: databases take neither NUL nor half a surrogate pair in texts."""
    return json.dumps(value, default=str, allow_nan=True)


def dump_result(result: RunResult) -> str:
    """A run's result, without what earlier runs have."""
    new = replace(result, messages=result.new_messages, new_from=0)
    return dump(new.to_dict())


def load_result(text: str, history: list[Message] | None = None) -> RunResult:
    """The reverse of :func:`dump_result`.

    Args:
        text: As it was written.
        history: Messages to put before those of the run.

    Raises:
        SessionError: It is damaged.
    """
    try:
        result = RunResult.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise SessionError(f"a run in the database is damaged: {error}") from error
    earlier = tuple(history or ())
    return replace(result, messages=(*earlier, *result.messages), new_from=len(earlier))


def load_messages(text: str) -> tuple[Message, ...]:
    """Messages that were written with :func:`dump`."""
    return tuple(messages_from_dicts(json.loads(text)))


def under(system: str | None, messages: list[Message]) -> list[Message]:
    """Messages under a system text, if there is one."""
    return messages if system is None else [SystemMessage(system), *messages]


def plain(text: str) -> str:
    """Text that any database takes."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
