"""A progress bar over the loading and indexing of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["indexing_progress"]

_LABELS = {"load": "Reading files", "embed": "Embedding passages"}


@contextmanager
def indexing_progress(
    notes: Console, *, transient: bool = True
) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage while the block runs, where ``notes`` is a terminal.

    Args:
        notes: Where to show it.
        transient: Leave nothing on the screen afterwards.

    Yields:
        A callback for ``FaissRetriever.from_folder(progress=...)``.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=notes, transient=transient, disable=not notes.is_terminal
    ) as bars:
        # A bar without a total moves back and forth: the embedding model takes time to load.
        tasks = {"load": bars.add_task(_LABELS["load"], total=None)}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_LABELS.get(stage, stage), total=None)
            bars.update(tasks[stage], completed=done, total=total)
            if stage == "load" and done == total:
                tasks["embed"] = bars.add_task(_LABELS["embed"], total=None)

        yield update
