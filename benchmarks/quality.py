"""What packing the weights costs in quality: perplexity, and calls that come out the same."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import torch
from torch.nn import functional

from agentkit import ModelRequest, Sampling, TransformersModel, UserMessage
from agentkit.engine.backend import Row
from agentkit.engine.kv_cache import KVCache
from agentkit.models.base import generate
from benchmarks.grammar import TOOLS
from benchmarks.report import Figure

HANDBOOK = Path(__file__).parents[1] / "examples" / "data" / "handbook"
FORMS = ("bfloat16", "int8", "int4")
DINNERS = [
    f"Book a table for {guests} at {place}, {seat}{chair}."
    for guests, place, seat, chair in (
        ("two", "Luigi's", "indoors", ""),
        ("four", "the Golden Lion", "outdoors", ", one of us uses a wheelchair"),
        ("six", "Chez Anne", "at the bar", ""),
        ("three", "Noodle House", "on the terrace", ""),
        ("a dozen", "The Anchor", "inside", ", with a wheelchair"),
        ("one", "Café Central", "anywhere", ""),
        ("eight", "Sakura", "outside", ""),
        ("five", "Old Mill", "indoors", ", wheelchair access needed"),
    )
]


def run() -> list[Figure]:
    """Against float32; the embedded model is stored in four bits, so ``int4`` loses nothing."""
    plain = TransformersModel("embedded-base", dtype="float32").load()
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(HANDBOOK.glob("*.md")))
    ids = plain.engine.tokenizer(text)["input_ids"][:1500]
    expected, calls = perplexity(plain, ids), asyncio.run(_calls(plain))
    figures = []
    for form in FORMS:
        model = TransformersModel("embedded-base", dtype=form).load()
        same = sum(a == b for a, b in zip(calls, asyncio.run(_calls(model)), strict=True))
        figures.append(
            Figure(
                what=f"{form}: perplexity over {len(ids)} tokens, against float32; "
                f"{same} of {len(calls)} calls are the same",
                ours=perplexity(model, ids),
                baseline=expected,
                unit="",
            )
        )
        model.close()
    plain.close()
    return figures


def perplexity(model: TransformersModel, ids: list[int], *, step: int = 16) -> float:
    """Over the text, read in steps that go through the decoding pass rather than the prefill."""
    cache = KVCache(model.engine.model.config)
    total, backend = 0.0, model.engine.backend
    backend.forward([Row(cache, ids[:step])])
    for begin in range(step, len(ids) - 1, step):
        part, following = ids[begin : begin + step], ids[begin + 1 : begin + step + 1]
        logits = backend.forward([Row(cache, part, keep=len(part))])[0][: len(following)]
        loss = functional.cross_entropy(logits, torch.tensor(following), reduction="sum")
        total += float(loss)
    return math.exp(total / (len(ids) - 1 - step))


async def _calls(model: TransformersModel) -> list[str]:
    found = []
    for dinner in DINNERS:
        request = ModelRequest(
            messages=[UserMessage(dinner)],
            tools=TOOLS,
            tool_choice="required",
            parallel_tool_calls=False,
            sampling=Sampling(max_tokens=120),
        )
        found.append(str((await generate(model, request)).calls[0].arguments))
    return found
