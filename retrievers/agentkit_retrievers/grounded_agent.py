"""An agent whose answers are checked against its documents."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit_retrievers.grounding import Grounding, aground

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentkit.agent import Agent, Prompt
    from agentkit.grounding import GroundedAnswer
    from agentkit.result import RunResult

__all__ = ["GroundedAgent", "GroundedRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundedRun:
    """A run, and the check of its answer."""

    result: RunResult
    """The run as it was; pass it as ``history`` to go on."""
    grounded: GroundedAnswer
    """Its answer with citations, or a refusal."""

    @property
    def output(self) -> str:
        """What to show: the answer, or the refusal in its place."""
        return self.grounded.text

    def to_dict(self) -> dict[str, Any]:
        """The run's JSON-able form, with ``grounding`` added."""
        return {**self.result.to_dict(), "grounding": self.grounded.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GroundedRun:
        """Build from :meth:`to_dict`'s output.

        Raises:
            MessageError: It is of another version, or not of this form at all.
        """
        from agentkit.errors import MessageError
        from agentkit.grounding import GroundedAnswer
        from agentkit.result import RunResult

        result = RunResult.from_dict({**data, "grounding": None})
        try:
            return cls(result=result, grounded=GroundedAnswer.from_dict(data["grounding"]))
        except (KeyError, TypeError) as error:
            raise MessageError(f"a saved run's grounding is damaged: {error!r}") from error


class GroundedAgent:
    """Runs an agent and checks each answer against the documents that the model was shown.

    Args:
        agent: With a retriever, or given ``documents`` for each run. Closing it is up to you.
        grounding: ``None`` for ``Grounding()``.

    Example:
        >>> agent = GroundedAgent(Agent(retriever=HybridRetriever.from_folder("docs")))
        >>> run = agent.run_sync("How long is the warranty?")
        >>> print(run.grounded.marked())
    """

    def __init__(self, agent: Agent, grounding: Grounding | None = None) -> None:
        self.agent = agent
        self.grounding = grounding or Grounding()

    async def run(self, prompt: Prompt, **options: Any) -> GroundedRun:
        """Answer a prompt, and check the answer.

        Args:
            prompt: As for :meth:`agentkit.Agent.run`.
            **options: As for :meth:`agentkit.Agent.run`; an earlier :class:`GroundedRun` is a
                ``history`` too.
        """
        history = options.get("history")
        if isinstance(history, GroundedRun):
            options["history"] = history.result
        result = await self.agent.run(prompt, **options)
        given = tuple(options.get("documents", ()))
        grounded = await aground(result, grounding=self.grounding, documents=given)
        return GroundedRun(result=result, grounded=grounded)

    def run_sync(self, prompt: Prompt, **options: Any) -> GroundedRun:
        """:meth:`run`, for programs without an event loop."""
        return asyncio.run(self.run(prompt, **options))
