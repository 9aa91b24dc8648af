"""The page in a real browser: streams, calls, approvals, sources, prompts, sessions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit.server import ApiKey, ServerOptions, StoredConversations
from page_support import (
    CHROMIUM,
    FLAGS,
    HANDBOOK,
    Handbook,
    agent,
    measured,
    needs_browser,
    served,
    weather_call,
)

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

pytestmark = needs_browser

expect.set_options(timeout=30_000)  # a browser on a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 850})
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security Policy" in message.text else None
        ),
    )
    yield page
    context.close()
    assert complaints == []


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def finished(page: Page) -> Locator:
    """The last run's account, which is there once it is over."""
    account = page.locator(".timeline").last
    account.wait_for()
    return account


def test_an_answer_streams(page: Page) -> None:
    words = "one two three four five six seven eight"
    with served({"words": agent([words], delay=0.15)}) as url:
        page.goto(url)
        ask(page, "count")
        expect(page.locator(".answer")).to_contain_text("two")
        # The rest is still to come.
        assert "eight" not in page.locator(".answer").inner_text()
        expect(page.locator(".run")).to_have_attribute("aria-busy", "true")
        finished(page)
        assert page.locator(".answer").inner_text() == words
        assert page.locator(".run").get_attribute("aria-busy") is None
        # Those who listen have heard all of it.
        assert "eight" in page.locator("#live").inner_text()


def test_calls_show_arguments_results_and_the_account(page: Page) -> None:
    turns: list[Any] = [
        measured("", weather_call("Paris"), weather_call("Lisbon")),
        measured("Both are clear.", reused=700),
    ]
    with served({"weather": agent(turns)}) as url:
        page.goto(url)
        expect(page.locator(".welcome code")).to_have_text("get_weather")
        ask(page, "Paris and Lisbon?")
        account = finished(page)
        calls = page.locator(".call")
        assert calls.count() == 2
        expect(calls.nth(1)).to_have_attribute("data-status", "ok")
        expect(calls.nth(1).locator(".signature")).to_have_text('get_weather(city: "Lisbon")')
        calls.nth(1).locator("summary").click()
        expect(calls.nth(1).locator(".arguments")).to_contain_text("Lisbon")
        expect(calls.nth(1).locator(".result")).to_contain_text('"celsius": 21')
        account.locator("summary").click()
        steps = account.locator(".steps li")
        assert steps.count() == 2
        bars = steps.nth(0).locator(".bars")
        kinds = bars.locator("span").evaluate_all("all => all.map(e => e.dataset.kind)")
        assert kinds[:4] == ["render", "prefill", "decode", "grammar"]
        assert "tools" in kinds
        wide = {
            kind: bars.locator(f'[data-kind="{kind}"]').evaluate("e => e.offsetWidth")
            for kind in ("prefill", "decode")
        }
        assert wide["decode"] == pytest.approx(wide["prefill"] * 0.3 / 0.12, rel=0.1)
        expect(steps.nth(1).locator(".figures")).to_contain_text("700 reused, 120 read")


def test_a_call_waits_until_it_is_allowed_or_denied(page: Page) -> None:
    turns: list[Any] = [
        [weather_call("Oslo"), weather_call("Rome")],
        "Only Oslo: 21 degrees.",
    ]
    careful = agent(turns, approvals="ask")
    with served({"careful": careful}) as url:
        page.goto(url)
        ask(page, "Oslo and Rome?")
        questions = page.locator(".call .asking")
        expect(questions).to_have_count(2)
        expect(page.locator("#alert")).to_contain_text("waits for your approval")
        page.reload()  # It waits at the server.
        expect(questions).to_have_count(2)
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
        questions.nth(0).get_by_role("button", name="Allow").click()
        questions.nth(0).get_by_label(re.compile("Why")).fill("too far")
        questions.nth(0).get_by_role("button", name="Deny").click()
        expect(page.locator(".answer")).to_have_text("Only Oslo: 21 degrees.")
        finished(page)
        calls = page.locator(".call")
        expect(calls.nth(0)).to_have_attribute("data-status", "ok")
        expect(calls.nth(1)).to_have_attribute("data-status", "denied")
    told = careful.model.requests[-1].messages  # type: ignore[attr-defined]
    assert "too far" in told[-1].content


def test_a_source_opens_at_the_cited_span(page: Page) -> None:
    # Characters outside of the basic plane must not shift the spans.
    answer = "🛰️ A full battery lasts eleven days without any sun. How nice!"
    with served({"handbook": agent([answer], retriever=Handbook())}) as url:
        page.goto(url)
        ask(page, "How long does the battery last?")
        mark = page.locator(".answer .cite")
        expect(mark).to_have_count(1)
        assert page.locator(".answer p").inner_text().replace("\n", "") == answer.replace(
            "sun. ", "sun.1 "
        )
        mark.click()
        panel = page.get_by_role("dialog")
        expect(panel.locator("mark")).to_have_text(
            "A full battery lasts eleven days without any sun."
        )
        expect(panel.locator("mark")).to_be_focused()
        expect(panel.locator(".passage")).to_have_text(HANDBOOK)
        expect(panel.locator(".facts")).to_contain_text("handbook/power.md")
        page.keyboard.press("Escape")
        expect(panel).to_have_count(0)
        expect(mark).to_be_focused()


HOSTILE = """<img src=x onerror="document.title='owned'"> <script>document.title='owned'</script>
[click](javascript:alert(1)) [data](data:text/html,<b>x) [ok](https://example.org/a?b=c&d)
![tracker](https://evil.example/p.png) <a href="https://evil.example">x</a> **bold**"""


def test_output_is_never_html(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hostile_call = weather_call("<img src=x onerror=alert(1)>")
    with served({"h<b>": agent([hostile_call, HOSTILE])}) as url:
        page.goto(url)
        ask(page, "<b>hi</b>")
        finished(page)
        answer = page.locator(".answer").last
        assert '<img src=x onerror="document.title=' in answer.inner_text()
        assert page.title() != "owned"
        inside = page.locator("#runs").evaluate(
            "e => [...e.querySelectorAll('*')].map(x => x.tagName.toLowerCase())"
        )
        assert not {"img", "script", "iframe"} & {*inside}
        links = answer.locator("a").evaluate_all("all => all.map(e => e.getAttribute('href'))")
        # Each goes where its text says or where it was checked to go; none to this server.
        assert links == [
            "https://example.org/a?b=c&d",
            "https://evil.example/p.png",
            "https://evil.example/",
        ]
        expect(answer.locator("strong")).to_have_text("bold")
        expect(page.locator(".user p")).to_have_text("<b>hi</b>")
        assert {request.split("/")[2] for request in asked} == {url.split("/")[2]}


def test_markdown_becomes_nodes(page: Page) -> None:
    text = (
        "# Title\n\nSome `a < b` and *em*, snake_case_word, 2 * 3 * 4.\n\n"
        "- one\n- two\n  - inner\n\n1. first\n2. second\n\n"
        "```python\nprint('<b>')\n**not bold**\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> said"
    )
    with served({"md": agent([text])}) as url:
        page.goto(url)
        ask(page, "hi")
        finished(page)
        answer = page.locator(".answer")
        expect(answer.locator("h3")).to_have_text("Title")
        assert answer.locator("p").first.inner_text() == (
            "Some a < b and em, snake_case_word, 2 * 3 * 4."
        )
        expect(answer.locator("ul > li > ul > li")).to_have_text("inner")
        assert answer.locator("ol > li").count() == 2
        assert answer.locator("pre").inner_text() == "print('<b>')\n**not bold**"
        assert answer.locator("td").all_inner_texts() == ["1", "2"]
        expect(answer.locator("blockquote")).to_have_text("said")


def test_by_keyboard_alone(page: Page) -> None:
    turns: list[Any] = [weather_call("Oslo"), "It is 21 degrees."]
    with served({"careful": agent(turns, approvals="ask")}) as url:
        page.goto(url)
        expect(page.get_by_label("Message")).to_be_focused()
        page.keyboard.type("Oslo?")
        page.keyboard.press("Enter")
        page.locator(".call .asking").wait_for()
        page.keyboard.type("a")  # Typing answers nothing.
        assert page.locator(".call .asking").count() == 1
        page.keyboard.press("Backspace")
        page.keyboard.press("Alt+a")
        page.keyboard.press("a")
        finished(page)
        expect(page.get_by_label("Message")).to_be_focused()
        page.keyboard.press("Alt+p")
        expect(page.get_by_role("dialog").locator(".prompt")).to_contain_text("Oslo?")
        page.keyboard.press("Escape")
        page.keyboard.press("Alt+s")
        page.keyboard.press("F2")
        page.keyboard.type("Norway")
        page.keyboard.press("Enter")
        expect(page.locator("#title")).to_have_text("Norway")
        page.keyboard.press("Delete")
        page.keyboard.press("Shift+Tab")  # from Keep to Delete
        page.keyboard.press("Enter")
        expect(page.locator("#sessions li")).to_have_count(0)
        expect(page.locator("#title")).to_have_text("New session")
        page.keyboard.press("Escape")
        page.locator("#new-session").focus()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Send the message")


def test_sessions_are_found_opened_and_go_on(page: Page) -> None:
    turns: list[Any] = [weather_call("Oslo"), "It is 21 there.", "Hello!", "As I said: 21."]
    with served({"weather": agent(turns)}) as url:
        page.goto(url)
        ask(page, "How warm is Oslo?")
        finished(page)
        page.get_by_role("button", name="New session").click()
        ask(page, "Hello")
        expect(page.locator(".answer")).to_have_text("Hello!")
        finished(page)
        page.get_by_label("Search sessions").fill("oslo")
        expect(page.locator("#sessions li")).to_have_count(1)
        page.locator("#sessions .open").click()
        expect(page.locator(".answer")).to_have_text("It is 21 there.")
        page.reload()  # The address knows the session.
        expect(page.locator(".call")).to_have_count(1)
        ask(page, "Again?")
        expect(page.locator(".answer").last).to_have_text("As I said: 21.")
        finished(page)
        assert page.locator(".exchange").count() == 2


def test_a_run_is_stopped(page: Page) -> None:
    with served({"slow": agent(["a " * 400, "quick"], delay=0.05)}) as url:
        page.goto(url)
        ask(page, "talk")
        expect(page.locator(".answer")).to_contain_text("a a a")
        page.keyboard.press("Escape")
        expect(page.locator(".notice")).to_contain_text("Stopped")
        ask(page, "again")
        expect(page.locator(".answer").last).to_have_text("quick")


def test_a_stopped_run_goes_on_where_sessions_are_stored(page: Page, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    from agentkit.sessions import SessionStore

    turns: list[Any] = [weather_call("Oslo"), "slow " * 400, "It is 21."]
    with (
        SessionStore.open(tmp_path / "sessions.db") as store,
        served({"slow": agent(turns, delay=0.05)}, conversations=StoredConversations(store)) as url,
    ):
        page.goto(url)
        ask(page, "Oslo?")
        expect(page.locator(".answer")).to_contain_text("slow slow")
        page.keyboard.press("Escape")
        go_on = page.get_by_role("button", name="Go on")
        go_on.wait_for(timeout=60_000)  # once the server has noticed
        page.reload()
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
        go_on.click()
        expect(page.locator(".answer").last).to_have_text("It is 21.")
        expect(page.locator(".call")).to_have_count(1)  # also what was done before the stop


def test_a_failure_is_told_and_tried_again(page: Page) -> None:
    from agentkit.errors import ModelError

    with served({"shaky": agent([ModelError("the model broke"), "now it works"])}) as url:
        page.goto(url)
        ask(page, "hi")
        expect(page.locator(".notice")).to_contain_text("the model broke")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".answer")).to_have_text("now it works")
        assert page.locator(".exchange").count() == 1


def test_the_key_is_asked_for_and_stays_in_the_tab(page: Page) -> None:
    options = ServerOptions(api_keys=(ApiKey(name="ann", key="s3cret"),))
    with served({"one": agent(["hello"])}, options=options) as url:
        page.goto(url)
        page.locator("#key").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("not valid")
        page.locator("#key").fill("s3cret")
        page.keyboard.press("Enter")
        ask(page, "hi")
        expect(page.locator(".answer")).to_have_text("hello")
        assert page.evaluate("Object.values(sessionStorage)") == ["s3cret"]
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"


def test_a_phone_has_no_sideways_scroll(browser: Browser) -> None:
    wide = "x" * 300 + "\n\n```\n" + "y" * 300 + "\n```\n\n| " + " | ".join("abcdefgh" * 2) + " |"
    wide += "\n|" + "---|" * 16 + "\n"
    turns: list[Any] = [measured("", weather_call("z" * 200)), measured(wide)]
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    with served({"weather": agent(turns, retriever=Handbook())}) as url:
        page.goto(url)
        ask(page, "w" * 200)
        finished(page).locator("summary").click()
        page.locator(".call summary").click()
        for inside in ("document.documentElement", "document.getElementById('transcript')"):
            assert page.evaluate(f"{inside}.scrollWidth - {inside}.clientWidth") == 0
        expect(page.get_by_role("button", name="New session")).not_to_be_in_viewport()
        page.get_by_role("button", name="Sessions", exact=True).click()
        page.get_by_role("button", name="New session").click()
        expect(page.locator(".welcome")).to_be_visible()
    context.close()


def test_themes(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with served({"one": agent([])}) as url:
        page.goto(url)
        light = page.evaluate(paper)
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate(paper)
        assert light != dark
        switch = page.locator("#theme")
        switch.click()  # light, though the system is dark
        assert page.evaluate(paper) == light
        page.reload()
        assert page.evaluate(paper) == light
        switch.click()
        switch.click()  # the system's again
        assert page.evaluate(paper) == dark
