"""The mean of two adapters, of which one was trained on from the other.

    python -m finetune.average FIRST SECOND OUTPUT

What further training gains and what it loses lie on the way from one to the other; half way there
is often more of the first than of the second (model soups, Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from agentkit.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def average(first: Path, second: Path, output: Path, *, share: float = 0.5) -> None:
    """Write the mean; settings and recipe are those of the second.

    Args:
        first: A folder that :mod:`finetune.train` wrote.
        second: One that was trained on from there.
        output: Where the mean goes; made if it is not there.
        share: How much of the second.

    Raises:
        SystemExit: They are of different shapes.
    """
    one, other = load_file(first / ADAPTER_WEIGHTS), load_file(second / ADAPTER_WEIGHTS)
    if {n: t.shape for n, t in one.items()} != {n: t.shape for n, t in other.items()}:
        raise SystemExit(f"{first} and {second} are adapters of different shapes")
    mean = {
        name: ((1 - share) * one[name].float() + share * other[name].float()).contiguous()
        for name in one
    }
    output.mkdir(parents=True, exist_ok=True)
    save_file(mean, output / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    for name in (ADAPTER_CONFIG, "recipe.json"):
        shutil.copy(second / name, output)


def main() -> None:
    """Write as the command line says."""
    options = argparse.ArgumentParser(description="The mean of two adapters.")
    options.add_argument("first", type=Path)
    options.add_argument("second", type=Path)
    options.add_argument("output", type=Path)
    options.add_argument("--share", type=float, default=0.5, help="how much of the second")
    given = options.parse_args()
    average(given.first, given.second, given.output, share=given.share)


if __name__ == "__main__":
    main()
