"""Who may say whether a call runs: rules for tools, callbacks, and answers of people."""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from agentkit.errors import UserError
from agentkit.messages import ToolCall
from agentkit.tools import Tool, ToolContext

__all__ = [
    "Approval",
    "ApprovalAnswer",
    "ApprovalCallback",
    "ApprovalPolicy",
    "ApprovalRule",
    "Approvals",
    "Decision",
    "as_approval",
]

Decision: TypeAlias = Literal["allow", "ask", "deny"]
"""Run the call; ask somebody first; do not run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An answer to whether a call may run."""

    decision: Decision
    """The answer. A callback that says ``ask`` leaves it to the next one who may answer."""
    reason: str = ""
    """Why not; told to the model with a denial."""
    arguments: Mapping[str, Any] | None = None
    """Run the call with these arguments in place of the model's."""
    by: str = ""
    """Who decided, for the audit log; filled in if empty."""

    def __post_init__(self) -> None:
        if self.decision not in get_args(Decision):
            raise UserError(
                f"Approval.decision is {self.decision!r}; it must be 'allow', 'ask' or 'deny'"
            )


ApprovalAnswer: TypeAlias = Approval | bool | str | Sequence[str] | Mapping[str, Any]
"""An :class:`Approval`, or short for one: ``True`` and ``False``; a decision's name; a decision
with its reason, as in ``("deny", "too dear")``; arguments, to allow the call with those."""

ApprovalCallback: TypeAlias = Callable[
    [ToolCall, ToolContext], ApprovalAnswer | Awaitable[ApprovalAnswer]
]
"""Answers for one call. May be async; a plain function runs in a thread, so it may block."""

ApprovalRule: TypeAlias = Decision | ApprovalCallback
"""What holds for a tool's calls."""

Approvals: TypeAlias = ApprovalRule | Mapping[str, ApprovalRule]
"""One rule for all tools, or rules by name; ``*`` in a name stands for anything."""


def as_approval(answer: Any, *, source: str) -> Approval:
    """Read an answer in any of its forms; see :data:`ApprovalAnswer`.

    Args:
        answer: What was given.
        source: Who gave it, for the error and the audit log.

    Raises:
        UserError: It is none of them.
    """
    found: Approval | None = None
    if isinstance(answer, Approval):
        found = answer
    elif isinstance(answer, bool):
        found = Approval(decision="allow" if answer else "deny")
    elif isinstance(answer, str) and answer in get_args(Decision):
        found = Approval(decision=answer)  # type: ignore[arg-type]  # it is one
    elif isinstance(answer, Mapping):
        found = Approval(decision="allow", arguments=dict(answer))
    elif (
        isinstance(answer, Sequence)
        and not isinstance(answer, str)
        and len(answer) == 2
        and answer[0] in get_args(Decision)
    ):
        found = Approval(decision=answer[0], reason=str(answer[1]))
    if found is None:
        raise UserError(
            f"{source} answered {answer!r:.100}; an approval is True, False, 'allow', 'ask', "
            "'deny', ('deny', reason), a dict of other arguments, or an Approval"
        )
    return replace(found, by=found.by or source)


class ApprovalPolicy:
    """Which calls run, which have to be asked about, and who is asked.

    A rule of the agent's for the tool's own name goes first, then the first pattern that fits
    it, then what the tool says of itself in an attribute ``approval``; else calls are allowed.

    Args:
        rules: The agent's.
        approver: Answers where a rule says ``ask``; without one the run pauses there.
        tools: The agent's, to notice a rule for none of them.

    Raises:
        UserError: A rule is none, or is for a tool that there is not.
    """

    def __init__(
        self,
        rules: Approvals | None = None,
        *,
        approver: ApprovalCallback | None = None,
        tools: Sequence[Tool] = (),
    ) -> None:
        by_name = rules if isinstance(rules, Mapping) else {} if rules is None else {"*": rules}
        self._rules: dict[str, ApprovalRule] = dict(by_name)
        self._approver = approver
        names = [tool.definition.name for tool in tools]
        for pattern, rule in self._rules.items():
            _check_rule(rule, f"approvals[{pattern!r}]")
            if pattern != "*" and not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"approvals has a rule for {pattern!r}, but there is no such tool; there are "
                    f"{', '.join(names) or 'none'}"
                )
        for tool in tools:
            _check_rule(getattr(tool, "approval", "allow"), f"{tool.definition.name}.approval")

    def at_once(self, tool: Tool) -> Approval | None:
        """The answer, where a rule gives it without asking anyone."""
        rule, source = self._rule(tool)
        if rule in ("allow", "deny"):
            return as_approval(rule, source=source)
        return None

    async def decide(
        self, tool: Tool, call: ToolCall, context: ToolContext, *, asked: Callable[[], None]
    ) -> Approval:
        """The answer for a call, from whoever may give it.

        Args:
            tool: To be called.
            call: As it would run.
            context: As the tool would get it.
            asked: Told if the call has to be asked about.

        Returns:
            The answer; ``ask`` if nobody here could give one.

        Raises:
            UserError: A callback answered with something else.
        """
        rule, source = self._rule(tool)
        if callable(rule):
            answer = as_approval(await _ask(rule, call, context), source="approvals callback")
        else:
            answer = as_approval(rule, source=source)
        if answer.decision != "ask":
            return answer
        asked()
        if self._approver is None:
            return answer
        return as_approval(await _ask(self._approver, call, context), source="approver")

    def _rule(self, tool: Tool) -> tuple[ApprovalRule, str]:
        name = tool.definition.name
        if name in self._rules:
            return self._rules[name], "agent"
        for pattern, rule in self._rules.items():
            if fnmatch.fnmatchcase(name, pattern):
                return rule, "agent"
        if (own := getattr(tool, "approval", None)) is not None:
            return own, "tool"
        return "allow", "default"


def _check_rule(rule: Any, where: str) -> None:
    if rule is None or callable(rule) or rule in get_args(Decision):
        return
    raise UserError(
        f"{where} is {rule!r:.100}; it must be 'allow', 'ask', 'deny' or a function of the call "
        "and its context"
    )


async def _ask(callback: ApprovalCallback, call: ToolCall, context: ToolContext) -> Any:
    routine = callback if inspect.isroutine(callback) else type(callback).__call__
    if inspect.iscoroutinefunction(routine):
        answer: Any = callback(call, context)
    else:
        answer = await asyncio.to_thread(callback, call, context)
    return await answer if inspect.isawaitable(answer) else answer
