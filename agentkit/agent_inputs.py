"""What programs hand to an agent, in the forms that the agent works with."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from agentkit.errors import UserError
from agentkit.messages import Message, SystemMessage, normalize_messages
from agentkit.models.base import Model
from agentkit.redaction import Secrets
from agentkit.result import RunResult
from agentkit.tools import Tool

__all__ = [
    "History",
    "Prompt",
    "as_model",
    "as_schema",
    "as_secrets",
    "as_tool",
    "run_sync",
    "with_system",
]


Prompt: TypeAlias = str | Iterable[Message | Mapping[str, Any]]
"""What a run begins with: the user's text, or messages."""
History: TypeAlias = RunResult | Iterable[Message | Mapping[str, Any]]
"""An earlier conversation: a run's result, or messages."""


def as_model(model: Model | str | Path | None) -> Model:
    """The model itself, or the one that a name stands for."""
    if isinstance(model, Model):
        return model
    if model is not None and not isinstance(model, str | Path):
        raise UserError(
            f"model is {model!r:.100}; pass a hub id, a path, 'embedded', or a Model such as "
            "TransformersModel"
        )
    from agentkit.models.transformers_model import TransformersModel

    return TransformersModel(model)


def as_schema(schema: Mapping[str, Any] | type | None) -> Mapping[str, Any] | None:
    """The schema itself, or that of a pydantic model.

    Raises:
        UserError: It is neither.
        SchemaError: It is no JSON Schema.
    """
    if schema is None:
        return None
    if isinstance(schema, type):
        from pydantic import BaseModel

        if not issubclass(schema, BaseModel):
            raise UserError(
                f"response_schema is the class {schema.__name__}; it must be a pydantic model or a "
                "JSON Schema"
            )
        return schema.model_json_schema()
    if not isinstance(schema, Mapping):
        raise UserError(
            f"response_schema is {schema!r:.100}; it must be a pydantic model or a JSON Schema"
        )
    from agentkit.validation import check_schema

    check_schema(schema, tool_name=None)
    return schema


def as_tool(tool: Any) -> Tool:
    """The tool itself, or a plain function made into one; anything else as it is."""
    if isinstance(tool, Tool) or not callable(tool):
        return tool  # type: ignore[no-any-return]  # ToolSet says what is wrong with it
    import agentkit

    made: Tool = agentkit.tool(tool)
    return made


def as_secrets(secrets: Secrets | Iterable[str] | None) -> Secrets | None:
    """Secrets, or plain values made into them."""
    if secrets is None or isinstance(secrets, Secrets):
        return secrets
    return Secrets(secrets)


def run_sync(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, for programs without an event loop.

    Raises:
        UserError: An event loop is running in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise UserError(
            "an event loop is running here: use `await agent.run(...)` instead of run_sync"
        )
    return asyncio.run(work)


def with_system(history: History | None, system: str | None) -> list[Message]:
    """An earlier conversation under an agent's own system text, if it has one."""
    if isinstance(history, RunResult):
        earlier: list[Message] = list(history.messages)
    else:
        earlier = normalize_messages(history or ())
    if system is None:
        return earlier
    if earlier and isinstance(earlier[0], SystemMessage):
        earlier = earlier[1:]
    return [SystemMessage(system), *earlier]
