"""Which form of weights is the fastest: measured once, remembered, and told."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from agentkit.engine import fastest
from agentkit.engine.fastest import allowed_forms, fastest_form, known_verdicts, measure_forms
from agentkit.engine.loading import load_model
from support import granite_tokenizer, small_model

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "forms"


@pytest.mark.parametrize("backend", ["", "eager"])
@pytest.mark.parametrize("kind", ["old_granite", "granite_hybrid"])
def test_every_form_is_measured(kind: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_BACKEND", backend)
    config = small_model(kind).config
    found = measure_forms(config, CPU, allowed_forms(CPU), parameters=1000)
    assert found.keys() == set(allowed_forms(CPU)) >= {"int8", "int4"}
    assert all(milliseconds > 0 for milliseconds in found.values())


def test_a_form_that_cannot_be_had_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(model: Any, form: str) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setenv("AGENTKIT_BACKEND", "eager")
    monkeypatch.setattr(fastest, "quantize_model", broken)
    config = small_model("llama").config
    assert list(measure_forms(config, CPU, ("float32", "int4"), parameters=1000)) == ["float32"]
    assert "weights in int4 cannot be had here: no kernel image" in caplog.text


class TestVerdicts:
    @pytest.fixture(autouse=True)
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Devices that were measured, of which int8 is the fastest."""
        asked: list[str] = []

        def measure(config: Any, device: torch.device, forms: Any) -> dict[str, float]:
            asked.append(device.type)
            return {"bfloat16": 3.0, "int8": 1.5, "int4": 2.0}

        monkeypatch.setattr(fastest, "measure_forms", measure)
        return asked

    def test_one_is_remembered_for_a_shape(
        self, measured: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        config = small_model("llama").config
        for _ in range(3):
            assert fastest_form(config, CPU, name="small") == "int8"
        assert measured == ["cpu"]
        assert "small decodes fastest in int8" in caplog.text
        assert [(v.model, v.form) for v in known_verdicts()] == [("small", "int8")]
        config.hidden_size *= 2
        fastest_form(config, CPU, name="large")
        assert measured == ["cpu", "cpu"]

    @pytest.mark.parametrize("content", ["", "[]", '{"form": "int8"}'])
    def test_a_damaged_one_is_measured_anew(
        self, content: str, cache: Path, measured: list[str]
    ) -> None:
        config = small_model("llama").config
        fastest_form(config, CPU, name="small")
        (file,) = cache.glob("*.json")
        file.write_text(content)
        assert known_verdicts() == []
        assert fastest_form(config, CPU, name="small") == "int8"
        assert json.loads(file.read_text())["form"] == "int8"
        assert len(measured) == 2

    def test_a_model_is_loaded_so(self, tmp_path: Path) -> None:
        tokenizer = granite_tokenizer()
        small_model("llama", len(tokenizer)).save_pretrained(tmp_path / "small")
        tokenizer.save_pretrained(tmp_path / "small")
        assert load_model(tmp_path / "small", device="cpu", dtype="fastest").form == "int8"
        assert known_verdicts()[0].model == "small"
