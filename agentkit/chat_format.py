"""The text form of a conversation: Granite 4.0's chat format, and ChatML around the same text.

The format is that of the chat template that ships with ``ibm-granite/granite-4.0-*`` on the
hub; the renderer gives the same text byte for byte. It is append-only: a longer conversation's
text begins with the text of the shorter one, so an engine only has to read what is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentkit.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolMessage,
    UserMessage,
    normalize_messages,
)
from agentkit.prompt import Prompt, PromptPart
from agentkit.retrieval import Document
from agentkit.tools import ToolDefinition

__all__ = [
    "CHATML",
    "GRANITE",
    "TOOL_CALL_END",
    "TOOL_CALL_START",
    "ChatFormat",
    "PromptBuilder",
    "PromptFormat",
    "system_sections",
]

TOOL_CALL_START = "<tool_call>"
"""Opens a tool call in the model's output."""
TOOL_CALL_END = "</tool_call>"
"""Closes a tool call in the model's output."""

_TOOLS_HEAD = (
    "You are a helpful assistant with access to the following tools. You may call one or more "
    "tools to assist with the user query.\n\nYou are provided with function signatures within "
    "<tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each tool call, return a json object with function name and arguments "
    'within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>. If a tool does not exist in the provided '
    "list of tools, notify the user that you do not have the ability to fulfill the request."
)
_DOCUMENTS_HEAD = (
    "You are a helpful assistant with access to the following documents. You may use one or more "
    "documents to assist with the user query.\n\nYou are given a list of documents within "
    "<documents></documents> XML tags:\n<documents>"
)
_DOCUMENTS_TAIL = (
    "\n</documents>\n\nWrite the response to the user's input by strictly aligning with the facts "
    "in the provided documents. If the information needed to answer the question is not "
    "available in the documents, inform the user that the question cannot be answered based on "
    "the available data."
)
_DEFAULT_SYSTEM = (
    "You are a helpful assistant. Please ensure responses are professional, accurate, and safe."
)

ToolLike = ToolDefinition | Mapping[str, Any]
DocumentLike = Document | Mapping[str, Any]
MessageLike = Message | Mapping[str, Any]


class PromptFormat(Protocol):
    """Anything that renders a conversation to a prompt."""

    def render(
        self,
        messages: Iterable[MessageLike],
        *,
        tools: Sequence[ToolLike] | None = None,
        documents: Sequence[DocumentLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render a conversation; see :meth:`ChatFormat.render`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """The delimiters around roles and turns; everything between them is Granite's."""

    name: str
    """What the format is called."""
    role_start: str
    """Stands before a role's name."""
    role_end: str
    """Stands between a role's name and the content."""
    turn_end: str
    """Stands after the content; also what the model writes to end its turn."""
    tool_response_lead: str = ""
    """Stands before the first tool response of a turn."""
    default_system: str = _DEFAULT_SYSTEM
    """System text where the conversation gives none and there are no tools or documents."""

    def render(
        self,
        messages: str | Iterable[MessageLike],
        *,
        tools: Sequence[ToolLike] | None = None,
        documents: Sequence[DocumentLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render a conversation.

        Args:
            messages: The conversation: messages or OpenAI dictionaries; text is one user turn.
            tools: OpenAI function definitions, shown in this order, keys as they come.
            documents: For the documents section; mappings are shown as they are.
            add_generation_prompt: End with the opening of the assistant's turn.

        Raises:
            MessageError: A message has an unknown role or content that is not text.
        """
        builder = PromptBuilder(self, tools=tools, documents=documents)
        builder.extend(messages)
        return builder.prompt(add_generation_prompt=add_generation_prompt)


class PromptBuilder:
    """Renders a conversation message by message; what is rendered never changes.

    Args:
        chat_format: The delimiters.
        tools: As for :meth:`ChatFormat.render`.
        documents: As for :meth:`ChatFormat.render`.
    """

    def __init__(
        self,
        chat_format: ChatFormat,
        *,
        tools: Sequence[ToolLike] | None = None,
        documents: Sequence[DocumentLike] | None = None,
    ) -> None:
        self._format = chat_format
        self._sections = system_sections(tools or (), documents or ())
        self._parts: list[PromptPart] = []
        self._empty = True
        # Consecutive tool messages share one turn, which closes when another role begins.
        self._in_tool_turn = False

    def extend(self, messages: str | Iterable[MessageLike]) -> None:
        """Append messages."""
        for message in normalize_messages(messages):
            self._append(message)

    def prompt(self, *, add_generation_prompt: bool = True) -> Prompt:
        """The prompt so far. More messages may be appended afterwards."""
        parts = list(self._parts)
        if self._empty:
            parts += self._system_turn(None)
        if self._in_tool_turn:
            parts.append(self._end_of_turn())
        if add_generation_prompt:
            parts.append(self._start_of_turn("assistant"))
        return Prompt(tuple(parts))

    def _append(self, message: Message) -> None:
        if self._empty:
            self._empty = False
            if isinstance(message, SystemMessage):
                self._parts += self._system_turn(message.content)
                return
            self._parts += self._system_turn(None)
        if isinstance(message, ToolMessage):
            self._append_tool_response(message)
            return
        if self._in_tool_turn:
            self._parts.append(self._end_of_turn())
            self._in_tool_turn = False
        match message:
            case SystemMessage(content):
                self._parts += self._turn("system", PromptPart(content))
            case UserMessage(content):
                self._parts += self._turn("user", PromptPart(content, trusted=False))
            case AssistantMessage():
                self._parts += self._turn("assistant", *_assistant_parts(message))

    def _append_tool_response(self, message: ToolMessage) -> None:
        if not self._in_tool_turn:
            self._parts.append(self._start_of_turn("user"))
            lead = self._format.tool_response_lead
            self._in_tool_turn = True
        else:
            lead = "\n"
        self._parts += (
            PromptPart(f"{lead}<tool_response>\n"),
            PromptPart(message.content, trusted=False),
            PromptPart("\n</tool_response>"),
        )

    def _system_turn(self, system: str | None) -> list[PromptPart]:
        sections = list(self._sections)
        if system is not None and sections:
            # As in the template, also where the system text is empty.
            sections.insert(0, PromptPart(f"{system}\n\n"))
        elif system:
            sections = [PromptPart(system)]
        return self._turn("system", *(sections or [PromptPart(self._format.default_system)]))

    def _turn(self, role: str, *content: PromptPart) -> list[PromptPart]:
        return [self._start_of_turn(role), *content, self._end_of_turn()]

    def _start_of_turn(self, role: str) -> PromptPart:
        return PromptPart(f"{self._format.role_start}{role}{self._format.role_end}")

    def _end_of_turn(self) -> PromptPart:
        return PromptPart(f"{self._format.turn_end}\n")


def system_sections(
    tools: Sequence[ToolLike], documents: Sequence[DocumentLike]
) -> list[PromptPart]:
    """The tools section and the documents section of the system text.

    Tool definitions and documents are JSON that others wrote, so they are untrusted parts.
    """
    sections: list[PromptPart] = []
    if tools:
        sections.append(PromptPart(_TOOLS_HEAD))
        for tool in tools:
            line = tool.to_openai() if isinstance(tool, ToolDefinition) else tool
            sections += (PromptPart("\n"), PromptPart(_json(line), trusted=False))
        sections.append(PromptPart(_TOOLS_TAIL))
    if documents:
        if tools:
            sections.append(PromptPart("\n\n"))
        sections.append(PromptPart(_DOCUMENTS_HEAD))
        for document in documents:
            line = document.to_prompt() if isinstance(document, Document) else document
            sections += (PromptPart("\n"), PromptPart(_json(line), trusted=False))
        sections.append(PromptPart(_DOCUMENTS_TAIL))
    return sections


def _assistant_parts(message: AssistantMessage) -> list[PromptPart]:
    if message.generation is not None:
        # What the model wrote, as it wrote it: only so do its cached keys and values stay valid.
        return [PromptPart(message.generation.text, trusted=False, generation=message.generation)]
    parts = [PromptPart(message.content, trusted=False)]
    for i, call in enumerate(message.tool_calls):
        lead = "\n" if i or message.content else ""
        parts += (
            PromptPart(f"{lead}{TOOL_CALL_START}\n"),
            PromptPart(f'{{"name": "{call.name}", "arguments": {call.arguments_json()}}}', False),
            PromptPart(f"\n{TOOL_CALL_END}"),
        )
    return parts


def _json(value: Any) -> str:
    # The settings of transformers' ``tojson`` filter: non-ASCII kept, keys in their order.
    return json.dumps(value, ensure_ascii=False)


GRANITE = ChatFormat(
    name="granite",
    role_start="<|start_of_role|>",
    role_end="<|end_of_role|>",
    turn_end="<|end_of_text|>",
    tool_response_lead="\n",
)
"""IBM Granite 4.0, as in ``ibm-granite/granite-4.0-1b``."""

CHATML = ChatFormat(
    name="chatml",
    role_start="<|im_start|>",
    role_end="\n",
    turn_end="<|im_end|>",
)
"""ChatML delimiters (SmolLM2, Qwen) around Granite's system text."""
