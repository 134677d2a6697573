"""The built site in Chromium: what a reader sees, hears, waits for and can reach."""

import gzip
from functools import cache
from urllib.parse import unquote, urlsplit

import pytest
from axe_core_python.sync_playwright import Axe
from conftest import SITE, site_pages

PAGES = site_pages()
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
# A theme changes colours and nothing else of what the rules look at, a width everything else.
RULES_ON_COLOUR = ["color-contrast", "link-in-text-block"]
TEXT_BUDGET, CHART_BUDGET, SHIFT_BUDGET = 400, 750, 0.02
# Layout shift is summed from the first moment on, before any script of the page.
OBSERVE_SHIFT = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""
ALL_THAT_SCROLLS_CAN_BE_REACHED = """
() => [...document.querySelectorAll("[tabindex='-1']")].every((box) => box.scrollWidth <= box.clientWidth)
"""


@cache
def kilobytes(path: str) -> float:
    """What a file of the site weighs on its way to the reader: text compressed, the rest as it is."""
    content = (SITE / path).read_bytes()
    is_text = path.endswith((".html", ".css", ".js", ".svg", ".json"))
    return len(gzip.compress(content) if is_text else content) / 1000


class Visit:
    """A page opened in a fresh context, and all that was noticed on the way."""

    def __init__(self, browser, url: str, **options):
        self.context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light"} | options)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", self._note_failure)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.add_init_script(OBSERVE_SHIFT)
        self.page.goto(url, wait_until="load")

    def _note_failure(self, request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by leaving the page before its icon had come
            self.complaints.append(f"failed: {request.url}")

    def _note(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")

    def foreign(self, url: str) -> list[str]:
        here = urlsplit(url)
        own = [(here.scheme, here.netloc), ("data", ""), ("blob", "")]
        return [request for request in self.requests if urlsplit(request)[:2] not in own]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()


def violations(page, rules: list[str], without: tuple[str, ...] | list[str] = ()) -> list[str]:
    """What axe-core, already on the page, finds against the rules or groups of rules, some left out.

    The boxes that KaTeX draws a formula with are left out: screen readers are told to skip them, their
    colour is the text's, and there are thousands.
    """
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    options["rules"] = {rule: {"enabled": False} for rule in without}
    found = page.evaluate("(options) => axe.run({exclude: ['.katex-html']}, options)", options)["violations"]
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]


def settle(page) -> None:
    """Wait until fonts and charts are there and nothing is left to be laid out."""
    page.evaluate("document.fonts.ready")
    if page.locator(".chart-live").count():
        page.wait_for_function(
            "[...document.querySelectorAll('.chart-live')].every((chart) => chart.querySelector('svg'))"
        )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def use_theme(page, theme: str) -> None:
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme }", theme)
    settle(page)


@pytest.mark.parametrize("name", PAGES)
def test_page(browser, address, name):
    """Requests, console, weight, layout shift, accessibility and width: one load serves all of them."""
    url = f"{address}/{name}.html"
    with Visit(browser, url) as visit:
        page = visit.page
        settle(page)
        assert visit.foreign(url) == []
        assert visit.complaints == []
        assert page.evaluate("window.shift") <= SHIFT_BUDGET

        files = {unquote(urlsplit(request).path).lstrip("/") for request in visit.requests}
        weight = sum(kilobytes(file) for file in files if not file.startswith("data:"))
        budget = CHART_BUDGET if page.locator(".chart").count() else TEXT_BUDGET
        assert weight <= budget, f"{weight:.0f} KB: {sorted((-kilobytes(f), f) for f in files)[:8]}"

        page.evaluate(Axe().axe_script)
        assert violations(page, RULES) == []
        use_theme(page, "dark")
        assert violations(page, RULES_ON_COLOUR) == []
        use_theme(page, "light")
        page.set_viewport_size(NARROW)
        page.wait_for_function(
            ALL_THAT_SCROLLS_CAN_BE_REACHED, timeout=5000
        )  # the theme sees to it a little later
        settle(page)
        assert violations(page, RULES, without=RULES_ON_COLOUR) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        assert visit.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "chapters/activations/relu"])
def test_colours_of_what_only_a_phone_shows(browser, address, name, theme):
    """The buttons and the menu that stand for the columns of a wide page, the same on all pages."""
    with Visit(browser, f"{address}/{name}.html", viewport=NARROW, color_scheme=theme) as visit:
        visit.page.evaluate(Axe().axe_script)
        settle(visit.page)
        assert violations(visit.page, RULES_ON_COLOUR) == []
        visit.page.get_by_role("button", name="Course pages").click()
        visit.page.locator("nav.bd-docs-nav a").first.wait_for(state="visible")
        assert violations(visit.page, RULES_ON_COLOUR) == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "404"])  # which needs a server
def test_page_opened_as_a_file(browser, name):
    url = (SITE / f"{name}.html").as_uri()
    with Visit(browser, url) as visit:
        settle(visit.page)
        assert visit.foreign(url) == []
        assert visit.complaints == []


def test_theme_switch_follows_the_reader(browser, address):
    with Visit(browser, f"{address}/index.html", color_scheme="dark") as visit:
        theme = lambda: visit.page.evaluate("document.documentElement.dataset.theme")  # noqa: E731
        assert theme() == "dark"  # the system's
        visit.page.keyboard.press("Tab")
        visit.page.locator(".theme-switch-button").focus()
        visit.page.keyboard.press("Enter")
        assert theme() == "light"
        visit.page.reload()
        assert theme() == "light"
        background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 255, 255)"


def test_search_by_keyboard(browser, address):
    with Visit(browser, f"{address}/index.html") as visit:
        visit.page.keyboard.press("Control+k")
        visit.page.keyboard.type("nonlinearity")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/search.html?q=nonlinearity")
        visit.page.wait_for_selector("#search-results li a")
        assert visit.complaints == []


def test_search_in_files(browser):
    url = (SITE / "search.html").as_uri() + "?q=nonlinearity"
    with Visit(browser, url) as visit:
        visit.page.locator("#search-results li a").first.click()
        visit.page.locator("article h1").wait_for()
        assert visit.complaints == []


def test_keyboard_reaches_the_text_first(browser, address):
    with Visit(browser, f"{address}/index.html") as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"


def test_pages_on_a_phone_open_from_the_menu(browser, address):
    with Visit(browser, f"{address}/index.html", viewport=NARROW) as visit:
        links = visit.page.locator("nav.bd-docs-nav a")
        links.first.wait_for(state="hidden")
        visit.page.get_by_role("button", name="Course pages").click()
        links.first.wait_for(state="visible")
        visit.page.keyboard.press("Escape")
        links.first.wait_for(state="hidden")


def first_with(selector: str) -> str:
    """A page that has such an element, found in the HTML."""
    for name in PAGES:
        if selector in (SITE / f"{name}.html").read_text(encoding="utf-8"):
            return name
    pytest.fail(f"no page has {selector!r}")


def test_formulas_need_no_script(browser, address):
    name = first_with('class="katex-display"')
    with Visit(browser, f"{address}/{name}.html", java_script_enabled=False) as visit:
        box = visit.page.locator(".katex-display .katex-html").first.bounding_box()
        assert box["width"] > 20
        assert box["height"] > 10
        assert not visit.page.locator(".theme-switch-button").is_visible()


def test_charts_have_a_picture_without_script_and_on_paper(browser, address):
    name = first_with('class="chart-picture"')
    with Visit(browser, f"{address}/{name}.html", java_script_enabled=False) as visit:
        assert visit.page.locator(".chart-picture img").first.is_visible()
    with Visit(browser, f"{address}/{name}.html") as visit:
        settle(visit.page)
        visit.page.emulate_media(media="print")
        assert visit.page.locator(".chart-picture img").first.is_visible()


def test_paper_shows_the_text_alone_and_the_solutions(browser, address):
    name = first_with("<details")
    with Visit(browser, f"{address}/{name}.html", java_script_enabled=False) as visit:
        folded = visit.page.locator(".bd-article details > :not(summary)").first
        assert folded.bounding_box() is None or not folded.is_visible()
        visit.page.emulate_media(media="print")
        assert folded.bounding_box()["height"] > 0
        assert not visit.page.locator(".bd-sidebar-primary").is_visible()
        assert not visit.page.locator(".prev-next-footer").is_visible()
        wide = visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert wide
