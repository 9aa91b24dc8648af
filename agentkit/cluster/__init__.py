"""Many engines on many machines, with Ray: serving, batch runs, embedding (``agentkit[ray]``).

Nothing here is loaded, and Ray is not needed, until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.cluster.app import cluster_app
    from agentkit.cluster.batch import run_batch
    from agentkit.cluster.embedding import embed_corpus
    from agentkit.cluster.options import ClusterOptions
    from agentkit.cluster.routed_model import RoutedModel
    from agentkit.cluster.routing import PrefixRouting, RouteKey, route_key

_HOMES = {
    "ClusterOptions": "agentkit.cluster.options",
    "PrefixRouting": "agentkit.cluster.routing",
    "RouteKey": "agentkit.cluster.routing",
    "RoutedModel": "agentkit.cluster.routed_model",
    "cluster_app": "agentkit.cluster.app",
    "embed_corpus": "agentkit.cluster.embedding",
    "route_key": "agentkit.cluster.routing",
    "run_batch": "agentkit.cluster.batch",
}

__all__ = [
    "ClusterOptions",
    "PrefixRouting",
    "RouteKey",
    "RoutedModel",
    "cluster_app",
    "embed_corpus",
    "route_key",
    "run_batch",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
