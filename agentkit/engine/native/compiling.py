"""Compiling the native code: once for each machine, compiler and version of the source."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from agentkit.cache_dir import cache_dir

__all__ = ["compiled_library", "why_not"]

_log = logging.getLogger(__name__)

_SOURCES = (
    "kernels.h",
    "quantized.h",
    "side_by_side.h",
    "attention.h",
    "products.h",
    "step.c",
)
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-Wno-psabi")
_SECONDS = 120.0

_reasons: list[str] = []


def why_not() -> str:
    """Why there is no native library, in a sentence without full stop; empty if there is one."""
    return _reasons[0] if _reasons else ""


@cache
def compiled_library() -> Path | None:
    """The shared library, compiled first if need be (a few seconds, once a machine).

    Set ``AGENTKIT_NATIVE=0`` to do without, ``CC`` to name the compiler.

    Returns:
        Its path, or None where it cannot be had; a message is logged then.
    """
    if os.environ.get("AGENTKIT_NATIVE", "1") == "0":
        _reasons.append("AGENTKIT_NATIVE is 0")
        return None
    try:
        return _compile()
    except _CannotCompile as error:
        _reasons.append(str(error))
        _log.warning("decoding with torch alone, which is slower: %s", error)
        return None


class _CannotCompile(Exception):
    """There is no compiler, or it failed."""


def _compile() -> Path:
    compiler = _find_compiler()
    folder = Path(__file__).parent
    key = hashlib.sha256()
    for name in _SOURCES:
        key.update((folder / name).read_bytes())
    version = _run([compiler, "--version"]).stdout
    key.update(repr((compiler, version, _FLAGS, platform.machine(), _cpu_features())).encode())
    target = cache_dir() / "native" / f"agentkit-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            made = Path(work) / target.name
            command = [compiler, *_FLAGS, "-o", str(made), str(folder / "step.c"), "-lm"]
            # Apple's clang knows no OpenMP; one thread is still faster than no native code.
            done = _run([*command[:1], "-fopenmp", *command[1:]])
            if done.returncode != 0:
                done = _run(command)
            if done.returncode != 0:
                lines = done.stderr.strip().splitlines() or ["no message"]
                raise _CannotCompile(f"{compiler} failed: {lines[0][:300]}")
            made.replace(target)  # whole or not at all, also where two processes compile
    except OSError as error:
        raise _CannotCompile(f"the cache folder cannot be written: {error}") from error
    return target


def _find_compiler() -> str:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    raise _CannotCompile("no C compiler was found (install gcc or clang, or set CC)")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CannotCompile(f"{command[0]} cannot be run: {error}") from error


def _cpu_features() -> str:
    """What the code may have been compiled for, as far as the system tells."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.lower().startswith(("flags", "features")):
                    return line.strip()
    except OSError:
        pass
    return platform.processor()
