"""Where agentkit keeps what it makes once and uses again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """The user's cache folder for agentkit; ``AGENTKIT_CACHE`` overrides it. Not created here."""
    named = os.environ.get("AGENTKIT_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("agentkit")
