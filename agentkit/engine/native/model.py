"""A transformers model described to the native library: Llama's and Granite's shapes."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from agentkit.engine.native.library import BF16, F32, Layer, Matrix, Model
from agentkit.engine.native.weights import PackedEmbedding, PackedLinear, PackedWeight

__all__ = ["NativeModel", "Unsupported", "check_kind", "is_supported"]

_ARCHITECTURES = (
    "LlamaForCausalLM",
    "GraniteForCausalLM",
    "GraniteMoeHybridForCausalLM",
)


def is_supported(model: Any) -> bool:
    """Whether a model of transformers, packed or not, can be run natively."""
    try:
        check_kind(model)
    except Unsupported:
        return False
    return True


class Unsupported(Exception):
    """The model has a part that the native library does not know; the text says which."""


class NativeModel:
    """The structs of a model, and what keeps their tensors alive.

    Args:
        model: A causal language model of transformers on the CPU, whose weights are float32 or
            packed (:mod:`agentkit.engine.native.weights`).

    Raises:
        Unsupported: It cannot be run natively.
    """

    def __init__(self, model: Any) -> None:
        check_kind(model)
        config = model.config
        self._kept: list[torch.Tensor] = []
        self._model = model
        inner = model.model
        self.head_dim: int = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.rotary_embedding = getattr(inner, "rotary_emb", None)
        layers = [self._layer(layer) for layer in inner.layers]
        self._layers = (Layer * len(layers))(*layers)
        granite = "Granite" in type(model).__name__
        self.struct = Model(
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=self.head_dim,
            mlp=layers[0].gate.rows,
            layers=len(layers),
            vocabulary=model.lm_head.out_features,
            rotary=int(self.rotary_embedding is not None),
            eps=config.rms_norm_eps,
            embedding_scale=config.embedding_multiplier if granite else 1.0,
            attention_scale=config.attention_multiplier if granite else self.head_dim**-0.5,
            residual_scale=config.residual_multiplier if granite else 1.0,
            logits_scale=1 / config.logits_scaling if granite else 1.0,
            final_norm=self._vector(inner.norm.weight),
            embedding=self._embedding(inner.embed_tokens),
            head=self._linear(model.lm_head),
            layer=self._layers,
        )
        self.recurrent = [bool(layer.recurrent) for layer in layers]
        """For each layer, whether it keeps a state rather than keys and values."""
        if any(self.recurrent):
            self.struct.m_heads = config.mamba_n_heads
            self.struct.m_head_dim = config.mamba_d_head
            self.struct.m_state = config.mamba_d_state
            self.struct.m_groups = config.mamba_n_groups
            self.struct.m_conv = config.mamba_d_conv
            inner_width = config.mamba_n_heads * config.mamba_d_head
            _check(inner_width % (8 * config.mamba_n_groups) == 0, "an odd Mamba width")
            _check(config.mamba_d_state % 8 == 0, "an odd Mamba state")
        _check(self.head_dim % 8 == 0, "an odd head size")
        _check(config.hidden_size % 8 == 0, "an odd hidden size")
        _check(layers[0].gate.rows % 8 == 0, "an odd MLP width")
        self._positions = 0

    def reach(self, positions: int) -> None:
        """Have the tables of rotary embeddings hold at least so many positions."""
        if self.rotary_embedding is None or positions <= self._positions:
            return
        self._positions = max(4096, 2 * positions)
        ids = torch.arange(self._positions)[None]
        cosines, sines = self.rotary_embedding(torch.zeros(1), ids)
        half = self.head_dim // 2
        tables = tuple(table[0, :, :half].float().contiguous() for table in (cosines, sines))
        self._tables = tables
        self.struct.cosines, self.struct.sines = (table.data_ptr() for table in tables)

    def fingerprint(self) -> str:
        """A hash of a sample of the packed weights."""
        digest = hashlib.sha256()
        for module in self._model.modules():
            if isinstance(module, PackedLinear | PackedEmbedding):
                values = module.packed.values.flatten()
                sample = values[:: max(1, values.numel() // 16)].float().numpy()
                digest.update(bytes([module.packed.kind]) + sample.tobytes())
        return digest.hexdigest()

    def _layer(self, layer: Any) -> Layer:
        struct = Layer(
            input_norm=self._vector(layer.input_layernorm.weight),
            mlp_norm=self._vector(layer.post_attention_layernorm.weight),
        )
        mlp = getattr(layer, "mlp", None)
        if mlp is not None:
            struct.gate, struct.up = self._linear(mlp.gate_proj), self._linear(mlp.up_proj)
            struct.down = self._linear(mlp.down_proj)
        else:
            mlp = layer.shared_mlp
            half = mlp.input_linear.out_features // 2
            struct.gate = self._linear(mlp.input_linear, 0, half)
            struct.up = self._linear(mlp.input_linear, half, 2 * half)
            struct.down = self._linear(mlp.output_linear)
        mamba = getattr(layer, "mamba", None)
        if mamba is None:
            attention = layer.self_attn
            struct.query, struct.key = (
                self._linear(attention.q_proj),
                self._linear(attention.k_proj),
            )
            struct.value, struct.output = (
                self._linear(attention.v_proj),
                self._linear(attention.o_proj),
            )
            return struct
        struct.recurrent = 1
        struct.in_proj, struct.out_proj = self._linear(mamba.in_proj), self._linear(mamba.out_proj)
        struct.conv_weight = self._vector(mamba.conv1d.weight)
        if mamba.conv1d.bias is not None:
            struct.conv_bias = self._vector(mamba.conv1d.bias)
        struct.dt_bias = self._vector(mamba.dt_bias)
        struct.decay = self._vector(-torch.exp(mamba.A_log.detach().float()))
        struct.skip = self._vector(mamba.D)
        struct.gate_norm = self._vector(mamba.norm.weight)
        return struct

    def _vector(self, values: torch.Tensor) -> int:
        kept = values.detach().float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()

    def _linear(self, module: Any, begin: int = 0, end: int | None = None) -> Matrix:
        if isinstance(module, PackedLinear):
            packed, bias = module.packed, module.bias
        else:
            _check(type(module) is nn.Linear, f"a layer of type {type(module).__name__}")
            packed, bias = _as_it_is(module.weight), module.bias
        _check(packed.cols % 8 == 0, f"rows of {packed.cols} weights")
        if bias is not None:
            bias = bias.detach().float().contiguous()
            self._kept.append(bias)
        self._kept.append(packed.values)
        return packed.matrix(begin, end, bias=bias)

    def _embedding(self, module: Any) -> Matrix:
        if isinstance(module, PackedEmbedding):
            return module.packed.matrix()
        return _as_it_is(module.weight).matrix()


def check_kind(model: Any) -> None:
    """Look at what can be told without the weights."""
    config = model.config
    _check(type(model).__name__ in _ARCHITECTURES, f"architecture {type(model).__name__}")
    _check(getattr(config, "hidden_act", "silu") == "silu", "another activation than silu")
    _check(not getattr(config, "num_local_experts", 0), "a mixture of experts")
    _check(not getattr(config, "use_sliding_window", False), "sliding-window attention")
    limit = getattr(config, "time_step_limit", (0.0, float("inf")))
    _check(tuple(limit) == (0.0, float("inf")), "a time step limit")
    rotary = getattr(model.model, "rotary_emb", None)
    if rotary is not None:
        rope = getattr(rotary, "rope_type", "default")
        _check(rope in ("default", "linear", "llama3", "yarn"), f"RoPE of type {rope}")


def _as_it_is(weight: torch.Tensor) -> PackedWeight:
    """A parameter of the model, without a copy."""
    kinds = {torch.float32: F32, torch.bfloat16: BF16}
    _check(weight.dtype in kinds, f"weights of type {weight.dtype}")
    _check(weight.is_contiguous() and weight.device.type == "cpu", "weights elsewhere")
    rows, cols = weight.shape
    return PackedWeight(kinds[weight.dtype], rows, cols, weight.detach())


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unsupported(otherwise)
