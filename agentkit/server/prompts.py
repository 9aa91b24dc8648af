"""The exact prompt of a step, made again from the run's own record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentkit.chat_format import GRANITE, PromptFormat
from agentkit.errors import UserError
from agentkit.messages import Message, SystemMessage
from agentkit.redaction import Redactor

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.models.base import Model
    from agentkit.prompt import Prompt
    from agentkit.result import RunResult

__all__ = ["prompt_of_step", "prompt_to_dict"]


def prompt_of_step(agent: Agent, result: RunResult, step: int) -> Prompt:
    """What the model read before it wrote a step, if the run was given no documents of its own.

    Loads the model if need be, for the format of its prompts.

    Args:
        agent: Whose run it was; it must be as it was then.
        result: The run.
        step: Index of the step.

    Raises:
        UserError: The run has no such step.
    """
    if not 0 <= step < len(result.steps):
        raise UserError(f"the run has {len(result.steps)} steps, so none of index {step}")
    documents = result.documents or tuple(
        hit.document for record in result.retrievals for hit in record.hits
    )
    shown = result.tools or tuple(agent.tools.names)
    tools = [definition for definition in agent.tools.definitions if definition.name in shown]
    return _format_of(agent.model).render(
        _messages_before(agent, result, step), tools=tools, documents=documents
    )


def prompt_to_dict(prompt: Prompt) -> dict[str, Any]:
    """The prompt's text, and its parts by who wrote them.

    ``template`` is text whose delimiters act as delimiters; ``written`` is what the model wrote
    itself, in whose place its own tokens stand; all else is ``content``.
    """
    parts: list[dict[str, str]] = []
    for part in prompt.parts:
        kind = "template" if part.trusted else "written" if part.generation else "content"
        if parts and parts[-1]["kind"] == kind:
            parts[-1]["text"] += part.text
        elif part.text:
            parts.append({"kind": kind, "text": part.text})
    return {"text": prompt.text, "parts": parts}


def _messages_before(agent: Agent, result: RunResult, step: int) -> list[Message]:
    # Each step has left one turn of the model's and one observation of each call.
    left = sum(1 + len(record.calls) for record in result.steps[step:])
    messages = list(result.messages[: len(result.messages) - left])
    if agent.system is not None and not isinstance(messages[0], SystemMessage):
        # Stores of conversations leave it out.
        messages.insert(0, SystemMessage(agent.system))
    start = 1 if messages and isinstance(messages[0], SystemMessage) else 0
    examples = Redactor(agent.secrets, agent.tools.tools)(list(agent.examples))
    return [*messages[:start], *examples, *messages[start:]]


def _format_of(model: Model) -> PromptFormat:
    # Models elsewhere render their prompts there; Granite's form is then the closest to show.
    engine: Any = getattr(model, "engine", None)
    found: PromptFormat | None = getattr(engine, "chat_format", None)
    return found or GRANITE
