"""An agent with two tools: a Python function, and an HTTP API that this program also starts.

python examples/weather_calculator.py "What is the weather in Paris?" "How much is 12 times 34?"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from agentkit import Agent, HTTPTool, Limits, Model, Sampling, example_call
from calculator import calculate
from common import ask, load_model, parser, run
from weather_server import serve_weather

__all__ = ["EXAMPLES", "main", "toolsmith", "weather_tool"]

QUESTIONS = ("What is the weather in Paris?", "How much is 12 times 34?")

# One exchange shows a large model the form of an answer. A small one also learns from them
# which tool is for what, and for that it needs to see each tool twice, in turn.
EXAMPLES = (
    *example_call(
        "What is the weather in Rome?",
        "get_weather",
        {"city": "Rome"},
        "31 degrees and cloudy",
        "It is 31 degrees and cloudy in Rome.",
    ),
    *example_call(
        "How much is 3 times 5?", "calculate", {"expression": "3 * 5"}, "15", "The result is 15."
    ),
    *example_call(
        "What is the weather in Oslo?",
        "get_weather",
        {"city": "Oslo"},
        "4 degrees and snowing",
        "It is 4 degrees and snowing in Oslo.",
    ),
    *example_call(
        "How much is 81 divided by 9?",
        "calculate",
        {"expression": "81 / 9"},
        "9",
        "The result is 9.",
    ),
)


def weather_tool(address: str) -> HTTPTool:
    """The weather service at an address, as a tool."""
    return HTTPTool(
        name="get_weather",
        description="Get the current weather of a city.",
        url=f"{address}/weather/{{city}}",
        parameters={
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
        response="summary",
    )


def toolsmith(model: Model, address: str) -> Agent:
    """An agent that knows the weather and can calculate."""
    return Agent(
        model,
        tools=[calculate, weather_tool(address)],
        examples=EXAMPLES,
        limits=Limits(max_steps=4),
        sampling=Sampling(max_tokens=80),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the questions of the command line."""
    made = parser("Answer with a calculator and a weather service.", questions=QUESTIONS)
    return run(_answer(made.parse_args(arguments)))


async def _answer(options: argparse.Namespace) -> None:
    with serve_weather() as address:
        async with toolsmith(load_model(options), address) as agent:
            for question in options.questions:
                await ask(agent, question)


if __name__ == "__main__":
    sys.exit(main())
