"""The assignments as they are given out, the student's check, and when grading refuses to begin."""

import os
import re
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_notebook
from nbgrader.utils import is_grade, is_solution
from submissions import (
    ANSWERS,
    COURSE,
    NAME,
    answered,
    command,
    copied_course,
    file,
    grades,
    notebook_of,
    solutions,
    with_code,
)

import grading
from marking import is_test
from nonlinearity.check import check, main

SOURCES = sorted(path.parent.name for path in COURSE.glob("source/*/*.ipynb"))
SECRETS = re.compile(r"BEGIN HIDDEN|END HIDDEN|BEGIN SOLUTION|END SOLUTION|\bexaminer\b|\bfresh\(|\breport\(")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of its own, its releases made anew."""
    course = copied_course(tmp_path_factory.mktemp("course") / "course")
    assert command(course, "release").returncode == 0
    return course


@pytest.mark.parametrize("name", SOURCES)
def test_release_is_in_step_with_its_source(course, name):
    for path in (course / "release" / name).iterdir():
        committed = COURSE / "release" / name / path.name
        assert path.read_bytes() == committed.read_bytes(), "make release"


@pytest.mark.parametrize("name", SOURCES)
def test_release_holds_no_solution_and_no_hidden_test(name):
    for path in (COURSE / "release" / name).iterdir():
        assert not SECRETS.search(path.read_text())
    source, release = (notebook_of(step, name) for step in ("source", "release"))
    code = "\n".join(cell.source for cell in source.cells)
    written = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", code, re.DOTALL)
    lines = {line.strip() for block in written for line in block.splitlines() if len(line.strip()) > 12}
    assert lines
    assert not lines & {line.strip() for cell in release.cells for line in cell.source.splitlines()}


@pytest.mark.parametrize("name", SOURCES)
def test_every_test_has_a_visible_and_a_hidden_half(name):
    for cell in filter(is_test, notebook_of("source", name).cells):
        visible, hidden = cell.source.split("### BEGIN HIDDEN TESTS\n")
        assert "assert" in visible or "same(" in visible
        assert "report(" in hidden
        assert hidden.endswith("### END HIDDEN TESTS")


@pytest.mark.parametrize("name", SOURCES)
def test_the_solution_gets_every_point_that_tests_give_and_the_release_none(course, bubblewrap, name):
    for student, notebook in (
        ("ada", answered(solutions(name), name)),
        ("bob", notebook_of("release", name)),
    ):
        folder = course / "submitted" / student / name
        folder.mkdir(parents=True)
        file(notebook, f"{name}.ipynb")(folder)
    run = command(course, "grade", name, GRADING_CELL_SECONDS="120", GRADING_SECONDS="600")
    assert run.returncode == 0, run.stderr
    cells = notebook_of("source", name).cells
    points = sum(cell.metadata.nbgrader.points for cell in filter(is_test, cells))
    by_hand = any(is_grade(cell) and is_solution(cell) for cell in cells)
    found = [
        (row["state"], float(row["score"]), row["for_a_person"]) for row in grades(course, name).values()
    ]
    waiting = "answers wait to be marked by hand" if by_hand else ""
    assert found == [("graded", points, waiting), ("graded", 0, "")], run.stdout


def test_the_site_holds_no_hidden_test_and_no_solution_of_an_assignment(site):
    for path in site.rglob("*"):
        if path.suffix in {".html", ".ipynb", ".md", ".txt", ".js", ".json"}:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert "BEGIN HIDDEN" not in text, path
            assert "BEGIN SOLUTION" not in text, path


def test_check_passes_a_good_notebook(tmp_path, capsys):
    path = tmp_path / "a b.ipynb"
    nbformat.write(answered(), path)
    before = path.read_bytes()
    assert main([str(path)]) == 0
    assert "every visible test passes" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_check_says_what_fails(tmp_path):
    answers = ANSWERS | {"q6-answer": ANSWERS["q6-answer"].replace("s + beta * x * curve", "s")}
    del answers["q5-answer"]
    path = tmp_path / "notebook.ipynb"
    nbformat.write(with_code("1 / 0", notebook=answered(answers)), path)
    division, *unwritten, gradient = check(path)
    assert division == "Code cell 2: ZeroDivisionError: division by zero"
    not_yet = "Test q5-{} (2 points): something above it is not written yet"
    assert unwritten == [not_yet.format("values"), not_yet.format("dims")]
    assert gradient.startswith("Test q6-backward (4 points): GradcheckError: ")


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"cells": []}', nbformat.writes(new_notebook())])
def test_check_of_something_else_says_so(tmp_path, capsys, content):
    path = tmp_path / "x.ipynb"
    path.write_text(content)
    assert main([str(path)]) == 1
    assert re.search("cannot be read as a notebook|has no tests", capsys.readouterr().out)
    assert main([str(tmp_path / "missing.ipynb")]) == 1


def test_check_of_a_notebook_that_ends_its_kernel(tmp_path, capsys):
    path = tmp_path / "x.ipynb"
    nbformat.write(with_code("import os\nos._exit(1)"), path)
    assert main([str(path)]) == 1
    assert "kernel died" in capsys.readouterr().out.lower()


@pytest.fixture
def ordinary(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("GRADE_AS_ROOT", raising=False)


def test_without_bubblewrap_nothing_is_graded(monkeypatch, ordinary):
    monkeypatch.setattr(grading.shutil, "which", lambda name: None if name == "bwrap" else f"/usr/bin/{name}")
    with pytest.raises(SystemExit, match=r"bwrap is not here.* apt-get install bubblewrap"):
        grading.grade(NAME, [])


def test_root_is_refused_unless_told(monkeypatch, ordinary):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit, match=r"Nothing was graded: root.*GRADE_AS_ROOT=1"):
        grading.grade(NAME, [])


def test_a_sandbox_that_does_not_start_stops_everything(monkeypatch, ordinary):
    monkeypatch.setattr(
        grading.start, "command", lambda *program: ["sh", "-c", "echo no namespaces >&2; exit 1"]
    )
    with pytest.raises(SystemExit, match=r"does not start here\.\nno namespaces"):
        grading.grade(NAME, [])


def test_a_broken_configuration_stops_everything(tmp_path, bubblewrap):
    """nbgrader alone would go on without it, and run submissions as they are."""
    course = copied_course(tmp_path / "course")
    with (course / "nbgrader_config.py").open("a") as file:
        file.write("\nimport missing_module\n")
    run = command(course, "grade", NAME)
    assert run.returncode != 0
    assert "missing_module" in run.stderr


def test_a_solution_that_fails_its_tests_stops_everything(tmp_path, bubblewrap):
    course = copied_course(tmp_path / "course")
    path = course / "source" / NAME / f"{NAME}.ipynb"
    path.write_text(path.read_text().replace("x * torch.sigmoid(beta * x)", "x * torch.sigmoid(x)"))
    run = command(course, "grade", NAME)
    assert run.returncode != 0
    assert "the solution fails q6-forward" in run.stderr


COMMANDS = {
    "release": "release",
    "grade": f"grade {NAME}",
    "feedback": f"feedback {NAME}",
    "grades.csv": "grades",
}


@pytest.mark.parametrize("target", COMMANDS)
def test_make_calls_the_commands(target):
    given = [f"ASSIGNMENT={NAME}"] if NAME in COMMANDS[target] else []
    make = ["make", "-n", "-C", str(COURSE.parent), "-o", ".venv/installed", target, *given]
    lines = subprocess.run(make, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f".venv/bin/python assignments/grading.py {COMMANDS[target]}" in map(str.rstrip, lines)
