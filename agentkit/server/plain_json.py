"""Values of any shape that clients send: made safe before anything else reads them."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator

__all__ = ["AnyObject", "AnyValue"]

_MAX_DEPTH = 64


def _safe(value: Any, depth: int = 0) -> Any:
    """A copy without half surrogate pairs, which no tokenizer and no UTF-8 takes.

    Raises:
        ValueError: It is nested too deeply, or holds what JSON has no number for.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_safe(k, depth): _safe(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_safe(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a number that JSON knows")
    return value


AnyObject: TypeAlias = Annotated[dict[str, Any], AfterValidator(_safe)]
"""A JSON object of any shape."""

AnyValue: TypeAlias = Annotated[Any, AfterValidator(_safe)]
"""Any JSON value."""
