"""Makes the pictures of the page: real runs of the embedded model, in a headless Chromium.

    python docs/images/screenshots.py

It wants the extras ``dev`` and ``embedded`` and Debian's ``chromium``, and runs in the
repository's root.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
sys.path += [str(HERE.parents[1] / "examples")]

from agentkit import Agent, TransformersModel  # noqa: E402
from agentkit.server import create_app  # noqa: E402
from agentkit.server.running import GracefulServer  # noqa: E402
from docs_qa import HANDBOOK, open_index, reader  # noqa: E402
from weather_calculator import toolsmith  # noqa: E402
from weather_server import serve_weather  # noqa: E402

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
MOST_BYTES = 150_000


@contextmanager
def served() -> Iterator[str]:
    """The examples' agents, behind a server of this process."""
    model = TransformersModel("embedded")
    with serve_weather() as address:
        asking = toolsmith(model, address)
        careful = Agent(
            model,
            tools=asking.tools.tools,
            examples=asking.examples,
            sampling=asking.sampling,
            approvals={"get_weather": "ask"},
        )
        index = open_index(HANDBOOK)
        index.retrieve("How long does it last?")  # The first search loads MiniLM.
        handbook = reader(model, index, top_k=1)
        app = create_app(agents={"handbook": handbook, "weather": careful})
        config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
        ready = threading.Event()
        server = GracefulServer(config, app.state.agentkit, on_started=lambda _: ready.set())
        thread = threading.Thread(target=server.run)
        thread.start()
        ready.wait()
        try:
            yield server.url
        finally:
            server.should_exit = True
            thread.join()


def ask(page: Page, agent: str, question: str, until: str) -> None:
    """Begin a session and wait for something to be there."""
    page.locator("#new-session").dispatch_event("click")
    page.select_option("#agent", agent)
    page.fill("#input", question)
    page.keyboard.press("Enter")
    page.wait_for_selector(until, timeout=300_000)
    page.locator("[aria-busy]").wait_for(state="detached")
    page.wait_for_timeout(800)


def picture(page: Page, name: str) -> None:
    """Take one, and see that it is not too heavy for a README."""
    path = HERE / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.name}: {size:,} bytes")
    assert size < MOST_BYTES, f"{path} is too large"


def take(browser: Browser, url: str) -> None:
    """All pictures."""
    page = browser.new_page(viewport={"width": 1160, "height": 800})
    page.goto(url)
    page.wait_for_selector(".welcome")
    ask(page, "handbook", "How long does the battery last without sun?", ".timeline")
    page.locator(".timeline summary").click()
    page.wait_for_timeout(300)
    picture(page, "page")
    page.emulate_media(color_scheme="dark")
    ask(page, "weather", "What is the weather in Paris?", ".call .asking")
    picture(page, "page-approval")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 780})
    page.locator("#sessions .open").nth(1).dispatch_event("click")
    page.wait_for_selector(".answer .cite")
    page.locator(".answer .cite").first.click()
    page.wait_for_timeout(300)
    picture(page, "page-phone")


def main() -> int:
    """Make the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no chromium here (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        take(browser, url)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
