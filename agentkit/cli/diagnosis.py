"""What ``agentkit doctor`` looks at. Each examination gives findings and raises nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agentkit.cli.diagnosis_models import examine_embedder, examine_models, examine_templates
from agentkit.cli.finding import Finding
from agentkit.errors import AgentkitError

__all__ = ["examine"]

_VARIABLES = (
    "AGENTKIT_MODEL",
    "AGENTKIT_EMBEDDER",
    "AGENTKIT_CACHE",
    "AGENTKIT_BACKEND",
    "AGENTKIT_NATIVE",
    "HF_HUB_OFFLINE",
    "HF_HOME",
)
_PACKAGES = ("torch", "transformers", "llguidance", "faiss-cpu", "sentence-transformers")
_GIGABYTE = 1e9
_ROOM_FOR_A_MODEL = 4 * _GIGABYTE


def examine() -> list[Finding]:
    """Look at everything, in the order in which it is shown."""
    findings = [_python(), *_packages()]
    if not any(f.status == "missing" and f.needed for f in findings):
        findings += [*_compute(), *examine_models()]
    return [*findings, _memory(), _disk(), examine_embedder(), *examine_templates(), _variables()]


def _python() -> Finding:
    from agentkit import __version__

    return Finding(
        name="agentkit",
        status="ok",
        detail=f"{__version__} on Python {platform.python_version()}, {platform.platform()}",
        data={
            "agentkit": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
        },
    )


def _packages() -> Iterator[Finding]:
    for package in _PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding(
                name=package,
                status="missing",
                detail="not installed",
                fix=f"pip install {package}",
                needed=True,
            )
        else:
            yield Finding(name=package, status="ok", detail=found, data={"version": found})


def _compute() -> Iterator[Finding]:
    try:
        import torch

        from agentkit.engine.loading import pick_device, pick_dtype

        device = pick_device()
        dtype = str(pick_dtype(None, device)).removeprefix("torch.")
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding(
            name="device",
            status="missing",
            detail=f"torch does not work: {error}",
            fix="pip install --force-reinstall torch",
            needed=True,
        )
        return
    capability = torch.backends.cpu.get_cpu_capability()
    reasons = {
        "cuda": f"a CUDA GPU is there: {_gpu_name(torch)}",
        "mps": "Apple's GPU is there",
        "cpu": f"no GPU that torch can use; the CPU has {capability}, "
        + ("fast in bfloat16" if dtype == "bfloat16" else "slow in bfloat16"),
    }
    yield Finding(
        name="device",
        status="ok",
        detail=f"{device.type} in {dtype} ({reasons[device.type]})",
        data={"device": device.type, "dtype": dtype, "cpu_capability": capability},
    )
    yield _decoding(device)
    yield from _forms()
    threads = torch.get_num_threads()
    yield Finding(
        name="threads",
        status="ok",
        detail=f"{threads} of {os.cpu_count()} processors",
        data={"threads": threads, "processors": os.cpu_count()},
    )


def _decoding(device: Any) -> Finding:
    from agentkit.engine.choosing import expected_backend

    try:
        backend, reason = expected_backend(device)
    except AgentkitError as error:
        return Finding(
            name="decoding", status="warning", detail=str(error), fix="unset AGENTKIT_BACKEND"
        )
    how = {
        "native": "compiled code",
        "eager": "a hand-laid pass in torch",
        "transformers": "transformers' own forward",
    }
    detail = f"by {how[backend]} ({reason})"
    slow = backend != "native" and device.type == "cpu"
    return Finding(
        name="decoding",
        status="optional" if slow else "ok",
        detail=f"{detail}, several times as slow as compiled code" if slow else detail,
        fix="install a C compiler, for example gcc" if slow else "",
        data={"backend": backend, "reason": reason},
    )


def _forms() -> Iterator[Finding]:
    """What ``dtype="fastest"`` has found out."""
    from agentkit.engine.fastest import known_verdicts

    for verdict in known_verdicts():
        figures = ", ".join(f"{form} {ms:.1f} ms" for form, ms in verdict.milliseconds.items())
        yield Finding(
            name="fastest dtype",
            status="ok",
            detail=f"{verdict.form} for {verdict.model} on {verdict.device} ({figures})",
            data={"model": verdict.model, "form": verdict.form, **verdict.milliseconds},
        )


def _gpu_name(torch: Any) -> str:
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def _memory() -> Finding:
    total, free = _memory_bytes()
    if total is None:
        return Finding(name="memory", status="ok", detail="not known on this system")
    data = {"total_bytes": total, "free_bytes": free}
    detail = f"{total / _GIGABYTE:.1f} GB"
    if free is None:
        return Finding(name="memory", status="ok", detail=detail, data=data)
    detail += f", {free / _GIGABYTE:.1f} GB free"
    if free < _GIGABYTE:
        detail += "; the embedded model needs about 1 GB"
        return Finding(name="memory", status="warning", detail=detail, data=data)
    return Finding(name="memory", status="ok", detail=detail, data=data)


def _memory_bytes() -> tuple[int | None, int | None]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None, None
    try:
        # Linux counts what it would give back here, caches included.
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return total, int(line.split()[1]) * 1024
        return total, page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return total, None


def _disk() -> Finding:
    from agentkit.cache_dir import cache_dir

    folder = cache_dir()
    # The folder may not have been made yet.
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    data: dict[str, Any] = {"cache_dir": str(folder)}
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(name="disk", status="warning", detail=f"{folder}: {error}", data=data)
    low = free < _ROOM_FOR_A_MODEL
    return Finding(
        name="disk",
        status="warning" if low else "ok",
        detail=f"{free / _GIGABYTE:.1f} GB free for the cache in {folder}"
        + ("; Granite 4.0 1b needs about 4 GB" if low else ""),
        data={**data, "free_bytes": free},
    )


def _variables() -> Finding:
    values = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    return Finding(
        name="environment",
        status="ok",
        detail=" ".join(f"{name}={value}" for name, value in values.items())
        or f"none of {', '.join(_VARIABLES)} is set",
        data=values,
    )
