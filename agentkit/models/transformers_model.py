"""A causal language model of transformers, run inside this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.errors import ModelError
from agentkit.models.base import ModelEvent, ModelRequest
from agentkit.models.defaults import default_model_name
from agentkit.models.embedded import EMBEDDED_MODEL, prepare_embedded_model

if TYPE_CHECKING:
    from agentkit.chat_format import PromptFormat
    from agentkit.engine.engine import InferenceEngine

__all__ = ["TransformersModel"]

DEFAULT_CACHE_BYTES = 2 << 30
"""What the KV caches of past conversations may occupy, unless said otherwise: 2 GiB."""


class TransformersModel:
    """Any causal language model, loaded on first use and kept in this process.

    Turns are written one at a time, in a thread of the model's own; the event loop stays free.

    Args:
        name_or_path: A hub id such as ``ibm-granite/granite-4.0-1b``, a folder in transformers'
            form, a ``.gguf`` file, or ``embedded``. If not given, see
            :func:`agentkit.models.defaults.default_model_name`.
        device: ``cuda``, ``cpu`` or ``mps``; the best there is if not given.
        dtype: ``bfloat16``, ``float16`` or ``float32``; the fastest for the device if not given.
        chat_format: How conversations become prompts; found from the tokenizer if not given.
        cache_bytes: What the KV caches of past conversations may occupy, in bytes.
        revision: Branch, tag or commit of a hub model.
    """

    def __init__(
        self,
        name_or_path: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        chat_format: PromptFormat | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        revision: str | None = None,
    ) -> None:
        self._source = str(name_or_path) if name_or_path is not None else default_model_name()
        self._options = {"device": device, "dtype": dtype, "revision": revision}
        self._chat_format = chat_format
        self._cache_bytes = cache_bytes
        self._engine: InferenceEngine | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="agentkit-model")
        self._closed = False

    @classmethod
    def from_loaded(
        cls,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "loaded",
        chat_format: PromptFormat | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> TransformersModel:
        """Wrap a transformers model and its fast tokenizer that are in memory already."""
        from agentkit.engine.loading import LoadedModel

        wrapped = cls(name, chat_format=chat_format, cache_bytes=cache_bytes)
        parameter = next(model.parameters())
        loaded = LoadedModel(model.eval(), tokenizer, parameter.device, parameter.dtype)
        wrapped._engine = wrapped._make_engine(loaded)
        return wrapped

    @property
    def name(self) -> str:
        """What the model is called."""
        return EMBEDDED_MODEL if self._source == "embedded" else self._source

    @property
    def engine(self) -> InferenceEngine:
        """The engine that runs the model; loads it if need be."""
        self._check_open()
        return self._executor.submit(self._load).result()

    def load(self) -> TransformersModel:
        """Load the model now rather than at the first turn.

        Returns:
            The model itself.

        Raises:
            ModelLoadError: It cannot be found or read.
        """
        _ = self.engine
        return self

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Write one turn; see :meth:`agentkit.models.base.Model.stream`.

        Raises:
            ModelLoadError: The model cannot be loaded.
            ContextLengthError: The prompt does not fit the context window.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[ModelEvent | BaseException | None] = asyncio.Queue()
        cancelled = threading.Event()

        def put(item: ModelEvent | BaseException | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, item)

        asked = time.perf_counter()
        work = self._executor.submit(self._work, request, cancelled, put, asked)
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            # Nothing may go on behind the caller's back: at most one forward pass is waited for.
            cancelled.set()
            if not work.cancel():
                await asyncio.shield(asyncio.wrap_future(work))

    async def aclose(self) -> None:
        """Wait for the turn at work, then free the model and its caches."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As :meth:`aclose`, for programs without an event loop."""
        if not self._closed:
            self._closed = True
            self._executor.submit(self._unload).result()
            self._executor.shutdown()

    def _work(
        self,
        request: ModelRequest,
        cancelled: threading.Event,
        put: Callable[[ModelEvent | BaseException | None], None],
        asked: float,
    ) -> None:
        """In the model's thread: write a turn and hand its events over."""
        from agentkit.engine.decoding import Turn
        from agentkit.engine.engine import Cancelled

        try:
            if cancelled.is_set():
                return
            queued = time.perf_counter() - asked
            for event in Turn(self._load(), request, cancelled=cancelled, queued=queued).run():
                put(event)
        except Cancelled:
            pass
        except BaseException as error:
            put(error)
        finally:
            put(None)

    def _load(self) -> InferenceEngine:
        if self._engine is None:
            from agentkit.engine.loading import load_model

            source = self._source
            if source == "embedded":
                source = str(prepare_embedded_model())
            self._engine = self._make_engine(load_model(source, **self._options))
        return self._engine

    def _make_engine(self, loaded: Any) -> InferenceEngine:
        from agentkit.engine.engine import InferenceEngine
        from agentkit.tokenizer_template import pick_format, warn_of_differences

        chat_format = self._chat_format or pick_format(loaded.tokenizer)
        warn_of_differences(loaded.tokenizer, chat_format, model=self.name)
        return InferenceEngine(loaded, chat_format, cache_bytes=self._cache_bytes)

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"model {self.name!r} is closed; make a new TransformersModel")
