"""Chat templates that come with a tokenizer: using them, and comparing ours with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from agentkit.chat_format import (
    CHATML,
    GRANITE,
    ChatFormat,
    DocumentLike,
    MessageLike,
    PromptFormat,
    ToolLike,
    system_sections,
)
from agentkit.errors import ModelLoadError
from agentkit.messages import message_to_dict, normalize_messages
from agentkit.prompt import Prompt, PromptPart
from agentkit.retrieval import Document
from agentkit.tools import ToolDefinition

__all__ = [
    "TemplateMismatchWarning",
    "TokenizerTemplate",
    "pick_format",
    "template_differences",
    "warn_of_differences",
]


class TemplateMismatchWarning(UserWarning):
    """Our rendering of a prompt differs from what the model's own chat template gives."""


class TokenizerTemplate:
    """A prompt format that runs a tokenizer's own chat template.

    Where the template has no place for tools or documents, their sections stand in the system
    text, as in Granite's format. All text counts as trusted, since a template gives no account
    of where its pieces come from.

    Args:
        tokenizer: A tokenizer of transformers with a ``chat_template``.
    """

    def __init__(self, tokenizer: Any) -> None:
        template = tokenizer.chat_template
        if not template:
            raise ModelLoadError("this tokenizer has no chat template; pass chat_format=CHATML")
        self._tokenizer = tokenizer
        if isinstance(template, dict):
            template = template.get("tool_use") or template.get("default") or ""
        self._shows_tools = "tools" in template
        self._shows_documents = "documents" in template

    def render(
        self,
        messages: str | Iterable[MessageLike],
        *,
        tools: Sequence[ToolLike] | None = None,
        documents: Sequence[DocumentLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render a conversation; see :meth:`agentkit.chat_format.ChatFormat.render`."""
        dicts = [message_to_dict(m, generation=False) for m in normalize_messages(messages)]
        missing_tools = () if self._shows_tools else tools or ()
        missing_documents = () if self._shows_documents else documents or ()
        extra = "".join(p.text for p in system_sections(missing_tools, missing_documents))
        if extra and dicts and dicts[0]["role"] == "system":
            dicts[0] = {**dicts[0], "content": f"{dicts[0]['content']}\n\n{extra}"}
        elif extra:
            dicts.insert(0, {"role": "system", "content": extra})
        text = self._tokenizer.apply_chat_template(
            dicts,
            tools=[_tool(t) for t in tools or ()] or None,
            documents=[_document(d) for d in documents or ()] or None,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
        )
        return Prompt((PromptPart(text),))


def pick_format(tokenizer: Any) -> PromptFormat:
    """The format that a tokenizer's delimiters belong to, or its own chat template.

    Raises:
        ModelLoadError: There is neither.
    """
    added = tokenizer.get_added_vocab()
    for chat_format in (GRANITE, CHATML):
        if chat_format.role_start in added:
            return chat_format
    return TokenizerTemplate(tokenizer)


def template_differences(tokenizer: Any, chat_format: ChatFormat) -> list[str]:
    """Compare our rendering with the tokenizer's template over conversations of every form.

    Returns:
        One sentence for each form that differs, naming the first differing character.
    """
    template = TokenizerTemplate(tokenizer)
    found = []
    for name, case in _PROBES.items():
        ours, theirs = (f.render(**case).text for f in (chat_format, template))
        if ours == theirs:
            continue
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )
        found.append(
            f"{name}: from character {at} the template has {theirs[at : at + 40]!r} "
            f"and agentkit {ours[at : at + 40]!r}"
        )
    return found


def warn_of_differences(tokenizer: Any, chat_format: PromptFormat, *, model: str) -> None:
    """Warn, once per model, if Granite prompts would differ from the model's own template."""
    if chat_format is not GRANITE or not tokenizer.chat_template:
        return
    found = template_differences(tokenizer, GRANITE)
    if found:
        warnings.warn(
            f"the chat template of {model} differs from agentkit's Granite format, so its answers "
            "may suffer; update agentkit, or pass chat_format=TokenizerTemplate(tokenizer) to "
            "follow the template. " + " | ".join(found),
            TemplateMismatchWarning,
            stacklevel=2,
        )


def _tool(tool: ToolLike) -> dict[str, Any]:
    return tool.to_openai() if isinstance(tool, ToolDefinition) else dict(tool)


def _document(document: DocumentLike) -> dict[str, Any]:
    return document.to_prompt() if isinstance(document, Document) else dict(document)


_USER = {"role": "user", "content": "Wie spät ist es?"}
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "now", "arguments": {"tz": "CET"}},
}
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": 'The time, "now"',
            "parameters": {"type": "object", "properties": {"tz": {"type": "string"}}},
        },
    }
]
_DOCUMENTS = [{"doc_id": 1, "title": "Clock", "text": "It is <late>.\nÜber", "source": "kb"}]
_PROBES: dict[str, dict[str, Any]] = {
    "a user turn": {"messages": [_USER]},
    "system text": {"messages": [{"role": "system", "content": "Be terse."}, _USER]},
    "tools": {"messages": [_USER], "tools": _TOOLS},
    "documents": {"messages": [_USER], "documents": _DOCUMENTS},
    "system text, tools and documents": {
        "messages": [{"role": "system", "content": "Be terse."}, _USER],
        "tools": _TOOLS,
        "documents": _DOCUMENTS,
    },
    "calls and their results": {
        "messages": [
            _USER,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [_CALL, _CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
            {"role": "tool", "tool_call_id": "call_1", "content": "12:01"},
            {"role": "assistant", "content": "Noon."},
            _USER,
        ],
        "tools": _TOOLS,
    },
}
