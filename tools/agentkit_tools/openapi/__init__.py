"""The operations of an OpenAPI document as tools.

The names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit_tools.openapi.operations import Operation
    from agentkit_tools.openapi.tools import OpenAPITools, SkippedOperation

__all__ = ["OpenAPITools", "Operation", "SkippedOperation"]

_HOMES = {
    "OpenAPITools": ".tools",
    "Operation": ".operations",
    "SkippedOperation": ".tools",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
