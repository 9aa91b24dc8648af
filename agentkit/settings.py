"""An agent's settings, as a run uses them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentkit.approvals import ApprovalPolicy
from agentkit.audit import AuditSink
from agentkit.grounding import AnswerCheck
from agentkit.limits import Limits
from agentkit.models.base import ModelRequest, Sampling
from agentkit.redaction import Secrets
from agentkit.retrieval import Retriever
from agentkit.tool_execution import ToolSet
from agentkit.tool_selection import ToolSelection

if TYPE_CHECKING:
    from agentkit.tracing.tracer import Tracing

__all__ = ["RunSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """An agent's settings, as one run uses them; see :class:`agentkit.Agent`."""

    tools: ToolSet
    """What may be called."""
    retriever: Retriever | None
    """Fills the documents section."""
    top_k: int | None
    """Documents of one search."""
    limits: Limits
    """How far the run may go."""
    sampling: Sampling
    """How tokens are chosen."""
    tool_choice: str
    """For the first step."""
    parallel_tool_calls: bool
    """Whether one turn may hold several calls."""
    constrain: bool
    """Whether calls are sampled under their grammar."""
    response_schema: Mapping[str, Any] | None
    """What the text of every turn follows."""
    tool_timeout: float | None
    """Seconds for a tool without a limit of its own."""
    on_tool_error: Literal["feedback", "raise"]
    """What becomes of a failing tool."""
    overlap: bool
    """Whether tools begin while the turn is being written."""
    rewind: int
    """Bad calls of one turn that are taken back."""
    approvals: ApprovalPolicy
    """Which calls may run."""
    audit: AuditSink | None
    """Where records of calls go."""
    secrets: Secrets | None
    """What is blotted out everywhere."""
    tool_selection: ToolSelection | None
    """Picks the tools that the prompts show."""
    agent_name: str
    """Who runs, for the audit log."""
    tracing: Tracing | bool | None = None
    """As :func:`agentkit.tracing.current.read_setting` gives it."""
    grounding: AnswerCheck | None = None
    """Checks the answer against the documents."""

    def replace(self, **changes: Any) -> RunSettings:
        """The settings with those changes that are not None."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def check_tool_choice(self, choice: str) -> None:
        """Refuse a choice that no request could carry out.

        Raises:
            UserError: It is none of the words, and no tool has the name.
        """
        ModelRequest(messages=(), tools=self.tools.definitions, tool_choice=choice)
