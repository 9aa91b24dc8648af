"""Several rankings made into one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentkit_retrievers.identity import document_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit.retrieval import ScoredDocument

__all__ = ["fuse_ranks", "fuse_scores"]


def fuse_scores(
    rankings: Sequence[Sequence[ScoredDocument]], weights: Sequence[float], *, depth: int
) -> list[ScoredDocument]:
    """Add up scores, each ranking's stretched to run from 0 to 1.

    Args:
        rankings: Best first, each with scores on a scale of its own.
        weights: One for each ranking.
        depth: How many documents each ranking was asked for. One that gave fewer gave all
            that it has, and 0 is its lower end if no score is below.

    Returns:
        Every document of any ranking, best first, scores from 0 to the sum of the weights.
    """
    parts = []
    for ranking, weight in zip(rankings, weights, strict=True):
        scores = [hit.score for hit in ranking]
        low = min(scores, default=0.0)
        if len(ranking) < depth:
            low = min(low, 0.0)
        span = max(scores, default=0.0) - low
        # All alike: all are as good as the best.
        parts.append([weight * ((score - low) / span if span > 0 else 1.0) for score in scores])
    return _sum(rankings, parts)


def fuse_ranks(
    rankings: Sequence[Sequence[ScoredDocument]], weights: Sequence[float], *, k: int
) -> list[ScoredDocument]:
    """Reciprocal rank fusion (Cormack et al. 2009): add up ``weight / (k + rank)``.

    Args:
        rankings: Best first; scores are not looked at.
        weights: One for each ranking.
        k: The larger, the less the first ranks stand out.

    Returns:
        Every document of any ranking, best first.
    """
    parts = [
        [weight / (k + rank) for rank in range(1, len(ranking) + 1)]
        for ranking, weight in zip(rankings, weights, strict=True)
    ]
    return _sum(rankings, parts)


def _sum(
    rankings: Sequence[Sequence[ScoredDocument]], parts: Sequence[Sequence[float]]
) -> list[ScoredDocument]:
    hits: dict[str | int, ScoredDocument] = {}
    totals: dict[str | int, float] = {}
    for ranking, scores in zip(rankings, parts, strict=True):
        for hit, score in zip(ranking, scores, strict=True):
            key = document_id(hit.document)
            hits.setdefault(key, hit)
            totals[key] = totals.get(key, 0.0) + score
    fused = [replace(hit, score=totals[key]) for key, hit in hits.items()]
    # Stable: of equals the one that the first ranking has first.
    return sorted(fused, key=lambda hit: -hit.score)
