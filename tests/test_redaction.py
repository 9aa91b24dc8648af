"""Secrets, found by their value, reach nobody: not the model, records, events or errors."""

from __future__ import annotations

import base64
import json
import pickle
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import (
    Agent,
    AssistantMessage,
    AuditLog,
    Document,
    ModelError,
    RunResult,
    ScoredDocument,
    ScriptedModel,
    Secrets,
    ToolCall,
    ToolContext,
    ToolDefinition,
    ToolError,
    ToolExecutionError,
    ToolMessage,
    ToolOutput,
    UserError,
    UserMessage,
    tool,
)
from agentkit.messages import Generation
from agentkit.redaction import REDACTED, Redactor

SECRET = 'hunter2/"ü+& key'
SPELLINGS = {
    "plain": SECRET,
    "URL": quote(SECRET, safe=""),
    "JSON": json.dumps(SECRET),
    "JSON, non-ASCII kept": json.dumps(SECRET, ensure_ascii=False),
    "repr": repr(SECRET),
    "base64": base64.b64encode(SECRET.encode()).decode(),
}


@tool
def leak(spelling: str) -> str:
    """Give the secret away."""
    return f"before {SPELLINGS[spelling]} after"


@tool
def leak_loudly(how: str) -> str:
    """Give the secret away by failing."""
    if how == "politely":
        raise ToolError(f"the key {SECRET} was refused")
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"bad key {SECRET}") from error


def leaks(value: Any) -> bool:
    text = value if isinstance(value, str) else f"{value!r}{value}"
    return "hunter2" in text or any(s in text for s in SPELLINGS.values())


async def everything(agent: Agent, prompt: str = "go", **options: Any) -> list[Any]:
    return [event async for event in agent.stream(prompt, **options)]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_results_are_shown_without_it(spelling: str, tmp_path: Path) -> None:
    call = ToolCall(name="leak", arguments={"spelling": spelling})
    log = AuditLog(tmp_path / "audit")
    with ScriptedModel([call, "done"]) as model:
        agent = Agent(model, [leak], redact=[SECRET], audit=log)
        events = await everything(agent)
    result: RunResult = events[-1].result
    assert REDACTED in result.calls[0].observation
    assert result.calls[0].observation.startswith("before ")
    assert result.calls[0].observation.endswith(" after")
    result.save(tmp_path / "run")
    for seen in (events, model.requests, result):
        assert not leaks(seen)
    for name in ("audit", "run"):
        assert not leaks((tmp_path / name).read_text())  # a test may wait


@pytest.mark.parametrize("how", ["politely", "rudely"])
async def test_errors_are_told_without_it(how: str) -> None:
    call = ToolCall(name="leak_loudly", arguments={"how": how})
    with ScriptedModel([call, "done"]) as model:
        events = await everything(Agent(model, [leak_loudly], redact=[SECRET]))
    assert not leaks(events)
    assert not leaks(model.requests)
    raising = Agent(ScriptedModel([call]), [leak_loudly], redact=[SECRET], on_tool_error="raise")
    with pytest.raises(ToolExecutionError) as info:
        await raising.run("go")
    assert REDACTED in str(info.value)
    assert not leaks("".join(traceback.format_exception(info.value)))
    error: BaseException | None = info.value
    while error is not None:
        assert not leaks(error)
        error = error.__cause__ or error.__context__


async def test_the_prompt_history_and_documents_reach_the_model_without_it() -> None:
    hit = ScoredDocument(Document(text=f"The key is {SECRET}.", title=SECRET, doc_id=1), 0.9)

    class Shelf:
        def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
            assert not leaks(query)
            return [hit]

    generation = Generation(text=f"You said {SECRET}.", token_ids=(1, 2), tokenizer="t")
    clean = Generation(text="Yes.", token_ids=(3,), tokenizer="t")
    history = [
        UserMessage(f"I am {SECRET}"),
        AssistantMessage(f"You said {SECRET}.", (), generation),
        UserMessage("Sure?"),
        AssistantMessage("Yes.", (), clean),
    ]
    with ScriptedModel(["ok"]) as model:
        agent = Agent(
            model,
            retriever=Shelf(),
            redact=[SECRET],
            system=f"Use {SECRET}.",
            examples=[UserMessage(SECRET), AssistantMessage(SECRET)],
        )
        events = await everything(
            agent, f"Remember {SECRET}", history=history, documents=[hit.document]
        )
    assert not leaks(events)
    assert not leaks(model.requests)
    turns = [m for m in model.requests[0].messages if isinstance(m, AssistantMessage)]
    # A turn's own tokens would repeat the secret; those of clean turns stay.
    assert [m.generation for m in turns] == [None, None, clean]


async def test_sources_repairs_and_edited_arguments() -> None:
    @tool
    def find(key: str) -> ToolOutput:
        """Find."""
        assert key == SECRET  # the tool itself gets it
        hit = ScoredDocument(Document(text=SECRET, doc_id=1, source=f"db?key={SECRET}"), 0.5)
        return ToolOutput(content={"k": SECRET}, sources=[hit], repairs=[f"cut {SECRET}"])

    audited: list[Any] = []
    call = ToolCall(name="find", arguments={"key": "x"})
    with ScriptedModel([call, "done"]) as model:
        agent = Agent(
            model,
            [find],
            redact=[SECRET],
            audit=audited.append,
            approvals=lambda call, context: {"key": SECRET},
        )
        events = await everything(agent)
    assert not leaks(events)
    assert not leaks(audited)
    assert not leaks(model.requests)
    assert audited[0].outcome == "ok"


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "first-secret")
    with ScriptedModel(["ok", "ok"]) as model:
        agent = Agent(model, redact=Secrets(env=["SHOP_KEY"]))
        agent.run_sync("my key is first-secret")
        monkeypatch.setenv("SHOP_KEY", "renewed-secret")
        agent.run_sync("my key is renewed-secret")
    assert [r.messages[0].content for r in model.requests] == [f"my key is {REDACTED}"] * 2


class Signed:
    """A tool that knows a secret, and renews it with each call."""

    definition = ToolDefinition(name="signed")
    timeout = None

    def __init__(self) -> None:
        self.token = "token-0"

    def secrets(self) -> tuple[str, ...]:
        return (self.token,)

    async def call(self, arguments: Any, context: ToolContext) -> str:
        old, self.token = self.token, f"token-{int(self.token[-1]) + 1}"
        return f"{old} {self.token} token"


def test_tools_bring_their_own() -> None:
    call = ToolCall(name="signed", arguments={})
    with ScriptedModel([call, call, "done"]) as model:
        result = Agent(model, [Signed()]).run_sync("go")
    assert [c.observation for c in result.calls] == [f"{REDACTED} {REDACTED} token"] * 2


def test_a_tool_without_its_credential_does_not_stop_the_run() -> None:
    class Unset(Signed):
        def secrets(self) -> tuple[str, ...]:
            raise UserError("the environment variable X is not set")

    with ScriptedModel(["ok"]) as model:
        assert Agent(model, [Unset()]).run_sync("go").output == "ok"


def test_an_exception_of_the_model_is_cleaned_too() -> None:
    error = ModelError(f"cannot open https://u:{SECRET}@host")
    error.__cause__ = OSError(2, f"no {SECRET}")
    with pytest.raises(ModelError) as info:
        Agent(ScriptedModel([error]), redact=[SECRET]).run_sync("go")
    assert not leaks(info.value)
    assert not leaks(info.value.__cause__)


def test_an_exception_that_cannot_be_cleaned_is_replaced() -> None:
    class Stubborn(ModelError):
        def __str__(self) -> str:
            return f"still {SECRET}"

    with pytest.raises(Exception, match=r"Stubborn: still \[redacted\]") as info:
        Agent(ScriptedModel([Stubborn()]), redact=[SECRET]).run_sync("go")
    assert info.value.__cause__ is None
    assert info.value.__context__ is None


@pytest.mark.parametrize("value", ["", "abc", " ab "])
def test_short_values_are_refused_without_being_shown(value: str) -> None:
    with pytest.raises(UserError, match="at least 4"):
        Secrets([value])


def test_misuse() -> None:
    with pytest.raises(UserError, match="lists"):
        Secrets("hunter2")
    with pytest.raises(UserError, match="NOT_SET_ANYWHERE"):
        Secrets(env=["NOT_SET_ANYWHERE"])
    with pytest.raises(UserError, match="must be text"):
        Secrets([7])  # type: ignore[list-item]


def test_secrets_do_not_show_themselves() -> None:
    assert "hunter2" not in repr(Secrets(["hunter2"]))
    assert pickle.loads(pickle.dumps(Secrets(["hunter2"]))).values() == ("hunter2",)


texts = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.text(alphabet='ab"\\+/é ', min_size=6, max_size=12))
def test_no_json_shows_a_secret_and_other_json_stays(value: Any, secret: str) -> None:
    if len(secret.strip()) < 4:
        return
    redact = Redactor(Secrets([secret]))
    assert secret not in str(redact({"key": [secret, value, f"x{secret}y"]}))
    assert redact({"key": f"x{secret}y"}) == {"key": f"x{REDACTED}y"}
    if not leaks_any(value, redact):
        assert redact(value) == value
    assert Redactor()(value) is value


def leaks_any(value: Any, redact: Redactor) -> bool:
    return REDACTED in json.dumps(redact(value))


def test_one_secret_within_another() -> None:
    redact = Redactor(Secrets(["secret", "secret-long"]))
    assert redact("a secret-long b secret c") == f"a {REDACTED} b {REDACTED} c"


def test_messages_of_tools_are_cleaned() -> None:
    redact = Redactor(Secrets([SECRET]))
    assert redact(ToolMessage(SECRET, "c")) == ToolMessage(REDACTED, "c")
