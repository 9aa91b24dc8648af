"""A transformers model's weights, laid out for the hand-laid pass."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from agentkit.engine.eager.weights import FORMS, Dense, Linear, Part, TorchForm, quantize
from agentkit.engine.native.model import Unsupported, check_kind

__all__ = ["EagerModel", "Layer", "Mamba", "Unsupported", "quantize_model"]

_TYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Mamba:
    """The parts of a Mamba-2 layer that are not matrices; float32 but for the convolution."""

    conv_weight: torch.Tensor
    """(channels, kernel)."""
    conv_bias: torch.Tensor | None
    """(channels,)."""
    dt_bias: torch.Tensor
    """(heads,)."""
    decay: torch.Tensor
    """(heads,), negative."""
    skip: torch.Tensor
    """(heads, 1)."""
    norm: torch.Tensor
    """(inner width,), in the model's type."""
    groups: int
    """Heads of a group share their inputs to and outputs from the state."""
    head_dim: int
    """Width of a head."""
    state: int
    """Size of the state for each of its values."""

    @property
    def widths(self) -> list[int]:
        """Of the parts of what is convolved: inputs, and what leads to and out of the state."""
        return [len(self.decay) * self.head_dim, *2 * [self.groups * self.state]]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer."""

    input_norm: torch.Tensor
    mlp_norm: torch.Tensor
    inward: Linear
    """To queries, keys and values; or to Mamba's gate, channels and steps."""
    outward: Linear
    gate_up: Linear
    down: Linear
    mamba: Mamba | None
    """None in attention layers."""


class EagerModel:
    """What the pass needs of a model. Matrices that read the same input become one.

    The model's own parameters then are parts of the fused ones: nothing is held twice, and
    transformers can still run it.

    Args:
        model: A causal language model of transformers, on the device where it is to run.

    Raises:
        Unsupported: It has a part that is not known here.
    """

    def __init__(self, model: Any) -> None:
        check_kind(model)
        config, inner = model.config, model.model
        self.embedding: torch.Tensor = inner.embed_tokens.weight
        _check(self.embedding.dtype in _TYPES, f"weights of type {self.embedding.dtype}")
        self.config = config
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.device, self.dtype = self.embedding.device, self.embedding.dtype
        self._rotary = getattr(inner, "rotary_emb", None)
        granite = "Granite" in type(model).__name__
        self.eps: float = config.rms_norm_eps
        self.embedding_scale: float = config.embedding_multiplier if granite else 1.0
        self.attention_scale: float = (
            config.attention_multiplier if granite else self.head_dim**-0.5
        )
        self.residual_scale: float = config.residual_multiplier if granite else 1.0
        self.logits_scale: float = 1 / config.logits_scaling if granite else 1.0
        self.final_norm: torch.Tensor = inner.norm.weight
        for names in _mixers(model):
            _check_linear(*names)
        self.layers = [self._layer(layer) for layer in inner.layers]
        self.head = _linear(model.lm_head)
        self.recurrent = [layer.mamba is not None for layer in self.layers]
        """For each layer, whether it keeps a state rather than keys and values."""
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = None

    def reach(self, positions: int) -> bool:
        """Have the tables of rotary embeddings hold at least so many positions.

        Returns:
            Whether they were made anew, somewhere else in memory.
        """
        if self._rotary is None or (self._tables and len(self._tables[0]) >= positions):
            return False
        ids = torch.arange(max(4096, 2 * positions), device=self.device)[None]
        cosines, sines = self._rotary(self.embedding[:1, None], ids)
        # Halves of a head are rotated against each other: the sign goes into the table.
        signed = sines[0].clone()
        signed[:, : self.head_dim // 2].neg_()
        self._tables = (cosines[0].contiguous(), signed)
        return True

    def rotation(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Cosines and signed sines, each (tokens, 1, head size); None for models without."""
        if self._tables is None:
            return None
        cosines, sines = self._tables
        return cosines[positions][:, None], sines[positions][:, None]

    def fingerprint(self) -> str:
        """A hash of a sample of the matrices, with their form."""
        digest = hashlib.sha256()
        for layer in self.layers:
            for matrix in (layer.inward, layer.outward, layer.gate_up, layer.down):
                values = matrix.weight if isinstance(matrix, Dense) else matrix.values  # type: ignore[attr-defined]
                flat = values.flatten()
                sample = flat[:: max(1, flat.numel() // 4)].float().cpu()
                digest.update(type(matrix).__name__.encode() + sample.numpy().tobytes())
        return digest.hexdigest()

    def _layer(self, layer: Any) -> Layer:
        mlp = getattr(layer, "mlp", None)
        if mlp is not None:
            gate_up, down = _fused(mlp, ("gate_proj", "up_proj")), mlp.down_proj
        else:
            gate_up, down = _linear(layer.shared_mlp.input_linear), layer.shared_mlp.output_linear
        mamba = getattr(layer, "mamba", None)
        if mamba is None:
            inward = _fused(layer.self_attn, ("q_proj", "k_proj", "v_proj"))
            outward = layer.self_attn.o_proj
        else:
            inward, outward = _linear(mamba.in_proj), mamba.out_proj
        return Layer(
            input_norm=layer.input_layernorm.weight.detach(),
            mlp_norm=layer.post_attention_layernorm.weight.detach(),
            inward=inward,
            outward=_linear(outward),
            gate_up=gate_up,
            down=_linear(down),
            mamba=None if mamba is None else self._mamba(mamba),
        )

    def _mamba(self, mamba: Any) -> Mamba:
        bias = mamba.conv1d.bias
        return Mamba(
            conv_weight=mamba.conv1d.weight.detach().squeeze(1),
            conv_bias=None if bias is None else bias.detach(),
            dt_bias=mamba.dt_bias.detach().float(),
            decay=-torch.exp(mamba.A_log.detach().float()),
            skip=mamba.D.detach().float()[:, None],
            norm=mamba.norm.weight.detach(),
            groups=self.config.mamba_n_groups,
            head_dim=self.config.mamba_d_head,
            state=self.config.mamba_d_state,
        )


def quantize_model(model: Any, form: TorchForm) -> None:
    """Replace the matrices of a model's layers by packed ones, in place.

    Embedding and output layer stay as they are: they are the most sensitive ones, and often one.

    Args:
        model: A causal language model of transformers, on the device where it is to run.
        form: The form. Matrices whose shape does not suit it stay as they are.

    Raises:
        Unsupported: The model is not known here.
        UserError: The card does not have the form.
    """
    check_kind(model)
    for parent, names in _mixers(model):
        _check_linear(parent, names)
        modules = [getattr(parent, name) for name in names]
        weight = torch.cat([module.weight for module in modules])
        bias = None if modules[0].bias is None else torch.cat([m.bias for m in modules])
        packed = quantize(weight, bias, form)
        if packed is None:
            continue
        begin = 0
        for name, module in zip(names, modules, strict=True):
            end = begin + module.out_features
            part = packed if len(names) == 1 else Part(packed, begin, end, weight.shape[1])
            setattr(parent, name, part)
            begin = end


def _mixers(model: Any) -> list[tuple[nn.Module, tuple[str, ...]]]:
    """The layers' matrices: a module, and the names in it of those that read the same input."""
    found: list[tuple[nn.Module, tuple[str, ...]]] = []
    for layer in model.model.layers:
        mamba, mlp = getattr(layer, "mamba", None), getattr(layer, "mlp", None)
        if mamba is None:
            attention = layer.self_attn
            found += [(attention, ("q_proj", "k_proj", "v_proj")), (attention, ("o_proj",))]
        else:
            found += [(mamba, ("in_proj",)), (mamba, ("out_proj",))]
        if mlp is not None:
            found += [(mlp, ("gate_proj", "up_proj")), (mlp, ("down_proj",))]
        else:
            shared = layer.shared_mlp
            found += [(shared, ("input_linear",)), (shared, ("output_linear",))]
    return found


def _check_linear(parent: nn.Module, names: Sequence[str]) -> None:
    modules = [getattr(parent, name) for name in names]
    known = (nn.Linear, Part, *FORMS.values())
    for module in modules:
        _check(type(module) in known, f"a layer of type {type(module).__name__}")
    _check(len({type(m) for m in modules}) == 1, "layers of several kinds side by side")
    if type(modules[0]) is nn.Linear:
        _check(modules[0].weight.dtype in _TYPES, f"weights of type {modules[0].weight.dtype}")
        _check(len({m.bias is None for m in modules}) == 1, "biases on some projections only")


def _linear(module: Any) -> Linear:
    if type(module) is nn.Linear:
        return Dense(module.weight.detach(), None if module.bias is None else module.bias.detach())
    _check(isinstance(module, (*FORMS.values(),)), f"a layer of type {type(module).__name__}")
    packed: Linear = module
    return packed


@torch.no_grad()
def _fused(parent: Any, names: Sequence[str]) -> Linear:
    """One matrix of several; the parameters become views of it."""
    modules = [getattr(parent, name) for name in names]
    if type(modules[0]) is Part:
        whole: Linear = modules[0].whole
        return whole
    weight = _joined([module.weight for module in modules])
    bias = None if modules[0].bias is None else _joined([module.bias for module in modules])
    return Dense(weight, bias)


def _joined(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    first, rows = parameters[0], sum(len(p) for p in parameters)
    # They may be joined already, by another backend on the same model.
    at, home = first.data_ptr(), first.untyped_storage().data_ptr()
    for parameter in parameters:
        elsewhere = parameter.untyped_storage().data_ptr() != home
        if elsewhere or parameter.data_ptr() != at or not parameter.is_contiguous():
            break
        at += parameter.nbytes
    else:
        return first.detach().as_strided((rows, *first.shape[1:]), first.stride())
    whole = torch.cat([parameter.detach() for parameter in parameters])
    begin = 0
    for parameter in parameters:
        parameter.data = whole[begin : begin + len(parameter)]
        begin += len(parameter)
    return whole


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unsupported(otherwise)
