"""What a class of students and one of crooks hand in, and what must become of it.

Each is written as files into a folder of its own.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

NAME = "build-them-yourself"
COURSE = Path(__file__).parents[1] / "assignments"
ALL = "40"


def notebook_of(step: str, name: str = NAME) -> NotebookNode:
    """An assignment as it is in one of the steps ``source`` and ``release``."""
    return nbformat.read(COURSE / step / name / f"{name}.ipynb", as_version=4)


def solutions(name: str = NAME) -> dict[str, str]:
    """What an assignment's source says in the cells that students fill in, by the cell's id."""
    delimiters = re.compile(r"^ *### (BEGIN|END) SOLUTION\n?", re.MULTILINE)
    cells = notebook_of("source", name).cells
    return {cell.id: delimiters.sub("", cell.source) for cell in cells if cell.id.endswith("-answer")}


RELEASE = notebook_of("release")
ANSWERS = solutions()
READY_MADE = ANSWERS | {
    "q1-answer": "relu, leaky_relu, elu, gelu = F.relu, F.leaky_relu, F.elu, F.gelu",
    "q2-answer": "sigmoid, tanh, softplus, silu = torch.sigmoid, torch.tanh, F.softplus, F.silu",
    "q4-answer": "softmax, log_softmax = torch.softmax, torch.log_softmax",
}


@dataclass(frozen=True)
class Submission:
    """Something that is handed in, and its due.

    Attributes:
        write: puts it into the folder that it is given.
        due: its points, as ``"20"``, ``"<= 40"`` or ``"0 or not graded"``; or ``"not graded"``.
        reason: what a person must be told, as a regular expression; empty if nothing may be said.
    """

    write: Callable[[Path], object]
    due: str
    reason: str = ""


def answered(answers: dict[str, str] = ANSWERS, name: str = NAME) -> NotebookNode:
    """A release, filled in."""
    notebook = notebook_of("release", name)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    return notebook


def with_code(*sources: str, notebook: NotebookNode | None = None) -> NotebookNode:
    """A notebook, by default the untouched release, with further cells after its first."""
    notebook = deepcopy(RELEASE) if notebook is None else notebook
    at = 1 + next(n for n, cell in enumerate(notebook.cells) if cell.id == "setup")
    notebook.cells[at:at] = map(new_code_cell, sources)
    return notebook


def file(content: NotebookNode | str | bytes, name: str = f"{NAME}.ipynb") -> Callable[[Path], object]:
    """Write one file."""
    if isinstance(content, NotebookNode):
        content = nbformat.writes(content)
    return lambda folder: (folder / name).write_bytes(
        content.encode() if isinstance(content, str) else content
    )


# ------------------------------------------------------------------------------------------------ honest


def half() -> NotebookNode:
    return answered({cell: ANSWERS[cell] for cell in ("q1-answer", "q2-answer", "q3-answer")})


TALKING = """

def talking(function):
    def inner(*arguments, **more):
        warnings.warn("this has nothing to say", stacklevel=2)
        logging.getLogger().warning("neither has this")
        print("x" * 1000)
        return function(*arguments, **more)

    return inner


import logging, warnings

{name} = talking({name})
print("y" * 3_000_000)
"""


def chatty() -> NotebookNode:
    """A function of each answer warns, logs and prints, in the tests too; its cell prints megabytes."""
    first = {cell: re.search(r"^def (\w+)", answer, re.MULTILINE)[1] for cell, answer in ANSWERS.items()}
    return answered({cell: answer + TALKING.format(name=first[cell]) for cell, answer in ANSWERS.items()})


def rearranged() -> NotebookNode:
    """Helpers stand at the end, answers below their tests, and cells were copied and added."""
    notebook = answered(
        ANSWERS | {"q2-answer": ANSWERS["q2-answer"].replace("torch.logaddexp(x, ", "helper(x, ")}
    )
    by_id = {cell.id: cell for cell in notebook.cells}
    moved = [by_id["q1-answer"], by_id["q4-answer"]]
    copies = [deepcopy(by_id["q1-relu"]), deepcopy(by_id["q5-answer"])]
    for cell in copies:
        cell.id += "-copy"
    look = "import matplotlib.pyplot as plt\n\nx = torch.linspace(-3, 3, 50)\nplt.plot(x, F.softmax(x, 0))"
    helper = "def helper(a, b):\n    return torch.logaddexp(a, b)"
    kept = [cell for cell in notebook.cells if cell not in moved]
    notebook.cells = [*kept, *moved, *copies, new_code_cell(look), new_code_cell(helper)]
    return notebook


def stripped() -> NotebookNode:
    """An editor has lost all metadata and ids, and the tests were thrown away with the first cell."""
    notebook = answered()
    notebook.cells = [cell for cell in notebook.cells if cell.id.endswith("-answer")]
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        del cell["id"]
    notebook.nbformat_minor = 2
    notebook.metadata = NotebookNode(
        colab={"name": "Copy of this"}, kernelspec={"name": "julia", "display_name": "J"}
    )
    return notebook


def messy() -> NotebookNode:
    """Cells of its own fail, never end and install things; tests were changed, one into text."""
    notebook = with_code(
        "%pip install torch\n%matplotlib inline",
        "1 / 0",
        "this is not Python",
        "import time\nwhile True:\n    time.sleep(1)",
        notebook=answered(),
    )
    for cell in notebook.cells:
        if cell.id == "q1-relu":
            cell.source = "assert False"
        if cell.id == "q3-basic":
            cell.update(cell_type="markdown", source="I do not like this test.")
            del cell["outputs"], cell["execution_count"]
    return notebook


def slow() -> NotebookNode:
    """One answer takes longer than a cell may."""
    late = "import time\n\ntime.sleep(60)\n" + ANSWERS["q5-answer"]
    return answered(ANSWERS | {"q5-answer": late})


STOPPED = r"^1 of its cells took over \d+ s and were stopped$"
HONEST = {
    "ada": Submission(file(answered()), ALL),
    "bob": Submission(file(RELEASE), "0"),
    "cleo": Submission(file(half()), "20"),
    "dan": Submission(file(chatty()), ALL),
    "eve": Submission(file(rearranged()), ALL),
    "fay": Submission(file(stripped()), ALL),
    "gil": Submission(file(messy()), ALL, STOPPED),
    "hal": Submission(file(answered(READY_MADE)), "16"),  # no cheat, but not what was asked for
    "ida": Submission(file(slow()), "36", STOPPED),  # fewer points, but a person is told
    "reference": Submission(file(half()), "20"),  # as a file that grading makes for itself
}


# ------------------------------------------------------------------------------------------------ crooked

SECRET = "secret of the machine"
_ATTACK = re.compile(
    r"^### (?P<name>[\w-]+)(?P<hides>\+?): (?P<due>[^,\n]+)(?:, (?P<reason>[^\n]+))?\n"
    r".*?```python\n(?P<code>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)


def attacks(course: Path, secret: Path, port: int) -> dict[str, Submission]:
    """The notebooks of ``attacks.md``, by name; the arguments are the places that it mentions."""
    text = (Path(__file__).parent / "attacks.md").read_text(encoding="utf-8")
    for word, place in (("COURSE", course), ("SECRET", secret), ("PORT", port)):
        text = re.sub(rf"\b{word}\b", str(place), text)
    found = {}
    for match in _ATTACK.finditer(text):
        answers = READY_MADE if match["hides"] else dict.fromkeys(ANSWERS, "")  # the code brings its own
        write = file(with_code(*match["code"].split("\n# %%\n"), notebook=answered(answers)))
        found[match["name"]] = Submission(write, match["due"], match["reason"] or "")
    return found


def tampered() -> NotebookNode:
    """Points, names, locks, tags and versions are not what they were."""
    notebook = deepcopy(RELEASE)
    tests = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    tests[0].metadata.nbgrader.points = 1000
    tests[1].metadata.tags = ["skip-execution", "raises-exception"]
    tests[2].metadata.nbgrader.update(grade=False, locked=False)
    tests[3].metadata.nbgrader.update(solution=True, locked=False)
    tests[4].metadata.nbgrader.grade_id = "q9-unknown"
    tests[5].metadata.nbgrader.schema_version = 99
    tests[6].metadata.nbgrader.schema_version = "three"
    tests[7].metadata.nbgrader = ["no", "dictionary"]
    tests[8].metadata.nbgrader.grade_id = {"no": "text"}
    tests[9].metadata.nbgrader.task = True
    for cell in tests[:6]:
        cell.source = "pass"
        cell.outputs = [new_output("execute_result", {"text/plain": "1000"})]
    return notebook


def scripted() -> NotebookNode:
    """Wherever a notebook's own text goes into a page, there is a script."""
    script = "window.broken = 1; document.title = 'broken'"
    tag = f'<script>{script}</script><img src=x onerror="{script}"><svg onload="{script}"></svg>'
    quoted = f'x" onerror="{script}" x="'
    link = f'[a](javascript:{script}) <a href="javascript:{script}">b</a>'
    markdown = new_markdown_cell(f"{tag}\n\n{link}\n\n`{tag}`\n\n![c](attachment:a.png) ![d]({quoted})")
    markdown.attachments = {"a.png": {f"image/png{quoted}": "AAAA", "image/png": quoted}}
    raw = new_raw_cell(tag, metadata={"raw_mimetype": "text/html", "format": "text/html"})
    notebook = answered(ANSWERS)
    notebook.cells += [markdown, raw]
    notebook.metadata.update(
        title=tag, language_info={"name": tag, "pygments_lexer": tag, "codemirror_mode": tag}
    )
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {"x": tag}}}
    return notebook


def _link_to_a_friend(folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(folder.parents[1] / "ada" / NAME)


def _with_files_beside_it(folder: Path) -> None:
    """What would be read if anything but the kernel's own folder were looked into."""
    file(RELEASE)(folder)
    file("raise SystemExit", name="nbgrader_config.py")(folder)
    file("def report(*a, **k): pass\nfresh = report", name="examiner.py")(folder)
    file("raise ImportError", name="torch.py")(folder)


def crooked(course: Path, secret: Path, port: int) -> dict[str, Submission]:
    """All bad submissions, by the name of who hands them in.

    Args:
        course: the folder in which they will be graded.
        secret: a file outside of it that holds ``SECRET``.
        port: where the test listens, on 127.0.0.1.
    """
    endless = (
        "\nimport time\nwhile True:\n    time.sleep(1)"  # as a loop that does nothing, but others can work
    )
    notebook = f"{NAME}.ipynb"
    odd = json.dumps(json.loads(nbformat.writes(RELEASE)) | {"cells": [{}, 7]})
    invalid = "no valid notebook"
    return attacks(course, secret, port) | {
        "endless-cell": Submission(
            file(answered(ANSWERS | {"q3-answer": ANSWERS["q3-answer"] + endless})),
            ALL,
            "and were stopped",
        ),
        "endless-function": Submission(
            file(answered(ANSWERS | {"q6-answer": f"def swish(x, beta):{endless}".replace("\n", "\n    ")})),
            "34",
            "and were stopped",
        ),
        "many-cells": Submission(file(with_code(*["pass"] * 300)), "0"),
        "tampered": Submission(file(tampered()), "0"),
        "scripted": Submission(file(scripted()), ALL),
        "links-the-solution": Submission(
            lambda folder: (folder / notebook).symlink_to(course / "source" / NAME / notebook),
            "not graded",
            "a link",
        ),
        "links-the-gradebook": Submission(
            lambda folder: (folder / "data").symlink_to(course / "gradebook.db"), "not graded", "a link"
        ),
        "links-a-friend": Submission(_link_to_a_friend, "not graded", "a link"),
        "is-a-pipe": Submission(lambda folder: os.mkfifo(folder / notebook), "not graded", "no plain file"),
        "is-huge": Submission(file(b" " * 25_000_000), "not graded", "larger than"),
        "is-empty": Submission(file(b""), "not graded", invalid),
        "is-no-notebook": Submission(file(b"PK\x03\x04"), "not graded", invalid),
        "is-a-list": Submission(file("[1, 2]"), "not graded", invalid),
        "is-deep": Submission(file("[" * 200_000 + "]" * 200_000), "not graded", invalid),
        "has-odd-cells": Submission(file(odd), "not graded", invalid),
        "has-an-odd-time": Submission(_with_an_odd_time, "not graded", "time"),
        "is-missing": Submission(file("nothing", name="notes.txt"), "not graded", f"no {NAME}.ipynb"),
        "has-another-name": Submission(
            file(answered(), name=f"{NAME} (1).ipynb"), "not graded", f"no {NAME}.ipynb"
        ),
        "brings-files": Submission(_with_files_beside_it, "0"),
        "=cmd|'x'": Submission(file(answered()), "not graded", "name"),
    }


def _with_an_odd_time(folder: Path) -> None:
    file(RELEASE)(folder)
    file("never", name="timestamp.txt")(folder)


def copied_course(folder: Path) -> Path:
    """A copy of the course without what grading a class has left in it."""
    lines = (COURSE / ".gitignore").read_text().splitlines()
    of_a_class = [line.strip("/") for line in lines]
    return Path(shutil.copytree(COURSE, folder, ignore=shutil.ignore_patterns(*of_a_class, "__pycache__")))


def started(course: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """Call the grading of a course, with limits that a test can wait for."""
    limits = {"GRADING_CELL_SECONDS": "20", "GRADING_SECONDS": "100", "JOBS": "4"}
    as_root = {"GRADE_AS_ROOT": "1"} if os.geteuid() == 0 else {}
    return subprocess.Popen(
        [sys.executable, str(course / "grading.py"), *arguments], text=True,
        env=os.environ | limits | as_root | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def command(course: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The same, to its end."""
    with started(course, *arguments, **environment) as process:
        try:
            output = process.communicate(timeout=1800)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, *output)


def grades(course: Path, name: str = NAME, **environment: str) -> dict[str, dict[str, str]]:
    """What grades.csv says of an assignment, by student."""
    run = command(course, "grades", **environment)
    assert run.returncode == 0, run.stderr
    with (course / "grades.csv").open(newline="") as table:
        return {row["student"]: row for row in csv.DictReader(table) if row["assignment"] == name}


def main(number: int, folder: Path) -> None:
    """Write a course in which so many honest students have handed in, to see how long grading them takes."""
    course = copied_course(folder)
    notebooks = [answered(), half(), rearranged(), answered(READY_MADE), stripped(), RELEASE]
    for n in range(number):
        place = course / "submitted" / f"student-{n:03}" / NAME
        place.mkdir(parents=True)
        file(notebooks[n % len(notebooks)])(place)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
