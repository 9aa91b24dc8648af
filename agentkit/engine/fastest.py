"""Which form of weights decodes fastest on this machine: measured once, then remembered.

Half the bytes are not always half the time: what a matrix in four bits saves in memory it costs in
unpacking. What is measured is a model of the same shape with made-up weights, of as many layers as
no processor cache holds, so that nothing large is loaded for it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from agentkit.cache_dir import cache_dir
from agentkit.engine.backend import Backend, Row
from agentkit.engine.choosing import expected_backend, pick_backend
from agentkit.engine.eager.model import quantize_model
from agentkit.engine.eager.weights import TorchForm
from agentkit.engine.kv_cache import KVCache
from agentkit.engine.native.weights import WeightForm, pack_model

__all__ = ["Verdict", "allowed_forms", "fastest_form", "known_verdicts", "measure_forms"]

_log = logging.getLogger(__name__)

_PARAMETERS = 160_000_000
"""Of the layers that are measured, at least: no processor's cache holds them in four bits."""
_ROUNDS, _TOKENS, _PROMPT = 5, 6, 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found for a model's shape on a machine."""

    model: str
    """Whose shape it was first measured for."""
    device: str
    """The processor or card."""
    form: str
    """The fastest."""
    milliseconds: dict[str, float]
    """For a token of the part of the model that was measured, by form."""


def fastest_form(config: Any, device: torch.device, *, name: str) -> str:
    """The form of weights in which a model decodes fastest.

    Args:
        config: The model's configuration of transformers.
        device: Where it is to run.
        name: What to call it.
    """
    file = _folder() / f"{_key(config, device)}.json"
    try:
        verdict = Verdict(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        verdict = None
    except (OSError, ValueError, TypeError) as error:
        _log.warning("the verdict in %s cannot be read (%s); measuring anew", file, error)
        verdict = None
    if verdict is None:
        found = measure_forms(config, device, allowed_forms(device))
        form = min(found, key=lambda one: found[one])
        verdict = Verdict(name, _device_name(device), form, found)
        _write(file, verdict)
    _log.info(
        "%s decodes fastest in %s on %s (%s)",
        name,
        verdict.form,
        verdict.device,
        ", ".join(f"{form} {ms:.2f} ms" for form, ms in verdict.milliseconds.items()),
    )
    return verdict.form


def known_verdicts() -> list[Verdict]:
    """What was measured on this machine so far."""
    found = []
    for file in sorted(_folder().glob("*.json")):
        try:
            found.append(Verdict(**json.loads(file.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return found


def allowed_forms(device: torch.device) -> tuple[str, ...]:
    """Forms that the backend for a device has, the most exact first."""
    name, _ = expected_backend(device)
    if name == "native":
        return ("bfloat16", "int8", "int4")
    slow = device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    plain = "float32" if slow else "bfloat16"
    if name != "eager":
        return (plain,)
    fp8 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)
    return (plain, "int8", "int4", *(("fp8",) if fp8 else ()))


def measure_forms(
    config: Any, device: torch.device, forms: Sequence[str], *, parameters: int = _PARAMETERS
) -> dict[str, float]:
    """Decode a few tokens in each form, by turns.

    Args:
        config: A model's configuration of transformers.
        device: Where to run it.
        forms: The forms.
        parameters: How many the measured layers must have together, as far as there are layers.

    Returns:
        Milliseconds a token for each form that could be had.
    """
    sample = _sample(config, parameters)
    ready: dict[str, tuple[Backend, KVCache]] = {}
    for form in forms:
        try:
            backend = _backend(sample, form, device)
            cache = KVCache(sample.config)
            backend.forward([Row(cache, [1] * _PROMPT)])
            for _ in range(_TOKENS):  # also records what is to be replayed
                backend.forward([Row(cache, [1])])
        except (RuntimeError, NotImplementedError) as error:
            _log.warning("weights in %s cannot be had here: %s", form, error)
            continue
        ready[form] = backend, cache
    times: dict[str, list[float]] = {form: [] for form in ready}
    for _ in range(_ROUNDS):
        for form, (backend, cache) in ready.items():
            begin = time.perf_counter()
            for _ in range(_TOKENS):
                logits = backend.forward([Row(cache, [1])])[0]
            float(logits[0, 0])  # a GPU is waited for
            times[form].append(1000 * (time.perf_counter() - begin) / _TOKENS)
    return {form: statistics.median(found) for form, found in times.items()}


def _sample(config: Any, parameters: int) -> Any:
    """A model of the shape with fewer layers, in bfloat16 on the CPU."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    layers = whole.model.layers
    each = sum(p.numel() for p in layers.parameters()) / len(layers)
    count = min(len(layers), max(2, int(parameters / each) + 1))
    del layers[count:]
    config = whole.config
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    model = whole.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01)
    model.tie_weights()
    return model.eval()


def _backend(sample: Any, form: str, device: torch.device) -> Backend:
    model = copy.deepcopy(sample)
    if device.type == "cpu" and expected_backend(device)[0] == "native":
        pack_model(model, cast(WeightForm, form))
        return pick_backend(model)
    on_cpu = device.type == "cpu"
    plain = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    computed = plain.get(form) or plain[allowed_forms(device)[0] if on_cpu else "bfloat16"]
    model = model.to(device=device, dtype=computed)
    if form not in plain:
        quantize_model(model, cast(TorchForm, form))
    return pick_backend(model)


def _key(config: Any, device: torch.device) -> str:
    text = [config.to_json_string(use_diff=False), _device_name(device), torch.__version__]
    text += [str(torch.get_num_threads()), expected_backend(device)[0]]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:24]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        processor = next(names, processor)
    except OSError:
        pass
    return f"{processor}, {os.cpu_count()} CPUs"


def _folder() -> Path:
    return cache_dir() / "forms"


def _write(file: Path, verdict: Verdict) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as work:
            made = Path(work) / file.name
            made.write_text(json.dumps(asdict(verdict), indent=1), encoding="utf-8")
            made.replace(file)
    except OSError as error:
        _log.warning("the fastest form of weights could not be remembered: %s", error)
