"""Matrices of the hand-laid pass: as they are, or in eight or four bits by torch's own kernels."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.nn import functional

from agentkit.errors import UserError

__all__ = ["FORMS", "Dense", "Float8", "Int4", "Int8", "Linear", "Part", "TorchForm", "quantize"]

TorchForm = Literal["int8", "int4", "fp8"]
"""How torch's kernels can hold a matrix, apart from a plain dtype."""

_GROUP = 32
_FEW = range(2, 9)
_FP8_LARGEST = 448.0


class Linear(Protocol):
    """A matrix with or without bias, which multiplies rows of activations."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (tokens, inputs) to (tokens, outputs), in the type of ``x``."""
        ...


class Dense:
    """A matrix as it is.

    Args:
        weight: Shape (outputs, inputs).
        bias: Shape (outputs,), or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        # BLAS on CPUs are up to 1.7 times as fast with the few columns on the right.
        self._turned = _FEW if weight.device.type == "cpu" else range(0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`Linear`."""
        if len(x) not in self._turned:
            return functional.linear(x, self.weight, self.bias)
        product = torch.mm(self.weight, x.t()).t().contiguous()
        return product if self.bias is None else product.add_(self.bias)


class _Packed(nn.Module):
    """A matrix in another form; may take the place of a layer of transformers."""

    values: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, values: torch.Tensor, scales: torch.Tensor, bias: Any) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., inputs) to (..., outputs), in the type of ``x``."""
        y = self._multiply(x.reshape(-1, x.shape[-1])).to(x.dtype)
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class Int8(_Packed):
    """Eight bits, one scale for each output: ``w = scale * q`` with q from -127 to 127.

    Activations are rounded to bfloat16, as in four bits.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        wide = weight.detach().float()
        scales = wide.abs().amax(-1).clamp_min(1e-12) / 127
        values = (wide / scales[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        super().__init__(values, scales.to(torch.bfloat16), bias)

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        return torch._weight_int8pack_mm(x.to(torch.bfloat16), self.values, self.scales)


class Int4(_Packed):
    """Four bits in groups of 32 along the input: ``w = scale * (q - 8) + zero``, q from 0 to 15.

    The groups are those of GGUF's ``Q4_1``; a matrix that was stored so loses no more than the
    rounding of its scales to bfloat16.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        rows, cols = weight.shape
        groups = weight.detach().float().reshape(rows, cols // _GROUP, _GROUP)
        low, high = groups.amin(-1), groups.amax(-1)
        scales = (high - low) / 15
        divisor = torch.where(scales == 0, 1.0, scales)[..., None]
        quants = ((groups - low[..., None]) / divisor).round_().clamp_(0, 15).to(torch.int32)
        quants = quants.reshape(rows, cols)
        if weight.device.type == "cpu":
            packed = torch._convert_weight_to_int4pack_for_cpu(quants, 1)
        else:
            # Two quants a byte, the even one in the high half; 8 tiles along the inputs.
            halves = (quants[:, ::2] << 4 | quants[:, 1::2]).to(torch.uint8)
            packed = torch._convert_weight_to_int4pack(halves, 8 if cols % 128 == 0 else 2)
        pair = torch.stack((scales, low + 8 * scales), -1)  # (rows, groups, 2)
        super().__init__(packed, pair.transpose(0, 1).contiguous().to(torch.bfloat16), bias)

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        on_cpu = x.device.type == "cpu"
        product = torch._weight_int4pack_mm_for_cpu if on_cpu else torch._weight_int4pack_mm
        return product(x.to(torch.bfloat16), self.values, _GROUP, self.scales)


class Float8(_Packed):
    """Weights and activations in float8 (e4m3), with a scale for each output and each token."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        scales = weight.detach().float().abs().amax(-1, keepdim=True).clamp_min(1e-12)
        scales /= _FP8_LARGEST
        values = (weight.detach() / scales).to(torch.float8_e4m3fn)
        super().__init__(values, scales.t().contiguous(), bias)

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        scales = x.float().abs().amax(-1, keepdim=True).clamp_min(1e-12) / _FP8_LARGEST
        return torch._scaled_mm(
            (x / scales).to(torch.float8_e4m3fn),
            self.values.t(),
            scale_a=scales,
            scale_b=self.scales,
            out_dtype=torch.bfloat16,
        )


class Part(nn.Module):
    """Some outputs of a fused matrix, as the layer of transformers that they were."""

    def __init__(self, whole: nn.Module, begin: int, end: int, inputs: int) -> None:
        super().__init__()
        self.whole, self._begin, self._end = whole, begin, end
        self.in_features, self.out_features = inputs, end - begin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., inputs) to (..., outputs)."""
        y: torch.Tensor = self.whole(x.reshape(-1, x.shape[-1]))
        return y[:, self._begin : self._end].reshape(*x.shape[:-1], -1)


FORMS: dict[TorchForm, type[Int8] | type[Int4] | type[Float8]] = {
    "int8": Int8,
    "int4": Int4,
    "fp8": Float8,
}


def quantize(weight: torch.Tensor, bias: torch.Tensor | None, form: TorchForm) -> nn.Module | None:
    """Bring a matrix into a form; None where its shape has none, or it would not pay.

    Raises:
        UserError: The form needs another card.
    """
    rows, cols = weight.shape
    if form == "fp8":
        check_fp8(weight.device)
        fits = rows % 16 == 0 and cols % 16 == 0
    elif form == "int4":
        fits = cols % _GROUP == 0 and rows % (16 if weight.device.type == "cpu" else 8) == 0
    else:
        fits = weight.device.type == "cpu" or (rows % 8 == 0 and cols % 16 == 0)
    return FORMS[form](weight, bias) if fits else None


def check_fp8(device: torch.device) -> None:
    """See that a device multiplies in float8.

    Raises:
        UserError: It does not.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"{name} does not compute in fp8, which came with Ada and Hopper cards")
