"""Prompt lookup: answers that quote, and answers that do not."""

from __future__ import annotations

import asyncio
from functools import partial

from agentkit import ModelRequest, ModelResponse, Sampling, TransformersModel, UserMessage
from agentkit.models.base import generate
from benchmarks.baseline import TEXT, interleaved
from benchmarks.report import Figure

TOKENS = 80
QUOTE = f"Repeat the following text word for word, and add nothing.\n\n{TEXT}"
STORY = "Write a long story about a lighthouse keeper who finds a letter."


def run() -> list[Figure]:
    """Each prompt with lookup and without; its prompt is in the cache."""
    figures = []
    for form in ("float32", "int4"):
        models = {
            "with": TransformersModel("embedded-base", dtype=form).load(),
            "without": TransformersModel("embedded-base", dtype=form, lookup=False).load(),
        }
        for what, prompt, target in (("quoting", QUOTE, 1.3), ("free text", STORY, 0.95)):
            answers = {name: ask(model, prompt) for name, model in models.items()}
            assert answers["with"].text == answers["without"].text, "lookup changed an answer"
            seconds = interleaved(
                {name: partial(ask, model, prompt) for name, model in models.items()}, repeat=5
            )
            usage = answers["with"].usage
            figures.append(
                Figure(
                    what=f"{what}, {form}: {usage.lookup_tokens} of {usage.generated_tokens} "
                    "tokens by lookup, against none",
                    ours=seconds["with"],
                    baseline=seconds["without"],
                    unit="s",
                    at_least=target,
                )
            )
        for model in models.values():
            model.close()
    return figures


def ask(model: TransformersModel, prompt: str) -> ModelResponse:
    """One greedy answer."""
    request = ModelRequest(
        messages=[UserMessage(prompt)], sampling=Sampling(max_tokens=TOKENS), tools=[]
    )
    return asyncio.run(generate(model, request))
