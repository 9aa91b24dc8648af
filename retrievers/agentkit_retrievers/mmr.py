"""Choosing documents that are close to a query and unlike each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit_retrievers.embedding import Vectors

__all__ = ["marginal_relevance"]


def marginal_relevance(
    scores: Vectors, vectors: Vectors, *, count: int, balance: float = 0.5
) -> list[int]:
    """Maximal marginal relevance (Carbonell & Goldstein 1998).

    The first choice is the closest; each one after it is the best by its closeness, less its
    likeness to the likest of those before it.

    Args:
        scores: Closeness of each candidate to the query, shape ``(n,)``.
        vectors: The candidates, L2-normalised, shape ``(n, dimension)``.
        count: Choose at most this many.
        balance: From 0 for the most diverse to 1 for the closest.

    Returns:
        Positions of the chosen candidates, in the order of their choice.

    Raises:
        UserError: ``balance`` is not between 0 and 1.
    """
    if not 0 <= balance <= 1:
        raise UserError(f"the balance of marginal relevance must be from 0 to 1, not {balance}")
    chosen: list[int] = []
    left = np.ones(len(scores), dtype=bool)
    likeness = np.full(len(scores), -np.inf)
    while len(chosen) < min(count, len(scores)):
        value = scores if not chosen else balance * scores - (1 - balance) * likeness
        best = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return chosen
