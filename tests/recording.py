"""What stands for CUDA graphs on a machine without a GPU, and is as particular as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Recorder"]


class _Operations(TorchDispatchMode):
    """Notes each operation, with the memory that it reads and that was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int, tuple[int, ...]]] = []
        self._made: dict[int, torch.Tensor] = {}  # kept, so that no address comes twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        if "_local_scalar_dense" in name or "nonzero" in name:
            raise RuntimeError(f"{name} asks the device for a value")
        result = func(*args, **(kwargs or {}))
        read = {_address(t) for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        written = [t for t in tree_leaves(result) if torch.is_tensor(t)]
        outside = tuple(sorted(read - self._made.keys()))
        self._made |= {_address(t): t for t in written if _address(t) not in read}
        self.seen.append((name, sum(t.numel() for t in written), outside))
        return result


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Recorder:
    """Runs a step once to record it, and again at each replay.

    A replay must do the very operations that were recorded, on tensors of the same sizes and at
    the same places, and nothing that would make the device wait for Python.
    """

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        self.recorded += 1
        step()  # as before a recording, when nothing may be written to anyone's cache
        with _Operations() as first:
            result = step()
        result = result.clone()

        def replay() -> torch.Tensor:
            self.replayed += 1
            with _Operations() as again:
                found = step()
            assert len(again.seen) == len(first.seen)
            for now, then in zip(again.seen, first.seen, strict=True):
                assert now == then
            return result.copy_(found)  # to the same place each time

        return replay
