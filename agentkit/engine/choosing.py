"""Which backend runs a model: the compiled one, the hand-laid one, or transformers."""

from __future__ import annotations

import logging
import os
from typing import Any, Literal, cast, get_args

import torch

from agentkit.engine.backend import Backend, TransformersBackend
from agentkit.engine.eager.backend import EagerBackend
from agentkit.engine.native.backend import NativeBackend
from agentkit.engine.native.compiling import why_not
from agentkit.engine.native.library import library
from agentkit.engine.native.model import NativeModel, Unsupported, is_supported
from agentkit.errors import UserError

__all__ = ["BackendName", "expected_backend", "may_be_native", "named_backend", "pick_backend"]

BackendName = Literal["native", "eager", "transformers"]
"""``native``: compiled C. ``eager``: laid by hand in torch. ``transformers``: the model's own."""

_log = logging.getLogger(__name__)


def named_backend() -> BackendName | None:
    """The backend that the environment variable ``AGENTKIT_BACKEND`` names, if it does.

    Raises:
        UserError: There is none of that name.
    """
    named = os.environ.get("AGENTKIT_BACKEND", "").strip()
    known = get_args(BackendName)
    if named and named not in known:
        raise UserError(f"AGENTKIT_BACKEND is {named!r}; it must be one of {', '.join(known)}")
    return cast(BackendName, named) if named else None


def may_be_native(device: torch.device) -> bool:
    """Whether the native backend is to be tried on a device."""
    return device.type == "cpu" and named_backend() in (None, "native")


def expected_backend(device: torch.device) -> tuple[BackendName, str]:
    """The backend for models of a known architecture on a device.

    Returns:
        Its name, and the reason in words.

    Raises:
        UserError: Another was named that is not there, or none of that name.
    """
    named = named_backend()
    if named is not None:
        if named == "native" and (reason := _no_native(device)):
            raise UserError(f"AGENTKIT_BACKEND is 'native', but {reason}")
        return named, "AGENTKIT_BACKEND says so"
    reason = _no_native(device)
    if not reason:
        return "native", "compiled for this machine"
    if device.type in ("cpu", "cuda"):
        return "eager", reason
    return "transformers", f"nothing else was tried on {device.type}"


def pick_backend(model: Any) -> Backend:
    """The fastest way there is to run a model of transformers, or the one that is named.

    Raises:
        UserError: The one that is named cannot run it.
    """
    name, _ = expected_backend(next(model.parameters()).device)
    try:
        if name == "native":
            lib = library()
            assert lib is not None
            return NativeBackend(NativeModel(model), lib, prefill=TransformersBackend(model))
        if name == "eager":
            return EagerBackend(model)
    except Unsupported as reason:
        if named_backend() is not None:
            raise UserError(
                f"AGENTKIT_BACKEND is {name!r}, but it cannot run {type(model).__name__}: it has "
                f"{reason}"
            ) from reason
        # What native code does not know because of its weights alone, torch may.
        if name == "native" and is_supported(model):
            try:
                return EagerBackend(model)
            except Unsupported as second:
                reason = second
        _log.info("%s goes through transformers: it has %s", type(model).__name__, reason)
    return TransformersBackend(model)


def _no_native(device: torch.device) -> str:
    """Why there is no native backend; empty if there is."""
    if device.type != "cpu":
        return f"compiled code is for CPUs, and this is {device.type}"
    return "" if library() is not None else why_not()
