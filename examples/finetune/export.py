"""An adapter as it is given to others: in bfloat16, with the public name of its base.

    python -m finetune.export ADAPTER OUTPUT --alpha 54

With a smaller alpha than it was trained with, an adapter changes its base less: a little less of
what it taught, and more of what the base knew (Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from agentkit.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS

# Of peft's settings, those that say what the matrices are; the others are about training.
_KEPT = ("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "target_modules")
BASES = {"embedded": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Where the base of an adapter is published, if its recipe names it otherwise."""


def export(adapter: Path, output: Path, *, alpha: float | None = None) -> None:
    """Write the adapter.

    Args:
        adapter: A folder that :mod:`finetune.train` wrote.
        output: Where it goes; made if it is not there.
        alpha: What its product is scaled by, times the rank; as in training, if not given.
    """
    output.mkdir(parents=True, exist_ok=True)
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    small = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    save_file(small, output / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    settings = json.loads((adapter / ADAPTER_CONFIG).read_text("utf-8"))
    kept = {name: settings[name] for name in _KEPT}
    kept["lora_alpha"] = alpha or kept["lora_alpha"]
    kept["target_modules"] = sorted(kept["target_modules"])
    base = json.loads((adapter / "recipe.json").read_text("utf-8"))["model"]
    kept["base_model_name_or_path"] = BASES.get(base, base)
    (output / ADAPTER_CONFIG).write_text(json.dumps(kept, indent=2) + "\n", "utf-8")


def main() -> None:
    """Write as the command line says."""
    options = argparse.ArgumentParser(description="An adapter to give to others.")
    options.add_argument("adapter", type=Path)
    options.add_argument("output", type=Path)
    options.add_argument("--alpha", type=float, help="in place of the one of the training")
    given = options.parse_args()
    export(given.adapter, given.output, alpha=given.alpha)


if __name__ == "__main__":
    main()
