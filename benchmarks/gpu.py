"""Decoding on a GPU: Granite-1b's shape with random weights, ``python -m benchmarks.gpu``.

Ours against ``generate()`` of transformers in the same type, eight sequences at once against one
after another, and the share of the card's memory bandwidth that is used. Not among the benchmarks
of ``python -m benchmarks``, which run on CPUs.

``--device cpu --tiny`` runs the same program on a shape of a few hundred thousand weights, through
the static cache that a GPU decodes from; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

from agentkit.engine.backend import Row
from agentkit.engine.eager.backend import EagerBackend
from agentkit.engine.eager.model import quantize_model
from agentkit.engine.eager.weights import FORMS, TorchForm
from agentkit.engine.kv_cache import KVCache
from benchmarks.baseline import interleaved
from benchmarks.report import Figure

AGENTS = 8
PROMPT = 128

GRANITE_1B: dict[str, Any] = {
    "vocab_size": 100352,
    "hidden_size": 2048,
    "intermediate_size": 4096,
    "shared_intermediate_size": 4096,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "mamba_n_heads": 64,
    "mamba_d_head": 64,
}
TINY: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "shared_intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
}


def random_model(shape: dict[str, Any], device: torch.device) -> Any:
    """Dense Granite 4.0 of a shape, in bfloat16."""
    torch.manual_seed(0)
    config = GraniteMoeHybridConfig(
        **shape,
        layer_types=["attention"] * shape["num_hidden_layers"],
        num_local_experts=0,
        num_experts_per_tok=0,
        tie_word_embeddings=True,
        attention_multiplier=0.0078125,
        residual_multiplier=0.22,
        embedding_multiplier=12,
        logits_scaling=8,
        eos_token_id=None,
    )
    with device:
        model = GraniteMoeHybridForCausalLM._from_config(config, dtype=torch.bfloat16)
    return model.to(device).eval()


def measure(model: Any, device: torch.device, tokens: int) -> list[Figure]:
    """The table for one form of weights; the model's own is ``generate()``'s."""
    backend = EagerBackend(model, static=True)
    ways: dict[str, Callable[[], object]] = {}
    for count in (1, tokens):
        ways[f"plain {count}"] = partial(_finished, device, partial(_generate, model, count))
        ways[f"one {count}"] = partial(
            _finished, device, partial(_decode, backend, model, 1, count)
        )
        ways[f"all {count}"] = partial(
            _finished, device, partial(_decode, backend, model, AGENTS, count)
        )
    seconds = interleaved(ways, repeat=3)

    def each(who: str) -> float:
        """Milliseconds a pass, without what the prompt takes."""
        return 1000 * (seconds[f"{who} {tokens}"] - seconds[f"{who} 1"]) / (tokens - 1)

    weights = sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values())
    limit = 1000 * weights / bandwidth(device)
    return [
        Figure(
            what="a token, against generate()",
            ours=each("one"),
            baseline=each("plain"),
            unit="ms",
            at_least=1.0,
        ),
        Figure(
            what=f"a token of {AGENTS} sequences at once, against one after another",
            ours=each("all"),
            baseline=AGENTS * each("one"),
            unit="ms",
            at_least=5.0,
        ),
        Figure(
            what=f"reading {weights / 1e9:.2f} GB of weights as fast as the memory allows, "
            "against a token",
            ours=limit,
            baseline=each("one"),
            unit="ms",
        ),
    ]


def forms(model_of: Callable[[], Any], device: torch.device, tokens: int) -> list[Figure]:
    """Weights in fewer bits against bfloat16, one sequence."""
    backends: dict[str, tuple[EagerBackend, Any]] = {}
    for form in (None, *FORMS):
        try:
            backends[form or "bfloat16"] = _form(model_of(), form)
        except Exception as error:  # a card without it, or a torch
            print(f"{form} cannot be had here: {error}", file=sys.stderr)
    seconds = interleaved(
        {
            form: partial(_finished, device, partial(_decode, backend, model, 1, tokens))
            for form, (backend, model) in backends.items()
        },
        repeat=3,
    )
    return [
        Figure(
            what=f"{tokens} tokens with their prompt in {form}, against bfloat16",
            ours=seconds[form],
            baseline=seconds["bfloat16"],
            unit="s",
        )
        for form in backends
        if form != "bfloat16"
    ]


def bandwidth(device: torch.device) -> float:
    """Bytes a second that the memory gives, as a large copy measures it."""
    large = torch.empty((1 << 30) if device.type == "cuda" else (1 << 26), dtype=torch.uint8)
    source = large.to(device)
    target = torch.empty_like(source)
    seconds = interleaved(
        {"copy": lambda: _finished(device, lambda: target.copy_(source))}, repeat=5
    )
    return 2 * source.nbytes / seconds["copy"]


def _form(model: Any, form: TorchForm | None) -> tuple[EagerBackend, Any]:
    if form is not None:
        quantize_model(model, form)
    backend = EagerBackend(model, static=True)
    _decode(backend, model, 1, 2)
    return backend, model


def _finished(device: torch.device, way: Callable[[], object]) -> None:
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def _generate(model: Any, count: int) -> None:
    ids = torch.arange(PROMPT, device=model.device)[None]
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )


def _decode(backend: EagerBackend, model: Any, rows: int, count: int) -> None:
    """Greedily, as the engine does: each token is fetched before the next is read."""
    caches = [KVCache(model.config) for _ in range(rows)]
    logits = [backend.forward([Row(cache, list(range(PROMPT)))])[0] for cache in caches]
    for _ in range(count - 1):
        tokens = torch.stack([row[-1] for row in logits]).argmax(-1).tolist()
        pairs = zip(caches, tokens, strict=True)
        logits = backend.forward([Row(cache, [token]) for cache, token in pairs])


def main() -> None:
    """Measure and print, or say that there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the program")
    parser.add_argument("--tiny", action="store_true", help="a shape that any machine decodes")
    parser.add_argument("--tokens", type=int, default=128, help="to decode (default: 128)")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here: torch finds no CUDA device, and nothing was measured")
    device = torch.device(args.device)
    make = partial(random_model, TINY if args.tiny else GRANITE_1B, device)
    begin = time.perf_counter()
    figures = [*measure(make(), device, args.tokens), *forms(make, device, args.tokens)]
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU, where it means nothing"
    table = Table("figure", "ours", "baseline", "ratio", "target", "")
    for figure in figures:
        table.add_row(*figure.cells())
    console = Console()
    console.print(f"{name}, torch {torch.__version__}, {time.perf_counter() - begin:.0f} s in all")
    console.print(table)


if __name__ == "__main__":
    main()
