"""The instructor guide, followed to the letter: its commands run as they stand, and say what it shows."""

import os
import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
from submissions import RELEASE, answered, copied_course, half, with_code

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "chapters" / "reference" / "instructor-guide.md").read_text(encoding="utf-8")
# What the guide's class hands in, in the order in which it lists the files: when, and what.
HANDED_IN = [
    ((11, 21, 30), answered()),
    ((12, 23, 58), half()),
    ((10, 9, 0), half()),
    ((12, 20, 15), answered()),
    ((12, 20, 16), "See my notebook."),
    ((13, 8, 5), answered()),
    ((12, 22, 0), with_code("import os\n\nos._exit(0)")),
    ((12, 23, 0), RELEASE),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path, bubblewrap):
    """A home with the archive of the class in it, and a clone of the course that grading has not touched."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in (".venv", "Makefile", "pyproject.toml", "requirements.txt"):
        (clone / name).symlink_to(ROOT / name)
    copied_course(clone / "assignments")
    names = blocks("text")[0].splitlines()
    with zipfile.ZipFile(tmp_path / "handed-in.zip", "w") as archive:
        for name, (when, content) in zip(names, HANDED_IN, strict=True):
            text = content if isinstance(content, str) else nbformat.writes(content)
            archive.writestr(zipfile.ZipInfo(name, (2026, 10, *when, 0)), text)
    return clone


def test_the_guide_is_true(place):
    home = str(place.parent)
    as_root = {"GRADE_AS_ROOT": "1"} if os.geteuid() == 0 else {}
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    environment |= as_root | {"HOME": home, "MAKEFLAGS": "--no-print-directory"}
    script = "\n".join(blocks("console"))
    steps = re.findall(r"^\$ ((?:.*\\\n)*.*)\n?((?:^(?!\$ ).*\n?)*)", script, re.MULTILINE)
    assert len(steps) >= 6
    for command, shown in steps:
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.replace(home, "~").strip() == shown.strip(), shlex.join([command])
