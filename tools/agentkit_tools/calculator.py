"""A calculator: arithmetic that a model may be trusted with, exact and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit_tools._arithmetic import evaluate, format_number
from agentkit_tools.function import FunctionTool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["calculator", "evaluate"]


def calculator(*, name: str = "calculate", timeout: float | None = None) -> FunctionTool[..., str]:
    """A tool that works out an arithmetic expression.

    It knows ``+ - * / // % **``, brackets, percentages (``15% of 80``), factorials (``5!``),
    the constants ``pi``, ``e`` and ``tau``, roots, logarithms, trigonometry in radians or with
    ``°``, ``min``, ``max``, ``sum``, ``mean``, ``round`` (halves away from zero), ``gcd``,
    ``lcm``, ``comb`` and ``perm``. It reads what models write: ``×``, ``÷``, ``−``, ``^``,
    ``√``, ``²``, ``1,234.50``, ``$20``, ``2(3 + 4)``. Whole numbers and decimals are exact
    (``0.1 + 0.2`` is ``0.3``). No name leads to Python; an expression that would take long or
    grow large is refused at once.

    Args:
        name: Under which the model knows it.
        timeout: Seconds for one call; ``None`` for the agent's default.

    Returns:
        The tool; it can also be called as a function of the expression.
    """

    def calculate(expression: str) -> str:
        """Work out an arithmetic expression.

        Args:
            expression: Numbers, + - * / and brackets, such as "2 * (3 + 4)"
        """
        return format_number(evaluate(expression))

    function: Callable[..., str] = calculate
    return FunctionTool(function, name=name, timeout=timeout)
