"""A Ray Serve application: the server's routes in front of engines that come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentkit.cluster._ray import import_ray
from agentkit.cluster.options import ClusterOptions
from agentkit.models.base import Model
from agentkit.models.defaults import default_model_name

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.server import ServerOptions

__all__ = ["AgentMaker", "cluster_app"]

AgentMaker = Callable[[Model], "Agent"]
"""Makes an agent around a model: agents themselves do not travel between processes."""


def cluster_app(
    model: str | None = None,
    *,
    agents: Mapping[str, AgentMaker] | None = None,
    options: ClusterOptions | None = None,
    server: ServerOptions | None = None,
) -> Any:
    """An application for ``ray.serve.run`` or ``serve run module:app``.

    Requests come in at an ingress, which is ``agentkit serve`` without a model. Its turns are
    written by engines, each in a process of its own on some node of the cluster. Engines that die
    are replaced by Ray, and their turns written by others.

    Args:
        model: As for :class:`agentkit.TransformersModel`; each node must be able to load it.
        agents: What makes the agents, by the names under which they can be run.
        options: Of engines and routing.
        server: How clients are treated.

    Raises:
        MissingExtraError: Ray, or what the server needs, is not installed.

    Example:
        >>> ray.serve.run(cluster_app("embedded"), route_prefix="/")
    """
    import_ray()
    from ray import serve
    from ray.serve.config import AutoscalingConfig, RequestRouterConfig

    from agentkit.cluster.ingress import Ingress
    from agentkit.cluster.replicas import EngineReplica

    options = options or ClusterOptions()
    name = model or default_model_name()
    router = "PrefixRouter" if options.routing == "prefix" else "RoundRobinRouter"
    engines = serve.deployment(
        EngineReplica,
        name="engine",
        max_ongoing_requests=options.max_ongoing,
        autoscaling_config=AutoscalingConfig(
            min_replicas=options.min_replicas,
            initial_replicas=options.min_replicas,
            max_replicas=options.max_replicas,
            target_ongoing_requests=options.target_ongoing,
        ),
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=f"agentkit.cluster.replicas:{router}",
            request_router_kwargs={"slack": options.slack},
        ),
        health_check_period_s=5,
        graceful_shutdown_timeout_s=30,
    )
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=options.ingresses,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
    )
    threads = max(1, int(options.cpus))
    return ingress.bind(
        engines.bind(name, dict(options.model), threads),
        name,
        dict(agents or {}),
        options.attempts,
        server,
    )
