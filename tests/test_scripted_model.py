"""The test double for models fails loudly."""

from __future__ import annotations

import pytest

from agent_tools import ADD, add, run
from agentkit import (
    ScriptedModel,
    ScriptError,
)


class TestScriptedModel:
    def test_it_fails_loudly_when_asked_too_often(self) -> None:
        with pytest.raises(ScriptError, match="script has 1 steps"):
            run(ScriptedModel([ADD]), add)

    def test_it_fails_loudly_when_steps_are_left(self) -> None:
        model = ScriptedModel(["one", "two"])
        with pytest.raises(ScriptError, match="1 of 2 steps were not played"), model:
            run(model)

    def test_it_fails_loudly_on_a_call_that_may_not_be(self) -> None:
        with pytest.raises(ScriptError, match="tool_choice='none'"):
            run(ScriptedModel([ADD]), add, tool_choice="none")

    def test_a_function_sees_the_request(self) -> None:
        with ScriptedModel([lambda request: request.messages[-1].content.upper()]) as model:
            assert run(model, prompt="hello").output == "HELLO"
