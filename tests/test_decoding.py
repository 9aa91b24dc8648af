"""How a turn is written: opening calls, taking tokens back, stopping, forbidding."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from agentkit import (
    ContextLengthError,
    ModelRequest,
    ModelResponse,
    Sampling,
    TextDelta,
    ToolDefinition,
    UserMessage,
)
from agentkit.engine.backend import Row, TransformersBackend
from agentkit.engine.decoding import Turn
from agentkit.engine.engine import Cancelled, InferenceEngine
from agentkit.engine.loading import LoadedModel

TOOLS = [
    ToolDefinition(
        name="add",
        parameters={
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    ),
    ToolDefinition(name="now"),
]


class PlayedEngine(InferenceEngine):
    """A real engine whose logits favour given tokens, one after another, then the end."""

    def play(self, pieces: Sequence[str]) -> PlayedEngine:
        script = [token for piece in pieces for token in self.codec.encode_text(piece)]
        self.backend = self.played = PlayedBackend(self, script)
        return self


class PlayedBackend:
    def __init__(self, engine: PlayedEngine, script: list[int]) -> None:
        self._backend = TransformersBackend(engine.model)
        self._end = engine.eos_ids[0]
        self._script = script
        self.passes = 0

    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        self.passes += 1
        (logits,) = self._backend.forward(rows)
        logits = logits.mul(1e-3)
        logits[-1, self._end] += 5
        if self._script:
            logits[-1, self._script.pop(0)] += 10
        return [logits]


@pytest.fixture
def engine(granite: Any) -> PlayedEngine:
    loaded = granite.engine
    return PlayedEngine(
        LoadedModel(loaded.model, loaded.tokenizer, loaded.device, torch.float32),
        loaded.chat_format,
        cache_bytes=10**8,
        lookup=False,
    )


def write(engine: PlayedEngine, *pieces: str, **options: Any) -> tuple[list[Any], ModelResponse]:
    options.setdefault("tools", TOOLS)
    request = ModelRequest(messages=[UserMessage("hi")], **options)
    *events, response = Turn(engine.play(pieces), request).run()
    assert isinstance(response, ModelResponse)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == response.text
    return events, response


def test_text_is_given_out_as_it_comes(engine: PlayedEngine) -> None:
    events, response = write(engine, "The answer ", "is ", "42", ".")
    assert response.text == "The answer is 42."
    assert response.finish_reason == "stop"
    assert sum(isinstance(e, TextDelta) for e in events) > 2


def test_a_call_that_the_model_opens_comes_under_the_grammar(engine: PlayedEngine) -> None:
    # The model means to write rubbish after the tag; the grammar leaves it no way to.
    _, response = write(engine, "Let me see.\n", "<tool_call>", '{"nam": "unknown', "}}}")
    assert response.text == "Let me see."
    assert [call.error for call in response.calls] == [None]
    assert response.calls[0].name in ("add", "now")
    assert response.usage.forced_tokens > 5
    assert response.finish_reason == "tool_calls"


def test_a_tag_spelt_in_ordinary_tokens_opens_a_call_too(engine: PlayedEngine) -> None:
    _, response = write(engine, "<tool", "_call", ">", "rubbish")
    assert [call.error for call in response.calls] == [None]
    assert response.calls[0].name in ("add", "now")


def test_text_after_a_call_is_not_offered(engine: PlayedEngine) -> None:
    _, response = write(
        engine, "<tool_call>", '\n{"name": "now", "arguments": {}}\n', "</tool_call>", "And then"
    )
    assert response.text == ""
    assert len(response.calls) == 1


def test_unconstrained_output_is_only_parsed(engine: PlayedEngine) -> None:
    text = "<tool_call>{'name': 'sub', 'arguments': {'a': 1}}</tool_call>"
    _, response = write(engine, text, constrain=False)
    assert [call.name for call in response.calls] == ["sub"]
    assert response.calls[0].repairs
    assert response.usage.forced_tokens == 0


@pytest.mark.parametrize("options", [{"tool_choice": "none"}, {"tools": []}])
def test_no_call_is_opened_where_none_may_be(engine: PlayedEngine, options: Any) -> None:
    for pieces in (["<tool_call>", "now"], ["<tool", "_call", ">", "now"]):
        _, response = write(engine, *pieces, **options)
        assert response.calls == ()
        assert "<tool_call>" not in response.text


def test_the_model_does_not_write_tool_results_itself(engine: PlayedEngine) -> None:
    _, response = write(engine, "<tool", "_response", ">", "sunny")
    assert "<tool_response" not in response.text


def test_tool_choice_forces_the_opening_without_sampling(engine: PlayedEngine) -> None:
    _, response = write(engine, tool_choice="now")
    assert response.calls[0].name == "now"
    assert response.usage.sampled_tokens <= 3
    assert engine.played.passes == response.usage.sampled_tokens


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(("4",), "The answer is "), (("swer",), "The an"), (("zzz", "is 42"), "The answer ")],
)
def test_a_stop_string_ends_the_text_before_it(
    engine: PlayedEngine, stop: tuple[str, ...], expected: str
) -> None:
    pieces = ["The ", "an", "swer ", "is ", "42", "."]
    _, response = write(engine, *pieces, sampling=Sampling(stop=stop))
    assert response.text == expected
    assert response.finish_reason == "stop_string"
    assert response.generation is not None
    assert response.generation.text == expected
    ids = response.generation.token_ids
    assert ids == () or engine.codec.decode(ids) == expected


def test_a_stop_string_inside_a_call_does_not_break_it(engine: PlayedEngine) -> None:
    _, response = write(engine, "<tool_call>", sampling=Sampling(stop=("name", '"')))
    assert [call.error for call in response.calls] == [None]


def test_the_token_limit_ends_a_text(engine: PlayedEngine) -> None:
    _, response = write(engine, "one two three four five six", sampling=Sampling(max_tokens=3))
    assert response.finish_reason == "length"
    assert response.usage.generated_tokens == 3


def test_a_call_opened_too_late_to_be_finished_is_not_begun(engine: PlayedEngine) -> None:
    _, response = write(engine, "well ", "<tool_call>", sampling=Sampling(max_tokens=8))
    assert response.calls == ()
    assert "<tool_call>" not in response.text


def test_a_tag_that_leads_nowhere_is_no_text(engine: PlayedEngine) -> None:
    _, response = write(engine, "well ", "<tool", "_call", ">", sampling=Sampling(max_tokens=8))
    assert (response.text.strip(), response.calls) == ("well", ())
    assert response.finish_reason == "length"


def test_characters_of_several_tokens_arrive_whole(engine: PlayedEngine) -> None:
    text = "é 日本語 🙂 done"
    events, response = write(engine, *text)
    assert response.text == text
    assert not any("�" in e.text for e in events if isinstance(e, TextDelta))


def test_a_prompt_beyond_the_context_window_is_refused_in_words(engine: PlayedEngine) -> None:
    engine.context_length = 20
    with pytest.raises(ContextLengthError, match=r"the prompt has \d+ tokens and .* holds 20"):
        write(engine, "hi")


def test_a_cancelled_turn_leaves_a_usable_cache(engine: PlayedEngine) -> None:
    cancelled = threading.Event()
    request = ModelRequest(messages=[UserMessage("hi")], tools=TOOLS)
    turn = Turn(engine.play(["a ", "b ", "c ", "d "]), request, cancelled=cancelled).run()
    next(turn)
    cancelled.set()
    with pytest.raises(Cancelled):
        list(turn)
    _, response = write(engine, "fine")
    assert response.text == "fine"
    assert response.usage.prefilled_tokens == 1


def test_sampling_is_repeatable_by_seed(granite: Any) -> None:
    def text(**options: Any) -> str:
        request = ModelRequest(
            messages=[UserMessage("hi")],
            sampling=Sampling(max_tokens=12, temperature=1.2, **options),
        )
        *_, response = Turn(granite.engine, request).run()
        assert isinstance(response, ModelResponse)
        return response.text

    assert text(seed=1) == text(seed=1)
    assert len({text(seed=i) for i in range(5)}) > 1
    # With one token to choose from, sampling is greedy whatever the temperature.
    assert text(seed=1, top_k=1) == text(seed=2, top_k=1)
    assert text(seed=1, top_p=1e-6) == text(seed=2, min_p=1.0)
