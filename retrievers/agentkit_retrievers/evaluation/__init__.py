"""Measuring retrieval and grounded answers on questions with known documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit_retrievers.evaluation.answers import (
        AnswerReport,
        AnswerScores,
        evaluate_answers,
        read_answers,
        score_answer,
    )
    from agentkit_retrievers.evaluation.configurations import Parts, make_retriever
    from agentkit_retrievers.evaluation.data import (
        EvalQuery,
        check_relevant,
        read_corpus,
        read_queries,
        split_queries,
    )
    from agentkit_retrievers.evaluation.html_report import html_report
    from agentkit_retrievers.evaluation.metrics import Estimate, bootstrap
    from agentkit_retrievers.evaluation.retrieval import (
        RetrievalReport,
        RetrievalScores,
        evaluate_retrieval,
    )

_HOMES = {
    "AnswerReport": ".answers",
    "AnswerScores": ".answers",
    "Estimate": ".metrics",
    "EvalQuery": ".data",
    "Parts": ".configurations",
    "RetrievalReport": ".retrieval",
    "RetrievalScores": ".retrieval",
    "bootstrap": ".metrics",
    "check_relevant": ".data",
    "evaluate_answers": ".answers",
    "evaluate_retrieval": ".retrieval",
    "html_report": ".html_report",
    "make_retriever": ".configurations",
    "read_answers": ".answers",
    "read_corpus": ".data",
    "read_queries": ".data",
    "score_answer": ".answers",
    "split_queries": ".data",
}

__all__ = [
    "AnswerReport",
    "AnswerScores",
    "Estimate",
    "EvalQuery",
    "Parts",
    "RetrievalReport",
    "RetrievalScores",
    "bootstrap",
    "check_relevant",
    "evaluate_answers",
    "evaluate_retrieval",
    "html_report",
    "make_retriever",
    "read_answers",
    "read_corpus",
    "read_queries",
    "score_answer",
    "split_queries",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
