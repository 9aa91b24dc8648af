"""Agents' tools as an MCP server: in this process, over pipes and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp_types import CallToolResult
from typer.testing import CliRunner

from agentkit import Document, RetrieverTool, ScoredDocument, ToolContext, ToolError, tool
from agentkit.cli.app import app
from agentkit.errors import UserError
from agentkit_tools import BearerAuth, HTTPTool
from agentkit_tools.mcp import MCPConnectionError, MCPServer, make_mcp_server, serve_mcp

CONTEXT = ToolContext(tool_name="probe")
PATH = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
PROGRAM = '''
import os
from agentkit import tool

print("noise while importing")
os.system("echo noise of a program")

@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    print("noise of a tool")
    os.system("echo more noise")
    return a + b
'''


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def divide(a: float, b: float) -> float:
    """Divide."""
    if b == 0:
        raise ToolError("b must not be 0")
    return a / b


@tool(timeout=0.1)
async def wait(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "done"


@tool
def name_of(context: ToolContext) -> str:
    """Say what the program passed."""
    return f"{context.tool_name} {context.deps}"


class Library:
    """Finds the one document that there is."""

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        return [ScoredDocument(Document(text="Granite is a rock."), 1.0)]


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert block.type == "text"
    return block.text


# --- the server object ------------------------------------------------------------------------


async def test_tools_are_listed_with_their_schemas() -> None:
    weather = HTTPTool(name="weather", description="Forecast.", url="http://127.0.0.1:9/weather")
    server = make_mcp_server([add, weather, RetrieverTool(Library())], name="mine")
    async with Client(server) as client:
        tools = {item.name: item for item in (await client.list_tools()).tools}
        assert list(tools) == ["add", "weather", "search_documents"]
        assert tools["add"].description == "Add two numbers."
        assert tools["add"].input_schema == add.definition.parameters
        found = await client.call_tool("search_documents", {"query": "rocks"})
        assert "Granite is a rock." in text(found)
        unreachable = await client.call_tool("weather", {})
        assert unreachable.is_error
        assert "could not be reached" in text(unreachable)


async def test_arguments_are_mended_and_mistakes_told_as_in_an_agent() -> None:
    server = make_mcp_server([add, divide, wait, name_of], deps="deps")
    async with Client(server) as client:
        assert text(await client.call_tool("add", {"a": "2", "b": 3})) == "5"
        assert text(await client.call_tool("name_of", {})) == "name_of deps"
        mistakes = {
            '$.a: got "x", expected an integer': ("add", {"a": "x", "b": 1}),
            "$.b: missing": ("add", {"a": 1}),
            "b must not be 0": ("divide", {"a": 1, "b": 0}),
            "did not finish within 0.1 seconds": ("wait", {"seconds": 5}),
            'there is no tool "ad"; did you mean "add"?': ("ad", {}),
        }
        for words, (name, arguments) in mistakes.items():
            result = await client.call_tool(name, arguments)
            assert result.is_error, name
            assert words in text(result)


async def test_what_a_tool_says_of_itself_becomes_annotations() -> None:
    add_asking = tool(lambda_free_add)
    add_asking.approval = "ask"  # type: ignore[attr-defined]
    reader = RetrieverTool(Library())
    reader.read_only = True  # type: ignore[attr-defined]
    async with Client(make_mcp_server([add_asking, reader, add])) as client:
        asking, reading, plain = (item.annotations for item in (await client.list_tools()).tools)
    assert asking is not None
    assert asking.destructive_hint
    assert reading is not None
    assert reading.read_only_hint
    assert plain is None


def lambda_free_add(a: int, b: int) -> int:
    """Add."""
    return a + b


def test_servers_of_nothing_and_of_twins_are_refused() -> None:
    with pytest.raises(UserError, match="no tools to serve"):
        make_mcp_server([])
    with pytest.raises(UserError, match="two tools are named 'add'"):
        make_mcp_server([add, add])


# --- over pipes -------------------------------------------------------------------------------


async def test_the_command_serves_over_pipes_whatever_tools_print(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(PROGRAM)
    server = MCPServer.stdio(
        sys.executable,
        ["-m", "agentkit.cli", "mcp-serve", "sums:add", "--name", "sums"],
        env={"PYTHONPATH": PATH},
        cwd=tmp_path,
    )
    async with server:
        (sums,) = await server.tools()
        assert sums.definition.parameters == add.definition.parameters
        results = [sums.call({"a": "1", "b": n}, CONTEXT) for n in range(5)]
        assert await asyncio.gather(*results) == ["1", "2", "3", "4", "5"]
        with pytest.raises(ToolError, match=r"\$\.b: missing; an integer is required"):
            await sums.call({"a": 1}, CONTEXT)


def test_ctrl_c_ends_it_though_it_waits_for_input(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-m", "agentkit.cli", "mcp-serve", "sums"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PATH},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(30) == 130
    process.stdin.close()


def test_wrong_use_of_the_command_is_one_line() -> None:
    result = CliRunner().invoke(app, ["mcp-serve", "no_such_module", "--http"])
    assert result.exit_code == 2
    assert "there is no module 'no_such_module'" in result.output
    open_to_all = ["mcp-serve", f"{__name__}:add", "--http", "--host", "0.0.0.0", "--port", "0"]
    result = CliRunner().invoke(app, open_to_all)
    assert result.exit_code == 2
    assert "anyone in the network could run the tools" in result.output


# --- over HTTP --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[str]:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve_mcp([add], transport="http", port=0, on_started=started.set_result, **options)
    )
    try:
        yield await started
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_http_serves_several_clients() -> None:
    async with serving() as url:
        servers = [MCPServer.http(url, name=f"client {n}") for n in range(3)]
        try:
            for server in servers:
                (sums,) = await server.tools()
                assert await sums.call({"a": 1, "b": 2}, CONTEXT) == "3"
        finally:
            for server in servers:
                await server.aclose()
        # A page in a browser must not reach it by a name of its own (DNS rebinding).
        async with httpx.AsyncClient() as client:
            reply = await client.post(url, headers={"Host": "evil.example"}, json={})
        assert reply.status_code == 421


async def test_with_a_token_only_those_who_know_it_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVE_TOKEN", "s3cret-token")
    monkeypatch.setenv("WRONG_TOKEN", "another")
    async with serving(token_env="SERVE_TOKEN") as url:
        right = MCPServer.http(url, auth=BearerAuth(env="SERVE_TOKEN"))
        async with right:
            (sums,) = await right.tools()
            assert await sums.call({"a": 1, "b": 2}, CONTEXT) == "3"
        wrong = MCPServer.http(url, auth=BearerAuth(env="WRONG_TOKEN"))
        with pytest.raises(MCPConnectionError):
            await wrong.tools()
        async with httpx.AsyncClient() as client:
            assert (await client.post(url, json={})).status_code == 401


async def test_an_address_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVE_TOKEN", raising=False)
    with pytest.raises(UserError, match="SERVE_TOKEN is not set"):
        await serve_mcp([add], transport="http", token_env="SERVE_TOKEN")
    async with serving() as url:
        port = httpx.URL(url).port
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{port}"):
            await serve_mcp([add], transport="http", port=port or 0)
