"""An OpenAI-compatible server around a model and agents: ``pip install agentkit-granite[serve]``.

Example:
    >>> app = create_app(model="embedded", agents={"support": agent})
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports
from agentkit.errors import MissingExtraError

try:
    import fastapi as _fastapi  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        f"the server needs {error.name}; run `pip install agentkit-granite[serve]`"
    ) from error

if TYPE_CHECKING:
    from agentkit.server.app import create_app
    from agentkit.server.options import ApiKey, ServerOptions
    from agentkit.server.running import serve
    from agentkit.server.stored_conversations import StoredConversations

__all__ = ["ApiKey", "ServerOptions", "StoredConversations", "create_app", "serve"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ApiKey": ".options",
        "ServerOptions": ".options",
        "StoredConversations": ".stored_conversations",
        "create_app": ".app",
        "serve": ".running",
    },
)
