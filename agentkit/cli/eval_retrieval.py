"""``agentkit eval retrieval``: compare ways to search on questions with known documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from agentkit.cli.console import notes_console, write_json
from agentkit.cli.failures import with_exit_codes
from agentkit.cli.options import ModelName

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit_retrievers.embedding import Embedder
    from agentkit_retrievers.evaluation import Parts, RetrievalReport

__all__ = ["CorpusFile", "QueriesFile", "SplitName", "SplitSeed", "make_embedder", "retrieval"]

CorpusFile: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--corpus", metavar="FILE", help="Passages: a JSON object a line with `doc_id` and `text`."
    ),
]
QueriesFile: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--queries",
        metavar="FILE",
        help="Questions: a JSON object a line with `query_id`, `query`, `relevant` (`doc_id`s) "
        "and, if they go on from a conversation, `history` (messages).",
    ),
]
SplitName: TypeAlias = Annotated[
    Literal["all", "tune", "test"],
    typer.Option(
        "--split",
        help="Use all questions, or one of two halves: choose settings on `tune`, report `test`.",
    ),
]
SplitSeed: TypeAlias = Annotated[
    int, typer.Option("--seed", metavar="N", help="Chooses the halves.")
]

_DEFAULTS = (
    "dense",
    "dense+conversation",
    "bm25",
    "bm25+conversation",
    "hybrid+last-turn",
    "hybrid",
)


@with_exit_codes
def retrieval(
    corpus: CorpusFile,
    queries: QueriesFile,
    configurations: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="NAME",
            help="`dense`, `bm25` (both of the last turn) or `hybrid` (the library's default, of "
            "the conversation), then any of `+conversation`, `+last-turn`, `+rrf`, `+rewrite`, "
            "`+rerank`. May be repeated; gains are over the first. "
            "[default: all that need no language model]",
        ),
    ] = None,
    split: SplitName = "all",
    seed: SplitSeed = 0,
    embedder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Embedding model: a folder or a hub id.")
    ] = None,
    model: ModelName = None,
    reranker: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Cross-encoder for `+rerank`: a folder or a hub id."),
    ] = None,
    cache: Annotated[
        bool, typer.Option(help="Keep the passages' embeddings for the next time.")
    ] = True,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report with plots.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object.")
    ] = False,
) -> None:
    """Compare ways to search: Recall@5 and @10, nDCG@10, MRR@10, with 95 % intervals.

    Questions without relevant documents are left out. `hybrid` is what agents use.

    Examples:

    - `agentkit eval retrieval --corpus corpus.jsonl --queries queries.jsonl`

    - `agentkit eval retrieval --corpus c.jsonl --queries q.jsonl -c dense -c hybrid --json`

    - `agentkit eval retrieval --corpus c.jsonl --queries q.jsonl --split test --html report.html`
    """
    from agentkit_retrievers.evaluation.configurations import check_name
    from agentkit_retrievers.evaluation.data import (
        check_relevant,
        read_corpus,
        read_queries,
        split_queries,
    )

    names = list(dict.fromkeys(configurations or _DEFAULTS))
    for name in names:
        check_name(name, model=True, reranker=reranker is not None)
    # All input is looked at before any model is loaded.
    documents = read_corpus(corpus)
    judged = [query for query in read_queries(queries) if query.relevant]
    check_relevant(judged, documents)
    chosen = split_queries(judged, split, seed=seed)

    from agentkit_retrievers.evaluation.configurations import make_retriever
    from agentkit_retrievers.evaluation.retrieval import evaluate_retrieval

    notes = notes_console()
    parts = _parts(documents, names, notes, embedder, reranker, model, cache=cache)
    meta: dict[str, Any] = {
        "corpus": str(corpus),
        "documents": len(documents),
        "queries_file": str(queries),
        "split": split,
        "seed": seed,
        "embedding_model": parts.dense.embedder.model_name,
    }
    try:
        with notes.status("Searching"):
            report = evaluate_retrieval(
                {name: make_retriever(name, parts) for name in names}, chosen, meta=meta
            )
    finally:
        close = getattr(parts.model, "close", None)
        if close is not None:
            close()
    if html is not None:
        _write_html(report, html)
        notes.print(f"Report: {html}")
    if as_json:
        write_json(report.to_dict(), indent=2)
    else:
        _print_table(report)


def make_embedder(name: str | None, *, cache: bool) -> Embedder:
    """The embedding model, with what it embedded before."""
    from agentkit_retrievers.embedding import SentenceTransformerEmbedder
    from agentkit_retrievers.embedding_cache import CachedEmbedder

    embedder = SentenceTransformerEmbedder(name)
    return CachedEmbedder(embedder) if cache else embedder


def _parts(
    documents: list[Any],
    names: list[str],
    notes: Console,
    embedder: str | None,
    reranker: str | None,
    model: str | None,
    *,
    cache: bool,
) -> Parts:
    from agentkit.cli.progress import indexing_progress
    from agentkit_retrievers.bm25 import BM25Retriever
    from agentkit_retrievers.evaluation.configurations import Parts
    from agentkit_retrievers.faiss_index import FaissRetriever
    from agentkit_retrievers.reranking import CrossEncoderReranker

    dense = FaissRetriever(make_embedder(embedder, cache=cache))
    if any(not name.startswith("bm25") for name in names):
        with indexing_progress(notes) as progress:
            dense.add(documents, progress=progress)
    language_model = None
    if any("+rewrite" in name for name in names):
        from agentkit.models.naming import named_model

        language_model = named_model(model)
    return Parts(
        dense=dense,
        sparse=BM25Retriever.from_documents(documents),
        model=language_model,
        reranker=CrossEncoderReranker(reranker) if reranker else None,
    )


def _write_html(report: RetrievalReport, path: Path) -> None:
    from agentkit.errors import UserError
    from agentkit_retrievers.evaluation.html_report import html_report

    try:
        path.write_text(html_report(report), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html: {path} cannot be written: {error.strerror or error}") from error


def _print_table(report: RetrievalReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from agentkit_retrievers.evaluation.retrieval import METRICS

    # Narrow enough for 80 characters: what is left out is in the JSON and the HTML.
    shown = [metric for metric in METRICS if metric != "recall@10"]
    table = Table("configuration", *shown, "95 % of ndcg", "gain", "ms")
    figures = report.to_dict()
    for name, result in report.configurations.items():
        found = figures[name]
        low, high = found["intervals"]["ndcg@10"]
        relative = found.get("gain", {}).get("ndcg@10", {}).get("relative")
        table.add_row(
            name,
            *(f"{found[metric]:.3f}" for metric in shown),
            f"{low:.3f}-{high:.3f}",
            "" if relative is None else f"{relative:+.1%}",
            f"{1000 * result.seconds:.1f}",
        )
    Console().print(table)
    print(
        f"{len(report.queries)} questions; gains in ndcg@10 over the first line; ms of one search"
    )
