"""What runs in Ray's processes: engines, and how requests find them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from agentkit.cluster.routed_model import EngineDied
from agentkit.cluster.routing import PrefixRouting, RouteKey
from agentkit.models.base import ModelEvent, ModelRequest
from agentkit.models.transformers_model import TransformersModel

__all__ = ["EngineReplica", "HandleDispatch", "PrefixRouter", "RoundRobinRouter"]

_FLUSH_S = 0.01
"""Events that come within this time travel together."""


class EngineReplica:
    """One engine with the model in its memory.

    Args:
        model: As for :class:`agentkit.TransformersModel`.
        options: Further options of that.
        threads: Threads of a forward pass.
    """

    def __init__(self, model: str | None, options: Mapping[str, Any], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._model = TransformersModel(model, **options).load()

    async def stream(
        self, request: ModelRequest, *, route: RouteKey
    ) -> AsyncIterator[list[ModelEvent]]:
        """Write a turn.

        Args:
            request: What is asked for.
            route: For the router, which has seen it by now.
        """
        batch: list[ModelEvent] = []
        sent = 0.0
        async with aclosing(self._model.stream(request)) as events:  # type: ignore[type-var]
            async for event in events:
                batch.append(event)
                # Each message between processes costs about a millisecond.
                if time.perf_counter() - sent >= _FLUSH_S:
                    yield batch
                    batch, sent = [], time.perf_counter()
        yield batch

    async def pid(self, *, route: RouteKey) -> int:
        """The process, for tests that kill it."""
        return os.getpid()

    async def name(self, *, route: RouteKey) -> str:
        """What the model is called."""
        return self._model.name


class HandleDispatch:
    """Sends requests through a handle of Ray Serve's; see :data:`Dispatch`.

    Args:
        handle: Of the engines' deployment.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle.options(stream=True)

    async def __call__(
        self, request: ModelRequest, key: RouteKey
    ) -> AsyncGenerator[ModelEvent, None]:
        response = self._handle.stream.remote(request, route=key)
        done = False
        try:
            async for batch in response:
                for event in batch:
                    yield event
            done = True
        except RayActorError as error:
            raise EngineDied(str(error)) from error
        except RayTaskError as error:
            # What the engine raised, without Ray's wrapping.
            cause = error.cause
            raise cause if isinstance(cause, Exception) else error from None
        finally:
            if not done:
                response.cancel()


class _KnownLoads(RequestRouter):  # type: ignore[misc]
    """A router that ranks all replicas by name and load."""

    def rank(self, pending: PendingRequest | None, loads: Mapping[str, int]) -> list[str]:
        """The order in which replicas are asked."""
        raise NotImplementedError

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """One rank for each replica: Serve takes the first that has room."""
        known = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        loads = {
            name: self.replica_queue_len_cache.get(replica.replica_id) or 0
            for name, replica in known.items()
        }
        return [[known[name]] for name in self.rank(pending_request, loads)]


class PrefixRouter(_KnownLoads):
    """Routes by a prompt's beginning; see :class:`agentkit.cluster.PrefixRouting`."""

    def initialize_state(self, slack: float = 1.25) -> None:
        """Called by Serve with the options."""
        self._routing = PrefixRouting(slack=slack, least=2)

    def rank(self, pending: PendingRequest | None, loads: Mapping[str, int]) -> list[str]:
        """Where the prompt's beginning is cached comes first."""
        key = _route(pending)
        return list(loads) if key is None else self._routing.rank(key, loads)

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Called by Serve: the conversation stays there."""
        key = _route(pending_request)
        if key is not None:
            self._routing.remember(key, replica_id.unique_id)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Called by Serve."""
        self._routing.forget(replica_id.unique_id)
        super().on_replica_actor_died(replica_id)


class RoundRobinRouter(_KnownLoads):
    """One replica after another, whatever is asked."""

    def initialize_state(self, slack: float = 1.0) -> None:
        """Called by Serve with the options."""
        self._turn = itertools.count()

    def rank(self, pending: PendingRequest | None, loads: Mapping[str, int]) -> list[str]:
        """The next one, then the others."""
        names = sorted(loads)
        start = next(self._turn) % len(names) if names else 0
        return names[start:] + names[:start]


def _route(pending: PendingRequest | None) -> RouteKey | None:
    key = None if pending is None else pending.kwargs.get("route")
    return key if isinstance(key, RouteKey) else None
