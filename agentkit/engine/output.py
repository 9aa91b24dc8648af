"""The text of a turn as it grows: decoding, stop strings, and calls read out of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agentkit.chat_format import TOOL_CALL_START
from agentkit.engine.tokenization import StreamDecoder
from agentkit.messages import Generation
from agentkit.models.base import CallDelta, CallParsed, ModelEvent, TextDelta
from agentkit.parsing import ParsedCall, ParsedText, PartialCall, ToolCallParser

if TYPE_CHECKING:
    from agentkit.engine.tokenization import TokenCodec

__all__ = ["TurnOutput"]

_TAIL = 160
"""Characters at the end of the text that questions about a next token look at."""


class TurnOutput:
    """Collects a turn's tokens and tells what they say.

    Args:
        codec: Of the model.
        stop: Strings before which the turn ends.
    """

    def __init__(self, codec: TokenCodec, *, stop: Iterable[str] = ()) -> None:
        self._codec = codec
        self._stop = tuple(stop)
        self._decoder = StreamDecoder(codec.tokenizer)
        self._parser = ToolCallParser()
        self._ends: list[int] = []  # for each token, where its text ends
        self._text = ""
        self._fed = 0  # characters that the parser has had
        self._visible: list[str] = []
        self.token_ids: list[int] = []
        """The turn's tokens so far."""
        self.calls: list[ParsedCall] = []
        """Calls that are complete."""
        self.stopped = False
        """A stop string has appeared."""
        self.free_text = True
        """No grammar is at work: stop strings count, and the last token may be taken back."""
        self.json_answer = False
        """The turn is calls or JSON: what does not begin with a tag holds no calls, also where
        a string in it says so."""

    @property
    def visible_text(self) -> str:
        """Text outside of calls."""
        return "".join(self._visible)

    def push(self, token: int) -> Iterator[ModelEvent]:
        """Append a token."""
        self.token_ids.append(token)
        self._text += self._decoder.push(token)
        self._ends.append(len(self._text))
        if self.free_text:
            self._find_stop()
        held = self.free_text and not self.stopped
        yield from self._feed(self._held_from() if held else len(self._text))

    def finish(self, *, cut: bool = False) -> Iterator[ModelEvent]:
        """The turn is over: give out what was held back.

        Args:
            cut: It ran out of tokens, perhaps within the tag that begins a call, which then is
                no text.
        """
        if not self.stopped:
            whole = self._codec.decode(self.token_ids)
            if whole.startswith(self._text):
                self._text = whole
        yield from self._feed(len(self._text))
        yield from self._events(self._parser.close(cut=cut))

    def begin_with(self, token_ids: Iterable[int]) -> None:
        """Take the beginning of the turn, which has been given out before."""
        for token in token_ids:
            for _ in self.push(token):
                pass
        for _ in self._feed(len(self._text)):
            pass

    def before(self, call: ParsedCall) -> Generation | None:
        """The turn up to the token that a call's block begins in."""
        if call.start is None:
            return None
        kept = sum(end <= call.start for end in self._ends)
        return Generation(
            text=self._text[: self._ends[kept - 1] if kept else 0],
            token_ids=tuple(self.token_ids[:kept]),
            tokenizer=self._codec.fingerprint,
        )

    def generation(self) -> Generation:
        """The turn exactly as written.

        Where a stop string cut the text, the tokens are kept only if the cut fell between two.
        """
        ids = self.token_ids
        if self.stopped:
            kept = [i for i, end in enumerate(self._ends) if end == len(self._text)]
            ids = ids[: kept[0] + 1] if kept and self._text else []
        return Generation(text=self._text, token_ids=tuple(ids), tokenizer=self._codec.fingerprint)

    def would_complete(self, token: int, texts: Iterable[str]) -> bool:
        """Whether this token would complete one of ``texts`` at the end of the text so far."""
        before = len(self._text[-_TAIL:])
        after = self.with_token(token)
        return any(after.find(t, max(0, before - len(t) + 1)) >= 0 for t in texts)

    def with_token(self, token: int) -> str:
        """The end of the text as it would be with one more token."""
        return self._text[-_TAIL:] + self._codec.decode([token])

    def opened_call(self, *, anywhere: bool = False) -> tuple[str, list[int]] | None:
        """If the last token completed ``<tool_call>``: the tokens that spell it.

        Args:
            anywhere: Look for the turn's first tag, and return all tokens from it on.

        Returns:
            What stands before the tag within the first of those tokens, and the tokens.
        """
        before = self._ends[-2] if len(self._ends) > 1 and not anywhere else 0
        at = self._text.find(TOOL_CALL_START, max(0, before - len(TOOL_CALL_START) + 1))
        if at < 0:
            return None
        first = next(i for i, end in enumerate(self._ends) if end > at)
        start = self._ends[first - 1] if first else 0
        return self._text[start:at], self.token_ids[first:]

    def take_back(self) -> None:
        """Undo the last token; its text has not been given out."""
        self.token_ids.pop()
        self._ends.pop()
        self._text = self._text[: self._ends[-1] if self._ends else 0]
        self._decoder = StreamDecoder(self._codec.tokenizer)
        for token in self.token_ids[-8:]:
            self._decoder.push(token)

    def _held_from(self) -> int:
        """Where the text begins that may yet change: the last token, or part of a stop string."""
        held = self._ends[-2] if len(self._ends) > 1 else 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self._text)), 0, -1):
                if self._text.endswith(stop[:size]):
                    held = min(held, len(self._text) - size)
                    break
        return max(held, self._fed)

    def _find_stop(self) -> None:
        found = [self._text.find(stop, self._fed) for stop in self._stop]
        if any(at >= 0 for at in found):
            self._text = self._text[: min(at for at in found if at >= 0)]
            self.stopped = True

    def _feed(self, end: int) -> Iterator[ModelEvent]:
        if end > self._fed:
            piece, self._fed = self._text[self._fed : end], end
            if self.json_answer and not self._text.startswith(TOOL_CALL_START[0]):
                self._visible.append(piece)
                yield TextDelta(piece)
                return
            yield from self._events(self._parser.feed(piece))

    def _events(
        self, pieces: Iterable[ParsedText | PartialCall | ParsedCall]
    ) -> Iterator[ModelEvent]:
        for piece in pieces:
            match piece:
                case ParsedText(text):
                    self._visible.append(text)
                    yield TextDelta(text)
                case PartialCall(text, index):
                    yield CallDelta(text, index)
                case ParsedCall():
                    self.calls.append(piece)
                    yield CallParsed(piece, len(self.calls) - 1, self.before(piece))
