"""Merge an adapter into its model, and write the whole as a folder that agentkit loads.

python -m finetune.merge ADAPTER OUTPUT
agentkit ask --model OUTPUT "…"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from agentkit.models.adapter import merge_adapter
from finetune.base_model import load_base


def merge(adapter: Path, output: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Merge and write.

    Args:
        adapter: A folder that :mod:`finetune.train` wrote.
        output: Where the model goes.
        dtype: Of the weights that are written.
    """
    recipe = json.loads((adapter / "recipe.json").read_text("utf-8"))
    model, tokenizer, _ = load_base(recipe["model"])
    merge_adapter(model, adapter)
    model.config._attn_implementation = "sdpa"  # the one for training is not known elsewhere
    model.to(dtype).save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> None:
    """Merge as the command line says."""
    options = argparse.ArgumentParser(description="Adapter and base to one model.")
    options.add_argument("adapter", type=Path)
    options.add_argument("output", type=Path)
    given = options.parse_args()
    merge(given.adapter, given.output)


if __name__ == "__main__":
    main()
