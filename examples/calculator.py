"""The ready calculator as a tool, and as a function of an expression.

python examples/calculator.py "15% of 1,240" "√2 × 10"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from agentkit import ToolError
from agentkit_tools import calculator

__all__ = ["calculate", "main"]

calculate = calculator()


def main(expressions: Sequence[str] | None = None) -> int:
    """Work out the expressions, and say what is wrong with those that have no value."""
    for expression in sys.argv[1:] if expressions is None else expressions:
        try:
            print(f"{expression} = {calculate(expression)}")
        except ToolError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
