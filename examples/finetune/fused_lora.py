"""LoRA's products as one step of autograd, in the dtype of the base weights.

peft's own layers compute the small products in float32 and keep what each of their six operations
needs for the way back. On a CPU with bfloat16 instructions that takes as long as the layer itself.
The weights stay peft's, so its checkpoints and merging are as ever.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear


class _FusedLora(torch.autograd.Function):
    """``x W^T + scale (x A^T) B^T`` (Hu et al. 2021) with gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a, b = a.to(x.dtype), b.to(x.dtype)
        low = rows @ a.T
        out = torch.addmm(rows @ weight.T, low, b.T, alpha=scale)
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scale = scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows, low, weight, a, b = ctx.saved_tensors
        shape = gradients[0].shape[:-1]
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        back = (gradient @ b) * ctx.scale
        to_a = (back.T @ rows).float()
        to_b = (gradient.T @ low).float() * ctx.scale
        to_x = None
        if ctx.needs_input_grad[0]:  # not so below the first layer that is trained
            to_x = torch.addmm(gradient @ weight, back, a).view(*shape, -1)
        return to_x, None, to_a, to_b, None


def fuse(model: torch.nn.Module) -> None:
    """Let peft's linear layers of a model compute in one step.

    Args:
        model: As `peft.get_peft_model` returned it; without dropout, and with one adapter.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            module.forward = _forward_of(module)  # type: ignore[method-assign]


def _forward_of(module: Linear) -> Any:
    (name,) = module.lora_A
    base, scale = module.get_base_layer(), module.scaling[name]
    a, b = module.lora_A[name], module.lora_B[name]
    if base.bias is not None:
        return module.forward  # none of the models here has one

    def forward(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _FusedLora.apply(x, base.weight, a.weight, b.weight, scale)
        return out

    return forward
