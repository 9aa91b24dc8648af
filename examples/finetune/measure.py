"""Loss and first-token decisions of checkpoints on functions that were kept from training.

    python -m finetune.measure ADAPTER…

Takes a minute a checkpoint where asking through the agent (`finetune.held_out`) takes many.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from agentkit.chat_format import TOOL_CALL_START
from agentkit.engine.tokenization import TokenCodec
from agentkit.models.adapter import merge_adapter
from finetune.base_model import load_base
from finetune.conversations import Mix, groups
from finetune.packing import Pack, packs
from finetune.tree_attention import use_tree


@dataclass(frozen=True)
class Measured:
    """How well a model foretells conversations about functions that it has not seen."""

    loss: float
    """Mean cross entropy of the tokens of the assistant."""
    called: float
    """Share of the turns with a call that begin as one."""
    answered: float
    """Share of the turns without a call that begin as text."""
    tokens: int
    """That were foretold."""


def held_out_packs(codec: TokenCodec, chat_format: Any, *, count: int = 24) -> list[Pack]:
    """Packs of conversations about held-out functions; the same each time.

    Args:
        codec: The model's tokenizer.
        chat_format: The model's format.
        count: How many.
    """
    made = groups(count, seed=1, mix=Mix(composed=0.0, documents=0.0), part="held_out")
    return list(packs(made, codec, chat_format, max_tokens=1024))


@torch.inference_mode()
def measure(model: Any, trees: list[Pack], call_token: int) -> Measured:
    """Run packs through a model.

    Args:
        model: With tree attention.
        trees: Packs.
        call_token: With which a call begins.
    """
    losses, right = list[torch.Tensor](), {True: list[bool](), False: list[bool]()}
    for pack in trees:
        use_tree(pack.branch)
        hidden = model.model(
            input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False
        ).last_hidden_state[0]
        wanted = pack.targets[0]
        learnt = wanted != -100
        logits = model.lm_head(hidden[learnt]).float()
        losses.append(torch.nn.functional.cross_entropy(logits, wanted[learnt], reduction="none"))
        for place in pack.first[0][learnt].nonzero().flatten().tolist():
            calls = int(wanted[learnt][place]) == call_token
            right[calls].append((int(logits[place].argmax()) == call_token) == calls)
    every = torch.cat(losses)
    shares = [sum(r) / max(1, len(r)) for r in (right[True], right[False])]
    return Measured(round(float(every.mean()), 4), *(round(s, 3) for s in shares), len(every))


def main() -> None:
    """Measure the model as it is, and with each adapter."""
    options = argparse.ArgumentParser(description="Held-out loss of adapters.")
    options.add_argument("adapters", nargs="*", type=Path)
    options.add_argument("--model", default="embedded")
    given = options.parse_args()
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    for adapter in given.adapters or [None]:
        model, tokenizer, chat_format = load_base(given.model)
        if adapter is not None:
            merge_adapter(model, adapter)
        codec = TokenCodec(tokenizer)
        call = codec.encode_text(TOOL_CALL_START)[0]
        found = measure(model.to(dtype), held_out_packs(codec, chat_format), call)
        print(json.dumps({"adapter": str(adapter), **asdict(found)}), flush=True)


if __name__ == "__main__":
    main()
