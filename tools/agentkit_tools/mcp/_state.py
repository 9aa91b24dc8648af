"""What an MCP server has listed, and what it says by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import mcp_types
from mcp import MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from mcp import Client

__all__ = ["ListKind", "ServerState", "list_all"]

ListKind = Literal["tools", "prompts", "resources", "resource_templates"]

logger = logging.getLogger("agentkit_tools.mcp.server")
# What servers log is told to a program that has set up logging, and to nobody else.
logging.getLogger("agentkit_tools.mcp").addHandler(logging.NullHandler())

_CHANGED = {
    "ToolsListChanged": ("tools",),
    "PromptsListChanged": ("prompts",),
    "ResourcesListChanged": ("resources", "resource_templates"),
}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_MAX_PAGES = 100
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO}


async def list_all(client: Client, kind: ListKind) -> list[Any]:
    """All pages of a list; empty if the server has no such things.

    Raises:
        MCPError: The server does not list them.
    """
    capability = kind.partition("_")[0].rstrip("s") + "s"
    if getattr(client.server_capabilities, capability, None) is None:
        return []
    ask: Any = getattr(client, f"list_{kind}")
    items: list[Any] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        try:
            page = await ask(cursor=cursor)
        except MCPError as error:
            if error.code == mcp_types.METHOD_NOT_FOUND:
                return []
            raise
        items += getattr(page, kind)
        cursor = page.next_cursor
        if not cursor:
            break
    return items


class ServerState:
    """What notifications change; apart from the server, which must be free to go."""

    def __init__(self, name: str, on_log: Callable[[str, Any], None] | None) -> None:
        self.lists: dict[str, list[Any]] = {}
        self.changes = 0
        self._on_log = on_log
        self._logger = logging.getLogger(f"{__name__}.{name}")

    def _changed(self, *kinds: str) -> None:
        self.changes += 1
        for kind in kinds:
            self.lists.pop(kind, None)

    async def on_message(self, message: Any) -> None:
        """Of a session of the protocol before 2026."""
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._changed("tools")
        elif isinstance(message, mcp_types.PromptListChangedNotification):
            self._changed("prompts")
        elif isinstance(message, mcp_types.ResourceListChangedNotification):
            self._changed("resources", "resource_templates")

    async def on_log_message(self, params: mcp_types.LoggingMessageNotificationParams) -> None:
        """A log message of the server."""
        self._logger.log(_LEVELS.get(params.level, logging.WARNING), "%s", params.data)
        if self._on_log is not None:
            try:
                self._on_log(params.level, params.data)
            except Exception:
                logger.exception("on_log failed")

    async def follow(self, client: Client) -> None:
        """Of a session of the protocol since 2026, which sends changes to those who ask."""
        self._changed(*self.lists.copy())  # the server may be another than before
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return
        has = client.server_capabilities
        tools, prompts, resources = (
            part is not None and part.list_changed is True
            for part in (has.tools, has.prompts, has.resources)
        )
        pause = _FIRST_PAUSE_S
        while tools or prompts or resources:
            with contextlib.suppress(SubscriptionLost, MCPError, TimeoutError):
                async with client.listen(
                    tools_list_changed=tools,
                    prompts_list_changed=prompts,
                    resources_list_changed=resources,
                ) as events:
                    pause = _FIRST_PAUSE_S
                    async for event in events:
                        self._changed(*_CHANGED.get(type(event).__name__, ()))
            self._changed(*self.lists.copy())  # what was missed meanwhile is not told again
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
