"""How good rankings and answers are, and how sure that is."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Estimate",
    "bootstrap",
    "mrr_at",
    "ndcg_at",
    "recall_at",
    "rouge_l",
    "token_f1",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over questions, with a bootstrap interval."""

    mean: float
    """Of the questions at hand."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


def recall_at(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """The part of the relevant documents that is among the first ``k``."""
    return sum(doc_id in relevant for doc_id in ranking[:k]) / len(relevant)


def ndcg_at(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Normalised discounted cumulative gain of the first ``k``; gains are the grades."""
    gains = [relevant.get(doc_id, 0) for doc_id in ranking[:k]]
    return _dcg(gains) / _dcg(sorted(relevant.values(), reverse=True)[:k])


def mrr_at(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """One over the rank of the first relevant document; 0 if it is beyond ``k``."""
    for rank, doc_id in enumerate(ranking[:k], start=1):
        if doc_id in relevant:
            return 1 / rank
    return 0.0


def bootstrap(
    values: Sequence[float], *, samples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """The mean, and the interval that it falls into when questions are drawn anew.

    Args:
        values: One for each question. For a comparison pass the differences, question by
            question: that is the paired bootstrap.
        samples: How often all questions are drawn, with replacement.
        confidence: Part of the samples' means that the interval holds.
        seed: Makes the interval repeatable.
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        return Estimate(mean=math.nan, low=math.nan, high=math.nan)
    random = np.random.default_rng(seed)
    means = np.array(
        [data[random.integers(0, len(data), len(data))].mean() for _ in range(samples)]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(mean=float(data.mean()), low=float(low), high=float(high))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the words, as SQuAD counts them."""
    ours, theirs = _words(answer), _words(reference)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return _f1(common, len(ours), len(theirs))


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L's F1: of the longest common subsequence of words."""
    ours, theirs = _words(answer, articles=True), _words(reference, articles=True)
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = 0  # The row above, one to the left.
        for column, other in enumerate(theirs, start=1):
            above = row[column]
            row[column] = before + 1 if word == other else max(above, row[column - 1])
            before = above
    return _f1(row[-1], len(ours), len(theirs))


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs) if common else 0.0


def _words(text: str, *, articles: bool = False) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return words if articles else [word for word in words if word not in ("a", "an", "the")]


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
