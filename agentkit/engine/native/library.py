"""The compiled library's functions, and mirrors of its structs."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import Any

import torch

from agentkit.engine.native.compiling import compiled_library

__all__ = [
    "BF16",
    "F32",
    "INTERLEAVED",
    "Q4_1",
    "Q8_0",
    "Batch",
    "Layer",
    "Library",
    "Matrix",
    "Model",
    "library",
]

_log = logging.getLogger(__name__)

F32, BF16, Q8_0, Q4_1, Q8_0_X16, Q4_1_X16 = range(6)
INTERLEAVED = {Q8_0: Q8_0_X16, Q4_1: Q4_1_X16}
"""Kinds of matrices, and what they become with their rows side by side."""

_i32, _i64, _f32, _p = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Matrix(ctypes.Structure):
    """A matrix of weights; ``step.c`` and ``kernels.h`` say what the fields of all four mean."""

    _fields_ = (
        *((name, _i32) for name in ("kind", "rows", "cols", "scale_stride")),
        *((name, _p) for name in ("values", "scales", "minima", "bias")),
    )


class Layer(ctypes.Structure):
    """One layer."""

    _fields_ = (
        ("recurrent", _i32),
        ("unused", _i32),
        ("input_norm", _p),
        ("mlp_norm", _p),
        *((name, Matrix) for name in ("query", "key", "value", "output", "gate", "up", "down")),
        *((name, Matrix) for name in ("in_proj", "out_proj")),
        *((name, _p) for name in ("conv_weight", "conv_bias", "dt_bias")),
        *((name, _p) for name in ("decay", "skip", "gate_norm")),
    )


class Model(ctypes.Structure):
    """A whole model."""

    _fields_ = (
        *((name, _i32) for name in ("hidden", "heads", "kv_heads", "head_dim", "mlp", "layers")),
        *((name, _i32) for name in ("vocabulary", "rotary")),
        *((name, _i32) for name in ("m_heads", "m_head_dim", "m_state", "m_groups", "m_conv")),
        *((name, _f32) for name in ("eps", "embedding_scale", "attention_scale")),
        *((name, _f32) for name in ("residual_scale", "logits_scale")),
        *((name, _p) for name in ("cosines", "sines", "final_norm")),
        ("embedding", Matrix),
        ("head", Matrix),
        ("layer", ctypes.POINTER(Layer)),
    )


class Batch(ctypes.Structure):
    """Tokens to be read in one call."""

    _fields_ = (
        *((name, _i32) for name in ("tokens", "outputs", "threads", "unused")),
        *((name, _p) for name in ("ids", "positions", "sequence", "output_index")),
        *((name, _p) for name in ("keys", "values", "capacity", "conv", "state")),
        *((name, _p) for name in ("logits", "scratch")),
        ("longest", _i64),
    )


class Library:
    """The functions of the compiled library; each releases the interpreter lock."""

    def __init__(self, handle: ctypes.CDLL) -> None:
        self.step: Any = handle.agentkit_step
        self.step.argtypes = (ctypes.POINTER(Model), ctypes.POINTER(Batch))
        self.step.restype = None
        self.scratch_floats: Any = handle.agentkit_scratch_floats
        self.scratch_floats.argtypes = (ctypes.POINTER(Model), _i64, _i32)
        self.scratch_floats.restype = _i64
        self._dequantize: Any = handle.agentkit_dequantize
        self._dequantize.argtypes = (ctypes.POINTER(Matrix), _p, _i32)
        self._dequantize.restype = None
        self._linear_floats: Any = handle.agentkit_linear_floats
        self._linear_floats.argtypes = (ctypes.POINTER(Matrix), _i32)
        self._linear_floats.restype = _i64
        self._read_rows: Any = handle.agentkit_read_rows
        self._read_rows.argtypes = (ctypes.POINTER(Matrix), _p, _i32, _p)
        self._read_rows.restype = None
        self._can_interleave: Any = handle.agentkit_can_interleave
        self._can_interleave.argtypes = (_i32, _i32)
        self._can_interleave.restype = _i32
        self._interleave: Any = handle.agentkit_interleave
        self._interleave.argtypes = (ctypes.POINTER(Matrix), _p, _p, _p, _i32)
        self._interleave.restype = None
        self._linear: Any = handle.agentkit_linear
        self._linear.argtypes = (ctypes.POINTER(Matrix), _p, _i32, _p, _p, _i32)
        self._linear.restype = None
        self.max_tokens = int(handle.agentkit_max_tokens())
        for what, mirror in enumerate((Matrix, Layer, Model, Batch)):
            if handle.agentkit_size_of(what) != ctypes.sizeof(mirror):
                raise OSError(f"{mirror.__name__} is laid out otherwise by this compiler")

    def linear(self, matrix: Matrix, x: torch.Tensor) -> torch.Tensor:
        """``x @ matrix.T`` for float32."""
        x = x.contiguous()
        out = torch.empty((*x.shape[:-1], matrix.rows))
        rows = x.numel() // matrix.cols
        scratch = torch.empty(self._linear_floats(ctypes.byref(matrix), rows))
        self._linear(
            ctypes.byref(matrix),
            x.data_ptr(),
            rows,
            out.data_ptr(),
            scratch.data_ptr(),
            torch.get_num_threads(),
        )
        return out

    def dequantize(self, matrix: Matrix, out: torch.Tensor) -> None:
        """Write the matrix into ``out``, float32 of shape (rows, columns)."""
        self._dequantize(ctypes.byref(matrix), out.data_ptr(), torch.get_num_threads())

    def read_rows(self, matrix: Matrix, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the matrix as float32, shape (ids, columns).

        Raises:
            IndexError: There is no such row.
        """
        ids = ids.to(torch.int64).contiguous()
        if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < matrix.rows):
            raise IndexError(f"rows {int(ids.min())} to {int(ids.max())} of {matrix.rows}")
        out = torch.empty(len(ids), matrix.cols)
        self._read_rows(ctypes.byref(matrix), ids.data_ptr(), len(ids), out.data_ptr())
        return out

    def can_interleave(self, rows: int, cols: int) -> bool:
        """Whether a quantised matrix of this shape is faster with its rows side by side."""
        return bool(self._can_interleave(rows, cols))

    def interleave(
        self,
        matrix: Matrix,
        values: torch.Tensor,
        scales: torch.Tensor,
        minima: torch.Tensor | None,
    ) -> None:
        """Write a matrix with its rows side by side into tensors of its own sizes.

        Args:
            matrix: In the plain layout, but of the kind that it is to get.
            values: For its values.
            scales: For its scales.
            minima: For its minima, if it has them.
        """
        self._interleave(
            ctypes.byref(matrix),
            values.data_ptr(),
            scales.data_ptr(),
            None if minima is None else minima.data_ptr(),
            torch.get_num_threads(),
        )


@cache
def library() -> Library | None:
    """The library, compiled and loaded; None where that cannot be."""
    path = compiled_library()
    if path is None:
        return None
    try:
        return Library(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        _log.warning("decoding with torch alone, which is slower: %s", error)
        return None
