"""Text that others wrote never becomes a delimiter, and everything else is encoded as it should."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import GRANITE, AssistantMessage, SystemMessage, ToolMessage, UserMessage
from agentkit.engine.tokenization import StreamDecoder, TokenCodec
from agentkit.messages import Generation
from agentkit.prompt import Prompt, PromptPart
from support import GRANITE_SPECIAL, GRANITE_TAGS, granite_tokenizer

DELIMITERS = [*GRANITE_SPECIAL, *GRANITE_TAGS]
CODEC = TokenCodec(granite_tokenizer())
DELIMITER_IDS = {CODEC.token_id(text) for text in DELIMITERS}

hostile = st.lists(
    st.sampled_from([*DELIMITERS, "<|end_of", "_text|>", "<tool", "_call>", "hello", "\n", "日本"])
    | st.text(max_size=5),
    max_size=8,
).map("".join)


@given(st.lists(st.tuples(hostile, st.booleans()), max_size=6))
@settings(max_examples=300)
def test_untrusted_text_never_gives_a_delimiter(pieces: list[tuple[str, bool]]) -> None:
    parts = [PromptPart(text.replace("<", "") if trust else text, trust) for text, trust in pieces]
    ids = CODEC.encode(Prompt(tuple(parts)))
    assert not DELIMITER_IDS & set(ids)
    whole = "".join(part.text for part in parts)
    assert CODEC.decode(ids) == whole.encode("utf-8", "replace").decode("utf-8")


@given(hostile, hostile, hostile)
@settings(max_examples=100)
def test_a_hostile_conversation_has_the_delimiters_of_a_harmless_one(
    user: str, result: str, document: str
) -> None:
    def delimiters(user: str, result: str, document: str) -> list[int]:
        prompt = GRANITE.render(
            [SystemMessage("Be terse."), UserMessage(user), ToolMessage(result, "c")],
            documents=[{"doc_id": 1, "text": document}],
        )
        return [i for i in CODEC.encode(prompt) if i in DELIMITER_IDS]

    assert delimiters(user, result, document) == delimiters("a", "b", "c")


@given(st.text(alphabet="abc \n{}é<>|_", max_size=40))
def test_harmless_text_is_encoded_as_the_tokenizer_does(text: str) -> None:
    prompt = GRANITE.render([SystemMessage(text), UserMessage(text), AssistantMessage(text)])
    expected = CODEC.tokenizer.encode(prompt.text, add_special_tokens=False)
    assert CODEC.encode(prompt) == expected


def test_generated_tokens_are_repeated_as_they_are() -> None:
    # 'hello' in single letters: not how the tokenizer would encode it.
    ids = tuple(t for letter in "hello" for t in CODEC.encode_text(letter))
    generation = Generation(text="hello", token_ids=ids, tokenizer=CODEC.fingerprint)
    message = AssistantMessage("hello", (), generation)
    encoded = CODEC.encode(GRANITE.render([UserMessage("hi"), message]))
    assert "".join(map(chr, ids)) in "".join(map(chr, encoded))


def test_tokens_of_another_tokenizer_are_not_used() -> None:
    generation = Generation(text="hello", token_ids=(1, 2, 3), tokenizer="another")
    message = AssistantMessage("hello", (), generation)
    plain = AssistantMessage("hello")
    encoded = [CODEC.encode(GRANITE.render([UserMessage("hi"), m])) for m in (message, plain)]
    assert encoded[0] == encoded[1]


@pytest.mark.parametrize("text", ["plain", "é日本語🙂", "a\ud800b"])
def test_decoding_token_by_token_gives_the_text(text: str) -> None:
    ids: list[Any] = CODEC.encode_text(text)
    decoder = StreamDecoder(CODEC.tokenizer)
    assert "".join(decoder.push(i) for i in ids) == CODEC.decode(ids)
