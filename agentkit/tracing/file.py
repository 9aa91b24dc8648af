"""Spans in a file: lines of OTLP JSON, which other tools for OpenTelemetry read, too."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentkit.errors import MissingExtraError, UserError

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
except ImportError as error:
    raise MissingExtraError(
        "traces in files need OpenTelemetry's SDK; install it with "
        "`pip install agentkit-granite[tracing]`"
    ) from error

__all__ = ["OTLPFileExporter", "file_provider"]


class OTLPFileExporter(SpanExporter):
    """Appends spans to a file, a line for each batch, by OTLP's rules for files.

    What is written is with the operating system when ``export`` returns. Several processes may
    append to one file. Spans are written when they end, so a run that is killed leaves those
    that had ended.

    Args:
        path: The file; made if it is not there, readable by its owner only.

    Raises:
        UserError: The file cannot be appended to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            self._handle: int | None = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise UserError(
                f"the trace file {self.path} cannot be written: {error.strerror or error}"
            ) from error
        # A process that was killed may have left half a line; it must not spoil the next one.
        size = os.lseek(self._handle, 0, os.SEEK_END)
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            os.write(self._handle, b"\n")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write spans."""
        line = json.dumps(_lines(spans), ensure_ascii=False, separators=(",", ":")) + "\n"
        data = line.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._handle is None:
                return SpanExportResult.FAILURE
            try:
                while data:
                    data = data[os.write(self._handle, data) :]
            except OSError:
                return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None


def file_provider(path: str | Path) -> TracerProvider:
    """A provider whose spans go to a file as soon as they end.

    Raises:
        UserError: The file cannot be written.
    """
    exporter = OTLPFileExporter(path)
    provider = TracerProvider(resource=Resource.create({"service.name": "agentkit"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def _lines(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    resources: dict[int, dict[str, Any]] = {}
    for span in spans:
        found = resources.setdefault(
            id(span.resource),
            {"resource": {"attributes": _attributes(span.resource.attributes)}, "scopeSpans": {}},
        )
        scope = span.instrumentation_scope
        name, version = (scope.name, scope.version or "") if scope is not None else ("", "")
        group = found["scopeSpans"].setdefault(
            (name, version), {"scope": {"name": name, "version": version}, "spans": []}
        )
        group["spans"].append(_span(span))
    return {
        "resourceSpans": [
            {**r, "scopeSpans": list(r["scopeSpans"].values())} for r in resources.values()
        ]
    }


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.context
    data: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        # 64-bit numbers are text in JSON.
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": span.status.status_code.value},
    }
    if span.parent is not None:
        data["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.status.description:
        data["status"]["message"] = span.status.description
    if span.events:
        data["events"] = [
            {
                "name": event.name,
                "timeUnixNano": str(event.timestamp),
                "attributes": _attributes(event.attributes or {}),
            }
            for event in span.events
        ]
    if span.links:
        data["links"] = [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _attributes(link.attributes or {}),
            }
            for link in span.links
        ]
    return data


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        # JSON has no NaN and no infinity; protobuf's JSON writes them as text.
        plain = value == value and abs(value) != float("inf")
        return {"doubleValue": value if plain else str(value)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}
