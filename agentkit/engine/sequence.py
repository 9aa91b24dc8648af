"""The tokens of one turn on their way through the model: written, read, and read ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from agentkit.engine.backend import DraftCost, Row
from agentkit.models.base import TokenLogprob

if TYPE_CHECKING:
    from agentkit.engine.kv_cache import KVCache
    from agentkit.engine.lookup import PromptLookup
    from agentkit.engine.tokenization import TokenCodec

__all__ = ["Read", "TokenScorer", "TurnSequence"]


@dataclass(frozen=True, slots=True)
class Read:
    """What a turn asks of whoever drives it: that the model read these tokens.

    It is answered with the logits, shape ``(keep, vocabulary)``.
    """

    cache: KVCache
    """Of the sequence so far."""
    token_ids: Sequence[int]
    """Tokens to be read; in several passes, where there are many."""
    keep: int = 1
    """Logits wanted: those at the last ``keep`` of the tokens."""
    prompt: bool = False
    """The tokens are the prompt's, so nobody waits for each of them."""

    def row(self, done: int, size: int) -> Row:
        """The next pass, with at most ``size`` tokens unless :attr:`keep` asks for more.

        Args:
            done: Tokens that have been read.
            size: At least one.
        """
        left = len(self.token_ids) - done
        if left <= max(size, self.keep):
            return Row(self.cache, self.token_ids[done:], self.keep)
        # The last pass gives all the logits.
        count = min(size, left - self.keep)
        return Row(self.cache, self.token_ids[done : done + count])

    def rows(self, size: int) -> Iterator[Row]:
        """All passes, one after another."""
        done = 0
        while done < len(self.token_ids):
            row = self.row(done, size)
            yield row
            done += len(row.token_ids)


class TurnSequence:
    """What a turn has written and the model has read of it.

    Written tokens wait until logits are needed; then they are read in one pass, together with
    a draft of what may follow. As long as the turn then writes what was drafted, the logits are
    there already. What it does not write is cut off the cache again.

    Args:
        cache: Of the prompt; belongs to the sequence until it is :meth:`settled`.
        prompt_ids: The whole prompt, of which the cache holds the beginning.
        lookup: What makes drafts; None for no drafts. Needs a cache that can be cut back.
        draft_cost: What drafts cost at present; see :meth:`PromptLookup.propose`.
        scorer: Computes log-probabilities of the tokens; None where nobody asked for them.
    """

    def __init__(
        self,
        cache: KVCache,
        prompt_ids: Sequence[int],
        *,
        lookup: PromptLookup | None = None,
        draft_cost: Callable[[], DraftCost] = DraftCost,
        scorer: TokenScorer | None = None,
    ) -> None:
        self._cache = cache
        self._pending = list(prompt_ids[len(cache.token_ids) :])
        self._written = 0  # of the pending tokens, those that are not the prompt's
        self._forced: list[bool] = []  # for each pending token that is not the prompt's
        self._ahead: list[int] = []  # read, but not written (yet)
        self._logits: torch.Tensor | None = None  # after the last written token that was read
        self._rows: list[torch.Tensor] = []  # after each token in ``_ahead``
        self._lookup = lookup
        self._scorer = scorer
        self._draft_cost = draft_cost
        self.saved_passes = 0
        """Times that logits were asked for and had been read ahead."""

    def append(self, token_ids: Sequence[int], *, forced: bool) -> None:
        """Tokens have been written."""
        self._pending += token_ids
        self._written += len(token_ids)
        self._forced += [forced] * len(token_ids)
        if self._lookup is not None:
            self._lookup.extend(token_ids)

    def take_back(self) -> None:
        """The last token is not written after all; it has not been asked logits for."""
        self._pending.pop()
        self._forced.pop()
        self._written -= 1
        if self._lookup is not None:
            self._lookup.take_back()

    @property
    def croppable(self) -> bool:
        """Whether the cache can be cut back."""
        return self._cache.croppable

    def fork(self, length: int) -> KVCache:
        """A copy of the cache, of its first ``length`` tokens if it can be cut."""
        return self._cache.fork(length)

    def read_prompt(self, end: int) -> Generator[Read, torch.Tensor, None]:
        """Read the prompt up to token ``end`` now, and leave the rest for later."""
        count = end - len(self._cache.token_ids)
        yield Read(self._cache, self._pending[:count], prompt=True)
        del self._pending[:count]

    def logits(self, *, room: int) -> Generator[Read, torch.Tensor, torch.Tensor]:
        """The logits of the token after the last one written, shape ``(vocabulary,)``.

        Args:
            room: Tokens that may still be written.
        """
        self._catch_up()
        if not self._pending:
            assert self._logits is not None
            self.saved_passes += 1
            if self._lookup is not None:
                self._lookup.accept()
            return self._logits
        self._drop_ahead()
        draft: list[int] = []
        if self._lookup is not None:
            draft = self._lookup.propose(limit=room - 1, cost=self._draft_cost())
        tokens, first = self._pending, len(self._pending) > self._written
        keep = 1 + len(draft)
        if self._scorer is not None:
            # The logits before each written token as well. Those before the first we have.
            keep += self._written if first else self._written - 1
        rows = yield Read(self._cache, [*tokens, *draft], keep, prompt=first)
        self._score([] if first else [self._logits], list(rows[: keep - 1 - len(draft)]))
        self._pending, self._written, self._forced = [], 0, []
        self._ahead = draft
        self._logits, self._rows = rows[-1 - len(draft)], list(rows[keep - len(draft) :])
        return self._logits

    def settled(self) -> KVCache:
        """The turn is over: the cache, without what was read and not written."""
        if self._cache.token_ids:  # else a pass has failed and emptied it
            self._catch_up()
            self._drop_ahead()
            if self._logits is not None and self._written:
                self._score([self._logits], [])
        return self._cache

    def _catch_up(self) -> None:
        """Written tokens that have been read ahead need not be read."""
        while self._pending and self._ahead and self._pending[0] == self._ahead[0]:
            self._score([self._logits], [])
            self._pending.pop(0)
            self._ahead.pop(0)
            self._forced.pop(0)
            self._written -= 1
            self._logits = self._rows.pop(0)

    def _drop_ahead(self) -> None:
        if self._ahead:
            self._cache.truncate(len(self._cache.token_ids) - len(self._ahead))
            self._ahead, self._rows = [], []

    def _score(self, before: Sequence[torch.Tensor | None], rows: Sequence[torch.Tensor]) -> None:
        """Score the first pending tokens that were written, given the logits before each."""
        if self._scorer is None:
            return
        tokens = self._pending[len(self._pending) - self._written :]
        for token, logits, forced in zip(tokens, [*before, *rows], self._forced, strict=False):
            assert logits is not None
            self._scorer.add(token, logits, forced=forced)


class TokenScorer:
    """Log-probabilities of written tokens under the model alone.

    Args:
        codec: Of the model.
        top: Likeliest tokens to name beside each.
    """

    def __init__(self, codec: TokenCodec, *, top: int) -> None:
        self._codec = codec
        self._top = top
        self._scores: list[TokenLogprob] = []

    def add(self, token: int, logits: torch.Tensor, *, forced: bool) -> None:
        """Score the next token.

        Args:
            token: What was written.
            logits: Before it, shape ``(vocabulary,)``.
            forced: The grammar left no choice.
        """
        logprobs = logits.float().log_softmax(-1)
        best = logprobs.topk(self._top) if self._top else None
        self._scores.append(
            TokenLogprob(
                token_id=token,
                text=self._codec.decode([token]),
                logprob=float(logprobs[token]),
                top=tuple(
                    (int(i), self._codec.decode([int(i)]), float(p))
                    for p, i in (zip(*best, strict=True) if best else ())
                ),
                forced=forced,
            )
        )

    def skip(self, token_ids: Sequence[int]) -> None:
        """Tokens that were given with the request have no figures."""
        for token in token_ids:
            text = self._codec.decode([token])
            self._scores.append(TokenLogprob(token_id=token, text=text, forced=True))

    def scores(self, token_ids: Sequence[int]) -> tuple[TokenLogprob, ...]:
        """For each written token; the last ones, if no pass has come to them, without figures."""
        unread = token_ids[len(self._scores) :]
        return (
            *self._scores[: len(token_ids)],
            *(
                TokenLogprob(token_id=token, text=self._codec.decode([token]), forced=True)
                for token in unread
            ),
        )
