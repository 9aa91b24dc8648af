"""Tools both ways, and agents as runnables."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import ToolException
from langchain_core.tools import tool as langchain_tool
from langgraph.graph import START, MessagesState, StateGraph

from agentkit import (
    Agent,
    Document,
    ScriptedModel,
    ToolCall,
    ToolContext,
    ToolError,
    tool,
)
from agentkit.errors import UserError
from agentkit.langchain import from_langchain, to_langchain
from agentkit.retrieval import RetrieverTool, ScoredDocument


@tool
def add(a: int, b: int) -> int:
    """Add two integers."""
    if a < 0:
        raise ToolError("a must not be negative")
    return a + b


def call(**arguments: Any) -> dict[str, Any]:
    return {"name": "add", "args": arguments, "id": "1", "type": "tool_call"}


async def test_agentkit_tool_in_langchain() -> None:
    converted = to_langchain(add)
    assert converted.name == "add"
    assert set(converted.args) == {"a", "b"}
    assert converted.invoke({"a": 1, "b": 2}) == "3"
    message = await converted.ainvoke(call(a="1", b=2))  # mended, as in an agent's run
    assert (message.content, message.artifact, message.status) == ("3", 3, "success")
    failed = converted.invoke(call(a=-1, b=2))
    assert (failed.content, failed.status) == ("a must not be negative", "error")
    invalid = converted.invoke(call(a="x", b=2))
    assert invalid.status == "error"
    assert "not valid" in invalid.content


def test_plain_function_and_deps_in_langchain() -> None:
    def whoami(context: ToolContext) -> str:
        """Say who the user is."""
        return str(context.deps)

    converted = to_langchain(whoami, deps="Ada")
    assert converted.invoke({}) == "Ada"
    with pytest.raises(UserError, match="neither"):
        to_langchain(3)  # type: ignore[arg-type]


def test_sources_become_the_artifact_and_back() -> None:
    class Fixed:
        def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
            return [ScoredDocument(Document(text="Cats purr.", doc_id="c"), 0.5)]

    converted = to_langchain(RetrieverTool(Fixed()))
    message = converted.invoke({**call(query="cats"), "name": "search_documents"})
    assert [document.page_content for document in message.artifact] == ["Cats purr."]
    step = ToolCall(name="search_documents", arguments={"query": "cats"})
    agent = Agent(ScriptedModel([step, "They purr."]), [from_langchain(converted)])
    assert [hit.document.text for hit in agent.run_sync("x").sources] == ["Cats purr."]


async def test_langchain_tool_in_agentkit() -> None:
    @langchain_tool
    async def divide(a: int, b: int) -> str:
        """Divide a by b."""
        if not b:
            raise ToolException("b is zero")
        return str(a // b)

    converted = from_langchain(divide)
    assert converted.definition.description == "Divide a by b."
    context = ToolContext(tool_name="divide")
    assert (await converted.call({"a": 6, "b": 2}, context)).content == "3"
    with pytest.raises(ToolError, match="b is zero"):
        await converted.call({"a": 6, "b": 0}, context)
    with pytest.raises(ToolError, match="b: Field required"):
        await converted.call({"a": 6}, context)
    divide.handle_tool_error = True
    with pytest.raises(ToolError, match="b is zero"):
        await converted.call({"a": 6, "b": 0}, context)
    with pytest.raises(UserError, match="not a LangChain tool"):
        from_langchain(add)  # type: ignore[arg-type]


def scripted_agent() -> Agent:
    step = ToolCall(name="add", arguments={"a": 1, "b": 2})
    return Agent(ScriptedModel([step, "It is 3."]), [add])


async def test_agent_as_runnable_gives_what_it_is_given() -> None:
    answer = scripted_agent().as_runnable().invoke("1 + 2?")
    assert isinstance(answer, AIMessage)
    assert answer.text == "It is 3."
    assert answer.response_metadata["stop_reason"] == "answer"
    assert answer.usage_metadata is not None
    question = HumanMessage("1 + 2?", id="q")
    state = {"messages": [SystemMessage("s"), question], "other": 1}
    result = await scripted_agent().as_runnable().ainvoke(state)
    kinds = [message.type for message in result["messages"]]
    assert kinds == ["system", "human", "ai", "tool", "ai"]
    assert result["messages"][1] is question
    assert result["other"] == 1
    with pytest.raises(UserError, match="without 'messages'"):
        scripted_agent().as_runnable().invoke({"question": "x"})


async def test_agent_streams_text_or_messages() -> None:
    chunks = [chunk async for chunk in scripted_agent().as_runnable().astream("x")]
    assert len(chunks) > 2
    assert sum(chunks[1:], chunks[0]).text == "It is 3."
    assert chunks[-1].chunk_position == "last"
    updates = list(scripted_agent().as_runnable().stream({"messages": "x"}))
    assert [[m.type for m in update["messages"]] for update in updates] == [["ai", "tool"], ["ai"]]


async def test_agent_in_a_chain_and_in_a_graph() -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    chain = prompt | scripted_agent().as_runnable() | StrOutputParser()
    assert await chain.ainvoke({"question": "1 + 2?"}) == "It is 3."
    builder = StateGraph(MessagesState)
    builder.add_node("agent", scripted_agent().as_runnable())
    builder.add_edge(START, "agent")
    graph = builder.compile()
    result = await graph.ainvoke({"messages": [HumanMessage("1 + 2?")]})
    assert [m.type for m in result["messages"]] == ["human", "ai", "tool", "ai"]


def test_documents_and_options_reach_the_run() -> None:
    agent = Agent(ScriptedModel(["Yes."]))
    documents = [LangChainDocument("Cats purr.")]
    agent.as_runnable().invoke("Do cats purr?", documents=documents)
    model: Any = agent.model
    assert [d.text for d in model.requests[0].documents] == ["Cats purr."]


def test_importing_agentkit_does_not_import_langchain() -> None:
    code = "import agentkit, sys; agentkit.Agent; sys.exit('langchain_core' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
