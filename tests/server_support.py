"""Helpers for tests of the server: a real uvicorn in a thread, and models that behave as told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from openai import OpenAI

from agentkit.models.base import ModelEvent, ModelRequest, ModelResponse, TextDelta, Usage
from agentkit.server.running import GracefulServer


class WordModel:
    """Answers any request with the same words, one at a time; counts who is being served.

    Args:
        text: The answer.
        delay: Seconds before each word.
        held: Wait for :meth:`release` before the second word.
    """

    name = "words"

    def __init__(self, text: str = "one two three", *, delay: float = 0.0, held: bool = False):
        self.words = text.split(" ")
        self.delay = delay
        self.running = self.most_running = self.finished = self.stopped = 0
        self.requests: list[ModelRequest] = []
        self._released = threading.Event()
        if not held:
            self.release()

    def release(self) -> None:
        self._released.set()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for i, word in enumerate(self.words):
                await asyncio.sleep(self.delay)
                yield TextDelta(word if i == 0 else f" {word}")
                while not self._released.is_set():  # noqa: ASYNC110  # it is of another thread
                    await asyncio.sleep(0.01)
            usage = Usage(prefilled_tokens=5, sampled_tokens=len(self.words))
            self.finished += 1
            yield ModelResponse(text=" ".join(self.words), usage=usage)
        except BaseException:
            self.stopped += 1
            raise
        finally:
            self.running -= 1

    async def aclose(self) -> None: ...


@contextmanager
def running(app: FastAPI, **options: Any) -> Iterator[GracefulServer]:
    """The application behind a real uvicorn, at a free port of this machine."""
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2, **options)
    server = GracefulServer(config, app.state.agentkit)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        yield server
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not end"


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is true."""
    done = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError(f"it did not come true within {seconds} s")


def http(server: GracefulServer, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60, trust_env=False, **options)


def openai_client(server: GracefulServer, key: str = "unused", **options: Any) -> OpenAI:
    client = httpx.Client(trust_env=False, timeout=120)
    return OpenAI(
        base_url=f"{server.url}/v1",
        api_key=key,
        http_client=client,
        **{"max_retries": 0, **options},
    )


def hello(model: str = "words", **more: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def figures(client: httpx.Client) -> dict[str, float]:
    """What ``/metrics`` says, by name and labels."""
    lines = client.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
