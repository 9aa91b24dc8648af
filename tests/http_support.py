"""A server on this machine for tests of HTTPTool, and short ways to call one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from agentkit.errors import ToolError
from agentkit.tools import ToolContext
from agentkit_tools import HTTPTool

CONTEXT = ToolContext(tool_name="probe")
CITY = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
SECRET = "s3cret/token+value"


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] | None = None
    wait: bool = False


class Service:
    """Answers as told, else echoes the request as JSON."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.requests: list[dict[str, Any]] = []
        self.released = threading.Event()
        self.active = self.most_active = 0
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                service.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        seen = {
            "method": handler.command,
            "target": handler.path,
            "path": urlsplit(handler.path).path,
            "query": parse_qsl(urlsplit(handler.path).query, keep_blank_values=True),
            "headers": {key.lower(): value for key, value in handler.headers.items()},
            "body": _content(handler.headers.get("Content-Type", ""), body),
            "client": handler.client_address,
        }
        with self._lock:
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            self.requests.append(seen)
            told = self.replies.popleft() if self.replies else None
        reply = told or Reply(body=json.dumps(seen).encode())
        if reply.wait:
            self.released.wait(20)
        with self._lock:
            self.active -= 1
        handler.send_response(reply.status)
        headers = {"Content-Type": "application/json", **(reply.headers or {})}
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(reply.body)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def _content(media_type: str, body: bytes) -> Any:
    if not body:
        return None
    return json.loads(body) if media_type.startswith("application/json") else body.decode()


def make(url: str, **options: Any) -> HTTPTool:
    return HTTPTool(name="probe", url=url, **options)


def call(tool: HTTPTool, **arguments: Any) -> Any:
    return asyncio.run(tool.call(arguments, CONTEXT))


def failure(tool: HTTPTool, kind: type[ToolError] = ToolError, /, **arguments: Any) -> str:
    with pytest.raises(kind) as caught:
        call(tool, **arguments)
    return str(caught.value)
