"""The one form of progress callback that loading and indexing share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``.

``stage`` is ``"load"`` (counts files) or ``"embed"`` (counts documents); ``done`` rises to
``total``, which stays the same within a stage. What the callback raises ends the work."""
