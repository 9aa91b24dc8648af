"""Prompts to token ids, and token ids back to text as they come."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Any

from tokenizers.decoders import DecodeStream

from agentkit.prompt import Prompt, PromptPart

__all__ = ["StreamDecoder", "TokenCodec"]


class TokenCodec:
    """Encodes prompts with a transformers tokenizer, exactly and safely.

    Exactly: a turn that the model wrote keeps the tokens it was sampled with, and the text around
    it is encoded as the tokenizer would encode it. Safely: the characters of a delimiter inside
    untrusted text never become the delimiter's token.

    Args:
        tokenizer: A fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        longest_first = sorted(filter(None, added), key=len, reverse=True)
        # A lookahead, so that overlapping occurrences are all found.
        self._added = re.compile(f"(?=({'|'.join(map(re.escape, longest_first))}))")
        self._has_added = bool(longest_first)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the vocabulary: equal for tokenizers that give the same ids."""
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:16]

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        ids: list[int] = []
        run: list[PromptPart] = []
        for part in prompt.parts:
            generation = part.generation
            if (
                generation is not None
                and generation.token_ids
                and generation.tokenizer == self.fingerprint
            ):
                ids += self._encode_run(run)
                ids += generation.token_ids
                run = []
            else:
                run.append(part)
        return ids + self._encode_run(run)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of trusted text, nothing added before or after."""
        if not text:
            return []
        # Lone surrogates cannot be encoded as UTF-8; they come from broken input, never ours.
        text = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """Text of token ids, delimiters included."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def token_id(self, text: str) -> int | None:
        """The single added token that stands for ``text``, if there is one."""
        found = self.tokenizer.get_added_vocab().get(text)
        return int(found) if found is not None else None

    def _encode_run(self, parts: list[PromptPart]) -> list[int]:
        text = "".join(part.text for part in parts)
        cuts = self._cuts(text, parts)
        ids: list[int] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            ids += self.encode_text(text[start:end])
        return ids

    def _cuts(self, text: str, parts: list[PromptPart]) -> list[int]:
        """Where to cut so that no delimiter survives that untrusted text has a share in.

        Encoding the two halves of ``<|end_of_text|>`` apart gives ordinary tokens that still
        decode to the same characters.
        """
        if not self._has_added or all(part.trusted for part in parts):
            return []
        spans, offset = [], 0
        for part in parts:
            if not part.trusted and part.text:
                spans.append((offset, offset + len(part.text)))
            offset += len(part.text)
        cuts = []
        span = 0
        for match in self._added.finditer(text):
            start, end = match.start(), match.start() + len(match[1])
            while span < len(spans) and spans[span][1] <= start:
                span += 1
            if span < len(spans) and spans[span][0] < end:
                cuts.append(start + 1)
        return cuts


class StreamDecoder:
    """Turns tokens into text one by one, holding back incomplete characters.

    Args:
        tokenizer: A fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._stream = DecodeStream(skip_special_tokens=False)

    def push(self, token_id: int) -> str:
        """The text that is certain once this token has come; may be empty."""
        return self._stream.step(self._tokenizer, token_id) or ""
