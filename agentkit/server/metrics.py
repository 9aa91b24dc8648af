"""What the server does, counted for Prometheus."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from agentkit.events import Event, RunFinished
from agentkit.models.base import ModelEvent, ModelResponse, Usage
from agentkit.result import RunResult
from agentkit.server.limits import Gate

__all__ = ["Metrics", "router"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Metrics:
    """The server's figures, in a registry of their own.

    Args:
        gate: Whose queue is shown.
    """

    def __init__(self, gate: Gate) -> None:
        self.registry = CollectorRegistry()
        """Add your own figures here."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"agentkit_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"agentkit_{name}", text, labels, buckets=buckets, registry=self.registry
            )

        self.requests = counter(
            "requests", "Requests answered; 499: the client left.", "method", "route", "status"
        )
        self.request_seconds = histogram(
            "request_seconds", "Time until a request was answered to its end.", _SECONDS, "route"
        )
        self.tokens = counter(
            "tokens",
            "Tokens of finished turns: prefilled, reused, sampled, forced; lookup are of sampled.",
            "kind",
        )
        self.first_token = histogram(
            "time_to_first_token_seconds",
            "From a request's arrival, its waiting included, to the first piece of its answer.",
            _SECONDS,
            "route",
        )
        self.rate = histogram(
            "tokens_per_second", "Of a turn, from its first piece to its end.", _RATES
        )
        self.tool_calls = counter("tool_calls", "Calls by what came of them.", "agent", "outcome")
        self.runs = counter("runs", "Agent runs by why they ended.", "agent", "stop_reason")
        for name, text, value in (
            ("queue_length", "Requests that wait for a place.", lambda: gate.queued),
            ("running", "Requests at work.", lambda: gate.running),
        ):
            Gauge(f"agentkit_{name}", text, registry=self.registry).set_function(value)
        for kind in ("prefilled", "reused", "sampled", "forced", "lookup"):
            self.tokens.labels(kind)  # so that all are there from the start

    def count_usage(self, usage: Usage) -> None:
        """Count the tokens of a turn or a run."""
        for kind in ("prefilled", "reused", "sampled", "forced", "lookup"):
            self.tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens"))

    def count_run(self, agent: str, result: RunResult, *, earlier: int = 0) -> None:
        """Count a run's calls and why it ended.

        Args:
            agent: Its name.
            result: The run.
            earlier: Steps that were counted when the run paused.
        """
        self.runs.labels(agent, result.stop_reason).inc()
        for step in result.steps[earlier:]:
            self.count_usage(step.usage)
        for step in result.steps[max(0, earlier - 1) :]:
            for call in step.calls:
                if call.status != "pending":
                    self.tool_calls.labels(agent, call.status).inc()

    async def timed_turn(
        self, events: AsyncIterator[ModelEvent], *, route: str, arrived: float
    ) -> AsyncIterator[ModelEvent]:
        """A turn's events, measured on the way.

        Args:
            events: Of the model.
            route: Of the request.
            arrived: When the request came, by :func:`time.perf_counter`.
        """
        first: float | None = None
        async with aclosing(events) as stream:  # type: ignore[type-var]
            async for event in stream:
                if first is None:
                    first = time.perf_counter()
                    self.first_token.labels(route).observe(first - arrived)
                if isinstance(event, ModelResponse):
                    self.count_usage(event.usage)
                    seconds = time.perf_counter() - first
                    if seconds > 0 and event.usage.generated_tokens > 1:
                        self.rate.observe((event.usage.generated_tokens - 1) / seconds)
                yield event

    async def timed_run(
        self, events: AsyncIterator[Event], *, route: str, arrived: float
    ) -> AsyncIterator[Event]:
        """A run's events, the first of them measured; see :meth:`timed_turn`."""
        first = True
        async with aclosing(events) as stream:  # type: ignore[type-var]
            async for event in stream:
                if first and not isinstance(event, RunFinished):
                    self.first_token.labels(route).observe(time.perf_counter() - arrived)
                first = False
                yield event


router = APIRouter()


@router.get("/metrics", tags=["operations"], summary="Figures for Prometheus")
async def metrics(request: Request) -> Response:
    """Figures in the text form of Prometheus or OpenMetrics, whichever is asked for."""
    encoder, content_type = choose_encoder(request.headers.get("accept", ""))
    text = encoder(request.app.state.agentkit.metrics.registry)
    return Response(text, headers={"content-type": content_type})
