"""Tracing: OpenTelemetry spans and metrics of runs, by the conventions for generative AI.

Needs the extra ``tracing``. Nothing of OpenTelemetry is imported before tracing is asked for::

    from agentkit.tracing import instrument

    instrument()  # every agent of this program, with the program's own providers

or for one agent: ``Agent(tracing=Tracing(tracer_provider=...))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.tracing.current import conversation, instrument, uninstrument
    from agentkit.tracing.file import OTLPFileExporter
    from agentkit.tracing.reading import SpanNode, read_traces
    from agentkit.tracing.tracer import Tracing

_HOMES = {
    "OTLPFileExporter": ".file",
    "SpanNode": ".reading",
    "Tracing": ".tracer",
    "conversation": ".current",
    "instrument": ".current",
    "read_traces": ".reading",
    "uninstrument": ".current",
}

__all__ = [
    "OTLPFileExporter",
    "SpanNode",
    "Tracing",
    "conversation",
    "instrument",
    "read_traces",
    "uninstrument",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
