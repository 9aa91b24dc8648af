"""Loading models, telling whether the server is ready, and ending well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from agentkit.errors import AgentkitError
from agentkit.models.base import Model
from agentkit.server.limits import Gate
from agentkit.server.sending import JSONReply

__all__ = ["Lifecycle", "router"]

logger = logging.getLogger("agentkit.server")


class Lifecycle:
    """Where a server stands between its start and its end.

    Args:
        models: To load when the server starts.
        gate: Shut when the server is about to end.
    """

    def __init__(self, models: Sequence[Model], gate: Gate) -> None:
        self._models = models
        self._gate = gate
        self._loading: asyncio.Task[None] | None = None
        self.loaded = False
        """All models are in memory."""
        self.failure = ""
        """Why a model could not be loaded."""

    @property
    def draining(self) -> bool:
        """Nothing new is begun; what runs goes on."""
        return self._gate.draining

    @property
    def idle(self) -> bool:
        """Nothing is at work."""
        return self._gate.running == 0 and self._gate.queued == 0

    def start(self) -> None:
        """Begin to load the models; also of an application that was ended and starts again."""
        self._gate.draining = False
        self._loading = asyncio.create_task(self._load())

    def drain(self) -> None:
        """Begin nothing new."""
        self._gate.draining = True

    async def stop(self) -> None:
        """The server ends."""
        self.drain()
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)

    async def _load(self) -> None:
        for model in self._models:
            # Models elsewhere, and those of tests, have nothing to load.
            load: Any = getattr(model, "load", None)
            try:
                if load is not None:
                    await asyncio.to_thread(load)
            except AgentkitError as error:
                self.failure = str(error)
                logger.error("model %r cannot be loaded: %s", model.name, error)
                return
        self.loaded = True


router = APIRouter(tags=["operations"])


@router.get("/health", summary="Whether the server is alive")
async def health() -> JSONReply:
    """Answers as long as the process works at all."""
    return JSONReply({"status": "ok"})


@router.get("/ready", summary="Whether the server takes requests")
async def ready(request: Request) -> JSONReply:
    """503 until the model is loaded, and once the server is about to end."""
    lifecycle: Lifecycle = request.app.state.agentkit.lifecycle
    if lifecycle.draining:
        status = "draining"
    elif lifecycle.failure:
        status = "failed"
    else:
        status = "ready" if lifecycle.loaded else "loading"
    return JSONReply({"status": status}, status_code=200 if status == "ready" else 503)
