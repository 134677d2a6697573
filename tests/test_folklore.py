"""The page of folklore: every claim has a verdict and leads to the one cell of the course that shows it."""

import ast
import csv
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "chapters/choosing/folklore.md"
VERDICTS = {"true", "half true", "false", "outdated", "unverifiable"}

with PAGE.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
    CLAIMS = list(csv.DictReader(file))
NAMED = [
    (cell["metadata"]["name"], cell)
    for path in sorted(ROOT.glob("chapters/**/*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
    for cell in nbformat.read(path, as_version=nbformat.NO_CONVERT).cells
    if "name" in cell["metadata"]
]
CELLS = dict(NAMED)


def asserts(source: str) -> bool:
    """Whether there is an ``assert``, or a call such as ``torch.testing.assert_close``."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("assert_"))
        for node in ast.walk(ast.parse(source))
    )


def plain(text: str) -> str:
    return re.sub(r"\s+", "", text)


def repeated(values) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def test_a_name_belongs_to_one_cell_of_the_course():
    names = [name for name, _ in NAMED]
    assert repeated(names) == []
    assert [name for name in names if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []


def test_every_claim_is_complete_and_there_once():
    assert all(value and value == value.strip() for row in CLAIMS for value in row.values())
    assert all(len(row) == 5 for row in CLAIMS)
    assert {row["verdict"] for row in CLAIMS} <= VERDICTS
    assert repeated(row["claim"].casefold() for row in CLAIMS) == []


def test_a_claim_fits_into_the_table():
    for row in CLAIMS:
        assert "|" not in row["claim"] + row["found"]
        assert row["claim"][-1] + row["found"][-1] == "..", row
        # What was measured stands in the cell and is not copied: its last digits change.
        assert not re.search(r"\d[.,]\d|\d\s*%", row["claim"] + row["found"]), row


def test_the_page_shows_every_topic_and_no_other():
    text = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"^```\{claims\} (.+)$", text, flags=re.MULTILINE)
    assert shown == list(dict.fromkeys(row["topic"] for row in CLAIMS))  # in the same order, each once
    assert shown == [title for title in re.findall(r"^## (.+)$", text, flags=re.MULTILINE) if title in shown]


@pytest.mark.parametrize("name", sorted({row["cell"] for row in CLAIMS}))
def test_a_claim_leads_to_a_cell_that_would_fail_if_it_were_not_so(name):
    assert name in CELLS, "no cell has that name"
    cell = CELLS[name]
    tags = cell["metadata"].get("tags", [])
    assert cell["cell_type"] == "code"
    assert "raises-exception" in tags or asserts(cell["source"])
    assert not {"nbval-skip", "skip-execution", "remove-cell", "remove-input"} & set(tags)


@pytest.fixture(scope="module")
def links(site) -> list[str]:
    page = BeautifulSoup(
        (site / "chapters/choosing/folklore.html").read_text(encoding="utf-8"), "html.parser"
    )
    return [link["href"] for link in page.select(".claims tbody a[href*='#']")]


def test_in_the_site_each_claim_leads_to_the_code_of_its_cell(site, links):
    assert [urlsplit(link).fragment for link in links] == [row["cell"] for row in CLAIMS]
    pages = {}
    for link in sorted(set(links)):
        address, name = link.split("#")
        if address not in pages:
            path = site / "chapters/choosing" / unquote(address)
            pages[address] = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        found = pages[address].find_all(id=name)
        assert len(found) == 1, f"{link}: {len(found)} elements with that id"
        assert plain(CELLS[name]["source"]) in plain(found[0].get_text()), link
