"""Every exception that agentkit raises on purpose.

One root, :class:`AgentkitError`, and three families below it, so that a caller can tell
whose mistake it was: :class:`UserError` (the program), :class:`ModelError` (the model or its
engine) and :class:`ToolError` (a tool). Each message says what was wrong, where, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentkit.result import RunResult

__all__ = [
    "AgentkitError",
    "AuditError",
    "ContextLengthError",
    "IndexFormatError",
    "InvalidToolCallError",
    "LimitExceededError",
    "MessageError",
    "MissingExtraError",
    "ModelBehaviorError",
    "ModelError",
    "ModelLoadError",
    "RetrievalError",
    "RunError",
    "SchemaError",
    "ScriptError",
    "SessionBusyError",
    "SessionError",
    "ToolError",
    "ToolExecutionError",
    "ToolTimeoutError",
    "UserError",
]


class AgentkitError(Exception):
    """Root of all agentkit exceptions."""


class UserError(AgentkitError):
    """The calling program passed something that cannot work; the message says what to change."""


class SchemaError(UserError):
    """A tool's JSON Schema or its function signature cannot be used."""


class MessageError(UserError):
    """A message, a conversation file or a prompt input has the wrong form."""


class MissingExtraError(UserError):
    """A feature needs a package that is not installed; the message names the extra."""


class AuditError(AgentkitError):
    """A call could not be written to the audit log, and the log says that this ends the run."""


class SessionError(AgentkitError):
    """A session could not be written or read: its database failed, or it belongs to another."""


class SessionBusyError(SessionError):
    """A run of the session is at work somewhere else, or has taken this one's place."""


class ModelError(AgentkitError):
    """The model, or the engine that runs it, could not do what was asked."""

    result: RunResult | None = None
    """The run so far, where the error ended one: tools may have been called already."""


class ModelLoadError(ModelError):
    """A model could not be found, read or placed on its device."""


class ContextLengthError(ModelError):
    """A prompt and the tokens asked for do not fit the model's context window."""


class RetrievalError(AgentkitError):
    """Documents could not be loaded, indexed or searched."""


class IndexFormatError(RetrievalError):
    """A saved index is missing, damaged, of a foreign version or of another embedding model."""


class ToolError(AgentkitError):
    """Raise this inside a tool to tell the model what went wrong.

    The message becomes the tool's observation word for word, so write it for the model:
    what was wrong with the call and what to try instead.
    """


class ToolExecutionError(ToolError):
    """A tool raised an exception and the agent was told to raise tool errors."""

    def __init__(self, tool_name: str, message: str) -> None:
        super().__init__(f"tool {tool_name!r} failed: {message}")
        self.tool_name = tool_name
        """Name of the tool that failed."""


class ToolTimeoutError(ToolError):
    """A tool did not finish within its time limit."""

    def __init__(self, tool_name: str, seconds: float) -> None:
        super().__init__(f"tool {tool_name!r} did not finish within {seconds:g} s")
        self.tool_name = tool_name
        """Name of the tool that was stopped."""
        self.seconds = seconds
        """The limit, in seconds."""


class RunError(AgentkitError):
    """A run ended without an answer. What had happened until then is in :attr:`result`."""

    def __init__(self, message: str, *, result: RunResult | None = None) -> None:
        super().__init__(message)
        self.result = result
        """The run so far: messages, steps, calls; save it or continue from it."""


class ModelBehaviorError(RunError):
    """The model kept doing something that cannot be used, past the allowed retries."""


class InvalidToolCallError(ModelBehaviorError):
    """The model's tool calls stayed invalid past the allowed retries."""


class LimitExceededError(RunError):
    """A run reached one of its limits (steps, tokens, seconds or calls of one tool)."""

    def __init__(self, message: str, *, limit: str, result: RunResult | None = None) -> None:
        super().__init__(message, result=result)
        self.limit = limit
        """Name of the field of :class:`agentkit.Limits` that was reached."""


class ScriptError(AgentkitError, AssertionError):
    """A :class:`agentkit.ScriptedModel` was called in a way its script does not foresee."""
