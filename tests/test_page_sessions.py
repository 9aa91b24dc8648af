"""The page's sessions in a real database: they outlive the server, and stopped runs go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit.agent import Agent
from agentkit.chat_format import GRANITE
from agentkit.messages import ToolCall
from agentkit.models.scripted import ScriptedModel
from agentkit.server import StoredConversations
from page_support import agent, served, weather_call

pytest.importorskip("sqlalchemy")
from agentkit.sessions import SessionStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@contextmanager
def started(database: Path, agent: Agent) -> Iterator[httpx.Client]:
    """A client of a server that keeps its sessions there."""
    with (
        SessionStore.open(database) as store,
        served({"a": agent}, conversations=StoredConversations(store)) as url,
        httpx.Client(base_url=url) as client,
    ):
        yield client


def test_a_session_outlives_the_server(database: Path) -> None:
    with started(database, agent([weather_call("Oslo"), "It is 21."])) as client:
        made = client.post("/v1/sessions", json={"agent": "a"}).json()
        path = f"/v1/sessions/{made['id']}"
        client.post(f"{path}/runs", json={"input": "How warm is Oslo?"})
        client.patch(path, json={"title": "Norway"})
    model = ScriptedModel(["As I said."])
    later = Agent(model, system="Be brief.")
    with started(database, later) as client:
        (listed,) = client.get("/v1/sessions", params={"search": "nor"}).json()["data"]
        assert (listed["id"], listed["title"], listed["status"]) == (made["id"], "Norway", "idle")
        run = client.post(f"{path}/runs", json={"input": "Again?"}).json()
        session = client.get(path).json()
        assert [each["prompt"] for each in session["runs"]] == ["How warm is Oslo?", "Again?"]
        assert session["runs"][0]["result"]["steps"][0]["calls"][0]["status"] == "ok"
        prompt = client.get(f"{path}/runs/{run['id']}/prompts/0").json()["text"]
        (request,) = model.requests
        assert prompt == GRANITE.render(request.messages, tools=request.tools).text
        assert client.delete(path).status_code == 200
        assert client.get(path).status_code == 404


def test_an_answer_to_a_call_may_come_after_a_restart(database: Path) -> None:
    with started(database, agent([weather_call("Oslo")], approvals="ask")) as client:
        made = client.post("/v1/sessions", json={"agent": "a"}).json()
        path = f"/v1/sessions/{made['id']}"
        run = client.post(f"{path}/runs", json={"input": "Oslo?"}).json()
        assert run["status"] == "requires_approval"
    with started(database, agent(["It is 21."], approvals="ask")) as client:
        assert client.get(path).json()["status"] == "waiting"
        refused = client.post(f"{path}/runs", json={"input": "And?"})
        assert refused.status_code == 409
        resume = f"{path}/runs/{run['id']}/resume"
        answer = client.post(resume, json={"approve": True}).json()
        assert (answer["output"], answer["id"]) == ("It is 21.", run["id"])
        assert client.get(path).json()["status"] == "idle"


@pytest.mark.parametrize("then", ["go on", "give up"])
def test_a_run_whose_client_went_can_go_on(database: Path, then: str) -> None:
    calls: list[str] = []

    def look_up(city: str) -> str:
        """Look a city up."""
        calls.append(city)
        return "21 degrees"

    turns: list[Any] = [
        ToolCall(name="look_up", arguments={"city": "Oslo"}),
        "slow " * 100,
        "It is 21.",
    ]
    slow = Agent(ScriptedModel(turns, delay=0.05), tools=[look_up])
    with started(database, slow) as client:
        made = client.post("/v1/sessions", json={"agent": "a"}).json()
        path = f"/v1/sessions/{made['id']}"
        body = {"input": "Oslo?", "stream": True}
        with client.stream("POST", f"{path}/runs", json=body) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:") and "slow" in line:
                    break
        until = time.monotonic() + 20
        while client.get(path).json()["status"] == "running" and time.monotonic() < until:
            time.sleep(0.05)
        session = client.get(path).json()
        assert session["status"] == "interrupted"
        run = f"{path}/runs/{session['runs'][-1]['id']}"
        if then == "go on":
            assert client.post(f"{run}/resume", json={}).json()["output"] == "It is 21."
        else:
            assert client.delete(run).status_code == 200
            after = client.post(f"{path}/runs", json={"input": "Well?"}).json()
            assert after["output"] == "It is 21."
    assert calls == ["Oslo"]  # What was done is not done again.


def test_sessions_of_programs_are_not_shown(database: Path) -> None:
    with SessionStore.open(database) as store:
        theirs = store.create(agent="a", title="private").id
    with started(database, agent([])) as client:
        assert client.get("/v1/sessions").json()["data"] == []
        assert client.get(f"/v1/sessions/{theirs}").status_code == 404
