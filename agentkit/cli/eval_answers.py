"""``agentkit eval answers``: measure answers from documents, with their citations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.console import notes_console, write_json
from agentkit.cli.eval_retrieval import (
    CorpusFile,
    QueriesFile,
    SplitName,
    SplitSeed,
    make_embedder,
)
from agentkit.cli.failures import with_exit_codes
from agentkit.cli.options import MaxTokens, ModelName, TopK

if TYPE_CHECKING:
    from agentkit.grounding import GroundedAnswer
    from agentkit.retrieval import Document
    from agentkit_retrievers import Grounding
    from agentkit_retrievers.evaluation import AnswerReport, EvalQuery

    Answer = Callable[[EvalQuery], Awaitable[GroundedAnswer]]

__all__ = ["answers"]

_SYSTEM = "Answer the question in a few sentences, from the documents alone."


@with_exit_codes
def answers(
    corpus: CorpusFile,
    queries: QueriesFile,
    answers_file: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            metavar="FILE",
            help="Judge these answers (`query_id` and `answer` a line), and ask no model.",
        ),
    ] = None,
    split: SplitName = "all",
    seed: SplitSeed = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ask the first N questions only.")
    ] = None,
    model: ModelName = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Embedding model: a folder or a hub id.")
    ] = None,
    top_k: TopK = None,
    max_tokens: MaxTokens = 200,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Support that makes a sentence grounded.")
    ] = 0.5,
    min_grounded: Annotated[
        float, typer.Option(min=0, max=1, help="Refuse answers of which less is grounded.")
    ] = 0.5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print figures and answers as one JSON object.")
    ] = False,
) -> None:
    """Answer questions from documents and judge what comes out.

    Token F1 and ROUGE-L against the reference, the part of citations that are of relevant
    documents, the part of claims that are grounded, and refusals: of questions that nothing
    answers (`answerability` says UNANSWERABLE, or `relevant` is empty), and of the others.

    Examples:

    - `agentkit eval answers --corpus corpus.jsonl --queries queries.jsonl --limit 20`

    - `agentkit eval answers --corpus c.jsonl --queries q.jsonl --answers mine.jsonl --json`
    """
    from agentkit_retrievers.evaluation import (
        check_relevant,
        evaluate_answers,
        read_answers,
        read_corpus,
        read_queries,
        split_queries,
    )
    from agentkit_retrievers.grounding import Grounding

    documents = read_corpus(corpus)
    asked = read_queries(queries)
    check_relevant(asked, documents)
    asked = split_queries(asked, split, seed=seed)[:limit]
    given = read_answers(answers_file) if answers_file is not None else None
    if given is not None:
        asked = [query for query in asked if query.query_id in given]
    notes = notes_console()
    meta: dict[str, Any] = {
        "corpus": str(corpus),
        "queries_file": str(queries),
        "queries": len(asked),
        "split": split,
        "seed": seed,
        "threshold": threshold,
        "min_grounded": min_grounded,
    }

    def run(answer: Answer) -> AnswerReport:
        with notes.status("Answering") as status:
            return asyncio.run(
                evaluate_answers(
                    answer,
                    asked,
                    meta=meta,
                    progress=lambda stage, done, total: status.update(f"Answered {done}/{total}"),
                )
            )

    retriever = _retriever(documents, embedder)
    grounding = Grounding(
        threshold=threshold, min_grounded=min_grounded, embedder=retriever.dense.embedder
    )
    if given is not None:
        meta["answers_file"] = str(answers_file)
        report = run(_judge_given(given, retriever, grounding, top_k))
    else:
        report = _ask_model(run, meta, model, retriever, grounding, top_k, max_tokens)
    if as_json:
        write_json(report.to_dict(), indent=2)
    else:
        _print_table(report)


def _retriever(documents: list[Document], embedder: str | None) -> Any:
    from agentkit_retrievers.hybrid import HybridRetriever

    return HybridRetriever.from_documents(documents, embedder=make_embedder(embedder, cache=True))


def _judge_given(
    given: dict[str, str], retriever: Any, grounding: Grounding, top_k: int | None
) -> Answer:
    async def answer(query: EvalQuery) -> GroundedAnswer:
        hits = await retriever.aretrieve_conversation(query.messages, top_k=top_k)
        return await grounding.acheck(given[query.query_id], [hit.document for hit in hits])

    return answer


def _ask_model(
    run: Callable[[Answer], AnswerReport],
    meta: dict[str, Any],
    model: str | None,
    retriever: Any,
    grounding: Grounding,
    top_k: int | None,
    max_tokens: int | None,
) -> AnswerReport:
    from agentkit.agent import Agent
    from agentkit.models.base import Sampling
    from agentkit.models.naming import named_model
    from agentkit_retrievers.grounded_agent import GroundedAgent

    language_model = named_model(model)
    meta["model"] = language_model.name
    agent = GroundedAgent(
        Agent(
            language_model,
            retriever=retriever,
            top_k=top_k,
            system=_SYSTEM,
            sampling=Sampling(max_tokens=max_tokens or 200),
        ),
        grounding,
    )

    async def answer(query: EvalQuery) -> GroundedAnswer:
        done = await agent.run(query.messages)
        return done.grounded

    try:
        return run(answer)
    finally:
        language_model.close()


def _print_table(report: AnswerReport) -> None:
    from rich.console import Console
    from rich.table import Table

    figures = report.to_dict()
    table = Table("measure", "mean", "95 %", "questions")
    for name, count in figures["counts"].items():
        if count:
            low, high = figures["intervals"][name]
            table.add_row(name, f"{figures[name]:.3f}", f"{low:.3f}-{high:.3f}", str(count))
        else:
            table.add_row(name, "", "", "0")
    Console().print(table)
