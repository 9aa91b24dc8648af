"""Seconds until a prompt is read: ours, transformers' own forward pass, and llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from agentkit import TransformersModel
from benchmarks.baseline import TEXT, interleaved, plain_model
from benchmarks.decode import FORMS, installed_llama
from benchmarks.report import Figure

PROMPT_TOKENS = 480


def run() -> list[Figure]:
    """The same prompt from an empty cache, against the faster of transformers' two types."""
    ours = {form: TransformersModel("embedded-base", dtype=form).load() for form in FORMS}
    prompt = ours["int4"].engine.tokenizer(TEXT * 9)["input_ids"][:PROMPT_TOKENS]
    ways: dict[str, Callable[[], object]] = {
        form: partial(model.engine.prefill, prompt) for form, model in ours.items()
    }
    types = (torch.float32, torch.bfloat16)
    ways |= {f"plain {t}": partial(_read, plain_model(t), prompt) for t in types}
    llama = installed_llama()
    if llama is not None:
        ways["llama.cpp"] = partial(_llama_read, llama, prompt)
    seconds = interleaved(ways, repeat=5)
    for model in ours.values():
        model.close()
    baseline = min(seconds[f"plain {t}"] for t in types)
    figures = [
        Figure(
            what=f"read {PROMPT_TOKENS} tokens, {form}, against transformers",
            ours=seconds[form],
            baseline=baseline,
            unit="s",
        )
        for form in FORMS
    ]
    if llama is not None:
        what = f"read {PROMPT_TOKENS} tokens, int4, against llama.cpp, same file"
        figures.append(
            Figure(what=what, ours=seconds["int4"], baseline=seconds["llama.cpp"], unit="s")
        )
    return figures


@torch.inference_mode()
def _read(model: Any, prompt: list[int]) -> None:
    model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)


def _llama_read(llama: Any, prompt: list[int]) -> None:
    llama.reset()
    llama.eval(prompt)
