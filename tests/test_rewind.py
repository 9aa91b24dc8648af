"""A call that cannot be run is written anew within its turn."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from agent_tools import ADD, add, run
from agentkit import (
    Agent,
    AssistantMessage,
    Limits,
    ModelRequest,
    ModelResponse,
    ParsedCall,
    Retry,
    Rewind,
    RunResult,
    Sampling,
    ScriptedModel,
    ToolCall,
    ToolContext,
    ToolDefinition,
    ToolMessage,
    TransformersModel,
    UserError,
    tool,
)

UNKNOWN = ToolCall(name="plus", arguments={"a": 2, "b": 3})
INVALID = ToolCall(name="add", arguments={"a": 2})
UNREADABLE = "<tool_call>\n{nonsense\n</tool_call>"


@pytest.mark.parametrize("bad", [UNKNOWN, INVALID, UNREADABLE])
async def test_a_bad_call_is_written_anew_and_not_told_of(bad: Any) -> None:
    with ScriptedModel([bad, ADD, "5"]) as model:
        events = [event async for event in Agent(model, [add], rewind=1).stream("go")]
    result = events[-1].result  # type: ignore[union-attr]
    assert [c.status for c in result.calls] == ["ok"]
    assert [m.content for m in result.messages if isinstance(m, ToolMessage)] == ["5"]
    assert len(result.steps) == 2
    (rewind,) = [e for e in events if isinstance(e, Rewind)]
    assert not [e for e in events if isinstance(e, Retry)]
    assert [r.reason for r in result.steps[0].rewinds] == [rewind.reason]
    # Both attempts' tokens are counted.
    asked = [len(request.messages[0].content.split()) for request in model.requests[:2]]
    assert result.steps[0].usage.prefilled_tokens == sum(asked)
    assert RunResult.from_dict(result.to_dict()) == result


def test_when_rewinds_are_spent_the_model_is_told() -> None:
    with ScriptedModel([INVALID, UNKNOWN, INVALID, ADD, "5"]) as model:
        result = run(model, add, rewind=2)
    assert [c.status for c in result.calls] == ["invalid", "ok"]
    assert len(result.steps[0].rewinds) == 2
    assert "$.b" in result.calls[0].observation


def test_without_rewinds_the_model_is_told_of_each() -> None:
    with ScriptedModel([INVALID, ADD, "5"]) as model:
        result = run(model, add, rewind=0)
    assert [c.status for c in result.calls] == ["invalid", "ok"]
    assert [r.prefill for r in model.requests] == [None] * 3


def test_earlier_calls_of_the_turn_stay_and_run_once() -> None:
    ran: list[int] = []

    @tool
    def note(number: int) -> str:
        """Note a number."""
        ran.append(number)
        return f"noted {number}"

    def call(number: Any) -> ToolCall:
        return ToolCall(name="note", arguments={"number": number})

    first, bad, better, last = call(1), call("many"), call(2), call(3)
    text = ScriptedModel([[first, bad, last], [better, last], "done"])
    result = run(text, note, rewind=1)
    assert ran == [1, 2, 3]
    assert [c.call.id for c in result.calls] == [first.id, better.id, last.id]
    # The turn goes on from the end of the first call.
    prefill = text.requests[1].prefill
    assert prefill is not None
    assert prefill.text.startswith("<tool_call>")
    assert '"number": 1' in prefill.text
    assert "many" not in prefill.text
    told = [m.tool_call_id for m in result.messages if isinstance(m, ToolMessage)]
    assert told == [c.call.id for c in result.calls]


def test_text_before_the_call_stays() -> None:
    bad = 'Let me see.\n<tool_call>\n{"name": "plus", "arguments": {}}\n</tool_call>'
    with ScriptedModel([bad, ADD, "5"]) as model:
        result = run(model, add, rewind=1)
    assert model.requests[1].prefill is not None
    assert model.requests[1].prefill.text == "Let me see.\n"
    assert result.steps[0].text.strip() == "Let me see."


def test_calls_of_one_block_are_not_unwritten_when_one_has_begun() -> None:
    block = (
        '<tool_call>\n[{"name": "add", "arguments": {"a": 2, "b": 3}}, '
        '{"name": "add", "arguments": {"a": 1}}]\n</tool_call>'
    )
    with ScriptedModel([block, "5"]) as model:
        result = run(model, add, rewind=3)
    assert [c.status for c in result.calls] == ["ok", "invalid"]


def test_the_new_attempt_is_hotter_and_repeatable() -> None:
    with ScriptedModel([INVALID, INVALID, ADD, "5"]) as model:
        run(model, add, rewind=2, sampling=Sampling(max_tokens=99))
    plain, second, third, last = [r.sampling for r in model.requests]
    assert plain.temperature == last.temperature == 0
    assert 0 < second.temperature < third.temperature
    assert None not in (second.seed, third.seed)
    assert second.seed != third.seed
    assert second.max_tokens == 99

    with ScriptedModel([INVALID, ADD, "5"]) as model:
        run(model, add, sampling=Sampling(temperature=1.0))
    assert model.requests[1].sampling.seed is None  # chance stays chance


def test_a_models_own_failure_to_say_where_a_call_begins_is_respected() -> None:
    """A model of another make sends no position; then there is no rewind."""

    class Other(ScriptedModel):
        async def stream(self, request: ModelRequest) -> Any:
            async for event in super().stream(request):
                if hasattr(event, "before"):
                    event = dataclasses.replace(event, before=None)
                yield event

    with Other([INVALID, ADD, "5"]) as model:
        result = run(model, add, rewind=3)
    assert [c.status for c in result.calls] == ["invalid", "ok"]


def test_a_limit_is_not_a_bad_call() -> None:
    with ScriptedModel([[ADD, ADD], "5"]) as model:
        result = run(model, add, rewind=3, limits=Limits(max_calls_per_tool=1))
    assert [c.status for c in result.calls] == ["ok", "refused"]


def test_rewind_must_be_a_number_of_times() -> None:
    with pytest.raises(UserError, match="rewind is -1"):
        Agent(ScriptedModel([]), rewind=-1)


def test_a_rewound_call_is_audited() -> None:
    audited: list[Any] = []
    with ScriptedModel([UNKNOWN, ADD, "5"]) as model:
        run(model, add, rewind=1, audit=audited.append)
    assert [(r.tool, r.outcome) for r in audited] == [("plus", "rewound"), ("add", "ok")]


def test_a_response_alone_is_enough() -> None:
    response = ModelResponse(
        text="", calls=(ParsedCall(raw="{}", name="add", arguments={"a": 1, "b": 1}),)
    )
    with ScriptedModel([INVALID, response, "2"]) as model:
        assert run(model, add, rewind=1).calls[0].observation == "2"


class Plain:
    """A tool whose schema asks for what no grammar of ours can express."""

    definition = ToolDefinition(
        name="plain",
        description="Take a word that begins with a small letter",
        parameters={
            "type": "object",
            "properties": {"word": {"type": "string", "minLength": 1, "maxLength": 8}},
            "required": ["word"],
            "not": {"properties": {"word": {"pattern": "^[^a-z]"}}},
        },
    )
    timeout = None

    async def call(self, arguments: Any, context: ToolContext) -> str:
        assert arguments["word"][0].islower()
        return "plain"


@pytest.mark.parametrize("fixture", ["granite", "granite_hybrid"])
async def test_a_real_model_writes_another_call(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: TransformersModel = request.getfixturevalue(fixture)
    found = 0
    for seed in range(12):
        sampling = Sampling(max_tokens=60, seed=seed, temperature=1.0)
        agent = Agent(
            model, [Plain()], tool_choice="plain", parallel_tool_calls=False, sampling=sampling
        )
        limits = Limits(max_steps=1)
        result = await agent.run("Say a word.", limits=limits)
        step, message = result.steps[0], result.messages[1]
        assert isinstance(message, AssistantMessage)
        assert message.generation is not None
        assert len(step.calls) == 1
        if step.rewinds:
            found += 1
            # The prompt was read once, and of the call only what stays is in the turn.
            assert step.usage.reused_tokens >= step.usage.prefilled_tokens - 2
            assert message.generation.text.count("<tool_call>") == 1
            assert model.engine.codec.decode(message.generation.token_ids) == (
                message.generation.text
            )
        assert step.calls[0].status == "ok" or len(step.rewinds) == 1
    assert found > 0
