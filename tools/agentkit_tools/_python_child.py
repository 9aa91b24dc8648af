"""Runs code under limits: the program that :class:`PythonTool` starts.

It gets its settings as JSON in its first argument and the code on standard input, gives up every
right that the code must not have, and becomes the code's ``__main__``. Standard library only.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import linecache
import os
import sys
import traceback
from typing import Any

LIMITS_FAILED = 97
"""Exit status if a limit could not be set; the code has then not run."""


def main() -> None:
    """Set the limits, then run the code."""
    settings = json.loads(sys.argv[1])
    code = sys.stdin.buffer.read().decode("utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        _give_up_rights(settings)
    except Exception as error:
        print(f"a limit could not be set: {error}", flush=True)
        os._exit(LIMITS_FAILED)
    sys.argv = ["code.py"]
    sys.exit(_run(code))


def _give_up_rights(settings: dict[str, Any]) -> None:
    spec = importlib.util.spec_from_file_location("_sandbox", settings["sandbox"])
    assert spec is not None
    assert spec.loader is not None
    sandbox = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sandbox)
    sandbox.die_with_parent()
    if os.getppid() != settings["parent"]:
        os._exit(LIMITS_FAILED)  # It has ended before it could be watched.
    sandbox.limit_resources(settings["limits"])
    if settings["confine_files"]:
        sandbox.confine_files(settings["readable"], settings["writable"])
    if settings["filter_system_calls"]:
        sandbox.filter_system_calls()


def _run(code: str) -> int:
    """Like a script, but the value of a last expression is printed, as a prompt does it."""
    import types

    name = "code.py"
    main_module = types.ModuleType("__main__")
    namespace = main_module.__dict__
    namespace["__builtins__"] = __builtins__
    sys.modules["__main__"] = main_module
    # So that tracebacks show the lines.
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        tree = ast.parse(code, name)
        last = tree.body[-1] if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if last is not None:
            tree.body.pop()
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if value is not None:
                print(repr(value))
    except SystemExit as error:
        status = error.code
        if status is None or isinstance(status, int):
            return status or 0
        print(status, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.stdout.flush()
        told = traceback.TracebackException.from_exception(error, compact=True)
        # The code's own lines say where it went wrong; the library's are long and say little.
        own = [frame for frame in told.stack if frame.filename == name][-5:]
        told.stack = traceback.StackSummary.from_list(own)
        print("".join(told.format(chain=False)), file=sys.stderr, end="")
        return 1
    return 0


if __name__ == "__main__":
    main()
