"""``/v1/agents``: runs, their events, and runs that wait for approval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from agentkit import Agent, RunResult, ScriptedModel, ToolCall, ToolContext, tool
from agentkit.server import ApiKey, ServerOptions, create_app
from agentkit.server.event_json import EVENT_TYPES
from agentkit.server.paused import PausedRun, RunsInMemory
from server_support import WordModel, figures, http, running

CALL = ToolCall(name="pay", arguments={"amount": 5}, id="call_a")
paid: list[tuple[int, Any]] = []


@tool
def pay(amount: int, context: ToolContext) -> str:
    """Pay an amount."""
    paid.append((amount, context.deps))
    return f"paid {amount}"


@pytest.fixture
def serve() -> Iterator[Any]:
    paid.clear()
    with ExitStack() as stack:

        def start(*steps: Any, approvals: Any = None, **options: Any) -> httpx.Client:
            agent = Agent(ScriptedModel(steps), [pay], approvals=approvals)
            deps = options.pop("deps", None)
            app = create_app(agents={"clerk": agent}, options=ServerOptions(**options), deps=deps)
            return stack.enter_context(http(stack.enter_context(running(app))))

        yield start


def events(text: str) -> list[dict[str, Any]]:
    found = []
    for block in filter(None, text.split("\n\n")):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_whole_run(serve: Any) -> None:
    client = serve(CALL, "Done.")
    reply = client.post("/v1/agents/clerk/runs", json={"input": "pay 5"}).json()
    assert (reply["status"], reply["output"], reply["pending"]) == ("completed", "Done.", [])
    result = RunResult.from_dict(reply["result"])
    assert result.run_id == reply["id"]
    assert [call.observation for call in result.calls] == ["paid 5"]
    assert figures(client)['agentkit_tool_calls_total{agent="clerk",outcome="ok"}'] == 1


def test_a_streamed_run_tells_every_event(serve: Any) -> None:
    client = serve(CALL, "All is done.")
    reply = client.post("/v1/agents/clerk/runs", json={"input": "pay 5", "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events(reply.text)
    kinds = [event["type"] for event in found]
    assert set(kinds) <= set(EVENT_TYPES)
    assert kinds[:3] == ["tool_call_started", "tool_result", "step_finished"]
    assert kinds[-2:] == ["step_finished", "run_finished"]
    assert "".join(e["text"] for e in found if e["type"] == "text_delta") == "All is done."
    assert found[1]["record"]["observation"] == "paid 5"
    assert found[-1]["run"]["output"] == "All is done."


def test_history_goes_on(serve: Any) -> None:
    client = serve("Hello Ann.", "You are Ann.")
    first = client.post("/v1/agents/clerk/runs", json={"input": "I am Ann"}).json()
    body = {"input": "Who am I?", "history": first["result"]["messages"], "max_tokens": 9}
    second = client.post("/v1/agents/clerk/runs", json=body).json()
    said = [m["content"] for m in second["result"]["messages"]]
    assert said == ["I am Ann", "Hello Ann.", "Who am I?", "You are Ann."]


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_waits_for_approval_and_goes_on(serve: Any, stream: bool) -> None:
    client = serve(CALL, "Done.", approvals="ask")
    body = {"input": "pay 5", "stream": stream}
    reply = client.post("/v1/agents/clerk/runs", json=body)
    run = events(reply.text)[-1]["run"] if stream else reply.json()
    assert run["status"] == "requires_approval"
    assert run["pending"] == [{"id": "call_a", "name": "pay", "arguments": {"amount": 5}}]
    assert paid == []
    place = f"/v1/agents/clerk/runs/{run['id']}"
    assert client.get(place).json() == run
    reply = client.post(f"{place}/resume", json={"approve": True, "stream": stream})
    run = events(reply.text)[-1]["run"] if stream else reply.json()
    assert (run["status"], run["output"]) == ("completed", "Done.")
    assert paid == [(5, None)]
    assert client.get(place).status_code == 404
    assert client.post(f"{place}/resume", json={"approve": True}).status_code == 404


def test_answers_for_each_call(serve: Any) -> None:
    calls = [ToolCall(name="pay", arguments={"amount": n}, id=f"call_{n}") for n in (1, 2, 3)]
    client = serve(calls, "Done.", approvals="ask")
    run = client.post("/v1/agents/clerk/runs", json={"input": "pay"}).json()
    place = f"/v1/agents/clerk/runs/{run['id']}/resume"
    wrong = client.post(place, json={"approve": {"call_9": True}})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_value")
    # What was wrong with the answers has not cost the run; those without an answer wait on.
    approve = {
        "call_1": {"approve": True, "arguments": {"amount": 7}},
        "call_2": {"approve": False, "reason": "too dear"},
    }
    run = client.post(place, json={"approve": approve}).json()
    assert [call["id"] for call in run["pending"]] == ["call_3"]
    run = client.post(place, json={"approve": {"call_3": True}}).json()
    assert run["output"] == "Done."
    assert [amount for amount, _ in paid] == [7, 3]
    told = [c["observation"] for c in run["result"]["steps"][0]["calls"]]
    assert "too dear" in told[1]


def test_a_run_belongs_to_who_began_it(serve: Any) -> None:
    keys = tuple(ApiKey(name=name, key=f"key-{name}") for name in ("ann", "bob"))
    client = serve(CALL, "Done.", approvals="ask", api_keys=keys)
    ann, bob = ({"Authorization": f"Bearer key-{name}"} for name in ("ann", "bob"))
    run = client.post("/v1/agents/clerk/runs", json={"input": "pay"}, headers=ann).json()
    place = f"/v1/agents/clerk/runs/{run['id']}"
    assert client.get(place, headers=bob).status_code == 404
    resumed = client.post(f"{place}/resume", json={"approve": True}, headers=bob)
    assert resumed.status_code == 404
    assert client.post(f"{place}/resume", json={"approve": True}, headers=ann).status_code == 200


def test_deps_come_from_the_request(serve: Any) -> None:
    async def deps(request: Any) -> str:
        return f"user {request.headers['x-user']}"

    client = serve(CALL, "Done.", deps=deps)
    client.post("/v1/agents/clerk/runs", json={"input": "pay"}, headers={"x-user": "7"})
    assert paid == [(5, "user 7")]


def test_what_there_is_not(serve: Any) -> None:
    client = serve("unused")
    assert [a["id"] for a in client.get("/v1/agents").json()["data"]] == ["clerk"]
    assert client.get("/v1/agents/clerk").json()["tools"][0]["name"] == "pay"
    reply = client.post("/v1/agents/cook/runs", json={"input": "hi"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "agent_not_found")
    reply = client.post("/v1/agents/clerk/runs", json={"input": "hi", "tool_choice": "fly"})
    assert reply.status_code == 400
    assert "'fly'" in reply.json()["error"]["message"]


async def test_paused_runs_are_forgotten_in_time() -> None:
    now = 0.0
    runs = RunsInMemory(2, 60, clock=lambda: now)
    for run_id in "abc":
        result = RunResult(output="", messages=(), run_id=run_id)
        await runs.put(PausedRun(agent="clerk", caller="ann", result=result))
    assert [run_id for run_id in "abc" if await runs.get(run_id)] == ["b", "c"]
    assert await runs.take("b") is not None
    assert await runs.take("b") is None
    now = 61.0
    assert await runs.get("c") is None


def test_a_client_that_leaves_ends_its_run() -> None:
    model = WordModel(held=True)
    with running(create_app(agents={"clerk": Agent(model)})) as server:
        from server_support import wait_for

        with http(server) as client:
            body = {"input": "hi", "stream": True}
            with client.stream("POST", "/v1/agents/clerk/runs", json=body) as reply:
                lines = reply.iter_lines()  # kept: when it is collected, the connection is closed
                next(lines)
                wait_for(lambda: model.running == 1)
        wait_for(lambda: model.running == 0)
        assert (model.stopped, model.finished) == (1, 0)
