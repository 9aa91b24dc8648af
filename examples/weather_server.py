"""A small weather service on this computer, so that the examples have an HTTP API to call.

The weather is made up. Try it by itself with ``python examples/weather_server.py``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["WEATHER", "serve_weather"]

WEATHER = {
    "Athens": (29, "clear"),
    "Berlin": (11, "raining"),
    "Lisbon": (23, "windy"),
    "London": (14, "foggy"),
    "Madrid": (27, "windy"),
    "Oslo": (4, "snowing"),
    "Paris": (18, "sunny"),
    "Rome": (31, "cloudy"),
    "Vienna": (16, "cloudy"),
}
"""Degrees Celsius and the sky, by city."""


class _Handler(BaseHTTPRequestHandler):
    """Answers ``GET /weather/{city}`` with JSON."""

    def do_GET(self) -> None:
        _, _, place = unquote(urlsplit(self.path).path).partition("/weather/")
        city = place.split(",")[0].strip().title()
        if city not in WEATHER:
            known = ", ".join(WEATHER)
            self._send(404, {"error": f"no weather for {place!r}; cities are {known}"})
            return
        degrees, sky = WEATHER[city]
        summary = f"{degrees} degrees and {sky}"
        self._send(200, {"city": city, "celsius": degrees, "sky": sky, "summary": summary})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the examples print a trace of their own."""

    def _send(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve_weather(port: int = 0) -> Iterator[str]:
    """Run the service in a thread, on a free port unless one is named; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="weather", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with serve_weather(8000) as address:
        print(f"{address}/weather/Paris (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
