"""Finding and loading a model: hub id, local folder or GGUF file; device and dtype."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from agentkit.engine.choosing import expected_backend, may_be_native
from agentkit.engine.eager.model import quantize_model
from agentkit.engine.eager.weights import TorchForm
from agentkit.engine.native.compiling import why_not
from agentkit.engine.native.library import library
from agentkit.engine.native.model import is_supported
from agentkit.engine.native.weights import WeightForm, load_packed, pack_model
from agentkit.errors import ModelLoadError, UserError
from agentkit.models.defaults import hub_is_offline
from agentkit.models.settings import ModelSettings, read_settings

__all__ = ["LoadedModel", "load_model", "packed_file", "pick_device", "pick_dtype"]

_log = logging.getLogger(__name__)

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_PACKED: tuple[WeightForm, ...] = ("int8", "int4")
_DEVICES = ("cpu", "cuda")
_QUANTISED = (*_PACKED, "fp8")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model with its tokenizer, ready to run."""

    model: Any
    """The transformers model, in evaluation mode on its device."""
    tokenizer: Any
    """Its fast tokenizer."""
    device: torch.device
    """Where it is."""
    dtype: torch.dtype
    """The type it computes in, which is also its KV cache's."""
    form: str = "float32"
    """How its weights are held: ``float32``, ``bfloat16``, ``float16``, ``int8``, ``int4``,
    ``fp8``."""
    settings: ModelSettings = field(default_factory=ModelSettings)
    """What its folder says about how to run it."""


def packed_file(form: WeightForm) -> str:
    """In a model's folder: its weights in a form that loses nothing of those beside them."""
    return f"packed-{form}.safetensors"


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device to use: the one named, or CUDA, or Apple's GPU, or the CPU.

    Raises:
        UserError: The name is unknown, or the device is not there.
    """
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device {device!r} is not known; use 'cpu', 'cuda' or 'mps'") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch finds no CUDA GPU; use 'cpu'")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' was asked for, but it is not available; use 'cpu'")
    return chosen


def pick_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype to use: the one named, or the fastest that the device computes well.

    On a CPU bfloat16 pays only with AVX-512 or better: without it a matrix product in bfloat16
    takes several times as long as in float32.

    ``int8``, ``int4`` and ``fp8`` say how weights are held; what is computed in goes by the
    device.

    Raises:
        UserError: The name is unknown.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is not None and dtype != "auto" and dtype not in _QUANTISED:
        if dtype not in _DTYPES:
            known = ", ".join((*_DTYPES, *_QUANTISED, "fastest"))
            raise UserError(f"dtype {dtype!r} is not known; use one of {known}")
        return _DTYPES[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    fast = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.bfloat16 if fast else torch.float32


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
) -> LoadedModel:
    """Load a causal language model into this process.

    On a CPU, where the native library serves, weights are held as they are stored and unpacked
    as they are used: ``bfloat16`` for most models of the hub, ``int8`` for the embedded one.
    Activations are float32 then, and nothing is lost. ``int8`` and ``int4`` can be asked for by
    name, which rounds the weights further; so they can be, and ``fp8``, where torch's own kernels
    have them (:mod:`agentkit.engine.eager.weights`), which also round activations.

    Args:
        name_or_path: A hub id, a folder in transformers' form, or a ``.gguf`` file.
        device: ``cuda``, ``cpu``, ``mps``; the best there is if not given.
        dtype: ``bfloat16``, ``float16``, ``float32``, ``int8``, ``int4``, ``fp8``; what loses
            nothing and is fast on the device if not given. ``fastest`` takes the form that
            decodes fastest, also one that loses something (:mod:`agentkit.engine.fastest`).
        revision: Branch, tag or commit, for hub ids.

    Raises:
        UserError: The dtype is unknown, or cannot be had on the device.
        ModelLoadError: The model is not there, or cannot be read.
    """
    target = pick_device(device)
    if dtype == "fastest":
        dtype = _fastest(name_or_path, revision, target)
    computed = pick_dtype(dtype, target)
    if dtype in _QUANTISED and target.type not in (("cuda",) if dtype == "fp8" else _DEVICES):
        raise UserError(
            f"dtype {dtype!r} is not for {target.type}; use 'bfloat16', 'float16' or 'float32'"
        )
    # The library is compiled, where that has not been done yet, while the model is read.
    native = may_be_native(target) and computed != torch.float16
    with ThreadPoolExecutor(1) as pool:
        compiled = pool.submit(library) if native else None
        as_stored = native and dtype not in (torch.float32, "float32")
        source, options = _source(str(name_or_path), revision)
        settings = read_settings(Path(source))
        model, tokenizer = _read(name_or_path, source, options, "auto" if as_stored else computed)
        served = compiled is not None and compiled.result() is not None
        form = _pick_form(model, source, dtype) if as_stored and served else None
    if form is not None:
        file = Path(source) / packed_file(form)
        ready = load_packed(file) if file.is_file() else None
        pack_model(model, form, ready=ready)
        return LoadedModel(model.eval(), tokenizer, target, torch.float32, form, settings)
    model = model.to(device=target, dtype=computed).eval()
    if dtype in _QUANTISED:
        if expected_backend(target)[0] == "eager" and is_supported(model):
            quantize_model(model, cast(TorchForm, dtype))
            return LoadedModel(model, tokenizer, target, computed, str(dtype), settings)
        reason = why_not() or f"nothing but transformers runs {type(model).__name__} here"
        _log.warning("dtype %s cannot be had, as %s; using %s", dtype, reason, computed)
    held = str(computed).removeprefix("torch.")
    return LoadedModel(model, tokenizer, target, computed, held, settings)


def _fastest(name: str | Path, revision: str | None, device: torch.device) -> str:
    source, options = _source(str(name), revision)
    with quiet_transformers():
        from transformers import AutoConfig

        from agentkit.engine.fastest import fastest_form

        try:
            config = AutoConfig.from_pretrained(source, **options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelLoadError(_explain(str(name), error)) from error
        return fastest_form(config, device, name=Path(name).name)


def _pick_form(model: Any, source: str, dtype: str | torch.dtype | None) -> WeightForm | None:
    """How to hold the weights natively; None to leave them to torch."""
    if dtype in ("int8", "int4", "bfloat16"):
        return cast(WeightForm, dtype)
    if dtype is torch.bfloat16:
        return "bfloat16"
    if not is_supported(model):
        return None
    for form in _PACKED:
        if (Path(source) / packed_file(form)).is_file():
            return form
    return "bfloat16" if model.dtype is torch.bfloat16 else None


def _read(
    name: str | Path, source: str, options: dict[str, Any], dtype: torch.dtype | str
) -> tuple[Any, Any]:
    with quiet_transformers():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelLoadError(_explain(str(name), error)) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelLoadError(
            f"model {name!s} has no fast tokenizer (tokenizer.json), which is needed for "
            "exact incremental decoding and grammars"
        )
    return model, tokenizer


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal for a while."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _source(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise ModelLoadError(f"there is no GGUF file {path}")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelLoadError(
                f"folder {path} holds no model: config.json is missing. Give a folder written by "
                "save_pretrained, a .gguf file or a hub id"
            )
        return str(path), {}
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelLoadError(f"there is no model folder {path}")
    return name, {"revision": revision} if revision else {}


def _explain(name: str, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    hint = (
        "HF_HUB_OFFLINE is set, so only models in the local cache can be used"
        if hub_is_offline()
        else "check the name, the network, and that there is room on the disk"
    )
    return f"model {name!r} could not be loaded: {first_line} ({hint})"
