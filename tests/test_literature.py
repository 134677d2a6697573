"""The published comparisons are in one file, each number with its source."""

import csv
import re
from importlib.resources import files
from pathlib import Path

import pytest

from nonlinearity import catalog

ROOT = Path(__file__).parents[1]
with (files("nonlinearity") / "assets" / "literature.csv").open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))
COMPARISON = ("paper", "model", "data")


def comparisons() -> dict[tuple[str, ...], list[dict[str, str]]]:
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in ROWS:
        found.setdefault(tuple(row[key] for key in COMPARISON), []).append(row)
    return found


def test_every_source_is_in_the_references():
    bibliography = (ROOT / "chapters" / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{([^,\s]+),", bibliography, re.MULTILINE))
    assert {row["key"] for row in ROWS} <= known


def test_a_key_stands_for_one_paper_and_its_year():
    assert len({(row["key"], row["paper"]) for row in ROWS}) == len({row["key"] for row in ROWS})
    assert all(row["paper"][-4:] in row["key"] for row in ROWS)


def test_activations_are_spelled_as_in_the_catalogue():
    named = {row["activation"] for row in ROWS} - {"bilinear"}  # no activation at all, but a gate
    assert {catalog.get(name).name for name in named} == named


@pytest.mark.parametrize("comparison", comparisons().items(), ids=lambda pair: " ".join(pair[0]))
def test_rows_of_a_comparison_belong_together(comparison):
    rows = comparison[1]
    activations = [row["activation"] for row in rows]
    assert len(rows) >= 2
    assert len(set(activations)) == len(activations)
    for column in ("measure", "better", "read", "summary", "key"):
        assert len({row[column] for row in rows}) == 1, column


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: " ".join(row[key] for key in (*COMPARISON, "activation"))
)
def test_a_row_is_complete(row):
    values = [float(value) for value in row["values"].split()]
    assert values
    assert row["better"] == {"accuracy %": "higher", "BLEU": "higher"}.get(row["measure"], "lower")
    assert all(0 < value < 100 for value in values)
    assert row["read"] in {"paper", "repository", "secondary"}
    if row["read"] == "secondary":
        assert (row["runs"], row["summary"], row["spread"]) == ("", "not said", "")
        return
    runs = int(row["runs"])
    assert (runs == 1) == (row["summary"] == "one run") or row["summary"] == "each run"
    assert len(values) == (runs if row["summary"] == "each run" else 1)
    assert (row["spread"] != "") == (row["summary"] == "mean")
