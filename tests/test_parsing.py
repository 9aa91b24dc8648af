"""The parser of a model's output: text, calls, tags in strings, and pieces of any size."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit.chat_format import GRANITE
from agentkit.messages import AssistantMessage, ToolCall
from agentkit.parsing import (
    ParsedCall,
    ParsedEvent,
    ParsedText,
    PartialCall,
    ToolCallParser,
    parse_output,
)
from parsing_helpers import NOW, WEATHER, block, names, read_faulty, read_usable


@dataclass
class Joined:
    """The events of a whole output, put together."""

    order: list[str | ParsedCall] = field(default_factory=list)
    partial: dict[int, str] = field(default_factory=dict)
    events: list[ParsedEvent] = field(default_factory=list)

    def add(self, events: list[ParsedEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, PartialCall):
                assert event.text
                self.partial[event.index] = self.partial.get(event.index, "") + event.text
            elif isinstance(event, ParsedCall):
                self.order.append(event)
            else:
                assert event.text
                if self.order and isinstance(self.order[-1], str):
                    self.order[-1] += event.text
                else:
                    self.order.append(event.text)


def stream(pieces: Iterable[str]) -> Joined:
    parser = ToolCallParser()
    joined = Joined()
    for piece in pieces:
        joined.add(parser.feed(piece))
    joined.add(parser.close())
    return joined


class TestTextAndCalls:
    def test_a_call_alone(self) -> None:
        call = read_usable(f"<tool_call>\n{WEATHER}\n</tool_call>")
        assert call.name == "get_weather"
        assert call.arguments == {"city": "Paris"}
        assert call.repairs == ()
        assert call.raw == f"\n{WEATHER}\n"

    def test_every_call_has_its_own_id(self) -> None:
        _, calls = parse_output(block(NOW) + block(NOW))
        assert calls[0].id != calls[1].id

    @pytest.mark.parametrize("text", ["", "hi", "  hi \n", "\n", "a < b", "<tool", "</tool_call>"])
    def test_text_without_calls_stays_as_it_is(self, text: str) -> None:
        assert parse_output(text) == (text, ())

    @pytest.mark.parametrize(
        ("output", "text"),
        [
            (f"Let me check.\n{block(NOW)}", "Let me check."),
            (f"\n {block(NOW)}\n", ""),
            (f"{block(NOW)}\n\n{block(NOW)}", ""),
            (f"{block(NOW)}\nDone.\n", "Done.\n"),
            (f" Wait.\n{block(NOW)}", " Wait."),
            (f"One.\n{block(NOW)}\n  {block(NOW)} Two.", "One.\n Two."),
            (f"a{block(NOW)}b", "ab"),
        ],
    )
    def test_white_space_is_kept_only_between_texts(self, output: str, text: str) -> None:
        assert parse_output(output)[0] == text

    def test_order_of_text_and_calls(self) -> None:
        joined = stream([f"One.\n{block(WEATHER)} Two. {block(NOW)}"])
        first, weather, second, now = joined.order
        assert (first, second) == ("One.", "\n Two.")
        assert isinstance(weather, ParsedCall)
        assert isinstance(now, ParsedCall)
        assert names([weather, now]) == ["get_weather", "now"]

    @pytest.mark.parametrize("text", ["<tool_call", "<<tool_cal l>", "</tool_call> <", "<tool_<t"])
    def test_what_is_nearly_a_tag_is_text(self, text: str) -> None:
        assert parse_output(text) == (text, ())

    def test_a_tag_that_begins_inside_a_broken_one(self) -> None:
        visible, calls = parse_output(f"<tool_<tool_call>{NOW}</tool_</tool_call>")
        assert visible == "<tool_"
        assert len(calls) == 1
        assert calls[0].raw == f"{NOW}</tool_"


class TestStreaming:
    def test_text_comes_at_once_but_space_and_tags_wait(self) -> None:
        parser = ToolCallParser()
        assert parser.feed("Let me check.") == [ParsedText("Let me check.")]
        assert parser.feed("\n") == []
        assert parser.feed("<tool_") == []
        assert parser.feed("box>") == [ParsedText("\n<tool_box>")]

    def test_a_call_comes_in_pieces(self) -> None:
        parser = ToolCallParser()
        assert parser.feed('<tool_call>{"name": ') == [PartialCall('{"name": ', 0)]
        assert parser.feed('"now"}</tool') == [PartialCall('"now"}', 0)]
        (call,) = parser.feed("_call>")
        assert isinstance(call, ParsedCall)
        assert call.name == "now"
        assert parser.close() == []

    def test_pieces_count_the_calls(self) -> None:
        joined = stream([block(f"{NOW}{NOW}"), block(WEATHER)])
        assert joined.partial == {0: f"{NOW}{NOW}", 2: WEATHER}

    def test_a_tag_in_a_string_is_given_out_when_the_string_ends(self) -> None:
        parser = ToolCallParser()
        assert parser.feed('<tool_call>{"name": "a</tool_call>b') == [PartialCall('{"name": "a', 0)]
        assert parser.feed('"') == []
        assert parser.feed("}") == [PartialCall('</tool_call>b"}', 0)]

    def test_two_hundred_thousand_characters_one_by_one(self) -> None:
        value = 'x"\\\n</tool_call>' * 12_500
        text = json.dumps({"name": "write", "arguments": {"text": value}})
        joined = stream(block(text))
        (call,) = joined.order
        assert isinstance(call, ParsedCall)
        assert call.arguments == {"text": value}


class TestTagsInStrings:
    @pytest.mark.parametrize("tag", ["<tool_call>", "</tool_call>"])
    @pytest.mark.parametrize("around", ['{}"', "{}\\", "{}'", "\n{}\n", "it's {}", "{}{}"])
    def test_in_json_strings(self, tag: str, around: str) -> None:
        arguments = {"text": around.replace("{}", tag), tag: [tag]}
        text = json.dumps({"name": "write", "arguments": arguments})
        call = read_usable(block(text))
        assert call.arguments == arguments
        assert call.repairs == ()

    def test_in_python_strings(self) -> None:
        call = read_usable(block("{'name': 'write', 'arguments': {'text': 'a \\' </tool_call>'}}"))
        assert call.arguments == {"text": "a ' </tool_call>"}

    def test_a_backslash_before_a_tag_escapes_nothing_after_it(self) -> None:
        call = read_usable(block('{"name": "write", "arguments": {"text": "\\</tool_call>"}}'))
        assert call.arguments == {"text": "\\</tool_call>"}

    def test_a_line_break_in_an_earlier_string_does_not_count(self) -> None:
        arguments = '{"a": "x\ny", "b": "</tool_call>"}'
        call = read_usable(block(f'{{"name": "write", "arguments": {arguments}}}'))
        assert call.arguments == {"a": "x\ny", "b": "</tool_call>"}

    def test_an_apostrophe_opens_no_string(self) -> None:
        text = block('{"name": "say", "arguments": {"text": it\'s}}') + block(NOW)
        assert names(parse_output(text)[1]) == ["say", "now"]

    def test_a_stray_quote_opens_no_string(self) -> None:
        text = block('{"name": "say", "arguments": {"text": "hi""}}') + block(NOW)
        assert names(parse_output(text)[1]) == ["say", "now"]

    @pytest.mark.parametrize(
        "after",
        [
            "",
            f" Then {block(NOW)}",
            f"\n{block(NOW)}",
            block(NOW),
            f' I said "no": {block(NOW)} "',
        ],
    )
    def test_an_open_string_does_not_swallow_what_follows(self, after: str) -> None:
        broken = '{"name": "say", "arguments": {"text": "hi}}'
        visible, calls = parse_output(block(broken) + after)
        assert calls[0].raw == broken
        assert calls[0].name == "say"
        assert calls[0].error is not None
        assert names(calls[1:]) == (["now"] if after else [])
        assert visible == "".join(after.split(block(NOW))).strip()

    def test_a_line_break_makes_the_tag_real_at_once(self) -> None:
        parser = ToolCallParser()
        events = parser.feed('<tool_call>\n{"name": "say\n</tool_call>')
        assert [type(event) for event in events] == [PartialCall, ParsedCall]
        events = parser.feed('<tool_call>{"name": "say</tool_call>\n')
        assert [type(event) for event in events] == [PartialCall, ParsedCall]

    def test_two_open_strings_of_both_kinds(self) -> None:
        text = block('["a') + block("['b") + block(NOW)
        assert names(parse_output(text)[1]) == [None, None, "now"]


class TestMissingClosingTag:
    def test_a_complete_call_is_accepted(self) -> None:
        call = read_usable(f"<tool_call>{WEATHER}\n")
        assert call.arguments == {"city": "Paris"}
        assert call.repairs == ("the closing </tool_call> tag was missing",)

    def test_a_closing_tag_that_was_cut_off(self) -> None:
        call = read_usable(f"<tool_call>{WEATHER}\n</tool_ca")
        assert call.raw == f"{WEATHER}\n"

    def test_a_cut_off_tag_in_a_string_is_part_of_it(self) -> None:
        assert read_faulty('<tool_call>{"name": "a</tool_ca').raw == '{"name": "a</tool_ca'

    @pytest.mark.parametrize("length", range(len(WEATHER)))
    def test_a_call_that_was_cut_off_says_so(self, length: int) -> None:
        call = read_faulty(f"<tool_call>{WEATHER[:length]}")
        assert call.error == (
            "the call was cut off: it is not complete and has no closing </tool_call>; write the "
            "whole call again, shorter if it was long"
        )

    def test_the_name_of_a_cut_off_call_is_known(self) -> None:
        assert read_faulty(f"<tool_call>{WEATHER[:40]}").name == "get_weather"
        wrapped = '{"type": "function", "function": {"name": "now", "argu'
        assert read_faulty(f"<tool_call>{wrapped}").name == "now"
        assert read_faulty('<tool_call>{"args": {"name": "Ann"}').name is None

    def test_a_new_call_ends_the_one_before(self) -> None:
        visible, calls = parse_output(f'<tool_call>{WEATHER}\n<tool_call>{{"name"<tool_call>{NOW}')
        assert visible == ""
        assert [call.error is None for call in calls] == [True, False, True]
        assert calls[0].repairs == ("the closing </tool_call> tag was missing",)


FRAGMENTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<tool", "</", "\n", " ", '"', "'", "\\", "`", "```json"),
        *("{", "}", "[", "]", "(", ")", ",", ":", "<", "it's", '"name"', '"arguments"'),
        *(WEATHER, NOW, WEATHER.replace('"', "'"), '"open', "Text.", "\ud800", "\x00", "-1e9", "9"),
    ]
)
OUTPUTS = st.lists(FRAGMENTS | st.text(max_size=5), max_size=30).map("".join)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(FRAGMENTS.filter(lambda text: text != "\ud800") | st.text()).map("".join),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CALLS = st.builds(
    ToolCall,
    name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    arguments=st.dictionaries(st.text() | FRAGMENTS, JSON_VALUES, max_size=5).filter(
        lambda arguments: not any("\ud800" in key for key in arguments)
    ),
)


@st.composite
def outputs_in_pieces(draw: st.DrawFn) -> list[str]:
    output = draw(OUTPUTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(output)), max_size=10)))
    return [output[i:j] for i, j in zip([0, *cuts], [*cuts, len(output)], strict=True)]


class TestProperties:
    @given(outputs_in_pieces())
    @example(['<tool_call>["a</tool_call>', "<tool_call>['b</tool_", "call>"])
    def test_pieces_of_any_size_give_the_same(self, pieces: list[str]) -> None:
        output = "".join(pieces)
        whole = stream([output])
        for parts in (pieces, list(output)):
            joined = stream(parts)
            assert joined.order == whole.order
            assert joined.partial == whole.partial

    @given(OUTPUTS)
    def test_every_call_is_usable_or_says_why_not(self, output: str) -> None:
        for call in parse_output(output)[1]:
            assert (call.error is None) == (call.arguments is not None)
            assert call.name is not None or call.error is not None
            assert call.raw in output
            json.dumps(call.arguments, allow_nan=False, ensure_ascii=False).encode()

    @given(OUTPUTS)
    def test_the_pieces_of_a_call_add_up_to_its_text(self, output: str) -> None:
        joined = stream(output)
        calls = [event for event in joined.events if isinstance(event, ParsedCall)]
        for index, text in joined.partial.items():
            assert calls[index].raw == text

    @given(OUTPUTS)
    def test_no_text_is_lost(self, output: str) -> None:
        text, calls = parse_output(output)
        if not calls:
            assert text == output
        rest = iter("".join(output.split()))
        assert all(char in rest for char in "".join(text.split()))

    @given(
        st.text().map(str.rstrip).filter(lambda text: "tool_call>" not in text),
        st.lists(CALLS, max_size=3),
    )
    def test_reads_what_the_format_writes(self, content: str, calls: list[ToolCall]) -> None:
        message = AssistantMessage(content, tuple(calls))
        prompt = GRANITE.render([message], add_generation_prompt=False).text
        output = prompt.partition("<|start_of_role|>assistant<|end_of_role|>")[2]
        text, parsed = parse_output(output.removesuffix("<|end_of_text|>\n"))
        assert text == content
        assert [(call.name, call.arguments) for call in parsed] == [
            (call.name, call.arguments) for call in calls
        ]
        assert all(call.repairs == () and call.error is None for call in parsed)

    @given(JSON_VALUES)
    def test_reads_all_of_json(self, value: Any) -> None:
        for ascii_only in (False, True):
            text = json.dumps({"name": "f", "arguments": {"x": value}}, ensure_ascii=ascii_only)
            call = read_usable(block(text))
            assert call.arguments == {"x": value}
            assert call.repairs == ()

    @given(JSON_VALUES)
    def test_reads_python_literals(self, value: Any) -> None:
        call = read_usable(block(repr({"name": "f", "arguments": {"x": value}})))
        assert call.arguments == {"x": value}


def count_steps(output: str) -> int:
    """How many functions run, Python's and C's, to parse an output one character at a time."""
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        stream(output)
    finally:
        sys.setprofile(before)
    return steps


class TestWork:
    @pytest.mark.parametrize(
        "unit",
        [
            "a ",
            "<",
            "<tool_call>",
            "</tool_call>",
            '<tool_call>"</tool_call>',
            '<tool_call>["</tool_call>',
            '<tool_call>[\\"</tool_call>',
            "<tool_call>['</tool_call><tool_call>[\"</tool_call>",
            '<tool_call>["</tool_call>["  x',
            "<tool_call>['</tool_call>[\"\\",
            '<tool_call>"a</tool_call>" "',
            "<tool_call>{'a': \"</tool_call>\n",
        ],
    )
    @pytest.mark.parametrize("opening", ["", "<tool_call>", '<tool_call>["', "<tool_call>['"])
    def test_grows_with_the_length_only(self, opening: str, unit: str) -> None:
        short, long = (count_steps(opening + unit * count) for count in (40, 160))
        assert long < 5 * short
