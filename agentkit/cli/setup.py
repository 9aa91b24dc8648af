"""From command-line options to an agent that is ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentkit.cli.progress import indexing_progress
from agentkit.cli.tool_loading import load_tools
from agentkit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.agent import Agent
    from agentkit.cli.options import AgentOptions
    from agentkit.models.transformers_model import TransformersModel
    from agentkit.remote.model import OpenAIModel
    from agentkit_retrievers import HybridRetriever

__all__ = ["check_folder", "load_model", "open_agent", "open_documents"]

# What a model needs; some repositories hold the same weights in other forms besides.
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


@contextmanager
def open_agent(options: AgentOptions, notes: Console) -> Iterator[Agent]:
    """The agent that the options describe, its model loaded; closed at the end.

    Everything that the user may have got wrong is looked at before the model is loaded.

    Args:
        options: Of the command line.
        notes: Where progress is shown.
    """
    from agentkit.agent import Agent
    from agentkit.limits import Limits
    from agentkit.models.base import Sampling
    from agentkit.models.naming import named_model

    tools = load_tools(options.tools)
    sampling = Sampling(temperature=options.temperature, seed=options.seed)
    if options.max_tokens is not None:
        sampling = replace(sampling, max_tokens=options.max_tokens)
    retriever = open_documents(options.docs, notes) if options.docs is not None else None
    model = named_model(options.model)
    agent = Agent(
        model,
        tools,
        retriever=retriever,
        retrieval=options.retrieval,
        top_k=options.top_k,
        system=options.system,
        limits=Limits(max_steps=options.max_steps),
        sampling=sampling,
        tool_choice=options.tool_choice,
    )
    try:
        load_model(model, notes)
        yield agent
    finally:
        model.close()


def open_documents(folder: Path, notes: Console) -> HybridRetriever:
    """A retriever over a folder: loaded if it is a saved index, else made in memory.

    Raises:
        UserError: There is no such folder.
        RetrievalError: It holds no text, or a damaged index.
    """
    check_folder(folder, "--docs")
    with notes.status("Opening the documents"):
        from agentkit_retrievers import FaissRetriever, HybridRetriever
        from agentkit_retrievers.storage import holds_index

    if holds_index(folder):
        return HybridRetriever.from_dense(FaissRetriever.load(folder))
    with indexing_progress(notes) as progress:
        return HybridRetriever.from_folder(folder, progress=progress)


def check_folder(folder: Path, what: str) -> None:
    """Refuse what is not a folder.

    Args:
        folder: To look at.
        what: What to call it in the error.

    Raises:
        UserError: It is missing, or a file.
    """
    if not folder.exists():
        raise UserError(f"{what}: there is no folder {folder}")
    if not folder.is_dir():
        raise UserError(f"{what}: {folder} is a file; give the folder that it is in")


def load_model(model: TransformersModel | OpenAIModel, notes: Console) -> None:
    """Have a model of this process ready; one behind a server is.

    Args:
        model: To load.
        notes: Where progress is shown.
    """
    from agentkit.remote.model import OpenAIModel

    if isinstance(model, OpenAIModel):
        return
    from agentkit.models.embedded import (
        EMBEDDED_MODELS,
        embedded_model_is_ready,
        prepare_embedded_model,
    )

    for name, called in EMBEDDED_MODELS.items():
        if model.name == called and not embedded_model_is_ready(name):
            with notes.status(f"Preparing {called} (once, some 20 seconds)"):
                prepare_embedded_model(name, progress=False)
    _download(model.name, notes)
    with notes.status(f"Loading {model.name}"):
        model.load()


def _download(name: str, notes: Console) -> None:
    """Fetch a hub model that is not in the cache, with the hub's own progress bars."""
    from agentkit.models.defaults import cached_granite, hub_is_offline, names_a_path

    is_hub_id = "/" in name and not names_a_path(name)
    if hub_is_offline() or not is_hub_id or cached_granite(name) is not None:
        return
    notes.print(f"Downloading {name} from the model hub (once)")
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(name, allow_patterns=_HUB_FILES)
    except Exception as error:
        # Loading tries again and says in words what is the matter.
        notes.print(f"The download failed: {type(error).__name__}", style="yellow")
