"""Tools named on the command line: ``module``, ``module:name`` or ``file.py:name``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from agentkit.errors import AgentkitError, UserError
from agentkit.tools import Tool

__all__ = ["import_module", "load_tools"]


def load_tools(specs: Iterable[str]) -> list[Any]:
    """Import tools; modules in the current directory are found.

    Args:
        specs: ``module:name`` for one tool or function, ``module`` for all tools in a module; in
            place of a module's name the path of a ``.py`` file.

    Returns:
        Tools and plain functions, each once, in order.

    Raises:
        UserError: There is no such module or name, or importing fails; the message says which.
    """
    tools: dict[int, Any] = {}
    for spec in specs:
        # From the right: a path may hold a colon.
        module_name, colon, name = spec.rpartition(":")
        if not colon:
            module_name, name = spec, ""
        if not module_name or (colon and not name):
            raise UserError(
                f"--tools {spec!r}: give a module, or a module and a name as in my_tools:add"
            )
        module = import_module(module_name)
        found = [_find(module, module_name, name)] if name else _all_tools(module, module_name)
        tools.update((id(tool), tool) for tool in found)
    return list(tools.values())


def import_module(name: str, option: str = "--tools") -> ModuleType:
    """Import a module as ``python -m`` would find it, or a ``.py`` file.

    Args:
        name: Of the module, or the file's path.
        option: What to call it in errors.

    Raises:
        UserError: There is none, or importing it fails.
    """
    # As ``python -m`` does; the installed command would only look beside itself.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise UserError(
                f"{option}: there is no module {missing!r}, neither in the current directory nor "
                "installed"
            ) from error
        raise UserError(
            f"{option}: module {name!r} needs the module {missing!r}, which is not installed"
        ) from error
    except AgentkitError as error:
        # Such as a SchemaError of @tool, which says what to change.
        raise UserError(f"{option}: module {name!r}: {error}") from error
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{option}: module {name!r} fails when it is imported: {type(error).__name__}: {error} "
            f"({Path(where.filename).name}, line {where.lineno})"
        ) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Annotations and dataclasses look their module up by its name.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _find(module: ModuleType, module_name: str, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            near = difflib.get_close_matches(part, _callables(module), n=1)
            hint = f"did you mean {near[0]!r}?" if near else _offer(module)
            raise UserError(f"--tools: module {module_name!r} has no {name!r}; {hint}")
        value = getattr(value, part)
    if not callable(value) and not isinstance(value, Tool):
        raise UserError(
            f"--tools: {name!r} in module {module_name!r} is of type {type(value).__name__}, "
            "neither a function nor a tool"
        )
    return value


def _all_tools(module: ModuleType, module_name: str) -> list[Tool]:
    values = vars(module).values()
    tools = [v for v in values if isinstance(v, Tool) and not isinstance(v, type)]
    if not tools:
        raise UserError(
            f"--tools: module {module_name!r} holds no tools; decorate functions with "
            f"@agentkit.tool, or name one as in {module_name}:name. {_offer(module)}"
        )
    return tools


def _callables(module: ModuleType) -> list[str]:
    """Names of the tools and of the module's own functions."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, type)
        and (
            isinstance(value, Tool)
            or (inspect.isroutine(value) and value.__module__ == module.__name__)
        )
    ]


def _offer(module: ModuleType) -> str:
    names = _callables(module)
    return f"it has: {', '.join(names)}" if names else "it has no functions"
