"""Python code from a model: what it may do, and each limit from inside."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit import Tool, ToolContext, ToolError, UserError
from agentkit_tools import PythonTool
from agentkit_tools._python_sandbox import supported

pytestmark = pytest.mark.skipif(
    not all(supported().values()), reason="needs Linux with Landlock and seccomp"
)


@pytest.fixture(scope="module")
def tool() -> PythonTool:
    return PythonTool(accept_risk=True, timeout=60, cpu_seconds=20)


def run(tool: PythonTool, code: str) -> str:
    return asyncio.run(tool.call({"code": code}, ToolContext(tool_name="run_python")))


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print('hi')", "hi"),
        ("x = 3\nx * 2", "6"),
        ("None", "the code ran and printed nothing; print() what you want to see"),
        ("print('grüß 😀')", "grüß 😀"),
        ("open('a.txt', 'w').write('x'); open('a.txt').read()", "'x'"),
        ("import os; os.listdir('.')", "[]"),
        ("import os; sorted(os.environ)", "['HOME', 'LC_ALL', 'TMPDIR']"),
        ("import sys; sys.argv, __name__", "(['code.py'], '__main__')"),
        ("import threading as t; x = t.Thread(target=print, args=[1]); x.start(); x.join()", "1"),
        ("import asyncio\nasync def f(): return 5\nasyncio.run(f())", "5"),
        ("import json, decimal, sqlite3, zoneinfo; str(zoneinfo.ZoneInfo('UTC'))", "'UTC'"),
        ("from dataclasses import dataclass\n@dataclass\nclass P: x: int\nP(1)", "P(x=1)"),
        ("import tempfile; tempfile.TemporaryFile().write(b'abc')", "3"),
        ("raise SystemExit", "the code ran and printed nothing; print() what you want to see"),
    ],
)
def test_what_code_may_do(tool: PythonTool, code: str, output: str) -> None:
    assert run(tool, code) == output


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('before')\n1 / 0", r"(?s)failed:\nbefore\nTraceback .*line 2.*ZeroDivision"),
        ("def f(", "was never closed"),
        ("import numpy", "No module named 'numpy'"),
        ("input()", "EOFError"),
        ("raise SystemExit('bad input')", "bad input"),
        ("import os; os.abort()", "SIGABRT"),
        ("x" * 100_001, "longer than 100000"),
    ],
)
def test_failures_are_told(tool: PythonTool, code: str, message: str) -> None:
    with pytest.raises(ToolError, match=message) as raised:
        run(tool, code)
    assert "_python_child" not in str(raised.value)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    return path


@pytest.mark.parametrize(
    "code",
    [
        "open('{secret}').read()",
        "import os; os.symlink('{secret}', 'link'); open('link').read()",
        "import os; os.link('{secret}', 'link'); open('link').read()",
        "import os; os.listdir('{folder}')",
        "open('{secret}', 'w')",
        "open('{folder}/new', 'w')",
        "import os; os.unlink('{secret}')",
        "import os; os.rename('{secret}', 'mine')",
        "import os; os.truncate('{secret}', 0)",
        "import os; os.chmod('{secret}', 0)",
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "open('/proc/{parent}/environ').read()",
    ],
)
def test_files_outside(tool: PythonTool, secret: Path, code: str) -> None:
    code = code.format(secret=secret, folder=secret.parent, parent=os.getpid())
    with pytest.raises(ToolError, match=r"PermissionError|OSError.*cross-device"):
        run(tool, code)
    assert secret.read_text() == "secret"
    assert [path.name for path in secret.parent.iterdir()] == ["secret.txt"]


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', {port}))",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import os; os.fork()",
        "import os; os.execv('/bin/sh', ['sh'])",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {{}})",
        "import os; os.kill({parent}, 0)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import os; os.pidfd_open({parent})",
        "import resource as r; r.prlimit(0, r.RLIMIT_NOFILE, (1, 64))",
        "import ctypes as c\nl = c.CDLL(None, use_errno=True)\n"
        "if l.syscall(41 if '{machine}' == 'x86_64' else 198, 2, 1, 0) < 0: raise PermissionError",
        "import ctypes as c\nl = c.CDLL(None, use_errno=True)\n"
        "if l.syscall(425, 8, bytes(120)) < 0: raise PermissionError",
    ],
)
def test_network_and_processes(tool: PythonTool, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {"port": server.getsockname()[1], "parent": os.getpid()}
        with pytest.raises(ToolError, match="PermissionError"):
            run(tool, code.format(machine=os.uname().machine, **values))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("bytearray(2 * 10**9)", "MemoryError"),
        ("open('f', 'wb').write(bytes(20 * 10**6))", "File too large"),
        ("files = [open(str(i), 'w') for i in range(1000)]", "Too many open files"),
        ("import resource as r; r.setrlimit(r.RLIMIT_CPU, (99, 99))", "maximum limit"),
    ],
)
def test_amounts(tool: PythonTool, code: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        run(tool, code)


def test_time() -> None:
    tool = PythonTool(accept_risk=True, timeout=0.8)
    with pytest.raises(ToolError, match=r"within 0\.8 s and was stopped:\nhi"):
        run(tool, "print('hi', flush=True)\nimport time; time.sleep(60)")
    tool = PythonTool(accept_risk=True, timeout=60, cpu_seconds=1)
    with pytest.raises(ToolError, match="more than 1 s of processor time"):
        run(tool, "while True: pass")
    deaf = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    with pytest.raises(ToolError, match="more than 1 s of processor time"):
        run(tool, deaf)


def test_output_is_cut(tool: PythonTool) -> None:
    text = run(tool, "print('begin' + 'x' * 50_000_000 + 'end')")
    assert text.startswith("begin")
    assert text.endswith("end")
    assert "bytes left out]" in text
    assert len(text) < 8200


def _running(parent: int) -> bool:
    """Whether there is an interpreter that a process's tool has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if "_python_child.py" in line and f'"parent": {parent}' in line:
            return True
    return False


def _wait_until(running: bool, parent: int) -> None:
    end = time.monotonic() + 60
    while _running(parent) != running:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_cancelling_ends_the_process(tool: PythonTool) -> None:
    async def cancel() -> None:
        context = ToolContext(tool_name="run_python")
        task = asyncio.create_task(tool.call({"code": "import time; time.sleep(600)"}, context))
        await asyncio.to_thread(_wait_until, True, os.getpid())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not _running(os.getpid())


def test_it_ends_with_the_program() -> None:
    """Also where the program has no time to clean up."""
    program = (
        "import asyncio\nfrom agentkit import ToolContext\nfrom agentkit_tools import PythonTool\n"
        "tool = PythonTool(accept_risk=True, timeout=600)\n"
        "code = {'code': 'import time; print(1); time.sleep(600)'}\n"
        "asyncio.run(tool.call(code, ToolContext(tool_name='x')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        _wait_until(True, process.pid)
        process.kill()
    _wait_until(False, process.pid)


def test_calls_run_side_by_side_and_leave_nothing(
    tool: PythonTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def both() -> list[Any]:
        context = ToolContext(tool_name="run_python")
        codes = [f"open('x', 'w').write('1' * {n})" for n in (3, 4)]
        return await asyncio.gather(*(tool.call({"code": code}, context) for code in codes))

    results: list[list[Any]] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(both())))
    thread.start()
    thread.join()
    assert results == [["3", "4"]]
    assert not list(tmp_path.iterdir())


def test_packages_are_an_option() -> None:
    tool = PythonTool(accept_risk=True, packages=True, timeout=60, memory_mib=4000)
    assert run(tool, "import pydantic; pydantic.__name__") == "'pydantic'"


def test_it_must_be_asked_for() -> None:
    tool = PythonTool(accept_risk=True)
    assert isinstance(tool, Tool)
    assert tool.approval == "ask"
    with pytest.raises(TypeError):
        PythonTool()  # type: ignore[call-arg]
    with pytest.raises(UserError, match="accept_risk=True"):
        PythonTool(accept_risk=False)
    with pytest.raises(UserError, match="memory_mib"):
        PythonTool(accept_risk=True, memory_mib=0)
    with pytest.raises(UserError, match="allow_missing"):
        PythonTool(accept_risk=True, allow_missing=["everything"])


def test_a_missing_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {**supported(), "files": False}
    monkeypatch.setattr("agentkit_tools.python_runner.supported", lambda: there)
    with pytest.raises(UserError, match=re.escape("allow_missing=['files']")):
        PythonTool(accept_risk=True)
    assert run(PythonTool(accept_risk=True, allow_missing=["files"], timeout=60), "1") == "1"
