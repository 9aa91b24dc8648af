"""What an agent's tracing is made of: a tracer, instruments, and what may be told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentkit.redaction import Redactor
    from agentkit.tracing.spans import RunSpan

__all__ = ["Tracing"]

_TOKENS = tuple(4**i for i in range(14))
_OPERATION_S = tuple(0.01 * 2**i for i in range(14))
_AGENT_S = tuple(0.1 * 2**i for i in range(13))


class Tracing:
    """Spans and metrics of agents' runs.

    Each run is a span ``invoke_agent NAME``; below it are ``chat MODEL`` for each turn of the
    model, ``execute_tool NAME`` for each call that ran, and ``retrieval`` for a search. Spans
    that a tool opens are below its own. Names and attributes are those of OpenTelemetry's
    conventions for generative AI; what these do not know is under ``agentkit.``.

    Args:
        tracer_provider: Makes the spans; OpenTelemetry's global one if not given.
        meter_provider: Likewise, for the metrics.
        capture_content: Also put into the spans what was said: messages, arguments, results and
            the texts of errors. Secrets known to the agent are blotted out there as elsewhere.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingExtraError(
                "tracing needs OpenTelemetry; install it with "
                "`pip install agentkit-granite[tracing]`"
            ) from error
        from agentkit import __version__

        self.capture_content = capture_content
        """Whether spans hold what was said."""
        self.tracer = trace.get_tracer("agentkit", __version__, tracer_provider)
        """Opens the spans."""
        self.provider = tracer_provider
        """Whose tracer that is; ``None`` for the global one."""
        meter = metrics.get_meter("agentkit", __version__, meter_provider)

        def seconds(name: str, text: str, buckets: tuple[float, ...] = _OPERATION_S) -> Any:
            return meter.create_histogram(
                name, unit="s", description=text, explicit_bucket_boundaries_advisory=buckets
            )

        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        """Tokens of each turn, by ``gen_ai.token.type``."""
        self.token_kinds = meter.create_counter(
            "agentkit.tokens",
            unit="{token}",
            description="Tokens prefilled, reused, sampled, forced and found by lookup.",
        )
        """Tokens by ``agentkit.token.kind``."""
        self.turn_seconds = seconds("gen_ai.client.operation.duration", "GenAI operation duration.")
        """Each turn of a model."""
        self.first_seconds = seconds(
            "gen_ai.client.operation.time_to_first_chunk", "Time to the first piece of a turn."
        )
        """Until a turn's first event."""
        self.run_seconds = seconds(
            "gen_ai.invoke_agent.duration", "Duration of an agent's run.", _AGENT_S
        )
        """Each run."""
        self.tool_seconds = seconds(
            "gen_ai.execute_tool.duration", "Duration of a single tool execution."
        )
        """Each call that ran."""

    @classmethod
    def to_file(cls, path: str | Path, *, capture_content: bool = False) -> Tracing:
        """Tracing that appends spans to a file, for ``agentkit trace FILE``.

        The provider is :attr:`provider`; spans of your own go to the file, too, if they are made
        with it, or if it is set as the global one.

        Args:
            path: Appended to; one line of OTLP JSON for each span, when it ends.
            capture_content: As for the class.

        Raises:
            MissingExtraError: OpenTelemetry's SDK is not installed.
            UserError: The file cannot be written.
        """
        from agentkit.tracing.file import file_provider

        return cls(tracer_provider=file_provider(path), capture_content=capture_content)

    @contextmanager
    def run(
        self,
        *,
        agent: str,
        model: Any,
        run_id: str,
        redact: Redactor,
        earlier_steps: int,
        conversation: str = "",
    ) -> Iterator[RunSpan]:
        """A span around a run.

        Args:
            agent: The agent's name.
            model: Its model.
            run_id: Of the run.
            redact: Blots out secrets in what is captured.
            earlier_steps: Steps of a part of the run before this one, traced there.
            conversation: That the run belongs to, if it knows.
        """
        from agentkit.tracing.spans import RunSpan

        span = RunSpan(self, agent, model, run_id, redact, earlier_steps, conversation)
        with span.current():
            yield span
