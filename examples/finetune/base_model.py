"""The model that is trained, its tokenizer, and the format of its prompts."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentkit.chat_format import CHATML, GRANITE, ChatFormat
from agentkit.models.embedded import prepare_embedded_model
from finetune.tree_attention import NAME


def load_base(
    name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Any, Any, ChatFormat]:
    """Load a model to train.

    Args:
        name: A hub id, a folder, or `embedded`.
        device: `cpu` or `cuda`.
        dtype: Of the weights.

    Returns:
        The model, its tokenizer, and the format that the framework gives its prompts.
    """
    # Training begins from the model of the package, not from one that was trained before.
    place = str(prepare_embedded_model("embedded-base")) if name == "embedded" else name
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, attn_implementation=NAME).to(
        device
    )
    granite = "<|start_of_role|>" in tokenizer.get_vocab()
    return model, tokenizer, GRANITE if granite else CHATML
