"""A LangGraph agent on the in-process model, stopped before each tool and resumed.

python examples/langgraph_agent.py "What is the weather in Paris?"

The graph keeps its state in a checkpointer. It is interrupted where the model has asked for a
tool; a second graph, which shares nothing with the first but the checkpointer, goes on from
there. With a checkpointer that writes to a database, that may be another process on another day.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from agentkit import tool
from agentkit.langchain import ChatGranite, to_langchain
from calculator import calculate
from common import console, load_model, parser, run
from weather_calculator import EXAMPLES
from weather_server import WEATHER

__all__ = ["main", "make_graph"]

QUESTIONS = ("What is the weather in Paris?", "How much is 12 times 34?")


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city.

    Args:
        city: Name of the city.
    """
    celsius, sky = WEATHER[city]
    return f"{celsius} degrees and {sky}"


def make_graph(chat: ChatGranite, checkpointer: BaseCheckpointSaver[Any]) -> Any:
    """LangChain's own agent, with the tools of the other examples."""
    return create_agent(
        chat,
        [to_langchain(get_weather), to_langchain(calculate)],
        checkpointer=checkpointer,
        interrupt_before=["tools"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the questions of the command line."""
    made = parser("Answer with LangGraph, a stop before each tool.", questions=QUESTIONS)
    return run(_answer(made.parse_args(arguments)))


async def _answer(options: argparse.Namespace) -> None:
    model = load_model(options)
    # One call at a time: the smallest models repeat theirs otherwise.
    chat = ChatGranite(
        client=model, examples=list(EXAMPLES), max_tokens=80, parallel_tool_calls=False
    )
    checkpointer = InMemorySaver()
    try:
        for number, question in enumerate(options.questions):
            console.print(f"\n[bold]{question}[/]")
            thread: Any = {"configurable": {"thread_id": str(number)}}
            state: Any = {"messages": [("user", question)]}
            # Each round is a new graph: all that it knows comes from the checkpointer.
            for _ in range(4):
                graph = make_graph(chat, checkpointer)
                result = await graph.ainvoke(state, thread)
                waiting = (await graph.aget_state(thread)).next
                if not waiting:
                    break
                for call in result["messages"][-1].tool_calls:
                    shown = ", ".join(f"{k}={v!r}" for k, v in call["args"].items())
                    console.print(f"  [cyan]stopped[/] before {call['name']}({shown})")
                state = None  # go on from the checkpoint
            console.print(f"  [green]says[/]    {result['messages'][-1].text}")
    finally:
        await model.aclose()


if __name__ == "__main__":
    sys.exit(main())
