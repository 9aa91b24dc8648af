"""Grammars for tool calls and for answers: every token is chosen under their schemas.

The grammars are llguidance's. It was chosen over xgrammar because it compiles a schema in
milliseconds without a pass over the vocabulary (agents bring new schemas at every run), covers
more of JSON Schema, brings its own tokens-to-force with canonical tokenization, and is one small
package without a compiler or triton behind it.
"""

from __future__ import annotations

import copy
import json
import logging
import random
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from agentkit.chat_format import TOOL_CALL_END, TOOL_CALL_START
from agentkit.engine.grammar_schema import JSON_LAYOUT, grammar_schema
from agentkit.errors import ModelError, SchemaError

if TYPE_CHECKING:
    from agentkit.tools import ToolDefinition

__all__ = ["CallConstraint", "GrammarCompiler", "number_runs_away"]

logger = logging.getLogger(__name__)

MAX_CALLS_PER_TURN = 8
"""A small model that falls into repeating its call is stopped here."""

# ASCII in the order in which a way out of a pattern is looked for: what formats hinge on (e-mail
# addresses, hosts, times, paths) first, other punctuation last.
_CHARACTERS = dict.fromkeys(
    "@.-:/TZ" + string.digits + string.ascii_letters + "".join(map(chr, range(32, 127)))
)

_NUMBER_TAIL = re.compile(r"(-?\d[\d.]*)(?:[eE][+-]?(\d*))?$")
_MAX_NUMBER_CHARS = 40
_MAX_DECIMALS = 15  # significant digits that a double keeps: 6.9999999999999999 is 7


class GrammarCompiler:
    """Makes constraints for one model's tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers.
        vocab_size: Width of the model's logits.
        eos_ids: Tokens that end a turn.
    """

    def __init__(self, tokenizer: Any, *, vocab_size: int, eos_ids: Sequence[int]) -> None:
        self.vocab_size = vocab_size
        self.eos_ids = tuple(eos_ids)
        self._tokenizer: LLTokenizer = from_tokenizer(
            tokenizer, n_vocab=vocab_size, eos_token=list(eos_ids)
        )
        self._tags = tuple(self._tag(tokenizer, tag) for tag in (TOOL_CALL_START, TOOL_CALL_END))
        self.single_characters: dict[str, int] = {
            character: found[0]
            for character in _CHARACTERS
            if len(found := self._tokenizer.tokenize_str(character)) == 1
        }
        self._grammars = lru_cache(maxsize=64)(self._grammar)
        self._answers = lru_cache(maxsize=64)(self._answer_grammar)

    def calls(
        self,
        tools: Sequence[ToolDefinition],
        *,
        parallel: bool,
        lead: str = "",
        spelt: bool = False,
    ) -> CallConstraint:
        """A constraint for one or more calls of ``tools``, from ``<tool_call>`` to the turn's end.

        Args:
            tools: What may be called.
            parallel: Whether more calls may follow the first.
            lead: Text that stands before the first tag within its first token.
            spelt: The model has written the first tag in ordinary tokens, though the
                tokenizer has one of its own for it.
        """
        schemas = tuple((tool.name, grammar_schema(tool.parameters)) for tool in tools)
        grammar = self._grammars(schemas, parallel, lead, spelt)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ModelError(
                f"no grammar could be made for the tools {', '.join(t.name for t in tools)}: "
                f"{matcher.get_error()}"
            )
        return CallConstraint(matcher, self)

    def answer(
        self,
        schema: Mapping[str, Any],
        *,
        tools: Sequence[ToolDefinition] = (),
        parallel: bool = True,
    ) -> CallConstraint:
        """A constraint for a whole turn: JSON of a schema's form, or calls of ``tools``.

        Args:
            schema: Of the answer.
            tools: What may be called instead.
            parallel: Whether one turn may hold several calls.

        Raises:
            SchemaError: No grammar can be made for the schema.
        """
        schemas = tuple((tool.name, grammar_schema(tool.parameters)) for tool in tools)
        grammar = self._answers(grammar_schema(schema), schemas, parallel)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise SchemaError(
                f"no grammar could be made for the answer's schema: {matcher.get_error()}"
            )
        return CallConstraint(matcher, self)

    def decode(self, token_ids: Sequence[int]) -> bytes:
        """The bytes that tokens stand for."""
        return bytes(self._tokenizer.decode_bytes(list(token_ids)))

    def _tag(self, tokenizer: Any, text: str) -> str:
        """How a grammar names a tag: by number where llguidance takes its token for special."""
        token = tokenizer.get_added_vocab().get(text)
        if token is not None and self._tokenizer.is_special_token(token):
            return f"<[{token}]>"
        return json.dumps(text)

    def _grammar(
        self, schemas: tuple[tuple[str, str], ...], parallel: bool, lead: str, spelt: bool
    ) -> str:
        before = json.dumps(lead) if lead else ""
        start = json.dumps(TOOL_CALL_START) if spelt else self._tags[0]
        rules = [f"start: {before} {start} calls", *self._call_rules(schemas, parallel)]
        return _from_lark(rules)

    def _answer_grammar(
        self, schema: str, schemas: tuple[tuple[str, str], ...], parallel: bool
    ) -> str:
        rules = [f"answer: %json {self._usable('the answer', schema, SchemaError)}"]
        if schemas:
            rules = [
                f"start: answer | {self._tags[0]} calls",
                *rules,
                *self._call_rules(schemas, parallel),
            ]
        else:
            rules = ["start: answer", *rules]
        return _from_lark(rules)

    def _call_rules(self, schemas: tuple[tuple[str, str], ...], parallel: bool) -> list[str]:
        """The rules of ``calls``: what follows the first tag."""
        names = " | ".join(f"call_{i}" for i in range(len(schemas)))
        start, end = self._tags
        more = f'("\\n" {start} call){{0,{MAX_CALLS_PER_TURN - 1}}}' if parallel else ""
        rules = [
            f"calls: call {more}",
            f'call: "\\n{{\\"name\\": \\"" ({names}) "}}\\n" {end}',
        ]
        for i, (name, schema) in enumerate(schemas):
            usable = self._usable(f"the tool {name!r}", schema, None)
            rules.append(f'call_{i}: {json.dumps(name)} "\\", \\"arguments\\": " arguments_{i}')
            rules.append(f"arguments_{i}: %json {usable}")
        return rules

    def _usable(self, what: str, schema: str, refusal: type[SchemaError] | None) -> str:
        """The schema, or the nearest that llguidance can follow.

        Args:
            what: That the schema is of.
            schema: As JSON.
            refusal: What to raise where nothing of the schema can be used; if not given, any
                object may come, as calls are validated in any case.
        """
        attempts: list[Mapping[str, Any]] = [
            json.loads(schema),
            {**json.loads(schema), "x-guidance": {**JSON_LAYOUT, "lenient": True}},
        ]
        if refusal is None:
            attempts.append({"type": "object", "x-guidance": JSON_LAYOUT})
        problem = ""
        for attempt in attempts:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(attempt))
            failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, self._tokenizer)
            if not failed:
                if problem:
                    logger.warning(
                        "%s: its schema is only partly enforced while sampling (%s)", what, problem
                    )
                return json.dumps(attempt)
            problem = problem or "; ".join(messages)
        raise (refusal or ModelError)(f"no grammar could be made for {what}: {problem}")


def _from_lark(rules: Sequence[str]) -> str:
    return str(LLMatcher.grammar_from_lark("\n".join(["%llguidance {}", *rules])))


class CallConstraint:
    """Where one turn stands within its grammar."""

    def __init__(self, matcher: LLMatcher, compiler: GrammarCompiler) -> None:
        self._matcher = matcher
        self._compiler = compiler
        self._in_string = InString()

    @property
    def finished(self) -> bool:
        """Nothing more may come but the end of the turn."""
        return bool(self._matcher.is_stopped())

    @property
    def may_end(self) -> bool:
        """The text so far is complete: a sequence of calls, or an answer."""
        return bool(self._matcher.is_stopped() or self._matcher.is_accepting())

    def advance(self, token_ids: Sequence[int]) -> int:
        """Take tokens; returns how many fit."""
        fitted = int(self._matcher.try_consume_tokens(list(token_ids)))
        self._in_string.read(self._compiler.decode(token_ids[:fitted]))
        return fitted

    def forced(self) -> list[int]:
        """The tokens that must come next, where there is no choice; they are taken."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            # Where a schema's constant spells a special token, that is proposed, and does not fit.
            tokens = tokens[: self._matcher.validate_tokens(tokens)]
        if tokens and not self._matcher.consume_tokens(tokens):
            raise ModelError(f"the grammar refused its own tokens: {self._matcher.get_error()}")
        self._in_string.read(self._compiler.decode(tokens))
        return tokens

    def allowed(self, device: torch.device) -> torch.Tensor:
        """Which tokens may come next: bool, shape ``(vocabulary,)``."""
        mask = _next_tokens(self._matcher)[: self._compiler.vocab_size]
        return torch.from_numpy(mask).bool().to(device)

    def shortest_end(self, *, limit: int = 256) -> list[int] | None:
        """A short way from here to a complete call, or None if none was found.

        Closing brackets and quotes are taken wherever they may come, so the result is short
        though not always the shortest. Nothing is consumed.

        Args:
            limit: Tokens after which an attempt is given up.
        """
        for attempt in range(4):
            dice = random.Random(attempt) if attempt else None
            tokens = self._try_to_end((), limit, dice)
            if tokens is not None:
                return tokens
        return None

    def way_out(self, token: int, room: int) -> list[int] | None:
        """What can follow ``token`` so that the calls are complete within ``room`` tokens.

        Returns:
            The tokens after ``token``; None if no way that short was found.
        """
        tokens = self._try_to_end((token,), room, None)
        return None if tokens is None else tokens[1:]

    def _try_to_end(
        self, start: tuple[int, ...], limit: int, dice: random.Random | None
    ) -> list[int] | None:
        matcher = self._matcher.deep_copy()
        in_string = copy.copy(self._in_string)
        used: Counter[int] = Counter()
        tokens: list[int] = []
        step = list(start)
        while len(tokens) <= limit:
            if step:
                if not matcher.consume_tokens(step):
                    return None
                in_string.read(self._compiler.decode(step))
                tokens += step
            elif matcher.is_error():
                return None
            if matcher.is_stopped() or matcher.is_accepting():
                return tokens if not matcher.is_error() and len(tokens) <= limit else None
            step = matcher.compute_ff_tokens()
            if not step:
                token = self._closing_token(_next_tokens(matcher), bool(in_string), used, dice)
                if token is None:
                    return None
                used[token] += 1
                step = [token]
        return None

    def _closing_token(
        self,
        mask: np.ndarray[Any, Any],
        in_string: bool,
        used: Counter[int],
        dice: random.Random | None,
    ) -> int | None:
        characters = self._compiler.single_characters
        for text in '"' if in_string else '}],"1{[':
            token = characters.get(text)
            if token is not None and mask[token] and not (dice and text == "1"):
                return token
        # A pattern or a number that needs more. What was used least comes first, so that the
        # one character that a pattern waits for is not passed over for ever.
        allowed: list[int] = [token for token in characters.values() if mask[token]]
        if dice:
            dice.shuffle(allowed)
        if not allowed:
            allowed = [int(token) for token in np.flatnonzero(mask)[:1]]
        return min(allowed, key=lambda token: used[token], default=None)


def _next_tokens(matcher: LLMatcher) -> np.ndarray[Any, Any]:
    """Which tokens may come next: 0 or 1 for each token, with some zeros behind the last."""
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")


class InString:
    """Whether JSON text read so far ends inside a string; true of it as a bool."""

    def __init__(self) -> None:
        self._inside = self._escaped = False

    def __bool__(self) -> bool:
        return self._inside

    def read(self, text: bytes) -> None:
        """Go on reading."""
        for byte in text:
            if self._escaped:
                self._escaped = False
            elif byte == ord("\\"):
                self._escaped = self._inside
            elif byte == ord('"'):
                self._inside = not self._inside


def number_runs_away(text: str) -> bool:
    """Whether ``text`` ends in a number too long, or with too large an exponent, to be meant.

    JSON sets numbers no bounds, but a float does, and a model that repeats a digit never stops.
    A fraction with more digits than a float holds would be rounded, perhaps onto a bound that the
    schema excludes.
    """
    number = _NUMBER_TAIL.search(text[-3 * _MAX_NUMBER_CHARS :])
    if number is None:
        return False
    digits = number[1].lstrip("-0.").replace(".", "")
    if number[1].count(".") == 1 and len(digits) > _MAX_DECIMALS:
        return True
    return len(number[1]) > _MAX_NUMBER_CHARS or len(number[2] or "") > 2
