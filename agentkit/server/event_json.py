"""The events of a run as JSON."""

from __future__ import annotations

import re
from typing import Any

from agentkit.events import (
    AnswerChecked,
    ApprovalRequested,
    CallDelta,
    Event,
    Retrieval,
    Retry,
    Rewind,
    RunFinished,
    StepFinished,
    TextDelta,
    ToolCallStarted,
    ToolResult,
    ToolsSelected,
)
from agentkit.messages import ToolCall, message_to_dict
from agentkit.result import CallRecord, RunResult
from agentkit.server.chat_response import usage_dict

__all__ = ["EVENT_TYPES", "call_to_dict", "event_to_dict", "event_type", "run_to_dict"]

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def event_type(event: type[Event]) -> str:
    """What events of a class are called: ``text_delta`` for :class:`~agentkit.TextDelta`."""
    return _CAPITAL.sub("_", event.__name__).lower()


EVENT_TYPES = tuple(
    event_type(kind)
    for kind in (
        TextDelta,
        CallDelta,
        Retrieval,
        ToolsSelected,
        ApprovalRequested,
        Rewind,
        ToolCallStarted,
        ToolResult,
        Retry,
        StepFinished,
        AnswerChecked,
        RunFinished,
    )
)
"""All of them."""


def event_to_dict(event: Event, *, agent: str) -> dict[str, Any]:
    """An event: its ``type``, and its fields under their own names.

    Args:
        event: Of a run.
        agent: The name under which the agent is served.
    """
    return {"type": event_type(type(event)), **_fields(event, agent)}


def _fields(event: Event, agent: str) -> dict[str, Any]:
    match event:
        case TextDelta(text):
            return {"text": text}
        case AnswerChecked(grounding):
            return {"grounding": grounding.to_dict()}
        case CallDelta(text, index):
            return {"text": text, "index": index}
        case Retrieval(record):
            hits = [hit.to_dict() for hit in record.hits]
            return {"query": record.query, "hits": hits, "seconds": record.seconds}
        case ToolsSelected(names):
            return {"names": list(names)}
        case ApprovalRequested(call) | ToolCallStarted(call):
            return {"call": call_to_dict(call)}
        case Rewind(index, reason, attempt):
            return {"index": index, "reason": reason, "attempt": attempt}
        case ToolResult(record):
            return {"record": _record(record)}
        case Retry(reason, attempt):
            return {"reason": reason, "attempt": attempt}
        case StepFinished(step, messages):
            return {
                "text": step.text,
                "finish_reason": step.finish_reason,
                "usage": usage_dict(step.usage),
                "calls": [_record(record) for record in step.calls],
                "timings": {name: getattr(step.timings, name) for name in step.timings.__slots__},
                "model_seconds": step.model_seconds,
                "tool_seconds": step.tool_seconds,
                "messages": [message_to_dict(m, generation=False) for m in messages],
            }
        case RunFinished(result):
            return {"run": run_to_dict(result, agent=agent)}


def run_to_dict(result: RunResult, *, agent: str) -> dict[str, Any]:
    """A run that is over or waits: what clients look at, and all the rest under ``result``.

    Args:
        result: The run.
        agent: The name under which the agent is served.
    """
    if result.pending:
        status = "requires_approval"
    else:
        status = "completed" if result.stop_reason == "answer" else "incomplete"
    return {
        "id": result.run_id,
        "object": "agent.run",
        "agent": agent,
        "status": status,
        "output": result.output,
        "pending": [call_to_dict(call) for call in result.pending],
        "usage": usage_dict(result.usage),
        "result": result.to_dict(),
    }


def call_to_dict(call: ToolCall) -> dict[str, Any]:
    """A call: ``id``, ``name`` and ``arguments``."""
    arguments = call.arguments if isinstance(call.arguments, str) else dict(call.arguments)
    return {"id": call.id, "name": call.name, "arguments": arguments}


def _record(record: CallRecord) -> dict[str, Any]:
    return {
        "call": call_to_dict(record.call),
        "status": record.status,
        "observation": record.observation,
        "seconds": record.seconds,
        "repairs": list(record.repairs),
        "sources": [hit.to_dict() for hit in record.sources],
        "error": record.error,
    }
