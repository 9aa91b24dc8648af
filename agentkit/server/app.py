"""The application: routes, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from agentkit.agent_inputs import as_model
from agentkit.errors import UserError
from agentkit.models.base import Model
from agentkit.server import agents as agent_routes
from agentkit.server import chat, embeddings, lifecycle, metrics, page, sessions
from agentkit.server.context import ServerContext
from agentkit.server.conversations import Conversations, ConversationsInMemory
from agentkit.server.entrance import Doorkeeper, Meter
from agentkit.server.errors import handle_errors
from agentkit.server.generations import Generations
from agentkit.server.limits import Gate, RateLimits
from agentkit.server.options import ServerOptions
from agentkit.server.paused import PausedRuns, RunsInMemory

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit_retrievers.embedding import Embedder

__all__ = ["create_app"]


def create_app(
    model: Model | str | Path | None = None,
    *,
    agents: Mapping[str, Agent] | None = None,
    embedder: Embedder | str | None = None,
    options: ServerOptions | None = None,
    deps: Callable[[Request], Any] | None = None,
    paused: PausedRuns | None = None,
    conversations: Conversations | None = None,
    close_models: bool = True,
) -> FastAPI:
    """Make an application that serves a model and agents; run it with any ASGI server.

    What the routes share is in ``app.state.agentkit``, a
    :class:`~agentkit.server.context.ServerContext`; further routers can be included.

    Args:
        model: What answers ``/v1/chat/completions``, as for :class:`agentkit.Agent`. If not
            given: the model of the first agent; without agents, the default model.
        agents: Agents by the names under which they can be run.
        embedder: What answers ``/v1/embeddings``: an embedder, or the name or folder of a
            sentence-transformers model, which is loaded when it is first asked for.
        options: How clients are treated.
        deps: Makes the ``deps`` of an agent's run out of its HTTP request; may be async.
        paused: Where runs are kept that wait for approval; in memory, if not given.
        conversations: Where the page's conversations are kept; in memory, if not given.
        close_models: Free the models when the application ends.

    Raises:
        UserError: An agent's name cannot stand in a URL.

    Example:
        >>> app = create_app(model="embedded", agents={"support": agent})
    """
    options = options or ServerOptions()
    agents = dict(agents or {})
    for name in agents:
        if not name or any(c in "/?#%" or c.isspace() for c in name):
            raise UserError(f"the agent's name {name!r} cannot stand in a URL; choose another")
    chat_model = next(iter(agents.values())).model if model is None and agents else as_model(model)
    models = list({id(m): m for m in (chat_model, *(a.model for a in agents.values()))}.values())
    gate = Gate(options)
    context = ServerContext(
        options=options,
        model=chat_model,
        agents=agents,
        embeddings=None if embedder is None else embeddings.EmbeddingService(embedder),
        gate=gate,
        rates=RateLimits(options),
        metrics=metrics.Metrics(gate),
        lifecycle=lifecycle.Lifecycle(models, gate),
        paused=paused or RunsInMemory(options.paused_runs, options.paused_seconds),
        generations=Generations(),
        conversations=conversations or ConversationsInMemory(),
        deps=deps,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context.lifecycle.start()
        try:
            yield
        finally:
            await context.lifecycle.stop()
            if context.embeddings is not None:
                context.embeddings.close()
            for served in models if close_models else ():
                await served.aclose()

    return _application(context, lifespan)


def _application(context: ServerContext, lifespan: Any) -> FastAPI:
    from agentkit import __version__

    options = context.options
    app = FastAPI(
        title="agentkit",
        version=__version__,
        lifespan=lifespan,
        # The pages of these load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.agentkit = context
    handle_errors(app)
    # The door is kept by the middleware, before the body is read; this is for the OpenAPI document.
    keyed = [Depends(HTTPBearer(auto_error=False))] if options.api_keys else []
    for router in (chat.router, embeddings.router, agent_routes.router):
        app.include_router(router, dependencies=keyed)
    app.include_router(lifecycle.router)
    if options.page:
        app.include_router(sessions.router, dependencies=keyed)
        app.include_router(page.router)
    if options.metrics != "off":
        app.include_router(metrics.router, dependencies=keyed if options.metrics == "key" else [])
    # From the inside out.
    app.add_middleware(Doorkeeper, options=options, gate=context.gate)
    if options.allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(options.allowed_hosts))
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(Meter, metrics=context.metrics)
    return app
