"""``--trace FILE``: recording what a command does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentkit.errors import UserError

__all__ = ["tracing_to"]


@contextmanager
def tracing_to(file: Path | None, *, content: bool) -> Iterator[None]:
    """Trace every run within the block into a file.

    Args:
        file: Where to; nothing is traced without one.
        content: Also what was said.

    Raises:
        UserError: The file cannot be written, or content is wanted without a file.
        MissingExtraError: OpenTelemetry is not installed.
    """
    if file is None:
        if content:
            raise UserError("--trace-content needs --trace FILE")
        yield
        return
    from agentkit.tracing import Tracing, instrument, uninstrument
    from agentkit.tracing.file import file_provider

    provider = file_provider(file)
    # So that spans which tools open for themselves are recorded as well.
    from opentelemetry import trace

    trace.set_tracer_provider(provider)
    instrument(Tracing(tracer_provider=provider, capture_content=content))
    try:
        yield
    finally:
        uninstrument()
        provider.shutdown()
