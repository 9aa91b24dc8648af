"""The process that speaks HTTP: the server's application around a model that is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Receive, Scope, Send

from agentkit.cluster.replicas import HandleDispatch
from agentkit.cluster.routed_model import RoutedModel

if TYPE_CHECKING:
    from agentkit.server import ServerOptions

__all__ = ["Ingress"]


class _PassOn:
    """Serve wants an application before there is a handle to the engines; this one finds it.

    An object, as Serve would take a function for one that makes an application. Serve copies the
    object, so what it passes on to belongs to the class: a process has one ingress.
    """

    served: ClassVar[ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await type(self).served(scope, receive, send)


@serve.ingress(_PassOn())
class Ingress:
    """One replica of the ingress.

    Args:
        engines: Handle of the engines' deployment.
        model: What the model is called.
        agents: What makes the agents.
        attempts: How many engines may die under one turn.
        server: How clients are treated.
    """

    def __init__(
        self,
        engines: DeploymentHandle,
        model: str,
        agents: Mapping[str, Callable[[Any], Any]],
        attempts: int,
        server: ServerOptions | None,
    ) -> None:
        from agentkit.server import create_app

        routed = RoutedModel(HandleDispatch(engines), name=model, attempts=attempts)
        made = {name: make(routed) for name, make in agents.items()}
        # Not by way of Serve's context, which has no replica yet when the application starts.
        _PassOn.served = create_app(routed, agents=made, options=server)
