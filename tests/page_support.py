"""A served application in a thread, and a browser to look at its page."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from agentkit.agent import Agent
from agentkit.messages import ToolCall
from agentkit.models.base import ModelResponse, Timings, Usage
from agentkit.models.scripted import ScriptedModel, ScriptedStep
from agentkit.parsing import ParsedCall
from agentkit.retrieval import Document, ScoredDocument
from agentkit.server import ServerOptions, create_app
from agentkit.server.conversations import Conversations
from agentkit.server.running import GracefulServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)"
)

HANDBOOK = (
    "The Tern station runs on sunlight. A full battery lasts eleven days without any sun. "
    "Replace the battery after six years. The radio goes silent below ten percent."
)


@contextmanager
def served(
    agents: dict[str, Agent],
    *,
    options: ServerOptions | None = None,
    conversations: Conversations | None = None,
) -> Iterator[str]:
    """Serve agents at a free port.

    Yields:
        The server's URL.
    """
    app = create_app(agents=agents, options=options, conversations=conversations)
    config = uvicorn.Config(
        app, port=0, log_level="error", server_header=False, timeout_graceful_shutdown=1
    )
    ready = threading.Event()
    server = GracefulServer(config, app.state.agentkit, on_started=lambda _: ready.set())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield server.url
    finally:
        server.should_exit = True
        thread.join(30)


def get_weather(city: str) -> dict[str, Any]:
    """The weather in a city.

    Args:
        city: Its name.
    """
    return {"city": city, "celsius": 21, "sky": "clear"}


class Handbook:
    """Finds its one passage, whatever is asked."""

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        document = Document(
            text=HANDBOOK,
            doc_id="power-0",
            title="Power",
            source="handbook/power.md",
            start=120,
            end=120 + len(HANDBOOK),
        )
        return [ScoredDocument(document, 0.91)]


def weather_call(city: str) -> ToolCall:
    """A call of ``get_weather``."""
    return ToolCall(name="get_weather", arguments={"city": city})


def measured(text: str = "", *calls: ToolCall, reused: int = 0) -> ModelResponse:
    """A turn with an account, as a model of ours gives it."""
    return ModelResponse(
        text=text,
        calls=tuple(
            ParsedCall(
                raw=f'{{"name": "{c.name}", "arguments": {c.arguments_json()}}}',
                name=c.name,
                arguments=c.arguments if not isinstance(c.arguments, str) else None,
                id=c.id,
            )
            for c in calls
        ),
        finish_reason="tool_calls" if calls else "stop",
        usage=Usage(
            prefilled_tokens=120, reused_tokens=reused, sampled_tokens=30, forced_tokens=12
        ),
        timings=Timings(render=0.001, prefill=0.12, decode=0.3, grammar=0.02),
    )


def agent(steps: list[ScriptedStep], *, delay: float = 0.0, **options: Any) -> Agent:
    """An agent with a script and a weather tool."""
    return Agent(ScriptedModel(steps, delay=delay), tools=[get_weather], **options)
