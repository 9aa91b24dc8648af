"""Which tracing holds for a run, without importing OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit.tracing.tracer import Tracing

__all__ = ["conversation", "conversation_id", "instrument", "tracing_for", "uninstrument"]

_everywhere: Tracing | None = None
_conversation: ContextVar[str] = ContextVar("agentkit_conversation", default="")


def instrument(tracing: Tracing | None = None) -> Tracing:
    """Trace the runs of every agent that has no setting of its own, those made before, too.

    Args:
        tracing: How; if not given, with OpenTelemetry's global providers and without content.

    Returns:
        What is used from now on.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """
    global _everywhere
    if tracing is None:
        from agentkit.tracing.tracer import Tracing

        tracing = Tracing()
    _everywhere = tracing
    return tracing


def uninstrument() -> None:
    """Undo :func:`instrument`; runs that have begun are traced to their end."""
    global _everywhere
    _everywhere = None


def tracing_for(setting: Tracing | bool | None) -> Tracing | None:
    """What an agent's setting means now: ``None`` asks :func:`instrument`, ``False`` is off."""
    if setting is None:
        return _everywhere
    if isinstance(setting, bool):
        return None
    return setting


def read_setting(setting: Tracing | bool | None) -> Tracing | bool | None:
    """An agent's ``tracing``, checked; ``True`` becomes a :class:`Tracing`.

    Raises:
        UserError: It is something else.
    """
    if setting is None or setting is False:
        return setting
    from agentkit.tracing.tracer import Tracing

    if setting is True:
        return Tracing()
    if not isinstance(setting, Tracing):
        raise UserError(
            f"tracing is {setting!r:.100}; it must be True, False, None or a Tracing from "
            "agentkit.tracing"
        )
    return setting


@contextmanager
def conversation(conversation_id: str) -> Iterator[None]:
    """Runs begun in the block belong to this conversation (``gen_ai.conversation.id``)."""
    token = _conversation.set(conversation_id)
    try:
        yield
    finally:
        _conversation.reset(token)


def conversation_id() -> str:
    """The conversation that :func:`conversation` named; empty if none."""
    return _conversation.get()
