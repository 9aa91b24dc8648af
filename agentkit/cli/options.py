"""Options that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

__all__ = [
    "AgentOptions",
    "Docs",
    "MaxSteps",
    "MaxTokens",
    "ModelName",
    "Retrieval",
    "Seed",
    "System",
    "Temperature",
    "ToolChoice",
    "ToolSpecs",
    "TopK",
    "TraceContent",
    "TraceFile",
]

ModelName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="AGENTKIT_MODEL",
        show_envvar=True,
        metavar="MODEL",
        help="Hub id, folder, .gguf file, or `embedded`. "
        "If not given: a cached Granite model, else the embedded one.",
    ),
]
System: TypeAlias = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="Instructions for the model.")
]
Docs: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--docs",
        "-d",
        metavar="FOLDER",
        help="Documents to answer from: a folder of files, or an index made by `agentkit index`.",
    ),
]
ToolSpecs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        "-t",
        metavar="MODULE[:NAME]",
        help="A function or tool that the model may call, or all tools of a module; "
        "`file.py:name` works too. May be repeated.",
    ),
]
ToolChoice: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="CHOICE", help="`auto`, `required`, `none`, or the tool that must be called."
    ),
]
Retrieval: TypeAlias = Annotated[
    Literal["documents", "tool"],
    typer.Option(
        help="`documents`: search with each question and show what is found to the model. "
        "`tool`: the model searches by itself."
    ),
]
TopK: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Documents per search. [default: 4]")
]
MaxSteps: TypeAlias = Annotated[
    int, typer.Option(min=1, metavar="N", help="Turns of the model, each with the tools it calls.")
]
MaxTokens: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Tokens per turn. [default: 512]")
]
Temperature: TypeAlias = Annotated[
    float, typer.Option(min=0.0, metavar="T", help="0 always takes the likeliest token.")
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="Makes sampling repeatable.")
]

TraceFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Append a trace of each run to FILE; `agentkit trace FILE` shows it.",
    ),
]
TraceContent: TypeAlias = Annotated[
    bool,
    typer.Option("--trace-content", help="Have the trace hold what was said, too."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What the command line says about the agent."""

    model: str | None
    """As for :class:`agentkit.TransformersModel`."""
    system: str | None
    """Instructions."""
    docs: Path | None
    """A folder of documents, or a saved index."""
    tools: list[str]
    """``module``, ``module:name`` or ``file.py:name``."""
    tool_choice: str
    """As for :class:`agentkit.Agent`."""
    retrieval: Literal["documents", "tool"]
    """As for :class:`agentkit.Agent`."""
    top_k: int | None
    """Documents of one search."""
    max_steps: int
    """Turns of one run."""
    max_tokens: int | None
    """Of one turn."""
    temperature: float
    """As for :class:`agentkit.Sampling`."""
    seed: int | None
    """As for :class:`agentkit.Sampling`."""
