"""How a model that wrote a bad call is made to write another one."""

from __future__ import annotations

from dataclasses import replace

from agentkit.models.base import Sampling

__all__ = ["resampled"]

_TEMPERATURE = 0.7
_STEP = 0.2
_HOTTEST = 1.2
_TOP_P = 0.95
_SEED_STRIDE = 7919  # seeds that programs choose lie closer together


def resampled(sampling: Sampling, attempt: int) -> Sampling:
    """Rules under which a turn is written on from where a bad call began.

    The likeliest tokens led to the bad call, so they must not be taken again: each attempt is
    hotter than the last. A run that could be repeated still can: greedy decoding and a given
    seed lead to fixed seeds.

    Args:
        sampling: The rules so far.
        attempt: Calls that were taken back in this turn.
    """
    hotter = min(_HOTTEST, _TEMPERATURE + _STEP * (attempt - 1))
    repeatable = sampling.temperature == 0 or sampling.seed is not None
    return replace(
        sampling,
        temperature=max(sampling.temperature, hotter),
        top_p=_TOP_P if sampling.top_p is None else sampling.top_p,
        seed=(sampling.seed or 0) + attempt * _SEED_STRIDE if repeatable else None,
    )
