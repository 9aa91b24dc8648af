"""What the routes of one server share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request

from agentkit.models.base import Model
from agentkit.server.auth import Caller
from agentkit.server.limits import Gate, RateLimits
from agentkit.server.metrics import Metrics
from agentkit.server.options import ServerOptions
from agentkit.server.sending import Watch

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.server.conversations import Conversations
    from agentkit.server.embeddings import EmbeddingService
    from agentkit.server.generations import Generations
    from agentkit.server.lifecycle import Lifecycle
    from agentkit.server.paused import PausedRuns

__all__ = ["Exchange", "ServerContext", "exchange"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """What the routes of one server share; ``app.state.agentkit``."""

    options: ServerOptions
    """How the server is set up."""
    model: Model | None
    """What answers ``/v1/chat/completions``."""
    agents: Mapping[str, Agent]
    """Agents by name."""
    embeddings: EmbeddingService | None
    """What answers ``/v1/embeddings``."""
    gate: Gate
    """Places for requests at work."""
    rates: RateLimits
    """Of callers."""
    metrics: Metrics
    """Figures."""
    lifecycle: Lifecycle
    """Loading and ending."""
    paused: PausedRuns
    """Runs that wait for approval."""
    generations: Generations
    """Turns of late, with their tokens."""
    conversations: Conversations
    """What has been said with the agents, for the page."""
    deps: Callable[[Request], Any] | None = None
    """Makes the ``deps`` of a run."""
    started: int = field(default_factory=lambda: int(time.time()))
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that is let in, with all that answering it needs."""

    request: Request
    """The request."""
    server: ServerContext
    """What routes share."""
    caller: Caller
    """Who asks."""
    watch: Watch
    """Notices if the client goes or the time is over."""
    arrived: float
    """When it came, by :func:`time.perf_counter`."""


async def exchange(request: Request) -> Exchange:
    """A dependency of the routes that do work: the request is counted against its limits.

    Raises:
        ApiError: 429: the caller has used up what it may use.
    """
    server: ServerContext = request.app.state.agentkit
    caller: Caller = request.scope["agentkit.caller"]
    server.rates.admit(caller)
    return Exchange(
        request,
        server,
        caller,
        Watch(request.receive, server.options.request_timeout),
        request.scope["agentkit.arrived"],
    )
