"""Who may run what: rules, callbacks, pauses, and going on in another process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent_tools import ADD, add, run
from agentkit import (
    Agent,
    Approval,
    ApprovalRequested,
    Document,
    Event,
    InvalidToolCallError,
    Limits,
    MessageError,
    RunFinished,
    RunResult,
    ScriptedModel,
    StepFinished,
    ToolCall,
    ToolCallStarted,
    ToolContext,
    ToolMessage,
    UserError,
    tool,
)

PAY = ToolCall(name="pay", arguments={"amount": 7}, id="pay1")
LOOK = ToolCall(name="look", arguments={}, id="look1")


class Shop:
    """Tools that note what they did."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tools = [tool(self.pay, approval="ask"), tool(self.look)]

    def pay(self, amount: int) -> str:
        """Pay an amount."""
        self.done.append(f"pay {amount}")
        return f"paid {amount}"

    def look(self) -> str:
        """Look around."""
        self.done.append("look")
        return "a shop"


@pytest.fixture
def shop() -> Shop:
    return Shop()


def observations(result: RunResult) -> list[str]:
    return [m.content for m in result.messages if isinstance(m, ToolMessage)]


class TestRules:
    @pytest.mark.parametrize(
        ("approvals", "status"),
        [
            ("allow", "ok"),
            ("deny", "denied"),
            ({"pay": "allow"}, "ok"),
            ({"p*": "deny"}, "denied"),
            ({"*": "deny", "pay": "allow"}, "ok"),  # its own name goes before patterns
            ({"*": "allow"}, "ok"),
            ({"look": "deny"}, "pending"),  # the tool's own rule is left
            (None, "pending"),
            (lambda call, context: True, "ok"),
            (lambda call, context: "deny", "denied"),
            (lambda call, context: "ask", "pending"),
            ({"pay": lambda call, context: call.arguments["amount"] < 5}, "denied"),
            ({"pay": lambda call, context: call.arguments["amount"] > 5}, "ok"),
        ],
    )
    def test_the_agents_rules_go_before_the_tools_own(
        self, shop: Shop, approvals: Any, status: str
    ) -> None:
        result = run(ScriptedModel([PAY, "done"]), *shop.tools, approvals=approvals)
        assert [c.status for c in result.calls] == [status]
        assert shop.done == (["pay 7"] if status == "ok" else [])

    def test_a_denial_is_told_with_its_reason(self, shop: Shop) -> None:
        with ScriptedModel([PAY, "then not"]) as model:
            result = run(model, *shop.tools, approvals=lambda c, x: ("deny", "too dear"))
        assert "too dear" in observations(result)[0]
        assert (result.output, result.stop_reason) == ("then not", "answer")

    def test_a_callback_may_change_the_arguments(self, shop: Shop) -> None:
        async def halve(call: ToolCall, context: ToolContext) -> Approval:
            assert context.call_id == call.id
            assert not isinstance(call.arguments, str)
            amount = call.arguments["amount"] // 2
            return Approval(decision="allow", arguments={"amount": amount}, by="the boss")

        audited: list[Any] = []
        with ScriptedModel([PAY, "done"]) as model:
            result = run(model, *shop.tools, approvals=halve, audit=audited.append)
        assert shop.done == ["pay 3"]
        assert result.calls[0].call.arguments == {"amount": 3}
        # The model wrote 7; it is told why it gets something else.
        assert "changed" in observations(result)[0]
        assert "paid 3" in observations(result)[0]
        assert (audited[0].decision, audited[0].decided_by) == ("allow", "the boss")
        assert audited[0].arguments == {"amount": 3}

    def test_a_blocking_callback_does_not_block_the_loop(self, shop: Shop) -> None:
        thread = threading.get_ident()
        seen: list[int] = []

        def ask(call: ToolCall, context: ToolContext) -> bool:
            seen.append(threading.get_ident())
            return True

        run(ScriptedModel([PAY, "done"]), *shop.tools, approvals=ask)
        assert seen != [thread]

    def test_an_approver_answers_for_those_that_ask_one_at_a_time(self, shop: Shop) -> None:
        asked: list[str] = []

        async def approver(call: ToolCall, context: ToolContext) -> bool:
            asked.append(f"{call.id}?")
            await asyncio.sleep(0.01)
            asked.append(f"{call.id}!")
            return True

        second = ToolCall(name="pay", arguments={"amount": 8}, id="pay2")
        with ScriptedModel([[PAY, LOOK, second], "done"]) as model:
            result = run(model, *shop.tools, approver=approver)
        assert asked == ["pay1?", "pay1!", "pay2?", "pay2!"]
        assert [c.status for c in result.calls] == ["ok", "ok", "ok"]

    async def test_nobody_is_asked_before_the_turn_is_written(self, shop: Shop) -> None:
        asked: list[str] = []

        async def approver(call: ToolCall, context: ToolContext) -> bool:
            asked.append(call.id)
            return True

        model = ScriptedModel([[PAY, LOOK]], delay=0.1)
        task = asyncio.create_task(Agent(model, shop.tools, approver=approver).run("go"))
        await asyncio.sleep(0.15)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert asked == []
        assert shop.done == []

    @pytest.mark.parametrize("answer", [None, 42, "yes", ("deny",), ("maybe", "x")])
    def test_an_answer_that_is_none_ends_the_run(self, shop: Shop, answer: Any) -> None:
        with pytest.raises(UserError, match="approvals callback answered"):
            run(ScriptedModel([PAY]), *shop.tools, approvals=lambda c, x: answer)
        assert shop.done == []

    def test_an_exception_of_a_callback_reaches_the_caller(self, shop: Shop) -> None:
        def fail(call: ToolCall, context: ToolContext) -> bool:
            raise LookupError("no such boss")

        with pytest.raises(LookupError, match="no such boss"):
            run(ScriptedModel([PAY]), *shop.tools, approvals=fail)
        assert shop.done == []

    @pytest.mark.parametrize(
        ("approvals", "told"),
        [
            ({"pya": "deny"}, "'pya'"),
            ({"pay": "maybe"}, "'maybe'"),
            ("never", "'never'"),
        ],
    )
    def test_rules_that_make_no_sense(self, shop: Shop, approvals: Any, told: str) -> None:
        with pytest.raises(UserError, match=told):
            Agent(ScriptedModel([]), shop.tools, approvals=approvals)
        with pytest.raises(UserError, match="approval"):
            Agent(ScriptedModel([]), [tool(shop.look, approval="no")])  # type: ignore[arg-type]


class TestPause:
    def test_a_run_pauses_and_goes_on(self, shop: Shop, tmp_path: Path) -> None:
        with ScriptedModel([[LOOK, PAY], "all done"]) as model:
            agent = Agent(model, shop.tools, system="Be terse.")
            paused = agent.run_sync("go")
            assert (paused.stop_reason, paused.pending) == ("approval", (PAY,))
            assert shop.done == ["look"]
            paused.save(tmp_path / "run.json")
            result = agent.resume_sync(RunResult.load(tmp_path / "run.json"), {"pay1": True})
        assert shop.done == ["look", "pay 7"]
        assert (result.output, result.stop_reason) == ("all done", "answer")
        assert result.pending == ()
        assert observations(result) == ["a shop", "paid 7"]
        # As if it had not paused: the model sees one turn and two results.
        assert model.requests[1].messages == result.messages[:-1]
        assert len(result.steps) == 2
        assert result.run_id == paused.run_id
        assert result.new_messages == result.messages[1:]
        assert result.usage.total_tokens > paused.usage.total_tokens > 0

    def test_in_another_process(self, tmp_path: Path) -> None:
        """One process pauses, this one goes on; what ran there does not run here."""
        program = f"""
import sys
from test_approvals import LOOK, PAY, Shop
from agentkit import Agent, Document, ScriptedModel
shop = Shop()
agent = Agent(ScriptedModel([[LOOK, PAY]]), shop.tools)
paused = agent.run_sync("go", documents=[Document(text="Prices are in euros.", doc_id=1)])
assert shop.done == ["look"], shop.done
paused.save({str(tmp_path / "run.json")!r})
"""
        subprocess.run([sys.executable, "-c", program], check=True, env=_environment())
        shop = Shop()
        with ScriptedModel(["done"]) as model:
            paused = RunResult.load(tmp_path / "run.json")
            result = Agent(model, shop.tools).resume_sync(paused, True)
        assert shop.done == ["pay 7"]
        assert observations(result) == ["a shop", "paid 7"]
        assert model.requests[0].documents == (Document(text="Prices are in euros.", doc_id=1),)

    @pytest.mark.parametrize(
        ("answer", "done", "told"),
        [
            (False, [], "not allowed"),
            (("deny", "too dear"), [], "too dear"),
            ({"amount": 1}, ["pay 1"], "paid 1"),
            (Approval(decision="allow", by="Ada"), ["pay 7"], "paid 7"),
        ],
    )
    def test_every_form_of_answer(
        self, shop: Shop, answer: Any, done: list[str], told: str
    ) -> None:
        with ScriptedModel([PAY, "well"]) as model:
            agent = Agent(model, shop.tools)
            result = agent.resume_sync(agent.run_sync("go"), {"pay1": answer})
        assert shop.done == done
        assert told in observations(result)[0]

    def test_calls_may_be_answered_one_after_the_other(self, shop: Shop) -> None:
        second = ToolCall(name="pay", arguments={"amount": 8}, id="pay2")
        with ScriptedModel([[PAY, second], "done"]) as model:
            agent = Agent(model, shop.tools)
            paused = agent.resume_sync(agent.run_sync("go"), {"pay2": True})
            assert [call.id for call in paused.pending] == ["pay1"]
            assert shop.done == ["pay 8"]
            result = agent.resume_sync(paused, ("deny", "no"))
        assert [c.status for c in result.calls] == ["denied", "ok"]

    async def test_events(self, shop: Shop) -> None:
        with ScriptedModel([[PAY, LOOK], "done"]) as model:
            agent = Agent(model, shop.tools)
            events: list[Event] = [event async for event in agent.stream("go")]
            assert [e.call for e in events if isinstance(e, ApprovalRequested)] == [PAY]
            assert isinstance(events[-1], RunFinished)
            # The step is not over yet.
            assert not any(isinstance(e, StepFinished) for e in events)
            paused = events[-1].result
            events = [event async for event in agent.resume_stream(paused, True)]
        assert [e.call for e in events if isinstance(e, ToolCallStarted)] == [PAY]
        steps = [e for e in events if isinstance(e, StepFinished)]
        assert [len(e.step.calls) for e in steps] == [2, 0]
        assert [type(m) for m in steps[0].messages] == [ToolMessage, ToolMessage]

    def test_limits_count_what_was_before_the_pause(self, shop: Shop) -> None:
        limits = Limits(max_calls_per_tool={"pay": 1}, max_steps=2)
        with ScriptedModel([PAY, PAY, "enough"]) as model:
            agent = Agent(model, shop.tools, limits=limits)
            result = agent.resume_sync(agent.run_sync("go"), True)
        assert [c.status for c in result.calls] == ["ok", "refused"]
        assert (result.stop_reason, len(result.steps)) == ("max_steps", 3)

    def test_denials_end_at_the_limit_of_retries(self, shop: Shop) -> None:
        model = ScriptedModel([PAY, PAY])
        with pytest.raises(InvalidToolCallError, match="not allowed"):
            run(
                model,
                *shop.tools,
                approvals="deny",
                limits=Limits(max_retries=1, on_exceeded="raise"),
            )

    def test_a_required_call_that_is_denied_is_not_required_again(self, shop: Shop) -> None:
        with ScriptedModel([PAY, "then not"]) as model:
            run(model, *shop.tools, approvals="deny", tool_choice="required")
        assert [r.tool_choice for r in model.requests] == ["required", "auto"]

    def test_a_paused_run_may_also_be_history(self, shop: Shop) -> None:
        with ScriptedModel([PAY, "never mind"]) as model:
            agent = Agent(model, shop.tools)
            result = agent.run_sync("Forget it.", history=agent.run_sync("go"))
        assert result.output == "never mind"
        assert "has not run" in observations(result)[0]

    def test_misuse(self, shop: Shop) -> None:
        with ScriptedModel([PAY, "hello"]) as model:
            agent = Agent(model, shop.tools)
            paused = agent.run_sync("go")
            with pytest.raises(UserError, match=r"'pay9'.*pay1 \(pay\)"):
                agent.resume_sync(paused, {"pay9": True})
            with pytest.raises(UserError, match=r"amount"):
                agent.resume_sync(paused, {"pay1": {"amount": "much"}})
            with pytest.raises(UserError, match="not among the agent's tools"):
                Agent(ScriptedModel([]), [add]).resume_sync(paused, True)
            with pytest.raises(UserError, match="waits for no approval"):
                agent.resume_sync(agent.run_sync("hi"), True)
        assert shop.done == []


def test_saved_runs_of_before_still_load() -> None:
    with ScriptedModel([ADD, "5"]) as model:
        result = run(model, add)
    old = result.to_dict()
    for key in ("run_id", "documents", "tools"):
        del old[key]
    for step in old["steps"]:
        del step["overlap_seconds"], step["rewinds"]
        for call in step["calls"]:
            del call["error"]
    loaded = RunResult.from_dict(json.loads(json.dumps(old)))
    assert loaded.messages == result.messages
    assert [c.status for c in loaded.calls] == ["ok"]
    with pytest.raises(MessageError):
        RunResult.from_dict({**result.to_dict(), "documents": [3]})


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
