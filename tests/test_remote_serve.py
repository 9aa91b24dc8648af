"""OpenAIModel against ``agentkit serve`` itself."""

from __future__ import annotations

import pytest

pytest.importorskip("agentkit.server")

from agentkit import (
    Agent,
    ModelNotFoundError,
    ModelRequest,
    OpenAIModel,
    Sampling,
    ScriptedModel,
    ToolCall,
    TransformersModel,
    UserMessage,
)
from agentkit.models.base import TextDelta, generate
from agentkit.server import create_app
from server_support import running


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: One.
        b: The other.
    """
    return a + b


async def test_an_agent_over_http_is_the_agent_in_the_process():
    script = [ToolCall(name="add", arguments={"a": 1, "b": 2}), "It is <3>\u2028 — é."]
    local = await Agent(ScriptedModel(list(script)), [add]).run("What is 1 + 2?")
    with running(create_app(ScriptedModel(list(script)))) as server:
        async with Agent(OpenAIModel(f"{server.url}/v1"), [add]) as agent:
            remote = await agent.run("What is 1 + 2?")
        with pytest.raises(ModelNotFoundError, match="it has: scripted"):
            await generate(
                OpenAIModel(f"{server.url}/v1", "other"), ModelRequest(messages=[UserMessage("x")])
            )
    assert remote.output == local.output
    assert [c.observation for s in remote.steps for c in s.calls] == ["3"]
    assert remote.usage == local.usage


@pytest.mark.model
async def test_the_same_tokens_as_in_the_process():
    model = TransformersModel("embedded")
    request = ModelRequest(
        messages=[UserMessage("Name three colours of the rainbow, one a line.")],
        sampling=Sampling(max_tokens=24, logprobs=1),
    )
    direct = await generate(model, request)
    with running(create_app(model)) as server:
        remote = OpenAIModel(f"{server.url}/v1")
        *pieces, response = [event async for event in remote.stream(request)]
        await remote.aclose()
    assert (
        response.text
        == direct.text
        == "".join(event.text for event in pieces if isinstance(event, TextDelta))
    )
    assert response.finish_reason == direct.finish_reason
    assert response.usage.prompt_tokens == direct.usage.prompt_tokens
    assert response.usage.reused_tokens > 0
    assert len(response.logprobs) == len(direct.logprobs)
