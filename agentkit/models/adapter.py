"""LoRA adapters: small matrices that change what a model does, merged into its weights.

An adapter is a folder as peft writes it: ``adapter_config.json`` and
``adapter_model.safetensors``. Merged, it costs nothing at run time.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from agentkit.errors import ModelLoadError

__all__ = ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "merge_adapter"]

ADAPTER_CONFIG = "adapter_config.json"
"""In an adapter's folder: rank, scale and kind."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""In an adapter's folder: the matrices."""

_KEY = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<half>[AB])\.weight")
# Forms of LoRA that change weights in another way than by a scaled product.
_UNKNOWN_FORMS = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "use_qalora")


def merge_adapter(model: Any, folder: Path | str) -> None:
    """Add an adapter to a model's weights, in place: ``W + alpha / r * B @ A`` (Hu et al. 2021).

    Args:
        model: A transformers model, with weights in float32, bfloat16 or float16.
        folder: The adapter.

    Raises:
        ModelLoadError: The folder holds no LoRA adapter, one of an unknown form, or one for
            another model.
    """
    import torch
    from safetensors.torch import load_file

    place = Path(folder)
    scale = _scale(place)
    try:
        tensors = load_file(place / ADAPTER_WEIGHTS)
    except Exception as error:  # safetensors has exceptions of its own, not derived from OSError
        raise ModelLoadError(f"{place / ADAPTER_WEIGHTS} cannot be read: {error}") from error
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelLoadError(f"the adapter in {place} holds {key!r}, which is no LoRA matrix")
        halves.setdefault(match["layer"], {})[match["half"]] = tensor.float()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for layer, pair in halves.items():
            weight = weights.get(f"{layer}.weight")
            if weight is None or pair.keys() != {"A", "B"}:
                raise ModelLoadError(f"the adapter in {place} is not for this model: {layer!r}")
            change = scale * (pair["B"] @ pair["A"])
            if change.shape != weight.shape:
                raise ModelLoadError(
                    f"the adapter in {place} is for another model: {layer!r} is "
                    f"{tuple(weight.shape)} here and {tuple(change.shape)} there"
                )
            weight.copy_(weight.float() + change.to(weight.device))


def _scale(folder: Path) -> float:
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(
            f"{folder} holds no LoRA adapter: {ADAPTER_CONFIG} is missing or not readable "
            f"({error}); give a folder that peft's save_pretrained wrote"
        ) from error
    strange = [name for name in _UNKNOWN_FORMS if config.get(name)]
    if config.get("peft_type") != "LORA" or strange:
        kind = ", ".join(strange) or config.get("peft_type")
        raise ModelLoadError(
            f"the adapter in {folder} is of a form that cannot be merged here ({kind}); merge "
            "it with peft's merge_and_unload and load the merged folder"
        )
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
