"""From what users write to a model: a hub id, a path, ``embedded``, or a server's address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agentkit.models.defaults import default_model_name

if TYPE_CHECKING:
    from agentkit.models.transformers_model import TransformersModel
    from agentkit.remote.model import OpenAIModel

__all__ = ["is_address", "named_model"]


def is_address(name: str) -> bool:
    """Whether a name is the address of a server."""
    return name.startswith(("http://", "https://"))


def named_model(name: str | Path | None = None) -> TransformersModel | OpenAIModel:
    """The model that a name stands for.

    Args:
        name: What :class:`agentkit.TransformersModel` takes, or an address such as
            ``http://localhost:8000/v1#model`` for :class:`agentkit.OpenAIModel`. If not given,
            the default model.
    """
    if name is None:
        name = default_model_name()
    if is_address(str(name)):
        from agentkit.remote.model import OpenAIModel

        return OpenAIModel(str(name))
    from agentkit.models.transformers_model import TransformersModel

    return TransformersModel(name)
