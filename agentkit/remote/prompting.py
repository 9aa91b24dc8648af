"""Conversations in OpenAI's form, for servers that know of tools and for those that do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.chat_format import TOOL_CALL_END, TOOL_CALL_START, system_sections
from agentkit.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolMessage,
    message_to_dict,
)
from agentkit.retrieval import Document
from agentkit.tools import ToolDefinition

__all__ = ["native_messages", "text_messages"]


def native_messages(
    messages: Sequence[Message], documents: Sequence[Document]
) -> list[dict[str, Any]]:
    """The conversation; calls and their results in the fields that OpenAI has for them.

    Args:
        messages: To show.
        documents: Shown at the end of the system text.
    """
    return [_native(message) for message in _with_sections(messages, (), documents)]


def text_messages(
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition],
    documents: Sequence[Document],
) -> list[dict[str, Any]]:
    """The conversation as plain text; tools, calls and results as Granite's format writes them.

    Args:
        messages: To show.
        tools: Shown in the system text.
        documents: Likewise.
    """
    shown: list[dict[str, Any]] = []
    after_result = False
    for message in _with_sections(messages, tools, documents):
        if isinstance(message, ToolMessage):
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if after_result:
                shown[-1]["content"] += f"\n{text}"
            else:
                shown.append({"role": "user", "content": text})
        elif isinstance(message, AssistantMessage):
            shown.append({"role": "assistant", "content": _turn_text(message)})
        else:
            shown.append(message_to_dict(message))
        after_result = isinstance(message, ToolMessage)
    return shown


def _with_sections(
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition],
    documents: Sequence[Document],
) -> Sequence[Message]:
    sections = "".join(part.text for part in system_sections(tools, documents))
    if not sections:
        return messages
    if messages and isinstance(messages[0], SystemMessage):
        return [SystemMessage(f"{messages[0].content}\n\n{sections}"), *messages[1:]]
    return [SystemMessage(sections), *messages]


def _native(message: Message) -> dict[str, Any]:
    data = message_to_dict(message, generation=False)
    if isinstance(message, AssistantMessage) and message.tool_calls:
        data["content"] = message.content or None
        for call in data["tool_calls"]:
            call["function"]["arguments"] = _arguments(call["function"]["arguments"])
    return data


def _arguments(value: Mapping[str, Any] | str) -> str:
    """Arguments as text that is JSON: servers parse it to fill their template, and fail if not."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    try:
        if isinstance(json.loads(value), dict):
            return value
    except (ValueError, RecursionError):
        pass
    return json.dumps({"unreadable": value}, ensure_ascii=False)


def _turn_text(message: AssistantMessage) -> str:
    if message.generation is not None:
        return message.generation.text
    text = message.content
    for call in message.tool_calls:
        lead = "\n" if text else ""
        body = f'{{"name": "{call.name}", "arguments": {call.arguments_json()}}}'
        text += f"{lead}{TOOL_CALL_START}\n{body}\n{TOOL_CALL_END}"
    return text
