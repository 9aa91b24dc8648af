"""Many prompts or agent runs at once, from a file to a file, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.batch.running import BatchReport, run_batch, run_batch_sync

_HOMES = dict.fromkeys(("BatchReport", "run_batch", "run_batch_sync"), ".running")

__all__ = ["BatchReport", "run_batch", "run_batch_sync"]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
