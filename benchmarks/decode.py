"""Milliseconds per decoded token: ours, ``generate()``, and llama.cpp where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from agentkit import TransformersModel
from agentkit.models.embedded import embedded_gguf
from benchmarks.baseline import TEXT, generate_tokens, interleaved, plain_model
from benchmarks.report import Figure

PROMPT_TOKENS, TOKENS = 128, 48
FORMS = ("float32", "bfloat16", "int8", "int4")


def run() -> list[Figure]:
    """The same greedy decoding after the same prompt; prefill is taken off on both sides."""
    ours = {form: TransformersModel("embedded-base", dtype=form).load() for form in FORMS}
    prompt = ours["int4"].engine.tokenizer(TEXT * 3)["input_ids"][:PROMPT_TOKENS]
    plain = {"float32": plain_model(torch.float32), "bfloat16": plain_model(torch.bfloat16)}
    ways: dict[str, Callable[[], object]] = {}
    for form, model in ours.items():
        for count in (1, TOKENS):
            ways[f"ours {form} {count}"] = partial(decode, model, prompt, count)
    for form, model in plain.items():
        for count in (1, TOKENS):
            ways[f"plain {form} {count}"] = partial(generate_tokens, model, prompt, count)
    llama = installed_llama()
    if llama is not None:
        for count in (1, TOKENS):
            ways[f"llama.cpp {count}"] = partial(_llama_decode, llama, prompt, count)
    seconds = interleaved(ways, repeat=5)

    def per_token(who: str) -> float:
        spent = seconds[f"{who} {TOKENS}"] - seconds[f"{who} 1"]
        return 1000 * spent / (TOKENS - 1)

    for model in ours.values():
        model.close()
    figures = [
        _figure("float32", "generate() in float32", per_token("plain float32"), per_token, None),
        _figure("bfloat16", "generate() in bfloat16", per_token("plain bfloat16"), per_token, 1.8),
        _figure("int8", "generate() in bfloat16", per_token("plain bfloat16"), per_token, None),
        _figure("int4", "generate() in bfloat16", per_token("plain bfloat16"), per_token, 4.0),
    ]
    if llama is not None:
        figures.append(
            _figure("int4", "llama.cpp, same file", per_token("llama.cpp"), per_token, 1.0)
        )
    return figures


def decode(model: TransformersModel, prompt: list[int], count: int) -> list[int]:
    """``count`` tokens after the prompt, greedily, by the engine alone."""
    engine = model.engine
    cache, logits = engine.prefill(prompt)
    tokens = [int(logits.argmax())]
    while len(tokens) < count:
        tokens.append(int(engine.forward(cache, tokens[-1:]).argmax()))
    return tokens


def _figure(
    form: str, against: str, baseline: float, ours: Callable[[str], float], target: float | None
) -> Figure:
    return Figure(
        what=f"decode a token, {form}, against {against}",
        ours=ours(f"ours {form}"),
        baseline=baseline,
        unit="ms",
        at_least=target,
    )


def installed_llama() -> Any:
    """The same GGUF file in llama.cpp, or None if ``llama-cpp-python`` is not installed."""
    file = embedded_gguf()
    if importlib.util.find_spec("llama_cpp") is None or file is None:
        return None
    from llama_cpp import Llama

    threads = torch.get_num_threads()
    return Llama(str(file), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)


def _llama_decode(llama: Any, prompt: list[int], count: int) -> None:
    llama.reset()
    llama.eval(prompt)
    for _ in range(count - 1):
        llama.eval([llama.sample(temp=0.0)])
