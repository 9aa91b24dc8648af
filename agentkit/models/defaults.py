"""Which model an agent runs on when its program does not say, and names that stand for models."""

from __future__ import annotations

import os
from pathlib import Path

from agentkit.models.embedded import embedded_gguf, embedded_model_is_ready

__all__ = [
    "GRANITE_MODELS",
    "MODEL_VARIABLE",
    "cached_granite",
    "default_model_name",
    "hub_is_offline",
    "names_a_path",
]

MODEL_VARIABLE = "AGENTKIT_MODEL"
"""Environment variable that names the default model."""

GRANITE_MODELS = (
    "ibm-granite/granite-4.0-1b",
    "ibm-granite/granite-4.0-h-1b",
    "ibm-granite/granite-4.0-350m",
    "ibm-granite/granite-4.0-h-350m",
)
"""The Granite 4.0 Nano models, in the order in which a cached one is preferred."""


def default_model_name() -> str:
    """The model to use where none is named.

    In this order: what ``AGENTKIT_MODEL`` names; a Granite 4.0 Nano model that the hub's cache
    holds already; ``embedded``, if its package is installed; Granite 4.0 1b from the hub.
    """
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        return named
    for name in GRANITE_MODELS:
        if cached_granite(name) is not None:
            return name
    if embedded_gguf() is not None or embedded_model_is_ready():
        return "embedded"
    return GRANITE_MODELS[0]


def cached_granite(name: str) -> Path | None:
    """Where the hub's cache holds a model's weights, or None if it does not."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "model.safetensors.index.json"):
        try:
            found = try_to_load_from_cache(name, file)
        except ValueError:  # no name that the hub could have, such as a path
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def hub_is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` holds the hub's client to its cache."""
    return os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")


def names_a_path(name: str) -> bool:
    """Whether a model's name stands for a place on this machine rather than for a hub id."""
    return (
        Path(name).expanduser().exists()
        or name.endswith(".gguf")
        or name[0] in "./~"
        or name.count("/") > 1
    )
