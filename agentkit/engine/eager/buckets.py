"""Which shape a pass over static tensors has: there are few, so that each can be captured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MOST_TOKENS", "Shape", "fitting", "length_step", "row_step", "shape_for"]

MOST_TOKENS = 16
"""Tokens of a row up to which it is padded: as many as prompt lookup drafts."""

_SHORTEST = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one pass."""

    rows: int
    """1, 2, 4, 8, 16, …"""
    tokens: int
    """Of each row: 1, 2, 4, 8 or 16."""
    length: int
    """Of each row's past with its new tokens: 256, 512, 1024, …"""


def shape_for(counts: Sequence[int], lengths: Sequence[int]) -> Shape:
    """The smallest shape for some rows.

    Args:
        counts: Tokens that each row reads.
        lengths: Tokens that each row's sequence then has.
    """
    return Shape(row_step(len(counts)), row_step(max(counts)), length_step(max(lengths)))


def row_step(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def length_step(length: int) -> int:
    """The next power of two, at least 256."""
    return max(_SHORTEST, row_step(length))


def fitting(lengths: Sequence[int], most: int) -> list[int]:
    """Which rows go into a static cache: every slot is as long as the longest row's.

    Args:
        lengths: Tokens of each row.
        most: Tokens that all slots may hold together.

    Returns:
        Their numbers, in order; the longest are left out until the rest fits.
    """
    kept = sorted(range(len(lengths)), key=lambda i: lengths[i])
    while kept and row_step(len(kept)) * length_step(lengths[kept[-1]]) > most:
        kept.pop()
    return sorted(kept)
