"""The messages of a conversation, and their OpenAI and JSON forms."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agentkit.errors import MessageError

__all__ = [
    "AssistantMessage",
    "Generation",
    "Message",
    "SystemMessage",
    "ToolCall",
    "ToolMessage",
    "UserMessage",
    "example_call",
    "message_from_dict",
    "message_to_dict",
    "messages_from_dicts",
    "new_call_id",
    "normalize_messages",
]


def new_call_id() -> str:
    """A fresh identifier for a tool call. Granite's format never shows it to the model."""
    return f"call_{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One function call that the model asked for."""

    name: str
    """The function's name."""
    arguments: Mapping[str, Any] | str
    """The arguments object; text where they could not be read as one, shown as it stands."""
    id: str = field(default_factory=new_call_id)
    """Links the call to its :class:`ToolMessage`."""

    def arguments_json(self) -> str:
        """The arguments as prompts show them: JSON with ``", "`` and ``": "``, non-ASCII kept."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The exact text of an assistant turn and its tokens, as a model sampled them.

    With it the prompt repeats a turn as it was written, token for token, so that the KV cache
    that holds it stays valid.
    """

    text: str
    """Decoded text, end-of-turn token not included."""
    token_ids: tuple[int, ...] = ()
    """The tokens, end-of-turn token not included."""
    tokenizer: str = ""
    """Fingerprint of the tokenizer that the ids belong to; others encode the text anew."""


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Instructions from the developer."""

    content: str
    """The instructions."""


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user said."""

    content: str
    """The user's words."""


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the model said and which tools it called."""

    content: str = ""
    """Text outside of tool calls."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls, in the order in which they were written."""
    generation: Generation | None = field(default=None, compare=False, repr=False)
    """The turn exactly as the model wrote it, if a model of ours did."""


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """What a tool gave back."""

    content: str
    """The observation shown to the model."""
    tool_call_id: str = ""
    """The call that it answers."""
    name: str = ""
    """The tool's name; not shown to the model."""


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage
"""Any message of a conversation."""

_ROLES = {
    SystemMessage: "system",
    UserMessage: "user",
    AssistantMessage: "assistant",
    ToolMessage: "tool",
}


def example_call(
    question: str, tool_name: str, arguments: Mapping[str, Any], result: str, answer: str
) -> list[Message]:
    """An exchange that shows a model one use of a tool, for an agent's ``examples``.

    Args:
        question: What a user might ask.
        tool_name: The tool to call for it.
        arguments: How to call it.
        result: What the tool would give back.
        answer: What to answer then.
    """
    call = ToolCall(name=tool_name, arguments=arguments)
    return [
        UserMessage(question),
        AssistantMessage("", (call,)),
        ToolMessage(result, call.id, tool_name),
        AssistantMessage(answer),
    ]


def message_to_dict(message: Message, *, generation: bool = True) -> dict[str, Any]:
    """The message in OpenAI's form.

    Args:
        message: To write.
        generation: Also write what OpenAI's form has no place for (an assistant turn's exact
            text and tokens), so that a saved conversation continues without re-encoding.
    """
    data: dict[str, Any] = {"role": _ROLES[type(message)], "content": message.content}
    if isinstance(message, ToolMessage):
        data["tool_call_id"] = message.tool_call_id
        if message.name:
            data["name"] = message.name
    if isinstance(message, AssistantMessage):
        if message.tool_calls:
            data["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
        if generation and message.generation is not None:
            data["generation"] = {
                "text": message.generation.text,
                "token_ids": list(message.generation.token_ids),
                "tokenizer": message.generation.tokenizer,
            }
    return data


def message_from_dict(data: Mapping[str, Any], *, where: str = "message") -> Message:
    """Read a message in OpenAI's form.

    Args:
        data: ``role`` and ``content``; for assistants ``tool_calls``; for tools
            ``tool_call_id``. Content may be text, a list of text parts, or null.
        where: What to call the message in errors, such as ``messages[3]``.

    Raises:
        MessageError: The role is unknown, or a field has the wrong form.
    """
    if not isinstance(data, Mapping):
        raise MessageError(f"{where} must be an object with a role and content, not {data!r:.100}")
    role = data.get("role")
    content = _text(data.get("content"), where)
    if role in ("system", "developer"):
        return SystemMessage(content)
    if role == "user":
        return UserMessage(content)
    if role == "tool":
        return ToolMessage(
            content, str(data.get("tool_call_id") or ""), str(data.get("name") or "")
        )
    if role == "assistant":
        calls = data.get("tool_calls") or ()
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise MessageError(f"{where}.tool_calls must be a list, not {calls!r:.100}")
        return AssistantMessage(
            content,
            tuple(_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)),
            _generation(data.get("generation"), where),
        )
    raise MessageError(
        f"{where} has the role {role!r}; roles are 'system', 'user', 'assistant' and 'tool'"
    )


def messages_from_dicts(items: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Read a list of messages in OpenAI's form; errors name the index."""
    return [message_from_dict(item, where=f"messages[{i}]") for i, item in enumerate(items)]


def normalize_messages(
    messages: str | Iterable[Message | Mapping[str, Any]],
) -> list[Message]:
    """Accept what callers have at hand: one user text, messages, or OpenAI dictionaries."""
    if isinstance(messages, str):
        return [UserMessage(messages)]
    return [
        item if isinstance(item, Message) else message_from_dict(item, where=f"messages[{i}]")
        for i, item in enumerate(messages)
    ]


def _text(content: Any, where: str) -> str:
    """Text of a content field: parts joined by a newline, as Granite's template joins them."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise MessageError(f"{where}.content must be text or a list of parts, not {content!r:.100}")
    text = ""
    for i, part in enumerate(content):
        piece: Any
        if isinstance(part, str):
            piece = part
        elif isinstance(part, Mapping) and part.get("type") == "text":
            piece = part.get("text")
        else:
            kind = part.get("type") if isinstance(part, Mapping) else part
            raise MessageError(
                f"{where}.content[{i}] is of type {kind!r:.100}; only text parts "
                '({"type": "text", "text": ...}) can be shown to a text model'
            )
        if not isinstance(piece, str):
            raise MessageError(f"{where}.content[{i}].text must be text, not {piece!r:.100}")
        # The template adds the newline only where something stands before it.
        text = f"{text}\n{piece}" if text else piece
    return text


def _call(data: Any, where: str) -> ToolCall:
    function = data.get("function", data) if isinstance(data, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise MessageError(f"{where} needs a function with a name, not {data!r:.100}")
    arguments = function.get("arguments", {})
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping | str):
        raise MessageError(
            f"{where}.function.arguments must be an object or JSON text, not {arguments!r:.100}"
        )
    return ToolCall(
        name=function["name"], arguments=arguments, id=str(data.get("id") or new_call_id())
    )


def _generation(data: Any, where: str) -> Generation | None:
    if data is None:
        return None
    try:
        return Generation(
            text=str(data["text"]),
            token_ids=tuple(int(i) for i in data.get("token_ids", ())),
            tokenizer=str(data.get("tokenizer", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"{where}.generation has the wrong form: {data!r:.100}") from error
