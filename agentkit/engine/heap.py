"""Giving memory back to the system that the allocator keeps for later."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

__all__ = ["trim_heap"]


def trim_heap() -> None:
    """Give back what is free, where the C library can (glibc's ``malloc_trim``).

    KV caches come and go in sizes that never quite repeat, and the holes between them stay with
    the process: some 20 MiB after a thousand turns. Takes milliseconds.
    """
    _malloc_trim()(0)


@functools.cache
def _malloc_trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return lambda pad: None
    return trim
