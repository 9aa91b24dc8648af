"""How a cluster is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentkit.errors import UserError

__all__ = ["ClusterOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Replicas of the engine, and the way to them."""

    min_replicas: int = 1
    """Engines that are always there."""
    max_replicas: int = 4
    """Engines that there may be; Ray adds nodes for them if its cluster can."""
    target_ongoing: float = 8.0
    """Requests at work in one engine that the autoscaler aims at."""
    max_ongoing: int = 16
    """Requests that one engine takes; further ones wait in the router."""
    ingresses: int = 1
    """Processes that speak HTTP and run agents; they have no model."""
    cpus: float = 1.0
    """CPU cores that Ray sets aside for an engine; its threads are as many."""
    gpus: float = 0.0
    """GPUs likewise."""
    routing: Literal["prefix", "round_robin"] = "prefix"
    """Where requests go: by their prompt's beginning, or to one engine after another."""
    slack: float = 1.25
    """See :class:`agentkit.cluster.PrefixRouting`."""
    attempts: int = 3
    """How many engines may die under one request before it fails."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Further options of :class:`agentkit.TransformersModel`, such as ``dtype``."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise UserError(
                f"ClusterOptions: min_replicas={self.min_replicas} and max_replicas="
                f"{self.max_replicas} must be at least 1, the first not above the second"
            )
        for name in ("target_ongoing", "max_ongoing", "ingresses", "cpus", "attempts"):
            if getattr(self, name) <= 0:
                raise UserError(
                    f"ClusterOptions.{name} is {getattr(self, name)}; it must be above 0"
                )
        if self.routing not in ("prefix", "round_robin"):
            raise UserError(
                f"ClusterOptions.routing is {self.routing!r}; it must be 'prefix' or 'round_robin'"
            )
