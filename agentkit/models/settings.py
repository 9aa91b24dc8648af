"""What a model's folder says about how agentkit should run it: ``agentkit.json``.

    {"call_bias": -2.0}

The file lies beside ``config.json``. It is for what belongs to the weights and to no format that
others read: a model that was taught to call tools may do so too readily, by a known amount.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from agentkit.errors import ModelLoadError

__all__ = ["SETTINGS_FILE", "ModelSettings", "read_settings"]

SETTINGS_FILE = "agentkit.json"
"""The file's name."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The settings of one model."""

    call_bias: float = 0.0
    """Added to the logit of the token that begins a tool call, where a turn begins and the model
    may choose (``tool_choice="auto"``): below zero it calls less readily."""


def read_settings(folder: Path) -> ModelSettings:
    """The settings in a model's folder; the defaults where it has none.

    Raises:
        ModelLoadError: The file is not readable, or holds something else.
    """
    path = folder / SETTINGS_FILE
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return ModelSettings()
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    known = ", ".join(ModelSettings.__dataclass_fields__)
    if not isinstance(found, dict) or set(found) - set(ModelSettings.__dataclass_fields__):
        raise ModelLoadError(f"{path} holds {found!r}; it should be an object with {known}")
    bias = found.get("call_bias", 0.0)
    if isinstance(bias, bool) or not isinstance(bias, int | float) or not math.isfinite(bias):
        raise ModelLoadError(f"{path}: call_bias is {bias!r}; it must be a number, such as -2.0")
    return ModelSettings(call_bias=float(bias))
