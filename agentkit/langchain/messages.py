"""Messages from LangChain's form to agentkit's and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage
from langchain_core.messages import FunctionMessage as LangChainFunctionMessage
from langchain_core.messages import SystemMessage as LangChainSystemMessage
from langchain_core.messages import ToolMessage as LangChainToolMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call

from agentkit.errors import MessageError
from agentkit.messages import (
    AssistantMessage,
    Generation,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    new_call_id,
)
from agentkit.models.base import UNREADABLE_CALL
from agentkit.parsing import parse_output

__all__ = [
    "GENERATION_KEY",
    "generation_to_dict",
    "messages_from_langchain",
    "messages_to_langchain",
]

GENERATION_KEY = "agentkit_generation"
"""Where an AI message's ``additional_kwargs`` keep the exact text and tokens of the turn."""

# Content blocks that say again what an AI message's tool_calls say, and another model's thoughts.
_CALL_BLOCKS = ("tool_call", "tool_call_chunk", "tool_use", "invalid_tool_call", "function_call")
_THOUGHT_BLOCKS = ("reasoning", "thinking", "redacted_thinking")


def messages_from_langchain(messages: Iterable[BaseMessage]) -> list[Message]:
    """LangChain's messages as agentkit's.

    An AI message that one of our models wrote, and that nobody has changed since, keeps its
    exact tokens, so that the KV cache goes on being valid.

    Raises:
        MessageError: A message is of a kind, or has content, that a text model cannot be shown.
    """
    return [_from_langchain(m, f"messages[{i}]") for i, m in enumerate(messages)]


def messages_to_langchain(messages: Iterable[Message]) -> list[BaseMessage]:
    """agentkit's messages as LangChain's; the reverse of :func:`messages_from_langchain`."""
    return [_to_langchain(message) for message in messages]


def generation_to_dict(generation: Generation) -> dict[str, Any]:
    """The JSON form in which an AI message carries its turn."""
    return {
        "text": generation.text,
        "token_ids": list(generation.token_ids),
        "tokenizer": generation.tokenizer,
    }


def _from_langchain(message: BaseMessage, where: str) -> Message:
    if isinstance(message, AIMessage):
        return _assistant(message, where)
    text = _text(message.content, where)
    if isinstance(message, HumanMessage):
        return UserMessage(text)
    if isinstance(message, LangChainSystemMessage):
        return SystemMessage(text)
    if isinstance(message, LangChainToolMessage):
        return ToolMessage(text, message.tool_call_id, message.name or "")
    if isinstance(message, LangChainFunctionMessage):
        return ToolMessage(text, "", message.name)
    if isinstance(message, ChatMessage):
        match message.role:
            case "user" | "human":
                return UserMessage(text)
            case "system" | "developer":
                return SystemMessage(text)
            case "assistant" | "ai":
                return AssistantMessage(text)
            case "tool":
                return ToolMessage(text)
        raise MessageError(
            f"{where} has the role {message.role!r}; roles are 'system', 'user', 'assistant' "
            "and 'tool'"
        )
    raise MessageError(f"{where} is a {type(message).__name__}, which no model can be shown")


def _assistant(message: AIMessage, where: str) -> AssistantMessage:
    text = _text(message.content, where, ignore=(*_CALL_BLOCKS, *_THOUGHT_BLOCKS))
    calls = [
        ToolCall(name=call["name"], arguments=call["args"], id=call["id"] or new_call_id())
        for call in message.tool_calls
    ]
    calls += [
        ToolCall(
            name=call["name"] or UNREADABLE_CALL,
            arguments=call["args"] or "",
            id=call["id"] or new_call_id(),
        )
        for call in message.invalid_tool_calls
    ]
    return AssistantMessage(text, tuple(calls), _generation(message, text))


def _generation(message: AIMessage, text: str) -> Generation | None:
    """The turn as it was written, if the message still says the same."""
    data = message.additional_kwargs.get(GENERATION_KEY)
    if not isinstance(data, Mapping) or not isinstance(data.get("text"), str):
        return None
    written, calls = parse_output(data["text"])
    good = [(c.name, c.arguments) for c in calls if c.arguments is not None]
    said = [(c["name"], c["args"]) for c in message.tool_calls]
    bad = sum(c.arguments is None for c in calls)
    if written != text or good != said or bad != len(message.invalid_tool_calls):
        return None
    return Generation(
        text=data["text"],
        token_ids=tuple(data.get("token_ids") or ()),
        tokenizer=str(data.get("tokenizer") or ""),
    )


def _text(content: Any, where: str, *, ignore: Sequence[str] = ()) -> str:
    """Text of a content field: parts joined by a newline, as Granite's template joins them."""
    if isinstance(content, str):
        return content
    parts = []
    for i, block in enumerate(content):
        kind = block.get("type", "text") if isinstance(block, Mapping) else "text"
        if kind in ignore:
            continue
        text = block.get("text") if isinstance(block, Mapping) else block
        if kind not in ("text", "text-plain") or not isinstance(text, str):
            raise MessageError(
                f"{where}.content[{i}] is a block of type {kind!r:.100}"
                f"{' without text' if kind.startswith('text') else ''}; only text "
                '({"type": "text", "text": ...}) can be shown to a text model'
            )
        parts.append(text)
    return "\n".join(filter(None, parts))


def _to_langchain(message: Message) -> BaseMessage:
    match message:
        case SystemMessage(content):
            return LangChainSystemMessage(content)
        case UserMessage(content):
            return HumanMessage(content)
        case ToolMessage(content, tool_call_id, name):
            return LangChainToolMessage(content, tool_call_id=tool_call_id, name=name or None)
    generation = message.generation
    return AIMessage(
        message.content,
        tool_calls=[
            tool_call(name=call.name, args=dict(call.arguments), id=call.id)
            for call in message.tool_calls
            if not isinstance(call.arguments, str)
        ],
        invalid_tool_calls=[
            invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=None)
            for call in message.tool_calls
            if isinstance(call.arguments, str)
        ],
        additional_kwargs={GENERATION_KEY: generation_to_dict(generation)} if generation else {},
    )
