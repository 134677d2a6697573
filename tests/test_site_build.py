"""Building the site: what stops it, and what the repository's address brings, on a book of two pages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
INDEX = """# A small course

The first paragraph of this page stands for all of it.

{formula}

```{claims} A topic
```

```{assignment} build-it
```
"""
CLAIMS = """topic,claim,verdict,found,cell
A topic,"It is $x, y$.",false,"It is `z`, not $x$.",set-up
Another,Nothing.,true,Something.,set-up
"""
NOTEBOOK = nbformat.v4.new_notebook(
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    cells=[
        nbformat.v4.new_markdown_cell(
            "# A notebook\n\nIts first paragraph has to be of some length.\n\n> **Trap.** A trap."
        ),
        nbformat.v4.new_code_cell(
            "from nonlinearity import setup\n\nsetup()", execution_count=1, metadata={"name": "set-up"}
        ),
    ],
)

ASSIGNMENT = nbformat.v4.new_notebook(
    cells=[
        nbformat.v4.new_markdown_cell(
            "# Assignment 1: Build it\n\nOne **hour**.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        ),
        nbformat.v4.new_markdown_cell("The rest."),
    ],
)


def build(folder: Path, formula="$$y = x$$", address="", claims=CLAIMS) -> subprocess.CompletedProcess:
    """Build a book with the course's own configuration."""
    configuration = (ROOT / "_config.yml").read_text(encoding="utf-8")
    empty = 'repository:\n  url: ""'
    assert empty in configuration, "the repository has an address now: change this test"
    (folder / "_config.yml").write_text(configuration.replace(empty, f'repository:\n  url: "{address}"'))
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: page\n")
    (folder / "index.md").write_text(INDEX.replace("{formula}", formula))
    given_out = folder / "assignments" / "release" / "build-it"
    given_out.mkdir(parents=True)
    nbformat.write(ASSIGNMENT, given_out / "build-it.ipynb")
    (given_out / "numbers.csv").write_text("1,2\n")
    (folder / "folklore.csv").write_text(claims)
    (folder / "chapters").mkdir()
    (folder / "chapters" / "references.bib").touch()
    nbformat.write(NOTEBOOK, folder / "page.ipynb")
    (folder / "website").symlink_to(ROOT / "website")
    # No Node on the PATH: the one from PyPI has to do.
    environment = os.environ | {"PATH": str(folder)}
    jupyter_book = Path(sys.executable).parent / "jupyter-book"
    command = [jupyter_book, "build", folder, "-W", "-n", "--keep-going", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_wrong_formula_stops_the_build_and_is_named(tmp_path):
    result = build(tmp_path, formula=r"Here is $\frac{1}{$ and $\nosuchmacro$.")
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "index: KaTeX parse error" in output
    assert r"\nosuchmacro" in output


def test_a_claim_that_leads_to_no_cell_stops_the_build_and_is_named(tmp_path):
    result = build(tmp_path, claims=CLAIMS.replace("set-up", "no-such-cell"))
    assert result.returncode != 0
    assert "no-such-cell" in result.stdout + result.stderr


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    result = build(folder, address="https://github.com/someone/activations")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "_build" / "html"


def head(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def test_the_address_brings_previews_and_a_sitemap(published):
    page = head(published / "page.html")
    assert page.find("link", rel="canonical")["href"] == "https://someone.github.io/activations/page.html"
    image = page.find("meta", property="og:image")["content"]
    assert image.removeprefix("https://someone.github.io/activations/") == "_static/card.png"
    assert (published / "_static" / "card.png").is_file()
    sitemap = (published / "sitemap.xml").read_text(encoding="utf-8")
    assert "<loc>https://someone.github.io/activations/page.html</loc>" in sitemap
    # The page for a wrong address is shown at any depth.
    missing = head(published / "404.html")
    assert all(tag["href"].startswith("/activations/") for tag in missing.find_all("link", rel="stylesheet"))


def test_the_address_brings_the_buttons(published):
    buttons = {
        tag.get_text(strip=True): tag["href"] for tag in head(published / "page.html").select(".page-button")
    }
    assert buttons == {
        "Download notebook": "_sources/page.ipynb",
        "Colab": "https://colab.research.google.com/github/someone/activations/blob/gh-pages/_colab/page.ipynb",
        "Binder": "https://mybinder.org/v2/gh/someone/activations/main?urlpath=lab/tree/page.ipynb",
    }
    assert (published / "_sources" / "page.ipynb").is_file()
    assert head(published / "index.html").select(".page-button") == []


def test_the_copy_for_colab_installs_the_helper_package_first(published):
    notebook = nbformat.read(published / "_colab" / "page.ipynb", as_version=4)
    nbformat.validate(notebook)
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert '"nonlinearity @ git+https://github.com/someone/activations@main"' in codes[0]
    assert codes[1:] == ["from nonlinearity import setup\n\nsetup()"]
    original = json.loads((published / "_sources" / "page.ipynb").read_text(encoding="utf-8"))
    assert len(original["cells"]) == len(notebook.cells) - 1


def test_a_quote_becomes_a_callout(published):
    callout = head(published / "page.html").select_one(".admonition.trap")
    assert [part.get_text() for part in callout.find_all("p")] == ["Trap", "A trap."]


def test_a_claim_leads_to_the_very_cell_that_shows_it(published):
    table = head(published / "index.html").select_one(".claims table")
    claim, verdict, found = table.select("tbody td")
    # KaTeX gives each formula thrice: as MathML, as its source, and drawn.
    assert (verdict.get_text(), found.get_text()) == ("false", "It is z, not xxx. Shown here.")
    assert claim.select_one(".katex")
    assert table.select_one("a")["href"] == "page.html#set-up"
    assert "from nonlinearity import setup" in head(published / "page.html").find(id="set-up").get_text()


def test_an_assignment_is_described_and_given_out_by_its_own_notebook(published):
    page = head(published / "index.html")
    assert page.find("strong", string="hour")
    assert [cell.get_text() for cell in page.select("table td")][-2:] == ["1", "2"]
    assert "Build it" not in page.select_one("article").get_text()
    assert "The rest." not in page.get_text()
    links = {tag.get_text(strip=True): tag["href"] for tag in page.select(".actions a")}
    colab = "https://colab.research.google.com/github/someone/activations/blob/main/"
    assert links.pop("Open on Colab") == colab + "assignments/release/build-it/build-it.ipynb"
    given = {text: (published / address) for text, address in links.items()}
    assert {path.name for path in given.values()} == {"build-it.ipynb", "numbers.csv"}
    notebook = nbformat.read(given["Download build-it.ipynb"], as_version=4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in ASSIGNMENT.cells]
    assert given["Download numbers.csv"].read_text() == "1,2\n"


def test_an_unknown_assignment_stops_the_build_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "INDEX", INDEX.replace("build-it", "no-such"))
    result = build(tmp_path)
    assert result.returncode != 0
    assert "no assignment is called 'no-such'" in result.stdout + result.stderr
