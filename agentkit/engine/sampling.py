"""Choosing the next token from the model's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from agentkit.models.base import Sampling

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens as :class:`~agentkit.models.base.Sampling` says.

    Args:
        sampling: The rules.
        device: Where the logits are.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self._sampling = sampling
        self._generator: torch.Generator | None = None
        if sampling.temperature > 0:
            self._generator = torch.Generator(device)
            if sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(sampling.seed)

    def __call__(
        self, logits: torch.Tensor, *, seen: list[int], allowed: torch.Tensor | None = None
    ) -> int:
        """Choose a token.

        Args:
            logits: Of the next token, shape ``(vocabulary,)``; not changed.
            seen: Tokens so far, for the repetition penalty.
            allowed: Which tokens may be chosen, bool, shape ``(vocabulary,)``.
        """
        rules = self._sampling
        logits = logits.float()
        if rules.repetition_penalty != 1.0 and seen:
            index = torch.tensor(sorted(set(seen)), device=logits.device)
            chosen = logits[index]
            penalty = rules.repetition_penalty
            logits = logits.index_put(
                (index,), torch.where(chosen > 0, chosen / penalty, chosen * penalty)
            )
        if allowed is not None:
            logits = logits.masked_fill(~allowed, float("-inf"))
        if self._generator is None:
            return int(logits.argmax())
        logits = self._keep_likely(logits / rules.temperature)
        probabilities = logits.softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))

    def _keep_likely(self, logits: torch.Tensor) -> torch.Tensor:
        rules = self._sampling
        if rules.top_k is not None and rules.top_k < logits.numel():
            floor = logits.topk(rules.top_k).values[-1]
            logits = logits.masked_fill(logits < floor, float("-inf"))
        if rules.min_p is not None:
            floor = logits.max() + torch.log(torch.tensor(max(rules.min_p, 1e-30)))
            logits = logits.masked_fill(logits < floor, float("-inf"))
        if rules.top_p is not None and rules.top_p < 1:
            ordered, index = logits.sort(descending=True)
            probabilities = ordered.softmax(-1)
            # A token stays if what stands before it has not reached top_p, so one always does.
            drop = probabilities.cumsum(-1) - probabilities >= rules.top_p
            logits = logits.index_fill(0, index[drop], float("-inf"))
        return logits
