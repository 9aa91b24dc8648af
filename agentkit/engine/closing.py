"""Bringing calls to their end before the token limit cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentkit.engine.grammar import CallConstraint

__all__ = ["CLOSING_MARGIN", "CallClosing"]

CLOSING_MARGIN = 4
"""Tokens kept in hand when a call is brought to its end before the token limit."""
_NEAR_LIMIT = 96
"""Spare tokens below which each token is only taken if the call can still be finished after it."""


class CallClosing:
    """Watches how far off the limit is, and keeps a way to the end in hand when it is near."""

    def __init__(self) -> None:
        self._next_check = 0
        self.near = False
        """Each token must be weighed before it is taken."""
        self.way_out: list[int] = []
        """Near the limit: tokens that would end the calls now."""

    def took_forced(self, count: int) -> None:
        """Forced tokens are the first of any way to the end, the one in hand included."""
        self.way_out = self.way_out[count:]

    def due(self, constraint: CallConstraint, *, written: int, room: int) -> list[int]:
        """The tokens that bring an open call to its end, if that has to be done now.

        How many those are is only looked up now and then, the closer the limit the oftener.

        Args:
            constraint: Of the turn; it is advanced by what is returned.
            written: Tokens of the turn so far.
            room: Tokens that may still be written.
        """
        # Close to the limit every token is weighed before it is taken; no more need to look.
        if self.near or written < self._next_check or constraint.may_end:
            return []
        tokens = constraint.shortest_end()
        if tokens is None:
            return []
        slack = room - len(tokens) - CLOSING_MARGIN
        if slack > 0:
            self.near = slack < _NEAR_LIMIT
            # The way may grow by several tokens for each that is written.
            self._next_check = written + slack // 4
            self.way_out = tokens
            return []
        if len(tokens) > room:
            # A pattern's way to its end grew with what was written; another may be shorter.
            tokens = constraint.shortest_end(limit=room) or tokens
        constraint.advance(tokens)
        return tokens

    def allows(self, constraint: CallConstraint, token: int, *, room: int) -> bool:
        """Whether the calls can still be finished after ``token``; keeps the way in hand."""
        if not self.near:
            return True
        way_out = constraint.way_out(token, room)
        if way_out is None:
            return False
        self.way_out = way_out
        return True
