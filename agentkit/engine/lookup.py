"""Prompt lookup: guessing the next tokens by copying from what has been read and written.

Answers quote: names from the question, sentences from documents, arguments from earlier calls.
Where the last tokens have stood before, the tokens that followed them then are read along with
the next pass, which costs little more than the pass alone, and each that the model would have
chosen anyway saves a pass of its own (Saxena 2023, prompt lookup decoding).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentkit.engine.backend import DraftCost

__all__ = ["PromptLookup", "SuffixIndex"]

_GRAM = 3
"""Tokens that must have stood together before, at the least."""
_CANDIDATES = 8
"""Earlier places that are compared."""
_LONGEST_MATCH = 32
_LONGEST_DRAFT = 16
_FIRST_DRAFT = 4
_STAKE = 1.0
"""What may be lost before anything is won, in passes."""
_ALLOWANCE = 0.015
"""What may be lost at each pass on trying whether guessing pays by now, in passes."""
_MOST_CREDIT = 2.0


class SuffixIndex:
    """Finds where the last tokens of a growing sequence stood before.

    Args:
        token_ids: The sequence so far.
    """

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self._tokens: list[int] = []
        self._last: dict[tuple[int, ...], int] = {}  # for each gram, where it last ended
        self._before: list[int] = []  # for each place, where the gram ending there ended before
        self.extend(token_ids)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, token_ids: Iterable[int]) -> None:
        """Append tokens; constant time for each."""
        tokens = self._tokens
        for token in token_ids:
            tokens.append(token)
            if len(tokens) < _GRAM:
                self._before.append(-1)
                continue
            gram = tuple(tokens[-_GRAM:])
            self._before.append(self._last.get(gram, -1))
            self._last[gram] = len(tokens) - 1

    def pop(self) -> None:
        """Take the last token back."""
        before = self._before.pop()
        if len(self._tokens) >= _GRAM:
            gram = tuple(self._tokens[-_GRAM:])
            if before < 0:
                del self._last[gram]
            else:
                self._last[gram] = before
        self._tokens.pop()

    def longest_match(self) -> tuple[int, int]:
        """The earlier place that ends most like the sequence does; the latest of equals.

        Returns:
            Where what followed then begins, and how many tokens before it match; (0, 0) if
            fewer than three do.
        """
        best = (0, 0)
        if not self._tokens:
            return best
        end = len(self._tokens) - 1
        place = self._before[end]
        for _ in range(_CANDIDATES):
            if place < 0:
                break
            length = self._match(place, end)
            if length > best[1]:
                best = (place + 1, length)
            place = self._before[place]
        return best

    def following(self, start: int, count: int) -> list[int]:
        """``count`` tokens from ``start`` on; past the end they repeat from ``start``."""
        found = self._tokens[start : start + count]
        while found and len(found) < count:
            found += found[: count - len(found)]
        return found

    def _match(self, place: int, end: int) -> int:
        tokens, length = self._tokens, 0
        while (
            length < _LONGEST_MATCH
            and place - length >= 0
            and tokens[place - length] == tokens[end - length]
        ):
            length += 1
        return length


class PromptLookup:
    """Proposes drafts, and spends no more on them than they bring in.

    What drafts cost and save is kept as a credit, in passes: it begins at one,
    and each pass adds a little. So the loss is bounded whatever the text, and a text that quotes
    soon pays for long drafts. Nothing here looks at a clock: the same turn drafts the same again.

    Args:
        token_ids: The prompt.
        never: Tokens that are not guessed, such as those that end a turn.
    """

    def __init__(self, token_ids: Sequence[int], *, never: Iterable[int] = ()) -> None:
        self._index = SuffixIndex(token_ids)
        self._never = frozenset(never)
        self._credit = _STAKE
        self._length = _FIRST_DRAFT
        self._failures = 1
        self._drafted = self._accepted = 0  # of the draft at work

    def extend(self, token_ids: Iterable[int]) -> None:
        """Tokens have been written."""
        self._index.extend(token_ids)

    def take_back(self) -> None:
        """The last token was taken back."""
        self._index.pop()

    def accept(self) -> None:
        """A token of the last draft was right, and has saved a pass."""
        self._accepted += 1
        self._credit = min(self._credit + 1, _MOST_CREDIT)

    def propose(self, *, limit: int, cost: DraftCost) -> list[int]:
        """A draft of what comes next, to be read along with the next pass; may be empty.

        Args:
            limit: Tokens that there is room for.
            cost: What reading it will cost.
        """
        self._learn()
        self._credit = min(self._credit + _ALLOWANCE, _MOST_CREDIT)
        affordable = int((self._credit - cost.start) / max(cost.token, 1e-3))
        length = min(self._length, limit, affordable)
        if length < 1:
            return []
        start, match = self._index.longest_match()
        # At first and after a wrong guess a longer match is asked for.
        if match < _GRAM + min(self._failures, 5):
            return []
        draft = self._index.following(start, length)
        ends = [i for i, token in enumerate(draft) if token in self._never]
        draft = draft[: ends[0]] if ends else draft
        if draft:
            self._drafted = len(draft)
            self._credit -= cost.start + cost.token * len(draft)
        return draft

    def _learn(self) -> None:
        """From the last draft: longer ones after a right one, shorter ones after a wrong one."""
        if not self._drafted:
            return
        if self._accepted >= self._drafted:
            self._length = min(2 * self._length, _LONGEST_DRAFT)
        else:
            self._length = max(2, self._accepted + 1)
        self._failures = 0 if self._accepted else self._failures + 1
        self._drafted = self._accepted = 0
