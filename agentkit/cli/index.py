"""``agentkit index``: make a folder of documents searchable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agentkit.cli.console import notes_console, write_json
from agentkit.cli.failures import with_exit_codes
from agentkit.errors import UserError

__all__ = ["index"]


@with_exit_codes
def index(
    folder: Annotated[Path, typer.Argument(help="Folder with the documents; read recursively.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the index is saved.")
    ],
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern", metavar="GLOB", help="Read only such files, as in `*.md`. May be repeated."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """Read, cut, embed and index the documents below a folder, and save the index.

    `chat` and `ask` take the saved index as `--docs`; it opens in a moment, where a plain folder
    is embedded anew each time.

    Examples:

    - `agentkit index manuals/ --out manuals.index`

    - `agentkit index notes/ --out notes.index --pattern "*.md"`

    - `agentkit ask "How do I reset the device?" --docs manuals.index`
    """
    from agentkit.cli.progress import indexing_progress
    from agentkit.cli.setup import check_folder

    check_folder(folder, "FOLDER")
    if out.resolve() == folder.resolve():
        raise UserError("--out: the index needs a folder of its own, not that of the documents")
    notes = notes_console()
    begin = time.perf_counter()
    with indexing_progress(notes, transient=False) as progress:
        from agentkit_retrievers import FaissRetriever
        from agentkit_retrievers.loading import DEFAULT_PATTERNS

        retriever = FaissRetriever.from_folder(
            folder, patterns=patterns or DEFAULT_PATTERNS, progress=progress
        )
    retriever.save(out)
    counts: dict[str, Any] = {
        "documents": len({document.source for document in retriever.documents}),
        "chunks": len(retriever),
        "characters": sum(len(document.text) for document in retriever.documents),
        "dimension": retriever.embedder.dimension,
        "embedding_model": retriever.embedder.model_name,
        "bytes": sum(file.stat().st_size for file in out.iterdir() if file.is_file()),
        "seconds": round(time.perf_counter() - begin, 3),
        "out": str(out),
    }
    if as_json:
        write_json(counts)
        return
    print(
        f"Indexed {counts['documents']:,} documents as {counts['chunks']:,} passages "
        f"({counts['characters']:,} characters) with {counts['embedding_model']} "
        f"in {counts['seconds']:.1f} s\nSaved to {out} ({counts['bytes'] / 1e6:.1f} MB)"
    )
