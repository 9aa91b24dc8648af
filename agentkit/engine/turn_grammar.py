"""The grammar's part in one turn: when it takes over, what it forces, how it comes to an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentkit.engine.closing import CLOSING_MARGIN, CallClosing
from agentkit.engine.grammar import number_runs_away
from agentkit.errors import ModelError, UserError

if TYPE_CHECKING:
    import torch

    from agentkit.engine.engine import InferenceEngine
    from agentkit.engine.grammar import CallConstraint
    from agentkit.engine.output import TurnOutput
    from agentkit.engine.sampling import Sampler
    from agentkit.engine.stopwatch import Stopwatch
    from agentkit.models.base import ModelRequest

__all__ = ["TurnGrammar"]


class TurnGrammar:
    """Where a turn stands within its grammar, if it has come to one.

    A grammar is at work from the beginning where a call is required or the answer's form is
    given; otherwise from the moment that the model opens a call. From then on it stays.

    Args:
        engine: What compiles grammars.
        request: What is being answered.
        output: The turn's, which is told that its text is no longer free.
        clock: The turn's.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        request: ModelRequest,
        output: TurnOutput,
        clock: Stopwatch,
    ) -> None:
        self._engine = engine
        self._request = request
        self._output = output
        self._clock = clock
        self._constraint: CallConstraint | None = None
        self._shortest = 0  # tokens of the shortest call, or answer
        self._closing = CallClosing()

    @property
    def at_work(self) -> bool:
        """Whether it chooses along."""
        return self._constraint is not None

    def is_over(self, room: int) -> bool:
        """Whether no further call may come, or none would fit.

        Args:
            room: Tokens that may still be written.
        """
        if self._constraint is None or not self._constraint.may_end:
            return False
        return self._constraint.finished or room < self._shortest + CLOSING_MARGIN

    def require_call(self, max_tokens: int) -> None:
        """Be at work from the turn's beginning, for one or more calls.

        Raises:
            UserError: No call fits into ``max_tokens``.
        """
        self._take_over(self._calls())
        if self._shortest > max_tokens:
            raise UserError(
                f"max_tokens is {max_tokens}, but the shortest call of the tools takes "
                f"{self._shortest} tokens; raise Sampling.max_tokens"
            )

    def require_answer(self, schema: Mapping[str, Any], max_tokens: int) -> None:
        """Be at work from the turn's beginning, for an answer of the schema's form, or calls.

        Raises:
            UserError: No answer fits into ``max_tokens``, or the given beginning is none.
        """
        request, compiler = self._request, self._engine.grammar
        with self._clock("grammar"):
            shortest = compiler.answer(schema).shortest_end()
            constraint = compiler.answer(
                schema,
                tools=request.tools if request.tool_choice != "none" else (),
                parallel=request.parallel_tool_calls,
            )
            given = self._output.token_ids
            if constraint.advance(given) < len(given):
                raise UserError("the turn's given beginning is not of the response_schema's form")
            self._shortest = len(shortest or ())
        self._take_over(constraint)
        self._output.json_answer = True
        if self._shortest > max_tokens:
            raise UserError(
                f"max_tokens is {max_tokens}, but the shortest answer of the schema's form "
                f"takes {self._shortest} tokens; raise Sampling.max_tokens"
            )

    def resume_calls(self) -> bool:
        """Whether the turn's given beginning has calls; the grammar is then brought there."""
        opened = self._output.opened_call(anywhere=True)
        if opened is None:
            return False
        lead, tokens = opened
        for spelt in (False, True):
            constraint = self._calls(lead=lead, spelt=spelt)
            if constraint.advance(tokens) == len(tokens):
                self._take_over(constraint)
                break
        return True

    def watch_for_call(self, room: int) -> tuple[bool, bool]:
        """Take over once the model has opened a call.

        The tag's last token may reach beyond it. What reaches beyond is kept if the grammar can
        go on from there; otherwise that token is taken back and the grammar completes the tag.

        Args:
            room: Tokens that may still be written.

        Returns:
            Whether the turn can go on, which it cannot where a call was opened that cannot be
            finished; and whether the last token, which no forward pass has seen yet, is to be
            taken back.
        """
        opened = self._output.opened_call()
        if opened is None:
            return True, False
        lead, tokens = opened
        for spelt in (False, True):
            constraint = self._calls(lead=lead, spelt=spelt)
            fitted = constraint.advance(tokens)
            if fitted >= len(tokens) - 1:
                break
        else:
            return True, False  # No grammar can go on from here; parser and validation remain.
        free = room + len(tokens) - fitted
        if self._shortest > free:  # else the rest of the call, which is less, fits as well
            with self._clock("grammar"):
                left = len(constraint.shortest_end() or ())
            if left > free:
                return False, True
        self._take_over(constraint)
        return True, fitted == len(tokens) - 1

    def forced(self) -> list[int]:
        """The tokens that must come next, where there is no choice."""
        if self._constraint is None or self._constraint.finished:
            return []
        with self._clock("grammar"):
            tokens = self._constraint.forced()
        self._closing.took_forced(len(tokens))
        return tokens

    def closing(self, room: int) -> list[int]:
        """The tokens that end an open call, if the token limit would cut it otherwise.

        Args:
            room: Tokens that may still be written.
        """
        if self._constraint is None or self._constraint.finished:
            return []
        with self._clock("grammar"):
            written = len(self._output.token_ids)
            tokens = self._closing.due(self._constraint, written=written, room=room)
        self._closing.took_forced(len(tokens))
        return tokens

    def choose(self, logits: torch.Tensor, sampler: Sampler, room: int) -> tuple[list[int], bool]:
        """The next token, or several, where a call has to be brought to its end.

        Args:
            logits: Shape ``(vocabulary,)``.
            sampler: The turn's.
            room: Tokens that may still be written.

        Returns:
            The tokens, and whether the model had no choice.
        """
        constraint, eos_ids = self._constraint, self._engine.eos_ids
        assert constraint is not None
        with self._clock("grammar"):
            allowed = constraint.allowed(logits.device)
        seen = self._output.token_ids
        token = sampler(logits, seen=seen, allowed=allowed)
        while token not in eos_ids and number_runs_away(self._output.with_token(token)):
            allowed[token] = False
            if not allowed.any():
                break
            token = sampler(logits, seen=seen, allowed=allowed)
        if token in eos_ids:
            return [token], False
        with self._clock("grammar"):
            if not self._closing.allows(constraint, token, room=room):
                # It leads to no end. The way to one that is in hand is taken instead.
                way_out = self._closing.way_out
                constraint.advance(way_out)
                return (way_out, True) if way_out else ([eos_ids[0]], False)
            if not constraint.advance([token]):
                raise ModelError(
                    f"the grammar refuses {self._engine.codec.decode([token])!r}, which it "
                    "allowed; a schema should not spell the model's special tokens"
                )
        return [token], False

    def _calls(self, *, lead: str = "", spelt: bool = False) -> CallConstraint:
        request, compiler = self._request, self._engine.grammar
        choice = request.tool_choice
        tools = [t for t in request.tools if choice in ("auto", "required", t.name)]
        # Naming a tool asks for one call of it.
        parallel = request.parallel_tool_calls and choice in ("auto", "required")
        with self._clock("grammar"):
            constraint = compiler.calls(tools, parallel=parallel, lead=lead, spelt=spelt)
            # No way is found to a tag in other tokens than its own; a further call has those.
            whole = compiler.calls(tools, parallel=parallel, lead=lead) if spelt else constraint
            self._shortest = len(whole.shortest_end() or ())
        return constraint

    def _take_over(self, constraint: CallConstraint) -> None:
        self._constraint = constraint
        self._output.free_text = False
