"""The built site as files: every link, every picture, every page's head."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import SITE, site_pages

ROOT = Path(__file__).parent.parent
PAGES = site_pages()
pytestmark = pytest.mark.usefixtures("site")


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    return {tag["id"] for tag in soup(path).find_all(id=True)}


def page_path(page: str) -> Path:
    return SITE / f"{page}.html"


def fault_of_link(page: Path, address: str) -> str | None:
    """What is wrong with an address on a page, if it leads to the site itself."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):  # the 404 page, shown at any address
        target = SITE / unquote(parts.path).lstrip("/")
    else:
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return f"{address}: no such file"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors(target):
        return f"{address}: no such anchor"
    return None


def resources(page: BeautifulSoup):
    """The addresses of everything a browser loads by itself with a page."""
    for tag in page.find_all(["script", "img", "iframe", "source", "video", "audio", "embed"], src=True):
        yield tag["src"]
    for tag in page.find_all(srcset=True):
        yield from (entry.split()[0] for entry in tag["srcset"].split(","))
    for tag in page.find_all("object", data=True):
        yield tag["data"]
    for tag in page.find_all("link", href=True):
        if not {"canonical", "prev", "next", "search", "author", "index"} & set(tag.get("rel", ())):
            yield tag["href"]


def test_every_page_of_the_contents_is_built():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def files(entry):
        for key, value in entry.items():
            if key in ("file", "root"):
                yield value
            elif isinstance(value, list):
                for child in value:
                    yield from files(child)

    assert [name for name in files(contents) if name not in PAGES] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = page_path(page)
    addresses = {tag["href"] for tag in soup(path).find_all("a", href=True)} | set(resources(soup(path)))
    assert [fault for address in sorted(addresses) if (fault := fault_of_link(path, address))] == []


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_loaded_from_elsewhere(page):
    foreign = [address for address in resources(soup(page_path(page))) if urlsplit(address).netloc]
    inline = " ".join(tag.get_text() for tag in soup(page_path(page)).find_all("style"))
    assert foreign + re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*", inline) == []


def test_style_sheets_load_only_what_is_there():
    faults = []
    for sheet in SITE.rglob("_static/**/*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        for address in re.findall(r"(?:url\(|@import\s+)\s*['\"]?([^'\")\s;]+)", text):
            if (
                not address.startswith(("data:", "#"))
                and not (sheet.parent / urlsplit(address).path).is_file()
            ):
                faults.append(f"{sheet.relative_to(SITE)}: {address}")
    assert faults == []


@pytest.mark.parametrize("page", PAGES)
def test_formulas_and_citations_are_resolved(page):
    article = soup(page_path(page)).find("article") or soup(page_path(page)).find("main")
    assert article.select(".katex-error, .problematic, .system-message") == []
    text = " ".join(
        string
        for string in article.find_all(string=True)
        if not any(
            parent.name in ("pre", "code", "annotation", "script", "style") for parent in string.parents
        )
    )
    assert re.findall(r"\[\?\]|\{(?:cite|ref|eq|doc|numref|glue)[^}]*\}|\$\$|\\\(|\\\[", text) == []


@pytest.mark.parametrize("page", PAGES)
def test_pictures_say_what_they_show(page):
    for image in soup(page_path(page)).find_all("img"):
        alt = image.get("alt")
        if "brand__mark" in image.get("class", ()):
            assert alt == ""  # the name stands beside it
            continue
        assert alt, image
        assert not re.search(r"[0-9a-f]{16}|\.(png|svg|jpe?g)$|_images/", alt), alt
        assert len(alt) > 15, f"says too little: {alt!r}"


def test_every_page_has_a_title_and_a_description_of_its_own():
    titles, descriptions = {}, {}
    for page in PAGES:
        head = soup(page_path(page)).head
        titles.setdefault(head.title.get_text().strip(), []).append(page)
        description = head.find("meta", attrs={"name": "description"})["content"]
        assert 40 <= len(description) <= 200, page
        assert not re.search(r"[\\${}`]|\]\(", description), f"{page}: markup in {description!r}"
        if page not in ("404", "search"):
            descriptions.setdefault(description, []).append(page)
    assert [pages for pages in (*titles.values(), *descriptions.values()) if len(pages) > 1] == []


@pytest.mark.parametrize("page", PAGES)
def test_one_heading_of_the_first_rank(page):
    assert len(soup(page_path(page)).find_all("h1")) == 1
