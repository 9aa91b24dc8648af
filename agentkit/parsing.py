"""Reading text and tool calls out of a model's output, as it is being written."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TypeAlias

from agentkit.call_block import ParsedCall, read_block
from agentkit.chat_format import TOOL_CALL_END, TOOL_CALL_START

__all__ = [
    "ParsedCall",
    "ParsedEvent",
    "ParsedText",
    "PartialCall",
    "ToolCallParser",
    "parse_output",
]


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A piece of the text outside of tool calls."""

    text: str
    """The piece; never empty."""


@dataclass(frozen=True, slots=True)
class PartialCall:
    """A piece of a tool call that is being written."""

    text: str
    """The piece, tags not included; never empty. The pieces of a call add up to its ``raw``."""
    index: int
    """Index of the call within the output; of the first, if the block turns out to hold more."""


ParsedEvent: TypeAlias = ParsedText | PartialCall | ParsedCall
"""What the parser finds. A :class:`ParsedCall` comes when its block is complete."""


def parse_output(text: str) -> tuple[str, tuple[ParsedCall, ...]]:
    """Split a whole output into its text and its calls; see :class:`ToolCallParser`."""
    parser = ToolCallParser()
    events = parser.feed(text) + parser.close()
    return (
        "".join(event.text for event in events if isinstance(event, ParsedText)),
        tuple(event for event in events if isinstance(event, ParsedCall)),
    )


class ToolCallParser:
    """Splits an output into text and ``<tool_call>`` blocks while it is being written.

    The output may come in pieces of any size: what is found is the same, and nothing that was
    given out is taken back. No output makes it raise; a call that cannot be used says why.

    A tag inside a JSON string belongs to the string. Where a string's closing quote is missing,
    the first tag after its beginning counts, so that one malformed call does not swallow what
    follows it. Tags are known to be real as soon as the string that holds them cannot be JSON:
    it has a line break in it, or is followed by something that cannot follow a string.

    Text without calls stays as it is. White space next to calls is kept only where it separates
    text before the calls from text after them.
    """

    def __init__(self) -> None:
        # Characters not looked at yet. Where a tag turns out to be real, those after it return.
        self._todo: deque[str] = deque()
        self._events: list[ParsedEvent] = []
        self._tag = ""  # The beginning of what may become a tag.
        self._text = _TextJoiner()
        self._block: _Block | None = None
        self._calls = 0
        self._fed = 0  # characters taken in all
        self._block_start = 0  # of them, where the open block's tag begins

    def feed(self, text: str) -> list[ParsedEvent]:
        """Take the next piece of the output, and return what is certain by now."""
        self._fed += len(text)
        self._todo.extend(text)
        self._work()
        return self._take_events()

    def close(self, *, cut: bool = False) -> list[ParsedEvent]:
        """End the output, and return the rest. The parser cannot be used afterwards.

        Args:
            cut: The output did not end by itself: most of ``<tool_call>`` at its end is no text.
        """
        if cut and self._block is None and len(self._tag) > len(TOOL_CALL_START) // 2:
            self._tag = ""
        self._end_tag()
        while self._block is not None and self._block.is_waiting:
            self._rewind(self._block)
            self._work()
            self._end_tag()
        if self._block is not None:
            self._finish(self._block, closed=False)
        self._text.close()
        return self._take_events()

    def _work(self) -> None:
        # One character at a time: so the size of the pieces cannot make a difference.
        while self._todo:
            char = self._todo.popleft()
            if not self._tag and char != "<":
                self._push(char)
                continue
            tag = self._tag + char
            if tag in (TOOL_CALL_START, TOOL_CALL_END):
                self._tag = ""
                self._push_tag(tag)
            elif TOOL_CALL_START.startswith(tag) or TOOL_CALL_END.startswith(tag):
                self._tag = tag
            else:
                # The character may itself begin a tag, so it is looked at once more.
                self._todo.appendleft(char)
                self._release_tag()

    def _release_tag(self) -> None:
        for char in self._tag:
            self._push(char)
        self._tag = ""

    def _end_tag(self) -> None:
        """At the end of the output: an unfinished tag is text, or ends its block."""
        if self._block is None or self._block.in_string:
            self._release_tag()
        self._tag = ""

    def _push(self, char: str) -> None:
        if self._block is None:
            self._text.push(char)
        elif self._block.push(char):
            self._rewind(self._block)

    def _push_tag(self, tag: str) -> None:
        block = self._block
        if block is None and tag == TOOL_CALL_START:
            self._start_block()
        elif block is None:
            # Nothing to close: the model writes about the tag.
            for char in tag:
                self._text.push(char)
        elif not block.in_string:
            self._end_block(block, tag)
        elif block.hold(tag):
            self._rewind(block)

    def _rewind(self, block: _Block) -> None:
        """The first tag that a string seemed to hold is real: go on after it."""
        held = block.drop_held()
        tag = TOOL_CALL_END if held.startswith(TOOL_CALL_END) else TOOL_CALL_START
        self._todo.extendleft(reversed(held[len(tag) :]))
        self._end_block(block, tag)

    def _start_block(self) -> None:
        self._text.note_call()
        self._flush()
        self._block = _Block()
        self._block_start = self._fed - len(self._todo) - len(TOOL_CALL_START)

    def _end_block(self, block: _Block, tag: str) -> None:
        self._finish(block, closed=tag == TOOL_CALL_END)
        if tag == TOOL_CALL_START:
            self._start_block()

    def _finish(self, block: _Block, *, closed: bool) -> None:
        block.settle()
        self._flush()
        self._block = None
        calls = read_block(block.raw, closed=closed)
        self._events += [replace(call, start=self._block_start) for call in calls]
        self._calls += len(calls)

    def _flush(self) -> None:
        if text := self._text.take():
            self._events.append(ParsedText(text))
        if self._block is not None and (text := self._block.take()):
            self._events.append(PartialCall(text, self._calls))

    def _take_events(self) -> list[ParsedEvent]:
        self._flush()
        events, self._events = self._events, []
        return events


class _TextJoiner:
    """The text outside of calls, with white space held back until its fate is known."""

    def __init__(self) -> None:
        self._ready: list[str] = []
        self._space: list[str] = []
        # The space before the calls that came last; ``None`` if text came last.
        self._space_before: list[str] | None = None
        self._any_text = False

    def push(self, char: str) -> None:
        if char.isspace():
            self._space.append(char)
            return
        if self._space_before is None:
            self._ready += self._space
        elif self._any_text:
            self._ready += self._space_before + self._space
        self._ready.append(char)
        self._space = []
        self._space_before = None
        self._any_text = True

    def note_call(self) -> None:
        if self._space_before is None:
            self._space_before = self._space
        self._space = []

    def close(self) -> None:
        if self._space_before is None:
            self._ready += self._space

    def take(self) -> str:
        text = "".join(self._ready)
        self._ready.clear()
        return text


class _Block:
    """The text of a block so far, and whether it stands inside a string."""

    def __init__(self) -> None:
        self._taken: list[str] = []
        self._ready: list[str] = []
        # From the first tag inside a string on, until it is known to belong to the string.
        self._held: list[str] = []
        self._quote = ""  # The quote that will end the string; empty outside of strings.
        self._may_begin = True  # Whether a string could begin here.
        self._escaped = False
        self._has_line_break = False

    @property
    def raw(self) -> str:
        """Everything taken so far."""
        return "".join(self._taken)

    @property
    def in_string(self) -> bool:
        """Whether a tag here would belong to a string."""
        return bool(self._quote)

    @property
    def is_waiting(self) -> bool:
        """Whether a string that holds a tag is still open."""
        return bool(self._held and self._quote)

    def push(self, char: str) -> bool:
        """Add a character; true if it proves that the first held tag is real."""
        (self._held or self._ready).append(char)
        if self._quote:
            return self._push_in_string(char)
        if char.isspace():
            return False
        if self._held:
            # The string that holds the tag has just ended.
            if char not in ",:}]<":
                return True
            self.settle()
        # An apostrophe or a stray quote elsewhere begins no string.
        if char in "\"'" and self._may_begin:
            self._quote = char
            self._has_line_break = False
        self._may_begin = char in "{[(,:"
        return False

    def hold(self, tag: str) -> bool:
        """Add a tag inside a string; true if it is real after all."""
        self._held += tag
        self._escaped = False
        return self._has_line_break

    def drop_held(self) -> str:
        """Take back everything from the first held tag on."""
        held = "".join(self._held)
        self._held = []
        return held

    def settle(self) -> None:
        """What was held belongs to the block."""
        self._ready += self._held
        self._held = []

    def take(self) -> str:
        """What was added and is certain."""
        text = "".join(self._ready)
        self._ready.clear()
        self._taken.append(text)
        return text

    def _push_in_string(self, char: str) -> bool:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == self._quote:
            self._quote = ""
        if char in "\r\n":
            self._has_line_break = True
        return bool(self._held) and self._has_line_break
