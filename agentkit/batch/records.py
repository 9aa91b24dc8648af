"""What a batch writes of each line: results and errors, in the form that the line has."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from agentkit.messages import AssistantMessage, message_to_dict
from agentkit.models.base import ModelResponse, Usage
from agentkit.result import RunResult

__all__ = ["Form", "error_record", "run_record", "turn_record"]

Form: TypeAlias = Literal["own", "openai"]
"""The form of a line, and of its result."""


def run_record(line_id: str, form: Form, result: RunResult) -> dict[str, Any]:
    """The record of an agent's run."""
    if form == "openai":
        reason = "length" if result.stop_reason in ("length", "max_tokens") else "stop"
        message = AssistantMessage(result.output)
        return _completion(line_id, result.run_id, result.model, message, reason, result.usage)
    return {
        "id": line_id,
        "output": result.output,
        "stop_reason": result.stop_reason,
        "model": result.model,
        "usage": _usage(result.usage),
        "steps": len(result.steps),
        "calls": [
            {
                "name": record.call.name,
                "arguments": record.call.arguments,
                "status": record.status,
                "observation": record.observation,
            }
            for record in result.calls
        ],
        "sources": [
            {"source": hit.document.source or str(hit.document.doc_id), "score": float(hit.score)}
            for hit in result.sources
        ],
        "seconds": round(result.seconds, 3),
        "error": None,
    }


def turn_record(line_id: str, model: str, response: ModelResponse) -> dict[str, Any]:
    """The record of a single turn, whose calls are the caller's to run."""
    return _completion(
        line_id,
        uuid.uuid4().hex,
        model,
        response.to_message(),
        {"stop_string": "stop"}.get(response.finish_reason, response.finish_reason),
        response.usage,
    )


def error_record(
    line_id: str, form: Form, *, code: str, message: str, status: int
) -> dict[str, Any]:
    """The record of a line that gave no result.

    Args:
        line_id: Of the line.
        form: Of the line.
        code: What went wrong, in one word.
        message: What, where and what to do.
        status: The HTTP status that a server would have given.
    """
    error = {"code": code, "message": message}
    if form == "own":
        return {"id": line_id, "output": None, "error": error}
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {**error, "type": kind, "param": None}}
    return _openai(line_id, uuid.uuid4().hex, status, body)


def _completion(
    line_id: str,
    request_id: str,
    model: str,
    message: AssistantMessage,
    reason: str,
    usage: Usage,
) -> dict[str, Any]:
    shown = message_to_dict(message, generation=False)
    for call, source in zip(shown.get("tool_calls", ()), message.tool_calls, strict=False):
        call["function"]["arguments"] = source.arguments_json()
    if shown.get("tool_calls") and not shown["content"]:
        shown["content"] = None
    body = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": shown, "finish_reason": reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.generated_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.reused_tokens},
        },
    }
    return _openai(line_id, request_id, 200, body)


def _openai(line_id: str, request_id: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"batch_req_{request_id}",
        "custom_id": line_id,
        "response": {"status_code": status, "request_id": request_id, "body": body},
        "error": None,
    }


def _usage(usage: Usage) -> dict[str, int]:
    names: Sequence[str] = ("prompt_tokens", "generated_tokens", "reused_tokens")
    return {name: getattr(usage, name) for name in names}
