"""A real browser over the dashboard: Playwright's package with the system's Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from tests.api.lab import LiveLab

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
HOW = "`apt-get install chromium` (Debian), or put a Chromium on PATH"
COLLECT_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; the test is skipped, aloud, where there is none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"NO PAGE WAS LOOKED AT: there is no Chromium; {HOW}")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        except Error as error:
            told = str(error).splitlines()[0]
            pytest.skip(f"NO PAGE WAS LOOKED AT: {path} does not start ({told}); {HOW}")
        yield browser
        browser.close()


class Visit:
    """One browser window with a login, and everything it complained of."""

    def __init__(self, context: BrowserContext, lab: LiveLab) -> None:
        self.lab = lab
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.add_init_script(COLLECT_VIOLATIONS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("requestfailed", lambda r: self._failed(r.url, str(r.failure)))
        self.page.on("response", lambda r: r.status >= 400 and self._failed(r.url, str(r.status)))

    def _console(self, message: object) -> None:
        kind = getattr(message, "type", "")
        if kind in {"error", "warning", "assert"}:
            self.complaints.append(f"console {kind}: {getattr(message, 'text', '')}")

    def _failed(self, url: str, why: str) -> None:
        # A stream or a poll ends when its page is left.
        if "ERR_ABORTED" not in why:
            self.complaints.append(f"request: {url} {why}")

    def log_in(self, user: str = "ada") -> None:
        """Log in as a person does."""
        self.page.goto(self.lab.url + "/health")
        self.page.fill("#token", self.lab.tokens[user])
        self.page.click("button.primary")
        self.page.wait_for_url(self.lab.url + "/health")

    def open(self, address: str) -> None:
        """Go to a page and wait for what its script draws."""
        self.page.goto(self.lab.url + address, wait_until="load")
        if self.page.locator("#run").count():
            self.page.wait_for_selector("#run[data-drawn=yes]", state="attached")

    def taken(self) -> list[str]:
        """Return what was complained of so far, and forget it."""
        broken: list[str] = self.page.evaluate("window.violations")
        told = [*self.complaints, *broken]
        self.complaints.clear()
        return told

    def overflow(self) -> int:
        """Return how many pixels the page is wider than its window."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))
