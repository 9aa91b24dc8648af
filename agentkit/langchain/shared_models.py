"""One loaded model for all chat models of a process that ask for the same."""

from __future__ import annotations

import threading
from typing import Any

from agentkit.models.defaults import default_model_name
from agentkit.models.transformers_model import TransformersModel

__all__ = ["close_shared_model", "shared_model"]

_models: dict[tuple[Any, ...], TransformersModel] = {}
_lock = threading.Lock()


def shared_model(name: str | None, **options: Any) -> TransformersModel:
    """The process's model of this name and these options; it is loaded on first use.

    Args:
        name: As :class:`agentkit.TransformersModel` takes it; ``None`` for the default.
        **options: As :class:`agentkit.TransformersModel` takes them.
    """
    name = name or default_model_name()
    with _lock:
        key = _key(name, options)
        if key not in _models:
            _models[key] = TransformersModel(name, **options)
        return _models[key]


def close_shared_model(name: str | None, **options: Any) -> None:
    """Free a model. Asked for again, it is loaded anew."""
    with _lock:
        model = _models.pop(_key(name or default_model_name(), options), None)
    if model is not None:
        model.close()


def _key(name: str, options: dict[str, Any]) -> tuple[Any, ...]:
    return (name, *sorted(options.items()))
