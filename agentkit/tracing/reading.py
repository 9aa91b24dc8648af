"""Reading traces back from files of OTLP JSON, ours and those of other exporters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.errors import UserError

__all__ = ["SpanNode", "read_traces"]


@dataclass(slots=True, kw_only=True)
class SpanNode:
    """A span with those below it."""

    trace_id: str
    """Of the trace."""
    span_id: str
    """Its own."""
    parent_id: str
    """Of the span above it; empty for a root. One that names a missing span is a root, too."""
    name: str
    """Such as ``execute_tool add``."""
    start: float
    """Seconds since 1970."""
    end: float
    """Likewise."""
    attributes: Mapping[str, Any]
    """By name."""
    failed: bool = False
    """Whether it ended with an error."""
    message: str = ""
    """What its status says."""
    events: tuple[tuple[str, float, Mapping[str, Any]], ...] = ()
    """What happened in it: name, time, attributes."""
    children: list[SpanNode] = field(default_factory=list)
    """The spans below it, by their beginning."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.end - self.start)

    def walk(self) -> Iterator[SpanNode]:
        """The span and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def read_traces(path: str | Path) -> list[SpanNode]:
    """The traces of a file, as the spans at their tops, by their beginning.

    A torn last line, of a process that was killed or is writing, is passed over.

    Raises:
        UserError: The file is missing, or another line of it is not OTLP JSON.
    """
    spans: dict[tuple[str, str], SpanNode] = {}
    for span in _spans(Path(path)):
        spans[span.trace_id, span.span_id] = span
    roots: list[SpanNode] = []
    for span in sorted(spans.values(), key=lambda s: (s.start, s.end)):
        parent = spans.get((span.trace_id, span.parent_id)) if span.parent_id else None
        (roots if parent is None or parent is span else parent.children).append(span)
    return roots


def _spans(path: Path) -> Iterator[SpanNode]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    data = json.loads(line)
                    yield from [
                        _node(span)
                        for resource in data["resourceSpans"]
                        for scope in resource.get("scopeSpans", ())
                        for span in scope.get("spans", ())
                    ]
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    # Also where the writer came back: it began a line of its own.
                    if isinstance(error, ValueError) and line.startswith(b'{"resourceSpans"'):
                        continue
                    raise UserError(
                        f"{path}, line {number}: not a line of OTLP JSON spans; agentkit writes "
                        "such files with `agentkit ask --trace FILE` and Tracing.to_file"
                    ) from error
    except OSError as error:
        raise UserError(f"the trace {path} cannot be read: {error.strerror or error}") from error


def _node(data: Mapping[str, Any]) -> SpanNode:
    status = data.get("status") or {}
    return SpanNode(
        trace_id=str(data["traceId"]),
        span_id=str(data["spanId"]),
        parent_id=str(data.get("parentSpanId") or ""),
        name=str(data["name"]),
        start=int(data["startTimeUnixNano"]) / 1e9,
        end=int(data["endTimeUnixNano"]) / 1e9,
        attributes=_attributes(data.get("attributes")),
        failed=status.get("code") in (2, "STATUS_CODE_ERROR"),
        message=str(status.get("message") or ""),
        events=tuple(
            (
                str(event["name"]),
                int(event.get("timeUnixNano", 0)) / 1e9,
                _attributes(event.get("attributes")),
            )
            for event in data.get("events") or ()
        ),
    )


def _attributes(items: Any) -> dict[str, Any]:
    return {str(item["key"]): _value(item.get("value") or {}) for item in items or ()}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, found in value.items():
        match kind:
            case "intValue":
                return int(found)
            case "doubleValue":
                return float(found)
            case "arrayValue":
                return [_value(item) for item in found.get("values") or ()]
            case "kvlistValue":
                return _attributes(found.get("values"))
            case _:
                return found
    return None
