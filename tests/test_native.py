"""The native forward pass and packed weights against transformers' own arithmetic."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.nn import functional

from agentkit import TransformersModel
from agentkit.engine.backend import Row
from agentkit.engine.choosing import pick_backend
from agentkit.engine.kv_cache import KVCache
from agentkit.engine.native.backend import NativeBackend
from agentkit.engine.native.library import INTERLEAVED, Q4_1, Q8_0, library
from agentkit.engine.native.weights import (
    PackedEmbedding,
    PackedLinear,
    WeightForm,
    _computes_bfloat16,
    load_packed,
    pack,
    pack_model,
    save_packed,
)
from support import plain_logits, random_ids, small_model

pytestmark = pytest.mark.skipif(library() is None, reason="needs a C compiler")
FORMS: list[WeightForm] = ["float32", "bfloat16", "int8", "int4"]


@pytest.fixture(params=["llama", "old_granite", "granite", "granite_hybrid"])
def model(request: pytest.FixtureRequest) -> Any:
    return small_model(request.param)


def native(model: Any) -> NativeBackend:
    backend = pick_backend(model)
    assert isinstance(backend, NativeBackend)
    return backend


@pytest.mark.parametrize("form", FORMS)
def test_packed_weights_natively_and_by_transformers(model: Any, form: WeightForm) -> None:
    assert pack_model(model, form)
    tokens, backend = random_ids(50), native(model)
    cache = KVCache(model.config)
    backend.forward([Row(cache, tokens[:40])])
    logits = [backend.forward([Row(cache, [token])])[0][0] for token in tokens[40:]]
    expected = plain_logits(model, tokens)[40:]
    # Fixed-point activations have 16 bits; everything else is float32 on both sides.
    allowed = {"atol": 2e-4, "rtol": 1e-3} if form in FORMS[:2] else {"atol": 2e-2, "rtol": 1e-2}
    if not _rounds_prefill():
        torch.testing.assert_close(torch.stack(logits), expected, **allowed)


def _rounds_prefill() -> bool:
    """Whether long inputs are multiplied in bfloat16 here, which rounds them."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def test_company_does_not_change_what_a_sequence_gets(model: Any) -> None:
    pack_model(model, "int4")
    backend = native(model)
    beginnings = [random_ids(20 + 7 * i, seed=i) for i in range(9)]
    nexts = [random_ids(1 + i % 4, seed=100 + i) for i in range(9)]
    alone, together = [], []
    for caches in (alone, together):
        for beginning in beginnings:
            cache = KVCache(model.config)
            backend.forward([Row(cache, beginning)])
            caches.append(cache)
    expected = [
        backend.forward([Row(cache, tokens, keep=len(tokens))])[0]
        for cache, tokens in zip(alone, nexts, strict=True)
    ]
    rows = [Row(c, tokens, keep=len(tokens)) for c, tokens in zip(together, nexts, strict=True)]
    for got, wanted in zip(backend.forward(rows), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("rows", "cols"), [(7, 32), (64, 96), (33, 576), (5, 1536)])
def test_linear_layers(form: WeightForm, rows: int, cols: int) -> None:
    torch.manual_seed(1)
    weight, bias = torch.randn(rows, cols), torch.randn(rows)
    packed, lib = pack(weight, form), library()
    assert lib is not None
    unpacked = packed.unpack()
    layer = PackedLinear(packed, bias, lib)
    for count in (1, 2, 3, 5, 8, 13, 32, 70):
        x = torch.randn(2, count, cols)
        expected = functional.linear(x, unpacked, bias)
        # CPUs with instructions for bfloat16 round long inputs to it: 2^-9 of each product.
        rounded = form == "bfloat16" and _computes_bfloat16()
        atol = 2**-6 * cols**0.5 if rounded else 2e-2
        torch.testing.assert_close(layer(x), expected, atol=atol, rtol=1e-2)


needs_interleaving = pytest.mark.skipif(
    library() is None or not library().can_interleave(32, 32),  # type: ignore[union-attr]
    reason="needs AVX-512 with VNNI",
)


@needs_interleaving
@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize(("rows", "cols"), [(32, 32), (64, 96), (96, 576), (192, 1536)])
def test_rows_side_by_side_are_the_same_weights(form: WeightForm, rows: int, cols: int) -> None:
    torch.manual_seed(4)
    packed, lib = pack(torch.randn(rows, cols), form), library()
    assert lib is not None
    kind, unpacked = packed.kind, packed.unpack()
    packed.interleave(lib)
    assert packed.kind != kind
    assert torch.equal(packed.unpack(), unpacked)
    half = torch.empty(rows // 2, cols)
    lib.dequantize(packed.matrix(rows // 2), half)
    assert torch.equal(half, unpacked[rows // 2 :])
    ids = torch.randint(0, rows, (3, 5))
    assert torch.equal(PackedEmbedding(packed, lib)(ids), unpacked[ids])
    with pytest.raises(IndexError, match=f"{rows} of {rows}"):
        PackedEmbedding(packed, lib)(torch.tensor([rows]))
    layer, x = PackedLinear(packed, torch.randn(rows), lib), torch.randn(300, cols)
    x[:, 3] *= 40
    products = layer(x)
    # Sixteen bits for each group of activations, of which one is large.
    exact = functional.linear(x.double(), unpacked.double(), layer.bias.double())
    assert float((products - exact).abs().max()) < 3e-4 * float(exact.abs().max())
    for count in (1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 129):
        assert torch.equal(layer(x[:count]), products[:count])


@needs_interleaving
def test_a_prompt_read_at_once_leaves_what_its_tokens_leave_one_by_one() -> None:
    model = small_model("llama")
    pack_model(model, "int4")
    backend, tokens = native(model), random_ids(150)
    at_once, one_by_one = KVCache(model.config), KVCache(model.config)
    wanted = backend.forward([Row(at_once, tokens, keep=100)])[0]
    logits = [backend.forward([Row(one_by_one, [token])])[0][0] for token in tokens]
    assert torch.equal(wanted, torch.stack(logits[-100:]))
    for layer, other in zip(at_once.state.layers, one_by_one.state.layers, strict=True):
        assert torch.equal(layer.keys, other.keys)
        assert torch.equal(layer.values, other.values)


@pytest.mark.parametrize(
    ("form", "step"), [("bfloat16", 2**-7), ("int8", 1 / 127), ("int4", 1 / 7)]
)
def test_packing_rounds_by_half_a_step_at_most(form: WeightForm, step: float) -> None:
    torch.manual_seed(2)
    weight = torch.randn(40, 320)
    unpacked = pack(weight, form).unpack()
    largest = weight.reshape(40, 10, 32).abs().amax(-1).repeat_interleave(32, -1)
    # A little more than half, as scales are rounded to float16.
    assert bool(((unpacked - weight).abs() <= 0.57 * step * largest).all())


def test_what_was_unpacked_packs_to_the_same_bits() -> None:
    torch.manual_seed(3)
    for form in FORMS:
        unpacked = pack(torch.randn(64, 128), form).unpack()
        assert torch.equal(unpacked, pack(unpacked, form).unpack())


def test_groups_without_spread() -> None:
    for form in FORMS:
        for value in (0.0, 0.5, -2.0):
            unpacked = pack(torch.full((3, 64), value), form).unpack()
            torch.testing.assert_close(unpacked, torch.full((3, 64), value), atol=0, rtol=2e-3)


def test_packed_weights_are_saved_and_loaded(model: Any, tmp_path: Any) -> None:
    file = tmp_path / "packed.safetensors"
    save_packed(model, "int4", file)
    other = copy.deepcopy(model)
    pack_model(model, "int4")
    pack_model(other, "int4", ready=load_packed(file))
    assert torch.equal(plain_logits(model, random_ids(30)), plain_logits(other, random_ids(30)))


def test_layers_of_odd_width_stay_in_bfloat16() -> None:
    assert pack(torch.randn(8, 40), "int4").values.dtype == torch.bfloat16


@pytest.mark.model
@pytest.mark.parametrize(("name", "kind"), [("embedded", Q8_0), ("embedded-base", Q4_1)])
def test_an_embedded_model_in_few_bits_is_the_embedded_model(name: str, kind: int) -> None:
    packed = TransformersModel(name).load()
    plain = TransformersModel(name, dtype="float32").load()
    try:
        weights = packed.engine.model.model.layers[9].mlp.up_proj
        assert weights.packed.kind in (kind, INTERLEAVED[kind])
        unpacked = weights.packed.unpack()
        assert torch.equal(unpacked, plain.engine.model.model.layers[9].mlp.up_proj.weight)
    finally:
        packed.close()
        plain.close()


PROGRAM = """
import logging, sys
logging.basicConfig(format="%(message)s", level=logging.WARNING)
from agentkit import TransformersModel
from agentkit.engine.choosing import expected_backend
model = TransformersModel("embedded").load()
print(expected_backend(model.engine.device)[1], file=sys.stderr)
print(type(model.engine.backend).__name__)
_, logits = model.engine.prefill(list(range(100, 140)))
print(int(logits.argmax()))
"""


@pytest.mark.model
@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"AGENTKIT_NATIVE": "0"}, "AGENTKIT_NATIVE is 0"), ({"CC": "false", "PATH": ""}, "compiler")],
)
def test_without_the_library_torch_does_it(
    embedded: TransformersModel, environment: dict[str, str], reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
        timeout=300,
    )
    backend, token = done.stdout.split()
    assert backend == "EagerBackend"
    assert reason in done.stderr
    _, logits = embedded.engine.prefill(list(range(100, 140)))
    assert int(token) == int(logits.argmax())
