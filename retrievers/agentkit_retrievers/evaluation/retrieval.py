"""How well searches find what they should, compared on the same questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.errors import UserError
from agentkit_retrievers.evaluation.data import EvalQuery
from agentkit_retrievers.evaluation.metrics import (
    Estimate,
    bootstrap,
    mrr_at,
    ndcg_at,
    recall_at,
)

if TYPE_CHECKING:
    from agentkit.messages import Message
    from agentkit.retrieval import ConversationRetriever, ScoredDocument
    from agentkit_retrievers.progress import Progress

__all__ = [
    "METRICS",
    "RetrievalReport",
    "RetrievalScores",
    "evaluate_retrieval",
]

METRICS: dict[str, Callable[[Sequence[str], Mapping[str, int]], float]] = {
    "recall@5": lambda ranking, relevant: recall_at(ranking, relevant, 5),
    "recall@10": lambda ranking, relevant: recall_at(ranking, relevant, 10),
    "ndcg@10": lambda ranking, relevant: ndcg_at(ranking, relevant, 10),
    "mrr@10": lambda ranking, relevant: mrr_at(ranking, relevant, 10),
}
"""What is measured, from a ranking of ``doc_id`` and the grades of the relevant ones."""

DEPTH = 10
"""Documents that are asked for: what the deepest metric looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalScores:
    """One way to search, judged question by question."""

    scores: Mapping[str, Sequence[float]]
    """By metric, one for each question."""
    rankings: Sequence[Sequence[str]]
    """What was found for each question, best first, as ``doc_id``."""
    seconds: float
    """Mean time of one search."""

    def estimate(self, metric: str, *, seed: int = 0) -> Estimate:
        """A metric's mean, with its 95 % bootstrap interval."""
        return bootstrap(self.scores[metric], seed=seed)

    def gain(self, metric: str, baseline: RetrievalScores, *, seed: int = 0) -> Estimate:
        """The difference from a baseline, question by question (paired bootstrap)."""
        pairs = zip(self.scores[metric], baseline.scores[metric], strict=True)
        return bootstrap([ours - theirs for ours, theirs in pairs], seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalReport:
    """Several ways to search, on the same questions."""

    queries: Sequence[EvalQuery]
    """The questions that were judged."""
    configurations: Mapping[str, RetrievalScores]
    """By name; the first is the baseline."""
    meta: Mapping[str, Any]
    """What else is to be known: files, models, the split."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: metrics by configuration, and ``meta``.

        Beside its metrics each configuration has ``intervals`` (``[low, high]``, 95 %),
        ``gain`` over the baseline (relative mean, and the interval of the absolute
        difference) and ``seconds_per_query``.
        """
        baseline_name, baseline = next(iter(self.configurations.items()))
        found: dict[str, Any] = {}
        for name, result in self.configurations.items():
            estimates = {metric: result.estimate(metric) for metric in METRICS}
            entry: dict[str, Any] = {key: round(each.mean, 4) for key, each in estimates.items()}
            entry["intervals"] = {
                key: [round(each.low, 4), round(each.high, 4)] for key, each in estimates.items()
            }
            if result is not baseline:
                entry["gain"] = {metric: _gain(result, baseline, metric) for metric in METRICS}
            entry["seconds_per_query"] = round(result.seconds, 5)
            found[name] = entry
        meta = {**self.meta, "queries": len(self.queries), "baseline": baseline_name}
        return {**found, "meta": meta}


def evaluate_retrieval(
    retrievers: Mapping[str, ConversationRetriever],
    queries: Sequence[EvalQuery],
    *,
    meta: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> RetrievalReport:
    """Judge retrievers by what they find.

    Args:
        retrievers: By name; the first is the baseline. See :func:`make_retriever`.
        queries: Those without relevant documents are left out.
        meta: Goes into the report.
        progress: Called with stage ``"search"``, for all retrievers together.

    Raises:
        UserError: There is no retriever, or no question with relevant documents.
    """
    judged = [query for query in queries if query.relevant]
    if not judged or not retrievers:
        raise UserError(
            "nothing to judge: no question has relevant documents"
            if retrievers
            else "nothing to judge: name at least one configuration"
        )
    results: dict[str, RetrievalScores] = {}
    for number, (name, retriever) in enumerate(retrievers.items()):
        rankings: list[list[str]] = []
        begin = time.perf_counter()
        for done, query in enumerate(judged, start=1):
            rankings.append(_ranking(retriever.retrieve_conversation, query.messages))
            if progress is not None:
                progress("search", number * len(judged) + done, len(retrievers) * len(judged))
        seconds = (time.perf_counter() - begin) / len(judged)
        scores = {
            metric: [
                measure(ranking, query.relevant)
                for ranking, query in zip(rankings, judged, strict=True)
            ]
            for metric, measure in METRICS.items()
        }
        results[name] = RetrievalScores(scores=scores, rankings=rankings, seconds=seconds)
    return RetrievalReport(queries=judged, configurations=results, meta=dict(meta or {}))


def _ranking(
    search: Callable[..., Sequence[ScoredDocument]], messages: Sequence[Message]
) -> list[str]:
    return [str(hit.document.doc_id) for hit in search(messages, top_k=DEPTH)]


def _gain(ours: RetrievalScores, baseline: RetrievalScores, metric: str) -> dict[str, Any]:
    difference = ours.gain(metric, baseline)
    base = baseline.estimate(metric).mean
    return {
        "relative": round(difference.mean / base, 4) if base else None,
        "interval": [round(difference.low, 4), round(difference.high, 4)],
    }
