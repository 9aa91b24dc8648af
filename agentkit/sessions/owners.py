"""Which process a run belongs to, and whether that process is still there."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["Heart", "is_gone", "new_owner", "release"]

_active: set[str] = set()  # owners of this process whose runs are at work


def new_owner() -> str:
    """A name for who carries out a run: this machine, this process, this run."""
    owner = "|".join((_machine(), str(os.getpid()), _started(os.getpid()), uuid.uuid4().hex))
    _active.add(owner)
    return owner


def release(owner: str) -> None:
    """A run of this process has come to an end, one way or another."""
    _active.discard(owner)


def is_gone(owner: str) -> bool:
    """Whether an owner is certainly at work no longer; of other machines nobody can say."""
    if owner in _active:
        return False
    machine, _, rest = owner.partition("|")
    if machine != _machine():
        return False
    pid, started, _ = rest.split("|")
    # Numbers of processes are used again.
    return int(pid) == os.getpid() or _started(int(pid)) != started


@cache
def _machine() -> str:
    """This machine since it was started; containers count as machines of their own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts).replace("|", "_")


def _started(pid: int) -> str:
    """When a process was started; empty if there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        # One that was killed and not waited for yet does nothing any more.
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


class Heart:
    """Says every few seconds that the runs of a store are at work, in a thread of its own.

    Args:
        beat: Is called with the owners at work.
        seconds: Between two calls.
    """

    def __init__(self, beat: Callable[[list[str]], None], seconds: float) -> None:
        self._beat = beat
        self._seconds = seconds
        self._owners: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, owner: str) -> None:
        """A run begins."""
        with self._lock:
            self._owners.add(owner)
            if self._thread is None:
                self._stop.clear()
                self._thread = threading.Thread(
                    target=self._run, name="agentkit-sessions-heart", daemon=True
                )
                self._thread.start()

    def remove(self, owner: str) -> None:
        """A run is over."""
        with self._lock:
            self._owners.discard(owner)

    def stop(self) -> None:
        """There will be no more runs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            with self._lock:
                owners = list(self._owners)
            if owners:
                # What cannot be told now is told next time.
                with suppress(Exception):
                    self._beat(owners)
