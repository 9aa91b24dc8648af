"""Conversations to tensors: the exact tokens of the framework, each shared beginning once.

A group's system turn, with its tools, is the trunk of a tree, and its conversations are the
branches. A pack holds the trunk once and the branches one after another; attention lets a branch
see the trunk and itself only, and positions go on from the trunk's end. The model computes the
same as if each conversation stood alone, at about a third of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from agentkit.chat_format import TOOL_CALL_START, ChatFormat
from agentkit.engine.tokenization import TokenCodec
from agentkit.messages import AssistantMessage, Message, SystemMessage, normalize_messages
from finetune.conversations import Group


@dataclass(frozen=True)
class Pack:
    """One trunk with its branches, as the model takes them; T tokens."""

    input_ids: torch.Tensor
    """Token ids [1, T]."""
    position_ids: torch.Tensor
    """Each token's place in its conversation [1, T]."""
    branch: torch.Tensor
    """Which conversation a token is of [T]; 0 is the trunk."""
    targets: torch.Tensor
    """The token after each, where the model is to learn it, else -100 [1, T]."""
    first: torch.Tensor
    """Whether that token decides: the first of a turn, and the first of a call's name where there
    are several tools; bool [1, T]."""

    @property
    def learnt(self) -> int:
        """How many tokens are learnt from."""
        return int((self.targets != -100).sum())


def packs(
    groups: Iterable[Group], codec: TokenCodec, chat_format: ChatFormat, *, max_tokens: int = 1536
) -> Iterator[Pack]:
    """Pack groups; one that is longer than a pack loses branches, or is left out.

    Args:
        groups: Conversations by what they begin with.
        codec: The model's tokenizer.
        chat_format: The model's format.
        max_tokens: Of one pack.
    """
    for group in groups:
        if pack := _pack(group, codec, chat_format, max_tokens):
            yield pack


def _pack(group: Group, codec: TokenCodec, chat_format: ChatFormat, max_tokens: int) -> Pack | None:
    trunk: list[int] = []
    ids: list[int] = []
    places: list[int] = []
    branch: list[int] = []
    targets: list[int] = []
    first: list[bool] = []
    for number, conversation in enumerate(group.branches, start=1):
        tokens, learnt, start = _tokens(group, conversation, codec, chat_format)
        begins = {i for i in learnt if i - 1 not in learnt}
        if len(group.tools) > 1:
            begins |= {n for i in begins if (n := _name_begin(tokens, i, codec)) is not None}
        if not trunk:
            trunk = tokens[:start]
            ids, places = list(trunk), list(range(start))
            branch, targets, first = [0] * start, [-100] * start, [False] * start
        if tokens[:start] != trunk:
            raise ValueError("conversations of a group begin differently")
        if len(ids) + len(tokens) - start > max_tokens:
            continue
        ids += tokens[start:]
        places += range(start, len(tokens))
        branch += [number] * (len(tokens) - start)
        # The token at i learns the one at i + 1.
        targets += [tokens[i + 1] if i + 1 in learnt else -100 for i in range(start, len(tokens))]
        first += [i + 1 in begins for i in range(start, len(tokens))]
    if not any(target != -100 for target in targets):
        return None
    return Pack(
        torch.tensor([ids]),
        torch.tensor([places]),
        torch.tensor(branch),
        torch.tensor([targets]),
        torch.tensor([first]),
    )


def _name_begin(tokens: list[int], begin: int, codec: TokenCodec) -> int | None:
    """Where the name of a turn's first call begins, if the turn begins with a call."""
    head = f'{TOOL_CALL_START}\n{{"name": "'
    for end in range(begin + 1, min(begin + 20, len(tokens)) + 1):
        text = codec.decode(tokens[begin:end])
        if len(text) > len(head):
            return end - 1 if text.startswith(head) else None
    return None


def _tokens(
    group: Group, conversation: list[dict[str, object]], codec: TokenCodec, chat_format: ChatFormat
) -> tuple[list[int], set[int], int]:
    """Token ids, the places that are learnt, and where the trunk ends."""
    messages: list[Message] = normalize_messages(conversation)
    if group.system is not None:
        messages.insert(0, SystemMessage(group.system))

    def encode(count: int, *, ask: bool) -> list[int]:
        prompt = chat_format.render(
            messages[:count],
            tools=group.tools,
            documents=group.documents,
            add_generation_prompt=ask,
        )
        return codec.encode(prompt)

    tokens, learnt = encode(len(messages), ask=False), set[int]()
    for i, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            begin, end = len(encode(i, ask=True)), len(encode(i + 1, ask=False))
            # The line break after the end of a turn is not the model's.
            learnt.update(range(begin, end - len(codec.encode_text("\n"))))
    first = 0 if group.system is None else 1
    return tokens, learnt, len(encode(first, ask=False))
