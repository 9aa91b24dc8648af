"""The plain way: the same model through ``generate()`` of transformers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from agentkit.models.embedded import prepare_embedded_model

__all__ = ["generate_tokens", "interleaved", "plain_model"]

TEXT = (
    "The history of bridges is a history of materials. The first were of wood and of rope, then "
    "stone allowed arches that stand to this day; iron and steel made spans possible that no "
    "mason would have dared. Concrete, strong when pressed and weak when pulled, came into its "
    "own only with steel bars within it. "
)


def plain_model(dtype: torch.dtype) -> Any:
    """The embedded model as transformers loads it."""
    model = AutoModelForCausalLM.from_pretrained(
        prepare_embedded_model("embedded-base"), dtype=dtype
    )
    return model.eval()


@torch.inference_mode()
def generate_tokens(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """``count`` tokens after the prompt, greedily."""
    output = model.generate(
        torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def interleaved(ways: dict[str, Callable[[], object]], *, repeat: int) -> dict[str, float]:
    """Median seconds of each way, taken by turns, after one round that is not counted.

    By turns, so that what else the machine does falls on all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeat + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if number:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found) for name, found in times.items()}
