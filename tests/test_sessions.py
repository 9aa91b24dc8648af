"""Sessions: conversations in a database, what lists show, and the database itself."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from agent_tools import ADD, add, broken
from agentkit import (
    Agent,
    AssistantMessage,
    Limits,
    ModelError,
    RunFinished,
    ScriptedModel,
    SessionError,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserError,
    UserMessage,
    tool,
)
from agentkit.sessions import SessionStore, schema
from session_support import store, url

__all__ = ["store", "url"]  # fixtures


async def test_a_conversation_goes_on(store: SessionStore) -> None:
    model = ScriptedModel([ADD, "It is 5.", "Five, as I said."])
    agent = Agent(model, [add], system="Be brief.", name="sums")
    session = store.create(agent=agent)
    result = await session.run(agent, "2 + 3?")
    assert result.output == "It is 5."
    again = store.get(session.id)
    result = await again.run(agent, "Sure?")
    assert result.output == "Five, as I said."
    said = [SystemMessage("Be brief."), UserMessage("2 + 3?")]
    shown = list(model.requests[-1].messages)
    assert shown[:2] == said
    assert isinstance(shown[3], ToolMessage)
    assert shown[4:] == [AssistantMessage("It is 5."), UserMessage("Sure?")]
    assert session.messages() == [*shown[1:], AssistantMessage("Five, as I said.")]
    first, second = session.runs()
    assert (first.number, first.status, second.number) == (1, "done", 2)
    assert first.prompt == (UserMessage("2 + 3?"),)
    assert first.result is not None
    assert first.result.output == "It is 5."
    assert first.result.calls[0].observation == "5"
    assert second.result is not None
    assert [m.content for m in second.result.messages] == ["Sure?", "Five, as I said."]
    info = session.info
    assert (info.title, info.agent, info.status, info.runs) == ("2 + 3?", "sums", "idle", 2)


async def test_events_come_once_they_are_written(store: SessionStore) -> None:
    session = store.create()
    agent = Agent(ScriptedModel([[ADD, ADD], "done"]), [add])
    seen = []
    async for event in session.stream(agent, "go"):
        kinds = [kind for kind, *_ in store.events(session.runs()[0].id)]
        seen.append(type(event).__name__)
        wanted = {
            "ToolCallStarted": "call_started",
            "ToolResult": "call_finished",
            "StepFinished": "step_finished",
        }.get(seen[-1])
        if wanted is not None:
            assert kinds.count(wanted) >= seen.count(seen[-1])
        if isinstance(event, RunFinished):
            assert session.info.status == "idle"
    assert seen[-1] == "RunFinished"
    assert seen.count("ToolResult") == 2


async def test_lists(store: SessionStore) -> None:
    titles = ["Über den Wolken", "über Tee", "100% sure", "100 pears", "a_b", "aXb"]
    made = [store.create(title=t, agent="one" if i % 2 else "two") for i, t in enumerate(titles)]
    assert [info.title for info in store.list()] == titles[::-1]
    assert [info.title for info in store.list(limit=2, offset=1)] == ["a_b", "100 pears"]
    assert [info.title for info in store.list(search="ÜBER")] == titles[1::-1]
    assert [info.title for info in store.list(search="100%")] == ["100% sure"]
    assert [info.title for info in store.list(search="a_b")] == ["a_b"]
    assert {info.title for info in store.list(agent="one")} == set(titles[1::2])
    made[0].rename("Weather")
    assert store.list(search="weath")[0].id == made[0].id
    await made[1].run(Agent(ScriptedModel(["ok"])), "go")
    assert store.list()[0].id == made[1].id  # the last used comes first
    assert made[1].info.title == "über Tee"
    made[1].delete()
    assert len(store.list()) == 5
    for work in (made[1].delete, lambda: made[1].rename("x"), lambda: store.get(made[1].id)):
        with pytest.raises(UserError, match="no session"):
            work()
    with pytest.raises(UserError, match="no session"):
        await made[1].run(Agent(ScriptedModel(["ok"])), "go")


async def test_texts_of_all_kinds(store: SessionStore) -> None:
    odd = "a\x00b\ud83d \U0001f600 '; DROP TABLE x; --"
    session = store.create(title=odd, metadata={"k": odd})
    model = ScriptedModel([ToolCall(name="look", arguments={"at": odd}), odd, "ok"])

    @tool
    def look(at: str) -> str:
        """Look."""
        return at

    agent = Agent(model, [look])
    await session.run(agent, odd)
    await session.run(agent, "more")
    assert session.messages()[0] == UserMessage(odd)
    assert session.messages()[2].content == odd
    assert session.info.metadata == {"k": odd}
    assert "DROP" in session.info.title


async def test_secrets_are_not_kept(store: SessionStore, url: str) -> None:
    @tool
    def look(key: str) -> str:
        """Look."""
        return f"it is {key}"

    model = ScriptedModel([ToolCall(name="look", arguments={"key": "hunter22"}), "hunter22"])
    agent = Agent(model, [look], redact=["hunter22"])
    session = store.create()
    await session.run(agent, "use hunter22 here")
    kept = str(session.runs()) + str(store.events(session.runs()[0].id)) + session.info.title
    assert "hunter22" not in kept
    assert "[redacted]" in kept


async def test_a_failed_run_keeps_what_it_did(store: SessionStore) -> None:
    model = ScriptedModel([ModelError("down"), ADD, ModelError("down again"), "fine"])
    agent = Agent(model, [add])
    session = store.create()
    with pytest.raises(ModelError):
        await session.run(agent, "first")
    assert session.messages() == []
    with pytest.raises(ModelError):
        await session.run(agent, "second")
    assert [m.content for m in session.messages()] == ["second", "", "5"]
    assert [(run.status, run.error) for run in session.runs()] == [
        ("failed", "ModelError: down"),
        ("failed", "ModelError: down again"),
    ]
    await session.run(agent, "third")
    assert [m.content for m in session.messages()][3:] == ["third", "fine"]


async def test_many_writers(url: str) -> None:
    """Threads with stores of their own, which also make the tables at once."""
    errors: list[BaseException] = []

    def work(i: int) -> None:
        async def converse() -> None:
            with SessionStore.open(url) as store:
                session = store.create(title=f"s{i}")
                agent = Agent(ScriptedModel([[ADD, ADD], "ok"] * 3), [add])
                for _ in range(3):
                    await session.run(agent, "go")
                assert len(session.messages()) == 15

        try:
            asyncio.run(converse())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert errors == []
    with SessionStore.open(url) as store:
        assert {info.runs for info in store.list()} == {3}


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    with SessionStore.open(tmp_path / "s.db") as store:
        store.create()
        modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "s.db-wal" in modes


@pytest.mark.parametrize(
    ("version", "words"),
    [("99", "newer agentkit"), ("0", "cannot bring up"), ("x", "which is none")],
)
def test_versions(url: str, version: str, words: str) -> None:
    SessionStore.open(url).close()
    engine = schema.open_engine(url)
    change = schema.sa.text("UPDATE agentkit_meta SET value = :value")
    with engine.begin() as connection:
        connection.execute(change, {"value": version})
    with pytest.raises(SessionError, match=words):
        SessionStore.open(url)
    engine.dispose()


def test_migrations_run_in_order_and_wholly(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionStore.open(url) as store:
        store.create(title="old")
    sa = schema.sa

    def two(connection: Any) -> None:
        connection.execute(sa.text("ALTER TABLE agentkit_sessions ADD COLUMN pinned INTEGER"))

    def three(connection: Any) -> None:
        connection.execute(sa.text("UPDATE agentkit_sessions SET pinned = 1"))
        raise RuntimeError("power cut")

    monkeypatch.setattr(schema, "VERSION", 3)
    monkeypatch.setattr(schema, "MIGRATIONS", {1: two, 2: three})
    with pytest.raises(RuntimeError):
        SessionStore.open(url)
    schema.MIGRATIONS[2] = lambda connection: None
    with SessionStore.open(url) as store:  # nothing of the first try is left
        assert store.list()[0].title == "old"
    SessionStore.open(url).close()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("mysql://host/x", "not in 'mysql'"),
        ("sqlite://", "need a file"),
        ("/none/such/folder/x.db", "cannot be written"),
        ("postgresql://nobody:secret@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_what_is_no_database(bad: str, words: str) -> None:
    with pytest.raises((UserError, SessionError), match=words) as caught:
        SessionStore.open(bad)
    assert "secret" not in str(caught.value)


async def test_wrong_usage(store: SessionStore) -> None:
    agent = Agent(ScriptedModel(["ok"]), [broken], limits=Limits(max_steps=3))
    session = store.create()
    with pytest.raises(UserError, match="no run that could go on"):
        await session.resume(agent)
    with pytest.raises(UserError, match="its own history"):
        await session.run(agent, "go", history=[])
    with pytest.raises(UserError, match="must be 'report' or 'ask'"):
        await session.resume(agent, interrupted="again")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="takes no documents"):
        await session.resume(agent, documents=[])
    with pytest.raises(UserError, match="prompt is empty"):
        await session.run(agent, [])
    assert session.runs() == []
    with pytest.raises(UserError, match="lease is 0"):
        SessionStore.open("x.db", lease=0)
