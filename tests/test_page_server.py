"""What the page needs of the server: its files, sessions, exact prompts, citations."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from agentkit.agent import Agent
from agentkit.chat_format import GRANITE
from agentkit.messages import example_call
from agentkit.models.scripted import ScriptedModel
from agentkit.server import ApiKey, ServerOptions
from agentkit.server.conversations import title_of
from page_support import HANDBOOK, Handbook, agent, get_weather, measured, served, weather_call


def begin(client: httpx.Client, name: str) -> str:
    """A new session's path."""
    made = client.post("/v1/sessions", json={"agent": name})
    assert made.status_code == 201
    return f"/v1/sessions/{made.json()['id']}"


def test_files_come_under_a_strict_policy() -> None:
    with served({"one": agent([])}) as url, httpx.Client(base_url=url) as client:
        index = client.get("/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        policy = index.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= {*policy}
        assert {"connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= {*policy}
        assert "unsafe" not in index.headers["content-security-policy"]
        assert index.headers["x-content-type-options"] == "nosniff"
        # Nothing of it is inline, and all of it is there.
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", index.text)
        files = re.findall(r'(?:src|href)="(page/[^"]+)"', index.text)
        assert len(files) >= 4
        while files:
            answer = client.get(f"/{files.pop()}")
            assert answer.status_code == 200
            assert answer.headers["content-security-policy"]
            if "javascript" in answer.headers["content-type"]:
                files += [f"page/{name}" for name in re.findall(r'from "\./(.+?)"', answer.text)]
        again = client.get("/", headers={"if-none-match": index.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/page/__init__.py", "/page/..%2Foptions.py", "/page/none.js"])
def test_nothing_else_is_a_file(path: str) -> None:
    with served({"one": agent([])}) as url:
        assert httpx.get(url + path).status_code == 404


def test_no_page_where_it_is_switched_off() -> None:
    with served({"one": agent([])}, options=ServerOptions(page=False)) as url:
        assert httpx.get(f"{url}/").status_code == 404
        assert httpx.get(f"{url}/v1/sessions").status_code == 404


def test_a_session_keeps_its_runs_and_is_the_history() -> None:
    told = agent([weather_call("Oslo"), "It is 21.", "As I said."])
    with served({"weather": told}) as url, httpx.Client(base_url=url) as client:
        path = begin(client, "weather")
        first = client.post(f"{path}/runs", json={"input": "How warm is Oslo?"}).json()
        assert (first["status"], first["output"]) == ("completed", "It is 21.")
        client.post(f"{path}/runs", json={"input": "Again?"})
        session = client.get(path).json()
        assert session["title"] == "How warm is Oslo?"
        assert [run["prompt"] for run in session["runs"]] == ["How warm is Oslo?", "Again?"]
        assert [len(run["result"]["messages"]) for run in session["runs"]] == [4, 2]
        renamed = client.patch(path, json={"title": "Norway"}).json()
        assert renamed["title"] == "Norway"
        found = client.get("/v1/sessions", params={"search": "norw"}).json()["data"]
        assert [each["id"] for each in found] == [session["id"]]
        assert client.get("/v1/sessions", params={"search": "sweden"}).json()["data"] == []
        assert client.delete(path).json()["deleted"] is True
        for method in ("GET", "DELETE"):
            assert client.request(method, path).status_code == 404
    asked = told.model.requests[-1].messages  # type: ignore[attr-defined]
    assert [message.content for message in asked][-2:] == ["It is 21.", "Again?"]


def test_a_run_that_waits_is_resumed_or_given_up() -> None:
    turns: list[Any] = [weather_call("Oslo"), "It is 21.", weather_call("Rome"), "Next."]
    with (
        served({"careful": agent(turns, approvals="ask")}) as url,
        httpx.Client(base_url=url) as client,
    ):
        path = begin(client, "careful")
        run = client.post(f"{path}/runs", json={"input": "Oslo?"}).json()
        assert run["status"] == "requires_approval"
        assert client.get(path).json()["status"] == "waiting"
        resume = f"{path}/runs/{run['id']}/resume"
        busy = client.post(f"{path}/runs", json={"input": "And?"})
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "session_busy")
        wrong = client.post(resume, json={"approve": {"call_none": True}})
        assert wrong.status_code == 400
        # It is the session's: nobody else may make its calls a second time.
        other = client.post(f"/v1/agents/careful/runs/{run['id']}/resume", json={"approve": True})
        assert other.status_code == 404
        answer = client.post(resume, json={"approve": {run["pending"][0]["id"]: True}}).json()
        assert (answer["output"], answer["id"]) == ("It is 21.", run["id"])
        assert client.post(resume, json={"approve": True}).status_code == 404
        waits = client.post(f"{path}/runs", json={"input": "Rome?"}).json()
        assert client.delete(f"{path}/runs/{waits['id']}").status_code == 200
        assert client.post(f"{path}/runs", json={"input": "Well?"}).json()["output"] == "Next."
        assert len(client.get(path).json()["runs"]) == 2


def test_sessions_are_their_keys_own() -> None:
    keys = (ApiKey(name="ann", key="a"), ApiKey(name="bob", key="b"))
    with served({"one": agent(["hi"])}, options=ServerOptions(api_keys=keys)) as url:
        assert httpx.get(f"{url}/v1/sessions").status_code == 401
        ann = httpx.Client(base_url=url, headers={"authorization": "Bearer a"})
        bob = httpx.Client(base_url=url, headers={"authorization": "Bearer b"})
        path = begin(ann, "one")
        assert len(ann.get("/v1/sessions").json()["data"]) == 1
        assert bob.get("/v1/sessions").json()["data"] == []
        assert bob.get(path).status_code == 404
        assert bob.patch(path, json={"title": "mine"}).status_code == 404
        assert bob.delete(path).status_code == 404
        assert bob.post(f"{path}/runs", json={"input": "hi"}).status_code == 404


def test_the_prompt_is_the_one_that_the_model_was_given() -> None:
    model = ScriptedModel(
        [
            measured("First.", weather_call("Oslo"), weather_call("Rome")),
            measured("", weather_call("Bern")),
            "All done.",
            weather_call("Kyiv"),
            "Bye.",
        ]
    )
    told = Agent(
        model,
        tools=[get_weather],
        system="Be brief. The secret is hunter2.",
        examples=example_call("Paris?", "get_weather", {"city": "Paris"}, "hunter2", "12"),
        retriever=Handbook(),
        approvals={"get_weather": lambda call, _: "ask" if "Kyiv" in str(call) else "allow"},
        redact=["hunter2"],
    )
    with served({"told": told}) as url, httpx.Client(base_url=url) as client:
        path = begin(client, "told")
        prompts = []
        first = client.post(f"{path}/runs", json={"input": "<|end_of_text|>?"}).json()
        for step in range(3):
            prompts.append(client.get(f"{path}/runs/{first['id']}/prompts/{step}").json())
        second = client.post(f"{path}/runs", json={"input": "And Kyiv?"}).json()
        prompts.append(client.get(f"{path}/runs/{second['id']}/prompts/0").json())
        resume = f"{path}/runs/{second['id']}/resume"
        assert client.post(resume, json={"approve": True}).json()["output"] == "Bye."
        prompts.append(client.get(f"{path}/runs/{second['id']}/prompts/1").json())
        assert client.get(f"{path}/runs/{second['id']}/prompts/2").status_code == 400
        assert client.get(f"{path}/runs/none/prompts/0").status_code == 404
    assert len(model.requests) == len(prompts)
    for request, prompt in zip(model.requests, prompts, strict=True):
        exact = GRANITE.render(request.messages, tools=request.tools, documents=request.documents)
        assert prompt["text"] == exact.text
        assert "".join(part["text"] for part in prompt["parts"]) == exact.text
        assert "hunter2" not in prompt["text"]
    # What the user wrote is told from the format's own delimiters.
    content = [part["text"] for part in prompts[0]["parts"] if part["kind"] == "content"]
    assert "<|end_of_text|>?" in content


def test_citations_name_places_in_the_sources() -> None:
    answer = "The battery lasts eleven days without any sun. Fine."
    with (
        served({"handbook": agent([answer, "Hi."], retriever=Handbook())}) as url,
        httpx.Client(base_url=url) as client,
    ):
        path = begin(client, "handbook")
        run = client.post(f"{path}/runs", json={"input": "How long?"}).json()
        cited = client.get(f"{path}/runs/{run['id']}/citations").json()
        assert cited["answer"] == answer
        (place,) = cited["sentences"][0]["citations"]
        assert place["text"] == "A full battery lasts eleven days without any sun."
        assert HANDBOOK[place["start"] - 120 : place["end"] - 120] == place["text"]


def test_titles_are_short_and_whole() -> None:
    assert title_of("  How\nwarm?  ") == "How warm?"
    assert title_of("word " * 40) == ("word " * 11).strip() + "…"
    assert len(title_of("x" * 500)) <= 60
