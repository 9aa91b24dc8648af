"""One agent with everything: a Python function, an HTTP API and documents that it searches.

    python examples/combined.py "How long does the battery last without sun?"

Here the documents are one more tool, so the model decides when to look something up.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from agentkit import (
    Agent,
    FaissRetriever,
    Limits,
    Message,
    Model,
    RetrieverTool,
    Sampling,
    example_call,
)
from calculator import calculate
from common import ask, is_small, load_model, parser, print_sources, run
from docs_qa import HANDBOOK, open_index
from weather_calculator import EXAMPLES, weather_tool
from weather_server import serve_weather

__all__ = ["main"]

QUESTIONS = (
    "What is the weather in Paris?",
    "How much is 12 times 34?",
    "How long does the battery last without sun?",
)
LOOKED_UP = (
    ("How often must the pressure sensor be calibrated?", "Every five years."),
    ("Which frequency does the radio use in Europe?", "The radio uses 868 MHz in Europe."),
)


def assistant(model: Model, address: str, index: FaissRetriever, *, top_k: int) -> Agent:
    """An agent with all three tools."""
    search = RetrieverTool(
        index,
        name="search_handbook",
        description="Search the handbook of the Tern weather station.",
        top_k=top_k,
    )
    return Agent(
        model,
        tools=[calculate, weather_tool(address), search],
        examples=_examples(index),
        limits=Limits(max_steps=5),
        sampling=Sampling(max_tokens=120),
    )


def _examples(index: FaissRetriever) -> list[Message]:
    """The other example's, with a search after each half of them.

    What a search gives back is taken from the index, so that it looks as it will in a run.
    """
    half = len(EXAMPLES) // 2
    examples: list[Message] = []
    for (question, answer), others in zip(
        LOOKED_UP, (EXAMPLES[:half], EXAMPLES[half:]), strict=True
    ):
        found = [hit.document.to_prompt() for hit in index.retrieve(question, top_k=1)]
        result = json.dumps(found, ensure_ascii=False)
        examples += others
        examples += example_call(question, "search_handbook", {"query": question}, result, answer)
    return examples


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the questions of the command line."""
    made = parser("Answer with tools and documents.", questions=QUESTIONS)
    return run(_answer(made.parse_args(arguments)))


async def _answer(options: argparse.Namespace) -> None:
    index = open_index(HANDBOOK)
    top_k = 1 if is_small(options) else 4
    with serve_weather() as address:
        async with assistant(load_model(options), address, index, top_k=top_k) as agent:
            for question in options.questions:
                print_sources(await ask(agent, question))


if __name__ == "__main__":
    sys.exit(main())
