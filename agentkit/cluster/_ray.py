"""Ray, or a word on how to get it."""

from __future__ import annotations

from typing import Any

from agentkit.errors import MissingExtraError

__all__ = ["import_ray"]


def import_ray() -> Any:
    """The ``ray`` package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "agentkit.cluster needs Ray: pip install 'agentkit-granite[ray]'"
        ) from error
    return ray
