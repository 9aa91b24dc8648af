"""A causal language model of transformers, run inside this process."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.engine.job import Job
from agentkit.errors import ModelError, UserError
from agentkit.models.base import ModelEvent, ModelRequest
from agentkit.models.defaults import default_model_name
from agentkit.models.embedded import EMBEDDED_MODELS, prepare_embedded_model

if TYPE_CHECKING:
    from agentkit.chat_format import PromptFormat
    from agentkit.engine.engine import InferenceEngine
    from agentkit.engine.scheduler import Scheduler

__all__ = ["TransformersModel"]

DEFAULT_CACHE_BYTES = 2 << 30
"""What the KV caches of past conversations may occupy, unless said otherwise: 2 GiB."""

DEFAULT_PREFIX_BYTES = 1 << 30
"""What stored prompt beginnings may occupy on the disk, unless said otherwise: 1 GiB."""

DEFAULT_MAX_BATCH = 16
"""Turns that are written at once, unless said otherwise."""


class TransformersModel:
    """Any causal language model, loaded on first use and kept in this process.

    Turns are written side by side, token by token, in a thread of the model's own; the event
    loop stays free. Any number of tasks, event loops and threads may ask at once.

    Args:
        name_or_path: A hub id such as ``ibm-granite/granite-4.0-1b``, a folder in transformers'
            form, a ``.gguf`` file, or ``embedded``. If not given, see
            :func:`agentkit.models.defaults.default_model_name`.
        device: ``cuda``, ``cpu`` or ``mps``; the best there is if not given.
        dtype: ``bfloat16``, ``float16``, ``float32``, or ``int8`` or ``int4`` for packed weights
            (and ``fp8`` on cards that have it); what loses nothing and is fast on the device if
            not given. ``fastest`` measures once which form decodes fastest, loss or not.
        chat_format: How conversations become prompts; found from the tokenizer if not given.
        cache_bytes: What the KV caches of past conversations may occupy, in bytes.
        revision: Branch, tag or commit of a hub model.
        max_batch: Turns that are written at once; more wait, first come, first served.
        batch_bytes: What the KV caches of turns at work may occupy together, in bytes; half of
            the memory that is free once the model is loaded, if not given. A turn waits until
            there is room for its prompt and all the tokens that it may write.
        lookup: Guess what comes next where the last tokens have stood before, in prompt or
            answer, and check the guess in the same pass: faster where answers quote, and the
            answers are the same.
        prefix_dir: Folder for what the model has made of system texts and tools, so that a new
            process need not read them again; ``cache_dir() / "prefixes"`` is a good place. Not
            kept if not given: the files are large, and show what the prompts were.
        prefix_bytes: What the files in that folder may occupy, in bytes.
        call_bias: Added to the logit of the token that begins a tool call, where a turn begins
            and ``tool_choice`` is ``auto``. Below zero the model calls less readily, above zero
            more. If not given, what the model's folder says (``agentkit.json``), or nothing.
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
        max_batch: int = DEFAULT_MAX_BATCH,
        batch_bytes: int | None = None,
        lookup: bool = True,
        prefix_dir: str | Path | None = None,
        prefix_bytes: int = DEFAULT_PREFIX_BYTES,
        call_bias: float | None = None,
    ) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; it must be at least 1")
        if call_bias is not None and not math.isfinite(call_bias):
            raise UserError(f"call_bias is {call_bias}; it must be a finite number, such as -2.0")
        self._source = str(name_or_path) if name_or_path is not None else default_model_name()
        self._options = {"device": device, "dtype": dtype, "revision": revision}
        self._chat_format = chat_format
        self._cache_bytes = cache_bytes
        self._max_batch = max_batch
        self._batch_bytes = batch_bytes
        self._lookup = lookup
        self._prefix_dir = prefix_dir
        self._prefix_bytes = prefix_bytes
        self._call_bias = call_bias
        self._engine: InferenceEngine | None = None
        self._scheduler: Scheduler | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="agentkit-model")
        self._state = threading.Condition()  # guards the three below
        self._inbox: list[Job] = []  # asked for, and not looked at yet
        self._pumping = False  # the model's thread is at work, or about to be
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
        max_batch: int = DEFAULT_MAX_BATCH,
        batch_bytes: int | None = None,
        lookup: bool = True,
        prefix_dir: str | Path | None = None,
        prefix_bytes: int = DEFAULT_PREFIX_BYTES,
        call_bias: float | None = None,
    ) -> TransformersModel:
        """Wrap a transformers model and its fast tokenizer that are in memory already.

        The other arguments are those of the class.
        """
        from agentkit.engine.loading import LoadedModel

        wrapped = cls(
            name,
            chat_format=chat_format,
            cache_bytes=cache_bytes,
            max_batch=max_batch,
            batch_bytes=batch_bytes,
            lookup=lookup,
            prefix_dir=prefix_dir,
            prefix_bytes=prefix_bytes,
            call_bias=call_bias,
        )
        parameter = next(model.parameters())
        form = str(parameter.dtype).removeprefix("torch.")
        loaded = LoadedModel(model.eval(), tokenizer, parameter.device, parameter.dtype, form)
        wrapped._use(wrapped._make_engine(loaded))
        return wrapped

    @property
    def name(self) -> str:
        """What the model is called."""
        return EMBEDDED_MODELS.get(self._source, self._source)

    @property
    def max_batch(self) -> int:
        """Turns that are written at once."""
        return self._max_batch

    @property
    def engine(self) -> InferenceEngine:
        """The engine that runs the model; loads it if need be."""
        self._check_open()
        return self._engine or self._executor.submit(self._load).result()

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
            ContextLengthError: The prompt does not fit the context window, or the memory for
                turns at work.
        """
        job = Job(request)
        self._submit(job)
        try:
            while (events := await job.arrived()) is not None:
                for event in events:
                    yield event
        finally:
            # Nothing may go on behind the caller's back: at most one forward pass is waited for.
            job.cancelled.set()
            if not job.done.done() and not self._withdraw(job):
                await asyncio.shield(asyncio.wrap_future(job.done))

    async def aclose(self) -> None:
        """Wait for the turns asked for so far, then free the model and its caches."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As :meth:`aclose`, for programs without an event loop."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            self._state.wait_for(lambda: not self._pumping)
        self._executor.submit(self._unload).result()
        self._executor.shutdown()

    def _submit(self, job: Job) -> None:
        with self._state:
            self._check_open()
            self._inbox.append(job)
            if not self._pumping:
                self._pumping = True
                self._executor.submit(self._pump)

    def _withdraw(self, job: Job) -> bool:
        """Take a job back that the model's thread has not looked at yet."""
        with self._state:
            if job in self._inbox:
                self._inbox.remove(job)
                return True
        return False

    def _pump(self) -> None:
        """In the model's thread: one step of all turns, then come back for the next.

        Between steps other work of the thread gets its turn.
        """
        try:
            self._load()
        except BaseException as error:
            with self._state:
                failed = self._inbox[:1]
                del self._inbox[:1]
            for job in failed:
                job.finish(error)
        else:
            self._step()
        with self._state:
            if self._inbox or (self._scheduler is not None and self._scheduler.busy):
                try:
                    self._executor.submit(self._pump)
                    return
                except RuntimeError:  # The interpreter is shutting down.
                    self._give_up(ModelError("the program ended before the model's turn did"))
            self._pumping = False
            self._state.notify_all()

    def _step(self) -> None:
        assert self._scheduler is not None
        with self._state:
            arrived, self._inbox = self._inbox, []
        self._scheduler.add(arrived)
        try:
            self._scheduler.step()
            if not self._scheduler.busy:
                self._scheduler.tidy()
        except BaseException as error:  # A mistake of ours; those who wait must hear of it.
            self._scheduler.stop(error)

    def _give_up(self, error: BaseException) -> None:
        for job in self._inbox:
            job.finish(error)
        self._inbox.clear()
        if self._scheduler is not None:
            self._scheduler.stop(error)

    def _load(self) -> InferenceEngine:
        if self._engine is None:
            from agentkit.engine.loading import load_model

            source = self._source
            if source in EMBEDDED_MODELS:
                source = str(prepare_embedded_model(source))
            self._use(self._make_engine(load_model(source, **self._options)))
        assert self._engine is not None
        return self._engine

    def _use(self, engine: InferenceEngine) -> None:
        from agentkit.engine.scheduler import Scheduler

        self._scheduler = Scheduler(engine, max_batch=self._max_batch)
        self._engine = engine

    def _make_engine(self, loaded: Any) -> InferenceEngine:
        from agentkit.engine.engine import InferenceEngine, free_memory
        from agentkit.tokenizer_template import pick_format, warn_of_differences

        chat_format = self._chat_format or pick_format(loaded.tokenizer)
        warn_of_differences(loaded.tokenizer, chat_format, model=self.name)
        engine = InferenceEngine(
            loaded,
            chat_format,
            cache_bytes=self._cache_bytes,
            batch_bytes=self._batch_bytes or free_memory(loaded.device) // 2,
            lookup=self._lookup,
            call_bias=self._call_bias,
        )
        if self._prefix_dir is not None:
            engine.keep_prefixes(self._prefix_dir, max_bytes=self._prefix_bytes)
        return engine

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = self._scheduler = None

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"model {self.name!r} is closed; make a new TransformersModel")
