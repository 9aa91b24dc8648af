"""Weights of a model on a CPU in bfloat16, eight or four bits.

Decoding waits for the weights to come from memory; half or an eighth of the bytes is half or an
eighth of the wait. Activations, sums and the KV cache stay float32.

The forms in eight and four bits are GGUF's ``Q8_0`` and ``Q4_1``: groups of 32 weights along the
input, each with a scale (and, in four bits, a minimum) in float16. A GGUF file in these forms is
therefore taken over as it is, and nothing more is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from agentkit.engine.native.library import (
    BF16,
    F32,
    INTERLEAVED,
    Q4_1,
    Q8_0,
    Library,
    Matrix,
    library,
)

__all__ = [
    "PackedEmbedding",
    "PackedLinear",
    "PackedWeight",
    "WeightForm",
    "load_packed",
    "pack",
    "pack_model",
    "pack_q4_1",
    "pack_q8_0",
    "round_model",
    "save_packed",
]

WeightForm = Literal["float32", "bfloat16", "int8", "int4"]
"""How the matrices of a model are held in memory."""

_GROUP = 32
_FEW = 32
"""Inputs up to which the library's products are faster than to unpack and to use BLAS."""
_BLOCK_BYTES = 4 << 20
"""Float32 weights unpacked at a time when a long input is multiplied: what fits a CPU's cache."""


@dataclass(slots=True)
class PackedWeight:
    """A matrix of weights in one of the native forms."""

    kind: int
    """``F32``, ``BF16``, ``Q8_0`` or ``Q4_1`` of :mod:`agentkit.engine.native.library`; or
    one of its ``INTERLEAVED``, after :meth:`interleave`."""
    rows: int
    """Outputs."""
    cols: int
    """Inputs."""
    values: torch.Tensor
    """(rows, cols) of float32, bfloat16 or int8; (rows, cols / 2) of uint8 for ``Q4_1``: byte
    ``i`` of a group holds weight ``i`` in its low and weight ``i + 16`` in its high half."""
    scales: torch.Tensor | None = None
    """Float16, (rows, groups rounded up to 8)."""
    minima: torch.Tensor | None = None
    """Likewise, of ``Q4_1``."""

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        parts = (self.values, self.scales, self.minima)
        return sum(part.nbytes for part in parts if part is not None)

    @property
    def interleaved(self) -> bool:
        """Whether its rows are side by side."""
        return self.kind in INTERLEAVED.values()

    def matrix(
        self, begin: int = 0, end: int | None = None, *, bias: torch.Tensor | None = None
    ) -> Matrix:
        """Rows ``begin`` to ``end`` as the library takes them."""
        scales, minima = self.scales, self.minima
        matrix = Matrix(
            kind=self.kind,
            rows=(self.rows if end is None else end) - begin,
            cols=self.cols,
            scale_stride=0 if scales is None else scales.shape[1],
            values=self.values[begin:].data_ptr(),
            scales=None if scales is None else scales[begin:].data_ptr(),
            minima=None if minima is None else minima[begin:].data_ptr(),
            bias=None if bias is None else bias[begin:].data_ptr(),
        )
        matrix.owner = (self, bias)  # The tensors live as long as what points to them.
        return matrix

    def interleave(self, lib: Library) -> None:
        """Bring the rows side by side, sixteen at a time, if the library is faster with that.

        It is a layout of this machine's, not of files: see ``side_by_side.h``.
        """
        if self.kind not in INTERLEAVED or not lib.can_interleave(self.rows, self.cols):
            return
        assert self.scales is not None
        self.kind = INTERLEAVED[self.kind]
        before = self.matrix()
        values, scales = torch.empty_like(self.values), torch.empty_like(self.scales)
        minima = None if self.minima is None else torch.empty_like(self.minima)
        lib.interleave(before, values, scales, minima)
        self.values, self.scales, self.minima = values, scales, minima

    def unpack(self) -> torch.Tensor:
        """The matrix in float32."""
        if self.interleaved:
            lib = library()
            assert lib is not None  # which has interleaved it
            out = torch.empty(self.rows, self.cols)
            lib.dequantize(self.matrix(), out)
            return out
        if self.scales is None:
            return self.values.float()
        groups = self.cols // _GROUP
        values, scales = self.values, self.scales[:, :groups, None].float()
        if self.minima is None:
            out = values.float().view(self.rows, groups, _GROUP) * scales
        else:
            halves = values.view(self.rows, groups, _GROUP // 2)
            quants = torch.cat([halves & 15, halves >> 4], dim=-1).float()
            out = quants * scales + self.minima[:, :groups, None].float()
        return out.reshape(self.rows, self.cols)


def pack(weight: torch.Tensor, form: WeightForm) -> PackedWeight:
    """Bring a matrix into a native form.

    A matrix whose rows are no multiple of 32 long stays in bfloat16 where four or eight bits
    were asked for.

    Args:
        weight: Shape (rows, columns).
        form: The form.
    """
    if form in ("int8", "int4") and weight.shape[1] % _GROUP == 0:
        return pack_q8_0(weight) if form == "int8" else pack_q4_1(weight)
    wide = form == "float32"
    values = weight.detach().to(torch.float32 if wide else torch.bfloat16).contiguous()
    rows, cols = weight.shape
    return PackedWeight(F32 if wide else BF16, rows, cols, values)


def pack_q8_0(weight: torch.Tensor) -> PackedWeight:
    """Eight bits: ``w = scale * q`` with q from -127 to 127, the scale from the largest weight."""
    groups = _groups(weight)
    scales = (groups.abs().amax(-1) / 127).half().float()
    values = (groups / _divisor(scales)).round().clamp(-127, 127).to(torch.int8)
    rows, cols = weight.shape
    return PackedWeight(Q8_0, rows, cols, values.reshape(rows, cols), _padded(scales))


def pack_q4_1(weight: torch.Tensor) -> PackedWeight:
    """Four bits: ``w = scale * q + minimum`` with q from 0 to 15."""
    groups = _groups(weight)
    minima = groups.amin(-1).half().float()
    scales = ((groups.amax(-1) - minima) / 15).half().float()
    quants = ((groups - minima[..., None]) / _divisor(scales)).round().clamp(0, 15).to(torch.uint8)
    values = quants[..., :16] | (quants[..., 16:] << 4)
    rows, cols = weight.shape
    values = values.reshape(rows, cols // 2)
    return PackedWeight(Q4_1, rows, cols, values, _padded(scales), _padded(minima))


def _groups(weight: torch.Tensor) -> torch.Tensor:
    rows, cols = weight.shape
    return weight.detach().float().reshape(rows, cols // _GROUP, _GROUP)


def _divisor(scales: torch.Tensor) -> torch.Tensor:
    return torch.where(scales == 0, 1.0, scales)[..., None]


def _padded(scales: torch.Tensor) -> torch.Tensor:
    missing = -scales.shape[1] % 8
    return functional.pad(scales, (0, missing)).half().contiguous()


class PackedLinear(nn.Module):
    """``nn.Linear`` on packed weights."""

    def __init__(self, packed: PackedWeight, bias: torch.Tensor | None, lib: Library) -> None:
        super().__init__()
        self.packed = packed
        self.in_features, self.out_features = packed.cols, packed.rows
        self.bias = None if bias is None else bias.detach().float()
        self._library = lib
        self._block = max(64, _BLOCK_BYTES // (4 * packed.cols))

    @property
    def weight(self) -> torch.Tensor:
        """A tensor of the right shape that holds nothing: shapes are asked of layers."""
        return torch.empty(self.out_features, self.in_features, device="meta")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., inputs) to (..., outputs)."""
        packed, x = self.packed, x.float()
        few = x.numel() // packed.cols <= _FEW
        if few or packed.interleaved:
            return self._library.linear(packed.matrix(bias=self.bias), x)
        if packed.kind == F32:
            return functional.linear(x, packed.values, self.bias)
        if packed.kind == BF16 and _computes_bfloat16():
            bias = None if self.bias is None else self.bias.bfloat16()
            return functional.linear(x.bfloat16(), packed.values, bias).float()
        out = torch.empty((*x.shape[:-1], packed.rows))
        scratch = torch.empty(self._block, packed.cols)
        for begin in range(0, packed.rows, self._block):
            end = min(begin + self._block, packed.rows)
            part = scratch[: end - begin]
            self._library.dequantize(packed.matrix(begin, end), part)
            bias = None if self.bias is None else self.bias[begin:end]
            out[..., begin:end] = functional.linear(x, part, bias)
        return out


class PackedEmbedding(nn.Module):
    """``nn.Embedding`` on packed weights."""

    def __init__(self, packed: PackedWeight, lib: Library) -> None:
        super().__init__()
        self.packed = packed
        self.num_embeddings, self.embedding_dim = packed.rows, packed.cols
        self._library = lib

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shape (...) to (..., columns), float32."""
        packed = self.packed
        out = self._library.read_rows(packed.matrix(), ids.reshape(-1))
        return out.reshape(*ids.shape, packed.cols)


def pack_model(
    model: Any, form: WeightForm, *, ready: Mapping[str, PackedWeight] | None = None
) -> bool:
    """Replace a model's linear layers and embedding by packed ones, in place.

    In four bits the embedding and the output layer are kept in eight: they are the most
    sensitive ones. What is not a matrix of a linear layer becomes float32.

    Args:
        model: A causal language model of transformers on the CPU.
        form: The form.
        ready: Weights that are packed already, by the names of their parameters.

    Returns:
        Whether it was done; not where there is no native library.
    """
    lib = library()
    if lib is None:
        return False
    made: dict[int, PackedWeight] = {}  # tied weights stay tied
    for name, module, weight, wanted in _matrices(model, form):
        key = weight.data_ptr()
        if key not in made:
            made[key] = (ready or {}).get(name) or pack(weight, wanted)
            made[key].interleave(lib)
        replacement: nn.Module
        if isinstance(module, nn.Embedding):
            replacement = PackedEmbedding(made[key], lib)
        else:
            replacement = PackedLinear(made[key], cast("torch.Tensor | None", module.bias), lib)
        parent, _, child = name.removesuffix(".weight").rpartition(".")
        setattr(model.get_submodule(parent), child, replacement)
    model.float()
    return True


@torch.no_grad()
def round_model(model: Any, form: WeightForm) -> None:
    """Round a model's matrices to what a form can hold, in place: packing then loses nothing.

    Args:
        model: A model that is not packed.
        form: The form.
    """
    done = set[int]()
    for _, _, weight, wanted in _matrices(model, form):
        if weight.data_ptr() not in done:
            done.add(weight.data_ptr())
            weight.copy_(pack(weight, wanted).unpack())


def save_packed(model: Any, form: WeightForm, file: Path) -> None:
    """Write the packed form of a model's matrices, for :func:`load_packed`.

    Args:
        model: A model that is not packed.
        form: The form.
        file: A safetensors file; tied matrices are written once.
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, _, weight, wanted in _matrices(model, form):
        if weight.data_ptr() not in seen:
            seen.add(weight.data_ptr())
            packed = pack(weight, wanted)
            tensors[f"{name}:{packed.kind}:{packed.cols}"] = packed.values
            for part in ("scales", "minima"):
                if (values := getattr(packed, part)) is not None:
                    tensors[f"{name}:{part}"] = values
    save_file(tensors, file)


def load_packed(file: Path) -> dict[str, PackedWeight]:
    """Read what :func:`save_packed` wrote: packed weights by the names of their parameters."""
    tensors = load_file(file)
    packed = {}
    for key, values in tensors.items():
        name, *rest = key.split(":")
        if len(rest) == 2:
            scales, minima = tensors.get(f"{name}:scales"), tensors.get(f"{name}:minima")
            kind, cols = (int(number) for number in rest)
            packed[name] = PackedWeight(kind, len(values), cols, values, scales, minima)
    return packed


def _matrices(
    model: Any, form: WeightForm
) -> list[tuple[str, nn.Module, torch.Tensor, WeightForm]]:
    """The matrices to pack: parameter's name, its module, the weights, the form for them."""
    outer: WeightForm = "int8" if form == "int4" else form
    head = model.get_output_embeddings()
    found: list[tuple[str, nn.Module, torch.Tensor, WeightForm]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            found.append((f"{name}.weight", module, module.weight, outer))
        elif type(module) is nn.Linear:
            wanted = outer if module is head else form
            found.append((f"{name}.weight", module, module.weight, wanted))
    return found


def _computes_bfloat16() -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on this CPU."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
