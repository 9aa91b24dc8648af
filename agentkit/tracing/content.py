"""Attributes of spans: requests, usage, and what was said, in the conventions' own forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agentkit.messages import AssistantMessage, Message, SystemMessage, ToolMessage, message_to_dict
from agentkit.models.base import ModelRequest, Timings, Usage
from agentkit.tools import ToolDefinition

__all__ = [
    "as_json",
    "input_content",
    "output_content",
    "request_attributes",
    "timing_attributes",
    "usage_attributes",
]


def request_attributes(request: ModelRequest) -> dict[str, Any]:
    """What a turn was asked for, but for its text."""
    sampling = request.sampling
    found: dict[str, Any] = {
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": float(sampling.temperature),
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": None if sampling.top_k is None else float(sampling.top_k),
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.stop_sequences": list(sampling.stop) or None,
        "agentkit.request.tool_choice": request.tool_choice if request.tools else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def usage_attributes(usage: Usage) -> dict[str, int]:
    """Tokens, by the conventions' names and by ours."""
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.reused_tokens,
        **{f"agentkit.usage.{name}": count for name, count in asdict(usage).items()},
    }


def timing_attributes(timings: Timings) -> dict[str, float]:
    """Seconds inside the model."""
    return {f"agentkit.timings.{name}": seconds for name, seconds in asdict(timings).items()}


def input_content(request: ModelRequest) -> dict[str, str]:
    """What the model was shown."""
    messages = list(request.messages)
    found = {}
    if messages and isinstance(messages[0], SystemMessage):
        parts = [{"type": "text", "content": messages.pop(0).content}]
        found["gen_ai.system_instructions"] = as_json(parts)
    found["gen_ai.input.messages"] = as_json([_message(message) for message in messages])
    if request.tools:
        found["gen_ai.tool.definitions"] = as_json([_definition(tool) for tool in request.tools])
    if request.documents:
        documents = [{"id": str(d.doc_id), "text": d.text} for d in request.documents]
        found["agentkit.request.documents"] = as_json(documents)
    return found


def output_content(messages: Sequence[AssistantMessage], reason: str) -> str:
    """What the model wrote."""
    return as_json([{**_message(message), "finish_reason": reason} for message in messages])


def as_json(value: Any) -> str:
    """JSON text; what it does not know as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _message(message: Message) -> dict[str, Any]:
    role = message_to_dict(message, generation=False)["role"]
    if isinstance(message, ToolMessage):
        part = {
            "type": "tool_call_response",
            "id": message.tool_call_id,
            "response": message.content,
        }
        return {"role": role, "parts": [part]}
    parts: list[dict[str, Any]] = []
    if message.content or not isinstance(message, AssistantMessage):
        parts.append({"type": "text", "content": message.content})
    if isinstance(message, AssistantMessage):
        parts += [
            {"type": "tool_call", "id": c.id, "name": c.name, "arguments": c.arguments}
            for c in message.tool_calls
        ]
    return {"role": role, "parts": parts}


def _definition(tool: ToolDefinition) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
