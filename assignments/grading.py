"""The instructor's commands: release, collect, grade, feedback, grades. ``make`` calls them.

Each works on the folder that holds this file, which is nbgrader's course folder, so a copy of the folder is a
course of its own.
"""

import argparse
import csv
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath

from nbgrader.api import Gradebook

import worker
from collecting import collect
from marking import GRADEBOOK, reference
from sandbox import start

ROOT = Path(__file__).parent
MAX_BYTES = 20_000_000  # of what one student hands in
GRADER_MEMORY = 4 << 30  # bytes of address space of the process that reads what a student's kernel sends
SAFE_NAME = re.compile(r"\w[\w .@-]*")  # others could be a formula to a spreadsheet, or an option to nbgrader
PROGRAMS = {"bwrap": "bubblewrap", "prlimit": "util-linux", "setpriv": "util-linux", "timeout": "coreutils"}
# What nbgrader says when a submission could not be graded → what that means.
FAILURES = {
    "DeadKernelError": f"its kernel died: it took over {start.SECONDS} s or too much memory, or ended itself",
    "Kernel didn't respond": "its kernel did not start",
    "Timeout waiting for IOPub": "a cell could not be stopped",
    "MemoryError": "it sends more than the grader can hold",
    "ParserError|'fail'": "its timestamp.txt holds no time",
    "/nbformat/|RecursionError": "the file is no valid notebook",
}
# Without its configuration nbgrader would go on, and run submissions without a sandbox.
STRICT = {"TRAITLETS_APPLICATION_RAISE_CONFIG_FILE_ERROR": "1"}
# Feedback shows what a student wrote to whoever opens it. It needs no script and no other server.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass
class Outcome:
    """What became of one submission: graded or not, and why a person should look at it."""

    graded: bool
    reasons: list[str]


def release(assignments: list[str]) -> None:
    """Make ``release/`` from ``source/``, and tell the gradebook of it."""
    for assignment in assignments:
        _nbgrader("generate_assignment", assignment, "--force", "--create")


def grade(assignment: str, students: list[str]) -> list[str]:
    """Grade what is in ``submitted/``, each submission in a process and a sandbox of its own.

    Returns:
        What a person should look at, a line each.
    """
    _refuse_to_run_unprotected()
    release([assignment])
    (source,) = (ROOT / "source" / assignment).glob("*.ipynb")
    os.environ["GRADING_DATA"] = str(source.parent)
    os.environ.setdefault("GRADING_SEED", str(secrets.randbits(64)))
    outcomes = _read_outcomes(assignment)
    with tempfile.TemporaryDirectory(prefix="grading-") as folder:
        expected = Path(folder, "reference.json")
        for name in ("reasons", "said"):
            Path(folder, name).mkdir()
        expected.write_text(json.dumps(reference(source)))
        jobs = int(os.environ.get("JOBS", len(os.sched_getaffinity(0))))
        pool = ThreadPoolExecutor(jobs)
        try:
            results = pool.map(partial(_grade_one, assignment, source.name, expected), students)
            for number, (student, outcome) in enumerate(zip(students, results), start=1):
                outcomes[student] = outcome
                _write_outcomes(assignment, outcomes)  # an interruption costs nothing of what is done
                print(f"{number} of {len(students)}: {student}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)  # whoever interrupts need not wait for the whole class
    return [
        f"{student}: {'graded, but read it' if outcomes[student].graded else 'NOT GRADED'}: {reason}"
        for student in students
        for reason in outcomes[student].reasons
    ]


def _refuse_to_run_unprotected() -> None:
    for program, package in PROGRAMS.items():
        if not shutil.which(program):
            sys.exit(
                f"Nothing was graded: submissions run in a sandbox, and {program} is not here. "
                f"On Debian: apt-get install {package}"
            )
    if os.geteuid() == 0 and os.environ.get("GRADE_AS_ROOT") != "1":
        sys.exit(
            "Nothing was graded: root's processes are not limited in number, sandbox or not. Grade as an "
            "ordinary user, or on a machine that holds nothing else with GRADE_AS_ROOT=1."
        )
    probe = subprocess.run(
        start.command(sys.executable, "-c", "import ipykernel"), capture_output=True, text=True
    )
    if probe.returncode:
        sys.exit(f"Nothing was graded: the sandbox does not start here.\n{probe.stderr}")


def _grade_one(assignment: str, notebook: str, expected: Path, student: str) -> Outcome:
    submission = ROOT / "submitted" / student / assignment
    shutil.rmtree(ROOT / "autograded" / student / assignment, ignore_errors=True)
    refusal = _refusal(submission, notebook)
    if refusal:
        return Outcome(False, [refusal])
    reasons, said = (expected.parent / kind / student for kind in ("reasons", "said"))
    graded = worker.run(
        ["autograde", assignment, f"--student={student}", "--force"],
        folder=ROOT,
        log=said,
        memory=GRADER_MEMORY,
        seconds=start.SECONDS + 120,
        environment=STRICT | {"GRADING_REFERENCE": str(expected), "GRADING_REASONS": str(reasons)},
    )
    log = ROOT / "logs" / assignment / f"{student}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(said.read_bytes()[-1_000_000:] if said.exists() else b"")
    if graded and reasons.exists():
        return Outcome(True, json.loads(reasons.read_text()))
    shutil.rmtree(ROOT / "autograded" / student / assignment, ignore_errors=True)
    text = log.read_text(errors="replace")
    meanings = (meaning for words, meaning in FAILURES.items() if re.search(words, text))
    return Outcome(False, [next(meanings, f"nbgrader failed, as logs/{assignment}/{student}.log tells")])


def _refusal(submission: Path, notebook: str) -> str | None:
    """Why a submission is not even opened. Nothing that is looked at here is followed or read."""
    if not SAFE_NAME.fullmatch(submission.parent.name):
        return "its folder's name is none for a student"
    if any(path.is_symlink() for path in (submission.parent, submission)):
        return "it is a link to somewhere else"
    files = [Path(folder, name) for folder, _, names in os.walk(submission) for name in names]
    folders = [Path(folder, name) for folder, names, _ in os.walk(submission) for name in names]
    modes = {path: path.lstat() for path in (*files, *folders)}
    if any(stat.S_ISLNK(info.st_mode) for info in modes.values()):
        return "there is a link to somewhere else in it"
    if not all(stat.S_ISREG(modes[path].st_mode) for path in files):
        return "there is something in it that is no plain file"
    if sum(modes[path].st_size for path in files) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES // 10**6} MB"
    if submission / notebook not in files:
        return f"there is no {notebook} in it"
    return None


def feedback(assignment: str) -> list[str]:
    """Write into ``feedback/`` what students get back: marks, tests and comments, or why there are none.

    ``feedback/ASSIGNMENT.zip`` holds all of it, each file named like the one that it answers: that is how
    platforms take feedback back.

    Returns:
        A line for each student who gets no page.
    """
    if list(ROOT.glob(f"autograded/*/{assignment}")):
        _run_nbgrader("generate_feedback", assignment, "--force")
    for page in ROOT.glob(f"feedback/*/{assignment}/*.html"):
        meta = f'<head>\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        page.write_text(page.read_text(encoding="utf-8").replace("<head>", meta, 1), encoding="utf-8")
    notes = []
    for student, outcome in _read_outcomes(assignment).items():
        folder = ROOT / "feedback" / student / assignment
        if outcome.graded and not list(folder.glob("*.html")):
            notes.append(f"{student}: the notebook was graded, but cannot be shown as a page")
        elif not outcome.graded:
            shutil.rmtree(folder, ignore_errors=True)  # a page of an earlier grading
            folder.mkdir(parents=True)
            (folder / "not-graded.txt").write_text(
                f"Your notebook could not be graded: {outcome.reasons[0]}.\n"
            )
            notes.append(f"{student}: not graded, and told why in a text")
    _pack_feedback(assignment)
    return notes


def _pack_feedback(assignment: str) -> None:
    collected = _read_collected(assignment)
    with zipfile.ZipFile(ROOT / "feedback" / f"{assignment}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for student in sorted(_read_outcomes(assignment)):
            handed_in = collected.get(student, {}).get("file", f"{student}/{assignment}")
            folder = ROOT / "feedback" / student / assignment
            for file in (*folder.glob("*.html"), *folder.glob("not-graded.txt")):
                archive.write(file, PurePosixPath(handed_in).with_suffix(file.suffix))


def grades() -> Path:
    """Write ``grades.csv``: a line for each student and assignment, no score where nothing was graded.

    An assignment that nobody has handed in yet is left out.
    """
    path = ROOT / "grades.csv"
    columns = ["assignment", "student", "handed_in", "late", "state", "score", "max_score", "for_a_person"]
    with path.open("w", newline="", encoding="utf-8") as file, Gradebook(GRADEBOOK) as gradebook:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for assignment in sorted(gradebook.assignments, key=lambda a: a.name):
            outcomes = _read_outcomes(assignment.name)
            collected = _read_collected(assignment.name)
            if not outcomes and not list(ROOT.glob(f"submitted/*/{assignment.name}")):
                continue
            for student in sorted({*outcomes, *collected, *(s.id for s in gradebook.students)}):
                name = student if SAFE_NAME.fullmatch(student) else repr(student)
                row = {"assignment": assignment.name, "student": name, "max_score": assignment.max_score}
                row |= {key: collected.get(student, {}).get(key) for key in ("handed_in", "late")}
                writer.writerow(row | _result(gradebook, assignment.name, student, outcomes.get(student)))
    return path


def _result(gradebook: Gradebook, assignment: str, student: str, outcome: Outcome | None) -> dict:
    if outcome is None:
        handed_in = (ROOT / "submitted" / student / assignment).exists()
        return {"state": "not graded yet" if handed_in else "nothing handed in"}
    reasons = list(outcome.reasons)
    if not outcome.graded:
        return {"state": "not graded", "for_a_person": "; ".join(reasons)}
    submission = gradebook.find_submission(assignment, student)
    if submission.needs_manual_grade:
        reasons.append("answers wait to be marked by hand")
    return {"state": "graded", "score": submission.score, "for_a_person": "; ".join(reasons)}


def _read_collected(assignment: str) -> dict[str, dict[str, str]]:
    path = ROOT / "collected" / f"{assignment}.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def _read_outcomes(assignment: str) -> dict[str, Outcome]:
    path = ROOT / "outcomes" / f"{assignment}.json"
    read = json.loads(path.read_text()) if path.exists() else {}
    return {student: Outcome(**outcome) for student, outcome in read.items()}


def _write_outcomes(assignment: str, outcomes: dict[str, Outcome]) -> None:
    path = ROOT / "outcomes" / f"{assignment}.json"
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")  # whoever is killed while writing leaves what was there before
    part.write_text(json.dumps({student: asdict(outcome) for student, outcome in outcomes.items()}, indent=1))
    part.replace(path)


def _nbgrader(*arguments: str) -> None:
    done = _run_nbgrader(*arguments)
    if done.returncode:
        sys.exit(f"nbgrader {' '.join(arguments)} failed:\n{done.stdout}")


def _run_nbgrader(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic from there
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    return subprocess.run(command, cwd=ROOT, env=os.environ | STRICT | {"PATH": path}, text=True, **streams)


def _waiting(assignment: str) -> int:
    """How many graded notebooks hold answers that a person has to mark."""
    graded = [student for student, outcome in _read_outcomes(assignment).items() if outcome.graded]
    with Gradebook(GRADEBOOK) as gradebook:
        return sum(gradebook.find_submission(assignment, student).needs_manual_grade for student in graded)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def main(arguments: list[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="grading.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("release", help="make release/ from source/").add_argument("assignment", nargs="*")
    for name, what in (
        ("grade", "grade what is in submitted/"),
        ("feedback", "write the pages for the students"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("assignment", choices=_names(ROOT / "source"))
        if name == "grade":
            command.add_argument(
                "--student", action="append", help="only this one; may be given several times"
            )
    command = commands.add_parser("collect", help="fill submitted/ from a platform's files")
    command.add_argument("assignment", choices=_names(ROOT / "source"))
    command.add_argument("files", nargs="+", type=Path, help="archives or folders, all of them at once")
    command.add_argument("--deadline", type=datetime.fromisoformat, help="2026-02-01T23:59, in local time")
    command.add_argument("--pattern", help="regular expression with a group 'student' for the files' names")
    commands.add_parser("grades", help="write grades.csv")
    given = parser.parse_args(arguments)

    if given.command == "release":
        release(given.assignment or _names(ROOT / "source"))
    elif given.command == "collect":
        notes = collect(ROOT, given.assignment, given.files, given.deadline, given.pattern)
        print(*notes, sep="\n")
    elif given.command == "grade":
        students = given.student or sorted(
            path.parent.name for path in ROOT.glob(f"submitted/*/{given.assignment}")
        )
        for_a_person = grade(given.assignment, students)
        print(_count(len(for_a_person), "note") + " for a person", *for_a_person, sep="\n  ")
        if waiting := _waiting(given.assignment):
            print(f"{_count(waiting, 'notebook')} with answers to be marked by hand: make formgrader")
    elif given.command == "feedback":
        without = feedback(given.assignment)
        print(_count(len(without), "student") + " without a page", *without, sep="\n  ")
    else:
        print(grades())
    return 0


if __name__ == "__main__":
    sys.exit(main())
