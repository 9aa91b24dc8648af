"""Questions about a folder of documents, answered with sources.

    python examples/docs_qa.py "How long does the battery last without sun?"
    python examples/docs_qa.py --docs docs --model ibm-granite/granite-4.0-1b "What is a step?"

The index of the folder is kept on disk and built again only when a document has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from agentkit import Agent, FaissRetriever, IndexFormatError, Model, Retriever, Sampling
from agentkit.cache_dir import cache_dir
from agentkit_retrievers import Chunker
from common import ask, console, is_small, load_model, parser, print_sources, run

__all__ = ["HANDBOOK", "main", "open_index", "reader"]

HANDBOOK = Path(__file__).parent / "data" / "handbook"
"""The handbook of a made-up weather station."""

QUESTIONS = (
    "How long does the battery last without sun?",
    "How far does the radio reach in the open?",
)

# Short passages: each is about one thing, and the small model is not led astray by the rest.
CHUNKER = Chunker(max_size=500, overlap=0)


def open_index(documents: Path) -> FaissRetriever:
    """The index of a folder: the one saved earlier, or else a new one, saved for next time."""
    saved = cache_dir() / "examples" / _fingerprint(documents)
    try:
        return FaissRetriever.load(saved)
    except IndexFormatError:
        with console.status(f"Indexing {documents.name}"):
            index = FaissRetriever.from_folder(documents, chunker=CHUNKER)
            index.save(saved)
        return index


def reader(model: Model, index: Retriever, *, top_k: int) -> Agent:
    """An agent that answers from documents, which it is shown before it begins."""
    return Agent(
        model,
        retriever=index,
        top_k=top_k,
        system="Answer in one short sentence with the words of the document.",
        sampling=Sampling(max_tokens=120),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the questions of the command line."""
    options = _parser().parse_args(arguments)
    return run(_answer(options))


async def _answer(options: argparse.Namespace) -> None:
    index = open_index(options.docs)
    top_k = options.top_k or (1 if is_small(options) else 4)
    async with reader(load_model(options), index, top_k=top_k) as agent:
        for question in options.questions:
            print_sources(await ask(agent, question))


def _parser() -> argparse.ArgumentParser:
    made = parser("Answer questions about a folder of documents.", questions=QUESTIONS)
    made.add_argument("--docs", type=Path, default=HANDBOOK, help="folder of Markdown, text, ...")
    made.add_argument("--top-k", type=int, help="passages to read (1 for the embedded model)")
    return made


def _fingerprint(folder: Path) -> str:
    """A name that changes with any document and with how documents are cut."""
    digest = hashlib.sha256(repr((CHUNKER.max_size, CHUNKER.overlap)).encode())
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"\0{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{folder.resolve().name}-{digest.hexdigest()[:12]}"


if __name__ == "__main__":
    sys.exit(main())
