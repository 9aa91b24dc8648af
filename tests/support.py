"""Helpers for tests: a small Granite with random weights, and its tokenizer."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from agentkit import TransformersModel

GRANITE_SPECIAL = [
    "<|pad|>",
    "<|end_of_text|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
]
# As in Granite's tokenizer: tokens of their own, but not "special".
GRANITE_TAGS = ["<tool_call>", "</tool_call>"]


@lru_cache
def granite_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with Granite's delimiters, trained on this repository's text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = [p.read_text(encoding="utf-8") for p in sorted(Path(__file__).parent.glob("*.py"))]
    texts.append((Path(__file__).parent / "data" / "prompt_cases.json").read_text(encoding="utf-8"))
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=GRANITE_SPECIAL,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end_of_text|>", pad_token="<|pad|>"
    )
    tokenizer.add_tokens(GRANITE_TAGS, special_tokens=False)
    return tokenizer


def granite_model(*, hybrid: bool, layers: int = 4) -> TransformersModel:
    """Granite's real architecture, small, with random weights, in float32."""
    tokenizer = granite_tokenizer()
    torch.manual_seed(0)
    config = GraniteMoeHybridConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        shared_intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["mamba", "attention"] * (layers // 2) if hybrid else ["attention"] * layers,
        num_local_experts=0,
        num_experts_per_tok=0,
        mamba_n_heads=8,
        mamba_d_head=16,
        mamba_d_state=16,
        mamba_n_groups=1,
        max_position_embeddings=8192,
        attention_multiplier=0.25,
        residual_multiplier=0.22,
        embedding_multiplier=12,
        logits_scaling=1,
        initializer_range=0.2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    model = GraniteMoeHybridForCausalLM(config).eval()
    name = "granite-random-hybrid" if hybrid else "granite-random"
    return TransformersModel.from_loaded(model, tokenizer, name=name)


def small_model(kind: str, vocabulary: int = 320) -> Any:
    """A model with random weights whose widths are multiples of 32.

    Args:
        kind: ``llama``, ``old_granite`` (before 4.0), ``granite`` or ``granite_hybrid``.
        vocabulary: Tokens, for the first two.
    """
    if kind in ("granite", "granite_hybrid"):
        return granite_model(hybrid=kind == "granite_hybrid").engine.model
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "max_position_embeddings": 8192,
    }
    if kind == "llama":  # with biases, untied, and heads that are not hidden / heads wide
        config = LlamaConfig(**shape, attention_bias=True, head_dim=24, tie_word_embeddings=False)
        return LlamaForCausalLM(config).eval()
    multipliers = {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "logits_scaling": 2.0}
    return GraniteForCausalLM(GraniteConfig(**shape, **multipliers)).eval()


def random_ids(count: int, seed: int = 0) -> list[int]:
    """Token ids below 300."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 300, (count,), generator=generator).tolist()


@torch.inference_mode()
def plain_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    """Logits after each token, read in one go by transformers."""
    logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


def random_schema(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    """A random JSON Schema of an arguments object, of the kinds that functions have."""
    properties = {
        name: _random_value_schema(rng, depth)
        for name in rng.sample(["city", "days", "unit", "items", "größe", "flag", "note"], 3)
    }
    return {
        "type": "object",
        "properties": properties,
        "required": rng.sample(sorted(properties), rng.randint(0, 3)),
        **({"additionalProperties": False} if rng.random() < 0.5 else {}),
    }


def _random_value_schema(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds = ["string", "integer", "number", "boolean", "enum", "null", "const", "format", "anyOf"]
    kind = rng.choice(kinds + (["array", "object"] * 2 if depth else []))
    match kind:
        case "string":
            bounds = rng.choice([{}, {"minLength": 2}, {"maxLength": 12}, {"pattern": "^[a-z]+$"}])
            return {"type": "string", "description": "some text", **bounds}
        case "integer":
            low = rng.randint(-50, 50)
            bounds = rng.choice([{}, {"minimum": low}, {"minimum": low, "maximum": low + 20}])
            return {"type": "integer", **bounds}
        case "number":
            return {"type": "number", **rng.choice([{}, {"minimum": 0}, {"exclusiveMaximum": 7}])}
        case "enum":
            return {"enum": rng.sample(["celsius", "fahrenheit", "é", 3, None, 'q"uote', True], 3)}
        case "const":
            return {"const": rng.choice(["fixed", 7, {"a": [1, 2]}])}
        case "format":
            return {"type": "string", "format": rng.choice(["date", "date-time", "email", "uuid"])}
        case "anyOf":
            return {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["all", "none"]}]}
        case "array":
            bounds = rng.choice([{}, {"minItems": 1}, {"maxItems": 3}, {"minItems": 2}])
            return {"type": "array", "items": _random_value_schema(rng, depth - 1), **bounds}
        case "object":
            return random_schema(rng, depth - 1)
    return {"type": kind}


def prompt_cases() -> list[dict[str, Any]]:
    """The recorded inputs and outputs of Granite's own chat template."""
    path = Path(__file__).parent / "data" / "prompt_cases.json"
    cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return cases
