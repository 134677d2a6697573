"""What the tests of the built site share: its folder, a server for it, and Chromium."""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SITE = Path(__file__).parent.parent / "_build" / "html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_CHROMIUM = (
    "The site is not tested in a browser: there is no Chromium here (Debian: apt-get install chromium)."
)
NO_BUBBLEWRAP = "Nothing is graded: there is no bubblewrap here (Debian: apt-get install bubblewrap)."
# Chromium's own calls home would be seen as requests of the page.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _missing(what: str) -> None:
    """A person sees one line; in continuous integration nothing may go untested."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def pytest_terminal_summary(terminalreporter) -> None:
    if CHROMIUM is None:
        terminalreporter.write_line(NO_CHROMIUM, yellow=True)
    if shutil.which("bwrap") is None:
        terminalreporter.write_line(NO_BUBBLEWRAP, yellow=True)


def site_pages() -> list[str]:
    """The names of all built pages, ``chapters/activations/relu`` and so on."""
    return sorted(path.relative_to(SITE).with_suffix("").as_posix() for path in SITE.rglob("*.html"))


@pytest.fixture(scope="session")
def site() -> Path:
    if not (SITE / "index.html").exists():
        _missing("The site is not built: 'make book' builds it.")
    return SITE


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """For tests that grade."""
    if shutil.which("bwrap") is None:
        _missing(NO_BUBBLEWRAP)


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site):
    """The site over http."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        _missing(NO_CHROMIUM)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
