"""From what LangChain passes with a call to a request to the model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, SystemMessage

from agentkit.errors import UserError
from agentkit.langchain.documents import documents_for_prompt
from agentkit.langchain.messages import messages_from_langchain
from agentkit.models.base import ModelRequest, Sampling
from agentkit.tools import ToolDefinition

__all__ = [
    "CALL_OPTIONS",
    "REQUEST_OPTIONS",
    "SAMPLING_OPTIONS",
    "build_request",
    "check_options",
    "read_tool_choice",
    "with_examples",
]

SAMPLING_OPTIONS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
)
"""Options of a call that say how tokens are chosen; fields of the chat model, too."""

REQUEST_OPTIONS = (*SAMPLING_OPTIONS, "stop", "constrain", "parallel_tool_calls")
"""Options of a call that the chat model has defaults for, in fields of the same names."""

CALL_OPTIONS = (
    *REQUEST_OPTIONS,
    "documents",
    "model",
    "stream",
    "strict",
    "timeout",
    "tool_choice",
    "tools",
)
"""Every option that a call may have."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that would silently do nothing.

    Raises:
        UserError: There is one that no call has.
    """
    for name in options:
        if name not in CALL_OPTIONS:
            near = difflib.get_close_matches(name, CALL_OPTIONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CALL_OPTIONS)}"
            raise UserError(f"ChatGranite knows no option {name!r}; {hint}")


def build_request(
    messages: Sequence[BaseMessage],
    *,
    defaults: Mapping[str, Any],
    stop: Sequence[str] | None,
    options: Mapping[str, Any],
) -> ModelRequest:
    """Make a request.

    Args:
        messages: The conversation.
        defaults: The chat model's own values of :data:`REQUEST_OPTIONS`.
        stop: The call's stop strings; ``None`` for the defaults'.
        options: The call's options, which come before the defaults.

    Raises:
        UserError: An option is unknown or has a value that it cannot have.
        MessageError: The conversation holds what a text model cannot be shown.
        SchemaError: A tool's definition cannot be used.
    """
    check_options(options)
    chosen = {**defaults, **{k: v for k, v in options.items() if v is not None}}
    stops = stop if stop is not None else (chosen["stop"] or ())
    tools = tuple(map(ToolDefinition.from_openai, chosen.get("tools") or ()))
    return ModelRequest(
        messages=messages_from_langchain(messages),
        tools=tools,
        documents=documents_for_prompt(chosen.get("documents") or ()),
        tool_choice=read_tool_choice(options.get("tool_choice"), [tool.name for tool in tools]),
        parallel_tool_calls=chosen["parallel_tool_calls"],
        constrain=chosen["constrain"],
        sampling=Sampling(
            stop=(stops,) if isinstance(stops, str) else tuple(stops),
            **{name: chosen[name] for name in SAMPLING_OPTIONS},
        ),
    )


def with_examples(
    messages: Sequence[BaseMessage], examples: Sequence[BaseMessage]
) -> list[BaseMessage]:
    """The conversation with examples after its system messages, if it begins with any."""
    start = next(
        (i for i, message in enumerate(messages) if not isinstance(message, SystemMessage)),
        len(messages),
    )
    return [*messages[:start], *examples, *messages[start:]]


def read_tool_choice(choice: Any, names: Sequence[str]) -> str:
    """LangChain's, OpenAI's and Anthropic's ways to say which tool to call, as agentkit's.

    Args:
        choice: ``auto``, ``any``, ``required``, ``none``, a tool's name, a bool, ``None`` for
            ``auto``, or one of the providers' dictionaries.
        names: Of the tools.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(choice, Mapping):
        kind = choice.get("type")
        function = choice.get("function", choice)
        if kind in ("function", "tool") and isinstance(function, Mapping):
            choice = function.get("name")
        else:
            choice = kind
    match choice:
        case None | "auto":
            return "auto"
        case True | "any" | "required":
            return "required"
        case False | "none":
            return "none"
    if isinstance(choice, str) and choice in names:
        return choice
    raise UserError(
        f"tool_choice is {choice!r}; it must be 'auto', 'any', 'none' or the name of a tool "
        f"({', '.join(names) or 'there are none'})"
    )
