"""Servers' tools, resources and prompts, against real servers: a probe, and mcp-server-time."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AssistantMessage, ScriptedModel, ToolCall, UserMessage
from agentkit.errors import AgentkitError, ToolError, UserError
from agentkit.tools import Tool, ToolContext
from agentkit_tools import BearerAuth
from agentkit_tools.mcp import MCPConnectionError, MCPServer

CONTEXT = ToolContext(tool_name="probe")
PROBE = Path(__file__).with_name("mcp_probe_server.py")


class Probe:
    """The probe server, what it noted, and what it said by itself."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.env = {"PROBE_LOG": str(self.log), "PYTHONWARNINGS": "ignore"}
        self.said: list[Any] = []
        self.server = MCPServer.stdio(
            sys.executable,
            [str(PROBE)],
            env=self.env,
            name="probe",
            max_result_chars=1000,
            on_log=lambda *message: self.said.append(message),
            on_progress=lambda *message: self.said.append(message),
        )
        self.tools = {tool.definition.name: tool for tool in self.server.tools_sync(resources=True)}

    def call(self, name: str, **arguments: Any) -> Any:
        return asyncio.run(self.tools[name].call(arguments, CONTEXT))

    def failure(self, name: str, **arguments: Any) -> str:
        with pytest.raises(ToolError) as caught:
            self.call(name, **arguments)
        return str(caught.value)

    def notes(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    running = Probe(tmp_path_factory.mktemp("probe"))
    yield running
    running.server.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- tools ------------------------------------------------------------------------------------


def test_tools_are_tools_with_the_servers_schemas(probe: Probe) -> None:
    tool = probe.tools["structured"]
    assert isinstance(tool, Tool)
    assert tool.definition.description == "Weather as JSON."
    assert tool.definition.parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }


def test_hints_are_kept_and_what_destroys_asks(probe: Probe) -> None:
    hints = {name: getattr(tool, "hints", None) for name, tool in probe.tools.items()}
    asks = {name for name, tool in probe.tools.items() if getattr(tool, "approval", None) == "ask"}
    assert hints["pid"].read_only
    assert hints["pid"].idempotent
    assert hints["die"].destructive
    assert not hints["structured"].destructive  # nothing is claimed of it
    # "sleep/slowly" is said not to be read-only, which by the protocol's default is destructive.
    assert asks == {"die", "sleep_slowly"}


async def test_tools_are_chosen_renamed_and_put_under_approval(probe: Probe) -> None:
    chosen = await probe.server.tools(include=["die*", "pid"], exclude=["die"], prefix="my-")
    assert [tool.definition.name for tool in chosen] == ["my-pid", "my-die_once"]
    always = await probe.server.tools(include=["pid"], approval="always")
    assert [tool.approval for tool in always] == ["ask"]  # type: ignore[attr-defined]
    never = await probe.server.tools(include=["die"], approval="never")
    assert [tool.approval for tool in never] == [None]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"no tool fits 'structurd'; did you mean 'structured'\?"):
        await probe.server.tools(include=["structurd"])


def test_results_of_every_kind(probe: Probe) -> None:
    assert probe.call("structured", city="Oslo") == {"city": "Oslo", "days": [1, 2]}
    assert isinstance(probe.call("pid"), int)
    assert probe.call("mixed") == (
        "hello\n[image: image/png, 3 bytes]\n[resource a: file:///a.txt] A file\n"
        "[file:///a.txt]\ninside"
    )
    assert probe.call("long", count=1200).endswith("x\n[cut here; 200 more characters]")


def test_what_a_tool_says_of_its_failure_is_an_error_for_the_model(probe: Probe) -> None:
    assert "fail" in probe.failure("fail", reason="no luck")
    assert "city" in probe.failure("structured", town="Oslo")


def test_one_process_serves_every_event_loop(probe: Probe) -> None:
    assert probe.call("pid") == probe.call("pid")

    async def many() -> list[Any]:
        return await asyncio.gather(*(probe.tools["pid"].call({}, CONTEXT) for _ in range(20)))

    assert len(set(asyncio.run(many()))) == 1


def test_progress_and_log_messages_arrive(probe: Probe) -> None:
    assert probe.call("sleep_slowly", seconds=0) == "slept"
    wait_for(lambda: len(probe.said) >= 2)
    assert ("sleep/slowly", 1.0, 2.0, "halfway") in probe.said
    assert ("warning", "sleeping") in probe.said


def test_a_cancelled_call_is_cancelled_at_the_server(probe: Probe) -> None:
    async def run() -> None:
        async with asyncio.timeout(1):
            await probe.tools["sleep_slowly"].call({"seconds": 60}, CONTEXT)

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    wait_for(lambda: "cancelled" in probe.notes())
    assert probe.call("pid")


async def test_a_changed_list_is_asked_for_again(probe: Probe) -> None:
    await probe.server.call_tool("learn", {"name": "dance"})
    for _ in range(200):
        tools = await probe.server.tools()
        if "dance" in [tool.definition.name for tool in tools]:
            break
        await asyncio.sleep(0.02)
    (dance,) = [tool for tool in tools if tool.definition.name == "dance"]
    assert await dance.call({}, CONTEXT) == "dance"


def test_an_agent_calls_them_and_reads_the_errors(probe: Probe) -> None:
    calls = (
        ToolCall(name="structured", arguments={"city": "Oslo"}),
        ToolCall(name="structured", arguments={"city": ["Oslo"], "more": 1}),
    )
    model = ScriptedModel([AssistantMessage(tool_calls=calls), "done"])
    result = Agent(model, [probe.tools["structured"]], rewind=0).run_sync("weather?")
    good, _ = result.steps[0].calls
    assert good.observation == '{"city": "Oslo", "days": [1, 2]}'
    assert result.output == "done"


# --- resources and prompts --------------------------------------------------------------------


async def test_resources_are_listed_and_read(probe: Probe) -> None:
    resources = {item.uri: item for item in await probe.server.resources()}
    assert resources["probe://greeting"].description == "A greeting"
    assert resources["probe://users/{name}"].is_template
    (text,) = await probe.server.read_resource("probe://greeting")
    (image,) = await probe.server.read_resource("probe://logo")
    assert text.text == "good day"
    assert (image.data, image.mime_type) == (b"\x89PNG", "image/png")
    with pytest.raises(ToolError, match="probe://nothing cannot be read"):
        await probe.server.read_resource("probe://nothing")


def test_a_model_reads_resources_through_a_tool(probe: Probe) -> None:
    tool = probe.tools["read_resource"]
    assert "- probe://greeting: A greeting" in tool.definition.description
    assert probe.call("read_resource", uri="probe://users/ann") == "user ann"
    assert probe.call("read_resource", uri="probe://logo") == (
        "[resource probe://logo: image/png, 4 bytes]"
    )


async def test_prompts_become_messages(probe: Probe) -> None:
    (prompt,) = await probe.server.prompts()
    assert [(a.name, a.required) for a in prompt.arguments] == [("code", True)]
    messages = await probe.server.get_prompt("review", {"code": "x = 1"})
    assert messages == [UserMessage("Review: x = 1")]
    with pytest.raises(UserError, match="'review': it needs code"):
        await probe.server.get_prompt("review")
    with pytest.raises(UserError, match="did you mean 'review'"):
        await probe.server.get_prompt("revue")
    assert await probe.server.instructions() == "Ask kindly."


# --- lifetime ---------------------------------------------------------------------------------


def test_a_dead_server_is_started_again_and_only_safe_calls_are_repeated(probe: Probe) -> None:
    first = probe.call("pid")
    text = probe.failure("die")
    assert "went away during the call; it is not known whether" in text
    assert probe.notes().count("die") == 1
    assert probe.call("die_once") == "alive"  # read-only: asked again, of a new process
    assert probe.notes().count("die_once") == 2
    second = probe.call("pid")
    assert first != second
    assert not alive(first)
    os.kill(second, 9)
    wait_for(lambda: not alive(second))
    assert probe.call("structured", city="Oslo")["city"] == "Oslo"  # was never sent to the dead


def test_leaving_the_block_ends_the_process() -> None:
    async def run() -> None:
        server = MCPServer.stdio(
            sys.executable, ["-m", "mcp_server_time", "--local-timezone", "UTC"], name="time"
        )
        async with server:
            (tool, _) = await server.tools()
            answer = await tool.call({"timezone": "Asia/Tokyo"}, CONTEXT)
            assert answer["timezone"] == "Asia/Tokyo"
            with pytest.raises(ToolError, match="Invalid timezone"):
                await tool.call({"timezone": "Mars/Olympus"}, CONTEXT)
            started.extend(set(children()) - before)

    started: list[int] = []
    before = set(children())
    asyncio.run(run())
    assert len(started) == 1
    wait_for(lambda: not alive(started[0]))


def children() -> list[int]:
    """Processes that this one has started."""
    parent = str(os.getpid())
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", parent], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split() if alive(int(pid))]


FORGETFUL = """
import asyncio, sys
from agentkit_tools.mcp import MCPServer

def make():
    return MCPServer.stdio(sys.executable, [sys.argv[1]], env={"PROBE_LOG": sys.argv[2]})

forgotten, kept = make(), make()
print(asyncio.run(forgotten.call_tool("pid", {})), flush=True)
print(asyncio.run(kept.call_tool("pid", {})), flush=True)
del forgotten
input()
"""


def test_forgotten_and_unclosed_servers_leave_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORGETFUL, str(PROBE), str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    forgotten, kept = int(process.stdout.readline()), int(process.stdout.readline())
    wait_for(lambda: not alive(forgotten))  # while the program goes on
    assert alive(kept)
    process.communicate("\n", timeout=30)
    assert process.returncode == 0
    wait_for(lambda: not alive(kept))


def test_a_server_that_cannot_be_reached_is_told_with_the_reason() -> None:
    with pytest.raises(UserError, match="there is no 'no-such-command'"):
        MCPServer.stdio("no-such-command").tools_sync()
    broken = MCPServer.stdio(sys.executable, ["-c", "exit('the token is missing')"], name="broken")
    with pytest.raises(MCPConnectionError, match="it wrote: the token is missing"):
        broken.tools_sync()
    silent = MCPServer.stdio(
        sys.executable, ["-c", "input(); input()"], name="silent", connect_timeout=0.5
    )
    with pytest.raises(MCPConnectionError, match=r"did not answer within 0\.5 s"):
        silent.tools_sync()
    nobody = MCPServer.http("http://127.0.0.1:9/mcp", attempts=2)
    with pytest.raises(MCPConnectionError, match=r"127\.0\.0\.1"):
        nobody.tools_sync()


def test_wrong_options_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="must begin with http"):
        MCPServer.http("localhost:8000/mcp")
    with pytest.raises(UserError, match="no password in the URL"):
        MCPServer.http("https://ann:secret@example.org/mcp")
    with pytest.raises(UserError, match="timeout must be more than 0"):
        MCPServer.stdio("x", timeout=0)
    monkeypatch.delenv("MCP_TOKEN", raising=False)
    with pytest.raises(UserError, match="MCP_TOKEN is not set"):
        MCPServer.http("https://example.org/mcp", auth=BearerAuth(env="MCP_TOKEN"))


# --- HTTP -------------------------------------------------------------------------------------


def test_streamable_http_survives_a_restart_of_the_service(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def start() -> subprocess.Popen[bytes]:
        env = {**os.environ, "PROBE_LOG": str(log), "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen([sys.executable, str(PROBE), "--http", str(port)], env=env)

    service = start()
    server = MCPServer.http(f"http://127.0.0.1:{port}/mcp", name="probe", attempts=7)
    try:
        tools = {tool.definition.name: tool for tool in server.tools_sync()}

        def call(name: str, **arguments: Any) -> Any:
            return asyncio.run(tools[name].call(arguments, CONTEXT))

        assert call("pid") == service.pid
        service.kill()
        service.wait()
        service = start()  # the next call finds nobody there, and waits
        assert call("structured", city="Oslo") == {"city": "Oslo", "days": [1, 2]}
        assert call("pid") == service.pid
        with pytest.raises(ToolError, match="it is not known whether"):
            call("die")
    finally:
        server.close()
        service.kill()
        service.wait()
    gc.collect()
    assert issubclass(MCPConnectionError, AgentkitError)
