"""A tool that runs Python code which the model wrote. Read what it does not stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from agentkit.errors import ToolError, UserError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit_tools._python_child import LIMITS_FAILED
from agentkit_tools._python_sandbox import supported

__all__ = ["PythonTool"]

_MIB = 1024 * 1024
_MAX_CODE_CHARS = 100_000
# What an interpreter reads beside its own folders.
_SYSTEM_FILES = (
    "/usr", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/localtime",
    "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random",
)  # fmt: skip


class PythonTool:
    """Runs Python code in a process of its own, with nothing but its own empty folder.

    Each call is a fresh interpreter without packages, environment variables or input, in a
    temporary folder that is removed afterwards. On Linux the kernel, not Python, keeps it from

    - taking more time, processor time, memory or output, or writing larger files, than allowed,
    - reading files other than those of Python and the system's libraries, writing outside of its
      folder (Landlock), and changing rights and owners of files,
    - opening sockets of any kind, and so from reaching the network or services of this machine,
    - starting processes or programs, sending signals to others, and reading their memory
      (seccomp).

    **What it does not stop.** A flaw in the kernel or in Python: this is a process on your
    machine and no virtual machine. Learning which files exist and how large they are. Reading
    everything below ``/usr`` and Python's own folders. Filling the disk with many files within
    the time allowed. Loading the machine with as much processor time and memory as you grant.
    And it cannot make the result true. Where the code must be assumed hostile, run the whole
    program in a container or a virtual machine as well.

    A limit that this system cannot keep is not passed over in silence: unless it is named in
    ``allow_missing``, the tool is not made. macOS keeps ``cpu`` and ``file size`` only; Windows
    none.

    Args:
        accept_risk: Must be ``True``, to say that you have read this.
        approval: ``"ask"``: a run waits for somebody's consent before each call. ``"allow"``
            runs code unseen.
        name: Under which the model knows the tool.
        timeout: Seconds that one call may take.
        cpu_seconds: Processor time that it may take, in whole seconds.
        memory_mib: Address space of the process.
        file_mib: Size of the largest file that it may write.
        max_output_chars: Of what the code prints, the beginning and the end are kept.
        packages: Let the code import the packages of this environment.
        allow_missing: Limits that may be missing: ``"cpu"``, ``"file size"``, ``"memory"``,
            ``"files"``, ``"network"``, ``"processes"``.

    Raises:
        UserError: The risk was not accepted, a limit cannot be kept here, or an option is out of
            range.
    """

    def __init__(
        self,
        *,
        accept_risk: bool,
        approval: Literal["allow", "ask", "deny"] = "ask",
        name: str = "run_python",
        timeout: float = 10.0,
        cpu_seconds: int = 10,
        memory_mib: int = 512,
        file_mib: int = 10,
        max_output_chars: int = 8000,
        packages: bool = False,
        allow_missing: Collection[str] = (),
    ) -> None:
        if accept_risk is not True:
            raise UserError(
                "PythonTool runs code that a model wrote; read in its documentation what it does "
                "not stop, then pass accept_risk=True"
            )
        for option, value in {
            "timeout": timeout,
            "cpu_seconds": cpu_seconds,
            "memory_mib": memory_mib,
            "file_mib": file_mib,
            "max_output_chars": max_output_chars,
        }.items():
            if not value > 0:
                raise UserError(f"PythonTool: {option} must be more than 0, not {value!r}")
        self._available = _check_limits(allow_missing)
        self.approval = approval
        """Whether a call needs somebody's consent."""
        self._seconds = timeout
        self._packages = packages
        self._max_output = max_output_chars
        self._limits = {
            "CPU": math.ceil(cpu_seconds),
            "FSIZE": file_mib * _MIB,
            "AS": memory_mib * _MIB,
            "CORE": 0,
            "NOFILE": 64,
        }
        self.timeout: float | None = timeout + 5
        """Seconds for the agent to wait; the tool stops the code itself before."""
        self.definition = ToolDefinition(
            name=name,
            description=(
                "Run Python code and get what it prints. It has the standard library"
                + (" and installed packages" if packages else "")
                + ", but no network and no files. Nothing is kept between calls."
            ),
            parameters={
                "type": "object",
                "properties": {
                    "code": {"type": "string", "description": 'Such as "print(sum(range(10)))"'}
                },
                "required": ["code"],
                "additionalProperties": False,
            },
        )
        """What the model is told."""

    def __repr__(self) -> str:
        return f"PythonTool({self.definition.name!r})"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Run the code.

        Args:
            arguments: ``code``.
            context: Of this call.

        Returns:
            What it printed, and the value of its last expression.

        Raises:
            ToolError: It failed or was stopped; with what it had printed.
        """
        code = arguments["code"]
        if len(code) > _MAX_CODE_CHARS:
            raise ToolError(f"the code is longer than {_MAX_CODE_CHARS} characters")
        with tempfile.TemporaryDirectory(
            prefix="agentkit-python-", ignore_cleanup_errors=True
        ) as folder:
            output, status, late = await self._run(code, folder)
        text = output.strip()
        if late:
            problem = f"the code did not finish within {self._seconds:g} s and was stopped"
        elif status == LIMITS_FAILED:
            problem = "the code was not run"
        elif status in (-signal.SIGXCPU, -signal.SIGKILL):
            problem = f"the code used more than {self._limits['CPU']} s of processor time"
        elif status:
            problem = "the code failed"
            if status < 0:
                problem += f" ({signal.Signals(-status).name})"
        else:
            return text or "the code ran and printed nothing; print() what you want to see"
        raise ToolError(f"{problem}{':' if text else ''}\n{text}".strip())

    async def _run(self, code: str, folder: str) -> tuple[str, int, bool]:
        """What it printed, its exit status, and whether its time was over."""
        here = Path(__file__).parent
        site = [] if self._packages else ["-S"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-X", "utf8", *site),
            str(here / "_python_child.py"),
            json.dumps(self._settings(str(here / "_python_sandbox.py"), folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8", "TMPDIR": folder, "HOME": folder},
            start_new_session=True,
        )
        collected = _Output(self._max_output)
        late = False
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.gather(_feed(process, code), collected.read(process))
                await process.wait()
        except TimeoutError:
            late = True
        finally:
            _kill(process)
            await process.wait()
        return collected.text(), process.returncode or 0, late

    def _settings(self, sandbox: str, folder: str) -> dict[str, Any]:
        limits = dict(self._limits)
        if not self._available["memory"]:
            del limits["AS"]
        readable = {
            *_SYSTEM_FILES,
            sys.base_prefix,
            sys.base_exec_prefix,
            os.path.realpath(os.__file__),
        }
        if self._packages:
            readable |= {sys.prefix, *(path for path in sys.path if path)}
        return {
            "sandbox": sandbox,
            "parent": os.getpid(),
            "limits": limits,
            "confine_files": self._available["files"],
            "filter_system_calls": self._available["network"],
            "readable": sorted(readable),
            "writable": [folder],
        }


class _Output:
    """The beginning and the end of what a process prints."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2 + 1
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    async def read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while chunk := await process.stdout.read(1 << 16):
            room = max(0, self._half - len(self._head))
            self._head += chunk[:room]
            self._tail += chunk[room:]
            if (extra := len(self._tail) - self._half) > 0:
                del self._tail[:extra]
                self._dropped += extra

    def text(self) -> str:
        if not self._dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return f"{head}\n[{self._dropped} bytes left out]\n{tail}"


async def _feed(process: asyncio.subprocess.Process, code: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(code.encode("utf-8", "replace"))
        await process.stdin.drain()
        process.stdin.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the process and whatever it may have started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _check_limits(allow_missing: Collection[str]) -> dict[str, bool]:
    available = supported()
    if isinstance(allow_missing, str) or not set(allow_missing) <= set(available):
        raise UserError(
            f"PythonTool: allow_missing must be a list of some of {', '.join(available)}, not "
            f"{allow_missing!r}"
        )
    if not available["cpu"]:
        raise UserError("PythonTool needs a system with resource limits: Linux or macOS")
    missing = [name for name, there in available.items() if not there and name not in allow_missing]
    if missing:
        raise UserError(
            f"this system cannot limit the following for code that a model wrote: "
            f"{', '.join(missing)}; run on Linux with Landlock and seccomp, or pass "
            f"allow_missing={missing!r} if something else does, such as a container"
        )
    return available
