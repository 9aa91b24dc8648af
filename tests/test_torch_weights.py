"""Matrices in eight and four bits through torch's own kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.nn import functional

from agentkit import TransformersModel, UserError
from agentkit.engine.backend import Row
from agentkit.engine.eager.backend import EagerBackend
from agentkit.engine.eager.model import quantize_model
from agentkit.engine.eager.weights import Dense, TorchForm, quantize
from agentkit.engine.kv_cache import KVCache
from agentkit.engine.loading import load_model
from support import granite_tokenizer, plain_logits, random_ids, small_model

FORMS: tuple[TorchForm, ...] = get_args(TorchForm)
# Half a step of the form, as a part of a weight's range, and what bfloat16 loses of activations.
LOSS = {"int8": 0.01, "int4": 0.1, "fp8": 0.06}


@pytest.fixture(params=["llama", "old_granite", "granite", "granite_hybrid"])
def model(request: pytest.FixtureRequest) -> Any:
    return small_model(request.param)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [1, 3, 8, 40])
def test_products(form: TorchForm, tokens: int) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 128), torch.randn(96), torch.randn(tokens, 128)
    packed = quantize(weight, bias, form)
    assert packed is not None
    product, expected = packed(x), functional.linear(x, weight, bias)
    assert product.dtype == x.dtype
    error = (product - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < error < LOSS[form]


@pytest.mark.parametrize("tokens", [1, 2, 5, 8, 9])
def test_matrices_as_they_are(tokens: int) -> None:
    weight, bias, x = torch.randn(48, 64), torch.randn(48), torch.randn(tokens, 64)
    for b in (bias, None):
        torch.testing.assert_close(Dense(weight, b)(x), functional.linear(x, weight, b))


@pytest.mark.parametrize("form", ["int4", "fp8"])
def test_odd_shapes_have_no_such_form(form: TorchForm) -> None:
    assert quantize(torch.randn(33, 40), None, form) is None


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_model_is_the_same_for_transformers_and_for_us(
    model: Any, form: TorchForm
) -> None:
    before = plain_logits(model, random_ids(40))
    quantize_model(model, form)
    packed = plain_logits(model, random_ids(40))
    assert not torch.equal(before, packed)
    backend, cache = EagerBackend(model), KVCache(model.config)
    logits = [backend.forward([Row(cache, random_ids(40)[:30], 30)])[0]]
    logits += [backend.forward([Row(cache, [token])])[0] for token in random_ids(40)[30:]]
    error = (torch.cat(logits) - packed).square().mean().sqrt()
    assert error < 0.1 * packed.std()


def test_packing_is_part_of_a_models_identity() -> None:
    found = set()
    for form in (None, *FORMS):
        model = small_model("llama")
        if form is not None:
            quantize_model(model, form)
        found.add(EagerBackend(model).identity)
    assert len(found) == 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = granite_tokenizer()
    small_model("llama", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_form_can_be_asked_for(dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_BACKEND", "eager")
    loaded = load_model(folder, device="cpu", dtype=dtype)
    assert loaded.form == dtype
    model = TransformersModel(folder, device="cpu", dtype=dtype).load()
    assert isinstance(model.engine.backend, EagerBackend)
    model.close()


def test_where_torch_is_not_asked_the_dtype_is_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AGENTKIT_BACKEND", "transformers")
    assert load_model(folder, device="cpu", dtype="int8").form in ("float32", "bfloat16")
    assert "dtype int8 cannot be had, as nothing but transformers runs Llama" in caplog.text


def test_fp8_is_not_for_cpus(folder: Path) -> None:
    with pytest.raises(UserError, match="dtype 'fp8' is not for cpu; use 'bfloat16'"):
        load_model(folder, device="cpu", dtype="fp8")
